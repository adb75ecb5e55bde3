//! Approvals and questions: who is asked, what is decided, what is told to whom, and what survives.

mod durable;
mod policy;
mod questions;
mod requests;

use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Everything an operator may do that is asked here.
const SCOPES: [&str; 3] = ["operator.read", "operator.approvals", "operator.questions"];

/// A client of the library with these scopes and capabilities.
async fn client(addr: SocketAddr, scopes: &[&'static str], caps: &[&'static str]) -> Client {
    let (scopes, caps) = (scopes.to_vec(), caps.to_vec());
    let intro = Intro { id: "gateway-client", mode: "backend", scopes, caps, ..Intro::default() };
    Client::connect(addr, &intro).await.unwrap()
}

/// Who asks: an administrator who cannot show requests.
async fn asker(addr: SocketAddr) -> Client {
    client(addr, &["operator.admin"], &[]).await
}

/// Who decides: an administrator who can.
async fn decider(addr: SocketAddr) -> Client {
    client(addr, &["operator.admin"], &["approvals"]).await
}

fn is(event: &'static str, id: &str) -> impl Fn(&Value) -> bool {
    let id = id.to_owned();
    move |e| e["event"] == event && e["payload"]["id"] == id.as_str()
}

/// Which of these have come by the time a later request is answered.
async fn heard(client: &mut Client, events: &[&str]) -> Vec<String> {
    client.call("health", json!({})).await;
    let name = |event: &Value| event["event"].as_str().unwrap().to_owned();
    client.events.drain(..).map(|event| name(&event)).filter(|name| events.contains(&name.as_str())).collect()
}

const EXEC: [&str; 2] = ["exec.approval.requested", "exec.approval.resolved"];

/// What is told of `ls -la /tmp`, as recorded but for the analysis of the command, which is not made.
fn recorded_request() -> Value {
    json!({
        "command": "ls -la /tmp", "systemRunBinding": null, "systemRunPlan": null, "cwd": "/tmp", "nodeId": null,
        "host": "gateway", "security": "allowlist", "ask": "on-miss", "warningText": null, "scope": null,
        "commandAnalysis": null, "allowedDecisions": ["allow-once", "allow-always", "deny"], "agentId": "main",
        "resolvedPath": null, "sessionKey": "agent:main:main", "sessionId": null, "runId": null, "toolCallId": null,
        "turnSourceChannel": null, "turnSourceTo": null, "turnSourceAccountId": null, "turnSourceThreadId": null,
        "cronExecutionSource": null, "cronOperationBinding": null,
    })
}

/// accepts: A9
#[tokio::test]
async fn a_command_is_asked_for_decided_and_told_as_recorded() {
    let gateway = Embedded::start().await;
    let (mut op, mut obs) = (asker(gateway.addr).await, decider(gateway.addr).await);
    let ask = json!({ "id": "appr-1", "command": "ls -la /tmp", "cwd": "/tmp", "host": "gateway", "security": "allowlist",
        "ask": "on-miss", "agentId": "main", "sessionKey": "agent:main:main", "timeoutMs": 20000 });
    let asked = op.send("exec.approval.request", ask.clone()).await;
    let told = obs.event(is("exec.approval.requested", "appr-1")).await["payload"].clone();
    let (created, expires) = (told["createdAtMs"].clone(), told["expiresAtMs"].clone());
    assert_eq!(expires.as_i64().unwrap() - created.as_i64().unwrap(), 20_000);
    let request = recorded_request();
    let pending = json!({ "approvalKind": "exec", "id": "appr-1", "request": request, "createdAtMs": created, "expiresAtMs": expires });
    assert_eq!(told, pending);
    assert_eq!(op.call("exec.approval.list", json!({})).await, json!([pending]));
    let presentation = json!({ "kind": "exec", "commandText": "ls -la /tmp", "commandPreview": null, "warningText": null,
        "host": "gateway", "nodeId": null, "agentId": "main", "allowedDecisions": ["allow-once", "allow-always", "deny"] });
    let waiting = json!({ "id": "appr-1", "status": "pending", "presentation": presentation, "urlPath": "/approve/appr-1",
        "createdAtMs": created, "expiresAtMs": expires });
    assert_eq!(op.call("approval.get", json!({ "id": "appr-1" })).await, json!({ "approval": waiting }));
    let got = op.call("exec.approval.get", json!({ "id": "app" })).await;
    assert_eq!(
        got,
        json!({ "id": "appr-1", "commandText": "ls -la /tmp", "commandPreview": null, "agentId": "main",
        "allowedDecisions": ["allow-once", "allow-always", "deny"], "host": "gateway", "nodeId": null, "expiresAtMs": expires })
    );
    assert_eq!(op.refused("exec.approval.request", ask).await["message"], "approval id already pending");

    let waits = obs.send("exec.approval.waitDecision", json!({ "id": "appr-1" })).await;
    let resolve = |decision: &str| json!({ "id": "appr-1", "decision": decision });
    assert_eq!(obs.refused("exec.approval.resolve", resolve("bogus")).await["message"], "invalid decision");
    assert_eq!(obs.call("exec.approval.resolve", resolve("allow-once")).await, json!({ "ok": true }));
    let decided =
        json!({ "id": "appr-1", "decision": "allow-once", "createdAtMs": created, "expiresAtMs": expires });
    assert_eq!(op.response(&asked).await["payload"], decided);
    let mut waited = decided.clone();
    waited["terminalReason"] = json!("user");
    assert_eq!(obs.response(&waits).await["payload"], waited);
    assert_eq!(op.call("exec.approval.waitDecision", json!({ "id": "appr-1" })).await, waited);
    let over = obs.event(is("exec.approval.resolved", "appr-1")).await["payload"].clone();
    let at = over["ts"].clone();
    assert_eq!(
        over,
        json!({ "id": "appr-1", "decision": "allow-once", "resolvedBy": "gateway-client", "ts": at, "request": request })
    );
    // The first decision stays; the same one again is no mistake.
    assert_eq!(op.call("exec.approval.resolve", resolve("allow-once")).await, json!({ "ok": true }));
    let error = op.refused("exec.approval.resolve", resolve("deny")).await;
    let already = json!({ "code": "INVALID_REQUEST", "message": "approval already resolved", "details": { "reason": "APPROVAL_ALREADY_RESOLVED" } });
    assert_eq!(error, already);
    let mut ended = waiting;
    for (name, value) in [
        ("status", json!("allowed")),
        ("resolvedAtMs", at),
        ("reason", json!("user")),
        ("decision", json!("allow-once")),
        ("source", json!({ "agentId": "main", "sessionKey": "agent:main:main" })),
        ("resolver", json!({ "kind": "runtime", "id": "gateway-client" })),
    ] {
        ended[name] = value;
    }
    let late = json!({ "id": "appr-1", "kind": "plugin", "decision": "deny" });
    assert_eq!(op.call("approval.resolve", late).await, json!({ "applied": false, "approval": ended }));
    assert_eq!(op.call("approval.history", json!({ "limit": 2 })).await, json!({ "items": [ended] }));
    assert_eq!(op.call("exec.approval.list", json!({})).await, json!([]));
    assert_eq!(op.call("exec.approval.grants.list", json!({})).await, json!({ "grants": [] }));
    let revoked = op.call("exec.approval.grants.revoke", json!({ "grantId": "x" })).await;
    assert_eq!(revoked, json!({ "outcome": "not-found" }));
}

/// accepts: A9
#[tokio::test]
async fn what_nobody_decides_expires_and_what_nobody_hears_is_denied_at_once() {
    let gateway = Embedded::start().await;
    let mut op = asker(gateway.addr).await;
    // Nobody is there who could decide.
    let alone = json!({ "id": "alone", "command": "rm x", "twoPhase": true });
    let answer = op.call("exec.approval.request", alone).await;
    assert_eq!((&answer["decision"], answer.get("status")), (&Value::Null, None));
    let denied = op.call("approval.get", json!({ "id": "alone" })).await["approval"].clone();
    assert_eq!(
        (&denied["status"], &denied["reason"], &denied["decision"]),
        (&json!("denied"), &json!("no-route"), &json!("deny"))
    );
    assert_eq!(denied["resolver"], json!({ "kind": "system" }));

    let mut obs = decider(gateway.addr).await;
    let short =
        json!({ "id": "short", "command": "rm x", "host": "gateway", "twoPhase": true, "timeoutMs": 300 });
    let asked = op.send("exec.approval.request", short).await;
    let accepted = op.response(&asked).await["payload"].clone();
    assert_eq!(
        (&accepted["status"], &accepted["deliveryRoute"]),
        (&json!("accepted"), &json!("approval-client"))
    );
    let waits = op.send("exec.approval.waitDecision", json!({ "id": "short" })).await;
    let ended = op.response(&asked).await["payload"].clone();
    assert_eq!((&ended["decision"], ended.get("terminalReason")), (&Value::Null, None));
    let waited = op.response(&waits).await["payload"].clone();
    assert_eq!((&waited["decision"], &waited["terminalReason"]), (&Value::Null, &json!("timeout")));
    let told = obs.event(is("exec.approval.resolved", "short")).await["payload"].clone();
    assert_eq!((&told["decision"], &told["resolvedBy"]), (&json!("deny"), &Value::Null));
    for decision in ["deny", "allow-once"] {
        let error = op.refused("exec.approval.resolve", json!({ "id": "short", "decision": decision })).await;
        assert_eq!(error["message"], "approval already resolved");
    }
    let unknown = json!({ "code": "INVALID_REQUEST", "message": "unknown or expired approval id", "details": {
        "reason": "APPROVAL_NOT_FOUND",
        "remediation": "Re-request the action; pending approvals are cleared after expiry or restart." } });
    assert_eq!(op.refused("exec.approval.get", json!({ "id": "short" })).await, unknown);
    let late = json!({ "id": "short", "kind": "exec", "decision": "allow-once" });
    let late = op.call("approval.resolve", late).await;
    assert_eq!((&late["applied"], &late["approval"]["status"]), (&json!(false), &json!("expired")));
    assert_eq!(late["approval"]["reason"], "timeout");
}

/// accepts: A9, D8
#[tokio::test]
async fn only_those_hear_who_may_decide_and_can_show_it() {
    let gateway = Embedded::start().await;
    let addr = gateway.addr;
    let mut op = client(addr, &["operator.admin"], &["approvals"]).await;
    let mut listeners = vec![
        ("admin, approvals", client(addr, &["operator.admin"], &["approvals"]).await, 2),
        ("admin, exec", client(addr, &["operator.admin"], &["exec-approvals"]).await, 2),
        ("admin, plugin", client(addr, &["operator.admin"], &["plugin-approvals"]).await, 0),
        ("admin, no capability", client(addr, &["operator.admin"], &[]).await, 0),
        ("another's, not an administrator", client(addr, &SCOPES, &["approvals"]).await, 0),
        ("no scope", client(addr, &["operator.read"], &["approvals"]).await, 0),
    ];
    op.call("exec.approval.request", json!({ "id": "a", "command": "ls", "twoPhase": true })).await;
    op.call("exec.approval.resolve", json!({ "id": "a", "decision": "deny" })).await;
    for (who, listener, expected) in &mut listeners {
        assert_eq!(heard(listener, &EXEC).await, EXEC[..*expected], "{who}");
    }
    assert_eq!(heard(&mut op, &EXEC).await, EXEC[1..], "who asks hears of the end alone");

    // What a client asks that is no administrator, it and administrators see.
    let mut own = client(addr, &SCOPES, &["approvals"]).await;
    own.call("exec.approval.request", json!({ "id": "own", "command": "ls", "twoPhase": true })).await;
    let mut other = client(addr, &SCOPES, &["approvals"]).await;
    for (who, expected) in [(&mut own, 1), (&mut op, 1), (&mut other, 0)] {
        assert_eq!(who.call("exec.approval.list", json!({})).await.as_array().unwrap().len(), expected);
    }
    let decide = json!({ "id": "own", "decision": "allow-once" });
    let error = other.refused("exec.approval.resolve", decide.clone()).await;
    assert_eq!(error["message"], "unknown or expired approval id");
    assert_eq!(
        other.refused("exec.approval.waitDecision", json!({ "id": "own" })).await["message"],
        "approval expired or not found"
    );
    for method in ["approval.get", "approval.resolve"] {
        let mut params = json!({ "id": "own" });
        if method == "approval.resolve" {
            params
                .as_object_mut()
                .unwrap()
                .extend([("kind".into(), json!("exec")), ("decision".into(), json!("deny"))]);
        }
        assert_eq!(other.refused(method, params).await["message"], "approval not found");
    }
    own.call("exec.approval.resolve", decide).await;
    assert_eq!(heard(&mut own, &EXEC).await, EXEC[1..]);
    assert_eq!(heard(&mut other, &EXEC).await, [""; 0]);

    let mut reader = client(addr, &["operator.read"], &[]).await;
    for method in
        ["exec.approval.list", "exec.approval.resolve", "approval.history", "plugin.approval.request"]
    {
        let error = reader.refused(method, json!({})).await;
        assert_eq!(
            (&error["code"], &error["details"]["missingScope"]),
            (&json!("FORBIDDEN"), &json!("operator.approvals"))
        );
    }
    let mut approver = client(addr, &["operator.approvals"], &[]).await;
    assert_eq!(
        approver.refused("exec.approvals.get", json!({})).await["details"]["missingScope"],
        "operator.admin"
    );
    assert_eq!(
        approver.refused("question.list", json!({})).await["details"]["missingScope"],
        "operator.questions"
    );
}

/// accepts: A9
#[tokio::test]
async fn nobody_is_told_of_what_is_asked_in_silence() {
    let gateway = Embedded::start().await;
    let (mut op, mut obs) = (asker(gateway.addr).await, decider(gateway.addr).await);
    let silent = json!({ "id": "s", "command": "ls", "suppressDelivery": true, "requireDeliveryRoute": false, "twoPhase": true });
    assert_eq!(op.call("exec.approval.request", silent).await["deliveryRoute"], "none");
    op.call("exec.approval.resolve", json!({ "id": "s", "decision": "deny" })).await;
    assert_eq!(heard(&mut obs, &EXEC).await, [""; 0]);
}

/// accepts: A9
#[tokio::test]
async fn plugins_ask_under_ids_of_their_own() {
    let gateway = Embedded::start().await;
    let (mut op, mut obs) =
        (asker(gateway.addr).await, client(gateway.addr, &["operator.admin"], &["plugin-approvals"]).await);
    let ask = json!({ "pluginId": "demo", "title": "Do thing", "description": "desc", "severity": "warning", "toolName": "t",
        "twoPhase": true, "timeoutMs": 20000, "allowedDecisions": ["deny", "allow-once"] });
    let asked = op.send("plugin.approval.request", ask).await;
    let id = op.response(&asked).await["payload"]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("plugin:"), "{id}");
    let told = obs.event(is("plugin.approval.requested", &id)).await["payload"].clone();
    assert_eq!(told["approvalKind"], "plugin");
    assert_eq!(
        told["request"],
        json!({ "pluginId": "demo", "title": "Do thing", "description": "desc", "scope": null, "detail": null, "severity": "warning",
            "toolName": "t", "toolCallId": null, "agentId": null, "sessionKey": null, "runId": null, "turnSourceChannel": null,
            "turnSourceTo": null, "turnSourceAccountId": null, "turnSourceThreadId": null, "allowedDecisions": ["allow-once", "deny"] })
    );
    assert_eq!(op.call("plugin.approval.list", json!({})).await, json!([told]));
    assert_eq!(op.call("exec.approval.list", json!({})).await, json!([]));
    let error = op.refused("plugin.approval.resolve", json!({ "id": id, "decision": "allow-always" })).await;
    assert_eq!(error["message"], "allow-always is unavailable for this plugin approval");
    assert_eq!(error["details"], json!({ "allowedDecisions": ["allow-once", "deny"] }));
    let waits = op.send("plugin.approval.waitDecision", json!({ "id": id })).await;
    assert_eq!(
        op.call("plugin.approval.resolve", json!({ "id": id, "decision": "deny" })).await,
        json!({ "ok": true })
    );
    assert_eq!(op.response(&asked).await["payload"]["decision"], "deny");
    assert_eq!(op.response(&waits).await["payload"]["terminalReason"], "user");
    let over = obs.event(is("plugin.approval.resolved", &id)).await["payload"].clone();
    assert_eq!((&over["decision"], &over["resolvedBy"]), (&json!("deny"), &json!("gateway-client")));
    let shown = op.call("approval.get", json!({ "id": id })).await["approval"].clone();
    assert_eq!((&shown["status"], &shown["presentation"]["title"]), (&json!("denied"), &json!("Do thing")));
    assert_eq!(shown["urlPath"], format!("/approve/{}", id.replace(':', "%3A")));
    for (kind, count) in [("plugin", 1), ("exec", 0), ("system-agent", 0)] {
        let page = op.call("approval.history", json!({ "kind": kind })).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{kind}");
    }
}

/// accepts: A9
#[tokio::test]
async fn history_is_read_by_pages() {
    let gateway = Embedded::start().await;
    let mut op = asker(gateway.addr).await;
    for n in 0..5 {
        op.call("exec.approval.request", json!({ "id": format!("h{n}"), "command": "ls" })).await;
    }
    let (mut seen, mut cursor) = (vec![], Value::Null);
    loop {
        let mut params = json!({ "limit": 2 });
        if !cursor.is_null() {
            params["cursor"] = cursor;
        }
        let page = op.call("approval.history", params).await;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["h4", "h3", "h2", "h1", "h0"]);
}
