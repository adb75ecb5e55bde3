//! The channel-driver protocol: how a program that speaks to a messaging platform talks with the gateway.
//!
//! A *driver* is a program in any language: a child process of the gateway that reads and writes one JSON object a
//! line, or one on another host that sends the same objects over a WebSocket. `examples/drivers/README.md` is written
//! for those who write one.
//!
//! Fields that are not known are refused in what a driver says, so that a mistyped one is told at once instead of
//! being overlooked; a driver ignores what it does not know in what the gateway says, so that more can be said. What
//! a driver says more needs another [`PROTOCOL`].

mod both;
mod from;
mod to;

pub use both::{Ack, Block, BlockType, Chat, ChatKind, Nothing, Presence, Unit};
pub use from::{
    ChannelStatus, Connect, Failure, FailureCode, MessageIn, Offers, Person, PresenceIn, Quote, ReactionIn,
    Seal,
};
pub use to::{
    Button, Connected, PresenceOut, ReactionOut, Refused, RefusedCode, Sealed, StreamEnd, ToolState,
    ToolStatus,
};

use crate::frame::Close;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The version that is spoken here.
pub const PROTOCOL: u32 = 1;
/// Bytes of a frame at most. A longer line is skipped and answered with an error; a longer WebSocket message ends the
/// connection.
pub const MAX_FRAME: usize = 1 << 20;
/// Bytes of the files of a message together. One that has more is refused.
pub const MAX_FILES: usize = 16 << 20;
/// Bytes of a file in one block, as the gateway sends them: in base64 they fit a frame.
pub const MAX_PIECE: usize = 512 << 10;
/// Files of a message. One that has more is refused.
pub const MAX_FILE_COUNT: usize = 16;
/// Messages whose files may be under way at once. A driver that begins more is not heard any further.
pub const MAX_GATHERED: usize = 8;
/// Messages that a driver may have handed in without having heard of them. One that has more, or 32 MiB of them, is
/// not heard until there is room: its answers wait, too.
pub const MAX_UNACKNOWLEDGED: usize = 64;
/// Bytes of an id, a name or an emoji. What is longer is refused.
pub const MAX_NAME: usize = 1024;
/// How often each side says something, if only a heartbeat; silence of two of these is the end.
pub const HEARTBEAT_MS: u64 = 30_000;

/// How the connection of a driver is closed that may not come in.
pub fn unauthorized() -> Close {
    Close::new(4001, "Unauthorized")
}

/// What each frame is: `{type, id, timestamp, session_id?, payload}`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Frame<B> {
    /// Its type and payload.
    #[serde(flatten)]
    pub body: B,
    /// Its id: what answers it names that.
    pub id: String,
    /// When it was said, ms since the epoch.
    pub timestamp: u64,
    /// The connection it belongs to, as `connected` has named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

/// Why a frame cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Invalid {
    /// Its id, if that much can be read.
    pub id: Option<String>,
    /// What to change. It may have parts of the frame in it: it is for the driver, and not for the log.
    pub why: String,
}

/// What drivers may say, by its schema.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = schemars::schema_for!(Frame<FromDriver>).to_value();
    jsonschema::validator_for(&schema).expect("a schema generated from a type is valid: a test reads with it")
});

/// What there is beside the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    id: String,
    timestamp: u64,
    session_id: Option<String>,
    #[serde(rename = "payload")]
    _payload: IgnoredAny,
}

/// What is left of a frame that is none.
#[derive(Deserialize)]
struct Remains {
    id: Option<String>,
}

impl Frame<FromDriver> {
    /// Reads what a driver says.
    ///
    /// # Errors
    /// It is no frame of this protocol.
    pub fn read(text: &str) -> Result<Self, Invalid> {
        let invalid = |why: String| {
            let id = serde_json::from_str(text).ok().and_then(|Remains { id }| id);
            Invalid { id: id.filter(|id| id.len() <= MAX_NAME), why }
        };
        let head: Head = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        let body: FromDriver = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
        // Of a list serde makes an object, member by member.
        let is_right = || SCHEMA.is_valid(&serde_json::from_str(text).unwrap_or_default());
        if text.contains('[') && !is_right() {
            return Err(invalid("a list stands where an object belongs".into()));
        }
        let named = required("id", &head.id).and_then(|()| optional("session_id", head.session_id.as_ref()));
        named.and_then(|()| body.check()).map_err(invalid)?;
        Ok(Self { body, id: head.id, timestamp: head.timestamp, session_id: head.session_id })
    }
}

impl Frame<ToDriver> {
    /// The frame as a line, without its end.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("a frame holds only strings and numbers")
    }
}

impl FromDriver {
    /// Whether ids are there and everything is of a size that can be kept.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Connect(connect) => {
                required("driver", &connect.driver)?;
                optional("channel", connect.channel.as_ref())?;
                optional("account", connect.account.as_ref())?;
                optional("token", connect.token.as_ref())
            }
            Self::Seal(seal) => {
                required("channel", &seal.channel)?;
                optional("account", seal.account.as_ref())?;
                required("key", &seal.key)
            }
            Self::MessageIn(message) => {
                message.channel.check()?;
                message.sender.check()?;
                let Some(quote) = &message.quote else { return Ok(()) };
                required("quote.id", &quote.id)?;
                optional("quote.sender", quote.sender.as_ref())
            }
            Self::StreamBlock(block) => {
                required("id", &block.id)?;
                required("block_id", &block.block_id)?;
                optional("mime_type", block.mime_type.as_ref())?;
                optional("file_name", block.file_name.as_ref())
            }
            Self::MessageAck(ack) => {
                required("id of what is acknowledged", &ack.id)?;
                optional("platform_id", ack.platform_id.as_ref())
            }
            Self::Error(failure) => required("id of what has failed", &failure.id),
            Self::Presence(presence) => presence.channel.check().and_then(|()| presence.sender.check()),
            Self::Reaction(reaction) => {
                reaction.channel.check()?;
                reaction.sender.check()?;
                required("message_id", &reaction.message_id)?;
                optional("emoji", Some(&reaction.emoji))
            }
            Self::ChannelStatus(ChannelStatus::Connected { me: Some(me) }) => me.check(),
            Self::ChannelStatus(_) | Self::Heartbeat(_) => Ok(()),
        }
    }
}

impl Chat {
    fn check(&self) -> Result<(), String> {
        required("channel.id", &self.id)?;
        optional("channel.thread", self.thread.as_ref())?;
        optional("channel.title", self.title.as_ref())?;
        optional("channel.parent", self.parent.as_ref())?;
        optional("channel.guild", self.guild.as_ref())?;
        optional("channel.team", self.team.as_ref())
    }
}

impl Person {
    fn check(&self) -> Result<(), String> {
        required("id of a person", &self.id)?;
        optional("name of a person", self.name.as_ref())?;
        optional("username of a person", self.username.as_ref())?;
        self.roles.iter().try_for_each(|role| optional("role of a person", Some(role)))
    }
}

fn required(what: &str, text: &String) -> Result<(), String> {
    if text.is_empty() { Err(format!("{what} is empty")) } else { optional(what, Some(text)) }
}

fn optional(what: &str, text: Option<&String>) -> Result<(), String> {
    match text {
        Some(text) if text.len() > MAX_NAME => Err(format!("{what} is longer than {MAX_NAME} bytes")),
        _ => Ok(()),
    }
}

/// What a driver says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum FromDriver {
    /// The first frame.
    Connect(Connect),
    /// The first frame where the link is to be sealed; then everything is a sealed binary message.
    Seal(Seal),
    /// A message. The frame's id is the platform's id of it: the same message again has the same.
    MessageIn(Box<MessageIn>),
    /// A part of the message that follows under the same id: a file, or a piece of one.
    StreamBlock(Block),
    /// What the gateway has asked for was done.
    MessageAck(Ack),
    /// It was not.
    Error(Failure),
    /// Somebody writes.
    Presence(PresenceIn),
    /// Somebody reacts to a message.
    Reaction(ReactionIn),
    /// How the driver stands with its platform.
    ChannelStatus(ChannelStatus),
    /// It lives.
    Heartbeat(Nothing),
}

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum ToDriver {
    /// The answer to `connect`.
    Connected(Connected),
    /// The answer to `seal`.
    Seal(Sealed),
    /// A message of the driver is durable, or none for us: its platform may be told that it was received.
    MessageAck(Ack),
    /// A part of the message that the `stream_end` of the same id sends.
    StreamBlock(Block),
    /// The message is whole: send it, and answer.
    StreamEnd(StreamEnd),
    /// Show that the agent writes, for a few seconds. Not answered.
    Presence(PresenceOut),
    /// React to a message, or take the reaction back, and answer.
    Reaction(ReactionOut),
    /// The agent uses a tool. Not answered.
    ToolStatus(ToolStatus),
    /// What the driver said was not taken.
    Error(Refused),
    /// It lives.
    Heartbeat(Nothing),
}

#[cfg(test)]
#[path = "driver/tests.rs"]
mod tests;
