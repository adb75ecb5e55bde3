//! Files that come with messages.
//!
//! Their bytes lie beside the database, in `media/inbound` of the state directory, and rows only say where:
//! `media://inbound/<name>`. They are on the disk before the input that names them is, and a name begins with that
//! input's id, so that whoever finds a file finds what names it. What nothing names any more is removed.

mod shown;
mod sweep;
mod upload;

pub use sweep::{forget, sweep};
pub use upload::{MAX_ATTACHMENTS, Uploads};

use crate::store::StoreError;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::chat::Attachment;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// What all files that are on their way to the disk may take of memory, in KiB: one client may send 64 messages at
/// once, each of megabytes. Past it they are refused, to be sent again.
const ROOM_KIB: usize = 128 * 1024;
/// Where a file is, before its name.
const SCHEME: &str = "media://inbound/";
/// How long the id is that a name begins with.
const ID: usize = 36;

/// Where the files are.
#[derive(Clone)]
pub struct Inbox {
    folder: Arc<Path>,
    room: Arc<Semaphore>,
}

impl Inbox {
    /// The one of a state directory.
    pub fn open(state_dir: &Path) -> Self {
        let folder = state_dir.join("media").join("inbound").into();
        Self { folder, room: Arc::new(Semaphore::new(ROOM_KIB)) }
    }

    /// What came with a message, looked at and not yet kept.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn take(&self, attachments: Vec<Attachment>) -> Result<Uploads, Refusal> {
        Uploads::take(attachments, &self.room)
    }

    /// The same of what came in on a channel: type, name and content of each.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn bring(&self, files: Vec<(String, Option<String>, Vec<u8>)>) -> Result<Uploads, Refusal> {
        Uploads::bring(files, &self.room)
    }

    /// Puts files on the disk, for good: all, or none.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn keep(&self, uploads: Uploads, input_id: &str) -> Result<(), StoreError> {
        if uploads.is_empty() {
            return Ok(());
        }
        let (inbox, input_id) = (self.clone(), input_id.to_owned());
        let work = move || {
            let names: Vec<String> = uploads.names(&input_id).collect();
            let kept = inbox.write_all(names.iter().zip(uploads.bytes()));
            if kept.is_err() {
                inbox.remove(&names);
            }
            kept
        };
        let kept = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        kept.map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => StoreError::Full,
            _ => StoreError::Unavailable(format!("its attachments could not be stored: {e}")),
        })
    }

    fn write_all<'a>(&self, files: impl Iterator<Item = (&'a String, &'a [u8])>) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        for (name, bytes) in files {
            let path = self.folder.join(name);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(&self.folder)?.sync_all()
    }

    /// A file's beginning, at most so much of it, and how long it is. Blocks.
    ///
    /// # Errors
    /// What the file system says; that there is none of such a name.
    pub fn read(&self, name: &str, most: u64) -> io::Result<(Vec<u8>, u64)> {
        if id_of(name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = OpenOptions::new().read(true).open(self.folder.join(name))?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(most)).unwrap_or(0));
        file.take(most).read_to_end(&mut bytes)?;
        Ok((bytes, size))
    }

    /// Removes files of a message that was not taken, as it was known already.
    pub async fn discard(self, names: Vec<String>) {
        if !names.is_empty() {
            let _ = tokio::task::spawn_blocking(move || self.remove(&names)).await;
        }
    }

    /// Blocks. What cannot be removed now is found by the next sweep.
    fn remove(&self, names: &[String]) {
        for name in names.iter().filter(|name| id_of(name).is_some()) {
            match fs::remove_file(self.folder.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(target: "crabtree::media", %name, "a file was not removed: {e}");
                }
                _ => {}
            }
        }
    }
}

/// The id of the input that a file came with; `None` if this is no name of a file: `<id>-<number>[.<extension>]`.
fn id_of(name: &str) -> Option<&str> {
    let (id, rest) = name.split_at_checked(ID)?;
    let (number, extension) = rest.strip_prefix('-')?.split_once('.').unwrap_or((&rest[1..], "x"));
    let plain =
        |part: &str| (1..=10).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_name = Uuid::try_parse(id).is_ok() && number.parse::<u8>().is_ok() && plain(extension);
    is_name.then_some(id)
}

/// The name in `media://inbound/<name>`.
pub fn name_of(url: &str) -> Option<&str> {
    url.strip_prefix(SCHEME).filter(|name| id_of(name).is_some())
}

/// What is said of the files of a message, in its row's `__openclaw` or that of its input.
pub fn facts(meta: &Value) -> &[Value] {
    meta["media"].as_array().map_or(&[], Vec::as_slice)
}

/// Their names.
pub fn names(meta: &Value) -> impl Iterator<Item = &str> {
    facts(meta).iter().filter_map(|fact| name_of(fact["url"].as_str()?))
}

/// What models are told that it is.
pub fn called(fact: &Value) -> String {
    let word = |name: &str| fact[name].as_str().unwrap_or_default();
    let what = if fact["kind"] == "image" { "picture" } else { "file" };
    let named = Some(word("fileName")).filter(|name| !name.is_empty()).map(|name| format!(" {name}"));
    let size = fact["sizeBytes"].as_u64().unwrap_or_default();
    format!("attached {what}{}, {}, {size} bytes", named.unwrap_or_default(), word("contentType"))
}

/// Says of a message that these files came with it.
pub fn attach(meta: &mut Value, facts: Vec<Value>) {
    if facts.is_empty() {
        return;
    }
    let pictures = facts.iter().enumerate().filter(|(_, fact)| fact["kind"] == "image");
    let slots: Vec<Value> = pictures.map(|(at, _)| json!({ "kind": "inline", "factIndex": at })).collect();
    if !slots.is_empty() {
        meta["mediaImageLayout"] = json!({ "slots": slots });
    }
    meta["media"] = json!(facts);
}

/// What kind of picture it is that begins so, of those that models look at.
pub fn picture_type(head: &[u8]) -> Option<&'static str> {
    let webp = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP");
    match head {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        _ => webp.then_some("image/webp"),
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
