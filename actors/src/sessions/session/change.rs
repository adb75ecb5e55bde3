//! Changes of the session itself (its label, its transcript, its being): made durable in their turn among what
//! comes in, then told.

use super::intake::Arrival;
use super::{Session, SessionMsg};
use crate::kill_points::KillPoint;
use crate::store::{SessionRecord, StoreError, WriteOp, WriteReply};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use futures_util::future::BoxFuture;
use serde_json::json;

/// What is to be written, given what is known now (and when that is, ms); or why nothing is.
pub type Make = Box<dyn FnOnce(Option<&SessionRecord>, i64) -> Result<WriteOp, Refusal> + Send>;

/// Whether the session is the one that is meant, before anything is stopped for it.
pub type Check = Box<dyn FnOnce(Option<&SessionRecord>) -> Result<(), Refusal> + Send>;

/// What has to be done before a change is written. Nothing comes into the session meanwhile.
pub type First = BoxFuture<'static, Result<(), Refusal>>;

/// A change somebody asks for.
pub struct Change {
    /// Whether the session is the one that is meant.
    pub check: Option<Check>,
    /// The running turn and everything that waits is stopped first, with this `stopReason`.
    pub stop: Option<&'static str>,
    /// Makes what is written. Only this session may be updated or deleted by it.
    pub make: Make,
    /// Done before it is written. If it fails, nothing is written.
    pub first: Option<First>,
    /// What subscribers hear when it is durable.
    pub told: Told,
    /// What came of it.
    pub done: Reply<Result<Changed, Refusal>>,
}

/// What subscribers hear of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// `sessions.changed` with this reason and the session's row.
    Reason(&'static str),
    /// The same with reason `delete` and no row.
    Gone,
    /// Nothing: nobody sees a difference.
    Nothing,
}

/// What came of a change.
pub struct Changed {
    /// What the store says.
    pub reply: WriteReply,
    /// The session after it; `None` if it is gone.
    pub record: Option<SessionRecord>,
}

/// A change that was written, or not.
pub struct Written {
    op: WriteOp,
    told: Told,
    done: Reply<Result<Changed, Refusal>>,
    reply: Result<WriteReply, Refusal>,
}

fn not_written(error: StoreError) -> Refusal {
    match error {
        StoreError::Conflict { what } => Refusal::invalid_request(what),
        e => Refusal::failed(format!("the session was not changed: {e}")),
    }
}

impl Session {
    /// Begins a change; false if it has to wait until what runs has been stopped.
    pub(super) fn change(&mut self, ctx: &mut Ctx<SessionMsg>, mut change: Box<Change>) -> bool {
        let checked = change.check.take().map_or(Ok(()), |check| check(self.record.as_ref()));
        if let Err(refusal) = checked {
            change.done.send(Err(refusal));
            return true;
        }
        let is_quiet = self.active.is_none() && self.backlog.is_empty() && self.settling.is_empty();
        if let Some(reason) = change.stop.filter(|_| !is_quiet) {
            if self.settling.is_empty() {
                self.abort(ctx, None, reason, Reply::new(|_| {}));
            }
            self.arrivals.push_front(Arrival::Change(change));
            return false;
        }
        let Change { make, first, told, done, .. } = *change;
        let op = match make(self.record.as_ref(), ctx.now_ms()) {
            Ok(op) => op,
            Err(refusal) => {
                done.send(Err(refusal));
                return true;
            }
        };
        self.changing = true;
        let store = self.args.store.clone();
        let write = async move {
            let ready = match first {
                Some(first) => first.await,
                None => Ok(()),
            };
            let reply = match ready {
                Ok(()) => store.write(op.clone()).await.map_err(not_written),
                Err(refusal) => Err(refusal),
            };
            Box::new(Written { op, told, done, reply })
        };
        ctx.task(write, SessionMsg::Changed);
        true
    }

    pub(super) fn changed(&mut self, written: Written) {
        self.estate().kill_points.reach(KillPoint::SessionChanged);
        self.changing = false;
        let Written { op, told, done, reply } = written;
        let reply = match reply {
            Ok(reply) => reply,
            Err(refusal) => return done.send(Err(refusal)),
        };
        let now = self.estate().clock.now_ms();
        let session_id = self.session_id();
        self.take_over(&op);
        self.tell_written(&reply, now);
        if self.record.as_ref().is_none_or(|record| record.entry.get("archivedAt").is_some()) {
            // Nothing goes on in a session that is put away or gone.
            self.estate().terminals.end_of(&self.args.key);
        }
        match told {
            Told::Reason(reason) => self.tell_change(json!({ "reason": reason }), now),
            Told::Gone => {
                self.publish([crate::sessions::rows::gone_event(&self.args.key, &session_id, now)]);
            }
            Told::Nothing => {}
        }
        done.send(Ok(Changed { reply, record: self.record.clone() }));
    }

    /// What was written about this session holds here, too.
    fn take_over(&mut self, op: &WriteOp) {
        match op {
            WriteOp::All(ops) => ops.iter().for_each(|op| self.take_over(op)),
            WriteOp::UpdateSession { key, update } if *key == self.args.key.as_str() => self.note(update),
            WriteOp::DeleteSession { key, .. } if *key == self.args.key.as_str() => self.record = None,
            _ => {}
        }
    }

    /// Rows that were added are told.
    fn tell_written(&self, reply: &WriteReply, now: i64) {
        match reply {
            WriteReply::All(replies) => replies.iter().for_each(|reply| self.tell_written(reply, now)),
            WriteReply::Appended(row, true) if row.session_key == self.args.key.as_str() && !row.hidden => {
                self.tell_message(row, now);
            }
            _ => {}
        }
    }
}
