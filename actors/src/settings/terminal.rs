//! `gateway.terminal`: shells of operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `gateway.terminal`: whether operators may have shells on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TerminalSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// The program that runs in them; `$SHELL` when absent.
    pub shell: Option<String>,
    /// How long one goes on, in seconds, after the connection that opened it is gone.
    pub detached_session_timeout_seconds: u64,
}

impl Default for TerminalSettings {
    fn default() -> Self {
        Self { enabled: true, shell: None, detached_session_timeout_seconds: 300 }
    }
}
