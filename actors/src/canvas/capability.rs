//! Capabilities: a secret in an address, for what cannot send a header, such as a web view. One belongs to a
//! connection, and is good until that ends, it is refreshed, or its time is up.

use crate::conns::Conn;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::ConnId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// How long one is good for (as recorded).
pub const LIFETIME: Duration = Duration::from_secs(600);
/// Random bytes in one: 24 characters, as recorded.
const BYTES: usize = 18;

/// Only hashes are kept: looking one up tells nothing of others.
type Hash = [u8; 32];

/// The capabilities there are: one a connection at the most.
#[derive(Default)]
pub struct Capabilities(Mutex<Known>);

#[derive(Default)]
struct Known {
    held: BTreeMap<Hash, Held>,
    of: BTreeMap<ConnId, Hash>,
}

struct Held {
    /// Since the gateway started.
    until: Duration,
    /// Cancelled when the capability goes.
    gone: CancellationToken,
    _gone: DropGuard,
}

/// What a good capability allows.
#[derive(Clone, Debug)]
pub struct Pass {
    /// How long it is good for.
    pub left: Duration,
    /// Cancelled if it is taken back before.
    pub gone: CancellationToken,
}

impl Capabilities {
    /// A new one for a connection; its former one is good no more. `None` if the connection has ended. `now` is the
    /// gateway's uptime.
    pub fn issue(&self, conn: &Conn, now: Duration) -> Option<String> {
        let token = token();
        let gone = CancellationToken::new();
        let held = Held { until: now + LIFETIME, _gone: gone.clone().drop_guard(), gone };
        let mut known = self.0.lock();
        // Asked under the lock: who ends a connection closes it first, and revokes then.
        if conn.outbox.is_closing() {
            return None;
        }
        let hash = hash(&token);
        if let Some(former) = known.of.insert(*conn.id(), hash) {
            known.held.remove(&former);
        }
        known.held.insert(hash, held);
        Some(token)
    }

    /// A connection has ended.
    pub fn revoke(&self, id: &ConnId) {
        let mut known = self.0.lock();
        if let Some(hash) = known.of.remove(id) {
            known.held.remove(&hash);
        }
    }

    /// What a capability is worth now.
    pub fn admit(&self, token: &str, now: Duration) -> Option<Pass> {
        let known = self.0.lock();
        let held = known.held.get(&hash(token))?;
        let left = held.until.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(Pass { left, gone: held.gone.clone() })
    }
}

fn hash(token: &str) -> Hash {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// 144 random bits.
fn token() -> String {
    let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    BASE64_URL_SAFE_NO_PAD.encode(&blake3::hash(&random).as_bytes()[..BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conns::{Conns, Peer};
    use crabtree_protocol::frame::Close;

    fn conns() -> [std::sync::Arc<Conn>; 2] {
        let conns = Conns::default();
        [(); 2].map(|()| conns.open(ConnId::random(), Peer::new([127, 0, 0, 1].into())).0)
    }

    #[test]
    fn one_is_good_for_ten_minutes_and_until_the_next() {
        let (known, [a, b]) = (Capabilities::default(), conns());
        let start = Duration::from_secs(5);
        let first = known.issue(&a, start).unwrap();
        let others = known.issue(&b, start).unwrap();
        assert_eq!(first.len(), 24);
        assert!(first.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{first}");
        assert_ne!(first, others);
        let end = start + LIFETIME;
        let pass = known.admit(&first, end - Duration::from_millis(1)).unwrap();
        assert_eq!(pass.left, Duration::from_millis(1));
        assert!(known.admit(&first, end).is_none(), "expired");
        let second = known.issue(&a, start).unwrap();
        assert!(known.admit(&first, start).is_none() && pass.gone.is_cancelled(), "revoked by the next");
        assert!(known.admit(&second, start).is_some() && known.admit(&others, start).is_some());
        assert!(known.admit("", start).is_none() && known.admit("x", start).is_none());
    }

    #[test]
    fn a_connection_that_ends_leaves_none() {
        let (known, [a, b]) = (Capabilities::default(), conns());
        let token = known.issue(&a, Duration::ZERO).unwrap();
        let pass = known.admit(&token, Duration::ZERO).unwrap();
        known.revoke(a.id());
        assert!(known.admit(&token, Duration::ZERO).is_none() && pass.gone.is_cancelled());
        b.outbox.close(Close::restart());
        assert_eq!(known.issue(&b, Duration::ZERO), None);
        assert!(known.0.lock().held.is_empty() && known.0.lock().of.is_empty());
    }
}
