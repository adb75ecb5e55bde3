//! The ledger of acts: who did what, when, and what it came to; never what was said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record;
use crate::value::{Int, Text, string_enum};

/// Rows of a page when the client names no number.
pub const DEFAULT_LIMIT: u64 = 100;

string_enum! {
    /// What a row of `audit.list` tells of.
    any_of pub enum AuditKind {
        /// A run of an agent.
        AgentRun = "agent_run",
        /// A tool with effects outside that an agent called.
        ToolAction = "tool_action",
    }
}

string_enum! {
    /// What a row of `audit.activity.list` tells of.
    any_of pub enum ActivityKind {
        /// A run of an agent.
        AgentRun = "agent_run",
        /// A tool with effects outside that an agent called.
        ToolAction = "tool_action",
        /// A message; this gateway writes none of them down.
        Message = "message",
        /// What an operator, a program or a person on a channel did, or was refused (ours).
        OperatorAct = "operator_act",
    }
}

string_enum! {
    /// What it came to.
    any_of pub enum AuditStatus {
        /// It has begun.
        Started = "started",
        /// It was done.
        Succeeded = "succeeded",
        /// It was tried, and went wrong.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
        /// It took too long.
        TimedOut = "timed_out",
        /// It was refused.
        Blocked = "blocked",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

string_enum! {
    /// Which way a message went.
    any_of pub enum Direction {
        /// To the gateway.
        Inbound = "inbound",
        /// From it.
        Outbound = "outbound",
    }
}

/// Parameters of `audit.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParams {
    /// Of this agent.
    pub agent_id: Option<Text>,
    /// Of this session.
    pub session_key: Option<Text>,
    /// Of this run.
    pub run_id: Option<Text>,
    /// Of this kind.
    pub kind: Option<AuditKind>,
    /// That came to this.
    pub status: Option<AuditStatus>,
    /// Not before, ms.
    pub after: Option<Int>,
    /// Not after, ms.
    pub before: Option<Int>,
    /// At most so many; [`DEFAULT_LIMIT`] when absent.
    pub limit: Option<Int<1, 500>>,
    /// `nextCursor` of the page before.
    pub cursor: Option<Text>,
}

/// Parameters of `audit.activity.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActivityParams {
    /// Of this agent.
    pub agent_id: Option<Text>,
    /// Of this session.
    pub session_key: Option<Text>,
    /// Of this run.
    pub run_id: Option<Text>,
    /// Of this kind.
    pub kind: Option<ActivityKind>,
    /// That came to this.
    pub status: Option<AuditStatus>,
    /// Messages that went this way.
    pub direction: Option<Direction>,
    /// Messages of this channel.
    pub channel: Option<Text>,
    /// Not before, ms.
    pub after: Option<Int>,
    /// Not after, ms.
    pub before: Option<Int>,
    /// At most so many; [`DEFAULT_LIMIT`] when absent.
    pub limit: Option<Int<1, 500>>,
    /// `nextCursor` of the page before.
    pub cursor: Option<Text>,
    /// Whose acts: the id of a device, the name of a client, a user, an agent, or an address (ours).
    pub who: Option<Text<200>>,
    /// Acts whose name begins like this (ours).
    pub method: Option<Text<200>>,
}

record! {
    /// Who did it.
    pub struct AuditActor {
        /// `operator`, `node`, `channel_sender`, `agent` or `system`.
        r#type: String,
        /// The device or else the client, the person on the channel, or the agent.
        id: String,
    }
}

record! {
    /// One row of the ledger.
    pub struct AuditEvent {
        /// Its name for good.
        event_id: String,
        /// Its place in the ledger.
        sequence: i64,
        /// Its place at its source, which is the ledger itself.
        source_sequence: i64,
        /// When, ms.
        occurred_at: i64,
        /// What it tells of.
        kind: String,
        /// What was done: a method, or `agent.run.started` and the like.
        action: String,
        /// What it came to.
        status: String,
        /// Who did it.
        actor: AuditActor,
        /// `metadata_only`.
        redaction: String,
        ; optional
        /// 1, in `audit.activity.list`.
        schema_version: u8,
        /// The same as `kind`, in `audit.activity.list`.
        event_type: String,
        /// Why it did not succeed.
        error_code: String,
        /// The agent.
        agent_id: String,
        /// The session.
        session_key: String,
        /// Its id.
        session_id: String,
        /// The run.
        run_id: String,
        /// A fingerprint of the call.
        tool_call_id: String,
        /// The tool.
        tool_name: String,
        /// What it was done to (ours).
        target: String,
        /// Names, ids and decisions that say what changed; no values (ours).
        summary: Value,
        /// More about who: client, mode, role, user, address, connection (ours).
        origin: Value,
        /// The same in the rows of one request: that it began, and how it ended (ours).
        request: String,
    }
}

record! {
    /// Result of `audit.list` and `audit.activity.list`: the newest first.
    pub struct AuditPage {
        /// The rows.
        events: Vec<AuditEvent>,
        ; optional
        /// Where the next page begins.
        next_cursor: String,
    }
}

/// Parameters of `audit.verify` (ours).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyParams {
    /// A head that was written down before, `SEQUENCE:HASH`: it must still stand in the chain.
    pub head: Option<Text<100>>,
}

/// Result of `audit.verify` (ours).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Whether the chain is whole.
    pub ok: bool,
    /// How many rows were read.
    pub rows: u64,
    /// The chain begins behind this: `SEQUENCE:HASH` of the last row that was dropped for its age.
    pub anchor: String,
    /// Its last row.
    pub head: String,
    /// What is wrong, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Parameters of `system.store` (ours): none.
pub type StoreParams = super::core::Empty;

/// Result of `system.store` (ours): the database, read whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    /// Whether nothing in it is damaged.
    pub ok: bool,
    /// The version of its tables.
    pub schema_version: u32,
    /// The newest version that this program knows.
    pub known_version: u32,
    /// Its size.
    pub bytes: u64,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
