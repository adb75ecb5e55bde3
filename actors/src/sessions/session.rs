//! **Owns** one session: which input runs, which wait, and what the clients have been told.
//! **Hears** submissions and aborts from `sessions`, news from its run, and the store's acknowledgements;
//! **tells** clients the turn's events, and the store every decision before anybody else hears of it.
//! **On crash** nothing is lost: inputs are rows, the turn's text and counter are in the Estate, and its
//! run goes on. The next incarnation reads the rows, adopts the run and asks it for a report. Requests that
//! were not yet durable are answered `UNAVAILABLE`.

use super::outcome::{Outcome, Status};
use super::rows::{changed_event, message_event, session_row};
use super::run::{Run, RunArgs, RunEnd, RunMsg, RunNews};
use super::turn::Turn;
use crate::agents::Usage;
use crate::estate::Estate;
use crate::event::Event;
use crate::responder::Responder;
use crate::store::{
    self, InputRow, InputState, MessageRow, NewInput, NewMessage, SessionRecord, SessionUpdate, Store,
    StoreError, WriteOp, WriteReply, Written,
};
use crate::tree::*;
use crabtree_protocol::params::core::Ok as Done;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Inputs that may wait for their turn.
pub const MAX_BACKLOG: usize = 20;
/// Attempts at one input, over crashes of its run, its session and the process.
const MAX_ATTEMPTS: u32 = 2;
/// Least time between two pieces of text told to clients (as recorded).
const PACE: Duration = Duration::from_millis(75);
/// Pause before an outcome is written again to a full disk.
const RETRY_SETTLE: Duration = Duration::from_secs(1);

/// Something a client asks a session to do.
pub struct Submission {
    /// The input, not yet durable.
    pub input: NewInput,
    /// The transcript row's `__openclaw` of its sender.
    pub sender: Value,
    /// Who asked; nobody, if it was the gateway itself.
    pub responder: Option<Responder>,
}

impl Submission {
    fn refuse(self, refusal: Refusal) {
        if let Some(responder) = self.responder {
            responder.refuse(refusal);
        }
    }
}

/// What a session hears.
pub enum SessionMsg {
    /// Run this.
    Submit(Box<Submission>),
    /// Stop a run, or all of them.
    Abort {
        /// Which; all if none is named.
        run_id: Option<RunId>,
        /// `stopReason` of the aborted runs.
        reason: &'static str,
        /// The ids of the aborted runs, once all are settled.
        done: Reply<Vec<RunId>>,
    },
    /// News of the run.
    FromRun(RunId, RunNews),
    /// Time to tell more text.
    Pace(RunId),
    /// What the store holds of this session.
    Loaded(Box<Result<Known, StoreError>>),
    /// An input is durable, or not.
    Accepted(Box<Submission>, bool, Box<Written>),
    /// An attempt is counted.
    Began(Box<Written>),
    /// An outcome is written.
    Settled(RunId, Box<Written>),
}

/// What the store holds of a session.
pub struct Known {
    record: Option<SessionRecord>,
    backlog: Vec<InputRow>,
    told: Vec<InputRow>,
}

/// What a session is started with.
#[derive(Clone)]
pub struct SessionArgs {
    /// Which.
    pub key: SessionKey,
    /// The Estate.
    pub estate: Arc<Estate>,
    /// The store.
    pub store: Store,
    /// Its own address, for its runs.
    pub slot: Slot<SessionMsg>,
}

struct Active {
    row: InputRow,
    turn: Arc<Mutex<Turn>>,
    pace: Option<Timer>,
    /// False until an adopted run has reported.
    in_step: bool,
    ended: bool,
}

struct Abort {
    left: HashSet<RunId>,
    all: Vec<RunId>,
    done: Reply<Vec<RunId>>,
}

/// See the module.
pub struct Session {
    args: SessionArgs,
    record: Option<SessionRecord>,
    loaded: bool,
    early: Vec<SessionMsg>,
    backlog: VecDeque<InputRow>,
    active: Option<Active>,
    /// An input is on its way into the store to be run at once, or its attempt is being counted.
    beginning: bool,
    settling: HashSet<RunId>,
    aborts: Vec<Abort>,
}

impl Behavior for Session {
    type Msg = SessionMsg;
    type Args = SessionArgs;
    const KIND: &'static str = "session";

    fn start(ctx: &mut Ctx<SessionMsg>, args: SessionArgs) -> Result<Self, Fault> {
        let (store, key) = (args.store.clone(), args.key.clone());
        let runs: Vec<RunId> =
            args.estate.ledgers.of(&key).iter().map(|turn| turn.lock().run_id.clone()).collect();
        let read = async move { Box::new(store.read(move |c| known(c, &key, &runs)).await) };
        ctx.task(read, SessionMsg::Loaded);
        Ok(Self {
            args,
            record: None,
            loaded: false,
            early: Vec::new(),
            backlog: VecDeque::new(),
            active: None,
            beginning: false,
            settling: HashSet::new(),
            aborts: Vec::new(),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<SessionMsg>, msg: SessionMsg) -> Result<(), Fault> {
        match msg {
            SessionMsg::Loaded(known) => self.loaded(ctx, (*known).map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            SessionMsg::Submit(submission) => self.submit(ctx, *submission),
            SessionMsg::Abort { run_id, reason, done } => self.abort(ctx, run_id, reason, done),
            SessionMsg::FromRun(run_id, news) => self.news_of_run(ctx, &run_id, news),
            SessionMsg::Pace(run_id) => self.pace(ctx, &run_id),
            SessionMsg::Accepted(submission, begin, written) => {
                self.accepted(ctx, *submission, begin, *written)?;
            }
            SessionMsg::Began(written) => self.began(ctx, *written)?,
            SessionMsg::Settled(run_id, written) => self.settled(ctx, run_id, *written)?,
        }
        self.next(ctx);
        ctx.publish_info(json!({
            "backlog": self.backlog.len(), "activeRun": self.active.as_ref().map(|a| &a.row.run_id),
        }));
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        child: &Arc<Node>,
        exit: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        let hit = self.active.as_ref().filter(|a| !a.ended && a.turn.lock().child == *child.name());
        if hit.is_some()
            && fate == NodeState::Stopped
            && let Some(active) = self.active.take()
        {
            self.try_again(ctx, active.row, exit);
        }
        self.next(ctx);
        Ok(())
    }
}

fn known(c: &store::Connection, key: &SessionKey, runs: &[RunId]) -> Result<Known, StoreError> {
    let backlog = store::backlog(c, key.as_str())?;
    let mut told = Vec::new();
    for run in runs.iter().filter(|run| !backlog.iter().any(|row| row.run_id == run.as_str())) {
        told.extend(store::input_by_run(c, run.as_str())?);
    }
    Ok(Known { record: store::session(c, key.as_str())?, backlog, told })
}

impl Session {
    fn estate(&self) -> &Estate {
        &self.args.estate
    }

    fn publish(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.estate().conns.publish(event));
    }

    /// The session's row as of now.
    fn row(&self, now: i64) -> Value {
        let active = self.active.as_ref().map(|a| RunId::from(a.row.run_id.as_str()));
        self.record.as_ref().map_or_else(
            || json!({ "key": self.args.key }),
            |record| session_row(record, active.as_ref(), &self.estate().catalog.load(), now),
        )
    }

    fn tell_change(&self, why: Value, now: i64) {
        self.publish([changed_event(&self.args.key, why, &self.row(now), now)]);
    }

    fn tell_message(&self, row: &MessageRow, now: i64) {
        self.publish([message_event(&self.args.key, row, &self.row(now))]);
    }

    // ---- rebirth ----

    fn loaded(&mut self, ctx: &mut Ctx<SessionMsg>, known: Known) -> Result<(), Fault> {
        self.record = known.record;
        self.loaded = true;
        for row in known.told.into_iter().filter(|row| row.state.is_final()) {
            self.tell_end(ctx, &row, &[]);
        }
        for row in known.backlog {
            if row.state != InputState::Running {
                self.backlog.push_back(row);
                continue;
            }
            let turn = self.estate().ledgers.get(&RunId::from(row.run_id.as_str()));
            match turn.filter(|turn| ctx.node().child(&turn.lock().child).is_some()) {
                Some(turn) => self.adopt(row, turn),
                None if row.attempts >= MAX_ATTEMPTS => self.give_up(ctx, row, "it crashed twice"),
                None => self.backlog.push_front(row),
            }
        }
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    fn adopt(&mut self, row: InputRow, turn: Arc<Mutex<Turn>>) {
        let _ = turn.lock().run.send(RunMsg::Report);
        self.active = Some(Active { row, turn, pace: None, in_step: false, ended: false });
    }

    // ---- in ----

    fn submit(&mut self, ctx: &mut Ctx<SessionMsg>, submission: Submission) {
        if self.estate().is_draining() {
            let kind = submission.input.kind.clone();
            return submission.refuse(Refusal::draining(&kind, "accepting"));
        }
        if self.backlog.len() >= MAX_BACKLOG {
            return submission.refuse(Refusal::backlog_full(MAX_BACKLOG));
        }
        let begin = self.active.is_none() && self.backlog.is_empty() && !self.beginning;
        self.beginning |= begin;
        let now = ctx.now_ms();
        let run_id = submission.input.run_id.clone();
        let op = WriteOp::AcceptInput {
            input: submission.input.clone(),
            begin,
            user_message: begin.then(|| user_message(&submission.input, &submission.sender)),
            session: SessionUpdate {
                at: now,
                session_id_if_new: Some(Uuid::new_v4().to_string()),
                last_interaction_at: Some(now),
                status: begin.then(|| Some("running".into())),
                last_run_id: begin.then_some(Some(run_id)),
                started_at: begin.then_some(Some(now)),
                ended_at: begin.then_some(None),
                ..SessionUpdate::default()
            },
        };
        let (store, key) = (self.args.store.clone(), self.args.key.clone());
        ctx.task(async move { store.write(op).await }, move |written| {
            SessionMsg::Accepted(Box::new(submission), begin, Box::new(written))
        });
        tracing::debug!(target: "crabtree::sessions", %key, begin, "input");
    }

    fn accepted(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        submission: Submission,
        begin: bool,
        written: Written,
    ) -> Result<(), Fault> {
        if begin {
            self.beginning = false;
        }
        let (row, fresh, message) = match written {
            Ok(WriteReply::Accepted { row, fresh, message }) => (row, fresh, message),
            Ok(_) => return Err(Fault::new("the store answered an input with something else")),
            Err(e) => {
                let refusal = Refusal::failed(format!("the message was not accepted: {e}")).with_retry(1000);
                submission.refuse(refusal);
                return Ok(());
            }
        };
        // A write that was sent twice, because the store died in between, is still this submission.
        if !fresh && row.id != submission.input.id {
            answer_again(submission, &row);
            return Ok(());
        }
        self.acknowledge(submission, &row, ctx.now_ms());
        if row.state == InputState::Running {
            self.run(ctx, row, message);
        } else {
            self.backlog.push_back(row);
        }
        Ok(())
    }

    fn acknowledge(&self, submission: Submission, row: &InputRow, now: i64) {
        let (run_id, key) = (RunId::from(row.run_id.as_str()), &self.args.key);
        let Some(responder) = submission.responder else { return };
        match row.kind.as_str() {
            "agent" => {}
            "wake" => return responder.ok(&Done::TRUE),
            _ => return responder.ok(&json!({ "runId": run_id, "status": "started" })),
        }
        let mut ack = json!({
            "runId": run_id, "agentId": key.agent_id(), "status": "accepted", "acceptedAt": now,
        });
        if *key != SessionKey::explicit(key.agent_id(), run_id.as_str()) {
            ack["sessionKey"] = json!(key);
        }
        responder.ack(&ack);
        self.estate().waiters.add_final(run_id, responder);
    }

    // ---- the turn ----

    /// Begins the next attempt, if nothing runs.
    fn next(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if !self.loaded || self.beginning || self.active.is_some() || self.estate().is_draining() {
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

    fn began(&mut self, ctx: &mut Ctx<SessionMsg>, written: Written) -> Result<(), Fault> {
        self.beginning = false;
        match written {
            Ok(WriteReply::Began { row, .. }) if row.state.is_final() => Ok(()),
            Ok(WriteReply::Began { row, message }) => {
                // The row is written with the first attempt; later ones have told it already.
                let message = message.filter(|_| row.attempts == 1);
                self.run(ctx, row, message);
                Ok(())
            }
            other => Err(Fault::new(format!("an attempt was not counted: {:?}", other.err()))),
        }
    }

    fn run(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, message: Option<MessageRow>) {
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

    fn tell_start(&self, turn: &Mutex<Turn>, message: Option<&MessageRow>, now: i64) {
        self.tell_change(json!({ "reason": "send" }), now);
        let mut turn = turn.lock();
        if turn.by_chat {
            self.publish(turn.phase("preparing_workspace", now));
            self.publish(turn.phase("preparing_context", now));
        }
        if let Some(message) = message {
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

    fn news_of_run(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId, news: RunNews) {
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
            RunNews::Delta(_) => {}
            RunNews::Ended(end) => self.ended(ctx, end),
            RunNews::Report { text, ended } => {
                active.in_step = true;
                active.turn.lock().text = text;
                match ended {
                    Some(end) => self.ended(ctx, end),
                    None => self.pace(ctx, run_id),
                }
            }
        }
    }

    /// Tells what text there is; the timer runs on as long as there was some.
    fn pace(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: &RunId) {
        let Some(active) = self.active.as_mut().filter(|a| a.row.run_id == run_id.as_str() && !a.ended)
        else {
            return;
        };
        let events = active.turn.lock().flush(ctx.now_ms());
        active.pace = (!events.is_empty()).then(|| ctx.after(PACE, SessionMsg::Pace(run_id.clone())));
        self.publish(events);
    }

    fn ended(&mut self, ctx: &mut Ctx<SessionMsg>, end: RunEnd) {
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
    fn publish_rest(&self, row: &InputRow) {
        if let Some(turn) = self.estate().ledgers.get(&RunId::from(row.run_id.as_str())) {
            let events = turn.lock().flush(self.args.estate.clock.now_ms());
            self.publish(events);
        }
    }

    /// The run of `row` crashed: once more, or never again.
    fn try_again(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, exit: &Exit) {
        if row.attempts < MAX_ATTEMPTS && !row.external_effects {
            tracing::warn!(target: "crabtree::sessions", run = row.run_id, "run crashed; it is started again");
            self.backlog.push_front(row);
        } else {
            self.give_up(ctx, row, exit.kind.as_str());
        }
    }

    fn give_up(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, why: &str) {
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

    // ---- abort ----

    fn abort(
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
        if all.is_empty() {
            done.send(all);
        } else {
            self.aborts.push(Abort { left: all.iter().cloned().collect(), all, done });
        }
    }

    fn settle_aborted(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, reason: &str) {
        let (run_id, now) = (RunId::from(row.run_id.as_str()), ctx.now_ms());
        let session_id = self.record.as_ref().map_or_else(String::new, |r| r.session_id.clone());
        let key = self.args.key.clone();
        let turn =
            self.args.estate.ledgers.open(Turn::new(run_id, key, session_id, row.kind != "agent", now));
        let outcome = outcome(&turn.lock(), Status::Aborted, reason, Usage::default(), None, now);
        self.settle(ctx, &row, InputState::Settled, outcome);
    }

    // ---- out ----

    fn settle(&mut self, ctx: &mut Ctx<SessionMsg>, row: &InputRow, state: InputState, outcome: Outcome) {
        let run_id = RunId::from(row.run_id.as_str());
        if !self.settling.insert(run_id.clone()) {
            return;
        }
        let messages = outcome.assistant_message(&run_id).map(|message| NewMessage {
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
            messages: messages.into_iter().collect(),
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

    fn settled(&mut self, ctx: &mut Ctx<SessionMsg>, run_id: RunId, written: Written) -> Result<(), Fault> {
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
    fn tell_end(&mut self, ctx: &mut Ctx<SessionMsg>, row: &InputRow, messages: &[MessageRow]) {
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
            if outcome.status == Status::Ok {
                messages.iter().for_each(|message| self.tell_message(message, now));
            }
            self.publish(turn.lock().end(&outcome, now));
            if outcome.status != Status::Ok {
                messages.iter().for_each(|message| self.tell_message(message, now));
            }
            self.tell_change(json!({ "reason": "agent.input.settled" }), now);
            let phase = if outcome.status == Status::Error { "error" } else { "end" };
            self.tell_change(json!({ "phase": phase, "runId": run_id }), now);
        }
        self.estate().waiters.resolve(&run_id, &outcome);
    }
}

/// The same submission once more: what became of it.
fn answer_again(submission: Submission, row: &InputRow) {
    let Submission { input, responder: Some(responder), .. } = submission else { return };
    if input.kind != "agent" && row.kind == input.kind && row.digest != input.digest {
        return responder.refuse(Refusal::chat_request_conflict());
    }
    let run_id = RunId::from(row.run_id.as_str());
    let outcome = row.outcome.clone().and_then(|o| serde_json::from_value::<Outcome>(o).ok());
    match outcome {
        None if input.kind == "agent" => {
            let agent = input.session_key.split(':').nth(1).unwrap_or("main");
            responder.ok(&json!({
                "runId": run_id, "status": "in_flight", "sessionKey": row.session_key, "agentId": agent,
            }));
        }
        None => responder.ok(&json!({ "runId": run_id, "status": "in_flight" })),
        Some(outcome) if input.kind == "agent" => match outcome.agent_final(&run_id) {
            Ok(payload) => responder.ok(&payload),
            Err(failed) => responder.refuse_with(failed.0, &failed.1),
        },
        Some(outcome) if outcome.status == Status::Error => {
            let (refusal, payload) = outcome.failure(&run_id);
            responder.refuse_with(refusal, &payload);
        }
        Some(_) => responder.ok(&json!({ "runId": run_id, "status": "ok" })),
    }
}

fn outcome(
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
    }
}

fn user_message(input: &NewInput, sender: &Value) -> NewMessage {
    let key = format!("{}:user", input.run_id);
    NewMessage {
        id: input.id.clone(),
        session_key: input.session_key.clone(),
        session_id: String::new(),
        parent: None,
        kind: "user".into(),
        idempotency_key: Some(key.clone()),
        run_id: Some(input.run_id.clone()),
        hidden: false,
        message: json!({
            "role": "user",
            "content": input.text,
            "timestamp": input.created_at,
            "idempotencyKey": key,
            "__openclaw": sender,
        }),
        created_at: input.created_at,
    }
}

fn as_new(row: &InputRow) -> NewInput {
    NewInput {
        id: row.id.clone(),
        source: row.source.clone(),
        source_id: row.source_id.clone(),
        session_key: row.session_key.clone(),
        run_id: row.run_id.clone(),
        kind: row.kind.clone(),
        text: row.text.clone(),
        digest: row.digest.clone(),
        body: row.body.clone(),
        created_at: row.created_at,
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
