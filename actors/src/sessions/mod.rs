//! **Owns** nothing but the sessions' being: one child a session key, started when it is first spoken to,
//! and at start-up for every session with inputs that are not settled.
//! **Hears** submissions and aborts; **tells** them to the session's own actor.
//! **On crash** no session notices: their addresses are in the Estate, and they are adopted again. Requests
//! that were on their way to a session that had not started yet are answered `UNAVAILABLE`.

mod outcome;
mod rows;
mod run;
mod session;
mod turn;

pub use outcome::{Outcome, Status};
pub(crate) use rows::{changed_event, message_event};
pub use rows::{message_row, session_row};
pub use session::{MAX_BACKLOG, SessionMsg, Submission};
pub use turn::{Ledgers, Turn};

use crate::estate::Estate;
use crate::responder::Responder;
use crate::store::{self, Store, StoreError};
use crate::tree::*;
use crabtree_protocol::{RunId, SessionKey};
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
    /// Sessions with inputs that are not settled.
    Unsettled(Result<Vec<String>, StoreError>),
}

/// See the module.
pub struct Sessions {
    store: Store,
    estate: Arc<Estate>,
    pending: BTreeMap<SessionKey, Vec<SessionMsg>>,
}

impl Behavior for Sessions {
    type Msg = SessionsMsg;
    type Args = Store;
    const KIND: &'static str = "sessions";

    fn start(ctx: &mut Ctx<SessionsMsg>, store: Store) -> Result<Self, Fault> {
        let reader = store.clone();
        ctx.task(async move { reader.read(store::keys_with_backlog).await }, SessionsMsg::Unsettled);
        Ok(Self { estate: store.estate.clone(), store, pending: BTreeMap::new() })
    }

    fn handle(&mut self, ctx: &mut Ctx<SessionsMsg>, msg: SessionsMsg) -> Result<(), Fault> {
        match msg {
            SessionsMsg::To(key, msg) => self.forward(ctx, key, msg),
            SessionsMsg::Unsettled(keys) => {
                for key in keys.map_err(Fault::new)? {
                    let key = SessionKey::canonical(&key, "main").map_err(|r| Fault::new(r.message))?;
                    self.ensure(ctx, &key);
                }
            }
        }
        ctx.publish_info(json!({
            "sessions": ctx.node().child_count(), "activeRuns": self.estate.ledgers.count(),
        }));
        Ok(())
    }

    fn child_started(&mut self, _: &mut Ctx<SessionsMsg>, child: &Arc<Node>) -> Result<(), Fault> {
        let Some((key, waiting)) = self.pending.remove_entry(child.name().as_ref()) else { return Ok(()) };
        let slot = self.estate.session_slot(&key);
        for msg in waiting {
            // Whoever asked hears `UNAVAILABLE` if it has gone down again.
            let _ = slot.send(msg);
        }
        Ok(())
    }

    fn child_exited(
        &mut self,
        _: &mut Ctx<SessionsMsg>,
        child: &Arc<Node>,
        _: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        if fate == NodeState::Parked {
            self.pending.remove(child.name().as_ref());
            let key = SessionKey::canonical(child.name(), "main").map_err(|r| Fault::new(r.message))?;
            let begun: Vec<_> =
                self.estate.ledgers.of(&key).iter().map(|turn| turn.lock().run_id.clone()).collect();
            self.estate.waiters.give_up(&key, &begun);
        }
        Ok(())
    }
}

impl Sessions {
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

    fn ensure(&mut self, ctx: &mut Ctx<SessionsMsg>, key: &SessionKey) -> NodeState {
        if let Some(child) = ctx.node().child(key.as_str()) {
            return child.state().0;
        }
        let slot = self.estate.session_slot(key);
        let args = SessionArgs {
            key: key.clone(),
            estate: self.estate.clone(),
            store: self.store.clone(),
            slot: slot.clone(),
        };
        let spec = ChildSpec::new::<Session>(key.as_str(), Restart::Transient, args, &slot).quiet();
        match ctx.spawn(spec) {
            Ok(child) => child.state().0,
            Err(Duplicate(_)) => NodeState::Starting,
        }
    }
}
