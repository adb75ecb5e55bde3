//! Sealed values: `sealed:…` can be written by anybody who has the gateway's public key, and read by the gateway alone,
//! so that a configuration with its secrets may be kept in git.
//!
//! The value is encrypted (ChaCha20-Poly1305) under a key that is derived (BLAKE3) from the agreement (X25519) between
//! the gateway's key and one that is made for this value alone. It is bound to nothing else: it may be moved and copied
//! within the file. The keys are in `secrets.key` in the state directory; the first seals, and all of them open, so that
//! while a key is replaced nothing is ever closed.

use crate::settings::{SEALED, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blake3::Hasher;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// What the key of a value is derived for.
const CONTEXT: &str = "crabtree 2026-11-20 sealed secret 1";
/// The first byte of what is sealed: how the rest is to be read.
const VERSION: u8 = 1;
/// Bytes of a key.
const KEY: usize = 32;
/// The largest value, as OpenClaw's store has it: room for a certificate.
pub const MAX_VALUE: usize = 64 * 1024;
/// The longest text that is taken for a sealed value.
const MAX_SEALED: usize = 2 * MAX_VALUE;
/// Keys at most: more than two are there only after several replacements that were broken off.
const MAX_KEYS: usize = 64;

/// Why something is not sealed, or not opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is no sealed value.
    #[error("it is no sealed value: it was cut off or changed; seal it again with `crabtree secrets seal`")]
    Malformed,
    /// It was sealed for another key.
    #[error(
        "it was changed, or sealed for another gateway; seal it again with `crabtree secrets seal`, or bring back \
         secrets.key of the state directory it was sealed for"
    )]
    Foreign,
    /// It is too large.
    #[error("a secret has {MAX_VALUE} bytes at most")]
    TooLarge,
    /// There is no value.
    #[error("a secret has at least one character")]
    Empty,
    /// What should be a public key is none.
    #[error("that is no public key; `crabtree secrets key` prints one")]
    NoKey,
    /// The file of keys.
    #[error("{0} cannot be used: {1}; without it sealed values cannot be opened")]
    Keys(PathBuf, io::Error),
}

/// The public key of a gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl Recipient {
    /// As `crabtree secrets key` prints it.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| SealError::NoKey)?;
        let bytes: [u8; KEY] = bytes.try_into().map_err(|_| SealError::NoKey)?;
        Ok(Self(PublicKey::from(bytes)))
    }

    /// The same in text.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// Seals a value for it.
    pub fn seal(&self, value: &str) -> Result<String, SealError> {
        if value.is_empty() {
            return Err(SealError::Empty);
        }
        if value.len() > MAX_VALUE {
            return Err(SealError::TooLarge);
        }
        let made = StaticSecret::random();
        let public = PublicKey::from(&made);
        let cipher = cipher(&made, &self.0, &public, &self.0).ok_or(SealError::NoKey)?;
        let value = Payload { msg: value.as_bytes(), aad: &[VERSION] };
        let closed = cipher.encrypt(&Nonce::default(), value).map_err(|_| SealError::TooLarge)?;
        let all = [&[VERSION], public.as_bytes().as_slice(), &closed].concat();
        Ok(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(all)))
    }
}

/// The cipher of one value, whose nonce is always the same because its key never is. `None` if the other's key is one
/// with which nothing is agreed on.
fn cipher(
    ours: &StaticSecret,
    theirs: &PublicKey,
    made: &PublicKey,
    recipient: &PublicKey,
) -> Option<ChaCha20Poly1305> {
    let agreed = ours.diffie_hellman(theirs);
    if !agreed.was_contributory() {
        return None;
    }
    let mut hasher = Hasher::new_derive_key(CONTEXT);
    hasher.update(agreed.as_bytes()).update(made.as_bytes()).update(recipient.as_bytes());
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    Some(ChaCha20Poly1305::new(&Key::from(*key)))
}

/// The keys of a gateway, the one that is used first.
pub struct Keyring {
    path: PathBuf,
    keys: Vec<StaticSecret>,
}

impl Keyring {
    /// Those of the gateway with this state directory; none are made.
    pub fn open(state_dir: &Path) -> Result<Self, SealError> {
        let path = state_dir.join("secrets.key");
        let failed = |error| SealError::Keys(path.clone(), error);
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { path, keys: vec![] }),
            Err(error) => return Err(failed(error)),
        };
        if fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        }
        let damaged = || failed(io::Error::new(ErrorKind::InvalidData, "its content is damaged"));
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let keys = lines.map(|line| {
            let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(line).ok()?);
            Some(StaticSecret::from(<[u8; KEY]>::try_from(bytes.as_slice()).ok()?))
        });
        let keys: Vec<_> = keys.collect::<Option<_>>().ok_or_else(damaged)?;
        if keys.is_empty() { Err(damaged()) } else { Ok(Self { path, keys }) }
    }

    /// The same; the first key is made if there is none. Of two that make it at the same time both get the same.
    pub fn made(state_dir: &Path) -> Result<Self, SealError> {
        let found = Self::open(state_dir)?;
        if !found.keys.is_empty() {
            return Ok(found);
        }
        let first = Self { keys: vec![StaticSecret::random()], ..found };
        let failed = |error| SealError::Keys(first.path.clone(), error);
        let draft = first.draft().map_err(failed)?;
        let linked = fs::hard_link(&draft, &first.path);
        fs::remove_file(&draft).map_err(failed)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Self::open(state_dir),
        }
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many there are: more than one while they are being replaced.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What values are sealed for.
    pub fn recipient(&self) -> Option<Recipient> {
        self.keys.first().map(|key| Recipient(PublicKey::from(key)))
    }

    /// Opens a sealed value.
    pub fn open_sealed(&self, text: &str) -> Result<Secret, SealError> {
        self.opened(text).map(|(_, secret)| secret)
    }

    /// Whether a sealed value can be opened with the first key alone.
    pub fn is_current(&self, text: &str) -> bool {
        matches!(self.opened(text), Ok((0, _)))
    }

    fn opened(&self, text: &str) -> Result<(usize, Secret), SealError> {
        let body = text.strip_prefix(SEALED).filter(|body| body.len() <= MAX_SEALED);
        let bytes = body.and_then(|body| URL_SAFE_NO_PAD.decode(body).ok()).ok_or(SealError::Malformed)?;
        let (head, closed) = bytes.split_at_checked(1 + KEY).ok_or(SealError::Malformed)?;
        if head[0] != VERSION {
            return Err(SealError::Malformed);
        }
        let made = <[u8; KEY]>::try_from(&head[1..]).map_err(|_| SealError::Malformed)?;
        let made = PublicKey::from(made);
        for (index, key) in self.keys.iter().enumerate() {
            let recipient = PublicKey::from(key);
            let Some(cipher) = cipher(key, &made, &made, &recipient) else { continue };
            let payload = Payload { msg: closed, aad: &[VERSION] };
            let Ok(value) = cipher.decrypt(&Nonce::default(), payload) else { continue };
            let value = String::from_utf8(value).map_err(|error| {
                // What cannot be used is wiped all the same.
                drop(Zeroizing::new(error.into_bytes()));
                SealError::Malformed
            })?;
            return Ok((index, Secret::new(value)));
        }
        Err(SealError::Foreign)
    }

    /// From now on values are sealed for a new key; those that there are still open.
    pub fn add(&mut self) -> Result<(), SealError> {
        self.keys.insert(0, StaticSecret::random());
        self.keys.truncate(MAX_KEYS);
        self.write()
    }

    /// Forgets all keys but the first: what was sealed for them does not open any more.
    pub fn retire(&mut self) -> Result<(), SealError> {
        self.keys.truncate(1);
        self.write()
    }

    fn write(&self) -> Result<(), SealError> {
        let written = self.draft().and_then(|draft| {
            fs::rename(draft, &self.path)?;
            self.path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
        });
        written.map_err(|error| SealError::Keys(self.path.clone(), error))
    }

    /// The finished file, beside its place.
    fn draft(&self) -> io::Result<PathBuf> {
        let draft = self.path.with_extension(format!("key.{}", uuid::Uuid::new_v4().simple()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        for key in &self.keys {
            let line = Zeroizing::new(format!("{}\n", URL_SAFE_NO_PAD.encode(key.as_bytes())));
            file.write_all(line.as_bytes())?;
        }
        file.sync_all()?;
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> (tempfile::TempDir, Keyring) {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keyring::made(dir.path()).unwrap();
        (dir, keys)
    }

    fn opened(keys: &Keyring, text: &str) -> Result<String, String> {
        keys.open_sealed(text).map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
    }

    /// accepts: K2
    #[test]
    fn what_is_sealed_for_a_gateway_is_opened_by_it_and_by_no_other() {
        let ((_mine, mine), (_other, other)) = (keyring(), keyring());
        let recipient = Recipient::parse(&mine.recipient().unwrap().text()).unwrap();
        let sealed = recipient.seal("s3cret é").unwrap();
        assert!(sealed.starts_with("sealed:") && !sealed.contains("s3cret"), "{sealed}");
        assert_ne!(sealed, recipient.seal("s3cret é").unwrap(), "nobody sees that two values are the same");
        assert_eq!(opened(&mine, &sealed), Ok("s3cret é".into()));
        assert!(opened(&other, &sealed).unwrap_err().contains("another gateway"));
        assert!(Recipient::parse("AAAA").is_err() && Recipient::parse("no key").is_err());
        assert!(recipient.seal("").is_err() && recipient.seal(&"x".repeat(MAX_VALUE + 1)).is_err());
        let largest = "x".repeat(MAX_VALUE);
        assert_eq!(opened(&mine, &recipient.seal(&largest).unwrap()), Ok(largest));
    }

    #[test]
    fn what_was_changed_does_not_open_wherever_it_was() {
        let (_dir, keys) = keyring();
        let sealed = keys.recipient().unwrap().seal("s3cret").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&sealed[SEALED.len()..]).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let text = format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(changed));
            assert!(opened(&keys, &text).is_err(), "byte {place}");
        }
        for length in 0..bytes.len() {
            let text = format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(&bytes[..length]));
            assert!(opened(&keys, &text).is_err(), "{length} bytes");
        }
        // A key with which everybody agrees on the same.
        let low = [&[VERSION], [0; KEY].as_slice(), &[0; 22]].concat();
        assert!(opened(&keys, &format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(low))).is_err());
    }

    #[test]
    fn the_keys_are_the_owners_alone_and_old_ones_open_until_they_are_retired() {
        let (dir, mut keys) = keyring();
        let path = dir.path().join("secrets.key");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let old = keys.recipient().unwrap().seal("one").unwrap();
        assert_eq!(mode(), 0o600);
        keys.add().unwrap();
        let new = keys.recipient().unwrap().seal("two").unwrap();
        let again = Keyring::open(dir.path()).unwrap();
        assert_eq!(
            (again.len(), opened(&again, &old), opened(&again, &new)),
            (2, Ok("one".into()), Ok("two".into()))
        );
        assert!(again.is_current(&new) && !again.is_current(&old));
        keys.retire().unwrap();
        let again = Keyring::open(dir.path()).unwrap();
        assert!(opened(&again, &old).is_err() && opened(&again, &new).is_ok());
        assert_eq!((mode(), fs::read_dir(dir.path()).unwrap().count()), (0o600, 1));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Keyring::open(dir.path()).is_ok() && mode() == 0o600);
        fs::write(&path, "nonsense\n").unwrap();
        assert!(Keyring::open(dir.path()).err().unwrap().to_string().contains("its content is damaged"));
    }
}
