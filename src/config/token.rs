//! The two secrets the gateway makes for itself on first start: its token and its device key.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use crabtree_actors::process::Guard;
use crabtree_actors::secrets;
use crabtree_actors::settings::{AuthSecret, Loaded, Secret, SecretError};

use super::{ConfigError, Environment, tighten};

/// The shared secret of a gateway that starts. The token is made if there is none yet. Returns warnings with it.
pub fn gateway_secret(
    loaded: &Loaded,
    env: &Environment,
    guard: &Guard,
) -> Result<(AuthSecret, Vec<String>), ConfigError> {
    if let Some(secret) = configured(loaded, env, guard)? {
        return Ok((secret, Vec::new()));
    }
    let path = token_path(&loaded.state_dir);
    let (token, warnings) =
        read_or_make(&path, || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into_bytes())
            .and_then(|(token, warnings)| Ok((readable(token)?, warnings)))
            .map_err(|error| unusable(&path, &error))?;
    Ok((AuthSecret::Token(token), warnings))
}

/// The shared secret for a client on this machine; `None` before the first start made one. Nothing is written.
pub fn client_secret(loaded: &Loaded, env: &Environment) -> Result<Option<AuthSecret>, ConfigError> {
    if let Some(secret) = configured(loaded, env, &Guard::this_program())? {
        return Ok(Some(secret));
    }
    let path = token_path(&loaded.state_dir);
    match fs::read(&path).and_then(readable) {
        Ok(token) => Ok(Some(AuthSecret::Token(token))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&path, &error)),
    }
}

/// The shared secret that the settings name, wherever it is kept.
fn configured(loaded: &Loaded, env: &Environment, guard: &Guard) -> Result<Option<AuthSecret>, SecretError> {
    secrets::auth(loaded, guard, &|name| env.get(name).map(str::to_owned))
}

/// The key this gateway signs and hashes with. Made on first start. Returns warnings with it.
pub fn device_key(state_dir: &Path) -> Result<([u8; 32], Vec<String>), ConfigError> {
    let path = key_path(state_dir);
    let (key, warnings) = read_or_make(&path, || rand::random::<[u8; 32]>().to_vec())
        .and_then(|(key, warnings)| Ok((key.try_into().map_err(|_| damaged())?, warnings)))
        .map_err(|error| unusable(&path, &error))?;
    Ok((key, warnings))
}

/// The device key, if there is one.
pub(super) fn existing_device_key(state_dir: &Path) -> Option<[u8; 32]> {
    fs::read(key_path(state_dir)).ok()?.try_into().ok()
}

fn token_path(state_dir: &Path) -> PathBuf {
    state_dir.join("gateway.token")
}

fn key_path(state_dir: &Path) -> PathBuf {
    state_dir.join("device.key")
}

fn readable(token: Vec<u8>) -> io::Result<Secret> {
    let token = String::from_utf8(token).map_err(|_| damaged())?;
    if token.trim().is_empty() { Err(damaged()) } else { Ok(Secret::new(token.trim())) }
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "its content is damaged")
}

fn unusable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::new(format!(
        "{} cannot be used: {error}; make it readable for this user, or remove it to have a new one made",
        path.display()
    ))
}

/// The content of a private file. If it is missing it is written whole beside its place and linked there, so that
/// of two starts one wins and both read the same.
fn read_or_make(path: &Path, make: impl FnOnce() -> Vec<u8>) -> io::Result<(Vec<u8>, Vec<String>)> {
    if !path.exists() {
        let draft = path.with_extension(format!("{:x}.new", rand::random::<u64>()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let linked =
            file.write_all(&make()).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let warnings = tighten(path, 0o600)?;
    Ok((fs::read(path)?, warnings))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::{super::Sources, *};

    fn sources(dir: &Path, flags: Value, env: &[(&str, &str)]) -> Sources {
        Sources { state_dir: dir.into(), file: None, env: env.iter().copied().collect(), flags }
    }

    fn started(sources: &Sources) -> Result<(AuthSecret, Vec<String>), String> {
        let loaded = super::super::load(sources).map_err(|error| error.to_string())?;
        gateway_secret(&loaded, &sources.env, &Guard::none()).map_err(|error| error.to_string())
    }

    fn token(secret: &AuthSecret) -> String {
        match secret {
            AuthSecret::Token(token) | AuthSecret::Password(token) => token.expose().to_owned(),
            AuthSecret::TrustedProxy(_) | AuthSecret::None => String::new(),
        }
    }

    #[test]
    fn the_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let sources = sources(dir.path(), json!({}), &[]);
        let loaded = super::super::load(&sources).map_err(|e| e.to_string()).expect("it loads");
        let for_client = || client_secret(&loaded, &sources.env).map_err(|e| e.to_string());
        assert!(for_client() == Ok(None));

        let (first, warnings) = started(&sources).expect("it starts");
        assert_eq!((token(&first).len(), warnings.len()), (43, 0));
        let path = dir.path().join("gateway.token");
        let mode = || fs::metadata(&path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(), fs::read_dir(dir.path()).expect("readable").count()), (0o600, 1));

        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("its owner may");
        let (second, warnings) = started(&sources).expect("it starts");
        assert!(second == first && mode() == 0o600 && warnings[0].contains("was open to others (mode 644)"));
        assert!(for_client() == Ok(Some(first)));
    }

    #[test]
    fn a_configured_secret_wins_and_a_missing_one_stops() {
        let dir = tempfile::tempdir().expect("a directory");
        let auth = |auth: Value, env: &[_]| {
            started(&sources(dir.path(), json!({"gateway": {"auth": auth}}), env))
                .map(|(secret, _)| token(&secret))
        };
        assert_eq!(auth(json!({"token": "${T}"}), &[("T", "t")]), Ok("t".into()));
        assert!(auth(json!({"token": "${T}"}), &[]).expect_err("unset").contains("environment variable T"));
        assert!(
            auth(json!({"mode": "password"}), &[])
                .expect_err("none")
                .contains("gateway.auth.password is empty")
        );
        assert_eq!(auth(json!({}), &[("OPENCLAW_GATEWAY_PASSWORD", "p")]), Ok("p".into()));
        assert_eq!(auth(json!({"mode": "none"}), &[]), Ok(String::new()));
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0, "no token file is needed");
    }

    #[test]
    fn the_device_key_lasts_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = device_key(dir.path()).expect("it is made").0;
        assert_eq!(device_key(dir.path()).map(|(key, _)| key), Ok(first));
        assert_eq!(existing_device_key(dir.path()), Some(first));
        fs::write(dir.path().join("device.key"), "short").expect("writable");
        assert!(
            device_key(dir.path()).expect_err("damaged").to_string().contains("device.key cannot be used")
        );
    }
}
