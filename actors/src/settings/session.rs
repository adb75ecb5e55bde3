//! `session`: how conversations become sessions, and when a session starts anew.

use std::collections::BTreeMap;

use crabtree_protocol::value::Int;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest `idleMinutes`: ten years.
const MAX_IDLE_MINUTES: u64 = 5_256_000;
/// How long a session without work stays in memory, unless told.
const PASSIVATE_AFTER_SECONDS: u64 = 600;

/// `session`: how conversations become sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionSettings {
    /// Read and ignored, as OpenClaw does: the main session's key always ends in `main`.
    pub main_key: String,
    /// Which direct messages share a session.
    pub dm_scope: DmScope,
    /// Which session messages of groups, channels and rooms go to.
    pub group_scope: GroupScope,
    /// People by a name of their own, and what they are called on channels: `telegram:123`, or an id alone. Direct
    /// messages of all of these share a session, unless `dmScope` is `main`.
    pub identity_links: BTreeMap<String, Vec<String>>,
    /// When a session starts anew; never without it.
    pub reset: Option<ResetSettings>,
    /// The same for one kind of chat; what it leaves open, `reset` says.
    pub reset_by_type: ResetByType,
    /// The same for one channel, alone: neither `reset` nor `resetByType` adds to it.
    pub reset_by_channel: BTreeMap<String, ResetSettings>,
    /// What a person writes to start anew, in any case.
    pub reset_triggers: Vec<String>,
    /// The older way to write `reset: { mode: "idle", idleMinutes }`.
    pub idle_minutes: Option<Int<0, MAX_IDLE_MINUTES>>,
    /// How many seconds a session without work stays in memory (ours).
    pub passivate_after_seconds: Int<1>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            main_key: "main".into(),
            dm_scope: DmScope::default(),
            group_scope: GroupScope::default(),
            identity_links: BTreeMap::new(),
            reset: None,
            reset_by_type: ResetByType::default(),
            reset_by_channel: BTreeMap::new(),
            reset_triggers: vec!["/new".into(), "/reset".into()],
            idle_minutes: None,
            passivate_after_seconds: Int::new(PASSIVATE_AFTER_SECONDS).expect("the default is in range"),
        }
    }
}

/// Which direct messages share a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DmScope {
    /// All of them share the main session.
    #[default]
    Main,
    /// Those of one person, on whatever channel.
    PerPeer,
    /// Those of one person on one channel.
    PerChannelPeer,
    /// Those of one person on one account of a channel.
    PerAccountChannelPeer,
}

/// Which session messages of groups, channels and rooms go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScope {
    /// Each has its own.
    #[default]
    PerGroup,
    /// All of them share the main session.
    Main,
}

/// When a session starts anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetSettings {
    /// On what; `daily` when absent.
    pub mode: Option<ResetMode>,
    /// At which hour of the day, local time; 4 when absent.
    pub at_hour: Option<Int<0, 23>>,
    /// After how many minutes without a person's message; 0 is never.
    pub idle_minutes: Option<Int<0, MAX_IDLE_MINUTES>>,
}

/// What makes a session start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResetMode {
    /// Nothing.
    #[serde(alias = "never")]
    None,
    /// The hour of the day; and idleness, if its minutes are given.
    Daily,
    /// Idleness.
    Idle,
}

/// `session.resetByType`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResetByType {
    /// Direct messages; `dm` is its older name.
    #[serde(alias = "dm")]
    pub direct: Option<ResetSettings>,
    /// Groups, channels and rooms.
    pub group: Option<ResetSettings>,
    /// Threads and topics.
    pub thread: Option<ResetSettings>,
}
