//! One change after the other: what it writes, and what holds when that is in the store.

use super::entry::{Entry, Moment};
use super::errand::{Ended, Told};
use super::{Answer, Ask, Cron, shown};
use crate::store::{CronOp, CronRunRow, CronRunState, WriteOp};
use crate::tree::Reply;
use serde_json::{Value, json};

/// Something that waits for its turn.
pub enum Step {
    /// Somebody wants something changed.
    Ask(Ask, Reply<Answer>),
    /// A run is over.
    End(String, Ended),
}

/// What a step comes to.
#[derive(Default)]
pub struct Change {
    pub(super) ops: Vec<WriteOp>,
    /// Jobs as they are from then on.
    pub(super) jobs: Vec<Entry>,
    /// Jobs that are no more.
    pub(super) gone: Vec<String>,
    /// Records as they are from then on.
    pub(super) runs: Vec<CronRunRow>,
    /// Records whose work is ended because their job is no more.
    pub(super) stop: Vec<CronRunRow>,
    /// What operators hear.
    pub(super) events: Vec<Value>,
    /// Who asked, and the answer.
    pub(super) answer: Option<(Reply<Answer>, Value)>,
    /// What is done again if the store does not take it.
    pub(super) again: Option<Step>,
}

impl Change {
    /// The job is stored as it is here.
    pub(super) fn put(&mut self, entry: Entry) {
        self.ops.push(WriteOp::Cron(CronOp::Put(entry.row())));
        self.jobs.push(entry);
    }

    /// The job goes.
    pub(super) fn remove(&mut self, id: &str) {
        self.ops.push(WriteOp::Cron(CronOp::Remove { id: id.to_owned() }));
        self.gone.push(id.to_owned());
    }

    /// New records.
    pub(super) fn plan(&mut self, rows: Vec<CronRunRow>) {
        self.ops.push(WriteOp::Cron(CronOp::Plan(rows.clone())));
        self.runs.extend(rows);
    }

    /// A record is in another state.
    pub(super) fn moved(&mut self, row: CronRunRow) {
        self.ops.push(WriteOp::Cron(CronOp::Move(row.clone())));
        self.runs.push(row);
    }
}

impl Cron {
    /// What a step comes to; nothing, if it is answered already.
    pub(super) fn make(&mut self, step: Step, now: i64) -> Option<Change> {
        match step {
            Step::Ask(ask, reply) => match self.change_asked(ask, now) {
                Ok((mut change, answer)) => {
                    change.answer = Some((reply, answer));
                    Some(change)
                }
                Err(refusal) => {
                    reply.send(Err(refusal));
                    None
                }
            },
            Step::End(run_id, ended) => self.ended(&run_id, ended, now),
        }
    }

    /// The records of what is due now.
    pub(super) fn planned(&self, now: i64) -> Option<Change> {
        let is_due = |entry: &&Entry| entry.job.state.next_run_at_ms.is_some_and(|next| next <= now);
        if !self.settings().enabled || !self.args.store.estate.admits() {
            return None;
        }
        let due = self.jobs.values().find(is_due)?;
        let late = self.open.values().filter(|row| row.start_at - row.instant > super::LATE_MS).count();
        let moment = Moment { now, skip_missed: self.settings().skip_missed_jobs, catching_up: late as i64 };
        let busy = self.open.values().any(|row| row.job_id == due.job.id);
        let mut entry = due.clone();
        let mut change = Change::default();
        let rows = entry.plan(busy, moment);
        if let Some(last) = rows.last().filter(|row| row.state == CronRunState::Skipped) {
            let skipped = entry.job.state.consecutive_skipped.unwrap_or(0) + 1;
            entry.job.state.consecutive_skipped = Some(skipped);
            change.events.push(shown::event("finished", &entry.job, Some(last)));
        }
        change.put(entry);
        change.plan(rows);
        Some(change)
    }

    /// The next record whose work begins.
    pub(super) fn started(&self, now: i64) -> Option<Change> {
        let settings = self.settings();
        if !self.args.store.estate.admits() || self.running() >= settings.max_concurrent_runs() {
            return None;
        }
        // Who is asked for runs, even while nothing runs on its own.
        let may = |row: &CronRunRow| settings.enabled || row.manual;
        let due = |row: &&CronRunRow| row.state == CronRunState::Due && row.start_at <= now && may(row);
        let mut row = self.open.values().filter(due).min_by_key(|row| row.start_at)?.clone();
        let mut change = Change::default();
        let Some(mut entry) = self.jobs.get(&row.job_id).cloned() else {
            change.moved(row.skipped("the job was removed", now));
            return Some(change);
        };
        entry.job.state.running_at_ms = Some(now);
        (row.state, row.started_at, row.job) = (CronRunState::Running, Some(now), entry.job.written());
        change.events.push(shown::event("started", &entry.job, Some(&row)));
        change.moved(row);
        change.put(entry);
        Some(change)
    }

    /// A run is over: its record is final, and its job knows.
    fn ended(&mut self, run_id: &str, ended: Ended, now: i64) -> Option<Change> {
        let mut row = self.open.get(run_id)?.clone();
        let mut change =
            Change { again: Some(Step::End(run_id.to_owned(), ended.clone())), ..Change::default() };
        row.state = CronRunState::Run;
        row.ended_at = Some(now);
        row.status = Some(if ended.error.is_some() { "error" } else { "ok" }.into());
        row.delivery_status = Some(ended.delivery.clone());
        row.entry = ended.entry;
        let Some(mut entry) = self.jobs.get(&row.job_id).cloned() else {
            if let Ok(job) = super::Job::read(row.job.clone()) {
                change.events.push(shown::event("finished", &job, Some(&row)));
            }
            change.moved(row);
            return Some(change);
        };
        let goes = entry.ended(&row, ended.error.as_deref());
        match ended.told {
            Some(Told::Failing(incident)) => entry.job.state.failure_incident = Some(*incident),
            Some(Told::Well) => entry.job.state.failure_incident = None,
            None => {}
        }
        row.entry["nextRunAtMs"] = json!(entry.job.state.next_run_at_ms);
        change.events.push(shown::event("finished", &entry.job, Some(&row)));
        change.moved(row);
        if goes {
            change.events.push(shown::event("removed", &entry.job, None));
            change.remove(&entry.job.id);
        } else {
            change.put(entry);
        }
        Some(change)
    }
}
