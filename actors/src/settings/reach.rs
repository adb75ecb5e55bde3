//! How the gateway is reached from elsewhere: `gateway.tls`, `gateway.tailscale` and `discovery`. All of it is read at
//! the start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use super::agents::expanded;

/// `gateway.tls`: TLS on the gateway's own port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsSettings {
    /// Whether clients have to speak it.
    pub enabled: bool,
    /// Whether the gateway makes a certificate of its own where there is none.
    pub auto_generate: bool,
    /// The certificate and its chain, PEM; by default `gateway/tls/gateway-cert.pem` in the state directory.
    pub cert_path: Option<String>,
    /// Its key, PEM; by default `gateway/tls/gateway-key.pem` in the state directory.
    pub key_path: Option<String>,
    /// More certificates, PEM, of which those that complete the chain are sent with it.
    pub ca_path: Option<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { enabled: false, auto_generate: true, cert_path: None, key_path: None, ca_path: None }
    }
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// More certificates.
    pub ca: Option<PathBuf>,
}

impl TlsSettings {
    /// Where its files are.
    pub fn files(&self, state_dir: &Path) -> TlsFiles {
        let own = |name: &str| state_dir.join("gateway/tls").join(name);
        let named = |path: &Option<String>| {
            let path = path.as_deref().filter(|path| !path.trim().is_empty());
            path.map(expanded)
        };
        TlsFiles {
            cert: named(&self.cert_path).unwrap_or_else(|| own("gateway-cert.pem")),
            key: named(&self.key_path).unwrap_or_else(|| own("gateway-key.pem")),
            ca: named(&self.ca_path),
        }
    }
}

/// `gateway.tailscale`: Tailscale on this machine brings clients here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TailscaleSettings {
    /// Whom.
    pub mode: TailscaleMode,
}

/// Whom Tailscale brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TailscaleMode {
    /// Nobody.
    #[default]
    Off,
    /// The machines of the tailnet.
    Serve,
    /// Everybody; only with a password.
    Funnel,
}

impl TailscaleMode {
    /// Its command, unless it is off.
    pub fn command(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Serve => Some("serve"),
            Self::Funnel => Some("funnel"),
        }
    }
}

/// `discovery`: who may find the gateway without being told where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DiscoverySettings {
    /// Those on the same network.
    pub mdns: MdnsSettings,
}

/// `discovery.mdns`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MdnsSettings {
    /// What they are told.
    pub mode: MdnsMode,
}

/// What is told on the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MdnsMode {
    /// Nothing.
    #[default]
    Off,
    /// That there is a gateway, and how to reach it.
    Minimal,
    /// Its place in the tailnet, the port of SSH and the path of the program, too.
    Full,
}
