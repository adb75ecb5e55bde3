//! Inputs: every operation twice, and what each read sees.

use serde_json::json;

use super::super::db::Db;
use super::super::db::tests::{KEY, accept, apply_one, input, said};
use super::super::rows::WriteOp;
use super::super::transcript::{HistoryPage, history};
use super::*;

fn accepted(reply: WriteReply) -> (InputRow, bool, Option<MessageRow>) {
    let WriteReply::Accepted { row, fresh, message } = reply else { panic!("{reply:?}") };
    (row, fresh, message)
}

fn began(reply: WriteReply) -> (InputRow, Option<MessageRow>) {
    let WriteReply::Began { mut rows, mut messages, .. } = reply else { panic!("{reply:?}") };
    (rows.remove(0), messages.pop())
}

fn settled(reply: WriteReply) -> (InputRow, Vec<MessageRow>) {
    let WriteReply::Settled { mut rows, messages } = reply else { panic!("{reply:?}") };
    (rows.remove(0), messages)
}

fn begin_op(input_id: &str, attempt: u32, message: Option<NewMessage>) -> WriteOp {
    let messages = message.into_iter().collect();
    WriteOp::Begin { turn: "k1".into(), inputs: vec![(input_id.into(), attempt)], messages, at: 7 }
}

fn settle_op(n: u32, state: InputState, outcome: Value, messages: Vec<NewMessage>) -> WriteOp {
    let session =
        Some(SessionUpdate { at: 50, status: Some(Some("done".into())), ..SessionUpdate::default() });
    WriteOp::Settle {
        turn: format!("k{n}"),
        inputs: vec![format!("i{n}")],
        released: vec![],
        state,
        outcome,
        messages,
        deliveries: vec![],
        events: vec![],
        session,
        at: 50,
    }
}

fn history_len(db: &Db) -> i64 {
    db.read(|c| history(c, KEY, HistoryPage { limit: 10, offset: 0 })).unwrap().total
}

#[test]
fn an_input_is_accepted_once_with_session_and_message() {
    let db = Db::memory().unwrap();
    let op = accept(1, true, Some(said(1, "user", "hi")));
    let (row, fresh, message) = accepted(apply_one(&db, &op).unwrap());
    assert!(fresh);
    assert_eq!((row.seq, row.state, row.attempts), (1, InputState::Running, 1));
    assert_eq!((row.started_at, row.settled_at, row.outcome.clone()), (Some(1_001), None, None));
    let message = message.unwrap();
    assert_eq!((message.session_id.as_str(), message.seq, message.raw_seq), ("s1", Some(1), 1));

    let again = accepted(apply_one(&db, &op).unwrap());
    assert_eq!(again, (row.clone(), false, Some(message)));
    let other = NewInput { id: "new".into(), text: "different".into(), digest: "e".into(), ..input(1) };
    let session = SessionUpdate { at: 99, status: Some(Some("x".into())), ..SessionUpdate::default() };
    let op = WriteOp::AcceptInput { input: other, begin: false, user_message: None, session };
    assert_eq!(accepted(apply_one(&db, &op).unwrap()), (row.clone(), false, None));
    assert_eq!(db.read(|c| sessions::session(c, KEY)).unwrap().unwrap().status, None);
    assert_eq!(history_len(&db), 1);

    assert_eq!(db.read(|c| input_by_run(c, "k1")).unwrap(), Some(row.clone()));
    assert_eq!(db.read(|c| input_by_source(c, "rpc", "k1")).unwrap(), Some(row.clone()));
    assert_eq!(db.read(|c| input_by_id(c, "i1")).unwrap(), Some(row));
    assert_eq!(db.read(|c| input_by_source(c, "telegram:default", "k1")).unwrap(), None);
}

#[test]
fn attempts_only_go_up_and_only_while_open() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, false, None)).unwrap();
    let begin = |attempt, message: Option<NewMessage>| {
        began(apply_one(&db, &begin_op("i1", attempt, message)).unwrap())
    };
    let (row, message) = begin(1, Some(said(1, "user", "hi")));
    assert_eq!((row.state, row.attempts, row.started_at), (InputState::Running, 1, Some(7)));
    assert_eq!(begin(1, Some(said(1, "user", "hi"))), (row, message));
    assert_eq!(begin(2, Some(said(1, "user", "hi"))).0.attempts, 2);
    assert_eq!(begin(1, None).0.attempts, 2);
    assert_eq!(history_len(&db), 1);

    apply_one(&db, &settle_op(1, InputState::Dead, json!("poison"), vec![])).unwrap();
    let (row, message) = begin(3, Some(said(3, "user", "never written")));
    assert_eq!((row.state, row.attempts, message), (InputState::Dead, 2, None));
    assert_eq!(apply_one(&db, &begin_op("x", 1, None)), Err(StoreError::NotFound));
}

/// accepts: I6, I7
#[test]
fn a_turn_that_is_joined_answers_all_its_inputs_at_once() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, true, Some(said(1, "user", "first")))).unwrap();
    apply_one(&db, &accept(2, false, None)).unwrap();
    let answer = NewMessage { run_id: Some("k1".into()), ..said(3, "assistant", "so far") };
    let join = WriteOp::Begin {
        turn: "k1".into(),
        inputs: vec![("i2".into(), 1)],
        messages: vec![answer, said(2, "user", "second")],
        at: 9,
    };
    let mut told = Vec::new();
    for _ in 0..2 {
        let WriteReply::Began { rows, messages, .. } = apply_one(&db, &join).unwrap() else { panic!() };
        assert_eq!((rows[0].state, rows[0].turn.as_deref()), (InputState::Running, Some("k1")));
        told.push(messages.iter().map(|m| (m.id.clone(), m.seq)).collect::<Vec<_>>());
    }
    assert_eq!(told[0], [("m3".to_owned(), Some(2)), ("m2".to_owned(), Some(3))]);
    assert_eq!(told[0], told[1]);
    let again = apply_one(&db, &begin_op("i1", 2, None)).unwrap();
    let WriteReply::Began { answers, .. } = again else { panic!() };
    assert_eq!(answers.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["m3"], "answered already");

    let turn = db.read(|c| inputs_of_turn(c, "k1")).unwrap();
    let inputs: Vec<String> = turn.into_iter().map(|row| row.id).collect();
    assert_eq!(inputs, ["i1", "i2"]);
    let op = WriteOp::Settle {
        turn: "k1".into(),
        inputs,
        released: vec![],
        state: InputState::Settled,
        outcome: json!("both"),
        messages: vec![],
        deliveries: Vec::new(),
        events: vec![],
        session: None,
        at: 50,
    };
    apply_one(&db, &op).unwrap();
    let outcomes = ["k1", "k2"].map(|run| db.read(|c| input_by_run(c, run)).unwrap().unwrap().outcome);
    assert_eq!(outcomes, [Some(json!("both")), Some(json!("both"))]);
    assert!(db.read(|c| backlog(c, KEY)).unwrap().is_empty());
}

#[test]
fn what_a_turn_has_begun_is_known_until_it_is_settled() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, true, None)).unwrap();
    let op = |call_id: &str| WriteOp::BeginCall {
        turn: "k1".into(),
        call_id: call_id.into(),
        tool: "exec".into(),
    };
    for call in ["a", "a", "b"] {
        assert_eq!(apply_one(&db, &op(call)), Ok(WriteReply::Done));
    }
    let begun = |turn: &'static str| db.read(move |c| begun_calls(c, turn)).unwrap().len();
    assert_eq!((begun("k1"), begun("k2")), (2, 0));
    apply_one(&db, &settle_op(1, InputState::Settled, json!({ "status": "ok" }), vec![])).unwrap();
    assert_eq!(begun("k1"), 0);
}

#[test]
fn there_is_exactly_one_outcome() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, true, Some(said(1, "user", "hi")))).unwrap();
    let answers = vec![said(2, "toolResult", "out"), said(3, "assistant", "hello")];
    let op = settle_op(1, InputState::Settled, json!({ "status": "ok" }), answers);
    let (row, messages) = settled(apply_one(&db, &op).unwrap());
    assert_eq!(
        (row.state, row.settled_at, &row.outcome),
        (InputState::Settled, Some(50), &Some(json!({"status":"ok"})))
    );
    assert_eq!(messages.iter().map(|m| m.seq.unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(settled(apply_one(&db, &op).unwrap()), (row.clone(), messages));

    let late = settle_op(1, InputState::Dead, json!("late"), vec![said(9, "assistant", "never written")]);
    assert_eq!(settled(apply_one(&db, &late).unwrap()), (row.clone(), vec![]));
    assert_eq!(history_len(&db), 3);
    assert_eq!(db.read(|c| sessions::session(c, KEY)).unwrap().unwrap().status.as_deref(), Some("done"));
    let wrong = settle_op(1, InputState::Running, json!(null), vec![]);
    assert!(matches!(apply_one(&db, &wrong), Err(StoreError::Conflict { .. })));
    assert_eq!(apply_one(&db, &settle_op(7, InputState::Dead, json!(0), vec![])), Err(StoreError::NotFound));
    assert_eq!(accepted(apply_one(&db, &accept(1, true, None)).unwrap()), (row, false, None));
}

#[test]
fn a_null_outcome_is_an_outcome() {
    let db = Db::memory().unwrap();
    apply_one(&db, &accept(1, false, None)).unwrap();
    let (row, _) = settled(apply_one(&db, &settle_op(1, InputState::Settled, Value::Null, vec![])).unwrap());
    assert_eq!(row.outcome, Some(Value::Null));
}

#[test]
fn the_backlog_is_what_has_no_outcome_in_order() {
    let db = Db::memory().unwrap();
    for n in 1..=4 {
        apply_one(&db, &accept(n, n == 2, None)).unwrap();
    }
    let elsewhere = NewInput { session_key: "agent:main:other".into(), ..input(5) };
    let session = SessionUpdate::default();
    apply_one(&db, &WriteOp::AcceptInput { input: elsewhere, begin: false, user_message: None, session })
        .unwrap();
    apply_one(&db, &settle_op(1, InputState::Settled, json!(1), vec![])).unwrap();
    apply_one(&db, &settle_op(3, InputState::Dead, json!(1), vec![])).unwrap();

    let ids: Vec<String> = db.read(|c| backlog(c, KEY)).unwrap().into_iter().map(|r| r.id).collect();
    assert_eq!(ids, ["i2", "i4"]);
    assert_eq!(db.read(keys_with_backlog).unwrap(), [KEY, "agent:main:other"]);
    assert_eq!(db.read(counts).unwrap(), Counts { sessions: 2, queued: 2, running: 1, dead: 1 });
}

#[test]
fn every_read_uses_an_index() {
    let db = Db::memory().unwrap();
    let plan = |sql: &str| {
        db.read(|c| {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let steps =
                statement.raw_bind_parameter(1, "x").map(|()| statement.raw_query().mapped(|r| r.get(3)))?;
            Ok(steps.collect::<Result<Vec<String>, _>>()?.join("; "))
        })
        .unwrap()
    };
    for (sql, index) in [
        (select!("WHERE session_key = ?1 AND settled_at IS NULL ORDER BY seq"), "inputs_backlog"),
        (select!("WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1"), "inputs_run"),
    ] {
        let plan = plan(sql);
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
    }
}
