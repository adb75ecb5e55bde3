//! The turn: attempts, the run's news, and what of it is told when.

use super::intake::{as_new, user_message};
use super::{Active, MAX_ATTEMPTS, Session, SessionMsg};
use crate::agents::Usage;
use crate::sessions::outcome::Status;
use crate::sessions::run::{Run, RunArgs, RunEnd, RunNews};
use crate::sessions::session::ending::outcome;
use crate::sessions::turn::Turn;
use crate::store::{InputRow, InputState, MessageRow, SessionRecord, WriteOp, WriteReply, Written};
use crate::tree::{ChildSpec, Ctx, Exit, Fault, Restart};
use crabtree_protocol::{RunId, SessionKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Least time between two pieces of text told to clients (as recorded).
const PACE: Duration = Duration::from_millis(75);

impl Session {
    /// Begins the next attempt, if nothing runs.
    pub(super) fn next(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if !self.loaded || !self.is_idle() || self.estate().is_draining() {
            return;
        }
        let Some(row) = self.backlog.pop_front() else { return };
        self.beginning = true;
        let sender = row.body.get("sender").cloned().unwrap_or_default();
        let op = WriteOp::BeginAttempt {
            input_id: row.id.clone(),
            attempt: row.attempts + 1,
            user_message: Some(user_message(&as_new(&row), &sender)),
            at: ctx.now_ms(),
        };
        let store = self.args.store.clone();
        ctx.task(async move { Box::new(store.write(op).await) }, SessionMsg::Began);
    }

    pub(super) fn began(&mut self, ctx: &mut Ctx<SessionMsg>, written: Written) -> Result<(), Fault> {
        self.beginning = false;
        match written {
            Ok(WriteReply::Began { row, .. }) if row.state.is_final() => {
                self.tell_end(ctx, &row, &[]);
                Ok(())
            }
            Ok(WriteReply::Began { row, message }) => {
                self.run(ctx, row, message);
                Ok(())
            }
            other => Err(Fault::new(format!("an attempt was not counted: {:?}", other.err()))),
        }
    }

    pub(super) fn run(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, message: Option<MessageRow>) {
        let now = ctx.now_ms();
        let run_id = RunId::from(row.run_id.as_str());
        let record = self.record.get_or_insert_with(|| new_record(&self.args.key, now));
        if let Some(message) = &message {
            record.session_id.clone_from(&message.session_id);
        }
        record.status = Some("running".into());
        (record.updated_at, record.last_interaction_at) = (now, Some(row.created_at));
        (record.last_run_id, record.started_at, record.ended_at) =
            (Some(row.run_id.clone()), Some(now), None);
        let (by_chat, key) = (row.kind != "agent", self.args.key.clone());
        let session_id = record.session_id.clone();
        let turn = self.args.estate.ledgers.open(Turn::new(run_id.clone(), key, session_id, by_chat, now));
        let child: Arc<str> = format!("{run_id}#{}", row.attempts).into();
        let slot = {
            let mut turn = turn.lock();
            turn.child = child.clone();
            turn.run.clone()
        };
        let catalog = self.estate().catalog.load();
        let timeout = row.body.get("timeoutMs").and_then(Value::as_u64).map(Duration::from_millis);
        let args = RunArgs {
            run_id,
            key: self.args.key.clone(),
            text: row.text.clone(),
            model: row.body.get("model").and_then(Value::as_str).unwrap_or(&catalog.primary).to_owned(),
            timeout: timeout.unwrap_or(catalog.timeout),
            estate: self.args.estate.clone(),
            store: self.args.store.clone(),
            session: self.args.slot.clone(),
        };
        self.active = Some(Active { row, turn: turn.clone(), pace: None, in_step: true, ended: false });
        self.tell_start(&turn, message.as_ref(), now);
        if let Err(duplicate) =
            ctx.spawn(ChildSpec::new::<Run>(child, Restart::Temporary, args, &slot).quiet())
        {
            tracing::error!(target: "crabtree::sessions", "{duplicate}");
        }
    }

    pub(super) fn tell_start(&self, turn: &Mutex<Turn>, message: Option<&MessageRow>, now: i64) {
        self.tell_change(json!({ "reason": "send" }), now);
        let mut turn = turn.lock();
        if turn.by_chat {
            self.publish(turn.phase("preparing_workspace", now));
            self.publish(turn.phase("preparing_context", now));
        }
        // An earlier attempt may have told it.
        if let Some(message) = message.filter(|_| !turn.asked) {
            turn.asked = true;
            self.tell_message(message, now);
        }
        let started_at = turn.started_at;
        self.publish([turn.lifecycle(json!({ "phase": "start", "startedAt": started_at }), now)]);
        if turn.by_chat {
            self.publish(turn.phase("starting_model", now));
        }
        let run_id = turn.run_id.clone();
        drop(turn);
        self.tell_change(json!({ "reason": "agent.run.started" }), now);
        self.tell_change(json!({ "phase": "start", "runId": run_id }), now);
    }

    pub(super) fn news_of_run(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId, news: RunNews) {
        let now = ctx.now_ms();
        let Some(active) = self.active.as_mut().filter(|a| a.row.run_id == run_id.as_str() && !a.ended)
        else {
            return;
        };
        match news {
            RunNews::Started { provider, model } => {
                active.in_step = true;
                let mut turn = active.turn.lock();
                let mut events = turn.restart(now);
                let step = json!({ "phase": "model", "provider": provider, "model": model });
                events.push(turn.lifecycle(step, now));
                turn.model = Some((provider, model));
                drop(turn);
                self.publish(events);
                self.tell_change(json!({ "phase": "model", "runId": run_id }), now);
            }
            RunNews::Delta(text) if active.in_step => {
                active.turn.lock().text.push_str(&text);
                if active.pace.is_none() {
                    self.pace(ctx, run_id);
                }
            }
            // What came before the report is part of it.
            RunNews::Delta(_) => {}
            RunNews::Ended(end) if active.in_step => self.ended(ctx, end),
            RunNews::Ended(_) => {}
            RunNews::Report { model, text, ended } => {
                active.in_step = true;
                let events = active.turn.lock().report(model, text, now);
                self.publish(events);
                match ended {
                    Some(end) => self.ended(ctx, end),
                    None => self.pace(ctx, run_id),
                }
            }
        }
    }

    /// Tells what text there is; the timer runs on as long as there was some.
    pub(super) fn pace(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId) {
        let Some(active) = self.active.as_mut().filter(|a| a.row.run_id == run_id.as_str() && !a.ended)
        else {
            return;
        };
        let events = active.turn.lock().flush(ctx.now_ms());
        active.pace = (!events.is_empty()).then(|| ctx.after(PACE, SessionMsg::Pace(run_id.clone())));
        self.publish(events);
    }

    pub(super) fn ended(&mut self, ctx: &mut Ctx<SessionMsg>, end: RunEnd) {
        let (status, usage, error) = match end {
            RunEnd::Done(usage) => (Status::Ok, usage, None),
            RunEnd::Failed(reason) => (Status::Error, Usage::default(), Some(reason)),
            RunEnd::TimedOut => {
                (Status::Timeout, Usage::default(), Some("the run took longer than it may".into()))
            }
        };
        let Some(active) = self.active.as_mut() else { return };
        active.ended = true;
        active.pace = None;
        let (row, outcome) =
            (active.row.clone(), outcome(&active.turn.lock(), status, "stop", usage, error, ctx.now_ms()));
        self.publish_rest(&row);
        self.settle(ctx, &row, InputState::Settled, outcome);
    }

    /// Text is told before its end is made durable, so that a reader sees it without waiting for the disk.
    pub(super) fn publish_rest(&self, row: &InputRow) {
        if let Some(turn) = self.estate().ledgers.get(&RunId::from(row.run_id.as_str())) {
            let events = turn.lock().flush(self.args.estate.clock.now_ms());
            self.publish(events);
        }
    }

    /// The run of `row` crashed: once more, or never again.
    pub(super) fn try_again(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, exit: &Exit) {
        if row.attempts < MAX_ATTEMPTS && !row.external_effects {
            tracing::warn!(target: "crabtree::sessions", run = row.run_id, "run crashed; it is started again");
            self.backlog.push_front(row);
        } else {
            self.give_up(ctx, row, exit.kind.as_str());
        }
    }
}

fn new_record(key: &SessionKey, now: i64) -> SessionRecord {
    SessionRecord {
        key: key.to_string(),
        session_id: String::new(),
        revision: String::new(),
        agent_id: key.agent_id().into(),
        created_at: now,
        updated_at: now,
        status: None,
        label: None,
        last_run_id: None,
        started_at: None,
        ended_at: None,
        last_interaction_at: None,
        entry: json!({}),
    }
}
