//! Saying something to people on a channel, without being asked.

use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use crate::channels::{Enclosure, Fate, Wish, send};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Longest text, characters: it goes out in pieces that the platform takes.
const MAX_TEXT: usize = 20_000;
/// The most files at once.
const MAX_FILES: usize = 10;
/// A little more than sending waits for a platform.
const LIMIT: Duration = Duration::from_secs(65);

/// The tool.
pub(super) fn tool() -> Arc<dyn Tool> {
    plain(definition(), say)
}

fn definition() -> Definition {
    let about = "Send a message to a person or a group on a messaging channel. Your answer in this conversation goes \
        out by itself: use this to write to somebody else, or elsewhere, and to send files.";
    Definition {
        name: "message".into(),
        label: "Message".into(),
        description: about.into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "to": {
                    "type": "string", "minLength": 1,
                    "description": "The platform's id of a person, or group:ID, channel:ID.",
                },
                "text": { "type": "string", "minLength": 1, "maxLength": MAX_TEXT, "description": "Markdown." },
                "files": {
                    "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1, "maxItems": MAX_FILES,
                    "description": "Paths in the workspace; each is sent after the text.",
                },
                "channel": { "type": "string", "description": "telegram, discord …; not needed if there is one." },
                "account": { "type": "string" },
                "thread": { "type": "string" },
            },
            "required": ["to"],
            "anyOf": [{ "required": ["text"] }, { "required": ["files"] }],
            "additionalProperties": false,
        }),
        group: "messaging".into(),
        permissions: vec![Permission::Message],
        timeout: LIMIT,
        sandbox: Sandbox::None,
        // The same call again is the same message.
        effects: Effects::Repeatable,
    }
}

fn files(call: &Call) -> Vec<Enclosure> {
    let paths = call.args["files"].as_array().into_iter().flatten().filter_map(|path| path.as_str());
    let agent_id = &*call.place.agent_id;
    paths.map(|path| Enclosure { agent_id: agent_id.to_owned(), path: path.to_owned() }).collect()
}

async fn say(call: Call) -> ToolResult {
    let word = |name: &str| call.args[name].as_str().map(str::to_owned);
    let wish = Wish {
        id: format!("{}-{}", call.place.run_id, call.id),
        channel: word("channel"),
        account: word("account"),
        to: word("to").unwrap_or_default(),
        thread: word("thread"),
        reply_to: None,
        text: word("text").unwrap_or_default(),
        files: files(&call),
    };
    match send(&call.place.store, wish).await {
        Ok(Fate::Sent(row)) => {
            let id = row.platform_id.unwrap_or_default();
            ToolResult::text(json!({ "sent": true, "channel": row.channel, "messageId": id }).to_string())
        }
        Ok(Fate::Waits) => {
            ToolResult::text("Not sent yet: the channel is not there. It goes out when it is back.")
        }
        Ok(Fate::Failed(why)) => ToolResult::error(format!("Not sent: {why}")),
        Err(why) => ToolResult::error(why),
    }
}
