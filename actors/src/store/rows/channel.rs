//! Messages on their way out, people who wait to be let in, and what was overheard, as Rust sees them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a message on its way out stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is to be sent.
    Queued,
    /// It was handed to the channel. After a crash nobody knows whether it was sent.
    Sending,
    /// The platform has it.
    Sent,
    /// Nobody knows, and it is not sent again.
    Uncertain,
    /// The platform does not take it, or it was tried too often.
    Failed,
}

impl DeliveryState {
    const ALL: [Self; 5] = [Self::Queued, Self::Sending, Self::Sent, Self::Uncertain, Self::Failed];

    /// The word stored in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Uncertain => "uncertain",
            Self::Failed => "failed",
        }
    }

    /// The state a stored word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// A message on its way out. Unique by `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRow {
    /// What it is sent as: the same each time.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The account.
    pub account: String,
    /// Where to, as the channel has it.
    pub address: Value,
    /// The session it comes from.
    pub session_key: Option<String>,
    /// The run it comes from.
    pub run_id: Option<String>,
    /// What it says.
    pub text: String,
    /// The rest of it: what it replies to, its buttons, what it takes the place of.
    pub extra: Value,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was handed to the channel.
    pub attempts: u32,
    /// What the platform calls it.
    pub platform_id: Option<String>,
    /// Why it was not sent, or is not known to be.
    pub error: Option<String>,
    /// ms.
    pub created_at: i64,
    /// ms.
    pub updated_at: i64,
}

impl DeliveryRow {
    /// A message that waits to be sent.
    pub fn queued(
        id: String,
        (channel, account): (&str, &str),
        address: Value,
        text: String,
        now: i64,
    ) -> Self {
        Self {
            id,
            channel: channel.to_owned(),
            account: account.to_owned(),
            address,
            session_key: None,
            run_id: None,
            text,
            extra: Value::Object(Map::new()),
            state: DeliveryState::Queued,
            attempts: 0,
            platform_id: None,
            error: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Somebody who wrote and is not known. Unique by channel, account and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRow {
    /// The channel.
    pub channel: String,
    /// The account.
    pub account: String,
    /// The platform's id of the person.
    pub id: String,
    /// What they say to be let in; none once they are.
    pub code: Option<String>,
    /// Their names.
    pub meta: Value,
    /// When they wrote first, ms.
    pub created_at: i64,
    /// When they wrote last without being let in, ms.
    pub last_seen_at: i64,
    /// When an operator let them in, ms.
    pub approved_at: Option<i64>,
}

/// A message of a group that was not for the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverheardRow {
    /// The session of the group.
    pub session_key: String,
    /// Where it came in.
    pub source: String,
    /// What it is called there.
    pub source_id: String,
    /// Who said it.
    pub from: String,
    /// What.
    pub text: String,
    /// ms.
    pub at: i64,
}
