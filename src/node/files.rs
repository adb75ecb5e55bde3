//! Files inside the directories that are given: what is there, their content, and new content. Names and codes are
//! those of the stock host.

use super::roots::{Place, Roots, Trouble, ordinary};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, Permissions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use uuid::Uuid;

/// The largest content that is read or written, and what is read if nothing else is said, bytes.
const MAX_BYTES: u64 = 16 << 20;
const DEFAULT_BYTES: u64 = 8 << 20;
/// Entries of a directory that are looked at; the rest is left out, and that is said.
const MAX_ENTRIES: usize = 50_000;
/// Entries in one page, at most and if nothing else is said.
const MAX_PAGE: u64 = 5_000;
const DEFAULT_PAGE: u64 = 200;

fn follows(params: &Value) -> bool {
    params["followSymlinks"] == true
}

/// The place to be read. A caller that has looked before may say what it expects to find.
fn readable(roots: &Roots, params: &Value) -> Result<Place, Trouble> {
    let place = roots.place(params.get("path"))?.real(follows(params))?;
    expect_path(params, &place)?;
    Ok(place)
}

fn expect_path(params: &Value, place: &Place) -> Result<(), Trouble> {
    let expected = params["expectedCanonicalPath"].as_str();
    if expected.is_some_and(|expected| Path::new(expected) != place.path()) {
        return Err(changed("canonical path differs from the authorized target"));
    }
    Ok(())
}

fn changed(words: &str) -> Trouble {
    Trouble::new("CANONICAL_PATH_CHANGED", words)
}

/// What tells a file from all others.
fn binding(meta: &Metadata) -> Value {
    json!({ "kind": "existing", "device": meta.dev().to_string(), "inode": meta.ino().to_string() })
}

fn expect_binding(params: &Value, meta: &Metadata) -> Result<(), Trouble> {
    let expected = &params["expectedBinding"];
    if !expected.is_null() && *expected != binding(meta) {
        return Err(changed("filesystem identity differs from the authorized target"));
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn mtime_ms(meta: &Metadata) -> f64 {
    let at = meta.modified().map(cap_std::time::SystemTime::into_std).unwrap_or(UNIX_EPOCH);
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
}

/// `file.stat`.
pub(super) fn stat(roots: &Roots, params: &Value) -> Result<Value, Trouble> {
    let place = readable(roots, params)?;
    let meta = place.metadata()?;
    if !meta.is_dir() {
        ordinary(&meta)?;
    }
    expect_binding(params, &meta)?;
    Ok(json!({
        "ok": true,
        "path": text(&place.path()),
        "type": if meta.is_dir() { "directory" } else { "file" },
        "size": meta.len(),
        "mtimeMs": mtime_ms(&meta),
        "binding": binding(&meta),
    }))
}

/// `file.fetch`.
pub(super) fn fetch(roots: &Roots, params: &Value) -> Result<Value, Trouble> {
    let place = readable(roots, params)?;
    let (file, meta) = place.file()?;
    expect_binding(params, &meta)?;
    let most = params["maxBytes"]
        .as_u64()
        .filter(|most| *most > 0)
        .map_or(DEFAULT_BYTES, |most| most.min(MAX_BYTES));
    let too_large =
        |size: u64| Trouble::new("FILE_TOO_LARGE", format!("file size {size} exceeds limit {most}"));
    if meta.len() > most {
        return Err(too_large(meta.len()));
    }
    let found = |mime: &str, base64: String, sha256: String| {
        json!({
            "ok": true, "path": text(&place.path()), "size": meta.len(), "mimeType": mime, "base64": base64,
            "sha256": sha256, "binding": binding(&meta),
        })
    };
    if params["preflightOnly"] == true {
        let mut found = found("", String::new(), String::new());
        found["preflightOnly"] = true.into();
        return Ok(found);
    }
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content).map_err(|why| place.wording(&why))?;
    if content.len() as u64 > most {
        return Err(too_large(content.len() as u64));
    }
    let mut found = found(mime(&content), STANDARD.encode(&content), sha256(&content));
    found["size"] = content.len().into();
    Ok(found)
}

fn sha256(content: &[u8]) -> String {
    super::policy::hex(&Sha256::digest(content))
}

/// The kinds that are told from their beginning; other content is text or just bytes.
fn mime(content: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 6] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
    ];
    let known = KNOWN.iter().find(|(beginning, _)| content.starts_with(beginning)).map(|(_, mime)| *mime);
    let is_text = || std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0'));
    known.unwrap_or_else(|| if is_text() { "text/plain" } else { "application/octet-stream" })
}

/// The names in a directory, sorted, and whether there are more than are looked at.
fn names(place: &Place) -> Result<(Vec<OsString>, bool), Trouble> {
    let entries = place.dir.read_dir(&place.inner).map_err(|why| match why.kind() {
        ErrorKind::NotADirectory => Trouble::new("IS_FILE", "path is not a directory"),
        _ => place.wording(&why),
    })?;
    let mut names = Vec::new();
    for entry in entries {
        if names.len() == MAX_ENTRIES {
            names.sort();
            return Ok((names, true));
        }
        names.push(entry.map_err(|why| place.wording(&why))?.file_name());
    }
    names.sort();
    Ok((names, false))
}

/// `dir.list`.
pub(super) fn list(roots: &Roots, params: &Value) -> Result<Value, Trouble> {
    let place = readable(roots, params)?;
    let meta = place.metadata()?;
    expect_binding(params, &meta)?;
    let most = params["maxEntries"]
        .as_u64()
        .filter(|most| *most > 0)
        .map_or(DEFAULT_PAGE, |most| most.min(MAX_PAGE));
    let offset: u64 = params["pageToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let (names, more) = names(&place)?;
    let (skip, page) =
        (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(most).unwrap_or(usize::MAX));
    let entry = |name: &OsString| {
        let inner = place.inner.join(name);
        // What has gone since is left out. Of a link it is told that it is one: not what it leads to.
        let meta = place.dir.symlink_metadata(&inner).ok()?;
        let is_dir = meta.is_dir();
        Some(json!({
            "name": name.to_string_lossy(),
            "path": text(&place.path().join(name)),
            "size": if is_dir { 0 } else { meta.len() },
            "mimeType": if is_dir { "inode/directory" } else { "application/octet-stream" },
            "isDir": is_dir,
            "mtime": mtime_ms(&meta),
        }))
    };
    let entries: Vec<Value> = names.iter().skip(skip).take(page).filter_map(entry).collect();
    let truncated = skip.saturating_add(page) < names.len();
    let mut listed = json!({
        "ok": true, "path": text(&place.path()), "entries": entries, "truncated": truncated || more,
        "binding": binding(&meta),
    });
    if truncated {
        listed["nextPageToken"] = (offset + most).to_string().into();
    }
    Ok(listed)
}

/// `fs.listDir`: the directories in a directory, those whose names begin with a dot last.
pub(super) fn list_dirs(roots: &Roots, params: &Value) -> Result<Value, Trouble> {
    let home = roots.first().map(text).unwrap_or_default();
    let asked = params.get("path").filter(|path| !path.is_null() && **path != "");
    let place = roots.place(Some(asked.unwrap_or(&json!(home))))?;
    let (names, _) = names(&place)?;
    let is_dir =
        |name: &&OsString| place.dir.metadata(place.inner.join(name)).is_ok_and(|meta| meta.is_dir());
    let is_hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".");
    let mut names: Vec<&OsString> = names.iter().filter(is_dir).take(MAX_PAGE as usize).collect();
    names.sort_by_key(|name| is_hidden(name));
    let entry = |name: &OsString| {
        let mut entry = json!({ "name": name.to_string_lossy(), "path": text(&place.path().join(name)) });
        if is_hidden(name) {
            entry["hidden"] = true.into();
        }
        entry
    };
    let entries: Vec<Value> = names.into_iter().map(entry).collect();
    let mut listed = json!({ "path": text(&place.path()) });
    if let Some(parent) = place.parent() {
        listed["parent"] = text(&parent).into();
    }
    listed["home"] = home.into();
    listed["entries"] = entries.into();
    Ok(listed)
}

/// `file.write`.
pub(super) fn write(roots: &Roots, params: &Value) -> Result<Value, Trouble> {
    let content = content(params)?;
    if !params["expectedBinding"].is_null() || params["preflightOnly"] == true {
        let words = "this node checks and writes in one step; leave expectedBinding and preflightOnly out";
        return Err(Trouble::new("INVALID_PARAMS", words));
    }
    let target = Target::of(roots, params)?;
    let overwritten = target.look(params)?;
    let sha256 = sha256(&content);
    if params["expectedSha256"].as_str().is_some_and(|expected| !expected.eq_ignore_ascii_case(&sha256)) {
        return Err(Trouble::new("INTEGRITY_FAILURE", format!("sha256 mismatch: got {sha256}")));
    }
    let replaced = overwritten.is_some();
    let meta = target.put(&content, overwritten).map_err(|why| target.wording(&why))?;
    Ok(json!({
        "ok": true,
        "path": text(&target.path),
        "size": content.len(),
        "sha256": sha256,
        "overwritten": replaced,
        "binding": binding(&meta),
    }))
}

fn content(params: &Value) -> Result<Vec<u8>, Trouble> {
    let invalid = |why| Trouble::new("INVALID_BASE64", why);
    let encoded = params["contentBase64"].as_str().ok_or_else(|| invalid("contentBase64 is required"))?;
    if encoded.len() as u64 / 4 * 3 > MAX_BYTES + 2 {
        return Err(Trouble::new("FILE_TOO_LARGE", format!("at most {MAX_BYTES} bytes are written at once")));
    }
    STANDARD.decode(encoded).map_err(|_| invalid("contentBase64 is not valid base64"))
}

/// A file that is to be written: the directory it is in, open, and its name there.
struct Target {
    home: Dir,
    name: OsString,
    path: PathBuf,
}

impl Target {
    /// The directory is made if that is wished for.
    fn of(roots: &Roots, params: &Value) -> Result<Self, Trouble> {
        let place = roots.place(params.get("path"))?;
        let name =
            place.inner.file_name().ok_or_else(|| Trouble::new("IS_DIRECTORY", "path names no file"))?;
        let name = name.to_owned();
        let above =
            place.inner.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let above = above.to_owned();
        let above = place.at(above);
        match above.dir.metadata(&above.inner) {
            Err(why) if why.kind() == ErrorKind::NotFound && params["createParents"] == true => {
                // Made before it is known whether the rest is right: an empty directory harms nobody.
                above.dir.create_dir_all(&above.inner).map_err(|why| above.wording(&why))?;
            }
            Err(why) if why.kind() == ErrorKind::NotFound => {
                let words = format!("parent directory does not exist: {}", above.path().display());
                return Err(Trouble::new("PARENT_NOT_FOUND", words));
            }
            _ => {}
        }
        let above = above.real(follows(params))?;
        let path = above.path().join(&name);
        let expected = params["expectedCanonicalPath"].as_str();
        if expected.is_some_and(|expected| Path::new(expected) != path) {
            return Err(changed("canonical path differs from the authorized target"));
        }
        let home = above.dir.open_dir(&above.inner).map_err(|why| above.wording(&why))?;
        Ok(Self { home, name, path })
    }

    /// The permissions of the file that is there already, if it may be replaced.
    fn look(&self, params: &Value) -> Result<Option<Permissions>, Trouble> {
        let meta = match self.home.symlink_metadata(&self.name) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|why| self.wording(&why))?,
        };
        let path = self.path.display();
        if meta.is_symlink() {
            let words = format!("path is a symlink; refusing to write through it: {path}");
            return Err(Trouble::new("SYMLINK_TARGET_DENIED", words));
        }
        ordinary(&meta)?;
        if params["overwrite"] != true {
            let words = format!("file already exists and overwrite is false: {path}");
            return Err(Trouble::new("EXISTS_NO_OVERWRITE", words));
        }
        Ok(Some(meta.permissions()))
    }

    /// Puts the content there. What was there is replaced whole or not at all; without anything to replace, nothing is.
    fn put(&self, content: &[u8], replaced: Option<Permissions>) -> io::Result<Metadata> {
        let draft = match &replaced {
            Some(_) => format!(".crabtree-{}", Uuid::new_v4().simple()).into(),
            None => self.name.clone(),
        };
        let mut file = self.home.open_with(&draft, OpenOptions::new().write(true).create_new(true))?;
        let put = || {
            file.write_all(content)?;
            if let Some(permissions) = replaced {
                file.set_permissions(permissions)?;
                file.sync_all()?;
                self.home.rename(&draft, &self.home, &self.name)?;
            } else {
                file.sync_all()?;
            }
            self.home.symlink_metadata(&self.name)
        };
        put().inspect_err(|_| {
            let _ = self.home.remove_file(&draft);
        })
    }

    fn wording(&self, why: &io::Error) -> Trouble {
        let path = self.path.display();
        match why.kind() {
            ErrorKind::PermissionDenied => {
                Trouble::new("PERMISSION_DENIED", format!("permission denied: {path}"))
            }
            ErrorKind::AlreadyExists => {
                let words = format!("file already exists and overwrite is false: {path}");
                Trouble::new("EXISTS_NO_OVERWRITE", words)
            }
            _ => Trouble::new("WRITE_ERROR", format!("failed to write file: {path}: {why}")),
        }
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
