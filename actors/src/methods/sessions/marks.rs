//! How a session is marked: archived, pinned, unread, and what it says it is at.

use crabtree_protocol::Refusal;
use crabtree_protocol::params::session_changes::Changes;
use crabtree_protocol::value::Maybe;
use serde_json::{Value, json};

/// How long a note stands, unless told (OpenClaw's).
const NOTE_MINUTES: u64 = 30;
const MINUTE_MS: i64 = 60_000;

/// Puts the marks that are asked for into the change of an entry; `kept` is what the session has.
pub(super) fn put(
    entry: &mut Value,
    changes: &Changes,
    kept: Option<&Value>,
    now: i64,
) -> Result<(), Refusal> {
    let has = |name: &str| kept.is_some_and(|kept| kept.get(name).is_some());
    let mut archived = has("archivedAt");
    if let Some(archive) = changes.archived {
        if !archive {
            entry["archivedAt"] = Value::Null;
            entry["archiveReason"] = Value::Null;
        } else if !archived {
            entry["archivedAt"] = json!(now);
            entry["archiveReason"] = json!("manual");
            entry["pinnedAt"] = Value::Null;
        }
        archived = archive;
    }
    match changes.pinned {
        Some(true) if archived => return Err(Refusal::pin_archived()),
        Some(true) if !has("pinnedAt") => entry["pinnedAt"] = json!(now),
        Some(false) => entry["pinnedAt"] = Value::Null,
        _ => {}
    }
    put_status(entry, changes, kept, now)?;
    match changes.unread {
        Some(true) => {
            let before = kept.and_then(|kept| kept.get("markedUnreadAt")?.as_i64()).unwrap_or(0);
            entry["unread"] = json!(true);
            entry["markedUnreadAt"] = json!(now.max(before + 1));
        }
        Some(false) => {
            for name in ["unread", "markedUnreadAt", "agentStatus"] {
                entry[name] = Value::Null;
            }
            entry["lastReadAt"] = json!(now);
        }
        None => {}
    }
    Ok(())
}

/// What a session is at, for a while: a note, and what it asks a person for.
fn put_status(entry: &mut Value, changes: &Changes, kept: Option<&Value>, now: i64) -> Result<(), Refusal> {
    let (note, attention) = (&changes.status_note, &changes.attention);
    if note.is_absent() && attention.is_absent() && changes.ttl_minutes.is_none() {
        return Ok(());
    }
    if *note == Maybe::Null || *attention == Maybe::Null {
        entry["agentStatus"] = Value::Null;
        return Ok(());
    }
    let standing = kept.and_then(|kept| kept.get("agentStatus")).filter(|status| stands(status, now));
    let standing = |name: &str| standing.and_then(|status| status.get(name)).cloned().unwrap_or_default();
    let note = match note {
        Maybe::Value(text) => json!(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        _ => standing("note"),
    };
    if note.as_str().is_none_or(str::is_empty) {
        let text = "attention and ttlMinutes belong to a statusNote; send one with them";
        return Err(Refusal::invalid_request(text));
    }
    let attention = match attention {
        Maybe::Value(icon) => json!(icon),
        _ => standing("attention"),
    };
    let minutes = changes.ttl_minutes.map_or(NOTE_MINUTES, |minutes| minutes.get());
    let until = now + minutes as i64 * MINUTE_MS;
    entry["agentStatus"] = json!({ "note": note, "attention": attention, "expiresAt": until });
    Ok(())
}

fn stands(status: &Value, now: i64) -> bool {
    status["expiresAt"].as_i64().is_some_and(|until| until > now)
}
