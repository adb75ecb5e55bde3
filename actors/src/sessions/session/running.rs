//! The turn: attempts, the run's news, and what of it is told when.

use super::intake::{asked, beginning};
use super::{Active, Session, SessionMsg};
use crate::agents::Usage;
use crate::channels::AccountMsg;
use crate::kill_points::KillPoint;
use crate::sessions::outcome::{FailedCall, Status, TIMED_OUT};
use crate::sessions::queue::{Batch, Next, is_asked, is_detached};
use crate::sessions::rows::model_of;
use crate::sessions::run::{Compacted, Failed, Run, RunArgs, RunEnd, RunMsg, RunNews, Stage, Task};
use crate::sessions::session::ending::outcome;
use crate::sessions::silence::is_silent_row;
use crate::sessions::turn::{Origin, Turn};
use crate::settings::Thinking;
use crate::store::{InputRow, InputState, MessageRow, WriteOp, WriteReply, Written};
use crate::tree::{ChildSpec, Ctx, Fault, Restart};
use crabtree_protocol::RunId;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Least time between two pieces of text told to clients (as recorded).
const PACE: Duration = Duration::from_millis(75);

impl Session {
    /// Begins the next turn, if nothing runs.
    pub(super) fn next(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if !self.loaded || self.look.is_some() || !self.is_idle() || self.estate().is_draining() {
            return;
        }
        match self.backlog.next(&self.queue_settings(), ctx.now_ms()) {
            Next::Rest => {}
            Next::Wait(time) => self.look = Some(ctx.after(time, SessionMsg::Look)),
            Next::Turn(batch) => self.begin(ctx, batch),
        }
    }

    fn begin(&mut self, ctx: &mut Ctx<SessionMsg>, batch: Batch) {
        self.estate().kill_points.reach(KillPoint::SessionBeforeAttempt);
        self.beginning = true;
        let run_id = batch.turn();
        let op = WriteOp::Begin {
            turn: run_id.to_string(),
            inputs: batch.all().map(|row| (row.id.clone(), row.attempts + 1)).collect(),
            messages: batch.messages(&self.session_id(), |row| asked(row, &run_id)),
            at: ctx.now_ms(),
        };
        let store = self.args.store.clone();
        ctx.task(async move { Box::new(store.carry_on(op).await) }, |written| {
            SessionMsg::Began(run_id, written)
        });
    }

    pub(super) fn began(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: RunId,
        written: Written,
    ) -> Result<(), Fault> {
        self.beginning = false;
        match written {
            Ok(WriteReply::Began { rows, messages, answers }) => {
                let (over, open): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.state.is_final());
                if open.is_empty() {
                    self.tell_end(ctx, &run_id, &over, &[]);
                } else {
                    self.count_waits(&open, ctx.now_ms());
                    let renamed = |row: &&InputRow| row.run_id != run_id.as_str() && !is_detached(row);
                    open.iter().filter(renamed).for_each(|row| self.tell_delivered(row, ctx.now_ms()));
                    self.run(ctx, &run_id, open, messages, &answers, &[]);
                }
                Ok(())
            }
            other => Err(Fault::new(format!("an attempt was not counted: {:?}", other.err()))),
        }
    }

    /// The ledger of a turn, opened if it is not there.
    pub(super) fn ledger(&self, run_id: &RunId, rows: &[InputRow], now: i64) -> Arc<Mutex<Turn>> {
        let origin = match rows.first() {
            Some(row) if row.kind == "agent" => Origin::Agent,
            Some(row) if row.run_id != run_id.as_str() => Origin::Dispatched,
            _ => Origin::Chat,
        };
        let turn = Turn::new(run_id.clone(), self.args.key.clone(), self.session_id(), origin, now);
        self.estate().ledgers.open(turn)
    }

    /// How long inputs have waited that are taken up for the first time.
    pub(super) fn count_waits(&self, rows: &[InputRow], now: i64) {
        let fresh = rows.iter().filter(|row| row.attempts == 1);
        fresh.for_each(|row| self.estate().meters.waits.observe_ms(now - row.created_at));
    }

    pub(super) fn run(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: &RunId,
        rows: Vec<InputRow>,
        messages: Vec<MessageRow>,
        answers: &[MessageRow],
        reasons: &[&str],
    ) {
        self.estate().kill_points.reach(KillPoint::SessionAttempt);
        let now = ctx.now_ms();
        self.note(&beginning(run_id.as_str(), now));
        let turn = self.ledger(run_id, &rows, now);
        let attempt = rows.first().map_or(1, |row| row.attempts);
        let child: Arc<str> = format!("{run_id}#{attempt}").into();
        let slot = {
            let mut turn = turn.lock();
            turn.answers(&rows);
            turn.child = child.clone();
            turn.run.clone()
        };
        let events = turn.lock().go_on_after(answers, now);
        self.publish(events);
        let args = self.run_args(run_id, &rows, turn.lock().task());
        self.active = Some(Active {
            rows,
            run_id: run_id.clone(),
            turn: turn.clone(),
            pace: None,
            in_step: true,
            ended: false,
            crashed: None,
        });
        for reason in reasons {
            self.tell_change(json!({ "reason": reason }), now);
        }
        self.tell_start(&turn, &messages, now);
        if let Err(duplicate) =
            ctx.spawn(ChildSpec::new::<Run>(child, Restart::Temporary, args, &slot).quiet())
        {
            tracing::error!(target: "crabtree::sessions", "{duplicate}");
        }
    }

    fn run_args(&self, run_id: &RunId, rows: &[InputRow], task: Task) -> RunArgs {
        let catalog = self.estate().catalog.load();
        let body = rows.first().map(|row| &row.body);
        let timeout = body.and_then(|b| b.get("timeoutMs")?.as_u64()).map(Duration::from_millis);
        let entry = self.record.as_ref().map(|record| &record.entry);
        let model = body.and_then(|b| b.get("model")?.as_str()).map(str::to_owned);
        // Whoever chose a model wants that one.
        let chosen = model.is_some() || entry.is_some_and(|entry| entry.get("modelOverride").is_some());
        let agent = catalog.agent(self.args.key.agent_id()).filter(|_| !chosen);
        let fallbacks = agent.map_or(&[][..], |agent| &agent.fallbacks);
        let model = model.unwrap_or_else(|| model_of(self.record.as_ref(), &catalog));
        let thinking = body.and_then(|b| b.get("thinking")?.as_str());
        let thinking = thinking.or_else(|| entry?.get("thinkingLevel")?.as_str());
        RunArgs {
            run_id: run_id.clone(),
            key: self.args.key.clone(),
            task,
            again: rows.iter().filter(|row| is_asked(row)).map(|row| row.id.clone()).collect(),
            models: [model].into_iter().chain(fallbacks.iter().cloned()).collect(),
            thinking: thinking.and_then(Thinking::from_name),
            instructions: body.and_then(|b| b.get("instructions")?.as_str()).map(str::to_owned),
            timeout: timeout.unwrap_or(catalog.timeout),
            compacted: entry.and_then(Compacted::of),
            estate: self.args.estate.clone(),
            store: self.args.store.clone(),
            session: self.args.slot.clone(),
        }
    }

    fn tell_start(&self, turn: &Mutex<Turn>, messages: &[MessageRow], now: i64) {
        let origin = turn.lock().origin;
        if origin != Origin::Agent {
            let events =
                ["preparing_workspace", "preparing_context"].map(|phase| turn.lock().phase(phase, now));
            self.publish(events.into_iter().flatten());
        }
        self.tell_rows(turn, messages, now);
        let mut ledger = turn.lock();
        let started_at = ledger.started_at;
        self.publish([ledger.lifecycle(json!({ "phase": "start", "startedAt": started_at }), now)]);
        if origin != Origin::Agent {
            self.publish(ledger.phase("starting_model", now));
        }
        let run_id = ledger.run_id.clone();
        drop(ledger);
        if origin != Origin::Dispatched {
            self.tell_change(json!({ "reason": "agent.run.started" }), now);
        }
        self.tell_change(json!({ "phase": "start", "runId": run_id }), now);
    }

    /// Tells rows of a turn, each once.
    pub(super) fn tell_rows<'a>(
        &self,
        turn: &Mutex<Turn>,
        rows: impl IntoIterator<Item = &'a MessageRow>,
        now: i64,
    ) {
        // Of what tools came to the events of tools tell (as recorded).
        for row in rows.into_iter().filter(|row| row.kind != "toolResult") {
            if turn.lock().tells(row) {
                match is_silent_row(row) {
                    true => self.tell_silence(row, now),
                    false => self.tell_message(row, now),
                }
            }
        }
    }

    pub(super) fn news_of_run(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: &RunId,
        stage: Stage,
        news: RunNews,
    ) {
        let now = ctx.now_ms();
        let Some(active) = self.active.as_mut().filter(|a| a.run_id == *run_id && !a.ended) else { return };
        // Something is joining: what the run does before it is told so is void.
        if self.beginning {
            return;
        }
        let task = active.turn.lock().task();
        if stage != task.stage {
            // It was started anew, or has not heard yet that it goes on.
            let _ = active.turn.lock().run.send(RunMsg::GoOn(task));
            return;
        }
        match news {
            RunNews::Started { provider, model } => {
                active.in_step = true;
                let (events, rows) = (active.turn.lock().asks(provider, model, now), active.rows.clone());
                self.publish(events);
                self.wake_channels(&rows, |answer| AccountMsg::Turn(run_id.clone(), Box::new(answer)));
                self.tell_change(json!({ "phase": "model", "runId": run_id }), now);
            }
            // What came before the report is part of it.
            RunNews::Delta(_) | RunNews::Thought(_) | RunNews::Insert(_) | RunNews::Tool(_)
                if !active.in_step => {}
            RunNews::Delta(text) => {
                active.turn.lock().reply.write(&text);
                self.pace_on(ctx, run_id);
            }
            RunNews::Thought(text) => {
                active.turn.lock().reply.think(&text);
                self.pace_on(ctx, run_id);
            }
            RunNews::Insert(insert) => active.turn.lock().reply.insert(insert),
            RunNews::Tool(news) => self.tool_news(ctx, &news),
            RunNews::Retrying(retry) => {
                let events = active.turn.lock().retrying(&retry, now);
                self.publish(events);
            }
            RunNews::FellBack(failed, next) => {
                let events = active.turn.lock().falls_back(&failed, &next, now);
                self.publish(events);
            }
            RunNews::Ended(end) if active.in_step => self.step_over(ctx, end),
            RunNews::Ended(_) => {}
            RunNews::Report { model, reply, tools, ended } => {
                active.in_step = true;
                let mut turn = active.turn.lock();
                let events = turn.report(model, reply, now);
                drop(turn);
                self.publish(events);
                tools.iter().for_each(|news| self.tool_news(ctx, news));
                match ended {
                    Some(end) => self.step_over(ctx, end),
                    None => self.pace(ctx, run_id),
                }
            }
        }
    }

    fn pace_on(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId) {
        if self.active.as_ref().is_some_and(|active| active.pace.is_none()) {
            self.pace(ctx, run_id);
        }
    }

    /// Tells what text there is; the timer runs on as long as there was some.
    pub(super) fn pace(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId) {
        let Some(active) = self.active.as_mut().filter(|a| a.run_id == *run_id && !a.ended) else { return };
        let events = active.turn.lock().flush(ctx.now_ms());
        active.pace = (!events.is_empty()).then(|| ctx.after(PACE, SessionMsg::Pace(run_id.clone())));
        self.publish(events);
    }

    /// The model has come to an end, or its tools have: the turn has, too, unless something is to be done yet.
    fn step_over(&mut self, ctx: &mut Ctx<SessionMsg>, end: RunEnd) {
        match end {
            RunEnd::Worked => self.worked(ctx),
            RunEnd::Done(usage) => {
                if let Some(active) = &self.active {
                    active.turn.lock().whole();
                }
                if !self.call_tools(ctx, *usage) && !self.join(ctx, *usage) {
                    self.ended(ctx, Status::Ok, *usage, None);
                }
            }
            RunEnd::Failed(failed) => self.ended(ctx, Status::Error, Usage::default(), Some(*failed)),
            RunEnd::TimedOut => self.ended(ctx, Status::Timeout, Usage::default(), None),
        }
    }

    pub(super) fn ended(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        status: Status,
        usage: Usage,
        failed: Option<Failed>,
    ) {
        let Some(active) = self.active.as_mut() else { return };
        active.ended = true;
        active.pace = None;
        let (rows, turn) = (active.rows.clone(), active.turn.clone());
        // Text is told before its end is made durable, so that a reader sees it without waiting for the disk.
        let events = turn.lock().flush(ctx.now_ms());
        self.publish(events);
        let error = match status {
            Status::Timeout => Some(TIMED_OUT.to_owned()),
            _ => failed.as_ref().map(|failed| failed.failure.text.clone()),
        };
        let mut outcome = outcome(&turn.lock(), status, "stop", usage, error, ctx.now_ms());
        outcome.failed = failed.and_then(|failed| FailedCall::of(&failed));
        self.settle(&turn, &rows, InputState::Settled, outcome);
    }
}
