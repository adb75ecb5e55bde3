//! `logging.audit`: the ledger of who did what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `logging.audit`: the ledger of who did what. Read whenever something is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AuditSettings {
    /// Whether anything is written down from now on; what was stays until it is too old.
    pub enabled: bool,
    /// Rows that are kept; past them the oldest go.
    pub max_rows: u64,
    /// How long a row is kept, days.
    pub max_days: u32,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { enabled: true, max_rows: 100_000, max_days: 30 }
    }
}

impl AuditSettings {
    /// When the oldest row that is kept was written, ms.
    pub fn since(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.max_days).saturating_mul(24 * 60 * 60 * 1000))
    }
}
