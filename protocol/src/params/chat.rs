//! Chat: sending into a session, reading it back, aborting.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::agents::{AccountSelection, AgentRuntime, CommandRow, Labelled, ModelRow};
use super::record;
use super::runs::InputProvenance;
use crate::ids::RunId;
use crate::value::{Int, Maybe, Text, string_enum};

/// Longest `sessionKey` of `chat.send`, in characters.
pub const MAX_SESSION_KEY: usize = crate::session_key::MAX_SESSION_KEY_CHARS;

string_enum! {
    /// What becomes of a message that arrives while a run is active.
    one_of pub enum QueueMode {
        /// It joins the run at its next step.
        Steer = "steer",
        /// It runs after the run.
        Followup = "followup",
        /// It runs after the run, together with others that wait.
        Collect = "collect",
        /// It ends the run and takes its place.
        Interrupt = "interrupt",
    }
}

/// An attachment; further properties are ignored.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `image`, `file` and others.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its type.
    pub mime_type: Option<String>,
    /// Its name.
    pub file_name: Option<String>,
    /// Its content, base64.
    pub content: Option<Value>,
    /// Its size.
    pub size_bytes: Option<f64>,
    /// Its length in milliseconds.
    pub duration_ms: Option<f64>,
    /// Its width in pixels.
    pub width: Option<f64>,
    /// Its height in pixels.
    pub height: Option<f64>,
}

/// Faster answers: on, off, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FastMode {
    /// On or off.
    Fixed(bool),
    /// After a while.
    Auto(AutoWord),
}

string_enum! {
    /// The word `auto`.
    any_of pub enum AutoWord {
        /// `auto`.
        Auto = "auto",
    }
}

string_enum! {
    /// What the tools of a session may do.
    any_of pub enum PermissionMode {
        /// Read.
        ReadOnly = "read-only",
        /// Ask first.
        Guarded = "guarded",
        /// Write in the workspace.
        Workspace = "workspace",
        /// Everything.
        Full = "full",
    }
}

string_enum! {
    /// The word `session-goal-start`.
    any_of pub enum IntentKind {
        /// The message sets the session's goal.
        SessionGoalStart = "session-goal-start",
    }
}

/// What a message is meant to do besides being said.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendIntent {
    /// What.
    pub kind: IntentKind,
    /// Always 1.
    pub version: Int<1, 1>,
    /// When, in milliseconds since the epoch.
    pub issued_at_ms: Int,
}

/// Tools of a session that are switched on or off.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolOverrides {
    /// MCP servers.
    pub mcp_servers: Option<BTreeMap<String, bool>>,
    /// Tools of MCP servers that are off.
    pub mcp_tools_deny: Option<BTreeMap<String, Vec<Text>>>,
    /// Skills.
    pub skills: Option<BTreeMap<String, bool>>,
    /// Searching the web.
    pub web_search: Option<bool>,
}

/// Parameters of `chat.send`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendParams {
    /// The session, in any form [`crate::SessionKey::canonical`] takes.
    pub session_key: Text<MAX_SESSION_KEY>,
    /// The message; may be empty beside attachments.
    pub message: String,
    /// The submission's run id; the same key is never taken twice.
    pub idempotency_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The id the session must have.
    pub session_id: Option<Text>,
    /// What the message is meant to do.
    pub intent: Option<SendIntent>,
    /// How hard to think.
    pub thinking: Option<String>,
    /// Faster answers.
    pub fast_mode: Option<FastMode>,
    /// Seconds until `auto` becomes fast.
    pub fast_auto_on_seconds: Option<Int<1>>,
    /// What becomes of it while a run is active.
    pub queue_mode: Option<QueueMode>,
    /// Whether the reply goes to a channel.
    pub deliver: Option<bool>,
    /// The channel the message is from.
    pub originating_channel: Option<String>,
    /// The peer there.
    pub originating_to: Option<String>,
    /// The account there.
    pub originating_account_id: Option<String>,
    /// The thread there.
    pub originating_thread_id: Option<String>,
    /// The row it answers.
    pub reply_to_id: Option<Text>,
    /// Attachments.
    pub attachments: Option<Vec<Attachment>>,
    /// Tools the client offers.
    pub tool_bindings: Option<Map<String, Value>>,
    /// Milliseconds the run may take, from its start.
    pub timeout_ms: Option<Int>,
    /// Where the message comes from.
    pub system_input_provenance: Option<InputProvenance>,
    /// What proves that.
    pub system_provenance_receipt: Option<String>,
    /// Takes a leading slash as text.
    pub suppress_command_interpretation: Option<bool>,
    /// The last row the client knows; null for an empty session.
    #[serde(default)]
    pub expected_leaf_entry_id: Maybe<Text>,
    /// How the client thinks the session is routed.
    pub expected_session_routing_contract: Option<Text>,
    /// What the client thinks tools may do; null for the default.
    #[serde(default)]
    pub expected_permission_mode: Maybe<PermissionMode>,
    /// Which tools the client thinks are switched; null for none.
    #[serde(default)]
    pub expected_tool_overrides: Maybe<ToolOverrides>,
    /// Whether it is the first message after the Control UI had lost its connection; not in the contract.
    #[serde(rename = "__controlUiReconnectResume")]
    pub control_ui_reconnect_resume: Option<bool>,
}

/// Result of `chat.send`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SendResult {
    /// A message was taken.
    Taken(SendAck),
    /// The message was `/stop` or the like.
    Stopped(AbortResult),
}

record! {
    /// What is answered to a message that was taken.
    pub struct SendAck {
        /// The submission; equal to its idempotency key.
        run_id: RunId,
        /// `started`; of a repeated key `in_flight` or `ok`.
        status: String,
        ; optional
        /// Whether an active run was ended for it.
        interrupted_active_run: bool,
        /// How long which step took (never sent by us).
        server_timing: Value,
    }
}

record! {
    /// The payload beside the error when a failed key is sent again.
    pub struct SendFailure {
        /// The submission.
        run_id: RunId,
        /// Always `error`.
        status: String,
        /// What failed.
        summary: String,
    }
}

/// Parameters of `chat.abort`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AbortParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// One run; all of the session when absent.
    pub run_id: Option<Text>,
    /// Whether side runs go on.
    pub preserve_side_runs: Option<bool>,
}

record! {
    /// Result of `chat.abort`.
    pub struct AbortResult {
        /// Always true.
        ok: bool,
        /// Whether anything was aborted.
        aborted: bool,
        /// What was, queued ones first.
        run_ids: Vec<RunId>,
    }
}

record! {
    /// What sessions run on unless told.
    pub struct ModelDefaults {
        /// The model's provider, or null.
        model_provider: Option<String>,
        /// The model, or null.
        model: Option<String>,
        /// Tokens it can look at, or null.
        context_tokens: Option<u64>,
        ; optional
        /// What runs its turns.
        agent_runtime: AgentRuntime,
        /// How hard it may think, with names.
        thinking_levels: Vec<Labelled>,
        /// How hard it may think.
        thinking_options: Vec<String>,
        /// How hard it thinks unless told.
        thinking_default: String,
        /// Where a choice of model is kept: `session`.
        model_selection_target: String,
    }
}

/// Parameters of `chat.metadata`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataParams {
    /// The agent.
    pub agent_id: Option<Text>,
    /// The session.
    pub session_key: Option<Text>,
}

/// Result of `chat.metadata`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The models.
    pub models: Vec<ModelRow>,
    /// The commands.
    pub commands: Vec<CommandRow>,
    /// Always false.
    pub swarm_enabled: bool,
    /// Which account pays: `{kind, label}`.
    pub account_selection: AccountSelection,
    /// Whether the runtime cannot be chosen.
    pub runtime_selection_locked: bool,
}
