//! The supervision tree on the wire (our own addition).

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::record;
use crate::value::{Int, Text, string_enum};

string_enum! {
    /// What an actor is doing.
    one_of pub enum ActorState {
        /// It is being started.
        Starting = "starting",
        /// It works.
        Running = "running",
        /// It ended and waits for its next start.
        Restarting = "restarting",
        /// It stays down until an operator resumes it.
        Parked = "parked",
        /// It ended for good.
        Stopped = "stopped",
    }
}

string_enum! {
    /// How an actor ended.
    one_of pub enum ExitKind {
        /// It panicked.
        Panic = "panic",
        /// It gave up with an error.
        Error = "error",
        /// It was killed.
        Killed = "killed",
        /// It was asked to stop.
        Stopped = "stopped",
    }
}

record! {
    /// How and why an actor ended last.
    pub struct LastExit {
        /// How.
        kind: ExitKind,
        /// Why, cut to [`MAX_REASON_CHARS`].
        reason: String,
        /// When, in milliseconds since the epoch.
        at: u64,
        ; optional
        /// How long its next start had to wait, in milliseconds, if there was to be one.
        backoff_ms: u64,
    }
}

/// Longest [`LastExit::reason`] in characters; panic payloads may hold private text.
pub const MAX_REASON_CHARS: usize = 200;

record! {
    /// What waits for an actor.
    pub struct Mailbox {
        /// Messages not yet taken.
        depth: u64,
        ; optional
        /// How long the oldest of them waits, in milliseconds.
        oldest_ms: u64,
    }
}

record! {
    /// An actor and those below it.
    pub struct ActorNode {
        /// The names from the root, joined by `/`.
        path: String,
        /// The last of these names.
        name: String,
        /// What kind of actor it is.
        kind: String,
        /// What it is doing.
        state: ActorState,
        /// Milliseconds in this state.
        since_ms: u64,
        /// How often it was restarted.
        restarts: u64,
        /// What waits for it.
        mailbox: Mailbox,
        /// Those below it, down to the depth asked for.
        children: Vec<ActorNode>,
        ; optional
        /// How it ended last.
        last_exit: LastExit,
        /// How often it may still end abnormally, as things are, and is not parked for it.
        restarts_left: u64,
        /// How long it has been busy with the message in hand, in milliseconds.
        busy_ms: u64,
        /// Figures of its own.
        info: Map<String, Value>,
        /// How many children were left out.
        more: u64,
    }
}

/// Parameters of `system.actors`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActorsParams {
    /// Where to start; the root when absent.
    pub path: Option<Text>,
    /// How many levels below; [`DEFAULT_DEPTH`] when absent.
    pub depth: Option<Int<0, 16>>,
    /// How many children of each; [`DEFAULT_LIMIT`] when absent.
    pub limit: Option<Int<1, 1000>>,
}

/// Levels listed when `depth` is absent.
pub const DEFAULT_DEPTH: u64 = 8;
/// Children listed when `limit` is absent.
pub const DEFAULT_LIMIT: u64 = 100;

record! {
    /// Result of `system.actors`.
    pub struct ActorsResult {
        /// When the tree looked like this, in milliseconds since the epoch.
        ts: u64,
        /// The tree.
        root: ActorNode,
    }
}

/// Parameters of `system.actors.restart`, `.park` and `.resume`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActorParams {
    /// The actor.
    pub path: Text,
}

record! {
    /// Result of `system.actors.restart`, `.park` and `.resume`.
    pub struct ActorResult {
        /// Always true.
        ok: bool,
        /// The actor.
        path: String,
        /// Its state afterwards.
        state: ActorState,
        /// How often it was restarted.
        restarts: u64,
    }
}

record! {
    /// Payload of `system.actors.changed`.
    pub struct ActorChanged {
        /// The actor.
        path: String,
        /// Its state.
        state: ActorState,
        /// How often it was restarted.
        restarts: u64,
        /// When, in milliseconds since the epoch.
        ts: u64,
        ; optional
        /// How it ended, if it did.
        last_exit: LastExit,
    }
}

string_enum! {
    /// A fault to inject.
    one_of pub enum Fault {
        /// The actor panics at its next message.
        Panic = "panic",
        /// It is killed at once, whatever it is at.
        Kill = "kill",
        /// It waits for ever.
        Hang = "hang",
        /// It takes `ms` for each message.
        Slow = "slow",
        /// It computes for `ms`, or for ever.
        Spin = "spin",
        /// It dies at the named place of its code.
        Killpoint = "killpoint",
    }
}

/// Parameters of `system.chaos`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChaosParams {
    /// The actor.
    pub path: Text,
    /// The fault.
    pub fault: Fault,
    /// For how long, in milliseconds.
    pub ms: Option<Int>,
    /// The name of a kill point.
    pub name: Option<Text>,
}
