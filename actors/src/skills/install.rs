//! How a skill comes to be here: it is fetched into a staging folder, checked there, and moved to its place in one
//! step. What does not pass leaves nothing behind.

use super::fitness::Machine;
use super::manifest::Manifest;
use super::scan::{self, FILE, Readings, Root, Skill, Source};
use super::{Skills, git, parcel};
use crate::settings::Loaded;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

/// Where installs are prepared, on the file system they end on. Its name is never a skill's.
const STAGING: &str = ".staging";
/// What was replaced, until its successor stands.
const REPLACED: &str = "replaced";

/// Where a skill comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder, or an archive, on this machine.
    Path(PathBuf),
    /// A repository: an https URL, or an absolute path.
    Git(String),
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it may take the place of another of its name.
    pub force: bool,
    /// How long fetching may take.
    pub limit: Duration,
}

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The skill.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Why it does not work here yet, if it does not.
    pub why_not: Option<String>,
}

impl Skills {
    /// Installs a skill among the managed ones. One at a time.
    ///
    /// # Errors
    /// Why it was not, and what to do about it.
    pub async fn install(self: &Arc<Self>, loaded: Arc<Loaded>, order: Order) -> Result<Installed, String> {
        let alone = self.installing.clone().try_lock_owned();
        let alone = alone.map_err(|_| "another skill is being installed; try again when that is done")?;
        let root = scan::managed(&loaded);
        let staging = blocking(move || Staging::new(root, alone)).await?;
        let fetched = match &order.origin {
            Origin::Git(repository) => {
                let clone = staging.dir.join("clone");
                git::clone(repository, &clone, order.limit).await?;
                clone
            }
            Origin::Path(path) if path.is_absolute() => path.clone(),
            Origin::Path(path) => return Err(format!("{} is no absolute path", path.display())),
        };
        blocking(move || staging.install(&fetched, order.force, &loaded)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(e.to_string()))
}

/// The folder of an install under way; gone with it.
struct Staging {
    root: PathBuf,
    dir: PathBuf,
    _alone: OwnedMutexGuard<()>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next install removes what stays.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Staging {
    /// An empty one. What an install that was cut off had taken away is put back first.
    fn new(root: PathBuf, alone: OwnedMutexGuard<()>) -> Result<Self, String> {
        let dir = root.join(STAGING);
        let failed = |e: io::Error| format!("{}: {e}", dir.display());
        for entry in fs::read_dir(dir.join(REPLACED)).into_iter().flatten().flatten() {
            let place = root.join(entry.file_name());
            if !exists(&place) {
                fs::rename(entry.path(), place).map_err(failed)?;
            }
        }
        if exists(&dir) {
            fs::remove_dir_all(&dir).map_err(failed)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join(REPLACED)).map_err(failed)?;
        Ok(Self { root, dir, _alone: alone })
    }

    fn install(self, fetched: &Path, force: bool, loaded: &Loaded) -> Result<Installed, String> {
        let meta = fs::metadata(fetched).map_err(|e| format!("{}: {e}", fetched.display()))?;
        let unpacked = self.dir.join("unpacked");
        let source = if meta.is_dir() {
            fetched
        } else if meta.is_file() {
            parcel::unpack(fetched, &unpacked)?;
            &unpacked
        } else {
            return Err(format!("{} is neither a folder nor an archive", fetched.display()));
        };
        let new = self.dir.join("new");
        parcel::copy(&located(source)?, &new)?;
        let manifest = checked(&new)?;
        let dir = self.root.join(&manifest.name);
        self.unique(&manifest.name, &dir, force)?;
        self.place(&new, &dir, &manifest.name)?;
        let skill = Skill { manifest: Arc::new(manifest), source: Source::Managed, dir };
        let fitness = Machine::here().fitness(&skill, loaded);
        let why_not = fitness.why_not(&skill.manifest.needs.os);
        Ok(Installed { name: skill.manifest.name.clone(), dir: skill.dir, why_not })
    }

    /// Whether the name is free, or may be taken.
    fn unique(&self, name: &str, dir: &Path, force: bool) -> Result<(), String> {
        if exists(dir) && !force {
            return Err(format!("a skill called {name} is installed already; use force to replace it"));
        }
        let managed = Root { source: Source::Managed, dir: self.root.clone(), within: None };
        let other = |skill: &Skill| skill.manifest.name == name && skill.dir != dir;
        match Readings::default().scan(&[managed]).skills.into_iter().find(other) {
            Some(skill) => {
                Err(format!("{} holds a skill called {name} already; remove it first", skill.dir.display()))
            }
            None => Ok(()),
        }
    }

    fn place(&self, new: &Path, dir: &Path, name: &str) -> Result<(), String> {
        let failed = |e: io::Error| format!("{}: {e}", dir.display());
        let old = self.dir.join(REPLACED).join(name);
        let replaces = exists(dir);
        if replaces {
            fs::rename(dir, &old).map_err(failed)?;
        }
        fs::rename(new, dir).map_err(|e| {
            if replaces {
                let _ = fs::rename(&old, dir);
            }
            failed(e)
        })
    }
}

/// Whether there is anything at a path, a link among them.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The folder with the skill: the one that was fetched, or the only one in it that has a `SKILL.md`.
fn located(folder: &Path) -> Result<PathBuf, String> {
    if exists(&folder.join(FILE)) {
        return Ok(folder.to_owned());
    }
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let inner = entries.take(parcel::MAX_ENTRIES).flatten().filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && exists(&entry.path().join(FILE))
    });
    let mut inner: Vec<PathBuf> = inner.map(|entry| entry.path()).collect();
    inner.sort_unstable();
    match inner.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("there is no {FILE} in it, nor in a folder of it")),
        several => {
            let names = several.iter().filter_map(|path| path.file_name()?.to_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(format!("it holds several skills ({names}); install the folder of one"))
        }
    }
}

/// What the skill says of itself, once nothing is wrong with it.
fn checked(dir: &Path) -> Result<Manifest, String> {
    let path = dir.join(FILE);
    let meta = fs::symlink_metadata(&path).map_err(|e| format!("{FILE}: {e}"))?;
    let manifest = scan::read(&path, &meta)?;
    fs::read_to_string(&path).map_err(|e| format!("{FILE} is no text: {e}"))?;
    Ok(manifest)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
