//! **Owns** nothing but the sessions' being: one child a session key, started when it is spoken to, and at
//! start-up for every session with inputs that are not settled; one that has been idle for long ends.
//! **Hears** submissions, changes and aborts; **tells** them to the session's own actor.
//! **On crash** no session notices: their addresses are in the Estate, and they are adopted again. Requests
//! that were on their way to a session that had not started yet are answered `UNAVAILABLE`.

mod blocks;
pub(crate) mod conversation;
mod ledgers;
mod listed;
mod outcome;
mod queue;
mod rows;
mod run;
mod saying;
mod session;
pub(crate) mod silence;
mod turn;

pub use blocks::{Block, BlockStream, BlockType, Insert};
pub use ledgers::Ledgers;
pub use listed::{Basis, Listed};
pub use outcome::{INTERRUPTED, Outcome, Status, gateway_message};
pub use queue::MAX_WAITING;
pub(crate) use rows::{changed_event, groups_event, message_payload};
pub use rows::{message_row, model_of, session_row};
pub use saying::Saying;
pub use session::{Change, Changed, Check, First, MANY_LIVE, SessionMsg, Submission, Told};
pub(crate) use turn::merge;
pub use turn::{Origin, Turn, activity};

use crate::estate::Estate;
use crate::responder::Responder;
use crate::store::{self, SessionRecord, Store, StoreError, WriteOp};
use crate::tree::*;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;
use session::{Session, SessionArgs};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Messages that may wait for one session to start.
const MAX_PENDING: usize = 64;

/// Who waits for which run's outcome. Part of the Estate.
#[derive(Default)]
pub struct Waiters(Mutex<BTreeMap<RunId, Waiting>>);

#[derive(Default)]
struct Waiting {
    finals: Vec<(SessionKey, Responder)>,
    outcomes: Vec<oneshot::Sender<Outcome>>,
}

impl Waiters {
    /// The second response of the method `agent` follows when the run is settled.
    pub fn add_final(&self, run_id: RunId, key: SessionKey, responder: Responder) {
        self.0.lock().entry(run_id).or_default().finals.push((key, responder));
    }

    /// The outcome, once it is settled. Whoever asks reads the store as well: it may be settled already.
    pub fn outcome(&self, run_id: &RunId) -> Awaited<'_> {
        let (tx, outcome) = oneshot::channel();
        self.0.lock().entry(run_id.clone()).or_default().outcomes.push(tx);
        Awaited { waiters: self, run_id: run_id.clone(), outcome }
    }

    /// Tells everybody who waits.
    pub fn resolve(&self, run_id: &RunId, outcome: &Outcome) {
        let Some(waiting) = self.0.lock().remove(run_id) else { return };
        for (_, responder) in waiting.finals {
            match outcome.agent_final(run_id) {
                Ok(payload) => responder.ok(&payload),
                Err(failed) => responder.refuse_with(failed.0, &failed.1),
            }
        }
        for waiter in waiting.outcomes {
            let _ = waiter.send(outcome.clone());
        }
    }

    /// There will be no outcomes of a session for now: whoever waits for one, of the runs that have begun or
    /// wait to begin, is told to try again.
    pub fn give_up(&self, key: &SessionKey, begun: &[RunId]) {
        let mut waiting = self.0.lock();
        let mut given_up: Vec<_> = begun.iter().filter_map(|run_id| waiting.remove(run_id)).collect();
        let theirs = waiting.extract_if(.., |_, w| w.finals.iter().any(|(of, _)| of == key));
        given_up.extend(theirs.map(|(_, waiting)| waiting));
        drop(waiting);
        drop(given_up);
    }

    /// How many runs somebody waits for.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    fn forget_closed(&self, run_id: &RunId) {
        let mut all = self.0.lock();
        if let Some(waiting) = all.get_mut(run_id) {
            waiting.outcomes.retain(|other| !other.is_closed());
            if waiting.finals.is_empty() && waiting.outcomes.is_empty() {
                all.remove(run_id);
            }
        }
    }
}

/// Somebody waiting for a run; forgotten when dropped.
pub struct Awaited<'a> {
    waiters: &'a Waiters,
    run_id: RunId,
    outcome: oneshot::Receiver<Outcome>,
}

impl Awaited<'_> {
    /// The outcome; `None` if there will be none for now.
    pub async fn settled(&mut self) -> Option<Outcome> {
        (&mut self.outcome).await.ok()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.outcome.close();
        self.waiters.forget_closed(&self.run_id);
    }
}

/// What the parent of all sessions hears.
pub enum SessionsMsg {
    /// For a session, which is started if need be.
    To(SessionKey, SessionMsg),
    /// A session has had nothing to do for a while.
    Idle(SessionKey),
    /// A session that was asked to end has something to do again.
    Stays(SessionKey),
    /// Sessions with inputs that are not settled.
    Unsettled(Result<Vec<String>, StoreError>),
}

/// What the parent of all sessions is started with.
#[derive(Clone)]
pub struct SessionsArgs {
    /// The store, and through it the Estate.
    pub store: Store,
    /// Its own address, for its sessions.
    pub slot: Slot<SessionsMsg>,
    /// What sums up a session that has grown near its model's context.
    pub compact: Compactor,
}

/// Puts a summary in place of a session's older turns, in its own time.
pub type Compactor = Arc<dyn Fn(SessionKey) -> BoxFuture<'static, ()> + Send + Sync>;

/// See the module.
pub struct Sessions {
    args: SessionsArgs,
    estate: Arc<Estate>,
    /// What waits for sessions that start, or that may be about to end.
    pending: BTreeMap<SessionKey, Vec<SessionMsg>>,
}

impl Behavior for Sessions {
    type Msg = SessionsMsg;
    type Args = SessionsArgs;
    const KIND: &'static str = "sessions";

    fn start(ctx: &mut Ctx<SessionsMsg>, args: SessionsArgs) -> Result<Self, Fault> {
        let reader = args.store.clone();
        ctx.task(async move { reader.read(store::keys_with_backlog).await }, SessionsMsg::Unsettled);
        Ok(Self { estate: args.store.estate.clone(), args, pending: BTreeMap::new() })
    }

    fn handle(&mut self, ctx: &mut Ctx<SessionsMsg>, msg: SessionsMsg) -> Result<(), Fault> {
        match msg {
            SessionsMsg::To(key, msg) => self.forward(ctx, key, msg),
            SessionsMsg::Idle(key) => self.retire(key),
            SessionsMsg::Stays(key) => self.release(&key),
            SessionsMsg::Unsettled(keys) => {
                for key in keys.map_err(Fault::new)? {
                    let key = SessionKey::canonical(&key, "main").map_err(|r| Fault::new(r.message))?;
                    self.ensure(ctx, &key);
                }
            }
        }
        self.tell_info(ctx);
        Ok(())
    }

    fn child_started(&mut self, _: &mut Ctx<SessionsMsg>, child: &Arc<Node>) -> Result<(), Fault> {
        self.release(&key_of(child)?);
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<SessionsMsg>,
        child: &Arc<Node>,
        _: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let key = key_of(child)?;
        match fate {
            NodeState::Parked => {
                self.pending.remove(&key);
                let begun: Vec<_> =
                    self.estate.ledgers.of(&key).iter().map(|turn| turn.lock().run_id.clone()).collect();
                self.estate.waiters.give_up(&key, &begun);
            }
            NodeState::Stopped => self.gone(ctx, key),
            _ => {}
        }
        self.tell_info(ctx);
        Ok(())
    }
}

fn key_of(child: &Node) -> Result<SessionKey, Fault> {
    SessionKey::canonical(child.name(), "main").map_err(|r| Fault::new(r.message))
}

impl Sessions {
    fn tell_info(&self, ctx: &Ctx<SessionsMsg>) {
        ctx.publish_info(json!({
            "sessions": ctx.node().child_count(), "activeRuns": self.estate.ledgers.count(),
        }));
    }

    fn forward(&mut self, ctx: &mut Ctx<SessionsMsg>, key: SessionKey, msg: SessionMsg) {
        // Behind what waits for it already: the session may be up, and not have been told of them yet.
        let waiting = self.pending.contains_key(&key);
        let Err(msg) = (if waiting { Err(msg) } else { self.estate.session_slot(&key).send(msg) }) else {
            return;
        };
        if self.ensure(ctx, &key) == NodeState::Parked {
            return;
        }
        let waiting = self.pending.entry(key).or_default();
        if waiting.len() < MAX_PENDING {
            waiting.push(msg);
        }
    }

    /// From now on what comes for the session waits, until it has ended or said that it stays.
    fn retire(&mut self, key: SessionKey) {
        if !self.pending.contains_key(&key) && self.estate.session_slot(&key).send(SessionMsg::Retire).is_ok()
        {
            self.pending.insert(key, Vec::new());
        }
    }

    /// The session is there for what has waited.
    fn release(&mut self, key: &SessionKey) {
        let slot = self.estate.session_slot(key);
        for msg in self.pending.remove(key).into_iter().flatten() {
            // Whoever asked hears `UNAVAILABLE` if it has gone down again.
            let _ = slot.send(msg);
        }
    }

    /// The session has left memory. If it was spoken to meanwhile it is started again.
    fn gone(&mut self, ctx: &mut Ctx<SessionsMsg>, key: SessionKey) {
        self.estate.forget_session(&key);
        if self.pending.get(&key).is_some_and(|waiting| !waiting.is_empty()) {
            self.ensure(ctx, &key);
        } else {
            self.pending.remove(&key);
        }
    }

    fn ensure(&mut self, ctx: &mut Ctx<SessionsMsg>, key: &SessionKey) -> NodeState {
        if let Some(child) = ctx.node().child(key.as_str()) {
            return child.state().0;
        }
        let slot = self.estate.session_slot(key);
        let args = SessionArgs {
            key: key.clone(),
            estate: self.estate.clone(),
            store: self.args.store.clone(),
            slot: slot.clone(),
            parent: self.args.slot.clone(),
            compact: self.args.compact.clone(),
        };
        let spec = ChildSpec::new::<Session>(key.as_str(), Restart::Transient, args, &slot).quiet();
        match ctx.spawn(spec) {
            Ok(child) => child.state().0,
            Err(Duplicate(_)) => NodeState::Starting,
        }
    }
}

/// Has a session changed, and resolves when that is durable.
///
/// # Errors
/// What `make` refuses; what the store says; UNAVAILABLE if the session goes down with it.
pub async fn change(
    sessions: &Slot<SessionsMsg>,
    key: SessionKey,
    stop: Option<&'static str>,
    told: Told,
    make: impl FnOnce(Option<&SessionRecord>, i64) -> Result<WriteOp, Refusal> + Send + 'static,
) -> Result<Changed, Refusal> {
    let make = Box::new(make);
    change_with(sessions, key, |done| Change { check: None, stop, make, first: None, told, done }).await
}

/// The same for a change with more to it.
///
/// # Errors
/// As [`change`], and what its check and its first step say.
pub async fn change_with(
    sessions: &Slot<SessionsMsg>,
    key: SessionKey,
    with: impl FnOnce(Reply<Result<Changed, Refusal>>) -> Change,
) -> Result<Changed, Refusal> {
    let (done, answer) = Reply::oneshot();
    let change = with(done);
    let unavailable = || Refusal::unavailable(sessions.retry_after_ms());
    let sent = sessions.send(SessionsMsg::To(key, SessionMsg::Change(Box::new(change))));
    sent.map_err(|_| unavailable())?;
    answer.await.unwrap_or_else(|_| Err(unavailable()))
}
