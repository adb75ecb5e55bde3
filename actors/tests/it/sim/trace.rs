//! What was seen, in an order that a seed must repeat: random ids are replaced by the number of their first
//! appearance.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Characters kept of a line; all of it is hashed.
const LINE_CHARS: usize = 1_000;

/// What a cursor stands behind.
const CURSOR: &str = "\"deltaCursor\":\"";
/// What the key of messages that were collected begins with; an id and a hash follow.
const COLLECTED: &str = "followup-collect:";

#[derive(Default)]
pub struct Trace {
    ids: HashMap<[u8; 36], usize>,
    hasher: DefaultHasher,
    pub lines: Vec<String>,
}

impl Trace {
    /// Notes a line, and returns how many there are.
    pub fn note(&mut self, at_ms: i64, who: &str, text: &str) -> usize {
        let plain = without_hashes(&self.numbered(&opened(text)));
        (at_ms, who, &plain).hash(&mut self.hasher);
        let end = plain.floor_char_boundary(LINE_CHARS);
        self.lines.push(format!("{at_ms} {who} {}", &plain[..end]));
        self.lines.len()
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    fn numbered(&mut self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut plain = String::with_capacity(text.len());
        let (mut from, mut at) = (0, 0);
        while at + 36 <= bytes.len() {
            let Some(id) = uuid_at(&bytes[at..]) else {
                at += 1;
                continue;
            };
            let next = self.ids.len();
            let number = *self.ids.entry(id).or_insert(next);
            plain.push_str(&text[from..at]);
            plain.push_str(&format!("<id {number}>"));
            at += 36;
            from = at;
        }
        plain.push_str(&text[from..]);
        plain
    }
}

/// The text without the hashes of messages that were collected: they are of ids.
fn without_hashes(text: &str) -> String {
    let mut parts = text.split(COLLECTED);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['\\', '"']).unwrap_or(part.len());
        plain.push_str(COLLECTED);
        plain.push_str(&part[end..]);
    }
    plain
}

/// The text with what its cursor holds in the cursor's place: there is an id in it.
fn opened(text: &str) -> Cow<'_, str> {
    let cursor = text.split_once(CURSOR).and_then(|(_, rest)| rest.split('"').next());
    let held = cursor.and_then(|cursor| URL_SAFE_NO_PAD.decode(cursor).ok());
    match (cursor, held.and_then(|held| String::from_utf8(held).ok())) {
        (Some(cursor), Some(held)) => Cow::Owned(text.replacen(cursor, &held, 1)),
        _ => Cow::Borrowed(text),
    }
}

fn uuid_at(bytes: &[u8]) -> Option<[u8; 36]> {
    if bytes[8] != b'-' || bytes[13] != b'-' || bytes[18] != b'-' || bytes[23] != b'-' {
        return None;
    }
    let id: [u8; 36] = bytes[..36].try_into().ok()?;
    let hex = |(at, b): (usize, &u8)| matches!(at, 8 | 13 | 18 | 23) || b.is_ascii_hexdigit();
    id.iter().enumerate().all(hex).then_some(id)
}
