//! What survives a crash of the actor and of the whole gateway.

use super::{asker, decider, is};
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};

/// accepts: A9, A17
#[tokio::test]
async fn a_crash_of_the_actor_loses_no_request_and_no_decision() {
    let gateway = Embedded::start().await;
    let (mut op, mut obs) = (asker(gateway.addr).await, decider(gateway.addr).await);
    let asked = op.send("exec.approval.request", json!({ "id": "a", "command": "ls" })).await;
    obs.event(is("exec.approval.requested", "a")).await;
    let waits = obs.send("exec.approval.waitDecision", json!({ "id": "a" })).await;
    obs.events.clear();
    op.call("system.chaos", json!({ "path": "gateway/approvals", "fault": "panic" })).await;
    for (client, id) in [(&mut op, &asked), (&mut obs, &waits)] {
        let error = client.response(id).await["error"].clone();
        assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
    }
    // It is told once more, and waited for once more.
    obs.event(is("exec.approval.requested", "a")).await;
    let waits = op.send("exec.approval.waitDecision", json!({ "id": "a" })).await;
    assert_eq!(
        obs.call("exec.approval.resolve", json!({ "id": "a", "decision": "allow-once" })).await,
        json!({ "ok": true })
    );
    assert_eq!(op.response(&waits).await["payload"]["decision"], "allow-once");
    obs.event(is("exec.approval.resolved", "a")).await;
    op.call("system.chaos", json!({ "path": "gateway/approvals", "fault": "panic" })).await;
    let again = json!({ "id": "a", "kind": "exec", "decision": "deny" });
    let mut late = op.response_to("approval.resolve", again.clone()).await;
    if late["ok"] == false {
        // It came while the actor was down.
        assert_eq!(late["error"]["retryable"], true, "{late}");
        let up = |e: &Value| e["payload"]["state"] == "running" && e["payload"]["restarts"] == 2;
        obs.event(|e| e["event"] == "system.actors.changed" && up(e)).await;
        late = op.response_to("approval.resolve", again).await;
    }
    let late = late["payload"].clone();
    assert_eq!((&late["applied"], &late["approval"]["decision"]), (&json!(false), &json!("allow-once")));
}

/// accepts: A9
#[tokio::test]
async fn a_killed_gateway_still_knows_what_people_were_asked() {
    let state = tempfile::tempdir().unwrap();
    let config = json!({ "gateway": { "auth": { "token": crate::client::TOKEN } } });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    let process = Process::start(state.path()).await;
    let (mut op, mut obs) = (asker(process.addr).await, decider(process.addr).await);
    let ask = |id: &str, ms: u64| json!({ "id": id, "command": "ls", "twoPhase": true, "timeoutMs": ms });
    for (id, ms) in [("waits", 600_000), ("late", 1), ("decided", 600_000)] {
        op.call("exec.approval.request", ask(id, ms)).await;
    }
    obs.call("exec.approval.resolve", json!({ "id": "decided", "decision": "deny" })).await;
    let questions = json!([{ "questionId": "q1", "header": "P", "question": "W?", "options": [] }]);
    op.call("question.request", json!({ "id": "q", "questions": questions })).await;
    op.send("exec.approval.waitDecision", json!({ "id": "waits" })).await;
    process.kill();
    op.until_closed().await;
    let process = Process::start(state.path()).await;
    let (mut op, mut obs) = (asker(process.addr).await, decider(process.addr).await);
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    let waits = op.send("exec.approval.waitDecision", json!({ "id": "waits" })).await;
    let ended = op.call("exec.approval.waitDecision", json!({ "id": "late" })).await;
    assert_eq!((&ended["decision"], &ended["terminalReason"]), (&Value::Null, &json!("timeout")));
    assert_eq!(ids(&obs.call("exec.approval.list", json!({})).await), [json!("waits")]);
    let decided = op.call("exec.approval.waitDecision", json!({ "id": "decided" })).await;
    assert_eq!(decided["decision"], "deny");
    assert_eq!(
        op.refused("exec.approval.request", ask("waits", 1)).await["message"],
        "approval id already pending"
    );
    obs.call("exec.approval.resolve", json!({ "id": "waits", "decision": "allow-always" })).await;
    assert_eq!(op.response(&waits).await["payload"]["decision"], "allow-always");
    assert_eq!(ids(&op.call("question.list", json!({})).await["questions"]), [json!("q")]);
    let answer = json!({ "id": "q", "answers": { "answers": { "q1": ["yes"] } } });
    assert_eq!(op.call("question.resolve", answer).await["status"], "answered");
}
