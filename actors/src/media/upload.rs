//! What comes with a message, before it is on the disk.

use super::{SCHEME, attach, picture_type};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use blake3::Hasher;
use crabtree_protocol::Refusal;
use crabtree_protocol::frame::{MAX_ATTACHMENT_BYTES, MAX_IMAGE_BYTES};
use crabtree_protocol::params::chat::Attachment;
use crabtree_protocol::params::messages::MediaFact;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Files that may come with one message.
pub const MAX_ATTACHMENTS: usize = 20;
/// Bytes of a file's name that are kept.
const MAX_NAME: usize = 200;
/// How much of a file tells whether it is text.
const HEAD: usize = 8 * 1024;

/// Files that came with a message, in their order.
#[derive(Default)]
pub struct Uploads {
    all: Vec<Upload>,
    _room: Option<OwnedSemaphorePermit>,
}

struct Upload {
    content_type: String,
    file_name: Option<String>,
    bytes: Vec<u8>,
}

impl Uploads {
    pub(super) fn take(attachments: Vec<Attachment>, room: &Arc<Semaphore>) -> Result<Self, Refusal> {
        if attachments.is_empty() {
            return Ok(Self::default());
        }
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(Refusal::too_many_attachments(attachments.len(), MAX_ATTACHMENTS));
        }
        let encoded: usize =
            attachments.iter().filter_map(|a| a.content.as_ref()?.as_str()).map(str::len).sum();
        let kib = u32::try_from(encoded / 1024 + 1).unwrap_or(u32::MAX);
        let room = room.clone().try_acquire_many_owned(kib).map_err(|_| Refusal::attachments_in_flight())?;
        let all = attachments.into_iter().enumerate().map(Upload::of).collect::<Result<_, _>>()?;
        Ok(Self { all, _room: Some(room) })
    }

    /// What came in on a channel: type, name and content of each.
    pub(super) fn bring(
        files: Vec<(String, Option<String>, Vec<u8>)>,
        room: &Arc<Semaphore>,
    ) -> Result<Self, Refusal> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        if files.len() > MAX_ATTACHMENTS {
            return Err(Refusal::too_many_attachments(files.len(), MAX_ATTACHMENTS));
        }
        let bytes: usize = files.iter().map(|(.., bytes)| bytes.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = room.clone().try_acquire_many_owned(kib).map_err(|_| Refusal::attachments_in_flight())?;
        let one = |(mime_type, name, bytes): (String, Option<String>, Vec<u8>)| {
            let label = name.clone().unwrap_or_else(|| "attachment".into());
            Upload::checked(&label, name, content_type(Some(mime_type), &bytes), bytes)
        };
        let all = files.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { all, _room: Some(room) })
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds to the hash of everything that makes two messages the same.
    pub fn digest(&self, hasher: &mut Hasher) {
        for Upload { content_type, file_name, bytes } in &self.all {
            let name = file_name.as_deref().unwrap_or_default();
            hasher.update(format!("\n{content_type}\n{name}\n").as_bytes());
            hasher.update(blake3::hash(bytes).as_bytes());
        }
    }

    /// Says of a message what came with it.
    pub fn attach(&self, meta: &mut Value, input_id: &str) {
        let facts = self.all.iter().zip(self.names(input_id)).map(|(upload, name)| json!(upload.fact(&name)));
        attach(meta, facts.collect());
    }

    pub(super) fn names(&self, input_id: &str) -> impl Iterator<Item = String> {
        self.all.iter().enumerate().map(move |(at, upload)| {
            let dot = upload.extension().map(|extension| format!(".{extension}"));
            format!("{input_id}-{at}{}", dot.unwrap_or_default())
        })
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|upload| &*upload.bytes)
    }
}

impl Upload {
    fn of((at, sent): (usize, Attachment)) -> Result<Self, Refusal> {
        let file_name = sent.file_name.filter(|name| !name.is_empty());
        let file_name = file_name.map(|mut name| {
            name.truncate(name.floor_char_boundary(MAX_NAME));
            name
        });
        let label = file_name.clone().or(sent.kind).unwrap_or_else(|| format!("attachment-{}", at + 1));
        let content = sent.content.as_ref().and_then(Value::as_str);
        let content = content.ok_or_else(|| Refusal::attachment(&label, "content must be base64 string"))?;
        let bytes = BASE64_STANDARD.decode(without_prefix(content.trim()));
        let bytes = bytes.map_err(|_| Refusal::attachment(&label, "invalid base64 content"))?;
        Self::checked(&label, file_name, content_type(sent.mime_type, &bytes), bytes)
    }

    fn checked(
        label: &str,
        file_name: Option<String>,
        content_type: String,
        bytes: Vec<u8>,
    ) -> Result<Self, Refusal> {
        let size = bytes.len() as u64;
        let too_large = |what: &str, most: u64| {
            Err(Refusal::attachment(label, &format!("{what} size limit ({size} > {most} bytes)")))
        };
        match kind(&content_type) {
            _ if size == 0 => Err(Refusal::attachment(label, "empty payload")),
            _ if size > MAX_ATTACHMENT_BYTES => too_large("exceeds", MAX_ATTACHMENT_BYTES),
            "image" if size > MAX_IMAGE_BYTES => too_large("image exceeds", MAX_IMAGE_BYTES),
            _ => Ok(Self { content_type, file_name, bytes }),
        }
    }

    /// As recorded: of a picture nobody is told the name, and of a document that its content is not in the row.
    fn fact(&self, name: &str) -> MediaFact {
        let kind = kind(&self.content_type);
        MediaFact {
            url: format!("{SCHEME}{name}"),
            content_type: self.content_type.clone(),
            kind: kind.to_owned(),
            size_bytes: Some(self.bytes.len() as u64),
            file_name: self.file_name.clone().filter(|_| kind != "image"),
            hydration_suppressed: (kind == "document").then_some(true),
        }
    }

    fn extension(&self) -> Option<String> {
        let of_type = match &*self.content_type {
            "image/png" => Some("png"),
            "image/jpeg" => Some("jpg"),
            "image/gif" => Some("gif"),
            "image/webp" => Some("webp"),
            _ => None,
        };
        let of_name = || Path::new(self.file_name.as_deref()?).extension()?.to_str();
        let plain = |e: &&str| e.len() <= 10 && e.bytes().all(|b| b.is_ascii_alphanumeric());
        of_type.or_else(of_name).filter(plain).map(str::to_ascii_lowercase)
    }
}

/// Some clients send what a browser gives them: `data:image/png;base64,…`.
fn without_prefix(content: &str) -> &str {
    match content.split_once(";base64,") {
        Some((scheme, data)) if scheme.starts_with("data:") => data,
        _ => content,
    }
}

/// What it is: of pictures by their bytes, else as it was told, if that is a type at all.
fn content_type(told: Option<String>, bytes: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/.+-".contains(&b);
    let told = told.map(|told| told.to_ascii_lowercase()).filter(|told| {
        (3..=100).contains(&told.len()) && told.bytes().all(plain) && told.split('/').count() == 2
    });
    let is_text = || !bytes[..bytes.len().min(HEAD)].contains(&0) && std::str::from_utf8(bytes).is_ok();
    match (picture_type(bytes), told) {
        (Some(picture), _) => picture.to_owned(),
        (None, Some(told)) => told,
        (None, None) => if is_text() { "text/plain" } else { "application/octet-stream" }.to_owned(),
    }
}

fn kind(content_type: &str) -> &'static str {
    match content_type.split('/').next() {
        Some("image") => "image",
        Some("audio") => "audio",
        Some("video") => "video",
        _ => "document",
    }
}
