//! A certificate and its key, out of files.

use crabtree_actors::reach::Certificate;
use crabtree_actors::settings::TlsFiles;
use crabtree_actors::tls::Fingerprint;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{ServerConfig, version::TLS13};
use x509_cert::der::{Decode, Encode};

/// Bytes of a certificate or a key; of a bundle of certificates four times as much.
const MAX_FILE: u64 = 256 * 1024;
/// Certificates of a chain.
const MAX_CHAIN: usize = 10;
/// What is spoken over TLS.
const HTTP: &[u8] = b"http/1.1";

/// What was found.
pub struct Found {
    pub about: Certificate,
    pub config: Arc<ServerConfig>,
    /// Whether it is of our own making.
    pub is_own: bool,
}

/// The certificate in these files, if it can be served.
pub fn certificate(files: &TlsFiles) -> Result<Found, String> {
    let at = files.cert.display();
    let chain = chain(files)?;
    let leaf = chain.first().ok_or_else(|| format!("there is no certificate in {at}"))?;
    let parsed = parsed(leaf).ok_or_else(|| format!("the certificate in {at} cannot be read"))?;
    let tbs = parsed.tbs_certificate();
    let ends = tbs.validity().not_after.to_unix_duration();
    let expires_at = i64::try_from(ends.as_millis()).unwrap_or(i64::MAX);
    let is_own = tbs.issuer() == tbs.subject() && tbs.subject().to_string().contains(super::made::NAME);
    let about = Certificate { fingerprint: Fingerprint::of(leaf), expires_at };
    let key = PrivateKeyDer::from_pem_slice(&bounded(&files.key)?)
        .map_err(|_| format!("there is no key in {}", files.key.display()))?;
    // As recorded, nothing older than 1.3.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("{at} and {} cannot be used together: {error}", files.key.display()))?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Found { about, config: Arc::new(config), is_own })
}

/// What is sent: the certificate, and who vouches for it.
pub fn chain(files: &TlsFiles) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut chain = certificates(&files.cert)?;
    if let Some(ca) = &files.ca {
        complete(&mut chain, &certificates(ca)?);
    }
    Ok(chain)
}

/// What its owner should know of it.
pub fn warnings(files: &TlsFiles, about: &Certificate) -> Vec<String> {
    let key = files.key.display();
    let mode = std::fs::metadata(&files.key).map_or(0, |about| about.permissions().mode() & 0o777);
    let open = (mode & 0o007 != 0)
        .then(|| format!("the key {key} can be read by others (mode {mode:03o}): chmod 600 it"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ended = u128::try_from(about.expires_at).unwrap_or(0) < now.as_millis();
    let ended = ended
        .then(|| format!("the certificate {} has ended; browsers will not take it", files.cert.display()));
    open.into_iter().chain(ended).collect()
}

/// The content of a file that is not too large.
pub fn bounded(file: &Path) -> Result<Vec<u8>, String> {
    up_to(file, MAX_FILE)
}

fn up_to(file: &Path, most: u64) -> Result<Vec<u8>, String> {
    let at = file.display();
    let unread = |error: std::io::Error| format!("{at} cannot be read: {error}");
    let mut text = Vec::new();
    File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut text)).map_err(unread)?;
    if text.len() as u64 > most { Err(format!("{at} is larger than {most} bytes")) } else { Ok(text) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = up_to(file, 4 * MAX_FILE)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.map_err(|error| format!("{} is no PEM: {error}", file.display()))
}

fn parsed(certificate: &[u8]) -> Option<x509_cert::Certificate> {
    x509_cert::Certificate::from_der(certificate).ok()
}

/// Adds the issuers that a chain lacks, up to the one that clients have themselves.
fn complete(chain: &mut Vec<CertificateDer<'static>>, more: &[CertificateDer<'static>]) {
    let names = |certificate: &CertificateDer<'_>| {
        let parsed = parsed(certificate)?;
        let tbs = parsed.tbs_certificate();
        Some((tbs.issuer().to_der().ok()?, tbs.subject().to_der().ok()?))
    };
    let more: Vec<_> = more.iter().filter_map(|one| Some((names(one)?, one))).collect();
    while chain.len() < MAX_CHAIN {
        let Some((issuer, _)) = chain.last().and_then(names) else { return };
        let next = more.iter().find(|((by, of), _)| *of == issuer && by != of);
        match next {
            Some((_, next)) => chain.push((*next).clone()),
            None => return,
        }
    }
}
