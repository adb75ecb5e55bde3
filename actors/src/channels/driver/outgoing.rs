//! The frames of what a driver is told to do.

use super::session::Voice;
use crate::channels::contract::{Address, Attachment, Button, Kind, Outgoing, SendError};
use crabtree_protocol::driver::{
    self, Block, BlockType, Chat, ChatKind, MAX_FILE_COUNT, MAX_FILES, MAX_PIECE, Presence, PresenceOut,
    ReactionOut, StreamEnd, ToDriver,
};

/// The frames of a message; the last is the one that is answered, and has its id.
pub(super) fn message<'a>(
    voice: &'a Voice,
    outgoing: &'a Outgoing,
) -> Result<impl Iterator<Item = String> + Send + 'a, SendError> {
    let bytes: usize = outgoing.attachments.iter().map(|file| file.bytes.len()).sum();
    if bytes > MAX_FILES || outgoing.attachments.len() > MAX_FILE_COUNT {
        let why =
            format!("a driver takes {MAX_FILE_COUNT} files of {} MiB together at most", MAX_FILES >> 20);
        return Err(SendError::Refused(why));
    }
    let text = (!outgoing.text.is_empty()).then(|| text(outgoing));
    let files = outgoing.attachments.iter().enumerate();
    let files = files.flat_map(|(n, file)| pieces(&outgoing.id, n, file));
    let blocks = text.into_iter().chain(files).map(|block| voice.say(ToDriver::StreamBlock(block)));
    Ok(blocks.chain(std::iter::once_with(|| voice.say_as(&outgoing.id, ToDriver::StreamEnd(end(outgoing))))))
}

/// The frame that shows that the agent writes.
pub(super) fn typing(voice: &Voice, at: &Address) -> String {
    voice.say(ToDriver::Presence(PresenceOut { channel: chat(at), state: Presence::Typing }))
}

/// The frame of a reaction under this id.
pub(super) fn reaction(voice: &Voice, id: &str, at: &Address, message: String, emoji: String) -> String {
    voice.say_as(id, ToDriver::Reaction(ReactionOut { channel: chat(at), message_id: message, emoji }))
}

fn text(outgoing: &Outgoing) -> Block {
    Block {
        id: outgoing.id.clone(),
        block_id: "text".into(),
        block_type: BlockType::Text,
        content: outgoing.text.clone(),
        mime_type: None,
        file_name: None,
    }
}

fn pieces<'a>(id: &'a str, n: usize, file: &'a Attachment) -> impl Iterator<Item = Block> + Send + 'a {
    let empty: &[u8] = &[];
    // A file with nothing in it is one, too.
    let nothing = file.bytes.is_empty().then_some(empty);
    let block_id = format!("file-{n}");
    file.bytes.chunks(MAX_PIECE).chain(nothing).map(move |bytes| Block {
        mime_type: Some(file.mime_type.clone()),
        file_name: file.file_name.clone(),
        ..Block::piece(id, &block_id, bytes)
    })
}

fn end(outgoing: &Outgoing) -> StreamEnd {
    let button =
        |Button { label, says }: &Button| driver::Button { label: label.clone(), says: says.clone() };
    StreamEnd {
        id: outgoing.id.clone(),
        channel: chat(&outgoing.to),
        reply_to: outgoing.reply_to.clone(),
        edits: outgoing.edits.clone(),
        buttons: outgoing.buttons.iter().map(button).collect(),
    }
}

fn chat(address: &Address) -> Chat {
    let kind = match address.chat_type {
        Kind::Direct => ChatKind::Direct,
        Kind::Group => ChatKind::Group,
        Kind::Channel => ChatKind::Channel,
    };
    Chat::new(kind, address.chat.clone(), address.thread.clone())
}
