//! The way from a channel into the gateway.

use super::{Envelope, Heard, Reaction};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Pause before a message is handed in again after the gateway's side of the account was lost with it.
const HAND_IN_AGAIN: Duration = Duration::from_millis(50);
/// How often a channel counts as alive while it waits for the gateway: a command may take minutes.
const WAITS: Duration = Duration::from_secs(5);

/// The way from a channel into the gateway. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Link {
    heard: mpsc::Sender<Heard>,
    last: Arc<AtomicI64>,
    now: Now,
    checkpoint: Option<String>,
}

/// Tells the time, ms.
#[derive(Clone)]
struct Now(Arc<dyn Fn() -> i64 + Send + Sync>);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

/// The gateway has no use for this channel any more: it was replaced or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the account was stopped")]
pub struct Stopped;

impl Link {
    /// A link whose other end is `heard`; `last` keeps when the platform was heard of (ms).
    pub fn new(
        heard: mpsc::Sender<Heard>,
        last: Arc<AtomicI64>,
        now: Arc<dyn Fn() -> i64 + Send + Sync>,
        checkpoint: Option<String>,
    ) -> Self {
        Self { heard, last, now: Now(now), checkpoint }
    }

    /// Notes that the platform was heard of: a poll came back, a heartbeat, anything.
    pub fn alive(&self) {
        self.last.store((self.now.0)(), Relaxed);
    }

    /// Hands in a message. Only when this has resolved may the platform be told that it was received.
    ///
    /// # Errors
    /// The account was stopped: end.
    pub async fn receive(&self, envelope: Envelope) -> Result<(), Stopped> {
        self.alive();
        self.hand_in(|done| Heard::Message(Box::new(envelope.clone()), done)).await
    }

    /// Hands in a reaction, as [`Link::receive`] does a message.
    ///
    /// # Errors
    /// The account was stopped: end.
    pub async fn reacted(&self, reaction: Reaction) -> Result<(), Stopped> {
        self.alive();
        self.hand_in(|done| Heard::Reacted(Box::new(reaction.clone()), done)).await
    }

    /// Where to go on after a restart, as [`Link::keep`] was told last.
    pub fn checkpoint(&self) -> Option<&str> {
        self.checkpoint.as_deref()
    }

    /// Keeps a place to go on at: what was before it is never fetched again.
    ///
    /// # Errors
    /// The account was stopped: end.
    pub async fn keep(&self, checkpoint: String) -> Result<(), Stopped> {
        self.hand_in(|done| Heard::Checkpoint(checkpoint.clone(), done)).await
    }

    /// Says something that nobody answers.
    ///
    /// # Errors
    /// The account was stopped: end.
    pub async fn say(&self, news: Heard) -> Result<(), Stopped> {
        self.alive();
        self.heard.send(news).await.map_err(|_| Stopped)
    }

    async fn hand_in(&self, make: impl Fn(oneshot::Sender<()>) -> Heard) -> Result<(), Stopped> {
        loop {
            let (done, mut durable) = oneshot::channel();
            self.heard.send(make(done)).await.map_err(|_| Stopped)?;
            let said = loop {
                match timeout(WAITS, &mut durable).await {
                    Ok(said) => break said,
                    Err(_) => self.alive(),
                }
            };
            match said {
                Ok(()) => return Ok(()),
                // It was lost with an actor; what is handed in twice is one message.
                Err(_) => tokio::time::sleep(HAND_IN_AGAIN).await,
            }
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
