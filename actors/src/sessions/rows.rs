//! How sessions and transcript rows look on the wire.

use super::turn::merge;
use crate::agents::{CONTEXT_TOKENS, Catalog, agent_runtime};
use crate::event::{Audience, Event};
use crate::store::{MessageRow, SessionRecord};
use crabtree_protocol::{Event as Name, RunId, SessionKey};
use serde_json::{Value, json};

/// A session row: the keys that are always there, and those that are known.
pub fn session_row(record: &SessionRecord, active: Option<&RunId>, catalog: &Catalog, now: i64) -> Value {
    let (provider, model) = catalog.primary_parts();
    let is_main = record.key == format!("agent:{}:{}", record.agent_id, catalog.main_key);
    let mut row = json!({
        "key": record.key,
        "visibility": "shared",
        "permissionModePending": false,
        "createdVia": "operator",
        "createdAt": record.created_at,
        "kind": "direct",
        "classification": if is_main { "main" } else { "direct" },
        "agentId": record.agent_id,
        "isMain": is_main,
        "isBackground": false,
        "updatedAt": record.updated_at,
        "archived": false,
        "pinned": false,
        "unread": false,
        "sessionId": record.session_id,
        "thinkingLevels": [{ "id": "off", "label": "off" }],
        "thinkingOptions": ["off"],
        "thinkingDefault": "off",
        "effectiveFastMode": false,
        "effectiveFastModeSource": "default",
        "fastAutoOnSeconds": 60,
        "totalTokensFresh": false,
        "effectiveResponseUsage": "off",
        "effectiveQueueMode": "followup",
        "modelProvider": provider,
        "model": model,
        "modelOverrideSource": null,
        "runtimeSelectionLocked": false,
        "agentRuntime": agent_runtime(),
        "contextTokens": CONTEXT_TOKENS,
        "snapshotAt": now,
        "hasActiveRun": active.is_some(),
        "sharingRole": "admin",
        "mode": "main",
        "activeRunIds": active.iter().collect::<Vec<_>>(),
    });
    let status = active.map(|_| "running").or(record.status.as_deref());
    let known = [
        ("status", status.map(Value::from)),
        ("label", record.label.clone().map(Value::from)),
        ("lastRunId", record.last_run_id.clone().map(Value::from)),
        ("startedAt", record.started_at.map(Value::from)),
        ("endedAt", record.ended_at.map(Value::from)),
        ("lastInteractionAt", record.last_interaction_at.map(Value::from)),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    row
}

/// A transcript row with its place.
pub fn message_row(row: &MessageRow) -> Value {
    let mut message = row.message.clone();
    let mut meta = json!({
        "id": row.id,
        "recordTimestampMs": row.created_at,
        "transcriptPosition": { "source": row.session_id, "rawSeq": row.raw_seq },
    });
    if let Some(seq) = row.seq {
        meta["seq"] = json!(seq);
    }
    if let Some(key) = &row.idempotency_key {
        meta["idempotencyKey"] = json!(key);
    }
    if let Some(run) = row.run_id.as_ref().filter(|_| row.kind == "assistant") {
        meta["runId"] = json!(run);
    }
    match message.get_mut("__openclaw") {
        Some(known) => merge(known, meta),
        None => message["__openclaw"] = meta,
    }
    message
}

/// The event `session.message`.
pub fn message_event(key: &SessionKey, row: &MessageRow, session: &Value) -> Event {
    let mut payload = json!({
        "sessionKey": key,
        "agentId": key.agent_id(),
        "message": message_row(row),
        "messageId": row.id,
        "messageSeq": row.seq,
        "session": session,
        "ancestorSessions": [],
    });
    if let Some(run) = &row.run_id {
        payload["runId"] = json!(run);
    }
    merge(&mut payload, flat(session));
    Event::new(Name::SessionMessage, Audience::Messages(key.clone()), &payload)
}

/// The event `sessions.changed`, with a `reason` or with `phase` and `runId`.
pub fn changed_event(key: &SessionKey, why: Value, session: &Value, now: i64) -> Event {
    let mut payload = json!({ "sessionKey": key, "agentId": key.agent_id() });
    merge(&mut payload, why);
    merge(&mut payload, json!({ "ts": now, "session": session, "ancestorSessions": [] }));
    merge(&mut payload, flat(session));
    Event::new(Name::SessionsChanged, Audience::Sessions, &payload)
}

/// The row once more, flat, as clients read it there: without the keys that mean something else.
fn flat(session: &Value) -> Value {
    let mut flat = session.clone();
    if let Value::Object(members) = &mut flat {
        for twice in ["key", "agentId", "createdAt", "snapshotAt"] {
            members.remove(twice);
        }
    }
    flat
}
