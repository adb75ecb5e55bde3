//! The supervisor: static and dynamic children, one-for-one, with everything it must remember kept in the
//! nodes, so that it may crash itself.

use super::addr::{Slot, SlotControl};
use super::behavior::Behavior;
use super::clock::Clock;
use super::host::{self, Birth, System};
use super::lifecycle::{Exit, ExitKind, NodeState, Observer};
use super::node::{Node, Phase, Shared};
use super::policy::{Backoff, Intensity, Restart, Verdict, decide};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A start that takes longer has failed.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// An actor that has not ended this long after a kill is spinning: it is abandoned, fenced by its generation.
const KILL_GRACE: Duration = Duration::from_secs(1);

type StartFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// How a child is started and kept.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) name: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) restart: Restart,
    backoff: Backoff,
    pub(super) intensity: Intensity,
    shutdown: Duration,
    pub(super) busy_bound: Duration,
    escalate: bool,
    pub(super) quiet: bool,
    start: Arc<dyn Fn(Arc<Node>, u64) -> StartFuture + Send + Sync>,
    pub(super) slot: Arc<dyn SlotControl>,
}

impl ChildSpec {
    /// A child of behavior `B`; each incarnation gets a clone of `args` and fills `slot`.
    pub fn new<B: Behavior>(
        name: impl Into<Arc<str>>,
        restart: Restart,
        args: B::Args,
        slot: &Slot<B::Msg>,
    ) -> Self {
        let filled = slot.clone();
        Self {
            name: name.into(),
            kind: B::KIND,
            restart,
            backoff: Backoff::default(),
            intensity: Intensity::default(),
            shutdown: Duration::from_secs(2),
            busy_bound: Duration::from_secs(2),
            escalate: false,
            quiet: false,
            start: Arc::new(move |node, generation| {
                Box::pin(host::spawn::<B>(Birth { node, generation, args: args.clone() }, filled.clone()))
            }),
            slot: Arc::new(slot.clone()),
        }
    }

    /// Waits between restarts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many restarts in which time are still fine.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// How long an orderly stop may take before it becomes a kill.
    pub fn shutdown(mut self, deadline: Duration) -> Self {
        self.shutdown = deadline;
        self
    }

    /// How long it may work on one message before it counts as stuck.
    pub fn busy_bound(mut self, bound: Duration) -> Self {
        self.busy_bound = bound;
        self
    }

    /// One of many that come and go: only its abnormal ends are told to the observer.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The parent cannot live without it: instead of being parked it takes the parent down.
    pub fn escalate(mut self) -> Self {
        self.escalate = true;
        self
    }
}

/// A sibling already has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a child named {0} exists already")]
pub struct Duplicate(pub Arc<str>);

/// What is wanted of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End it and start it again.
    Restart,
    /// End it and keep it so until it is resumed.
    Park,
    /// End it.
    Stop,
}

/// Hints from children, timers and operators to a parent. All are checked against the node, so that late,
/// doubled and lost ones do no harm.
pub(super) enum Supervise {
    Started { child: Arc<str>, generation: u64 },
    Exited { child: Arc<str>, generation: u64 },
    Respawn { child: Arc<str>, generation: u64 },
    Overdue { child: Arc<str>, generation: u64 },
    Stuck { child: Arc<str>, generation: u64, busy_ms: u64 },
    Command(Arc<str>, Order),
}

/// What the behavior of the parent is told.
pub(super) enum News {
    Nothing,
    Started(Arc<Node>),
    Exited { child: Arc<Node>, exit: Exit, fate: NodeState },
    Escalated { child: Arc<Node>, exit: Exit },
}

/// Plants a tree: starts `spec` as its root. The observer hears of every lifecycle change.
pub fn grow(spec: ChildSpec, clock: Clock, observer: Observer) -> Arc<Node> {
    let root = Node::new(spec, None, Arc::new(Shared { observer, clock }));
    start(&root);
    root
}

/// Ends what is left of a tree whose root has gone, at once.
pub fn fell(node: &Arc<Node>) {
    if let Some(cell) = &*node.cell.load() {
        cell.kill();
    }
    node.children().iter().for_each(fell);
}

/// Ends a tree in order, and resolves when its root has ended.
pub async fn shutdown(root: &Arc<Node>) {
    let mut watch = root.watch();
    stop(root, Order::Stop);
    let ended = watch.wait_for(|(state, _)| !matches!(state, NodeState::Running | NodeState::Starting));
    let _ = ended.await;
}

pub(super) fn adopt_and_start(parent: &Arc<Node>, spec: ChildSpec) -> Result<Arc<Node>, Duplicate> {
    let child = Node::new(spec, Some(parent), parent.shared.clone());
    parent.adopt(child.clone())?;
    start(&child);
    Ok(child)
}

/// After a rebirth: looks at every child as if its last hint had been lost.
pub(super) fn readopt(parent: &Arc<Node>) {
    for child in parent.children() {
        let (phase, generation, order) = {
            let life = child.life.lock();
            (life.phase, life.generation, life.order)
        };
        let name = child.name().clone();
        let hint = match phase {
            Phase::Exited => Supervise::Exited { child: name, generation },
            Phase::Backoff { until } => {
                hint_after(parent, until.saturating_duration_since(Instant::now()), move || {
                    Supervise::Respawn { child: name.clone(), generation }
                });
                continue;
            }
            Phase::Running if order.is_some() => Supervise::Overdue { child: name, generation },
            _ => continue,
        };
        parent.post(System::Supervise(hint));
    }
}

fn hint_after(parent: &Arc<Node>, wait: Duration, hint: impl Fn() -> Supervise + Send + 'static) {
    let parent = Arc::downgrade(parent);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        if let Some(parent) = parent.upgrade() {
            parent.post(System::Supervise(hint()));
        }
    });
}

/// Starts an incarnation in a task of its own: a slow start blocks nobody.
fn start(node: &Arc<Node>) {
    let generation = node.begin();
    let node = node.clone();
    tokio::spawn(async move {
        let started = (node.spec.start)(node.clone(), generation);
        let failure = match tokio::time::timeout(START_TIMEOUT, started).await {
            Ok(Ok(())) => {
                if let Some(parent) = node.parent() {
                    let child = node.name().clone();
                    parent.post(System::Supervise(Supervise::Started { child, generation }));
                }
                return;
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("did not start within {} s", START_TIMEOUT.as_secs()),
        };
        node.down(generation, Exit::new(ExitKind::Error, failure));
    });
}

/// Ends a child in order; after its deadline it is killed, and abandoned if even that fails.
pub(super) fn stop(node: &Arc<Node>, order: Order) {
    let Some((generation, phase)) = place_order(node, order) else { return };
    let deadline = if phase == Phase::Running && node.post(System::Stop { subtree: order == Order::Stop }) {
        node.spec.shutdown
    } else {
        Duration::ZERO
    };
    overdue_after(node, generation, deadline);
}

/// Ends a child at once.
pub(super) fn kill(node: &Arc<Node>, order: Order) {
    let Some((generation, _)) = place_order(node, order) else { return };
    kill_incarnation(node, generation, "killed by its parent");
}

/// Notes the order. What is not running needs no stop: it goes on to the state that was ordered.
fn place_order(node: &Arc<Node>, order: Order) -> Option<(u64, Phase)> {
    let mut life = node.life.lock();
    let (phase, generation) = (life.phase, life.generation);
    let lives = matches!(phase, Phase::Running | Phase::Starting | Phase::Exited);
    if lives && life.order == Some(Order::Stop) && order != Order::Stop {
        // Who was told to end for good is not wanted back.
        return None;
    }
    match phase {
        Phase::Running | Phase::Starting => {
            life.order = Some(order);
            Some((generation, phase))
        }
        Phase::Exited => {
            life.order = Some(order);
            None
        }
        Phase::Backoff { .. } | Phase::Parked | Phase::Stopped => {
            life.given_up = false;
            drop(life);
            match order {
                Order::Restart => start(node),
                Order::Park => node.settle(Verdict::Park, Instant::now()),
                Order::Stop => {
                    node.settle(Verdict::Rest, Instant::now());
                    if node.spec.restart != Restart::Permanent
                        && let Some(parent) = node.parent()
                    {
                        parent.forget(node.name());
                    }
                }
            }
            None
        }
    }
}

fn kill_incarnation(node: &Arc<Node>, generation: u64, why: &str) {
    node.life.lock().killed.get_or_insert_with(|| why.into());
    if let Some(cell) = &*node.cell.load() {
        cell.kill();
    }
    overdue_after(node, generation, KILL_GRACE);
}

fn overdue_after(node: &Arc<Node>, generation: u64, wait: Duration) {
    let name = node.name().clone();
    if let Some(parent) = node.parent() {
        hint_after(&parent, wait, move || Supervise::Overdue { child: name.clone(), generation });
    }
}

pub(super) fn is_alive(node: &Node) -> bool {
    !matches!(node.life.lock().phase, Phase::Parked | Phase::Stopped)
}

/// One step of the supervisor of `parent`.
pub(super) fn handle(parent: &Arc<Node>, hint: Supervise, stopping: bool) -> News {
    let (name, generation) = match &hint {
        Supervise::Command(name, order) => {
            return match parent.child(name).filter(|_| !stopping) {
                Some(child) => command(child, *order),
                None => News::Nothing,
            };
        }
        Supervise::Started { child, generation }
        | Supervise::Exited { child, generation }
        | Supervise::Respawn { child, generation }
        | Supervise::Overdue { child, generation }
        | Supervise::Stuck { child, generation, .. } => (child.clone(), *generation),
    };
    let Some(child) = parent.child(&name).filter(|c| c.generation() == generation) else {
        return News::Nothing;
    };
    let phase = child.life.lock().phase;
    match (hint, phase) {
        (Supervise::Started { .. }, Phase::Running) => {
            if stopping {
                stop(&child, Order::Stop);
            }
            News::Started(child)
        }
        (Supervise::Exited { .. }, Phase::Exited) => exited(parent, child, stopping),
        (Supervise::Respawn { .. }, Phase::Backoff { .. }) if !stopping => {
            start(&child);
            News::Nothing
        }
        (Supervise::Overdue { .. }, Phase::Running | Phase::Starting) => overdue(&child, generation),
        (Supervise::Stuck { busy_ms, .. }, Phase::Running) => {
            tracing::warn!(path = %child.path(), busy_ms, "stuck on one message: killed");
            kill_incarnation(&child, generation, &format!("stuck for {busy_ms} ms on one message"));
            News::Nothing
        }
        _ => News::Nothing,
    }
}

/// Carries out a command. Who is parked while it waits for its restart has no end left to tell of: the
/// behavior hears of it here.
fn command(child: Arc<Node>, order: Order) -> News {
    let before = child.state().0;
    stop(&child, order);
    let fate = child.state().0;
    if before != NodeState::Restarting || fate != NodeState::Parked {
        return News::Nothing;
    }
    let exit = child.last_exit().unwrap_or_else(|| Exit::new(ExitKind::Killed, "killed"));
    News::Exited { child, exit, fate }
}

/// The child has ended: decides, and carries the decision out.
fn exited(parent: &Arc<Node>, child: Arc<Node>, stopping: bool) -> News {
    let now = Instant::now();
    let spec = &child.spec;
    let exit = child.last_exit().unwrap_or_else(|| Exit::new(ExitKind::Killed, "killed"));
    let unit = child.jitter();
    let verdict = {
        let mut life = child.life.lock();
        if stopping {
            life.order = Some(Order::Stop);
        }
        let order = life.order;
        decide(spec.restart, (spec.backoff, spec.intensity), order, exit.kind, &mut life.recent, (now, unit))
    };
    let by_order = child.life.lock().order == Some(Order::Park);
    child.life.lock().given_up = verdict == Verdict::Park && !by_order;
    child.settle(verdict, now);
    let fate = child.state().0;
    match verdict {
        Verdict::Respawn(Duration::ZERO) => start(&child),
        Verdict::Respawn(wait) => {
            let (name, generation) = (child.name().clone(), child.generation());
            hint_after(parent, wait, move || Supervise::Respawn { child: name.clone(), generation });
        }
        Verdict::Park if spec.escalate && !by_order => return News::Escalated { child, exit },
        Verdict::Park => {}
        Verdict::Rest => stop_orphans(&child),
        Verdict::Forget => {
            stop_orphans(&child);
            parent.forget(child.name());
        }
    }
    News::Exited { child, exit, fate }
}

/// Who ended for good without having ended its children, because it was killed, leaves nobody to do it.
fn stop_orphans(node: &Node) {
    node.children().iter().filter(|child| is_alive(child)).for_each(|child| stop(child, Order::Stop));
}

/// An order was not obeyed in time: kill; and if that was tried already, give the incarnation up.
fn overdue(child: &Arc<Node>, generation: u64) -> News {
    let untried = child.life.lock().killed.is_none();
    if untried {
        kill_incarnation(child, generation, "did not stop in time");
    } else {
        child.down(generation, Exit::new(ExitKind::Killed, "abandoned: it did not react to a kill"));
    }
    News::Nothing
}
