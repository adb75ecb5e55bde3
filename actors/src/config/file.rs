//! The configuration file: read and rewritten, one at a time. Everything here may block.

use super::edit::{Change, edited};
use crate::settings::Loaded;
use crabtree_protocol::Refusal;
use parking_lot::Mutex;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads the configuration anew: file, environment and flags. May block.
pub type Reload = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// What a change does to the file, and what is answered once it is written.
pub struct Edit {
    /// The changes; without any the file is left alone.
    pub changes: Vec<Change>,
    /// Made after the file is written; may block.
    pub answer: Box<dyn FnOnce() -> Value + Send>,
}

/// Decides, with the configuration as it is in the file at that moment; may block.
pub type Plan = Box<dyn FnOnce(&Loaded) -> Result<Edit, Refusal> + Send>;

/// A configuration and its place in the order of readings.
pub struct Reading {
    /// Later readings have larger numbers.
    pub number: u64,
    /// What was read.
    pub loaded: Loaded,
}

/// The file, for one reader or writer at a time, whichever incarnation of the actor it works for.
#[derive(Clone)]
pub struct ConfigFile {
    reload: Reload,
    readings: Arc<Mutex<u64>>,
}

impl ConfigFile {
    /// The file that `reload` reads.
    pub fn new(reload: Reload) -> Self {
        Self { reload, readings: Arc::default() }
    }

    /// Reads it.
    pub fn read(&self) -> Result<Reading, String> {
        self.read_as(&mut self.readings.lock())
    }

    fn read_as(&self, readings: &mut u64) -> Result<Reading, String> {
        let loaded = (self.reload)()?;
        *readings += 1;
        Ok(Reading { number: *readings, loaded })
    }

    /// Reads it, makes the planned changes, and reads it again. What cannot be done changes nothing: neither what
    /// others wrote meanwhile nor a file whose new content would not be accepted.
    pub fn rewrite(&self, plan: Plan) -> Result<(Reading, Value), Refusal> {
        let mut readings = self.readings.lock();
        let before = self.read_as(&mut readings).map_err(|why| cannot(&why))?;
        let Edit { changes, answer } = plan(&before.loaded)?;
        if changes.is_empty() {
            return Ok((before, answer()));
        }
        let path = &before.loaded.path;
        if path.extension().is_some_and(|extension| extension == "toml") {
            return Err(cannot(&format!(
                "{} is TOML, which is only read; change it by hand",
                path.display()
            )));
        }
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let text = content(&target).map_err(|e| cannot(&format!("{}: {e}", path.display())))?;
        let mut raw = before.loaded.raw.clone();
        let new = edited(text.as_deref().unwrap_or_default(), &mut raw, &changes).map_err(|why| {
            cannot(&format!("{} cannot be edited in place: {why}; change it by hand", path.display()))
        })?;
        replace(&target, text.as_deref(), &new)?;
        match self.read_as(&mut readings) {
            Ok(after) => Ok((after, answer())),
            Err(why) => {
                restore(&target, text.as_deref(), &new);
                Err(cannot(&why))
            }
        }
    }
}

fn cannot(why: &str) -> Refusal {
    Refusal::invalid_request(format!("the configuration was not changed: {why}"))
}

fn content(path: &Path) -> std::io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts `new` in place of `old`, whole or not at all, readable to its owner only.
fn replace(path: &Path, old: Option<&str>, new: &str) -> Result<(), Refusal> {
    let failed = |e: std::io::Error| {
        Refusal::failed(format!(
            "the configuration was not changed: {} cannot be written: {e}; check its directory's permissions",
            path.display()
        ))
    };
    let temporary = written_beside(path, new).map_err(failed)?;
    let unchanged = content(path).map_err(failed)?.as_deref() == old;
    if !unchanged {
        let _ = fs::remove_file(&temporary);
        let why = "the configuration was not changed: somebody else wrote the file at the same time";
        return Err(Refusal::failed(why).with_retry(1000));
    }
    fs::rename(&temporary, path).and_then(|()| sync_directory(path)).map_err(failed)
}

/// A finished file next to `path`.
fn written_beside(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    match write() {
        Ok(()) => Ok(temporary),
        Err(e) => {
            let _ = fs::remove_file(&temporary);
            Err(e)
        }
    }
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Takes a change back that was not accepted.
fn restore(path: &Path, old: Option<&str>, new: &str) {
    let restored = match old {
        Some(old) => replace(path, Some(new), old),
        None => fs::remove_file(path).map_err(|e| Refusal::failed(e.to_string())),
    };
    if let Err(refusal) = restored {
        tracing::error!(target: "crabtree::config", "a change could not be taken back: {}", refusal.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    /// A file whose content counts when it is plain JSON without a member `bad`.
    fn file(path: &Path) -> ConfigFile {
        let path = path.to_owned();
        ConfigFile::new(Arc::new(move || {
            let text = content(&path).map_err(|e| e.to_string())?;
            let raw = match &text {
                Some(text) if path.extension().is_some_and(|e| e == "json") => {
                    serde_json::from_str(text).map_err(|e| e.to_string())?
                }
                _ => json!({}),
            };
            if raw.get("bad").is_some() {
                return Err("bad is not a setting".into());
            }
            Ok(Loaded {
                path: path.clone(),
                exists: text.is_some(),
                raw,
                settings: Settings::default(),
                warnings: Vec::new(),
                hash: String::new(),
                state_dir: path.clone(),
                auth: None,
            })
        }))
    }

    fn setting(key: &'static str) -> Plan {
        let change = Change::Set(vec![key.into()], json!(1));
        Box::new(move |_| Ok(Edit { changes: vec![change], answer: Box::new(|| json!("written")) }))
    }

    fn refused(file: &ConfigFile, plan: Plan) -> String {
        file.rewrite(plan).err().expect("it is refused").message
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_alone_and_readings_are_numbered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        let file = file(&path);
        let (after, answer) = file.rewrite(setting("a")).unwrap();
        assert_eq!((after.loaded.raw, answer), (json!({"a": 1}), json!("written")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(file.read().unwrap().number > after.number);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn what_is_refused_leaves_the_file_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, key, why) in [
            ("c.toml", "# mine\n[gateway]\n", "a", "TOML, which is only read"),
            ("c.json", "{ \"a\": 2 }", "bad", "bad is not a setting"),
            ("c.json", "{ \"a\": 2, \"a\": 3 }", "a", "cannot be edited in place"),
            ("c.json", "{ \"a\": ", "a", "was not changed"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let said = refused(&file(&path), setting(key));
            assert!(said.starts_with("the configuration was not changed: ") && said.contains(why), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let path = dir.path().join("new.json");
        assert!(refused(&file(&path), setting("bad")).contains("bad is not a setting"));
        assert!(!path.exists(), "a file that was not there is not there again");
    }

    #[test]
    fn what_somebody_else_writes_meanwhile_is_not_lost_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, real) = (dir.path().join("c.json"), dir.path().join("real.json"));
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let config = file(&path);
        config.rewrite(setting("a")).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(
            serde_json::from_str::<Value>(&fs::read_to_string(&real).unwrap()).unwrap(),
            json!({"a": 1})
        );
        let refusal = replace(&real, Some("{}"), "{ \"b\": 1 }").unwrap_err();
        assert_eq!((refusal.retryable, refusal.message.contains("at the same time")), (Some(true), true));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
