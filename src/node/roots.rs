//! The directories whose files a node gives. What is opened is found from the open directory itself, step by step, so
//! that neither `..` nor a link leads out of it, whenever the link was made. Names come and go as absolute paths.

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The directories, each by the name it was given and by the one that leads to.
#[derive(Debug)]
pub(super) struct Roots(Vec<[PathBuf; 2]>);

/// Why something about a file was not done, as the stock host says it.
#[derive(Debug, PartialEq)]
pub(super) struct Trouble {
    pub code: &'static str,
    pub message: String,
}

impl Trouble {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What is answered: the call itself went well.
    pub fn payload(self) -> Value {
        json!({ "ok": false, "code": self.code, "message": self.message })
    }
}

/// A place in one of the directories.
#[derive(Debug)]
pub(super) struct Place {
    /// The open directory.
    pub dir: Dir,
    /// Where that is.
    root: PathBuf,
    /// The place, from there.
    pub inner: PathBuf,
}

impl Roots {
    /// Those that are there.
    ///
    /// # Errors
    /// One is no directory, or cannot be read.
    pub fn open(dirs: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let open = |dir: &PathBuf| {
            let opened = || {
                let given = std::path::absolute(dir)?;
                Dir::open_ambient_dir(&given, ambient_authority())?;
                let real = given.canonicalize()?;
                Ok([given, real])
            };
            opened().map_err(|why| (dir.clone(), why))
        };
        dirs.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of them.
    pub fn first(&self) -> Option<&Path> {
        self.0.first().map(|[_, real]| real.as_path())
    }

    /// A path as it is asked for.
    ///
    /// # Errors
    /// It is no absolute path into one of the directories.
    pub fn place(&self, path: Option<&Value>) -> Result<Place, Trouble> {
        let invalid = |why| Trouble::new("INVALID_PATH", why);
        let path = path.and_then(Value::as_str).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| invalid("path required"))?;
        if path.contains('\0') {
            return Err(invalid("path contains NUL byte"));
        }
        let path = Path::new(path);
        if !path.is_absolute() {
            return Err(invalid("path must be absolute"));
        }
        let inner = |names: &[PathBuf; 2]| {
            let inner = names.iter().find_map(|name| path.strip_prefix(name).ok())?;
            Some((names[1].clone(), inner.to_owned()))
        };
        // Of directories in each other the innermost is meant.
        let found = self.0.iter().filter_map(inner).min_by_key(|(_, inner)| inner.components().count());
        let (root, inner) = found.ok_or_else(|| outside(path))?;
        let dir = Dir::open_ambient_dir(&root, ambient_authority());
        let dir = dir.map_err(|why| Trouble::new("READ_ERROR", format!("{}: {why}", root.display())))?;
        let inner = if inner.as_os_str().is_empty() { ".".into() } else { inner };
        Ok(Place { dir, root, inner })
    }
}

fn outside(path: &Path) -> Trouble {
    let path = path.display();
    Trouble::new("PERMISSION_DENIED", format!("{path} is not in a directory that this node gives (--root)"))
}

impl Place {
    /// Another place in the same directory.
    pub fn at(self, inner: PathBuf) -> Self {
        Self { inner, ..self }
    }

    /// The whole path.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.inner).components().collect()
    }

    /// What is above it, unless that is outside.
    pub fn parent(&self) -> Option<PathBuf> {
        let above = self.inner.parent().filter(|_| self.inner != Path::new("."))?;
        Some(self.root.join(above).components().collect())
    }

    /// The same with links followed, as far as they stay inside.
    ///
    /// # Errors
    /// It is not there, a link leads out, or there is a link and none is to be followed.
    pub fn real(self, follow: bool) -> Result<Self, Trouble> {
        let real = self.dir.canonicalize(&self.inner).map_err(|why| self.wording(&why))?;
        let real = if real.as_os_str().is_empty() { ".".into() } else { real };
        let straight = || self.inner.components().eq(real.components());
        if !follow && !straight() {
            let words = "path traverses a symlink; refusing because followSymlinks=false";
            return Err(Trouble::new("SYMLINK_REDIRECT", words));
        }
        Ok(Self { inner: real, ..self })
    }

    /// What is there.
    pub fn metadata(&self) -> Result<Metadata, Trouble> {
        self.dir.metadata(&self.inner).map_err(|why| self.wording(&why))
    }

    /// Opens a file to read it. Devices and pipes are not even touched: opening one can hang or do something. A file
    /// with several names may be one from elsewhere, and is left alone like a link that leads out.
    pub fn file(&self) -> Result<(File, Metadata), Trouble> {
        ordinary(&self.metadata()?)?;
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = self.dir.open_with(&self.inner, OpenOptions::new().read(true).custom_flags(nonblock));
        let opened = file.and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = opened.map_err(|why| self.wording(&why))?;
        // Something else may have been put there between the look and the opening.
        ordinary(&meta)?;
        Ok((file, meta))
    }

    /// Says what went wrong.
    pub fn wording(&self, why: &io::Error) -> Trouble {
        let path = self.path();
        match why.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Trouble::new("NOT_FOUND", "path not found"),
            // What the system itself refuses has a number.
            ErrorKind::PermissionDenied if why.raw_os_error().is_none() => outside(&path),
            ErrorKind::PermissionDenied => {
                Trouble::new("PERMISSION_DENIED", format!("{}: {why}", path.display()))
            }
            _ => Trouble::new("READ_ERROR", format!("{}: {why}", path.display())),
        }
    }
}

/// Whether it is a file of its own, and nothing else.
pub(super) fn ordinary(meta: &Metadata) -> Result<(), Trouble> {
    match () {
        () if meta.is_dir() => Err(Trouble::new("IS_DIRECTORY", "path is a directory")),
        () if !meta.is_file() => {
            let words = "only regular files and directories are supported";
            Err(Trouble::new("UNSUPPORTED_FILE_TYPE", words))
        }
        () if meta.nlink() > 1 => {
            let words = "the file has several names (hard links) and may be one from elsewhere";
            Err(Trouble::new("HARDLINK_TARGET_DENIED", words))
        }
        () => Ok(()),
    }
}
