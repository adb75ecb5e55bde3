//! What operations of the store tell the ledger: that runs begin and end, that tools with effects outside are called,
//! and what people on channels decided.

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};

use super::super::db::StoreError;
use super::super::rows::{Act, ApprovalRow, InputRow, WriteOp, WriteReply};
use super::session_id;
use crabtree_protocol::SessionKey;

/// Whether an operation may tell something.
pub(super) fn tells(op: &WriteOp) -> bool {
    match op {
        WriteOp::AcceptInput { begin, .. } => *begin,
        WriteOp::Begin { .. }
        | WriteOp::BeginCall { .. }
        | WriteOp::Settle { .. }
        | WriteOp::CloseApproval { .. } => true,
        WriteOp::All(ops) => ops.iter().any(tells),
        _ => false,
    }
}

/// Adds what this one tells.
pub(super) fn follow(
    conn: &Connection,
    op: &WriteOp,
    reply: &WriteReply,
    now: i64,
    acts: &mut Vec<Act>,
) -> Result<(), StoreError> {
    match (op, reply) {
        (WriteOp::AcceptInput { begin: true, .. }, WriteReply::Accepted { row, fresh: true, .. }) => {
            acts.push(run(conn, "agent.run.started", &row.run_id, row, now)?);
        }
        (WriteOp::Begin { turn, .. }, WriteReply::Began { rows, .. }) => {
            // Inputs that join a turn under way begin nothing.
            if let Some(row) = rows.iter().find(|row| &row.run_id == turn && row.outcome.is_none()) {
                acts.push(run(conn, "agent.run.started", turn, row, now)?);
            }
        }
        (WriteOp::Settle { turn, at, .. }, WriteReply::Settled { rows, .. }) => {
            let own = |row: &&InputRow| &row.run_id == turn && row.settled_at == Some(*at);
            if let Some(row) = rows.iter().find(own).filter(|row| row.attempts > 0) {
                let (status, code) = ended(row.outcome.as_ref());
                let act = run(conn, "agent.run.finished", turn, row, now)?;
                acts.push(Act { status: status.into(), code: code.map(str::to_owned), ..act });
            }
        }
        (WriteOp::BeginCall { turn, call_id, tool }, _) => acts.push(call(conn, turn, call_id, tool, now)?),
        (WriteOp::CloseApproval { at, .. }, WriteReply::Approval(row)) if row.resolved_at == Some(*at) => {
            acts.extend(decided(row, now));
        }
        (WriteOp::All(ops), WriteReply::All(replies)) => {
            for (op, reply) in ops.iter().zip(replies) {
                follow(conn, op, reply, now, acts)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the same is in the ledger already, because an operation was sent again.
pub(super) fn is_told(conn: &Connection, act: &Act, before: &[Act]) -> Result<bool, StoreError> {
    let Some(run_id) = &act.run_id else { return Ok(false) };
    let same = |one: &Act| {
        one.run_id == act.run_id && one.action == act.action && one.tool_call_id == act.tool_call_id
    };
    if before.iter().any(same) {
        return Ok(true);
    }
    let mut query = conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM audit WHERE body ->> '$.runId' = ?1 AND body ->> '$.action' = ?2
             AND body ->> '$.toolCallId' IS ?3)",
    )?;
    Ok(query.query_row((run_id, &act.action, &act.tool_call_id), |row| row.get(0))?)
}

/// An agent did something in a session.
fn by_agent(conn: &Connection, session_key: &str, run_id: &str, now: i64) -> Result<Act, StoreError> {
    let agent = SessionKey::canonical(session_key, "main").map(|key| key.agent_id().to_owned());
    let agent = agent.unwrap_or_else(|_| "main".into());
    Ok(Act {
        at: now,
        status: "started".into(),
        actor_type: "agent".into(),
        actor_id: agent.clone(),
        agent_id: Some(agent),
        session_key: Some(session_key.into()),
        session_id: session_id(conn, session_key)?,
        run_id: Some(run_id.into()),
        ..Act::default()
    })
}

fn run(conn: &Connection, action: &str, run_id: &str, row: &InputRow, now: i64) -> Result<Act, StoreError> {
    let act = by_agent(conn, &row.session_key, run_id, now)?;
    Ok(Act { kind: "agent_run".into(), action: action.into(), ..act })
}

fn ended(outcome: Option<&Value>) -> (&'static str, Option<&'static str>) {
    match outcome.and_then(|outcome| outcome["status"].as_str()) {
        Some("ok") => ("succeeded", None),
        Some("aborted") => ("cancelled", Some("run_cancelled")),
        Some("timeout") => ("timed_out", Some("run_timed_out")),
        _ => ("failed", Some("run_failed")),
    }
}

fn call(conn: &Connection, turn: &str, call_id: &str, tool: &str, now: i64) -> Result<Act, StoreError> {
    let mut query = conn.prepare_cached("SELECT session_key FROM inputs WHERE turn = ?1 LIMIT 1")?;
    let session: Option<String> = query.query_row([turn], |row| row.get(0)).optional()?;
    let act = by_agent(conn, session.as_deref().unwrap_or_default(), turn, now)?;
    let fingerprint = blake3::hash(format!("{turn}:{call_id}").as_bytes()).to_hex();
    Ok(Act {
        kind: "tool_action".into(),
        action: "tool.action.started".into(),
        session_key: act.session_key.filter(|key| !key.is_empty()),
        tool_name: Some(tool.into()),
        tool_call_id: Some(fingerprint[..32].into()),
        ..act
    })
}

/// A decision that no request of a client was: of a person on a channel, or of the gateway when nobody said anything.
fn decided(row: &ApprovalRow, now: i64) -> Option<Act> {
    let outcome = row.outcome.as_ref()?;
    let resolver = &outcome["resolver"];
    let actor = match resolver["kind"].as_str() {
        Some("channel") => "channel_sender",
        Some("system") => "system",
        _ => return None,
    };
    Some(Act {
        at: now,
        kind: "operator_act".into(),
        action: "approval.resolved".into(),
        status: "succeeded".into(),
        actor_type: actor.into(),
        actor_id: resolver["id"].as_str().unwrap_or("gateway").into(),
        target: Some(row.id.clone()),
        summary: Some(json!({
            "approval": row.kind, "decision": outcome["decision"], "outcome": outcome["status"],
            "reason": outcome["reason"],
        })),
        ..Act::default()
    })
}
