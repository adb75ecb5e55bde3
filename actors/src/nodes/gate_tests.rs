//! Claims that people agreed to a command, true and false.

use super::*;
use crate::conns::{Conns, Peer};
use crabtree_protocol::params::approvals::Resolver;
use crabtree_protocol::{ConnId, Role, Scopes};
use std::sync::Arc;

fn conn(scopes: &[Scope]) -> Arc<Conn> {
    let (conn, _) = Conns::default().open(ConnId::random(), Peer::new([127, 0, 0, 1].into()));
    let params = json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": { "id": "cli", "mode": "cli", "version": "1", "platform": "linux" },
    });
    conn.admit(Grant {
        role: Role::Operator,
        scopes: Scopes::of(scopes),
        device: None,
        method: "token",
        scoped_events: false,
        tool_events: false,
        params: serde_json::from_value(params).unwrap(),
    });
    conn
}

fn plan() -> Value {
    json!({ "argv": ["/bin/uname"], "cwd": "/w", "commandText": "/bin/uname", "agentId": null, "sessionKey": null })
}

/// A request for the plan at the node `n`, decided like this.
fn row(conn: &Conn, decision: Option<&str>) -> ApprovalRow {
    let outcome = decision.map(|decision| {
        json!({
            "status": if decision == "deny" { "denied" } else { "allowed" }, "reason": "user", "decision": decision,
            "resolver": Resolver { kind: "runtime".into(), id: None }, "resolved_by": "cli", "answers": null,
        })
    });
    ApprovalRow {
        kind: "exec".into(),
        id: "r".into(),
        request: json!({ "host": "node", "nodeId": "n", "systemRunPlan": plan() }),
        requester: Some(json!(Requester::of(conn, false))),
        expires_at: 100,
        outcome,
        ..ApprovalRow::default()
    }
}

fn claim(more: Value) -> Map<String, Value> {
    let mut said = json!({ "command": ["/bin/uname"], "cwd": "/w", "runId": "r", "approved": true });
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match wish(Some(said)).unwrap() {
        Wish::Agreed(id, params) if id == "r" => params,
        other => panic!("{other:?}"),
    }
}

fn code(refused: Result<Agreement, Refusal>) -> String {
    refused.unwrap_err().detail_code().unwrap().to_owned()
}

#[test]
fn a_command_without_a_claim_is_sent_with_an_id_and_without_what_only_the_gateway_says() {
    let said = json!({ "command": ["ls"], "approved": false, "approvalDecision": "deny", "mischief": 1 });
    let Wish::Plain(sent) = wish(Some(said)).unwrap() else { panic!("a claim") };
    let names: Vec<_> = sent.as_object().unwrap().keys().collect();
    assert_eq!(names, ["command", "runId"]);
    let Wish::Plain(kept) = wish(Some(json!({ "command": ["ls"], "runId": "mine" }))).unwrap() else {
        panic!("a claim")
    };
    assert_eq!(kept["runId"], "mine");
    assert_eq!(wish(None), Ok(Wish::Plain(Value::Null)));
}

/// The recording `a2`.
#[test]
fn a_claim_names_its_request() {
    let refused = |said: Value| wish(Some(said)).unwrap_err();
    let missing = refused(json!({ "command": ["ls"], "approved": true }));
    assert_eq!(
        (missing.message.as_str(), missing.detail_code()),
        ("approval override requires params.runId", Some("MISSING_RUN_ID"))
    );
    assert_eq!(refused(json!({ "approvalDecision": "allow-always" })).detail_code(), Some("MISSING_RUN_ID"));
    let source = refused(json!({ "approvalSource": "ask-fallback", "runId": "r" }));
    assert_eq!(source.detail_code(), Some("INVALID_APPROVAL_SOURCE"));
}

#[test]
fn what_people_agreed_to_is_sent_as_it_was_planned() {
    let asker = conn(&[Scope::Write]);
    let once = agreement("r", claim(json!({})), Some(&row(&asker, Some("allow-once"))), "n", Some(&asker), 1);
    let once = once.unwrap();
    assert!(once.once);
    assert_eq!(
        once.params,
        json!({
            "command": ["/bin/uname"], "cwd": "/w", "runId": "r", "rawCommand": "/bin/uname",
            "systemRunPlan": plan(), "approved": true, "approvalDecision": "allow-once",
        })
    );
    let always =
        agreement("r", claim(json!({})), Some(&row(&asker, Some("allow-always"))), "n", Some(&asker), 1);
    assert!(!always.unwrap().once);
}

/// A guard: with the right `runId` alone nobody gets through.
#[test]
fn what_people_did_not_agree_to_does_not_pass() {
    let asker = conn(&[Scope::Write]);
    let yes = row(&asker, Some("allow-once"));
    let judge = |more: Value, row: Option<&ApprovalRow>, node: &str, caller: Option<&Conn>, now| {
        code(agreement("r", claim(more), row, node, caller, now))
    };
    let nothing = || json!({});
    assert_eq!(judge(nothing(), None, "n", Some(&asker), 1), "UNKNOWN_APPROVAL_ID");
    assert_eq!(judge(nothing(), Some(&yes), "n", Some(&asker), 101), "APPROVAL_EXPIRED");
    assert_eq!(judge(nothing(), Some(&yes), "m", Some(&asker), 1), "APPROVAL_NODE_MISMATCH");
    let other = conn(&[Scope::Write]);
    assert_eq!(judge(nothing(), Some(&yes), "n", Some(&other), 1), "APPROVAL_CLIENT_MISMATCH");
    assert_eq!(judge(nothing(), Some(&yes), "n", None, 1), "APPROVAL_CLIENT_MISMATCH");
    for other in [
        json!({ "command": ["/bin/rm"] }),
        json!({ "cwd": "/" }),
        json!({ "env": { "LD_PRELOAD": "x" } }),
        json!({ "sessionKey": "agent:main:main" }),
    ] {
        assert_eq!(judge(other, Some(&yes), "n", Some(&asker), 1), "APPROVAL_REQUEST_MISMATCH");
    }
    for decision in [None, Some("deny")] {
        assert_eq!(judge(nothing(), Some(&row(&asker, decision)), "n", Some(&asker), 1), "APPROVAL_REQUIRED");
    }
    let here = ApprovalRow { request: json!({ "host": "gateway" }), ..yes.clone() };
    assert_eq!(judge(nothing(), Some(&here), "n", Some(&asker), 1), "APPROVAL_NODE_BINDING_MISSING");
    // Who could have agreed may use it from another connection, as command lines do.
    let decider = conn(&[Scope::Approvals, Scope::Write]);
    assert!(agreement("r", claim(nothing()), Some(&yes), "n", Some(&decider), 1).is_ok());
}
