//! `node.invoke`, as the recordings `n1` and `n2` show it.

use super::fake::{Fake, Kind, invocation, refused_by};
use super::{approve, mac, recorded};
use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn with_mac() -> (Embedded, Client, Fake) {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    (gateway, operator, node)
}

/// accepts: F5, G2
#[tokio::test]
async fn a_command_reaches_its_node_and_the_result_its_caller() {
    let (_gateway, mut operator, mut node) = with_mac().await;
    let id =
        operator.send("node.invoke", invocation(&node, "camera.snap", json!({ "facing": "front" }))).await;
    let asked = node.asked().await;
    assert_eq!(asked["nodeId"], node.id);
    assert_eq!(
        (&asked["command"], &asked["paramsJSON"]),
        (&json!("camera.snap"), &json!("{\"facing\":\"front\"}"))
    );
    assert_eq!(asked["idempotencyKey"], "k");
    assert!((29_000..=30_000).contains(&asked["timeoutMs"].as_u64().unwrap()), "{asked}");
    let result = json!({ "ok": true, "payload": { "echo": 1 } });
    assert_eq!(node.answer(&asked["id"], result.clone()).await, json!({ "ok": true }));
    let done = operator.response(&id).await;
    let expected = json!({
        "ok": true, "nodeId": node.id, "command": "camera.snap", "payload": { "echo": 1 }, "payloadJSON": null,
    });
    assert_eq!(done["payload"], expected);
    // The end comes once.
    let ignored = json!({ "ok": true, "ignored": true });
    assert_eq!(node.answer(&asked["id"], result.clone()).await, ignored);
    assert_eq!(node.answer(&json!("bogus"), result).await, ignored);
    let text = json!({ "ok": true, "payloadJSON": "{\"done\":true}" });
    let done = node.serve(&mut operator, "camera.list", text).await["payload"].clone();
    assert_eq!(
        (&done["payload"], &done["payloadJSON"]),
        (&json!({ "done": true }), &json!("{\"done\":true}"))
    );
    // The same key twice is two calls.
    for _ in 0..2 {
        node.serve(&mut operator, "camera.list", json!({ "ok": true })).await;
    }
}

#[tokio::test]
async fn what_may_not_be_asked_for_is_refused_in_the_recorded_words() {
    let (gateway, mut operator, _mac) = with_mac().await;
    let kind = Kind::linux("system.run system.which file.stat camera.snap");
    let mut node = Fake::connect(gateway.addr, &kind).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    let not_listed = |command: &str| format!("\"{command}\" is not in the allowlist for platform \"linux\"");
    for (command, why, reason) in [
        ("file.stat", not_listed("file.stat"), "command not allowlisted"),
        ("bogus.command", not_listed("bogus.command"), "command not allowlisted"),
        (
            "camera.clip",
            "\"camera.clip\" is blocked by gateway.nodes.commands.deny".into(),
            "command not allowlisted",
        ),
        (
            "screen.record",
            "\"screen.record\" requires explicit gateway.nodes.commands.allow opt-in".into(),
            "command not allowlisted",
        ),
        (
            "camera.list",
            "the node (platform: linux) does not support \"camera.list\"".into(),
            "command not declared by node",
        ),
    ] {
        let refused = refused_by(&mut operator, &node, command).await;
        let expected = json!({
            "code": "INVALID_REQUEST", "message": format!("node command not allowed: {why}"),
            "details": { "reason": reason, "command": command },
        });
        assert_eq!(refused, expected);
    }
    let apart = refused_by(&mut operator, &node, "system.execApprovals.get").await;
    assert_eq!(
        apart["message"],
        "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*"
    );
    let mut params = invocation(&node, "system.which", json!({}));
    params.as_object_mut().unwrap().remove("idempotencyKey");
    let refused = operator.refused("node.invoke", params).await;
    assert_eq!(
        refused["message"],
        "invalid node.invoke params: must have required property 'idempotencyKey'"
    );
    node.id = "nope".into();
    assert_eq!(refused_by(&mut operator, &node, "system.which").await["details"]["code"], "PAIRING_CHANGED");
    let reader = &mut Client::scoped(gateway.addr, &["operator.read"]).await;
    assert_eq!(refused_by(reader, &node, "system.which").await["message"], "missing scope: operator.write");
}

#[tokio::test]
async fn failures_of_a_node_are_told_in_two_families() {
    let (_gateway, mut operator, mut node) = with_mac().await;
    let failed = json!({ "ok": false, "error": { "code": "CAMERA_DISABLED", "message": "enable camera" } });
    let plain = node.serve(&mut operator, "camera.list", failed).await["error"].clone();
    let expected = json!({
        "code": "INVALID_REQUEST", "message": "enable camera",
        "details": {
            "nodeError": { "code": "CAMERA_DISABLED", "message": "enable camera" }, "nodeCommandDispatched": true,
            "code": "CAMERA_DISABLED",
        },
    });
    assert_eq!(plain, expected);
    let failed =
        json!({ "ok": false, "error": { "code": "INVALID_REQUEST", "message": "command required" } });
    let prefixed = node.serve(&mut operator, "system.run", failed).await["error"].clone();
    let expected = json!({
        "code": "UNAVAILABLE", "message": "INVALID_REQUEST: command required",
        "details": {
            "nodeError": { "code": "INVALID_REQUEST", "message": "command required" },
            "nodeCommandDispatched": true,
        },
    });
    assert_eq!(prefixed, expected);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_its_late_result_ignored() {
    let (_gateway, mut operator, mut node) = with_mac().await;
    let mut params = invocation(&node, "camera.list", json!({}));
    params["timeoutMs"] = json!(300);
    let id = operator.send("node.invoke", params).await;
    let asked = node.asked().await;
    assert!(asked["timeoutMs"].as_u64().unwrap() <= 300);
    let expected = json!({
        "code": "UNAVAILABLE", "message": "TIMEOUT: node invoke timed out",
        "details": {
            "nodeError": { "code": "TIMEOUT", "message": "node invoke timed out" }, "nodeCommandDispatched": true,
        },
    });
    assert_eq!(operator.response(&id).await["error"], expected);
    let cancel = node.told("node.invoke.cancel").await;
    assert_eq!(cancel, json!({ "invokeId": asked["id"], "nodeId": node.id }));
    let late = node.answer(&asked["id"], json!({ "ok": true })).await;
    assert_eq!(late, json!({ "ok": true, "ignored": true }));
}

#[tokio::test]
async fn pieces_are_taken_and_only_the_node_that_was_asked_can_answer() {
    let (gateway, mut operator, mut node) = with_mac().await;
    let mut other = Fake::connect(gateway.addr, &Kind::linux("system.which")).await;
    other.settled().await;
    approve(&mut operator, &other).await;
    let id = operator.send("node.invoke", invocation(&node, "camera.list", json!({}))).await;
    let asked = node.asked().await;
    for seq in 0..2 {
        let piece = json!({ "invokeId": asked["id"], "nodeId": node.id, "seq": seq, "chunk": "x" });
        let taken = node.client.call("node.invoke.progress", piece).await;
        assert_eq!(taken, json!({ "ok": true, "ignored": true }));
    }
    let wrong = json!({ "id": asked["id"], "nodeId": "other", "ok": true, "payload": 1 });
    let refused = node.client.refused("node.invoke.result", wrong).await;
    assert_eq!(refused, json!({ "code": "INVALID_REQUEST", "message": "nodeId mismatch" }));
    // Another node knows the id, and speaks for itself or for the one that was asked.
    let foreign = other.answer(&asked["id"], json!({ "ok": true, "payload": "forged" })).await;
    assert_eq!(foreign, json!({ "ok": true, "ignored": true }));
    let posing = json!({ "id": asked["id"], "nodeId": node.id, "ok": true, "payload": "forged" });
    assert_eq!(other.client.refused("node.invoke.result", posing).await["message"], "nodeId mismatch");
    node.answer(&asked["id"], json!({ "ok": true, "payload": 2 })).await;
    assert_eq!(operator.response(&id).await["payload"]["payload"], 2);
}

#[tokio::test]
async fn a_node_that_is_not_ready_is_asked_five_times() {
    let (_gateway, mut operator, mut node) = with_mac().await;
    let (start, id) =
        (Instant::now(), operator.send("node.invoke", invocation(&node, "camera.list", json!({}))).await);
    let (mut ids, mut budgets) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let asked = node.asked().await;
        ids.push(asked["id"].to_string());
        budgets.push(asked["timeoutMs"].as_u64().unwrap());
        let error = json!({ "code": "NODE_NOT_READY", "message": "cleanup" });
        assert_eq!(
            node.answer(&asked["id"], json!({ "ok": false, "error": error })).await,
            json!({ "ok": true })
        );
    }
    let refused = operator.response(&id).await["error"].clone();
    assert_eq!((&refused["code"], &refused["message"]), (&json!("INVALID_REQUEST"), &json!("cleanup")));
    assert_eq!(refused["details"]["code"], "NODE_NOT_READY");
    assert!(start.elapsed() >= Duration::from_millis(1_850), "the recorded delays");
    assert!(budgets.windows(2).all(|pair| pair[1] < pair[0]), "{budgets:?}");
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_socket_that_closes_ends_its_calls_at_once() {
    let (gateway, mut operator, mut node) = with_mac().await;
    let calls = [
        operator.send("node.invoke", invocation(&node, "camera.list", json!({}))).await,
        operator.send("node.invoke", invocation(&node, "system.run", json!({ "command": ["true"] }))).await,
    ];
    node.asked().await;
    node.asked().await;
    let id = node.id.clone();
    drop(node);
    let message = "node disconnected (camera.list)";
    let expected = json!({
        "code": "INVALID_REQUEST", "message": message,
        "details": {
            "nodeError": { "code": "DISCONNECTED", "message": message }, "nodeCommandDispatched": true,
            "code": "DISCONNECTED",
        },
    });
    assert_eq!(operator.response(&calls[0]).await["error"], expected);
    let run = operator.response(&calls[1]).await["error"].clone();
    assert_eq!(run["message"], "DISCONNECTED: node disconnected (system.run)");
    let params = json!({ "nodeId": id, "command": "camera.list", "idempotencyKey": "k" });
    let expected = json!({
        "code": "UNAVAILABLE", "message": "node not connected",
        "details": {
            "code": "NOT_CONNECTED", "nodeError": { "code": "NOT_CONNECTED", "message": "node not connected" },
            "nodeCommandDispatched": false,
        },
    });
    assert_eq!(operator.refused("node.invoke", params).await, expected);
    let offline = operator.call("node.list", json!({})).await["nodes"][0].clone();
    assert_eq!((&offline["connected"], offline.get("nodePluginTools")), (&json!(false), None));
    assert!(offline["commands"].as_array().unwrap().len() == 10 && offline.get("connectedAtMs").is_none());
    let mut back = Fake::connect(gateway.addr, &mac()).await;
    assert_eq!(back.serve(&mut operator, "camera.list", json!({ "ok": true })).await["ok"], true);
}

/// The configuration counts at once, for what is approved too.
#[tokio::test]
async fn a_command_that_is_denied_later_is_denied() {
    let (gateway, mut operator, mut node) = with_mac().await;
    node.serve(&mut operator, "camera.list", json!({ "ok": true })).await;
    let config = json!({ "gateway": { "nodes": { "commands": { "deny": ["camera.list"] } } } });
    std::fs::write(gateway.state.path().join("openclaw.json"), config.to_string()).unwrap();
    gateway.gateway.reload();
    operator.event(|e| e["event"] == "config.changed").await;
    let refused = refused_by(&mut operator, &node, "camera.list").await;
    assert_eq!(
        refused["message"],
        "node command not allowed: \"camera.list\" is blocked by gateway.nodes.commands.deny"
    );
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert!(!shown["commands"].as_array().unwrap().contains(&Value::from("camera.list")));
}
