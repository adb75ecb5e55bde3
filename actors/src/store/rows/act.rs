//! Rows of the ledger of acts as Rust sees them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What somebody did, as it is written down: names and ids, never what was said, no secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Act {
    /// When, ms. Stored beside the rest.
    #[serde(skip)]
    pub at: i64,
    /// `operator_act`, `agent_run` or `tool_action`.
    pub kind: String,
    /// A method, or `agent.run.started` and the like.
    pub action: String,
    /// What it came to: `started`, `succeeded`, `failed`, `cancelled`, `timed_out`, `blocked`, `unknown`.
    pub status: String,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `operator`, `node`, `channel_sender`, `agent` or `system`.
    pub actor_type: String,
    /// Which.
    pub actor_id: String,
    /// More about who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Value>,
    /// What it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Value>,
    /// The same in the rows of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// A fingerprint of its call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct ActRow {
    /// Its place, from 1 without gaps.
    pub sequence: i64,
    /// What was done.
    pub act: Act,
    /// Of this row and, through it, of all before.
    pub hash: [u8; 32],
}

/// How much of the ledger is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditKeep {
    /// At most so many rows.
    pub rows: u64,
    /// What is older than this, ms, goes.
    pub since: i64,
}

/// What a commit adds to the ledger, beside what its own operations tell.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditBatch {
    /// In this order.
    pub acts: Vec<Act>,
    /// What is kept.
    pub keep: AuditKeep,
    /// Now, ms.
    pub at: i64,
}

/// Somebody who was named by those who are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonRow {
    /// Its id.
    pub id: String,
    /// How it is called there; `None` for whoever holds the gateway's secret.
    pub login: Option<String>,
    /// When it was seen first, ms.
    pub created_at: i64,
}
