//! Sessions that begin anew by themselves, as `session.reset` says.

use super::*;
use crabtree_actors::store::{NewMessage, SessionUpdate, WriteOp};

/// A session somebody last wrote in at `at`, ms.
fn left_at(key: &str, at: i64) -> [WriteOp; 2] {
    let update = SessionUpdate {
        at,
        session_id_if_new: Some("the old one".into()),
        last_interaction_at: Some(at),
        ..SessionUpdate::default()
    };
    let message = NewMessage {
        id: format!("said in {key}"),
        session_key: key.into(),
        session_id: String::new(),
        parent: None,
        kind: "user".into(),
        idempotency_key: None,
        run_id: None,
        hidden: false,
        message: json!({ "role": "user", "content": "long ago", "timestamp": at }),
        created_at: at,
    };
    [WriteOp::UpdateSession { key: key.into(), update }, WriteOp::AppendMessage(message)]
}

/// accepts: C6, I4
#[tokio::test]
async fn a_session_nobody_wrote_in_for_long_begins_anew() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let minute = 60_000;
    let stored = [left_at("agent:main:old", now - 61 * minute), left_at("agent:main:new", now - 59 * minute)];
    let config = json!({ "session": { "reset": { "mode": "idle", "idleMinutes": 60 } } });
    let gateway = Embedded::stored_with(config, &stored.concat()).await;
    let mut client = Client::admin(gateway.addr).await;
    for (key, rows) in [("old", 2), ("new", 3)] {
        say(&mut client, key, "hello", key).await;
        client.chat_end(key).await;
        assert_eq!(history(&mut client, key).await.len(), rows, "{key}");
        let row = client.call("sessions.describe", json!({ "key": key })).await["session"].clone();
        assert_eq!(row["sessionId"] == "the old one", key == "new");
        assert_eq!(row.get("previousSessionId").is_some(), key == "old");
    }
    // What was said before is kept, beside what is said now.
    let found = client.call("sessions.branches.list", json!({ "sessionKey": "old" })).await;
    assert_eq!(
        found["branches"].as_array().unwrap().len(),
        1,
        "a conversation of its own, not a branch: {found}"
    );
}
