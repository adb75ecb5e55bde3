//! The files of the canvas. They are reached through [`Workspace`], which cannot be left; names that begin with a dot
//! are nobody's business. Everything here waits for the disk.

use crate::tools::files::workspace::{Kind, Workspace};
use parking_lot::Mutex;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Largest file that is served, bytes.
pub const MAX_FILE: usize = 32 << 20;
/// Largest text that an agent writes or reads, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// Files and directories there may be; more are neither listed nor watched, and none is added.
pub const MAX_FILES: usize = 2_000;
/// All files together, bytes; past it an agent adds none.
pub const MAX_TOTAL: u64 = 256 << 20;
/// Files that a list names.
const MAX_LISTED: usize = 200;
/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 16;
/// What a directory shows.
const INDEX: &str = "index.html";

/// The directory; it may not exist yet.
pub struct Folder {
    at: PathBuf,
    /// Held while something is read in order to be written.
    pub(super) writing: Mutex<()>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file: where, its content, and the print of all files if it is a page.
    File {
        /// Its path, that of the index for a directory.
        path: PathBuf,
        /// Its content.
        content: Vec<u8>,
        /// What differs when any of the files does.
        print: Option<String>,
    },
    /// A directory, named without a slash at the end.
    Directory,
    /// The directory of everything, in which there is no page yet.
    Empty {
        /// What differs when any of the files does.
        print: String,
    },
    /// A file that is too large to be served.
    TooLarge,
    /// Nothing, or nothing that is served.
    Nothing,
}

/// One of the files.
struct Entry {
    path: PathBuf,
    bytes: u64,
    /// When it was changed, ns.
    changed: u128,
}

impl Folder {
    pub(super) fn at(at: PathBuf) -> Self {
        Self { at, writing: Mutex::default() }
    }

    fn open(&self) -> Option<Workspace> {
        Workspace::open(&self.at).ok().flatten()
    }

    /// What is at a path of an address, which is decoded.
    pub(super) fn look(&self, path: &str) -> Found {
        let Ok(mut inner) = inside(path) else { return Found::Nothing };
        let is_root = inner == Path::new(".");
        let Some(folder) = self.open() else {
            return if is_root { Found::Empty { print: self.print() } } else { Found::Nothing };
        };
        let Ok(mut meta) = folder.metadata(&inner) else { return Found::Nothing };
        if meta.is_dir() {
            if !is_root && !path.ends_with('/') {
                return Found::Directory;
            }
            inner.push(INDEX);
            meta = match folder.metadata(&inner) {
                Ok(meta) => meta,
                Err(_) if is_root => return Found::Empty { print: self.print() },
                Err(_) => return Found::Nothing,
            };
        }
        if meta.len() > MAX_FILE as u64 {
            return Found::TooLarge;
        }
        // Taken before the file is read: what is changed in between is news.
        let print = is_page(&inner).then(|| self.print());
        match folder.content(&inner, MAX_FILE) {
            Ok(content) => Found::File { path: inner, content, print },
            Err(_) => Found::Nothing,
        }
    }

    /// What differs when any of the files does.
    pub(super) fn print(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for Entry { path, bytes, changed } in self.files().0 {
            hasher.update(format!("{}\0{bytes}\0{changed}\n", path.display()).as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// The files, sorted; and whether that is all.
    fn files(&self) -> (Vec<Entry>, bool) {
        let Some(folder) = self.open() else { return (Vec::new(), true) };
        let (mut files, mut left, mut whole) = (Vec::new(), MAX_FILES, true);
        let mut waiting = vec![(PathBuf::from("."), 0)];
        while let Some((directory, depth)) = waiting.pop() {
            let (entries, all) = folder.entries(&directory, left).unwrap_or_default();
            whole &= all;
            left -= entries.len();
            for entry in entries {
                let path = match directory == Path::new(".") {
                    true => entry.name,
                    false => directory.join(entry.name),
                };
                if is_hidden(&path) {
                    continue;
                }
                if entry.kind == Kind::Dir && depth < MAX_DEPTH {
                    waiting.push((path, depth + 1));
                } else if let Ok(meta) = folder.metadata(&path)
                    && meta.is_file()
                {
                    let changed = meta.modified().ok().map(|time| time.into_std());
                    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    let changed = changed.map_or(0, |since| since.as_nanos());
                    files.push(Entry { path, bytes: meta.len(), changed });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        (files, whole)
    }

    pub(super) fn write(&self, path: &str, text: &str) -> Result<String, String> {
        let _alone = self.writing.lock();
        self.put(path, text.as_bytes())
    }

    /// Puts this there, and tells where it is shown. The caller holds `writing`.
    pub(super) fn put(&self, path: &str, content: &[u8]) -> Result<String, String> {
        let inner = inside(path)?;
        if content.len() > MAX_TEXT {
            return Err(format!("At most {MAX_TEXT} bytes are written at once: make several files of it."));
        }
        let folder = Workspace::made(&self.at)?;
        let (files, whole) = self.files();
        let before = files.iter().find(|entry| entry.path == inner).map(|entry| entry.bytes);
        let total = files.iter().map(|entry| entry.bytes).sum::<u64>() - before.unwrap_or(0);
        if before.is_none() && (!whole || files.len() >= MAX_FILES) {
            return Err(format!("There are {MAX_FILES} files, as many as there may be: delete some first."));
        }
        if total + content.len() as u64 > MAX_TOTAL {
            return Err(format!("All files together may have {MAX_TOTAL} bytes: delete some first."));
        }
        folder.replace(&inner, content)?;
        Ok(format!("Written: {} bytes, shown at {}{}", content.len(), super::PAGES, inner.display()))
    }

    pub(super) fn read(&self, path: &str) -> Result<String, String> {
        let inner = inside(path)?;
        let folder = self.open().ok_or_else(nothing_yet)?;
        let content = folder.content(&inner, MAX_TEXT)?;
        String::from_utf8(content).map_err(|_| format!("{} is no text.", inner.display()))
    }

    pub(super) fn list(&self) -> Result<String, String> {
        let (files, whole) = self.files();
        if files.is_empty() {
            return Ok(nothing_yet());
        }
        let line = |entry: &Entry| format!("{} ({} bytes)", entry.path.display(), entry.bytes);
        let mut lines: Vec<_> = files.iter().take(MAX_LISTED).map(line).collect();
        if !whole || files.len() > MAX_LISTED {
            lines.push(format!("… and more than these {MAX_LISTED}"));
        }
        Ok(lines.join("\n"))
    }

    pub(super) fn remove(&self, path: &str) -> Result<String, String> {
        let inner = inside(path)?;
        let _alone = self.writing.lock();
        self.open().ok_or_else(nothing_yet)?.remove_file(&inner)?;
        Ok(format!("Deleted: {}", inner.display()))
    }
}

fn nothing_yet() -> String {
    format!("The canvas is still empty: write {INDEX} makes its first page.")
}

/// Whether a file is a page, which can hear of changes.
pub(super) fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("html") || ext.eq_ignore_ascii_case("htm"))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The path in the directory that is meant: that of an address counts from the directory, not from the root of the
/// machine. None leads out of it: `..` is a name that begins with a dot, and links are the directory's own affair.
fn inside(path: &str) -> Result<PathBuf, String> {
    let path = path.trim_start_matches('/');
    let mut inner = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) if !is_hidden(Path::new(name)) => inner.push(name),
            Component::CurDir => {}
            _ => {
                return Err(format!("{path} is no path of the canvas: none of its names begins with a dot."));
            }
        }
    }
    if inner.components().count() > MAX_DEPTH || path.contains('\0') {
        return Err(format!("{path} is no path of the canvas: at most {MAX_DEPTH} names, and no zero byte."));
    }
    Ok(if inner.as_os_str().is_empty() { ".".into() } else { inner })
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
