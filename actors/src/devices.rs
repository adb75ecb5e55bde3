//! **Owns** the paired devices and their tokens, who asks to be paired, and setup codes.
//! **Hears** of devices that proved themselves, and what operators decide; **tells** their connection what they are
//! granted, operators who was paired, and the store every change before anybody else hears of it.
//! **On crash** no device is lost: it reads the store again; and no request to pair that anybody was told of: it finds
//! them in the Estate, and whoever waited for a decision about more scopes asks for it again. Connections that were
//! waiting to be let in ask again, too.
//!
//! Device tokens are never stored. A token is a keyed hash of device, role and rotation, made with a key that
//! only this gateway has; so it is the same at each hello, and the database holds nothing worth stealing. In those of
//! browsers the shared secret is mixed in: they die when it changes.

mod admission;
mod book;
mod deciding;
mod imported;
mod keeping;
mod setups;
mod upgrades;

use crate::auth_limiter::Culprit;
use crate::conns::Conn;
use crate::estate::{Estate, Part};
use crate::handshake::{self, Claim};
use crate::nodes::Dismissal;
use crate::responder::Responder;
use crate::settings::AuthSecret;
use crate::store::{self, DeviceRow, SetupRow, Store, StoreError, TokenRow, WriteOp};
use crate::tree::*;
use book::{Book, Change};
use crabtree_protocol::hello::IssuedToken;
use crabtree_protocol::params::devices::{SetupProfile, SetupStatus};
use crabtree_protocol::{ConnectParams, ConnectRefusal, Role, Scopes};
use deciding::Caller;
pub use imported::{IMPORTED_TOKEN, import_token};
use keeping::Sequel;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use upgrades::Upgrades;

/// A device that proved itself and asks to come in.
pub struct Request {
    /// Its connection.
    pub conn: Arc<Conn>,
    /// What it asked for.
    pub params: ConnectParams,
    /// What was made of it.
    pub claim: Claim,
    /// Whether it may be approved in silence; see [`crate::pairing::is_trusted_local`].
    pub local: bool,
    /// Whether nodes of its address are paired; see [`crate::pairing::Trust`].
    pub vouched: bool,
    /// Its address, unless it is on this machine.
    pub remote_ip: Option<IpAddr>,
    /// Who its failures count for.
    pub culprit: Culprit,
}

/// What a device is granted.
#[derive(Clone, Debug)]
pub struct Admission {
    /// How it authenticated.
    pub method: &'static str,
    /// Its scopes.
    pub scopes: Scopes,
    /// Its token.
    pub token: Option<IssuedToken>,
    /// Its tokens for other roles, after a setup code.
    pub others: Vec<IssuedToken>,
}

impl Admission {
    /// One without any token.
    pub fn new(method: &'static str, scopes: Scopes) -> Self {
        Self { method, scopes, token: None, others: Vec::new() }
    }
}

/// The answer to a request.
pub type Verdict = Result<Admission, ConnectRefusal>;

/// What operators ask and decide.
#[derive(Debug)]
pub enum Question {
    /// Who is paired, and who asks to be.
    List,
    /// Pair whoever made this request.
    Approve(String),
    /// Do not.
    Reject(String),
    /// Forget a device.
    Remove(String),
    /// Call it so.
    Rename(String, String),
    /// Give it a new token for a role, with these scopes or those of the last one.
    Rotate(String, String, Option<Vec<String>>),
    /// Take its token for a role back.
    Revoke(String, String),
    /// The caller's device wants these scopes.
    Upgrade(Vec<String>),
    /// Say when that is decided.
    WaitUpgrade(String),
    /// Was this setup code used?
    SetupStatus(String),
}

/// A setup code that was made: its id, its token, and how long it is good (ms).
pub struct Setup {
    /// [`SetupRow::setup_id`].
    pub setup_id: String,
    /// The secret in the code.
    pub token: String,
    /// ms.
    pub expires_at: i64,
}

/// What is stored of devices; last the hashes of tokens that came from another gateway.
type Stored = (Vec<DeviceRow>, Vec<TokenRow>, Vec<SetupRow>, HashMap<String, String>);

/// What the devices actor hears.
pub enum DevicesMsg {
    /// The store's devices, tokens and setup codes.
    Loaded(Result<Stored, StoreError>),
    /// May this device come in?
    Admit(Arc<Request>, Reply<Verdict>),
    /// A device loses a role, and is forgotten if it had no other.
    Dismiss {
        /// Which device.
        device_id: String,
        /// Which role.
        role: Role,
        /// Whether an administrator says so.
        admin: bool,
        /// Answered when it is stored.
        reply: Reply<Dismissal>,
    },
    /// An operator's question.
    Asked(Question, Responder),
    /// What may who brings nothing but this, the token of an operator's device? `None` if it is none.
    Bears(String, Reply<Option<Scopes>>),
    /// Make a setup code; answered when it is stored.
    Invite(SetupProfile, Reply<Option<Setup>>),
    /// What was written is stored, or is not.
    Written(Result<(), StoreError>),
    /// A request for more scopes has waited long enough, or its end was remembered long enough.
    UpgradeOver(String),
}

/// See the module.
pub struct Devices {
    estate: Arc<Estate>,
    store: Store,
    book: Book,
    /// The shared secret as it was when the book heard of it last.
    secret: Arc<AuthSecret>,
    upgrades: Upgrades,
    loaded: bool,
    early: Vec<DevicesMsg>,
    unsaved: Change,
    sequels: Vec<Sequel>,
    /// What is being written.
    writing: Option<Vec<Sequel>>,
}

impl Behavior for Devices {
    type Msg = DevicesMsg;
    type Args = Store;
    const KIND: &'static str = "devices";

    fn start(ctx: &mut Ctx<DevicesMsg>, store: Store) -> Result<Self, Fault> {
        let estate = store.estate.clone();
        let secret = estate.auth();
        let this = Self {
            book: Book::new(estate.device_key, handshake::generation(&secret, &estate.device_key)),
            secret,
            estate,
            store,
            upgrades: Upgrades::default(),
            loaded: false,
            early: Vec::new(),
            unsaved: Change::default(),
            sequels: Vec::new(),
            writing: None,
        };
        this.load(ctx);
        Ok(this)
    }

    fn handle(&mut self, ctx: &mut Ctx<DevicesMsg>, msg: DevicesMsg) -> Result<(), Fault> {
        self.hear_of_secret();
        match msg {
            DevicesMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?)?,
            DevicesMsg::Written(written) => self.written(ctx, &written),
            msg if !self.loaded => self.early.push(msg),
            DevicesMsg::Admit(request, reply) => self.admit(ctx, &request, reply),
            DevicesMsg::Dismiss { device_id, role, admin, reply } => {
                let dismissal = self.book.dismiss(&device_id, role, admin, ctx.now_ms());
                let answer = move |stored: bool| {
                    reply.send(if stored { dismissal } else { Dismissal::Failed });
                };
                self.keep(ctx, Box::new(answer));
            }
            DevicesMsg::Asked(question, responder) => self.asked(ctx, question, responder),
            DevicesMsg::Bears(token, reply) => reply.send(self.book.borne(&token)),
            DevicesMsg::Invite(access, reply) => self.invite(ctx, access, reply),
            DevicesMsg::UpgradeOver(id) => {
                let timer = ctx.after(Upgrades::spans().1, DevicesMsg::UpgradeOver(id.clone()));
                self.upgrades.timed_out(&id, timer);
            }
        }
        ctx.publish_info(json!({ "paired": self.book.devices.len(), "pending": self.book.pending.count() }));
        Ok(())
    }
}

impl Devices {
    fn hear_of_secret(&mut self) {
        let now = self.estate.auth();
        if !Arc::ptr_eq(&now, &self.secret) {
            self.book.generation = handshake::generation(&now, &self.estate.device_key);
            self.secret = now;
        }
    }

    fn load(&self, ctx: &mut Ctx<DevicesMsg>) {
        let store = self.store.clone();
        let read = |c: &store::Connection| {
            let imported = store::meta_like(c, IMPORTED_TOKEN)?;
            Ok((store::devices(c)?, store::tokens(c)?, store::setups(c)?, imported))
        };
        ctx.task(async move { store.read(read).await }, DevicesMsg::Loaded);
    }

    fn loaded(&mut self, ctx: &mut Ctx<DevicesMsg>, rows: Stored) -> Result<(), Fault> {
        let (devices, tokens, setups, imported) = rows;
        self.book.imported = imported;
        self.book.load(devices, tokens, setups);
        self.remember(ctx);
        self.loaded = true;
        self.estate.ready.done(Part::Devices);
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    fn admit(&mut self, ctx: &mut Ctx<DevicesMsg>, request: &Request, reply: Reply<Verdict>) {
        let (now, role) = (ctx.now_ms(), request.claim.role);
        let Some(device) = &request.claim.device else {
            return reply.send(Err(ConnectRefusal::device_required()));
        };
        let verdict = self.book.admit(&self.estate, request, device, now).map_err(|refusal| *refusal);
        if verdict.is_ok() {
            request.conn.prove(device.id.clone(), role);
            if !self.book.change.is_durable() {
                // That it was seen may be lost.
                let (device_id, role) = (device.id.to_string(), role.name().to_owned());
                let seen = WriteOp::SeeDevice { device_id, role, at: now, reason: Some("connect".into()) };
                let store = self.store.clone();
                ctx.detached(async move { drop(store.write(seen).await) });
            }
        }
        let answer = move |stored: bool| {
            let verdict = if stored { verdict } else { Err(ConnectRefusal::not_stored()) };
            reply.send(verdict);
        };
        self.keep(ctx, Box::new(answer));
    }

    fn asked(&mut self, ctx: &mut Ctx<DevicesMsg>, question: Question, responder: Responder) {
        let (now, caller) = (ctx.now_ms(), Caller::of(responder.conn()));
        let book = &mut self.book;
        match question {
            Question::List => {
                let connected = connected(&self.estate);
                let list = book.list(&caller, |id| connected.contains(id), now);
                self.settle(ctx, responder, Ok(list));
            }
            Question::Approve(id) => {
                let answer = book.approve(&caller, id.trim(), now);
                self.settle(ctx, responder, answer);
            }
            Question::Reject(id) => {
                let answer = book.reject(&caller, id.trim(), now);
                self.settle(ctx, responder, answer);
            }
            Question::Remove(id) => {
                let answer = book.remove(&caller, id.trim());
                self.settle(ctx, responder, answer);
            }
            Question::Rename(id, label) => {
                let answer = book.rename(&caller, id.trim(), &label);
                self.settle(ctx, responder, answer);
            }
            Question::Rotate(id, role, scopes) => {
                let answer = book.rotate(&caller, id.trim(), &role, scopes.as_deref(), now);
                self.settle(ctx, responder, answer);
            }
            Question::Revoke(id, role) => {
                let answer = book.revoke(&caller, id.trim(), &role, now);
                self.settle(ctx, responder, answer);
            }
            Question::SetupStatus(id) => {
                let completion = book.setups.completion(id.trim());
                self.settle(ctx, responder, Ok(SetupStatus { completion }));
            }
            Question::WaitUpgrade(id) => self.upgrades.wait(id.trim(), responder),
            Question::Upgrade(scopes) => {
                let answer = book.ask_upgrade(responder.conn(), &scopes, now);
                let answer = answer.map(|(answer, device_id, scopes)| {
                    let over = DevicesMsg::UpgradeOver(answer.request_id.clone());
                    let timer = ctx.after(Upgrades::spans().0, over);
                    self.upgrades.register(&answer.request_id, &device_id, scopes, timer);
                    answer
                });
                self.settle(ctx, responder, answer);
            }
        }
    }

    fn invite(&mut self, ctx: &mut Ctx<DevicesMsg>, access: SetupProfile, reply: Reply<Option<Setup>>) {
        let (row, token, dropped) = self.book.setups.issue(access, ctx.now_ms());
        let setup = Setup { setup_id: row.setup_id.clone(), token, expires_at: row.expires_at };
        self.book.change.setups.extend(dropped.into_iter().chain([row.setup_id]));
        self.keep(ctx, Box::new(move |stored| reply.send(stored.then_some(setup))));
    }
}

/// Ids of the devices that are connected.
fn connected(estate: &Estate) -> HashSet<String> {
    let device = |conn: Arc<Conn>| Some(conn.grant()?.device.as_ref()?.to_string());
    estate.conns.all().into_iter().filter_map(device).collect()
}
