//! Commands at nodes that people agreed to, the rules of nodes, and the agent's own way to them.

use super::approve;
use super::fake::{Fake, Kind, invocation};
use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use serde_json::{Value, json};

const HOST: &str =
    "system.run system.run.prepare system.which system.execApprovals.get system.execApprovals.set";

async fn with_host() -> (Embedded, Client, Fake) {
    let gateway = Embedded::with(json!({ "gateway": { "chaos": { "enabled": true } } })).await;
    let reviewer = Intro { caps: vec!["approvals"], ..Intro::default() };
    let mut operator = Client::connect(gateway.addr, &reviewer).await.unwrap();
    let mut node = Fake::connect(gateway.addr, &Kind::linux(HOST)).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    (gateway, operator, node)
}

fn plan() -> Value {
    json!({
        "argv": ["/usr/bin/uname", "-s"], "cwd": "/w", "commandText": "/usr/bin/uname -s", "commandPreview": null,
        "agentId": null, "sessionKey": null,
        "mutableFileOperand": { "argvIndex": 0, "path": "/usr/bin/uname", "sha256": "e".repeat(64) },
        "policySnapshot": {
            "security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false,
            "allowlistRules": [],
        },
    })
}

fn agreed(node: &Fake) -> Value {
    let params = json!({
        "command": ["/usr/bin/uname", "-s"], "rawCommand": "/usr/bin/uname -s", "cwd": "/w", "systemRunPlan": plan(),
        "runId": "plan-1", "approved": true, "approvalDecision": "allow-once",
    });
    invocation(node, "system.run", params)
}

/// The recording `a2`.
#[tokio::test]
async fn a_command_that_people_agreed_to_once_runs_once() {
    let (_gateway, mut operator, mut node) = with_host().await;
    let blind = json!({ "command": ["uname"], "approved": true, "approvalDecision": "allow-once" });
    let refused = operator.refused("node.invoke", invocation(&node, "system.run", blind)).await;
    let expected = json!({
        "code": "INVALID_REQUEST", "message": "approval override requires params.runId",
        "details": { "code": "MISSING_RUN_ID" },
    });
    assert_eq!(refused, expected);
    let asks = json!({
        "id": "plan-1", "command": "/usr/bin/uname -s", "commandArgv": ["/usr/bin/uname", "-s"],
        "systemRunPlan": plan(), "nodeId": node.id, "host": "node", "cwd": "/w", "twoPhase": true,
        "timeoutMs": 30000, "requireDeliveryRoute": false,
    });
    operator.call("exec.approval.request", asks).await;
    let required = json!({
        "code": "INVALID_REQUEST", "message": "approval required",
        "details": { "code": "APPROVAL_REQUIRED", "runId": "plan-1" },
    });
    assert_eq!(operator.refused("node.invoke", agreed(&node)).await, required);
    operator.call("exec.approval.resolve", json!({ "id": "plan-1", "decision": "allow-once" })).await;
    // Two at once: one of them runs.
    let both = [
        operator.send("node.invoke", agreed(&node)).await,
        operator.send("node.invoke", agreed(&node)).await,
    ];
    let asked = node.asked().await;
    let sent: Value = serde_json::from_str(asked["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!((&sent["approved"], &sent["approvalDecision"]), (&json!(true), &json!("allow-once")));
    assert_eq!((&sent["command"], &sent["runId"]), (&plan()["argv"], &json!("plan-1")));
    node.answer(&asked["id"], json!({ "ok": true, "payload": { "exitCode": 0 } })).await;
    let mut answers = [operator.response(&both[0]).await, operator.response(&both[1]).await];
    answers.sort_by_key(|answer| answer["ok"].as_bool());
    assert_eq!((&answers[0]["error"], &answers[1]["ok"]), (&required, &json!(true)));
    assert_eq!(operator.refused("node.invoke", agreed(&node)).await, required);
    node.settled().await;
    assert!(!node.client.events.iter().any(|e| e["event"] == "node.invoke.request"), "it ran once");
    // A run of ours may be told of; its end once.
    let end = json!({ "event": "exec.finished", "payload": { "runId": "plan-1", "command": "uname", "exitCode": 0 } });
    assert_eq!(node.client.call("node.event", end.clone()).await, json!({ "ok": true }));
    assert_eq!(node.client.call("node.event", end).await["reason"], "unmatched_exec_event");
}

#[tokio::test]
async fn a_plain_command_gets_an_id_and_nobody_forges_an_approval() {
    let (_gateway, mut operator, mut node) = with_host().await;
    let plain = json!({ "command": ["true"], "approved": false, "forged": 1 });
    let id = operator.send("node.invoke", invocation(&node, "system.run", plain)).await;
    let asked = node.asked().await;
    let sent: Value = serde_json::from_str(asked["paramsJSON"].as_str().unwrap()).unwrap();
    let names: Vec<&String> = sent.as_object().unwrap().keys().collect();
    assert_eq!(names, ["command", "runId"]);
    node.answer(&asked["id"], json!({ "ok": true })).await;
    assert_eq!(operator.response(&id).await["ok"], true);
    let refused = operator.refused("node.invoke", agreed(&node)).await;
    assert_eq!(refused["details"]["code"], "UNKNOWN_APPROVAL_ID");
}

#[tokio::test]
async fn the_rules_of_a_node_are_read_and_changed_through_it() {
    let (_gateway, mut operator, mut node) = with_host().await;
    let shown = json!({ "path": "/p", "exists": true, "hash": "h", "file": { "version": 1 } });
    let id = operator.send("exec.approvals.node.get", json!({ "nodeId": node.id })).await;
    let asked = node.asked().await;
    assert_eq!(asked["command"], "system.execApprovals.get");
    assert!(asked.get("idempotencyKey").is_none());
    node.answer(&asked["id"], json!({ "ok": true, "payloadJSON": shown.to_string() })).await;
    assert_eq!(operator.response(&id).await["payload"], shown);
    let change =
        json!({ "nodeId": node.id, "baseHash": "h", "file": { "version": 1, "defaults": { "ask": "off" } } });
    let id = operator.send("exec.approvals.node.set", change.clone()).await;
    let asked = node.asked().await;
    let sent: Value = serde_json::from_str(asked["paramsJSON"].as_str().unwrap()).unwrap();
    assert_eq!(sent, json!({ "baseHash": "h", "file": change["file"] }));
    node.answer(&asked["id"], json!({ "ok": true, "payloadJSON": shown.to_string() })).await;
    assert_eq!(operator.response(&id).await["payload"], shown);
}

/// The built-in model calls what it is told to.
#[tokio::test]
async fn the_agent_lists_describes_and_uses_nodes() {
    let (_gateway, mut operator, mut node) = with_host().await;
    let mut number = 0;
    let mut ask = async |operator: &mut Client, args: Value| {
        number += 1;
        let key = format!("n{number}");
        let message = format!("/tool nodes {args}");
        let params = json!({ "sessionKey": "main", "message": message, "idempotencyKey": key });
        operator.call("chat.send", params).await;
        key
    };
    let result = async |operator: &mut Client, key: &str| {
        operator.chat_end(key).await;
        let history = operator.call("chat.history", json!({ "sessionKey": "main", "limit": 50 })).await;
        let rows = history["messages"].as_array().unwrap();
        rows.iter().rfind(|row| row["role"] == "toolResult").unwrap()["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let key = ask(&mut operator, json!({ "action": "list" })).await;
    let listed: Value = serde_json::from_str(&result(&mut operator, &key).await).unwrap();
    assert_eq!((&listed[0]["node"], &listed[0]["name"]), (&json!(node.id), &json!("box")));
    let key = ask(&mut operator, json!({ "action": "describe", "node": "BOX" })).await;
    let shown: Value = serde_json::from_str(&result(&mut operator, &key).await).unwrap();
    assert!(shown["commands"].as_array().unwrap().contains(&json!("system.which")));
    let call =
        json!({ "action": "invoke", "node": "box", "command": "system.which", "params": { "bins": ["ls"] } });
    let key = ask(&mut operator, call).await;
    let asked = node.asked().await;
    assert_eq!(asked["paramsJSON"], "{\"bins\":[\"ls\"]}");
    node.answer(&asked["id"], json!({ "ok": true, "payload": { "bins": { "ls": "/bin/ls" } } })).await;
    assert_eq!(result(&mut operator, &key).await, "{\"bins\":{\"ls\":\"/bin/ls\"}}");
    for (args, said) in [
        (json!({ "action": "invoke", "node": "box", "command": "system.run" }), "not for this tool"),
        (json!({ "action": "invoke", "node": "box", "command": "camera.snap" }), "requires explicit"),
        (json!({ "action": "invoke", "node": "nobody", "command": "x" }), "There is no node nobody"),
        (json!({ "action": "describe" }), "Which node?"),
    ] {
        let key = ask(&mut operator, args).await;
        let text = result(&mut operator, &key).await;
        assert!(text.contains(said), "{text}");
    }
    // A call that is ended is ended at the node.
    let key =
        ask(&mut operator, json!({ "action": "invoke", "node": "box", "command": "system.which" })).await;
    let asked = node.asked().await;
    operator.call("chat.abort", json!({ "sessionKey": "main", "runId": key })).await;
    assert_eq!(node.told("node.invoke.cancel").await["invokeId"], asked["id"]);
}
