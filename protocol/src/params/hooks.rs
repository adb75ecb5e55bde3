//! Hooks: what programs elsewhere may tell agents.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::params::record;
use crate::value::Text;

/// Parameters of `hooks.status`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusParams {
    /// The agent whose workspace is meant; the default one when absent.
    pub agent_id: Option<Text>,
}

record! {
    /// Result of `hooks.status`.
    pub struct Status {
        /// The directory the agent works in.
        workspace_dir: String,
        /// Where OpenClaw keeps handlers of its own events.
        managed_hooks_dir: String,
        /// Those handlers, which are JavaScript: there are none here.
        hooks: Vec<Value>,
        /// What comes in over HTTP (ours).
        webhooks: Webhooks,
    }
}

record! {
    /// What comes in over HTTP.
    pub struct Webhooks {
        /// Whether anything does.
        enabled: bool,
        /// Below which path.
        path: String,
        /// Runs that have been asked for there and are not over.
        open: u64,
        /// What paths of one's own do, in order.
        mappings: Vec<MappingRow>,
        /// What is not as it is written.
        warnings: Vec<String>,
    }
}

record! {
    /// What a path does.
    pub struct MappingRow {
        /// What it is called.
        id: String,
        /// `wake` or `agent`.
        action: String,
        /// Whether it does: what has JavaScript does not.
        runs: bool,
        ; optional
        /// The path; any when absent.
        path: String,
        /// What `source` of a body says; anything when absent.
        source: String,
        /// The agent.
        agent_id: String,
    }
}
