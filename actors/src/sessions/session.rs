//! **Owns** one session: which input runs, which wait, and what the clients have been told.
//! **Hears** submissions and aborts from `sessions`, news from its run, and the store's acknowledgements;
//! **tells** clients the turn's events, and the store every decision before anybody else hears of it.
//! **On crash** nothing is lost: inputs are rows, the turn's text and counter are in the Estate, and its
//! run goes on. The next incarnation reads the rows, adopts the run and asks it for a report. Requests that
//! were not yet durable are answered `UNAVAILABLE`.

mod ending;
mod intake;
mod running;

pub use intake::{MAX_BACKLOG, Submission};

use super::rows::{changed_event, message_event, session_row};
use super::run::{RunMsg, RunNews};
use super::turn::Turn;
use crate::estate::Estate;
use crate::event::Event;
use crate::store::{
    self, InputRow, InputState, MessageRow, SessionRecord, Store, StoreError, WriteOp, Written,
};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
use intake::Arrival;
use parking_lot::Mutex;
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
    /// News of the run.
    FromRun(RunId, RunNews),
    /// Time to tell more text.
    Pace(RunId),
    /// What the store holds of this session.
    Loaded(Box<Result<Known, StoreError>>),
    /// An input is durable, or not.
    Accepted(Box<Submission>, bool, Box<Written>),
    /// An attempt is counted.
    Began(Box<Written>),
    /// An outcome is written.
    Settled(RunId, Box<Written>),
}

/// What the store holds of a session.
pub struct Known {
    record: Option<SessionRecord>,
    backlog: Vec<InputRow>,
    told: Vec<(InputRow, Vec<MessageRow>)>,
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
}

struct Active {
    row: InputRow,
    turn: Arc<Mutex<Turn>>,
    pace: Option<Timer>,
    /// False until an adopted run has reported.
    in_step: bool,
    ended: bool,
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
    backlog: VecDeque<InputRow>,
    active: Option<Active>,
    /// What came in, in order; the first of it is held back while a write is under way.
    arrivals: VecDeque<Arrival>,
    /// Whether the input that is on its way into the store, if there is one, will be run at once.
    accepting: Option<bool>,
    /// An input is on its way into the store to be run at once, or its attempt is being counted.
    beginning: bool,
    settling: HashSet<RunId>,
    aborts: Vec<Abort>,
    shown: Option<(usize, Option<RunId>)>,
}

impl Behavior for Session {
    type Msg = SessionMsg;
    type Args = SessionArgs;
    const KIND: &'static str = "session";

    fn start(ctx: &mut Ctx<SessionMsg>, args: SessionArgs) -> Result<Self, Fault> {
        let (store, key) = (args.store.clone(), args.key.clone());
        let runs: Vec<RunId> =
            args.estate.ledgers.of(&key).iter().map(|turn| turn.lock().run_id.clone()).collect();
        let reborn = ctx.node().generation() > 1;
        let read = async move {
            // What the last incarnation has sent to the store is committed before the rows are read.
            if reborn && let Err(e) = store.write(WriteOp::Fence).await {
                return Box::new(Err(e));
            }
            Box::new(store.read(move |c| known(c, &key, &runs)).await)
        };
        ctx.task(read, SessionMsg::Loaded);
        Ok(Self {
            args,
            record: None,
            loaded: false,
            early: Vec::new(),
            backlog: VecDeque::new(),
            active: None,
            arrivals: VecDeque::new(),
            accepting: None,
            beginning: false,
            settling: HashSet::new(),
            aborts: Vec::new(),
            shown: None,
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
            SessionMsg::FromRun(run_id, news) => self.news_of_run(ctx, &run_id, news),
            SessionMsg::Pace(run_id) => self.pace(ctx, &run_id),
            SessionMsg::Accepted(submission, begin, written) => {
                self.accepted(ctx, *submission, begin, *written)?;
            }
            SessionMsg::Began(written) => self.began(ctx, *written)?,
            SessionMsg::Settled(run_id, written) => self.settled(ctx, run_id, *written)?,
        }
        self.take_in(ctx);
        self.next(ctx);
        self.show(ctx);
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        child: &Arc<Node>,
        exit: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let hit = self.active.as_ref().filter(|a| !a.ended && a.turn.lock().child == *child.name());
        if hit.is_some()
            && fate == NodeState::Stopped
            && let Some(active) = self.active.take()
        {
            self.try_again(ctx, active.row, exit);
        }
        self.next(ctx);
        Ok(())
    }
}

fn known(c: &store::Connection, key: &SessionKey, runs: &[RunId]) -> Result<Known, StoreError> {
    let backlog = store::backlog(c, key.as_str())?;
    let mut told = Vec::new();
    for run in runs.iter().filter(|run| !backlog.iter().any(|row| row.run_id == run.as_str())) {
        if let Some(row) = store::input_by_run(c, run.as_str())? {
            told.push((row, store::messages_by_run(c, run.as_str())?));
        }
    }
    Ok(Known { record: store::session(c, key.as_str())?, backlog, told })
}

impl Session {
    fn estate(&self) -> &Estate {
        &self.args.estate
    }

    /// Publishes its figures, when they are different from last time.
    fn show(&mut self, ctx: &Ctx<SessionMsg>) {
        let run_id = self.active.as_ref().map(|a| a.turn.lock().run_id.clone());
        let figures = (self.backlog.len(), run_id);
        if self.shown.as_ref() != Some(&figures) {
            ctx.publish_info(json!({ "backlog": figures.0, "activeRun": figures.1 }));
            self.shown = Some(figures);
        }
    }

    /// Whether the next attempt may begin: the outcome of the last one is durable.
    fn is_idle(&self) -> bool {
        self.active.is_none() && !self.beginning && self.settling.is_empty()
    }

    fn publish(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.estate().conns.publish(event));
    }

    /// The session's row as of now.
    fn row(&self, now: i64) -> Value {
        let active = self.active.as_ref().map(|a| RunId::from(a.row.run_id.as_str()));
        self.record.as_ref().map_or_else(
            || json!({ "key": self.args.key }),
            |record| session_row(record, active.as_ref(), &self.estate().catalog.load(), now),
        )
    }

    fn tell_change(&self, why: Value, now: i64) {
        self.publish([changed_event(&self.args.key, why, &self.row(now), now)]);
    }

    fn tell_message(&self, row: &MessageRow, now: i64) {
        self.publish([message_event(&self.args.key, row, &self.row(now))]);
    }

    fn loaded(&mut self, ctx: &mut Ctx<SessionMsg>, known: Known) -> Result<(), Fault> {
        self.record = known.record;
        self.loaded = true;
        for (row, written) in known.told.into_iter().filter(|(row, _)| row.state.is_final()) {
            self.tell_end(ctx, &row, &written);
        }
        for row in known.backlog {
            if row.state != InputState::Running {
                self.backlog.push_back(row);
                continue;
            }
            let turn = self.estate().ledgers.get(&RunId::from(row.run_id.as_str()));
            match turn.filter(|turn| ctx.node().child(&turn.lock().child).is_some()) {
                Some(turn) => self.adopt(row, turn),
                None if row.attempts >= MAX_ATTEMPTS => self.give_up(ctx, row, "it crashed twice"),
                None => self.backlog.push_front(row),
            }
        }
        self.end_strays(ctx);
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// Ends runs whose outcome was settled while nobody was here to end them.
    fn end_strays(&self, ctx: &mut Ctx<SessionMsg>) {
        let adopted = self.active.as_ref().map(|active| active.turn.lock().child.clone());
        for child in ctx.node().children().iter().filter(|child| Some(child.name()) != adopted.as_ref()) {
            ctx.stop_child(child.name());
        }
    }

    fn adopt(&mut self, row: InputRow, turn: Arc<Mutex<Turn>>) {
        let _ = turn.lock().run.send(RunMsg::Report);
        self.active = Some(Active { row, turn, pace: None, in_step: false, ended: false });
    }
}
