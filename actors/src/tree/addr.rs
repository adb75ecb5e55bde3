//! Addresses: [`Addr`] of one incarnation, [`Slot`] of an actor through all of them, [`Reply`] for an answer.

use super::host::Envelope;
use arc_swap::ArcSwapOption;
use ractor::ActorRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// What is measured of a mailbox. Shared by all incarnations of an actor; read by the tree's snapshot.
#[derive(Debug)]
pub struct Gauge {
    origin: Instant,
    depth: AtomicUsize,
    oldest_us: AtomicU64,
    busy_us: AtomicU64,
    handled: AtomicU64,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            depth: AtomicUsize::new(0),
            oldest_us: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            handled: AtomicU64::new(0),
        }
    }
}

impl Gauge {
    /// Microseconds since the gauge was made, at least 1 so that 0 can mean "not".
    fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_micros() as u64 + 1
    }

    pub(super) fn queued(&self, at: Instant) {
        if self.depth.fetch_add(1, Relaxed) == 0 {
            self.oldest_us.store(self.us(at), Relaxed);
        }
    }

    pub(super) fn refused(&self) {
        self.depth.fetch_sub(1, Relaxed);
    }

    pub(super) fn begin(&self, queued_at: Instant) {
        self.depth.fetch_sub(1, Relaxed);
        self.oldest_us.store(self.us(queued_at), Relaxed);
        self.busy_us.store(self.us(Instant::now()), Relaxed);
    }

    pub(super) fn end(&self) {
        self.busy_us.store(0, Relaxed);
        self.handled.fetch_add(1, Relaxed);
    }

    /// Messages waiting.
    pub fn depth(&self) -> usize {
        self.depth.load(Relaxed)
    }

    /// Messages handled by all incarnations.
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Upper bound of the age of the oldest waiting message, in milliseconds.
    pub fn oldest_ms(&self) -> Option<u64> {
        (self.depth() > 0)
            .then(|| self.us(Instant::now()).saturating_sub(self.oldest_us.load(Relaxed)) / 1000)
    }

    /// When the message in hand was taken up. Reads no clock.
    pub fn taken_up(&self) -> Option<Instant> {
        match self.busy_us.load(Relaxed) {
            0 => None,
            since => Some(self.origin + std::time::Duration::from_micros(since - 1)),
        }
    }

    /// For how long the message in hand has been worked on, in milliseconds.
    pub fn busy_ms(&self) -> Option<u64> {
        match self.busy_us.load(Relaxed) {
            0 => None,
            since => Some(self.us(Instant::now()).saturating_sub(since) / 1000),
        }
    }
}

/// The address of one incarnation of an actor.
pub struct Addr<M: Send + 'static> {
    pub(super) to: ActorRef<Envelope<M>>,
    pub(super) gauge: Arc<Gauge>,
}

impl<M: Send + 'static> Clone for Addr<M> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone(), gauge: self.gauge.clone() }
    }
}

impl<M: Send + 'static> Addr<M> {
    /// Puts a message into the mailbox; gives it back if the actor has ended.
    pub fn send(&self, message: M) -> Result<(), M> {
        match self.post(Envelope::user(message)) {
            Ok(()) => Ok(()),
            Err(envelope) => Err(envelope.into_user().expect("the envelope that was sent came back")),
        }
    }

    pub(super) fn post(&self, envelope: Envelope<M>) -> Result<(), Envelope<M>> {
        self.gauge.queued(envelope.at);
        self.to.cast(envelope).map_err(|e| {
            self.gauge.refused();
            match e {
                ractor::MessagingErr::SendErr(envelope) => envelope,
                _ => unreachable!("a typed local actor takes its own message type"),
            }
        })
    }
}

struct SlotInner<M: Send + 'static> {
    addr: ArcSwapOption<Addr<M>>,
    generation: AtomicU64,
    // Not a `watch`: it wakes its waiters in random order, and whoever asked first is to be first again.
    filled: Notify,
    retry_after_ms: AtomicU64,
}

/// A restart-proof address. The supervisor refills it; whoever holds it reads it at each send.
pub struct Slot<M: Send + 'static>(Arc<SlotInner<M>>);

impl<M: Send + 'static> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> Default for Slot<M> {
    fn default() -> Self {
        Self(Arc::new(SlotInner {
            addr: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            filled: Notify::new(),
            retry_after_ms: AtomicU64::new(100),
        }))
    }
}

impl<M: Send + 'static> Slot<M> {
    /// Sends to the living incarnation; an empty slot gives the message back at once.
    pub fn send(&self, message: M) -> Result<(), M> {
        match &*self.0.addr.load() {
            Some(addr) => addr.send(message),
            None => Err(message),
        }
    }

    /// The generation that fills the slot, or the last one that did. 0 before the first start.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Acquire)
    }

    /// Resolves when a generation other than `seen` fills the slot.
    pub async fn newer_than(&self, seen: u64) {
        loop {
            // Made before the look, so that it hears of what happens after it.
            let filled = self.0.filled.notified();
            if self.generation() != seen {
                return;
            }
            filled.await;
        }
    }

    /// Asks until an incarnation answers: a question lost with a crash is put again to the next one.
    /// Only for questions whose effect is idempotent.
    pub async fn ask<T: Send + 'static>(&self, mut question: impl FnMut(Reply<T>) -> M) -> T {
        loop {
            let seen = self.generation();
            let (reply, answer) = Reply::oneshot();
            if self.send(question(reply)).is_ok()
                && let Ok(value) = answer.await
            {
                return value;
            }
            // The incarnation that lost the question may still be in the slot for a moment.
            tokio::select! {
                biased;
                () = self.newer_than(seen) => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
    }

    /// Asks like [`Slot::ask`], but gives up after `limit`.
    pub async fn ask_within<T: Send + 'static>(
        &self,
        limit: std::time::Duration,
        question: impl FnMut(Reply<T>) -> M,
    ) -> Option<T> {
        tokio::time::timeout(limit, self.ask(question)).await.ok()
    }

    /// Milliseconds after which a refused sender should try again.
    pub fn retry_after_ms(&self) -> u64 {
        self.0.retry_after_ms.load(Relaxed)
    }
}

/// What the supervisor does to a slot without knowing its message type.
pub(super) trait SlotControl: Send + Sync {
    fn empty(&self, generation: u64);
    fn set_retry_after_ms(&self, ms: u64);
}

impl<M: Send + 'static> Slot<M> {
    pub(super) fn fill(&self, addr: Addr<M>, generation: u64) {
        self.0.addr.store(Some(Arc::new(addr)));
        self.0.generation.store(generation, Release);
        self.0.filled.notify_waiters();
    }
}

impl<M: Send + 'static> SlotControl for Slot<M> {
    fn empty(&self, generation: u64) {
        if self.generation() == generation {
            self.0.addr.store(None);
        }
    }

    fn set_retry_after_ms(&self, ms: u64) {
        self.0.retry_after_ms.store(ms.max(1), Relaxed);
    }
}

/// The port a question ends in. Dropped unanswered (its actor died), it says so: the asker gets `None`.
pub struct Reply<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T: Send + 'static> Reply<T> {
    /// Calls `deliver` with the answer, or with `None` if there will be none. It must not panic.
    pub fn new(deliver: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// A reply and the future of its answer.
    pub fn oneshot() -> (Self, oneshot::Receiver<T>) {
        let (tx, rx) = oneshot::channel();
        let reply = Self::new(move |answer| {
            if let Some(value) = answer {
                let _ = tx.send(value);
            }
        });
        (reply, rx)
    }

    /// Answers.
    pub fn send(mut self, value: T) {
        if let Some(deliver) = self.0.take() {
            deliver(Some(value));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(None);
        }
    }
}
