//! What is asked, out of the messages of a request: the last of them is what is to be answered, those before it are told
//! for context, and those of the system are instructions for this turn.

use super::Wrong;
use crabtree_protocol::params::chat::Attachment;
use serde::Deserialize;
use serde_json::{Value, json};

/// Pictures of the message that is to be answered (as recorded).
const MAX_PICTURES: usize = 8;

/// One message.
#[derive(Debug, Deserialize)]
pub struct Message {
    #[serde(default)]
    role: String,
    #[serde(default)]
    content: Value,
}

/// What is asked.
#[derive(Debug, Default, PartialEq)]
pub struct Conversation {
    /// The words.
    pub text: String,
    /// What comes with them.
    pub pictures: Vec<Value>,
    /// What the model is told for this turn.
    pub instructions: Option<String>,
}

impl Conversation {
    /// Out of `messages`. In a session of its own the request tells all that was said before; in one that goes on, only
    /// what is behind the agent's last answer is news.
    pub fn of(messages: &[Message], is_fresh: bool) -> Result<Self, Wrong> {
        let is_system = |message: &&Message| matches!(message.role.as_str(), "system" | "developer");
        let instructions: Vec<String> =
            messages.iter().filter(is_system).map(|message| texts(&message.content)).collect();
        let said: Vec<&Message> = messages.iter().filter(|message| !is_system(message)).collect();
        let Some(at) = said.iter().rposition(|message| message.role == "user") else {
            return Err(Wrong::request("Missing user message in `messages`."));
        };
        if let Some(stray) = said[at + 1..].iter().find(|message| message.role != "assistant") {
            return Err(Wrong::request(format!(
                "Messages of role `{}` are not taken: the agent runs its own tools.",
                stray.role
            )));
        }
        let current = said[at];
        let pictures = pictures(&current.content)?;
        let text = texts(&current.content);
        if text.trim().is_empty() && pictures.is_empty() {
            return Err(Wrong::request("Missing user message in `messages`."));
        }
        let first = if is_fresh {
            0
        } else {
            said[..at].iter().rposition(|message| message.role == "assistant").map_or(0, |answer| answer + 1)
        };
        let before: Vec<String> = said[first..at].iter().filter_map(|message| line(message)).collect();
        let text = match before.is_empty() {
            true => text,
            false => format!(
                "[Said before in this conversation, for context]\n{}\n[The message for you]\n{text}",
                before.join("\n")
            ),
        };
        let instructions = instructions.join("\n\n");
        Ok(Self { text, pictures, instructions: (!instructions.trim().is_empty()).then_some(instructions) })
    }

    /// The pictures, as messages bring files.
    pub fn files(&self) -> Result<Vec<Attachment>, Wrong> {
        let attachments = self.pictures.iter().map(Attachment::deserialize).collect::<Result<_, _>>();
        attachments.map_err(|e| Wrong::request(e.to_string()))
    }
}

fn line(message: &Message) -> Option<String> {
    let text = texts(&message.content);
    let who = if message.role == "assistant" { "You" } else { "User" };
    (!text.trim().is_empty()).then(|| format!("{who}: {text}"))
}

/// The words of a content: a string, or parts.
fn texts(content: &Value) -> String {
    let parts = match content {
        Value::String(text) => return text.clone(),
        Value::Array(parts) => parts,
        _ => return String::new(),
    };
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

fn pictures(content: &Value) -> Result<Vec<Value>, Wrong> {
    let mut pictures = Vec::new();
    for part in content.as_array().into_iter().flatten() {
        match part["type"].as_str() {
            Some("text" | "input_text" | "output_text") => {}
            Some("image_url" | "input_image") => pictures.push(picture(part)?),
            Some(kind) => return Err(Wrong::request(format!("Content of type `{kind}` is not taken."))),
            None => return Err(Wrong::request("A content part has no `type`.")),
        }
    }
    if pictures.len() > MAX_PICTURES {
        return Err(Wrong::request(format!("Too many images: {MAX_PICTURES} are taken.")));
    }
    Ok(pictures)
}

/// A picture, which has to be in the request itself: nothing is fetched for it.
fn picture(part: &Value) -> Result<Value, Wrong> {
    let source = &part["source"];
    if let (Some(kind), Some(data)) = (source["media_type"].as_str(), source["data"].as_str()) {
        return Ok(json!({ "type": "image", "mimeType": kind, "content": data }));
    }
    let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str()).unwrap_or_default();
    let (kind, data) =
        url.strip_prefix("data:").and_then(|url| url.split_once(";base64,")).ok_or_else(|| {
            Wrong::request("Images are taken as `data:` URLs in base64 only; nothing is fetched for them.")
        })?;
    Ok(json!({ "type": "image", "mimeType": kind, "content": data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: Value, is_fresh: bool) -> Result<Conversation, String> {
        let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
        Conversation::of(&messages, is_fresh).map_err(|wrong| wrong.message)
    }

    #[test]
    fn what_was_said_before_is_context_once() {
        let messages = json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": "1" },
            { "role": "user", "content": [{ "type": "text", "text": "two" }] },
            { "role": "user", "content": "three" },
        ]);
        let fresh = of(messages.clone(), true).unwrap();
        assert_eq!(
            fresh.text,
            "[Said before in this conversation, for context]\nUser: one\nYou: 1\nUser: two\n[The message for you]\nthree"
        );
        assert_eq!(fresh.instructions.as_deref(), Some("Be brief."));
        let known = of(messages, false).unwrap();
        assert_eq!(
            known.text,
            "[Said before in this conversation, for context]\nUser: two\n[The message for you]\nthree"
        );
    }

    #[test]
    fn pictures_come_with_the_request_or_not_at_all() {
        let with = |url: &str| json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": url } }] }]);
        let taken = of(with("data:image/png;base64,AAAA"), true).unwrap();
        assert_eq!(taken.pictures, [json!({ "type": "image", "mimeType": "image/png", "content": "AAAA" })]);
        assert!(of(with("http://10.0.0.1/x.png"), true).unwrap_err().contains("nothing is fetched"));
        let many: Vec<Value> =
            vec![json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } }); 9];
        assert!(of(json!([{ "role": "user", "content": many }]), true).unwrap_err().contains("Too many"));
    }

    #[test]
    fn somebody_has_to_say_something() {
        for messages in [
            json!([]),
            json!([{ "role": "assistant", "content": "hi" }]),
            json!([{ "role": "user", "content": " " }]),
        ] {
            assert_eq!(of(messages, true).unwrap_err(), "Missing user message in `messages`.");
        }
        let tool = json!([{ "role": "user", "content": "x" }, { "role": "tool", "content": "y" }]);
        assert!(of(tool, true).unwrap_err().contains("role `tool`"));
    }
}
