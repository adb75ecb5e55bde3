//! What may be asked, and how much of it.

use super::{asker, decider};
use crate::gateway::Embedded;
use serde_json::json;
use std::time::Duration;

/// accepts: A9
#[tokio::test]
async fn what_cannot_be_meant_is_refused_as_recorded() {
    let gateway = Embedded::start().await;
    let (mut op, _obs) = (asker(gateway.addr).await, decider(gateway.addr).await);
    let long = "x".repeat(16_385);
    for (params, words) in [
        (json!({ "host": "gateway" }), "command is required"),
        (json!({ "command": " " }), "command is required"),
        (json!({ "command": "x", "host": "node" }), "nodeId is required for host=node"),
        (json!({ "command": "x", "host": "node", "nodeId": "n" }), "systemRunPlan is required for host=node"),
        (json!({ "command": "x", "id": "plugin:x" }), "approval ids starting with plugin: are reserved"),
        (json!({ "command": "x", "id": ".." }), "an approval id has 1 to 256 bytes, and is neither . nor .."),
        (json!({ "command": long }), "command exceeds exec approval display limit"),
        (
            json!({ "command": "x", "nope": 1 }),
            "invalid exec.approval.request params: at root: unexpected property 'nope'",
        ),
    ] {
        assert_eq!(op.refused("exec.approval.request", params).await["message"], words);
    }
    let nothing = "approval expired or not found";
    assert_eq!(op.refused("exec.approval.waitDecision", json!({ "id": "nope" })).await["message"], nothing);
    let error = op.refused("exec.approval.resolve", json!({ "id": "nope", "decision": "deny" })).await;
    assert_eq!(error["details"]["reason"], "APPROVAL_NOT_FOUND");
    let error = op.refused("approval.get", json!({ "id": "nope" })).await;
    assert_eq!(
        error,
        json!({ "code": "INVALID_REQUEST", "message": "approval not found", "details": { "reason": "APPROVAL_NOT_FOUND" } })
    );
    let error = op.refused("approval.history", json!({ "cursor": "x" })).await;
    assert_eq!(error["message"], "invalid approval.history cursor");

    // The beginning of an id is enough if it fits one request that waits.
    let ask = |id: &str| json!({ "id": id, "command": "ls", "ask": "always", "twoPhase": true });
    for id in ["two-1", "two-2"] {
        op.call("exec.approval.request", ask(id)).await;
    }
    let decide = |id: &str, decision: &str| json!({ "id": id, "decision": decision });
    let error = op.refused("exec.approval.resolve", decide("two", "deny")).await;
    assert_eq!(error["message"], "ambiguous approval id prefix; use the full id");
    // Who wants to be asked every time is asked every time.
    let error = op.refused("exec.approval.resolve", decide("two-1", "allow-always")).await;
    assert_eq!(error["message"], "allow-always is unavailable for this command");
    let malformed = json!({ "id": "two-1", "kind": "exec", "decision": "allow-always" });
    let denied = op.call("approval.resolve", malformed).await;
    assert_eq!((&denied["applied"], &denied["approval"]["status"]), (&json!(true), &json!("denied")));
    assert_eq!(denied["approval"]["reason"], "malformed-verdict");
    assert_eq!(op.call("exec.approval.resolve", decide("two", "deny")).await, json!({ "ok": true }));
    // What is shown hides nothing.
    op.call("exec.approval.request", json!({ "id": "odd", "command": "rm \u{202E}gpj.x", "twoPhase": true }))
        .await;
    assert_eq!(
        op.call("exec.approval.get", json!({ "id": "odd" })).await["commandText"],
        "rm \\u{202E}gpj.x"
    );
}

/// accepts: A9
#[tokio::test]
async fn a_command_of_a_node_is_asked_for_as_it_was_planned_there() {
    let gateway = Embedded::start().await;
    let (mut op, _obs) = (asker(gateway.addr).await, decider(gateway.addr).await);
    let plan = json!({
        "argv": ["/usr/bin/uname", "-s"], "cwd": "/w", "commandText": "/usr/bin/uname -s", "commandPreview": null,
        "agentId": null, "sessionKey": null,
        "mutableFileOperand": { "argvIndex": 0, "path": "/usr/bin/uname", "sha256": "ed21" },
        "policySnapshot": { "security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false,
            "allowlistRules": [] },
    });
    let mut ask = json!({
        "id": "plan-1", "command": "something else", "commandArgv": ["no"], "cwd": "/elsewhere", "agentId": "x",
        "systemRunPlan": plan, "nodeId": "fb14", "host": "node", "twoPhase": true,
    });
    op.call("exec.approval.request", ask.clone()).await;
    let request = op.call("exec.approval.list", json!({})).await[0]["request"].clone();
    let binding = json!({ "argv": ["/usr/bin/uname", "-s"], "cwd": "/w", "agentId": null, "sessionKey": null, "envHash": null });
    assert_eq!((&request["systemRunBinding"], &request["systemRunPlan"]), (&binding, &plan));
    assert_eq!((&request["command"], &request["cwd"]), (&json!("/usr/bin/uname -s"), &json!("/w")));
    assert_eq!((request.get("commandArgv"), &request["nodeId"]), (None, &json!("fb14")));

    ask["id"] = json!("plan-2");
    ask["env"] = json!({ "KEY": "a-secret-value" });
    op.call("exec.approval.request", ask).await;
    let list = op.call("exec.approval.list", json!({})).await;
    let request = &list[1]["request"];
    assert_eq!(request["envKeys"], json!(["KEY"]));
    assert_eq!(request["systemRunBinding"]["envHash"].as_str().unwrap().len(), 64);
    assert!(!list.to_string().contains("a-secret-value"), "{list}");
}

/// accepts: A9
#[tokio::test]
async fn only_so_many_wait_for_one_decision() {
    let gateway = Embedded::start().await;
    let mut op = asker(gateway.addr).await;
    let ask = json!({ "id": "q", "questions": [{ "questionId": "q1", "header": "P", "question": "W?", "options": [] }] });
    op.call("question.request", ask).await;
    let mut others = [asker(gateway.addr).await, asker(gateway.addr).await];
    for other in &mut others {
        for _ in 0..50 {
            other.send("question.waitAnswer", json!({ "id": "q" })).await;
        }
    }
    for other in &mut others {
        // They are heard in order.
        other.response_to("question.waitAnswer", json!({ "id": "nope" })).await;
    }
    let error = op.refused("question.waitAnswer", json!({ "id": "q" })).await;
    assert_eq!(
        (&error["retryable"], &error["details"]["reason"]),
        (&json!(true), &json!("too-many-waiting"))
    );
    // Who leaves makes room.
    drop(others);
    let room = async {
        while op.response_to("question.waitAnswer", json!({ "id": "q", "timeoutMs": 1 })).await["ok"] != true
        {
        }
    };
    tokio::time::timeout(Duration::from_secs(20), room).await.unwrap();
}
