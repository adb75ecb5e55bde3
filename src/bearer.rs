//! `Authorization: Bearer`: what the token in a request's head is worth: the shared secret, or that of an operator's
//! device. Wrong ones count like a wrong `connect`, since their refusal tells as much.

use crabtree_actors::auth_limiter::{Culprit, SecretKind};
use crabtree_actors::conns::Peer;
use crabtree_actors::devices::DevicesMsg;
use crabtree_actors::gateway::Wiring;
use crabtree_protocol::Scopes;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::time::Duration;

/// The scheme of a token in `Authorization`.
const SCHEME: &[u8] = b"bearer ";

/// What is answered while a client is locked out.
pub const LOCKED_OUT: &str = "Too many failed authentication attempts. Please try again later.";

/// How long it may take to be told whether a token is a device's.
const DEVICES_PATIENCE: Duration = Duration::from_secs(5);

/// What a token is worth.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// There is none.
    Absent,
    /// It is the shared secret, or none is asked for.
    Right,
    /// It is the token of an operator's device, which may do so much.
    Device(Scopes),
    /// It is neither.
    Wrong,
    /// It is not the shared secret, and who knows devices does not answer.
    Unsure,
    /// Too many were wrong: this one was not looked at.
    LockedOut(Duration),
}

/// Judges the token in `headers`; a wrong one is answered late, if the limits say so.
pub async fn judge(headers: &HeaderMap, peer: &Peer, wiring: &Wiring) -> Bearer {
    let estate = &wiring.store.estate;
    let sent = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, sent) = sent.split_at_checked(SCHEME.len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Bearer::Absent;
    }
    let sent = String::from_utf8_lossy(sent);
    let (culprit, limits) =
        (Culprit::of(peer), estate.config.load().settings.gateway.auth.rate_limit.clone());
    let now = estate.clock.uptime();
    if let Some(left) = estate.auth_limiter.locked(&culprit, SecretKind::Shared, now, &limits) {
        return Bearer::LockedOut(left);
    }
    if sent.trim().is_empty() {
        return Bearer::Absent;
    }
    if estate.auth().admits(sent.trim()) {
        return Bearer::Right;
    }
    let token = sent.trim();
    let known = |reply| DevicesMsg::Bears(token.to_owned(), reply);
    match wiring.devices.ask_within(DEVICES_PATIENCE, known).await {
        Some(Some(scopes)) => return Bearer::Device(scopes),
        Some(None) => {}
        None => return Bearer::Unsure,
    }
    tokio::time::sleep(estate.auth_limiter.failed(&culprit, SecretKind::Shared, now, &limits)).await;
    Bearer::Wrong
}
