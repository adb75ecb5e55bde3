//! The files of the Control UI. What is opened is found from the open directory itself, step by step, so that neither
//! `..` nor a link leads out of it. The directory is opened each time: an update of the package replaces it.

use super::place::ASSETS;
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use futures_util::{Stream, stream};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Semaphore;

/// Largest `index.html`, in bytes; OpenClaw's has 20 KB.
const MAX_INDEX: u64 = 1024 * 1024;
/// Read and sent at once, in bytes: all that an answer keeps in memory, however slowly it is taken.
const PIECE: usize = 64 * 1024;
/// The page.
const INDEX: &str = "index.html";
/// What the package brings packed beside some files of [`ASSETS`], the smaller first.
const PACKED: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// When a file was changed last, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    changed: SystemTime,
    len: u64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let changed = meta.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
        Self { changed, len: meta.len() }
    }
}

/// The directory.
pub struct Root(Dir);

/// A file, open.
pub struct Found {
    /// When it was changed last.
    pub changed: SystemTime,
    /// How long what is sent is, in bytes.
    pub len: u64,
    /// How it is packed.
    pub coding: Option<&'static str>,
    file: File,
}

impl Root {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(path, ambient_authority()).map(Self)
    }

    /// What the page is like at the moment.
    pub fn stamp(&self) -> io::Result<Stamp> {
        self.0.metadata(INDEX).map(|meta| Stamp::of(&meta))
    }

    /// The page, as it lies there.
    pub fn page(&self) -> io::Result<String> {
        let (file, meta) = self.plain(INDEX)?;
        if meta.len() > MAX_INDEX {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "a page of more than 1 MiB"));
        }
        let mut html = String::new();
        file.take(MAX_INDEX).read_to_string(&mut html)?;
        Ok(html)
    }

    /// A file, packed if it is there so and `takes` says that this is accepted.
    pub fn find(&self, path: &str, takes: impl Fn(&str) -> bool) -> Option<Found> {
        let (file, meta) = self.plain(path).ok()?;
        let Stamp { changed, len } = Stamp::of(&meta);
        let is_packed = path.starts_with(ASSETS);
        let packed =
            PACKED.iter().filter(|(coding, _)| is_packed && takes(coding)).find_map(|(coding, end)| {
                let (file, meta) = self.plain(&format!("{path}{end}")).ok()?;
                Some(Found { changed, len: meta.len(), coding: Some(coding), file })
            });
        Some(packed.unwrap_or(Found { changed, len, coding: None, file }))
    }

    /// Opens an ordinary file. Opening anything else could hang or do something.
    fn plain(&self, path: &str) -> io::Result<(File, Metadata)> {
        let is_file = |meta: &Metadata| meta.is_file().then_some(()).ok_or(ErrorKind::InvalidInput);
        is_file(&self.0.metadata(path)?)?;
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = self.0.open_with(path, OpenOptions::new().read(true).custom_flags(nonblock))?;
        let meta = file.metadata()?;
        // Something else may have been put there between the look and the opening.
        is_file(&meta)?;
        Ok((file.into_std(), meta))
    }
}

impl Found {
    /// Its bytes, each piece read by one of the `readers`.
    pub fn pieces(self, readers: Arc<Semaphore>) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
        stream::try_unfold((self.file, self.len), move |(file, left)| {
            let readers = readers.clone();
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let reader = readers.acquire_owned().await.map_err(io::Error::other)?;
                let read = tokio::task::spawn_blocking(move || {
                    let _reader = reader;
                    piece(file, left)
                });
                let (bytes, file) = read.await.map_err(io::Error::other)??;
                let left = left - bytes.len() as u64;
                Ok(Some((bytes, (file, left))))
            }
        })
    }
}

fn piece(mut file: File, left: u64) -> io::Result<(Bytes, File)> {
    let mut bytes = vec![0; usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))];
    let read = file.read(&mut bytes)?;
    // It was cut short meanwhile: so is the answer, which says how long it should be.
    if read == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(read);
    Ok((bytes.into(), file))
}
