//! How a backup is read, whoever wrote it: nothing is taken for what it says of itself, and nothing of it goes anywhere
//! but where files of a state directory go.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, FileTimes};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use blake3::Hasher;
use crabtree_actors::settings::Secret;
use flate2::bufread::GzDecoder;
use serde_json::Value;
use tar::{Archive, EntryType, Header};

use super::archive::{CONTENT, FORMAT, Hashing, Item, LIST, List, MANIFEST, Manifest, header};
use super::scope::{MAX_DEPTH, not_taken};
use super::seal::{Opening, Root};
use super::{Broken, STORE, sound};

/// The largest head, bytes.
const MAX_HEAD: u64 = 64 * 1024;
/// The largest list, bytes.
const MAX_LIST: u64 = 128 << 20;
/// The longest name.
const MAX_PATH: usize = 4096;
/// A block of a tar.
const BLOCK: usize = 512;
/// What may stand after the last file, bytes: its padding.
const MAX_REST: u64 = 64 * 1024;

/// How much a backup may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files.
    pub files: usize,
    /// What they have together.
    pub bytes: u64,
}

impl Limits {
    /// Room for any household.
    pub const USUAL: Self = Self { files: 500_000, bytes: 1 << 40 };
}

/// Where a file of the content goes; nowhere, if it is only read.
pub(super) type Place<'a> = dyn FnMut(&Path, bool) -> Result<Option<File>, Broken> + 'a;

/// The content of a backup that may be opened.
pub(super) struct Content {
    file: BufReader<File>,
    size: u64,
    head: Vec<u8>,
}

fn damaged(why: impl std::fmt::Display) -> Broken {
    Broken::Damaged(why.to_string())
}

/// The head of a backup, and what comes after it.
pub(super) fn open(path: &Path) -> Result<(Manifest, Content), Broken> {
    let file = File::open(path).map_err(Broken::file(path))?;
    if !file.metadata().map_err(Broken::file(path))?.is_file() {
        return Err(Broken::File(path.to_owned(), io::Error::other("it is no file")));
    }
    let mut file = BufReader::new(file);
    let size = member(&mut file, MANIFEST)?;
    if size > MAX_HEAD {
        return Err(damaged("its head is too large"));
    }
    let mut head = vec![0; size as usize];
    file.read_exact(&mut head).map_err(damaged)?;
    padding(&mut file, size)?;
    let unread = |_| damaged("its head cannot be read");
    let value: Value = serde_json::from_slice(&head).map_err(unread)?;
    let (form, program) = (value["format"].as_u64(), value["program"].as_str().unwrap_or("unknown"));
    if form.is_some_and(|form| form > u64::from(FORMAT)) {
        let what = "it has another form, which only a newer program reads".into();
        return Err(Broken::Newer { program: program.to_owned(), what });
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(unread)?;
    let size = member(&mut file, CONTENT)?;
    Ok((manifest, Content { file, size, head }))
}

/// The next file of the archive: its size. Its header has to be just as it is written here.
fn member(file: &mut impl Read, name: &str) -> Result<u64, Broken> {
    let odd = || damaged(format!("{name} is not where it should be"));
    let mut block = [0; BLOCK];
    file.read_exact(&mut block).map_err(|_| odd())?;
    let found = Header::from_byte_slice(&block);
    let (size, at) = (found.size().map_err(|_| odd())?, found.mtime().map_err(|_| odd())?);
    let mut expected = header(size, false, at);
    expected.set_path(name).map_err(|_| odd())?;
    expected.set_cksum();
    if expected.as_bytes() == &block { Ok(size) } else { Err(odd()) }
}

/// What fills the last block of a file up.
fn padding(file: &mut impl Read, size: u64) -> Result<(), Broken> {
    let mut rest = vec![0; (BLOCK - (size % BLOCK as u64) as usize) % BLOCK];
    file.read_exact(&mut rest).map_err(damaged)?;
    if rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(damaged("it was changed")) }
}

impl Content {
    /// Reads all of it: each file goes where `place` says.
    pub fn read(mut self, root: &Root, limits: Limits, place: &mut Place<'_>) -> Result<List, Broken> {
        let opening = Opening::new(&mut self.file, self.size, root, &self.head);
        let list = files(opening, limits, place)?;
        padding(&mut self.file, self.size)?;
        let mut end = Vec::new();
        self.file.take(MAX_REST).read_to_end(&mut end).map_err(damaged)?;
        // As every tar ends.
        if end == [0; 2 * BLOCK] { Ok(list) } else { Err(damaged("it does not end where it should")) }
    }
}

/// The files within the content.
pub(super) fn files(content: impl Read, limits: Limits, place: &mut Place<'_>) -> Result<List, Broken> {
    let mut archive = Archive::new(GzDecoder::new(BufReader::new(content)));
    let mut intake = Intake { limits, bytes: 0, names: HashSet::new(), seen: Vec::new() };
    let (mut long, mut list) = (None::<String>, None::<List>);
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        if list.is_some() {
            return Err(damaged("there is something after its list"));
        }
        let (size, header) = (entry.size(), entry.header().clone());
        match header.entry_type() {
            EntryType::GNULongName if size <= MAX_PATH as u64 + 1 && long.is_none() => {
                let mut name = String::new();
                entry.read_to_string(&mut name).map_err(damaged)?;
                long = Some(name.trim_end_matches('\0').to_owned());
                continue;
            }
            EntryType::Regular => {}
            kind => {
                return Err(Broken::Refused(format!(
                    "{:?} is not an ordinary file ({kind:?})",
                    header.path()
                )));
            }
        }
        let name = match long.take() {
            Some(name) => name,
            None => {
                header.path().map_err(damaged)?.to_str().ok_or_else(|| damaged("an odd name"))?.to_owned()
            }
        };
        if name == LIST {
            let mut text = Vec::new();
            entry.take(MAX_LIST).read_to_end(&mut text).map_err(damaged)?;
            list = Some(serde_json::from_slice(&text).map_err(|_| damaged("its list cannot be read"))?);
            continue;
        }
        intake.file(&name, size, &header, entry, place)?;
    }
    let mut rest = archive.into_inner();
    let read = io::copy(&mut (&mut rest).take(MAX_REST), &mut io::sink()).map_err(damaged)?;
    // To its last piece, or it may have been cut off.
    let after = rest.into_inner().read(&mut [0]).map_err(damaged)?;
    let list = list.ok_or_else(|| damaged("it has no list"))?;
    if read == MAX_REST || after > 0 {
        return Err(damaged("there is something after its files"));
    }
    if list.files == intake.seen { Ok(list) } else { Err(damaged("its list names other files")) }
}

/// What has come so far.
struct Intake {
    limits: Limits,
    bytes: u64,
    names: HashSet<String>,
    seen: Vec<Item>,
}

impl Intake {
    fn file(
        &mut self,
        name: &str,
        size: u64,
        header: &Header,
        content: impl Read,
        place: &mut Place<'_>,
    ) -> Result<(), Broken> {
        let Limits { files, bytes } = self.limits;
        self.bytes = self.bytes.saturating_add(size);
        if self.seen.len() >= files || self.bytes > bytes {
            return Err(Broken::Refused(format!("it holds more than {files} files or {bytes} bytes")));
        }
        let path = inside(name)?;
        if !self.names.insert(name.to_owned()) {
            return Err(Broken::Refused(format!("{name:?} is there twice")));
        }
        let executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
        let mut to = place(&path, executable)?;
        let mut content = Hashing { from: content, hasher: Hasher::new(), read: 0 };
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = content.read(&mut piece).map_err(damaged)?;
            if read == 0 {
                break;
            }
            if let Some(to) = &mut to {
                to.write_all(&piece[..read]).map_err(Broken::file(&path))?;
            }
        }
        if let Some(to) = to {
            let at = UNIX_EPOCH.checked_add(Duration::from_secs(header.mtime().unwrap_or_default()));
            if let Some(at) = at {
                // A time that this file system does not have is of no use here.
                let _ = to.set_times(FileTimes::new().set_modified(at));
            }
            to.sync_all().map_err(Broken::file(&path))?;
        }
        let blake3 = content.hasher.finalize().to_hex().to_string();
        self.seen.push(Item { path: name.to_owned(), size: content.read, blake3 });
        Ok(())
    }
}

/// A name, if it is one of a file that a backup has: below `state` or `config`, and nothing else than a name.
fn inside(name: &str) -> Result<PathBuf, Broken> {
    let refused = || Broken::Refused(format!("{name:?} is no name of a file in a backup"));
    let path = Path::new(name);
    let mut parts = Vec::new();
    for part in path.components() {
        let Component::Normal(part) = part else { return Err(refused()) };
        parts.push(part.to_str().filter(|part| !part.contains(char::is_control)).ok_or_else(refused)?);
    }
    let is_whole = parts.join("/") == name && name.len() <= MAX_PATH;
    let is_known = match parts.as_slice() {
        ["state", STORE] => true,
        ["state", first, ..] => not_taken(first).is_none(),
        ["config", _, ..] => true,
        _ => false,
    };
    if is_whole && is_known && parts.len() <= MAX_DEPTH + 2 { Ok(path.to_owned()) } else { Err(refused()) }
}

/// Reads a backup whole. Its database is written to a folder below `scratch` for that time, and read, too.
///
/// # Errors
/// What is wrong with it.
pub fn verify(
    path: &Path,
    passphrase: &Secret,
    limits: Limits,
    scratch: &Path,
) -> Result<(Manifest, List), Broken> {
    let (manifest, content) = open(path)?;
    let root = manifest.seal.open(passphrase)?;
    let scratch = Scratch::new(scratch)?;
    let store = scratch.0.join(STORE);
    let mut place = |path: &Path, _: bool| match path == Path::new("state").join(STORE) {
        true => File::create_new(&store).map(Some).map_err(Broken::file(&store)),
        false => Ok(None),
    };
    let list = content.read(&root, limits, &mut place)?;
    check_store(&manifest, &store)?;
    Ok((manifest, list))
}

/// The database is whole, and of the version that the head says.
pub(super) fn check_store(manifest: &Manifest, store: &Path) -> Result<(), Broken> {
    let version = if store.exists() { sound(store)? } else { 0 };
    match version == manifest.schema_version {
        true => Ok(()),
        false => Err(damaged("its database is not the one that its head speaks of")),
    }
}

/// A folder for its owner only, gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(within: &Path) -> Result<Self, Broken> {
        let path = within.join(format!("crabtree-verify-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path).map_err(Broken::file(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is in the folder for what is temporary.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
pub(super) mod tests;
