//! [`Node`]: what is known of an actor, kept outside of it.
//!
//! Nodes form the living tree. They outlive every incarnation of their actor, so a reborn parent finds its
//! children here, and `system.actors` reads them without asking anybody.

use super::addr::Gauge;
use super::clock::Clock;
use super::host::System;
use super::lifecycle::{Chaos, Exit, ExitKind, Lifecycle, NodeState, Observer};
use super::policy::{Restart, Verdict};
use super::supervise::{ChildSpec, Duplicate, Order, Supervise};
use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use ractor::ActorCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) type Control = Arc<dyn Fn(System) -> bool + Send + Sync>;

pub(super) struct Shared {
    pub(super) observer: Observer,
    pub(super) clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    Starting,
    Running,
    /// Ended, and the parent has not decided yet.
    Exited,
    Backoff {
        until: Instant,
    },
    Parked,
    Stopped,
}

impl From<Phase> for NodeState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Exited | Phase::Backoff { .. } => Self::Restarting,
            Phase::Parked => Self::Parked,
            Phase::Stopped => Self::Stopped,
        }
    }
}

pub(super) struct Life {
    pub(super) phase: Phase,
    /// Counts incarnations; messages and timers of an older one are ignored.
    pub(super) generation: u64,
    pub(super) order: Option<Order>,
    /// Why it was killed, once it was.
    pub(super) killed: Option<String>,
    pub(super) recent: VecDeque<Instant>,
    /// Parked because it ended too often, and nobody has put it aside since.
    pub(super) given_up: bool,
    since_ms: i64,
    restarts: u32,
    last_exit: Option<Exit>,
    /// Made when somebody follows: it has a third of a kilobyte, and few nodes are ever followed.
    followed: Option<watch::Sender<(NodeState, u64)>>,
}

#[derive(Default)]
struct Family {
    next: u64,
    by_birth: BTreeMap<u64, Arc<Node>>,
    by_name: BTreeMap<Arc<str>, u64>,
}

/// One place in the tree.
pub struct Node {
    name: Arc<str>,
    path: Arc<str>,
    kind: &'static str,
    parent: Weak<Node>,
    pub(super) shared: Arc<Shared>,
    pub(super) spec: ChildSpec,
    pub(super) life: Mutex<Life>,
    gauge: ArcSwap<Gauge>,
    pub(super) control: ArcSwapOption<Control>,
    pub(super) cell: ArcSwapOption<ActorCell>,
    info: ArcSwapOption<serde_json::Value>,
    family: Mutex<Family>,
}

impl Node {
    pub(super) fn new(spec: ChildSpec, parent: Option<&Arc<Node>>, shared: Arc<Shared>) -> Arc<Self> {
        let name = spec.name.clone();
        let path = match parent {
            Some(p) => format!("{}/{}", p.path, name.replace('/', "%2F")).into(),
            None => name.clone(),
        };
        Arc::new(Self {
            name,
            path,
            kind: spec.kind,
            parent: parent.map_or_else(Weak::new, Arc::downgrade),
            life: Mutex::new(Life {
                phase: Phase::Stopped,
                generation: 0,
                order: None,
                killed: None,
                recent: VecDeque::new(),
                given_up: false,
                since_ms: shared.clock.now_ms(),
                restarts: 0,
                last_exit: None,
                followed: None,
            }),
            shared,
            spec,
            gauge: ArcSwap::default(),
            control: ArcSwapOption::empty(),
            cell: ArcSwapOption::empty(),
            info: ArcSwapOption::empty(),
            family: Mutex::default(),
        })
    }

    /// Its name among its siblings.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Names from the root joined by `/`; a `/` within a name is written `%2F`.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// What kind of actor lives here.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The parent, unless this is the root.
    pub fn parent(&self) -> Option<Arc<Node>> {
        self.parent.upgrade()
    }

    /// What is measured of the current incarnation's mailbox.
    pub fn gauge(&self) -> Arc<Gauge> {
        self.gauge.load_full()
    }

    /// The longest it should work on one message.
    pub fn busy_bound(&self) -> Duration {
        self.spec.busy_bound
    }

    /// State, and the time it has lasted since (milliseconds since 1970).
    pub fn state(&self) -> (NodeState, i64) {
        let life = self.life.lock();
        (life.phase.into(), life.since_ms)
    }

    /// The number of the current or last incarnation; 1 is the first.
    pub fn generation(&self) -> u64 {
        self.life.lock().generation
    }

    /// How often it was brought back.
    pub fn restarts(&self) -> u32 {
        self.life.lock().restarts
    }

    /// How often it may still end abnormally, as things are, and is not parked for it; `None` for who is never
    /// brought back.
    pub fn restarts_left(&self) -> Option<usize> {
        let brought_back = self.spec.restart != Restart::Temporary;
        brought_back.then(|| self.spec.intensity.left(&self.life.lock().recent, Instant::now()))
    }

    /// Whether it is parked because it ended too often, rather than by order.
    pub fn is_given_up(&self) -> bool {
        let life = self.life.lock();
        life.phase == Phase::Parked && life.given_up
    }

    /// How the last incarnation ended.
    pub fn last_exit(&self) -> Option<Exit> {
        self.life.lock().last_exit.clone()
    }

    /// Follows state and generation.
    pub fn watch(&self) -> watch::Receiver<(NodeState, u64)> {
        let mut life = self.life.lock();
        let now = (life.phase.into(), life.generation);
        life.followed.get_or_insert_with(|| watch::Sender::new(now)).subscribe()
    }

    /// A few figures the actor itself publishes.
    pub fn info(&self) -> Option<Arc<serde_json::Value>> {
        self.info.load_full()
    }

    pub(super) fn set_info(&self, info: serde_json::Value) {
        self.info.store(Some(Arc::new(info)));
    }

    /// Children in order of birth.
    pub fn children(&self) -> Vec<Arc<Node>> {
        self.family.lock().by_birth.values().cloned().collect()
    }

    /// The child born last of those that are so.
    pub(super) fn last_child(&self, is: impl Fn(&Node) -> bool) -> Option<Arc<Node>> {
        self.family.lock().by_birth.values().rfind(|child| is(child)).cloned()
    }

    /// How many children there are.
    pub fn child_count(&self) -> usize {
        self.family.lock().by_birth.len()
    }

    /// A child by name.
    pub fn child(&self, name: &str) -> Option<Arc<Node>> {
        let family = self.family.lock();
        family.by_name.get(name).and_then(|birth| family.by_birth.get(birth)).cloned()
    }

    /// The node at `path`, which begins with this node's own name.
    pub fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Node>> {
        let mut names = path.split('/').map(|n| n.replace("%2F", "/"));
        if names.next()? != *self.name {
            return None;
        }
        names.try_fold(self.clone(), |node, name| node.child(&name))
    }

    /// Injects a fault. False if nobody is there to suffer it.
    pub fn inject(&self, chaos: Chaos) -> bool {
        self.post(System::Chaos(chaos))
    }

    /// Kills the incarnation without any order: to its supervisor this is an abnormal exit. False if there
    /// is none.
    pub fn kill(&self) -> bool {
        self.cell.load().as_ref().map(|cell| cell.kill()).is_some()
    }

    /// Puts a supervisor's command to the parent. False for the root, or if no parent is there to take it.
    pub fn command(&self, order: Order) -> bool {
        self.parent().is_some_and(|p| p.post(System::Supervise(Supervise::Command(self.name.clone(), order))))
    }

    /// Reports that generation `generation` has been on one message for too long: the parent kills it.
    pub fn report_stuck(&self, generation: u64, busy_ms: u64) -> bool {
        let stuck = Supervise::Stuck { child: self.name.clone(), generation, busy_ms };
        self.parent().is_some_and(|p| p.post(System::Supervise(stuck)))
    }

    pub(super) fn post(&self, message: System) -> bool {
        self.control.load().as_ref().is_some_and(|control| control(message))
    }

    pub(super) fn adopt(&self, child: Arc<Node>) -> Result<(), Duplicate> {
        let mut family = self.family.lock();
        if family.by_name.contains_key(&child.name) {
            return Err(Duplicate(child.name.clone()));
        }
        let birth = family.next;
        family.next += 1;
        family.by_name.insert(child.name.clone(), birth);
        family.by_birth.insert(birth, child);
        Ok(())
    }

    pub(super) fn forget(&self, name: &str) {
        let mut family = self.family.lock();
        if let Some(birth) = family.by_name.remove(name) {
            family.by_birth.remove(&birth);
        }
    }

    /// Begins a new incarnation and returns its generation.
    pub(super) fn begin(&self) -> u64 {
        let mut life = self.life.lock();
        life.generation += 1;
        if life.generation > 1 {
            life.restarts += 1;
        }
        life.order = None;
        life.killed = None;
        life.given_up = false;
        self.gauge.store(Arc::default());
        self.enter(&mut life, Phase::Starting);
        life.generation
    }

    /// The incarnation is up. False if it is not wanted any more: then it must be killed.
    pub(super) fn up(&self, generation: u64, cell: ActorCell, control: Control) -> bool {
        let mut life = self.life.lock();
        if life.generation != generation || life.phase != Phase::Starting || life.order.is_some() {
            return false;
        }
        self.cell.store(Some(Arc::new(cell)));
        self.control.store(Some(Arc::new(control)));
        self.enter(&mut life, Phase::Running);
        drop(life);
        self.observe(false);
        true
    }

    /// The incarnation has ended, whichever way. Called once by the drop guard (or by the supervisor for
    /// one that could not be started or killed); does nothing for an older generation.
    pub(super) fn down(&self, generation: u64, mut exit: Exit) {
        {
            let mut life = self.life.lock();
            if life.generation != generation || !matches!(life.phase, Phase::Starting | Phase::Running) {
                return;
            }
            self.spec.slot.empty(generation);
            self.control.store(None);
            self.cell.store(None);
            exit.at_ms = self.shared.clock.now_ms();
            if exit.kind == ExitKind::Killed
                && let Some(reason) = life.killed.take()
            {
                exit.reason = reason;
            } else if exit.kind == ExitKind::Stopped && life.order == Some(Order::Restart) {
                exit.reason = "restart requested".into();
            }
            life.last_exit = Some(exit);
            self.enter(&mut life, Phase::Exited);
        }
        if let Some(parent) = self.parent() {
            parent.post(System::Supervise(Supervise::Exited { child: self.name.clone(), generation }));
        }
    }

    /// Applies the parent's decision; returns the time to wait before the respawn, if any.
    pub(super) fn settle(&self, verdict: Verdict, now: Instant) {
        {
            let mut life = self.life.lock();
            let phase = match verdict {
                Verdict::Respawn(wait) => {
                    if let Some(exit) = &mut life.last_exit {
                        exit.backoff_ms = Some(wait.as_millis() as u64);
                    }
                    self.spec.slot.set_retry_after_ms(wait.as_millis().max(100) as u64);
                    Phase::Backoff { until: now + wait }
                }
                Verdict::Park => Phase::Parked,
                Verdict::Forget | Verdict::Rest => Phase::Stopped,
            };
            self.enter(&mut life, phase);
        }
        let ordered = self.life.lock().order.is_some();
        self.observe(ordered);
    }

    fn enter(&self, life: &mut Life, phase: Phase) {
        life.phase = phase;
        life.since_ms = self.shared.clock.now_ms();
        if let Some(followed) = &life.followed {
            followed.send_replace((phase.into(), life.generation));
        }
    }

    /// A number in 0..1 that differs between actors and incarnations, and is the same in each replay.
    pub(super) fn jitter(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        (&self.path, self.generation()).hash(&mut hasher);
        (hasher.finish() % 1_000) as f64 / 1_000.0
    }

    fn observe(&self, ordered: bool) {
        let change = {
            let life = self.life.lock();
            let in_order = life.last_exit.as_ref().is_none_or(|e| e.kind == ExitKind::Stopped);
            if self.spec.quiet && (in_order || ordered) {
                return;
            }
            Lifecycle {
                path: self.path.clone(),
                kind: self.kind,
                state: life.phase.into(),
                restarts: life.restarts,
                last_exit: life.last_exit.clone(),
                ordered,
            }
        };
        (self.shared.observer)(&change);
    }
}
