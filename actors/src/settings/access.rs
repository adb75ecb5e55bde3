//! The part of `gateway` that says who may come in, and how often they may be wrong.

use serde::{Deserialize, Serialize};

/// `gateway.auth.rateLimit`: what follows failures to authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `gateway.controlUi`: the Control UI in a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ControlUiSettings {
    /// Origins of pages that may connect, besides this gateway's own and those of this machine; `*` is any.
    pub allowed_origins: Vec<String>,
}

/// `gateway.nodes`: nodes, and devices in general.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodesSettings {
    /// Who is paired without being asked about.
    pub pairing: NodePairingSettings,
}

/// `gateway.nodes.pairing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodePairingSettings {
    /// Devices that connect directly over loopback are approved in silence.
    pub auto_approve_local: bool,
}

impl Default for NodePairingSettings {
    fn default() -> Self {
        Self { auto_approve_local: true }
    }
}

/// `gateway.remote`, as far as a gateway reads what is meant for its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteSettings {
    /// Where others reach it.
    pub url: Option<String>,
}
