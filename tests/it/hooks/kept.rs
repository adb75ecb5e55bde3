//! What was admitted survives `kill -9`.

use super::{SECRET, post, post_with};
use crate::client::Client;
use crate::gateway::Process;
use serde_json::json;

/// accepts: D10, C4
#[tokio::test]
async fn a_key_names_the_same_run_after_a_kill_and_it_is_done_once() {
    let state = tempfile::tempdir().unwrap();
    let config = json!({ "hooks": { "enabled": true, "token": SECRET } });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let key = "Idempotency-Key: once\r\n";
    let body = json!({ "message": "word ".repeat(100), "name": "Kept" });
    let (status, first) = post_with(gateway.addr, "/hooks/agent", key, body.clone()).await;
    assert_eq!(status, 200, "{first}");
    client.event(|e| e["event"] == "agent" && e["payload"]["stream"] == "assistant").await;
    let told = json!({ "text": "the bell rings", "mode": "next-heartbeat" });
    assert_eq!(post(gateway.addr, "/hooks/wake", told.clone()).await.1["eventOutcome"], "queued");
    gateway.kill();

    let gateway = Process::start(state.path()).await;
    assert_eq!(
        post(gateway.addr, "/hooks/wake", told).await.1["eventOutcome"],
        "coalesced",
        "it waits still"
    );
    let mut waiting = body.clone();
    waiting["waitForCompletion"] = json!(true);
    let (_, again) = post_with(gateway.addr, "/hooks/agent", key, waiting).await;
    assert_eq!((&again["runId"], &again["completion"]["status"]), (&first["runId"], &json!("ok")), "{again}");
    let mut client = Client::admin(gateway.addr).await;
    let session = format!("agent:main:hook:run:{}", first["runId"].as_str().unwrap());
    let rows = crate::channels::rows(&mut client, &session).await;
    let roles: Vec<&str> = rows.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant"]);
    let other = json!({ "message": "something else" });
    assert_ne!(post_with(gateway.addr, "/hooks/agent", key, other).await.1["runId"], first["runId"]);
}

/// accepts: D10
#[tokio::test]
async fn what_is_told_now_is_told_by_whoever_comes_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    let config = json!({ "hooks": { "enabled": true, "token": SECRET },
        "agents": { "defaults": { "heartbeat": { "every": "0m" } } } });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    // Nobody is there to be told that it is urgent.
    client.call("system.actors.park", json!({ "path": "gateway/scheduler" })).await;
    assert_eq!(post(gateway.addr, "/hooks/wake", json!({ "text": "fire" })).await.0, 200);
    gateway.kill();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    for _ in 0..500 {
        let rows = crate::channels::rows(&mut client, "main").await;
        if rows.first().is_some_and(|(_, asked)| asked.contains("System event: fire")) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is told to nobody");
}
