//! What both say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A payload with nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// In what the length of a text is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Unicode scalar values.
    Chars,
    /// UTF-16 code units.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

/// A place where people talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// What kind of place.
    pub kind: ChatKind,
    /// The platform's id of it.
    pub id: String,
    /// The topic or thread in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether its threads are conversations of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_sessions: bool,
    /// The chat it is a thread of, where threads are chats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The server it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guild: Option<String>,
    /// The team or workspace it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}

impl Chat {
    /// A place of which only this is known.
    pub fn new(kind: ChatKind, id: impl Into<String>, thread: Option<String>) -> Self {
        let id = id.into();
        Self { kind, id, thread, title: None, own_sessions: false, parent: None, guild: None, team: None }
    }
}

/// What kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatKind {
    /// Two people.
    Direct,
    /// Several.
    Group,
    /// Where some speak to many, or a channel of a server.
    Channel,
}

/// Payload of `stream_block`, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The id of the frame that ends the message: `message_in` or `stream_end`.
    pub id: String,
    /// Which part of the message. Blocks of the same belong behind one another.
    pub block_id: String,
    /// What is in it.
    pub block_type: BlockType,
    /// A text in Markdown, or bytes in base64.
    pub content: String,
    /// The file's MIME type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The file's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

impl Block {
    /// The bytes of a piece of a file.
    ///
    /// # Errors
    /// The content is not base64.
    pub fn bytes(&self) -> Result<Vec<u8>, base64::DecodeError> {
        STANDARD.decode(&self.content)
    }

    /// A piece of a file with these bytes.
    pub fn piece(id: &str, block_id: &str, bytes: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            block_id: block_id.to_owned(),
            block_type: BlockType::File,
            content: STANDARD.encode(bytes),
            mime_type: None,
            file_name: None,
        }
    }
}

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockType {
    /// Text; only from the gateway.
    Text,
    /// A file or a piece of one.
    File,
}

/// Payload of `message_ack`, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// The id of the frame this answers.
    pub id: String,
    /// The platform's id of the message that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_id: Option<String>,
}

/// What somebody is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Writes a message.
    Typing,
}
