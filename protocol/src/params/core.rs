//! Health, presence, the log and other things of the gateway itself.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::record;
use super::sessions::AllWord;
use crate::ids::DeviceId;
use crate::value::{Int, Text, string_enum};

/// Parameters of methods that take none and refuse any.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Parameters of methods that take none and do not look at what they get.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub struct NoParams {}

record! {
    /// The result of methods that only report success.
    pub struct Ok {
        /// Always true.
        ok: bool,
    }
}

impl Ok {
    /// `{"ok":true}`.
    pub const TRUE: Ok = Ok { ok: true };
}

/// Parameters of `health`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthParams {
    /// Asks for a fresh snapshot instead of the published one.
    pub probe: Option<bool>,
    /// Asks for parts that only operators may see.
    pub include_sensitive: Option<bool>,
}

/// Parameters of `status`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusParams {
    /// Whether to include one line per channel; true when absent.
    pub include_channel_summary: Option<bool>,
    /// Asks for what the command line prints (accepted, ignored).
    pub include_cli_projection: Option<bool>,
}

/// Parameters of `usage.cost`; further ones are not looked at.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageCostParams {
    /// How many days, up to today; [`DEFAULT_USAGE_DAYS`] when absent.
    pub days: Option<Int<1, 366>>,
    /// Only of this agent; of all agents when absent.
    pub agent_id: Option<Text>,
    /// Of all agents.
    pub agent_scope: Option<AllWord>,
}

/// Days of `usage.cost` when `days` is absent.
pub const DEFAULT_USAGE_DAYS: u64 = 30;

/// Parameters of `system-event`: a line of text for the agent, and who is there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemEventParams {
    /// The text.
    pub text: Text,
    /// The device that is present.
    pub device_id: Option<String>,
    /// Tells instances of one product apart.
    pub instance_id: Option<String>,
    /// Its host name.
    pub host: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Its mode.
    pub mode: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its operating system.
    pub platform: Option<String>,
    /// Its kind of device.
    pub device_family: Option<String>,
    /// Its model.
    pub model_identifier: Option<String>,
    /// Seconds since a person used it.
    pub last_input_seconds: Option<f64>,
    /// Why it reports.
    pub reason: Option<String>,
    /// Its roles.
    pub roles: Option<Vec<String>>,
    /// Its scopes.
    pub scopes: Option<Vec<String>>,
    /// Its tags.
    pub tags: Option<Vec<String>>,
    /// The session the text is for.
    pub session_key: Option<String>,
}

string_enum! {
    /// When a wake takes effect.
    any_of pub enum WakeMode {
        /// At once.
        Now = "now",
        /// With the next heartbeat.
        NextHeartbeat = "next-heartbeat",
    }
}

/// Parameters of `wake`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeParams {
    /// When.
    pub mode: WakeMode,
    /// What to tell the agent.
    pub text: Text,
    /// The session to wake.
    pub session_key: Option<Text>,
    /// The agent to wake.
    pub agent_id: Option<Text>,
}

/// Parameters of `logs.tail`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsTailParams {
    /// Where the last answer ended, in bytes.
    pub cursor: Option<Int>,
    /// At most so many lines.
    pub limit: Option<Int<1, 5000>>,
    /// At most so many bytes.
    pub max_bytes: Option<Int<1, 1_000_000>>,
}

record! {
    /// Result of `logs.tail`.
    pub struct LogsTail {
        /// Where the lines come from.
        file: String,
        /// Where this answer ends, in bytes.
        cursor: u64,
        /// The size of the log in bytes.
        size: u64,
        /// The lines, oldest first.
        lines: Vec<String>,
        /// Whether older lines were left out.
        truncated: bool,
        /// Whether the cursor was behind the oldest line kept.
        reset: bool,
        ; optional
        /// Bytes left out before the first line.
        skipped_bytes: u64,
    }
}

/// Parameters of `set-heartbeats`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetHeartbeatsParams {
    /// Whether there are any from now on.
    pub enabled: bool,
}

record! {
    /// Result of `set-heartbeats`.
    pub struct HeartbeatsSet {
        /// Always true.
        ok: bool,
        /// Whether there are any from now on.
        enabled: bool,
    }
}

record! {
    /// Result of `last-heartbeat` and payload of `heartbeat`.
    pub struct Heartbeat {
        /// When, in milliseconds since the epoch.
        ts: u64,
        /// What became of it: `ok`, `skipped`, `failed` and others.
        status: String,
        ; optional
        /// Why.
        reason: String,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// What was said, in short.
        preview: String,
        /// What was said.
        message: String,
        /// Whether media were sent.
        has_media: bool,
    }
}

record! {
    /// One entry of the presence list; the gateway itself is the first.
    #[derive(Default)]
    pub struct PresenceEntry {
        ; optional
        /// The host's name, or the client's id.
        host: String,
        /// The client's product.
        client_id: String,
        /// The client's mode, or `gateway`.
        mode: String,
        /// The person behind it.
        user: Value,
        /// When it came, in milliseconds since the epoch.
        online_since: u64,
        /// Its address; remote clients and the gateway only.
        ip: String,
        /// Its version.
        version: String,
        /// Its operating system.
        platform: String,
        /// Its kind of device.
        device_family: String,
        /// Its model.
        model_identifier: String,
        /// Its device.
        device_id: DeviceId,
        /// Its roles.
        roles: Vec<String>,
        /// Its scopes.
        scopes: Vec<String>,
        /// Tells instances of one product apart.
        instance_id: String,
        /// Seconds since a person used it.
        last_input_seconds: f64,
        /// Its tags.
        tags: Vec<String>,
        /// Why the entry is what it is: `self`, `connect`, `disconnect` and others.
        reason: String,
        /// When it changed, in milliseconds since the epoch.
        ts: u64,
        /// The entry in one line for people.
        text: String,
    }
}

record! {
    /// Payload of `presence`.
    pub struct PresencePayload {
        /// The whole list.
        presence: Vec<PresenceEntry>,
    }
}

record! {
    /// Payload of `shutdown`.
    pub struct Shutdown {
        /// `gateway stopping` or `gateway restarting`.
        reason: String,
        ; optional
        /// Milliseconds until the gateway is expected back.
        restart_expected_ms: u64,
    }
}
