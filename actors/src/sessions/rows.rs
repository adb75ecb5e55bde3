//! How sessions and transcript rows look on the wire.

use super::turn::merge;
use crate::agents::{Catalog, agent_runtime};
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::settings::{QueueOverrides, QueueSettings};
use crate::store::{MessageRow, SessionRecord};
use crate::tools::Policy;
use crabtree_protocol::{Event as Name, RunId, SessionKey};
use serde::Deserialize;
use serde_json::{Value, json};

/// `provider/model` that answers in a session: what was chosen for it, else what all use.
pub fn model_of(record: Option<&SessionRecord>, catalog: &Catalog) -> String {
    let part = |name: &str| record?.entry.get(name)?.as_str();
    match (part("providerOverride"), part("modelOverride")) {
        (Some(provider), Some(model)) => format!("{provider}/{model}"),
        _ => record.map_or(&*catalog.primary, |record| catalog.model_of(&record.agent_id)).to_owned(),
    }
}

/// A session row: the keys that are always there, and those that are known.
pub fn session_row(record: &SessionRecord, active: Option<&RunId>, estate: &Estate, now: i64) -> Value {
    let catalog = estate.catalog.load();
    let entry = &record.entry;
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let (provider, model) = match (text("providerOverride"), text("modelOverride")) {
        (Some(provider), Some(model)) => (provider, model),
        _ => catalog.model_of(&record.agent_id).split_once('/').unwrap_or_default(),
    };
    let is_main = record.key == format!("agent:{}:{}", record.agent_id, catalog.main_key);
    let key = SessionKey::canonical(&record.key, &record.agent_id).ok();
    let place = key.as_ref().and_then(SessionKey::place);
    let channel = place.as_ref().and_then(|place| place.channel);
    let own = QueueOverrides::deserialize(entry).unwrap_or_default();
    let queue = QueueSettings::resolve(&estate.config.load().settings.messages.queue, channel, &own);
    let mut row = json!({
        "key": record.key,
        "visibility": "shared",
        "permissionModePending": false,
        "createdVia": text("createdVia").unwrap_or("operator"),
        "createdAt": record.created_at,
        "kind": key.as_ref().map_or("direct", |key| key.kind(None)),
        "classification": if is_main { "main" } else { key.as_ref().map_or("direct", |k| k.classification(None)) },
        "agentId": record.agent_id,
        "isMain": is_main,
        "isBackground": false,
        "updatedAt": record.updated_at,
        "archived": entry.get("archivedAt").is_some(),
        "pinned": entry.get("pinnedAt").is_some(),
        "unread": entry.get("unread") == Some(&json!(true)),
        "sessionId": record.session_id,
        "effectiveFastMode": false,
        "effectiveFastModeSource": "default",
        "fastAutoOnSeconds": 60,
        "totalTokensFresh": entry.get("totalTokens").is_some(),
        "effectiveResponseUsage": text("responseUsage").unwrap_or("off"),
        "effectiveQueueMode": queue.mode.name(),
        "modelProvider": provider,
        "model": model,
        "modelOverrideSource": text("modelOverride").and(text("modelOverrideSource")),
        "runtimeSelectionLocked": false,
        "agentRuntime": agent_runtime(),
        "contextTokens": catalog.context_window(&format!("{provider}/{model}")),
        "snapshotAt": now,
        "hasActiveRun": active.is_some(),
        "sharingRole": "admin",
        "mode": key.as_ref().map_or("main", |key| key.mode().name()),
        "toolPermissions": key.as_ref().map(|key| tool_permissions(key, estate)).unwrap_or_default(),
        "memoryRefs": [],
        "activeRunIds": active.iter().collect::<Vec<_>>(),
    });
    let name = format!("{provider}/{model}");
    for (member, value) in catalog.thinking_row(&record.agent_id, &name) {
        row[member] = value;
    }
    let status = active.map(|_| "running").or(record.status.as_deref());
    let known = [
        ("status", status.map(Value::from)),
        ("label", record.label.clone().map(Value::from)),
        ("displayName", record.label.clone().or(is_main.then(|| catalog.main_key.clone())).map(Value::from)),
        ("lastRunId", record.last_run_id.clone().map(Value::from)),
        ("startedAt", record.started_at.map(Value::from)),
        ("endedAt", record.ended_at.map(Value::from)),
        ("runtimeMs", record.started_at.zip(record.ended_at).map(|(from, to)| json!((to - from).max(0)))),
        ("channel", channel.map(Value::from)),
        ("chatType", Some(json!(place.map_or("direct", |place| place.chat_type.name())))),
        ("lastInteractionAt", record.last_interaction_at.map(Value::from)),
    ];
    let kept = KEPT.iter().map(|name| (*name, entry.get(*name).filter(|v| !v.is_null()).cloned()));
    for (name, value) in known.into_iter().chain(kept) {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    for (last, member) in LAST {
        if let Some(value) = entry.get("deliveryContext").and_then(|route| route.get(member)) {
            row[*last] = value.clone();
        }
    }
    if let Some(status) = entry.get("agentStatus").filter(|s| s["expiresAt"].as_i64() > Some(now)) {
        row["agentStatus"] = status.clone();
    }
    if let Some(people) = entry.get("participants").and_then(Value::as_array) {
        row["participantCount"] = json!(people.len());
        row["expandedParticipants"] = json!(people);
    }
    row
}

fn tool_permissions(key: &SessionKey, estate: &Estate) -> Value {
    json!(Policy::of(&estate.config.load().settings, key).permissions())
}

/// Where a session was spoken to last, once more one by one.
const LAST: &[(&str, &str)] = &[
    ("lastChannel", "channel"),
    ("lastTo", "to"),
    ("lastAccountId", "accountId"),
    ("lastThreadId", "threadId"),
];

/// Members of an entry that stand in the row as they are.
const KEPT: &[&str] = &[
    "abortedLastRun",
    "archiveReason",
    "archivedAt",
    "boardFace",
    "category",
    "color",
    "contextWindow",
    "deliveryContext",
    "displayName",
    "elevatedLevel",
    "estimatedCostUsd",
    "execHost",
    "execNode",
    "fastMode",
    "forkSource",
    "forkedFromParent",
    "groupActivation",
    "icon",
    "inputTokens",
    "lastReadAt",
    "lastRunError",
    "markedUnreadAt",
    "outputTokens",
    "parentSessionId",
    "parentSessionKey",
    "participants",
    "permissionMode",
    "pinnedAt",
    "previousSessionId",
    "queueMode",
    "reasoningLevel",
    "responseUsage",
    "sendPolicy",
    "spawnDepth",
    "systemSent",
    "thinkingLevel",
    "toolOverrides",
    "totalTokens",
    "traceLevel",
    "verboseLevel",
];

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
    if let Some(key) = message.get("idempotencyKey") {
        meta["idempotencyKey"] = key.clone();
    }
    if let Some(run) = run_of(row) {
        meta["runId"] = json!(run);
    }
    match message.get_mut("__openclaw") {
        Some(known) => merge(known, meta),
        None => message["__openclaw"] = meta,
    }
    message
}

/// The run that wrote a row: answers of commands and what people say come from none.
fn run_of(row: &MessageRow) -> Option<&str> {
    let answers = row.kind == "assistant" && row.message["excludeFromContext"] != true;
    row.run_id.as_deref().filter(|_| answers)
}

/// Of an answer that calls tools the event has only the calls: the text was told as a preamble (as recorded).
fn without_preamble(mut message: Value) -> Value {
    if let Some(Value::Array(content)) = message.get_mut("content")
        && content.iter().any(|part| part["type"] == "toolCall")
    {
        content.retain(|part| part["type"] != "text");
    }
    message
}

/// The event `session.message`.
pub fn message_event(key: &SessionKey, row: &MessageRow, session: &Value) -> Event {
    Event::new(Name::SessionMessage, Audience::Messages(key.clone()), &message_payload(key, row, session))
}

/// Its payload.
pub fn message_payload(key: &SessionKey, row: &MessageRow, session: &Value) -> Value {
    let mut payload = json!({
        "sessionKey": key,
        "agentId": key.agent_id(),
        "message": without_preamble(message_row(row)),
        "messageId": row.id,
        "messageSeq": row.seq,
        "session": session,
        "ancestorSessions": [],
    });
    // What only calls tools is not yet an answer of the run (as recorded).
    if let Some(run) = run_of(row).filter(|_| row.message["stopReason"] != "toolUse") {
        payload["runId"] = json!(run);
    }
    if let Some(by_owner) = row.message["__openclaw"].get("senderIsOwner") {
        payload["senderIsOwner"] = by_owner.clone();
    }
    merge(&mut payload, flat(session));
    payload
}

/// The event `sessions.changed`, with a `reason` or with `phase` and `runId`.
pub fn changed_event(key: &SessionKey, why: Value, session: &Value, now: i64) -> Event {
    let mut payload = json!({ "sessionKey": key, "agentId": key.agent_id() });
    merge(&mut payload, why);
    merge(&mut payload, json!({ "ts": now, "session": session, "ancestorSessions": [] }));
    merge(&mut payload, flat(session));
    Event::new(Name::SessionsChanged, Audience::Sessions, &payload)
}

/// Members that are told as null when a session has them not: clients put the flat row over what they know.
const NULLS: &[&str] = &[
    "agentStatus",
    "archiveReason",
    "archivedAt",
    "archivedBy",
    "autoLabel",
    "boardPresentation",
    "category",
    "channelAvatarUrl",
    "color",
    "controlOwnerSessionKey",
    "createdActor",
    "displayName",
    "goal",
    "icon",
    "label",
    "lastRunError",
    "lastRunId",
    "markedUnreadAt",
    "observerDigest",
    "owner",
    "permissionMode",
    "pinnedAt",
    "placementMove",
    "providerReview",
    "restartRecoveryStatus",
    "swarm",
    "thinkingLevel",
    "toolOverrides",
];

/// Adds a session's row to an event about it, whole and flat.
pub fn with_session(payload: &mut Value, session: &Value) {
    payload["session"] = session.clone();
    merge(payload, flat(session));
}

/// The row once more, flat, as clients read it there: without the keys that mean something else.
fn flat(session: &Value) -> Value {
    let mut flat = session.clone();
    if let Value::Object(members) = &mut flat {
        for twice in ["key", "agentId", "snapshotAt", "expandedParticipants"] {
            members.remove(twice);
        }
        for name in NULLS {
            members.entry(*name).or_insert(Value::Null);
        }
    }
    flat
}

/// The event `sessions.changed` of all sessions in some group or other.
pub fn groups_event(now: i64) -> Event {
    Event::new(Name::SessionsChanged, Audience::Sessions, &json!({ "reason": "groups", "ts": now }))
}

/// The event `sessions.changed` of a session that is gone.
pub fn gone_event(key: &SessionKey, session_id: &str, now: i64) -> Event {
    let payload = json!({
        "sessionKey": key, "sessionId": session_id, "agentId": key.agent_id(), "reason": "delete", "ts": now,
    });
    Event::new(Name::SessionsChanged, Audience::Sessions, &payload)
}
