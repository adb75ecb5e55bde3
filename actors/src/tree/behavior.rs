//! What an actor is ([`Behavior`]) and what it may do ([`Ctx`]).

use super::addr::{Addr, Reply};
use super::host::System;
use super::lifecycle::{Exit, ExitKind, NodeState};
use super::node::Node;
use super::policy::ShutdownOrder;
use super::supervise::{self, ChildSpec, Duplicate, Order};
use super::tasks::Tasks;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// An error that ends the actor; its supervisor decides what follows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    /// A fault with its reason. The reason is shown to operators: no message text in it.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// An actor's answer to being asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// Stop the children, then me.
    Now,
    /// I have work to finish and call [`Ctx::stop`] myself, within my shutdown deadline.
    Later,
}

/// An actor. `handle` is synchronous, so it cannot wait for the world: what waits is a [`Ctx::task`].
pub trait Behavior: Sized + Send + 'static {
    /// What it hears.
    type Msg: Send + 'static;
    /// What it is started with, each time anew: configuration and the slots it may talk to.
    type Args: Clone + Send + Sync + 'static;
    /// Its kind, as `system.actors` shows it.
    const KIND: &'static str;
    /// How its children are stopped at shutdown.
    const SHUTDOWN: ShutdownOrder = ShutdownOrder::Together;

    /// Makes the state. Children of an earlier incarnation are already adopted.
    fn start(ctx: &mut Ctx<Self::Msg>, args: Self::Args) -> Result<Self, Fault>;

    /// Handles one message.
    fn handle(&mut self, ctx: &mut Ctx<Self::Msg>, msg: Self::Msg) -> Result<(), Fault>;

    /// A child is up (for the first time or again).
    fn child_started(&mut self, _ctx: &mut Ctx<Self::Msg>, _child: &Arc<Node>) -> Result<(), Fault> {
        Ok(())
    }

    /// A child has ended, and the supervisor has decided: `fate` is the state that follows.
    fn child_exited(
        &mut self,
        _ctx: &mut Ctx<Self::Msg>,
        _child: &Arc<Node>,
        _exit: &Exit,
        _fate: NodeState,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// The gateway is going down, or this actor is not needed any more.
    fn stopping(&mut self, _ctx: &mut Ctx<Self::Msg>) -> Stopping {
        Stopping::Now
    }
}

/// Cancels a message sent with [`Ctx::after`] when dropped or told to.
#[derive(Debug)]
pub struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an actor may do beside changing its own state.
pub struct Ctx<M: Send + 'static> {
    pub(super) me: Addr<M>,
    pub(super) node: Arc<Node>,
    pub(super) tasks: Tasks,
    pub(super) stop: bool,
}

impl<M: Send + 'static> Ctx<M> {
    /// This incarnation's address.
    pub fn me(&self) -> &Addr<M> {
        &self.me
    }

    /// This actor's place in the tree.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Wall time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.node.shared.clock.now_ms()
    }

    /// When the message in hand was taken up.
    pub fn taken_up(&self) -> Option<tokio::time::Instant> {
        self.me.gauge.taken_up()
    }

    /// Ends this actor in order, after the current message.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// Runs `work` beside the actor and hears of its result. Aborted with the actor; its panic is the
    /// actor's fault.
    pub fn task<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(T) -> M + Send + 'static,
    ) -> AbortHandle {
        let me = self.me.clone();
        // Not an async block: it would hold the work twice.
        self.tasks.spawn(AssertUnwindSafe(work).catch_unwind().map(move |outcome| match outcome {
            Ok(value) => {
                let _ = me.send(then(value));
            }
            Err(payload) => {
                let exit = Exit::new(ExitKind::Panic, panic_text(payload.as_ref()));
                let _ = me.post(super::host::Envelope::system(System::TaskFailed(exit)));
            }
        }))
    }

    /// Runs `work` beside the actor when nobody waits for a result.
    pub fn detached(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Sends `msg` to this actor after `wait`, unless the timer is dropped before.
    #[must_use = "dropping the timer cancels it"]
    pub fn after(&mut self, wait: Duration, msg: M) -> Timer {
        let me = self.me.clone();
        Timer(self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = me.send(msg);
        }))
    }

    /// A reply port that comes back to this actor as a message.
    pub fn reply<T: Send + 'static>(&self, then: impl FnOnce(Option<T>) -> M + Send + 'static) -> Reply<T> {
        let me = self.me.clone();
        Reply::new(move |answer| {
            let _ = me.send(then(answer));
        })
    }

    /// Publishes a few figures for `system.actors`.
    pub fn publish_info(&self, info: serde_json::Value) {
        self.node.set_info(info);
    }

    /// Starts a child under supervision. It is up when [`Behavior::child_started`] says so.
    pub fn spawn(&mut self, spec: ChildSpec) -> Result<Arc<Node>, Duplicate> {
        supervise::adopt_and_start(&self.node, spec)
    }

    /// Ends a child in order; it is killed after its shutdown deadline.
    pub fn stop_child(&mut self, name: &str) {
        if let Some(child) = self.node.child(name) {
            supervise::stop(&child, Order::Stop);
        }
    }

    /// Ends a child at once.
    pub fn kill_child(&mut self, name: &str) {
        if let Some(child) = self.node.child(name) {
            supervise::kill(&child, Order::Stop);
        }
    }

    /// Restarts a child, for instance because its arguments changed.
    pub fn restart_child(&mut self, name: &str) {
        if let Some(child) = self.node.child(name) {
            supervise::stop(&child, Order::Restart);
        }
    }
}

/// What a panic said, for `lastExit.reason`.
pub(super) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a text")
}
