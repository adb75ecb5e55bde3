//! Runs of jobs as tasks: how clients are told of them, and how one is ended.

use super::changing::Change;
use super::{Cron, errand};
use crate::event::{Audience, Event};
use crate::store::{CronRunRow, CronRunState};
use crabtree_protocol::params::tasks::{CancelledTask, Execution, Task, TaskStatus};
use crabtree_protocol::{Refusal, Scope};
use serde_json::{Value, json};

/// What a record says of itself that was ended otherwise than by its work.
const SAID: &str = "taskStatus";
/// What everybody reads while a run goes on, and after it (as recorded).
const PROGRESS: &str = "Running automation.";
/// Why nothing was cancelled (as recorded).
const UNKNOWN: &str = "Task not found.";
const OVER: &str = "Task is already terminal.";

/// Whether a record is a task, and how far it is.
pub fn status(run: &CronRunRow) -> Option<TaskStatus> {
    if let Some(said) = run.entry[SAID].as_str() {
        return TaskStatus::from_name(said);
    }
    match (run.state, run.status.as_deref()) {
        (CronRunState::Due, _) => Some(TaskStatus::Queued),
        (CronRunState::Running, _) => Some(TaskStatus::Running),
        (CronRunState::Run, Some("ok")) => Some(TaskStatus::Completed),
        (CronRunState::Run, _) => Some(TaskStatus::Failed),
        (CronRunState::Missed | CronRunState::Skipped, _) => None,
    }
}

/// The entry of a record that says so of itself.
pub(super) fn saying(mut entry: Value, status: TaskStatus) -> Value {
    entry[SAID] = json!(status.name());
    entry
}

/// The same without that, for those who are told of it otherwise.
pub(super) fn unsaid(entry: &mut Value) {
    if let Some(members) = entry.as_object_mut() {
        members.shift_remove(SAID);
    }
}

/// Why the work of a record is ended, if it is.
pub(super) fn ending(run: &CronRunRow, gone: bool) -> Option<&'static str> {
    match run.entry[SAID] == TaskStatus::Cancelled.name() {
        true => Some(errand::CANCELLED),
        false => gone.then_some(errand::REMOVED),
    }
}

/// A record as a task.
pub fn task(run: &CronRunRow, default_agent: &str) -> Option<Task> {
    let status = status(run)?;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let ms = |at: i64| at.max(0).unsigned_abs();
    let state = match run.state {
        CronRunState::Due => "queued",
        CronRunState::Running => "running",
        _ => "finished",
    };
    let is_over = run.state.is_final();
    Some(Task {
        id: run.run_id.clone(),
        task_id: run.run_id.clone(),
        kind: "automation_run".into(),
        runtime: "cron".into(),
        status,
        execution: Execution { state: state.into() },
        title: text(&run.job["name"]).unwrap_or_default(),
        agent_id: text(&run.job["agentId"]).unwrap_or_else(|| default_agent.to_owned()),
        session_key: String::new(),
        has_transcript: false,
        owner_key: String::new(),
        run_id: run.run_id.clone(),
        source_id: run.job_id.clone(),
        created_at: ms(run.instant),
        updated_at: ms(run.ended_at.or(run.started_at).unwrap_or(run.instant)),
        progress_summary: PROGRESS.into(),
        delivery_status: "not_applicable".into(),
        started_at: run.started_at.map(ms),
        ended_at: run.ended_at.map(ms),
        terminal_summary: text(&run.entry["summary"])
            .filter(|_| is_over && run.status.as_deref() == Some("ok")),
        error: text(&run.entry["error"]).filter(|_| is_over),
        prompt: None,
    })
}

impl Cron {
    /// Ends a task; one that does not run yet never does.
    pub(super) fn cancel(&self, id: &str, now: i64) -> Result<(Change, Value), Refusal> {
        let answer = |found, cancelled, reason: Option<&str>, task| {
            let reason = reason.map(str::to_owned);
            serde_json::to_value(CancelledTask { found, cancelled, reason, task })
                .map_err(|e| Refusal::failed(e.to_string()))
        };
        let Some(row) = self.open.get(id) else {
            return Ok((Change::default(), answer(false, false, Some(UNKNOWN), None)?));
        };
        let mut change = Change::default();
        let mut row = row.clone();
        if row.state == CronRunState::Due {
            row = row.skipped(errand::CANCELLED, now);
        }
        // Written down before anything is ended: whoever is reborn ends it, too.
        row.entry = saying(row.entry, TaskStatus::Cancelled);
        let shown = task(&row, &self.default_agent());
        change.moved(row);
        Ok((change, answer(true, true, None, shown)?))
    }

    fn default_agent(&self) -> String {
        self.args.store.estate.catalog.load().default_agent().id.clone()
    }

    /// Operators hear what became of a task.
    pub(super) fn tell_task(&self, run: &CronRunRow) {
        if run.state == CronRunState::Due {
            return;
        }
        if let Some(task) = task(run, &self.default_agent()) {
            let told = json!({ "action": "upserted", "task": task });
            let event = Event::new(crabtree_protocol::Event::Task, Audience::Scope(Scope::Read), &told);
            self.args.store.estate.conns.publish(event.droppable());
        }
    }
}

/// What is answered about a task that is over: it is not open, and may be known to the store.
pub fn over(run: Option<&CronRunRow>, default_agent: &str) -> CancelledTask {
    let task = run.and_then(|run| task(run, default_agent));
    let reason = if task.is_some() { OVER } else { UNKNOWN };
    CancelledTask { found: task.is_some(), cancelled: false, reason: Some(reason.into()), task }
}
