//! What comes in: submissions, made durable before they are acknowledged.

use super::{Session, SessionMsg};
use crate::responder::Responder;
use crate::sessions::outcome::{Outcome, Status};
use crate::store::{InputRow, InputState, NewInput, NewMessage, SessionUpdate, WriteOp, WriteReply, Written};
use crate::tree::{Ctx, Fault, Reply};
use crabtree_protocol::params::core::Ok as Done;
use crabtree_protocol::{Refusal, RunId};
use serde_json::{Value, json};
use uuid::Uuid;

/// Inputs that may wait for their turn.
pub const MAX_BACKLOG: usize = 20;

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

/// Something that came in and is taken in its turn.
pub(super) enum Arrival {
    /// To be made durable.
    Said(Box<Submission>),
    /// [`SessionMsg::Abort`]: it stops what was said before it, and nothing that is said after it.
    Stop { run_id: Option<RunId>, reason: &'static str, done: Reply<Vec<RunId>> },
}

impl Session {
    pub(super) fn submit(&mut self, submission: Submission) {
        if self.estate().is_draining() {
            let kind = submission.input.kind.clone();
            return submission.refuse(Refusal::draining(&kind, "accepting"));
        }
        let waiting = self.arrivals.len() + usize::from(self.accepting == Some(false));
        if self.backlog.len() + waiting >= MAX_BACKLOG {
            return submission.refuse(Refusal::backlog_full(MAX_BACKLOG));
        }
        self.arrivals.push_back(Arrival::Said(Box::new(submission)));
    }

    /// Takes in what has arrived. One write at a time: two that are sent again, because the store died
    /// with them, could change places.
    pub(super) fn take_in(&mut self, ctx: &mut Ctx<SessionMsg>) {
        while self.loaded && self.accepting.is_none() {
            // An attempt that is being counted cannot be stopped yet.
            if self.beginning && matches!(self.arrivals.front(), Some(Arrival::Stop { .. })) {
                return;
            }
            match self.arrivals.pop_front() {
                Some(Arrival::Said(submission)) => self.accept(ctx, *submission),
                Some(Arrival::Stop { run_id, reason, done }) => self.abort(ctx, run_id, reason, done),
                None => return,
            }
        }
    }

    fn accept(&mut self, ctx: &mut Ctx<SessionMsg>, submission: Submission) {
        let begin = self.is_idle() && self.backlog.is_empty();
        self.accepting = Some(begin);
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

    pub(super) fn accepted(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        submission: Submission,
        begin: bool,
        written: Written,
    ) -> Result<(), Fault> {
        self.accepting = None;
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

    pub(super) fn acknowledge(&self, submission: Submission, row: &InputRow, now: i64) {
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
        if row.body.get("unnamed").is_none() {
            ack["sessionKey"] = json!(key);
        }
        responder.ack(&ack);
        self.estate().waiters.add_final(run_id, key.clone(), responder);
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

pub(super) fn as_new(row: &InputRow) -> NewInput {
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
