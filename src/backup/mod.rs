//! Backups: one file with everything of a state directory that cannot be made anew.
//!
//! | module | what |
//! |---|---|
//! | `scope` | what belongs in one, and what does not |
//! | `archive` | how one is written |
//! | `unpack` | how one is read, whoever wrote it |
//! | `seal` | what keeps it closed |
//! | `restore` | how one takes the place of a state directory |
//!
//! The file is a tar of two: `manifest.json`, which anybody may read (versions, when, how the key is derived), and
//! `content.tar.gz.sealed`, which opens with the passphrase alone. In that are the files, and last of all `list.json`
//! with the size and the hash (BLAKE3) of each. All of it is sealed, and not just what is known to be secret: secrets are
//! said in conversations, and stand in the workspaces of agents.

mod archive;
mod restore;
mod scope;
mod seal;
mod unpack;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use archive::{Item, LeftOut, List, Manifest};
pub use restore::{Restored, Wish, restore};
pub use scope::{Scope, Source};
pub use seal::{Cost, Seal};
pub use unpack::{Limits, verify};

use crabtree_actors::settings::Secret;
use crabtree_actors::store::{Offline, StoreError};

/// The database, in a state directory.
pub const STORE: &str = "store.sqlite";
/// A backup that is being made, in its folder. One that was broken off is written over by the next.
const PART: &str = ".crabtree-backup.part";

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It opens with another passphrase.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// It is not as it was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// It is whole, and has something in it that does not go into a state directory.
    #[error("the backup is refused: {0}")]
    Refused(String),
    /// It is of a newer program.
    #[error("the backup is of a newer crabtree ({program}): {what}")]
    Newer {
        /// Its version.
        program: String,
        /// What this one does not know.
        what: String,
    },
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

impl Broken {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File(path, error)
    }
}

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its head.
    pub manifest: Manifest,
    /// What is in it.
    pub list: List,
}

/// Makes a backup of `scope` at `path`, which must not exist. The database is this copy of it, which is read whole first.
///
/// # Errors
/// A file cannot be read or written; the copy is damaged.
pub fn create(
    scope: &Scope,
    store: Option<&Path>,
    path: &Path,
    passphrase: &Secret,
    cost: Cost,
) -> Result<Made, Broken> {
    let schema = store.map(sound).transpose()?.unwrap_or(0);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (part, mut file) = part(folder)?;
    let (seal, root) = Seal::new(passphrase, cost)?;
    let manifest = Manifest::new(schema, seal);
    let packed = archive::pack(&mut file, &manifest, &root, scope, store).and_then(|list| {
        file.sync_all().map_err(Broken::file(&part))?;
        // Nothing is written over, not even what has come there meanwhile.
        if path.exists() {
            return Err(Broken::File(path.to_owned(), ErrorKind::AlreadyExists.into()));
        }
        fs::rename(&part, path).map_err(Broken::file(path))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Broken::file(folder))?;
        Ok(list)
    });
    let list = packed.inspect_err(|_| drop(fs::remove_file(&part)))?;
    let bytes = file.metadata().map_err(Broken::file(path))?.len();
    Ok(Made { path: path.to_owned(), bytes, manifest, list })
}

/// The file that is written, ours alone.
fn part(folder: &Path) -> Result<(PathBuf, File), Broken> {
    let path = folder.join(PART);
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(Broken::file(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let why = io::Error::new(ErrorKind::ResourceBusy, "another backup is being made there");
            return Err(Broken::File(path, why));
        }
        Err(TryLockError::Error(error)) => return Err(Broken::File(path, error)),
    }
    file.set_len(0).map_err(Broken::file(&path))?;
    Ok((path, file))
}

/// The version of the tables of a database that is whole.
fn sound(path: &Path) -> Result<u32, Broken> {
    let read = Offline::open(path).and_then(|copy| {
        copy.check_all()?;
        copy.version()
    });
    read.map_err(|error| match error {
        StoreError::Damaged => Broken::Damaged("its database is not whole".into()),
        error => Broken::File(path.to_owned(), io::Error::other(error.to_string())),
    })
}
