//! The files of messages that are not whole yet.

use crate::channels::contract::Attachment;
use crabtree_protocol::driver::{Block, BlockType, MAX_FILE_COUNT, MAX_FILES, MAX_GATHERED};
use std::collections::HashMap;

/// See the module. What is wrong with a file is told when its message comes: that is what can be answered.
#[derive(Default)]
pub(super) struct Gathered {
    messages: HashMap<String, Result<Files, &'static str>>,
}

/// Files by the block they came in.
type Files = Vec<(String, Attachment)>;

/// More messages are begun than may be; none of them is forgotten for another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl Gathered {
    /// Adds a piece of a file.
    pub fn add(&mut self, block: Block) -> Result<(), Crowded> {
        if !self.messages.contains_key(&block.id) && self.messages.len() == MAX_GATHERED {
            return Err(Crowded);
        }
        let held: usize = self.messages.values().flatten().flatten().map(|(_, file)| file.bytes.len()).sum();
        let message = self.messages.entry(block.id.clone()).or_insert_with(|| Ok(Vec::new()));
        if let Ok(files) = message
            && let Err(why) = grow(files, block, held)
        {
            *message = Err(why);
        }
        Ok(())
    }

    /// The files of a message, or why it cannot be taken.
    pub fn take(&mut self, id: &str) -> Result<Vec<Attachment>, &'static str> {
        let files = self.messages.remove(id).unwrap_or_else(|| Ok(Vec::new()))?;
        Ok(files.into_iter().map(|(_, file)| file).collect())
    }
}

fn grow(files: &mut Files, block: Block, held: usize) -> Result<(), &'static str> {
    if block.block_type == BlockType::Text {
        return Err("text belongs into content of message_in, not into a block");
    }
    let bytes = block.bytes().map_err(|_| "a block's content is not base64")?;
    if held + bytes.len() > MAX_FILES {
        return Err("its files, with those of other messages under way, are larger than 16 MiB together");
    }
    if let Some((_, file)) = files.iter_mut().find(|(id, _)| *id == block.block_id) {
        file.bytes.extend(bytes);
        return Ok(());
    }
    if files.len() == MAX_FILE_COUNT {
        return Err("it has more than 16 files");
    }
    let mime_type = block.mime_type.unwrap_or_else(|| "application/octet-stream".into());
    files.push((block.block_id, Attachment { mime_type, file_name: block.file_name, bytes }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: &str, block: &str, bytes: &[u8]) -> Block {
        Block { mime_type: Some("image/png".into()), ..Block::piece(id, block, bytes) }
    }

    #[test]
    fn pieces_of_a_file_belong_behind_one_another() {
        let mut gathered = Gathered::default();
        for (id, block, bytes) in [("m", "1", "ab"), ("n", "1", "x"), ("m", "2", "!"), ("m", "1", "cd")] {
            gathered.add(piece(id, block, bytes.as_bytes())).unwrap();
        }
        let of = |files: Vec<Attachment>| files.into_iter().map(|file| file.bytes).collect::<Vec<_>>();
        assert_eq!(of(gathered.take("m").unwrap()), [&b"abcd"[..], b"!"]);
        assert_eq!(of(gathered.take("n").unwrap()), [b"x"]);
        assert_eq!(gathered.take("m"), Ok(vec![]), "it was taken");
    }

    #[test]
    fn what_is_too_large_is_let_go_at_once_and_told_with_its_message() {
        let mut gathered = Gathered::default();
        let half = vec![0; MAX_FILES / 2];
        gathered.add(piece("a", "1", &half)).unwrap();
        gathered.add(piece("b", "1", &half)).unwrap();
        gathered.add(piece("b", "1", b"x")).unwrap();
        assert!(gathered.take("b").unwrap_err().contains("16 MiB"));
        gathered.add(piece("a", "1", &half)).unwrap();
        assert_eq!(gathered.take("a").unwrap()[0].bytes.len(), MAX_FILES);
    }

    #[test]
    fn files_and_messages_are_counted() {
        let mut gathered = Gathered::default();
        for n in 0..=MAX_FILE_COUNT {
            gathered.add(piece("many", &n.to_string(), b"")).unwrap();
        }
        assert!(gathered.take("many").unwrap_err().contains("16 files"));
        for n in 0..MAX_GATHERED {
            gathered.add(piece(&n.to_string(), "1", b"")).unwrap();
        }
        assert_eq!(gathered.add(piece("one more", "1", b"")), Err(Crowded));
        assert_eq!(gathered.add(piece("0", "2", b"")), Ok(()));
    }

    #[test]
    fn what_is_no_file_spoils_its_message() {
        let mut gathered = Gathered::default();
        gathered.add(Block { content: "?".into(), ..piece("a", "1", b"") }).unwrap();
        gathered.add(Block { block_type: BlockType::Text, ..piece("b", "1", b"") }).unwrap();
        assert!(gathered.take("a").unwrap_err().contains("base64"));
        assert!(gathered.take("b").unwrap_err().contains("content of message_in"));
    }
}
