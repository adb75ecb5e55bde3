//! Looking at sessions: previews, search, single messages, and who looks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::messages::MessageRow;
use super::record;
use super::sessions::{ArchivedFilter, BoardFace, SessionRow};
use crate::session_key::SessionKey;
use crate::value::{Int, List, Text, string_enum};

/// Parameters of `sessions.preview`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreviewParams {
    /// The sessions.
    pub keys: List<Text, 1>,
    /// At most so many messages of each, the newest.
    pub limit: Option<Int<1>>,
    /// Longest text of a message, in characters.
    pub max_chars: Option<Int<20>>,
}

string_enum! {
    /// Whether there is anything to show of a session.
    one_of pub enum PreviewStatus {
        /// There is.
        Ok = "ok",
        /// It has no messages.
        Empty = "empty",
        /// There is no such session.
        Missing = "missing",
        /// It could not be read.
        Error = "error",
    }
}

record! {
    /// Result of `sessions.preview`.
    pub struct Previews {
        /// When, in milliseconds since the epoch.
        ts: u64,
        /// One for each key, in their order.
        previews: Vec<Preview>,
    }
}

record! {
    /// The last messages of a session.
    pub struct Preview {
        /// The session, as asked for.
        key: String,
        /// Whether there is anything.
        status: PreviewStatus,
        /// The messages, oldest first.
        items: Vec<PreviewItem>,
    }
}

record! {
    /// A message in a preview.
    pub struct PreviewItem {
        /// Who wrote it.
        role: String,
        /// What it says.
        text: String,
    }
}

/// Parameters of `sessions.resolve`: one of `key`, `sessionId`, `label`, `shortId`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveParams {
    /// By its key.
    pub key: Option<Text>,
    /// By its id.
    pub session_id: Option<Text>,
    /// By its name.
    pub label: Option<Text<512>>,
    /// By the uuid in its key or a beginning of it, 8 to 32 hex digits without dashes.
    pub short_id: Option<Text>,
    /// What its title begins with, to tell several apart; needs `shortId`.
    pub slug_hint: Option<Text>,
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Only children of this session.
    pub spawned_by: Option<Text>,
    /// Whether the global session counts.
    pub include_global: Option<bool>,
    /// Whether sessions of unknown kind count.
    pub include_unknown: Option<bool>,
    /// Whether it is no failure that there is none.
    pub allow_missing: Option<bool>,
}

record! {
    /// Result of `sessions.resolve`.
    pub struct Resolution {
        /// Whether there is one.
        ok: bool,
        ; optional
        /// The session.
        key: SessionKey,
        /// Its agent.
        agent_id: String,
        /// Its title.
        display_name: String,
        /// What it shows first.
        board_face: BoardFace,
        /// Those it may be, at most [`MAX_CANDIDATES`]; instead of one.
        candidates: Vec<Candidate>,
    }
}

/// Most sessions named when it is not clear which one is meant.
pub const MAX_CANDIDATES: usize = 10;

record! {
    /// A session that may be meant.
    pub struct Candidate {
        /// The session.
        key: SessionKey,
        /// Its agent.
        agent_id: String,
        ; optional
        /// Its title.
        display_name: String,
        /// What it shows first.
        board_face: BoardFace,
    }
}

/// Parameters of `sessions.search`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SearchParams {
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Only in these sessions.
    pub session_keys: Option<List<Text, 1, 200>>,
    /// What to look for.
    pub query: Text<4096>,
    /// At most so many; [`DEFAULT_SEARCH_LIMIT`] when absent.
    pub limit: Option<Int<1, 25>>,
    /// Only in sessions `sessions.list` would list with these parameters; the answer then has their rows, too.
    pub scope: Option<SearchScope>,
}

/// Hits when `limit` is absent.
pub const DEFAULT_SEARCH_LIMIT: u64 = 10;

/// Which sessions are searched.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SearchScope {
    /// Whether to include the global session.
    pub include_global: Option<bool>,
    /// Whether to include sessions of unknown kind.
    pub include_unknown: Option<bool>,
    /// Only sessions of configured agents.
    pub configured_agents_only: Option<bool>,
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Only children of this session.
    pub spawned_by: Option<Text>,
    /// Whether to leave out what subagents work in.
    pub exclude_subagents: Option<bool>,
    /// Whether to leave out what scheduled jobs work in.
    pub exclude_cron: Option<bool>,
    /// Whether to leave out what the gateway itself works in.
    pub exclude_system: Option<bool>,
    /// Archived ones too, or only.
    pub archived: Option<ArchivedFilter>,
}

record! {
    /// Result of `sessions.search`.
    pub struct SearchResult {
        /// What was found, best first.
        results: Vec<SearchHit>,
        ; optional
        /// The sessions of the hits, if a scope was given.
        sessions: Vec<SessionRow>,
        /// Whether there may be more that is not searchable yet.
        indexing: bool,
        /// Whether there is more.
        truncated: bool,
    }
}

record! {
    /// A message that was found.
    pub struct SearchHit {
        /// The session.
        session_key: SessionKey,
        /// Its id.
        session_id: String,
        /// The row.
        message_id: String,
        /// `user` or `assistant`.
        role: String,
        /// When, in milliseconds since the epoch.
        timestamp: u64,
        /// The place in the text.
        snippet: String,
        /// How well it fits.
        score: f64,
    }
}

/// Parameters of `chat.message.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageGetParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The row.
    pub message_id: Text,
    /// Longest text, in characters.
    pub max_chars: Option<Int<1, 2_000_000>>,
}

string_enum! {
    /// Why a message is not shown.
    any_of pub enum Unavailable {
        /// There is none.
        NotFound = "not_found",
        /// It is too large.
        Oversized = "oversized",
        /// It is hidden.
        NotVisible = "not_visible",
    }
}

record! {
    /// Result of `chat.message.get`.
    pub struct MessageGot {
        /// Whether it is shown.
        ok: bool,
        ; optional
        /// The row.
        message: MessageRow,
        /// Why it is not.
        unavailable_reason: Unavailable,
    }
}

/// Parameters of `chat.inject`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InjectParams {
    /// The session, which must exist.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// What the assistant is to have said.
    pub message: Text,
    /// What stands in brackets before it.
    pub label: Option<Text<100, 0>>,
}

record! {
    /// Result of `chat.inject`.
    pub struct Injected {
        /// Always true.
        ok: bool,
        /// The row.
        message_id: String,
    }
}

/// Longest list of sessions a connection looks at.
pub const MAX_VIEWED: usize = 32;

/// Parameters and result of `sessions.viewers.set` hold such a list.
pub type ViewedSessions = List<Text<512>, 0, MAX_VIEWED>;

/// Parameters of `sessions.viewers.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ViewersSetParams {
    /// The agent.
    pub agent_id: Option<Text>,
    /// What the connection looks at from now on.
    pub session_keys: ViewedSessions,
}

record! {
    /// Result of `sessions.viewers.set`.
    pub struct ViewersSet {
        /// What the connection looks at.
        session_keys: Vec<SessionKey>,
    }
}

/// Parameters of `sessions.observer.visibility`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObserverVisibilityParams {
    /// Whether the client is seen.
    pub visible: bool,
}

/// Longest preview of what somebody writes, in characters.
pub const MAX_TYPING_PREVIEW: usize = 400;

/// Parameters of `session.typing`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TypingParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// The id the session must have.
    pub session_id: Text,
    /// Whether the caller writes.
    pub typing: bool,
    /// What it wrote so far.
    pub preview: Option<Text<MAX_TYPING_PREVIEW, 0>>,
}

record! {
    /// Result of `session.typing`.
    pub struct Typed {
        /// Always true.
        ok: bool,
        /// Whether others were told.
        broadcast: bool,
    }
}
