//! One entry of a foreign transcript as a row of ours. Pure.

use chrono::DateTime;
use crabtree_actors::store::{NewMessage, Shelf};
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

/// Kinds of messages that people see in a conversation.
const SEEN: &[&str] = &["user", "assistant", "toolResult", "system"];

/// The row of an entry; `None` if it is none that has one. `number` stands for its id where it has none.
pub fn row(to: &Shelf, number: u64, parent: Option<String>, entry: Value) -> Option<NewMessage> {
    let id = entry["id"].as_str().map_or_else(|| format!("{}#{number}", to.session_id), str::to_owned);
    let at = time(&entry["timestamp"]).or_else(|| time(&entry["message"]["timestamp"])).unwrap_or_default();
    let message = match entry["type"].as_str()? {
        "reset" => json!({
            "role": "system",
            "content": [{ "type": "text", "text": "Reset" }],
            "timestamp": at,
            "__openclaw": { "kind": "reset" },
        }),
        "message" => match entry {
            Value::Object(mut entry) => entry.remove("message")?,
            _ => return None,
        },
        _ => return None,
    };
    let kind = message.as_object()?.get("role")?.as_str()?.to_owned();
    let key = message["idempotencyKey"].as_str().map(str::to_owned);
    let run = message["__openclaw"]["runId"].as_str();
    let run = run.or_else(|| key.as_deref()?.strip_suffix(":user")).map(str::to_owned);
    Some(NewMessage {
        id: own_id(&to.key, &id),
        session_key: to.key.clone(),
        session_id: to.session_id.clone(),
        parent,
        hidden: !SEEN.contains(&kind.as_str()),
        kind,
        idempotency_key: key,
        run_id: run,
        message,
        created_at: at,
    })
}

/// An id for a row: its own if it is one of a kind, else one that is always made of the same.
pub fn own_id(key: &str, id: &str) -> String {
    if Uuid::try_parse(id).is_ok() && id.len() == 36 {
        return id.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    for part in ["imported-entry", key, id] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Milliseconds, or a date as text.
pub fn time(value: &Value) -> Option<i64> {
    let text = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
    value.as_i64().or_else(|| text(value.as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Shelf {
        Shelf { key: "agent:main:main".into(), session_id: "s".into(), revision: String::new() }
    }

    #[test]
    fn what_is_said_keeps_its_id_run_and_time() {
        let entry = json!({
            "type": "message", "id": "1d5a932f-e67e-4276-ad92-87dcc9814ad3", "parentId": null,
            "timestamp": "2026-11-20T22:49:19.046Z",
            "message": { "role": "user", "content": "hello", "idempotencyKey": "run-1:user" },
        });
        let row = row(&shelf(), 4, Some("p".into()), entry).unwrap();
        assert_eq!(row.id, "1d5a932f-e67e-4276-ad92-87dcc9814ad3");
        assert_eq!((row.kind.as_str(), row.hidden, row.created_at), ("user", false, 1_795_214_959_046));
        assert_eq!((row.run_id.as_deref(), row.parent.as_deref()), (Some("run-1"), Some("p")));
        assert_eq!(row.message["content"], "hello");
    }

    #[test]
    fn short_ids_become_long_ones_that_differ_by_session_and_are_always_the_same() {
        let one = own_id("agent:main:main", "f9308766");
        assert_eq!(one, own_id("agent:main:main", "f9308766"));
        assert_ne!(one, own_id("agent:main:other", "f9308766"));
        assert!(Uuid::try_parse(&one).is_ok());
    }

    #[test]
    fn what_is_no_message_has_no_row_and_unknown_kinds_are_not_seen() {
        let made = |entry: Value| row(&shelf(), 1, None, entry);
        assert!(made(json!({ "type": "model_change", "id": "a" })).is_none());
        assert!(made(json!({ "type": "message", "id": "a" })).is_none());
        assert!(made(json!({ "type": "message", "message": "text" })).is_none());
        assert!(made(json!({ "type": "message", "message": { "role": "bashExecution" } })).unwrap().hidden);
        let reset =
            made(json!({ "type": "reset", "id": "a", "timestamp": "2026-11-20T22:49:33.845Z" })).unwrap();
        assert_eq!((reset.kind.as_str(), &reset.message["__openclaw"]["kind"]), ("system", &json!("reset")));
    }
}
