//! Pairing, pure: what becomes of a device that proved itself. The rules are recorded (handshake.md, section 4).

mod pending;

pub use pending::{Ask, Asked, PENDING_TTL_MS, Pending, PendingRequest};

use crate::conns::Peer;
use crate::handshake::Claim;
use crate::origin::is_browser;
use crate::store::DeviceRow;
use crabtree_protocol::params::devices::SetupProfile;
use crabtree_protocol::proof::{js_trim, normalized};
use crabtree_protocol::refusal::PairingReason;
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, Role, Scopes};

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

/// Why a device may be paired without anybody being asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// See [`is_trusted_local`].
    pub local: bool,
    /// Its address is one whose nodes are paired.
    pub vouched: bool,
    /// It knows the shared secret, or none is asked for.
    pub by_secret: bool,
}

/// Decides about a device. `active`: it has a token for this role that was not revoked.
pub fn rule(
    params: &ConnectParams,
    claim: &Claim,
    trust: Trust,
    known: Option<&DeviceRow>,
    active: bool,
) -> Ruling {
    use PairingReason::{MetadataUpgrade, NotPaired, RoleUpgrade, ScopeUpgrade};
    let operator = claim.role == Role::Operator;
    let local = trust.local;
    let silent = |yes: bool, reason| if yes { Ruling::Approve } else { Ruling::Ask(reason) };
    let Some(known) = known else {
        let plain_node = !operator && claim.scopes.is_empty();
        return silent(local && operator || (local || trust.vouched) && plain_node, NotPaired);
    };
    let said = Description::of(params);
    let same = said.fits(known);
    let refreshed = !same && is_native(params) && said.is_newer_version(known);
    if !same && !refreshed {
        return silent(local && is_native(params), MetadataUpgrade);
    }
    if !active || !known.roles.iter().any(|role| role == claim.role.name()) {
        return silent(local && operator, RoleUpgrade);
    }
    if !claim.scopes.is_subset_of(&Scopes::parse(&known.scopes)) {
        return silent(local && operator && trust.by_secret, ScopeUpgrade);
    }
    if refreshed || said.adds_to(known) { Ruling::Refresh } else { Ruling::Known }
}

/// Whether a client may pair itself with a setup code: a phone or tablet that is to be a node and an operator, or a
/// headless node. Whoever else has the code must be approved.
pub fn may_set_up(
    params: &ConnectParams,
    claim: &Claim,
    access: SetupProfile,
    known: Option<&DeviceRow>,
) -> bool {
    let client = &params.client;
    let plain_node = claim.role == Role::Node && claim.scopes.is_empty() && client.mode == ClientMode::Node;
    let platform = normalized(&client.platform);
    let system = platform.split(' ').next().unwrap_or_default();
    let family = client.device_family.as_deref().map(normalized).unwrap_or_default();
    let meant = match (client.id, access) {
        (ClientId::NodeHost, SetupProfile::Node) => true,
        (ClientId::Android, SetupProfile::Limited | SetupProfile::Full) => {
            system == "android" && family == "android"
        }
        (ClientId::Ios, SetupProfile::Limited | SetupProfile::Full) => {
            matches!(system, "ios" | "ipados") && matches!(&*family, "iphone" | "ipad" | "ios")
        }
        _ => false,
    };
    let said = Description::of(params);
    let same = |known: &DeviceRow| said.fits(known) || is_native_node(params) && said.is_newer_version(known);
    plain_node && meant && known.is_none_or(same)
}

fn is_native_node(params: &ConnectParams) -> bool {
    matches!(params.client.id, ClientId::Ios | ClientId::Android)
}

/// Apps that update with their operating system.
pub(crate) fn is_native(params: &ConnectParams) -> bool {
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

    /// What the shared secret is worth here, and from elsewhere.
    fn trust(local: bool) -> Trust {
        Trust { local, vouched: false, by_secret: true }
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
        assert_eq!(rule(&cli, &read, trust(true), None, false), Ruling::Approve);
        assert_eq!(rule(&cli, &read, trust(false), None, false), Ruling::Ask(NotPaired));
        let node = params("node-host", "node", "linux", None);
        assert_eq!(rule(&node, &claim(Role::Node, &[]), trust(true), None, false), Ruling::Approve);
        let greedy = claim(Role::Node, &["operator.read"]);
        assert_eq!(rule(&node, &greedy, trust(true), None, false), Ruling::Ask(NotPaired));
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
            rule(then, &read, trust(local), Some(&known), true)
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
            rule(&node("macos", None), &claim(Role::Node, &[]), trust(true), Some(&known), true),
            Ruling::Known
        );
    }

    #[test]
    fn roles_and_scopes_beyond_the_approved_ones_are_asked_for() {
        use PairingReason::{RoleUpgrade, ScopeUpgrade};
        let (cli, node) = (params("cli", "cli", "linux", None), params("node-host", "node", "linux", None));
        let known = paired(&cli, "operator", &["operator.admin"]);
        let node_claim = claim(Role::Node, &[]);
        assert_eq!(rule(&node, &node_claim, trust(true), Some(&known), false), Ruling::Ask(RoleUpgrade));
        let on_node = paired(&cli, "node", &[]);
        let read = claim(Role::Operator, &["operator.read"]);
        assert_eq!(rule(&cli, &read, trust(true), Some(&on_node), false), Ruling::Approve);
        assert_eq!(rule(&cli, &read, trust(true), Some(&known), true), Ruling::Known);
        // A revoked token takes the role with it.
        assert_eq!(rule(&cli, &read, trust(false), Some(&known), false), Ruling::Ask(RoleUpgrade));
        let reader = paired(&cli, "operator", &["operator.read"]);
        let write = claim(Role::Operator, &["operator.write"]);
        assert_eq!(rule(&cli, &write, trust(true), Some(&reader), true), Ruling::Approve);
        let without = Trust { by_secret: false, ..trust(true) };
        assert_eq!(rule(&cli, &write, without, Some(&reader), true), Ruling::Ask(ScopeUpgrade));
        assert_eq!(rule(&cli, &write, trust(false), Some(&reader), true), Ruling::Ask(ScopeUpgrade));
    }

    #[test]
    fn nodes_of_trusted_addresses_are_paired_once_and_nobody_else_is() {
        use PairingReason::{NotPaired, RoleUpgrade};
        let vouched = Trust { vouched: true, ..Trust::default() };
        let (cli, node) = (params("cli", "cli", "linux", None), params("node-host", "node", "linux", None));
        let plain = claim(Role::Node, &[]);
        assert_eq!(rule(&node, &plain, vouched, None, false), Ruling::Approve);
        let greedy = claim(Role::Node, &["operator.read"]);
        assert_eq!(rule(&node, &greedy, vouched, None, false), Ruling::Ask(NotPaired));
        let read = claim(Role::Operator, &["operator.read"]);
        assert_eq!(rule(&cli, &read, vouched, None, false), Ruling::Ask(NotPaired));
        let known = paired(&cli, "operator", &[]);
        assert_eq!(rule(&node, &plain, vouched, Some(&known), false), Ruling::Ask(RoleUpgrade));
    }

    #[test]
    fn a_setup_code_pairs_phones_and_headless_nodes_as_they_are_meant() {
        use SetupProfile::{Full, Limited, Node};
        let plain = claim(Role::Node, &[]);
        let may = |params: &ConnectParams, access| may_set_up(params, &plain, access, None);
        let phone = params("openclaw-ios", "node", "iOS 18.4.0", Some("iPhone"));
        assert!(may(&phone, Limited) && may(&phone, Full) && !may(&phone, Node));
        assert!(may(&params("openclaw-android", "node", "Android 15", Some("Android")), Limited));
        let headless = params("node-host", "node", "linux", Some("Linux"));
        assert!(may(&headless, Node) && !may(&headless, Limited));
        for stranger in [
            params("openclaw-ios", "node", "linux", Some("iPhone")),
            params("openclaw-ios", "node", "iOS 18", Some("Android")),
            params("openclaw-android", "node", "androidish", Some("Android")),
            params("openclaw-ios", "ui", "iOS 18", Some("iPhone")),
            params("cli", "cli", "linux", None),
        ] {
            assert!(!may(&stranger, Limited) && !may(&stranger, Node));
        }
        assert!(!may_set_up(&phone, &claim(Role::Operator, &[]), Limited, None));
        assert!(!may_set_up(&phone, &claim(Role::Node, &["operator.read"]), Limited, None));
        let other = paired(&params("cli", "cli", "linux", None), "operator", &[]);
        assert!(!may_set_up(&phone, &plain, Limited, Some(&other)), "it was something else before");
        let older = paired(&params("openclaw-ios", "node", "iOS 17.0", Some("iPhone")), "node", &[]);
        assert!(may_set_up(&phone, &plain, Limited, Some(&older)));
    }
}
