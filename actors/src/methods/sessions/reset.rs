//! Beginning a session anew in its place: the same key and id, an empty transcript, everything chosen for it kept
//! but how its messages queue.

use crate::store::{NewMessage, SessionRecord, SessionUpdate, WriteOp};
use crabtree_protocol::SessionKey;
use serde_json::json;
use uuid::Uuid;

/// What begins a session anew at `now` (ms), or creates it that way. Its first row says so.
pub(in crate::methods) fn reset_op(record: Option<&SessionRecord>, key: &SessionKey, now: i64) -> WriteOp {
    let mut entry = json!({
        "sessionStartedAt": now,
        "systemSent": false,
        "abortedLastRun": false,
        "lastRunError": null,
        "compaction": null,
        "compactionCount": 0,
        "inputTokens": 0,
        "outputTokens": 0,
        "totalTokens": 0,
        "unread": null,
        "markedUnreadAt": null,
        "queueMode": null,
        "queueDebounceMs": null,
        "queueCap": null,
        "queueDrop": null,
    });
    if record.is_none() {
        entry["createdVia"] = json!("operator");
    }
    let update = SessionUpdate {
        at: now,
        session_id_if_new: Some(Uuid::new_v4().to_string()),
        revision: Some(Uuid::new_v4().to_string()),
        status: Some(None),
        last_run_id: Some(None),
        started_at: Some(None),
        ended_at: Some(None),
        entry: Some(entry),
        ..SessionUpdate::default()
    };
    let row = NewMessage {
        id: Uuid::now_v7().to_string(),
        session_key: key.to_string(),
        session_id: String::new(),
        parent: None,
        kind: "system".into(),
        idempotency_key: None,
        run_id: None,
        hidden: false,
        message: json!({
            "role": "system",
            "content": [{ "type": "text", "text": "Reset" }],
            "timestamp": now,
            "__openclaw": { "kind": "reset" },
        }),
        created_at: now,
    };
    WriteOp::All(vec![WriteOp::UpdateSession { key: key.to_string(), update }, WriteOp::AppendMessage(row)])
}
