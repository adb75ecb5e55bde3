//! **Owns** one session: which turn runs, what waits, and what the clients have been told.
//! **Hears** submissions, changes and aborts from `sessions`, news from its run, and the store's
//! acknowledgements; **tells** clients the turn's events, and the store every decision before anybody else
//! hears of it.
//! **On crash** nothing is lost: inputs are rows, the turn's text and counter are in the Estate, and its
//! run goes on. The next incarnation reads the rows, adopts the run and asks it for a report. Requests that
//! were not yet durable are answered `UNAVAILABLE`.
//!
//! An input is what somebody said; a turn is what answers it, under a run of its own name. One turn may answer
//! several inputs (they were collected, or joined it while it ran), and all of them get its outcome.

mod change;
mod ending;
mod heard;
mod idle;
mod intake;
mod joining;
mod loading;
mod running;
mod stopping;
mod working;

pub use change::{Change, Changed, Check, First, Told};
pub use idle::MANY_LIVE;
pub use intake::Submission;
pub use loading::Known;

use super::queue::Backlog;
use super::rows::{changed_event, message_event, session_row};
use super::run::{RunNews, Stage};
use super::turn::Turn;
use super::{Compactor, SessionsMsg};
use crate::estate::Estate;
use crate::event::Event;
use crate::settings::{QueueOverrides, QueueSettings};
use crate::store::{InputRow, MessageRow, SessionRecord, SessionUpdate, Store, StoreError, Written, updated};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
use ending::{End, Settled};
use intake::Arrival;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Attempts at one input, over crashes of its run, its session and the process.
const MAX_ATTEMPTS: u32 = 2;

/// What a session hears.
pub enum SessionMsg {
    /// Run this.
    Submit(Box<Submission>),
    /// Stop a run, or all of them.
    Abort {
        /// Which; all if none is named.
        run_id: Option<RunId>,
        /// `stopReason` of the aborted runs.
        reason: &'static str,
        /// The ids of the aborted runs, once all are settled.
        done: Reply<Vec<RunId>>,
    },
    /// Change the session itself.
    Change(Box<Change>),
    /// News of the run, in this stage of it.
    FromRun(RunId, Stage, RunNews),
    /// Time to tell more text.
    Pace(RunId),
    /// Look whether the next turn can begin.
    Look,
    /// It has had nothing to do for a while.
    Idle,
    /// Nobody sends it anything more until it has ended, or said that it stays.
    Retire,
    /// What the store holds of this session.
    Loaded(Box<Result<Known, StoreError>>),
    /// An input is durable, or not.
    Accepted(Box<Submission>, Box<SessionUpdate>, Box<Written>),
    /// A turn's attempt is counted.
    Began(RunId, Box<Written>),
    /// An answer that calls tools is written.
    Called(RunId, Box<Written>),
    /// What the tools have come to is written, and inputs have joined the turn.
    Joined(RunId, Box<Written>),
    /// Outcomes are written, in this order.
    Settled(Vec<Settled>),
    /// A change is written.
    Changed(Box<change::Written>),
}

/// What a session is started with.
#[derive(Clone)]
pub struct SessionArgs {
    /// Which.
    pub key: SessionKey,
    /// The Estate.
    pub estate: Arc<Estate>,
    /// The store.
    pub store: Store,
    /// Its own address, for its runs.
    pub slot: Slot<SessionMsg>,
    /// Its parent's.
    pub parent: Slot<SessionsMsg>,
    /// What sums it up when it has grown near its model's context.
    pub compact: Compactor,
}

struct Active {
    /// What it answers; the first began it.
    rows: Vec<InputRow>,
    run_id: RunId,
    turn: Arc<Mutex<Turn>>,
    pace: Option<Timer>,
    /// False until an adopted run has reported.
    in_step: bool,
    ended: bool,
    /// How its run has ended while something was joining it.
    crashed: Option<&'static str>,
}

struct Abort {
    left: HashSet<RunId>,
    all: Vec<RunId>,
    done: Reply<Vec<RunId>>,
}

/// See the module.
pub struct Session {
    args: SessionArgs,
    record: Option<SessionRecord>,
    loaded: bool,
    early: Vec<SessionMsg>,
    backlog: Backlog,
    active: Option<Active>,
    /// What came in, in order; the first of it is held back while a write is under way.
    arrivals: VecDeque<Arrival>,
    /// Whether the input that is on its way into the store, if there is one, will be run at once.
    accepting: Option<bool>,
    /// A turn's attempt is on its way into the store, or inputs that join it.
    beginning: bool,
    /// A change is on its way into the store.
    changing: bool,
    /// Turns whose outcome is on its way into the store, and what is to be written of them after this message.
    settling: HashSet<RunId>,
    ends: Vec<End>,
    aborts: Vec<Abort>,
    shown: Option<(usize, Option<RunId>)>,
    look: Option<Timer>,
    idle: Option<Timer>,
}

impl Behavior for Session {
    type Msg = SessionMsg;
    type Args = SessionArgs;
    const KIND: &'static str = "session";

    fn start(ctx: &mut Ctx<SessionMsg>, args: SessionArgs) -> Result<Self, Fault> {
        let read = loading::read(&args, ctx.node().generation() > 1);
        ctx.task(read, SessionMsg::Loaded);
        Ok(Self {
            args,
            record: None,
            loaded: false,
            early: Vec::new(),
            backlog: Backlog::default(),
            active: None,
            arrivals: VecDeque::new(),
            accepting: None,
            beginning: false,
            changing: false,
            settling: HashSet::new(),
            ends: Vec::new(),
            aborts: Vec::new(),
            shown: None,
            look: None,
            idle: None,
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<SessionMsg>, msg: SessionMsg) -> Result<(), Fault> {
        match msg {
            SessionMsg::Loaded(known) => self.loaded(ctx, (*known).map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            SessionMsg::Submit(submission) => self.submit(*submission),
            SessionMsg::Abort { run_id, reason, done } => {
                self.arrivals.push_back(Arrival::Stop { run_id, reason, done });
            }
            SessionMsg::Change(change) => self.arrivals.push_back(Arrival::Change(change)),
            SessionMsg::FromRun(run_id, stage, news) => self.news_of_run(ctx, &run_id, stage, news),
            SessionMsg::Pace(run_id) => self.pace(ctx, &run_id),
            SessionMsg::Look => self.look = None,
            SessionMsg::Idle => self.ask_to_retire(),
            SessionMsg::Retire => self.retire(ctx),
            SessionMsg::Accepted(submission, update, written) => {
                self.accepted(ctx, *submission, &update, *written)?;
            }
            SessionMsg::Began(run_id, written) => self.began(ctx, run_id, *written)?,
            SessionMsg::Called(run_id, written) => self.called(ctx, &run_id, *written)?,
            SessionMsg::Joined(run_id, written) => self.joined(ctx, &run_id, *written)?,
            SessionMsg::Settled(all) => {
                // One that was not written keeps none of the others back.
                let told = |so_far, settled| self.settled(ctx, settled).and(so_far);
                all.into_iter().fold(Ok(()), told)?;
            }
            SessionMsg::Changed(written) => self.changed(*written),
        }
        self.take_in(ctx);
        self.next(ctx);
        self.write_ends(ctx);
        self.show(ctx);
        self.watch_idleness(ctx);
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        child: &Arc<Node>,
        exit: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let hit = self.active.as_mut().filter(|a| !a.ended && a.turn.lock().child == *child.name());
        if let Some(active) = hit.filter(|_| fate == NodeState::Stopped) {
            if self.beginning {
                active.crashed = Some(exit.kind.as_str());
            } else if let Some(active) = self.active.take() {
                self.try_again(ctx, active.run_id, active.rows, exit.kind.as_str());
            }
        }
        self.next(ctx);
        self.write_ends(ctx);
        Ok(())
    }
}

impl Session {
    fn estate(&self) -> &Estate {
        &self.args.estate
    }

    /// How it queues: as it was told itself, else as its channel, else as all do.
    fn queue_settings(&self) -> QueueSettings {
        let own = self.record.as_ref().and_then(|record| QueueOverrides::deserialize(&record.entry).ok());
        let section = &self.estate().config.load().settings.messages.queue;
        QueueSettings::resolve(section, self.channel(), &own.unwrap_or_default())
    }

    /// The channel whose messages it holds.
    fn channel(&self) -> Option<&str> {
        self.args.key.place().and_then(|place| place.channel)
    }

    /// Publishes its figures, when they are different from last time.
    fn show(&mut self, ctx: &Ctx<SessionMsg>) {
        let run_id = self.active.as_ref().map(|a| a.run_id.clone());
        let figures = (self.backlog.len(), run_id);
        if self.shown.as_ref() != Some(&figures) {
            ctx.publish_info(json!({ "backlog": figures.0, "activeRun": figures.1 }));
            self.shown = Some(figures);
        }
    }

    /// Whether the next attempt may begin: the outcome of the last one is durable.
    fn is_idle(&self) -> bool {
        self.active.is_none() && !self.beginning && !self.changing && self.settling.is_empty()
    }

    /// What was written about the session itself holds here, too.
    fn note(&mut self, update: &SessionUpdate) {
        self.record = Some(updated(self.record.take(), self.args.key.as_str(), update));
    }

    fn session_id(&self) -> String {
        self.record.as_ref().map_or_else(String::new, |record| record.session_id.clone())
    }

    fn publish(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.estate().conns.publish(event));
    }

    /// The session's row as of now.
    fn row(&self, now: i64) -> Value {
        let active = self.active.as_ref().map(|a| &a.run_id);
        let Some(record) = &self.record else { return json!({ "key": self.args.key }) };
        let mut row = session_row(record, active, self.estate(), now);
        if let Some(text) = &record.last_said {
            row["lastMessagePreview"] = json!(text);
        }
        row
    }

    fn tell_change(&self, why: Value, now: i64) {
        self.publish([changed_event(&self.args.key, why, &self.row(now), now)]);
    }

    fn tell_message(&self, row: &MessageRow, now: i64) {
        self.publish([message_event(&self.args.key, row, &self.row(now))]);
    }
}
