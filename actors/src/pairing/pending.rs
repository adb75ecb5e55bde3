//! The requests to pair that wait for an operator, one a device. The Estate has what was told of them, for when the
//! actor that decides about them is reborn.

use super::with;
use crate::store::DeviceRow;
use crabtree_protocol::params::devices::PendingDevice;
use crabtree_protocol::{Role, Scopes};
use std::collections::HashMap;
use uuid::Uuid;

/// Requests that are kept; beyond it the one that was repeated longest ago is dropped.
const MAX_PENDING: usize = 100;
/// How long a request waits for an operator after it was made or repeated, in milliseconds.
pub const PENDING_TTL_MS: i64 = 300_000;

/// What a device asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The device as it describes itself.
    pub device: DeviceRow,
    /// The role.
    pub role: Role,
    /// The scopes.
    pub scopes: Vec<String>,
    /// Whether it would have been approved in silence, were it for its place alone.
    pub silent: bool,
    /// Whether it is paired already.
    pub is_repair: bool,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct PendingRequest {
    /// Its id.
    pub request_id: String,
    /// What was asked for last.
    pub ask: Ask,
    /// All roles that were asked for since the last decision.
    pub roles: Vec<Role>,
    /// All scopes that were asked for since the last decision.
    pub scopes: Vec<String>,
    ts: i64,
    refreshed: i64,
}

impl PendingRequest {
    /// A request that nothing was asked for before.
    pub fn new(ask: Ask, now: i64) -> Self {
        let request_id = Uuid::new_v4().to_string();
        let (roles, scopes) = (vec![ask.role], ask.scopes.iter().fold(Vec::new(), with));
        Self { request_id, ask, roles, scopes, ts: now, refreshed: now }
    }

    /// As operators see it.
    pub fn shown(&self) -> PendingDevice {
        let device = self.ask.device.clone();
        PendingDevice {
            request_id: self.request_id.clone(),
            device_id: device.device_id,
            public_key: device.public_key,
            role: self.ask.role,
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            silent: self.ask.silent,
            is_repair: self.ask.is_repair,
            ts: self.ts,
            display_name: device.display_name,
            platform: device.platform,
            device_family: device.device_family,
            client_id: device.client_id,
            client_mode: device.client_mode,
            remote_ip: device.remote_ip,
        }
    }

    /// Whether asking for this is asking for the same again.
    fn covers(&self, ask: &Ask) -> bool {
        ask.role == self.ask.role
            && ask.device.public_key == self.ask.device.public_key
            && Scopes::parse(&ask.scopes).is_subset_of(&Scopes::parse(&self.scopes))
    }

    /// Whether the device has got all it asks for since it asked.
    pub fn is_granted(&self, device: &DeviceRow) -> bool {
        device.approved_at >= self.ts
            && self.roles.iter().all(|role| device.roles.iter().any(|name| name == role.name()))
            && Scopes::parse(&self.scopes).is_subset_of(&Scopes::parse(&device.scopes))
    }

    fn is_over(&self, now: i64) -> bool {
        now - self.refreshed >= PENDING_TTL_MS
    }
}

/// What asking did.
#[derive(Debug)]
pub struct Asked {
    /// The request the client waits for.
    pub request: PendingRequest,
    /// Whether operators have not heard of it.
    pub is_new: bool,
    /// The request it takes the place of.
    pub superseded: Option<String>,
}

/// The requests that wait, by device.
#[derive(Clone, Debug, Default)]
pub struct Pending(HashMap<String, PendingRequest>);

impl Pending {
    /// A device asks. Asking the same again, or for less, is the same request; asking for something else is a new
    /// one, which keeps what the one before asked for.
    pub fn ask(&mut self, ask: Ask, now: i64) -> Asked {
        self.0.retain(|_, request| !request.is_over(now));
        let device_id = ask.device.device_id.clone();
        let before = self.0.remove(&device_id);
        if let Some(same) = before.as_ref().filter(|request| request.covers(&ask)) {
            let request = PendingRequest { ask: refreshed(&same.ask, ask), refreshed: now, ..same.clone() };
            self.0.insert(device_id, request.clone());
            return Asked { request, is_new: false, superseded: None };
        }
        let mut request = PendingRequest::new(ask, now);
        if let Some(old) = &before {
            request.ask.silent &= old.ask.silent;
            request.scopes = request.scopes.iter().fold(old.scopes.clone(), with);
            let new = request.roles.into_iter().filter(|role| !old.roles.contains(role));
            request.roles = old.roles.iter().copied().chain(new).collect();
        }
        self.keep(request.clone());
        Asked { request, is_new: true, superseded: before.map(|old| old.request_id) }
    }

    fn keep(&mut self, request: PendingRequest) {
        let device_id = request.ask.device.device_id.clone();
        if self.0.len() >= MAX_PENDING && !self.0.contains_key(&device_id) {
            let oldest = self.0.iter().min_by_key(|(_, request)| request.refreshed).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.0.remove(&id));
        }
        self.0.insert(device_id, request);
    }

    /// Takes over a request as it was made or repeated elsewhere, in place of what its device asked before.
    pub fn take_over(&mut self, request: PendingRequest, now: i64) {
        self.0.retain(|_, request| !request.is_over(now));
        self.keep(request);
    }

    /// The request with this id was decided; one that took its place still waits.
    pub fn end(&mut self, request_id: &str) {
        self.retain(|request| request.request_id != request_id);
    }

    /// Only these wait on.
    pub fn retain(&mut self, wanted: impl Fn(&PendingRequest) -> bool) {
        self.0.retain(|_, request| wanted(request));
    }

    /// The request with this id, if it still waits.
    pub fn find(&self, request_id: &str, now: i64) -> Option<&PendingRequest> {
        self.0.values().find(|request| request.request_id == request_id && !request.is_over(now))
    }

    /// All that wait, the latest first.
    pub fn all(&self, now: i64) -> Vec<&PendingRequest> {
        let mut all: Vec<_> = self.0.values().filter(|request| !request.is_over(now)).collect();
        all.sort_by(|a, b| b.ts.cmp(&a.ts).then_with(|| a.request_id.cmp(&b.request_id)));
        all
    }

    /// The device needs no decision any more.
    pub fn withdraw(&mut self, device_id: &str) -> Option<PendingRequest> {
        self.0.remove(device_id)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// What was asked for before, as the device describes itself now.
fn refreshed(before: &Ask, now: Ask) -> Ask {
    let (old, new) = (before.device.clone(), now.device);
    Ask {
        device: DeviceRow {
            display_name: new.display_name.or(old.display_name),
            platform: new.platform.or(old.platform),
            device_family: new.device_family.or(old.device_family),
            client_id: new.client_id.or(old.client_id),
            client_mode: new.client_mode.or(old.client_mode),
            remote_ip: new.remote_ip.or(old.remote_ip),
            ..old
        },
        role: before.role,
        scopes: before.scopes.clone(),
        silent: before.silent && now.silent,
        is_repair: before.is_repair || now.is_repair,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(device_id: &str, role: Role, scopes: &[&str]) -> Ask {
        let device = DeviceRow { device_id: device_id.into(), ..DeviceRow::default() };
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Ask { device, role, scopes, silent: false, is_repair: false }
    }

    /// The recording `pair_remote_flow`.
    #[test]
    fn asking_for_something_else_takes_the_place_of_the_request_and_keeps_what_it_asked() {
        let mut pending = Pending::default();
        let (read, admin) = (["operator.read"], ["operator.read", "operator.admin"]);
        let first = pending.ask(ask("d", Role::Operator, &read), 0);
        assert!(first.is_new && first.superseded.is_none());
        let same = pending.ask(ask("d", Role::Operator, &read), 1);
        assert!(!same.is_new && same.request.request_id == first.request.request_id);
        let wider = pending.ask(ask("d", Role::Operator, &admin), 2);
        assert_eq!(wider.superseded, Some(first.request.request_id));
        let less = pending.ask(ask("d", Role::Operator, &read), 3);
        assert!(!less.is_new && less.request.scopes == admin && less.request.ask.scopes == admin);
        let node = pending.ask(ask("d", Role::Node, &[]), 4);
        assert_eq!(node.superseded, Some(wider.request.request_id));
        assert_eq!(node.request.roles, [Role::Operator, Role::Node]);
        assert_eq!(node.request.scopes, admin);
        assert!(!pending.ask(ask("d", Role::Node, &[]), 5).is_new);
        assert!(pending.find(&node.request.request_id, 6).is_some());
        assert_eq!(pending.withdraw("d").unwrap().request_id, node.request.request_id);
    }

    #[test]
    fn requests_are_bounded_in_number_and_time() {
        let mut pending = Pending::default();
        for n in 0..300 {
            pending.ask(ask(&n.to_string(), Role::Node, &[]), n);
        }
        assert_eq!(pending.count(), MAX_PENDING);
        assert!(pending.ask(ask("0", Role::Node, &[]), 300).is_new);
        let kept = pending.ask(ask("299", Role::Node, &[]), 300);
        assert!(!kept.is_new);
        assert_eq!(pending.all(301).len(), MAX_PENDING);
        assert_eq!(pending.all(301)[0].ask.device.device_id, "0");
        assert!(pending.find(&kept.request.request_id, 299 + PENDING_TTL_MS).is_some(), "it was repeated");
        assert!(pending.find(&kept.request.request_id, 300 + PENDING_TTL_MS).is_none());
        pending.ask(ask("late", Role::Node, &[]), 300 + PENDING_TTL_MS);
        assert_eq!(pending.count(), 1);
    }

    #[test]
    fn another_key_is_another_request() {
        let mut pending = Pending::default();
        let first = pending.ask(ask("d", Role::Node, &[]), 0);
        let mut other = ask("d", Role::Node, &[]);
        other.device.public_key = "other".into();
        assert_eq!(pending.ask(other, 1).superseded, Some(first.request.request_id));
    }
}
