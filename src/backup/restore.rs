//! How a backup takes the place of a state directory: it is unpacked beside it and read whole before anything changes;
//! then the two change places in one step of the file system. Killed anywhere, the old state or the new one is there, and
//! the old one is never deleted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use chrono::Utc;
use crabtree_actors::settings::Secret;
use crabtree_actors::store::SCHEMA_VERSION;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::archive::{List, Manifest};
use super::unpack::{check_store, open};
use super::{Broken, Limits, STORE};
use crate::owner::{LOCK_FILE, Owner};

/// What is appended to the name of the state directory where its successor is unpacked,
const UNPACKED: &str = ".restoring";
/// and to that of the old one, with the time.
const BEFORE: &str = ".before-restore-";
/// Where a configuration goes that stood outside of the state directory, within it.
pub(super) const CONFIG: &str = "config.restored";

/// What is to be restored.
pub struct Wish<'a> {
    /// The backup.
    pub archive: &'a Path,
    /// Opens it.
    pub passphrase: &'a Secret,
    /// Where it goes.
    pub state_dir: &'a Path,
    /// Whether what is there is moved aside.
    pub force: bool,
    /// Whether nothing is changed: what is needed for it is looked at.
    pub dry_run: bool,
    /// How much it may hold.
    pub limits: Limits,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The head of the backup.
    pub manifest: Manifest,
    /// What was in it.
    pub list: List,
    /// Where the old state is now.
    pub aside: Option<PathBuf>,
    /// Where the configuration is now that stood outside.
    pub config: Option<PathBuf>,
}

/// Restores a backup.
///
/// # Errors
/// [`crate::owner::Owned`] if a gateway has the directory; a [`Broken`]; whatever else forbids it, in words.
pub fn restore(wish: &Wish<'_>) -> anyhow::Result<Restored> {
    let (manifest, content) = open(wish.archive)?;
    if manifest.schema_version > SCHEMA_VERSION {
        let (version, program) = (manifest.schema_version, manifest.program);
        let what = format!("its database has version {version}, and this program knows {SCHEMA_VERSION}");
        return Err(Broken::Newer { program, what }.into());
    }
    // A link to it stays one.
    let state = &fs::canonicalize(wish.state_dir).unwrap_or_else(|_| wish.state_dir.to_owned());
    let _old = state.is_dir().then(|| Owner::take(state, &[])).transpose()?;
    let is_used = occupied(state)?;
    if is_used && !wish.force {
        anyhow::bail!("{} is not empty", state.display());
    }
    let root = manifest.seal.open(wish.passphrase)?;
    let (unpacked, _new) = unpacked(state, wish.dry_run)?;
    let owner = fs::metadata(state).ok().map(|found| (found.uid(), found.gid()));
    let read = content
        .read(&root, wish.limits, &mut |path, executable| written(&unpacked, path, executable).map(Some));
    let list = read.and_then(|list| {
        check_store(&manifest, &unpacked.join(STORE))?;
        settled(&unpacked, owner).map_err(Broken::file(&unpacked))?;
        Ok(list)
    });
    let list = list.inspect_err(|_| drop(fs::remove_dir_all(&unpacked)))?;
    let config =
        list.config.as_ref().and_then(|config| Some(state.join(CONFIG).join(Path::new(config).file_name()?)));
    if wish.dry_run {
        fs::remove_dir_all(&unpacked).map_err(Broken::file(&unpacked))?;
        return Ok(Restored { manifest, list, aside: None, config });
    }
    let aside = swapped(&unpacked, state, is_used)
        .inspect_err(|_| drop(fs::remove_dir_all(&unpacked)))
        .map_err(|error| Broken::File(state.to_owned(), error))?;
    Ok(Restored { manifest, list, aside, config })
}

/// Whether there is anything in a directory but the lock that was just taken.
fn occupied(state: &Path) -> Result<bool, Broken> {
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Broken::File(state.to_owned(), error)),
    };
    Ok(entries.flatten().any(|entry| entry.file_name() != LOCK_FILE))
}

/// `path` with something appended to its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The folder that is filled, ours alone. What another restore left there that was broken off is not whole.
fn unpacked(state: &Path, dry_run: bool) -> anyhow::Result<(PathBuf, Owner)> {
    let path = match dry_run {
        true => std::env::temp_dir().join(format!("crabtree-restore-{}", uuid::Uuid::new_v4().simple())),
        false => beside(state, UNPACKED),
    };
    let made = || DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(Broken::file(&path));
    made()?;
    let owner = Owner::take(&path, &[])?;
    for entry in fs::read_dir(&path).map_err(Broken::file(&path))?.flatten() {
        let old = entry.path();
        let removed = match entry.file_type() {
            _ if entry.file_name() == LOCK_FILE => Ok(()),
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&old),
            _ => fs::remove_file(&old),
        };
        removed.map_err(Broken::file(&old))?;
    }
    Ok((path, owner))
}

/// A new file, for its owner only.
fn written(root: &Path, name: &Path, executable: bool) -> Result<File, Broken> {
    let place = match name.strip_prefix("state") {
        Ok(own) => root.join(own),
        Err(_) => root.join(CONFIG).join(name.strip_prefix("config").unwrap_or(name)),
    };
    if let Some(folder) = place.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Broken::file(folder))?;
    }
    let mode = if executable { 0o700 } else { 0o600 };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(&place).map_err(Broken::file(&place))
}

/// Every folder is on the disk, and everything is whose the state was: it may be somebody else who restores it.
fn settled(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            settled(&entry.path(), owner)?;
        } else {
            owned(&entry.path(), owner)?;
        }
    }
    owned(folder, owner)?;
    File::open(folder)?.sync_all()
}

fn owned(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    match owner {
        Some((user, group)) if (found.uid(), found.gid()) != (user, group) => {
            chown(path, Some(user), Some(group))
        }
        _ => Ok(()),
    }
}

/// The new state takes the place of the old one; where that is now.
fn swapped(new: &Path, state: &Path, keep: bool) -> io::Result<Option<PathBuf>> {
    let parent = state.parent().unwrap_or(Path::new("/"));
    let flushed = || File::open(parent).and_then(|parent| parent.sync_all());
    if !state.exists() {
        fs::rename(new, state)?;
        flushed()?;
        return Ok(None);
    }
    // What is whole has the name that the old state will have, before there is an old state: nobody ever clears that.
    let aside = beside(state, &format!("{BEFORE}{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
    fs::rename(new, &aside)?;
    match renameat_with(CWD, &aside, CWD, state, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => stepwise(&aside, state)?,
        Err(error) => {
            // A mount point, for instance.
            let _ = fs::rename(&aside, new);
            return Err(error.into());
        }
    }
    flushed()?;
    if keep {
        return Ok(Some(aside));
    }
    // Nothing was in it.
    let _ = fs::remove_dir_all(&aside);
    Ok(None)
}

/// Where the file system cannot have two directories change places: both are there at every moment, under some name.
fn stepwise(aside: &Path, state: &Path) -> io::Result<()> {
    let new = beside(state, ".restored");
    fs::rename(aside, &new)?;
    fs::rename(state, aside)?;
    fs::rename(&new, state)
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
