//! The words for what happens to an actor: states, exits, injected faults, and changes an observer hears of.

use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Longest reason kept of an exit, in characters.
const REASON_CHARS: usize = 200;

/// The five states an operator sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Being started.
    Starting,
    /// At work.
    Running,
    /// Ended; waiting for its restart.
    Restarting,
    /// Ended too often, or put aside by an operator; `resume` brings it back.
    Parked,
    /// Ended for good.
    Stopped,
}

impl NodeState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Parked => "parked",
            Self::Stopped => "stopped",
        }
    }
}

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A message handler or a task panicked.
    Panic,
    /// A handler returned a fault, or the start failed.
    Error,
    /// It was killed.
    Killed,
    /// It ended in order.
    Stopped,
}

impl ExitKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Error => "error",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
        }
    }
}

/// The end of an incarnation.
#[derive(Clone, Debug)]
pub struct Exit {
    /// How.
    pub kind: ExitKind,
    /// Why, cut to 200 characters.
    pub reason: String,
    /// When, in milliseconds since 1970. Set when it is recorded.
    pub at_ms: i64,
    /// How long the next incarnation had to wait for its start, in milliseconds. Set when there is to be one.
    pub backoff_ms: Option<u64>,
}

impl Exit {
    /// An exit with its reason.
    pub fn new(kind: ExitKind, reason: impl AsRef<str>) -> Self {
        Self {
            kind,
            reason: reason.as_ref().chars().take(REASON_CHARS).collect(),
            at_ms: 0,
            backoff_ms: None,
        }
    }

    /// As it is on the wire.
    pub fn shown(&self) -> Value {
        let mut shown = json!({ "kind": self.kind.as_str(), "reason": self.reason, "at": self.at_ms });
        if let Some(ms) = self.backoff_ms {
            shown["backoffMs"] = json!(ms);
        }
        shown
    }
}

/// A fault injected by path (`system.chaos`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// The next message handler panics.
    Panic,
    /// It stops reading its mailbox until it is killed.
    Hang,
    /// Each message takes this much longer.
    Slow(Duration),
    /// It burns a processor for this long without yielding.
    Spin(Duration),
}

/// A change an observer hears of.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Path from the root, joined by `/`.
    pub path: Arc<str>,
    /// What kind of actor.
    pub kind: &'static str,
    /// The new state.
    pub state: NodeState,
    /// Restarts so far.
    pub restarts: u32,
    /// The last exit, if there was one.
    pub last_exit: Option<Exit>,
    /// Whether the last exit was asked for.
    pub ordered: bool,
}

/// Hears of every lifecycle change. Called by the supervisor; must not block or panic.
pub type Observer = Arc<dyn Fn(&Lifecycle) + Send + Sync>;
