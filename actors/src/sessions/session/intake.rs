//! What comes in: submissions, made durable before they are acknowledged; and what is to be stopped.

use super::change::Change;
use super::{Session, SessionMsg};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::media::{self, Uploads};
use crate::reset::{Lived, ResetPolicy, reset_due};
use crate::responder::Responder;
use crate::routing::reset_type;
use crate::sessions::outcome::{Outcome, Status};
use crate::sessions::queue::{MAX_WAITING, is_detached, mode_of};
use crate::settings::{DropPolicy, QueueSettings};
use crate::store::{InputRow, InputState, NewInput, NewMessage, SessionUpdate, WriteOp, WriteReply, Written};
use crate::suspension::Phase;
use crate::tree::{Ctx, Fault, Reply};
use crabtree_protocol::params::chat::QueueMode;
use crabtree_protocol::params::core::Ok as Done;
use crabtree_protocol::{Refusal, RunId, SessionKey};
use serde_json::{Value, json};
use uuid::Uuid;

/// Something a client asks a session to do.
pub struct Submission {
    /// The input, not yet durable. `queueMode` of its body: how it is queued, instead of as its session does.
    pub input: NewInput,
    /// The transcript row's `__openclaw`: who sent it, and what came with it.
    pub sender: Value,
    /// What came with it, not yet on the disk.
    pub uploads: Uploads,
    /// Who asked; nobody, if it was the gateway itself.
    pub responder: Option<Responder>,
    /// Whether the session is not created for it.
    pub must_exist: bool,
}

impl Submission {
    fn refuse(self, refusal: Refusal) {
        if let Some(responder) = self.responder {
            responder.refuse(refusal);
        }
    }
}

/// Something that came in and is taken in its turn.
pub(super) enum Arrival {
    /// To be made durable.
    Said(Box<Submission>),
    /// [`SessionMsg::Abort`]: it stops what was said before it, and nothing that is said after it.
    Stop { run_id: Option<RunId>, reason: &'static str, done: Reply<Vec<RunId>> },
    /// Durable, and about to take the place of what runs; and whether its sender is new here.
    Interrupts(Box<(Submission, InputRow)>, bool),
    /// A change of the session itself.
    Change(Box<Change>),
}

impl Session {
    pub(super) fn submit(&mut self, submission: Submission) {
        if self.estate().is_draining() {
            let kind = submission.input.kind.clone();
            return submission.refuse(Refusal::draining(&kind, "accepting"));
        }
        let phase = self.estate().suspension.phase();
        if phase != Phase::Accepting {
            let kind = submission.input.kind.clone();
            return submission.refuse(Refusal::suspended(&kind, phase.name()));
        }
        let settings = self.queue_settings();
        let limit = if settings.drop == DropPolicy::New { settings.cap } else { MAX_WAITING };
        let waiting = self.arrivals.len() + usize::from(self.accepting == Some(false));
        if self.backlog.len() + waiting >= limit {
            return submission.refuse(Refusal::backlog_full(limit));
        }
        self.arrivals.push_back(Arrival::Said(Box::new(submission)));
    }

    /// Takes in what has arrived. One write at a time: two that are sent again, because the store died
    /// with them, could change places.
    pub(super) fn take_in(&mut self, ctx: &mut Ctx<SessionMsg>) {
        while self.loaded && self.accepting.is_none() && !self.changing {
            // An attempt that is being counted cannot be stopped yet.
            if self.beginning && !matches!(self.arrivals.front(), Some(Arrival::Said(_))) {
                return;
            }
            match self.arrivals.pop_front() {
                Some(Arrival::Said(submission)) => self.accept(ctx, *submission),
                Some(Arrival::Stop { run_id, reason, done }) => self.abort(ctx, run_id, reason, done),
                Some(Arrival::Interrupts(said, joins)) => self.interrupt(ctx, *said, joins),
                Some(Arrival::Change(change)) => {
                    if !self.change(ctx, change) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// How it is queued if a turn runs: the two responses of `agent` name its own run.
    fn mode(&self, said: &Submission) -> QueueMode {
        let wish = said.input.body.get("queueMode").and_then(Value::as_str).and_then(QueueMode::from_name);
        match said.input.kind.as_str() {
            "chat.send" => wish.unwrap_or_else(|| self.queue_settings().mode),
            _ => wish.unwrap_or(QueueMode::Followup),
        }
    }

    fn accept(&mut self, ctx: &mut Ctx<SessionMsg>, mut submission: Submission) {
        if submission.must_exist && self.record.is_none() {
            return submission.refuse(Refusal::session_not_found(self.args.key.as_str()));
        }
        let begin = self.is_idle() && self.backlog.is_empty();
        let mode = self.mode(&submission);
        let input = &mut submission.input;
        input.body["queueMode"] = json!(mode.name());
        if !begin && input.kind == "chat.send" && matches!(mode, QueueMode::Followup | QueueMode::Collect) {
            input.body["detached"] = json!(true);
        }
        self.accepting = Some(begin);
        self.beginning |= begin;
        let now = ctx.now_ms();
        let mut session = SessionUpdate {
            at: now,
            session_id_if_new: Some(Uuid::new_v4().to_string()),
            last_interaction_at: Some(now),
            entry: self.heard(&submission),
            ..if begin { beginning(&submission.input.run_id, now) } else { SessionUpdate::default() }
        };
        if begin && submission.input.kind == "chat.send" && self.is_worn_out(now) {
            start_anew(&mut session, self.session_id(), now);
        }
        let op = WriteOp::AcceptInput {
            input: submission.input.clone(),
            begin,
            user_message: begin.then(|| user_message(&submission.input, &submission.sender)),
            session: session.clone(),
        };
        let (store, key) = (self.args.store.clone(), self.args.key.clone());
        let uploads = std::mem::take(&mut submission.uploads);
        let (inbox, id) = (self.estate().inbox.clone(), submission.input.id.clone());
        let write = async move {
            // What a row names is there before it.
            inbox.keep(uploads, &id).await?;
            store.write(op).await
        };
        ctx.task(write, move |written| {
            SessionMsg::Accepted(Box::new(submission), Box::new(session), Box::new(written))
        });
        tracing::debug!(target: "crabtree::sessions", %key, begin, "input");
    }

    pub(super) fn accepted(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        submission: Submission,
        update: &SessionUpdate,
        written: Written,
    ) -> Result<(), Fault> {
        let begin = self.accepting.take() == Some(true);
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
            let twice = media::names(&submission.sender).map(str::to_owned).collect();
            ctx.detached(self.estate().inbox.clone().discard(twice));
            answer_again(submission, &row);
            return Ok(());
        }
        self.estate().kill_points.reach(KillPoint::SessionBeforeAck);
        let joins = update.entry.as_ref().is_some_and(|entry| entry.get("participants").is_some());
        self.note(update);
        if row.state == InputState::Running {
            self.acknowledge(submission, &row);
            let run_id = RunId::from(row.run_id.as_str());
            let reasons = if joins { &["send", "participants"][..] } else { &["send"] };
            self.count_waits(std::slice::from_ref(&row), ctx.now_ms());
            self.run(ctx, &run_id, vec![row], message.into_iter().collect(), &[], reasons);
        } else if mode_of(&row) == QueueMode::Interrupt {
            self.arrivals.push_front(Arrival::Interrupts(Box::new((submission, row)), joins));
        } else {
            self.acknowledge(submission, &row);
            self.queue(ctx, row, joins);
        }
        Ok(())
    }

    /// It ends what runs, and is answered when that has ended.
    fn interrupt(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        (submission, row): (Submission, InputRow),
        joins: bool,
    ) {
        let (estate, key) = (self.args.estate.clone(), self.args.key.clone());
        let said = row.clone();
        let done = Reply::new(move |ended: Option<Vec<RunId>>| {
            if let Some(ended) = ended {
                acknowledge(&estate, &key, submission, &said, !ended.is_empty());
            }
        });
        self.make_room(ctx, done);
        self.tell_queued(joins, ctx.now_ms());
        self.backlog.push_first(row);
    }

    fn tell_queued(&self, joins: bool, now: i64) {
        self.tell_change(json!({ "reason": "send" }), now);
        if joins {
            self.tell_change(json!({ "reason": "participants" }), now);
        }
    }

    fn queue(&mut self, ctx: &mut Ctx<SessionMsg>, row: InputRow, joins: bool) {
        let now = ctx.now_ms();
        self.tell_queued(joins, now);
        if is_detached(&row) {
            self.tell_delivered(&row, now);
        }
        self.backlog.push(row);
        let QueueSettings { cap, drop, .. } = self.queue_settings();
        if drop == DropPolicy::Old {
            for row in self.backlog.take_overflow(cap) {
                self.drop_for_lack_of_room(ctx, row, cap);
            }
        }
    }

    fn acknowledge(&self, submission: Submission, row: &InputRow) {
        acknowledge(&self.args.estate, &self.args.key, submission, row, false);
    }

    /// Whether the reset policy says that it starts anew with what is said now.
    fn is_worn_out(&self, now: i64) -> bool {
        let Some(record) = &self.record else { return false };
        let settings = &self.estate().config.load().settings.session;
        let key = &self.args.key;
        let policy = ResetPolicy::resolve(settings, reset_type(key, None), self.channel());
        let started = record.entry.get("sessionStartedAt").and_then(Value::as_i64);
        let lived = Lived {
            started_ms: started.unwrap_or(record.created_at),
            last_interaction_ms: record.last_interaction_at.unwrap_or(record.updated_at),
        };
        reset_due(policy, lived, now, &chrono::Local)
    }
}

/// An empty transcript under a new id; the old one stays where it is.
fn start_anew(session: &mut SessionUpdate, before: String, now: i64) {
    let mut entry = session.entry.take().unwrap_or_else(|| json!({}));
    entry["sessionStartedAt"] = json!(now);
    entry["previousSessionId"] = json!(before);
    entry["compaction"] = Value::Null;
    session.entry = Some(entry);
    session.session_id = Some(Uuid::new_v4().to_string());
    session.revision = Some(Uuid::new_v4().to_string());
}

/// What is written of a session whose turn begins.
pub(super) fn beginning(run_id: &str, now: i64) -> SessionUpdate {
    SessionUpdate {
        at: now,
        status: Some(Some("running".into())),
        last_run_id: Some(Some(run_id.to_owned())),
        started_at: Some(Some(now)),
        ended_at: Some(None),
        ..SessionUpdate::default()
    }
}

fn acknowledge(estate: &Estate, key: &SessionKey, submission: Submission, row: &InputRow, interrupted: bool) {
    answer(estate, key, submission, row, interrupted);
    estate.kill_points.reach(KillPoint::SessionAfterAck);
}

fn answer(estate: &Estate, key: &SessionKey, submission: Submission, row: &InputRow, interrupted: bool) {
    let run_id = RunId::from(row.run_id.as_str());
    let Some(responder) = submission.responder else { return };
    let mut ack = match row.kind.as_str() {
        "wake" => return responder.ok(&Done::TRUE),
        "agent" => json!({
            "runId": run_id, "agentId": key.agent_id(), "status": "accepted",
            "acceptedAt": estate.clock.now_ms(),
        }),
        _ => json!({ "runId": run_id, "status": "started" }),
    };
    if interrupted {
        ack["interruptedActiveRun"] = json!(true);
    }
    if row.kind != "agent" {
        return responder.ok(&ack);
    }
    if row.body.get("unnamed").is_none() {
        ack["sessionKey"] = json!(key);
    }
    responder.ack(&ack);
    estate.waiters.add_final(run_id, key.clone(), responder);
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

/// The transcript row of an input.
pub(super) fn user_message(input: &NewInput, sender: &Value) -> NewMessage {
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

/// The same of an input that has waited: it belongs to the turn that answers it.
pub(super) fn asked(row: &InputRow, turn: &RunId) -> NewMessage {
    let input = NewInput {
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
        priority: row.priority,
    };
    let message = user_message(&input, &row.body.get("sender").cloned().unwrap_or_default());
    NewMessage { run_id: Some(turn.to_string()), ..message }
}
