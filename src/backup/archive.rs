//! How a backup is written: from the first byte to the last, in one go.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use blake3::Hasher;
use chrono::{SecondsFormat, Utc};
use flate2::{Compression, write::GzEncoder};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tar::{Builder, Header};

use super::seal::{Root, Seal, Sealing};
use super::{Broken, Limits, STORE, Scope, Source};

/// The form of what is written here.
pub(super) const FORMAT: u32 = 1;
/// The two files of the archive,
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CONTENT: &str = "content.tar.gz.sealed";
/// and the last one of the content.
pub(super) const LIST: &str = "list.json";
/// What is in memory of one file at a time, bytes: up to this it is read at once, so that it is of one moment.
const AT_ONCE: u64 = 16 << 20;

/// The head of a backup, which is not sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The form of the archive.
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// The version of the database's tables; 0 if there was no database.
    pub schema_version: u32,
    /// When, as RFC 3339 has it.
    pub made_at: String,
    /// How the key comes of the passphrase.
    pub seal: Seal,
}

impl Manifest {
    /// Of a backup that is made now.
    pub(super) fn new(schema_version: u32, seal: Seal) -> Self {
        let made_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        Self { format: FORMAT, program: env!("CARGO_PKG_VERSION").into(), schema_version, made_at, seal }
    }
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Item {
    /// Its name: `state/` and where it is in the state directory, or `config/` and its name.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The hash of its content.
    pub blake3: String,
}

/// What is not in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeftOut {
    /// Where it is.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What is in a backup, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct List {
    /// The files, in their order.
    pub files: Vec<Item>,
    /// What of the installation is not among them.
    pub left_out: Vec<LeftOut>,
    /// Where the configuration stood, if not in the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// Writes everything, and says what that was.
pub(super) fn pack(
    into: &mut File,
    manifest: &Manifest,
    root: &Root,
    scope: &Scope,
    store: Option<&Path>,
) -> Result<List, Broken> {
    let unwritten = Broken::file(Path::new("the backup"));
    let head = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    let found = scope.sources();
    if found.files.len() >= Limits::USUAL.files {
        let why = format!("there are more than {} files; leave workspaces or media out", Limits::USUAL.files);
        return Err(unwritten(io::Error::other(why)));
    }
    let mut list = List { left_out: found.left_out, config: found.config, ..List::default() };
    let mut pack = || -> Result<(), Fault> {
        let mut outer = Builder::new(&mut *into);
        outer.append_data(&mut header(head.len() as u64, false, now()), MANIFEST, head.as_slice())?;
        let mut content = Header::new_gnu();
        content.set_mode(0o600);
        content.set_mtime(now());
        let sealing = Sealing::new(outer.append_writer(&mut content, CONTENT)?, root, &head);
        let mut inner = Builder::new(GzEncoder::new(sealing, Compression::fast()));
        if let Some(store) = store {
            let copy = Source { from: store.to_owned(), path: format!("state/{STORE}") };
            list.files.extend(add(&mut inner, &copy)?);
        }
        for source in &found.files {
            list.files.extend(add(&mut inner, source)?);
        }
        let text = serde_json::to_vec(&list).expect("a list is plain data");
        inner.append_data(&mut header(text.len() as u64, false, now()), LIST, text.as_slice())?;
        inner.into_inner()?.finish()?.finish()?.finish()?;
        outer.into_inner().map(drop)?;
        Ok(())
    };
    match pack() {
        Ok(()) => Ok(list),
        Err(Fault::Ours(error)) => Err(unwritten(error)),
        Err(Fault::Theirs(broken)) => Err(broken),
    }
}

/// What fails while one is written: the archive, or a file that goes into it.
enum Fault {
    Ours(io::Error),
    Theirs(Broken),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Ours(error)
    }
}

/// Adds a file; one that has gone meanwhile is none.
fn add<W: Write>(into: &mut Builder<W>, source: &Source) -> Result<Option<Item>, Fault> {
    let theirs = |error| Fault::Theirs(Broken::File(source.from.clone(), error));
    let mut file = match open(&source.from) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(theirs(error)),
    };
    let found = file.metadata().map_err(theirs)?;
    let changed = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let (executable, at) = (found.permissions().mode() & 0o100 != 0, changed.map_or(0, |at| at.as_secs()));
    let (size, content): (u64, Box<dyn Read>) = if found.len() <= AT_ONCE {
        let mut whole = Vec::with_capacity(found.len() as usize);
        (&mut file).take(2 * AT_ONCE).read_to_end(&mut whole).map_err(theirs)?;
        (whole.len() as u64, Box::new(Cursor::new(whole)))
    } else {
        (found.len(), Box::new(file))
    };
    let mut content = Hashing { from: content.take(size), hasher: Hasher::new(), read: 0 };
    into.append_data(&mut header(size, executable, at), &source.path, &mut content)?;
    if content.read != size {
        let why = io::Error::new(ErrorKind::UnexpectedEof, "it was cut off while it was read; try again");
        return Err(theirs(why));
    }
    Ok(Some(Item { path: source.path.clone(), size, blake3: content.hasher.finalize().to_hex().to_string() }))
}

/// No link is followed, and nobody waits for the other end of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

pub(super) fn header(size: u64, executable: bool, at: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(if executable { 0o700 } else { 0o600 });
    header.set_mtime(at);
    header
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads, and knows what was read.
pub(super) struct Hashing<R> {
    pub from: R,
    pub hasher: Hasher,
    pub read: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.hasher.update(&into[..read]);
        self.read += read as u64;
        Ok(read)
    }
}
