//! What keeps a backup closed: a passphrase, from which the key is derived (Argon2id), and a stream of pieces, each
//! encrypted and authenticated by itself (ChaCha20-Poly1305).
//!
//! The nonce of a piece is its number and whether it is the last one: pieces cannot be left out, repeated, put in another
//! order or cut off. The key is good for one archive alone: its salt is random, and the head of the archive is part of
//! what it is derived from, so that nobody changes that either.

use std::io::{self, Error, ErrorKind, Read, Write};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use crabtree_actors::settings::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Broken;

/// Bytes of a piece before it is sealed.
const PIECE: usize = 64 * 1024;
/// What sealing adds to it.
const TAG: usize = 16;
/// The most that a head may ask for, since whoever wrote it may be anybody: memory in KiB, passes, lanes.
const MOST: (u32, u32, u32) = (1 << 20, 16, 16);
/// What the two keys are derived for.
const CHECK: &str = "crabtree 2026-11-21 backup check 1";
const CONTENT: &str = "crabtree 2026-11-21 backup content 1";

/// How the key comes of the passphrase, as it stands in the head of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// The way, of which there is one.
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    /// Tells a wrong passphrase from a damaged archive.
    check: String,
}

/// How much work it is to try a passphrase.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// KiB.
    pub memory: u32,
    /// How often that is gone over.
    pub passes: u32,
}

impl Cost {
    /// For machines with little memory, as RFC 9106 recommends it.
    pub const SECURE: Self = Self { memory: 64 * 1024, passes: 3 };
}

/// What a passphrase and a salt come to.
pub struct Root(Zeroizing<[u8; 32]>);

impl Seal {
    /// A new one.
    pub fn new(passphrase: &Secret, cost: Cost) -> Result<(Self, Root), Broken> {
        let mut seal = Self {
            kdf: "argon2id".into(),
            memory_kib: cost.memory,
            passes: cost.passes,
            lanes: 4,
            salt: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            check: String::new(),
        };
        let root = seal.derived(passphrase)?;
        seal.check = root.check();
        Ok((seal, root))
    }

    /// The same again.
    ///
    /// # Errors
    /// [`Broken::Passphrase`] if it is another one; [`Broken::Damaged`] if no key can be made of this at all.
    pub fn open(&self, passphrase: &Secret) -> Result<Root, Broken> {
        let root = self.derived(passphrase)?;
        if root.check() == self.check { Ok(root) } else { Err(Broken::Passphrase) }
    }

    fn derived(&self, passphrase: &Secret) -> Result<Root, Broken> {
        let odd = || Broken::Damaged("its head asks for a key that cannot be made".into());
        let is_bounded = self.memory_kib <= MOST.0 && self.passes <= MOST.1 && self.lanes <= MOST.2;
        if self.kdf != "argon2id" || !is_bounded {
            return Err(odd());
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| odd())?;
        let salt = URL_SAFE_NO_PAD.decode(&self.salt).map_err(|_| odd())?;
        let mut root = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose().as_bytes(), &salt, root.as_mut())
            .map_err(|_| odd())?;
        Ok(Root(root))
    }
}

impl Root {
    fn check(&self) -> String {
        URL_SAFE_NO_PAD.encode(&blake3::derive_key(CHECK, self.0.as_ref())[..16])
    }

    /// The cipher of the archive with this head.
    fn cipher(&self, head: &[u8]) -> ChaCha20Poly1305 {
        let mut hasher = blake3::Hasher::new_derive_key(CONTENT);
        hasher.update(self.0.as_ref()).update(head);
        let key = Zeroizing::new(*hasher.finalize().as_bytes());
        ChaCha20Poly1305::new(&Key::from(*key))
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    Nonce::from(nonce)
}

/// Seals what is written to it.
pub struct Sealing<W: Write> {
    into: W,
    cipher: ChaCha20Poly1305,
    piece: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealing<W> {
    /// For the archive with this head.
    pub fn new(into: W, root: &Root, head: &[u8]) -> Self {
        Self { into, cipher: root.cipher(head), piece: Vec::with_capacity(PIECE), number: 0 }
    }

    fn close(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.cipher.encrypt(&nonce(self.number, last), self.piece.as_slice());
        self.into.write_all(&sealed.map_err(|_| Error::other("a piece cannot be sealed"))?)?;
        self.number += 1;
        self.piece.clear();
        Ok(())
    }

    /// Writes the last piece. Without it nothing opens.
    pub fn finish(mut self) -> io::Result<W> {
        self.close(true)?;
        Ok(self.into)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece waits until it is known not to be the last.
        if self.piece.len() == PIECE && !bytes.is_empty() {
            self.close(false)?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what is read from it.
pub struct Opening<R: Read> {
    from: R,
    /// What there is still to come, sealed.
    left: u64,
    cipher: ChaCha20Poly1305,
    piece: Vec<u8>,
    read: usize,
    number: u64,
}

impl<R: Read> Opening<R> {
    /// Of this many bytes, in the archive with this head.
    pub fn new(from: R, size: u64, root: &Root, head: &[u8]) -> Self {
        Self { from, left: size, cipher: root.cipher(head), piece: Vec::new(), read: 0, number: 0 }
    }

    fn next(&mut self) -> io::Result<()> {
        let size = self.left.min((PIECE + TAG) as u64);
        let mut sealed = vec![0; size as usize];
        self.from.read_exact(&mut sealed)?;
        self.left -= size;
        let opened = self.cipher.decrypt(&nonce(self.number, self.left == 0), sealed.as_slice());
        self.piece = opened.map_err(|_| Error::new(ErrorKind::InvalidData, "a piece of it was changed"))?;
        (self.number, self.read) = (self.number + 1, 0);
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            // Not even an empty content has no piece.
            if self.left == 0 && self.number > 0 {
                return Ok(0);
            }
            self.next()?;
        }
        let taken = into.len().min(self.piece.len() - self.read);
        into[..taken].copy_from_slice(&self.piece[self.read..self.read + taken]);
        self.read += taken;
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
