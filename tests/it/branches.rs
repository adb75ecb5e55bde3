//! The ways a session goes: forks, rewinds, branches, compactions; what is put into it, and who else is there.

use crate::client::Client;
use crate::gateway::{Embedded, Process};
use crabtree_protocol::params::events::{SessionOperationEvent, SessionTypingEvent};
use crabtree_protocol::schema::outbound;
use serde_json::{Value, json};

const MAIN: &str = "agent:main:main";

/// One turn in the main session.
async fn turn(client: &mut Client, text: &str, run: &str) {
    let said = json!({ "sessionKey": "main", "message": text, "idempotencyKey": run });
    assert_eq!(client.call("chat.send", said).await["status"], "started");
    client.chat_end(run).await;
    idle(client, run).await;
}

/// Until the run is settled for everybody.
async fn idle(client: &mut Client, run: &str) {
    client
        .event(|e| {
            let p = &e["payload"];
            e["event"] == "sessions.changed"
                && p["runId"] == run
                && (p["phase"] == "end" || p["phase"] == "error")
        })
        .await;
}

async fn page(client: &mut Client, key: &str) -> Value {
    client.call("chat.history", json!({ "sessionKey": key })).await
}

async fn rows(client: &mut Client, key: &str) -> Vec<Value> {
    page(client, key).await["messages"].as_array().unwrap().clone()
}

fn id(row: &Value) -> &str {
    row["__openclaw"]["id"].as_str().unwrap()
}

fn text(row: &Value) -> &str {
    row["content"].as_str().or(row["content"][0]["text"].as_str()).unwrap()
}

async fn describe(client: &mut Client, key: &str) -> Value {
    client.call("sessions.describe", json!({ "key": key })).await["session"].clone()
}

fn changed(key: &str, reason: &'static str) -> impl Fn(&Value) -> bool {
    let key = key.to_owned();
    move |e| {
        e["event"] == "sessions.changed"
            && e["payload"]["sessionKey"] == key
            && e["payload"]["reason"] == reason
    }
}

async fn branches(client: &mut Client) -> Vec<Value> {
    let listed = client.call("sessions.branches.list", json!({ "sessionKey": "main" })).await;
    listed["branches"].as_array().unwrap().clone()
}

async fn subscribed(addr: std::net::SocketAddr) -> Client {
    let mut client = Client::admin(addr).await;
    client.call("sessions.subscribe", json!({})).await;
    client
}

/// accepts: G4, I13
#[tokio::test]
async fn a_fork_begins_with_what_was_said_before_a_message() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(gateway.addr).await;
    turn(&mut client, "first", "k1").await;
    turn(&mut client, "second", "k2").await;
    let before = rows(&mut client, "main").await;
    let entry = id(&before[2]);
    let at = |id: &str| json!({ "sessionKey": "main", "entryId": id });
    let forked = client.call("sessions.fork", at(entry)).await;
    assert_eq!(forked["editorText"], "second");
    let key = forked["sessionKey"].as_str().unwrap();
    assert!(key.starts_with("agent:main:dashboard:"), "{key}");
    let copied = rows(&mut client, key).await;
    assert_eq!(copied.iter().map(id).collect::<Vec<_>>(), [id(&before[0]), id(&before[1])]);
    let told = client.event(changed(key, "fork")).await["payload"]["session"].clone();
    let source = json!({
        "sessionKey": MAIN, "sessionId": describe(&mut client, "main").await["sessionId"], "entryId": entry,
    });
    assert_eq!(
        (&told["forkSource"], &told["forkedFromParent"], &told["parentSessionKey"]),
        (&source, &json!(true), &json!(MAIN))
    );
    // The fork goes its own way.
    client.call("chat.send", json!({ "sessionKey": key, "message": "third", "idempotencyKey": "k3" })).await;
    let end = client.chat_end("k3").await;
    assert!(text(&end["message"]).contains("(turn 2): third"), "{end}");
    assert_eq!(rows(&mut client, "main").await, before);

    let error = client.refused("sessions.fork", at(id(&before[1]))).await;
    assert_eq!(error["message"], format!("entry is not a user message: {}", id(&before[1])));
    for method in ["sessions.fork", "sessions.rewind"] {
        let error = client.refused(method, at("nope")).await;
        assert_eq!(error["message"], "message entry not found: nope");
    }
}

/// accepts: C4, G4, G10
#[tokio::test]
async fn a_rewind_leaves_a_branch_to_go_back_to_also_after_a_crash() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = subscribed(gateway.addr).await;
    turn(&mut client, "first", "k1").await;
    turn(&mut client, "second", "k2").await;
    let before = page(&mut client, "main").await;
    let old = before["messages"].as_array().unwrap().clone();
    assert_eq!(before["sessionInfo"]["activeLeafEntryId"], id(&old[3]));
    let at = json!({ "sessionKey": "main", "entryId": id(&old[2]) });
    assert_eq!(client.call("sessions.rewind", at).await, json!({ "editorText": "second" }));
    let row = client.event(changed(MAIN, "rewind")).await["payload"].clone();
    assert_eq!((&row["previousSessionId"], row.get("status")), (&before["sessionId"], None), "{row}");
    assert_ne!(row["sessionId"], before["sessionId"]);
    let now = rows(&mut client, "main").await;
    assert_eq!(now.iter().map(id).collect::<Vec<_>>(), [id(&old[0]), id(&old[1])]);
    turn(&mut client, "instead", "k3").await;

    gateway.kill();
    let gateway = Process::start(state.path()).await;
    let mut client = subscribed(gateway.addr).await;
    let now = rows(&mut client, "main").await;
    assert_eq!(now.iter().map(text).collect::<Vec<_>>()[2], "instead");
    let listed = branches(&mut client).await;
    let shown: Vec<_> =
        listed.iter().map(|b| (&b["leafEntryId"], &b["messageCount"], &b["active"])).collect();
    let (new_leaf, old_leaf) = (json!(id(&now[3])), json!(id(&old[3])));
    assert_eq!(shown, [(&new_leaf, &json!(4), &json!(true)), (&old_leaf, &json!(4), &json!(false))]);
    assert!(listed.iter().all(|b| b["updatedAt"].as_str().unwrap().ends_with('Z') && b["headline"] != ""));

    // Who still looks at the old branch is not taken for somebody who means the new one.
    let late = json!({
        "sessionKey": "main", "message": "late", "idempotencyKey": "k4", "expectedLeafEntryId": old_leaf,
    });
    let error = client.refused("chat.send", late.clone()).await;
    assert_eq!(error["details"], json!({ "reason": "active-leaf-changed" }), "{error}");
    let switch = |leaf: &Value| json!({ "sessionKey": "main", "leafEntryId": leaf });
    assert_eq!(client.call("sessions.branches.switch", switch(&old_leaf)).await, json!({}));
    let row = client.event(changed(MAIN, "switch")).await["payload"]["session"].clone();
    assert_eq!(row["sessionId"], before["sessionId"]);
    assert_eq!(
        rows(&mut client, "main").await.iter().map(id).collect::<Vec<_>>(),
        old.iter().map(id).collect::<Vec<_>>()
    );
    assert_eq!(client.call("chat.send", late).await["status"], "started");
    let end = client.chat_end("k4").await;
    assert!(text(&end["message"]).contains("(turn 3): late"), "{end}");
    idle(&mut client, "k4").await;
    assert_eq!(branches(&mut client).await[0]["messageCount"], 6);
    // The active branch stays active; one that is not there is refused.
    let leaf = branches(&mut client).await[0]["leafEntryId"].clone();
    assert_eq!(client.call("sessions.branches.switch", switch(&leaf)).await, json!({}));
    let error = client.refused("sessions.branches.switch", switch(&json!("nope"))).await;
    assert!(error["message"].as_str().unwrap().starts_with("no branch ends in nope"), "{error}");
}

/// accepts: C4
#[tokio::test]
async fn a_rewind_stops_what_runs_and_may_leave_nothing() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(gateway.addr).await;
    let said = json!({ "sessionKey": "main", "message": "w ".repeat(400), "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["runId"] == "k1" && e["payload"]["state"] == "delta").await;
    let asked = rows(&mut client, "main").await;
    let at = json!({ "sessionKey": "main", "entryId": id(&asked[0]) });
    client.call("sessions.rewind", at).await;
    let end = client.chat_end("k1").await;
    assert_eq!((&end["state"], &end["stopReason"]), (&json!("aborted"), &json!("restart")));
    let now = page(&mut client, "main").await;
    assert_eq!((&now["messages"], &now["sessionInfo"]["activeLeafEntryId"]), (&json!([]), &Value::Null));
    // What it had said stays in the branch.
    let left = branches(&mut client).await;
    assert_eq!((left.len(), &left[0]["messageCount"], &left[0]["active"]), (1, &json!(2), &json!(false)));
    turn(&mut client, "again", "k2").await;
    assert_eq!(rows(&mut client, "main").await.len(), 2);
}

/// accepts: C4, G4
#[tokio::test]
async fn a_summary_takes_the_place_of_older_turns() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(gateway.addr).await;
    let compact = || json!({ "key": "main" });
    let empty = client.call("sessions.compact", compact()).await;
    assert_eq!((&empty["ok"], &empty["compacted"]), (&json!(true), &json!(false)), "{empty}");
    for n in 1..=4 {
        turn(&mut client, &format!("question {n}"), &format!("k{n}")).await;
    }
    let before = rows(&mut client, "main").await;
    let done = client.call("sessions.compact", compact()).await;
    assert_eq!((&done["ok"], &done["key"], &done["compacted"]), (&json!(true), &json!(MAIN), &json!(true)));
    let result = &done["result"];
    assert_eq!(result["firstKeptEntryId"], id(&before[4]), "the last two turns stay");
    assert!(result["tokensBefore"].as_u64().unwrap() > 0);
    let summary = result["summary"].as_str().unwrap();
    assert!(
        summary.contains("it heard you (turn 3)"),
        "the model was shown two turns and its task: {summary}"
    );
    let told: Vec<Value> =
        client.events.iter().filter(|e| e["event"] == "session.operation").cloned().collect();
    let validator = jsonschema::validator_for(&outbound::<SessionOperationEvent>()).unwrap();
    let phases: Vec<_> =
        told.iter().map(|e| (&e["payload"]["phase"], e["payload"].get("completed"))).collect();
    assert_eq!(phases, [(&json!("start"), None), (&json!("end"), Some(&json!(true)))]);
    assert!(told.iter().all(|e| validator.is_valid(&e["payload"])), "{told:?}");
    assert_eq!(told[0]["payload"]["operationId"], told[1]["payload"]["operationId"]);
    assert_eq!(client.event(changed(MAIN, "compact")).await["payload"]["compacted"], true);
    // The transcript is as it was, and the model reads: summary, two turns, the question.
    assert_eq!(rows(&mut client, "main").await, before);
    client
        .call("chat.send", json!({ "sessionKey": "main", "message": "go on", "idempotencyKey": "k5" }))
        .await;
    let end = client.chat_end("k5").await;
    assert!(text(&end["message"]).contains("(turn 3): go on"), "{end}");
    idle(&mut client, "k5").await;

    // Not while it answers.
    let said = json!({ "sessionKey": "main", "message": "w ".repeat(200), "idempotencyKey": "k6" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["runId"] == "k6" && e["payload"]["state"] == "delta").await;
    let error = client.refused("sessions.compact", compact()).await;
    assert!(error["message"].as_str().unwrap().contains("is answering"), "{error}");
    client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    idle(&mut client, "k6").await;

    // Or only the last rows are kept.
    let all = rows(&mut client, "main").await;
    let kept = client.call("sessions.compact", json!({ "key": "main", "maxLines": 3 })).await;
    assert_eq!(kept, json!({ "ok": true, "key": MAIN, "compacted": true, "kept": 3 }));
    let last: Vec<_> = all[all.len() - 3..].iter().map(id).collect();
    assert_eq!(rows(&mut client, "main").await.iter().map(id).collect::<Vec<_>>(), last);
    let kept = client.call("sessions.compact", json!({ "key": "main", "maxLines": 3 })).await;
    assert_eq!(kept, json!({ "ok": true, "key": MAIN, "compacted": false, "kept": 3 }));
}

/// accepts: G4
#[tokio::test]
async fn an_answer_is_put_in_that_no_model_gave() {
    let gateway = Embedded::start().await;
    let mut client = subscribed(gateway.addr).await;
    let note = |key: &str| json!({ "sessionKey": key, "message": "injected note", "label": "probe" });
    let error = client.refused("chat.inject", note("nowhere")).await;
    assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": "session not found" }));
    turn(&mut client, "hello", "k1").await;
    let done = client.call("chat.inject", note("main")).await;
    let message_id = done["messageId"].as_str().unwrap();
    assert_eq!(done["ok"], true);
    let end = client.chat_end(&format!("inject-{message_id}")).await;
    assert_eq!((&end["seq"], &end["state"], &end["agentId"]), (&json!(0), &json!("final"), &json!("main")));
    assert_eq!(text(&end["message"]), "[probe]\n\ninjected note");
    let told =
        client.event(|e| e["event"] == "session.message" && e["payload"]["messageId"] == message_id).await;
    let last = rows(&mut client, "main").await.pop().unwrap();
    assert_eq!((id(&last), &last), (message_id, &told["payload"]["message"]));
    // The model reads it.
    client
        .call("chat.send", json!({ "sessionKey": "main", "message": "and?", "idempotencyKey": "k2" }))
        .await;
    let end = client.chat_end("k2").await;
    assert!(text(&end["message"]).contains("(turn 2): and?"), "{end}");
}

/// accepts: G4
#[tokio::test]
async fn the_others_are_told_who_writes() {
    let gateway = Embedded::start().await;
    let mut writer = subscribed(gateway.addr).await;
    turn(&mut writer, "hello", "k1").await;
    let session_id = describe(&mut writer, "main").await["sessionId"].clone();
    let typing =
        |id: &Value| json!({ "sessionKey": "main", "sessionId": id, "typing": true, "preview": " he " });
    let alone = json!({ "ok": true, "broadcast": false });
    writer.call("sessions.messages.subscribe", json!({ "key": "main" })).await;
    assert_eq!(writer.call("session.typing", typing(&session_id)).await, alone);
    let mut other = Client::admin(gateway.addr).await;
    other.call("sessions.messages.subscribe", json!({ "key": "main" })).await;
    assert_eq!(writer.call("session.typing", typing(&json!("another"))).await, alone);
    let told = writer.call("session.typing", typing(&session_id)).await;
    assert_eq!(told, json!({ "ok": true, "broadcast": true }));
    let is_typing = |e: &Value| e["event"] == "session.typing";
    let heard = other.event(is_typing).await["payload"].clone();
    assert!(
        jsonschema::validator_for(&outbound::<SessionTypingEvent>()).unwrap().is_valid(&heard),
        "{heard}"
    );
    assert_eq!(
        (&heard["sessionKey"], &heard["preview"], &heard["typing"]),
        (&json!(MAIN), &json!("he"), &json!(true))
    );
    assert_eq!((&heard["actor"]["type"], &heard["actor"]["id"]), (&json!("human"), &json!("cli")));
    writer.call("health", json!({})).await;
    assert!(!writer.events.iter().any(is_typing), "not to the one who writes");
    let error = writer
        .refused("session.typing", json!({ "sessionKey": "none", "sessionId": "x", "typing": false }))
        .await;
    assert_eq!(error["message"], "session not found: agent:main:none");

    let seen = writer.call("sessions.viewers.set", json!({ "sessionKeys": ["main", "agent:main:x"] })).await;
    assert_eq!(seen, json!({ "sessionKeys": [MAIN, "agent:main:x"] }));
    let none = writer.call("sessions.viewers.set", json!({ "sessionKeys": [] })).await;
    assert_eq!(none, json!({ "sessionKeys": [] }));
    assert_eq!(
        writer.call("sessions.observer.visibility", json!({ "visible": false })).await,
        json!({ "ok": true })
    );
}
