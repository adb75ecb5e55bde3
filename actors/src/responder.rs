//! Exactly one answer per request.

use crate::conns::Conn;
use crabtree_protocol::frame::{encode_error_with_payload, encode_ok, encode_refusal};
use crabtree_protocol::{ConnId, Refusal};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Milliseconds after which a client whose request was lost with an actor should try again.
const RETRY_AFTER_MS: u64 = 100;

/// Travels with a request to whoever answers it. Dropped unanswered, because an actor died with it, it
/// answers retryable `UNAVAILABLE`.
pub struct Responder {
    conn: Arc<Conn>,
    id: Box<str>,
    answered: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// For the request `id` (raw JSON) of `conn`. The permit is given back with the answer.
    pub fn new(conn: Arc<Conn>, id: &str, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { conn, id: id.into(), answered: false, _permit: permit }
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
    pub fn ok(self, payload: &impl Serialize) {
        match serde_json::to_vec(payload) {
            Ok(json) => self.ok_json(&json),
            Err(e) => self.refuse(Refusal::failed(format!("the answer could not be written: {e}"))),
        }
    }

    /// Answers with a payload that is JSON already.
    pub fn ok_json(mut self, payload: &[u8]) {
        self.answered = true;
        self.conn.outbox.frame(encode_ok(&self.id, payload));
    }

    /// Says that the request is accepted; the final answer with the same id follows (method `agent`).
    pub fn ack(&self, payload: &impl Serialize) {
        let json = serde_json::to_vec(payload).expect("acknowledgements are plain data");
        self.conn.outbox.frame(encode_ok(&self.id, &json));
    }

    /// Refuses.
    pub fn refuse(mut self, refusal: Refusal) {
        self.answered = true;
        self.conn.outbox.frame(encode_refusal(&self.id, &refusal));
    }

    /// Refuses, with a payload beside the error (recorded for failed runs).
    pub fn refuse_with(mut self, refusal: Refusal, payload: &impl Serialize) {
        self.answered = true;
        let json = serde_json::to_vec(payload).expect("failed runs are plain data");
        self.conn.outbox.frame(encode_error_with_payload(&self.id, &refusal, &json));
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
        if !self.answered {
            self.conn.outbox.frame(encode_refusal(&self.id, &Refusal::unavailable(RETRY_AFTER_MS)));
        }
    }
}
