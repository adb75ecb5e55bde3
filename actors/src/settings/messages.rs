//! `messages`: how messages are taken in.

use std::collections::BTreeMap;

use crabtree_protocol::params::chat::QueueMode;
use crabtree_protocol::value::Int;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest debounce: a day.
pub const MAX_DEBOUNCE_MS: u64 = 86_400_000;
/// Most messages that may wait in one session: each costs a row, and all of them may end up in one prompt.
pub const MAX_CAP: u64 = 1_000;
const DEBOUNCE_MS: u64 = 500;
const CAP: u64 = 20;

/// `messages`: how messages are taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MessagesSettings {
    /// What becomes of a message that arrives while a run is active.
    pub queue: QueueSection,
}

/// `messages.queue`: what becomes of a message that arrives while a run is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueSection {
    /// What becomes of it.
    pub mode: QueueModeSetting,
    /// How long it must have been quiet before waiting messages are taken up, in milliseconds.
    pub debounce_ms: Int<0, MAX_DEBOUNCE_MS>,
    /// How many may wait.
    pub cap: Int<1, MAX_CAP>,
    /// What gives way when more come.
    pub drop: DropPolicy,
    /// `mode` for one channel.
    pub by_channel: BTreeMap<String, QueueModeSetting>,
    /// `debounceMs` for one channel.
    pub debounce_ms_by_channel: BTreeMap<String, Int<0, MAX_DEBOUNCE_MS>>,
}

impl Default for QueueSection {
    fn default() -> Self {
        Self {
            mode: QueueModeSetting(QueueMode::Steer),
            debounce_ms: Int::new(DEBOUNCE_MS).expect("the default is in range"),
            cap: Int::new(CAP).expect("the default is in range"),
            drop: DropPolicy::default(),
            by_channel: BTreeMap::new(),
            debounce_ms_by_channel: BTreeMap::new(),
        }
    }
}

/// A queue mode as a configuration writes it, which may use OpenClaw's retired names: `queue` is `steer`;
/// `steer-backlog` and `steer+backlog` are `followup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct QueueModeSetting(pub QueueMode);

impl TryFrom<String> for QueueModeSetting {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "queue" => Ok(Self(QueueMode::Steer)),
            "steer-backlog" | "steer+backlog" => Ok(Self(QueueMode::Followup)),
            other => QueueMode::from_name(other).map(Self).ok_or_else(|| {
                let names: Vec<_> = QueueMode::ALL.iter().map(|mode| mode.name()).collect();
                format!("unknown queue mode {other:?}, expected one of {}", names.join(", "))
            }),
        }
    }
}

/// What gives way when more messages wait than may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DropPolicy {
    /// The oldest; a summary of it is kept for the prompt.
    #[default]
    Summarize,
    /// The oldest.
    Old,
    /// The newest: it is refused.
    New,
}
