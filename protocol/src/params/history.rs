//! Reading a chat back: pages, what came since, and what waits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{Metadata, ModelDefaults};
use super::messages::MessageRow;
use super::record;
use super::sessions::SessionRow;
use crate::ids::RunId;
use crate::value::{Int, List, Text};

/// Parameters of `chat.history`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryParams {
    /// The session.
    pub session_key: Text,
    /// The agent.
    pub agent_id: Option<Text>,
    /// Where the last answer ended; asks for what came since.
    pub cursor: Option<String>,
    /// At most so many rows; [`DEFAULT_HISTORY_LIMIT`] when absent.
    pub limit: Option<Int<1, 1000>>,
    /// Rows to skip, from the newest.
    pub offset: Option<Int>,
    /// Pending inputs before this one.
    pub pending_before: Option<Int<1>>,
    /// Submissions the client asks after.
    #[schemars(extend("uniqueItems" = true))]
    pub input_run_ids: Option<List<Text<256>, 1, MAX_INPUT_RUN_IDS>>,
    /// The row to show in its surroundings.
    pub message_id: Option<Text>,
    /// The id the session must have.
    pub session_id: Option<Text>,
    /// Longest text of a row, in characters.
    pub max_chars: Option<Int<1, 500_000>>,
    /// At most so many bytes.
    pub max_bytes: Option<Int<1>>,
}

/// Submissions a client may ask after at once.
pub const MAX_INPUT_RUN_IDS: usize = 50;
/// Most pending inputs in one answer.
pub const MAX_PENDING_INPUTS: u64 = 20;
/// Rows listed when `limit` is absent.
pub const DEFAULT_HISTORY_LIMIT: u64 = 200;

/// Parameters of `chat.startup`.
pub type StartupParams = HistoryParams;

/// Result of `chat.history` and `chat.startup`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HistoryResult {
    /// A page.
    Page(Box<History>),
    /// What came since the cursor.
    Delta(Box<HistoryDelta>),
    /// The cursor leads nowhere any more.
    Reset(HistoryReset),
}

record! {
    /// A page of a history.
    pub struct History {
        /// The rows, oldest first.
        messages: Vec<MessageRow>,
        /// The session.
        session_key: String,
        ; optional
        /// The session's id; absent for an unknown session.
        session_id: String,
        /// What tools did, by row.
        activity: Vec<Value>,
        /// What waits.
        pending_inputs: PendingInputs,
        /// What became of the submissions asked after.
        input_receipts: Vec<InputReceipt>,
        /// Those of them that stand in the transcript.
        input_consumptions: Vec<InputConsumption>,
        /// Where this answer ends.
        delta_cursor: String,
        /// Rows skipped.
        offset: u64,
        /// What to skip next.
        next_offset: u64,
        /// Whether there are older rows.
        has_more: bool,
        /// How many rows there are.
        total_messages: u64,
        /// What the session runs on unless told.
        defaults: ModelDefaults,
        /// The session.
        session_info: Box<SessionRow>,
        /// How hard it thinks.
        thinking_level: String,
        /// How much it tells.
        verbose_level: String,
        /// What runs.
        in_flight_run: InFlightRun,
        /// As `chat.metadata`; of `chat.startup`.
        metadata: Metadata,
    }
}

record! {
    /// What came since a cursor.
    pub struct HistoryDelta {
        /// Always `delta`.
        kind: String,
        /// Payloads of `session.message`, oldest first.
        messages: Vec<Value>,
        /// Where this answer ends.
        delta_cursor: String,
        /// The session.
        session_info: Box<SessionRow>,
        ; optional
        /// What waits.
        pending_inputs: PendingInputs,
        /// What became of the submissions asked after.
        input_receipts: Vec<InputReceipt>,
        /// Those of them that stand in the transcript.
        input_consumptions: Vec<InputConsumption>,
        /// What runs.
        in_flight_run: InFlightRun,
        /// As `chat.metadata`; of `chat.startup`.
        metadata: Metadata,
    }
}

record! {
    /// Tells a client to ask for a page: its cursor is not of this transcript, or too far back.
    pub struct HistoryReset {
        /// Always `reset`.
        kind: String,
    }
}

record! {
    /// What became of a submission.
    pub struct InputReceipt {
        /// The submission.
        run_id: RunId,
        /// `pending` or `consumed`.
        state: String,
        ; optional
        /// The row it became or became a part of.
        consumed_by_event_id: String,
    }
}

record! {
    /// A submission that stands in the transcript.
    pub struct InputConsumption {
        /// The submission.
        run_id: RunId,
        /// The row it became or became a part of.
        consumed_by_event_id: String,
    }
}

record! {
    /// What waits in a session.
    pub struct PendingInputs {
        /// The inputs, oldest first.
        items: Vec<PendingInput>,
        /// How many there are.
        total: u64,
        ; optional
        /// `pendingBefore` of the next answer; absent if there are no older ones.
        next_before: u64,
    }
}

record! {
    /// One input that waits.
    pub struct PendingInput {
        /// Its id, which becomes the id of its row.
        id: String,
        /// When it was accepted, in milliseconds since the epoch.
        accepted_at: u64,
        /// `queued`, `cancelled` or `interrupted`.
        state: String,
        /// What it says.
        message: MessageRow,
        ; optional
        /// The submission.
        run_id: RunId,
    }
}

record! {
    /// A run that has not ended.
    pub struct InFlightRun {
        /// The run.
        run_id: RunId,
        /// What it said so far.
        text: String,
        ; optional
        /// When it started, in milliseconds since the epoch.
        started_at: u64,
        /// Its `agent` events without text.
        events: Vec<Value>,
    }
}
