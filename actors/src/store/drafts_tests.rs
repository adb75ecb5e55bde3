//! Drafts: every operation twice, and in every order in which a kill may leave them.

use serde_json::{Value, json};

use super::super::channels::{delivery_by_id, open_deliveries};
use super::super::db::Db;
use super::super::db::tests::{accept, apply_one};
use super::super::rows::{DeliveryRow, DeliveryState, InputState, WriteOp, WriteReply};

fn row(id: &str, text: &str, state: DeliveryState, extra: Value) -> DeliveryRow {
    DeliveryRow {
        id: id.into(),
        channel: "c".into(),
        account: "a".into(),
        address: json!({ "chat": "1" }),
        session_key: None,
        run_id: Some("k1".into()),
        text: text.into(),
        extra,
        state,
        attempts: 0,
        platform_id: None,
        error: None,
        created_at: 1,
        updated_at: 1,
    }
}

fn draft(id: &str) -> WriteOp {
    WriteOp::BeginDraft(row(id, "", DeliveryState::Sending, json!({ "draft": "live" })))
}

fn settle(deliveries: Vec<DeliveryRow>) -> WriteOp {
    WriteOp::Settle {
        turn: "k1".into(),
        inputs: vec!["i1".into()],
        released: vec![],
        state: InputState::Settled,
        outcome: json!({}),
        messages: vec![],
        deliveries,
        events: vec![],
        session: None,
        at: 50,
    }
}

/// A store with a turn that runs, and a draft of it that the platform has.
fn shown() -> Db {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, true, None)).unwrap();
    assert_eq!(apply_one(&db, &draft("d")).unwrap(), WriteReply::Count(1));
    assert_eq!(apply_one(&db, &draft("d")).unwrap(), WriteReply::Count(0));
    for _ in 0..2 {
        apply_one(&db, &WriteOp::ShowDraft { id: "d".into(), platform_id: "7".into() }).unwrap();
    }
    db
}

fn open(db: &Db) -> Vec<(String, String, Value, Option<String>)> {
    let rows = db.read(|c| open_deliveries(c, "c", "a", (10, 10))).unwrap();
    let told = |row: DeliveryRow| (row.id, row.text, row.extra["draft"].clone(), row.platform_id);
    rows.into_iter().map(told).collect()
}

#[test]
fn the_end_of_a_turn_makes_its_draft_the_first_message_of_its_answer() {
    let db = shown();
    assert!(open(&db).is_empty(), "while the turn goes on there is nothing to be sent");
    let pieces = [("p1", "one", json!({ "draftId": "d" })), ("p2", "two", json!({}))];
    let pieces = pieces.map(|(id, text, extra)| row(id, text, DeliveryState::Queued, extra));
    for _ in 0..2 {
        apply_one(&db, &settle(pieces.to_vec())).unwrap();
        let first = ("p1".into(), "one".into(), json!("final"), Some("7".into()));
        assert_eq!(open(&db), [first, ("p2".into(), "two".into(), Value::Null, None)]);
    }
    // What is sent all the same is not removed.
    apply_one(&db, &WriteOp::RemoveDraft { id: "p1".into() }).unwrap();
    assert_eq!(open(&db).len(), 2);
}

#[test]
fn what_the_platform_calls_a_draft_may_be_known_only_when_its_turn_has_ended() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, true, None)).unwrap();
    apply_one(&db, &draft("d")).unwrap();
    let answer = row("p1", "one", DeliveryState::Queued, json!({ "draftId": "d" }));
    apply_one(&db, &settle(vec![answer])).unwrap();
    apply_one(&db, &WriteOp::ShowDraft { id: "d".into(), platform_id: "7".into() }).unwrap();
    assert_eq!(open(&db), [("p1".into(), "one".into(), json!("final"), Some("7".into()))]);
}

#[test]
fn a_draft_whose_turn_says_nothing_ends_and_leaves_no_row() {
    let db = shown();
    apply_one(&db, &settle(vec![])).unwrap();
    assert_eq!(open(&db), [("d".into(), String::new(), json!("end"), Some("7".into()))]);
    for _ in 0..2 {
        apply_one(&db, &WriteOp::RemoveDraft { id: "d".into() }).unwrap();
        assert_eq!(db.read(|c| delivery_by_id(c, "d")).unwrap(), None);
    }
}

#[test]
fn what_stays_of_a_stopped_answer_is_for_its_draft_only() {
    let left = |id| row("p1", "so far", DeliveryState::Queued, json!({ "draft": "end", "draftId": id }));
    let db = shown();
    apply_one(&db, &settle(vec![left("d"), left("e")])).unwrap();
    assert_eq!(open(&db), [("p1".into(), "so far".into(), json!("end"), Some("7".into()))]);
}

/// It would stay for ever.
#[test]
fn no_draft_begins_when_its_turn_is_over() {
    let db = Db::memory().unwrap();
    assert_eq!(apply_one(&db, &draft("d")).unwrap(), WriteReply::Count(0), "there is no such turn");
    apply_one(&db, &accept(1, true, None)).unwrap();
    apply_one(&db, &settle(vec![row("d", "whole", DeliveryState::Queued, json!({}))])).unwrap();
    assert_eq!(apply_one(&db, &draft("d")).unwrap(), WriteReply::Count(0));
    assert_eq!(apply_one(&db, &draft("e")).unwrap(), WriteReply::Count(0));
    assert_eq!(open(&db), [("d".into(), "whole".into(), Value::Null, None)]);
}
