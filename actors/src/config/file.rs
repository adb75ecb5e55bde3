//! The configuration file: read and rewritten, one at a time. Everything here may block.

use super::edit::{Change, edited};
use crate::settings::{Invalid, Loaded};
use crabtree_protocol::Refusal;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Older states of the file that are kept beside it: `.bak` is the last one, then `.bak.1` and so on.
const BACKUPS: usize = 5;

/// How long a file that is empty is given until it is believed to be.
const EMPTY: Duration = Duration::from_millis(100);

/// Reads the configuration anew: file, environment and flags; or with this text in the place of the file's. May block.
pub type Reload = Arc<dyn Fn(Option<&str>) -> Result<Loaded, Invalid> + Send + Sync>;

/// What a change does to the file, and what is answered once it is written.
pub struct Edit {
    /// What is written.
    pub writing: Writing,
    /// Made after the file is written, of what is read in it then; may block.
    pub answer: Box<dyn FnOnce(&Loaded) -> Value + Send>,
}

/// What is written.
pub enum Writing {
    /// These changes, and everything else stays as it is written; without any the file is left alone.
    Changes(Vec<Change>),
    /// A whole new text.
    Text(String),
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
    pub fn read(&self) -> Result<Reading, Invalid> {
        self.read_as(&mut self.readings.lock(), None)
    }

    fn read_as(&self, readings: &mut u64, text: Option<&str>) -> Result<Reading, Invalid> {
        let mut loaded = (self.reload)(text)?;
        if text.is_none() && loaded.exists && loaded.text.trim().is_empty() {
            // Many editors empty a file before they write it.
            std::thread::sleep(EMPTY);
            loaded = (self.reload)(None)?;
        }
        *readings += 1;
        Ok(Reading { number: *readings, loaded })
    }

    /// Reads it, plans, reads what it would be, and only then writes it. What cannot be done changes nothing: neither
    /// what others wrote meanwhile nor a file whose new content would not be accepted.
    pub fn rewrite(&self, plan: Plan) -> Result<(Reading, Value), Refusal> {
        let mut readings = self.readings.lock();
        let before = self.read_as(&mut readings, None).map_err(|invalid| cannot(&invalid.text))?;
        let Edit { writing, answer } = plan(&before.loaded)?;
        if matches!(&writing, Writing::Changes(changes) if changes.is_empty()) {
            let answer = answer(&before.loaded);
            return Ok((before, answer));
        }
        let path = &before.loaded.path;
        if path.extension().is_some_and(|extension| extension == "toml") {
            let why = format!("{} is TOML, which is only read; change it by hand", path.display());
            return Err(cannot(&why));
        }
        let new = match writing {
            Writing::Changes(changes) => changed(&before.loaded, &changes)?,
            Writing::Text(text) => text,
        };
        let after = self.read_as(&mut readings, Some(&new)).map_err(|invalid| refused(&invalid))?;
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let old = before.loaded.exists.then_some(before.loaded.text.as_str());
        replace(&target, old, &new)?;
        let answer = answer(&after.loaded);
        Ok((after, answer))
    }
}

/// The text with these changes.
fn changed(before: &Loaded, changes: &[Change]) -> Result<String, Refusal> {
    let mut raw = before.raw.clone();
    edited(&before.text, &mut raw, changes).map_err(|why| {
        let path = before.path.display();
        cannot(&format!("{path} cannot be edited in place: {why}; change it by hand"))
    })
}

/// A content that would not be accepted (as recorded).
fn refused(invalid: &Invalid) -> Refusal {
    let Invalid { key, problem, .. } = invalid;
    let place = if key.is_empty() { "<root>" } else { key };
    let issues = json!([{ "path": key, "message": problem }]);
    Refusal::invalid_request(format!("invalid config: {place}: {problem}"))
        .with_details(json!({ "issues": issues }))
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

/// Puts `new` in place of `old`, whole or not at all, readable to its owner only; `old` is kept.
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
    if let Some(old) = old {
        keep(path, old).map_err(failed)?;
    }
    fs::rename(&temporary, path).and_then(|()| sync_directory(path)).map_err(failed)
}

/// Where the last configuration that stood its trial is kept, in the state directory.
pub const LAST_GOOD: &str = "config.last-good";

/// Keeps what is in force for a start that finds a broken file.
pub fn keep_good(loaded: &Loaded) -> std::io::Result<()> {
    let path = loaded.state_dir.join(LAST_GOOD);
    if !loaded.exists || content(&path)?.as_deref() == Some(&loaded.text) {
        return Ok(());
    }
    let temporary = written_beside(&path, &loaded.text)?;
    fs::rename(temporary, path)
}

/// Keeps a state of the file, and the ones before it.
fn keep(path: &Path, old: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = |n: usize| {
        let number = if n == 0 { String::new() } else { format!(".{n}") };
        path.with_file_name(format!("{name}.bak{number}"))
    };
    for n in (1..BACKUPS).rev() {
        match fs::rename(kept(n - 1), kept(n)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let temporary = written_beside(path, old)?;
    fs::rename(temporary, kept(0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    /// A file whose content counts when it is plain JSON without a member `bad`.
    fn file(path: &Path) -> ConfigFile {
        let path = path.to_owned();
        ConfigFile::new(Arc::new(move |candidate| {
            let text = match candidate {
                Some(text) => Some(text.to_owned()),
                None => content(&path).map_err(|e| Invalid::new(e.to_string()))?,
            };
            let raw = match &text {
                Some(text) if path.extension().is_some_and(|e| e == "json") => {
                    serde_json::from_str(text).map_err(|e| Invalid::new(e.to_string()))?
                }
                _ => json!({}),
            };
            if raw.get("bad").is_some() {
                let problem = "not a setting".to_owned();
                return Err(Invalid { key: "bad".into(), text: format!("bad: {problem}"), problem });
            }
            Ok(Loaded {
                path: path.clone(),
                exists: text.is_some(),
                text: text.unwrap_or_default(),
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
        let answer = Box::new(|_: &Loaded| json!("written"));
        Box::new(move |_| Ok(Edit { writing: Writing::Changes(vec![change]), answer }))
    }

    fn said(file: &ConfigFile, plan: Plan) -> String {
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
            ("c.json", "{ \"a\": 2 }", "bad", "invalid config: bad: not a setting"),
            ("c.json", "{ \"a\": 2, \"a\": 3 }", "a", "cannot be edited in place"),
            ("c.json", "{ \"a\": ", "a", "was not changed"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            let said = said(&file(&path), setting(key));
            assert!(said.contains(why), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
            fs::remove_file(&path).unwrap();
        }
        let path = dir.path().join("new.json");
        assert!(said(&file(&path), setting("bad")).contains("bad: not a setting"));
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
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "the link, the file and its last state");
    }

    #[test]
    fn the_last_states_of_the_file_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        let config = file(&path);
        for n in 0..=7 {
            let answer = Box::new(|_: &Loaded| json!(null));
            let plan: Plan =
                Box::new(move |_| Ok(Edit { writing: Writing::Text(format!("{{\"a\": {n}}}")), answer }));
            config.rewrite(plan).unwrap();
        }
        let kept = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let all = ["c.json", "c.json.bak", "c.json.bak.1", "c.json.bak.4"].map(kept);
        assert_eq!(all, ["{\"a\": 7}", "{\"a\": 6}", "{\"a\": 5}", "{\"a\": 2}"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + BACKUPS);
    }
}
