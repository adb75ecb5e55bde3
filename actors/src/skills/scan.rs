//! Which skills there are: the folders with a `SKILL.md` in the directories where skills are kept. What is broken is
//! told beside the others and stops nothing.

use super::manifest::{self, MAX_FILE, MAX_FRONT_MATTER, Manifest};
use crate::settings::Loaded;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Folders of one directory that are looked into, in the order of their names.
pub const MAX_FOLDERS: usize = 200;
/// Entries of one directory that are listed to find them.
const MAX_ENTRIES: usize = 4_000;
/// Readings that are kept; past it all are forgotten.
const MAX_KEPT: usize = 2_000;
/// A file this young may change again without its time of change telling.
const SETTLED: Duration = Duration::from_secs(2);
/// The file that makes a folder a skill.
pub const FILE: &str = "SKILL.md";

/// Where a skill was found; of two with the same name the earlier one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `<workspace>/skills`.
    Workspace,
    /// `<state directory>/skills`, where skills are installed.
    Managed,
    /// A directory of `skills.load.extraDirs`.
    Extra,
}

impl Source {
    /// OpenClaw's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Workspace => "openclaw-workspace",
            Self::Managed => "openclaw-managed",
            Self::Extra => "openclaw-extra",
        }
    }
}

/// A directory of skill folders.
#[derive(Clone, Debug)]
pub struct Root {
    /// Which kind.
    pub source: Source,
    /// Where.
    pub dir: PathBuf,
    /// What it must not lead out of.
    pub within: Option<PathBuf>,
}

/// The directories of an agent, those that win first.
pub fn roots(loaded: &Loaded, agent_id: &str) -> Vec<Root> {
    let workspace = loaded.workspace(agent_id);
    let extra = loaded.settings.skills.load.dirs();
    let own = Root { source: Source::Workspace, dir: workspace.join("skills"), within: Some(workspace) };
    let managed = Root { source: Source::Managed, dir: managed(loaded), within: None };
    let extra = extra.map(|dir| Root { source: Source::Extra, dir, within: None });
    [own, managed].into_iter().chain(extra).collect()
}

/// Where skills are installed.
pub fn managed(loaded: &Loaded) -> PathBuf {
    loaded.state_dir.join("skills")
}

/// A skill.
#[derive(Clone, Debug)]
pub struct Skill {
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
    /// Where it was found.
    pub source: Source,
    /// Its folder.
    pub dir: PathBuf,
}

impl Skill {
    /// Its name in the configuration.
    pub fn key(&self) -> &str {
        self.manifest.needs.skill_key.as_deref().unwrap_or(&self.manifest.name)
    }

    /// Its `SKILL.md`.
    pub fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

/// What cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it was found.
    pub source: Source,
    /// Its folder, or the whole directory.
    pub dir: PathBuf,
    /// Why.
    pub reason: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The skills, by name.
    pub skills: Vec<Skill>,
    /// What cannot be used.
    pub broken: Vec<Broken>,
}

/// What was read of files that have not changed since.
#[derive(Default)]
pub struct Readings(Mutex<HashMap<PathBuf, (Stamp, Reading)>>);

type Reading = Result<Arc<Manifest>, String>;

/// What changes with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Readings {
    /// Looks through the directories; takes its time.
    pub fn scan(&self, roots: &[Root]) -> Found {
        let mut found = Found::default();
        let mut names = HashSet::new();
        for root in roots {
            if let Err(reason) = self.scan_root(root, &mut names, &mut found) {
                found.broken.push(Broken { source: root.source, dir: root.dir.clone(), reason });
            }
        }
        found.skills.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        found
    }

    fn scan_root(&self, root: &Root, names: &mut HashSet<String>, found: &mut Found) -> Result<(), String> {
        let source = root.source;
        let Some((home, folders)) = folders(root)? else { return Ok(()) };
        let more = folders.len().saturating_sub(MAX_FOLDERS);
        // A name that is taken here is a mistake, one that is taken elsewhere is meant.
        let mut here = HashSet::new();
        for dir in folders.into_iter().take(MAX_FOLDERS) {
            let mut broken = |reason| found.broken.push(Broken { source, dir: dir.clone(), reason });
            match self.manifest(&home, &dir) {
                Err(reason) => broken(reason),
                Ok(manifest) if here.contains(&manifest.name) => {
                    broken(format!("another folder beside it has a skill called {}", manifest.name));
                }
                Ok(manifest) => {
                    here.insert(manifest.name.clone());
                    if names.insert(manifest.name.clone()) {
                        found.skills.push(Skill { manifest, source, dir });
                    }
                }
            }
        }
        if more > 0 {
            return Err(format!("only {MAX_FOLDERS} skills of a directory are read: {more} are left out"));
        }
        Ok(())
    }

    fn manifest(&self, home: &Path, dir: &Path) -> Reading {
        let inside = dir.canonicalize().map_err(|e| e.to_string())?;
        if !inside.starts_with(home) {
            return Err("it is a link that leads elsewhere; put the folder itself here".into());
        }
        let path = match inside.join(FILE).canonicalize() {
            Ok(path) if path.starts_with(&inside) => path,
            Ok(_) => return Err(format!("its {FILE} is a link that leads elsewhere")),
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(format!("it has no {FILE}")),
            Err(e) => return Err(format!("{FILE}: {e}")),
        };
        let meta = fs::metadata(&path).map_err(|e| format!("{FILE}: {e}"))?;
        let stamp = Stamp::of(&meta);
        if let Some((known, reading)) = self.0.lock().get(&path)
            && *known == stamp
        {
            return reading.clone();
        }
        let reading = read(&path, &meta).map(Arc::new);
        let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > SETTLED) {
            let mut kept = self.0.lock();
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            kept.insert(path, (stamp, reading.clone()));
        }
        reading
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// The folders of a directory by name, and the directory without links; nothing if there is none.
fn folders(root: &Root) -> Result<Option<(PathBuf, Vec<PathBuf>)>, String> {
    let home = match root.dir.canonicalize() {
        Ok(home) => home,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    if let Some(within) = &root.within
        && !within.canonicalize().is_ok_and(|within| home.starts_with(within))
    {
        return Err("it is a link out of the workspace; skills are not read there".into());
    }
    let entries = fs::read_dir(&home).map_err(|e| e.to_string())?;
    let folder = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link is looked into later, where it is told what is wrong with it.
        let kind = entry.file_type().ok()?;
        (!hidden && (kind.is_dir() || kind.is_symlink())).then(|| root.dir.join(entry.file_name()))
    };
    let mut folders: Vec<PathBuf> = entries.take(MAX_ENTRIES).filter_map(folder).collect();
    folders.sort_unstable();
    Ok(Some((home, folders)))
}

/// Reads as much of a `SKILL.md` as says what the skill is.
pub fn read(path: &Path, meta: &Metadata) -> Result<Manifest, String> {
    if !meta.is_file() {
        return Err(format!("its {FILE} is no file"));
    }
    if meta.len() > MAX_FILE {
        return Err(format!("its {FILE} is larger than {MAX_FILE} bytes; move parts of it to other files"));
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(|e| format!("{FILE}: {e}"))?;
    file.take(MAX_FRONT_MATTER as u64).read_to_end(&mut head).map_err(|e| format!("{FILE}: {e}"))?;
    manifest::parse(&head)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
