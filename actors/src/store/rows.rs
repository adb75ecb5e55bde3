//! What the store holds and what it is asked: the rows as Rust sees them, the write operations and their
//! replies. Plain data, no SQL. All times are unix milliseconds; all ids are opaque strings (rows: uuid v7).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where an input stands. It only ever moves down this list; `Settled` and `Dead` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputState {
    /// Durable, no attempt yet.
    Queued,
    /// An attempt was begun (it may have been lost to a crash since).
    Running,
    /// It has its one outcome.
    Settled,
    /// Given up after too many attempts; its outcome says why.
    Dead,
}

impl InputState {
    /// The word stored in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Settled => "settled",
            Self::Dead => "dead",
        }
    }

    /// The state a stored word stands for; `None` for any other word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Settled, Self::Dead].into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the outcome is written and nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Settled | Self::Dead)
    }
}

/// One thing somebody asked for, as handed to the store. Unique by `(source, source_id)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewInput {
    /// Row id, uuid v7.
    pub id: String,
    /// Who it came through, e.g. `rpc` or `telegram:default`.
    pub source: String,
    /// Idempotency key, unique within `source`.
    pub source_id: String,
    /// Canonical session key.
    pub session_key: String,
    /// The run that will answer it.
    pub run_id: String,
    /// `chat.send` or `agent`.
    pub kind: String,
    /// What was said.
    pub text: String,
    /// Hash of everything that makes two submissions the same; the store keeps it, the caller compares it.
    pub digest: String,
    /// Everything else needed to run it after a restart.
    pub body: Value,
    /// When it was received, ms.
    pub created_at: i64,
}

/// An input as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputRow {
    /// Global order of acceptance, from 1, never reused.
    pub seq: i64,
    /// See [`NewInput::id`].
    pub id: String,
    /// See [`NewInput::source`].
    pub source: String,
    /// See [`NewInput::source_id`].
    pub source_id: String,
    /// See [`NewInput::session_key`].
    pub session_key: String,
    /// See [`NewInput::run_id`].
    pub run_id: String,
    /// See [`NewInput::kind`].
    pub kind: String,
    /// See [`NewInput::text`].
    pub text: String,
    /// See [`NewInput::digest`].
    pub digest: String,
    /// See [`NewInput::body`].
    pub body: Value,
    /// See [`NewInput::created_at`].
    pub created_at: i64,
    /// Where it stands.
    pub state: InputState,
    /// Attempts begun so far.
    pub attempts: u32,
    /// A tool with outside effects was started by some attempt.
    pub external_effects: bool,
    /// The one outcome, present exactly in a final state.
    pub outcome: Option<Value>,
    /// When the first attempt began, ms.
    pub started_at: Option<i64>,
    /// When the outcome was written, ms; present exactly in a final state.
    pub settled_at: Option<i64>,
}

/// One transcript row, as handed to the store. Unique by `id`, and within its transcript by `idempotency_key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Row id, uuid.
    pub id: String,
    /// Canonical session key.
    pub session_key: String,
    /// The session's id; empty means the current one of `session_key`.
    pub session_id: String,
    /// Id of the row it continues.
    pub parent: Option<String>,
    /// `user`, `assistant`, `toolResult`, `system` or `custom`.
    pub kind: String,
    /// E.g. `<run>:user`; unique per transcript when present.
    pub idempotency_key: Option<String>,
    /// The run that wrote it.
    pub run_id: Option<String>,
    /// Counted in `raw_seq` only: no visible position, in no history, not searchable.
    pub hidden: bool,
    /// The row in OpenClaw's shape, without `__openclaw`.
    pub message: Value,
    /// When it was said, ms.
    pub created_at: i64,
}

/// A transcript row as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRow {
    /// See [`NewMessage::id`].
    pub id: String,
    /// See [`NewMessage::session_key`].
    pub session_key: String,
    /// The id of the session it belongs to (never empty here).
    pub session_id: String,
    /// See [`NewMessage::parent`].
    pub parent: Option<String>,
    /// See [`NewMessage::kind`].
    pub kind: String,
    /// See [`NewMessage::idempotency_key`].
    pub idempotency_key: Option<String>,
    /// See [`NewMessage::run_id`].
    pub run_id: Option<String>,
    /// See [`NewMessage::hidden`].
    pub hidden: bool,
    /// See [`NewMessage::message`].
    pub message: Value,
    /// See [`NewMessage::created_at`].
    pub created_at: i64,
    /// Visible position in its transcript, from 1 without gaps; `None` for hidden rows.
    pub seq: Option<i64>,
    /// Position among all rows of its transcript, from 1 without gaps.
    pub raw_seq: i64,
}

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

/// A paired device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Fingerprint of the public key.
    pub device_id: String,
    /// ed25519 public key, base64url.
    pub public_key: String,
    /// Name shown to people.
    pub display_name: Option<String>,
    /// E.g. `linux`.
    pub platform: Option<String>,
    /// E.g. `desktop`.
    pub device_family: Option<String>,
    /// E.g. `cli`.
    pub client_id: Option<String>,
    /// E.g. `cli`, `node`.
    pub client_mode: Option<String>,
    /// Approved roles.
    pub roles: Vec<String>,
    /// Approved scopes.
    pub scopes: Vec<String>,
    /// How it was approved, e.g. `loopback`, `operator`.
    pub approved_via: Option<String>,
    /// When pairing was asked for, ms.
    pub created_at: i64,
    /// When it was approved, ms.
    pub approved_at: i64,
    /// ms; never goes back.
    pub last_seen_at: Option<i64>,
    /// E.g. `connect`.
    pub last_seen_reason: Option<String>,
    /// Address it paired from.
    pub remote_ip: Option<String>,
}

/// What is known of one device token, one per device and role. The token itself is never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The device, which must be stored.
    pub device_id: String,
    /// The role it speaks for.
    pub role: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Counts rotations, from 0; a row with a lower one than stored is ignored.
    pub rotation: u32,
    /// ms.
    pub created_at: i64,
    /// ms.
    pub rotated_at: Option<i64>,
    /// ms.
    pub last_used_at: Option<i64>,
    /// ms; a revoked token is refused.
    pub revoked_at: Option<i64>,
}

/// What the store can be told to do. Every operation may be sent again: the second time changes nothing.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "the big ones are the common ones; each is moved once")]
pub enum WriteOp {
    /// Nothing: answered when everything sent before it is committed → [`WriteReply::Done`].
    Fence,
    /// Make an input durable, with its session (created on first use) → [`WriteReply::Accepted`].
    AcceptInput {
        /// The input.
        input: NewInput,
        /// Begin the first attempt in the same commit.
        begin: bool,
        /// Transcript row written in the same commit.
        user_message: Option<NewMessage>,
        /// Applied to the session if the input is new.
        session: SessionUpdate,
    },
    /// Count an attempt before it is made → [`WriteReply::Began`]; `NotFound` for an unknown input.
    BeginAttempt {
        /// [`InputRow::id`].
        input_id: String,
        /// Number of this attempt, from 1.
        attempt: u32,
        /// Transcript row written in the same commit, if the attempt is new.
        user_message: Option<NewMessage>,
        /// ms.
        at: i64,
    },
    /// A tool with outside effects is about to start → [`WriteReply::Done`]; `NotFound` for an unknown input.
    MarkExternal {
        /// [`InputRow::id`].
        input_id: String,
    },
    /// Write the one outcome → [`WriteReply::Settled`]; `NotFound` for an unknown input, `Conflict` if `state`
    /// is not final.
    Settle {
        /// [`InputRow::id`].
        input_id: String,
        /// `Settled` or `Dead`.
        state: InputState,
        /// The outcome every later reader sees.
        outcome: Value,
        /// Transcript rows written in the same commit, in order.
        messages: Vec<NewMessage>,
        /// Applied to the session in the same commit.
        session: Option<SessionUpdate>,
        /// ms.
        at: i64,
    },
    /// Add a transcript row → [`WriteReply::Appended`]; `NotFound` for an unknown session.
    AppendMessage(NewMessage),
    /// Change a session, or create it → [`WriteReply::Session`].
    UpdateSession {
        /// Canonical session key.
        key: String,
        /// The change.
        update: SessionUpdate,
    },
    /// Store or replace a device → [`WriteReply::Done`].
    PutDevice(DeviceRow),
    /// Note that a device was seen; nothing for an unknown device → [`WriteReply::Done`].
    SeeDevice {
        /// Which.
        device_id: String,
        /// ms.
        at: i64,
        /// E.g. `connect`.
        reason: Option<String>,
    },
    /// Store or replace a token row → [`WriteReply::Done`]; `NotFound` for an unknown device.
    PutToken(TokenRow),
    /// Forget a device and its tokens → [`WriteReply::Done`].
    RemoveDevice {
        /// Which.
        device_id: String,
    },
    /// Store or replace one value of gateway metadata → [`WriteReply::Done`].
    PutMeta {
        /// Name.
        key: String,
        /// Value.
        value: String,
    },
}

/// What a committed operation answers.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteReply {
    /// The input is durable.
    Accepted {
        /// As stored: the first one sent under this `(source, source_id)`.
        row: InputRow,
        /// Written by this operation.
        fresh: bool,
        /// The user message, if it was sent and is stored.
        message: Option<MessageRow>,
    },
    /// The attempt is counted, or the row says why not (final, or as many attempts already).
    Began {
        /// As stored.
        row: InputRow,
        /// The user message, if it was sent and is stored.
        message: Option<MessageRow>,
    },
    /// The input has its outcome.
    Settled {
        /// As stored, with the first outcome.
        row: InputRow,
        /// Settled by this operation.
        fresh: bool,
        /// Those of the sent messages that are stored, in the order sent.
        messages: Vec<MessageRow>,
    },
    /// The transcript row, and whether this operation wrote it.
    Appended(MessageRow, bool),
    /// The session after the change.
    Session(SessionRecord),
    /// Nothing to say.
    Done,
}
