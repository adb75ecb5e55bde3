//! More scopes for a device that is connected: what it asked for, and who waits for the decision.

use super::book::{Book, token_scopes};
use crate::conns::Conn;
use crate::pairing::{Ask, PENDING_TTL_MS, described};
use crate::responder::Responder;
use crate::tree::Timer;
use crabtree_protocol::params::devices::{UpgradeRequested, Upgraded};
use crabtree_protocol::{Refusal, Role, Scope, Scopes};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the end of a request is remembered for those who ask late.
const GRACE: Duration = Duration::from_secs(15);
/// Those who may wait for one decision; a client waits once.
const MAX_WAITING: usize = 16;

/// What a client without a device is told.
const DEVICE_REQUIRED: &str = "device scope upgrade requires a paired browser identity; reopen the Control UI over \
                               HTTPS or localhost, then retry";

struct Upgrade {
    device_id: String,
    scopes: Vec<String>,
    waiting: Vec<Responder>,
    outcome: Option<Upgraded>,
    _timer: Timer,
}

/// Requests for more scopes, by their id.
#[derive(Default)]
pub(super) struct Upgrades(BTreeMap<String, Upgrade>);

impl Upgrades {
    /// A request was made or repeated. The timer ends it, and later forgets it.
    pub fn register(&mut self, request_id: &str, device_id: &str, scopes: Vec<String>, timer: Timer) {
        let before = self.0.remove(request_id);
        let waiting = before.map_or_else(Vec::new, |before| before.waiting);
        let device_id = device_id.to_owned();
        let upgrade = Upgrade { device_id, scopes, waiting, outcome: None, _timer: timer };
        self.0.insert(request_id.to_owned(), upgrade);
    }

    /// The same of a request of before, unless it is known.
    pub fn restore(&mut self, request_id: &str, device_id: &str, scopes: Vec<String>, timer: Timer) {
        if !self.0.contains_key(request_id) {
            self.register(request_id, device_id, scopes, timer);
        }
    }

    /// Answers when it is decided.
    pub fn wait(&mut self, request_id: &str, responder: Responder) {
        let Some(device) = owner(responder.conn()) else { return responder.refuse(device_required()) };
        match self.0.get_mut(request_id).filter(|upgrade| upgrade.device_id == device) {
            None => responder.refuse(Refusal::invalid_request("scope upgrade expired or not found")),
            Some(Upgrade { outcome: Some(outcome), .. }) => responder.ok(outcome),
            Some(upgrade) if upgrade.waiting.len() >= MAX_WAITING => {
                responder.refuse(Refusal::failed("too many wait for this decision already"));
            }
            Some(upgrade) => upgrade.waiting.push(responder),
        }
    }

    /// It was decided; `timer` forgets it. What is approved counts if the device has got what it asked for.
    pub fn decided(&mut self, book: &Book, request_id: &str, approved: bool, timer: Timer) {
        let Some(upgrade) = self.0.get_mut(request_id).filter(|upgrade| upgrade.outcome.is_none()) else {
            return;
        };
        let token = book.active(&upgrade.device_id, Role::Operator).filter(|_| approved);
        let given = token
            .filter(|token| Scopes::parse(&upgrade.scopes).is_subset_of(&Scopes::parse(&token.scopes)))
            .map(|token| (book.derive(token), token.scopes.clone()));
        let status = if given.is_some() { "approved" } else { "rejected" };
        upgrade.end(request_id, status, given, timer);
    }

    /// Its time is over: the first time it has expired, the second time it is forgotten.
    pub fn timed_out(&mut self, request_id: &str, timer: Timer) {
        match self.0.get_mut(request_id) {
            Some(upgrade) if upgrade.outcome.is_none() => upgrade.end(request_id, "expired", None, timer),
            _ => drop(self.0.remove(request_id)),
        }
    }

    /// How long a request lasts, and how long its end is remembered.
    pub fn spans() -> (Duration, Duration) {
        (Duration::from_millis(PENDING_TTL_MS.unsigned_abs()), GRACE)
    }
}

impl Upgrade {
    fn end(&mut self, request_id: &str, status: &str, given: Option<(String, Vec<String>)>, timer: Timer) {
        let (device_token, scopes) = given.unzip();
        let outcome =
            Upgraded { status: status.to_owned(), request_id: request_id.to_owned(), device_token, scopes };
        for responder in self.waiting.drain(..) {
            responder.ok(&outcome);
        }
        self.outcome = Some(outcome);
        self._timer = timer;
    }
}

/// The device of an operator.
fn owner(conn: &Conn) -> Option<String> {
    let grant = conn.grant().filter(|grant| grant.role == Role::Operator)?;
    grant.device.as_ref().map(ToString::to_string)
}

fn device_required() -> Refusal {
    Refusal::device_required(DEVICE_REQUIRED)
}

impl Book {
    /// A connected device asks for more. Returns the answer, the device, and what it asks for.
    pub fn ask_upgrade(
        &mut self,
        conn: &Conn,
        scopes: &[String],
        now: i64,
    ) -> Result<(UpgradeRequested, String, Vec<String>), Refusal> {
        let device_id = owner(conn).ok_or_else(device_required)?;
        let device = self.devices.get(&device_id).ok_or_else(device_required)?;
        let scopes = token_scopes(scopes);
        if scopes.iter().any(|scope| Scope::from_name(scope).is_none()) {
            return Err(Refusal::invalid_request("requested scopes contain an unknown operator scope"));
        }
        let (Some(grant), asked) = (conn.grant(), Scopes::parse(&scopes)) else {
            return Err(device_required());
        };
        if !grant.scopes.is_subset_of(&asked) {
            let words = "requested scopes must include the connection's current scopes";
            return Err(Refusal::invalid_request(words));
        }
        let mut said = described(&grant.params, &device_id);
        said.public_key = device.public_key.clone();
        said.remote_ip = (!conn.peer.is_loopback()).then(|| conn.peer.ip.to_string());
        let ask = Ask {
            device: said,
            role: Role::Operator,
            scopes: scopes.clone(),
            silent: false,
            is_repair: true,
        };
        let request_id = self.ask(ask, now).request.request_id;
        Ok((UpgradeRequested { request_id }, device_id, scopes))
    }
}
