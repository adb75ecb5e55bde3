//! Automations: jobs with a schedule, as clients write, change and read them.

mod answers;
mod listing;

pub use answers::*;
pub use listing::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::core::WakeMode;
use crate::value::{Int, Maybe, Number, Text, string_enum};

/// The latest time a JavaScript client can name, ms.
pub const MAX_TIME_MS: u64 = 8_640_000_000_000_000;
/// Characters of a job's scratch.
pub const MAX_SCRATCH: usize = 262_144;

/// A time, ms since 1970.
pub type Time = Int<0, MAX_TIME_MS>;

/// When a job is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Schedule {
    /// Once.
    At {
        /// ISO 8601; UTC without an offset.
        at: Text,
    },
    /// Again and again after the same time.
    Every {
        /// That time.
        every_ms: Int<1, MAX_TIME_MS>,
        /// From when it is counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor_ms: Option<Time>,
    },
    /// By the calendar.
    Cron {
        /// Five to seven fields.
        expr: Text,
        /// The time zone; the gateway's own without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tz: Option<String>,
        /// The most a job is put off so that not all begin at once; 0: not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stagger_ms: Option<Time>,
    },
}

impl Schedule {
    /// The word for it on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::At { .. } => "at",
            Self::Every { .. } => "every",
            Self::Cron { .. } => "cron",
        }
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Payload {
    /// Tells the agent something in its main session.
    SystemEvent {
        /// What.
        text: Text,
        /// The tools it may use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools_allow: Option<Vec<String>>,
        /// Whether nobody chose them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools_allow_is_default: Option<bool>,
    },
    /// Has the agent do something.
    AgentTurn {
        /// What.
        message: Text,
        /// With which model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// And which ones if that fails.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallbacks: Option<Vec<String>>,
        /// How hard it thinks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thinking: Option<String>,
        /// How long it may take; 0: as long as any turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<Number>,
        /// Accepted, not looked at: nothing here comes from elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_unsafe_external_content: Option<bool>,
        /// Whether the files of the workspace are left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        light_context: Option<bool>,
        /// The tools it may use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools_allow: Option<Vec<String>>,
        /// Whether nobody chose them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tools_allow_is_default: Option<bool>,
    },
}

string_enum! {
    /// Where what a job came to goes.
    any_of pub enum DeliveryMode {
        /// Nowhere.
        None = "none",
        /// To people on a channel.
        Announce = "announce",
        /// To a program.
        Webhook = "webhook",
    }
}

/// The name of a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ThreadId {
    /// As most platforms have it.
    Text(String),
    /// As Telegram has it.
    Number(Number),
}

impl std::fmt::Display for ThreadId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Number(number) => write!(out, "{}", number.get()),
        }
    }
}

/// Where what a job came to goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// Whether at all, and how.
    pub mode: DeliveryMode,
    /// The channel; `last` is where the main session was spoken to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Text>,
    /// The chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Text>,
    /// The thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<Text>,
    /// Whether the job has done its work even if this fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_effort: Option<bool>,
    /// Where failures go, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_destination: Option<Value>,
    /// Where else ends go; kept, not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_destination: Option<Value>,
}

impl Delivery {
    /// To people, where the main session was spoken to last.
    pub fn announce() -> Self {
        Self {
            mode: DeliveryMode::Announce,
            channel: None,
            to: None,
            thread_id: None,
            account_id: None,
            best_effort: None,
            failure_destination: None,
            completion_destination: None,
        }
    }
}

/// Parameters of `cron.add`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddParams {
    /// What people call it.
    pub name: Text,
    /// Whoever declares it again under this changes it.
    pub declaration_key: Option<Text<200>>,
    /// What people read.
    pub display_name: Option<Text<200>>,
    /// Whose it is.
    pub owner: Option<Map<String, Value>>,
    /// The agent that does it.
    #[serde(default)]
    pub agent_id: Maybe<Text>,
    /// The session it comes from.
    #[serde(default)]
    pub session_key: Maybe<Text>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it is on; it is, when absent.
    pub enabled: Option<bool>,
    /// Whether it goes once it has run well.
    pub delete_after_run: Option<bool>,
    /// When.
    pub schedule: Schedule,
    /// How far its cadence may be moved.
    pub pacing: Option<Map<String, Value>>,
    /// On which condition.
    pub trigger: Option<Map<String, Value>>,
    /// Where it works: `main`, `isolated`, `current` or `session:<key>`.
    pub session_target: Text,
    /// When an event reaches the agent.
    pub wake_mode: WakeMode,
    /// What it does.
    pub payload: Payload,
    /// Where what it came to goes.
    pub delivery: Option<Delivery>,
    /// Who hears of failures; `false`: nobody.
    pub failure_alert: Option<Value>,
}

/// What `cron.update` changes; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// [`AddParams::name`].
    pub name: Option<Text>,
    /// [`AddParams::display_name`].
    #[serde(default)]
    pub display_name: Maybe<Text<200>>,
    /// [`AddParams::agent_id`].
    #[serde(default)]
    pub agent_id: Maybe<Text>,
    /// [`AddParams::session_key`].
    #[serde(default)]
    pub session_key: Maybe<Text>,
    /// [`AddParams::description`].
    pub description: Option<String>,
    /// [`AddParams::enabled`].
    pub enabled: Option<bool>,
    /// [`AddParams::delete_after_run`].
    pub delete_after_run: Option<bool>,
    /// [`AddParams::schedule`], the whole of it.
    pub schedule: Option<Schedule>,
    /// [`AddParams::pacing`].
    #[serde(default)]
    pub pacing: Maybe<Map<String, Value>>,
    /// [`AddParams::trigger`].
    #[serde(default)]
    pub trigger: Maybe<Map<String, Value>>,
    /// [`AddParams::session_target`].
    pub session_target: Option<Text>,
    /// [`AddParams::wake_mode`].
    pub wake_mode: Option<WakeMode>,
    /// Members of [`AddParams::payload`]; one that is nothing takes it away.
    pub payload: Option<Map<String, Value>>,
    /// Members of [`AddParams::delivery`]; one that is nothing takes it away.
    pub delivery: Option<Map<String, Value>>,
    /// [`AddParams::failure_alert`]; nothing takes it away.
    #[serde(default)]
    pub failure_alert: Maybe<Value>,
    /// Members of the job's state.
    pub state: Option<Map<String, Value>>,
}

/// Parameters of `cron.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateParams {
    /// The job.
    pub id: Option<Text>,
    /// The same.
    pub job_id: Option<Text>,
    /// What is different.
    pub patch: Patch,
    /// What the job has to be like, or nothing is changed.
    pub expected_config_revision: Option<Text<128>>,
}

/// Parameters of `cron.get`, `cron.remove` and `cron.scratch.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobParams {
    /// The job.
    pub id: Option<Text>,
    /// The same.
    pub job_id: Option<Text>,
}

string_enum! {
    /// Whether a job runs.
    any_of pub enum RunMode {
        /// If it is due.
        Due = "due",
        /// Whatever is so.
        Force = "force",
        /// If it is on.
        IfEnabled = "if-enabled",
    }
}

/// Parameters of `cron.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunParams {
    /// The job.
    pub id: Option<Text>,
    /// The same.
    pub job_id: Option<Text>,
    /// Whether; `force` when absent.
    pub mode: Option<RunMode>,
    /// The process that is meant.
    pub expected_process_instance_id: Option<Text>,
}

/// Parameters of `cron.scratch.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScratchSetParams {
    /// The job.
    pub id: Option<Text>,
    /// The same.
    pub job_id: Option<Text>,
    /// What is kept from now on; null for nothing.
    #[serde(deserialize_with = "Maybe::deserialize")]
    pub content: Maybe<Text<MAX_SCRATCH, 0>>,
    /// What it has to be, or nothing is changed.
    pub expected_revision: Option<Int>,
}
