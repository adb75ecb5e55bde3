//! What clients and agents want of jobs.

use super::changing::{Change, Step};
use super::entry::{Entry, LATE_MS};
use super::job::{Job, JobState};
use super::schedule::{Timetable, instant};
use super::{Answer, Cron, shown};
use crate::store::CronRunState;
use crate::tree::Reply;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::cron::{
    AddParams, ListParams, Patch, Ran, Removed, RunMode, Schedule, Status,
};
use crabtree_protocol::value::{Maybe, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Jobs there may be; the next one is refused.
pub const MAX_JOBS: usize = 1_000;
/// Longest definition of one, bytes.
const MAX_BYTES: usize = 256 * 1024;

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A new job, or another one under its declaration key.
    Add(Box<AddParams>),
    /// A job is different.
    Update {
        /// Which.
        id: String,
        /// How.
        patch: Box<Patch>,
        /// What it has to be like.
        expected: Option<String>,
    },
    /// A job is no more.
    Remove(String),
    /// A job runs now.
    Run {
        /// Which.
        id: String,
        /// Whether.
        mode: RunMode,
    },
    /// A run ends.
    Cancel(String),
    /// The jobs.
    List(Box<ListParams>),
    /// One job.
    Get(String),
    /// How it is.
    Status,
}

impl Cron {
    /// Answers what can be answered at once; the rest waits for its turn.
    pub(super) fn asked(&mut self, ask: Ask, reply: Reply<Answer>) {
        let answer = match &ask {
            Ask::List(params) => {
                let catalog = self.args.store.estate.catalog.load();
                told(&shown::list(self.jobs.values(), &catalog.default_agent().id, params))
            }
            Ask::Get(id) => {
                self.jobs.get(id).map(|entry| shown::job(&entry.job)).ok_or_else(|| Refusal::no_cron_job(id))
            }
            Ask::Status => told(&self.status()),
            _ => return self.steps.push_back(Step::Ask(ask, reply)),
        };
        reply.send(answer);
    }

    fn status(&self) -> Status {
        let estate = &self.args.store.estate;
        let path = estate.db.load().as_ref().and_then(|db| Some(db.path()?.display().to_string()));
        let path = path.unwrap_or_else(|| "memory".into());
        let enabled = self.settings().enabled;
        Status {
            enabled,
            triggers_enabled: false,
            store_path: path.clone(),
            storage: "sqlite".into(),
            sqlite_path: path,
            jobs: self.jobs.len() as u64,
            next_wake_at_ms: self.next_due().filter(|_| enabled).map(|next| next.max(0).unsigned_abs()),
        }
    }

    /// What it changes, and the answer.
    pub(super) fn change_asked(&mut self, ask: Ask, now: i64) -> Result<(Change, Value), Refusal> {
        match ask {
            Ask::Add(params) => self.add(*params, now),
            Ask::Update { id, patch, expected } => self.update(&id, *patch, expected.as_deref(), now),
            Ask::Remove(id) => self.remove(&id, now),
            Ask::Run { id, mode } => self.run(&id, mode, now),
            Ask::Cancel(run_id) => self.cancel(&run_id, now),
            Ask::List(_) | Ask::Get(_) | Ask::Status => Err(Refusal::failed("answered at once")),
        }
    }

    fn add(&self, params: AddParams, now: i64) -> Result<(Change, Value), Refusal> {
        if params.trigger.is_some() || params.pacing.is_some() {
            return Err(Refusal::invalid_params(
                "cron.add",
                "trigger and pacing are not there: leave them out",
            ));
        }
        let key = params.declaration_key.as_deref().map(str::to_owned);
        let known = key
            .as_ref()
            .and_then(|key| self.jobs.values().find(|entry| entry.job.declaration_key.as_ref() == Some(key)));
        if known.is_none() && self.jobs.len() >= MAX_JOBS {
            let why = format!("there are {MAX_JOBS} jobs already: remove one first");
            return Err(Refusal::invalid_request(why));
        }
        let mut job = declared(params, now);
        job.complete(now);
        let Some(known) = known else {
            self.check("cron.add", &job, now)?;
            let mut entry = Entry::new(job, now);
            entry.activate(now);
            let answer = match key {
                Some(_) => json!({
                    "created": true, "job": shown::job(&entry.job), "deliveryPreview": shown::preview(&entry.job),
                }),
                None => shown::added(&entry.job),
            };
            return Ok((put(entry, "added"), answer));
        };
        let before = &known.job;
        let mut same = Job {
            id: before.id.clone(),
            created_at_ms: before.created_at_ms,
            updated_at_ms: before.updated_at_ms,
            state: before.state.clone(),
            rest: before.rest.clone(),
            ..job
        };
        let is_same_schedule = is_same(&before.schedule, &same.schedule);
        if is_same_schedule {
            same.schedule = before.schedule.clone();
        }
        let updated = same != *before;
        let mut entry = known.clone();
        entry.job = same;
        let mut change = Change::default();
        if updated {
            entry.job.updated_at_ms = now;
            self.check("cron.add", &entry.job, now)?;
            if !is_same_schedule || entry.job.enabled != before.enabled {
                reactivated(&mut entry, now);
            }
            change = put(entry.clone(), "updated");
        }
        let answer = json!({
            "created": false, "updated": updated, "job": shown::job(&entry.job),
            "deliveryPreview": shown::preview(&entry.job),
        });
        Ok((change, answer))
    }

    fn update(
        &self,
        id: &str,
        patch: Patch,
        expected: Option<&str>,
        now: i64,
    ) -> Result<(Change, Value), Refusal> {
        let before = self.jobs.get(id).ok_or_else(|| Refusal::no_automation(id))?;
        if expected.is_some_and(|expected| expected != before.job.revision()) {
            return Err(Refusal::cron_job_changed(id));
        }
        let mut entry = before.clone();
        patched(&mut entry.job, patch, now)?;
        entry.job.updated_at_ms = now;
        self.check("cron.update", &entry.job, now)?;
        let again = entry.job.enabled && !before.job.enabled;
        if again {
            let state = &mut entry.job.state;
            (state.consecutive_errors, state.auto_disabled) = (Some(0), None);
            state.rest.insert("scheduleErrorCount".into(), json!(0));
        }
        if again || entry.job.schedule != before.job.schedule || entry.job.enabled != before.job.enabled {
            reactivated(&mut entry, now);
        }
        let answer = shown::job(&entry.job);
        Ok((put(entry, "updated"), answer))
    }

    fn remove(&self, id: &str, now: i64) -> Result<(Change, Value), Refusal> {
        let entry = self.jobs.get(id).ok_or_else(|| Refusal::no_automation(id))?;
        let mut change = Change::default();
        change.remove(id);
        change.events.push(shown::event("removed", &entry.job, None));
        for row in self.open.values().filter(|row| row.job_id == id) {
            match row.state {
                CronRunState::Running => change.stop.push(row.clone()),
                _ => change.moved(row.clone().skipped("the job was removed", now)),
            }
        }
        let pending = (!change.stop.is_empty()).then(|| "pending".to_owned());
        Ok((change, told(&Removed { ok: true, removed: true, session_cleanup: pending })?))
    }

    fn run(&mut self, id: &str, mode: RunMode, now: i64) -> Result<(Change, Value), Refusal> {
        let entry = self.jobs.get(id).ok_or_else(|| Refusal::no_automation(id))?;
        let boot = self.args.store.estate.boot.boot_id.to_string();
        let idle = |reason: &str| Ran {
            ok: true,
            process_instance_id: boot.clone(),
            enqueued: None,
            run_id: None,
            ran: Some(false),
            reason: Some(reason.to_owned()),
        };
        let busy = self.open.values().any(|row| row.job_id == id);
        let due = entry.job.state.next_run_at_ms.is_some_and(|next| next <= now);
        let reason = match mode {
            _ if busy => Some("already-running"),
            RunMode::Due if !due => Some("not-due"),
            RunMode::IfEnabled if !entry.job.enabled => Some("disabled"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Ok((Change::default(), told(&idle(reason))?));
        }
        self.asked_runs += 1;
        let row = entry.manual(now, self.asked_runs);
        let answer = Ran { enqueued: Some(true), run_id: Some(row.run_id.clone()), ran: None, ..idle("") };
        let mut change = Change::default();
        change.plan(vec![row]);
        Ok((change, told(&Ran { reason: None, ..answer })?))
    }

    /// Whether a job can be what it says.
    fn check(&self, method: &str, job: &Job, now: i64) -> Result<(), Refusal> {
        let invalid = |why: String| Refusal::invalid_params(method, why);
        job.check().map_err(invalid)?;
        Timetable::of(&job.id, &job.schedule, job.created_at_ms).map_err(invalid)?;
        if job.written().to_string().len() > MAX_BYTES {
            return Err(invalid(format!("a job is at most {MAX_BYTES} bytes")));
        }
        let catalog = self.args.store.estate.catalog.load();
        if let Some(agent) = job.agent_id.as_deref().filter(|agent| catalog.agent(agent).is_none()) {
            return Err(Refusal::unknown_agent_id(agent));
        }
        match &job.schedule {
            Schedule::At { at } if job.enabled => match instant(at).filter(|at| *at < now - LATE_MS) {
                Some(at) => Err(Refusal::cron_past(
                    &shown::iso(at).unwrap_or_default(),
                    (now - at) / 60_000,
                    &shown::iso(now).unwrap_or_default(),
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn told(answer: &impl Serialize) -> Answer {
    serde_json::to_value(answer).map_err(|e| Refusal::failed(e.to_string()))
}

/// The job is stored as it is here, and operators hear of it.
fn put(entry: Entry, action: &str) -> Change {
    let mut change = Change::default();
    change.events.push(shown::event(action, &entry.job, None));
    change.put(entry);
    change
}

/// Its schedule holds from now on.
fn reactivated(entry: &mut Entry, now: i64) {
    entry.job.state.schedule_activated_at_ms = Some(now);
    entry.activate(now);
}

/// Whether two schedules mean the same: an interval that does not say from when it is counted means no other one.
fn is_same(before: &Schedule, now: &Schedule) -> bool {
    match (before, now) {
        (Schedule::Every { every_ms: a, .. }, Schedule::Every { every_ms: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

fn declared(params: AddParams, now: i64) -> Job {
    let text = |maybe: Maybe<Text>| maybe.as_option().flatten().map(|text| text.to_string());
    let (agent_id, session_key) = (text(params.agent_id), text(params.session_key));
    let session_target = placed(params.session_target.into_string(), session_key.as_deref());
    Job {
        id: Uuid::new_v4().to_string(),
        declaration_key: params.declaration_key.map(String::from),
        display_name: params.display_name.map(String::from),
        owner: params.owner.map(Value::Object),
        agent_id,
        session_key,
        name: params.name.into_string(),
        description: params.description,
        enabled: params.enabled.unwrap_or(true),
        delete_after_run: params.delete_after_run,
        created_at_ms: now,
        updated_at_ms: now,
        schedule: params.schedule,
        session_target,
        wake_mode: params.wake_mode,
        payload: params.payload,
        delivery: params.delivery,
        failure_alert: params.failure_alert,
        state: JobState::default(),
        scheduled_tool_policy: None,
        rest: Map::new(),
    }
}

/// `current` is the session the job comes from.
fn placed(target: String, session_key: Option<&str>) -> String {
    match (target.as_str(), session_key) {
        ("current", Some(key)) => format!("session:{key}"),
        ("current", None) => "isolated".into(),
        _ => target,
    }
}

fn patched(job: &mut Job, patch: Patch, now: i64) -> Result<(), Refusal> {
    if matches!(patch.trigger, Maybe::Value(_)) || matches!(patch.pacing, Maybe::Value(_)) {
        return Err(Refusal::invalid_params(
            "cron.update",
            "trigger and pacing are not there: leave them out",
        ));
    }
    let text = |into: &mut Option<String>, maybe: Option<Option<String>>| {
        if let Some(value) = maybe {
            *into = value;
        }
    };
    text(&mut job.display_name, patch.display_name.as_option().map(|text| text.map(|text| text.to_string())));
    text(&mut job.agent_id, patch.agent_id.as_option().map(|text| text.map(|text| text.to_string())));
    text(&mut job.session_key, patch.session_key.as_option().map(|text| text.map(|text| text.to_string())));
    text(&mut job.description, patch.description.map(Some));
    job.name = patch.name.map_or_else(|| job.name.clone(), String::from);
    job.enabled = patch.enabled.unwrap_or(job.enabled);
    job.delete_after_run = patch.delete_after_run.or(job.delete_after_run);
    job.wake_mode = patch.wake_mode.unwrap_or(job.wake_mode);
    if let Some(target) = patch.session_target {
        job.session_target = placed(target.into_string(), job.session_key.as_deref());
    }
    if let Some(schedule) = patch.schedule {
        job.schedule = schedule;
    }
    if let Some(alert) = patch.failure_alert.as_option() {
        job.failure_alert = alert.cloned();
    }
    if let Some(payload) = patch.payload {
        job.payload = merged("payload", json!(job.payload), payload)?;
    }
    if let Some(delivery) = patch.delivery {
        let before = job.delivery.as_ref().map_or_else(|| json!({ "mode": "announce" }), |now| json!(now));
        job.delivery = Some(merged("delivery", before, delivery)?);
    }
    if let Some(state) = patch.state {
        job.state = merged("state", json!(job.state), state)?;
    }
    let delivery = job.delivery.clone();
    job.complete(now);
    if job.is_event() {
        job.delivery = delivery;
    }
    Ok(())
}

/// Members of an object replaced; of another kind of payload all of it.
fn merged<T: DeserializeOwned>(what: &str, before: Value, patch: Map<String, Value>) -> Result<T, Refusal> {
    let mut members = match before {
        Value::Object(members) if patch.get("kind").is_none_or(|kind| Some(kind) == members.get("kind")) => {
            members
        }
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            members.shift_remove(&name);
        } else {
            members.insert(name, value);
        }
    }
    serde_json::from_value(Value::Object(members))
        .map_err(|e| Refusal::invalid_params("cron.update", format!("at /patch/{what}: {e}")))
}
