//! Nodes as Rust sees them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A device that is a node: what of it is approved, and what it asks for. It goes with its device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its device.
    pub node_id: String,
    /// When its device asked to be paired, ms: tells this pairing from another one of the same device. A row of
    /// another pairing is not stored.
    pub paired_at: i64,
    /// When its device was approved, ms; the device's, so not stored.
    pub device_approved_at: i64,
    /// Whether its device was paired without asking anybody; the device's, so not stored.
    pub device_silent: bool,
    /// What people call it, if they gave it a name.
    pub display_name: Option<String>,
    /// Who it said it is.
    pub described: Value,
    /// What is approved.
    pub approved: Option<Value>,
    /// What it asks for.
    pub request: Option<Value>,
    /// How its machine was.
    pub host_stats: Option<Value>,
    /// When something was approved first, ms.
    pub created_at: Option<i64>,
    /// When something was approved last, ms.
    pub approved_at: Option<i64>,
    /// When it connected last, ms.
    pub last_connected_at: Option<i64>,
    /// When it was seen last, ms.
    pub last_seen_at: Option<i64>,
    /// Why it was seen.
    pub last_seen_reason: Option<String>,
}
