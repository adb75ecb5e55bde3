//! What of jobs and of their runs is listed, and in which order.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::value::{Int, Text, string_enum};

string_enum! {
    /// Which jobs.
    any_of pub enum EnabledFilter {
        /// All.
        All = "all",
        /// Those that are on.
        Enabled = "enabled",
        /// The others.
        Disabled = "disabled",
    }
}

string_enum! {
    /// In which order jobs are listed.
    any_of pub enum SortBy {
        /// The one that is due next first.
        NextRun = "nextRunAtMs",
        /// By the last change.
        Updated = "updatedAtMs",
        /// By name.
        Name = "name",
    }
}

string_enum! {
    /// Which way round.
    any_of pub enum SortDir {
        /// The smallest first.
        Asc = "asc",
        /// The largest first.
        Desc = "desc",
    }
}

/// Parameters of `cron.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParams {
    /// Those that are off, too.
    pub include_disabled: Option<bool>,
    /// At most so many; all when absent.
    pub limit: Option<Int<1, 200>>,
    /// So many are left out.
    pub offset: Option<Int>,
    /// Only those with this in their name, description, agent or what they do.
    pub query: Option<String>,
    /// Only these; stronger than `includeDisabled`.
    pub enabled: Option<EnabledFilter>,
    /// Only with this kind of schedule, or `all`.
    pub schedule_kind: Option<String>,
    /// Only whose last run came to this; `unknown` if there was none; or `all`.
    pub last_run_status: Option<String>,
    /// Only `conditional` or `unconditional` ones, or `all`.
    pub trigger: Option<String>,
    /// In which order.
    pub sort_by: Option<SortBy>,
    /// Which way round.
    pub sort_dir: Option<SortDir>,
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// In short.
    pub compact: Option<bool>,
    /// With where their ends go.
    pub include_delivery_previews: Option<bool>,
}

string_enum! {
    /// Whose runs.
    any_of pub enum RunScope {
        /// One job's.
        Job = "job",
        /// All.
        All = "all",
    }
}

/// Parameters of `cron.runs`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunsParams {
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Whose.
    pub scope: Option<RunScope>,
    /// The job.
    pub id: Option<Text>,
    /// The same.
    pub job_id: Option<Text>,
    /// Only this run.
    pub run_id: Option<Text>,
    /// At most so many; 50 when absent.
    pub limit: Option<Int<1, 200>>,
    /// So many are left out.
    pub offset: Option<Int>,
    /// Only those that came to one of these.
    pub statuses: Option<Vec<String>>,
    /// The same, for one; or `all`.
    pub status: Option<String>,
    /// Only whose delivery came to one of these.
    pub delivery_statuses: Option<Vec<String>>,
    /// The same, for one.
    pub delivery_status: Option<String>,
    /// Only those with this in them.
    pub query: Option<String>,
    /// Which way round; the latest first when absent.
    pub sort_dir: Option<SortDir>,
}
