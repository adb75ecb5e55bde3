//! Slash commands: what they answer, what they change, and that they are done at once and once only.

use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};

fn message(text: &str, run: &str) -> Value {
    json!({ "sessionKey": "main", "message": text, "idempotencyKey": run })
}

fn text(row: &Value) -> &str {
    row["content"].as_str().or(row["content"][0]["text"].as_str()).unwrap()
}

/// Gives a command; returns what it answers.
async fn typed(client: &mut Client, text_: &str, run: &str) -> String {
    let ack = client.call("chat.send", message(text_, run)).await;
    assert_eq!(ack, json!({ "runId": run, "status": "started" }));
    let end = client.chat_end(run).await;
    assert_eq!((&end["seq"], &end["state"]), (&json!(1), &json!("final")));
    assert!(end.get("agentId").is_none() && end.get("stopReason").is_none(), "{end}");
    text(&end["message"]).to_owned()
}

async fn rows(client: &mut Client) -> Vec<Value> {
    let page = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    page["messages"].as_array().unwrap().clone()
}

async fn session(client: &mut Client) -> Value {
    client.call("sessions.describe", json!({ "key": "main" })).await["session"].clone()
}

async fn subscribed(gateway: &Embedded) -> Client {
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    client
}

async fn answering(client: &mut Client, run: &str) {
    client.call("chat.send", message(&"w ".repeat(400), run)).await;
    client.event(|e| e["payload"]["runId"] == run && e["payload"]["state"] == "delta").await;
}

/// accepts: C7, G4
#[tokio::test]
async fn settings_are_shown_and_changed_by_the_recorded_words() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(&gateway).await;
    let said = [
        ("/model", "Current: crabtree/offline"),
        (
            "/model crabtree/offline",
            "Model set to crabtree/offline for this session only; configured default unchanged.",
        ),
        ("/model zzz/qq", "There is no model “zzz/qq”."),
        (
            "/queue",
            "Current queue settings: mode=steer, debounce=500ms, cap=20, drop=summarize.\nOptions: modes steer, followup, collect, interrupt; debounce:<ms|s|m>, cap:<n>, drop:old|new|summarize.",
        ),
        ("/queue collect", "⚙️ Queue mode set to collect."),
        ("/queue debounce:2s cap:5", "⚙️ Queue debounce set to 2000ms. Queue cap set to 5."),
        ("/queue", "Current queue settings: mode=collect, debounce=2000ms, cap=5, drop=summarize."),
        ("/queue later", "“later” is no queue setting. Nothing was changed."),
        ("/think", "Current thinking level: off.\nOptions: default, off."),
        ("/think off", "Thinking level set to off."),
        ("/think high", "There is no thinking level of crabtree/offline “high”."),
        ("/verbose on", "⚙️ Verbose logging enabled."),
        ("/v", "Current verbose level: on.\nOptions: on, off, full."),
        ("/usage tokens", "⚙️ Usage told with answers: tokens."),
        ("/usage", "Tokens: 0 in, 0 out"),
        ("/activation", "Current group activation: mention.\nOptions: mention, always."),
        ("/activation always", "⚙️ Group activation set to always."),
    ];
    for (n, (command, answer)) in said.iter().enumerate() {
        let told = typed(&mut client, command, &format!("c{n}")).await;
        assert!(told.starts_with(answer), "{command}: {told}");
    }
    let row = session(&mut client).await;
    let known = [
        "modelOverrideSource",
        "effectiveQueueMode",
        "thinkingLevel",
        "verboseLevel",
        "effectiveResponseUsage",
    ];
    assert_eq!(known.map(|name| row[name].as_str().unwrap()), ["user", "collect", "off", "on", "tokens"]);
    let patches = client.events.iter().filter(|e| e["payload"]["reason"] == "patch").count();
    assert_eq!(patches, 7, "one for each change");
    assert_eq!(typed(&mut client, "/queue default", "d1").await, "⚙️ Queue settings reset to the defaults.");
    assert_eq!(session(&mut client).await["effectiveQueueMode"], "steer");
    // All of it stands in the transcript, and no model reads it.
    let rows = rows(&mut client).await;
    assert_eq!(rows.len(), 2 * (said.len() + 1));
    assert!(rows.iter().all(|row| row["excludeFromContext"] == true));
    client.call("chat.send", message("hello", "k1")).await;
    assert!(text(&client.chat_end("k1").await["message"]).contains("(turn 1): hello"));
}

/// accepts: G4
#[tokio::test]
async fn a_session_is_named() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(&gateway).await;
    assert!(typed(&mut client, "/name", "c1").await.starts_with("This session has no name."));
    assert_eq!(typed(&mut client, "/name  My  own ", "c2").await, "Session renamed to “My  own”.");
    let told = client.event(|e| e["payload"]["reason"] == "patch").await["payload"].clone();
    assert_eq!(told["label"], "My  own");
    assert_eq!(session(&mut client).await["label"], "My  own");
    assert!(typed(&mut client, "/name", "c3").await.starts_with("Current name: “My  own”."));
    // A name belongs to one session of an agent; its own it may be given again.
    assert_eq!(typed(&mut client, "/name My  own", "c4").await, "Session renamed to “My  own”.");
    let other = json!({ "sessionKey": "other", "message": "/name My  own", "idempotencyKey": "o1" });
    client.call("chat.send", other).await;
    let end = client.chat_end("o1").await;
    assert_eq!(text(&end["message"]), "Another session is called “My  own”. Nothing was changed.");
}

/// accepts: G4
#[tokio::test]
async fn views_are_answered_at_once_also_while_a_turn_runs() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(&gateway).await;
    answering(&mut client, "k1").await;
    let help = typed(&mut client, "/help", "c1").await;
    let listed = client.call("commands.list", json!({ "includeArgs": false })).await;
    for command in listed["commands"].as_array().unwrap() {
        assert!(help.contains(command["textAliases"][0].as_str().unwrap()), "{help}");
        assert_eq!(command.get("args"), None);
    }
    assert!(typed(&mut client, "/status", "c2").await.contains("answering for"));
    let tree = typed(&mut client, "/tree", "c3").await;
    assert!(
        tree.starts_with("gateway: running\n")
            && tree.contains("\n  sessions: running\n    agent:main:main: running"),
        "{tree}"
    );
    assert!(tree.lines().count() < 100, "{tree}");
    let who = typed(&mut client, "/id", "c4").await;
    assert!(
        who.contains("cli (cli)") && who.contains("operator.admin") && who.contains("Role: operator"),
        "{who}"
    );
    assert!(typed(&mut client, "/sessions", "c5").await.contains("agent:main:main"));
    assert!(typed(&mut client, "/compact", "c6").await.contains("is answering"));
    // Whoever waits for a command hears its end, however late.
    for _ in 0..2 {
        let waited = client.call("agent.wait", json!({ "runId": "c2", "timeoutMs": 0 })).await;
        assert_eq!((&waited["status"], waited["endedAt"].is_u64()), (&json!("ok"), true), "{waited}");
    }
    // Nothing of it touched the turn.
    assert!(!client.events.iter().any(|e| crate::client::is_chat_end(e, "k1")));
    let stopped = client.call("chat.send", message("/stop", "c7")).await;
    assert_eq!(stopped, json!({ "ok": true, "aborted": true, "runIds": ["k1"] }));
    let texts = rows(&mut client).await.iter().map(|row| text(row).to_owned()).collect::<Vec<_>>();
    assert!(
        texts.iter().any(|text| text == "/tree") && !texts.iter().any(|text| text == "/stop"),
        "{texts:?}"
    );
}

/// accepts: C4, G4
#[tokio::test]
async fn a_session_begins_anew_in_its_place_once() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(&gateway).await;
    client.call("chat.send", message("hello", "k1")).await;
    client.chat_end("k1").await;
    let before = session(&mut client).await;
    assert_eq!(typed(&mut client, "/new", "n1").await, "✅ New session started.");
    let end = client.chat_end("n1").await;
    assert_eq!(end["message"]["content"][0]["openclawStatusNotice"], true);
    let told = client.event(|e| e["payload"]["reason"] == "new").await["payload"].clone();
    assert_eq!((&told["sessionId"], told.get("status")), (&before["sessionId"], None), "{told}");
    let now = rows(&mut client).await;
    assert_eq!(now.iter().map(text).collect::<Vec<_>>(), ["Reset", "/new", "✅ New session started."]);
    assert_eq!((&now[0]["role"], &now[0]["__openclaw"]["kind"]), (&json!("system"), &json!("reset")));
    assert_eq!(now[2]["__openclaw"]["seq"], 3);
    assert_eq!(now[2]["content"][0].get("openclawStatusNotice"), None);

    answering(&mut client, "k2").await;
    assert_eq!(typed(&mut client, "/reset", "r1").await, "✅ Session reset.");
    let end = client.chat_end("k2").await;
    assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("restart")));
    client.event(|e| e["payload"]["reason"] == "reset").await;
    assert_eq!(rows(&mut client).await.len(), 3);

    // With a message, which is answered in the new conversation.
    let first = message("/new what now", "n2");
    assert_eq!(client.call("chat.send", first.clone()).await["status"], "started");
    let end = client.chat_end("n2").await;
    assert!(text(&end["message"]).contains("(turn 1): what now"), "{end}");
    client.event(|e| e["payload"]["runId"] == "n2" && e["payload"]["phase"] == "end").await;
    let texts = rows(&mut client).await;
    assert_eq!(texts.iter().map(text).collect::<Vec<_>>()[..2], ["Reset", "what now"]);
    // Said again, nothing is done again.
    for again in [first, message("/reset", "r1"), message("/new", "n1")] {
        let run = again["idempotencyKey"].clone();
        assert_eq!(client.call("chat.send", again).await, json!({ "runId": run, "status": "ok" }));
    }
    assert_eq!(rows(&mut client).await, texts);
    let error = client.refused("chat.send", message("/help", "n2")).await;
    assert_eq!(error["details"], json!({ "reason": "chat-request-conflict" }));
}

/// accepts: G4
#[tokio::test]
async fn a_slash_may_be_only_text_and_a_phrase_may_be_a_command() {
    let gateway = Embedded::with(json!({ "session": { "resetTriggers": ["fresh start"] } })).await;
    let mut client = subscribed(&gateway).await;
    let mut plain = message("/help", "t1");
    plain["suppressCommandInterpretation"] = json!(true);
    for (said, run) in
        [(plain, "t1"), (message("/bogus", "t2"), "t2"), (message("/status of it", "t3"), "t3")]
    {
        client.call("chat.send", said.clone()).await;
        let end = client.chat_end(run).await;
        assert!(text(&end["message"]).ends_with(said["message"].as_str().unwrap()), "{end}");
        client.event(|e| e["payload"]["runId"] == run && e["payload"]["phase"] == "end").await;
    }
    assert_eq!(typed(&mut client, "Fresh start", "n1").await, "✅ New session started.");
    assert_eq!(rows(&mut client).await.len(), 3);
}

/// accepts: C4, G4
#[tokio::test]
async fn a_summary_is_asked_for_with_a_wish() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(&gateway).await;
    assert!(typed(&mut client, "/compact", "c1").await.starts_with("⚙️ Not compacted: nothing to compact"));
    for n in 1..=3 {
        let run = format!("k{n}");
        client.call("chat.send", message("question", &run)).await;
        client.event(|e| e["payload"]["runId"] == *run && e["payload"]["phase"] == "end").await;
    }
    let told = typed(&mut client, "/compact keep the names", "c2").await;
    assert!(told.starts_with("⚙️ Compacted") && told.contains("keep the names"), "{told}");
    client.call("chat.send", message("go on", "k4")).await;
    // Summary, two turns, the question.
    assert!(text(&client.chat_end("k4").await["message"]).contains("(turn 3): go on"));
}
