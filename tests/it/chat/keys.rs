//! Idempotency keys, and what is refused.

use super::*;

fn is_conflict(error: &Value) {
    assert_eq!(
        *error,
        json!({
            "code": "INVALID_REQUEST",
            "message": "This message ID was already used for different input. \
                        Check the conversation history and use a new message ID to send again.",
            "details": { "reason": "chat-request-conflict" },
        })
    );
}

/// accepts: G9, G10, G11
#[tokio::test]
async fn a_message_is_taken_once_whatever_is_restarted() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let text = words(30);
    say(&mut client, "main", &text, "k1").await;
    streams(&mut client, "k1").await;
    let again = message("main", &text, "k1");
    let other = message("main", "different", "k1");
    let in_flight = json!({ "runId": "k1", "status": "in_flight" });
    assert_eq!(client.call("chat.send", again.clone()).await, in_flight);
    is_conflict(&client.refused("chat.send", other.clone()).await);
    let by_agent = client.call("agent", message("main", "via agent", "k1")).await;
    assert_eq!((&by_agent["runId"], &by_agent["status"]), (&json!("k1"), &json!("in_flight")));
    client.chat_end("k1").await;
    let done = json!({ "runId": "k1", "status": "ok" });
    for part in ["", "store", "sessions", "sessions/agent:main:main", "connections"] {
        if !part.is_empty() {
            let path = format!("gateway/{part}");
            let up = client.call("system.actors.restart", json!({ "path": path })).await;
            assert_eq!(up["state"], "running");
        }
        assert_eq!(client.call("chat.send", again.clone()).await, done, "after {part}");
        is_conflict(&client.refused("chat.send", other.clone()).await);
    }
    assert_eq!(history(&mut client, "main").await.len(), 2);
}

/// accepts: G9, G10
#[tokio::test]
async fn an_agent_run_is_answered_the_same_each_time() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let ask = message("main", &words(20), "a1");
    let id = client.send("agent", ask.clone()).await;
    assert_eq!(client.response(&id).await["payload"]["status"], "accepted");
    let in_flight = json!({
        "runId": "a1", "status": "in_flight", "sessionKey": "agent:main:main", "agentId": "main",
    });
    assert_eq!(client.call("agent", ask.clone()).await, in_flight);
    assert_eq!(client.call("agent", message("main", "different", "a1")).await, in_flight);
    let end = client.response(&id).await;
    for part in ["store", "sessions", "sessions/agent:main:main"] {
        let mut again = client.response_to("agent", ask.clone()).await;
        again["id"] = json!(id);
        assert_eq!(again, end);
        client.call("system.actors.restart", json!({ "path": format!("gateway/{part}") })).await;
    }
    assert_eq!(history(&mut client, "main").await.len(), 2);
}

/// accepts: G10, I7
#[tokio::test]
async fn a_failed_run_says_why_and_says_it_again() {
    let gateway = Embedded::with(json!({ "agents": { "defaults": { "model": "zzz/qq" } } })).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    say(&mut client, "main", "hello", "k1").await;
    let end = client.chat_end("k1").await;
    assert_eq!(end["state"], "error");
    let why = end["errorMessage"].as_str().unwrap();
    assert!(why.starts_with("Unknown model: zzz/qq"), "{why}");
    settled(&mut client, "k1").await;
    let again = client.response_to("chat.send", message("main", "hello", "k1")).await;
    assert_eq!(again["ok"], false);
    assert_eq!(again["payload"], json!({ "runId": "k1", "status": "error", "summary": why }));
    assert_eq!(again["error"], json!({ "code": "UNAVAILABLE", "message": why }));
    is_conflict(&client.refused("chat.send", message("main", "different", "k1")).await);
    let row = client.call("sessions.describe", json!({ "key": "main" })).await["session"].clone();
    assert_eq!((&row["status"], &row["hasActiveRun"]), (&json!("failed"), &json!(false)));
    let waited = client.call("agent.wait", json!({ "runId": "k1" })).await;
    assert_eq!((&waited["status"], &waited["error"]), (&json!("error"), &json!(why)));
    let rows = history(&mut client, "main").await;
    assert_eq!((&rows[1]["role"], &rows[1]["stopReason"]), (&json!("assistant"), &json!("error")));
}

/// accepts: G10
#[tokio::test]
async fn a_key_that_was_used_elsewhere_is_a_conflict() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", "hello", "k1").await;
    client.chat_end("k1").await;
    is_conflict(&client.refused("chat.send", message("side", "hello", "k1")).await);
}

/// accepts: B10, G9
#[tokio::test]
async fn what_cannot_be_run_is_refused_clearly() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let mut attached = message("main", "look", "k");
    attached["attachments"] = json!([{ "type": "image", "fileName": "bad.png", "content": "@@@" }]);
    let by_id = json!({ "agentId": "ghost", "message": "x", "idempotencyKey": "k" });
    for (method, params, says) in [
        ("chat.send", message("main", "", "k"), "message or attachment required"),
        ("chat.send", message("main", " \n", "k"), "message or attachment required"),
        ("chat.send", attached.clone(), "Error: attachment bad.png: invalid base64 content"),
        ("agent", attached, "Error: attachment bad.png: invalid base64 content"),
        (
            "chat.send",
            message("agent:ghost:main", "x", "k"),
            "Agent \"ghost\" no longer exists in configuration",
        ),
        ("agent", message("agent:ghost:main", "x", "k"), "Agent \"ghost\" no longer exists in configuration"),
        ("agent", by_id, "invalid agent params: unknown agent id \"ghost\""),
        ("chat.send", message("agent:main:", "x", "k"), "malformed session key: agent:main:"),
        ("chat.send", message(" ", "x", "k"), "session key must not be blank"),
    ] {
        let error = client.refused(method, params).await;
        assert_eq!((&error["code"], error.get("retryable")), (&json!("INVALID_REQUEST"), None));
        assert!(error["message"].as_str().unwrap().starts_with(says), "{error}");
    }
    // Nothing of it left a trace, and the key is still free.
    assert_eq!(client.call("sessions.list", json!({})).await["count"], 0);
    say(&mut client, "main", "now it is said", "k").await;
}
