//! A reply as typed blocks: text as the model writes it, cut at its code, and whatever else stands among it. Chat
//! events and transcript rows are made from it, and the replies of channels will be.

use crate::agents::ToolCall;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockType {
    /// Plain text.
    Text,
    /// Code; `metadata.language` names its language, if it does itself.
    Code,
    /// Text with marks in it.
    Markdown,
    /// A tool the model calls.
    ToolCall,
    /// What the tool said.
    ToolResult,
    /// Something to draw.
    Canvas,
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// What goes on meanwhile.
    Status,
}

/// What stands in a reply beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// What it is.
    pub block_type: BlockType,
    /// An object for what has parts, as a transcript row has them.
    pub content: Value,
    /// What is known about it.
    pub metadata: Value,
}

/// One block of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Unique in the session: the run, and its place in the reply.
    pub block_id: String,
    /// What it is.
    pub block_type: BlockType,
    /// The text, or an object.
    pub content: Value,
    /// What is known about it; an object.
    pub metadata: Value,
}

/// A place in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// In its text, bytes.
    pub text: usize,
    inserts: usize,
}

/// A reply while it is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStream {
    text: String,
    /// What the model thought before its latest answer: kept in the transcript, and no part of the reply.
    thought: String,
    /// With the place in the text before which they stand, in order.
    inserts: Vec<(usize, Insert)>,
}

impl From<&str> for BlockStream {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

impl BlockStream {
    /// All of the text, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// More text.
    pub fn write(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// More of what the model thinks.
    pub fn think(&mut self, piece: &str) {
        self.thought.push_str(piece);
    }

    /// What it thought before its latest answer.
    pub fn thought(&self) -> &str {
        &self.thought
    }

    /// Another answer begins.
    pub fn forget_thought(&mut self) {
        self.thought.clear();
    }

    /// Something else, behind what is there.
    pub fn insert(&mut self, insert: Insert) {
        self.inserts.push((self.text.len(), insert));
    }

    /// Its end.
    pub fn mark(&self) -> Mark {
        Mark { text: self.text.len(), inserts: self.inserts.len() }
    }

    /// Takes back everything from this place on.
    pub fn truncate(&mut self, at: Mark) {
        self.text.truncate(at.text);
        self.inserts.truncate(at.inserts);
    }

    /// White space at the end goes.
    pub fn trim_end(&mut self) {
        self.cut(self.text.trim_end().len());
    }

    /// The text behind this place goes; what stood in it does not.
    pub fn cut(&mut self, end: usize) {
        self.text.truncate(end);
        self.inserts.iter_mut().for_each(|(place, _)| *place = (*place).min(end));
    }

    /// The same without white space at its end.
    pub fn trimmed(&self) -> Self {
        let mut trimmed = self.clone();
        trimmed.trim_end();
        trimmed
    }

    /// What stands from this place on.
    pub fn since(&self, at: Mark) -> Self {
        let moved = |(place, insert): &(usize, Insert)| (place.saturating_sub(at.text), insert.clone());
        Self {
            text: self.text[at.text..].to_owned(),
            thought: self.thought.clone(),
            inserts: self.inserts[at.inserts..].iter().map(moved).collect(),
        }
    }

    /// The calls of tools in it.
    pub fn calls(&self) -> Vec<ToolCall> {
        let calls = self.inserts.iter().filter(|(_, insert)| insert.block_type == BlockType::ToolCall);
        calls.filter_map(|(_, insert)| ToolCall::deserialize(&insert.content).ok()).collect()
    }

    /// Puts another one behind it, with what was thought before that.
    pub fn append(&mut self, other: Self) {
        let at = self.text.len();
        self.text.push_str(&other.text);
        self.thought = other.thought;
        self.inserts.extend(other.inserts.into_iter().map(|(place, insert)| (at + place, insert)));
    }

    /// Whether there is nothing a reader would see.
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.text.trim().is_empty()
    }

    /// Whether it is more than text without code or marks.
    pub fn is_structured(&self) -> bool {
        !self.inserts.is_empty() || pieces(&self.text).iter().any(|(kind, ..)| *kind != BlockType::Text)
    }

    /// The blocks in order.
    pub fn blocks(&self, run_id: &str) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut push = |block_type, content, metadata| {
            let block_id = format!("{run_id}:{}", blocks.len() + 1);
            blocks.push(Block { block_id, block_type, content, metadata });
        };
        for (text, insert) in self.runs() {
            for (kind, text, metadata) in pieces(text) {
                push(kind, json!(text), metadata);
            }
            if let Some(Insert { block_type, content, metadata }) = insert.cloned() {
                push(block_type, content, metadata);
            }
        }
        blocks
    }

    /// The content of a message as clients see it: without white space at its end, and with a text in any case.
    pub fn visible(&self) -> Vec<Value> {
        let content = match self.inserts.is_empty() {
            true => Vec::new(),
            false => self.trimmed().parts(is_shown),
        };
        if content.is_empty() {
            return vec![json!({ "type": "text", "text": self.text.trim_end() })];
        }
        content
    }

    /// The `content` of a transcript row: what was thought, and then text as one block wherever nothing
    /// interrupts it.
    pub fn content(&self) -> Vec<Value> {
        let thought =
            (!self.thought.is_empty()).then(|| json!({ "type": "thinking", "thinking": self.thought }));
        thought.into_iter().chain(self.parts(|_| true)).collect()
    }

    fn parts(&self, wanted: fn(BlockType) -> bool) -> Vec<Value> {
        let mut content = Vec::new();
        let mut text = String::new();
        for (piece, insert) in self.runs() {
            text.push_str(piece);
            let insert = insert.filter(|insert| wanted(insert.block_type)).and_then(in_row);
            if insert.is_some() && !text.is_empty() {
                content.push(json!({ "type": "text", "text": std::mem::take(&mut text) }));
            }
            content.extend(insert);
        }
        if !text.is_empty() {
            content.push(json!({ "type": "text", "text": text }));
        }
        content
    }

    /// Stretches of text, each with what stands behind it.
    fn runs(&self) -> impl Iterator<Item = (&str, Option<&Insert>)> {
        let from = std::iter::once(0).chain(self.inserts.iter().map(|(place, _)| *place));
        let to = self.inserts.iter().map(|(place, insert)| (*place, Some(insert)));
        from.zip(to.chain([(self.text.len(), None)]))
            .map(|(from, (to, insert))| (&self.text[from..to], insert))
    }
}

/// What a chat shows: of tools it is told apart.
fn is_shown(block_type: BlockType) -> bool {
    matches!(block_type, BlockType::Image | BlockType::Audio)
}

/// What of it a transcript row holds: what a model reads again.
fn in_row(insert: &Insert) -> Option<Value> {
    let kind = match insert.block_type {
        BlockType::ToolCall => "toolCall",
        BlockType::Image => "image",
        BlockType::Audio => "audio",
        _ => return None,
    };
    let mut content = insert.content.clone();
    content.as_object_mut()?.insert("type".into(), json!(kind));
    Some(content)
}

/// Text cut at its fences: what stands between them is code, without them.
fn pieces(text: &str) -> Vec<(BlockType, String, Value)> {
    let mut pieces = Vec::new();
    let (mut open, mut so_far): (Option<&str>, String) = (None, String::new());
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        match open {
            Some(language) if bare == "```" => {
                let metadata = if language.is_empty() { json!({}) } else { json!({ "language": language }) };
                pieces.push((BlockType::Code, std::mem::take(&mut so_far), metadata));
                open = None;
            }
            None if bare.starts_with("```") && !bare[3..].contains('`') => {
                push_text(&mut pieces, std::mem::take(&mut so_far));
                open = Some(bare[3..].trim());
            }
            _ => so_far.push_str(line),
        }
    }
    match open {
        // Code that has not ended yet is code already.
        Some(language) => pieces.push((BlockType::Code, so_far, json!({ "language": language }))),
        None => push_text(&mut pieces, so_far),
    }
    pieces
}

fn push_text(pieces: &mut Vec<(BlockType, String, Value)>, text: String) {
    if !text.trim().is_empty() {
        let kind = if text.lines().any(is_marked) { BlockType::Markdown } else { BlockType::Text };
        pieces.push((kind, text, json!({})));
    }
}

/// Whether a line has marks that Markdown gives a meaning.
fn is_marked(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let starts = ["# ", "## ", "### ", "- ", "* ", "> ", "|"].iter().any(|mark| line.starts_with(mark));
    starts
        || (number.len() < line.len() && number.starts_with(". "))
        || ["**", "](", "`"].iter().any(|mark| line.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(stream: &BlockStream) -> Vec<(BlockType, String)> {
        let text = |content: &Value| content.as_str().map_or_else(|| content.to_string(), str::to_owned);
        stream.blocks("r").iter().map(|block| (block.block_type, text(&block.content))).collect()
    }

    /// accepts: I9
    #[test]
    fn a_reply_is_cut_at_its_code_however_it_comes() {
        let whole = "Look:\n```rust\nfn main() {}\n```\n- one\n- two\n";
        let mut stream = BlockStream::default();
        for piece in whole.split_inclusive(|c: char| "`\n ".contains(c)) {
            stream.write(piece);
        }
        assert_eq!((stream.text(), stream.clone()), (whole, BlockStream::from(whole)));
        let code = (BlockType::Code, "fn main() {}\n".to_owned());
        let list = (BlockType::Markdown, "- one\n- two\n".to_owned());
        assert_eq!(kinds(&stream), [(BlockType::Text, "Look:\n".to_owned()), code, list]);
        let blocks = stream.blocks("r");
        assert_eq!((&*blocks[1].block_id, &blocks[1].metadata), ("r:2", &json!({ "language": "rust" })));
        assert!(stream.is_structured() && !BlockStream::from("plain words").is_structured());
        assert_eq!(
            stream.content(),
            [json!({ "type": "text", "text": whole })],
            "one text for those who read text"
        );
        let open = BlockStream::from("```\nnot over");
        assert_eq!(kinds(&open), [(BlockType::Code, "not over".to_owned())]);
    }

    /// accepts: I9
    #[test]
    fn what_is_no_text_keeps_its_place() {
        let insert = |block_type, content| Insert { block_type, content, metadata: json!({}) };
        let mut stream = BlockStream::from("before ");
        stream.insert(insert(BlockType::Status, json!("drawing")));
        stream.insert(insert(BlockType::Image, json!({ "data": "AA==", "mimeType": "image/png" })));
        stream.write("after");
        let seen: Vec<_> = stream.blocks("r").iter().map(|block| block.block_type).collect();
        assert_eq!(seen, [BlockType::Text, BlockType::Status, BlockType::Image, BlockType::Text]);
        let row = stream.content();
        assert_eq!(
            row.iter().map(|c| c["type"].as_str().unwrap()).collect::<Vec<_>>(),
            ["text", "image", "text"]
        );
        assert_eq!(stream.since(Mark { text: 7, inserts: 0 }).content().len(), 2);
        let mut twice = stream.clone();
        twice.append(stream.clone());
        assert_eq!(twice.blocks("r").len(), 7, "the text between the two is one");
        twice.truncate(Mark { text: 3, inserts: 0 });
        assert_eq!(kinds(&twice), [(BlockType::Text, "bef".to_owned())]);
        assert_eq!(serde_json::to_value(BlockType::ToolCall).unwrap(), "tool_call");
    }
}
