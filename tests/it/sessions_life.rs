//! The life of a session: created, spoken to, changed, begun anew, deleted; what is told of it, and what survives.

mod changes;
mod ends;

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crabtree_actors::settings::{AuthSecret, Secret};
use serde_json::{Value, json};

/// A message whose answer takes 20 ms a word, and 20 words more.
fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
}

async fn restarted(gateway: Embedded) -> Embedded {
    gateway.restarted(AuthSecret::Token(Secret::new(TOKEN))).await
}

/// A turn that has come to its end.
async fn turn(client: &mut Client, key: &str, run: &str) {
    let said = json!({ "sessionKey": key, "message": run, "idempotencyKey": run });
    client.call("chat.send", said).await;
    assert_eq!(client.chat_end(run).await["state"], "final");
}

/// A turn that has begun to answer and will for a while.
async fn long_turn(client: &mut Client, key: &str, run: &str) {
    let said = json!({ "sessionKey": key, "message": words(400), "idempotencyKey": run });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["runId"] == run && e["payload"]["state"] == "delta").await;
}

/// The session's row; null if there is none.
async fn row(client: &mut Client, key: &str) -> Value {
    client.call("sessions.describe", json!({ "key": key })).await["session"].clone()
}

async fn history(client: &mut Client, key: &str) -> Vec<Value> {
    let page = client.call("chat.history", json!({ "sessionKey": key })).await;
    page["messages"].as_array().unwrap().clone()
}

fn reasons(client: &Client, key: &str) -> Vec<String> {
    let of_key = |e: &&Value| e["event"] == "sessions.changed" && e["payload"]["sessionKey"] == key;
    let reason = |e: &Value| e["payload"]["reason"].as_str().map(str::to_owned);
    client.events.iter().filter(of_key).filter_map(reason).collect()
}

/// accepts: A9
#[tokio::test]
async fn a_session_is_created_with_what_is_asked_for() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let plain = client.call("sessions.create", json!({})).await;
    let key = plain["key"].as_str().unwrap();
    assert!(key.starts_with("agent:main:dashboard:"), "{key}");
    assert_eq!((&plain["ok"], &plain["runStarted"]), (&json!(true), &json!(false)));
    assert_eq!(plain["resolved"], json!({ "modelProvider": "crabtree", "model": "offline" }));
    let entry = &plain["entry"];
    assert_eq!(entry["sessionId"], plain["sessionId"]);
    for (name, value) in [
        ("createdVia", json!("operator")),
        ("spawnDepth", json!(0)),
        ("delivery", json!({ "kind": "none" })),
        ("modelOverrideSource", json!("default")),
        ("parentSessionKey", json!("agent:main:main")),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    assert!(entry["lifecycleRevision"].as_str().unwrap().len() == 36 && entry["createdAt"].is_u64());
    assert_eq!(reasons(&client, key), ["create"]);

    let asked = json!({
        "agentId": "main", "label": "My label", "category": "grp1", "displayName": "A title",
        "model": "crabtree/offline", "thinkingLevel": "off",
    });
    let made = client.call("sessions.create", asked).await;
    let entry = &made["entry"];
    for (name, value) in [
        ("label", "My label"),
        ("category", "grp1"),
        ("displayName", "A title"),
        ("thinkingLevel", "off"),
        ("providerOverride", "crabtree"),
        ("modelOverride", "offline"),
        ("modelOverrideSource", "user"),
        ("modelOverrideRouteResolution", "resolved"),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    let shown = row(&mut client, made["key"].as_str().unwrap()).await;
    assert_eq!((&shown["label"], &shown["modelOverrideSource"]), (&json!("My label"), &json!("user")));

    // Under a key that exists nothing is created; a bare key belongs to the default agent.
    let first = client.call("sessions.create", json!({ "key": "mine" })).await;
    let again = client.call("sessions.create", json!({ "key": "agent:main:mine" })).await;
    assert_eq!((&first["key"], &first["sessionId"]), (&json!("agent:main:mine"), &again["sessionId"]));
    assert_eq!(first["entry"]["lifecycleRevision"], again["entry"]["lifecycleRevision"]);
    let child = json!({ "parentSessionKey": "agent:main:mine", "spawnDepth": 1 });
    let child = client.call("sessions.create", child).await;
    assert_eq!(child["entry"]["parentSessionId"], first["sessionId"]);
    assert_eq!(child["entry"]["spawnedBy"], "agent:main:mine");
    let main = client.call("sessions.create", json!({ "key": "main" })).await;
    assert_eq!(main["entry"].get("parentSessionKey"), None);
}

/// accepts: A9
#[tokio::test]
async fn what_cannot_be_created_is_refused_in_the_recorded_words() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.create", json!({ "label": "taken" })).await;
    let cases = [
        (json!({ "label": "taken" }), "label already in use: taken"),
        (json!({ "model": "nope/none" }), "Unknown provider \"nope\". Use /models to list providers."),
        (json!({ "model": "crabtree/x" }), "Unknown model: crabtree/x. Use /models to list models."),
        (json!({ "agentId": "ghost" }), "Unknown agent id \"ghost\""),
        (
            json!({ "thinkingLevel": "high" }),
            "thinkingLevel \"high\" is not supported for crabtree/offline (use off)",
        ),
        (json!({ "parentSessionKey": "nobody" }), "session not found: agent:main:nobody"),
        (json!({ "fork": true }), "fork requires parentSessionKey"),
        (
            json!({ "worktree": true }),
            "worktree is not supported by this version of the gateway; leave it out",
        ),
        (json!({ "label": "  " }), "label must not be blank"),
    ];
    for (params, message) in cases {
        let error = client.refused("sessions.create", params).await;
        assert_eq!((&error["code"], &error["message"]), (&json!("INVALID_REQUEST"), &json!(message)));
    }
    let list = client.call("sessions.list", json!({})).await;
    assert_eq!(list["count"], 1, "what is refused leaves nothing behind");
}

/// accepts: A9, C4
#[tokio::test]
async fn the_first_message_of_a_new_session_runs_once() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let asked = json!({ "agentId": "main", "message": "hello", "idempotencyKey": "mine" });
    let made = client.call("sessions.create", asked.clone()).await;
    assert_eq!((&made["runStarted"], &made["status"]), (&json!(true), &json!("started")));
    let run = made["runId"].as_str().unwrap().to_owned();
    assert!(run != "mine" && run.len() == 36, "{run}");
    assert_eq!(client.chat_end(&run).await["state"], "final");
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(reasons(&client, &key)[..2], ["create", "send"]);
    let again = client.call("sessions.create", asked).await;
    assert_eq!((&again["key"], &again["runId"], &again["status"]), (&json!(key), &json!(run), &json!("ok")));
    let rows = history(&mut client, &key).await;
    assert_eq!(rows.len(), 2, "{rows:?}");

    // The session is there, although its message was refused.
    let other = json!({ "key": key, "message": "something else", "idempotencyKey": "mine" });
    let refused = client.call("sessions.create", other).await;
    assert_eq!(refused["runStarted"], false);
    assert_eq!(refused["runError"]["details"], json!({ "reason": "chat-request-conflict" }));
}

/// accepts: A9
#[tokio::test]
async fn a_new_session_may_begin_with_what_another_has_said() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    turn(&mut client, "main", "one").await;
    let fork = json!({ "parentSessionKey": "main", "fork": true });
    let forked = client.call("sessions.create", fork).await;
    let key = forked["key"].as_str().unwrap();
    assert_eq!(forked["entry"]["forkedFromParent"], true);
    let texts = |rows: Vec<Value>| rows.iter().map(|row| row["content"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(history(&mut client, key).await), texts(history(&mut client, "main").await));
    long_turn(&mut client, "main", "two").await;
    let fork = json!({ "parentSessionKey": "main", "fork": true, "forkFrom": "last-completed" });
    let forked = client.call("sessions.create", fork).await;
    assert_eq!(history(&mut client, forked["key"].as_str().unwrap()).await.len(), 2);
    turn(&mut client, key, "three").await;
    assert_eq!(history(&mut client, key).await.len(), 4);
    assert_eq!(history(&mut client, "main").await.len(), 3, "the parent goes its own way");
}

/// accepts: A12, A17
#[tokio::test]
async fn sessions_that_exist_are_spoken_to_steered_and_stopped() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    for method in ["sessions.send", "sessions.steer"] {
        let error = client.refused(method, json!({ "key": "nope", "message": "x" })).await;
        let message = "session not found: agent:main:nope";
        assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": message }));
        let command = client.refused(method, json!({ "key": "nope", "message": "/help" })).await;
        assert_eq!(command, error, "nor by a command");
    }
    assert_eq!(row(&mut client, "nope").await, Value::Null);
    client.call("sessions.create", json!({ "key": "s" })).await;
    let ack = client.call("sessions.send", json!({ "key": "s", "message": "hello" })).await;
    assert_eq!(ack["status"], "started");
    client.chat_end(ack["runId"].as_str().unwrap()).await;

    let long = json!({ "key": "s", "message": words(400), "idempotencyKey": "long" });
    let ack = client.call("sessions.send", long).await;
    assert_eq!(ack, json!({ "runId": "long", "status": "started" }));
    client.event(|e| e["payload"]["runId"] == "long" && e["payload"]["state"] == "delta").await;
    let steer = json!({ "key": "s", "message": words(300), "idempotencyKey": "steer" });
    let ack = client.call("sessions.steer", steer).await;
    assert_eq!(ack, json!({ "runId": "steer", "status": "started", "interruptedActiveRun": true }));
    let end = client.chat_end("long").await;
    assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("aborted")));

    client.event(|e| e["payload"]["runId"] == "steer" && e["payload"]["state"] == "delta").await;
    client.call("sessions.create", json!({ "key": "other" })).await;
    let error = client.refused("sessions.abort", json!({ "key": "other", "runId": "steer" })).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let waiting =
        json!({ "sessionKey": "s", "message": "next", "idempotencyKey": "next", "queueMode": "followup" });
    client.call("chat.send", waiting).await;
    let stopped = client.call("sessions.abort", json!({ "runId": "steer" })).await;
    assert_eq!(stopped, json!({ "ok": true, "abortedRunId": "steer", "status": "aborted" }));
    client.event(|e| e["payload"]["reason"] == "abort").await;
    assert_eq!(client.chat_end("steer").await["stopReason"], "rpc");
    // What waited goes on; with clearQueued it goes, too.
    client
        .event(|e| e["payload"]["state"] == "final" && e["payload"]["message"]["role"] == "assistant")
        .await;
    let nothing = json!({ "ok": true, "abortedRunId": null, "status": "no-active-run" });
    for params in [
        json!({ "key": "other" }),
        json!({ "runId": "nope" }),
        json!({ "key": "other", "clearQueued": true }),
    ] {
        assert_eq!(client.call("sessions.abort", params).await, nothing);
    }
    let error = client.refused("sessions.abort", json!({})).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    long_turn(&mut client, "other", "l2").await;
    let waiting =
        json!({ "sessionKey": "other", "message": "next", "idempotencyKey": "n2", "queueMode": "followup" });
    client.call("chat.send", waiting).await;
    let stopped = client.call("sessions.abort", json!({ "key": "other", "clearQueued": true })).await;
    assert_eq!(stopped["abortedRunId"], "l2");
    let page = client.call("chat.history", json!({ "sessionKey": "other" })).await;
    assert_eq!(page["pendingInputs"]["total"], 0);
}
