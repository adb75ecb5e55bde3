//! People: the one who holds the gateway's secret, and those whom a trusted proxy or Tailscale names. And whether there
//! is a newer version, which nobody looks for.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::conns::Conn;
use crate::gateway::Wiring;
use crate::store::{self, PersonRow, WriteOp};
use crate::tree::Ctx;
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::params::users::{
    ListResult, OWNER, Profile, SelfResult, UpdateInstall, UpdateSchedule, UpdateStatus, UpdateStatusParams,
};
use crabtree_protocol::{ErrorCode, Refusal, Role};
use serde_json::Value;
use std::sync::Arc;
use uuid::Builder;

/// The profile of whoever is at the other end: of the person that is named, else of the owner if a device proved itself
/// with the gateway's secret or its own token. A program without a device is nobody.
pub(crate) fn profile_id(conn: &Conn) -> Option<String> {
    if let Some(login) = conn.peer.user() {
        return Some(person_id(login));
    }
    let grant = conn.grant()?;
    (grant.role == Role::Operator && grant.device.is_some() && grant.method != "none")
        .then(|| OWNER.to_owned())
}

fn person_id(login: &str) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::derive_key("crabtree 2026-11 people", login.as_bytes())[..16]);
    Builder::from_random_bytes(id).into_uuid().to_string()
}

/// Remembers who came in, if somebody who is believed named them.
pub(crate) fn seen(ctx: &mut Ctx<ConnectionMsg>, wiring: &Arc<Wiring>, conn: &Conn) {
    let Some(login) = conn.peer.user() else { return };
    let op = WriteOp::SeePerson { id: person_id(login), login: login.to_owned(), at: ctx.now_ms() };
    let store = wiring.store.clone();
    ctx.detached(async move {
        if let Err(e) = store.write(op).await {
            tracing::warn!(target: "crabtree::store", "a person was not written down: {e}");
        }
    });
}

fn profile(row: PersonRow) -> Profile {
    let name = row.login.as_deref().map(|login| login.split('@').next().unwrap_or(login).to_owned());
    Profile {
        id: row.id,
        display_name: name,
        avatar_mime: None,
        merged_into: None,
        created_at: row.created_at,
        updated_at: row.created_at,
        emails: row.login.into_iter().filter(|login| login.contains('@')).collect(),
        github_identity: None,
        has_avatar: false,
    }
}

pub(super) fn own(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let Some(id) = profile_id(call.responder.conn()) else {
        let words = format!("{} requires an authenticated user", call.method);
        return call.responder.refuse(Refusal::new(ErrorCode::Forbidden, words));
    };
    // Who has just come in may not be written down yet.
    let login = call.responder.conn().peer.user().map(str::to_owned);
    let now = ctx.now_ms();
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        match store.read(store::people).await {
            Ok(rows) => {
                let row = rows.into_iter().find(|row| row.id == id);
                let row = row.unwrap_or(PersonRow { id, login, created_at: now });
                responder.ok(&SelfResult { profile: profile(row) });
            }
            Err(e) => responder.refuse(store_refusal(&e)),
        }
    });
}

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let people = store.read(store::people).await;
        let told = people.map(|rows| ListResult { profiles: rows.into_iter().map(profile).collect() });
        responder.settle(told.map_err(|e| store_refusal(&e)));
    });
}

/// This program neither updates itself nor looks for newer versions.
pub(super) fn update_status(call: Call<'_>) {
    let Some((UpdateStatusParams { .. }, call)) = call.parse() else { return };
    call.responder.ok(&UpdateStatus {
        sentinel: Value::Null,
        update_available: Value::Null,
        effective_channel: "stable".into(),
        schedule: UpdateSchedule {
            channel: "stable".into(),
            auto_enabled: false,
            install: UpdateInstall { kind: "unknown".into() },
        },
    });
}
