//! What a driver says.

use super::{Chat, Presence, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

/// Payload of `connect`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The version it speaks: [`super::PROTOCOL`].
    pub protocol: u32,
    /// The driver's name and version, for people.
    pub driver: String,
    /// What its platform can do.
    #[serde(default)]
    pub capabilities: Offers,
    /// Which channel of the configuration it is for; needed over WebSocket.
    pub channel: Option<String>,
    /// Which account of that; `default` when absent.
    pub account: Option<String>,
    /// The token of the channel's configuration; needed over WebSocket.
    pub token: Option<String>,
}

/// Payload of a driver's `seal`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The version it speaks: [`super::PROTOCOL`].
    pub protocol: u32,
    /// Which channel of the configuration it is for.
    pub channel: String,
    /// Which account of that; `default` when absent.
    pub account: Option<String>,
    /// A public X25519 key made for this connection, in base64.
    pub key: String,
}

/// What a driver's platform can do. What is absent, it cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Offers {
    /// The longest text of a message; as long as configured when absent.
    pub text_limit: Option<usize>,
    /// In what that is counted; as configured when absent.
    pub unit: Option<Unit>,
    /// Whether a message that is sent twice under the same id appears once.
    pub idempotent: bool,
    /// Whether messages can be changed, and the least time between two changes in a chat.
    pub edits_every_ms: Option<u64>,
    /// Whether it can show that the agent writes.
    pub typing: bool,
    /// Whether messages can have buttons.
    pub buttons: bool,
    /// Whether messages can be reacted to.
    pub reactions: bool,
    /// Whether files can be sent.
    pub files: bool,
}

/// Who says or does something.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The platform's id of the person.
    pub id: String,
    /// Their name for people.
    pub name: Option<String>,
    /// Their unique name, without `@`.
    pub username: Option<String>,
    /// Whether it is a program.
    #[serde(default)]
    pub is_bot: bool,
    /// Their roles in the place.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// Payload of `message_in`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageIn {
    /// Where.
    pub channel: Chat,
    /// Who wrote it.
    pub sender: Person,
    /// What is written.
    pub content: String,
    /// Whether it names this account.
    #[serde(default)]
    pub mentions_me: bool,
    /// Whether it replies to a message of this account.
    #[serde(default)]
    pub replies_to_me: bool,
    /// What it replies to.
    pub quote: Option<Quote>,
    /// When it was written, ms; when absent, the frame's timestamp.
    pub sent_at: Option<u64>,
}

/// A message that another replies to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// Its id.
    pub id: String,
    /// Who wrote it.
    pub sender: Option<String>,
    /// What it says.
    #[serde(default)]
    pub content: String,
}

/// Payload of a driver's `error`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The id of the frame this answers.
    pub id: String,
    /// What became of it.
    pub code: FailureCode,
    /// Why.
    #[serde(default)]
    pub message: String,
    /// How long the platform wants to be left alone, with `later`.
    pub retry_after_ms: Option<u64>,
}

/// What became of a message that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The platform will never take it.
    Refused,
    /// It was not sent, and may be later.
    Later,
    /// Nobody knows whether it was sent.
    Unknown,
}

/// Payload of a driver's `presence`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceIn {
    /// Where.
    pub channel: Chat,
    /// Who.
    pub sender: Person,
    /// What they do.
    pub state: Presence,
}

/// Payload of a driver's `reaction`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReactionIn {
    /// Where.
    pub channel: Chat,
    /// Who.
    pub sender: Person,
    /// To which message.
    pub message_id: String,
    /// An emoji; empty when it is taken back.
    pub emoji: String,
}

/// Payload of `channel_status`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelStatus {
    /// It is connected with its platform.
    Connected {
        /// As whom.
        me: Option<Person>,
    },
    /// Somebody has to log in.
    Login {
        /// The text of a QR code to be scanned.
        qr: String,
    },
    /// It is not connected, and tries again by itself.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// It would not be connected however often it tries: somebody has to change something.
    Failed {
        /// What.
        reason: String,
    },
}
