//! The files of the configuration: read and rewritten, one at a time. Everything here may block.

use super::edit::{Change, Step, apply, edited, found};
use super::include::Draft;
use super::older::{For, renewed};
use super::owner;
use crate::settings::{Invalid, Issue, Loaded};
use crabtree_protocol::Refusal;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Older states of a file that are kept beside it: `.bak` is the last one, then `.bak.1` and so on.
const BACKUPS: usize = 5;

/// How long a file that is empty is given until it is believed to be.
const EMPTY: Duration = Duration::from_millis(100);

/// Formats that are read and never written: how a file's name ends, and what they are called.
const ONLY_READ: [(&str, &str); 3] = [("toml", "TOML"), ("yaml", "YAML"), ("yml", "YAML")];

/// How the configuration is read.
#[derive(Clone, Copy, Default)]
pub struct Ask<'a> {
    /// As if this stood in one of its files.
    pub draft: Option<Draft<'a>>,
    /// What is in force, where it is: it stays so where something is broken now.
    pub last: Option<&'a Value>,
}

/// Reads the configuration anew: files, environment and flags. May block.
pub type Reload = Arc<dyn Fn(Ask<'_>) -> Result<Loaded, Invalid> + Send + Sync>;

/// What a change does to the file, and what is answered once it is written.
pub struct Edit {
    /// What is written.
    pub writing: Writing,
    /// Made after the file is written, of what is read in it then; may block.
    pub answer: Box<dyn FnOnce(&Loaded) -> Value + Send>,
}

/// What is written.
pub enum Writing {
    /// These changes, in the file that owns the places, and everything else stays as it is written; without any the
    /// file is left alone.
    Changes(Vec<Change>),
    /// Changes that take secrets out of the text, which is therefore not kept as it was.
    Sealing(Vec<Change>),
    /// A whole new text of the main file, without anything that cannot be used.
    Text(String),
    /// A text of a file that has what is broken in it already, or had it once.
    Back(PathBuf, String),
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

/// A configuration that could not be read, and when.
pub struct Unread {
    /// Its place in the order of readings.
    pub number: u64,
    /// Why.
    pub why: Invalid,
}

/// What became of a plan.
pub struct Rewritten {
    /// The configuration after it.
    pub reading: Reading,
    /// What is answered.
    pub answer: Value,
    /// The file that was written, if any.
    pub wrote: Option<Wrote>,
}

/// A file that was written.
pub struct Wrote {
    /// Where it is.
    pub path: PathBuf,
    /// Its text before; empty, if it was not there.
    pub before: Zeroizing<String>,
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

    /// Reads it; what is broken stays as it is in `last`.
    pub fn read(&self, last: Option<&Value>) -> Result<Reading, Unread> {
        let mut readings = self.readings.lock();
        let read = self.read_as(&mut readings, Ask { draft: None, last });
        read.map_err(|why| Unread { number: *readings, why })
    }

    fn read_as(&self, readings: &mut u64, ask: Ask<'_>) -> Result<Reading, Invalid> {
        *readings += 1;
        let mut loaded = (self.reload)(ask)?;
        if ask.draft.is_none() && loaded.exists && loaded.text.trim().is_empty() {
            // Many editors empty a file before they write it.
            std::thread::sleep(EMPTY);
            loaded = (self.reload)(ask)?;
        }
        Ok(Reading { number: *readings, loaded })
    }

    /// Reads it, plans, reads what it would be, and only then writes it: one file. What cannot be done changes nothing:
    /// neither what others wrote meanwhile nor a file whose new content would not be accepted.
    pub fn rewrite(&self, plan: Plan, last: Option<&Value>) -> Result<Rewritten, Refusal> {
        let mut readings = self.readings.lock();
        let before = self.read_as(&mut readings, Ask { draft: None, last }).map_err(|e| cannot(&e.text))?;
        let Edit { writing, answer } = plan(&before.loaded)?;
        let is_kept = !matches!(writing, Writing::Sealing(_));
        if matches!(&writing, Writing::Changes(changes) | Writing::Sealing(changes) if changes.is_empty()) {
            let answer = answer(&before.loaded);
            return Ok(Rewritten { reading: before, answer, wrote: None });
        }
        let before = &before.loaded;
        // A whole text is good; changes add nothing that is broken; what is taken back is what it was.
        let known = match &writing {
            Writing::Changes(_) | Writing::Sealing(_) => Some(before.issues()),
            Writing::Text(_) => Some(&[][..]),
            Writing::Back(..) => None,
        };
        let places: Vec<Vec<Step>> = match &writing {
            Writing::Changes(changes) | Writing::Sealing(changes) => {
                changes.iter().flat_map(Change::places).map(<[Step]>::to_vec).collect()
            }
            Writing::Text(_) | Writing::Back(..) => Vec::new(),
        };
        let (path, new, whole) = match writing {
            Writing::Changes(changes) | Writing::Sealing(changes) => {
                let (path, new, whole) = changed(before, &changes)?;
                (path, new, Some(whole))
            }
            Writing::Text(text) => (before.path.clone(), text, None),
            Writing::Back(path, text) => (path, text, None),
        };
        writable(&path)?;
        let ask = Ask { draft: Some(Draft { path: &path, text: &new }), last };
        let after = self.read_as(&mut readings, ask).map_err(|invalid| refused(&invalid))?;
        let is_new = |issue: &&Issue| known.is_some_and(|known| !known.contains(issue));
        if let Some(issue) = after.loaded.issues().iter().find(is_new) {
            return Err(refused(&Invalid::at(issue)));
        }
        let broken = after.loaded.issues().first().filter(|_| !is_in_force(&after.loaded, &places));
        if let Some(Issue { path, message, .. }) = broken {
            return Err(cannot(&format!("beside {path} it would not count; mend that first: {message}")));
        }
        if whole.is_some_and(|whole| whole != after.loaded.raw) {
            let why = format!("{} would change more than that, or less; change it by hand", path.display());
            return Err(cannot(&why));
        }
        let target = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let old = if path == before.path && !before.exists { None } else { before.file(&path) };
        replace(&target, old.map(|(text, _)| text), &new, is_kept)?;
        let answer = answer(&after.loaded);
        let before = Zeroizing::new(old.map(|(text, _)| text.to_owned()).unwrap_or_default());
        Ok(Rewritten { reading: after, answer, wrote: Some(Wrote { path, before }) })
    }
}

/// Whether what is written at these places is what counts: beside something broken it may be left out with it.
fn is_in_force(after: &Loaded, places: &[Vec<Step>]) -> bool {
    let (written, _) = renewed(&after.raw, For::Reading);
    places.iter().all(|place| found(&written, place) == found(&after.origin.used, place))
}

/// Whether a file has a format that is only read.
pub fn is_only_read(path: &Path) -> bool {
    only_read(path).is_some()
}

/// The format of a file, if it is one that is only read.
fn only_read(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?;
    ONLY_READ.iter().find(|(only_read, _)| *only_read == ending).map(|(_, format)| *format)
}

fn writable(path: &Path) -> Result<(), Refusal> {
    let refuse =
        |format| cannot(&format!("{} is {format}, which is only read; change it by hand", path.display()));
    only_read(path).map_or(Ok(()), |format| Err(refuse(format)))
}

/// The file that these changes are made in, its text with them, and the whole content after them.
fn changed(before: &Loaded, changes: &[Change]) -> Result<(PathBuf, String, Value), Refusal> {
    let (path, local) = owner::local(before, changes).map_err(|why| cannot(&why))?;
    writable(&path)?;
    let unfit = |why: &str| {
        cannot(&format!("{} cannot be edited in place: {why}; change it by hand", path.display()))
    };
    let (text, content) = before.file(&path).ok_or_else(|| unfit("it was not read"))?;
    let text = edited(text, &mut content.clone(), &local).map_err(|why| unfit(&why))?;
    let mut whole = before.raw.clone();
    let fits = changes.iter().all(|change| apply(&mut whole, change).is_some());
    fits.then_some(()).ok_or_else(|| unfit("a change does not fit what is there"))?;
    Ok((path, text, whole))
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

/// Puts `new` in place of `old`, whole or not at all, readable to its owner only; `old` is kept if it may be.
fn replace(path: &Path, old: Option<&str>, new: &str, is_kept: bool) -> Result<(), Refusal> {
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
    if let Some(old) = old.filter(|_| is_kept) {
        keep(path, old).map_err(failed)?;
    }
    fs::rename(&temporary, path).and_then(|()| sync_directory(path)).map_err(failed)
}

/// Where the last configuration that stood its trial is kept, in the state directory.
pub const LAST_GOOD: &str = "config.last-good";

/// Keeps what is in force for a start that finds a broken file.
pub fn keep_good(state_dir: &Path, text: &str) -> std::io::Result<()> {
    let path = state_dir.join(LAST_GOOD);
    if content(&path)?.as_deref() == Some(text) {
        return Ok(());
    }
    replaced(&path, text)
}

/// Puts a text in the place of a file, whole or not at all.
pub fn replaced(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = written_beside(path, text)?;
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
#[path = "file_tests.rs"]
mod tests;
