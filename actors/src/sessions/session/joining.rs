//! Steering: what was said while the model worked joins the turn where the model pauses. Its answer so far
//! becomes a row of the transcript, what was said the next ones, and the model is asked again.

use super::intake::asked;
use super::{Session, SessionMsg};
use crate::agents::Usage;
use crate::kill_points::KillPoint;
use crate::sessions::outcome::answer_row;
use crate::sessions::run::RunMsg;
use crate::sessions::silence::is_silent_row;
use crate::store::{InputRow, MessageRow, NewMessage, WriteOp, WriteReply, Written};
use crate::tree::{Ctx, Fault};
use crabtree_protocol::RunId;
use crabtree_protocol::session_key::SessionMode;
use serde_json::json;

impl Session {
    /// Lets what waits for it join the turn; false if nothing does.
    pub(super) fn join(&mut self, ctx: &mut Ctx<SessionMsg>, usage: Usage) -> bool {
        let Some(active) = &self.active else { return false };
        let steered = self.backlog.take_steered();
        if steered.is_empty() && !self.insists() {
            return false;
        }
        self.beginning = true;
        let (now, run_id) = (ctx.now_ms(), active.run_id.clone());
        let turn = active.turn.lock();
        let answer = answer_row(&turn, usage, now);
        let said = steered.iter().map(|row| joins(row, &run_id));
        let op = WriteOp::Begin {
            turn: run_id.to_string(),
            inputs: steered.iter().map(|row| (row.id.clone(), row.attempts + 1)).collect(),
            messages: answer.into_iter().chain(said).collect(),
            at: now,
        };
        drop(turn);
        let store = self.args.store.clone();
        ctx.task(async move { Box::new(store.carry_on(op).await) }, |written| {
            SessionMsg::Joined(run_id, written)
        });
        true
    }

    /// Whether the model has said nothing to a person who waits for an answer; it is asked once more, and not twice.
    fn insists(&self) -> bool {
        let Some(active) = &self.active else { return false };
        let turn = active.turn.lock();
        let from_person =
            |row: &InputRow| row.kind != "wake" && row.body["sender"].get("transport").is_some();
        let is_direct = self.args.key.mode() != SessionMode::Group;
        turn.is_silent() && !turn.was_silent() && is_direct && active.rows.iter().any(from_person)
    }

    /// An answer that says nothing: that it is there, and not what it says.
    pub(super) fn tell_silence(&self, row: &MessageRow, now: i64) {
        let what = json!({ "phase": "message", "messageId": row.id, "messageSeq": row.seq });
        self.tell_change(what, now);
    }

    pub(super) fn joined(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: &RunId,
        written: Written,
    ) -> Result<(), Fault> {
        self.estate().kill_points.reach(KillPoint::SessionJoined);
        self.beginning = false;
        let Ok(WriteReply::Began { rows, messages, .. }) = written else {
            return Err(Fault::new(format!("what joins a turn was not written: {:?}", written.err())));
        };
        self.tell_joined(rows, &messages, ctx.now_ms());
        let Some(active) = self.active.take() else { return Ok(()) };
        if let Some(why) = active.crashed {
            self.try_again(ctx, run_id.clone(), active.rows, why);
            return Ok(());
        }
        let task = active.turn.lock().task();
        let _ = active.turn.lock().run.send(RunMsg::GoOn(task));
        self.active = Some(active);
        Ok(())
    }

    /// Tells that these have joined the turn that runs; `messages` are the answer so far and what they say.
    pub(super) fn tell_joined(&mut self, joined: Vec<InputRow>, messages: &[MessageRow], now: i64) {
        let Some(active) = &mut self.active else { return };
        let (turn, run_id) = (active.turn.clone(), active.run_id.clone());
        turn.lock().answers(&joined);
        active.rows.extend(joined.iter().cloned());
        if !turn.lock().stage().working {
            let answer = messages.iter().find(|row| row.kind == "assistant");
            let events = turn.lock().answer_over(answer, now);
            self.publish(events);
        }
        turn.lock().next_step();
        self.tell_rows(&turn, messages, now);
        if messages.iter().any(is_silent_row) && joined.is_empty() {
            let events = turn.lock().begin_again(now);
            self.publish(events);
            self.tell_change(json!({ "phase": "start", "runId": run_id }), now);
        }
        for row in &joined {
            self.tell_delivered(row, now);
        }
        tracing::debug!(target: "crabtree::sessions", run = %run_id, joined = joined.len(), "steered");
    }

    /// Tells that a submission has been delivered: to a running turn, or to the queue.
    pub(super) fn tell_delivered(&self, row: &InputRow, now: i64) {
        if !self.estate().ledgers.deliver(&RunId::from(row.run_id.as_str())) {
            return;
        }
        self.publish([crate::sessions::turn::delivered(&self.args.key, &row.run_id)]);
        self.tell_change(json!({ "reason": "agent.input.settled" }), now);
    }
}

/// The transcript row of what joins a turn.
pub(super) fn joins(row: &InputRow, run_id: &RunId) -> NewMessage {
    let mut message = asked(row, run_id);
    message.message["__openclaw"]["steerTargetRunId"] = json!(run_id);
    message
}
