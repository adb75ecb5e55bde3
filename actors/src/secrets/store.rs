//! The gateway's own store of secrets: a file in the state directory whose values are sealed for the gateway's key.

use super::sealed::{Keyring, MAX_VALUE, SealError};
use crate::settings::{REDACTED, Secret};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Entries at most; people have a few dozen.
const MAX_ENTRIES: usize = 1_000;
/// The longest name (as recorded).
const MAX_NAME: usize = 128;

/// What an entry is for (as recorded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Written, and never shown again.
    Secret,
    /// Shown to operators.
    Env,
}

/// One entry, as the file has it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// What it is for.
    pub kind: Kind,
    /// Its value, sealed; an empty one is empty.
    sealed: String,
    /// Hosts that OpenClaw's egress proxy would send it to; kept for it.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// When it was made, ms.
    pub created_at_ms: i64,
    /// When it was written last, ms.
    pub updated_at_ms: i64,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<String>,
}

/// What is written to an entry.
pub struct Writing {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Secret,
    /// What it is for.
    pub kind: Kind,
    /// The hosts; those it had, if nothing is said.
    pub allowed_hosts: Option<Vec<String>>,
    /// By whom.
    pub by: String,
    /// When, ms.
    pub at: i64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was asked for is not possible (as recorded).
    #[error("{0}")]
    Invalid(String),
    /// The keys.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The file.
    #[error("{0} cannot be used: {1}")]
    File(PathBuf, std::io::Error),
}

/// See the module.
pub struct SecretStore {
    state_dir: PathBuf,
    path: PathBuf,
    /// Held while the file is changed.
    writing: Mutex<()>,
}

type Entries = BTreeMap<String, Entry>;

/// Whether the store can have an entry of this name (as recorded).
pub fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= MAX_NAME
        && characters.next().is_some_and(|first| first.is_ascii_uppercase())
        && characters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

impl SecretStore {
    /// The store of the gateway with this state directory.
    pub fn new(state_dir: &Path) -> Self {
        let path = state_dir.join("secrets.json");
        Self { state_dir: state_dir.to_owned(), path, writing: Mutex::default() }
    }

    /// All entries, by name.
    pub fn entries(&self) -> Result<Entries, StoreError> {
        let failed = |error| StoreError::File(self.path.clone(), error);
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Entries::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The value of an entry.
    pub fn value(&self, entry: &Entry) -> Result<Secret, StoreError> {
        if entry.sealed.is_empty() {
            return Ok(Secret::new(""));
        }
        Ok(Keyring::open(&self.state_dir)?.open_sealed(&entry.sealed)?)
    }

    /// What these names stand for; the error is about all of them.
    pub fn values(&self, names: &[String]) -> Result<BTreeMap<String, Result<Secret, String>>, String> {
        let entries = self.entries().map_err(|error| error.to_string())?;
        let one = |name: &String| match entries.get(name) {
            None => Err(format!("the store has no {name}; write it with secrets.store.set")),
            Some(entry) if entry.sealed.is_empty() => Err(format!("{name} is empty in the store")),
            Some(entry) => self.value(entry).map_err(|error| format!("{name} in the store: {error}")),
        };
        Ok(names.iter().map(|name| (name.clone(), one(name))).collect())
    }

    /// Makes or replaces an entry.
    pub fn set(&self, writing: Writing) -> Result<(), StoreError> {
        let Writing { name, value, kind, allowed_hosts, by, at } = writing;
        checked(&name, value.expose(), kind, allowed_hosts.as_deref())?;
        let sealed = match value.expose() {
            "" => String::new(),
            value => {
                let keys = Keyring::made(&self.state_dir)?;
                keys.recipient().ok_or(SealError::NoKey)?.seal(value)?
            }
        };
        let _writing = self.writing.lock();
        let mut entries = self.entries()?;
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&name) {
            let full =
                format!("the store has {MAX_ENTRIES} entries, which is all it holds; delete one first");
            return Err(StoreError::Invalid(full));
        }
        let before = entries.get(&name).filter(|_| kind == Kind::Secret);
        let allowed_hosts = allowed_hosts.or(before.map(|entry| entry.allowed_hosts.clone()));
        let entry = Entry {
            kind,
            sealed,
            allowed_hosts: allowed_hosts.unwrap_or_default(),
            created_at_ms: entries.get(&name).map_or(at, |entry| entry.created_at_ms),
            updated_at_ms: at,
            updated_by: Some(by).filter(|by| !by.is_empty()),
        };
        entries.insert(name, entry);
        self.write(&entries)
    }

    /// Takes an entry away, if it is there.
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let mut entries = self.entries()?;
        match entries.remove(name) {
            Some(_) => self.write(&entries),
            None => Ok(()),
        }
    }

    /// Seals all values for the first key, whichever they were sealed for; how many there are.
    pub fn reseal(&self, keys: &Keyring) -> Result<usize, StoreError> {
        let _writing = self.writing.lock();
        let mut entries = self.entries()?;
        let recipient = keys.recipient().ok_or(SealError::NoKey)?;
        let closed = entries.values_mut().filter(|entry| !entry.sealed.is_empty());
        let mut count = 0;
        for entry in closed {
            entry.sealed = recipient.seal(keys.open_sealed(&entry.sealed)?.expose())?;
            count += 1;
        }
        if count > 0 {
            self.write(&entries)?;
        }
        Ok(count)
    }

    /// Whole or not at all.
    fn write(&self, entries: &Entries) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(entries).expect("entries are plain data");
        let draft = self.path.with_extension(format!("json.{}", uuid::Uuid::new_v4().simple()));
        let written = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            fs::File::open(&self.state_dir)?.sync_all()
        };
        written().map_err(|error| StoreError::File(self.path.clone(), error))
    }
}

/// What the store refuses (as recorded).
fn checked(name: &str, value: &str, kind: Kind, hosts: Option<&[String]>) -> Result<(), StoreError> {
    let invalid = |why: String| Err(StoreError::Invalid(why));
    if !is_name(name) {
        return invalid("Secret store name must match /^[A-Z][A-Z0-9_]{0,127}$/.".into());
    }
    if value == REDACTED {
        return invalid(format!(
            "Secret store entry \"{name}\" contains a redaction placeholder. Supply a real value or leave the field \
             unchanged."
        ));
    }
    if value.len() > MAX_VALUE {
        return invalid(format!("Secret store value exceeds {MAX_VALUE} UTF-8 bytes."));
    }
    if kind == Kind::Secret && value.is_empty() {
        let why = "Secret store value is empty. Secret entries require a value; check the command that produced it.";
        return invalid(why.into());
    }
    if kind == Kind::Env && hosts.is_some() {
        return invalid("Allowed hosts apply only to secret entries.".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn writing(name: &str, value: &str, kind: Kind, at: i64) -> Writing {
        let (name, value) = (name.to_owned(), Secret::new(value));
        Writing { name, value, kind, allowed_hosts: None, by: "me".into(), at }
    }

    #[test]
    fn values_are_sealed_at_rest_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = SecretStore::new(dir.path());
        store.set(writing("KEY", "s3cret-1", Kind::Secret, 1)).unwrap();
        store.set(writing("MODE", "", Kind::Env, 2)).unwrap();
        store.set(writing("KEY", "s3cret-2", Kind::Secret, 3)).unwrap();
        let text = fs::read_to_string(dir.path().join("secrets.json")).unwrap();
        assert!(text.contains("KEY") && !text.contains("s3cret"), "{text}");
        let mode = fs::metadata(dir.path().join("secrets.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let entries = SecretStore::new(dir.path()).entries().unwrap();
        assert_eq!((entries["KEY"].created_at_ms, entries["KEY"].updated_at_ms), (1, 3));
        assert_eq!(store.value(&entries["KEY"]).unwrap().expose(), "s3cret-2");
        let values = store.values(&["KEY".into(), "GONE".into(), "MODE".into()]).unwrap();
        assert!(values["KEY"].as_ref().is_ok_and(|value| value.expose() == "s3cret-2"));
        assert!(values["GONE"].as_ref().is_err_and(|why| why.contains("has no GONE")));
        assert!(values["MODE"].is_err());
        store.delete("KEY").unwrap();
        store.delete("NEVER").unwrap();
        assert_eq!(store.entries().unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = SecretStore::new(dir.path());
        for (name, value, kind, why) in [
            ("lower", "x", Kind::Secret, "name must match"),
            ("_X", "x", Kind::Secret, "name must match"),
            ("X", REDACTED, Kind::Secret, "redaction placeholder"),
            ("X", "", Kind::Secret, "is empty"),
            ("X", &"x".repeat(MAX_VALUE + 1), Kind::Env, "exceeds 65536"),
        ] {
            let told = store.set(writing(name, value, kind, 1)).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
        let hosts = Writing { allowed_hosts: Some(vec![]), ..writing("X", "x", Kind::Env, 1) };
        assert!(store.set(hosts).is_err());
        assert!(!dir.path().join("secrets.json").exists());
    }
}
