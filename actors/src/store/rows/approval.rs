//! Approvals and questions as Rust sees them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request that people decide on. Unique by `(kind, id)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRow {
    /// `exec`, `plugin` or `question`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Tells this request from another one with the same id.
    pub nonce: String,
    /// What is asked.
    pub request: Value,
    /// The client that asks; `None` for the gateway itself.
    pub requester: Option<Value>,
    /// ms.
    pub created_at: i64,
    /// ms.
    pub expires_at: i64,
    /// What became of it, present exactly when it is over.
    pub outcome: Option<Value>,
    /// When it was over, ms.
    pub resolved_at: Option<i64>,
}
