//! The one ractor actor: it runs every [`Behavior`], measures it, and writes down how it ends.

use super::addr::Addr;
use super::behavior::{Behavior, Ctx, Fault, Stopping, panic_text};
use super::lifecycle::{Chaos, Exit, ExitKind};
use super::node::{Control, Node};
use super::policy::ShutdownOrder;
use super::supervise::{self, News, Supervise};
use super::tasks::Tasks;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A message on its way.
pub struct Envelope<M> {
    pub(super) at: Instant,
    what: What<M>,
}

enum What<M> {
    User(M),
    System(System),
}

impl<M> Envelope<M> {
    pub(super) fn user(message: M) -> Self {
        Self { at: Instant::now(), what: What::User(message) }
    }

    pub(super) fn system(message: System) -> Self {
        Self { at: Instant::now(), what: What::System(message) }
    }

    pub(super) fn into_user(self) -> Option<M> {
        match self.what {
            What::User(message) => Some(message),
            What::System(_) => None,
        }
    }
}

/// What the kernel itself says to an actor.
pub(super) enum System {
    TaskFailed(Exit),
    /// End in order: with the children (shutdown), or alone (a restart: the children are adopted again).
    Stop {
        subtree: bool,
    },
    Chaos(Chaos),
    Supervise(Supervise),
}

/// Writes the end of an incarnation to its node, also when the actor is killed in the middle of a message.
struct ExitGuard {
    node: Arc<Node>,
    generation: u64,
    exit: Option<Box<Exit>>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let exit = self.exit.take().map_or_else(|| Exit::new(ExitKind::Killed, "killed"), |exit| *exit);
        self.node.down(self.generation, exit);
    }
}

pub struct Host<B>(PhantomData<fn() -> B>);

impl<B> Default for Host<B> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

pub struct Running<B: Behavior> {
    // Dropped in this order: the behavior and its tasks are gone when the guard reports the end.
    behavior: B,
    ctx: Ctx<B::Msg>,
    stopping: bool,
    /// Whether all children were told to stop.
    told: bool,
    slow: Duration,
    guard: ExitGuard,
}

pub struct Birth<B: Behavior> {
    pub(super) node: Arc<Node>,
    pub(super) generation: u64,
    pub(super) args: B::Args,
}

impl<B: Behavior> Actor for Host<B> {
    type Msg = Envelope<B::Msg>;
    type State = Running<B>;
    type Arguments = Birth<B>;

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        birth: Birth<B>,
    ) -> Result<Running<B>, ActorProcessingErr> {
        let Birth { node, generation, args } = birth;
        let mut guard = ExitGuard { node: node.clone(), generation, exit: None };
        let me = Addr { to: me, gauge: node.gauge() };
        let mut ctx = Ctx { me, node, tasks: Tasks::default(), stop: false };
        match guarded(|| B::start(&mut ctx, args)) {
            Ok(behavior) => {
                Ok(Running { behavior, ctx, stopping: false, told: false, slow: Duration::ZERO, guard })
            }
            Err(exit) => {
                guard.exit = Some(Box::new(exit.clone()));
                Err(exit.reason.into())
            }
        }
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Running<B>,
    ) -> Result<(), ActorProcessingErr> {
        let gauge = state.ctx.me.gauge.clone();
        gauge.begin(envelope.at);
        if state.guard.node.generation() != state.guard.generation {
            return state.end(Exit::new(ExitKind::Killed, "replaced while it could not be killed"));
        }
        if !state.slow.is_zero() {
            tokio::time::sleep(state.slow).await;
        }
        let outcome = match envelope.what {
            What::User(message) => guarded(|| state.behavior.handle(&mut state.ctx, message)),
            What::System(System::TaskFailed(exit)) => Err(exit),
            What::System(System::Stop { subtree }) => {
                state.asked_to_stop(subtree);
                Ok(())
            }
            What::System(System::Chaos(chaos)) => state.suffer(chaos).await,
            What::System(System::Supervise(order)) => state.supervise(order),
        };
        gauge.end();
        match outcome {
            Err(exit) => state.end(exit),
            Ok(()) => {
                if state.ctx.stop {
                    state.guard.exit.get_or_insert_with(|| Box::new(Exit::new(ExitKind::Stopped, "stopped")));
                    me.stop(None);
                }
                Ok(())
            }
        }
    }
}

impl<B: Behavior> Running<B> {
    fn end(&mut self, exit: Exit) -> Result<(), ActorProcessingErr> {
        let reason = exit.reason.clone();
        self.guard.exit = Some(Box::new(exit));
        Err(reason.into())
    }

    fn asked_to_stop(&mut self, subtree: bool) {
        if !subtree {
            self.ctx.stop = true;
            return;
        }
        self.stopping = true;
        if self.behavior.stopping(&mut self.ctx) == Stopping::Now {
            self.stop_children();
        }
    }

    /// Goes on with the shutdown of the children; when none is left, ends itself.
    fn stop_children(&mut self) {
        let node = self.ctx.node.clone();
        let alive = || node.last_child(supervise::is_alive);
        match B::SHUTDOWN {
            ShutdownOrder::Together => {
                // Once: of ten thousand children each tells its end, and then there is only to see whether one is left.
                if !std::mem::replace(&mut self.told, true) {
                    for child in node.children().iter().filter(|c| supervise::is_alive(c)) {
                        supervise::stop(child, supervise::Order::Stop);
                    }
                }
            }
            ShutdownOrder::Reverse => {
                while let Some(last) = alive() {
                    supervise::stop(&last, supervise::Order::Stop);
                    if supervise::is_alive(&last) {
                        break;
                    }
                }
            }
        }
        if alive().is_none() {
            self.ctx.stop = true;
        }
    }

    async fn suffer(&mut self, chaos: Chaos) -> Result<(), Exit> {
        match chaos {
            Chaos::Panic => Err(Exit::new(ExitKind::Panic, "injected panic")),
            Chaos::Hang => std::future::pending().await,
            Chaos::Slow(by) => {
                self.slow = by;
                Ok(())
            }
            Chaos::Spin(length) => {
                let start = std::time::Instant::now();
                while start.elapsed() < length {
                    std::hint::spin_loop();
                }
                Ok(())
            }
        }
    }

    fn supervise(&mut self, order: Supervise) -> Result<(), Exit> {
        let node = self.ctx.node.clone();
        match supervise::handle(&node, order, self.stopping) {
            News::Nothing => Ok(()),
            News::Started(child) => guarded(|| self.behavior.child_started(&mut self.ctx, &child)),
            News::Exited { child, exit, fate } => {
                let told = guarded(|| self.behavior.child_exited(&mut self.ctx, &child, &exit, fate));
                if self.stopping {
                    self.stop_children();
                }
                told
            }
            News::Escalated { child, exit } => Err(Exit::new(
                ExitKind::Error,
                format!("{} could not be kept running: {}", child.path(), exit.reason),
            )),
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Exit> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fault)) => Err(Exit::new(ExitKind::Error, fault.to_string())),
        Err(payload) => Err(Exit::new(ExitKind::Panic, panic_text(payload.as_ref()))),
    }
}

/// Spawns one incarnation, and wires it into its node and slot.
pub(super) async fn spawn<B: Behavior>(
    birth: Birth<B>,
    slot: super::addr::Slot<B::Msg>,
) -> Result<(), String> {
    let (node, generation) = (birth.node.clone(), birth.generation);
    let (actor, _ended) = Actor::spawn(None, Host::<B>::default(), birth).await.map_err(|e| e.to_string())?;
    let addr = Addr { to: actor.clone(), gauge: node.gauge() };
    let control: Control = {
        let addr = addr.clone();
        Arc::new(move |message| addr.post(Envelope::system(message)).is_ok())
    };
    slot.fill(addr, generation);
    if node.up(generation, actor.get_cell(), control) {
        supervise::readopt(&node);
    } else {
        actor.kill();
    }
    Ok(())
}
