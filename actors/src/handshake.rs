//! The decisions of a handshake, pure: what a `connect` is granted, or how it is refused. The order is the
//! recorded one: protocol, role, origin, shared secret, device identity, device proof, then the verdict.

use crate::conns::Peer;
use crate::settings::AuthSecret;
use crabtree_protocol::proof::{VerifiedDevice, verify_device};
use crabtree_protocol::refusal::{Credential, Hint};
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, ConnectRefusal, Role, Scopes};
use subtle::ConstantTimeEq;

/// What the shared secret of a `connect` is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// It is right, or none is asked for: `auth.method`.
    Granted(&'static str),
    /// None was sent.
    Missing,
    /// It is wrong.
    Mismatch,
}

/// A `connect` that may go on: what is left is whether its device is known.
#[derive(Debug)]
pub struct Claim {
    /// The role asked for.
    pub role: Role,
    /// The scopes asked for, or what is left of them.
    pub scopes: Scopes,
    /// What the shared secret is worth.
    pub shared: Shared,
    /// The device that proved itself.
    pub device: Option<VerifiedDevice>,
    /// How a credential is refused.
    pub credential: Credential,
    /// Whose words a refused credential is explained in.
    pub hint: Hint,
}

/// Looks at everything that needs no memory of devices.
pub fn judge(
    params: &ConnectParams,
    peer: &Peer,
    auth: &AuthSecret,
    nonce: &str,
    now_ms: i64,
) -> Result<Claim, ConnectRefusal> {
    if params.is_worker() {
        return Err(ConnectRefusal::worker());
    }
    let role = params.check()?;
    if params.copilot_lacks_caps() {
        return Err(ConnectRefusal::copilot_capabilities());
    }
    check_origin(params, peer)?;
    let shared = shared(auth, params);
    let credential =
        if matches!(auth, AuthSecret::Password(_)) { Credential::Password } else { Credential::Token };
    let hint = Hint::of(params.client.id, params.client.mode, peer.is_loopback());
    let requested = params.requested_scopes();
    let Some(proof) = &params.device else {
        let scopes = without_device(params, role, shared, peer, credential, hint)?;
        return Ok(Claim { role, scopes, shared, device: None, credential, hint });
    };
    let device = verify_device(proof, params, nonce, now_ms.max(0) as u64)?;
    Ok(Claim { role, scopes: requested, shared, device: Some(device), credential, hint })
}

/// Compares in constant time. The secret may be in either field, whatever the mode.
fn shared(auth: &AuthSecret, params: &ConnectParams) -> Shared {
    let (secret, method) = match auth {
        AuthSecret::None => return Shared::Granted("none"),
        AuthSecret::Token(secret) => (secret, "token"),
        AuthSecret::Password(secret) => (secret, "password"),
    };
    let sent = params.auth.iter().flat_map(|a| [&a.token, &a.password]).flatten().filter(|s| !s.is_empty());
    let mut verdict = Shared::Missing;
    for candidate in sent {
        // Hashing first makes the comparison independent of the lengths.
        let (a, b) = (blake3::hash(candidate.as_bytes()), blake3::hash(secret.expose().as_bytes()));
        if bool::from(a.as_bytes().ct_eq(b.as_bytes())) {
            return Shared::Granted(method);
        }
        verdict = Shared::Mismatch;
    }
    verdict
}

/// Who may connect without a device, and with which scopes (the recorded table).
fn without_device(
    params: &ConnectParams,
    role: Role,
    shared: Shared,
    peer: &Peer,
    credential: Credential,
    hint: Hint,
) -> Result<Scopes, ConnectRefusal> {
    match shared {
        Shared::Mismatch => return Err(ConnectRefusal::credential_mismatch(credential, hint, false)),
        Shared::Missing if credential == Credential::Password => {
            return Err(ConnectRefusal::credential_missing(credential, hint));
        }
        Shared::Missing => return Err(ConnectRefusal::device_required()),
        Shared::Granted(_) => {}
    }
    if role == Role::Node {
        return Err(ConnectRefusal::device_required());
    }
    if params.is_operator_ui() {
        return Err(ConnectRefusal::ui_device_required());
    }
    let client = (params.client.id, params.client.mode);
    let keeps = match client {
        (ClientId::GatewayClient, ClientMode::Backend) => true,
        (ClientId::Cli, ClientMode::Cli) => peer.origin.is_none(),
        _ => false,
    };
    Ok(if keeps && peer.is_loopback() { params.requested_scopes() } else { Scopes::none() })
}

/// A browser says where its page is from; that must be this machine, or this gateway.
fn check_origin(params: &ConnectParams, peer: &Peer) -> Result<(), ConnectRefusal> {
    let browser = params.client.id == ClientId::ControlUi || params.client.mode == ClientMode::Webchat;
    let Some(origin) = &peer.origin else {
        return if browser { Err(ConnectRefusal::origin(true)) } else { Ok(()) };
    };
    let host = origin.split_once("://").map_or("", |(_, host)| host).trim_end_matches('/');
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]") && peer.is_loopback();
    let same = !host.is_empty() && peer.host.as_deref() == Some(host) && local;
    if local || same { Ok(()) } else { Err(ConnectRefusal::origin(host.is_empty())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;
    use serde_json::{Value, json};

    fn connect(client: Value, auth: Value) -> ConnectParams {
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "client": client, "caps": [], "role": "operator",
            "scopes": ["operator.read"], "auth": auth,
        });
        let text = params.to_string();
        ConnectParams::parse(Some(serde_json::from_str(&text).unwrap())).unwrap()
    }

    fn peer(origin: Option<&str>) -> Peer {
        Peer { ip: [127, 0, 0, 1].into(), origin: origin.map(Into::into), host: Some("127.0.0.1:1".into()) }
    }

    fn verdict(client: (&str, &str), auth: Value, origin: Option<&str>) -> Result<Vec<String>, String> {
        let client = json!({ "id": client.0, "mode": client.1, "version": "1", "platform": "linux" });
        let secret = AuthSecret::Token(Secret::new("right"));
        judge(&connect(client, auth), &peer(origin), &secret, "n", 0)
            .map(|claim| claim.scopes.as_list().to_vec())
            .map_err(|r| r.refusal.map_or(r.close.reason, |r| r.message))
    }

    #[test]
    fn without_a_device_command_lines_and_backends_keep_their_scopes_and_others_lose_them() {
        let good = json!({ "token": "right" });
        let read = Ok(vec!["operator.read".to_owned()]);
        assert_eq!(verdict(("cli", "cli"), good.clone(), None), read);
        assert_eq!(verdict(("gateway-client", "backend"), good.clone(), None), read);
        assert_eq!(verdict(("cli", "probe"), good.clone(), None), Ok(vec![]));
        assert_eq!(verdict(("cli", "cli"), good.clone(), Some("http://localhost:5173")), Ok(vec![]));
        assert_eq!(verdict(("gateway-client", "backend"), json!({ "password": "right" }), None), read);
        assert!(verdict(("openclaw-tui", "ui"), good, None).is_err());
    }

    #[test]
    fn wrong_and_missing_secrets_are_refused_in_the_recorded_words() {
        let wrong = verdict(("cli", "cli"), json!({ "token": "wrong" }), None).unwrap_err();
        assert!(wrong.starts_with("unauthorized: gateway token mismatch (use this gateway's"), "{wrong}");
        let none = verdict(("cli", "cli"), json!({}), None).unwrap_err();
        assert_eq!(none, "device identity required");
    }

    #[test]
    fn a_page_from_elsewhere_is_refused() {
        let evil = verdict(("cli", "cli"), json!({ "token": "right" }), Some("https://evil.example"));
        assert!(evil.unwrap_err().starts_with("origin not allowed"));
    }
}
