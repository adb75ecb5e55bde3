//! What the user says in an editor, as the gateway takes it, and back.

use std::path::Path;

use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, EmbeddedResourceResource, SessionUpdate, TextContent,
};
use serde_json::Value;

use super::super::shown::message_text;

/// What stands before a message, and around the directory the editor works in.
const WORKING: (&str, &str) = ("[Working directory: ", "]\n\n");

/// The message, or why it is none. Words and links stand as they were written; what was enclosed follows them.
pub(super) fn text(blocks: &[ContentBlock], cwd: &Path) -> Result<String, String> {
    let (mut words, mut enclosed) = (String::new(), String::new());
    for block in blocks {
        match block {
            ContentBlock::Text(text) => words.push_str(&text.text),
            ContentBlock::ResourceLink(link) => words.push_str(&format!("[{}]({})", link.name, link.uri)),
            ContentBlock::Resource(resource) => match &resource.resource {
                EmbeddedResourceResource::TextResourceContents(text) => {
                    let uri = &text.uri;
                    words.push_str(&format!("[{}]({uri})", uri.rsplit('/').next().unwrap_or(uri)));
                    enclosed.push_str(&format!("\n\n<context uri={uri:?}>\n{}\n</context>", text.text));
                }
                _ => return Err("only text can be enclosed in a prompt, no other files".into()),
            },
            _ => return Err("pictures and sound cannot be sent yet; send text".into()),
        }
    }
    if words.trim().is_empty() && enclosed.is_empty() {
        return Err("a prompt needs some text".into());
    }
    // A command has to stand first.
    let place = match words.trim_start().starts_with('/') {
        true => String::new(),
        false => format!("{}{}{}", WORKING.0, cwd.display(), WORKING.1),
    };
    Ok(format!("{place}{words}{enclosed}"))
}

/// A message of a conversation, as it was shown when it was said.
pub(super) fn replayed(message: &Value) -> Option<SessionUpdate> {
    let text = message_text(message).or_else(|| Some(message["content"].as_str()?.to_owned()))?;
    let chunk = |text: &str| ContentChunk::new(ContentBlock::Text(TextContent::new(text)));
    match message["role"].as_str()? {
        _ if text.trim().is_empty() => None,
        "user" => Some(SessionUpdate::UserMessageChunk(chunk(without_place(&text)))),
        "assistant" => Some(SessionUpdate::AgentMessageChunk(chunk(&text))),
        _ => None,
    }
}

fn without_place(text: &str) -> &str {
    let behind = text.strip_prefix(WORKING.0).and_then(|rest| rest.split_once(WORKING.1));
    behind.map_or(text, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use agent_client_protocol::v1::schema::{
        BlobResourceContents, EmbeddedResource, ImageContent, ResourceLink, TextResourceContents,
    };
    use serde_json::json;

    use super::*;

    fn said(blocks: &[ContentBlock]) -> Result<String, String> {
        text(blocks, Path::new("/w"))
    }

    fn words(text: &str) -> ContentBlock {
        ContentBlock::Text(TextContent::new(text))
    }

    #[test]
    fn words_links_and_enclosed_texts_become_one_message() {
        let inside = TextResourceContents::new("fn f() {}", "file:///w/a.rs");
        let inside = EmbeddedResource::new(EmbeddedResourceResource::TextResourceContents(inside));
        let blocks = [
            words("Compare "),
            ContentBlock::Resource(inside),
            words(" with "),
            ContentBlock::ResourceLink(ResourceLink::new("b.rs", "file:///w/b.rs")),
        ];
        let message = "[Working directory: /w]\n\nCompare [a.rs](file:///w/a.rs) with [b.rs](file:///w/b.rs)\
                       \n\n<context uri=\"file:///w/a.rs\">\nfn f() {}\n</context>";
        assert_eq!(said(&blocks).as_deref(), Ok(message));
    }

    #[test]
    fn commands_stand_alone() {
        assert_eq!(said(&[words("/status")]).as_deref(), Ok("/status"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let blob =
            EmbeddedResourceResource::BlobResourceContents(BlobResourceContents::new("AA==", "file:///x"));
        let blob = ContentBlock::Resource(EmbeddedResource::new(blob));
        let image = ContentBlock::Image(ImageContent::new("AA==", "image/png"));
        for blocks in [vec![words("see"), image], vec![words("see"), blob], vec![words(" ")], vec![]] {
            assert!(said(&blocks).is_err(), "{blocks:?}");
        }
    }

    #[test]
    fn a_conversation_is_shown_as_it_was_said() {
        let message = said(&[words("hello")]).expect("text");
        let update = |message: Value| replayed(&message).map(|update| json!(update));
        let user = update(json!({"role": "user", "content": message}));
        assert_eq!(
            user,
            Some(
                json!({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "hello"}})
            )
        );
        let content = json!([{"type": "thinking", "thinking": "?"}, {"type": "text", "text": "hi"}]);
        let assistant = update(json!({"role": "assistant", "content": content}));
        assert_eq!(assistant.expect("said")["content"]["text"], "hi");
        assert_eq!(update(json!({"role": "toolResult", "content": [{"type": "text", "text": "x"}]})), None);
        assert_eq!(update(json!({"role": "assistant", "content": []})), None);
    }
}
