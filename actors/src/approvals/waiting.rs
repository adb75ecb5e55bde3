//! A request that waits, and who waits for its end.

use super::request::{Decision, Key, Kind, Outcome, Requester};
use super::{MAX_WAITERS, audience, shown, taken};
use crate::event::Audience;
use crate::responder::Responder;
use crate::store::ApprovalRow;
use crate::tree::Reply;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::Accepted;
use crabtree_protocol::params::questions::{Answered, QuestionStatus, Requested};

/// Somebody who waits.
pub(super) enum Waiter {
    /// The client that asks.
    Asker {
        /// Where the answer goes.
        responder: Responder,
        /// Whether it is told that the request was taken.
        two_phase: bool,
    },
    /// The gateway itself.
    Gateway(Reply<Decision>),
    /// A client that wants to know the end.
    Client {
        /// Where the answer goes.
        responder: Responder,
        /// When it has waited long enough, ms.
        until_ms: Option<i64>,
    },
}

/// A request that waits, or is on its way to the store.
pub(super) struct Entry {
    pub row: ApprovalRow,
    requester: Option<Requester>,
    pub bytes: usize,
    /// It is in the store.
    pub stored: bool,
    /// Its end is on its way to the store because it is late.
    pub closing: bool,
    /// It waits even if nobody can be asked.
    pub routeless: bool,
    pub waiters: Vec<Waiter>,
}

/// Bytes a request takes, about.
pub(super) fn size(row: &ApprovalRow) -> usize {
    row.id.len() + row.request.to_string().len()
}

impl Entry {
    pub fn new(row: ApprovalRow) -> Self {
        let (requester, bytes) = (Requester::stored(&row), size(&row));
        Self { row, requester, bytes, stored: false, closing: false, routeless: false, waiters: Vec::new() }
    }

    pub fn is_silent(&self) -> bool {
        self.requester.as_ref().is_some_and(|requester| requester.silent)
    }

    /// The client that asks; `None` for the gateway itself.
    pub fn requester(&self) -> Option<&Requester> {
        self.requester.as_ref()
    }

    /// Who hears of it; of an approval not who asks for it, if so wanted.
    pub fn audience(&self, kind: Kind, but_asker: bool) -> Audience {
        let asker = self.requester.as_ref().map(|requester| requester.conn);
        audience(kind, self.requester(), asker.filter(|_| but_asker && kind != Kind::Question))
    }

    /// When something is to be done about it, ms.
    pub fn due_ms(&self) -> Option<i64> {
        let end = (self.stored && !self.closing).then_some(self.row.expires_at);
        let tired = self.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Client { until_ms, .. } => *until_ms,
            _ => None,
        });
        tired.chain(end).min()
    }

    /// Adds a client that waits, unless too many do already. Who is gone makes room.
    pub fn add(&mut self, responder: Responder, until_ms: Option<i64>) {
        self.waiters.retain(|waiter| match waiter {
            Waiter::Asker { responder, .. } | Waiter::Client { responder, .. } => {
                !responder.conn().outbox.is_closing()
            }
            Waiter::Gateway(_) => true,
        });
        if self.waiters.len() >= MAX_WAITERS {
            return responder.refuse(Refusal::too_many_waiting());
        }
        self.waiters.push(Waiter::Client { responder, until_ms });
    }

    /// The request is taken: tells who asked for it, as far as they want to know now.
    pub fn accept(&mut self, kind: Kind, route: &str) {
        let (id, at) = (self.row.id.clone(), |ms: i64| ms.max(0).unsigned_abs());
        let expires_at_ms = at(self.row.expires_at);
        for waiter in std::mem::take(&mut self.waiters) {
            match waiter {
                Waiter::Asker { responder, .. } if kind == Kind::Question => {
                    responder.ok(&Requested { id: id.clone(), expires_at_ms });
                }
                Waiter::Asker { responder, two_phase } => {
                    if two_phase {
                        responder.ack(&Accepted {
                            status: "accepted".into(),
                            id: id.clone(),
                            delivery_route: route.into(),
                            created_at_ms: at(self.row.created_at),
                            expires_at_ms,
                        });
                    }
                    self.waiters.push(Waiter::Asker { responder, two_phase });
                }
                other => self.waiters.push(other),
            }
        }
    }

    /// Tells those that have waited long enough.
    pub fn tell_still_pending(&mut self, now: i64) {
        let tired = |waiter: &mut Waiter| matches!(waiter, Waiter::Client { until_ms: Some(until), .. } if *until <= now);
        for waiter in self.waiters.extract_if(.., tired) {
            if let Waiter::Client { responder, .. } = waiter {
                responder.ok(&Answered { status: QuestionStatus::Pending, id: None, answers: None });
            }
        }
    }

    /// It is over: tells all that wait.
    pub fn answer(self, kind: Kind, row: &ApprovalRow, outcome: &Outcome) {
        for waiter in self.waiters {
            match waiter {
                Waiter::Gateway(reply) => reply.send(outcome.into()),
                Waiter::Client { responder, .. } => tell_end(responder, kind, row, outcome),
                Waiter::Asker { responder, .. } => responder.ok(&shown::decided(row, outcome, false)),
            }
        }
    }

    /// There was a request with its id before it: to the gateway it is the same, to a client another one.
    pub fn answer_with_earlier(self, key: &Key, earlier: &ApprovalRow) {
        let outcome = Outcome::stored(earlier);
        for waiter in self.waiters {
            match (waiter, &outcome) {
                (Waiter::Gateway(reply), Some(outcome)) => reply.send(outcome.into()),
                (Waiter::Gateway(reply), None) => drop(reply),
                (Waiter::Asker { responder, .. } | Waiter::Client { responder, .. }, _) => {
                    responder.refuse(taken(key));
                }
            }
        }
    }

    /// The store did not take it. What nobody could be asked about is not allowed.
    pub fn give_up(self) {
        for waiter in self.waiters {
            match waiter {
                Waiter::Gateway(reply) => reply.send(Decision::Deny),
                Waiter::Asker { responder, .. } | Waiter::Client { responder, .. } => {
                    responder.refuse(Refusal::approval_unavailable("request"));
                }
            }
        }
    }
}

/// Tells a client the end it waited for.
pub(super) fn tell_end(responder: Responder, kind: Kind, row: &ApprovalRow, outcome: &Outcome) {
    match kind {
        Kind::Question => responder.ok(&shown::answered(outcome)),
        Kind::Exec | Kind::Plugin => responder.ok(&shown::decided(row, outcome, true)),
    }
}
