//! Refusals of the methods about jobs with a schedule, and about tasks.

use serde_json::json;

use super::Refusal;

/// What OpenClaw adds for people who do not find a job.
const HINT: &str = "List automations and retry with a current job id. For cross-session management, use a fresh \
    authenticated configured channel owner or Control UI administrator turn or the Automations page.";

impl Refusal {
    /// No such job, when one is read.
    pub fn no_cron_job(id: &str) -> Self {
        Self::job_not_found("cron job not found", id)
    }

    /// No such job, when one is changed.
    pub fn no_automation(id: &str) -> Self {
        Self::job_not_found("Automation not found", id)
    }

    fn job_not_found(what: &str, id: &str) -> Self {
        let details = json!({ "code": "CRON_JOB_NOT_FOUND", "jobId": id });
        Self::invalid_request(format!("{what}: {id}. {HINT}")).with_details(details)
    }

    /// The job is not the one the client knows any more.
    pub fn cron_job_changed(id: &str) -> Self {
        let details = json!({ "code": "CRON_JOB_CHANGED", "jobId": id });
        Self::invalid_request(format!("cron job changed meanwhile: {id}. Read it again and retry."))
            .with_details(details)
    }

    /// A job that would be due once, and that time has passed.
    pub fn cron_past(at: &str, minutes: i64, now: &str) -> Self {
        Self::invalid_request(format!(
            "schedule.at is in the past: {at} ({minutes} minutes ago). Current time: {now}"
        ))
    }

    /// No such task.
    pub fn no_task(id: &str) -> Self {
        Self::invalid_request(format!("task not found: {id}"))
    }

    /// No page of tasks begins there.
    pub fn no_task_cursor() -> Self {
        Self::invalid_request("invalid or expired tasks.list cursor; restart pagination without a cursor")
    }

    /// The process is another one than the client knows.
    pub fn other_process() -> Self {
        Self::invalid_request("the gateway was restarted meanwhile: look at the job again and retry")
    }
}
