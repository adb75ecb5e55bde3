//! What the gateway says.

use super::{Chat, Presence};
use schemars::JsonSchema;
use serde::Serialize;

/// Payload of the gateway's `seal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sealed {
    /// A public X25519 key made for this connection, in base64.
    pub key: String,
}

/// Payload of `connected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connected {
    /// The version that is spoken.
    pub protocol: u32,
    /// The channel and account this is, as `CHANNEL/ACCOUNT`.
    pub client_id: String,
    /// [`super::HEARTBEAT_MS`].
    pub heartbeat_ms: u64,
    /// [`super::MAX_FRAME`].
    pub max_frame: usize,
    /// [`super::MAX_FILES`].
    pub max_files: usize,
    /// [`super::MAX_UNACKNOWLEDGED`].
    pub max_unacknowledged: usize,
}

/// Payload of the gateway's `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refused {
    /// The id of the frame this answers, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What kind.
    pub code: RefusedCode,
    /// What to change.
    pub message: String,
}

/// Why the gateway has not taken a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// It is no frame of this protocol. The connection goes on.
    Invalid,
    /// It is one, but too large, or not now, or not like this. The connection goes on.
    Refused,
    /// Who says it may not come in. The connection ends.
    Unauthorized,
    /// Another version, or other capabilities than are configured. The connection ends.
    Unsupported,
}

/// Payload of the gateway's `presence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PresenceOut {
    /// Where.
    pub channel: Chat,
    /// What the agent does.
    pub state: Presence,
}

/// Payload of the gateway's `reaction`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReactionOut {
    /// Where.
    pub channel: Chat,
    /// To which message.
    pub message_id: String,
    /// An emoji; empty to take it back.
    pub emoji: String,
}

/// Payload of `stream_end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StreamEnd {
    /// The frame's own id: that of the message, and the same when it is sent again.
    pub id: String,
    /// Where to.
    pub channel: Chat,
    /// The message it replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The message it takes the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edits: Option<String>,
    /// What can be pressed below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Button>,
}

/// What can be pressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Button {
    /// What stands on it.
    pub label: String,
    /// What comes in as a message of who pressed it.
    pub says: String,
}

/// Payload of `tool_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ToolStatus {
    /// Where the agent was asked.
    pub channel: Chat,
    /// The tool.
    pub tool: String,
    /// How far it is.
    pub state: ToolState,
}

/// How far a tool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolState {
    /// It was begun.
    Running,
    /// It has ended.
    Done,
    /// It has failed.
    Failed,
}
