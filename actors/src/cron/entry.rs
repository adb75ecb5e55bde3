//! A job that is known, and what its instants become. Pure.

use super::job::Job;
use super::schedule::Timetable;
use crate::store::{CronRunRow, CronRunState, JobRow, KEPT_RUNS};
use crabtree_protocol::params::cron::Schedule;
use serde_json::{Value, json};

/// An instant that is later than this was missed: the gateway, or its machine, was not there.
pub const LATE_MS: i64 = 60_000;
/// How far apart the jobs begin that make up for what was missed, as OpenClaw has it.
pub const CATCH_UP_MS: i64 = 5_000;
/// How long a job that has failed so often in a row waits, at least, as OpenClaw has it.
const BACKOFF_MS: [i64; 5] = [30_000, 60_000, 300_000, 900_000, 3_600_000];
/// Failures in a row after which a job is turned off, as OpenClaw has it.
pub(super) const MOST_FAILURES: u64 = 10;

/// A job that is known.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The job.
    pub job: Job,
    /// When it is due; none if its schedule cannot be read.
    pub timetable: Option<Timetable>,
    /// Up to and with when every instant has its record, ms.
    pub planned_to: i64,
}

/// What is kept in mind when instants become records.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// ms.
    pub now: i64,
    /// Whether what was missed is not made up for.
    pub skip_missed: bool,
    /// How many jobs make up for something already.
    pub catching_up: i64,
}

impl Entry {
    /// A job with its timetable, planned from `planned_to` on.
    pub fn new(job: Job, planned_to: i64) -> Self {
        let timetable = Timetable::of(&job.id, &job.schedule, job.created_at_ms).ok();
        let mut entry = Self { job, timetable, planned_to };
        entry.wind();
        entry
    }

    /// The same of a stored row; what is planned for a time that has not come, because the clock went back, is not.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn stored(row: JobRow, now: i64) -> Result<Self, String> {
        let mut job = Job::read(row.job)?;
        job.state.running_at_ms = None;
        Ok(Self::new(job, row.planned_to.min(now)))
    }

    /// The row that keeps it.
    pub fn row(&self) -> JobRow {
        JobRow {
            id: self.job.id.clone(),
            declaration_key: self.job.declaration_key.clone(),
            job: self.job.written(),
            planned_to: self.planned_to,
        }
    }

    /// When it is due next; never, while it is off.
    pub fn next(&self) -> Option<i64> {
        self.timetable.as_ref().filter(|_| self.job.enabled)?.after(self.planned_to)
    }

    /// Writes down when it is due next.
    pub fn wind(&mut self) {
        self.job.state.next_run_at_ms = self.next();
    }

    /// From now on its instants count, whatever was before.
    pub fn activate(&mut self, now: i64) {
        self.timetable = Timetable::of(&self.job.id, &self.job.schedule, self.job.created_at_ms).ok();
        self.planned_to = match &self.timetable {
            // What is due once is due, even if that was a moment ago.
            Some(table) if table.is_once() => now - LATE_MS,
            _ => now,
        };
        self.wind();
    }

    /// Gives every instant up to now its record; the last one runs, unless something is against it. `busy`: a run of
    /// the job has not ended.
    pub fn plan(&mut self, busy: bool, moment: Moment) -> Vec<CronRunRow> {
        let Some(table) = self.timetable.as_ref().filter(|_| self.job.enabled) else { return Vec::new() };
        let mut instants = table.between(self.planned_to, moment.now, KEPT_RUNS as usize);
        let (is_once, job) = (table.is_once(), self.job.written());
        let Some(last) = instants.pop() else {
            // What was written down as due is not any more.
            self.planned_to = self.planned_to.max(moment.now);
            self.wind();
            return Vec::new();
        };
        self.planned_to = moment.now.max(last);
        let blank = |instant| blank(&self.job, &job, instant, moment.now);
        let passed = |instant: i64| match moment.now - instant > LATE_MS {
            true => blank(instant).missed("the gateway was not running", moment.now),
            false => blank(instant).missed("the next one came before it could run", moment.now),
        };
        let mut rows: Vec<CronRunRow> = instants.into_iter().map(passed).collect();
        let late = moment.now - last > LATE_MS;
        rows.push(if busy {
            blank(last).skipped("its last run has not ended", moment.now)
        } else if late && moment.skip_missed && !is_once {
            blank(last).missed("the gateway was not running", moment.now)
        } else if let Some(until) = self.waits_until().filter(|until| last < *until && !is_once) {
            let wait = (until - moment.now).max(0) / 1_000;
            blank(last).skipped(&format!("it has failed and waits another {wait} s"), moment.now)
        } else {
            let put_off = if late { moment.catching_up * CATCH_UP_MS } else { 0 };
            CronRunRow { start_at: moment.now + put_off, ..blank(last) }
        });
        self.wind();
        rows
    }

    /// A run that somebody asks for.
    pub fn manual(&self, now: i64, number: u64) -> CronRunRow {
        let row = blank(&self.job, &self.job.written(), now, now);
        CronRunRow { run_id: format!("manual:{}:{now}:{number}", self.job.id), manual: true, ..row }
    }

    /// A job that has failed waits, the longer the more often it has.
    fn waits_until(&self) -> Option<i64> {
        let state = &self.job.state;
        let failures = state.consecutive_errors.filter(|failures| *failures > 0)?;
        let wait = BACKOFF_MS[(failures as usize).min(BACKOFF_MS.len()) - 1];
        Some(state.last_run_at_ms? + state.last_duration_ms.unwrap_or(0) + wait)
    }

    /// Takes in how a run ended; whether the job goes with it.
    pub fn ended(&mut self, row: &CronRunRow, error: Option<&str>) -> bool {
        let (began, end) = (row.started_at.unwrap_or(row.instant), row.ended_at.unwrap_or(row.instant));
        let status = row.status.clone();
        let state = &mut self.job.state;
        state.running_at_ms = None;
        state.last_run_at_ms = Some(began);
        (state.last_run_status, state.last_status) = (status.clone(), status);
        state.last_duration_ms = Some((end - began).max(0));
        state.last_error = error.map(str::to_owned);
        state.last_delivery_status = row.delivery_status.clone();
        state.last_delivery_error = row.entry["deliveryError"].as_str().map(str::to_owned);
        let failures = if error.is_some() { state.consecutive_errors.unwrap_or(0) + 1 } else { 0 };
        (state.consecutive_errors, state.consecutive_skipped) = (Some(failures), Some(0));
        self.job.updated_at_ms = end;
        let mut goes = false;
        if let (Schedule::At { .. }, false) = (&self.job.schedule, row.manual) {
            goes = self.job.delete_after_run == Some(true) && row.entry["completionStatus"] == "succeeded";
            self.job.enabled = false;
        } else if failures >= MOST_FAILURES
            && self.job.enabled
            && !matches!(self.job.schedule, Schedule::At { .. })
        {
            self.job.enabled = false;
            self.job.state.auto_disabled =
                Some(json!({ "reason": "consecutive-failures", "atMs": end, "consecutiveErrors": failures }));
        }
        self.wind();
        goes
    }
}

/// A record of an instant that is to run.
fn blank(job: &Job, written: &Value, instant: i64, now: i64) -> CronRunRow {
    CronRunRow {
        run_id: format!("cron:{}:{instant}", job.id),
        job_id: job.id.clone(),
        instant,
        manual: false,
        state: CronRunState::Due,
        start_at: now,
        started_at: None,
        ended_at: None,
        status: None,
        delivery_status: None,
        job: written.clone(),
        entry: json!({}),
    }
}

impl CronRunRow {
    /// Nobody was there to run it.
    pub fn missed(self, why: &str, now: i64) -> Self {
        self.not_run(CronRunState::Missed, &format!("missed: {why}"), now)
    }

    /// It is not run.
    pub fn skipped(self, why: &str, now: i64) -> Self {
        self.not_run(CronRunState::Skipped, &format!("skipped: {why}"), now)
    }

    fn not_run(mut self, state: CronRunState, why: &str, now: i64) -> Self {
        self.entry["error"] = json!(why);
        self.entry["completionStatus"] = json!("failed");
        let (status, delivery_status) = (Some("skipped".into()), Some("not-requested".into()));
        Self { state, ended_at: Some(now), status, delivery_status, ..self }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
