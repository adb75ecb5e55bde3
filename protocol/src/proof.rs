//! Device proofs: a device signs the challenge with its Ed25519 key.
//!
//! The signed text is versioned. A gateway tries version 3 and then version 2; nothing in the
//! frame tells which one was used. Signed are the values as claimed in `connect`.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::connect::{ConnectParams, DeviceProof};
use crate::ids::DeviceId;
use crate::refusal::ConnectRefusal;
use crate::value::{Int, Text};

/// Milliseconds a signature may lie in the past or the future.
pub const MAX_SKEW_MS: u64 = 120_000;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// The DER bytes before a raw Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a device signs.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The device's id.
    pub device_id: &'a str,
    /// The client's product.
    pub client_id: &'a str,
    /// The client's mode.
    pub client_mode: &'a str,
    /// The role as asked for (`operator` when absent).
    pub role: &'a str,
    /// The scopes as asked for, joined by commas.
    pub scopes: &'a str,
    /// Milliseconds since the epoch.
    pub signed_at: u64,
    /// The token of [`crate::connect::ConnectAuth::signed_token`].
    pub token: &'a str,
    /// The nonce as sent.
    pub nonce: &'a str,
    /// The client's platform; version 3 only.
    pub platform: Option<&'a str>,
    /// The client's device family; version 3 only.
    pub device_family: Option<&'a str>,
}

impl Claim<'_> {
    fn common(&self, version: &str) -> String {
        format!(
            "{version}|{}|{}|{}|{}|{}|{}|{}|{}",
            self.device_id,
            self.client_id,
            self.client_mode,
            self.role,
            self.scopes,
            self.signed_at,
            self.token,
            self.nonce
        )
    }

    /// The text of version 2.
    pub fn v2(&self) -> String {
        self.common("v2")
    }

    /// The text of version 3.
    pub fn v3(&self) -> String {
        let platform = normalized(self.platform.unwrap_or_default());
        let family = normalized(self.device_family.unwrap_or_default());
        format!("{}|{platform}|{family}", self.common("v3"))
    }
}

/// Platform and device family as they are signed and compared: trimmed like JavaScript trims,
/// ASCII letters lowered, everything else untouched.
pub fn normalized(text: &str) -> String {
    js_trim(text).to_ascii_lowercase()
}

/// Trims what JavaScript's `trim` does: unlike Rust's it takes U+FEFF and leaves U+0085.
pub fn js_trim(text: &str) -> &str {
    text.trim_matches(|c: char| {
        matches!(c,
            '\u{9}'..='\u{d}' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
            | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
    })
}

fn base64_any(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).or_else(|_| BASE64.decode(text)).ok()
}

/// Reads a public key as base64url or base64 of its 32 bytes, or as SPKI in PEM.
pub fn decode_public_key(text: &str) -> Option<[u8; 32]> {
    let text = js_trim(text);
    let raw = if text.contains("BEGIN PUBLIC KEY") {
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        BASE64.decode(body).ok()?.strip_prefix(&SPKI_PREFIX)?.to_vec()
    } else {
        base64_any(text)?
    };
    raw.try_into().ok()
}

/// The id of the device that holds a key.
pub fn device_id(public_key: &[u8; 32]) -> DeviceId {
    let digest = Sha256::digest(public_key);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    DeviceId::from(hex)
}

/// A device whose proof holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its public key in the form kept and shown: base64url without padding.
    pub public_key: String,
}

fn claim<'a>(device: &'a DeviceProof, params: &'a ConnectParams, scopes: &'a str) -> Claim<'a> {
    Claim {
        device_id: &device.id,
        client_id: params.client.id.name(),
        client_mode: params.client.mode.name(),
        role: params.claimed_role(),
        scopes,
        signed_at: device.signed_at.get(),
        token: params.signed_token(),
        nonce: &device.nonce,
        platform: Some(&params.client.platform),
        device_family: params.client.device_family.as_deref(),
    }
}

/// Checks a device's proof in the recorded order: id, age, nonce, signature.
///
/// # Errors
/// The first check that fails, as a refusal of the handshake.
pub fn verify_device(
    device: &DeviceProof,
    params: &ConnectParams,
    challenge_nonce: &str,
    now_ms: u64,
) -> Result<VerifiedDevice, ConnectRefusal> {
    let public_key = decode_public_key(&device.public_key)
        .filter(|key| device_id(key).as_str() == device.id.as_str())
        .ok_or_else(ConnectRefusal::device_id_mismatch)?;
    if now_ms.abs_diff(device.signed_at.get()) > MAX_SKEW_MS {
        return Err(ConnectRefusal::device_signature_expired());
    }
    let nonce = js_trim(&device.nonce);
    if nonce.is_empty() {
        return Err(ConnectRefusal::device_nonce_required());
    }
    if nonce != challenge_nonce {
        return Err(ConnectRefusal::device_nonce_mismatch());
    }
    let scopes = params.requested_scopes().as_list().join(",");
    let claim = Claim { nonce, ..claim(device, params, &scopes) };
    let texts = [claim.v3(), claim.v2()];
    if !texts.iter().any(|text| signature_holds(&public_key, text, &device.signature)) {
        return Err(ConnectRefusal::device_signature_invalid());
    }
    Ok(VerifiedDevice { id: device_id(&public_key), public_key: BASE64URL.encode(public_key) })
}

fn signature_holds(public_key: &[u8; 32], text: &str, signature: &str) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public_key) else { return false };
    let Some(bytes) = base64_any(js_trim(signature)) else { return false };
    let Ok(signature) = Signature::from_slice(&bytes) else { return false };
    key.verify(text.as_bytes(), &signature).is_ok()
}

/// A device's key pair: the signing side, for our own clients, nodes and tests.
#[derive(Clone)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// The key pair of a 32-byte secret.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The device's id.
    pub fn device_id(&self) -> DeviceId {
        device_id(self.0.verifying_key().as_bytes())
    }

    /// The public key as base64url without padding.
    pub fn public_key(&self) -> String {
        BASE64URL.encode(self.0.verifying_key().as_bytes())
    }

    /// Signs a text; base64url without padding.
    pub fn sign(&self, text: &str) -> String {
        BASE64URL.encode(self.0.sign(text.as_bytes()).to_bytes())
    }

    /// Answers a challenge: puts the proof (version 3) into otherwise complete parameters.
    pub fn sign_device(&self, params: &mut ConnectParams, nonce: &str, signed_at: u64) {
        let text = |text: String| Text::new(text).expect("ids, keys and signatures are not empty");
        let Some(nonce) = Text::new(nonce) else { return };
        let Some(signed_at) = Int::new(signed_at) else { return };
        let mut device = DeviceProof {
            id: text(self.device_id().to_string()),
            public_key: text(self.public_key()),
            signature: text("-".to_owned()),
            signed_at,
            nonce,
        };
        let scopes = params.requested_scopes().as_list().join(",");
        device.signature = text(self.sign(&claim(&device, params, &scopes).v3()));
        params.device = Some(Box::new(device));
    }
}

/// Never shows the secret.
impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "DeviceKey({})", self.device_id())
    }
}

#[cfg(test)]
mod tests;
