//! Channels: polls, what else can be done to messages, conversations, logging out.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::params::approvals::ThreadId;
use crate::params::record;
use crate::value::{Int, List, Text, shaped_text, string_enum};

record! {
    /// Result of `channels.logout`.
    pub struct LoggedOut {
        /// The channel.
        channel: String,
        /// The account.
        account_id: String,
        /// Whether something was taken out of the configuration.
        cleared: bool,
        /// Whether the account has no key any more.
        logged_out: bool,
    }
}

/// Parameters of `poll`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PollParams {
    /// Where to, as in `send`.
    pub to: Text,
    /// The question.
    pub question: Text,
    /// The answers.
    pub options: List<Text, 2, 12>,
    /// How many may be chosen.
    pub max_selections: Option<Int<1, 12>>,
    /// How long it is open.
    pub duration_seconds: Option<Int<1, 604_800>>,
    /// The same, where that cannot be said so exactly.
    pub duration_hours: Option<Int<1>>,
    /// Whether nobody is woken by it.
    pub silent: Option<bool>,
    /// Whether nobody sees who chose what.
    pub is_anonymous: Option<bool>,
    /// The thread.
    pub thread_id: Option<String>,
    /// The channel; not needed if there is only one.
    pub channel: Option<String>,
    /// The account.
    pub account_id: Option<String>,
    /// The same again is one poll.
    pub idempotency_key: Text,
}

record! {
    /// Result of `poll`.
    pub struct PollResult {
        /// The idempotency key.
        run_id: String,
        /// What the platform calls the message.
        message_id: String,
        /// The channel.
        channel: String,
        /// The chat.
        chat_id: String,
    }
}

/// Parameters of `message.action`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionParams {
    /// The channel.
    pub channel: Text,
    /// What is to be done.
    pub action: Text,
    /// With what: depends on the action.
    pub params: Map<String, Value>,
    /// What it replies to.
    pub reply: Option<Reply>,
    /// The account.
    pub account_id: Option<String>,
    /// The account of who asks.
    pub requester_account_id: Option<String>,
    /// Who asks.
    pub requester_sender_id: Option<String>,
    /// Whether that is an owner.
    pub sender_is_owner: Option<bool>,
    /// The session it belongs to.
    pub session_key: Option<String>,
    /// The same.
    pub session_id: Option<String>,
    /// What the turn was begun by.
    pub inbound_turn_kind: Option<TurnKind>,
    /// The agent in whose name it is done.
    pub agent_id: Option<String>,
    /// What the tool that asks is about.
    pub tool_context: Option<ToolContext>,
    /// Who wants to read.
    pub conversation_read_origin: Option<ReadOrigin>,
    /// The same again is done once.
    pub idempotency_key: Text,
}

/// What a message replies to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Reply {
    /// Because somebody says so.
    Explicit(ExplicitReply),
    /// Because of how the session replies.
    Implicit(ImplicitReply),
}

/// See [`Reply`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplicitReply {
    /// The message.
    pub reply_to_id: Text,
    /// `explicit`.
    pub source: ExplicitWord,
}

/// See [`Reply`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImplicitReply {
    /// The message.
    pub reply_to_id: Text,
    /// `implicit`.
    pub source: ImplicitWord,
    /// Which messages of an answer reply.
    pub mode: ReplyMode,
}

impl Reply {
    /// The message.
    pub fn message(&self) -> &str {
        match self {
            Self::Explicit(reply) => &reply.reply_to_id,
            Self::Implicit(reply) => &reply.reply_to_id,
        }
    }
}

string_enum! {
    /// The word `explicit`.
    any_of pub enum ExplicitWord {
        /// `explicit`.
        Explicit = "explicit",
    }
}

string_enum! {
    /// The word `implicit`.
    any_of pub enum ImplicitWord {
        /// `implicit`.
        Implicit = "implicit",
    }
}

string_enum! {
    /// Which messages of an answer reply.
    any_of pub enum ReplyMode {
        /// The first.
        First = "first",
        /// All.
        All = "all",
    }
}

string_enum! {
    /// How an agent's messages reply.
    any_of pub enum ReplyToMode {
        /// Not.
        Off = "off",
        /// The first.
        First = "first",
        /// All.
        All = "all",
        /// The first of each batch.
        Batched = "batched",
    }
}

string_enum! {
    /// What a turn was begun by.
    one_of pub enum TurnKind {
        /// Somebody asked.
        UserRequest = "user_request",
        /// Something happened in a room.
        RoomEvent = "room_event",
    }
}

string_enum! {
    /// Who wants to read.
    any_of pub enum ReadOrigin {
        /// An operator.
        DirectOperator = "direct-operator",
    }
}

/// What the tool that asks is about; nothing of it matters here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ToolContext {
    pub current_channel_id: Option<String>,
    pub current_messaging_target: Option<String>,
    pub current_graph_channel_id: Option<String>,
    pub current_channel_provider: Option<String>,
    pub current_thread_ts: Option<String>,
    pub current_message_id: Option<ThreadId>,
    pub reply_to_mode: Option<ReplyToMode>,
    pub has_replied_ref: Option<RepliedRef>,
    pub same_channel_thread_required: Option<bool>,
    pub skip_cross_context_decoration: Option<bool>,
}

/// Whether something was replied to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepliedRef {
    /// Whether.
    pub value: bool,
}

/// Parameters of `conversations.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationsParams {
    /// The agent.
    pub agent_id: Text,
    /// One channel only.
    pub channel: Option<Text>,
    /// Those in which this stands.
    pub query: Option<Text>,
    /// How many at most.
    pub limit: Option<Int<1, 100>>,
}

record! {
    /// Result of `conversations.list`.
    pub struct Conversations {
        /// The latest first.
        conversations: Vec<Conversation>,
    }
}

record! {
    /// A chat somebody has talked to an agent in.
    pub struct Conversation {
        /// Its name for `conversations.send`.
        conversation_ref: String,
        /// The channel.
        channel: String,
        /// The account.
        account_id: String,
        /// What kind of chat.
        kind: String,
        /// The chat, as `send` takes it.
        target: String,
        /// When it was first talked in, ms.
        first_seen_at: u64,
        /// When last, ms.
        last_seen_at: u64,
        ; optional
        /// The thread.
        thread_id: String,
    }
}

shaped_text! {
    /// The name of a conversation.
    pub struct ConversationRef = "^conv_[a-f0-9]{32}$" if |text| {
        text.strip_prefix("conv_").is_some_and(|hex| {
            hex.len() == 32 && hex.bytes().all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9'))
        })
    }
}

/// Parameters of `conversations.send`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationSendParams {
    /// The agent.
    pub agent_id: Text,
    /// The session it is sent from.
    pub source_session_key: Option<Text>,
    /// The same again is one message.
    pub operation_id: Text,
    /// The conversation.
    pub conversation_ref: ConversationRef,
    /// What it says.
    pub message: Text,
}

record! {
    /// Result of `conversations.send`.
    pub struct ConversationSent {
        /// `sent`, `queued`, or `unknown`.
        status: String,
        /// The conversation.
        conversation_ref: String,
        /// The channel.
        channel: String,
        ; optional
        /// What the platform calls the message.
        message_id: String,
        /// What it is called while it waits.
        queue_id: String,
    }
}
