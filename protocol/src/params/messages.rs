//! Rows of a transcript, as `chat.history` lists them and `session.message` brings them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record;
use super::runs::InputProvenance;
use crate::ids::RunId;
use crate::value::string_enum;

/// The content of a row: users write texts, agents write blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Content {
    /// A plain text.
    Text(String),
    /// Blocks.
    Blocks(Vec<Block>),
}

impl Content {
    /// The visible text, blocks joined by blank lines.
    pub fn visible_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Blocks(blocks) => {
                let texts = blocks.iter().filter_map(|block| match block {
                    Block::Text { text } => Some(text.as_str()),
                    _ => None,
                });
                texts.collect::<Vec<_>>().join("\n\n")
            }
        }
    }
}

/// One block of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Block {
    /// Visible text.
    Text {
        /// The text.
        text: String,
    },
    /// What the model thought.
    Thinking {
        /// The thoughts.
        thinking: String,
    },
    /// A tool the model calls.
    ToolCall {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// What it is called with.
        arguments: Value,
    },
    /// A picture.
    Image {
        /// The picture, base64.
        data: String,
        /// Its type.
        mime_type: String,
    },
    /// A block of another kind.
    #[serde(untagged)]
    Other(Value),
}

string_enum! {
    /// Whose a row is.
    one_of pub enum MessageRole {
        /// A person's.
        User = "user",
        /// The agent's.
        Assistant = "assistant",
        /// A tool's.
        ToolResult = "toolResult",
        /// The gateway's.
        System = "system",
        /// A note of the gateway's on a turn.
        Custom = "custom",
    }
}

record! {
    /// The client a message came through.
    pub struct TransportClient {
        /// Its product.
        id: String,
        /// Its mode.
        mode: String,
    }
}

record! {
    /// How a message came.
    pub struct Transport {
        /// The clients it came through.
        clients: Vec<TransportClient>,
    }
}

record! {
    /// A row's place in the stored transcript.
    pub struct TranscriptPosition {
        /// Which transcript; opaque.
        source: String,
        /// Its number there, hidden rows counted.
        raw_seq: u64,
    }
}

record! {
    /// What the gateway knows about a row, under `__openclaw`.
    #[derive(Default)]
    pub struct RowMeta {
        ; optional
        /// The run that wrote it.
        run_id: RunId,
        /// Whether its writer owns the gateway.
        sender_is_owner: bool,
        /// Its writer.
        sender_id: String,
        /// Its writer, in full.
        sender_identity: Value,
        /// Its writer's picture.
        sender_profile_avatar_url: String,
        /// How it came.
        transport: Transport,
        /// The row's id.
        id: String,
        /// What makes it unique.
        idempotency_key: String,
        /// When it was stored, in milliseconds since the epoch.
        record_timestamp_ms: u64,
        /// Its place in the stored transcript.
        transcript_position: TranscriptPosition,
        /// Its place among the visible rows, from 1.
        seq: u64,
        /// What kind of marker it is: `reset` and others.
        kind: String,
        /// Whether it is a command that costs the model nothing.
        context_free_command: bool,
        /// The run it was steered into.
        steer_target_run_id: RunId,
        /// Its media.
        media: Vec<MediaFact>,
        /// Where its pictures stand.
        media_image_layout: Value,
        /// Whether its text was cut.
        truncated: bool,
        /// Why: `display-cap`.
        reason: String,
    }
}

record! {
    /// A file that came with a message.
    pub struct MediaFact {
        /// Where it is: `media://inbound/<name>`.
        url: String,
        /// Its type.
        content_type: String,
        /// `image`, `audio`, `video` or `document`.
        kind: String,
        ; optional
        /// Its size.
        size_bytes: u64,
        /// Its name.
        file_name: String,
        /// Whether its content stays out of the prompt.
        hydration_suppressed: bool,
    }
}

record! {
    /// Tokens and costs.
    pub struct Usage {
        /// Tokens read.
        input: u64,
        /// Tokens written.
        output: u64,
        /// Both.
        total_tokens: u64,
        /// Tokens read from a cache.
        cache_read: u64,
        /// Tokens written to a cache.
        cache_write: u64,
        ; optional
        /// What they cost, in US dollars.
        cost: Cost,
    }
}

record! {
    /// Costs in US dollars.
    pub struct Cost {
        /// For tokens read.
        input: f64,
        /// For tokens written.
        output: f64,
        /// For tokens read from a cache.
        cache_read: f64,
        /// For tokens written to a cache.
        cache_write: f64,
        /// All together.
        total: f64,
    }
}

record! {
    /// Who aborted the run that wrote a row.
    pub struct AbortMark {
        /// Always true.
        aborted: bool,
        /// `rpc` or `stop-command`.
        origin: String,
        /// The run.
        run_id: RunId,
    }
}

record! {
    /// One row of a transcript.
    pub struct MessageRow {
        /// Whose it is.
        role: MessageRole,
        /// What it says.
        content: Content,
        /// When it was said, in milliseconds since the epoch.
        timestamp: u64,
        ; optional
        /// The call a tool's result belongs to.
        tool_call_id: String,
        /// The tool.
        tool_name: String,
        /// Whether the tool failed.
        is_error: bool,
        /// What makes the row unique: `<run>:user`, `<run>:assistant`.
        idempotency_key: String,
        /// The model's kind of interface.
        api: String,
        /// The model's provider.
        provider: String,
        /// The model.
        model: String,
        /// What it took.
        usage: Usage,
        /// Why the model stopped: `stop`, `toolUse`, `error`, `aborted`.
        stop_reason: String,
        /// What failed.
        error_message: String,
        /// The provider's id of the answer.
        response_id: String,
        /// Whether the row stays out of the prompt.
        exclude_from_context: bool,
        /// Where the message comes from, if not from a person.
        provenance: InputProvenance,
        /// Who aborted the run.
        openclaw_abort: AbortMark,
        /// How the row's text is delivered.
        openclaw_delivery: Value,
        /// Which streamed text the row replaces.
        openclaw_stream_fallback: Value,
        /// What kind of note a `custom` row is.
        custom_type: String,
        /// Whether a `custom` row is shown.
        display: bool,
        /// What the gateway knows about the row.
        #[serde(rename = "__openclaw")]
        meta: RowMeta,
    }
}

impl MessageRow {
    /// A row with nothing but what it must have; `timestamp` in milliseconds since the epoch.
    pub fn new(role: MessageRole, content: Content, timestamp: u64) -> Self {
        Self {
            role,
            content,
            timestamp,
            tool_call_id: None,
            tool_name: None,
            is_error: None,
            idempotency_key: None,
            api: None,
            provider: None,
            model: None,
            usage: None,
            stop_reason: None,
            error_message: None,
            response_id: None,
            exclude_from_context: None,
            provenance: None,
            openclaw_abort: None,
            openclaw_delivery: None,
            openclaw_stream_fallback: None,
            custom_type: None,
            display: None,
            meta: None,
        }
    }
}
