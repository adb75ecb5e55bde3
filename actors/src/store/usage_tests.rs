//! Usage: by day, by session and model, by run.

use serde_json::json;

use super::super::db::Db;
use super::super::db::tests::{apply_one, input};
use super::super::rows::{InputState, NewInput, SessionUpdate, WriteOp};
use super::*;

fn settled(db: &Db, n: u32, key: &str, at: i64, outcome: serde_json::Value) {
    let input = NewInput { session_key: key.into(), ..input(n) };
    let session = SessionUpdate::default();
    apply_one(db, &WriteOp::AcceptInput { input, begin: true, user_message: None, session }).unwrap();
    let op = WriteOp::Settle {
        turn: format!("k{n}"),
        inputs: vec![format!("i{n}")],
        released: vec![],
        state: InputState::Settled,
        outcome,
        messages: vec![],
        deliveries: Vec::new(),
        events: vec![],
        session: None,
        at,
    };
    apply_one(db, &op).unwrap();
}

fn outcome(status: &str, model: &str, input: u64, output: u64) -> serde_json::Value {
    json!({
        "status": status, "text": "", "stopReason": "stop", "startedAt": 100, "endedAt": 350, "provider": "mock",
        "model": model, "usage": { "input": input, "output": output, "cost": { "input": 0.1 } }, "sessionId": "s",
    })
}

fn dimes(count: u32) -> Cost {
    Cost { input: Usd::from(f64::from(count) / 10.0), ..Cost::default() }
}

fn sample() -> Db {
    let db = Db::memory().unwrap();
    settled(&db, 1, "agent:main:a", 10, outcome("ok", "m1", 100, 3));
    settled(&db, 2, "agent:main:a", 20, outcome("error", "m1", 7, 0));
    settled(&db, 3, "agent:main:a", DAY_MS, outcome("timeout", "m2", 1, 1));
    settled(&db, 4, "agent:ops:a", DAY_MS + 1, outcome("aborted", "m1", 5, 5));
    settled(&db, 5, "agent:ops:b", DAY_MS * 2, json!("given up"));
    db
}

#[test]
fn usage_is_summed_by_session_day_and_model() {
    let db = sample();
    let read = |filter: UsageFilter| {
        let row = |r: UsageRow| {
            (
                r.session_key,
                r.quarter * QUARTER_MS / DAY_MS,
                r.model,
                r.runs,
                r.errors,
                r.used.input,
                r.used.output,
            )
        };
        db.read(|c| usage(c, &filter)).unwrap().into_iter().map(row).collect::<Vec<_>>()
    };
    let row = |key: &str, day, model: &str, runs, errors, input, output| {
        (key.to_owned(), day, model.to_owned(), runs, errors, input, output)
    };
    let first = row("agent:main:a", 0, "m1", 2, 1, 107, 3);
    let second = row("agent:main:a", 1, "m2", 1, 1, 1, 1);
    let third = row("agent:ops:a", 1, "m1", 1, 0, 5, 5);
    let last = row("agent:ops:b", 2, "", 1, 0, 0, 0);
    let all = UsageFilter { to_ms: i64::MAX, ..UsageFilter::default() };
    assert_eq!(read(all.clone()), [first.clone(), second.clone(), third.clone(), last.clone()]);
    assert_eq!(
        read(UsageFilter { key: Some("agent:main:a".into()), ..all.clone() }),
        [first.clone(), second.clone()]
    );
    assert_eq!(read(UsageFilter { agent: Some("ops".into()), ..all.clone() }), [third.clone(), last]);
    assert_eq!(read(UsageFilter { from_ms: DAY_MS, to_ms: DAY_MS * 2, ..all.clone() }), [second, third]);
    assert_eq!(read(UsageFilter { agent: Some("op".into()), ..all }), []);
    let all = UsageFilter { to_ms: i64::MAX, ..UsageFilter::default() };
    let first = db.read(|c| usage(c, &all)).unwrap().remove(0);
    assert_eq!((first.answered, first.first_at, first.last_at, first.durations.len()), (1, 1001, 20, 1));
}

#[test]
fn costs_are_summed_up_without_noise_and_what_is_not_known_is_counted() {
    let db = Db::memory().unwrap();
    let key = "agent:main:a";
    for n in 1..=3 {
        settled(&db, n, key, 10, outcome("ok", "m1", 1, 1));
    }
    let used = json!({ "input": 5, "output": 1, "cacheRead": 40, "cacheWrite": 2 });
    let unpriced = |used| json!({ "status": "ok", "provider": "mock", "model": "m1", "usage": used });
    settled(&db, 4, key, 10, unpriced(used));
    settled(&db, 5, key, 10, unpriced(json!({ "input": 0, "output": 0 })));
    let all = UsageFilter { to_ms: i64::MAX, ..UsageFilter::default() };
    let row = db.read(|c| usage(c, &all)).unwrap().remove(0);
    assert_eq!((row.runs, row.unpriced, row.used.cost), (5, 1, Some(dimes(3))), "0.1 three times is 0.3");
    assert_eq!((row.used.input, row.used.cache_read, row.used.cache_write), (8, 40, 2));
}

#[test]
fn usage_outlives_its_session() {
    let db = sample();
    apply_one(&db, &WriteOp::DeleteSession { key: "agent:main:a".into(), keep_transcripts: false }).unwrap();
    let filter = UsageFilter { key: Some("agent:main:a".into()), to_ms: i64::MAX, ..UsageFilter::default() };
    assert_eq!(db.read(|c| usage(c, &filter)).unwrap().len(), 2);
}

#[test]
fn the_latest_runs_are_told_in_order() {
    let db = sample();
    let runs = |from, to, limit| {
        let runs = db.read(|c| run_usage(c, "agent:main:a", from, to, limit)).unwrap();
        runs.into_iter().map(|r| r.run_id).collect::<Vec<_>>()
    };
    assert_eq!(runs(0, i64::MAX, 9), ["k1", "k2", "k3"]);
    assert_eq!(runs(0, i64::MAX, 2), ["k2", "k3"]);
    assert_eq!(runs(20, DAY_MS, 9), ["k2"]);
    let first = db.read(|c| run_usage(c, "agent:main:a", 0, 11, 9)).unwrap().remove(0);
    let expected = RunUsage {
        run_id: "k1".into(),
        at: 10,
        used: Usage { input: 100, output: 3, cost: Some(dimes(1)), ..Usage::default() },
        provider: "mock".into(),
        model: "m1".into(),
        status: "ok".into(),
        duration_ms: 250,
    };
    assert_eq!(first, expected);
    let strange = db.read(|c| run_usage(c, "agent:ops:b", 0, i64::MAX, 9)).unwrap().remove(0);
    assert_eq!((strange.status.as_str(), strange.duration_ms), ("", 0));
}

#[test]
fn usage_is_read_from_its_indexes() {
    let db = Db::memory().unwrap();
    let plan = |sql: &str| {
        let steps = |c: &Connection| {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            Ok(statement.query_map([], |r| r.get::<_, String>(3))?.collect::<Result<Vec<_>, _>>()?.join("; "))
        };
        db.read(steps).unwrap()
    };
    let sums = plan(&(1..=5).fold(USAGE.to_owned(), |sql, n| sql.replace(&format!("?{n}"), "1")));
    assert!(sums.contains("COVERING INDEX inputs_usage"), "{sums}");
    let runs = "SELECT outcome FROM inputs WHERE session_key = 'x' AND settled_at >= 1 AND settled_at < 9
        ORDER BY settled_at DESC, seq DESC LIMIT 3";
    assert!(plan(runs).contains("inputs_settled") && !plan(runs).contains("TEMP"), "{}", plan(runs));
}
