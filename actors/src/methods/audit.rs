//! The ledger of acts as clients read it, and whether it and the database are whole.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::store::{self, ActRow, AuditFilter};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::audit::{
    ActivityKind, ActivityParams, AuditActor, AuditEvent, AuditPage, DEFAULT_LIMIT, ListParams, StoreReport,
    Verified, VerifyParams,
};
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::value::{Int, Text};
use uuid::Builder;

pub(super) fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ListParams>() else { return };
    let kinds = match params.kind {
        Some(kind) => vec![kind.name().to_owned()],
        None => vec![ActivityKind::AgentRun.name().to_owned(), ActivityKind::ToolAction.name().to_owned()],
    };
    let filter = AuditFilter {
        kinds: Some(kinds),
        status: params.status.map(|status| status.name().to_owned()),
        agent_id: params.agent_id.map(Text::into_string),
        session_key: params.session_key.map(Text::into_string),
        run_id: params.run_id.map(Text::into_string),
        ..AuditFilter::default()
    };
    let range =
        Range { after: params.after, before: params.before, limit: params.limit, cursor: params.cursor };
    page(ctx, call, filter, range, false);
}

pub(super) fn activity(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ActivityParams>() else { return };
    if let Some(conflict) = conflict(&params) {
        let words = format!("invalid audit.activity.list filters: {conflict}");
        return call.responder.refuse(Refusal::invalid_request(words));
    }
    let of_messages = params.direction.is_some() || params.channel.is_some();
    let kind = if of_messages { Some(ActivityKind::Message) } else { params.kind };
    let filter = AuditFilter {
        kinds: kind.map(|kind| vec![kind.name().to_owned()]),
        status: params.status.map(|status| status.name().to_owned()),
        agent_id: params.agent_id.map(Text::into_string),
        session_key: params.session_key.map(Text::into_string),
        run_id: params.run_id.map(Text::into_string),
        who: params.who.map(Text::into_string),
        action: params.method.map(Text::into_string),
        ..AuditFilter::default()
    };
    let range =
        Range { after: params.after, before: params.before, limit: params.limit, cursor: params.cursor };
    page(ctx, call, filter, range, true);
}

/// Filters that cannot be meant together, in the recorded words.
fn conflict(params: &ActivityParams) -> Option<&'static str> {
    use ActivityKind::Message;
    let other = params.kind.is_some_and(|kind| kind != Message);
    match params {
        ActivityParams { session_key: Some(_), kind: Some(Message), .. } => {
            Some("sessionKey only applies to kind agent_run or tool_action")
        }
        ActivityParams { direction: Some(_), .. } if other => Some("direction only applies to kind message"),
        ActivityParams { channel: Some(_), .. } if other => Some("channel only applies to kind message"),
        ActivityParams { direction: Some(_), session_key: Some(_), .. } => {
            Some("direction cannot be combined with sessionKey")
        }
        ActivityParams { channel: Some(_), session_key: Some(_), .. } => {
            Some("channel cannot be combined with sessionKey")
        }
        _ => None,
    }
}

struct Range {
    after: Option<Int>,
    before: Option<Int>,
    limit: Option<Int<1, 500>>,
    cursor: Option<Text>,
}

fn page(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, filter: AuditFilter, range: Range, activity: bool) {
    let bound =
        |bound: Option<Int>, none: i64| bound.map_or(none, |at| i64::try_from(at.get()).unwrap_or(none));
    let (after, before) = (bound(range.after, 0), bound(range.before, i64::MAX));
    let cursor = range.cursor.as_ref().map(|text| text.parse::<i64>().ok().filter(|at| *at > 0));
    if cursor == Some(None) || after > before {
        let words = format!("invalid {} range or cursor", call.method);
        return call.responder.refuse(Refusal::invalid_request(words));
    }
    let estate = call.estate();
    let since = estate.config.load().settings.logging.audit.since(estate.clock.now_ms());
    let limit = range.limit.map_or(DEFAULT_LIMIT, Int::get) as usize;
    let filter = AuditFilter {
        after: after.max(since),
        before,
        cursor: cursor.flatten().unwrap_or(i64::MAX),
        limit: limit as u32 + 1,
        ..filter
    };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let mut rows = match store.read(move |c| store::acts(c, &filter)).await {
            Ok(rows) => rows,
            Err(e) => return responder.refuse(store_refusal(&e)),
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| row.sequence.to_string());
        let events = rows.into_iter().map(|row| shown(row, activity)).collect();
        responder.ok(&AuditPage { events, next_cursor });
    });
}

fn shown(row: ActRow, activity: bool) -> AuditEvent {
    let ActRow { sequence, act, hash } = row;
    let mut name = [0; 16];
    name.copy_from_slice(&hash[..16]);
    AuditEvent {
        event_id: Builder::from_random_bytes(name).into_uuid().to_string(),
        sequence,
        source_sequence: sequence,
        occurred_at: act.at,
        schema_version: activity.then_some(1),
        event_type: activity.then(|| act.kind.clone()),
        kind: act.kind,
        action: act.action,
        status: act.status,
        actor: AuditActor { r#type: act.actor_type, id: act.actor_id },
        redaction: "metadata_only".into(),
        error_code: act.code,
        agent_id: act.agent_id,
        session_key: act.session_key,
        session_id: act.session_id,
        run_id: act.run_id,
        tool_call_id: act.tool_call_id,
        tool_name: act.tool_name,
        target: act.target,
        summary: act.summary,
        origin: act.origin,
        request: act.request,
    }
}

pub(super) fn verify(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((VerifyParams { head }, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let verdict = store.read(move |c| store::verify_audit(c, head.as_deref())).await;
        responder.settle(verdict.map(verified).map_err(|e| store_refusal(&e)));
    });
}

/// The verdict as it is told.
pub(crate) fn verified(verdict: store::AuditVerdict) -> Verified {
    let store::AuditVerdict { rows, anchor, head, problem } = verdict;
    Verified { ok: problem.is_none(), rows, anchor, head, problem }
}

pub(super) fn database(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let Some(db) = call.estate().db.load_full() else {
        return call.responder.refuse(Refusal::unavailable(1000));
    };
    let responder = call.responder;
    ctx.detached(async move {
        let checked = tokio::task::spawn_blocking(move || report(&db)).await;
        match checked {
            Ok(report) => responder.settle(report.map_err(|e| store_refusal(&e))),
            Err(e) => responder.refuse(Refusal::failed(format!("the check ended: {e}"))),
        }
    });
}

fn report(db: &store::Db) -> Result<StoreReport, store::StoreError> {
    let problem = match db.check() {
        Ok(()) => db.damage().map(str::to_owned),
        Err(store::StoreError::Damaged) => Some(db.damage().unwrap_or("the file is damaged").to_owned()),
        Err(e) => return Err(e),
    };
    let schema_version = db.read(store::schema_version)?;
    let bytes = db.path().and_then(|path| path.metadata().ok()).map_or(0, |found| found.len());
    let known_version = store::SCHEMA_VERSION;
    Ok(StoreReport { ok: problem.is_none(), schema_version, known_version, bytes, problem })
}
