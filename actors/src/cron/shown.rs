//! Jobs and records as clients are told of them.

use super::entry::Entry;
use super::job::{Job, revision};
use crate::store::{CronRunRow, CronRunState};
use chrono::{DateTime, SecondsFormat, Utc};
use crabtree_protocol::params::cron::{DeliveryMode, EnabledFilter, Jobs, ListParams, SortBy, SortDir};
use serde_json::{Value, json};

/// Records on a page, unless fewer are asked for (as recorded).
pub const PAGE: u64 = 50;

/// A job as `cron.get` and its like answer it.
pub fn job(job: &Job) -> Value {
    let mut shown = job.written();
    shown["configRevision"] = json!(job.revision());
    if let Some(next) = job.state.next_run_at_ms {
        shown["nextRunAtMs"] = json!(next);
    }
    shown
}

/// The same with where its end goes, as `cron.add` answers it.
pub fn added(job_of: &Job) -> Value {
    let mut shown = job(job_of);
    shown["deliveryPreview"] = preview(job_of);
    shown
}

/// Where what a job comes to goes, for people to read.
pub fn preview(job: &Job) -> Value {
    let Some(delivery) = job.delivery.as_ref().filter(|delivery| delivery.mode != DeliveryMode::None) else {
        return json!({ "label": "not requested", "detail": "not requested" });
    };
    let channel = delivery.channel.as_deref().unwrap_or("last");
    match (&delivery.to, channel) {
        (Some(to), channel) => {
            json!({ "label": format!("announce -> {channel}:{}", to.as_str()), "detail": "explicit" })
        }
        (None, "last") => {
            json!({ "label": "announce -> last", "detail": "where the main session was spoken to last" })
        }
        (None, channel) => {
            let label = format!("announce -> {channel}");
            json!({ "label": label, "detail": "where the main session was spoken to last on it" })
        }
    }
}

/// The event `cron`.
pub fn event(action: &str, job: &Job, run: Option<&CronRunRow>) -> Value {
    let mut event = json!({ "jobId": job.id, "action": action, "job": job.written() });
    if let Some(run) = run.filter(|run| run.state.is_final()) {
        let entry = entry(run);
        for name in [
            "status",
            "completionStatus",
            "summary",
            "error",
            "deliveryStatus",
            "deliveryError",
            "durationMs",
        ] {
            if let Some(value) = entry.get(name) {
                event[name] = value.clone();
            }
        }
        event["sessionKey"] = entry.get("sessionKey").cloned().unwrap_or_default();
    }
    if let Some(run) = run {
        event["runAtMs"] = json!(run.started_at.unwrap_or(run.instant));
        event["runId"] = json!(run.run_id);
    }
    if let Some(next) = job.state.next_run_at_ms.filter(|_| action != "removed" && action != "started") {
        event["nextRunAtMs"] = json!(next);
    }
    if let Some(members) = event.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    event
}

/// A record as `cron.runs` answers it.
pub fn entry(run: &CronRunRow) -> Value {
    let began = run.started_at.unwrap_or(run.instant);
    let end = run.ended_at.unwrap_or(began);
    let mut shown = json!({
        "ts": end, "jobId": run.job_id, "action": "finished", "status": run.status, "runId": run.run_id,
        "runAtMs": began, "durationMs": if run.state == CronRunState::Run { (end - began).max(0) } else { 0 },
        "deliveryStatus": run.delivery_status, "jobName": run.job["name"],
        // Ours: when it was due, and what became of that.
        "dueAtMs": run.instant, "fate": run.state.as_str(),
    });
    if let (Some(into), Some(more)) = (shown.as_object_mut(), run.entry.as_object()) {
        into.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
        into.retain(|_, value| !value.is_null());
    }
    super::tasks::unsaid(&mut shown);
    shown
}

/// A page of the jobs.
pub fn list<'a>(jobs: impl Iterator<Item = &'a Entry>, default_agent: &str, params: &ListParams) -> Jobs {
    let agent = |job: &Job| job.agent_id.clone().unwrap_or_else(|| default_agent.to_owned());
    let mut found: Vec<&Job> =
        jobs.map(|entry| &entry.job).filter(|job| is_wanted(job, &agent(job), params)).collect();
    match params.sort_by.unwrap_or(SortBy::NextRun) {
        SortBy::NextRun => {
            found.sort_by_key(|job| (job.state.next_run_at_ms.unwrap_or(i64::MAX), job.created_at_ms))
        }
        SortBy::Updated => found.sort_by_key(|job| job.updated_at_ms),
        SortBy::Name => found.sort_by_key(|job| job.name.to_lowercase()),
    }
    if params.sort_dir == Some(SortDir::Desc) {
        found.reverse();
    }
    let whole: Vec<Value> =
        found.iter().map(|job| json!([job.id, job.updated_at_ms, job.state.next_run_at_ms])).collect();
    let total = found.len() as u64;
    // Without a limit all are told, and a limit is never nothing (as recorded).
    let limit = params.limit.map_or(total.max(1), |n| n.get());
    let offset = params.offset.map_or(0, |n| n.get());
    let is_compact = params.compact == Some(true);
    let page: Vec<&Job> = found.into_iter().skip(offset as usize).take(limit as usize).collect();
    let shown = |one: &&Job| {
        let mut shown = if is_compact { compact(one) } else { job(one) };
        shown["effectiveAgentId"] = json!(agent(one));
        shown
    };
    let previews = || page.iter().map(|job| (job.id.clone(), preview(job))).collect();
    let next = offset + page.len() as u64;
    Jobs {
        jobs: page.iter().map(shown).collect(),
        snapshot_revision: revision(&json!(whole)),
        total,
        offset,
        limit,
        has_more: next < total,
        next_offset: (next < total).then_some(next),
        delivery_previews: (!is_compact && params.include_delivery_previews != Some(false)).then(previews),
    }
}

fn is_wanted(job: &Job, agent: &str, params: &ListParams) -> bool {
    let is_on = match params.enabled {
        Some(EnabledFilter::All) => true,
        Some(EnabledFilter::Enabled) => job.enabled,
        Some(EnabledFilter::Disabled) => !job.enabled,
        None => job.enabled || params.include_disabled == Some(true),
    };
    let is = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted == "all" || wanted == found)
    };
    let has = |words: &str| {
        let text = json!([job.name, job.display_name, job.description, job.payload, agent]).to_string();
        text.to_lowercase().contains(&words.trim().to_lowercase())
    };
    is_on
        && is(&params.schedule_kind, job.schedule.kind())
        && is(&params.last_run_status, job.state.last_run_status.as_deref().unwrap_or("unknown"))
        && is(&params.trigger, "unconditional")
        && params.agent_id.as_deref().is_none_or(|wanted| wanted == agent)
        && params.query.as_deref().is_none_or(has)
}

fn compact(job: &Job) -> Value {
    let state = &job.state;
    json!({
        "id": job.id, "name": job.name, "updatedAtMs": job.updated_at_ms, "enabled": job.enabled,
        "nextRunAt": state.next_run_at_ms.and_then(iso), "nextRunAtMs": state.next_run_at_ms,
        "scheduleKind": job.schedule.kind(), "schedule": job.schedule,
        "lastRunAt": state.last_run_at_ms.and_then(iso), "lastRunAtMs": state.last_run_at_ms,
        "lastRunStatus": state.last_run_status, "lastRunError": state.last_error,
    })
}

/// A time as JavaScript writes it.
pub fn iso(ms: i64) -> Option<String> {
    Some(DateTime::<Utc>::from_timestamp_millis(ms)?.to_rfc3339_opts(SecondsFormat::Millis, true))
}
