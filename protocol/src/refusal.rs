//! Refusals: what a request is answered with when it is not carried out.
//!
//! One constructor per recorded case, so that codes, texts and details cannot drift apart between
//! callers. Refusals of `connect`, which also close the socket, are in [`ConnectRefusal`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::scope::{Role, Scope};
use crate::value::string_enum;

mod approvals;
mod connect;
mod cron;
mod nodes;
mod sessions;

pub use connect::{ConnectRefusal, Credential, Hint, PairingReason, PairingRequired};

string_enum! {
    /// The code of a refusal on the wire.
    one_of pub enum ErrorCode {
        /// The request is malformed, or its preconditions do not hold.
        InvalidRequest = "INVALID_REQUEST",
        /// The caller's scopes do not cover the request.
        Forbidden = "FORBIDDEN",
        /// The device has to be approved first.
        NotPaired = "NOT_PAIRED",
        /// The gateway or something behind it cannot serve the request now, or failed at it.
        Unavailable = "UNAVAILABLE",
        /// The approval in question does not exist or expired.
        ApprovalNotFound = "APPROVAL_NOT_FOUND",
        /// Kept by the contract, sent by no current gateway.
        AgentTimeout = "AGENT_TIMEOUT",
        /// Kept by the contract, sent by no current gateway.
        NotLinked = "NOT_LINKED",
    }
}

/// The error of a response, in the recorded order of its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal this is.
    pub code: ErrorCode,
    /// The text for people; stock clients match on some of them.
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Milliseconds to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Facts for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub details: Option<Box<Value>>,
}

/// Milliseconds a client waits before asking a gateway that drains again.
pub const DRAIN_RETRY_MS: u64 = 1000;
/// Milliseconds a client waits before it asks a gateway again that could not store something.
pub const STORE_RETRY_MS: u64 = 5000;
/// Milliseconds a client waits before connecting to a gateway that starts again.
pub const STARTUP_RETRY_MS: u64 = 500;

impl Refusal {
    /// A refusal with nothing but a code and a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: None, retry_after_ms: None, details: None }
    }

    /// INVALID_REQUEST with a text of the method's own.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// UNAVAILABLE with a text of the method's own, as failed runs are reported.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// Adds details.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Marks the refusal as worth another try after `after_ms` milliseconds.
    pub fn with_retry(mut self, after_ms: u64) -> Self {
        self.retryable = Some(true);
        self.retry_after_ms = Some(after_ms);
        self
    }

    /// `details.code`, if there is one.
    pub fn detail_code(&self) -> Option<&str> {
        self.details.as_deref()?.get("code")?.as_str()
    }

    /// Appends the refusal as JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self)
            .expect("strings, numbers and JSON values always serialise into memory");
    }

    /// A good guess of the refusal's size as JSON, for sizing buffers.
    pub(crate) fn encoded_len(&self) -> usize {
        let details = if self.details.is_some() { 192 } else { 0 };
        96 + self.message.len() + details
    }

    // What is refused before a method sees the request.

    /// The parameters do not fit; `what` as rendered by [`crate::schema`].
    pub fn invalid_params(method: &str, what: impl std::fmt::Display) -> Self {
        Self::invalid_request(format!("invalid {method} params: {what}"))
    }

    /// No such method, said only to callers that hold `operator.admin`.
    pub fn unknown_method(method: &str) -> Self {
        Self::invalid_request(format!("unknown method: {method}"))
    }

    /// The caller lacks the one scope that is needed.
    pub fn missing_scope(scope: Scope) -> Self {
        Self::missing_scope_of(scope, &[scope])
    }

    /// The caller lacks `missing`, one of several `required` scopes.
    pub fn missing_scope_of(missing: Scope, required: &[Scope]) -> Self {
        Self::new(ErrorCode::Forbidden, format!("missing scope: {missing}")).with_details(json!({
            "code": "MISSING_SCOPE", "missingScope": missing, "requiredScopes": required,
        }))
    }

    /// The method belongs to the other role.
    pub fn unauthorized_role(role: Role) -> Self {
        Self::invalid_request(format!("unauthorized role: {role}"))
    }

    /// A second `connect` on a connection.
    pub fn connect_not_first() -> Self {
        Self::invalid_request("connect is only valid as the first request")
    }

    /// The frame's `expectedProfileId` is not the profile of this connection.
    pub fn expected_profile_mismatch() -> Self {
        Self::invalid_request(
            "Selected account changed or is unavailable. Select the account again before retrying.",
        )
        .with_details(json!({ "reason": "EXPECTED_PROFILE_MISMATCH", "execution": "not_started" }))
    }

    // What is refused because the gateway cannot now.

    /// The part of the gateway that owns the answer restarts (ours): try again after
    /// `retry_after_ms` milliseconds.
    pub fn unavailable(retry_after_ms: u64) -> Self {
        Self::failed("temporarily unavailable; retry shortly")
            .with_retry(retry_after_ms)
            .with_details(json!({ "reason": "restarting" }))
    }

    /// The gateway drains before it stops; `phase` is the suspension phase of the snapshot.
    pub fn draining(method: &str, phase: &str) -> Self {
        Self::failed(format!("{method} unavailable during gateway restart"))
            .with_retry(DRAIN_RETRY_MS)
            .with_details(json!({ "method": method, "reason": "gateway-restarting", "phase": phase }))
    }

    /// The gateway holds still for its host; `phase` is that of `gateway.suspension`.
    pub fn suspended(method: &str, phase: &str) -> Self {
        Self::failed(format!("{method} unavailable during gateway suspension"))
            .with_retry(DRAIN_RETRY_MS)
            .with_details(json!({ "method": method, "reason": "gateway-suspending", "phase": phase }))
    }

    /// The gateway is not ready yet.
    pub fn starting() -> Self {
        Self::failed("gateway starting; retry shortly")
            .with_retry(STARTUP_RETRY_MS)
            .with_details(json!({ "reason": "startup-sidecars" }))
    }

    // Agents, chat and sessions.

    /// Neither text nor attachment was sent.
    pub fn message_required() -> Self {
        Self::invalid_request("message or attachment required")
    }

    /// A session key names an agent that is not configured.
    pub fn agent_gone(agent_id: &str) -> Self {
        Self::invalid_request(format!("Agent \"{agent_id}\" no longer exists in configuration"))
    }

    /// `agentId` of the `agent` method names an agent that is not configured.
    pub fn unknown_agent(agent_id: &str) -> Self {
        Self::invalid_params("agent", format_args!("unknown agent id \"{agent_id}\""))
    }

    /// `agentId` of a session method names an agent that is not configured.
    pub fn unknown_agent_id(agent_id: &str) -> Self {
        Self::invalid_request(format!("Unknown agent id \"{agent_id}\""))
    }

    /// The idempotency key was used before with other input.
    pub fn chat_request_conflict() -> Self {
        Self::invalid_request(
            "This message ID was already used for different input. \
             Check the conversation history and use a new message ID to send again.",
        )
        .with_details(json!({ "reason": "chat-request-conflict" }))
    }

    /// Something is wrong with an attachment: `invalid base64 content` and others.
    pub fn attachment(name: &str, why: &str) -> Self {
        Self::invalid_request(format!("Error: attachment {name}: {why}"))
    }

    /// More attachments than one message may have (ours).
    pub fn too_many_attachments(sent: usize, most: usize) -> Self {
        Self::invalid_request(format!("{sent} attachments are too many for one message; send at most {most}"))
    }

    /// Too many attachments are on their way to the disk (ours).
    pub fn attachments_in_flight() -> Self {
        Self::failed("too many attachments are being stored; try again").with_retry(DRAIN_RETRY_MS)
    }

    /// A queued input whose custody ended with the gateway that took it.
    pub fn pending_input_ended() -> Self {
        Self::failed("Error: Pending input ownership ended; submit a new turn to continue")
    }

    /// The backlog of a session is full (ours).
    pub fn backlog_full(limit: usize) -> Self {
        Self::failed(format!("session backlog is full ({limit} messages)"))
            .with_retry(DRAIN_RETRY_MS)
            .with_details(json!({ "reason": "backlog-full", "limit": limit }))
    }

    // Devices.

    /// No pending request with this id.
    pub fn unknown_request_id() -> Self {
        Self::invalid_request("unknown requestId")
    }

    /// No paired device with this id.
    pub fn unknown_device_id() -> Self {
        Self::invalid_request("unknown deviceId")
    }

    /// The caller may not do `what` ("token rotation", "pairing approval" …) to this device.
    pub fn device_denied(what: &str) -> Self {
        Self::invalid_request(format!("device {what} denied"))
    }

    /// What was decided about a device is lost: the gateway's disk does not take it (ours).
    pub fn not_stored() -> Self {
        Self::failed("the gateway could not store this; make room on its disk, then try again")
            .with_retry(STORE_RETRY_MS)
    }

    /// The caller has no device identity, which this method needs.
    pub fn device_required(message: impl Into<String>) -> Self {
        Self::invalid_request(message).with_details(json!({
            "code": "DEVICE_IDENTITY_REQUIRED", "recommendedNextStep": "reopen_control_ui_securely",
        }))
    }

    // The supervision tree (ours).

    /// No actor at this path.
    pub fn unknown_actor(path: &str) -> Self {
        Self::invalid_request(format!("unknown actor: {path}")).with_details(json!({ "path": path }))
    }

    /// The actor may not be restarted, parked or resumed by hand, for `reason`.
    pub fn actor_untouchable(path: &str, reason: &str) -> Self {
        Self::invalid_request(format!("{path} may not be touched: {reason}"))
            .with_details(json!({ "path": path }))
    }
}

#[cfg(test)]
mod tests;
