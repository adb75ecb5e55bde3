//! What a run does: it says something in a session, waits for what comes of that, and tells people. All of it may be
//! done again after a crash: the input, and each message, is the same under the run's id.

use super::failing::{self, End, Incident, News};
use super::job::Job;
use super::tasks;
use crate::channels::{Fate, Target, Wish, send};
use crate::media::Uploads;
use crate::sessions::{Outcome, Saying, SessionMsg, SessionsMsg, Status, Submission, silence};
use crate::store::{CronOp, CronRunRow, EventRow, NewInput, Store, WriteOp};
use crate::tree::{Reply, Slot};
use crabtree_protocol::params::core::WakeMode;
use crabtree_protocol::params::cron::{Delivery, Payload};
use crabtree_protocol::params::tasks::TaskStatus;
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Whose inputs these are.
pub const SOURCE: &str = "cron";
/// Pause before it is tried again to reach a session.
const RETRY: Duration = Duration::from_secs(1);
/// Characters of an answer that are kept in the record.
const MAX_SUMMARY: usize = 2_000;
/// What is told of a run whose job was removed, as recorded.
pub(super) const REMOVED: &str = "Cron job removed by operator.";
/// What is told of a run that somebody ended.
pub(super) const CANCELLED: &str = "Cancelled by operator.";
/// Place in the backlog: after those who address the agent themselves.
const PRIORITY: i64 = 1;

/// A run on its way.
pub struct Errand {
    pub(super) store: Store,
    pub(super) sessions: Slot<SessionsMsg>,
    pub(super) row: CronRunRow,
    /// Why it is ended, if it is: nothing begins then.
    pub(super) ending: Option<&'static str>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What went wrong.
    pub error: Option<String>,
    /// What became of its answer: `delivered`, `not-delivered`, `unknown` or `not-requested`.
    pub delivery: String,
    /// What clients are told of it.
    pub entry: Value,
    /// What people were told of its failures, from then on; as before, without it.
    pub told: Option<Told>,
}

/// What people were told of a job's failures.
#[derive(Clone, Debug)]
pub enum Told {
    /// That it fails.
    Failing(Box<Incident>),
    /// That it is well.
    Well,
}

impl Ended {
    fn failed(why: impl Into<String>) -> Self {
        let why = why.into();
        let entry = json!({ "error": why, "completionStatus": "failed" });
        Self { error: Some(why), delivery: "not-requested".into(), entry, told: None }
    }
}

impl Errand {
    /// Does it.
    pub(super) async fn carry_out(self) -> Ended {
        let job = match Job::read(self.row.job.clone()) {
            Ok(job) => job,
            Err(e) => return Ended::failed(format!("the job cannot be read: {e}")),
        };
        let key = match self.session(&job) {
            Ok(key) => key,
            Err(e) => return Ended::failed(e),
        };
        if let (Payload::SystemEvent { text, .. }, WakeMode::NextHeartbeat) = (&job.payload, job.wake_mode) {
            return self.tell_later(&key, text).await;
        }
        let Some(outcome) = self.outcome(&job, &key).await else { return self.never_began() };
        let ended = self.concluded(&job, &key, outcome).await;
        self.alerted(&job, ended).await
    }

    /// Has people told that the job fails, or is well again, if they are to hear that.
    async fn alerted(&self, job: &Job, mut ended: Ended) -> Ended {
        let entry = &ended.entry;
        let end = match (&ended.error, entry["completionStatus"].as_str()) {
            // Who ended it knows.
            _ if self.ending.is_some() => return ended,
            (Some(why), _) => End::Failed(why),
            (None, Some("failed")) => End::Untold(entry["deliveryError"].as_str().unwrap_or_default()),
            (None, Some("succeeded")) => End::Well,
            (None, _) => return ended,
        };
        let config = self.store.estate.config.load_full();
        let general = config.settings.cron.failure_alert.as_ref();
        let Some(news) = failing::news(job, general, end, self.store.estate.clock.now_ms()) else {
            return ended;
        };
        let News { to, text, incident } = news;
        match self.tell(format!("alert-{}", self.row.run_id), job, &to, text).await {
            ("not-delivered", why) => ended.entry["failureAlertError"] = json!(why),
            _ => ended.told = Some(incident.map_or(Told::Well, |told| Told::Failing(Box::new(told)))),
        }
        ended
    }

    /// Where it works: each run of an isolated job in a session of its own.
    fn session(&self, job: &Job) -> Result<SessionKey, String> {
        let catalog = self.store.estate.catalog.load();
        let agent = job.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
        let named = match job.session_target.as_str() {
            "main" => catalog.main_key.clone(),
            "isolated" | "current" => {
                let kind = if self.row.manual { "run:manual" } else { "run" };
                format!("agent:{agent}:{}:{kind}:{}", job.own_session(), self.row.instant)
            }
            other => other.strip_prefix("session:").unwrap_or(other).to_owned(),
        };
        if catalog.agent(agent).is_none() {
            return Err(format!("there is no agent {agent} any more: change the job's agentId"));
        }
        SessionKey::canonical(&named, agent).map_err(|refusal| refusal.message)
    }

    /// The agent hears of it with its next heartbeat.
    async fn tell_later(&self, key: &SessionKey, text: &str) -> Ended {
        if self.ending.is_some() {
            return self.never_began();
        }
        let row = EventRow {
            id: self.row.run_id.clone(),
            session_key: key.to_string(),
            text: text.to_owned(),
            at: self.store.estate.clock.now_ms(),
            run_id: None,
        };
        match self.store.write(WriteOp::Cron(CronOp::Tell(row))).await {
            Ok(_) => {
                let entry = json!({ "summary": text, "completionStatus": "succeeded", "sessionKey": key });
                Ended { error: None, delivery: "not-requested".into(), entry, told: None }
            }
            Err(e) => Ended::failed(format!("the event was not stored: {e}")),
        }
    }

    /// What came of it; nothing, if it never began and its job is gone.
    async fn outcome(&self, job: &Job, key: &SessionKey) -> Option<Outcome> {
        let run_id = RunId::from(self.row.run_id.as_str());
        if self.ending.is_some() {
            self.stop(key, &run_id).await;
        }
        let saying = Saying {
            store: self.store.clone(),
            sessions: self.sessions.clone(),
            source: SOURCE,
            key: key.clone(),
            run_id: self.row.run_id.clone(),
        };
        saying.outcome(|| self.ending.is_none().then(|| self.submission(job, key))).await
    }

    /// Ends it where it works. What was said there before this is taken in first.
    async fn stop(&self, key: &SessionKey, run_id: &RunId) {
        loop {
            let (done, stopped) = Reply::oneshot();
            let abort = SessionMsg::Abort { run_id: Some(run_id.clone()), reason: "aborted", done };
            let sent = self.sessions.send(SessionsMsg::To(key.clone(), abort)).is_ok();
            if sent && stopped.await.is_ok() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn submission(&self, job: &Job, key: &SessionKey) -> Submission {
        let run_id = self.row.run_id.clone();
        let sender = json!({ "senderIsOwner": true, "automation": job.id });
        let mut body = json!({ "sender": sender });
        body["toolsAllow"] = json!(tools(&job.payload));
        let (kind, text) = match &job.payload {
            Payload::SystemEvent { text, .. } => ("wake", format!("System event: {}", text.as_str())),
            Payload::AgentTurn { message, model, thinking, timeout_seconds, .. } => {
                body["model"] = json!(model);
                body["thinking"] = json!(thinking);
                let limit = timeout_seconds.map(|seconds| (seconds.get() * 1_000.0) as u64);
                body["timeoutMs"] = json!(limit.filter(|ms| *ms > 0));
                ("agent", message.to_string())
            }
        };
        if let Some(members) = body.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        let input = NewInput {
            id: Uuid::now_v7().to_string(),
            source: SOURCE.into(),
            source_id: run_id.clone(),
            session_key: key.to_string(),
            digest: blake3::hash(format!("{key}\n{text}").as_bytes()).to_hex().to_string(),
            run_id,
            kind: kind.into(),
            text,
            body,
            created_at: self.store.estate.clock.now_ms(),
            priority: PRIORITY,
        };
        Submission { input, sender, uploads: Uploads::default(), responder: None, must_exist: false }
    }

    /// The record of an outcome; what is to be told to people has been handed over by then.
    async fn concluded(&self, job: &Job, key: &SessionKey, outcome: Outcome) -> Ended {
        let text = silence::told(outcome.text.trim(), true).to_owned();
        let error = match outcome.status {
            Status::Ok => None,
            Status::Aborted => Some(self.ending.unwrap_or("the run was stopped").to_owned()),
            Status::Timeout => Some("cron: job execution timed out".into()),
            Status::Error => Some(outcome.error.clone().unwrap_or_else(|| "the run failed".into())),
        };
        let mut entry = json!({
            "summary": cut(if job.is_event() && text.is_empty() { event_text(job) } else { &text }),
            "error": error, "sessionKey": key, "sessionId": outcome.session_id,
            "model": outcome.model, "provider": outcome.provider,
            "usage": {
                "input_tokens": outcome.usage.input, "output_tokens": outcome.usage.output,
                "total_tokens": outcome.usage.input + outcome.usage.output,
            },
        });
        let (mut delivery, mut completion) = ("not-requested", "succeeded");
        if error.is_some() {
            completion = "failed";
            let kind = json!([{ "ts": outcome.ended_at, "source": "agent-run", "severity": "error", "message": error }]);
            entry["diagnostics"] = json!({ "summary": error, "entries": kind });
        } else if job.announces() && text.is_empty() {
            (delivery, entry["deliverySuppressionReason"]) = ("not-delivered", json!("empty"));
        } else if let Some(wish) = job.delivery.as_ref().filter(|_| job.announces()) {
            let told = self.tell(self.row.run_id.clone(), job, wish, text).await;
            delivery = told.0;
            entry["deliveryError"] = json!(told.1);
            entry["delivered"] = json!(delivery == "delivered");
            completion = match (delivery, wish.best_effort) {
                ("delivered", _) | (_, Some(true)) => "succeeded",
                ("unknown", _) => "unknown",
                _ => "failed",
            };
        }
        entry["completionStatus"] = json!(completion);
        let entry = match outcome.status {
            Status::Timeout => tasks::saying(entry, TaskStatus::TimedOut),
            Status::Aborted => self.said(entry),
            Status::Ok | Status::Error => entry,
        };
        Ended { error, delivery: delivery.into(), entry, told: None }
    }

    fn never_began(&self) -> Ended {
        let ended = Ended::failed(self.ending.unwrap_or("it never began"));
        Ended { entry: self.said(ended.entry.clone()), ..ended }
    }

    /// An entry says so if it was somebody who ended the run.
    fn said(&self, entry: Value) -> Value {
        match self.ending {
            Some(CANCELLED) => tasks::saying(entry, TaskStatus::Cancelled),
            _ => entry,
        }
    }

    /// Tells people; what became of it, and why.
    async fn tell(
        &self,
        id: String,
        job: &Job,
        wish: &Delivery,
        text: String,
    ) -> (&'static str, Option<String>) {
        let target = match self.route(job, wish).await {
            Ok(target) => target,
            Err(why) => return ("not-delivered", Some(why)),
        };
        let wish = Wish {
            id,
            channel: target.channel,
            account: target.account,
            to: target.to.unwrap_or_default(),
            thread: target.thread,
            reply_to: None,
            text,
            files: Vec::new(),
        };
        match send(&self.store, wish).await {
            Ok(Fate::Sent(_)) => ("delivered", None),
            Ok(Fate::Waits) => {
                ("unknown", Some("the channel is not there: it goes out when it is back".into()))
            }
            Ok(Fate::Failed(why)) | Err(why) => ("not-delivered", Some(why)),
        }
    }

    /// The chat that is meant: the one that is named, or where the session of the job was spoken to last.
    async fn route(&self, job: &Job, wish: &Delivery) -> Result<Target, String> {
        let target = Target {
            channel: wish.channel.as_deref().map(str::to_owned),
            to: wish.to.as_deref().map(str::to_owned),
            account: wish.account_id.as_deref().map(str::to_owned),
            thread: wish.thread_id.as_ref().map(ToString::to_string),
        };
        let catalog = self.store.estate.catalog.load_full();
        let agent = job.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
        let named = job.session_key.as_deref().into_iter().chain([&*catalog.main_key]);
        let sessions: Vec<_> = named.filter_map(|key| SessionKey::canonical(key, agent).ok()).collect();
        target.whole(&self.store, &sessions).await
    }
}

/// The only tools it may use; none: all that its session may.
fn tools(payload: &Payload) -> Option<&[String]> {
    let (Payload::SystemEvent { tools_allow, .. } | Payload::AgentTurn { tools_allow, .. }) = payload;
    tools_allow.as_deref().filter(|tools| *tools != ["*"])
}

fn event_text(job: &Job) -> &str {
    match &job.payload {
        Payload::SystemEvent { text, .. } => text,
        Payload::AgentTurn { message, .. } => message,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_SUMMARY).collect()
}
