//! Decisions: what is meant, whether it counts, and what everybody is told then.

use super::request::{By, Key, Kind, Outcome, may_see};
use super::waiting::tell_end;
use super::{Approvals, ApprovalsMsg, RETRY_MS, Resolve, questions, shown};
use crate::responder::Responder;
use crate::store::{self, ApprovalRow, StoreError, WriteOp, WriteReply, Written};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::{ApprovalDecision, ApprovalKind, Resolved};
use crabtree_protocol::params::core;
use crabtree_protocol::params::questions::{Answers, Question};

/// What a client says to a request.
#[derive(Clone, Debug)]
pub enum Said {
    /// Yes or no.
    Decision(ApprovalDecision),
    /// The same, to something it takes for an approval of this kind. What cannot be meant is a no.
    Verdict(ApprovalKind, ApprovalDecision),
    /// The answers.
    Answers(Answers, Option<String>),
    /// No answer.
    Decline(Option<String>),
}

/// How a decision is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whether it counts: as `exec.approval.resolve` and `plugin.approval.resolve` are.
    Ok(ApprovalDecision),
    /// With the approval: as `approval.resolve` is.
    Approval,
    /// With the answers: as `question.resolve` is.
    Question,
}

/// An end on its way to the store.
pub struct Closing {
    key: Key,
    outcome: Outcome,
    at: i64,
    answer: Option<(Shape, Responder)>,
}

impl Shape {
    /// Nothing there to decide on.
    fn unknown(self, key: &Key) -> Refusal {
        match self {
            Self::Ok(_) => Refusal::unknown_approval(),
            Self::Approval => Refusal::approval_not_found(),
            Self::Question => Refusal::question_not_found(&key.id),
        }
    }

    /// Answers a decision; `applied` if it is the one that counts.
    fn answer(self, responder: Responder, row: &ApprovalRow, outcome: &Outcome, applied: bool) {
        match self {
            Self::Ok(decision) if applied || outcome.decision == Some(decision) => {
                responder.ok(&core::Ok::TRUE)
            }
            Self::Ok(_) => responder.refuse(Refusal::approval_resolved()),
            Self::Approval => responder.ok(&Resolved { applied, approval: shown::approval(row) }),
            Self::Question if applied => responder.ok(&shown::answered(outcome)),
            Self::Question => {
                responder.refuse(Refusal::question_over(&row.id, shown::answered(outcome).status.name()));
            }
        }
    }
}

/// What a decision makes of a request that waits.
fn outcome_of(row: &ApprovalRow, said: &Said, by: &By) -> Result<Outcome, Refusal> {
    let allowed = shown::allowed(row);
    let fits =
        |decision: &ApprovalDecision| *decision == ApprovalDecision::Deny || allowed.contains(decision);
    let named =
        |by: &By, name: &Option<String>| By { label: name.clone().unwrap_or(by.label.clone()), ..by.clone() };
    match said {
        Said::Decision(decision) if fits(decision) => Ok(Outcome::decided(by, *decision)),
        Said::Decision(_) if row.kind == Kind::Exec.name() => Err(Refusal::allow_always_unavailable()),
        Said::Decision(decision) => {
            let names: Vec<_> = allowed.iter().map(|decision| decision.name()).collect();
            Err(Refusal::plugin_decision_unavailable(decision.name(), &names))
        }
        Said::Verdict(kind, decision) if kind.name() == row.kind && fits(decision) => {
            Ok(Outcome::decided(by, *decision))
        }
        Said::Verdict(..) => Ok(Outcome::malformed(by)),
        Said::Answers(answers, name) => {
            let questions: Vec<Question> =
                serde_json::from_value(row.request["questions"].clone()).unwrap_or_default();
            let answers = questions::accepted(&questions, answers)?;
            Ok(Outcome::answered(&named(by, name), answers))
        }
        Said::Decline(name) => Ok(Outcome::declined(&named(by, name))),
    }
}

impl Approvals {
    pub(super) fn resolve(&mut self, ctx: &mut Ctx<ApprovalsMsg>, resolve: Resolve) {
        let Resolve { key, prefix, said, by, shape, responder } = resolve;
        let found = match self.find(&key, prefix, &responder) {
            Ok(found) => found,
            Err(refusal) => return responder.refuse(refusal),
        };
        let Some(found) = found else { return self.decided_before(ctx, key, shape, responder) };
        let Some(entry) = self.pending.get(&found) else { return };
        match outcome_of(&entry.row, &said, &by) {
            Ok(outcome) => self.close(ctx, found, outcome, Some((shape, responder))),
            Err(refusal) => responder.refuse(refusal),
        }
    }

    /// The request that is meant, if it waits and the client may see it.
    fn find(&self, key: &Key, prefix: bool, responder: &Responder) -> Result<Option<Key>, Refusal> {
        let is_seen = |candidate: &Key| {
            let seen = |entry: &super::Entry| {
                // Whoever may decide on approvals of any kind may decide on all.
                entry.stored && (!prefix || may_see(responder.conn(), entry.requester()))
            };
            self.pending.get(candidate).is_some_and(seen)
        };
        if is_seen(key) {
            return Ok(Some(key.clone()));
        }
        if !prefix {
            return Ok(None);
        }
        let from_here = self.pending.range(key.clone()..).map(|(candidate, _)| candidate);
        let begins = |candidate: &&Key| candidate.kind == key.kind && candidate.id.starts_with(&key.id);
        let mut fitting = from_here.take_while(begins).filter(|candidate| is_seen(candidate));
        match (fitting.next(), fitting.next()) {
            (Some(_), Some(_)) if key.kind == Kind::Exec => Err(Refusal::ambiguous_approval()),
            (Some(only), None) => Ok(Some(only.clone())),
            _ => Ok(None),
        }
    }

    /// Nothing like it waits: it may be over.
    fn decided_before(&self, ctx: &mut Ctx<ApprovalsMsg>, key: Key, shape: Shape, responder: Responder) {
        let store = self.store.clone();
        ctx.detached(async move {
            let (kind, id) = (key.kind, key.id.clone());
            match store.read(move |c| store::approval(c, kind.name(), &id)).await {
                Ok(row) => {
                    let visible = |row: &ApprovalRow| {
                        let requester = super::Requester::stored(row);
                        !matches!(shape, Shape::Ok(_)) || may_see(responder.conn(), requester.as_ref())
                    };
                    let row = row.filter(visible);
                    match row.as_ref().and_then(|row| Some((row, Outcome::stored(row)?))) {
                        Some((row, outcome)) => shape.answer(responder, row, &outcome, false),
                        None => responder.refuse(shape.unknown(&key)),
                    }
                }
                Err(e) => {
                    tracing::warn!(target: "crabtree::approvals", "an approval was not read: {e}");
                    responder.refuse(Refusal::approval_unavailable("lookup"));
                }
            }
        });
    }

    /// Writes an end. It counts if it is the first.
    pub(super) fn close(
        &mut self,
        ctx: &mut Ctx<ApprovalsMsg>,
        key: Key,
        outcome: Outcome,
        answer: Option<(Shape, Responder)>,
    ) {
        let at = ctx.now_ms();
        let (kind, id) = (key.kind.name().to_owned(), key.id.clone());
        let op = WriteOp::CloseApproval { kind, id, outcome: outcome.to_value(), at };
        let (store, closing) = (self.store.clone(), Box::new(Closing { key, outcome, at, answer }));
        ctx.task(async move { store.write(op).await }, |written| {
            ApprovalsMsg::Closed(closing, Box::new(written))
        });
    }

    pub(super) fn closed(&mut self, closing: Closing, written: Written) {
        let Closing { key, outcome, at, answer } = closing;
        let row = match written {
            Ok(WriteReply::Approval(row)) => row,
            other => return self.not_closed(&key, answer, other.err(), at),
        };
        let Some(stored) = Outcome::stored(&row) else { return };
        if let Some(entry) = self.pending.remove(&key) {
            entry.answer(key.kind, &row, &stored);
            self.tell_over(key.kind, &row, &stored);
        }
        if let Some((shape, responder)) = answer {
            let applied = row.resolved_at == Some(at) && stored == outcome;
            shape.answer(responder, &row, &stored, applied);
        }
    }

    fn not_closed(
        &mut self,
        key: &Key,
        answer: Option<(Shape, Responder)>,
        error: Option<StoreError>,
        at: i64,
    ) {
        if let Some(e) = error {
            tracing::error!(target: "crabtree::approvals", "a decision was not stored: {e}");
        }
        if let Some(entry) = self.pending.get_mut(key) {
            entry.closing = false;
        }
        self.blocked_until = at + RETRY_MS;
        if let Some((_, responder)) = answer {
            responder.refuse(Refusal::approval_unavailable("resolve"));
        }
    }

    /// Whoever asked does not want to know any more.
    pub(super) fn cancel(&mut self, ctx: &mut Ctx<ApprovalsMsg>, key: Key) {
        if self.pending.get(&key).is_some_and(|entry| entry.requester().is_none()) {
            self.close(ctx, key, Outcome::aborted(), None);
        }
    }

    pub(super) fn wait(
        &mut self,
        ctx: &mut Ctx<ApprovalsMsg>,
        key: Key,
        until_ms: Option<i64>,
        responder: Responder,
    ) {
        let sees = |requester| key.kind == Kind::Question || may_see(responder.conn(), requester);
        if let Some(entry) = self.pending.get_mut(&key) {
            if !sees(entry.requester()) {
                return responder.refuse(Refusal::nothing_to_wait_for());
            }
            return entry.add(responder, until_ms);
        }
        let store = self.store.clone();
        ctx.detached(async move {
            let (kind, id) = (key.kind, key.id.clone());
            let row = match store.read(move |c| store::approval(c, kind.name(), &id)).await {
                Ok(row) => row,
                Err(_) => return responder.refuse(Refusal::approval_unavailable("lookup")),
            };
            let requester = row.as_ref().and_then(super::Requester::stored);
            let sees = kind == Kind::Question || may_see(responder.conn(), requester.as_ref());
            match row.as_ref().filter(|_| sees).and_then(|row| Some((row, Outcome::stored(row)?))) {
                Some((row, outcome)) => tell_end(responder, kind, row, &outcome),
                None if kind == Kind::Question => responder.refuse(Refusal::question_not_found(&key.id)),
                None => responder.refuse(Refusal::nothing_to_wait_for()),
            }
        });
    }
}
