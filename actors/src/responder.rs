//! Exactly one answer per request.

use crate::audit::Note;
use crate::conns::Conn;
use crate::meters::Answered;
use crate::tree::Reply;
use crabtree_protocol::frame::{encode_error_with_payload, encode_ok, encode_refusal};
use crabtree_protocol::refusal::ErrorCode;
use crabtree_protocol::{ConnId, Refusal};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Milliseconds after which a client whose request was lost with an actor should try again.
const RETRY_AFTER_MS: u64 = 100;

/// Makes the answer out of what whoever was asked said, or refused.
type Shape = Box<dyn FnOnce(Result<Value, Refusal>) -> Value + Send>;

/// Travels with a request to whoever answers it. Dropped unanswered, because an actor died with it, it
/// answers retryable `UNAVAILABLE`.
pub struct Responder {
    conn: Arc<Conn>,
    id: Box<str>,
    answered: bool,
    since: Option<Instant>,
    shape: Option<Shape>,
    inside: Option<Reply<Result<Value, Refusal>>>,
    note: Option<Note>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// For the request `id` (raw JSON) of `conn`, which was taken up then. The permit is given back with the answer.
    pub fn new(
        conn: Arc<Conn>,
        id: &str,
        permit: Option<OwnedSemaphorePermit>,
        since: Option<Instant>,
    ) -> Self {
        let id = id.into();
        Self { conn, id, answered: false, since, shape: None, inside: None, note: None, _permit: permit }
    }

    /// For somebody in the gateway itself, who asks in place of a client: what comes in on a channel.
    pub fn inside(conn: Arc<Conn>, answer: Reply<Result<Value, Refusal>>) -> Self {
        Self {
            conn,
            id: "".into(),
            answered: false,
            since: None,
            shape: None,
            inside: Some(answer),
            note: None,
            _permit: None,
        }
    }

    /// Has the ledger of acts hear what it comes to.
    pub fn noted(mut self, note: Option<Note>) -> Self {
        self.note = note;
        self
    }

    fn came_to(&mut self, what: Result<(), &Refusal>) {
        if let Some(note) = self.note.take() {
            note.end(what);
        }
    }

    /// Lets the answer be a part of another, whether it is a payload or a refusal.
    pub fn within(mut self, shape: impl FnOnce(Result<Value, Refusal>) -> Value + Send + 'static) -> Self {
        self.shape = Some(Box::new(shape));
        self
    }

    /// The connection that asked.
    pub fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Its id.
    pub fn conn_id(&self) -> &ConnId {
        self.conn.id()
    }

    /// Answers with a payload.
    pub fn ok(mut self, payload: &impl Serialize) {
        self.came_to(Ok(()));
        if let Some(shape) = self.shape.take() {
            let part = serde_json::to_value(payload);
            return self.ok(&shape(part.map_err(|e| Refusal::failed(e.to_string()))));
        }
        if let Some(inside) = self.inside.take() {
            self.answered = true;
            return inside.send(serde_json::to_value(payload).map_err(|e| Refusal::failed(e.to_string())));
        }
        match serde_json::to_vec(payload) {
            Ok(json) => self.ok_json(&json),
            Err(e) => self.refuse(Refusal::failed(format!("the answer could not be written: {e}"))),
        }
    }

    /// Answers with a payload that is JSON already.
    pub fn ok_json(mut self, payload: &[u8]) {
        if self.shape.is_some() || self.inside.is_some() {
            return self.settle(
                serde_json::from_slice::<Value>(payload).map_err(|e| Refusal::failed(e.to_string())),
            );
        }
        self.came_to(Ok(()));
        self.answered = true;
        self.conn.outbox.frame(encode_ok(&self.id, payload));
        self.count(Answered::Well);
    }

    fn count(&self, answered: Answered) {
        self.conn.tally.count(answered, self.since.map(|since| since.elapsed()));
    }

    /// Says that the request is accepted; the final answer with the same id follows (method `agent`).
    pub fn ack(&self, payload: &impl Serialize) {
        if self.inside.is_some() {
            return;
        }
        let json = serde_json::to_vec(payload).expect("acknowledgements are plain data");
        self.conn.outbox.frame(encode_ok(&self.id, &json));
    }

    /// Refuses.
    pub fn refuse(mut self, refusal: Refusal) {
        self.came_to(Err(&refusal));
        if let Some(shape) = self.shape.take() {
            return self.ok(&shape(Err(refusal)));
        }
        self.answered = true;
        match self.inside.take() {
            Some(inside) => inside.send(Err(refusal)),
            None => {
                self.conn.outbox.frame(encode_refusal(&self.id, &refusal));
                self.count(kind(&refusal));
            }
        }
    }

    /// Refuses, with a payload beside the error (recorded for failed runs).
    pub fn refuse_with(mut self, refusal: Refusal, payload: &impl Serialize) {
        if self.shape.is_some() || self.inside.is_some() {
            return self.refuse(refusal);
        }
        self.came_to(Err(&refusal));
        self.answered = true;
        let json = serde_json::to_vec(payload).expect("failed runs are plain data");
        self.conn.outbox.frame(encode_error_with_payload(&self.id, &refusal, &json));
        self.count(kind(&refusal));
    }

    /// Answers with what a pure function decided.
    pub fn settle<T: Serialize>(self, answer: Result<T, Refusal>) {
        match answer {
            Ok(payload) => self.ok(&payload),
            Err(refusal) => self.refuse(refusal),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // Whoever asks inside hears that their question was dropped.
        if !self.answered && self.inside.is_none() {
            self.conn.outbox.frame(encode_refusal(&self.id, &Refusal::unavailable(RETRY_AFTER_MS)));
            self.count(Answered::Unavailable);
        }
    }
}

fn kind(refusal: &Refusal) -> Answered {
    if refusal.code == ErrorCode::Unavailable { Answered::Unavailable } else { Answered::Refused }
}
