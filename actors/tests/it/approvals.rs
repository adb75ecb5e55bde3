//! What the gateway itself asks people, over crashes of whoever brings the answer.

use crate::planting::{estate_args, planted};
use crabtree_actors::approvals::EXEC_WAIT_MS;
use crabtree_actors::approvals::{
    ActionAsked, ApprovalsMsg, Ask, Asked, By, CommandAsked, Decision, Key, Kind, MAX_PENDING, Remembered,
    Resolve, Said, Shape, ask,
};
use crabtree_actors::conns::{Conn, Grant, Peer};
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::outbox::Item;
use crabtree_actors::responder::Responder;
use crabtree_actors::store::{self, ApprovalRow};
use crabtree_actors::tree::{self, Chaos, Clock, Node};
use crabtree_protocol::params::approvals::{ApprovalDecision, Severity};
use crabtree_protocol::{ConnId, Role, Scope, Scopes};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// A gateway without sockets.
struct Planted {
    wiring: Arc<Wiring>,
    root: Arc<Node>,
    state: TempDir,
}

impl Planted {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut args = estate_args(Clock::simulated(1_795_000_000_000), json!({}));
        args.loaded.state_dir = state.path().to_owned();
        let wiring = Wiring::new(Estate::new(args));
        let root = planted(&wiring);
        Self { wiring, root, state }
    }

    /// Somebody who may decide, and can show what is asked.
    fn person(&self) -> (Arc<Conn>, UnboundedReceiver<Item>) {
        let conns = &self.wiring.store.estate.conns;
        let (conn, items) = conns.open(ConnId::random(), Peer::new([127, 0, 0, 1].into()));
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "caps": ["approvals"],
            "client": { "id": "cli", "mode": "cli", "version": "1", "platform": "linux" },
        });
        conn.admit(Grant {
            role: Role::Operator,
            scopes: Scopes::of(&[Scope::Approvals]),
            device: None,
            method: "token",
            scoped_events: false,
            tool_events: false,
            params: serde_json::from_value(params).unwrap(),
        });
        (conn, items)
    }

    async fn row(&self, kind: Kind, id: &str) -> Option<ApprovalRow> {
        let id = id.to_owned();
        self.wiring.store.read(move |c| store::approval(c, kind.name(), &id)).await.unwrap()
    }

    /// The request, once it is stored.
    async fn asked(&self, kind: Kind, id: &str) -> ApprovalRow {
        loop {
            if let Some(row) = self.row(kind, id).await {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn decide(&self, conn: &Arc<Conn>, id: &str, decision: ApprovalDecision) {
        let key = Key { kind: Kind::of_id(id), id: id.into() };
        let (said, shape, by) = (Said::Decision(decision), Shape::Ok(decision), By::of(conn));
        let responder = Responder::new(conn.clone(), "\"1\"", None, None);
        let resolve = Resolve { key, prefix: true, said, by, shape, responder };
        assert!(self.wiring.approvals.send(ApprovalsMsg::Resolve(Box::new(resolve))).is_ok());
    }

    fn panics(&self) {
        assert!(self.root.find("gateway/approvals").unwrap().inject(Chaos::Panic));
    }
}

fn command(id: &str) -> Ask {
    let about = CommandAsked { command: "uname -s".into(), may_always: true, ..CommandAsked::default() };
    Ask { id: id.into(), about: Asked::Command(about), wait: None }
}

#[tokio::test(start_paused = true)]
async fn a_question_survives_crashes_and_is_answered_once_and_for_all() {
    let gateway = Planted::new();
    let (conn, _items) = gateway.person();
    let slot = gateway.wiring.approvals.clone();
    let asking = tokio::spawn(async move { ask(&slot, command("a")).await });
    gateway.asked(Kind::Exec, "a").await;
    for _ in 0..2 {
        gateway.panics();
        let seen = gateway.wiring.approvals.generation();
        gateway.wiring.approvals.newer_than(seen - 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!asking.is_finished());
    gateway.decide(&conn, "a", ApprovalDecision::AllowAlways);
    assert_eq!(asking.await.unwrap(), Decision::AllowAlways);
    // Whoever resumes asks the same again, and gets the same answer.
    assert_eq!(ask(&gateway.wiring.approvals, command("a")).await, Decision::AllowAlways);
    tree::shutdown(&gateway.root).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_there_nobody_in_time_and_nobody_who_wants_to_know() {
    let gateway = Planted::new();
    let slot = gateway.wiring.approvals.clone();
    let asked_at = tokio::time::Instant::now();
    assert_eq!(ask(&slot, command("alone")).await, Decision::Expired);
    assert!(asked_at.elapsed() >= Duration::from_millis(EXEC_WAIT_MS as u64), "somebody may come later");
    let outcome = gateway.row(Kind::Exec, "alone").await.unwrap().outcome.unwrap();
    assert_eq!(outcome["reason"], "timeout");

    let (_conn, _items) = gateway.person();
    let about = ActionAsked {
        plugin_id: Some("mcp".into()),
        title: "x".repeat(100),
        description: "d".into(),
        detail: None,
        severity: Severity::Info,
        tool_name: None,
        allowed: ApprovalDecision::ALL.to_vec(),
        agent_id: None,
        session_key: None,
        run_id: None,
        tool_call_id: None,
    };
    let action = Ask { id: "t".into(), about: Asked::Action(about), wait: Some(Duration::from_secs(5)) };
    assert_eq!(ask(&slot, action).await, Decision::Expired);
    let row = gateway.row(Kind::Plugin, "plugin:t").await.unwrap();
    assert_eq!(row.request["title"].as_str().unwrap().chars().count(), 80);
    assert_eq!(row.outcome.unwrap()["reason"], "timeout");

    // A run that ends takes its question back.
    let asking = tokio::spawn(async move { ask(&slot, command("gone")).await });
    gateway.asked(Kind::Exec, "gone").await;
    asking.abort();
    while gateway.row(Kind::Exec, "gone").await.unwrap().outcome.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let outcome = gateway.row(Kind::Exec, "gone").await.unwrap().outcome.unwrap();
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("cancelled"), &json!("run-aborted")));
    assert_eq!(ask(&gateway.wiring.approvals, command("gone")).await, Decision::Cancelled);
    tree::shutdown(&gateway.root).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_is_not_allowed() {
    let gateway = Planted::new();
    let (_conn, _items) = gateway.person();
    let slot = gateway.wiring.approvals.clone();
    let about = CommandAsked { command: "x".repeat(16_385), ..CommandAsked::default() };
    let long = Ask { id: "long".into(), about: Asked::Command(about), wait: None };
    assert_eq!(ask(&slot, long).await, Decision::Deny);
    let waiting: Vec<_> = (0..MAX_PENDING)
        .map(|n| {
            let slot = slot.clone();
            tokio::spawn(async move { ask(&slot, command(&format!("w{n}"))).await })
        })
        .collect();
    gateway.asked(Kind::Exec, &format!("w{}", MAX_PENDING - 1)).await;
    assert_eq!(ask(&slot, command("one more")).await, Decision::Deny);
    waiting.iter().for_each(|asking| asking.abort());
    tree::shutdown(&gateway.root).await;
}

#[tokio::test]
async fn what_is_always_allowed_is_known_at_once() {
    let gateway = Planted::new();
    let what = Remembered {
        agent_id: "main".into(),
        pattern: "/usr/bin/uname".into(),
        command: Some("uname -s".into()),
        ..Remembered::default()
    };
    let remembered =
        gateway.wiring.approvals.ask(|reply| ApprovalsMsg::Remember(Box::new(what.clone()), reply)).await;
    assert_eq!(remembered, Ok(()));
    let estate = &gateway.wiring.store.estate;
    let patterns: Vec<_> =
        estate.exec_approvals.load().allowlist("main").map(|entry| entry.pattern.clone()).collect();
    assert_eq!(patterns, ["/usr/bin/uname"]);
    assert!(gateway.state.path().join("exec-approvals.json").exists());
    tree::shutdown(&gateway.root).await;
}
