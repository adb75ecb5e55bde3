//! What was acknowledged survives `kill -9`, wherever it strikes.

use crate::client::Client;
use crate::gateway::Process;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Enough words for a turn that is certainly still running when the process is killed.
const LONG: usize = 200;

async fn history(addr: SocketAddr) -> Vec<Value> {
    let mut client = Client::admin(addr).await;
    let page = client.call("chat.history", json!({ "sessionKey": "main", "limit": 100 })).await;
    page["messages"].as_array().unwrap().clone()
}

fn count(rows: &[Value], role: &str) -> usize {
    rows.iter().filter(|row| row["role"] == role).count()
}

fn said(text: impl Into<String>, key: &str) -> Value {
    json!({ "sessionKey": "main", "message": text.into(), "idempotencyKey": key })
}

/// accepts: C4, G10
#[tokio::test]
async fn a_finished_turn_and_its_key_survive() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = client.send("agent", said("hello", "once")).await;
    assert_eq!(client.response(&id).await["payload"]["status"], "accepted");
    let first = client.response(&id).await["payload"].clone();
    gateway.kill();
    assert_eq!(client.until_closed().await, None);

    let gateway = Process::start(state.path()).await;
    let rows = history(gateway.addr).await;
    assert_eq!((count(&rows, "user"), count(&rows, "assistant")), (1, 1), "{rows:?}");
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.call("agent", said("hello", "once")).await, first, "the outcome, not another run");
    assert_eq!(history(gateway.addr).await.len(), 2);
    let waited = client.call("agent.wait", json!({ "runId": "once", "timeoutMs": 0 })).await;
    assert_eq!(waited["status"], "ok");
}

#[tokio::test]
async fn an_interrupted_turn_is_resumed_once_and_then_given_up() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let first = said("word ".repeat(LONG), "first");
    assert_eq!(client.call("chat.send", first.clone()).await["status"], "started");
    assert_eq!(client.call("chat.send", said("short", "second")).await["status"], "started");
    client.event(|e| e["payload"]["state"] == "delta").await;
    gateway.kill();

    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.call("chat.send", first.clone()).await["status"], "in_flight");
    client.event(|e| e["payload"]["runId"] == "first" && e["payload"]["state"] == "delta").await;
    gateway.kill();

    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let waited = client.call("agent.wait", json!({ "runId": "second", "timeoutMs": 15_000 })).await;
    assert_eq!(waited["status"], "ok", "the queue goes on: {waited}");
    let error = client.refused("chat.send", first).await;
    assert!(error["message"].as_str().unwrap().contains("given up after 2 attempts"), "{error}");
    let rows = history(gateway.addr).await;
    let roles: Vec<_> = rows.iter().map(|row| row["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"], "{rows:?}");
    let dead = client.call("status", json!({})).await["inputs"]["dead"].clone();
    assert_eq!(dead, 1, "operators see it");
}

#[tokio::test]
async fn killed_inside_the_commit_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    for point in ["store.before_begin", "store.after_ops", "store.after_commit"] {
        let state = tempfile::tempdir().unwrap();
        let mut gateway = Process::start(state.path()).await;
        let mut client = Client::admin(gateway.addr).await;
        let fault = json!({ "path": "gateway/store", "fault": "killpoint", "name": point });
        client.call("system.chaos", fault).await;
        client.send("chat.send", said("hello", "k")).await;
        assert_eq!(client.until_closed().await, None);
        assert!(client.responses.is_empty(), "{point}: it was acknowledged before it was durable");
        assert!(!gateway.ended().success());

        let gateway = Process::start(state.path()).await;
        let mut client = Client::admin(gateway.addr).await;
        let again = client.call("chat.send", said("hello", "k")).await["status"].clone();
        let kept = point == "store.after_commit";
        assert_eq!(again == "started", !kept, "{point}: {again}");
        let waited = client.call("agent.wait", json!({ "runId": "k", "timeoutMs": 15_000 })).await;
        assert_eq!(waited["status"], "ok", "{point}");
        let rows = history(gateway.addr).await;
        assert_eq!((count(&rows, "user"), count(&rows, "assistant")), (1, 1), "{point}: {rows:?}");
    }
}

/// accepts: K5
#[tokio::test]
async fn sigterm_lets_the_running_turn_end_and_refuses_new_ones() {
    let state = tempfile::tempdir().unwrap();
    let mut gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("chat.send", said("word ".repeat(100), "last")).await;
    client.event(|e| e["payload"]["state"] == "delta").await;
    gateway.signal("TERM");
    let mut late = 0;
    let refusal = loop {
        late += 1;
        let answer = client.response_to("chat.send", said("late", &format!("late-{late}"))).await;
        if answer["ok"] == false {
            break answer["error"].clone();
        }
    };
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
    // The recording `restart_request`: nobody new comes in.
    let late = tokio_tungstenite::connect_async(format!("ws://{}", gateway.addr)).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(late)) = late else { panic!("{late:?}") };
    let words: &[u8] = b"Gateway websocket admission closed";
    assert_eq!((late.status().as_u16(), late.body().as_deref()), (503, Some(words)));
    assert_eq!(client.chat_end("last").await["state"], "final");
    assert_eq!(client.until_closed().await, Some((1012, "service restart".into())));
    assert!(gateway.ended().success());
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait_for_the_running_turn() {
    let state = tempfile::tempdir().unwrap();
    let mut gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("chat.send", said("word ".repeat(1_000), "long")).await;
    client.event(|e| e["payload"]["state"] == "delta").await;
    gateway.signal("TERM");
    // The drain has begun once it refuses.
    while client.response_to("health", json!({})).await["ok"] == true {}
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(10), "the turn would have taken 20 s");
}

/// Unwinding is what everything here rests on.
#[test]
fn no_profile_aborts_on_panic() {
    assert!(!include_str!("../../Cargo.toml").contains("\"abort\""), "a profile aborts");
    assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
}
