//! Payloads of the events of runs and sessions.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::messages::MessageRow;
use super::record;
use super::sessions::SessionRow;
use crate::ids::RunId;
use crate::session_key::SessionKey;
use crate::value::string_enum;

string_enum! {
    /// What a `chat` event tells.
    one_of pub enum ChatState {
        /// The run got further; see `phase`.
        Status = "status",
        /// The visible text grew.
        Delta = "delta",
        /// The submission is settled.
        Final = "final",
        /// The run was aborted.
        Aborted = "aborted",
        /// The run failed.
        Error = "error",
    }
}

record! {
    /// Payload of `chat`.
    pub struct ChatEvent {
        /// The run.
        run_id: RunId,
        /// The session.
        session_key: SessionKey,
        /// Its number within the run, shared with `agent` events.
        seq: u64,
        /// What it tells.
        state: ChatState,
        ; optional
        /// The agent; absent when a submission is settled without a turn of its own.
        agent_id: String,
        /// `preparing_workspace`, `preparing_context` or `starting_model`.
        phase: String,
        /// What was added.
        delta_text: String,
        /// Whether the text starts anew.
        replace: bool,
        /// Why the run stopped: `stop`, `rpc`, `aborted`, `restart`.
        stop_reason: String,
        /// The whole text so far.
        message: Value,
        /// What failed.
        error_message: String,
        /// `refusal`, `timeout`, `rate_limit`, `context_length` or `unknown`.
        error_kind: String,
        /// Details of the failure.
        error_detail: Value,
        /// The attempt that follows: `{attempt, maxAttempts, reason}`.
        retry: Value,
    }
}

impl ChatEvent {
    /// An event with nothing but what it must have.
    pub fn new(run_id: RunId, session_key: SessionKey, seq: u64, state: ChatState) -> Self {
        Self {
            run_id,
            session_key,
            seq,
            state,
            agent_id: None,
            phase: None,
            delta_text: None,
            replace: None,
            stop_reason: None,
            message: None,
            error_message: None,
            error_kind: None,
            error_detail: None,
            retry: None,
        }
    }
}

string_enum! {
    /// What an `agent` event is about.
    one_of pub enum AgentStream {
        /// What is prepared before the run starts.
        RunStatus = "run_status",
        /// Beginning, phases and end of the run.
        Lifecycle = "lifecycle",
        /// The visible text.
        Assistant = "assistant",
        /// The thoughts.
        Thinking = "thinking",
        /// A step, such as a tool call.
        Item = "item",
        /// A tool call with its arguments and results.
        Tool = "tool",
        /// The output of a command.
        CommandOutput = "command_output",
        /// Tokens.
        Usage = "usage",
    }
}

record! {
    /// Payload of `agent`.
    pub struct AgentEvent {
        /// The run.
        run_id: RunId,
        /// What it is about.
        stream: AgentStream,
        /// What happened.
        data: Value,
        /// Its number within the run, shared with `chat` events.
        seq: u64,
        /// When, in milliseconds since the epoch.
        ts: u64,
        ; optional
        /// The session.
        session_key: SessionKey,
        /// The session's id.
        session_id: String,
        /// The agent.
        agent_id: String,
        /// Whether the run is a heartbeat; absent for runs of the `agent` method.
        is_heartbeat: bool,
    }
}

impl AgentEvent {
    /// An event with nothing but what it must have; `ts` in milliseconds since the epoch.
    pub fn new(run_id: RunId, stream: AgentStream, data: Value, seq: u64, ts: u64) -> Self {
        Self {
            run_id,
            stream,
            data,
            seq,
            ts,
            session_key: None,
            session_id: None,
            agent_id: None,
            is_heartbeat: None,
        }
    }
}

/// Payload of `session.message`: the row both nested and flattened, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionMessageEvent<'a> {
    /// The session.
    pub session_key: &'a SessionKey,
    /// Whether the message's writer owns the gateway; user rows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_is_owner: Option<bool>,
    /// The row.
    pub message: &'a MessageRow,
    /// The row's id.
    pub message_id: &'a str,
    /// The row's place among the visible ones, from 1.
    pub message_seq: u64,
    /// The run that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<&'a RunId>,
    /// The session's row.
    pub session: &'a SessionRow,
    /// The sessions above it.
    pub ancestor_sessions: &'a [Value],
    /// The session's row again.
    #[serde(flatten)]
    pub flattened: &'a SessionRow,
}

/// Payload of `sessions.changed` with a row.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionsChangedEvent<'a> {
    /// The session.
    pub session_key: &'a SessionKey,
    /// What changed: `send`, `create`, `patch`, `agent.run.started` and others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// Or how far its run got: `start`, `model`, `end`, `error`, `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'a str>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<&'a RunId>,
    /// The row of a silent message; phase `message` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<&'a str>,
    /// That row's place; phase `message` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_seq: Option<u64>,
    /// When, in milliseconds since the epoch.
    pub ts: u64,
    /// The session's row.
    pub session: &'a SessionRow,
    /// The sessions above it.
    pub ancestor_sessions: &'a [Value],
    /// The session's row again.
    #[serde(flatten)]
    pub flattened: &'a SessionRow,
}

record! {
    /// Payload of `sessions.changed` without a row.
    pub struct SessionsChangedBare {
        /// `delete`, `groups` and others.
        reason: String,
        /// When, in milliseconds since the epoch.
        ts: u64,
        ; optional
        /// The session.
        session_key: SessionKey,
        /// The session's id.
        session_id: String,
        /// The agent.
        agent_id: String,
    }
}

string_enum! {
    /// How far an operation got.
    any_of pub enum OperationPhase {
        /// It began.
        Start = "start",
        /// It came to its end.
        End = "end",
    }
}

record! {
    /// Payload of `session.operation`.
    pub struct SessionOperationEvent {
        /// Tells operations apart.
        operation_id: String,
        /// Always `compact`.
        operation: String,
        /// How far it got.
        phase: OperationPhase,
        /// The session.
        session_key: SessionKey,
        /// The agent.
        agent_id: String,
        /// When, in milliseconds since the epoch.
        ts: u64,
        ; optional
        /// Whether it did what it was to do; at its end.
        completed: bool,
        /// Why it did not.
        reason: String,
    }
}

record! {
    /// Payload of `session.typing`.
    pub struct SessionTypingEvent {
        /// The session.
        session_key: SessionKey,
        /// Its id.
        session_id: String,
        /// The agent.
        agent_id: String,
        /// Who: `{type, id, label?}`.
        actor: Value,
        /// Whether they write.
        typing: bool,
        /// When, in milliseconds since the epoch.
        ts: u64,
        ; optional
        /// What they wrote so far.
        preview: String,
    }
}
