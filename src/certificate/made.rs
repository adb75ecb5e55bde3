//! A certificate of the gateway's own making, signed by nobody but itself: clients know it by its fingerprint.

use chrono::{DateTime, Datelike, Days, Utc};
use crabtree_actors::settings::TlsFiles;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use uuid::Uuid;

/// The name in it.
pub const NAME: &str = "crabtree-gateway";
/// How long one is good: clients pin it, and each new one has to be pinned anew.
const DAYS: u64 = 3650;
/// Names in it.
const MAX_NAMES: usize = 16;

/// The names that a gateway on this machine goes by.
pub fn names(host: &str, listen: &[IpAddr]) -> Vec<String> {
    let is_label = |host: &&str| {
        (1..=63).contains(&host.len()) && host.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let host = Some(host).filter(is_label).map(|host| [host.to_owned(), format!("{host}.local")]);
    let always = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let listen = listen.iter().filter(|ip| !ip.is_unspecified()).map(ToString::to_string);
    let mut names: Vec<String> = Vec::new();
    for name in always.into_iter().chain(host.into_iter().flatten()).chain(listen) {
        if !names.contains(&name) && names.len() < MAX_NAMES {
            names.push(name);
        }
    }
    names
}

/// Makes a key and a certificate. The key is written first: a certificate can be made anew for it.
pub fn pair(files: &TlsFiles, names: &[String]) -> Result<(), String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = certificate(names, &key, Utc::now())?;
    put(&files.key, &key.serialize_pem())?;
    put(&files.cert, &certificate)?;
    tracing::info!(target: "crabtree::tls", "made a certificate of its own: {}", files.cert.display());
    Ok(())
}

/// Makes a certificate anew, with the same key.
pub fn renew(files: &TlsFiles, names: &[String]) -> Result<(), String> {
    let at = files.key.display();
    let key = fs::read_to_string(&files.key).map_err(|error| format!("{at} cannot be read: {error}"))?;
    let key = KeyPair::from_pem(&key).map_err(|error| format!("the key {at} cannot be used: {error}"))?;
    put(&files.cert, &certificate(names, &key, Utc::now())?)?;
    tracing::info!(target: "crabtree::tls", "made its certificate anew: {}", files.cert.display());
    Ok(())
}

/// A certificate that begins a day before `from`, so that a clock that is a little behind takes it, too.
pub fn certificate(names: &[String], key: &KeyPair, from: DateTime<Utc>) -> Result<String, String> {
    let day = |at: DateTime<Utc>| {
        // Months and days are small.
        let [month, day] = [at.month(), at.day()].map(|part| u8::try_from(part).unwrap_or(1));
        date_time_ymd(at.year(), month, day)
    };
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.not_before = day(from - Days::new(1));
    params.not_after = day(from + Days::new(DAYS));
    Ok(params.self_signed(key).map_err(|error| error.to_string())?.pem())
}

/// Puts a file where nobody else may read it, whole or not at all.
fn put(path: &Path, text: &str) -> Result<(), String> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let draft = dir.join(format!(".{}", Uuid::new_v4().simple()));
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&draft);
        format!("{} cannot be written: {error}", path.display())
    })
}
