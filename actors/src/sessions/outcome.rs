//! The one settled outcome of a run, as it is stored, and the answers made from it.

use super::run::Failed;
use super::turn::{ToolSummary, Turn};
use crate::agents::{Reason, Usage};
use crate::store::NewMessage;
use crabtree_protocol::{Refusal, RunId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// `stopReason` of a turn whose place another message takes, or whose session is deleted.
pub const INTERRUPTED: &str = "aborted";

/// What people are told of a run that took longer than it may; the words are recorded.
pub const TIMED_OUT: &str = "Request timed out before a response was generated. Please try again, or increase \
    `agents.defaults.timeoutSeconds` in your config.";

/// The transcript row of what the model has answered in this step; none if it has said nothing.
pub fn answer_row(turn: &Turn, usage: Usage, now: i64) -> Option<NewMessage> {
    let answer = turn.answer();
    let reason = if answer.calls().is_empty() { "stop" } else { "toolUse" };
    (!answer.is_empty()).then(|| row(turn, answer.content(), usage, reason, now))
}

fn row(turn: &Turn, content: Vec<Value>, usage: Usage, stop_reason: &str, now: i64) -> NewMessage {
    let (provider, model) = turn.model.clone().unwrap_or_default();
    NewMessage {
        id: Uuid::new_v4().to_string(),
        session_key: turn.key.to_string(),
        session_id: String::new(),
        parent: None,
        kind: "assistant".into(),
        idempotency_key: Some(format!("{}:assistant:{}", turn.run_id, turn.stage().step)),
        run_id: Some(turn.run_id.to_string()),
        hidden: false,
        message: json!({
            "role": "assistant",
            "content": content,
            "api": "crabtree",
            "provider": provider,
            "model": model,
            "usage": usage.told(),
            "stopReason": stop_reason,
            "timestamp": now,
        }),
        created_at: now,
    }
}

/// The content of a row in which the gateway itself answers.
pub fn gateway_message(text: &str, now: i64) -> Value {
    json!({
        "role": "assistant",
        "content": [{ "type": "text", "text": text }],
        "timestamp": now,
        "stopReason": "stop",
        "usage": Usage::default().told(),
        "api": "crabtree",
        "provider": "crabtree",
        "model": "gateway-injected",
    })
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// With an answer.
    Ok,
    /// Without one.
    Error,
    /// Somebody stopped it.
    Aborted,
    /// It took too long.
    Timeout,
}

impl Status {
    /// In a word, as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Aborted => "aborted",
            Self::Timeout => "timeout",
        }
    }
}

/// See the module. Written once, in the same commit as the answer's transcript row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The text the model wrote, possibly cut short.
    pub text: String,
    /// `stop`, `rpc`, `stop` by command, `restart` …
    pub stop_reason: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the run began, ms.
    pub started_at: i64,
    /// When it ended, ms.
    pub ended_at: i64,
    /// The model's provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Tokens of all its calls of the model.
    #[serde(default)]
    pub usage: Usage,
    /// Tokens of the last one.
    #[serde(default)]
    pub last: Usage,
    /// Tokens the model can keep in mind.
    #[serde(default)]
    pub context_tokens: u64,
    /// The session's id.
    pub session_id: String,
    /// The session's key.
    #[serde(default)]
    pub session_key: String,
    /// What tools have done for it.
    #[serde(default)]
    pub tools: ToolSummary,
    /// The call of a model that it failed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedCall>,
}

/// The last call of a model in a run that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCall {
    /// What kind of failure.
    pub reason: Reason,
    /// Which of the run's models it was, from 1.
    pub position: usize,
}

impl FailedCall {
    /// None if it came to no call.
    pub fn of(failed: &Failed) -> Option<Self> {
        Some(Self { reason: failed.failure.reason, position: failed.position? })
    }
}

/// `errorObservation`, `errorDetail`: what is known of a failed call.
pub fn observation(provider: &str, model: &str, reason: Reason) -> Value {
    json!({
        "provider": provider,
        "model": model,
        "failoverReason": reason.name(),
        "providerRuntimeFailureKind": reason.kind(),
    })
}

impl Outcome {
    /// The status of the session after it.
    pub fn session_status(&self) -> &'static str {
        match self.status {
            Status::Ok => "done",
            Status::Error => "failed",
            Status::Aborted => "killed",
            Status::Timeout => "timeout",
        }
    }

    /// `usage` in the recorded shape.
    pub fn usage_json(&self) -> Value {
        self.usage.told()
    }

    /// What is known of the call that it failed of.
    pub fn observed(&self) -> Option<Value> {
        let failed = self.failed.as_ref()?;
        Some(observation(&self.provider, &self.model, failed.reason))
    }

    /// The event that a run failed, in these words.
    pub fn chat_error(&self, text: &str) -> Value {
        let mut error = json!({ "state": "error", "errorMessage": text });
        let kind = match (self.status, self.failed.as_ref().map(|failed| failed.reason)) {
            (Status::Timeout, _) | (_, Some(Reason::Timeout)) => Some("timeout"),
            (_, Some(Reason::RateLimit)) => Some("rate_limit"),
            _ => None,
        };
        if let Some(kind) = kind {
            error["errorKind"] = json!(kind);
        }
        if let Some(observed) = self.observed() {
            error["errorDetail"] = observed;
        }
        error
    }

    /// The transcript row that ends the turn; none if there is nothing to keep. What was interrupted leaves
    /// nothing, as recorded.
    pub fn last_row(&self, turn: &Turn) -> Option<NewMessage> {
        match self.status {
            Status::Error => {
                let why = self.error.as_deref().unwrap_or("The run failed.");
                let text = format!("⚠️ {}\n\n{}", why.trim_start_matches("⚠️ "), turn.answer().text());
                let content = vec![json!({ "type": "text", "text": text.trim_end() })];
                let mut row = row(turn, content, self.last, "error", self.ended_at);
                let key = format!("{}:terminal-error", turn.run_id);
                row.message["idempotencyKey"] = json!(key);
                row.idempotency_key = Some(key);
                Some(row)
            }
            Status::Aborted if self.stop_reason == INTERRUPTED => None,
            Status::Aborted => {
                let mut row = answer_row(turn, self.last, self.ended_at)?;
                let origin = if self.stop_reason == "stop" { "stop-command" } else { &self.stop_reason };
                let key = format!("{}:assistant", turn.run_id);
                row.message["openclawAbort"] =
                    json!({ "aborted": true, "origin": origin, "runId": turn.run_id });
                row.message["idempotencyKey"] = json!(key);
                row.idempotency_key = Some(key);
                Some(row)
            }
            Status::Timeout => {
                let answer = turn.answer();
                let nothing = || vec![json!({ "type": "text", "text": "" })];
                let content = if answer.is_empty() { nothing() } else { answer.content() };
                let mut row = row(turn, content, self.last, "aborted", self.ended_at);
                row.message["errorMessage"] = json!("request timed out");
                Some(row)
            }
            Status::Ok => answer_row(turn, self.last, self.ended_at),
        }
    }

    /// The final response of the method `agent`: a payload, or a refusal with a payload beside it.
    pub fn agent_final(&self, run_id: &RunId) -> Result<Value, Box<(Refusal, Value)>> {
        match self.status {
            Status::Ok => Ok(json!({
                "runId": run_id,
                "status": "ok",
                "summary": "completed",
                "result": self.result(self.visible(), false),
            })),
            Status::Aborted => Ok(json!({
                "runId": run_id, "status": "timeout", "summary": "aborted", "stopReason": self.stop_reason,
            })),
            Status::Timeout => Ok(json!({
                "runId": run_id,
                "status": "timeout",
                "summary": "aborted",
                "timeoutPhase": "provider",
                "providerStarted": true,
                "result": self.result(TIMED_OUT, true),
            })),
            Status::Error => Err(Box::new(self.failure(run_id))),
        }
    }

    /// A failed run: the refusal and the payload beside it.
    pub fn failure(&self, run_id: &RunId) -> (Refusal, Value) {
        let summary = self.error.clone().unwrap_or_else(|| "The run failed.".into());
        let payload = json!({ "runId": run_id, "status": "error", "summary": summary });
        (Refusal::failed(summary), payload)
    }

    /// The text as clients see it; the transcript keeps it as it was written.
    fn visible(&self) -> &str {
        self.text.trim_end()
    }

    fn result(&self, text: &str, is_error: bool) -> Value {
        let mut payload = json!({ "text": text, "mediaUrl": null });
        if is_error {
            payload["isError"] = json!(true);
        }
        let used = self.usage;
        let mut result = json!({
            "payloads": [payload],
            "meta": {
                "durationMs": self.ended_at - self.started_at,
                "agentMeta": {
                    "sessionId": self.session_id,
                    "sessionFile": self.session_key,
                    "provider": self.provider,
                    "model": self.model,
                    "contextTokens": self.context_tokens,
                    "usage": {
                        "input": used.input, "output": used.output, "cacheRead": used.cache_read,
                        "cacheWrite": used.cache_write, "total": used.tokens(),
                        "cost": { "total": used.cost().total() },
                    },
                    "promptTokens": used.shown(),
                    "terminalReceipt": self.receipt(None),
                },
                "aborted": is_error,
            },
        });
        let ToolSummary { calls, tools, failures, .. } = &self.tools;
        if *calls > 0 {
            result["meta"]["toolSummary"] = json!({ "calls": calls, "tools": tools, "failures": failures });
        }
        result
    }

    /// `terminalReceipt`: what was asked for and what was done.
    pub fn receipt(&self, run_id: Option<&RunId>) -> Value {
        let named = json!({ "provider": self.provider, "model": self.model });
        let mut effective = named.clone();
        effective["responseModel"] = json!(self.model);
        let visible = if self.text.is_empty() { "not-visible" } else { "visible" };
        let mut receipt = json!({
            "sessionId": self.session_id,
            "requested": named,
            "effective": effective,
            "successfulToolNames": self.tools.successful,
            "rerouted": false,
            "terminalDisposition": visible,
        });
        if let Some(id) = run_id {
            receipt["runId"] = json!(id);
            receipt["turnId"] = json!(id);
        }
        receipt
    }

    /// `terminalReply`: what a reader of the end sees of the answer.
    pub fn reply(&self) -> Value {
        if self.text.is_empty() {
            json!({ "disposition": "empty" })
        } else {
            json!({ "disposition": "visible", "text": self.visible() })
        }
    }

    /// The answer of `agent.wait` for a settled run.
    pub fn waited(&self, run_id: &RunId) -> Value {
        let mut answer = json!({ "runId": run_id, "endedAt": self.ended_at });
        if self.status != Status::Aborted {
            answer["startedAt"] = json!(self.started_at);
        }
        match self.status {
            Status::Ok => {
                answer["status"] = json!("ok");
                answer["stopReason"] = json!(self.stop_reason);
                answer["livenessState"] = json!("working");
            }
            Status::Aborted => {
                answer["status"] = json!("error");
                if !self.model.is_empty() {
                    answer["error"] = json!("aborted");
                }
                answer["stopReason"] = json!(self.stop_reason);
            }
            Status::Timeout => {
                answer["status"] = json!("timeout");
                answer["error"] = json!(self.error);
                answer["livenessState"] = json!("paused");
                answer["timeoutPhase"] = json!("provider");
                answer["providerStarted"] = json!(true);
            }
            Status::Error => {
                answer["status"] = json!("error");
                answer["error"] = json!(self.error);
            }
        }
        if self.status != Status::Aborted {
            answer["terminalReceipt"] = self.receipt(Some(run_id));
            answer["terminalReply"] = self.reply();
        }
        answer
    }
}
