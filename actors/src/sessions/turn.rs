//! How far a running turn has been told to the clients: the text so far, what of it was sent, and the
//! run's event counter. It lives in the Estate, so that a reborn session goes on where the last one stopped.

use super::outcome::{Outcome, Status};
use super::run::RunMsg;
use crate::event::{Audience, Event};
use crate::tree::Slot;
use crabtree_protocol::{Event as Name, RunId, SessionKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The running turns of all sessions.
#[derive(Default)]
pub struct Ledgers(Mutex<BTreeMap<RunId, Arc<Mutex<Turn>>>>);

impl Ledgers {
    /// The turn of a run.
    pub fn get(&self, run_id: &RunId) -> Option<Arc<Mutex<Turn>>> {
        self.0.lock().get(run_id).cloned()
    }

    /// Enters a turn, unless it is there already; returns the one that is.
    pub fn open(&self, turn: Turn) -> Arc<Mutex<Turn>> {
        self.0.lock().entry(turn.run_id.clone()).or_insert_with(|| Arc::new(Mutex::new(turn))).clone()
    }

    /// The turn has been told to its end.
    pub fn close(&self, run_id: &RunId) {
        self.0.lock().remove(run_id);
    }

    /// The turns of one session.
    pub fn of(&self, key: &SessionKey) -> Vec<Arc<Mutex<Turn>>> {
        self.0.lock().values().filter(|t| t.lock().key == *key).cloned().collect()
    }

    /// How many turns are running or being told.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Keys of the sessions with a running turn, and the run.
    pub fn active(&self) -> HashMap<SessionKey, RunId> {
        let turns = self.0.lock();
        turns
            .values()
            .map(|t| {
                let turn = t.lock();
                (turn.key.clone(), turn.run_id.clone())
            })
            .collect()
    }
}

/// See the module.
pub struct Turn {
    /// The run.
    pub run_id: RunId,
    /// The session.
    pub key: SessionKey,
    /// The session's id.
    pub session_id: String,
    /// Asked for with `chat.send`; those turns are told their phases, too.
    pub by_chat: bool,
    /// The address of the run's actor.
    pub run: Slot<RunMsg>,
    /// Everything the model wrote.
    pub text: String,
    /// When it began, ms.
    pub started_at: i64,
    /// Provider and name of the model, once known.
    pub model: Option<(String, String)>,
    /// Name of the actor that runs it, among the session's children.
    pub child: Arc<str>,
    /// Whether the transcript row of what was asked has been told.
    pub asked: bool,
    seq: u64,
    told: usize,
}

impl Turn {
    /// A turn that has not begun.
    pub fn new(run_id: RunId, key: SessionKey, session_id: String, by_chat: bool, now: i64) -> Self {
        let child = run_id.as_str().into();
        Self {
            run_id,
            key,
            session_id,
            by_chat,
            run: Slot::default(),
            text: String::new(),
            started_at: now,
            model: None,
            child,
            asked: false,
            seq: 0,
            told: 0,
        }
    }

    fn chat(&self, rest: Value) -> Event {
        let mut payload = json!({
            "runId": self.run_id, "sessionKey": self.key, "agentId": self.key.agent_id(), "seq": self.seq,
        });
        merge(&mut payload, rest);
        Event::new(Name::Chat, Audience::Turn(self.key.clone()), &payload)
    }

    fn agent(&self, stream: &str, data: Value, now: i64) -> Event {
        let mut payload = json!({
            "runId": self.run_id,
            "sessionKey": self.key,
            "sessionId": self.session_id,
            "agentId": self.key.agent_id(),
            "stream": stream,
            "data": data,
            "seq": self.seq,
            "ts": now,
        });
        if self.by_chat {
            payload["isHeartbeat"] = json!(false);
        }
        Event::new(Name::Agent, Audience::Turn(self.key.clone()), &payload)
    }

    /// Enters a phase of the preparation.
    pub fn phase(&mut self, phase: &str, now: i64) -> Vec<Event> {
        self.seq += 1;
        let mut events = Vec::new();
        if self.by_chat {
            events.push(self.chat(json!({ "state": "status", "phase": phase })).droppable());
        }
        events.push(self.agent("run_status", json!({ "phase": phase }), now).droppable());
        events
    }

    /// Tells a step of the run's life.
    pub fn lifecycle(&mut self, data: Value, now: i64) -> Event {
        self.seq += 1;
        self.agent("lifecycle", data, now)
    }

    /// The text that has not been told yet, if there is any.
    pub fn flush(&mut self, now: i64) -> Vec<Event> {
        let seen = self.visible().len();
        if self.told >= seen {
            return Vec::new();
        }
        self.seq += 1;
        let delta = &self.text[self.told..seen];
        let item = format!("{}:1", self.run_id);
        let agent = json!({ "text": self.visible(), "delta": delta, "itemId": item });
        let chat = json!({ "state": "delta", "deltaText": delta, "message": self.message(now) });
        let agent = self.agent("assistant", agent, now).adding(&format!("agent {item}"), "delta", delta);
        let chat = self.chat(chat).adding(&format!("chat {item}"), "deltaText", delta);
        self.told = seen;
        vec![agent.droppable(), chat.droppable()]
    }

    /// The run starts over: what was told of its text is taken back.
    pub fn restart(&mut self, now: i64) -> Vec<Event> {
        if std::mem::take(&mut self.text).is_empty() && self.told == 0 {
            return Vec::new();
        }
        self.told = 0;
        self.seq += 1;
        let chat = json!({
            "state": "delta", "deltaText": "", "replace": true, "message": self.message(now),
        });
        vec![self.chat(chat)]
    }

    /// Takes over what its run reports; text that was told and is not the run's is taken back.
    pub fn report(&mut self, model: Option<(String, String)>, text: String, now: i64) -> Vec<Event> {
        let stands = text.get(..self.told).is_some_and(|told| self.text.starts_with(told));
        let events = if stands { Vec::new() } else { self.restart(now) };
        (self.model, self.text) = (model.or(self.model.take()), text);
        events
    }

    /// The text as clients see it: white space at its end waits for the word that follows.
    fn visible(&self) -> &str {
        self.text.trim_end()
    }

    /// What of the text the clients have been told.
    pub fn told(&self) -> &str {
        self.text.get(..self.told).unwrap_or_default()
    }

    fn message(&self, now: i64) -> Value {
        let text = self.visible();
        json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "timestamp": now })
    }

    /// Everything that is told when the outcome is settled, in the recorded order.
    pub fn end(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        match outcome.status {
            Status::Ok => self.end_answered(outcome, now),
            Status::Aborted => self.end_aborted(outcome, now),
            Status::Error | Status::Timeout => self.end_failed(outcome, now),
        }
    }

    fn end_answered(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        self.text.clone_from(&outcome.text);
        let mut events = self.flush(now);
        events.push(self.lifecycle(
            json!({
                "phase": "finishing", "stopReason": outcome.stop_reason, "aborted": false,
                "livenessState": "working", "endedAt": outcome.ended_at,
            }),
            now,
        ));
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        events.push(self.lifecycle(
            json!({
                "phase": "end", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
                "stopReason": outcome.stop_reason, "aborted": false, "livenessState": "working",
                "replayInvalid": false, "terminalReply": outcome.reply(),
                "terminalReceipt": outcome.receipt(Some(&self.run_id)), "executionSettled": true,
            }),
            now,
        ));
        let mut last = json!({ "state": "final", "stopReason": outcome.stop_reason });
        if !self.text.is_empty() {
            last["message"] = self.message(now);
        }
        events.push(self.chat(last));
        events
    }

    fn end_aborted(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        self.text.clone_from(&outcome.text);
        // What had not begun when it was aborted has no execution to settle.
        let began = self.seq > 0;
        self.seq += 1;
        let mut aborted = json!({ "state": "aborted", "stopReason": outcome.stop_reason });
        if !self.text.is_empty() {
            aborted["message"] = self.message(now);
        }
        let mut events = vec![self.chat(aborted)];
        events.push(self.agent(
            "lifecycle",
            json!({
                "phase": "end", "status": "cancelled", "aborted": true, "stopReason": outcome.stop_reason,
                "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
            }),
            now,
        ));
        if !began {
            return events;
        }
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        events.push(self.lifecycle(
            json!({
                "phase": "error", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
                "error": "This operation was aborted", "aborted": true, "stopReason": "aborted",
                "executionSettled": true,
            }),
            now,
        ));
        events
    }

    fn end_failed(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        let text = outcome.error.as_deref().unwrap_or("The run failed.");
        let mut events = self.flush(now);
        events.push(self.lifecycle(json!({ "phase": "finishing", "error": text }), now));
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        let mut error = json!({
            "phase": "error", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
            "error": text, "aborted": false, "executionSettled": true,
        });
        let mut last = json!({ "state": "error", "errorMessage": text });
        if outcome.status == Status::Timeout {
            let how = json!({
                "timeoutPhase": "provider", "providerStarted": true, "livenessState": "paused",
                "terminalReply": outcome.reply(), "terminalReceipt": outcome.receipt(Some(&self.run_id)),
            });
            merge(&mut error, how);
            last["errorKind"] = json!("timeout");
        }
        events.push(self.lifecycle(error, now));
        events.push(self.chat(last));
        events
    }
}

/// Adds the members of `more` to the object `into`.
pub(super) fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
