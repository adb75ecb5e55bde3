//! Jobs, records and events through the database.

use super::super::db::Db;
use super::super::rows::WriteOp;
use super::*;
use serde_json::json;

/// Every operation may be sent again: the second time changes nothing.
fn twice(db: &Db, op: CronOp) -> WriteReply {
    let mut replies =
        (0..2).map(|_| db.apply_batch(&[WriteOp::Cron(op.clone())], &|_| {}).unwrap().remove(0).unwrap());
    let first = replies.next().unwrap();
    replies.next();
    first
}

fn job(id: &str, key: Option<&str>, planned_to: i64) -> JobRow {
    JobRow { id: id.into(), declaration_key: key.map(str::to_owned), job: json!({ "name": id }), planned_to }
}

fn run(job_id: &str, instant: i64, state: CronRunState) -> CronRunRow {
    CronRunRow {
        run_id: format!("cron:{job_id}:{instant}"),
        job_id: job_id.into(),
        instant,
        manual: false,
        state,
        start_at: instant,
        started_at: None,
        ended_at: state.is_final().then_some(instant),
        status: state.is_final().then(|| "ok".to_owned()),
        delivery_status: None,
        job: json!({ "name": job_id, "agentId": "main" }),
        entry: json!({ "summary": format!("at {instant}") }),
    }
}

#[test]
fn a_job_is_replaced_keeps_its_scratch_and_its_key_is_its_own() {
    let db = Db::memory().unwrap();
    twice(&db, CronOp::Put(job("a", Some("k"), 1)));
    let set = |expected, content: &str| {
        let content = Some(content.to_owned());
        let op = CronOp::SetScratch { id: "a".into(), content, expected, at: 9 };
        db.apply_batch(&[WriteOp::Cron(op)], &|_| {}).unwrap().remove(0)
    };
    let note = ScratchRow { content: Some("note".into()), revision: 1, at: 9 };
    assert_eq!(set(Some(0), "note"), Ok(WriteReply::CronScratch(Ok(note.clone()))));
    assert_eq!(set(Some(0), "other"), Ok(WriteReply::CronScratch(Err(note.clone()))));
    twice(&db, CronOp::Put(job("a", Some("k"), 2)));
    assert_eq!(db.read(|c| cron_scratch(c, "a")).unwrap(), Some(note));
    assert_eq!(db.read(cron_jobs).unwrap(), [job("a", Some("k"), 2)]);
    let other = db.apply_batch(&[WriteOp::Cron(CronOp::Put(job("b", Some("k"), 1)))], &|_| {}).unwrap();
    assert!(matches!(other[0], Err(StoreError::Conflict { .. })));
    twice(&db, CronOp::Remove { id: "a".into() });
    assert_eq!(db.read(cron_jobs).unwrap(), []);
    assert_eq!(set(None, "gone"), Err(StoreError::NotFound));
}

#[test]
fn an_instant_has_one_record_whose_end_stays() {
    let db = Db::memory().unwrap();
    let due = run("a", 10, CronRunState::Due);
    assert_eq!(
        twice(&db, CronOp::Plan(vec![due.clone()])),
        WriteReply::CronPlanned(vec![due.run_id.clone()])
    );
    // Under whatever name: the instant has its record.
    let again = CronRunRow { run_id: "another".into(), ..due.clone() };
    assert_eq!(twice(&db, CronOp::Plan(vec![again])), WriteReply::CronPlanned(vec![]));
    assert_eq!(db.read(cron_open).unwrap(), std::slice::from_ref(&due));
    let over = run("a", 10, CronRunState::Run);
    twice(&db, CronOp::Move(over.clone()));
    twice(&db, CronOp::Move(CronRunRow { status: Some("error".into()), ..over.clone() }));
    assert_eq!(db.read(cron_open).unwrap(), []);
    assert_eq!(
        db.read(|c| cron_runs(c, &CronRunsFilter { limit: 9, ..Default::default() })).unwrap(),
        (vec![over], 1)
    );
}

#[test]
fn records_are_found_by_pages_and_old_ones_go() {
    let db = Db::memory().unwrap();
    let rows = (1..=i64::from(KEPT_RUNS) + 5).map(|at| run("a", at, CronRunState::Run)).collect();
    twice(&db, CronOp::Plan(rows));
    let find = |filter: CronRunsFilter| {
        let (rows, total) = db.read(|c| cron_runs(c, &filter)).unwrap();
        (rows.iter().map(|row| row.instant).collect::<Vec<_>>(), total)
    };
    let last = i64::from(KEPT_RUNS) + 5;
    let page = CronRunsFilter { limit: 2, ..Default::default() };
    assert_eq!(find(page.clone()), (vec![last, last - 1], KEPT_RUNS));
    assert_eq!(find(CronRunsFilter { ascending: true, offset: 1, ..page.clone() }).0, [7, 8]);
    assert_eq!(find(CronRunsFilter { query: Some("AT 2004".into()), ..page.clone() }), (vec![2004], 1));
    assert_eq!(find(CronRunsFilter { statuses: vec!["error".into()], ..page.clone() }).1, 0);
    assert_eq!(find(CronRunsFilter { agent_id: Some("other".into()), ..page.clone() }).1, 0);
    twice(&db, CronOp::Plan(vec![run("b", last + KEPT_MS + 1, CronRunState::Run)]));
    assert_eq!(find(page).1, 1);
}

#[test]
fn events_wait_until_a_run_has_told_them_and_the_oldest_make_room() {
    let db = Db::memory().unwrap();
    let event = |n: i64| EventRow {
        id: format!("e{n}"),
        session_key: "main".into(),
        text: format!("{n}"),
        at: n,
        run_id: None,
    };
    for n in 0..=i64::from(MAX_WAITING) {
        twice(&db, CronOp::Tell(event(n)));
    }
    let waiting = || db.read(system_events).unwrap().iter().map(|e| e.id.clone()).collect::<Vec<_>>();
    assert_eq!((waiting().len(), waiting()[0].as_str()), (MAX_WAITING as usize, "e1"));
    let tell = CronOp::TellNow { session_key: "main".into(), run_id: "r".into() };
    assert_eq!(twice(&db, tell), WriteReply::Count(MAX_WAITING.into()));
    twice(&db, CronOp::Tell(event(99)));
    twice(&db, CronOp::Told { run_id: "r".into() });
    assert_eq!(waiting(), ["e99"]);
}

#[test]
fn what_was_told_last_and_waits_still_is_not_told_again() {
    let db = Db::memory().unwrap();
    let event = |id: &str, text: &str| EventRow {
        id: id.into(),
        session_key: "main".into(),
        text: text.into(),
        at: 1,
        run_id: None,
    };
    let told = |id: &str, text: &str| twice(&db, CronOp::TellOnce(event(id, text)));
    assert_eq!(told("a", "door"), WriteReply::Count(1), "sent again it is the same");
    assert_eq!(told("b", "door"), WriteReply::Count(0));
    assert_eq!((told("c", "bell"), told("d", "door")), (WriteReply::Count(1), WriteReply::Count(1)));
    twice(&db, CronOp::TellNow { session_key: "main".into(), run_id: "r".into() });
    assert_eq!(told("e", "door"), WriteReply::Count(1), "what is being told does not wait");
}
