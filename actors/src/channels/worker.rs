//! Where a channel's own code runs: a thread and a runtime of its own, so that one that computes, hangs or panics takes
//! nothing with it. In a runtime with one thread, as tests have it, it runs there.
//!
//! One that waits for ever can be dropped. One that computes for ever cannot be stopped by anybody: its thread is left
//! alone, and what it still says is not heard, because the other end of its link is gone.

use super::contract::{Account, Channel, Heard, Link, Order, Trouble};
use super::roster::{AccountName, Roster};
use crate::tree::Clock;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

/// News and messages of an account that wait for the gateway; then the channel waits, and with it the platform.
const MAX_HEARD: usize = 64;
/// Orders that wait for the channel.
const MAX_ORDERS: usize = 1;
/// How often a thread shows that it is not computing.
const PULSE: Duration = Duration::from_millis(500);
/// How long it may show nothing. Well past what a busy machine does to a thread.
pub const PULSE_LIMIT: Duration = Duration::from_secs(5);

/// How a channel's code has ended.
#[derive(Debug)]
pub enum Ended {
    /// It says why.
    Trouble(Trouble),
    /// It panicked.
    Panicked(String),
}

/// A channel's code that runs. Dropped, it is ended as far as that is possible.
pub struct Worker {
    /// Where its orders go.
    pub orders: mpsc::Sender<Order>,
    /// When the platform was heard of, ms.
    pub last: Arc<AtomicI64>,
    pulse: Option<Arc<AtomicI64>>,
    _stop: oneshot::Sender<()>,
}

impl Worker {
    /// Runs the account; `ended` is called when its code has ended, unless it was told to.
    pub fn start(
        (name, channel): (&AccountName, Arc<dyn Channel>),
        account: Account,
        checkpoint: Option<String>,
        (clock, roster): (&Clock, &Roster),
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> std::io::Result<(Self, mpsc::Receiver<Heard>)> {
        let (heard, ear) = mpsc::channel(MAX_HEARD);
        let (orders, to_channel) = mpsc::channel(MAX_ORDERS);
        let last = Arc::new(AtomicI64::new(clock.now_ms()));
        let clock = clock.clone();
        let link = Link::new(heard, last.clone(), Arc::new(move || clock.now_ms()), checkpoint);
        let (stop, stopped) = oneshot::channel::<()>();
        let work = async move {
            let run = AssertUnwindSafe(channel.run(account, link, to_channel)).catch_unwind();
            tokio::select! {
                _ = stopped => None,
                end = run => Some(match end {
                    Ok(trouble) => Ended::Trouble(trouble),
                    Err(panic) => Ended::Panicked(words(panic.as_ref())),
                }),
            }
        };
        let pulse = if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            tokio::spawn(async move { work.await.map(ended) });
            None
        } else {
            let (pulse, alive) = (Arc::new(AtomicI64::new(monotonic_ms())), Arc::new(()));
            roster.note_thread(name, &alive);
            on_a_thread(name, pulse.clone(), alive, work, ended)?;
            Some(pulse)
        };
        Ok((Self { orders, last, pulse, _stop: stop }, ear))
    }

    /// Whether its thread computes and lets nothing else happen.
    pub fn spins(&self) -> bool {
        let quiet = self.pulse.as_ref().map_or(0, |pulse| monotonic_ms() - pulse.load(Relaxed));
        quiet > PULSE_LIMIT.as_millis() as i64
    }
}

fn on_a_thread(
    name: &AccountName,
    pulse: Arc<AtomicI64>,
    alive: Arc<()>,
    work: impl Future<Output = Option<Ended>> + Send + 'static,
    ended: impl FnOnce(Ended) + Send + 'static,
) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        let beats = async move {
            loop {
                pulse.store(monotonic_ms(), Relaxed);
                tokio::time::sleep(PULSE).await;
            }
        };
        let end = runtime.block_on(async {
            tokio::spawn(beats);
            work.await
        });
        // What it left behind on threads that block is not waited for.
        runtime.shutdown_background();
        drop(alive);
        end.map(ended);
    };
    std::thread::Builder::new().name(name.path()).spawn(body).map(|_| ())
}

/// Never goes back as far as matters here, and is the same for all threads.
fn monotonic_ms() -> i64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as i64
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("its code panicked: {}", text.as_deref().unwrap_or("it does not say why"))
}
