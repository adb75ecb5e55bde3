//! Approvals: requests, decisions and who waits for them. What is asked about a command and by a plugin is read in
//! `requests`; questions and the document of rules have files of their own.

mod policy;
mod questions;
mod requests;

pub(super) use policy::{get as policy_get, set as policy_set};
pub(super) use questions::{
    get as question_get, list as question_list, request as question_request, resolve as question_resolve,
    wait as question_wait,
};
pub(super) use requests::{exec as exec_request, plugin as plugin_request};

use super::{Call, store_refusal};
use crate::approvals::{ApprovalsMsg, By, Key, Kind, Requester, Resolve, Said, Shape, may_see, shown};
use crate::connection::ConnectionMsg;
use crate::conns::Conn;
use crate::gateway::Wiring;
use crate::store::{self, ApprovalRow};
use crate::tree::Ctx;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::params::approvals::{
    ApprovalDecision, ApprovalKind, ExecResolveParams, GetParams, Got, GrantRevoked, Grants,
    GrantsListParams, GrantsRevokeParams, History, HistoryParams, PluginResolveParams, ResolveParams,
    WaitParams,
};
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::{Refusal, Scope};

/// Rows of a page of history when the client names no number.
const DEFAULT_PAGE: u32 = 50;

/// Hands a message to the actor. If it is down, the message is dropped, and with it the responder answers.
fn tell(wiring: &Wiring, msg: ApprovalsMsg) {
    drop(wiring.approvals.send(msg));
}

/// Whether a client may look at approvals that others ask for, and decide on them by their whole id.
fn reviews(conn: &Conn) -> bool {
    conn.grant().is_some_and(|grant| grant.may(Scope::Admin) || grant.device.is_some())
}

fn is_seen(conn: &Conn, row: &ApprovalRow) -> bool {
    let requester = row.requester.as_ref().and_then(|r| serde_json::from_value::<Requester>(r.clone()).ok());
    may_see(conn, requester.as_ref())
}

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, kind: Kind) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let rows = store.read(store::pending_approvals).await;
        let conn = responder.conn().clone();
        let seen = |row: &&ApprovalRow| row.kind == kind.name() && is_seen(&conn, row);
        responder.settle(
            rows.map_err(|e| store_refusal(&e))
                .map(|rows| rows.iter().filter(seen).map(shown::pending).collect::<Vec<_>>()),
        );
    });
}

pub(super) fn exec_get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<GetParams>() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let rows = store.read(store::pending_approvals).await;
        let conn = responder.conn().clone();
        let seen = |row: &&ApprovalRow| row.kind == Kind::Exec.name() && is_seen(&conn, row);
        responder.settle(rows.map_err(|e| store_refusal(&e)).and_then(|rows| {
            let seen: Vec<_> = rows.iter().filter(seen).collect();
            meant(&seen, &params.id).map(shown::exec)
        }));
    });
}

/// The request with this id, or the only one whose id begins like this.
fn meant<'a>(rows: &[&'a ApprovalRow], id: &str) -> Result<&'a ApprovalRow, Refusal> {
    if let Some(exact) = rows.iter().find(|row| row.id == id) {
        return Ok(exact);
    }
    let mut fitting = rows.iter().filter(|row| row.id.starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Refusal::ambiguous_approval()),
        _ => Err(Refusal::unknown_approval()),
    }
}

pub(super) fn wait(call: Call<'_>, kind: Kind) {
    let Some((params, call)) = call.parse::<WaitParams>() else { return };
    let key = Key { kind, id: params.id.trim().to_owned() };
    tell(call.wiring, ApprovalsMsg::Wait { key, until_ms: None, responder: call.responder });
}

pub(super) fn exec_resolve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ExecResolveParams>() else { return };
    older_resolve(call, Kind::Exec, &params.id, &params.decision, params.reviewer.is_some());
}

pub(super) fn plugin_resolve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<PluginResolveParams>() else { return };
    older_resolve(call, Kind::Plugin, &params.id, &params.decision, params.reviewer.is_some());
}

/// As it was before approvals of all kinds had methods of their own.
fn older_resolve(call: Call<'_>, kind: Kind, id: &str, decision: &str, by_channel: bool) {
    let Some(decision) = ApprovalDecision::from_name(decision) else {
        return call.responder.refuse(Refusal::invalid_decision());
    };
    if by_channel {
        // No channel decides, so whoever says one did is not believed.
        return call.responder.refuse(Refusal::unknown_approval());
    }
    let (key, by) = (Key { kind, id: id.to_owned() }, By::of(call.responder.conn()));
    let (said, shape, responder) = (Said::Decision(decision), Shape::Ok(decision), call.responder);
    let resolve = Resolve { key, prefix: true, said, by, shape, responder };
    tell(call.wiring, ApprovalsMsg::Resolve(Box::new(resolve)));
}

pub(super) fn resolve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResolveParams>() else { return };
    if params.reviewer.is_some() || !reviews(call.responder.conn()) {
        return call.responder.refuse(Refusal::approval_not_found());
    }
    let id = params.id.into_string();
    let (key, by) = (Key { kind: Kind::of_id(&id), id }, By::of(call.responder.conn()));
    let (said, responder) = (Said::Verdict(params.kind, params.decision), call.responder);
    let resolve = Resolve { key, prefix: false, said, by, shape: Shape::Approval, responder };
    tell(call.wiring, ApprovalsMsg::Resolve(Box::new(resolve)));
}

pub(super) fn get(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<GetParams>() else { return };
    if !reviews(call.responder.conn()) {
        return call.responder.refuse(Refusal::approval_not_found());
    }
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let id = params.id.into_string();
        let row = store.read(move |c| store::approval(c, Kind::of_id(&id).name(), &id)).await;
        responder.settle(row.map_err(|e| store_refusal(&e)).and_then(|row| {
            let row = row.ok_or_else(Refusal::approval_not_found)?;
            Ok(Got { approval: shown::approval(&row) })
        }));
    });
}

pub(super) fn history(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<HistoryParams>() else { return };
    let after = match params.cursor.as_deref().map(place_of).transpose() {
        Ok(after) => after,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let limit = params.limit.map_or(DEFAULT_PAGE, |limit| u32::try_from(limit.get()).unwrap_or(DEFAULT_PAGE));
    let kinds: &[&str] = match params.kind {
        None => &["exec", "plugin"],
        Some(ApprovalKind::Exec) => &["exec"],
        Some(ApprovalKind::Plugin) => &["plugin"],
        Some(ApprovalKind::SystemAgent) => &[],
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        // One more tells whether there is another page.
        let rows = store.read(move |c| store::approval_history(c, kinds, after, limit + 1)).await;
        responder.settle(rows.map_err(|e| store_refusal(&e)).map(|mut rows| {
            let more = rows.len() > limit as usize;
            rows.truncate(limit as usize);
            let last = rows.last().filter(|_| more).map(|(place, _)| cursor(*place));
            History { items: rows.iter().map(|(_, row)| shown::approval(row)).collect(), next_cursor: last }
        }));
    });
}

fn cursor((at, seq): (i64, i64)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{at}:{seq}"))
}

fn place_of(cursor: &str) -> Result<(i64, i64), Refusal> {
    let read = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (at, seq) = text.split_once(':')?;
        Some((at.parse().ok()?, seq.parse().ok()?))
    };
    read().ok_or_else(Refusal::history_cursor)
}

/// Automations ask for nothing, so nothing was granted to them.
pub(super) fn grants(call: Call<'_>) {
    let Some((_, call)) = call.parse::<GrantsListParams>() else { return };
    call.responder.ok(&Grants { grants: Vec::new() });
}

pub(super) fn revoke(call: Call<'_>) {
    let Some((_, call)) = call.parse::<GrantsRevokeParams>() else { return };
    call.responder.ok(&GrantRevoked { outcome: "not-found".into() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written_and_no_others() {
        assert_eq!(place_of(&cursor((1_795_138_665_593, 7))), Ok((1_795_138_665_593, 7)));
        for wrong in ["", "x", "MTIz", "MTpi", "ä"] {
            assert_eq!(place_of(wrong), Err(Refusal::history_cursor()), "{wrong}");
        }
    }
}
