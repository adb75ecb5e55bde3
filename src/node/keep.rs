//! What a node keeps between its runs, in a directory of its own: the key that it is known by, and the token that the
//! gateway gave it. One process uses them at a time; the lock goes with it, however it ends.

use crate::config::{self, ConfigError};
use crabtree_protocol::proof::DeviceKey;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The directory, in the state directory.
const DIR: &str = "node";
/// The file that is locked.
const LOCK_FILE: &str = "node.lock";
/// The file of the token.
const TOKEN_FILE: &str = "token.json";
/// The file of the key, as [`config::device_key`] names it.
const KEY_FILE: &str = "device.key";

/// See the module.
pub struct Keep {
    dir: PathBuf,
    key: DeviceKey,
    _lock: File,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The directory or the key.
    #[error(transparent)]
    Config(ConfigError),
    /// Somebody else uses it.
    #[error("another `crabtree node run` uses {0}; stop it, or give this one a --state-dir of its own")]
    InUse(PathBuf),
    /// Something about the files.
    #[error("{0} cannot be used: {1}")]
    File(PathBuf, io::Error),
}

/// The token, and which gateway gave it: it is shown to no other.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    url: String,
    device_token: String,
}

impl Keep {
    /// That of the node with this state directory. Made if there is none. Returns warnings with it.
    ///
    /// # Errors
    /// It cannot be made or read, or another process uses it.
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<String>), KeepError> {
        let dir = state_dir.join(DIR);
        let mut warnings = config::prepare_state_dir(state_dir).map_err(KeepError::Config)?;
        warnings.extend(config::prepare_state_dir(&dir).map_err(KeepError::Config)?);
        let path = dir.join(LOCK_FILE);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(|why| KeepError::File(path.clone(), why))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(KeepError::InUse(dir)),
            Err(TryLockError::Error(why)) => return Err(KeepError::File(path, why)),
        }
        let (seed, tightened) = config::device_key(&dir).map_err(KeepError::Config)?;
        warnings.extend(tightened);
        Ok((Self { dir, key: DeviceKey::from_seed(&seed), _lock: lock }, warnings))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is known by.
    pub(super) fn key(&self) -> &DeviceKey {
        &self.key
    }

    /// The token that the gateway at this address gave it.
    pub fn token(&self, url: &str) -> Option<String> {
        stored(&self.dir).filter(|stored| stored.url == url).map(|stored| stored.device_token)
    }

    /// Keeps the token that the gateway at this address gave it.
    pub(super) fn keep_token(&self, url: &str, token: &str) -> io::Result<()> {
        if self.token(url).as_deref() == Some(token) {
            return Ok(());
        }
        let stored = Stored { url: url.to_owned(), device_token: token.to_owned() };
        let draft = self.dir.join(format!(".{TOKEN_FILE}.{}", Uuid::new_v4().simple()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(&stored)?)?;
            file.sync_all()?;
            fs::rename(&draft, self.dir.join(TOKEN_FILE))
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    }

    /// The token is worth nothing any more.
    pub(super) fn forget_token(&self) {
        // One that cannot be removed is refused again, and then forgotten again.
        let _ = fs::remove_file(self.dir.join(TOKEN_FILE));
    }
}

fn stored(dir: &Path) -> Option<Stored> {
    serde_json::from_slice(&fs::read(dir.join(TOKEN_FILE)).ok()?).ok()
}

/// Who the node of a state directory is, and the gateway that knows it; `None` if there has been no node yet.
///
/// # Errors
/// Its key cannot be read.
pub fn stored_gateway(state_dir: &Path) -> Result<Option<(String, Option<String>)>, ConfigError> {
    let dir = state_dir.join(DIR);
    if !dir.join(KEY_FILE).exists() {
        return Ok(None);
    }
    let (seed, _) = config::device_key(&dir)?;
    let id = DeviceKey::from_seed(&seed).device_id().to_string();
    Ok(Some((id, stored(&dir).map(|stored| stored.url))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_private_and_shown_only_to_the_gateway_that_gave_it() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(stored_gateway(state.path()), Ok(None));
        let (keep, _) = Keep::open(state.path()).unwrap();
        let id = keep.key().device_id().to_string();
        assert_eq!(keep.token("ws://a:1"), None);
        keep.keep_token("ws://a:1", "t").unwrap();
        assert_eq!(keep.token("ws://a:1").as_deref(), Some("t"));
        assert_eq!(keep.token("ws://b:1"), None);
        for file in [TOKEN_FILE, KEY_FILE, LOCK_FILE] {
            let mode = fs::metadata(keep.dir().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert!(matches!(Keep::open(state.path()), Err(KeepError::InUse(_))));
        drop(keep);
        let (keep, _) = Keep::open(state.path()).unwrap();
        assert_eq!(keep.key().device_id().to_string(), id);
        assert_eq!(stored_gateway(state.path()), Ok(Some((id.clone(), Some("ws://a:1".into())))));
        keep.forget_token();
        assert_eq!(stored_gateway(state.path()), Ok(Some((id, None))));
    }
}
