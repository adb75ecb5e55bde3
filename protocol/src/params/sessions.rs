//! Sessions: lists, rows, subscriptions.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::chat::ModelDefaults;
use super::messages::MessageRow;
use super::record;
pub use super::session_row::{SessionRow, SessionStatus};
use crate::session_key::SessionKey;
use crate::value::{Int, Text, string_enum};

string_enum! {
    /// What sessions are sorted by, newest first.
    any_of pub enum SortBy {
        /// Any change.
        UpdatedAt = "updatedAt",
        /// The last message of a person.
        LastInteractionAt = "lastInteractionAt",
        /// The last thing that happened.
        Activity = "activity",
    }
}

string_enum! {
    /// What a session shows first.
    any_of pub enum BoardFace {
        /// The chat.
        Chat = "chat",
        /// The dashboard.
        Dashboard = "dashboard",
    }
}

string_enum! {
    /// The word `all`.
    any_of pub enum AllWord {
        /// `all`.
        All = "all",
    }
}

/// Which sessions by whether they are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ArchivedFilter {
    /// Only archived ones, or only others.
    Only(bool),
    /// Both.
    All(AllWord),
}

/// Parameters of `sessions.list`, and of `sessions.subscribe` when it asks for a list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParams {
    /// At most so many rows; [`DEFAULT_LIST_LIMIT`] when absent.
    pub limit: Option<Int<1>>,
    /// Rows to skip.
    pub offset: Option<Int>,
    /// Only sessions that changed in so many minutes.
    pub active_minutes: Option<Int<1>>,
    /// Only sessions with an active run.
    pub active_only: Option<bool>,
    /// Only sessions a person wrote in.
    pub require_last_interaction: Option<bool>,
    /// The order.
    pub sort_by: Option<SortBy>,
    /// Whether to include the global session.
    pub include_global: Option<bool>,
    /// Whether to include sessions of unknown kind.
    pub include_unknown: Option<bool>,
    /// Only sessions of configured agents.
    pub configured_agents_only: Option<bool>,
    /// Whether to add `derivedTitle`.
    pub include_derived_titles: Option<bool>,
    /// Whether to add `lastMessagePreview`.
    pub include_last_message: Option<bool>,
    /// Whether to add `activitySummary`.
    pub include_activity_summary: Option<bool>,
    /// Whether to add `people`.
    pub include_people: Option<bool>,
    /// Only sessions of this name.
    pub label: Option<Text<512>>,
    /// Only sessions that show this first.
    pub board_face: Option<BoardFace>,
    /// Only sessions with a board.
    pub has_board: Option<bool>,
    /// Only sessions this person created.
    pub creator_id: Option<Text>,
    /// Only sessions this person owns.
    pub owner_id: Option<Text>,
    /// Own sessions first.
    pub owner_first: Option<bool>,
    /// Only sessions the caller takes part in.
    pub involving_me: Option<bool>,
    /// Only sessions this person takes part in.
    pub involving_profile_id: Option<Text>,
    /// Only children of this session.
    pub spawned_by: Option<Text>,
    /// Whether to leave out what subagents work in.
    pub exclude_subagents: Option<bool>,
    /// Whether to leave out what scheduled jobs work in.
    pub exclude_cron: Option<bool>,
    /// Whether to leave out what the gateway itself works in.
    pub exclude_system: Option<bool>,
    /// Only sessions of this group; empty for those in none.
    pub group: Option<String>,
    /// Only pinned ones, or only others.
    pub pinned: Option<bool>,
    /// Only sessions of this agent.
    pub agent_id: Option<Text>,
    /// Only sessions with this text in key, name or title.
    pub search: Option<String>,
    /// Archived ones too, or only.
    pub archived: Option<ArchivedFilter>,
}

/// Rows listed when `limit` is absent.
pub const DEFAULT_LIST_LIMIT: u64 = 100;

/// Parameters of `sessions.subscribe`: with any of them the result holds a list too.
pub type SubscribeParams = ListParams;

record! {
    /// Result of `sessions.list`.
    pub struct SessionsList {
        /// When, in milliseconds since the epoch.
        ts: u64,
        /// Where sessions are stored; `(multiple)` for several places.
        path: String,
        /// Rows in this answer.
        count: u64,
        /// Rows there are.
        total_count: u64,
        /// The limit in effect.
        limit_applied: u64,
        /// What to skip next, or null at the end.
        next_offset: Option<u64>,
        /// Whether there are more rows.
        has_more: bool,
        /// Who owns them.
        owners: Vec<Value>,
        /// What sessions run on unless told.
        defaults: ModelDefaults,
        /// The rows.
        sessions: Vec<SessionRow>,
        ; optional
        /// Rows skipped.
        offset: u64,
        /// Who takes part.
        people: Vec<Value>,
        /// Whether some of them are missing.
        people_incomplete: bool,
        /// In how many sessions they take part.
        people_session_count: u64,
    }
}

/// Parameters of `sessions.describe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DescribeParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Whether to add `derivedTitle`.
    pub include_derived_titles: Option<bool>,
    /// Whether to add `lastMessagePreview`.
    pub include_last_message: Option<bool>,
}

/// Parameters of `sessions.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// At most so many messages, the newest; 200 when absent.
    pub limit: Option<Int<1, 1000>>,
}

record! {
    /// Result of `sessions.get`.
    pub struct Got {
        /// The rows, oldest first.
        messages: Vec<MessageRow>,
    }
}

record! {
    /// Result of `sessions.describe`.
    pub struct Described {
        /// The row, or null.
        session: Option<Box<SessionRow>>,
    }
}

record! {
    /// Result of `sessions.subscribe`.
    pub struct Subscribed {
        /// Always true.
        subscribed: bool,
        ; optional
        /// The list asked for.
        list: Box<SessionsList>,
    }
}

/// Parameters of `sessions.messages.subscribe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagesSubscribeParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Whether approvals of the session are sent too.
    pub include_approvals: Option<bool>,
}

/// Parameters of `sessions.messages.unsubscribe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagesUnsubscribeParams {
    /// The session.
    pub key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
}

record! {
    /// Result of `sessions.messages.subscribe` and `.unsubscribe`.
    pub struct MessagesSubscribed {
        /// Whether the connection is subscribed now.
        subscribed: bool,
        /// The session.
        key: SessionKey,
    }
}
