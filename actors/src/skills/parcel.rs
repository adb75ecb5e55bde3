//! What arrives as a folder or an archive is put into a folder of ours: ordinary files and folders only, inside it
//! only, and not too much of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Largest archive, bytes.
pub const MAX_ARCHIVE: u64 = 16 * 1024 * 1024;
/// Files and folders of one skill.
pub const MAX_ENTRIES: usize = 2_000;
/// What they hold together, bytes.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How deep folders may be nested.
const MAX_DEPTH: usize = 12;
/// What version control keeps is not part of a skill.
const REPOSITORY: &str = ".git";

/// The folder that is filled.
struct Intake<'a> {
    root: &'a Path,
    entries: usize,
    bytes: u64,
}

impl<'a> Intake<'a> {
    /// A new folder for its owner only.
    fn new(root: &'a Path) -> Result<Self, String> {
        folder(root).map_err(|e| failed(root, &e))?;
        Ok(Self { root, entries: 0, bytes: 0 })
    }

    /// Where something of this name goes, one more.
    fn place(&mut self, name: &Path) -> Result<PathBuf, String> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(format!("it holds more than {MAX_ENTRIES} files and folders"));
        }
        let mut place = self.root.to_owned();
        let mut depth = 0;
        for part in name.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) if is_plain(part.to_str()) => {
                    place.push(part);
                    depth += 1;
                }
                _ => return Err(format!("{:?} leads out of its folder, or has an odd name", name)),
            }
        }
        if depth > MAX_DEPTH {
            return Err(format!("{:?} is nested deeper than {MAX_DEPTH} folders", name));
        }
        Ok(place)
    }

    fn folder(&mut self, name: &Path) -> Result<(), String> {
        let place = self.place(name)?;
        folder(&place).map_err(|e| failed(name, &e))
    }

    /// A file; nothing is ever written over.
    fn file(&mut self, name: &Path, content: impl Read, executable: bool) -> Result<(), String> {
        let place = self.place(name)?;
        if let Some(parent) = place.parent() {
            folder(parent).map_err(|e| failed(name, &e))?;
        }
        let mode = if executable { 0o700 } else { 0o600 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&place)
            .map_err(|e| failed(name, &e))?;
        let room = MAX_BYTES - self.bytes;
        let written = io::copy(&mut content.take(room + 1), &mut file).map_err(|e| failed(name, &e))?;
        if written > room {
            return Err(format!("it holds more than {MAX_BYTES} bytes"));
        }
        self.bytes += written;
        Ok(())
    }
}

fn is_plain(name: Option<&str>) -> bool {
    name.is_some_and(|name| !name.contains(|c: char| c.is_control() || c == '\\'))
}

fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn failed(name: &Path, error: &io::Error) -> String {
    format!("{}: {error}", name.display())
}

fn link(name: &Path) -> String {
    format!("{} is a link or a special file; a skill holds ordinary files and folders only", name.display())
}

/// Copies a folder to a new one.
///
/// # Errors
/// What in it is refused, or could not be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut intake = Intake::new(to)?;
    let mut waiting = vec![PathBuf::new()];
    while let Some(name) = waiting.pop() {
        let dir = from.join(&name);
        for entry in fs::read_dir(&dir).map_err(|e| failed(&dir, &e))? {
            let entry = entry.map_err(|e| failed(&dir, &e))?;
            let name = name.join(entry.file_name());
            let kind = entry.file_type().map_err(|e| failed(&name, &e))?;
            if entry.file_name() == REPOSITORY {
                continue;
            }
            if kind.is_dir() {
                intake.folder(&name)?;
                waiting.push(name);
            } else if kind.is_file() {
                let file = File::open(entry.path()).map_err(|e| failed(&name, &e))?;
                let mode = file.metadata().map_err(|e| failed(&name, &e))?.permissions().mode();
                intake.file(&name, file, mode & 0o100 != 0)?;
            } else {
                return Err(link(&name));
            }
        }
    }
    Ok(())
}

/// Unpacks a `.zip` or a `.tar.gz` into a new folder.
///
/// # Errors
/// What in it is refused, or could not be read or written.
pub fn unpack(archive: &Path, to: &Path) -> Result<(), String> {
    let mut file = File::open(archive).map_err(|e| failed(archive, &e))?;
    let size = file.metadata().map_err(|e| failed(archive, &e))?.len();
    if size > MAX_ARCHIVE {
        return Err(format!("the archive is larger than {MAX_ARCHIVE} bytes"));
    }
    let mut content = Vec::new();
    (&mut file).take(MAX_ARCHIVE).read_to_end(&mut content).map_err(|e| failed(archive, &e))?;
    let intake = Intake::new(to)?;
    match content.as_slice() {
        [b'P', b'K', 3, 4, ..] => unzip(&content, intake),
        [0x1f, 0x8b, ..] => untar(&content, intake),
        _ => Err("it is neither a folder nor a .zip nor a .tar.gz".into()),
    }
}

fn unzip(content: &[u8], mut intake: Intake<'_>) -> Result<(), String> {
    let damaged = |e: zip::result::ZipError| format!("the .zip cannot be read: {e}");
    let mut archive = zip::ZipArchive::new(io::Cursor::new(content)).map_err(damaged)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = PathBuf::from(entry.name().map_err(damaged)?.into_owned());
        let mode = entry.unix_mode();
        if entry.is_symlink() {
            return Err(link(&name));
        } else if entry.is_dir() {
            intake.folder(&name)?;
        } else {
            intake.file(&name, &mut entry, mode.is_some_and(|mode| mode & 0o100 != 0))?;
        }
    }
    Ok(())
}

fn untar(content: &[u8], mut intake: Intake<'_>) -> Result<(), String> {
    let damaged = |e: io::Error| format!("the .tar.gz cannot be read: {e}");
    // Headers and long names count, too: what is unpacked is bounded as a whole.
    let unpacked = flate2::read::GzDecoder::new(content).take(MAX_BYTES + (MAX_ENTRIES as u64) * 4096);
    let mut archive = tar::Archive::new(unpacked);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        match entry.header().entry_type() {
            tar::EntryType::Directory => intake.folder(&name)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                intake.file(&name, &mut entry, executable)?;
            }
            // What an archive says of itself as a whole; git writes one.
            tar::EntryType::XGlobalHeader => {}
            _ => return Err(link(&name)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "parcel_tests.rs"]
mod tests;
