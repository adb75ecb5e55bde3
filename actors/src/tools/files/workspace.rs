//! The directory an agent works in. What is opened is found from the open directory itself, step by step, so that
//! neither `..` nor a link leads out of it, whenever the link was made.

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, PermissionsExt};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// An agent's directory.
pub(crate) struct Workspace {
    dir: Dir,
    /// Where it is by the configuration, and where that leads.
    names: [PathBuf; 2],
}

impl Workspace {
    /// The one there, if it exists.
    pub(crate) fn open(at: &Path) -> Result<Option<Self>, String> {
        let opened = Dir::open_ambient_dir(at, ambient_authority()).and_then(|dir| {
            let real = fs::canonicalize(at)?;
            Ok(Self { dir, names: [at.to_owned(), real] })
        });
        match opened {
            Ok(workspace) => Ok(Some(workspace)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("The workspace cannot be opened: {e}")),
        }
    }

    /// The one there, made if need be.
    pub(crate) fn made(at: &Path) -> Result<Self, String> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(at);
        made.map_err(|e| format!("The workspace cannot be made: {e}"))?;
        Self::open(at)?.ok_or_else(|| "The workspace was removed a moment ago; try again.".into())
    }

    /// A path as a model writes it, from here.
    pub(crate) fn inside(&self, path: &str) -> Result<PathBuf, String> {
        let path = Path::new(path.trim());
        let relative = if path.is_absolute() {
            let inside = self.names.iter().find_map(|name| path.strip_prefix(name).ok());
            inside.ok_or_else(|| format!("{} is outside the workspace. {}", path.display(), self.hint()))?
        } else {
            path
        };
        Ok(if relative.as_os_str().is_empty() { ".".into() } else { relative.to_owned() })
    }

    fn hint(&self) -> String {
        format!("Only files of {} can be reached: give a path relative to it.", self.names[0].display())
    }

    /// Says what went wrong with a path, and what to do.
    pub(crate) fn wording(&self, path: &Path, e: &io::Error) -> String {
        let path = path.display();
        match e.kind() {
            ErrorKind::NotFound => format!("There is no {path}. `ls` and `find` show what there is."),
            ErrorKind::NotADirectory => format!("A part of {path} is a file, not a directory."),
            // What the system itself refuses has a number.
            ErrorKind::PermissionDenied if e.raw_os_error().is_none() => {
                format!("{path} leads out of the workspace. {}", self.hint())
            }
            _ => format!("{path}: {e}"),
        }
    }

    /// Where a path really is, links of the workspace followed.
    pub(crate) fn resolved(&self, path: &Path) -> Result<PathBuf, String> {
        self.dir.canonicalize(path).map_err(|e| self.wording(path, &e))
    }

    /// What is there.
    pub(crate) fn metadata(&self, path: &Path) -> Result<Metadata, String> {
        self.dir.metadata(path).map_err(|e| self.wording(path, &e))
    }

    /// Names in a directory and what they are, `most` of them, sorted; and whether that is all.
    pub(crate) fn entries(&self, path: &Path, most: usize) -> Result<(Vec<Entry>, bool), String> {
        let wording = |e: io::Error| self.wording(path, &e);
        let mut entries = Vec::new();
        for entry in self.dir.read_dir(path).map_err(wording)? {
            if entries.len() == most {
                entries.sort();
                return Ok((entries, false));
            }
            let entry = entry.map_err(wording)?;
            let kind = match entry.file_type() {
                Ok(kind) if kind.is_dir() => Kind::Dir,
                Ok(kind) if kind.is_file() => Kind::File,
                Ok(kind) if kind.is_symlink() => Kind::Link,
                _ => Kind::Other,
            };
            entries.push(Entry { name: entry.file_name().into(), kind });
        }
        entries.sort();
        Ok((entries, true))
    }

    /// Opens a file to read it. Devices and pipes are not even touched: opening one can hang or do something. A file
    /// with several names may be one from elsewhere, and is left alone like a link that leads out.
    pub(crate) fn open_file(&self, path: &Path) -> Result<(File, Metadata), String> {
        self.is_plain(path, &self.metadata(path)?)?;
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = self.dir.open_with(path, OpenOptions::new().read(true).custom_flags(nonblock));
        let opened = file.and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = opened.map_err(|e| self.wording(path, &e))?;
        // Something else may have been put there between the look and the opening.
        self.is_plain(path, &meta)?;
        Ok((file, meta))
    }

    fn is_plain(&self, path: &Path, meta: &Metadata) -> Result<(), String> {
        let path = path.display();
        if meta.is_dir() {
            return Err(format!("{path} is a directory: `ls` shows what is in it."));
        }
        if !meta.is_file() {
            return Err(format!("{path} is no ordinary file but a device, pipe or socket: it is not read."));
        }
        if meta.nlink() > 1 {
            return Err(format!(
                "{path} has several names (hard links) and may be a file from elsewhere: make a copy of it."
            ));
        }
        Ok(())
    }

    /// The content of a file of at most `most` bytes.
    pub(crate) fn content(&self, path: &Path, most: usize) -> Result<Vec<u8>, String> {
        let (file, meta) = self.open_file(path)?;
        let mut content = Vec::new();
        let read = file.take(most as u64 + 1).read_to_end(&mut content);
        read.map_err(|e| self.wording(path, &e))?;
        if content.len() > most {
            let size = meta.len().max(content.len() as u64);
            return Err(format!(
                "{} is too large: {size} bytes, of which at most {most} are read.",
                path.display()
            ));
        }
        Ok(content)
    }

    /// Puts the content there, whole or not at all, and tells whether the file is new. A link is followed, as far as it
    /// stays here; permissions are kept.
    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> Result<bool, String> {
        let (target, permissions) = match self.dir.metadata(path) {
            Ok(meta) if meta.is_file() => (self.resolved(path)?, Some(meta.permissions())),
            Ok(_) => return Err(format!("{} is a directory or no ordinary file.", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => (path.to_owned(), None),
            Err(e) => return Err(self.wording(path, &e)),
        };
        let Some(name) = target.file_name() else {
            return Err(format!("{} names no file.", path.display()));
        };
        let home = target.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let opened = self.dir.create_dir_all(home).and_then(|()| self.dir.open_dir(home));
        let home = opened.map_err(|e| self.wording(path, &e))?;
        let temporary = format!(".crabtree-{}", uuid::Uuid::new_v4().simple());
        let write = || {
            let mut file =
                home.open_with(&temporary, OpenOptions::new().write(true).create_new(true).mode(0o600))?;
            file.write_all(content)?;
            if let Some(permissions) = &permissions {
                file.set_permissions(cap_std::fs::Permissions::from_mode(permissions.mode() & 0o777))?;
            }
            file.sync_all()?;
            home.rename(&temporary, &home, name)
        };
        write().map_err(|e| {
            let _ = home.remove_file(&temporary);
            self.wording(path, &e)
        })?;
        Ok(permissions.is_none())
    }

    /// Removes a file, or a link and not what it leads to.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), String> {
        self.dir.remove_file(path).map_err(|e| self.wording(path, &e))
    }
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: PathBuf,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A directory.
    Dir,
    /// An ordinary file.
    File,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

impl Kind {
    /// What is written behind a name.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Dir => "/",
            Self::Link => "@",
            Self::File | Self::Other => "",
        }
    }
}

#[cfg(test)]
#[path = "workspace_tests.rs"]
mod tests;
