//! Sessions as Rust sees them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is known of a session beside its transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Canonical session key.
    pub key: String,
    /// Its id; another id is another transcript (rewind).
    pub session_id: String,
    /// Lifecycle revision; another revision is an empty transcript under the same id (reset). Empty at first.
    pub revision: String,
    /// The agent that answers in it.
    pub agent_id: String,
    /// ms.
    pub created_at: i64,
    /// ms; never goes back.
    pub updated_at: i64,
    /// `running`, `done`, `failed`, `killed`, `timeout`; absent before the first run.
    pub status: Option<String>,
    /// Given name.
    pub label: Option<String>,
    /// The latest run.
    pub last_run_id: Option<String>,
    /// When the latest run began, ms.
    pub started_at: Option<i64>,
    /// When the latest run ended, ms.
    pub ended_at: Option<i64>,
    /// When a person last spoke, ms; never goes back.
    pub last_interaction_at: Option<i64>,
    /// Everything else in OpenClaw's entry shape (model override, `pinnedAt`, category …); always an object.
    pub entry: Value,
    /// The start of the first thing a person said in the current transcript, at most 160 characters. Read with
    /// the session; absent from the replies of writes.
    pub title: Option<String>,
    /// The start of the last thing either side said there, at most 160 characters; absent as `title` is.
    pub last_said: Option<String>,
}

/// A partial change of a [`SessionRecord`]: `None` leaves a field alone, `Some(None)` clears it. Applying the
/// same update twice is applying it once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionUpdate {
    /// When, ms: `created_at` of a new record; raises `updated_at` (0 leaves it).
    pub at: i64,
    /// The session id a new record gets; without it, the id of the message written with it, else a uuid v4.
    pub session_id_if_new: Option<String>,
    /// Replaces the session id (rewind).
    pub session_id: Option<String>,
    /// Replaces the lifecycle revision (reset).
    pub revision: Option<String>,
    /// Replaces the agent; a new record takes it from the key (`agent:<id>:…`), else `main`.
    pub agent_id: Option<String>,
    /// See [`SessionRecord::status`].
    pub status: Option<Option<String>>,
    /// See [`SessionRecord::label`].
    pub label: Option<Option<String>>,
    /// See [`SessionRecord::last_run_id`].
    pub last_run_id: Option<Option<String>>,
    /// See [`SessionRecord::started_at`].
    pub started_at: Option<Option<i64>>,
    /// See [`SessionRecord::ended_at`].
    pub ended_at: Option<Option<i64>>,
    /// Raises `last_interaction_at`, ms.
    pub last_interaction_at: Option<i64>,
    /// RFC 7396 merge patch of `entry` (an object; `null` members delete).
    pub entry: Option<Value>,
}
