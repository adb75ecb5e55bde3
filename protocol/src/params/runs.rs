//! The `agent` method: parameters, the two responses, and waiting for a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::record;
use crate::ids::RunId;
use crate::session_key::SessionKey;
use crate::value::{Int, Text, string_enum};

string_enum! {
    /// How much system prompt a run gets.
    any_of pub enum PromptMode {
        /// All of it.
        Full = "full",
        /// What is needed.
        Minimal = "minimal",
        /// None.
        None = "none",
    }
}

string_enum! {
    /// How much of the workspace a run is told.
    any_of pub enum BootstrapContextMode {
        /// All of it.
        Full = "full",
        /// The essentials.
        Lightweight = "lightweight",
    }
}

string_enum! {
    /// What kind of run the workspace is told to.
    any_of pub enum BootstrapRunKind {
        /// A turn of a conversation.
        Default = "default",
        /// A heartbeat.
        Heartbeat = "heartbeat",
        /// A scheduled run.
        Cron = "cron",
    }
}

string_enum! {
    /// Whether a run leaves traces in the session.
    any_of pub enum SessionEffects {
        /// It does.
        Visible = "visible",
        /// It does not.
        Internal = "internal",
    }
}

string_enum! {
    /// Who delivers the reply to where the message came from.
    any_of pub enum SourceReplyMode {
        /// The gateway.
        Automatic = "automatic",
        /// Only the message tool.
        MessageToolOnly = "message_tool_only",
    }
}

string_enum! {
    /// Who started a turn over ACP.
    any_of pub enum AcpTurnSource {
        /// A person.
        ManualSpawn = "manual_spawn",
    }
}

/// Parameters of `agent`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentParams {
    /// The message.
    pub message: Text,
    /// The run's id; the same key never runs twice.
    pub idempotency_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// A model's provider instead of the session's.
    pub provider: Option<String>,
    /// A model instead of the session's.
    pub model: Option<String>,
    /// Whom the message is from, which selects a session.
    pub to: Option<String>,
    /// Where the reply goes.
    pub reply_to: Option<String>,
    /// A session by its id.
    pub session_id: Option<String>,
    /// A session by its key.
    pub session_key: Option<String>,
    /// The id the session must have.
    pub expected_existing_session_id: Option<Text>,
    /// How hard to think.
    pub thinking: Option<String>,
    /// Whether the reply goes to a channel.
    pub deliver: Option<bool>,
    /// Attachments, as of `chat.send`.
    pub attachments: Option<Vec<Value>>,
    /// The channel the message is from.
    pub channel: Option<String>,
    /// The channel the reply goes to.
    pub reply_channel: Option<String>,
    /// The channel's account.
    pub account_id: Option<String>,
    /// The account the reply goes through.
    pub reply_account_id: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
    /// The group.
    pub group_id: Option<String>,
    /// The group's channel.
    pub group_channel: Option<String>,
    /// The group's space.
    pub group_space: Option<String>,
    /// Seconds the run may take; 0 for no limit.
    pub timeout: Option<Int>,
    /// Whether a failed delivery is no failure.
    pub best_effort_deliver: Option<bool>,
    /// The lane the run waits in.
    pub lane: Option<String>,
    /// The directory to work in.
    pub cwd: Option<Text>,
    /// Whether MCP servers of the run end with it.
    pub cleanup_bundle_mcp_on_run_end: Option<bool>,
    /// Only asks the model: no tools, no transcript.
    pub model_run: Option<bool>,
    /// How much system prompt.
    pub prompt_mode: Option<PromptMode>,
    /// What to add to it.
    pub extra_system_prompt: Option<String>,
    /// How much of the workspace the run is told.
    pub bootstrap_context_mode: Option<BootstrapContextMode>,
    /// What kind of run it is told to.
    pub bootstrap_context_run_kind: Option<BootstrapRunKind>,
    /// Who started the turn over ACP.
    pub acp_turn_source: Option<AcpTurnSource>,
    /// Of the original's own machinery (accepted, ignored).
    pub internal_runtime_handoff_id: Option<Text>,
    /// Of the original's own machinery (accepted, ignored).
    pub internal_execution_identity_retry: Option<bool>,
    /// Of the original's own machinery (accepted, ignored).
    pub internal_execution_identity_recovery_attempt: Option<Int<1>>,
    /// The session an approval was asked in.
    pub exec_approval_followup_expected_session_id: Option<Text>,
    /// Of the original's own machinery (accepted, ignored).
    pub internal_events: Option<Vec<Value>>,
    /// Where the message comes from.
    pub input_provenance: Option<InputProvenance>,
    /// Whether the message stays out of the transcript.
    pub suppress_prompt_persistence: Option<bool>,
    /// Whether the run leaves traces in the session.
    pub session_effects: Option<SessionEffects>,
    /// Who delivers the reply.
    pub source_reply_delivery_mode: Option<SourceReplyMode>,
    /// Whether the message tool is off.
    pub disable_message_tool: Option<bool>,
    /// Of the original's own machinery (accepted, ignored).
    pub swarm_collector: Option<bool>,
    /// Of the original's own machinery (accepted, ignored).
    pub swarm_output_schema: Option<Map<String, Value>>,
    /// Whether only tools that survive a restart may be used.
    pub force_restart_safe_tools: Option<bool>,
    /// Of the original's own machinery (accepted, ignored).
    pub force_code_mode_tools: Option<bool>,
    /// The wake word that was heard.
    pub voice_wake_trigger: Option<String>,
    /// A name for the session.
    pub label: Option<Text<512>>,
}

string_enum! {
    /// Who a message comes from.
    one_of pub enum ProvenanceKind {
        /// A person.
        ExternalUser = "external_user",
        /// Another session.
        InterSession = "inter_session",
        /// The gateway.
        InternalSystem = "internal_system",
    }
}

/// Where a message comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputProvenance {
    /// Who it comes from.
    pub kind: ProvenanceKind,
    /// The session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_session_id: Option<String>,
    /// The session's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_session_key: Option<String>,
    /// The channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_channel: Option<String>,
    /// The tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_tool: Option<String>,
}

/// The two responses to `agent`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AgentResponse {
    /// The first.
    Ack(AgentAck),
    /// The second.
    Final(Box<AgentFinal>),
}

record! {
    /// The first response to `agent`, or the only one to a repeated key.
    pub struct AgentAck {
        /// The run.
        run_id: RunId,
        /// `accepted`, or `in_flight` for a key that is being worked on.
        status: String,
        ; optional
        /// The session, if the request named one.
        session_key: SessionKey,
        /// The agent.
        agent_id: String,
        /// When, in milliseconds since the epoch; absent for `in_flight`.
        accepted_at: u64,
    }
}

record! {
    /// The second response to `agent`; of a failed run it is the payload beside the error.
    pub struct AgentFinal {
        /// The run.
        run_id: RunId,
        /// `ok`, `timeout` or `error`.
        status: String,
        /// `completed`, `aborted`, or what failed.
        summary: String,
        ; optional
        /// Why it stopped: `rpc` for `chat.abort`.
        stop_reason: String,
        /// What took too long: `provider` and others.
        timeout_phase: String,
        /// Whether the model had been asked by then.
        provider_started: bool,
        /// What came out.
        result: RunResult,
    }
}

record! {
    /// What came out of a run.
    pub struct RunResult {
        /// The replies.
        payloads: Vec<ReplyPayload>,
        /// Facts about the run.
        meta: RunMeta,
    }
}

record! {
    /// One reply of a run.
    pub struct ReplyPayload {
        /// Its text.
        text: String,
        /// Its media, or null.
        media_url: Option<String>,
        ; optional
        /// Whether the text tells of a failure.
        is_error: bool,
    }
}

record! {
    /// Facts about a run.
    pub struct RunMeta {
        /// Milliseconds it took.
        duration_ms: u64,
        /// What it ran on.
        agent_meta: AgentMeta,
        /// Whether it was aborted.
        aborted: bool,
        ; optional
        /// Why the model stopped.
        stop_reason: String,
    }
}

record! {
    /// What a run ran on.
    pub struct AgentMeta {
        /// The session's id.
        session_id: String,
        /// The session's key.
        session_file: String,
        /// The model's provider.
        provider: String,
        /// The model.
        model: String,
        ; optional
        /// Tokens the model can look at.
        context_tokens: u64,
        /// Tokens of the run.
        usage: Value,
        /// Tokens of its last call.
        last_call_usage: Value,
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// What ran in the end.
        terminal_receipt: Value,
    }
}

/// Parameters of `agent.wait`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentWaitParams {
    /// The run; of `agent` or `chat.send`.
    pub run_id: Text,
    /// Milliseconds to wait; [`DEFAULT_WAIT_MS`] when absent.
    pub timeout_ms: Option<Int>,
}

/// Milliseconds `agent.wait` waits unless told.
pub const DEFAULT_WAIT_MS: u64 = 30_000;

record! {
    /// Result of `agent.wait`; a wait that ended before the run has no `endedAt`.
    pub struct AgentWaitResult {
        /// The run.
        run_id: RunId,
        /// `ok`, `timeout` or `error`.
        status: String,
        ; optional
        /// When the run started, in milliseconds since the epoch.
        started_at: u64,
        /// When it ended.
        ended_at: u64,
        /// What failed.
        error: String,
        /// Why it stopped.
        stop_reason: String,
        /// Whether the session goes on.
        liveness_state: String,
        /// What took too long.
        timeout_phase: String,
        /// Whether the model had been asked by then.
        provider_started: bool,
        /// What ran in the end.
        terminal_receipt: Value,
        /// What a person saw: `{disposition, text?}`.
        terminal_reply: Value,
    }
}
