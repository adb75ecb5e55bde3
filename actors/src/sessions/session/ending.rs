//! The end of a turn: aborted, given up or answered, it is settled once, and told when it is durable.

use super::{Session, SessionMsg};
use crate::agents::Usage;
use crate::channels::{AccountMsg, AccountName, Answer};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::sessions::model_of;
use crate::sessions::outcome::{Outcome, Status};
use crate::sessions::turn::{Origin, Turn};
use crate::store::{InputRow, InputState, MessageRow, SessionUpdate, WriteOp, WriteReply, Written};
use crate::tree::{Ctx, Fault};
use crabtree_protocol::RunId;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::json;

/// The part of a model's context that may be used before the session is summed up.
const FULL: (u64, u64) = (3, 4);

/// The end of a turn that is to be written.
pub(super) struct End {
    run_id: RunId,
    session: SessionUpdate,
    op: Box<WriteOp>,
}

/// An outcome that was written, or not.
pub struct Settled {
    run_id: RunId,
    session: SessionUpdate,
    written: Written,
}

impl Session {
    /// Gives up a turn; who had joined it waits for another one.
    pub(super) fn give_up(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: RunId,
        rows: Vec<InputRow>,
        others: Vec<InputRow>,
        why: &str,
    ) {
        let now = ctx.now_ms();
        let turn = self.ledger(&run_id, &rows, now);
        let attempts = rows.first().map_or(0, |row| row.attempts);
        let error = Some(format!("This message was given up after {attempts} attempts ({why})."));
        let outcome = outcome(&turn.lock(), Status::Error, "error", Usage::default(), error, now);
        self.write_end(&turn, (&rows, &others), InputState::Dead, outcome);
        self.backlog.push_again(others);
    }

    /// The queue was full, and it was the oldest.
    pub(super) fn drop_for_lack_of_room(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, cap: usize) {
        let now = ctx.now_ms();
        let run_id = RunId::from(row.run_id.as_str());
        let turn = self.ledger(&run_id, std::slice::from_ref(&row), now);
        let error = format!(
            "This message was dropped: more than {cap} were waiting (messages.queue.drop is \"old\")."
        );
        let outcome = outcome(&turn.lock(), Status::Error, "error", Usage::default(), Some(error), now);
        self.settle(&turn, &[row], InputState::Settled, outcome);
    }

    /// Has the one outcome of a turn, and of everything it answers, written after this message.
    pub(super) fn settle(
        &mut self,
        turn: &Mutex<Turn>,
        rows: &[InputRow],
        state: InputState,
        outcome: Outcome,
    ) {
        self.write_end(turn, (rows, &[]), state, outcome);
    }

    /// The same; some of the inputs are released from the turn without an outcome.
    fn write_end(
        &mut self,
        turn: &Mutex<Turn>,
        (rows, released): (&[InputRow], &[InputRow]),
        state: InputState,
        mut outcome: Outcome,
    ) {
        let model = format!("{}/{}", outcome.provider, outcome.model);
        outcome.context_tokens = self.estate().catalog.load().context_window(&model);
        let (run_id, answer) = {
            let turn = turn.lock();
            (turn.run_id.clone(), outcome.last_row(&turn))
        };
        if !self.settling.insert(run_id.clone()) {
            return;
        }
        let session = ended(&outcome, rows.iter().any(|row| row.attempts > 0));
        self.estate().kill_points.reach(KillPoint::SessionBeforeSettle);
        let op = Box::new(WriteOp::Settle {
            turn: run_id.to_string(),
            inputs: rows.iter().map(|row| row.id.clone()).collect(),
            released: released.iter().map(|row| row.id.clone()).collect(),
            state,
            outcome: serde_json::to_value(&outcome).expect("an outcome is plain data"),
            messages: answer.into_iter().collect(),
            deliveries: crate::channels::answers(run_id.as_str(), rows, &outcome),
            events: crate::hooks::events(rows, &outcome),
            session: Some(session.clone()),
            at: outcome.ended_at,
        });
        self.ends.push(End { run_id, session, op });
    }

    /// Writes the ends that one message has brought, which are told in the order in which they came about.
    pub(super) fn write_ends(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if self.ends.is_empty() {
            return;
        }
        let write = |End { run_id, session, op }| {
            let store = self.args.store.clone();
            async move { Settled { run_id, session, written: store.carry_on(*op).await } }
        };
        let written = join_all(std::mem::take(&mut self.ends).into_iter().map(write));
        ctx.task(written, SessionMsg::Settled);
    }

    pub(super) fn settled(&mut self, ctx: &mut Ctx<SessionMsg>, settled: Settled) -> Result<(), Fault> {
        let Settled { run_id, session, written } = settled;
        self.estate().kill_points.reach(KillPoint::SessionAfterSettle);
        self.settling.remove(&run_id);
        let Ok(WriteReply::Settled { rows, messages }) = written else {
            return Err(Fault::new(format!("an outcome was not written: {:?}", written.err())));
        };
        if let Some(active) = self.active.take_if(|active| active.run_id == run_id) {
            let child = active.turn.lock().child.clone();
            ctx.stop_child(&child);
        }
        self.note(&session);
        self.wake_channels(&rows, |_| AccountMsg::Deliver);
        self.tell_end(ctx, &run_id, &rows, &messages);
        self.answer_aborts(&[run_id]);
        self.compact_when_full(ctx);
        Ok(())
    }

    /// Tells the accounts that these inputs came in at.
    pub(super) fn wake_channels(&self, rows: &[InputRow], news: impl Fn(Answer) -> AccountMsg) {
        for answer in rows.iter().filter_map(Answer::of) {
            let name = AccountName { channel: answer.channel.clone(), account: answer.account.clone() };
            // An account that is down looks into the store when it is back.
            let _ = self.estate().channels.slot(&name).send(news(answer));
        }
    }

    /// Has the session summed up if its last turn came near the end of its model's context. Until that is done, or if
    /// it is not, models read of it what fits.
    fn compact_when_full(&self, ctx: &mut Ctx<SessionMsg>) {
        let tokens = self.record.as_ref().and_then(|record| record.entry.get("totalTokens")?.as_u64());
        let catalog = self.estate().catalog.load();
        let window = catalog.context_window(&model_of(self.record.as_ref(), &catalog));
        if self.backlog.is_empty() && tokens.is_some_and(|tokens| tokens * FULL.1 >= window * FULL.0) {
            tracing::info!(target: "crabtree::sessions", key = %self.args.key, "near its model's context: summing up");
            ctx.detached((self.args.compact)(self.args.key.clone()));
        }
    }

    /// Tells everybody the settled outcome. What is told once is marked in the Estate.
    pub(super) fn tell_end(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: &RunId,
        rows: &[InputRow],
        messages: &[MessageRow],
    ) {
        let now = ctx.now_ms();
        let outcome = rows.first().and_then(|row| row.outcome.clone());
        let Some(outcome) = outcome.and_then(|o| serde_json::from_value::<Outcome>(o).ok()) else { return };
        if let Some(turn) = self.estate().ledgers.get(run_id) {
            self.estate().ledgers.close(run_id);
            self.count(&outcome, now);
            if outcome.status == Status::Ok {
                self.publish(turn.lock().answered(&outcome, now));
            }
            if matches!(outcome.status, Status::Ok | Status::Timeout) {
                self.tell_rows(&turn, messages, now);
            }
            self.publish(turn.lock().end(&outcome, now));
            self.tell_rows(&turn, messages, now);
            let (origin, began) = (turn.lock().origin, rows.iter().any(|row| row.attempts > 0));
            self.tell_settled((origin, began), run_id, &outcome, now);
        }
        self.estate().waiters.resolve(run_id, &outcome);
        rows.iter().for_each(|row| self.estate().ledgers.settled(&row.run_id.as_str().into()));
        for row in rows.iter().filter(|row| row.run_id != run_id.as_str()) {
            self.estate().waiters.resolve(&RunId::from(row.run_id.as_str()), &outcome);
        }
    }

    fn count(&self, outcome: &Outcome, now: i64) {
        let Estate { meters, stability, .. } = self.estate();
        let (status, took) = (outcome.status.as_str(), outcome.ended_at - outcome.started_at);
        meters.runs.count(status);
        meters.run_times.observe_ms(took);
        if !outcome.provider.is_empty() {
            let model = (outcome.provider.clone(), outcome.model.clone());
            meters.models.change(model, |used| *used = *used + outcome.usage);
        }
        let facts = json!({
            "outcome": status, "durationMs": took, "provider": outcome.provider, "model": outcome.model,
        });
        stability.note("run.ended", facts, now);
    }

    fn tell_settled(&self, (origin, began): (Origin, bool), run_id: &RunId, outcome: &Outcome, now: i64) {
        if origin != Origin::Dispatched {
            self.tell_change(json!({ "reason": "agent.input.settled" }), now);
        }
        if began {
            self.tell_change(json!({ "phase": "model", "runId": run_id }), now);
        }
        let failed = matches!(outcome.status, Status::Error | Status::Timeout);
        let phase = if failed { "error" } else { "end" };
        self.tell_change(json!({ "phase": phase, "runId": run_id }), now);
    }
}

/// What is written of a session whose turn has ended; one that never began leaves it as it was.
fn ended(outcome: &Outcome, began: bool) -> SessionUpdate {
    if !began {
        return SessionUpdate { at: outcome.ended_at, ..SessionUpdate::default() };
    }
    let mut entry = json!({
        "systemSent": true,
        "abortedLastRun": outcome.status == Status::Aborted,
        "lastRunError": outcome.error,
        "liveModelSwitchPending": null,
    });
    if outcome.status == Status::Ok {
        let answered = json!({
            "inputTokens": outcome.usage.input, "outputTokens": outcome.usage.output,
            "totalTokens": outcome.last.shown(), "unread": true,
            "estimatedCostUsd": outcome.usage.cost.map(|cost| cost.total()),
        });
        crate::sessions::turn::merge(&mut entry, answered);
    }
    SessionUpdate {
        at: outcome.ended_at,
        status: Some(Some(outcome.session_status().into())),
        ended_at: Some(Some(outcome.ended_at)),
        entry: Some(entry),
        ..SessionUpdate::default()
    }
}

pub(super) fn outcome(
    turn: &Turn,
    status: Status,
    stop_reason: &str,
    last: Usage,
    error: Option<String>,
    now: i64,
) -> Outcome {
    let (provider, model) = turn.model.clone().unwrap_or_default();
    Outcome {
        status,
        text: turn.said().to_owned(),
        stop_reason: stop_reason.into(),
        error,
        started_at: turn.started_at,
        ended_at: now,
        provider,
        model,
        usage: turn.usage_with(last),
        last,
        context_tokens: 0,
        session_id: turn.session_id.clone(),
        session_key: turn.key.to_string(),
        tools: turn.tools.summary().clone(),
        failed: None,
    }
}
