//! **Owns** what people are asked and have not decided yet: commands, doings of plugins and tools, questions.
//! **Hears** requests of clients and of the gateway itself, decisions, answers, and who waits for them; **tells** those
//! who may decide, then those who wait.
//! **On crash** no request and no decision is lost: each is a row before anybody hears of it, and the rows are read
//! again. Requests that wait are told once more, as are ends that may not have been told. Clients that waited are
//! answered retryable `UNAVAILABLE` and wait again; the gateway's own askers ask again under the same id.
//!
//! The first decision stays, whoever makes it: the store takes one only while there is none.

pub mod asking;
mod card;
mod deciding;
pub mod document;
mod on_channels;
pub mod policy;
pub mod questions;
pub mod request;
pub mod shown;
mod waiting;
pub mod words;

pub use asking::{ActionAsked, Ask, Asked, CommandAsked, ask};
pub use deciding::{Said, Shape};
pub use document::{ExecApprovals, ExecApprovalsFile, Remembered};
pub use request::{By, Decision, Key, Kind, Outcome, Requester, hears, may_see};

use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::responder::Responder;
use crate::store::{self, ApprovalRow, Store, StoreError, Written};
use crate::tree::*;
use crabtree_protocol::{ConnId, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use waiting::{Entry, Waiter};

/// Requests that may wait at the same time; the next one is refused.
pub const MAX_PENDING: usize = 1_000;
/// Bytes all waiting requests may have together.
const MAX_PENDING_BYTES: usize = 16 << 20;
/// Clients that may wait for one decision.
const MAX_WAITERS: usize = 100;
/// The longest a request waits, whatever its client asks for.
pub const MAX_WAIT_MS: i64 = 30 * 24 * 3_600_000;
/// How long a command waits if nothing else is said, as OpenClaw has it.
pub const EXEC_WAIT_MS: i64 = 1_800_000;
/// How long a plugin or a tool waits if nothing else is said, as OpenClaw has it.
pub const PLUGIN_WAIT_MS: i64 = 120_000;
/// How long a question waits if nothing else is said, as recorded.
pub const QUESTION_WAIT_MS: i64 = 900_000;
/// Pause before an end is written again that the store did not take.
const RETRY_MS: i64 = 1_000;
/// The clock on the wall may have been set: it is looked at this often.
const LOOK_EVERY_MS: i64 = 60_000;

/// A request of a client.
pub struct Request {
    /// What is asked.
    pub row: ApprovalRow,
    /// It waits even if nobody can be asked.
    pub routeless: bool,
    /// Answer twice: when the request is taken, and when it is decided.
    pub two_phase: bool,
    /// Where the answer goes.
    pub responder: Responder,
}

/// A decision of a client.
pub struct Resolve {
    /// Which request: its id, or how that begins.
    pub key: Key,
    /// Whether the beginning of an id will do; of several that fit, none is meant.
    pub prefix: bool,
    /// What it says.
    pub said: Said,
    /// Who says it.
    pub by: By,
    /// How it is answered.
    pub shape: Shape,
    /// Where the answer goes.
    pub responder: Responder,
}

/// What the approvals actor hears.
pub enum ApprovalsMsg {
    /// The store's requests that wait, and those whose end may not have been told.
    Loaded(Result<(Vec<ApprovalRow>, Vec<ApprovalRow>), StoreError>),
    /// A client asks.
    Request(Box<Request>),
    /// The gateway itself asks; sent again under the same id, it is the same question. See [`ask`].
    Ask {
        /// What.
        ask: Box<Ask>,
        /// Cancelled when nobody waits for the answer any more.
        gone: CancellationToken,
        /// Where the decision goes.
        reply: Reply<Decision>,
    },
    /// Nobody wants to know any more what the gateway asked.
    Cancel(Key),
    /// The request is in the store.
    Opened(Key, Box<Written>),
    /// A client decides.
    Resolve(Box<Resolve>),
    /// The end is in the store.
    Closed(Box<deciding::Closing>, Box<Written>),
    /// A client waits for the end, until `until_ms` at the longest.
    Wait {
        /// Of which request.
        key: Key,
        /// ms.
        until_ms: Option<i64>,
        /// Where the answer goes.
        responder: Responder,
    },
    /// Something may be due.
    Due,
    /// This may run from now on without asking.
    Remember(Box<Remembered>, Reply<Result<(), Refusal>>),
}

/// See the module.
pub struct Approvals {
    estate: Arc<Estate>,
    store: Store,
    pending: BTreeMap<Key, Entry>,
    loaded: bool,
    early: Vec<ApprovalsMsg>,
    /// Until when nothing is ended because it is late: the store has just refused to.
    blocked_until: i64,
    timer: Option<(i64, Timer)>,
}

impl Behavior for Approvals {
    type Msg = ApprovalsMsg;
    type Args = Store;
    const KIND: &'static str = "approvals";

    fn start(ctx: &mut Ctx<ApprovalsMsg>, store: Store) -> Result<Self, Fault> {
        let (reader, estate) = (store.clone(), store.estate.clone());
        let told = estate.approvals_told.load(Relaxed);
        let rows = async move {
            let both =
                move |c: &_| Ok((store::pending_approvals(c)?, store::approvals_resolved_since(c, told)?));
            reader.read(both).await
        };
        ctx.task(rows, ApprovalsMsg::Loaded);
        let (pending, early) = (BTreeMap::new(), Vec::new());
        Ok(Self { estate, store, pending, loaded: false, early, blocked_until: 0, timer: None })
    }

    fn handle(&mut self, ctx: &mut Ctx<ApprovalsMsg>, msg: ApprovalsMsg) -> Result<(), Fault> {
        match msg {
            ApprovalsMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            ApprovalsMsg::Request(request) => self.request(ctx, *request),
            ApprovalsMsg::Ask { ask, gone, reply } => self.ask(ctx, *ask, gone, reply),
            ApprovalsMsg::Cancel(key) => self.cancel(ctx, key),
            ApprovalsMsg::Opened(key, written) => self.opened(ctx, key, *written),
            ApprovalsMsg::Resolve(resolve) => self.resolve(ctx, *resolve),
            ApprovalsMsg::Closed(closing, written) => self.closed(*closing, *written),
            ApprovalsMsg::Wait { key, until_ms, responder } => self.wait(ctx, key, until_ms, responder),
            ApprovalsMsg::Due => self.due(ctx),
            ApprovalsMsg::Remember(what, reply) => self.remember(ctx, *what, reply),
        }
        self.wind(ctx);
        ctx.publish_info(json!({ "pending": self.pending.len() }));
        Ok(())
    }
}

impl Approvals {
    fn loaded(
        &mut self,
        ctx: &mut Ctx<ApprovalsMsg>,
        (pending, over): (Vec<ApprovalRow>, Vec<ApprovalRow>),
    ) -> Result<(), Fault> {
        self.loaded = true;
        for row in over {
            if let Some((kind, outcome)) = Kind::from_name(&row.kind).zip(Outcome::stored(&row)) {
                self.tell_over(kind, &row, &outcome);
            }
        }
        for row in pending {
            let Some(kind) = Kind::from_name(&row.kind) else { continue };
            let key = Key { kind, id: row.id.clone() };
            let mut entry = Entry::new(row);
            entry.stored = true;
            self.tell_requested(kind, &entry);
            self.pending.insert(key, entry);
        }
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// Tells those who may decide; of a client's request all but itself, unless it is a question.
    fn tell_requested(&self, kind: Kind, entry: &Entry) {
        if !entry.is_silent() {
            let [requested, _] = kind.events();
            self.tell(kind, requested, entry.audience(kind, true), &shown::requested_event(kind, &entry.row));
            on_channels::ask(&self.store, kind, &entry.row);
        }
    }

    fn tell_over(&self, kind: Kind, row: &ApprovalRow, outcome: &Outcome) {
        let requester = Requester::stored(row);
        if !requester.as_ref().is_some_and(|requester| requester.silent) {
            let [_, resolved] = kind.events();
            let audience = audience(kind, requester.as_ref(), None);
            self.tell(kind, resolved, audience, &shown::resolved_event(kind, row, outcome));
            on_channels::over(&self.store, kind, row);
        }
        self.estate.approvals_told.fetch_max(row.resolved_at.unwrap_or_default(), Relaxed);
    }

    /// As recorded, who is behind may miss what is told of approvals, but not questions.
    fn tell(&self, kind: Kind, name: crabtree_protocol::Event, audience: Audience, payload: &Value) {
        let event = Event::new(name, audience, payload);
        self.estate.conns.publish(if kind == Kind::Question { event } else { event.droppable() });
    }

    /// Whether anybody hears of it who could decide.
    fn has_route(&self, kind: Kind, entry: &Entry) -> bool {
        let audience = entry.audience(kind, true);
        let listens = |conn: &Arc<crate::conns::Conn>| audience.admits(conn) && !conn.outbox.is_closing();
        !entry.is_silent()
            && (self.estate.conns.all().iter().any(listens)
                || on_channels::is_route(&self.estate, kind, &entry.row))
    }

    fn request(&mut self, ctx: &mut Ctx<ApprovalsMsg>, request: Request) {
        let Request { row, routeless, two_phase, responder } = request;
        let Some(kind) = Kind::from_name(&row.kind) else { return };
        let key = Key { kind, id: row.id.clone() };
        if self.pending.contains_key(&key) {
            return responder.refuse(taken(&key));
        }
        if let Err(refusal) = self.has_room(&row) {
            return responder.refuse(refusal);
        }
        let mut entry = Entry::new(row);
        entry.routeless = routeless;
        entry.waiters.push(Waiter::Asker { responder, two_phase });
        self.open(ctx, key, entry);
    }

    fn ask(
        &mut self,
        ctx: &mut Ctx<ApprovalsMsg>,
        ask: Ask,
        gone: CancellationToken,
        reply: Reply<Decision>,
    ) {
        if !ask.is_showable() {
            return reply.send(Decision::Deny);
        }
        let row = ask.row(ctx.now_ms());
        let Some(kind) = Kind::from_name(&row.kind) else { return };
        let key = Key { kind, id: row.id.clone() };
        let watched = key.clone();
        ctx.task(async move { gone.cancelled().await }, |()| ApprovalsMsg::Cancel(watched));
        if let Some(entry) = self.pending.get_mut(&key) {
            return entry.waiters.push(Waiter::Gateway(reply));
        }
        if let Err(refusal) = self.has_room(&row) {
            tracing::warn!(target: "crabtree::approvals", "not asked: {refusal}");
            return reply.send(Decision::Deny);
        }
        let mut entry = Entry::new(row);
        // It waits for who comes later, too: an agent may ask at night.
        entry.routeless = true;
        entry.waiters.push(Waiter::Gateway(reply));
        self.open(ctx, key, entry);
    }

    fn has_room(&self, row: &ApprovalRow) -> Result<(), Refusal> {
        let bytes: usize = self.pending.values().map(|entry| entry.bytes).sum();
        let full = self.pending.len() >= MAX_PENDING || bytes + waiting::size(row) > MAX_PENDING_BYTES;
        if full { Err(Refusal::too_many_waiting()) } else { Ok(()) }
    }

    fn open(&mut self, ctx: &mut Ctx<ApprovalsMsg>, key: Key, entry: Entry) {
        let (store, op) = (self.store.clone(), store::WriteOp::OpenApproval(entry.row.clone()));
        self.pending.insert(key.clone(), entry);
        ctx.task(async move { store.write(op).await }, |written| {
            ApprovalsMsg::Opened(key, Box::new(written))
        });
    }

    fn opened(&mut self, ctx: &mut Ctx<ApprovalsMsg>, key: Key, written: Written) {
        let Some(entry) = self.pending.get_mut(&key) else { return };
        match written {
            Ok(store::WriteReply::Approval(row)) if row.nonce == entry.row.nonce => {
                entry.stored = true;
                let has_route = entry.routeless || key.kind == Kind::Question;
                self.asked(ctx, key, has_route);
            }
            Ok(store::WriteReply::Approval(row)) => {
                let Some(entry) = self.pending.remove(&key) else { return };
                entry.answer_with_earlier(&key, &row);
            }
            other => {
                if let Err(e) = other {
                    tracing::error!(target: "crabtree::approvals", "a request was not stored: {e}");
                }
                let Some(entry) = self.pending.remove(&key) else { return };
                entry.give_up();
            }
        }
    }

    /// The request is durable: those who may decide hear of it, and who asked that it is taken.
    fn asked(&mut self, ctx: &mut Ctx<ApprovalsMsg>, key: Key, routeless: bool) {
        let Some(entry) = self.pending.get(&key) else { return };
        self.tell_requested(key.kind, entry);
        let route = self.has_route(key.kind, entry);
        if !route && !routeless {
            return self.close(ctx, key, Outcome::no_route(), None);
        }
        if let Some(entry) = self.pending.get_mut(&key) {
            entry.accept(key.kind, if route { "approval-client" } else { "none" });
        }
    }

    fn remember(&mut self, ctx: &mut Ctx<ApprovalsMsg>, what: Remembered, reply: Reply<Result<(), Refusal>>) {
        let (estate, now) = (self.estate.clone(), ctx.now_ms());
        ctx.detached(async move {
            let written = move || estate.exec_approvals.remember(what, now);
            let done = tokio::task::spawn_blocking(written).await;
            reply.send(done.unwrap_or_else(|e| Err(Refusal::failed(e.to_string()))));
        });
    }

    /// Sets the clock for the next thing that is due.
    fn wind(&mut self, ctx: &mut Ctx<ApprovalsMsg>) {
        let next = self.pending.values().filter_map(Entry::due_ms).min();
        let Some(next) = next.map(|at| at.max(self.blocked_until)) else {
            self.timer = None;
            return;
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            let wait = (next - ctx.now_ms()).clamp(0, LOOK_EVERY_MS);
            let timer = ctx.after(Duration::from_millis(wait.unsigned_abs()), ApprovalsMsg::Due);
            self.timer = Some((next, timer));
        }
    }

    fn due(&mut self, ctx: &mut Ctx<ApprovalsMsg>) {
        self.timer = None;
        let now = ctx.now_ms();
        let mut late = Vec::new();
        for (key, entry) in &mut self.pending {
            entry.tell_still_pending(now);
            if entry.stored && !entry.closing && entry.row.expires_at <= now {
                entry.closing = true;
                late.push(key.clone());
            }
        }
        late.into_iter().for_each(|key| self.close(ctx, key, Outcome::expired(), None));
    }
}

/// There is, or was, a request with this id.
fn taken(key: &Key) -> Refusal {
    match key.kind {
        Kind::Question => Refusal::question_exists(&key.id),
        _ => Refusal::approval_id_pending(),
    }
}

/// Who hears of a request, given who asked.
fn audience(kind: Kind, requester: Option<&Requester>, except: Option<ConnId>) -> Audience {
    Audience::Asked { kind, requester: requester.cloned().map(Arc::new), except }
}
