//! How the gateway, a node and the command line of ours speak TLS to others, and how a certificate is known that nobody
//! vouches for: by its fingerprint.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// With the certificates the machine trusts, and a crypto provider of its own: nothing of the process is touched.
/// Reading the certificates takes a while.
///
/// # Errors
/// The machine has no certificates to trust.
pub fn client_config() -> Result<ClientConfig, String> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|e| e.to_string())?
        .with_no_client_auth();
    Ok(tls)
}

/// With one certificate and no other, whoever signed it and whatever it is for.
///
/// # Errors
/// The crypto provider is of no use.
pub fn pinned_config(pin: Fingerprint) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let only = Arc::new(Only { pin, provider: provider.clone() });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(only)
        .with_no_client_auth();
    Ok(tls)
}

/// The SHA-256 fingerprint of a certificate, written as 64 hex digits; colons between bytes and `sha256:` before them
/// are read, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// This is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint was expected: 64 hex digits, as `crabtree tls fingerprint` prints them")]
pub struct NoFingerprint;

impl Fingerprint {
    /// Of this certificate (DER).
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_prefix("sha256:").unwrap_or(&text);
        let digits = match text.len() {
            64 => text.to_owned(),
            // Bytes with a colon between each two.
            95 if text.split(':').all(|byte| byte.len() == 2) => text.replace(':', ""),
            _ => return Err(NoFingerprint),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte =
                digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(NoFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Takes the certificate with this fingerprint. Its holder proves that the key is its own, as with any other.
#[derive(Debug)]
struct Only {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(certificate);
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!(
            "the gateway's certificate has the fingerprint {found}, and {} was expected",
            self.pin
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_every_form_and_written_in_one() {
        let plain = Fingerprint::of(b"a certificate").to_string();
        assert!(plain.len() == 64 && plain.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
        let pairs: Vec<String> =
            plain.to_uppercase().as_bytes().chunks(2).map(|c| String::from_utf8_lossy(c).into()).collect();
        let colons = pairs.join(":");
        for form in [&plain, &colons, &format!(" sha256:{plain} "), &format!("SHA256:{colons}")] {
            assert_eq!(form.parse(), Ok(Fingerprint::of(b"a certificate")), "{form}");
        }
        for wrong in [
            "",
            "abc",
            &plain[1..],
            &format!("{plain}0"),
            &plain.replace(&plain[..1], "g"),
            &format!("{}é", &plain[..62]),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NoFingerprint), "{wrong}");
        }
    }
}
