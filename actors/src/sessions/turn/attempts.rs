//! What is told of attempts that fail, and of those that follow, in the recorded order.

use super::{Origin, Turn};
use crate::agents::{Failure, Reason};
use crate::event::Event;
use crate::sessions::outcome::observation;
use crate::sessions::run::{Failed, Retry};
use serde_json::json;

impl Turn {
    /// A model is asked; text told before is void.
    pub fn asks(&mut self, provider: String, model: String, now: i64) -> Vec<Event> {
        let mut events = self.restart(now);
        if std::mem::take(&mut self.failed) {
            events.extend(self.prepares_again(now));
        }
        events.push(self.lifecycle(json!({ "phase": "model", "provider": provider, "model": model }), now));
        self.model = Some((provider, model));
        events
    }

    /// The preparation of an attempt after the first.
    pub(super) fn prepares_again(&mut self, now: i64) -> Vec<Event> {
        let is_told = self.origin != Origin::Agent;
        let mut events = if is_told { self.phase("preparing_context", now) } else { Vec::new() };
        events.push(self.lifecycle(json!({ "phase": "start", "startedAt": now }), now));
        if is_told {
            events.extend(self.phase("starting_model", now));
        }
        events
    }

    /// The model did not answer, and is asked again in a while.
    pub fn retrying(&mut self, retry: &Retry, now: i64) -> Vec<Event> {
        let Retry { number, most, delay, ref failure } = *retry;
        let mut events = self.fails(failure, now);
        let (attempt, reason) = (number + 1, failure.reason.name());
        let mut chat = json!({ "state": "status", "phase": "starting_model" });
        if failure.reason == Reason::RateLimit {
            chat["retry"] = json!({ "attempt": attempt, "maxAttempts": most + 2, "reason": reason });
        }
        let seconds = delay.as_secs_f64().ceil();
        let message = format!("Provider temporarily unavailable. Retrying in {seconds}s ({number}/{most}).");
        let run = json!({
            "phase": "retrying",
            "message": message,
            "retryAttempt": number,
            "maxRetries": most,
            "delayMs": delay.as_millis() as u64,
            "attempt": attempt,
            "maxAttempts": most + 1,
            "reason": reason,
        });
        events.extend(self.status(chat, run, now));
        events
    }

    /// The model did not answer, and the next one takes its place.
    pub fn falls_back(&mut self, failed: &Failed, next: &str, now: i64) -> Vec<Event> {
        let mut events = self.fails(&failed.failure, now);
        events.push(self.lifecycle(json!({ "phase": "model", "provider": null, "model": null }), now));
        events.extend(self.fallback_step(failed.failure.reason, failed.position, Some(next), now));
        events
    }

    fn fails(&mut self, failure: &Failure, now: i64) -> Vec<Event> {
        self.failed = true;
        let mut events = self.flush(now);
        let mut finishing = json!({ "phase": "finishing", "error": failure.text });
        if let Some((provider, model)) = &self.model {
            finishing["errorObservation"] = observation(provider, model, failure.reason);
            finishing["aborted"] = json!(false);
            finishing["livenessState"] = json!("blocked");
            finishing["endedAt"] = json!(now);
        }
        events.push(self.lifecycle(finishing, now));
        events
    }

    /// The model at this place among the run's has failed for good; `next` is asked, if there is one.
    pub(super) fn fallback_step(
        &mut self,
        reason: Reason,
        position: Option<usize>,
        next: Option<&str>,
        now: i64,
    ) -> Option<Event> {
        let (provider, model) = self.model.as_ref()?;
        let mut step = json!({
            "phase": "fallback_step",
            "fallbackStepType": "fallback_step",
            "fallbackStepFromModel": format!("{provider}/{model}"),
            "fallbackStepFromFailureReason": reason.name(),
            "fallbackStepChainPosition": position?,
            "fallbackStepFinalOutcome": if next.is_some() { "next_fallback" } else { "chain_exhausted" },
        });
        if let Some(next) = next {
            step["fallbackStepToModel"] = json!(next);
        }
        Some(self.lifecycle(step, now))
    }

    /// The step starts over: what was told of its answer is taken back.
    pub(super) fn restart(&mut self, now: i64) -> Vec<Event> {
        self.reply.truncate(self.answer_at);
        self.is_whole = false;
        self.forget_thought();
        let seen = self.visible().len();
        if self.told <= seen {
            return Vec::new();
        }
        self.told = seen;
        self.seq += 1;
        let agent = json!({ "text": "", "delta": "", "replace": true, "itemId": self.item() });
        let chat = json!({
            "state": "delta", "deltaText": self.visible(), "replace": true, "message": self.message(now),
        });
        vec![self.agent("assistant", agent, now), self.chat(chat)]
    }

    /// The name of the answer of this step.
    pub(super) fn item(&self) -> String {
        format!("{}:{}", self.run_id, self.stage.step)
    }
}
