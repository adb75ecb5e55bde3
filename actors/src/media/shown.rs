//! How a model is shown the files of a conversation: the newest pictures as such, text as text, and of everything
//! else that it is there. All of it is read anew for each call of the model; rows carry none of it.

use super::{Inbox, called, facts, name_of, picture_type};
use crate::store::{MessageRow, StoreError, text_of};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Pictures in one prompt; of older ones the model is told.
const MAX_PICTURES: usize = 20;
/// Bytes of one picture: 5 MB as base64, which is what providers take.
const MAX_PICTURE: u64 = 3_750_000;
/// Bytes of all pictures in one prompt.
const MAX_PICTURES_BYTES: u64 = 15_000_000;
/// Bytes of the texts that came with one message.
const MAX_TEXT: usize = 64 * 1024;

impl Inbox {
    /// The rows with what came with them in their content, as tools show things.
    ///
    /// # Errors
    /// If the files could not be read at all.
    pub async fn shown(&self, rows: Vec<MessageRow>) -> Result<Vec<MessageRow>, StoreError> {
        if !rows.iter().any(has_files) {
            return Ok(rows);
        }
        let inbox = self.clone();
        let shown = tokio::task::spawn_blocking(move || inbox.show(rows)).await;
        shown.map_err(|e| StoreError::Unavailable(format!("attachments could not be read: {e}")))
    }

    fn show(&self, mut rows: Vec<MessageRow>) -> Vec<MessageRow> {
        let mut album = Album { inbox: self, left: MAX_PICTURES, bytes: MAX_PICTURES_BYTES };
        for row in rows.iter_mut().rev().filter(|row| has_files(row)) {
            let (mut text, mut pictures, mut room) = (text_of(&row.message), Vec::new(), MAX_TEXT);
            for fact in facts(&row.message["__openclaw"]) {
                let note = if fact["kind"] == "image" {
                    match album.picture(fact) {
                        Ok(picture) => {
                            pictures.push(picture);
                            continue;
                        }
                        Err(why) => why,
                    }
                } else {
                    self.words(fact, &mut room)
                };
                text.push_str(if text.is_empty() { "" } else { "\n\n" });
                text.push_str(&note);
            }
            let text = json!({ "type": "text", "text": text });
            row.message["content"] = [text].into_iter().chain(pictures).collect();
        }
        rows
    }

    /// What a file says, or what it is.
    fn words(&self, fact: &Value, room: &mut usize) -> String {
        let called = called(fact);
        let Some((bytes, size)) = name(fact).and_then(|name| self.read(name, *room as u64 + 4).ok()) else {
            return format!("[{called}: it is gone]");
        };
        let (mut text, whole) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, size == bytes.len() as u64),
            // A character that is cut by the limit.
            Err(e) if e.error_len().is_none() && size > bytes.len() as u64 => {
                (std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(), false)
            }
            Err(_) => return format!("[{called}: it is not text and cannot be shown to you]"),
        };
        if text.contains('\0') {
            return format!("[{called}: it is not text and cannot be shown to you]");
        }
        let cut = !whole || text.len() > *room;
        text = &text[..text.floor_char_boundary(*room)];
        *room -= text.len();
        let rest =
            if cut { format!("\n[only {} of {size} bytes are shown]", text.len()) } else { String::new() };
        format!("[{called}, begins]\n{text}{rest}\n[it ends]")
    }
}

/// What is left for pictures, the newest first.
struct Album<'a> {
    inbox: &'a Inbox,
    left: usize,
    bytes: u64,
}

impl Album<'_> {
    /// The picture, or a note why not.
    fn picture(&mut self, fact: &Value) -> Result<Value, String> {
        let called = called(fact);
        if self.left == 0 {
            return Err(format!(
                "[{called}: it was shown earlier and is not shown again; ask for it, if it matters]"
            ));
        }
        let read = name(fact).and_then(|name| self.inbox.read(name, MAX_PICTURE).ok());
        let (bytes, size) = read.ok_or_else(|| format!("[{called}: it is gone]"))?;
        if size > MAX_PICTURE {
            return Err(format!(
                "[{called}: too large to be shown to you; ask for one of at most {MAX_PICTURE} bytes]"
            ));
        }
        let mime = picture_type(&bytes);
        let mime = mime.ok_or_else(|| {
            format!("[{called}: ask for it as png, jpeg, gif or webp; others cannot be shown to you]")
        })?;
        if size > self.bytes {
            self.left = 0;
            return self.picture(fact);
        }
        (self.left, self.bytes) = (self.left - 1, self.bytes - size);
        Ok(json!({ "type": "image", "mimeType": mime, "data": BASE64_STANDARD.encode(bytes) }))
    }
}

fn has_files(row: &MessageRow) -> bool {
    row.kind == "user" && !facts(&row.message["__openclaw"]).is_empty()
}

fn name(fact: &Value) -> Option<&str> {
    name_of(fact["url"].as_str()?)
}
