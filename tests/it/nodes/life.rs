//! Nodes over crashes, restarts and removals.

use super::fake::{Fake, Kind, invocation};
use super::{approve, mac, recorded};
use crate::client::{Client, Intro, TOKEN};
use crate::gateway::{Embedded, Process};
use serde_json::json;

/// accepts: A17
#[tokio::test]
async fn a_crash_of_the_actor_is_seen_by_nobody_but_those_who_wait() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    let tool = json!({ "pluginId": "p", "name": "t", "description": "d", "command": "camera.list" });
    node.client.call("node.pluginTools.update", json!({ "tools": [tool] })).await;
    let waits = operator.send("node.invoke", invocation(&node, "camera.list", json!({}))).await;
    let asked = node.asked().await;
    operator.call("system.chaos", json!({ "path": "gateway/nodes", "fault": "panic" })).await;
    let lost = operator.response(&waits).await["error"].clone();
    assert_eq!((&lost["code"], &lost["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
    operator.event(|e| e["payload"]["path"] == "gateway/nodes" && e["payload"]["state"] == "running").await;
    // The node is still there, with what it told; the result of before is ignored.
    let late = node.answer(&asked["id"], json!({ "ok": true })).await;
    assert_eq!(late, json!({ "ok": true, "ignored": true }));
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!((&shown["connected"], &shown["approvalState"]), (&json!(true), &json!("approved")));
    assert_eq!(shown["nodePluginTools"], json!([tool]));
    assert_eq!(node.serve(&mut operator, "camera.list", json!({ "ok": true })).await["ok"], true);
    let greetings = node.client.events.iter().filter(|e| e["event"] == "voicewake.changed").count();
    assert_eq!((greetings, node.client.closed.is_none()), (1, true));
}

#[tokio::test]
async fn approvals_names_and_figures_are_kept_over_kill_9() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let addr = gateway.addr;
    let mut operator = Client::admin(addr).await;
    let mut node = Fake::connect(addr, &Kind::linux("system.which")).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    let renamed = json!({ "nodeId": node.id, "displayName": "Living Room" });
    assert_eq!(operator.call("node.rename", renamed.clone()).await, renamed);
    let unknown = json!({ "nodeId": "nope", "displayName": "x" });
    assert_eq!(operator.refused("node.rename", unknown).await["message"], "unknown nodeId");
    let stats = json!({ "cpuCount": 2, "memoryTotalBytes": 9, "memoryFreeBytes": 1 });
    node.client.call("node.event", json!({ "event": "node.host.stats", "payload": stats })).await;
    // A write that is answered comes after it.
    operator.call("node.rename", renamed).await;
    gateway.kill();
    let gateway = Process::restart(state.path(), addr).await;
    let mut operator = Client::admin(addr).await;
    let kept = operator.call("node.list", json!({})).await["nodes"][0].clone();
    assert_eq!((&kept["displayName"], &kept["approvalState"]), (&json!("Living Room"), &json!("approved")));
    assert_eq!((&kept["connected"], &kept["hostStats"]["cpuCount"]), (&json!(false), &json!(2)));
    let mut node = Fake::connect(addr, &Kind::linux("system.which")).await;
    assert_eq!(node.serve(&mut operator, "system.which", json!({ "ok": true })).await["ok"], true);
    assert_eq!(operator.call("node.pair.list", json!({})).await["paired"][0]["displayName"], "Living Room");
    drop(gateway);
}

/// A guard: what was approved does not come back with a device that pairs anew.
#[tokio::test]
async fn a_node_that_was_removed_begins_anew() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    let second = Fake::connect(gateway.addr, &mac()).await;
    operator.call("node.pair.remove", json!({ "nodeId": node.id })).await;
    for mut socket in [node, second] {
        assert_eq!(socket.client.until_closed().await, Some((4001, "device removed".into())));
    }
    let again = operator.refused("node.pair.remove", json!({ "nodeId": operator.hello["x"] })).await;
    assert!(again["message"].as_str().unwrap().starts_with("invalid node.pair.remove params"));
    let mut back = Fake::connect(gateway.addr, &mac()).await;
    let refused = super::fake::refused_by(&mut operator, &back, "camera.list").await;
    assert_eq!(refused["details"]["code"], "PAIRING_CHANGED");
    back.settled().await;
    let shown = operator.call("node.describe", json!({ "nodeId": back.id })).await;
    assert_eq!((&shown["approvalState"], &shown["commands"]), (&json!("pending-approval"), &json!([])));
    operator.call("node.pair.remove", json!({ "nodeId": back.id })).await;
    let unknown = operator.refused("node.pair.remove", json!({ "nodeId": back.id })).await;
    assert_eq!(unknown, json!({ "code": "INVALID_REQUEST", "message": "unknown nodeId" }));
}

/// A device that is an operator too only loses its role as a node, and only administrators take it.
#[tokio::test]
async fn of_a_device_with_two_roles_only_the_node_goes() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &Kind::linux("system.which")).await;
    node.settled().await;
    let mut seed = [9; 32];
    seed[..3].copy_from_slice(b"box");
    let same = Intro { device: Some(seed), auth: json!({ "token": TOKEN }), ..Intro::default() };
    let same = Intro { id: "node-host", mode: "node", ..same };
    let mut person = Client::connect(gateway.addr, &same).await.expect("an operator on the node's device");
    let mut pairer = Client::scoped(gateway.addr, &["operator.pairing"]).await;
    let refused = pairer.refused("node.pair.remove", json!({ "nodeId": node.id })).await;
    assert_eq!(refused["message"], "missing scope: operator.admin");
    operator.call("node.pair.remove", json!({ "nodeId": node.id })).await;
    assert_eq!(node.client.until_closed().await, Some((4001, "device removed".into())));
    person.call("health", json!({})).await;
    let devices = operator.call("device.pair.list", json!({})).await["paired"].clone();
    let device = devices.as_array().unwrap().iter().find(|device| device["deviceId"] == node.id).unwrap();
    assert_eq!(device["roles"], json!(["operator"]));
    assert_eq!(operator.call("node.list", json!({})).await["nodes"], json!([]));
}
