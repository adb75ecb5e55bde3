//! What a call of a tool came to.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Base64 of pictures in one result, bytes.
pub const MAX_MEDIA: usize = 6 << 20;

/// What a call of a tool came to, in the shape transcripts and events have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    /// What the model is given: `{type: "text", text}` and `{type: "image", data, mimeType}`.
    pub content: Vec<Value>,
    /// What clients are shown beside it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// Whether it failed; the content says why.
    #[serde(skip)]
    pub is_error: bool,
}

impl ToolResult {
    /// It worked.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![json!({ "type": "text", "text": text.into() })], ..Self::default() }
    }

    /// It did not; `why` says what the model can do about it.
    pub fn error(why: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(why) }
    }

    /// The same with something for clients.
    pub fn with_details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// Its texts, one below the other.
    pub fn as_text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| part["text"].as_str());
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Cut to `most` bytes of text, and 6 MiB of what is none: of a text that is too long the middle is left
    /// out, and what is no text and does not fit is replaced by a note.
    #[must_use]
    pub fn cut(self, most: usize) -> Self {
        self.cut_to(most, MAX_MEDIA)
    }

    /// The same, with another bound for what is no text.
    #[must_use]
    pub fn cut_to(mut self, mut texts: usize, mut media: usize) -> Self {
        for part in &mut self.content {
            let text = part["text"].as_str();
            let size = text.map_or_else(|| part["data"].as_str().map_or(0, str::len), str::len);
            let left = if text.is_some() { &mut texts } else { &mut media };
            if size > *left {
                let kept = text.map(|text| without_middle(text, *left));
                let note = || format!("[{size} bytes left out: too much for one result]");
                *part = json!({ "type": "text", "text": kept.unwrap_or_else(note) });
                *left = 0;
            } else {
                *left -= size;
            }
        }
        self
    }
}

/// The two ends of a text, `most` bytes together, with a note between them.
fn without_middle(text: &str, most: usize) -> String {
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - (most - most / 2).min(text.len() - head));
    let out = tail - head;
    format!("{}\n[{out} bytes left out: too much for one result]\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_loses_its_middle() {
        let long = format!("begin {} end", "ü".repeat(1_000));
        let cut = ToolResult::text(&long).cut(101);
        let text = cut.as_text();
        assert!(text.starts_with("begin ü") && text.ends_with("ü end"), "{text}");
        assert!(text.contains("bytes left out"), "{text}");
        assert!(text.len() < 101 + 60, "{}", text.len());
        assert_eq!(ToolResult::text("short").cut(101), ToolResult::text("short"));
    }

    #[test]
    fn all_parts_of_a_kind_share_the_room() {
        let image =
            json!({ "type": "image", "data": "A".repeat(MAX_MEDIA / 2 + 1), "mimeType": "image/png" });
        let result = ToolResult { content: vec![image.clone(), image], ..ToolResult::text("x") };
        let cut = result.clone().cut(700);
        assert_eq!(cut.content[0]["type"], "image");
        assert!(cut.content[1]["text"].as_str().unwrap().contains("left out"));
        assert!(result.cut_to(700, 1_000).content.iter().all(|part| part["type"] == "text"));
    }
}
