//! How far a running turn has been told to the clients: the text so far, what of it was sent, and the
//! run's event counter. It lives in the Estate, so that a reborn session goes on where the last one stopped.

use super::outcome::{Outcome, Status};
use super::run::RunMsg;
use crate::event::{Audience, Event};
use crate::tree::Slot;
use crabtree_protocol::{Event as Name, RunId, SessionKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The running turns of all sessions.
#[derive(Default)]
pub struct Ledgers(Mutex<HashMap<RunId, Arc<Mutex<Turn>>>>);

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
        let payload = json!({
            "runId": self.run_id,
            "sessionKey": self.key,
            "sessionId": self.session_id,
            "agentId": self.key.agent_id(),
            "stream": stream,
            "data": data,
            "seq": self.seq,
            "ts": now,
            "isHeartbeat": false,
        });
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
        if self.told >= self.text.len() {
            return Vec::new();
        }
        self.seq += 1;
        let delta = &self.text[self.told..];
        let item = format!("{}:1", self.run_id);
        let agent = json!({ "text": self.text, "delta": delta, "itemId": item });
        let chat = json!({ "state": "delta", "deltaText": delta, "message": self.message(now) });
        self.told = self.text.len();
        vec![self.agent("assistant", agent, now).droppable(), self.chat(chat).droppable()]
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

    fn message(&self, now: i64) -> Value {
        json!({ "role": "assistant", "content": [{ "type": "text", "text": self.text }], "timestamp": now })
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
        events.push(self.lifecycle(
            json!({
                "phase": "error", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
                "error": text, "aborted": false, "executionSettled": true,
            }),
            now,
        ));
        let mut last = json!({ "state": "error", "errorMessage": text });
        if outcome.status == Status::Timeout {
            last["errorKind"] = json!("timeout");
        }
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
