//! Pairing, pure: what becomes of a device that proved itself, and the requests that wait for an operator.
//! The rules are recorded (handshake.md, section 4).

use crate::conns::Peer;
use crate::handshake::Claim;
use crate::origin::is_browser;
use crate::store::DeviceRow;
use crabtree_protocol::proof::{js_trim, normalized};
use crabtree_protocol::refusal::PairingReason;
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, Role, Scopes};
use std::collections::HashMap;
use uuid::Uuid;

/// Requests that are kept; beyond it the oldest is dropped.
const MAX_PENDING: usize = 100;
/// How long a request waits for an operator, in milliseconds.
const PENDING_TTL_MS: i64 = 300_000;

/// What becomes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is known as it is.
    Known,
    /// It is known; what it says of itself is newer.
    Refresh,
    /// It is approved in silence. Its token is made anew.
    Approve,
    /// An operator has to approve it.
    Ask(PairingReason),
}

/// Whether a client may be approved in silence: it connects directly over loopback, and is not a page that
/// pretends to be a program.
pub fn is_trusted_local(params: &ConnectParams, peer: &Peer) -> bool {
    peer.is_loopback() && (peer.origin.is_none() || is_browser(params.client.id, params.client.mode))
}

/// Decides about a device. `active`: it has a token for this role that was not revoked. `local`: see
/// [`is_trusted_local`].
pub fn rule(
    params: &ConnectParams,
    claim: &Claim,
    local: bool,
    known: Option<&DeviceRow>,
    active: bool,
) -> Ruling {
    use PairingReason::{MetadataUpgrade, NotPaired, RoleUpgrade, ScopeUpgrade};
    let operator = claim.role == Role::Operator;
    let silent = |yes: bool, reason| if local && yes { Ruling::Approve } else { Ruling::Ask(reason) };
    let Some(known) = known else {
        return silent(operator || claim.scopes.is_empty(), NotPaired);
    };
    let said = Description::of(params);
    let same = said.fits(known);
    let refreshed = !same && is_native(params) && said.is_newer_version(known);
    if !same && !refreshed {
        return silent(is_native(params), MetadataUpgrade);
    }
    if !active || !known.roles.iter().any(|role| role == claim.role.name()) {
        return silent(operator, RoleUpgrade);
    }
    if !claim.scopes.is_subset_of(&Scopes::parse(&known.scopes)) {
        return silent(operator, ScopeUpgrade);
    }
    if refreshed || said.adds_to(known) { Ruling::Refresh } else { Ruling::Known }
}

/// Apps that update with their operating system.
fn is_native(params: &ConnectParams) -> bool {
    let app = matches!(
        params.client.id,
        ClientId::Macos | ClientId::Linux | ClientId::Ios | ClientId::Android | ClientId::Watchos
    );
    app && params.client.mode == ClientMode::Ui
}

/// Platform and device family of a client, as they are pinned to its device.
struct Description {
    platform: String,
    family: Option<String>,
}

impl Description {
    /// A headless node is described by its operating system alone, whatever it calls it.
    fn of(params: &ConnectParams) -> Self {
        let client = &params.client;
        let platform = js_trim(&client.platform).to_owned();
        let family = client.device_family.as_deref().map(|family| js_trim(family).to_owned());
        let node = client.id == ClientId::NodeHost && client.mode == ClientMode::Node;
        let alias = match normalized(&platform).as_str() {
            "linux" => Some(("linux", "Linux")),
            "darwin" | "macos" => Some(("macos", "Mac")),
            "win32" | "windows" => Some(("windows", "Windows")),
            _ => None,
        };
        match alias.filter(|_| node) {
            Some((platform, family)) => Self { platform: platform.into(), family: Some(family.into()) },
            None => Self { platform, family: family.filter(|family| !family.is_empty()) },
        }
    }

    fn pairs<'a>(&'a self, known: &'a DeviceRow) -> [(&'a str, &'a str); 2] {
        let pinned = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        [
            (&self.platform, pinned(&known.platform)),
            (self.family.as_deref().unwrap_or_default(), pinned(&known.device_family)),
        ]
    }

    /// Nothing that was pinned is different. Case and outer space never count.
    fn fits(&self, known: &DeviceRow) -> bool {
        let pairs = self.pairs(known);
        pairs.iter().all(|(said, pinned)| pinned.is_empty() || normalized(said) == normalized(pinned))
    }

    /// Something that was not known is said now.
    fn adds_to(&self, known: &DeviceRow) -> bool {
        self.pairs(known).iter().any(|(said, pinned)| pinned.is_empty() && !said.is_empty())
    }

    /// Only the version behind the platform's name is different.
    fn is_newer_version(&self, known: &DeviceRow) -> bool {
        let [platform, family] = self.pairs(known);
        let name = |text: &str| {
            let text = normalized(text);
            text.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().trim().to_owned()
        };
        name(platform.0) == name(platform.1) && normalized(family.0) == normalized(family.1)
    }
}

/// A device's row as a client describes it; roles, scopes and times are the caller's.
pub fn described(params: &ConnectParams, device_id: &str) -> DeviceRow {
    let (client, said) = (&params.client, Description::of(params));
    DeviceRow {
        device_id: device_id.to_owned(),
        display_name: client.display_name.as_ref().map(ToString::to_string),
        platform: Some(said.platform),
        device_family: said.family,
        client_id: Some(client.id.name().into()),
        client_mode: Some(client.mode.name().into()),
        ..DeviceRow::default()
    }
}

/// A request to pair that waits for an operator.
#[derive(Clone, Debug)]
pub struct PendingRequest {
    /// Its id.
    pub request_id: String,
    /// All roles that were asked for since the last decision.
    pub roles: Vec<String>,
    /// All scopes that were asked for since the last decision.
    pub scopes: Vec<String>,
    asked: (Role, Vec<String>),
    ts: i64,
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

/// The requests that wait, one a device.
#[derive(Debug, Default)]
pub struct Pending(HashMap<String, PendingRequest>);

impl Pending {
    /// A device asks. Asking the same again is the same request; asking for something else is a new one, which
    /// keeps what the one before asked for.
    pub fn ask(&mut self, device_id: &str, role: Role, scopes: &[String], now: i64) -> Asked {
        self.0.retain(|_, request| now - request.ts < PENDING_TTL_MS);
        let asked = (role, scopes.to_vec());
        let before = self.0.remove(device_id);
        if let Some(mut same) = before.clone().filter(|request| request.asked == asked) {
            same.ts = now;
            self.0.insert(device_id.to_owned(), same.clone());
            return Asked { request: same, is_new: false, superseded: None };
        }
        if self.0.len() >= MAX_PENDING {
            let oldest = self.0.iter().min_by_key(|(_, request)| request.ts).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.0.remove(&id));
        }
        let (roles, known) =
            before.clone().map(|request| (request.roles, request.scopes)).unwrap_or_default();
        let request = PendingRequest {
            request_id: Uuid::new_v4().to_string(),
            roles: with(roles, role.name()),
            scopes: scopes.iter().fold(known, with),
            asked,
            ts: now,
        };
        self.0.insert(device_id.to_owned(), request.clone());
        Asked { request, is_new: true, superseded: before.map(|request| request.request_id) }
    }

    /// The device needs no decision any more.
    pub fn withdraw(&mut self, device_id: &str) -> Option<String> {
        self.0.remove(device_id).map(|request| request.request_id)
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The list with this item in it.
pub fn with(mut list: Vec<String>, item: impl AsRef<str>) -> Vec<String> {
    if !list.iter().any(|i| i == item.as_ref()) {
        list.push(item.as_ref().to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Shared;
    use crabtree_protocol::refusal::{Credential, Hint};
    use serde_json::json;

    fn params(id: &str, mode: &str, platform: &str, family: Option<&str>) -> ConnectParams {
        let mut client = json!({ "id": id, "mode": mode, "version": "1", "platform": platform });
        if let Some(family) = family {
            client["deviceFamily"] = family.into();
        }
        let params = json!({ "minProtocol": 4, "maxProtocol": 4, "client": client });
        ConnectParams::parse(Some(serde_json::from_str(&params.to_string()).unwrap())).unwrap()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|item| (*item).to_owned()).collect()
    }

    fn claim(role: Role, scopes: &[&str]) -> Claim {
        Claim {
            role,
            scopes: Scopes::parse(&strings(scopes)),
            shared: Shared::Granted("token"),
            device: None,
            credential: Credential::Token,
            hint: Hint::Other,
        }
    }

    fn paired(params: &ConnectParams, role: &str, scopes: &[&str]) -> DeviceRow {
        DeviceRow { roles: strings(&[role]), scopes: strings(scopes), ..described(params, "d") }
    }

    #[test]
    fn a_new_device_is_approved_in_silence_only_directly_over_loopback() {
        use PairingReason::NotPaired;
        let cli = params("cli", "cli", "linux", None);
        let read = claim(Role::Operator, &["operator.read"]);
        assert_eq!(rule(&cli, &read, true, None, false), Ruling::Approve);
        assert_eq!(rule(&cli, &read, false, None, false), Ruling::Ask(NotPaired));
        let node = params("node-host", "node", "linux", None);
        assert_eq!(rule(&node, &claim(Role::Node, &[]), true, None, false), Ruling::Approve);
        let greedy = claim(Role::Node, &["operator.read"]);
        assert_eq!(rule(&node, &greedy, true, None, false), Ruling::Ask(NotPaired));
        let mut peer = Peer::new([127, 0, 0, 1].into());
        assert!(is_trusted_local(&cli, &peer));
        peer.origin = Some("http://127.0.0.1".into());
        assert!(!is_trusted_local(&cli, &peer));
        assert!(is_trusted_local(&params("webchat", "webchat", "linux", None), &peer));
        assert!(!is_trusted_local(&cli, &Peer::new([192, 168, 1, 2].into())));
    }

    /// The recordings `meta_upgrade_loopback` and `pair_remote_flow`.
    #[test]
    fn what_is_pinned_may_change_its_case_and_native_apps_their_version() {
        use PairingReason::MetadataUpgrade;
        let read = claim(Role::Operator, &["operator.read"]);
        let ruling = |first: &ConnectParams, then: &ConnectParams, local| {
            let known = paired(first, "operator", &["operator.read"]);
            rule(then, &read, local, Some(&known), true)
        };
        let cli = |platform, family| params("cli", "cli", platform, family);
        let mac = |platform| params("openclaw-macos", "ui", platform, Some("Mac"));
        let ask = Ruling::Ask(MetadataUpgrade);
        assert_eq!(ruling(&cli("macos", Some("Mac")), &cli(" MacOS ", Some("MAC")), false), Ruling::Known);
        assert_eq!(ruling(&cli("macos", Some("Mac")), &cli("macos", None), false), ask);
        assert_eq!(ruling(&cli("linux", None), &cli("linux", Some("Linux")), false), Ruling::Refresh);
        assert_eq!(ruling(&cli("linux", None), &cli("windows", None), true), ask);
        assert_eq!(ruling(&mac("macOS 15.1.0"), &mac("macOS 15.2.0"), false), Ruling::Refresh);
        assert_eq!(ruling(&mac("macOS 15.1.0"), &mac("linux"), true), Ruling::Approve);
        assert_eq!(ruling(&mac("macOS 15.1.0"), &mac("linux"), false), ask);
        assert_eq!(ruling(&cli("macos", Some("Mac")), &mac("macos"), false), Ruling::Known);
    }

    #[test]
    fn a_headless_node_is_known_by_its_system() {
        let node = |platform, family| params("node-host", "node", platform, family);
        for (platform, stored) in
            [("darwin", ("macos", "Mac")), ("win32", ("windows", "Windows")), ("linux", ("linux", "Linux"))]
        {
            let row = described(&node(platform, None), "d");
            assert_eq!(
                (row.platform.as_deref(), row.device_family.as_deref()),
                (Some(stored.0), Some(stored.1))
            );
        }
        assert_eq!(described(&node("freebsd", None), "d").device_family, None);
        let known = paired(&node("darwin", Some("Mac")), "node", &[]);
        assert_eq!(
            rule(&node("macos", None), &claim(Role::Node, &[]), true, Some(&known), true),
            Ruling::Known
        );
    }

    #[test]
    fn roles_and_scopes_beyond_the_approved_ones_are_asked_for() {
        use PairingReason::{RoleUpgrade, ScopeUpgrade};
        let (cli, node) = (params("cli", "cli", "linux", None), params("node-host", "node", "linux", None));
        let known = paired(&cli, "operator", &["operator.admin"]);
        let node_claim = claim(Role::Node, &[]);
        assert_eq!(rule(&node, &node_claim, true, Some(&known), false), Ruling::Ask(RoleUpgrade));
        let on_node = paired(&cli, "node", &[]);
        let read = claim(Role::Operator, &["operator.read"]);
        assert_eq!(rule(&cli, &read, true, Some(&on_node), false), Ruling::Approve);
        assert_eq!(rule(&cli, &read, true, Some(&known), true), Ruling::Known);
        // A revoked token takes the role with it.
        assert_eq!(rule(&cli, &read, false, Some(&known), false), Ruling::Ask(RoleUpgrade));
        let reader = paired(&cli, "operator", &["operator.read"]);
        let write = claim(Role::Operator, &["operator.write"]);
        assert_eq!(rule(&cli, &write, true, Some(&reader), true), Ruling::Approve);
        assert_eq!(rule(&cli, &write, false, Some(&reader), true), Ruling::Ask(ScopeUpgrade));
    }

    /// The recording `pair_remote_flow`.
    #[test]
    fn asking_for_something_else_takes_the_place_of_the_request_and_keeps_what_it_asked() {
        let mut pending = Pending::default();
        let (read, admin) = (strings(&["operator.read"]), strings(&["operator.read", "operator.admin"]));
        let first = pending.ask("d", Role::Operator, &read, 0);
        assert!(first.is_new && first.superseded.is_none());
        let same = pending.ask("d", Role::Operator, &read, 1);
        assert!(!same.is_new && same.request.request_id == first.request.request_id);
        let wider = pending.ask("d", Role::Operator, &admin, 2);
        assert_eq!(wider.superseded, Some(first.request.request_id));
        let node = pending.ask("d", Role::Node, &[], 3);
        assert_eq!(node.superseded, Some(wider.request.request_id));
        assert_eq!((&node.request.roles, &node.request.scopes), (&strings(&["operator", "node"]), &admin));
        assert!(!pending.ask("d", Role::Node, &[], 4).is_new);
        assert_eq!(pending.withdraw("d"), Some(node.request.request_id));
        for n in 0..300 {
            pending.ask(&n.to_string(), Role::Node, &[], n);
        }
        assert_eq!(pending.count(), MAX_PENDING);
        assert!(
            pending.ask("0", Role::Node, &[], 300).is_new && !pending.ask("299", Role::Node, &[], 300).is_new
        );
        pending.ask("late", Role::Node, &[], 300 + PENDING_TTL_MS);
        assert_eq!(pending.count(), 1);
    }
}
