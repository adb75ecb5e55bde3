//! What is known of devices: rows and tokens, who asks, and setup codes. Pure: what a decision leads to gathers in
//! [`Change`], and the actor sees to it.

use super::imported::bound_to;
use super::setups::Setups;
use crate::event::{Audience, Event};
use crate::pairing::{Ask, Asked, Pending, PendingRequest};
use crate::store::{DeviceRow, SetupRow, TokenRow, WriteOp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::params::devices::{PairedDevice, TokenShown};
use crabtree_protocol::{Event as Name, Role, Scope, Scopes};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use subtle::ConstantTimeEq;

/// What a decision leads to: rows to write, and then news to tell and connections to close.
#[derive(Default)]
pub(super) struct Change {
    /// Devices that are different; true if one was forgotten, and may be known again.
    pub devices: BTreeMap<String, bool>,
    /// Setup codes that are different.
    pub setups: BTreeSet<String>,
    /// Devices that are nodes no more.
    pub nodes: BTreeSet<String>,
    /// What operators are told.
    pub news: Vec<Event>,
    /// Whose connections are closed: those of a device in one role, or in all.
    pub cut: Vec<(String, Option<Role>)>,
    /// Requests that were made or repeated.
    pub asked: Vec<PendingRequest>,
    /// Requests that were decided.
    pub decided: Vec<(String, bool)>,
}

impl Change {
    /// Whether something must be stored before anybody hears of it.
    pub fn is_durable(&self) -> bool {
        !(self.devices.is_empty() && self.setups.is_empty())
    }

    /// Operators hear who asks.
    pub fn tell_requested(&mut self, request: &PendingRequest) {
        self.tell(Name::DevicePairRequested, &request.shown());
    }

    /// Operators hear what became of a request.
    pub fn tell_resolved(&mut self, request_id: &str, device_id: &str, approved: bool, now: i64) {
        let decision = if approved { "approved" } else { "rejected" };
        let news = json!({ "requestId": request_id, "deviceId": device_id, "decision": decision, "ts": now });
        self.tell(Name::DevicePairResolved, &news);
        self.decided.push((request_id.to_owned(), approved));
    }

    /// Operators hear something else.
    pub fn tell(&mut self, name: Name, news: &impl serde::Serialize) {
        let audience = Audience::Scope(name.scope().scope().unwrap_or(Scope::Admin));
        self.news.push(Event::new(name, audience, news));
    }
}

/// See the module.
pub(super) struct Book {
    pub devices: HashMap<String, DeviceRow>,
    pub tokens: HashMap<(String, Role), TokenRow>,
    pub pending: Pending,
    pub setups: Setups,
    /// Hashes of tokens that another gateway gave out, by their names in the store.
    pub imported: HashMap<String, String>,
    /// What gathered since the actor looked last.
    pub change: Change,
    /// Names the shared secret in force; tokens of browsers die with it.
    pub generation: String,
    pub(super) key: [u8; 32],
    last_rotation: i64,
}

impl Book {
    pub fn new(key: [u8; 32], generation: String) -> Self {
        Self {
            devices: HashMap::new(),
            tokens: HashMap::new(),
            pending: Pending::default(),
            setups: Setups::new(key),
            imported: HashMap::new(),
            change: Change::default(),
            generation,
            key,
            last_rotation: 0,
        }
    }

    /// Takes over what is stored.
    pub fn load(&mut self, devices: Vec<DeviceRow>, tokens: Vec<TokenRow>, setups: Vec<SetupRow>) {
        self.devices = devices.into_iter().map(|d| (d.device_id.clone(), d)).collect();
        self.tokens = tokens
            .into_iter()
            .filter_map(|t| Some(((t.device_id.clone(), Role::from_name(&t.role)?), t)))
            .collect();
        let last = self.tokens.values().map(|token| token.rotation).max().unwrap_or_default();
        self.last_rotation = self.last_rotation.max(last);
        self.setups.load(setups);
    }

    /// The token of a device for a role, unless it was revoked.
    pub fn active(&self, device_id: &str, role: Role) -> Option<&TokenRow> {
        self.tokens.get(&(device_id.to_owned(), role)).filter(|token| token.revoked_at.is_none())
    }

    /// What the token of an operator's device gives, whichever device that is.
    pub fn borne(&self, token: &str) -> Option<Scopes> {
        let live = |row: &&TokenRow| row.role == Role::Operator.name() && row.revoked_at.is_none();
        let is_it = |row: &&TokenRow| bool::from(self.derive(row).as_bytes().ct_eq(token.as_bytes()));
        // All are looked at, so that the time it takes tells nothing of where one was found.
        let found = self.tokens.values().filter(live).filter(is_it).last();
        found.map(|row| Scopes::parse(&row.scopes))
    }

    /// Makes a new token in the place of whatever the device had for the role. What is written of it is no secret.
    pub fn renew(&mut self, device_id: &str, role: Role, scopes: &[String], now: i64) -> TokenRow {
        let key = (device_id.to_owned(), role);
        let last = self.tokens.get(&key);
        self.last_rotation = now.max(self.last_rotation + 1);
        let row = TokenRow {
            device_id: device_id.to_owned(),
            role: role.name().to_owned(),
            scopes: token_scopes(scopes),
            rotation: self.last_rotation,
            created_at: last.map_or(now, |token| token.created_at),
            rotated_at: last.map(|_| now),
            last_used_at: last.and_then(|token| token.last_used_at),
            revoked_at: None,
        };
        self.tokens.insert(key, row.clone());
        self.touch(device_id);
        row
    }

    /// A device asks to be paired.
    pub fn ask(&mut self, ask: Ask, now: i64) -> Asked {
        let device_id = ask.device.device_id.clone();
        let asked = self.pending.ask(ask, now);
        self.change.asked.push(asked.request.clone());
        if let Some(old) = &asked.superseded {
            self.change.tell_resolved(old, &device_id, false, now);
        }
        if asked.is_new {
            self.change.tell_requested(&asked.request);
        }
        asked
    }

    /// The device is to be written.
    pub fn touch(&mut self, device_id: &str) {
        self.change.devices.entry(device_id.to_owned()).or_insert(false);
    }

    /// Forgets a device, its tokens and what it asks for.
    pub fn forget(&mut self, device_id: &str) {
        self.devices.remove(device_id);
        self.tokens.retain(|(id, _), _| id != device_id);
        let asked = self.pending.withdraw(device_id);
        self.change.decided.extend(asked.map(|request| (request.request_id, false)));
        self.change.devices.insert(device_id.to_owned(), true);
    }

    /// The rows of a device as they are to be stored.
    pub fn rows(&self, device_id: &str, forgotten: bool) -> Vec<WriteOp> {
        let device_id = device_id.to_owned();
        let Some(device) = self.devices.get(&device_id) else {
            return vec![WriteOp::RemoveDevice { device_id }];
        };
        let gone = forgotten.then(|| WriteOp::RemoveDevice { device_id: device_id.clone() });
        let tokens = Role::ALL.iter().filter_map(|role| self.tokens.get(&(device_id.clone(), *role)));
        gone.into_iter()
            .chain([WriteOp::PutDevice(device.clone())])
            .chain(tokens.cloned().map(WriteOp::PutToken))
            .collect()
    }

    /// The token itself. It is a keyed hash, so it is the same each time. In those of browsers the shared secret is
    /// mixed in.
    pub fn derive(&self, token: &TokenRow) -> String {
        let bound = bound_to(self.devices.get(&token.device_id), &token.role, &self.generation);
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let rotation = token.rotation.to_string();
        let parts = ["device-token", &token.device_id, &token.role, &rotation, bound];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize().as_bytes())
    }

    /// A paired device as operators see it.
    pub fn shown(&self, device: &DeviceRow) -> PairedDevice {
        let tokens = Role::ALL.iter().filter_map(|role| self.tokens.get(&(device.device_id.clone(), *role)));
        let device = device.clone();
        PairedDevice {
            role: device.roles.first().cloned().unwrap_or_default(),
            tokens: tokens.map(token_shown).collect(),
            device_id: device.device_id,
            public_key: device.public_key,
            roles: device.roles,
            scopes: device.scopes,
            created_at_ms: device.created_at,
            approved_at_ms: device.approved_at,
            display_name: device.display_name,
            operator_label: device.label,
            platform: device.platform,
            device_family: device.device_family,
            client_id: device.client_id,
            client_mode: device.client_mode,
            remote_ip: device.remote_ip,
            approved_via: device.approved_via,
            last_seen_at_ms: device.last_seen_at,
            last_seen_reason: device.last_seen_reason,
            connected: None,
        }
    }
}

fn token_shown(token: &TokenRow) -> TokenShown {
    TokenShown {
        role: token.role.clone(),
        scopes: token.scopes.clone(),
        created_at_ms: token.created_at,
        rotated_at_ms: token.rotated_at,
        revoked_at_ms: token.revoked_at,
        last_used_at_ms: token.last_used_at,
    }
}

/// When a token was issued, ms.
pub(super) fn issued_at(token: &TokenRow) -> i64 {
    token.rotated_at.unwrap_or(token.created_at)
}

/// Scopes as a token lists them: sorted, with what administering and writing bring along.
pub(super) fn token_scopes(scopes: &[String]) -> Vec<String> {
    let mut all: BTreeSet<String> = scopes.iter().cloned().collect();
    if all.contains(Scope::Admin.name()) {
        all.extend([Scope::Read.name().to_owned(), Scope::Write.name().to_owned()]);
    } else if all.contains(Scope::Write.name()) {
        all.insert(Scope::Read.name().to_owned());
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let mut book = Book::new([7; 32], "secret".into());
        let device =
            DeviceRow { device_id: "d".into(), roles: vec!["operator".into()], ..Default::default() };
        book.devices.insert("d".into(), device);
        book
    }

    #[test]
    fn a_token_is_the_same_until_it_is_renewed_and_never_comes_back() {
        let mut book = book();
        let first = book.renew("d", Role::Operator, &["operator.write".into()], 5);
        assert_eq!(first.scopes, ["operator.read", "operator.write"]);
        assert_eq!((first.created_at, first.rotated_at, issued_at(&first)), (5, None, 5));
        assert_eq!(book.derive(&first), book.derive(&first));
        let second = book.renew("d", Role::Operator, &[], 5);
        assert_eq!((second.created_at, second.rotated_at), (5, Some(5)));
        assert_ne!(book.derive(&first), book.derive(&second));
        // A device that was removed and paired again within a moment has none of its old tokens.
        let device = book.devices["d"].clone();
        book.forget("d");
        book.devices.insert("d".into(), device);
        let third = book.renew("d", Role::Operator, &[], 5);
        assert!(![book.derive(&first), book.derive(&second)].contains(&book.derive(&third)));
        assert!(book.change.devices["d"], "the old rows are removed");
        assert!(matches!(
            &book.rows("d", true)[..],
            [WriteOp::RemoveDevice { .. }, WriteOp::PutDevice(_), WriteOp::PutToken(_)]
        ));
        book.load(vec![], vec![TokenRow { rotation: 900, role: "node".into(), ..third }], vec![]);
        assert_eq!(book.renew("d", Role::Operator, &[], 6).rotation, 901);
    }

    #[test]
    fn tokens_of_browsers_die_with_the_shared_secret() {
        let mut book = book();
        let token = book.renew("d", Role::Operator, &[], 5);
        let node = book.renew("d", Role::Node, &[], 5);
        let before = book.derive(&token);
        book.generation = "another".into();
        assert_eq!(book.derive(&token), before);
        book.devices.get_mut("d").unwrap().client_id = Some("openclaw-control-ui".into());
        book.devices.get_mut("d").unwrap().client_mode = Some("webchat".into());
        let (page, its_node) = (book.derive(&token), book.derive(&node));
        book.generation = "secret".into();
        assert_ne!(book.derive(&token), page);
        assert_eq!(book.derive(&node), its_node);
    }

    #[test]
    fn a_token_alone_gives_its_scopes_while_it_is_good_and_only_an_operators() {
        let mut book = book();
        let borne = |book: &Book, row: &TokenRow| book.borne(&book.derive(row)).map(|s| s.as_list().to_vec());
        let old = book.renew("d", Role::Operator, &["operator.read".into()], 5);
        assert_eq!(borne(&book, &old), Some(vec!["operator.read".to_owned()]));
        let new = book.renew("d", Role::Operator, &["operator.read".into()], 6);
        let node = book.renew("d", Role::Node, &[], 6);
        assert!(
            borne(&book, &new).is_some() && borne(&book, &old).is_none() && borne(&book, &node).is_none()
        );
        assert!(book.borne("").is_none() && book.borne("guess").is_none());
        book.tokens.get_mut(&("d".into(), Role::Operator)).unwrap().revoked_at = Some(7);
        assert!(borne(&book, &new).is_none());
    }
}
