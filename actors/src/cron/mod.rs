//! **Owns** jobs with a schedule, and when each is due next.
//! **Hears** clients and agents that make, change, run and remove jobs, and how runs ended; **tells** sessions what is
//! to be done, operators what becomes of jobs, and channels what came of them.
//! **On crash** no instant of a job is lost and none is run twice: each has its one record (run, missed or skipped),
//! unique by job and instant, before anything of it begins. What had begun is asked after again, under the same run.
//!
//! After a time away only the last of a job's missed instants runs, late; those before it are `missed`. An instant
//! that comes while the job's last run goes on, or waits because it has failed, is `skipped`.

mod asked;
mod changing;
mod entry;
mod errand;
mod failing;
pub mod job;
pub mod schedule;
pub mod shown;
pub mod tasks;

pub use asked::{Ask, MAX_JOBS};
pub use entry::{CATCH_UP_MS, Entry, LATE_MS, Moment};
pub use job::Job;
pub use schedule::Timetable;

use crate::event::{Audience, Event};
use crate::sessions::SessionsMsg;
use crate::settings::CronSettings;
use crate::store::{
    self, CronRunRow, CronRunState, JobRow, SessionRecord, Store, StoreError, WriteOp, WriteReply, Written,
};
use crate::tree::*;
use changing::{Change, Step};
use crabtree_protocol::{Refusal, Scope, SessionKey};
use errand::{Ended, Errand};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The clock on the wall may have been set: it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A clock that is this much off what it should be was set.
const JUMP_MS: i64 = 5_000;
/// Pause before something is written again that the store did not take.
const RETRY: Duration = Duration::from_secs(1);
/// How often sessions of runs are looked over that are kept for long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How many of them go at once.
const MAX_SWEPT: u32 = 200;

/// An answer to who asks.
pub type Answer = Result<Value, Refusal>;

/// What forgets a session that nobody needs any more.
pub type Forget = Arc<dyn Fn(SessionKey) -> BoxFuture<'static, ()> + Send + Sync>;

/// What cron hears.
pub enum CronMsg {
    /// The store's jobs, and the records that are not final.
    Loaded(Result<(Vec<JobRow>, Vec<CronRunRow>), StoreError>),
    /// Somebody wants something.
    Asked(Box<Ask>, Reply<Answer>),
    /// Something may be due.
    Look,
    /// A run is over.
    Ended(String, Box<Ended>),
    /// A change is in the store, or not.
    Stored(Box<Change>, Box<Written>),
    /// Time to look over the sessions of runs.
    Sweep,
    /// Sessions of runs that have been kept for long enough.
    Swept(Result<Vec<SessionRecord>, StoreError>),
}

/// What cron is started with.
#[derive(Clone)]
pub struct CronArgs {
    /// The store, and through it the Estate.
    pub store: Store,
    /// Where what is to be done goes.
    pub sessions: Slot<SessionsMsg>,
    /// What forgets the session of a run.
    pub forget: Forget,
}

/// See the module.
pub struct Cron {
    args: CronArgs,
    jobs: BTreeMap<String, Entry>,
    /// Records that are not final, by run.
    open: BTreeMap<String, CronRunRow>,
    errands: BTreeMap<String, AbortHandle>,
    loaded: bool,
    early: Vec<CronMsg>,
    steps: VecDeque<Step>,
    /// A change is on its way into the store: the next one is made from what it leaves.
    writing: bool,
    /// Until when nothing is written: the store has just refused.
    blocked_until: Option<Instant>,
    /// Runs that somebody asked for, counted.
    asked_runs: u64,
    /// What the clock said, and when.
    clock: (i64, Instant),
    look: Option<Timer>,
    _sweep: Timer,
}

impl Behavior for Cron {
    type Msg = CronMsg;
    type Args = CronArgs;
    const KIND: &'static str = "cron";

    fn start(ctx: &mut Ctx<CronMsg>, args: CronArgs) -> Result<Self, Fault> {
        let reader = args.store.clone();
        let rows = async move { reader.read(|c| Ok((store::cron_jobs(c)?, store::cron_open(c)?))).await };
        ctx.task(rows, CronMsg::Loaded);
        Ok(Self {
            args,
            jobs: BTreeMap::new(),
            open: BTreeMap::new(),
            errands: BTreeMap::new(),
            loaded: false,
            early: Vec::new(),
            steps: VecDeque::new(),
            writing: false,
            blocked_until: None,
            asked_runs: 0,
            clock: (ctx.now_ms(), Instant::now()),
            look: None,
            _sweep: ctx.after(SWEEP_EVERY, CronMsg::Sweep),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<CronMsg>, msg: CronMsg) -> Result<(), Fault> {
        match msg {
            CronMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            CronMsg::Asked(ask, reply) => self.asked(*ask, reply),
            CronMsg::Look => self.look = None,
            CronMsg::Ended(run_id, ended) => self.steps.push_back(Step::End(run_id, *ended)),
            CronMsg::Stored(change, written) => self.stored(ctx, *change, *written),
            CronMsg::Sweep => self.sweep(ctx),
            CronMsg::Swept(found) => self.swept(ctx, found),
        }
        self.mind_the_clock(ctx);
        self.advance(ctx);
        self.wind(ctx);
        let running = self.running();
        let next = self.next_due();
        ctx.publish_info(json!({ "jobs": self.jobs.len(), "running": running, "nextRunAtMs": next }));
        Ok(())
    }
}

impl Cron {
    fn settings(&self) -> CronSettings {
        self.args.store.estate.config.load().settings.cron.clone()
    }

    fn loaded(
        &mut self,
        ctx: &mut Ctx<CronMsg>,
        (jobs, open): (Vec<JobRow>, Vec<CronRunRow>),
    ) -> Result<(), Fault> {
        self.loaded = true;
        for row in jobs {
            let id = row.id.clone();
            match Entry::stored(row, ctx.now_ms()) {
                Ok(entry) => drop(self.jobs.insert(id, entry)),
                Err(e) => {
                    tracing::error!(target: "crabtree::cron", job = id, "left alone, because it cannot be read: {e}")
                }
            }
        }
        for row in open {
            if row.state == CronRunState::Running {
                if let Some(entry) = self.jobs.get_mut(&row.job_id) {
                    entry.job.state.running_at_ms = row.started_at;
                }
                self.set_out(ctx, &row);
            }
            self.open.insert(row.run_id.clone(), row);
        }
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// Does what is to be done now, one change at a time.
    fn advance(&mut self, ctx: &mut Ctx<CronMsg>) {
        if self.blocked_until.is_some_and(|until| Instant::now() >= until) {
            self.blocked_until = None;
        }
        while self.loaded && !self.writing && self.blocked_until.is_none() {
            let now = ctx.now_ms();
            let change = match self.steps.pop_front() {
                Some(step) => self.make(step, now),
                None => self.planned(now).or_else(|| self.started(now)),
            };
            let Some(change) = change else {
                if self.steps.is_empty() {
                    return;
                }
                continue;
            };
            if change.ops.is_empty() {
                self.apply(ctx, change);
                continue;
            }
            self.writing = true;
            let (store, op) = (self.args.store.clone(), WriteOp::All(change.ops.clone()));
            ctx.task(async move { store.write(op).await }, |written| {
                CronMsg::Stored(Box::new(change), Box::new(written))
            });
        }
    }

    fn stored(&mut self, ctx: &mut Ctx<CronMsg>, mut change: Change, written: Written) {
        self.writing = false;
        match written {
            Ok(WriteReply::All(replies)) => {
                let fresh = replies.into_iter().find_map(|reply| match reply {
                    WriteReply::CronPlanned(fresh) => Some(fresh),
                    _ => None,
                });
                if let Some(fresh) = fresh {
                    // An instant that has its record already is over, or under way.
                    change.runs.retain(|row| fresh.contains(&row.run_id));
                }
                self.apply(ctx, change);
            }
            Ok(_) => {}
            Err(e) => {
                self.blocked_until = Some(Instant::now() + RETRY);
                if let Some(step) = change.again {
                    self.steps.push_front(step);
                }
                match change.answer {
                    Some((reply, _)) => reply.send(Err(not_stored(&e))),
                    None => tracing::error!(target: "crabtree::cron", "not stored, and tried again: {e}"),
                }
            }
        }
    }

    /// What is in the store holds.
    fn apply(&mut self, ctx: &mut Ctx<CronMsg>, change: Change) {
        for entry in change.jobs {
            self.jobs.insert(entry.job.id.clone(), entry);
        }
        for id in change.gone {
            self.jobs.remove(&id);
        }
        for row in &change.runs {
            self.tell_task(row);
        }
        for row in change.runs {
            if row.state.is_final() {
                self.open.remove(&row.run_id);
                self.errands.remove(&row.run_id);
                continue;
            }
            if row.state == CronRunState::Running {
                self.set_out(ctx, &row);
            }
            self.open.insert(row.run_id.clone(), row);
        }
        for row in change.stop {
            // Who was on the way is replaced by somebody who ends it.
            self.set_out(ctx, &row);
        }
        for event in change.events {
            let event = Event::new(crabtree_protocol::Event::Cron, Audience::Scope(Scope::Read), &event);
            self.args.store.estate.conns.publish(event.droppable());
        }
        if let Some((reply, answer)) = change.answer {
            reply.send(Ok(answer));
        }
    }

    /// Has a record's work done, or asks what became of it; if its job is gone, or somebody says so, it is ended.
    fn set_out(&mut self, ctx: &mut Ctx<CronMsg>, row: &CronRunRow) {
        let errand = Errand {
            store: self.args.store.clone(),
            sessions: self.args.sessions.clone(),
            row: row.clone(),
            ending: tasks::ending(row, !self.jobs.contains_key(&row.job_id)),
        };
        let run_id = row.run_id.clone();
        let work = ctx.task(errand.carry_out(), move |ended| CronMsg::Ended(run_id, Box::new(ended)));
        if let Some(before) = self.errands.insert(row.run_id.clone(), work) {
            before.abort();
        }
    }

    fn running(&self) -> usize {
        self.open.values().filter(|row| row.state == CronRunState::Running).count()
    }

    fn next_due(&self) -> Option<i64> {
        self.jobs.values().filter_map(|entry| entry.job.state.next_run_at_ms).min()
    }

    /// A clock that was set back makes times come again; what has its record has it still.
    fn mind_the_clock(&mut self, ctx: &Ctx<CronMsg>) {
        let (said, at) = std::mem::replace(&mut self.clock, (ctx.now_ms(), Instant::now()));
        let (now, passed) = (self.clock.0, (self.clock.1 - at).as_millis() as i64);
        let jump = now - said - passed;
        if jump.abs() > JUMP_MS {
            tracing::info!(target: "crabtree::cron", jump_ms = jump, "the clock was set: jobs are planned anew");
            for entry in self.jobs.values_mut() {
                entry.planned_to = entry.planned_to.min(now);
                entry.wind();
            }
        }
    }

    /// Sets the clock for the next thing that is due.
    fn wind(&mut self, ctx: &mut Ctx<CronMsg>) {
        if self.writing || !self.loaded {
            return;
        }
        let begins = self.open.values().filter(|row| row.state == CronRunState::Due).map(|row| row.start_at);
        let next = self.next_due().into_iter().chain(begins).min();
        let wait = match (next, self.blocked_until) {
            (_, Some(until)) => until.saturating_duration_since(Instant::now()),
            (Some(at), None) if at > ctx.now_ms() => {
                Duration::from_millis((at - ctx.now_ms()).unsigned_abs())
            }
            _ => LOOK_EVERY,
        };
        self.look = Some(ctx.after(wait.min(LOOK_EVERY), CronMsg::Look));
    }

    /// Sessions of runs are kept for a while.
    fn sweep(&mut self, ctx: &mut Ctx<CronMsg>) {
        self._sweep = ctx.after(SWEEP_EVERY, CronMsg::Sweep);
        let Some(kept) = self.settings().session_retention.ms() else { return };
        let (store, before) = (self.args.store.clone(), ctx.now_ms() - kept);
        let found = async move { store.read(move |c| store::cron_sessions(c, before, MAX_SWEPT)).await };
        ctx.task(found, CronMsg::Swept);
    }

    fn swept(&mut self, ctx: &mut Ctx<CronMsg>, found: Result<Vec<SessionRecord>, StoreError>) {
        let keys: Vec<SessionKey> = match found {
            Ok(found) => {
                found.iter().filter_map(|one| SessionKey::canonical(&one.key, "main").ok()).collect()
            }
            Err(e) => {
                return tracing::warn!(target: "crabtree::cron", "sessions of runs were not looked over: {e}");
            }
        };
        let forget = self.args.forget.clone();
        ctx.detached(async move {
            for key in keys {
                forget(key).await;
            }
        });
    }
}

fn not_stored(error: &StoreError) -> Refusal {
    match error {
        StoreError::Conflict { .. } => {
            Refusal::invalid_request("another job has this declarationKey; change that one")
        }
        e => Refusal::failed(format!("the job was not stored: {e}")).with_retry(1_000),
    }
}
