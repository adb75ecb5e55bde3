//! The part of `gateway` that says who may come in, and how often they may be wrong.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Addresses, one by one or in ranges such as `10.0.0.0/8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Addresses(Vec<String>);

impl Addresses {
    /// Whether this is one of them. What cannot be read is none.
    pub fn cover(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().filter_map(|entry| range(entry)).any(|range| range.contains(&ip))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|entry| range(entry).is_none())
    }

    /// Those that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|entry| range(entry).is_none()).map(String::as_str)
    }
}

fn range(entry: &str) -> Option<IpNet> {
    let entry = entry.trim();
    entry.parse().ok().or_else(|| entry.parse::<IpAddr>().ok().map(|ip| ip.to_canonical().into()))
}

/// `gateway.auth.trustedProxy`: who authenticates people before this gateway, and how it says who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TrustedProxySettings {
    /// The header that names the person.
    pub user_header: String,
    /// Headers that must be there as well.
    pub required_headers: Vec<String>,
    /// The people who may come in; without any, everybody the proxy names.
    pub allow_users: Vec<String>,
    /// Whether a proxy on this machine is believed. Any program here can pass for it.
    pub allow_loopback: bool,
    /// Whether the browsers of these people are paired without being asked about.
    pub device_auto_approve: DeviceAutoApprove,
}

/// `gateway.auth.trustedProxy.deviceAutoApprove`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeviceAutoApprove {
    /// Off unless somebody wants it.
    pub enabled: bool,
    /// The most they are given; reading, writing, approvals and questions by default.
    pub scopes: Option<Vec<String>>,
}

/// `gateway.auth.rateLimit`: what follows failures to authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimitSettings {
    /// Failures within the window that lock a client out.
    pub max_attempts: usize,
    /// The window.
    pub window_ms: u64,
    /// How long a client is locked out.
    pub lockout_ms: u64,
    /// Clients on this machine are delayed instead.
    pub exempt_loopback: bool,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self { max_attempts: 10, window_ms: 60_000, lockout_ms: 300_000, exempt_loopback: true }
    }
}

/// `gateway.nodes`: nodes, and devices in general.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NodesSettings {
    /// Who is paired without being asked about.
    pub pairing: NodePairingSettings,
    /// Which commands nodes may be asked to carry out.
    pub commands: NodeCommandSettings,
    /// Whether agents have the tools that nodes offer.
    pub plugin_tools: NodeToolSettings,
    /// Whether agents hear of the skills that nodes offer.
    pub allow_skills: bool,
}

impl Default for NodesSettings {
    fn default() -> Self {
        Self {
            pairing: NodePairingSettings::default(),
            commands: NodeCommandSettings::default(),
            plugin_tools: NodeToolSettings::default(),
            allow_skills: true,
        }
    }
}

/// `gateway.nodes.pluginTools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeToolSettings {
    /// Whether agents have them.
    pub enabled: bool,
}

impl Default for NodeToolSettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `gateway.nodes.commands`: exact names of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeCommandSettings {
    /// Allowed beside what a node's platform is there for.
    pub allow: Vec<String>,
    /// Never allowed, whatever else says so.
    pub deny: Vec<String>,
}

/// `gateway.nodes.pairing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePairingSettings {
    /// Devices that connect directly over loopback are approved in silence.
    pub auto_approve_local: bool,
    /// Nodes that connect from these addresses for the first time are, too.
    pub auto_approve_cidrs: Addresses,
}

impl Default for NodePairingSettings {
    fn default() -> Self {
        Self { auto_approve_local: true, auto_approve_cidrs: Addresses::default() }
    }
}

/// `gateway.remote`: where others reach this gateway or, with `gateway.mode: "remote"`, the gateway that the command line
/// of this machine talks to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct RemoteSettings {
    /// Where it is.
    pub url: Option<String>,
    /// The SHA-256 fingerprint of its certificate, if that is not one this machine trusts anyway.
    pub tls_fingerprint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_single_ones_and_ranges() {
        let list: Addresses = serde_json::from_str(
            r#"["10.0.0.0/8", " 192.168.1.5 ", "fd00::/8", "::1", "home", "10.0.0.0/99"]"#,
        )
        .unwrap();
        for ip in ["10.1.2.3", "192.168.1.5", "fd12::1", "::1", "::ffff:10.0.0.1"] {
            assert!(list.cover(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["11.0.0.1", "192.168.1.6", "fe80::1", "127.0.0.1"] {
            assert!(!list.cover(ip.parse().unwrap()), "{ip}");
        }
        assert_eq!(list.unreadable().collect::<Vec<_>>(), ["home", "10.0.0.0/99"]);
    }
}
