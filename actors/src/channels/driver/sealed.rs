//! Sealed links: what is said between gateway and driver over a network that others can read and change.
//!
//! Both have a long-lived X25519 key and know that of the other beforehand; each makes another for the connection. The
//! keys of the two directions are derived from all four agreements and from everything public that was said, so only
//! those two can have them, and recorded connections stay closed when a long-lived key is lost later. Frames are
//! ChaCha20-Poly1305 under a counter: one that is lost, repeated, moved or changed does not open, and ends the link.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake3::Hasher;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use crabtree_protocol::driver::MAX_FRAME;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};

/// What the keys are derived for: what a driver says.
const UP: &str = "crabtree 2026-11-20 driver link 1: driver to gateway";
/// What the keys are derived for: what the gateway says.
const DOWN: &str = "crabtree 2026-11-20 driver link 1: gateway to driver";
/// Bytes that sealing adds to a frame.
const TAG: usize = 16;

/// The gateway's long-lived key for links of drivers.
#[derive(Clone)]
pub struct LinkKey(StaticSecret);

impl LinkKey {
    /// The key with these secret bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(StaticSecret::from(secret))
    }

    /// What drivers have to know of it, in base64.
    pub fn public(&self) -> String {
        STANDARD.encode(PublicKey::from(&self.0))
    }
}

/// A public key in base64.
pub(super) fn public_key(text: &str) -> Option<PublicKey> {
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(PublicKey::from(bytes))
}

/// What was agreed on: our key for the connection, for the driver to know, and the two directions.
pub(super) struct Agreed {
    pub key: String,
    pub opener: Opener,
    pub sealer: Sealer,
}

/// Agrees with the driver of this account on keys. `pinned` is the key that is known of it, `theirs` the one it has
/// made for the connection, and `ours` the one we have; `None` if one of theirs is no key.
pub(super) fn agree(
    key: &LinkKey,
    pinned: &PublicKey,
    client_id: &str,
    theirs: &PublicKey,
    ours: &StaticSecret,
) -> Option<Agreed> {
    let (long_lived, our_key) = (PublicKey::from(&key.0), PublicKey::from(ours));
    let mut said = Vec::new();
    let public = [pinned, &long_lived, theirs, &our_key].map(|key| key.as_bytes().as_slice());
    for part in [client_id.as_bytes()].into_iter().chain(public) {
        said.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
        said.extend(part);
    }
    let secrets = [
        ours.diffie_hellman(theirs),
        key.0.diffie_hellman(theirs),
        ours.diffie_hellman(pinned),
        key.0.diffie_hellman(pinned),
    ];
    if !secrets.iter().all(SharedSecret::was_contributory) {
        return None;
    }
    let derived = |context: &str| {
        let mut hasher = Hasher::new_derive_key(context);
        for secret in &secrets {
            hasher.update(secret.as_bytes());
        }
        Half::new(*hasher.update(&said).finalize().as_bytes())
    };
    let key = STANDARD.encode(our_key);
    Some(Agreed { key, opener: Opener(derived(UP)), sealer: Sealer(derived(DOWN)) })
}

/// One direction.
struct Half {
    cipher: ChaCha20Poly1305,
    /// The number of the next frame; none when there may be no next one.
    next: Option<u64>,
}

/// The link is not what it was agreed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Half {
    fn new(key: [u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&Key::from(key)), next: Some(0) }
    }

    fn nonce(&mut self) -> Result<Nonce, Broken> {
        let number = self.next.ok_or(Broken)?;
        self.next = number.checked_add(1);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        Ok(Nonce::from(nonce))
    }
}

/// Opens what the driver says.
pub(super) struct Opener(Half);

impl Opener {
    /// The frame, if it is the next one as it was sealed. Nothing opens after one that was not.
    pub fn open(&mut self, sealed: &[u8]) -> Result<String, Broken> {
        let opened = self.try_open(sealed);
        if opened.is_err() {
            self.0.next = None;
        }
        opened
    }

    fn try_open(&mut self, sealed: &[u8]) -> Result<String, Broken> {
        if sealed.len() > MAX_FRAME + TAG {
            return Err(Broken);
        }
        let nonce = self.0.nonce()?;
        let frame = self.0.cipher.decrypt(&nonce, sealed).map_err(|_| Broken)?;
        String::from_utf8(frame).map_err(|_| Broken)
    }
}

/// Seals what we say.
pub(super) struct Sealer(Half);

impl Sealer {
    /// The frame as the driver can open it.
    pub fn seal(&mut self, frame: &str) -> Result<Vec<u8>, Broken> {
        let nonce = self.0.nonce()?;
        self.0.cipher.encrypt(&nonce, frame.as_bytes()).map_err(|_| Broken)
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
pub(super) mod tests;
