//! What systemd is told while the gateway runs: that clients are served, in which phase it is, and that it lives.
//!
//! All of it is told by one task on the runtime of the gateway's core. Where that hangs nothing is told any more, and
//! the watchdog of systemd has the process started anew. Without systemd there is no task.

use crate::Gateway;
use crabtree_actors::estate::Estate;
use crabtree_actors::settings::Loaded;
use crabtree_actors::tree::{Node, NodeState};
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How often the phase is told where no watchdog wants to hear more often.
const BEAT: Duration = Duration::from_secs(15);
/// An actor that has been busy for so many times its bound was not replaced, though it should have been: then it
/// cannot be.
const HANGS_AT: u32 = 3;
/// How often is looked what has become of a reload, and of the turns of a drain; more often nothing is told.
const LOOK: Duration = Duration::from_millis(50);
/// How long a reload may take before it counts as done: secrets are looked up by then.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
/// How often more time is asked for while turns end.
const DRAIN_BEAT: Duration = Duration::from_secs(5);
/// How much time is asked for; the end of the tree and its sockets is in it.
const MORE_TIME: Duration = Duration::from_secs(60);
/// How long the gateway waits for its own words when it stops.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Acts that may wait; there are three kinds.
const MAX_ACTS: usize = 16;

/// What is told while the configuration is read, and when nothing moves.
const READING: &str = "reading the configuration again";
const HANGS: &str = "hanging: the tree, or what watches over it, does not move";

/// What the program does with the gateway.
enum Act {
    /// The configuration, which was this one, is read again.
    Reload(Arc<Loaded>),
    /// It stops. The sender goes when that was told.
    Stop(oneshot::Sender<()>),
}

/// Tells systemd how the gateway is, for as long as it lives.
pub struct Told {
    estate: Arc<Estate>,
    acts: Option<mpsc::Sender<Act>>,
}

impl Told {
    /// Begins, if systemd wants to know.
    pub fn begin(gateway: &Gateway) -> Self {
        let estate = gateway.estate.clone();
        let acts = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            let (acts, heard) = mpsc::channel(MAX_ACTS);
            let teller = Teller { estate: estate.clone(), root: gateway.root.clone(), addr: gateway.addr };
            tokio::spawn(teller.run(heard));
            acts
        });
        Self { estate, acts }
    }

    /// The configuration is about to be read again.
    pub fn reloading(&self) {
        if let Some(acts) = &self.acts {
            // Where so many wait already one more says nothing new.
            let _ = acts.try_send(Act::Reload(self.estate.config.load_full()));
        }
    }

    /// The gateway is about to stop. Resolves when that is told.
    pub async fn stopping(&self) {
        let Some(acts) = &self.acts else { return };
        let (told, wait) = oneshot::channel();
        let _ = timeout(LAST_WORDS, async {
            let _ = acts.send(Act::Stop(told)).await;
            let _ = wait.await;
        })
        .await;
    }
}

struct Teller {
    estate: Arc<Estate>,
    root: Arc<Node>,
    addr: SocketAddr,
}

impl Teller {
    async fn run(self, mut acts: mpsc::Receiver<Act>) {
        let Some(told) = self.serve(&mut acts).await else { return };
        let draining = self.drain(told);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                () = &mut draining => return,
                // Nothing else is of interest any more.
                act = acts.recv() => if act.is_none() { return (&mut draining).await },
            }
        }
    }

    /// Until the gateway stops; none if it just goes.
    async fn serve(&self, acts: &mut mpsc::Receiver<Act>) -> Option<oneshot::Sender<()>> {
        let missing = self.estate.ready.missing().join(", ");
        tell(vec![], format!("starting: waiting for {missing}")).await;
        let mut beat = interval(sd_notify::watchdog_enabled().map_or(BEAT, |limit| (limit / 2).max(LOOK)));
        // What could not be said in time is not said twice afterwards.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut was_ready, mut reload) = (false, None);
        loop {
            tokio::select! {
                () = self.estate.ready.complete(), if !was_ready => {
                    was_ready = true;
                    tell(vec![NotifyState::Ready], self.serving()).await;
                }
                () = self.read_again(reload.as_ref()), if reload.is_some() => {
                    reload = None;
                    tell(vec![NotifyState::Ready], self.serving()).await;
                }
                _ = beat.tick(), if was_ready => self.beat(reload.is_some()).await,
                act = acts.recv() => match act? {
                    // Until then the configuration is read for the first time.
                    Act::Reload(_) if !was_ready => {}
                    Act::Reload(last) => {
                        reload = Some((last, Instant::now() + RELOAD_LIMIT));
                        let mut states = vec![NotifyState::Reloading];
                        states.extend(NotifyState::monotonic_usec_now());
                        tell(states, READING.into()).await;
                    }
                    Act::Stop(told) => return Some(told),
                }
            }
        }
    }

    /// A sign of life, if there is any.
    async fn beat(&self, reads: bool) {
        if !is_alive(&self.root) {
            return tell(vec![], HANGS.into()).await;
        }
        let status = if reads { READING.into() } else { self.serving() };
        tell(vec![NotifyState::Watchdog], status).await;
    }

    /// Resolves when the configuration was read again: it is published then, changed or not.
    async fn read_again(&self, reload: Option<&(Arc<Loaded>, Instant)>) {
        let Some((last, limit)) = reload else { return };
        while Arc::ptr_eq(last, &self.estate.config.load_full()) && Instant::now() < *limit {
            sleep(LOOK).await;
        }
    }

    fn serving(&self) -> String {
        let words = if self.estate.health.load().ok { "" } else { "; not well, see crabtree health" };
        format!("serving on {}{words}", self.addr)
    }

    /// While turns end there is more time.
    async fn drain(&self, told: oneshot::Sender<()>) {
        let mut stopping = vec![NotifyState::Stopping];
        let mut told = Some(told);
        loop {
            let turns = self.estate.ledgers.count();
            if turns == 0 {
                break tell(stopping, "stopping".into()).await;
            }
            let micros = u32::try_from(MORE_TIME.as_micros()).expect("a minute fits");
            stopping.push(NotifyState::ExtendTimeoutUsec(micros));
            let word = if turns == 1 { "turn" } else { "turns" };
            tell(std::mem::take(&mut stopping), format!("draining: {turns} {word} under way")).await;
            drop(told.take());
            let until = Instant::now() + DRAIN_BEAT;
            while self.estate.ledgers.count() == turns && Instant::now() < until {
                sleep(LOOK).await;
            }
        }
    }
}

/// Whether the tree moves: its root runs, and neither that nor what watches over all others hangs.
fn is_alive(root: &Node) -> bool {
    let hangs = |node: &Node| {
        let bound = node.busy_bound() * HANGS_AT;
        node.gauge().busy_ms().is_some_and(|busy| Duration::from_millis(busy) >= bound)
    };
    root.state().0 == NodeState::Running && !hangs(root) && !root.child("health").is_some_and(|it| hangs(&it))
}

/// Where the socket's reader is slow this waits on a thread of its own.
async fn tell(mut states: Vec<NotifyState<'static>>, status: String) {
    let send = move || {
        let mut all: Vec<NotifyState<'_>> = std::mem::take(&mut states);
        all.push(NotifyState::Status(&status));
        sd_notify::notify(&all)
    };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(send).await {
        tracing::warn!(target: "crabtree::gateway", "systemd was not told how the gateway is: {error}");
    }
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;
