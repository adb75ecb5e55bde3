//! What is told of a turn's end, in the recorded order.

use super::{Origin, Turn, merge};
use crate::event::{Audience, Event};
use crate::sessions::blocks::{BlockStream, Mark};
use crate::sessions::outcome::{FailedCall, INTERRUPTED, Outcome, Status};
use crabtree_protocol::Event as Name;
use serde_json::{Value, json};

/// The `stopReason` of a turn whose session begins anew.
const BEGUN_ANEW: &str = "restart";

impl Turn {
    /// Everything that is told when the outcome is settled, in the recorded order.
    pub fn end(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        match outcome.status {
            Status::Ok => self.end_answered(outcome, now),
            Status::Aborted => self.end_aborted(outcome, now),
            Status::Error | Status::Timeout => self.end_failed(outcome, now),
        }
    }

    /// What is told before the last answer's row: the rest of the text, and the tokens.
    pub fn answered(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        self.take_over(outcome);
        self.is_whole = true;
        let mut events = self.flush(now);
        self.usage = outcome.usage;
        events.push(self.used(now));
        events
    }

    /// The outcome's text is what counts: a crash may have taken what the ledger knew of it.
    fn take_over(&mut self, outcome: &Outcome) {
        if self.reply.text() != outcome.text {
            self.reply = BlockStream::from(&*outcome.text);
            self.answer_at = Mark::default();
        }
    }

    /// The model has said nothing, and is asked again.
    pub fn begin_again(&mut self, now: i64) -> Vec<Event> {
        let finishing = json!({
            "phase": "finishing", "stopReason": "stop", "aborted": false, "livenessState": "working", "endedAt": now,
        });
        let mut events = vec![self.lifecycle(finishing, now)];
        events.extend(self.prepares_again(now));
        events
    }

    fn end_answered(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        let mut events = Vec::new();
        let mut finishing = json!({
            "phase": "finishing", "stopReason": outcome.stop_reason, "aborted": false, "livenessState": "working",
            "endedAt": outcome.ended_at,
        });
        if outcome.tools.external {
            finishing["replayInvalid"] = json!(true);
        }
        events.push(self.lifecycle(finishing, now));
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        events.push(self.lifecycle(
            json!({
                "phase": "end", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
                "stopReason": outcome.stop_reason, "aborted": false, "livenessState": "working",
                "replayInvalid": outcome.tools.external, "terminalReply": self.terminal_reply(outcome),
                "terminalReceipt": outcome.receipt(Some(&self.run_id)), "executionSettled": true,
            }),
            now,
        ));
        let mut last = json!({ "state": "final", "stopReason": outcome.stop_reason });
        if !self.reply.is_empty() {
            last["message"] = self.message(now);
        }
        let mut last = self.payload(last);
        if self.origin == Origin::Dispatched {
            dispatched(&mut last, outcome);
        }
        events.push(Event::new(Name::Chat, Audience::Turn(self.key.clone()), &last));
        events
    }

    /// What a reader sees in the end; with its blocks, if it is more than words.
    fn terminal_reply(&self, outcome: &Outcome) -> Value {
        let mut reply = outcome.reply();
        if self.reply.is_structured() {
            reply["blocks"] = json!(self.reply.trimmed().blocks(self.run_id.as_str()));
        }
        reply
    }

    fn end_aborted(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        self.take_over(outcome);
        if outcome.stop_reason == INTERRUPTED {
            return self.end_interrupted(outcome, now);
        }
        // What had not begun when it was aborted has no execution to settle.
        let began = self.seq > 0;
        let mut end = json!({
            "phase": "end", "aborted": true, "stopReason": outcome.stop_reason, "endedAt": outcome.ended_at,
        });
        if began {
            end["startedAt"] = json!(outcome.started_at);
        }
        if began && outcome.stop_reason == BEGUN_ANEW {
            end["executionSettled"] = json!(true);
            let model = self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now);
            return vec![model, self.lifecycle(end, now), self.aborted(outcome, now)];
        }
        end["status"] = json!("cancelled");
        self.seq += 1;
        let mut events = vec![self.aborted(outcome, now), self.agent("lifecycle", end, now)];
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

    /// As recorded where another message takes the turn's place, or its session goes.
    fn end_interrupted(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        let mut events = Vec::new();
        if self.seq > 0 {
            events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        }
        events.push(self.lifecycle(
            json!({
                "phase": "error", "startedAt": outcome.started_at, "endedAt": outcome.ended_at,
                "error": "Reply operation aborted by user", "aborted": true, "stopReason": INTERRUPTED,
                "executionSettled": true,
            }),
            now,
        ));
        events.push(self.aborted(outcome, now));
        events
    }

    fn aborted(&self, outcome: &Outcome, now: i64) -> Event {
        let mut aborted = json!({ "state": "aborted", "stopReason": outcome.stop_reason });
        if !self.reply.is_empty() {
            aborted["message"] = self.message(now);
        }
        self.chat(aborted)
    }

    fn end_failed(&mut self, outcome: &Outcome, now: i64) -> Vec<Event> {
        let text = outcome.error.as_deref().unwrap_or("The run failed.");
        let mut events = self.flush(now);
        let mut how = json!({ "error": text });
        if let Some(observed) = outcome.observed() {
            let more = json!({
                "errorObservation": observed, "aborted": false, "livenessState": "blocked",
                "endedAt": outcome.ended_at,
            });
            merge(&mut how, more);
        }
        if outcome.status == Status::Timeout {
            let more = json!({
                "startedAt": outcome.started_at, "endedAt": outcome.ended_at, "aborted": false,
                "timeoutPhase": "provider", "providerStarted": true, "livenessState": "paused",
                "replayInvalid": true, "terminalReply": outcome.reply(),
                "terminalReceipt": outcome.receipt(Some(&self.run_id)),
            });
            merge(&mut how, more);
        }
        let step = |how: &Value, phase: &str| {
            let mut step = json!({ "phase": phase });
            merge(&mut step, how.clone());
            step
        };
        // As recorded: what ran out of time finishes only for who waits for its answer.
        if outcome.status == Status::Error || self.origin == Origin::Agent {
            events.push(self.lifecycle(step(&how, "finishing"), now));
        }
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        if let Some(FailedCall { reason, position }) = outcome.failed {
            events.extend(self.fallback_step(reason, Some(position), None, now));
        }
        let mut error = step(&how, "error");
        let settled = json!({
            "startedAt": outcome.started_at, "endedAt": outcome.ended_at, "aborted": false, "executionSettled": true,
        });
        merge(&mut error, settled);
        events.push(self.lifecycle(error, now));
        events.push(self.chat(outcome.chat_error(text)));
        events
    }
}

/// The last event of a turn out of the queue, as recorded.
fn dispatched(last: &mut Value, outcome: &Outcome) {
    if let Value::Object(members) = last {
        members.remove("agentId");
    }
    if let Some(message) = last.get_mut("message") {
        message["text"] = message["content"][0]["text"].clone();
        message["stopReason"] = json!(outcome.stop_reason);
        message["usage"] = outcome.usage_json();
    }
}
