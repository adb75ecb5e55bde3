//! Signs of life, and what happens to who shows none.

use crate::client::{Client, Intro, connect_params};
use crate::gateway::Embedded;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// accepts: B14, C3
#[tokio::test]
async fn a_silent_client_is_pinged_and_ticked() {
    let gateway = Embedded::start().await;
    let (mut ws, _) = connect_async(format!("ws://{}", gateway.addr)).await.unwrap();
    let (mut pinged, mut ticked, start) = (None, None, Instant::now());
    while pinged.is_none() || ticked.is_none() {
        match tokio::time::timeout(Duration::from_secs(60), ws.next()).await.unwrap().unwrap().unwrap() {
            Message::Ping(payload) => {
                assert!(payload.is_empty());
                pinged = Some(start.elapsed().as_secs());
            }
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["event"] == "connect.challenge" {
                    let params =
                        connect_params(&Intro { scopes: vec![], ..Intro::default() }, &frame["payload"]);
                    let connect = json!({ "type": "req", "id": "c", "method": "connect", "params": params });
                    ws.send(Message::text(connect.to_string())).await.unwrap();
                }
                if frame["event"] == "tick" {
                    assert!(frame["payload"]["ts"].is_u64() && frame["seq"].is_u64(), "{frame}");
                    ticked = Some(start.elapsed().as_secs());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    // As recorded: pings each 25 s, a global tick each 30 s. Never early, and not ten times too late.
    assert!(pinged.unwrap() >= 24 && ticked.unwrap() >= 25, "{pinged:?} {ticked:?}");
}

/// accepts: K14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_actor_is_named_by_health_and_then_replaced() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let hung = Instant::now();
    admin.call("system.chaos", json!({ "path": "gateway/presence", "fault": "hang" })).await;
    let named =
        |e: &Value| e["event"] == "health" && e["payload"]["actors"]["stuck"] == json!(["gateway/presence"]);
    let health = admin.event(named).await;
    assert_eq!(health["payload"]["ok"], false);
    assert!(hung.elapsed() < Duration::from_secs(50), "named after {:?}", hung.elapsed());
    let replaced =
        |e: &Value| e["payload"]["path"] == "gateway/presence" && e["payload"]["state"] == "running";
    let event = admin.event(replaced).await;
    let exit = &event["payload"]["lastExit"];
    assert_eq!(exit["kind"], "killed");
    assert!(exit["reason"].as_str().unwrap().starts_with("stuck for"), "{exit}");
    admin.event(|e| e["event"] == "health" && e["payload"]["ok"] == true).await;
}

/// accepts: B6
#[tokio::test]
async fn a_client_that_says_nothing_is_closed_after_the_handshake_time() {
    let gateway = Embedded::with(json!({ "gateway": { "handshakeTimeoutMs": 200 } })).await;
    let (mut client, _) = Client::open(gateway.addr).await;
    let start = Instant::now();
    assert_eq!(client.until_closed().await, Some((1000, String::new())));
    assert!(start.elapsed() >= Duration::from_millis(150));
}
