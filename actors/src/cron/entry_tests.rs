//! What instants become: one at a time, and for a year of schedules, changed clocks and restarts.

use super::*;
use crate::store::{CronOp, CronRunsFilter, Db, WriteOp, WriteReply, cron_jobs, cron_runs};
use chrono::DateTime;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn job(schedule: Value) -> Job {
    Job::read(json!({
        "id": "j", "name": "j", "enabled": true, "createdAtMs": 0, "updatedAtMs": 0, "schedule": schedule,
        "sessionTarget": "isolated", "wakeMode": "now", "payload": { "kind": "agentTurn", "message": "m" },
    }))
    .unwrap()
}

fn minutely() -> Entry {
    Entry::new(job(json!({ "kind": "every", "everyMs": MINUTE, "anchorMs": 0 })), 0)
}

fn at(now: i64) -> Moment {
    Moment { now, skip_missed: false, catching_up: 0 }
}

fn fates(rows: &[CronRunRow]) -> Vec<(i64, &str)> {
    rows.iter().map(|row| (row.instant / MINUTE, row.state.as_str())).collect()
}

#[test]
fn what_is_due_runs_once() {
    let mut entry = minutely();
    assert_eq!(entry.plan(false, at(MINUTE - 1)), []);
    let rows = entry.plan(false, at(MINUTE + 7));
    assert_eq!(fates(&rows), [(1, "due")]);
    assert_eq!((rows[0].run_id.as_str(), rows[0].start_at), ("cron:j:60000", MINUTE + 7));
    assert_eq!(entry.plan(false, at(MINUTE + 8)), []);
    assert_eq!(entry.job.state.next_run_at_ms, Some(2 * MINUTE));
}

#[test]
fn of_what_was_missed_the_last_runs_late_and_apart_from_other_jobs() {
    let mut entry = minutely();
    let now = 5 * MINUTE + LATE_MS - 1;
    let moment = Moment { catching_up: 2, ..at(now + 2) };
    entry.planned_to = MINUTE;
    let rows = entry.plan(false, moment);
    assert_eq!(fates(&rows), [(2, "missed"), (3, "missed"), (4, "missed"), (5, "missed"), (6, "due")]);
    assert!(rows[0].entry["error"].as_str().unwrap().contains("not running"));
    let mut daily = Entry::new(job(json!({ "kind": "cron", "expr": "0 9 * * *", "tz": "UTC" })), 0);
    let late = daily.plan(false, Moment { catching_up: 2, ..at(10 * 60 * MINUTE) });
    assert_eq!(late[0].start_at, 10 * 60 * MINUTE + 2 * CATCH_UP_MS);
    let mut daily = Entry::new(job(json!({ "kind": "cron", "expr": "0 9 * * *", "tz": "UTC" })), 0);
    let skipped = daily.plan(false, Moment { skip_missed: true, ..at(10 * 60 * MINUTE) });
    assert_eq!(fates(&skipped), [(540, "missed")]);
    let mut once = Entry::new(job(json!({ "kind": "at", "at": "1970-01-01T09:00:00Z" })), 0);
    let runs = once.plan(false, Moment { skip_missed: true, ..at(90 * DAY) });
    assert_eq!(fates(&runs), [(540, "due")], "what is due once runs however late");
}

#[test]
fn a_job_that_is_busy_or_has_failed_skips() {
    let mut entry = minutely();
    let rows = entry.plan(true, at(MINUTE));
    assert_eq!(fates(&rows), [(1, "skipped")]);
    assert!(rows[0].entry["error"].as_str().unwrap().contains("has not ended"));
    let mut row = entry.plan(false, at(2 * MINUTE)).remove(0);
    (row.started_at, row.ended_at, row.status) =
        (Some(2 * MINUTE), Some(2 * MINUTE + 9), Some("error".into()));
    for _ in 0..3 {
        entry.ended(&row, Some("it broke"));
    }
    // Three failures: five minutes.
    assert_eq!(fates(&entry.plan(false, at(3 * MINUTE))), [(3, "skipped")]);
    assert_eq!(fates(&entry.plan(false, at(8 * MINUTE)))[4], (8, "due"));
    entry.ended(&row, None);
    assert_eq!(entry.job.state.consecutive_errors, Some(0));
    for _ in 0..MOST_FAILURES {
        entry.ended(&row, Some("it broke"));
    }
    assert!(!entry.job.enabled && entry.job.state.auto_disabled.is_some());
    assert_eq!((entry.next(), entry.plan(false, at(99 * MINUTE))), (None, vec![]));
}

#[test]
fn what_ran_once_goes_if_it_ran_well_and_is_off_otherwise() {
    let once = |completion: &str, error| {
        let mut job = job(json!({ "kind": "at", "at": "1970-01-01T00:01:00Z" }));
        job.complete(0);
        let mut entry = Entry::new(job, 0);
        let mut row = entry.plan(false, at(MINUTE)).remove(0);
        (row.ended_at, row.entry) = (Some(MINUTE + 1), json!({ "completionStatus": completion }));
        (entry.ended(&row, error), entry.job.enabled)
    };
    assert_eq!(once("succeeded", None), (true, false));
    assert_eq!(once("failed", None), (false, false), "its answer did not go out");
    assert_eq!(once("failed", Some("it broke")), (false, false));
}

const SCHEDULES: [&str; 8] = [
    "*/7 * * * *",
    "30 2 * * *",
    "0 * * * *",
    "15 1-3 * * *",
    "0 0 1 * *",
    "*/20 2 * * 0",
    "45 23 * * 1-5",
    "0 30 1 * * *",
];
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "UTC",
];

fn random_job(random: &mut StdRng, created: i64) -> Job {
    let schedule = match random.random_range(0..3) {
        0 => {
            json!({ "kind": "every", "everyMs": random.random_range(5 * MINUTE..2 * DAY), "anchorMs": created })
        }
        _ => json!({
            "kind": "cron", "expr": SCHEDULES[random.random_range(0..SCHEDULES.len())],
            "tz": ZONES[random.random_range(0..ZONES.len())],
        }),
    };
    Job { created_at_ms: created, id: format!("j{}", random.random_range(0..u32::MAX)), ..job(schedule) }
}

/// A gateway's life with one job: it is there and away, runs take their time, and writes are lost with it.
struct Life {
    db: Db,
    random: StdRng,
    now: i64,
    /// Every record that ever was, by its instant.
    told: BTreeMap<i64, String>,
}

impl Life {
    fn apply(&self, ops: Vec<CronOp>) -> Vec<WriteReply> {
        let all = WriteOp::All(ops.into_iter().map(WriteOp::Cron).collect());
        match self.db.apply_batch(&[all], &|_| {}).unwrap().remove(0).unwrap() {
            WriteReply::All(replies) => replies,
            other => panic!("{other:?}"),
        }
    }

    fn stored(&self) -> Entry {
        Entry::stored(self.db.read(cron_jobs).unwrap().remove(0), self.now).unwrap()
    }

    /// Plans what is due; with the records that are new.
    fn plan(&mut self, entry: &mut Entry, busy: bool) -> Option<CronRunRow> {
        let rows = entry.plan(busy, at(self.now));
        let replies = self.apply(vec![CronOp::Put(entry.row()), CronOp::Plan(rows.clone())]);
        let WriteReply::CronPlanned(fresh) = &replies[1] else { panic!("{replies:?}") };
        for row in rows.iter().filter(|row| fresh.contains(&row.run_id)) {
            let before = self.told.insert(row.instant, row.state.as_str().to_owned());
            assert_eq!(before, None, "{} twice", row.instant);
        }
        rows.into_iter().find(|row| row.state == CronRunState::Due && fresh.contains(&row.run_id))
    }

    fn year(&mut self, job: Job, end: i64) {
        let mut entry = Entry::new(job, self.now);
        self.apply(vec![CronOp::Put(entry.row())]);
        let mut busy: Option<CronRunRow> = None;
        while self.now < end {
            match self.random.random_range(0..20) {
                // Away for up to two days; what was planned and not written is lost, what runs has to be asked after.
                0 => {
                    let _lost = entry.plan(busy.is_some(), at(self.now));
                    self.now += self.random.random_range(0..2 * DAY);
                    entry = self.stored();
                }
                // The clock is set back by up to an hour.
                1 => {
                    self.now -= self.random.random_range(0..60 * MINUTE);
                    entry = self.stored();
                }
                _ => self.now = self.now.max(entry.next().unwrap_or(end)) + self.random.random_range(0..50),
            }
            let run = self.plan(&mut entry, busy.is_some());
            busy = busy.or(run);
            if let Some(row) = busy.take_if(|_| self.random.random_range(0..3) > 0) {
                let over = CronRunRow {
                    state: CronRunState::Run,
                    started_at: Some(row.start_at),
                    ended_at: Some(self.now),
                    status: Some("ok".into()),
                    ..row
                };
                entry.ended(&over, None);
                self.apply(vec![CronOp::Move(over), CronOp::Put(entry.row())]);
            }
        }
    }
}

#[test]
fn a_year_of_random_schedules_with_restarts_gives_every_instant_exactly_one_record() {
    let start = DateTime::parse_from_rfc3339("2026-01-15T00:00:00Z").unwrap().timestamp_millis();
    let (mut runs, mut missed) = (0, 0);
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let job = random_job(&mut random, start);
        let name = json!([job.schedule, job.id]);
        let table = Timetable::of(&job.id, &job.schedule, start).unwrap();
        let mut life = Life { db: Db::memory().unwrap(), random, now: start, told: BTreeMap::new() };
        life.year(job, start + 365 * DAY);
        let last = *life.told.keys().last().unwrap();
        let due: Vec<i64> = std::iter::successors(table.after(start), |t| table.after(*t))
            .take_while(|t| *t <= last)
            .collect();
        let told: Vec<i64> = life.told.keys().copied().collect();
        assert_eq!(told, due, "seed {seed}: {name}");
        runs += life.told.values().filter(|fate| *fate == "due").count();
        missed += life.told.values().filter(|fate| *fate == "missed").count();
        let filter = CronRunsFilter { limit: 5_000, ..Default::default() };
        let (kept, _) = life.db.read(|c| cron_runs(c, &filter)).unwrap();
        assert!(
            kept.iter().all(|row| row.ended_at.unwrap() > life.now - 8 * DAY),
            "seed {seed}: old records go"
        );
    }
    assert!(runs > 1_000 && missed > 1_000, "{runs} runs, {missed} missed");
}
