//! A job, as OpenClaw writes it: what is not known here is kept as it is.

use super::failing::{self, Incident};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crabtree_protocol::params::core::WakeMode;
use crabtree_protocol::params::cron::{Delivery, DeliveryMode, Payload, Schedule};
use crabtree_protocol::value::Int;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// What an agent does, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Whoever declares it again under this changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration_key: Option<String>,
    /// What people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Value>,
    /// The agent that does it; the one that answers when nobody is named, without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The session it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// What people call it.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is on.
    #[serde(default = "on")]
    pub enabled: bool,
    /// Whether it goes once it has run well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_run: Option<bool>,
    /// ms.
    pub created_at_ms: i64,
    /// ms.
    pub updated_at_ms: i64,
    /// When.
    pub schedule: Schedule,
    /// Where it works.
    pub session_target: String,
    /// When an event reaches the agent.
    pub wake_mode: WakeMode,
    /// What it does.
    pub payload: Payload,
    /// Where what it came to goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Who hears of failures; `false`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_alert: Option<Value>,
    /// What became of it so far.
    #[serde(default)]
    pub state: JobState,
    /// Who decided what it may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_tool_policy: Option<Value>,
    /// What else stands there.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn on() -> bool {
    true
}

/// What became of a job so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobState {
    /// When it is due next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at_ms: Option<i64>,
    /// Since when its schedule holds, if that was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_activated_at_ms: Option<i64>,
    /// Since when it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_at_ms: Option<i64>,
    /// When it ran last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at_ms: Option<i64>,
    /// What that came to: `ok`, `error` or `skipped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_duration_ms: Option<i64>,
    /// What became of what it came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_status: Option<String>,
    /// Why that did not go out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delivery_error: Option<String>,
    /// How often it has failed since it last did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<u64>,
    /// How often it was skipped since it last ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_skipped: Option<u64>,
    /// What people were told of its failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_incident: Option<Incident>,
    /// It failed too often and was turned off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_disabled: Option<Value>,
    /// What else stands there.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Job {
    /// The job in a stored or written row.
    ///
    /// # Errors
    /// What is wrong with it: a kind of schedule or payload that this gateway does not have, a member that is missing.
    pub fn read(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    /// As it is stored, and as clients are told of it.
    pub fn written(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The session of its own that it works in, however often it does: `cron:<id>`.
    pub fn own_session(&self) -> String {
        format!("cron:{}", self.id)
    }

    /// Whether what it does is told to the agent where people talk with it.
    pub fn is_event(&self) -> bool {
        matches!(self.payload, Payload::SystemEvent { .. })
    }

    /// Whether what it came to goes to people.
    pub fn announces(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.mode == DeliveryMode::Announce)
    }

    /// What is left out when it is written as OpenClaw's clients send it: an interval is counted from `now`, what runs
    /// once goes when it has, and what an agent does alone is told to people and may use every tool.
    pub fn complete(&mut self, now: i64) {
        if let Schedule::Every { anchor_ms: anchor @ None, .. } = &mut self.schedule {
            *anchor = Int::new(now.max(0).unsigned_abs());
        }
        if matches!(self.schedule, Schedule::At { .. }) {
            self.delete_after_run.get_or_insert(true);
        }
        if let Payload::AgentTurn { tools_allow, .. } = &mut self.payload {
            tools_allow.get_or_insert_with(|| vec!["*".into()]);
            self.scheduled_tool_policy.get_or_insert_with(|| json!({ "version": 1, "mode": "trusted" }));
            self.delivery.get_or_insert_with(Delivery::announce);
        }
    }

    /// What stands against it, in OpenClaw's words where it has some.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<(), String> {
        let target = self.session_target.as_str();
        if !matches!(target, "main" | "isolated" | "current") && !target.starts_with("session:") {
            return Err("cron sessionTarget must be main, isolated, current or session:<key>".into());
        }
        if target == "main" && !self.is_event() {
            return Err("main cron jobs require payload.kind=\"systemEvent\" or \"script\"".into());
        }
        if target != "main" && self.is_event() {
            return Err(
                "isolated cron jobs require payload.kind=\"agentTurn\", \"command\", or \"script\"; \
                script payloads do not support current/session targets"
                    .into(),
            );
        }
        let failures = self.delivery.as_ref().and_then(|delivery| delivery.failure_destination.as_ref());
        for wanted in self.failure_alert.iter().chain(failures) {
            failing::read(wanted)?;
        }
        match &self.delivery {
            Some(delivery) if delivery.mode == DeliveryMode::Webhook => {
                Err("delivery.mode \"webhook\" is not there: use announce, or none".into())
            }
            Some(delivery) if self.is_event() && delivery.mode == DeliveryMode::Announce => {
                Err("cron channel delivery config is only supported for sessionTarget=\"isolated\"".into())
            }
            _ => Ok(()),
        }
    }

    /// Tells this definition from another one: what becomes of the job changes nothing.
    pub fn revision(&self) -> String {
        let mut written = self.written();
        if let Some(members) = written.as_object_mut() {
            for name in ["state", "updatedAtMs"] {
                members.shift_remove(name);
            }
        }
        revision(&written)
    }
}

/// A hash of a value as the wire has it.
pub fn revision(value: &Value) -> String {
    format!("sha256:{}", URL_SAFE_NO_PAD.encode(Sha256::digest(value.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As recorded, with what this gateway does not know.
    fn recorded() -> Value {
        json!({
            "id": "48918144", "name": "every1", "description": "d", "enabled": true,
            "createdAtMs": 1795138738921_i64, "updatedAtMs": 1795138738921_i64,
            "schedule": { "kind": "every", "everyMs": 3_600_000, "anchorMs": 1795138738921_i64 },
            "sessionTarget": "isolated", "wakeMode": "next-heartbeat",
            "payload": { "kind": "agentTurn", "message": "do it", "timeoutSeconds": 60, "toolsAllow": ["*"] },
            "delivery": { "mode": "none" },
            "state": { "nextRunAtMs": 1795142338921_i64, "triggerEvalCount": 3 },
            "scheduledToolPolicy": { "version": 1, "mode": "trusted" },
            "pacing": { "min": "15m" },
        })
    }

    #[test]
    fn a_recorded_job_is_read_and_written_as_it_is() {
        let job = Job::read(recorded()).unwrap();
        assert_eq!(job.written(), recorded());
        assert_eq!(job.check(), Ok(()));
    }

    #[test]
    fn what_this_gateway_does_not_have_is_refused_by_name() {
        let with = |at: &str, part: Value| {
            let mut job = recorded();
            job[at] = part;
            Job::read(job).unwrap_err()
        };
        assert!(with("payload", json!({ "kind": "command", "argv": ["ls"] })).contains("command"));
        assert!(with("payload", json!({ "kind": "heartbeat" })).contains("heartbeat"));
        assert!(with("schedule", json!({ "kind": "on-exit", "command": "ls" })).contains("on-exit"));
    }

    #[test]
    fn what_a_client_leaves_out_is_completed_as_recorded() {
        let mut job = Job::read(recorded()).unwrap();
        (job.delivery, job.scheduled_tool_policy) = (None, None);
        job.schedule = serde_json::from_value(json!({ "kind": "every", "everyMs": 5 })).unwrap();
        job.payload = serde_json::from_value(json!({ "kind": "agentTurn", "message": "m" })).unwrap();
        job.complete(77);
        let written = job.written();
        assert_eq!(written["schedule"]["anchorMs"], 77);
        assert_eq!(written["payload"]["toolsAllow"], json!(["*"]));
        assert_eq!(written["delivery"], json!({ "mode": "announce" }));
        assert_eq!(written["scheduledToolPolicy"]["mode"], "trusted");
        job.schedule = serde_json::from_value(json!({ "kind": "at", "at": "2030-01-01" })).unwrap();
        job.complete(77);
        assert_eq!(job.delete_after_run, Some(true));
    }

    #[test]
    fn where_a_job_works_decides_what_it_may_do() {
        let mut job = Job::read(recorded()).unwrap();
        job.session_target = "main".into();
        assert_eq!(
            job.check().unwrap_err(),
            "main cron jobs require payload.kind=\"systemEvent\" or \"script\""
        );
        job.payload = serde_json::from_value(json!({ "kind": "systemEvent", "text": "x" })).unwrap();
        assert_eq!(job.check(), Ok(()));
        job.session_target = "isolated".into();
        assert!(job.check().is_err());
        job.session_target = "elsewhere".into();
        assert!(job.check().unwrap_err().contains("sessionTarget"));
    }

    #[test]
    fn the_revision_is_of_the_definition_alone() {
        let job = Job::read(recorded()).unwrap();
        let ran = Job { state: JobState::default(), updated_at_ms: 1, ..job.clone() };
        let other = Job { name: "another".into(), ..job.clone() };
        assert_eq!(job.revision(), ran.revision());
        assert_ne!(job.revision(), other.revision());
    }
}
