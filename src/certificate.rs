//! The gateway's own certificate: the files it is read from, what of them is served, and that a new one takes its place
//! while the gateway runs. One that cannot be used leaves the old one in place.

mod made;
mod read;

use crabtree_actors::reach::Certificate;
use crabtree_actors::settings::{Loaded, TlsFiles};
use crabtree_actors::tls::Fingerprint;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::config::ConfigError;

/// How long before its end a certificate of our own making is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it is not tried again after that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What is served, and where it comes from.
pub struct Served {
    files: TlsFiles,
    /// The names of one of our own making; none if none is made.
    names: Option<Vec<String>>,
    now: Mutex<Now>,
}

struct Now {
    about: Certificate,
    config: Arc<ServerConfig>,
    /// Whether it is of our own making.
    is_own: bool,
    /// The files as they were looked at last, and as they were read last.
    seen: Stamps,
    read: Stamps,
    /// When making it anew failed last.
    failed: Option<Instant>,
}

/// The files of a certificate: since when they are how long, and which ones.
type Stamps = Vec<Option<(SystemTime, u64, u64)>>;

impl Served {
    /// What the settings ask for, made if it is not there; nothing where no TLS is spoken. It reads files.
    ///
    /// # Errors
    /// Something is missing or cannot be used. Without it the gateway must not start: it would speak plain text.
    pub fn open(loaded: &Loaded, host: &str, listen: &[IpAddr]) -> Result<Option<Self>, ConfigError> {
        let settings = &loaded.settings.gateway.tls;
        if !settings.enabled {
            return Ok(None);
        }
        let files = settings.files(&loaded.state_dir);
        let names = settings.auto_generate.then(|| made::names(host, listen));
        let is_own = settings.cert_path.is_none() && settings.key_path.is_none();
        let refused = |why: String| ConfigError::new(format!("gateway.tls.enabled is true, but {why}"));
        provide(&files, names.as_deref(), is_own).map_err(refused)?;
        let seen = stamps(&files);
        let mut found = read::certificate(&files).map_err(refused)?;
        if let Some(names) = names.as_deref().filter(|_| found.is_own && is_due(found.about.expires_at)) {
            match made::renew(&files, names).and_then(|()| read::certificate(&files)) {
                Ok(renewed) => found = renewed,
                Err(why) => {
                    tracing::error!(target: "crabtree::tls", "the certificate ends soon, and was not made anew: {why}")
                }
            }
        }
        for warning in read::warnings(&files, &found.about) {
            tracing::warn!(target: "crabtree::tls", "{warning}");
        }
        let read::Found { about, config, is_own } = found;
        let now = Now { about, config, is_own, read: seen.clone(), seen, failed: None };
        Ok(Some(Self { files, names, now: Mutex::new(now) }))
    }

    /// What is served now.
    pub fn about(&self) -> Certificate {
        self.now.lock().about
    }

    /// For one handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.now.lock().config.clone().into()
    }

    /// Looks whether there is a new one, which is served from then on: what it is, or why it is not taken, which is said
    /// once. Files that were changed since the last look are left alone: they may be half of something. It blocks.
    pub fn look(&self) -> Option<Result<Certificate, String>> {
        let stamps = stamps(&self.files);
        let may_renew = {
            let mut now = self.now.lock();
            let settled = std::mem::replace(&mut now.seen, stamps.clone()) == stamps;
            let may_renew = now.failed.is_none_or(|at| at.elapsed() >= RENEW_AGAIN);
            let due = now.is_own && self.names.is_some() && is_due(now.about.expires_at);
            let nothing = now.read == stamps && !(may_renew && due);
            if !settled || nothing {
                return None;
            }
            now.read = stamps;
            may_renew
        };
        self.renewed(may_renew).transpose()
    }

    fn renewed(&self, may_renew: bool) -> Result<Option<Certificate>, String> {
        let keeps = |why: String| format!("{why}; the certificate before it goes on to be served");
        let mut found = read::certificate(&self.files).map_err(keeps)?;
        if let Some(names) =
            self.names.as_deref().filter(|_| may_renew && found.is_own && is_due(found.about.expires_at))
        {
            let made = made::renew(&self.files, names).and_then(|()| read::certificate(&self.files));
            found = made.map_err(|why| {
                self.now.lock().failed = Some(Instant::now());
                format!("the certificate ends soon, and was not made anew: {why}")
            })?;
        }
        let mut now = self.now.lock();
        let is_other = now.about != found.about;
        (now.about, now.config, now.is_own) = (found.about, found.config, found.is_own);
        Ok(is_other.then_some(found.about))
    }
}

/// Sees to it that there are files, as far as they may be made.
fn provide(files: &TlsFiles, names: Option<&[String]>, is_own: bool) -> Result<(), String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    match (files.cert.exists(), files.key.exists(), names) {
        (true, true, _) => Ok(()),
        (false, false, Some(names)) => made::pair(files, names),
        // A start was cut short between the two.
        (false, true, Some(names)) if is_own => made::renew(files, names),
        (false, false, None) => Err(format!(
            "there is neither {cert} nor {key}: put your certificate there, or let the gateway make one with \
             gateway.tls.autoGenerate"
        )),
        (false, true, _) => Err(format!(
            "there is a key, {key}, and no certificate {cert}: put the one that belongs to it there"
        )),
        (true, false, _) => Err(format!(
            "there is a certificate, {cert}, and no key {key}: put the one that belongs to it there"
        )),
    }
}

fn is_due(expires_at: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u128::try_from(expires_at).unwrap_or(0) < (now + RENEW_BEFORE).as_millis()
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &Path| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len(), about.ino()))
    };
    [Some(&files.cert), Some(&files.key), files.ca.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| stamp(path))
        .collect()
}

/// The fingerprint of the certificate in this file: what its clients are to pin.
///
/// # Errors
/// There is none to be read.
pub fn fingerprint(file: &Path) -> Result<Fingerprint, String> {
    let text = read::bounded(file)?;
    let first = CertificateDer::from_pem_slice(&text);
    first
        .map(|leaf| Fingerprint::of(&leaf))
        .map_err(|_| format!("there is no certificate in {}", file.display()))
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
