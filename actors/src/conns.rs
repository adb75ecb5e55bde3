//! The table of live connections. It is part of the Estate: no actor's crash touches it.

use crate::event::Event;
use crate::meters::{Backlog, Counter, Tally};
use crate::origin::is_browser;
use crate::outbox::{Item, Outbox};
use crate::preauth::Place;
use arc_swap::{ArcSwap, ArcSwapOption};
use crabtree_protocol::{ConnId, ConnectParams, DeviceId, Role, Scope, Scopes, SessionKey};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, mpsc};

/// Requests one connection may have in flight; then its socket is not read.
pub const MAX_IN_FLIGHT: usize = 64;
/// Sessions one connection may subscribe to.
pub const MAX_MESSAGE_SUBSCRIPTIONS: usize = 1_000;

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: that of the socket's other end, or what the proxy there says.
    pub ip: IpAddr,
    /// The trusted proxy it comes through.
    pub via: Option<IpAddr>,
    /// Who somebody else says it is.
    pub voucher: Option<Voucher>,
    /// Whether it speaks TLS: with the gateway, or with that proxy, as that says.
    pub tls: bool,
    /// The `Origin` header, if a browser sent one.
    pub origin: Option<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The `x-openclaw-scopes` header: the most it may be granted.
    pub scope_cap: Option<Scopes>,
    /// Its place among the sockets that have not authenticated.
    pub place: Option<Arc<Place>>,
}

impl Peer {
    /// A client that is no browser, and claims nothing.
    pub fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            via: None,
            voucher: None,
            tls: false,
            origin: None,
            host: None,
            scope_cap: None,
            place: None,
        }
    }

    /// Whether it is on this machine, and nobody stands between.
    pub fn is_loopback(&self) -> bool {
        self.via.is_none() && self.ip.to_canonical().is_loopback()
    }

    /// The person it is, if somebody who is believed says so.
    pub fn user(&self) -> Option<&str> {
        match self.voucher.as_ref()? {
            Voucher::Proxy(user) => user.as_deref().ok(),
            Voucher::Tailscale(login) => Some(login),
        }
    }
}

/// Who says who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// A trusted proxy: the person, or why that is not believed (`authReason`).
    Proxy(Result<String, String>),
    /// Tailscale: the login of whom the address belongs to.
    Tailscale(String),
}

/// What a connection was granted at its hello.
#[derive(Debug)]
pub struct Grant {
    /// Operator or node.
    pub role: Role,
    /// Scopes as granted.
    pub scopes: Scopes,
    /// The device that proved itself.
    pub device: Option<DeviceId>,
    /// How it authenticated (`token`, `password`, `device-token`, `none`).
    pub method: &'static str,
    /// The client wants turn events of subscribed sessions only (cap `session-scoped-events`).
    pub scoped_events: bool,
    /// The client wants the tool events of its own runs (cap `tool-events`).
    pub tool_events: bool,
    /// What it said of itself.
    pub params: ConnectParams,
}

impl Grant {
    /// Whether it was let in for the shared secret, or for a token that dies with it.
    pub fn rests_on_secret(&self) -> bool {
        let client = &self.params.client;
        match self.method {
            "device-token" => self.role == Role::Operator && is_browser(client.id, client.mode),
            "bootstrap-token" | "tailscale" => false,
            _ => true,
        }
    }

    /// Whether an operator's scopes allow this.
    pub fn may(&self, scope: Scope) -> bool {
        self.role == Role::Operator && self.scopes.allows(scope)
    }
}

/// One live connection.
#[derive(Debug)]
pub struct Conn {
    id: ConnId,
    /// Where it comes from.
    pub peer: Peer,
    /// The way out to it.
    pub outbox: Outbox,
    /// What it has asked.
    pub tally: Tally,
    /// Permits of requests in flight.
    pub permits: Arc<Semaphore>,
    grant: OnceLock<Grant>,
    proven: OnceLock<(DeviceId, Role)>,
    all_sessions: AtomicBool,
    messages: ArcSwapOption<HashSet<SessionKey>>,
    looks_at: ArcSwapOption<HashSet<SessionKey>>,
}

impl Conn {
    /// Its id (`server.connId`).
    pub fn id(&self) -> &ConnId {
        &self.id
    }

    /// What it was granted; `None` before its hello.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.get()
    }

    /// Grants, once.
    pub fn admit(&self, grant: Grant) {
        let _ = self.grant.set(grant);
        if let Some(place) = &self.peer.place {
            place.leave();
        }
    }

    /// The device that will be granted something, or was. Known before the grant, so that whoever takes a device's
    /// rights back misses no connection that is just coming in.
    pub fn proven(&self) -> Option<&(DeviceId, Role)> {
        self.proven.get()
    }

    pub(crate) fn prove(&self, device: DeviceId, role: Role) {
        let _ = self.proven.set((device, role));
    }

    /// Whether it subscribed to all sessions.
    pub fn hears_sessions(&self) -> bool {
        self.all_sessions.load(Relaxed)
    }

    /// Whether it subscribed to the messages of `key`.
    pub fn hears_messages_of(&self, key: &SessionKey) -> bool {
        self.messages.load().as_ref().is_some_and(|keys| keys.contains(key))
    }

    /// Whether a person has `key` before them, as `sessions.viewers.set` says.
    pub fn looks_at(&self, key: &SessionKey) -> bool {
        self.looks_at.load().as_ref().is_some_and(|keys| keys.contains(key))
    }

    /// From now on it looks at these, and at nothing else.
    pub fn look_at(&self, keys: HashSet<SessionKey>) {
        self.looks_at.store(Some(Arc::new(keys)));
    }

    pub(crate) fn subscribe_sessions(&self) {
        self.all_sessions.store(true, Relaxed);
    }

    /// False if it has too many subscriptions.
    pub(crate) fn subscribe_messages(&self, key: SessionKey) -> bool {
        let mut keys = self.messages.load().as_deref().cloned().unwrap_or_default();
        if keys.len() >= MAX_MESSAGE_SUBSCRIPTIONS && !keys.contains(&key) {
            return false;
        }
        keys.insert(key);
        self.messages.store(Some(Arc::new(keys)));
        true
    }

    pub(crate) fn unsubscribe_messages(&self, key: &SessionKey) {
        let mut keys = self.messages.load().as_deref().cloned().unwrap_or_default();
        keys.remove(key);
        self.messages.store(Some(Arc::new(keys)));
    }
}

/// All live connections, and the roster of those that hear events.
#[derive(Default)]
pub struct Conns {
    live: Mutex<BTreeMap<ConnId, Arc<Conn>>>,
    roster: ArcSwap<Vec<Arc<Conn>>>,
    process: Arc<Backlog>,
    /// Connections there have been.
    pub accepted: Counter,
    /// Events that were published.
    pub published: Counter,
    /// What those have asked that are gone.
    gone: Tally,
}

impl Conns {
    /// Enters a new connection; the other value is what its socket's writer reads.
    pub fn open(&self, id: ConnId, peer: Peer) -> (Arc<Conn>, mpsc::UnboundedReceiver<Item>) {
        let (conn, items) = self.made(id, peer);
        self.accepted.count();
        self.live.lock().insert(id, conn.clone());
        (conn, items)
    }

    /// Somebody who asks like a client and has no socket; nobody else hears of it.
    pub fn apart(&self) -> Arc<Conn> {
        self.made(ConnId::random(), Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST))).0
    }

    fn made(&self, id: ConnId, peer: Peer) -> (Arc<Conn>, mpsc::UnboundedReceiver<Item>) {
        let (outbox, items) = Outbox::new(self.process.clone());
        let conn = Conn {
            id,
            peer,
            outbox,
            tally: Tally::default(),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            grant: OnceLock::new(),
            proven: OnceLock::new(),
            all_sessions: AtomicBool::new(false),
            messages: ArcSwapOption::empty(),
            looks_at: ArcSwapOption::empty(),
        };
        (Arc::new(conn), items)
    }

    /// One of them, while it lives.
    pub fn get(&self, id: &ConnId) -> Option<Arc<Conn>> {
        self.live.lock().get(id).cloned()
    }

    /// Forgets a connection.
    pub fn forget(&self, id: &ConnId) {
        let mut live = self.live.lock();
        if let Some(conn) = live.remove(id) {
            self.gone.take_over(&conn.tally);
        }
    }

    /// Requests that wait for their answer.
    pub fn requests(&self) -> u64 {
        let live = self.live.lock();
        let taken = |conn: &Arc<Conn>| MAX_IN_FLIGHT.saturating_sub(conn.permits.available_permits());
        // Its reader holds one for what comes next.
        live.values().map(|conn| taken(conn).saturating_sub(1) as u64).sum()
    }

    /// What all have asked so far. What is answered to one that is gone is not counted.
    pub fn asked(&self) -> Tally {
        let all = Tally::default();
        // Under the lock, so that one that goes is counted once.
        let live = self.live.lock();
        all.take_over(&self.gone);
        live.values().for_each(|conn| all.take_over(&conn.tally));
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.lock().len()
    }

    /// Bytes waiting for all clients together.
    pub fn buffered(&self) -> usize {
        self.process.bytes.load(Relaxed)
    }

    /// Droppable events that were dropped, and clients that were given up for reading too slowly.
    pub fn overflown(&self) -> (u64, u64) {
        (self.process.dropped.read(), self.process.slow.read())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Conn>> {
        self.live.lock().values().cloned().collect()
    }

    /// Makes the roster from the table. Called by the broadcast actor alone.
    pub(crate) fn publish_roster(&self) -> usize {
        let admitted = |conn: &&Arc<Conn>| conn.grant().is_some();
        let roster: Vec<_> = self.live.lock().values().filter(admitted).cloned().collect();
        let size = roster.len();
        self.roster.store(Arc::new(roster));
        size
    }

    /// Hands an event to everyone who is to hear it. Runs in the publisher, takes no lock.
    pub fn publish(&self, event: Event) {
        self.published.count();
        let event = Arc::new(event);
        for conn in self.roster.load().iter().filter(|c| event.audience.admits(c)) {
            conn.outbox.event(event.clone());
        }
    }
}
