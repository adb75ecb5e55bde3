//! The end of a turn: aborted, given up or answered, it is settled once, and told when it is durable.

use super::intake::{as_new, user_message};
use super::{Abort, Session, SessionMsg};
use crate::agents::Usage;
use crate::sessions::outcome::{Outcome, Status};
use crate::sessions::turn::Turn;
use crate::store::{
    InputRow, InputState, MessageRow, NewMessage, SessionUpdate, StoreError, WriteOp, WriteReply, Written,
};
use crate::tree::{Ctx, Fault, Reply};
use crabtree_protocol::RunId;
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// Pause before an outcome is written again to a full disk.
const RETRY_SETTLE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn give_up(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, why: &str) {
        let run_id = RunId::from(row.run_id.as_str());
        let now = ctx.now_ms();
        let session_id = self.record.as_ref().map_or_else(String::new, |r| r.session_id.clone());
        let key = self.args.key.clone();
        let turn =
            self.args.estate.ledgers.open(Turn::new(run_id, key, session_id, row.kind != "agent", now));
        let error = Some(format!("This message was given up after {} attempts ({why}).", row.attempts));
        let outcome = outcome(&turn.lock(), Status::Error, "error", Usage::default(), error, now);
        self.settle(ctx, &row, InputState::Dead, outcome);
    }

    pub(super) fn abort(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: Option<RunId>,
        reason: &'static str,
        done: Reply<Vec<RunId>>,
    ) {
        let named = |row: &InputRow| run_id.as_ref().is_none_or(|id| id.as_str() == row.run_id);
        let (queued, kept) = self.backlog.drain(..).partition::<VecDeque<_>, _>(|row| named(row));
        self.backlog = kept;
        let mut all: Vec<RunId> = queued.iter().map(|row| RunId::from(row.run_id.as_str())).collect();
        for row in queued {
            self.settle_aborted(ctx, row, reason);
        }
        if let Some(active) = self.active.as_mut().filter(|a| !a.ended && named(&a.row)) {
            active.ended = true;
            active.pace = None;
            let (row, child) = (active.row.clone(), active.turn.lock().child.clone());
            ctx.kill_child(&child);
            all.push(RunId::from(row.run_id.as_str()));
            self.settle_aborted(ctx, row, reason);
        }
        // What others have stopped, or has just ended, is not over before it is durable.
        let named = |id: &&RunId| run_id.as_ref().is_none_or(|only| only == *id);
        let left: HashSet<RunId> = self.settling.iter().filter(named).cloned().collect();
        if left.is_empty() {
            done.send(all);
        } else {
            self.aborts.push(Abort { left, all, done });
        }
    }

    pub(super) fn settle_aborted(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, reason: &str) {
        let (run_id, now) = (RunId::from(row.run_id.as_str()), ctx.now_ms());
        let session_id = self.record.as_ref().map_or_else(String::new, |r| r.session_id.clone());
        let key = self.args.key.clone();
        let turn =
            self.args.estate.ledgers.open(Turn::new(run_id, key, session_id, row.kind != "agent", now));
        let outcome = outcome(&turn.lock(), Status::Aborted, reason, Usage::default(), None, now);
        self.settle(ctx, &row, InputState::Settled, outcome);
    }

    pub(super) fn settle(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        row: &InputRow,
        state: InputState,
        outcome: Outcome,
    ) {
        let run_id = RunId::from(row.run_id.as_str());
        if !self.settling.insert(run_id.clone()) {
            return;
        }
        // An attempt that was lost before its turn began has left a row that nobody was told of.
        let asked = self.estate().ledgers.get(&run_id).is_none_or(|turn| turn.lock().asked);
        let untold = (row.attempts > 0 && !asked)
            .then(|| user_message(&as_new(row), &row.body.get("sender").cloned().unwrap_or_default()));
        let answer = outcome.assistant_message(&run_id).map(|message| NewMessage {
            id: Uuid::new_v4().to_string(),
            session_key: self.args.key.to_string(),
            session_id: String::new(),
            parent: None,
            kind: "assistant".into(),
            idempotency_key: Some(format!("{run_id}:assistant")),
            run_id: Some(run_id.to_string()),
            hidden: false,
            message,
            created_at: outcome.ended_at,
        });
        let op = WriteOp::Settle {
            input_id: row.id.clone(),
            state,
            outcome: serde_json::to_value(&outcome).expect("an outcome is plain data"),
            messages: untold.into_iter().chain(answer).collect(),
            session: Some(SessionUpdate {
                at: outcome.ended_at,
                status: Some(Some(outcome.session_status().into())),
                ended_at: Some(Some(outcome.ended_at)),
                ..SessionUpdate::default()
            }),
            at: outcome.ended_at,
        };
        let store = self.args.store.clone();
        let write = async move {
            loop {
                match store.write(op.clone()).await {
                    Err(StoreError::Full) => tokio::time::sleep(RETRY_SETTLE).await,
                    written => return written,
                }
            }
        };
        ctx.task(write, move |written| SessionMsg::Settled(run_id, Box::new(written)));
    }

    pub(super) fn settled(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: RunId,
        written: Written,
    ) -> Result<(), Fault> {
        self.settling.remove(&run_id);
        let Ok(WriteReply::Settled { row, messages, .. }) = written else {
            return Err(Fault::new(format!("an outcome was not written: {:?}", written.err())));
        };
        if let Some(active) = self.active.take_if(|a| a.row.run_id == run_id.as_str()) {
            let child = active.turn.lock().child.clone();
            ctx.stop_child(&child);
        }
        self.tell_end(ctx, &row, &messages);
        for abort in &mut self.aborts {
            abort.left.remove(&run_id);
        }
        for abort in self.aborts.extract_if(.., |abort| abort.left.is_empty()) {
            abort.done.send(abort.all);
        }
        Ok(())
    }

    /// Tells everybody the settled outcome. What is told once is marked in the Estate.
    pub(super) fn tell_end(&mut self, ctx: &mut Ctx<SessionMsg>, row: &InputRow, messages: &[MessageRow]) {
        let now = ctx.now_ms();
        let run_id = RunId::from(row.run_id.as_str());
        let Some(outcome) = row.outcome.clone().and_then(|o| serde_json::from_value::<Outcome>(o).ok())
        else {
            return;
        };
        if let Some(record) = &mut self.record {
            record.status = Some(outcome.session_status().into());
            (record.ended_at, record.updated_at) = (Some(outcome.ended_at), now);
        }
        if let Some(turn) = self.estate().ledgers.get(&run_id) {
            self.estate().ledgers.close(&run_id);
            let (asked, answer): (Vec<_>, Vec<_>) = messages.iter().partition(|m| m.kind == "user");
            let asked = asked.into_iter().filter(|_| !turn.lock().asked);
            asked.for_each(|message| self.tell_message(message, now));
            if outcome.status == Status::Ok {
                answer.iter().for_each(|message| self.tell_message(message, now));
            }
            self.publish(turn.lock().end(&outcome, now));
            if outcome.status != Status::Ok {
                answer.iter().for_each(|message| self.tell_message(message, now));
            }
            self.tell_change(json!({ "reason": "agent.input.settled" }), now);
            let phase = if outcome.status == Status::Error { "error" } else { "end" };
            self.tell_change(json!({ "phase": phase, "runId": run_id }), now);
        }
        self.estate().waiters.resolve(&run_id, &outcome);
    }
}

pub(super) fn outcome(
    turn: &Turn,
    status: Status,
    stop_reason: &str,
    usage: Usage,
    error: Option<String>,
    now: i64,
) -> Outcome {
    let (provider, model) = turn.model.clone().unwrap_or_default();
    Outcome {
        status,
        text: turn.text.clone(),
        stop_reason: stop_reason.into(),
        error,
        started_at: turn.started_at,
        ended_at: now,
        provider,
        model,
        usage,
        session_id: turn.session_id.clone(),
        session_key: turn.key.to_string(),
    }
}
