//! Tasks: what agents do while nobody looks on.

use schemars::JsonSchema;
use serde::Deserialize;

use super::record;
use crate::value::{Int, Text, string_enum};

string_enum! {
    /// How far a task is.
    any_of pub enum TaskStatus {
        /// It waits.
        Queued = "queued",
        /// It is under way.
        Running = "running",
        /// It is done.
        Completed = "completed",
        /// It went wrong.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
        /// It took too long.
        TimedOut = "timed_out",
    }
}

string_enum! {
    /// In which order, the latest first.
    one_of pub enum TaskOrder {
        /// When something happened last.
        Updated = "updatedAt",
        /// When they ended.
        Ended = "endedAt",
    }
}

/// One or several.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TaskStatuses {
    /// One.
    One(TaskStatus),
    /// Several.
    Several(Vec<TaskStatus>),
}

/// Parameters of `tasks.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListParams {
    /// Only those that are so far.
    pub status: Option<TaskStatuses>,
    /// Only of this agent.
    pub agent_id: Option<Text>,
    /// Only of this session.
    pub session_key: Option<Text>,
    /// At most so many.
    pub limit: Option<Int<1, 500>>,
    /// Where the page begins, as the one before it said.
    pub cursor: Option<Text<512, 0>>,
    /// In which order.
    pub sort_by: Option<TaskOrder>,
}

/// Parameters of `tasks.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetParams {
    /// The task.
    pub task_id: Text,
}

/// Parameters of `tasks.cancel`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelParams {
    /// The task.
    pub task_id: Text,
    /// Why.
    pub reason: Option<String>,
}

record! {
    /// What is done of a task at this moment.
    pub struct Execution {
        /// `queued`, `running` or `finished`.
        state: String,
    }
}

record! {
    /// A task.
    pub struct Task {
        /// Its id.
        id: String,
        /// The same.
        task_id: String,
        /// `automation_run`: the run of a job.
        kind: String,
        /// Who does it: `cron`.
        runtime: String,
        /// How far it is.
        status: TaskStatus,
        /// What is done of it at this moment.
        execution: Execution,
        /// What people call it.
        title: String,
        /// The agent.
        agent_id: String,
        /// The session that asked for it; jobs belong to none.
        session_key: String,
        /// Whether `tasks.history` tells more.
        has_transcript: bool,
        /// Who hears how it ended; nobody.
        owner_key: String,
        /// The run.
        run_id: String,
        /// The job.
        source_id: String,
        /// ms.
        created_at: u64,
        /// ms.
        updated_at: u64,
        /// What it does, in words.
        progress_summary: String,
        /// `not_applicable`.
        delivery_status: String,
        ; optional
        /// When it began, ms.
        started_at: u64,
        /// When it was over, ms.
        ended_at: u64,
        /// What it came to.
        terminal_summary: String,
        /// What went wrong.
        error: String,
        /// What was to be done; of `tasks.get` only.
        prompt: String,
    }
}

record! {
    /// Result of `tasks.list`.
    pub struct Tasks {
        /// The tasks, the latest first.
        tasks: Vec<Task>,
        ; optional
        /// Where the next page begins, if there is one.
        next_cursor: String,
    }
}

record! {
    /// Result of `tasks.get`.
    pub struct GotTask {
        /// The task.
        task: Task,
    }
}

record! {
    /// Result of `tasks.cancel`.
    pub struct CancelledTask {
        /// Whether there is such a task.
        found: bool,
        /// Whether it ends now.
        cancelled: bool,
        ; optional
        /// Why not.
        reason: String,
        /// The task.
        task: Task,
    }
}
