//! The first exchange: the challenge we send and the `connect` request it is answered with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::frame::{MIN_PROBE_PROTOCOL, PROTOCOL_VERSION};
use crate::refusal::{ConnectRefusal, Refusal};
use crate::schema;
use crate::scope::{Role, Scopes};
use crate::value::{Int, Text, object, some_object, string_enum};

/// The capability named in the challenge: the gateway understands `modelCatalog`.
pub const CHALLENGE_CAPABILITIES: &[&str] = &["model-catalog-snapshot"];

/// Client capability: tool events of the runs this connection starts are sent to it.
pub const CAP_TOOL_EVENTS: &str = "tool-events";
/// Client capability: run events only of sessions this connection subscribed to.
pub const CAP_SESSION_SCOPED_EVENTS: &str = "session-scoped-events";
/// Client capability a browser copilot must have besides [`CAP_SESSION_SCOPED_EVENTS`].
pub const CAP_RUN_TOOL_BINDINGS: &str = "run-tool-bindings";

/// Client capability: requests for approvals of every kind are told to it.
pub const CAP_APPROVALS: &str = "approvals";
/// Client capability: requests to run a command are told to it.
pub const CAP_EXEC_APPROVALS: &str = "exec-approvals";
/// Client capability: requests of plugins and tools are told to it.
pub const CAP_PLUGIN_APPROVALS: &str = "plugin-approvals";

/// Payload of `connect.challenge`, the first frame on every connection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Challenge {
    /// The nonce a device signs.
    pub nonce: String,
    /// The gateway's time in milliseconds since the epoch; devices sign at this time.
    pub ts: u64,
    /// See [`CHALLENGE_CAPABILITIES`].
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Challenge {
    /// The challenge with a nonce and a time.
    pub fn new(nonce: impl Into<String>, ts: u64) -> Self {
        let capabilities = CHALLENGE_CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
        Self { nonce: nonce.into(), ts, capabilities }
    }
}

string_enum! {
    /// The product that connects.
    one_of pub enum ClientId {
        /// A web chat's user interface.
        WebchatUi = "webchat-ui",
        /// The Control UI.
        ControlUi = "openclaw-control-ui",
        /// The browser extension.
        BrowserCopilot = "openclaw-browser-copilot",
        /// The terminal user interface.
        Tui = "openclaw-tui",
        /// A web chat.
        Webchat = "webchat",
        /// The command line.
        Cli = "cli",
        /// A program using the client library.
        GatewayClient = "gateway-client",
        /// The macOS app.
        Macos = "openclaw-macos",
        /// The Linux app.
        Linux = "openclaw-linux",
        /// The iOS app.
        Ios = "openclaw-ios",
        /// The watchOS app.
        Watchos = "openclaw-watchos",
        /// The Android app.
        Android = "openclaw-android",
        /// The headless node host.
        NodeHost = "node-host",
        /// A worker, which speaks another protocol.
        Worker = "openclaw-worker",
        /// A test.
        Test = "test",
        /// A fingerprint of a gateway.
        Fingerprint = "fingerprint",
        /// A probe.
        Probe = "openclaw-probe",
    }
}

string_enum! {
    /// What kind of client connects.
    one_of pub enum ClientMode {
        /// A chat in a browser.
        Webchat = "webchat",
        /// A command line.
        Cli = "cli",
        /// An interactive user interface.
        Ui = "ui",
        /// A program without a person in front of it.
        Backend = "backend",
        /// A node.
        Node = "node",
        /// A worker, which speaks another protocol.
        Worker = "worker",
        /// A probe, which only looks whether a gateway is there.
        Probe = "probe",
        /// A test.
        Test = "test",
    }
}

/// Who connects.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientInfo {
    /// The product.
    pub id: ClientId,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Text>,
    /// The product's version.
    pub version: Text,
    /// The exact build; the Control UI is refused when it is not the one this gateway serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<Text<96>>,
    /// The operating system.
    pub platform: Text,
    /// The kind of device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<Text>,
    /// The device's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_identifier: Option<Text>,
    /// The IANA name of the client's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Text<64>>,
    /// The kind of client.
    pub mode: ClientMode,
    /// Tells instances of one product apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Text>,
}

/// The proof that a client holds a device's private key; see [`crate::proof`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceProof {
    /// The device's id.
    pub id: Text,
    /// Its public key: base64url, base64 or SPKI PEM.
    pub public_key: Text,
    /// The signature: base64url or base64.
    pub signature: Text,
    /// When it signed, in milliseconds since the epoch.
    pub signed_at: Int,
    /// The nonce of the challenge.
    pub nonce: Text,
}

/// The credentials of a client; any of them may be absent.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectAuth {
    /// The shared token, or a device token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The token of a setup code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_token: Option<String>,
    /// The token issued to this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_token: Option<String>,
    /// The shared password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A token of an approval runtime (accepted, unused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_runtime_token: Option<String>,
    /// A token of an agent runtime (accepted, unused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_runtime_identity_token: Option<String>,
}

impl ConnectAuth {
    /// The token a device signs: the first one present. An empty one counts as present, and the
    /// password is never signed.
    pub fn signed_token(&self) -> &str {
        let first = self.token.as_ref().or(self.device_token.as_ref()).or(self.bootstrap_token.as_ref());
        first.map_or("", String::as_str)
    }
}

/// Shows which credentials are present, never what they are.
impl std::fmt::Debug for ConnectAuth {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ConnectAuth")
            .field("token", &self.token.is_some())
            .field("bootstrap_token", &self.bootstrap_token.is_some())
            .field("device_token", &self.device_token.is_some())
            .field("password", &self.password.is_some())
            .finish_non_exhaustive()
    }
}

/// Which model catalog the client wants to be sent after its hello.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCatalogRequest {
    /// Of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Text>,
    /// Of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_key: Option<Text>,
}

/// What a node tells about running worker sessions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerRuns {
    /// The hash of its worker bundle.
    pub bundle_hash: Text<64>,
    /// The version of that bundle.
    pub openclaw_version: Text<128>,
    /// What the bundle can do.
    pub protocol_features: Vec<Text<128>>,
    /// How many bundles it keeps warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_prewarm: Option<Int<1>>,
}

/// Parameters of `connect`. Every client sends them, most with lists: fields that are objects say so themselves, so that
/// the schema need not be asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectParams {
    /// The oldest protocol the client speaks.
    pub min_protocol: Int<1>,
    /// The newest protocol the client speaks.
    pub max_protocol: Int<1>,
    /// Who connects.
    #[serde(deserialize_with = "object")]
    pub client: ClientInfo,
    /// What the client can do; unknown strings are fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Vec<Text>>,
    /// The commands a node offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<Text>>,
    /// What a node tells about controlling its desktop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer_use: Option<Box<Value>>,
    /// What a node tells about running worker sessions.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    pub worker_runs: Option<Box<WorkerRuns>>,
    /// What the person at a node allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Box<BTreeMap<String, bool>>>,
    /// The search path of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_env: Option<String>,
    /// The role asked for; see [`ConnectParams::role`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Text>,
    /// The scopes asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Text>>,
    /// The device the client proves to be.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<DeviceProof>>,
    /// Its credentials.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    pub auth: Option<Box<ConnectAuth>>,
    /// The language of its user interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Its user agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Asks for the model catalog right after the hello.
    #[serde(default, deserialize_with = "some_object", skip_serializing_if = "Option::is_none")]
    pub model_catalog: Option<ModelCatalogRequest>,
}

impl ConnectParams {
    /// Reads the parameters of a `connect` request; unlike elsewhere, absent ones are refused.
    pub fn parse(raw: Option<&RawValue>) -> Result<Self, ConnectRefusal> {
        let parsed = match raw {
            Some(raw) => schema::params_of_objects::<Self>("connect", raw.get()),
            None => Err(Refusal::invalid_params("connect", "must be object")),
        };
        parsed.map_err(ConnectRefusal::invalid_params)
    }

    /// Checks what needs neither secrets nor state, in the recorded order: worker identity,
    /// protocol range, role. (The gateway's own readiness is asked for between the first two.)
    pub fn check(&self) -> Result<Role, ConnectRefusal> {
        if self.is_worker() {
            return Err(ConnectRefusal::worker());
        }
        self.check_protocol()?;
        self.role()
    }

    /// Whether the client claims to be a worker, which speaks another protocol.
    pub fn is_worker(&self) -> bool {
        let role = self.role.as_ref().is_some_and(|role| *role == "worker");
        role || self.client.id == ClientId::Worker || self.client.mode == ClientMode::Worker
    }

    /// Whether a frame claims to be a worker's `connect`; that is asked before its form is looked at.
    pub fn claims_worker(text: &str) -> bool {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return false };
        let (params, named) = (&frame["params"], |value: &Value, name: &str| value.as_str() == Some(name));
        named(&frame["method"], "connect")
            && (named(&params["role"], "worker")
                || named(&params["client"]["id"], ClientId::Worker.name())
                || named(&params["client"]["mode"], ClientMode::Worker.name()))
    }

    /// Checks that the client's range covers our protocol, or the older one for nodes and probes.
    pub fn check_protocol(&self) -> Result<(), ConnectRefusal> {
        let (min, max) = (self.min_protocol.get(), self.max_protocol.get());
        let covers = |version: u32| (min..=max).contains(&u64::from(version));
        let node =
            self.role.as_ref().is_some_and(|role| *role == "node") && self.client.mode == ClientMode::Node;
        let lenient = node || self.client.mode == ClientMode::Probe;
        if covers(PROTOCOL_VERSION) || (lenient && covers(MIN_PROBE_PROTOCOL)) {
            Ok(())
        } else {
            Err(ConnectRefusal::protocol_mismatch(min, max))
        }
    }

    /// The role asked for; operator when none is.
    pub fn role(&self) -> Result<Role, ConnectRefusal> {
        match self.role.as_deref() {
            None => Ok(Role::Operator),
            Some(name) => Role::from_name(name).ok_or_else(ConnectRefusal::invalid_role),
        }
    }

    /// The role as claimed, for the signature.
    pub fn claimed_role(&self) -> &str {
        self.role.as_deref().unwrap_or(Role::Operator.name())
    }

    /// The scopes asked for, in their order; absent is none.
    pub fn requested_scopes(&self) -> Scopes {
        let list: Vec<String> = self.scopes.iter().flatten().map(|scope| scope.as_str().to_owned()).collect();
        Scopes::parse(&list)
    }

    /// Whether the client named a capability.
    pub fn has_cap(&self, cap: &str) -> bool {
        self.caps.iter().flatten().any(|named| *named == cap)
    }

    /// Whether a browser copilot lacks what it needs; see [`ConnectRefusal::copilot_capabilities`].
    pub fn copilot_lacks_caps(&self) -> bool {
        let equipped = self.client.mode == ClientMode::Ui
            && self.has_cap(CAP_RUN_TOOL_BINDINGS)
            && self.has_cap(CAP_SESSION_SCOPED_EVENTS);
        self.client.id == ClientId::BrowserCopilot && !equipped
    }

    /// The product is a user interface for operators, which must always show a device.
    pub fn is_operator_ui(&self) -> bool {
        matches!(self.client.id, ClientId::ControlUi | ClientId::Tui)
    }

    /// The token the device signs; see [`ConnectAuth::signed_token`].
    pub fn signed_token(&self) -> &str {
        self.auth.as_deref().map_or("", ConnectAuth::signed_token)
    }
}

#[cfg(test)]
mod tests;
