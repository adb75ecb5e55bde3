//! What the store holds and what it is asked: the rows as Rust sees them, the write operations and their
//! replies. Plain data, no SQL. All times are unix milliseconds; all ids are opaque strings (rows: uuid v7).

mod act;
mod approval;
mod channel;
mod device;
mod node;
mod session;

pub use act::{Act, ActRow, AuditBatch, AuditKeep, PersonRow};
pub use approval::ApprovalRow;
pub use channel::{ContactRow, DeliveryRow, DeliveryState, OverheardRow};
pub use device::{DeviceRow, SetupRow, TokenRow};
pub use node::NodeRow;
pub use session::{SessionRecord, SessionUpdate};

use super::cron::{CronOp, EventRow, ScratchRow};
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
    /// Its place in the backlog: the higher, the earlier.
    pub priority: i64,
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
    /// See [`NewInput::priority`].
    pub priority: i64,
    /// The run of the turn that answers it, from its first attempt on: its own, or one it shares with others.
    pub turn: Option<String>,
    /// Where it stands.
    pub state: InputState,
    /// Attempts begun so far.
    pub attempts: u32,
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

/// Which rows of a transcript are copied. Hidden rows among and after them come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyRange {
    /// Those before this message.
    Before(String),
    /// The last so many visible ones.
    Last(u32),
    /// This message and those after it.
    From(String),
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
    /// Let inputs be answered by a turn, counting the attempt before it is made: to begin the turn, or to join
    /// one that runs → [`WriteReply::Began`]; `NotFound` for an unknown input.
    Begin {
        /// The turn's run.
        turn: String,
        /// [`InputRow::id`] of each, and the number of its attempt, from 1.
        inputs: Vec<(String, u32)>,
        /// Transcript rows written in the same commit, in order.
        messages: Vec<NewMessage>,
        /// ms.
        at: i64,
    },
    /// A tool with outside effects is about to begin: from now on its call is not made again →
    /// [`WriteReply::Done`].
    BeginCall {
        /// The turn's run.
        turn: String,
        /// The call.
        call_id: String,
        /// The tool.
        tool: String,
    },
    /// Write the one outcome of a turn's inputs → [`WriteReply::Settled`]; `NotFound` for an unknown input,
    /// `Conflict` if `state` is not final.
    Settle {
        /// The run whose outcome it is.
        turn: String,
        /// [`InputRow::id`] of each.
        inputs: Vec<String>,
        /// Inputs that had joined the turn and are queued again, as `detached` and `asked` (members of their body).
        released: Vec<String>,
        /// `Settled` or `Dead`.
        state: InputState,
        /// The outcome every later reader sees.
        outcome: Value,
        /// Transcript rows written in the same commit, in order.
        messages: Vec<NewMessage>,
        /// What is sent to people, in the same commit.
        deliveries: Vec<DeliveryRow>,
        /// What main sessions hear of it, in the same commit.
        events: Vec<EventRow>,
        /// Applied to the session in the same commit.
        session: Option<SessionUpdate>,
        /// ms.
        at: i64,
    },
    /// Add a transcript row → [`WriteReply::Appended`]; `NotFound` for an unknown session.
    AppendMessage(NewMessage),
    /// All of these, in order, or none: the first that fails undoes those before it and is the error →
    /// [`WriteReply::All`].
    All(Vec<WriteOp>),
    /// Make a transcript out of the current one of a session; message rows keep their ids →
    /// [`WriteReply::Copied`]. The session is left as it is: an [`WriteOp::UpdateSession`] after it makes the
    /// copy current. `NotFound` for an unknown session or message, `Conflict` if the transcript exists and is
    /// no copy.
    CopyTranscript {
        /// Whose current transcript is copied.
        from_key: String,
        /// Whose the copy is; another session's begins a family of its own.
        to_key: String,
        /// Session id of the copy.
        session_id: String,
        /// Lifecycle revision of the copy.
        revision: String,
        /// What is copied.
        range: CopyRange,
        /// Within one session: listed beside the old one as a branch, instead of taking its place in the list.
        branch: bool,
        /// ms; when the copy was last changed, if it is empty.
        at: i64,
    },
    /// Forget a session, its transcripts, and the messages no other transcript contains → [`WriteReply::Deleted`].
    /// Its inputs stay: what was asked is answered only once.
    DeleteSession {
        /// Canonical session key.
        key: String,
        /// Its transcripts and messages stay, out of everybody's sight.
        keep_transcripts: bool,
    },
    /// Put the sessions of one category (`entry.category`) into another, or into none → [`WriteReply::Count`].
    MoveCategory {
        /// The category they are in.
        from: String,
        /// The one they come to.
        to: Option<String>,
    },
    /// Change a session, or create it → [`WriteReply::Session`]; `Conflict` if another session of its agent has
    /// the label.
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
        /// In which role: the token was used.
        role: String,
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
    /// Store or replace a node → [`WriteReply::Done`]; `NotFound` unless its device is paired, and by the same pairing.
    PutNode(NodeRow),
    /// Forget what is known of a node; its device stays → [`WriteReply::Done`].
    RemoveNode {
        /// Which.
        node_id: String,
    },
    /// Use an approval that is good for one time → [`WriteReply::Done`]; `NotFound` for an unknown one, `Conflict` if
    /// it was used by another.
    UseApproval {
        /// [`ApprovalRow::kind`].
        kind: String,
        /// [`ApprovalRow::id`].
        id: String,
        /// Who uses it; the same one may say so again.
        by: String,
    },
    /// Store or replace a setup code → [`WriteReply::Done`].
    PutSetup(SetupRow),
    /// Forget a setup code → [`WriteReply::Done`].
    RemoveSetup {
        /// [`SetupRow::setup_id`].
        setup_id: String,
    },
    /// Make a request durable that people decide on, unless there is or was one → [`WriteReply::Approval`].
    OpenApproval(ApprovalRow),
    /// Write what became of it, unless that is known → [`WriteReply::Approval`]; `NotFound` for an unknown one.
    CloseApproval {
        /// [`ApprovalRow::kind`].
        kind: String,
        /// [`ApprovalRow::id`].
        id: String,
        /// What became of it.
        outcome: Value,
        /// ms.
        at: i64,
    },
    /// Send these, unless they are there already → [`WriteReply::Done`].
    Deliver(Vec<DeliveryRow>),
    /// A message on its way out has come to another state; one that is final stays → [`WriteReply::Done`].
    Delivery(DeliveryRow),
    /// The draft of an answer is going to be sent, unless its turn has ended or it is known → [`WriteReply::Count`].
    BeginDraft(DeliveryRow),
    /// The platform has a draft → [`WriteReply::Done`].
    ShowDraft {
        /// [`DeliveryRow::id`].
        id: String,
        /// [`DeliveryRow::platform_id`].
        platform_id: String,
    },
    /// The platform has no such draft, or not any more → [`WriteReply::Done`].
    RemoveDraft {
        /// [`DeliveryRow::id`].
        id: String,
    },
    /// People are told with this message of those whose fate nobody knows → [`WriteReply::Done`].
    ReportUncertain {
        /// [`DeliveryRow::id`] of each.
        ids: Vec<String>,
        /// What tells them.
        with: DeliveryRow,
    },
    /// An account goes on here after a restart → [`WriteReply::Done`].
    PutCheckpoint {
        /// The channel.
        channel: String,
        /// The account.
        account: String,
        /// The place.
        place: String,
    },
    /// Store or replace somebody who wrote → [`WriteReply::Done`].
    PutContact(ContactRow),
    /// Forget them → [`WriteReply::Count`].
    RemoveContact {
        /// The channel.
        channel: String,
        /// The account.
        account: String,
        /// [`ContactRow::id`].
        id: String,
    },
    /// Keep what was overheard, and of its session so much → [`WriteReply::Done`].
    Overhear {
        /// What.
        row: OverheardRow,
        /// How many rows of the session are kept.
        most: u32,
    },
    /// Jobs with a schedule, their records, and what waits to be told to an agent.
    Cron(CronOp),
    /// Write acts down, and what the operations before this one in its commit did → [`WriteReply::Count`].
    Audit(AuditBatch),
    /// Somebody was named, whether for the first time or not → [`WriteReply::Done`].
    SeePerson {
        /// [`PersonRow::id`].
        id: String,
        /// [`PersonRow::login`].
        login: String,
        /// ms.
        at: i64,
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
#[expect(clippy::large_enum_variant, reason = "the big ones are the common ones; each is moved once")]
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
    /// The attempts are counted, or the rows say why not (final, or as many attempts already).
    Began {
        /// As stored, in the order sent.
        rows: Vec<InputRow>,
        /// The transcript rows as stored, in the order sent.
        messages: Vec<MessageRow>,
        /// What an earlier attempt at the turn has come to already: answers and results of tools, in order.
        answers: Vec<MessageRow>,
    },
    /// The inputs have their outcome.
    Settled {
        /// As stored, with the first outcome, in the order sent.
        rows: Vec<InputRow>,
        /// Those of the sent messages that are stored, in the order sent.
        messages: Vec<MessageRow>,
    },
    /// The transcript row, and whether this operation wrote it.
    Appended(MessageRow, bool),
    /// One reply for each operation, in order.
    All(Vec<WriteReply>),
    /// How many visible rows the copy was made with.
    Copied(u64),
    /// Whether there was such a session.
    Deleted(bool),
    /// How many sessions changed.
    Count(u64),
    /// The session after the change.
    Session(SessionRecord),
    /// The request as it is stored.
    Approval(ApprovalRow),
    /// Which runs were not known yet.
    CronPlanned(Vec<String>),
    /// What a job keeps for itself, if it was as expected; what it is, otherwise.
    CronScratch(Result<ScratchRow, ScratchRow>),
    /// Nothing to say.
    Done,
}
