//! The answer to an accepted `connect`.
//!
//! A hello is sent for every single command of the command line, so all that is the same for
//! many connections (feature lists, presence, health) is passed in already encoded.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::event::Event;
use crate::frame;
use crate::frame::StateVersion;
use crate::ids::ConnId;
use crate::method::Method;
use crate::scope::{Role, Scopes};

/// The capabilities of this gateway, for `features.capabilities`; `models list` of the stock
/// command line needs `published-model-catalog`.
pub const CAPABILITIES: &[&str] = &["chat-send-routing-contract", "published-model-catalog"];

/// Payload of the response to `connect`, keys in the recorded order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelloOk<'a> {
    /// Always `hello-ok`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always [`frame::PROTOCOL_VERSION`], for an older node too.
    pub protocol: u32,
    /// Which gateway this is.
    pub server: ServerInfo<'a>,
    /// Methods, events and capabilities; see [`encode_features`].
    #[schemars(with = "Value")]
    pub features: &'a RawValue,
    /// The state at the time of the hello.
    pub snapshot: Snapshot<'a>,
    /// Where the Control UI is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_ui_url: Option<&'a str>,
    /// Where the client may look at what agents show, by the name of the surface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_surface_urls: Option<Value>,
    /// What was granted.
    pub auth: HelloAuth<'a>,
    /// The limits.
    pub policy: Policy,
}

impl<'a> HelloOk<'a> {
    /// A hello with the parts that differ.
    pub fn new(
        server: ServerInfo<'a>,
        features: &'a RawValue,
        snapshot: Snapshot<'a>,
        auth: HelloAuth<'a>,
    ) -> Self {
        Self {
            kind: "hello-ok",
            protocol: frame::PROTOCOL_VERSION,
            server,
            features,
            snapshot,
            control_ui_url: None,
            plugin_surface_urls: None,
            auth,
            policy: Policy::default(),
        }
    }

    /// The hello as JSON, for [`frame::encode_ok`].
    pub fn encode(&self) -> Vec<u8> {
        let room = 1024
            + self.features.get().len()
            + self.snapshot.presence.get().len()
            + self.snapshot.health.get().len();
        let mut out = Vec::with_capacity(room);
        serde_json::to_writer(&mut out, self).expect("a hello holds only strings, numbers and valid JSON");
        out
    }
}

/// Which gateway, process and connection this is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo<'a> {
    /// The gateway's version.
    pub version: &'a str,
    /// The build; a Control UI of another one is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<&'a str>,
    /// Changes with every start of the process.
    pub boot_id: &'a str,
    /// Where the served Control UI comes from: `bundled` or `configured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_ui_build_source: Option<&'a str>,
    /// This connection.
    pub conn_id: ConnId,
}

/// The state at the time of the hello.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot<'a> {
    /// Whether the gateway takes work.
    pub suspension: Suspension,
    /// The presence list; [`empty_list`] for nodes.
    #[schemars(with = "Value")]
    pub presence: &'a RawValue,
    /// The health snapshot.
    #[schemars(with = "Value")]
    pub health: &'a RawValue,
    /// The versions of the two.
    pub state_version: StateVersion,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// A keyed hash of the configuration in effect.
    pub applied_config_hash: &'a str,
    /// What a chat without a session key means.
    pub session_defaults: &'a SessionDefaults,
    /// The configuration file; only for operators granted `operator.admin` by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_path: Option<&'a str>,
    /// The state directory; as `config_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<&'a str>,
    /// How clients authenticate; as `config_path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_mode: Option<&'a str>,
}

/// Whether the gateway takes work.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Suspension {
    /// `accepting` in normal operation.
    pub phase: &'static str,
}

impl Default for Suspension {
    fn default() -> Self {
        Self { phase: "accepting" }
    }
}

/// What a chat without a session key means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionDefaults {
    /// The agent that gets what names none.
    pub default_agent_id: String,
    /// Whether that agent has a model.
    pub model_configured: bool,
    /// `sole` with one agent, `explicit` with several.
    pub ownership: String,
    /// Whether a client has to choose an agent.
    pub selection_required: bool,
    /// The rest of a main session's key.
    pub main_key: String,
    /// The main session's key.
    pub main_session_key: String,
    /// `per-sender` or `global`.
    pub scope: String,
}

impl SessionDefaults {
    /// The defaults of a gateway whose `agent_count` agents are led by `default_agent`.
    pub fn of(default_agent: &str, agent_count: usize, model_configured: bool) -> Self {
        Self {
            default_agent_id: default_agent.to_owned(),
            model_configured,
            ownership: if agent_count > 1 { "explicit" } else { "sole" }.to_owned(),
            selection_required: false,
            main_key: crate::session_key::MAIN.to_owned(),
            main_session_key: crate::SessionKey::main(default_agent).to_string(),
            scope: "per-sender".to_owned(),
        }
    }
}

/// What was granted to the connection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelloAuth<'a> {
    /// What the client authenticated with: `token`, `password`, `device-token`,
    /// `bootstrap-token`, `none` or `trusted-proxy`.
    pub method: &'a str,
    /// The role.
    pub role: Role,
    /// The scopes, exactly as granted.
    pub scopes: Scopes,
    /// A stable name for what the browser keeps between visits; operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_scope: Option<String>,
    /// Whether what was kept under an older name may be taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_migration_allowed: Option<bool>,
    /// The token of the paired device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    /// When that token was issued, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at_ms: Option<u64>,
    /// Tokens of further roles, after a setup code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_tokens: Vec<IssuedToken>,
}

/// A device token as it is handed out.
#[derive(Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// The token.
    pub device_token: String,
    /// The role it is for.
    pub role: Role,
    /// The scopes it grants.
    pub scopes: Scopes,
    /// When it was issued, in milliseconds since the epoch.
    pub issued_at_ms: u64,
}

/// Never shows the token.
impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("IssuedToken").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The limits of a connection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Largest frame in bytes.
    pub max_payload: usize,
    /// Bytes that may wait for a slow client before events are dropped.
    pub max_buffered_bytes: usize,
    /// Milliseconds between two ticks.
    pub tick_interval_ms: u64,
    /// Limits of attachments.
    pub attachments: AttachmentPolicy,
    /// How a session may be shared.
    pub allowed_session_visibilities: &'static [&'static str],
    /// Whether more than one person can be told apart.
    pub has_multiple_session_sharing_identities: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_payload: frame::MAX_PAYLOAD,
            max_buffered_bytes: frame::MAX_BUFFERED_BYTES,
            tick_interval_ms: frame::TICK_INTERVAL_MS,
            attachments: AttachmentPolicy {
                max_bytes: frame::MAX_ATTACHMENT_BYTES,
                max_image_bytes: frame::MAX_IMAGE_BYTES,
            },
            allowed_session_visibilities: &["shared"],
            has_multiple_session_sharing_identities: false,
        }
    }
}

/// Limits of attachments.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentPolicy {
    /// Largest attachment in bytes.
    pub max_bytes: u64,
    /// Largest image in bytes.
    pub max_image_bytes: u64,
}

/// Encodes the feature lists once for all hellos; `chaos` is `gateway.chaos.enabled`.
pub fn encode_features(chaos: bool) -> Box<RawValue> {
    encode_features_with(chaos, &[])
}

/// The same with methods that channels bring, each name once.
pub fn encode_features_with(chaos: bool, brought: &[&'static str]) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Features {
        methods: Vec<&'static str>,
        events: Vec<&'static str>,
        capabilities: &'static [&'static str],
    }
    let mut known: BTreeSet<&str> = Method::advertised_names(chaos).collect();
    let new: Vec<_> = brought.iter().copied().filter(|name| known.insert(name)).collect();
    let features = Features {
        methods: Method::advertised_names(chaos).chain(new).collect(),
        events: Event::advertised_names().collect(),
        capabilities: CAPABILITIES,
    };
    to_raw_value(&features).expect("lists of strings always serialise")
}

/// The presence list of a node's hello.
pub fn empty_list() -> Box<RawValue> {
    to_raw_value(&[(); 0]).expect("an empty list always serialises")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_recorded_order() {
        let (features, list, health) = (encode_features(false), empty_list(), to_raw_value(&true).unwrap());
        let defaults = SessionDefaults::of("main", 1, false);
        let server = ServerInfo {
            version: "0.1.0",
            build_id: Some("b"),
            boot_id: "f520",
            control_ui_build_source: Some("bundled"),
            conn_id: ConnId::from_u128(0),
        };
        let snapshot = Snapshot {
            suspension: Suspension::default(),
            presence: &list,
            health: &health,
            state_version: StateVersion { presence: 21, health: 11 },
            uptime_ms: 5,
            applied_config_hash: "h",
            session_defaults: &defaults,
            config_path: Some("/c"),
            state_dir: Some("/s"),
            auth_mode: Some("token"),
        };
        let auth = HelloAuth {
            method: "token",
            role: Role::Operator,
            scopes: Scopes::parse(&["operator.admin".to_owned()]),
            recovery_scope: None,
            recovery_migration_allowed: None,
            device_token: Some("t".into()),
            issued_at_ms: Some(9),
            device_tokens: Vec::new(),
        };
        let hello = String::from_utf8(HelloOk::new(server, &features, snapshot, auth).encode()).unwrap();
        let expected = concat!(
            r#"{"type":"hello-ok","protocol":4,"server":{"version":"0.1.0","buildId":"b","bootId":"f520","#,
            r#""controlUiBuildSource":"bundled","connId":"00000000-0000-4000-8000-000000000000"},"features":{"methods":["#
        );
        assert!(hello.starts_with(expected), "{hello}");
        let tail = concat!(
            r#""snapshot":{"suspension":{"phase":"accepting"},"presence":[],"health":true,"stateVersion":{"presence":21,"health":11},"#,
            r#""uptimeMs":5,"appliedConfigHash":"h","sessionDefaults":{"defaultAgentId":"main","modelConfigured":false,"#,
            r#""ownership":"sole","selectionRequired":false,"mainKey":"main","mainSessionKey":"agent:main:main","scope":"per-sender"},"#,
            r#""configPath":"/c","stateDir":"/s","authMode":"token"},"auth":{"method":"token","role":"operator","#,
            r#""scopes":["operator.admin"],"deviceToken":"t","issuedAtMs":9},"policy":{"maxPayload":26214400,"#,
            r#""maxBufferedBytes":8388608,"tickIntervalMs":30000,"attachments":{"maxBytes":19464192,"maxImageBytes":6291456},"#,
            r#""allowedSessionVisibilities":["shared"],"hasMultipleSessionSharingIdentities":false}}"#
        );
        assert!(hello.ends_with(tail), "{hello}");
    }
}
