//! `diagnostics.*`: what a gateway knows of its own work.

use schemars::JsonSchema;
use serde::Deserialize;

use super::record;
use crate::value::{Int, Text};

/// Parameters of `diagnostics.stability`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StabilityParams {
    /// At most so many events, the latest.
    pub limit: Option<Int<1, 1000>>,
    /// Only those of this type.
    #[serde(rename = "type")]
    pub kind: Option<Text>,
    /// Only those after this one.
    pub since_seq: Option<Int>,
}

record! {
    /// Result of `diagnostics.lanes`.
    pub struct Lanes {
        /// ms.
        ts: i64,
        /// What runs side by side.
        lanes: Vec<Lane>,
    }
}

record! {
    /// Work of which so much runs side by side.
    pub struct Lane {
        /// Its name.
        lane: String,
        /// What waits.
        queued_count: u64,
        /// What runs.
        active_count: u64,
        /// What may run.
        max_concurrent: u64,
        /// Whether it takes nothing new.
        draining: bool,
        /// How often it was emptied by force.
        generation: u64,
        /// What it waits for.
        blocked_by: Option<String>,
    }
}
