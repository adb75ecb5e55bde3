use super::super::db::{Db, Sync};
use super::super::rows::{InputState, NewInput, SessionUpdate};
use super::*;
use serde_json::json;

fn act(action: &str, at: i64) -> Act {
    Act {
        at,
        kind: "operator_act".into(),
        action: action.into(),
        status: "succeeded".into(),
        actor_type: "operator".into(),
        actor_id: "d1".into(),
        origin: Some(json!({ "client": "cli", "address": "127.0.0.1" })),
        ..Act::default()
    }
}

const ALL: AuditKeep = AuditKeep { rows: 1000, since: 0 };

fn note(db: &Db, acts: Vec<Act>, keep: AuditKeep) {
    let at = acts.last().map_or(0, |act| act.at);
    db.apply_batch(&[WriteOp::Audit(AuditBatch { acts, keep, at })], &|_| {}).unwrap().remove(0).unwrap();
}

fn filter() -> AuditFilter {
    AuditFilter { before: i64::MAX, cursor: i64::MAX, limit: 100, ..AuditFilter::default() }
}

fn actions(db: &Db, filter: &AuditFilter) -> Vec<String> {
    db.read(|c| acts(c, filter)).unwrap().into_iter().map(|row| row.act.action).collect()
}

fn verdict(db: &Db) -> AuditVerdict {
    db.read(|c| verify_audit(c, None)).unwrap()
}

fn tampered(sql: &str) -> Option<String> {
    let db = Db::memory().unwrap();
    note(&db, (1..=5).map(|n| act(&format!("m{n}"), n)).collect(), ALL);
    assert_eq!(verdict(&db).problem, None);
    db.write(|conn| Ok(conn.execute_batch(sql)?)).unwrap();
    verdict(&db).problem
}

#[test]
fn whatever_is_changed_in_the_ledger_shows() {
    let shows = |sql: &str, words: &str| {
        let problem = tampered(sql).unwrap_or_else(|| panic!("{sql} went unseen"));
        assert!(problem.contains(words), "{sql}: {problem}");
    };
    shows("UPDATE audit SET body = replace(body, 'm3', 'm9') WHERE seq = 3", "row 3");
    shows("UPDATE audit SET at = 99 WHERE seq = 2", "row 2");
    shows("DELETE FROM audit WHERE seq = 3", "row 3 is missing");
    shows("DELETE FROM audit WHERE seq = 1", "row 1 is missing");
    shows("DELETE FROM audit WHERE seq = 5", "written last");
    shows("DELETE FROM audit", "written last");
    shows("UPDATE audit SET hash = zeroblob(32) WHERE seq = 4", "row 4");
    shows("INSERT INTO audit SELECT 6, at, body, hash FROM audit WHERE seq = 5", "row 6");
}

#[test]
fn a_head_that_was_noted_elsewhere_unmasks_a_chain_that_was_written_anew() {
    let db = Db::memory().unwrap();
    note(&db, vec![act("a", 1), act("b", 2)], ALL);
    let head = verdict(&db).head;
    note(&db, vec![act("c", 3)], ALL);
    assert_eq!(db.read(|c| verify_audit(c, Some(&head))).unwrap().problem, None);
    db.write(|conn| Ok(conn.execute_batch("DELETE FROM audit; DELETE FROM meta WHERE key LIKE 'audit.%'")?))
        .unwrap();
    note(&db, vec![act("a", 1), act("x", 2), act("c", 3)], ALL);
    assert_eq!(verdict(&db).problem, None, "by itself it looks whole");
    let problem = db.read(|c| verify_audit(c, Some(&head))).unwrap().problem.unwrap();
    assert!(problem.contains("written anew"), "{problem}");
    assert!(db.read(|c| verify_audit(c, Some("nonsense"))).unwrap().problem.is_some());
}

#[test]
fn the_oldest_rows_go_and_the_chain_stays_whole() {
    let db = Db::memory().unwrap();
    let first = AuditKeep { rows: 3, since: 0 };
    note(&db, (1..=5).map(|n| act(&format!("m{n}"), n)).collect(), first);
    assert_eq!(actions(&db, &filter()), ["m5", "m4", "m3"]);
    let verdict_now = verdict(&db);
    assert_eq!((verdict_now.rows, verdict_now.problem), (3, None));
    assert!(verdict_now.anchor.starts_with("2:") && verdict_now.head.starts_with("5:"));
    note(&db, vec![act("m6", 6)], AuditKeep { rows: 1000, since: 5 });
    assert_eq!(actions(&db, &filter()), ["m6", "m5"], "what is too old goes");
    assert_eq!(verdict(&db).problem, None);
    db.write(|conn| Ok(conn.execute_batch("DELETE FROM audit WHERE seq = 5")?)).unwrap();
    assert!(verdict(&db).problem.is_some(), "what was dropped by somebody else shows");
}

#[test]
fn rows_are_found_by_who_what_and_when() {
    let db = Db::memory().unwrap();
    let other = Act { actor_id: "d2".into(), status: "blocked".into(), ..act("config.patch", 20) };
    note(&db, vec![act("config.set", 10), other, act("sessions.delete", 30)], ALL);
    let found = |change: &dyn Fn(&mut AuditFilter)| {
        let mut wanted = filter();
        change(&mut wanted);
        actions(&db, &wanted)
    };
    assert_eq!(found(&|f| f.who = Some("d2".into())), ["config.patch"]);
    assert_eq!(found(&|f| f.who = Some("127.0.0.1".into())).len(), 3);
    assert_eq!(found(&|f| f.action = Some("config.".into())), ["config.patch", "config.set"]);
    assert_eq!(found(&|f| f.status = Some("blocked".into())), ["config.patch"]);
    assert_eq!(found(&|f| f.after = 20), ["sessions.delete", "config.patch"]);
    assert_eq!(found(&|f| f.before = 20), ["config.patch", "config.set"]);
    assert_eq!(found(&|f| f.cursor = 2), ["config.set"]);
    assert_eq!(found(&|f| f.limit = 1), ["sessions.delete"]);
    assert_eq!(found(&|f| f.kinds = Some(vec!["agent_run".into()])), [""; 0]);
}

fn input() -> NewInput {
    NewInput {
        id: "i1".into(),
        source: "rpc".into(),
        source_id: "k1".into(),
        session_key: "agent:home:main".into(),
        run_id: "k1".into(),
        kind: "chat.send".into(),
        text: "SECRET".into(),
        digest: String::new(),
        body: json!({}),
        created_at: 1,
        priority: 1,
    }
}

/// What a commit does and what it tells of it stand and fall together.
#[test]
fn runs_and_calls_with_effects_are_told_by_the_commit_that_makes_them() {
    let db = Db::memory().unwrap();
    let audit = |at| WriteOp::Audit(AuditBatch { acts: vec![], keep: ALL, at });
    let begin = WriteOp::AcceptInput {
        input: input(),
        begin: true,
        user_message: None,
        session: SessionUpdate::default(),
    };
    let call = WriteOp::BeginCall { turn: "k1".into(), call_id: "1:c".into(), tool: "exec".into() };
    let settle = WriteOp::Settle {
        turn: "k1".into(),
        inputs: vec!["i1".into()],
        released: vec![],
        state: InputState::Settled,
        outcome: json!({ "status": "aborted", "text": "SECRET" }),
        messages: vec![],
        deliveries: vec![],
        events: vec![],
        session: None,
        at: 9,
    };
    for op in [begin, call, settle] {
        for _ in 0..2 {
            let results = db.apply_batch(&[op.clone(), audit(5)], &|_| {}).unwrap();
            results.into_iter().for_each(|result| drop(result.unwrap()));
        }
    }
    let rows = db.read(|c| acts(c, &filter())).unwrap();
    let told: Vec<_> = rows.iter().rev().map(|row| (&*row.act.action, &*row.act.status)).collect();
    assert_eq!(
        told,
        [
            ("agent.run.started", "started"),
            ("tool.action.started", "started"),
            ("agent.run.finished", "cancelled"),
        ]
    );
    let call = &rows[1].act;
    assert_eq!((call.tool_name.as_deref(), call.actor_id.as_str()), (Some("exec"), "home"));
    assert_eq!(call.session_key.as_deref(), Some("agent:home:main"));
    let all = serde_json::to_string(&rows.iter().map(|row| &row.act).collect::<Vec<_>>()).unwrap();
    assert!(!all.contains("SECRET"), "{all}");
}

#[test]
fn a_ledger_that_cannot_be_written_stops_no_other_operation() {
    let db = Db::memory().unwrap();
    db.write(|conn| Ok(conn.execute_batch("DROP TABLE audit")?)).unwrap();
    let put = WriteOp::PutMeta { key: "k".into(), value: "v".into() };
    let audit = WriteOp::Audit(AuditBatch { acts: vec![act("a", 1)], keep: ALL, at: 1 });
    let results = db.apply_batch(&[put, audit], &|_| {}).unwrap();
    assert!(results[0].is_ok() && results[1].is_err());
    assert_eq!(db.read(|c| meta(c, "k")).unwrap().as_deref(), Some("v"));
}

#[test]
fn people_keep_the_day_they_were_seen_first() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("s"), Sync::Normal).unwrap();
    for at in [i64::MAX - 1, i64::MAX] {
        let op = WriteOp::SeePerson { id: "p".into(), login: "nick@example.com".into(), at };
        db.apply_batch(&[op], &|_| {}).unwrap().remove(0).unwrap();
    }
    let rows = db.read(people).unwrap();
    assert_eq!(rows.iter().map(|row| &*row.id).collect::<Vec<_>>(), ["gateway-owner", "p"]);
    assert_eq!(rows[1].created_at, i64::MAX - 1);
}
