//! Refusals of a handshake: the answer to `connect`, if any, and the close that follows it.

use serde_json::{Map, Value, json};

use super::{ErrorCode, Refusal};
use crate::connect::{ClientId, ClientMode};
use crate::frame::{Close, MIN_PROBE_PROTOCOL, PROTOCOL_VERSION};

/// What a refused handshake is answered with, and how its socket is closed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .close.reason)]
pub struct ConnectRefusal {
    /// The response; some cases are closed without one.
    pub refusal: Option<Refusal>,
    /// The close that follows.
    pub close: Close,
}

/// Which shared secret a gateway asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `gateway.auth.token`.
    Token,
    /// `gateway.auth.password`.
    Password,
}

impl Credential {
    const fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
        }
    }
}

/// What kind of client the advice in a credential refusal is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The command line on the gateway's own host.
    LocalCli,
    /// The command line elsewhere.
    RemoteCli,
    /// The Control UI or another web chat.
    Browser,
    /// Everything else.
    Other,
}

impl Hint {
    /// The hint for a client; `local` when it connects directly over loopback.
    pub fn of(id: ClientId, mode: ClientMode, local: bool) -> Self {
        match (id, mode) {
            (ClientId::ControlUi | ClientId::Webchat | ClientId::WebchatUi, _) | (_, ClientMode::Webchat) => {
                Self::Browser
            }
            (ClientId::Cli, _) | (_, ClientMode::Cli) if local => Self::LocalCli,
            (ClientId::Cli, _) | (_, ClientMode::Cli) => Self::RemoteCli,
            _ => Self::Other,
        }
    }

    const fn text(self, credential: Credential, missing: bool) -> &'static str {
        use Credential::{Password, Token};
        match (self, credential) {
            (Self::LocalCli, Token) => "use this gateway's gateway.auth.token or pair the device",
            (Self::LocalCli, Password) => "use this gateway's gateway.auth.password",
            (Self::RemoteCli, Token) => "set gateway.remote.token to match gateway.auth.token",
            (Self::RemoteCli, Password) => "set gateway.remote.password to match gateway.auth.password",
            (Self::Browser, Token) if missing => {
                "paste in Control UI settings or openclaw doctor --generate-gateway-token; restart"
            }
            (Self::Browser, Token) => "open the dashboard URL and paste the token in Control UI settings",
            (Self::Browser, Password) => "enter the password in Control UI settings",
            (Self::Other, Token) => "provide gateway auth token",
            (Self::Other, Password) => "provide gateway auth password",
        }
    }
}

/// Why a device has to be approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingReason {
    /// The device is new, or was removed.
    NotPaired,
    /// The device asks for a role it has no active token for.
    RoleUpgrade,
    /// The device asks for scopes beyond the approved ones.
    ScopeUpgrade,
    /// Platform or device family changed.
    MetadataUpgrade,
}

impl PairingReason {
    /// `details.reason` on the wire.
    pub const fn name(self) -> &'static str {
        self.texts().0
    }

    const fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NotPaired => (
                "not-paired",
                "device is not approved yet",
                "Approve this device from the pending pairing requests.",
            ),
            Self::RoleUpgrade => (
                "role-upgrade",
                "device is asking for a higher role than currently approved",
                "Review the requested role upgrade, then approve the pending request.",
            ),
            Self::ScopeUpgrade => (
                "scope-upgrade",
                "device is asking for more scopes than currently approved",
                "Review the requested scopes, then approve the pending upgrade.",
            ),
            Self::MetadataUpgrade => (
                "metadata-upgrade",
                "device identity changed and must be re-approved",
                "Review the refreshed device details, then approve the pending request.",
            ),
        }
    }
}

/// The facts of a `pairing required` refusal.
#[derive(Clone, Debug)]
pub struct PairingRequired<'a> {
    /// Why.
    pub reason: PairingReason,
    /// The pending request an operator decides on.
    pub request_id: &'a str,
    /// Whether the client shall keep trying (the Control UI while its request is pending).
    pub wait_then_retry: bool,
    /// The device that asks.
    pub device_id: &'a str,
    /// The role it asks for.
    pub requested_role: &'a str,
    /// The scopes it asks for; left out when empty.
    pub requested_scopes: &'a [String],
    /// The roles it has; left out when empty.
    pub approved_roles: &'a [String],
    /// The scopes it has; left out when empty.
    pub approved_scopes: &'a [String],
}

impl ConnectRefusal {
    /// A refusal that is answered and closed with its own text and code 1008.
    pub fn answered(refusal: Refusal) -> Self {
        let close = Close::policy(refusal.message.clone());
        Self { refusal: Some(refusal), close }
    }

    /// A close without an answer.
    pub fn silent(close: Close) -> Self {
        Self { refusal: None, close }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::answered(Refusal::invalid_request(message))
    }

    fn invalid_with(message: impl Into<String>, details: Value) -> Self {
        Self::answered(Refusal::invalid_request(message).with_details(details))
    }

    /// The first request is not `connect`.
    pub fn first_not_connect() -> Self {
        Self::invalid("invalid handshake: first request must be connect")
    }

    /// The parameters of `connect` do not fit the schema.
    pub fn invalid_params(refusal: Refusal) -> Self {
        Self::answered(refusal)
    }

    /// A worker's identity, which is another protocol: closed without an answer.
    pub fn worker() -> Self {
        Self::silent(Close::invalid_handshake())
    }

    /// The gateway is not ready yet; clients try again by themselves.
    pub fn starting() -> Self {
        Self { refusal: Some(Refusal::starting()), close: Close::starting() }
    }

    /// A pairing could not be stored (ours); clients try again by themselves.
    pub fn not_stored() -> Self {
        let close = Close::new(1013, "pairing not stored");
        Self { refusal: Some(Refusal::not_stored()), close }
    }

    /// The client's protocol range does not cover ours.
    pub fn protocol_mismatch(client_min: u64, client_max: u64) -> Self {
        let refusal = Refusal::invalid_request("protocol mismatch").with_details(json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": client_min,
            "clientMaxProtocol": client_max,
            "expectedProtocol": PROTOCOL_VERSION,
            "minimumProbeProtocol": MIN_PROBE_PROTOCOL,
        }));
        Self { refusal: Some(refusal), close: Close::protocol_mismatch() }
    }

    /// A role that is neither operator nor node.
    pub fn invalid_role() -> Self {
        Self::invalid("invalid role")
    }

    /// A browser copilot without the mode and capabilities it needs.
    pub fn copilot_capabilities() -> Self {
        Self::invalid(
            "browser copilot requires ui mode with run-tool-bindings and session-scoped-events capabilities",
        )
    }

    /// The Origin header is not allowed, or `missing` (or unreadable) where one is required.
    pub fn origin(missing: bool) -> Self {
        let reason = if missing { "origin missing or invalid" } else { "origin not allowed" };
        Self::invalid_with(
            "origin not allowed (open the Control UI from the gateway host or allow it in \
             gateway.controlUi.allowedOrigins)",
            json!({ "code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason }),
        )
    }

    fn unauthorized(what: &str, code: &str, reason: &str, retry_device: bool, next: &str) -> Self {
        let message =
            if what.is_empty() { "unauthorized".to_owned() } else { format!("unauthorized: {what}") };
        Self::invalid_with(
            message,
            json!({
                "code": code,
                "authReason": reason,
                "canRetryWithDeviceToken": retry_device,
                "recommendedNextStep": next,
            }),
        )
    }

    /// The shared secret is wrong. `retry_device`: the client showed a device but no device
    /// token, so it may try again with one (tokens only).
    pub fn credential_mismatch(credential: Credential, hint: Hint, retry_device: bool) -> Self {
        let what = format!("gateway {} mismatch ({})", credential.word(), hint.text(credential, false));
        let retry_device = retry_device && credential == Credential::Token;
        let next = if retry_device { "retry_with_device_token" } else { "update_auth_credentials" };
        let (code, reason) = match credential {
            Credential::Token => ("AUTH_TOKEN_MISMATCH", "token_mismatch"),
            Credential::Password => ("AUTH_PASSWORD_MISMATCH", "password_mismatch"),
        };
        Self::unauthorized(&what, code, reason, retry_device, next)
    }

    /// The shared secret is absent or empty.
    pub fn credential_missing(credential: Credential, hint: Hint) -> Self {
        let what = format!("gateway {} missing ({})", credential.word(), hint.text(credential, true));
        let (code, reason) = match credential {
            Credential::Token => ("AUTH_TOKEN_MISSING", "token_missing"),
            Credential::Password => ("AUTH_PASSWORD_MISSING", "password_missing"),
        };
        Self::unauthorized(&what, code, reason, false, "update_auth_configuration")
    }

    /// The device token is wrong, or was rotated or revoked.
    pub fn device_token_mismatch() -> Self {
        Self::unauthorized(
            "device token mismatch (rotate/reissue device token)",
            "AUTH_DEVICE_TOKEN_MISMATCH",
            "device_token_mismatch",
            false,
            "update_auth_credentials",
        )
    }

    /// The scopes asked for are wider than those of the device token.
    pub fn scope_mismatch() -> Self {
        Self::unauthorized(
            "device token scope mismatch (re-pair or approve scope upgrade)",
            "AUTH_SCOPE_MISMATCH",
            "scope_mismatch",
            false,
            "review_auth_configuration",
        )
    }

    /// The setup code does not exist, expired, was revoked or used by another device.
    pub fn bootstrap_token_invalid() -> Self {
        Self::unauthorized(
            "setup code invalid, expired, revoked, or already used (create a new code; review `openclaw devices list`)",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "bootstrap_token_invalid",
            false,
            "review_auth_configuration",
        )
    }

    /// Locked out after too many failures; `retry_after_ms` milliseconds are left.
    pub fn rate_limited(retry_after_ms: u64) -> Self {
        let mut refused = Self::unauthorized(
            "too many failed authentication attempts (retry later)",
            "AUTH_RATE_LIMITED",
            "rate_limited",
            false,
            "wait_then_retry",
        );
        refused.refusal = refused.refusal.map(|refusal| refusal.with_retry(retry_after_ms));
        refused
    }

    /// A trusted-proxy gateway did not get an identity; `auth_reason` such as
    /// `trusted_proxy_user_missing` or `trusted_proxy_missing_header_<name>`.
    pub fn trusted_proxy(auth_reason: &str) -> Self {
        let header = auth_reason.starts_with("trusted_proxy_missing_header_");
        let code = if header { "AUTH_IDENTITY_HEADER_REQUIRED" } else { "AUTH_UNAUTHORIZED" };
        Self::unauthorized("", code, auth_reason, false, "review_auth_configuration")
    }

    /// The client must show a device and did not.
    pub fn device_required() -> Self {
        let refusal = Refusal::new(ErrorCode::NotPaired, "device identity required")
            .with_details(json!({ "code": "DEVICE_IDENTITY_REQUIRED" }));
        Self::answered(refusal)
    }

    /// As [`Self::device_required`], for the Control UI and the terminal UI.
    pub fn ui_device_required() -> Self {
        Self::invalid_with(
            "control ui requires device identity (use HTTPS or localhost secure context)",
            json!({ "code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" }),
        )
    }

    fn device_proof(message: &str, code: &str, reason: &str) -> Self {
        Self::invalid_with(message, json!({ "code": code, "reason": reason }))
    }

    /// The device's id is not the hash of its public key.
    pub fn device_id_mismatch() -> Self {
        Self::device_proof("device identity mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch")
    }

    /// The signature is older or younger than allowed.
    pub fn device_signature_expired() -> Self {
        Self::device_proof(
            "device signature expired",
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
        )
    }

    /// The nonce is blank.
    pub fn device_nonce_required() -> Self {
        Self::device_proof("device nonce required", "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing")
    }

    /// The nonce is not the one of the challenge.
    pub fn device_nonce_mismatch() -> Self {
        Self::device_proof("device nonce mismatch", "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch")
    }

    /// The signature does not verify.
    pub fn device_signature_invalid() -> Self {
        Self::device_proof("device signature invalid", "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature")
    }

    /// The device has to be approved by an operator.
    pub fn pairing_required(pairing: &PairingRequired<'_>) -> Self {
        let (reason, what, remedy) = pairing.reason.texts();
        let mut details = Map::new();
        let mut put = |key: &str, value: Value| details.insert(key.to_owned(), value);
        put("code", "PAIRING_REQUIRED".into());
        put("reason", reason.into());
        put("requestId", pairing.request_id.into());
        put("remediationHint", remedy.into());
        if pairing.wait_then_retry {
            put("recommendedNextStep", "wait_then_retry".into());
            put("retryable", true.into());
            put("pauseReconnect", false.into());
        }
        put("deviceId", pairing.device_id.into());
        put("requestedRole", pairing.requested_role.into());
        for (key, list) in [
            ("requestedScopes", pairing.requested_scopes),
            ("approvedRoles", pairing.approved_roles),
            ("approvedScopes", pairing.approved_scopes),
        ] {
            if !list.is_empty() {
                put(key, list.into());
            }
        }
        let message = format!("pairing required: {what}");
        let close = Close::policy(format!("{message} (requestId: {})", pairing.request_id));
        let refusal = Refusal::new(ErrorCode::NotPaired, message).with_details(Value::Object(details));
        Self { refusal: Some(refusal), close }
    }
}
