//! The decisions of a handshake, pure: what a `connect` is granted, or how it is refused. The order is the
//! recorded one (handshake.md, section 2): worker, protocol, role, copilot, origin, shared secret, missing device,
//! device proof, and last the verdict on what was shown, which the devices actor gives.

use crate::conns::{Peer, Voucher};
use crate::origin;
use crate::settings::AuthSecret;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::proof::{VerifiedDevice, verify_device};
use crabtree_protocol::refusal::{Credential, Hint};
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, ConnectRefusal, Role, Scopes};
use std::time::Duration;

/// What the shared secret of a `connect` is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// It is right, or none is asked for: `auth.method`.
    Granted(&'static str),
    /// None was sent.
    Missing,
    /// It is wrong.
    Mismatch,
    /// It was not looked at: the client is locked out for so long.
    Locked(Duration),
    /// None is asked for, but somebody who says who the client is, and that is not believed: `authReason`.
    Unnamed(String),
}

/// What a `connect` is measured against.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The shared secret.
    pub auth: &'a AuthSecret,
    /// `gateway.controlUi.allowedOrigins`.
    pub allowed_origins: &'a [String],
    /// How long the client is locked out, if it is.
    pub locked: Option<Duration>,
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
    rules: Rules<'_>,
    nonce: &str,
    now_ms: i64,
) -> Result<Claim, ConnectRefusal> {
    let role = params.check()?;
    if params.copilot_lacks_caps() {
        return Err(ConnectRefusal::copilot_capabilities());
    }
    origin::check(params, peer, rules.allowed_origins)?;
    let credential = match rules.auth {
        AuthSecret::Password(_) | AuthSecret::TrustedProxy(_) => Credential::Password,
        AuthSecret::Token(_) | AuthSecret::None => Credential::Token,
    };
    let mut claim = Claim {
        role,
        scopes: params.requested_scopes(),
        shared: shared(rules, params, peer),
        device: None,
        credential,
        hint: Hint::of(params.client.id, params.client.mode, peer.is_loopback()),
    };
    match &params.device {
        None => without_device(params, peer, &mut claim)?,
        Some(proof) => claim.device = Some(verify_device(proof, params, nonce, now_ms.max(0) as u64)?),
    }
    if let Some(cap) = &peer.scope_cap {
        claim.scopes = claim.scopes.capped(cap);
    }
    Ok(claim)
}

/// Token and password as sent; either may hold the shared secret, whatever the mode. Blank ones count as absent.
pub fn shared_attempts(params: &ConnectParams) -> impl Iterator<Item = &String> {
    params.auth.iter().flat_map(|a| [&a.token, &a.password]).flatten().filter(|s| !s.is_empty())
}

fn shared(rules: Rules<'_>, params: &ConnectParams, peer: &Peer) -> Shared {
    let attempted = shared_attempts(params).next().is_some();
    if matches!(peer.voucher, Some(Voucher::Tailscale(_))) && !attempted {
        return Shared::Granted("tailscale");
    }
    let method = match rules.auth {
        AuthSecret::None => return Shared::Granted("none"),
        AuthSecret::TrustedProxy(_) => return named(rules, params, peer),
        AuthSecret::Token(_) => "token",
        AuthSecret::Password(_) => "password",
    };
    if let Some(left) = rules.locked {
        return Shared::Locked(left);
    }
    let mut verdict = Shared::Missing;
    for candidate in shared_attempts(params) {
        if rules.auth.admits(candidate) {
            return Shared::Granted(method);
        }
        verdict = Shared::Mismatch;
    }
    verdict
}

/// What a proxy's word is worth. Who connects directly on this machine may show the password instead.
fn named(rules: Rules<'_>, params: &ConnectParams, peer: &Peer) -> Shared {
    let password = params.auth.as_ref().and_then(|auth| auth.password.as_ref()).filter(|it| !it.is_empty());
    match (&peer.voucher, password) {
        (Some(Voucher::Proxy(Ok(_))), _) => Shared::Granted("trusted-proxy"),
        (Some(Voucher::Proxy(Err(reason))), _) => Shared::Unnamed(reason.clone()),
        (_, Some(password)) if peer.is_loopback() => match rules.locked {
            Some(left) => Shared::Locked(left),
            None if rules.auth.admits(password) => Shared::Granted("password"),
            None => Shared::Mismatch,
        },
        _ => Shared::Unnamed("trusted_proxy_untrusted_source".into()),
    }
}

/// Names the shared secret in force without telling it: changes when it does.
pub fn generation(auth: &AuthSecret, key: &[u8; 32]) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key);
    match auth {
        AuthSecret::None => hasher.update(b"none"),
        AuthSecret::Token(secret) => hasher.update(b"token:").update(secret.expose().as_bytes()),
        AuthSecret::Password(secret) => hasher.update(b"password:").update(secret.expose().as_bytes()),
        AuthSecret::TrustedProxy(secret) => hasher
            .update(b"trusted-proxy:")
            .update(secret.as_ref().map_or("", |secret| secret.expose()).as_bytes()),
    };
    BASE64_URL_SAFE_NO_PAD.encode(&hasher.finalize().as_bytes()[..16])
}

/// The refusal of a shared secret that was not right. `retry_device`: the client may try again with its device's
/// token, which it did not send.
pub fn refuse_shared(claim: &Claim, retry_device: bool) -> ConnectRefusal {
    match &claim.shared {
        Shared::Unnamed(reason) => ConnectRefusal::trusted_proxy(reason),
        Shared::Locked(left) => ConnectRefusal::rate_limited(left.as_millis().max(1) as u64),
        Shared::Mismatch => ConnectRefusal::credential_mismatch(claim.credential, claim.hint, retry_device),
        Shared::Granted(_) | Shared::Missing => {
            ConnectRefusal::credential_missing(claim.credential, claim.hint)
        }
    }
}

/// Who may connect without a device, and with which scopes (the recorded table).
fn without_device(params: &ConnectParams, peer: &Peer, claim: &mut Claim) -> Result<(), ConnectRefusal> {
    if params.is_operator_ui() && claim.shared != Shared::Granted("trusted-proxy") {
        return Err(ConnectRefusal::ui_device_required());
    }
    let backend = is_backend(params);
    let may = match claim.shared {
        // Without any secret only the gateway's own helpers are believed.
        Shared::Granted("none") => backend,
        // That tells who the person is, not which device.
        Shared::Granted("tailscale") => false,
        Shared::Granted(_) => true,
        Shared::Missing => false,
        Shared::Unnamed(_) => return Err(refuse_shared(claim, false)),
        Shared::Mismatch | Shared::Locked(_) if shared_attempts(params).next().is_some() => {
            return Err(refuse_shared(claim, false));
        }
        Shared::Mismatch | Shared::Locked(_) => false,
    };
    if claim.role == Role::Node || !may {
        return Err(ConnectRefusal::device_required());
    }
    let cli = (params.client.id, params.client.mode) == (ClientId::Cli, ClientMode::Cli);
    if !((backend || cli) && peer.is_loopback() && peer.origin.is_none()) {
        claim.scopes = Scopes::none();
    }
    Ok(())
}

/// A helper program of the gateway's own machine.
pub fn is_backend(params: &ConnectParams) -> bool {
    (params.client.id, params.client.mode) == (ClientId::GatewayClient, ClientMode::Backend)
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
        let peer = Peer::new([127, 0, 0, 1].into());
        Peer { origin: origin.map(Into::into), host: Some("127.0.0.1:1".into()), ..peer }
    }

    fn verdict(client: (&str, &str), auth: Value, origin: Option<&str>) -> Result<Vec<String>, String> {
        let client = json!({ "id": client.0, "mode": client.1, "version": "1", "platform": "linux" });
        let secret = AuthSecret::Token(Secret::new("right"));
        let rules = Rules { auth: &secret, allowed_origins: &[], locked: None };
        judge(&connect(client, auth), &peer(origin), rules, "n", 0)
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
        assert_eq!(
            verdict(("gateway-client", "backend"), good.clone(), Some("http://localhost:1")),
            Ok(vec![])
        );
        let wrong = verdict(("openclaw-tui", "ui"), json!({ "token": "wrong" }), None).unwrap_err();
        assert!(wrong.starts_with("control ui requires device identity"), "{wrong}");
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
    fn without_any_secret_only_backends_need_no_device() {
        let rules = Rules { auth: &AuthSecret::None, allowed_origins: &[], locked: None };
        let judged = |id: &str, mode: &str| {
            let client = json!({ "id": id, "mode": mode, "version": "1", "platform": "linux" });
            judge(&connect(client, json!({ "token": "any" })), &peer(None), rules, "n", 0)
                .map(|claim| claim.scopes.as_list().len())
                .map_err(|r| r.close.reason)
        };
        assert_eq!(judged("gateway-client", "backend"), Ok(1));
        assert_eq!(judged("cli", "cli"), Err("device identity required".into()));
    }

    #[test]
    fn who_is_locked_out_is_told_for_how_long_and_a_header_caps_scopes() {
        let secret = AuthSecret::Token(Secret::new("right"));
        let client = json!({ "id": "cli", "mode": "cli", "version": "1", "platform": "linux" });
        let locked = Some(Duration::from_millis(3_978));
        let rules = Rules { auth: &secret, allowed_origins: &[], locked };
        let good = connect(client, json!({ "token": "right" }));
        let refused = judge(&good, &peer(None), rules, "n", 0).unwrap_err().refusal.unwrap();
        assert_eq!((refused.retryable, refused.retry_after_ms), (Some(true), Some(3_978)));
        let peer = Peer { scope_cap: Some(Scopes::none()), ..peer(None) };
        let claim = judge(&good, &peer, Rules { locked: None, ..rules }, "n", 0).unwrap();
        assert!(claim.scopes.is_empty());
    }

    #[test]
    fn a_page_from_elsewhere_is_refused() {
        let evil = verdict(("cli", "cli"), json!({ "token": "right" }), Some("https://evil.example"));
        assert!(evil.unwrap_err().starts_with("origin not allowed"));
    }
}
