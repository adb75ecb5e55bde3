//! A transcript as a model reads it: what people, the agent and its tools said, and nothing else of what stands
//! there.

use crate::agents::{Image, Said, ToolCall};
use crate::store::{self, MessageRow};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a model is told of a call that has no result: its turn was ended while it ran.
const NO_RESULT: &str = "[no result: the turn was ended before this call was through]";

/// What the rows say, oldest first; not commands and their answers, nor notes of the gateway. Every call has its
/// result behind it and every result its call before it, as providers demand.
pub fn conversation<'a>(rows: impl IntoIterator<Item = &'a MessageRow>) -> Vec<Said> {
    let mut all = Vec::new();
    let mut open: Vec<ToolCall> = Vec::new();
    for row in rows {
        match said(row) {
            None => {}
            Some(Said::Tool { call_id, name, text, images }) => {
                if let Some(at) = open.iter().position(|call| call.id == call_id) {
                    open.remove(at);
                    all.push(Said::Tool { call_id, name, text, images });
                }
            }
            Some(other) => {
                all.extend(open.drain(..).map(without_result));
                if let Said::Assistant { calls, .. } = &other {
                    open.clone_from(calls);
                }
                all.push(other);
            }
        }
    }
    all.extend(open.into_iter().map(without_result));
    all
}

fn without_result(call: ToolCall) -> Said {
    Said::Tool { call_id: call.id, name: call.name, text: NO_RESULT.into(), images: Vec::new() }
}

/// What a row says to a model.
pub fn said(row: &MessageRow) -> Option<Said> {
    if row.message["excludeFromContext"] == true {
        return None;
    }
    let text = store::text_of(&row.message);
    let word = |name: &str| row.message[name].as_str().unwrap_or_default().to_owned();
    match row.kind.as_str() {
        "user" => Some(Said::User { text, images: images(&row.message) }),
        "assistant" => Some(Said::Assistant { text, calls: calls(&row.message) }),
        "toolResult" => Some(Said::Tool {
            call_id: word("toolCallId"),
            name: word("toolName"),
            text,
            images: images(&row.message),
        }),
        _ => None,
    }
}

/// The calls in an answer.
pub fn calls(message: &Value) -> Vec<ToolCall> {
    parts(message, "toolCall").filter_map(|part| ToolCall::deserialize(part).ok()).collect()
}

/// The calls of the last of a turn's rows that have no result among them.
pub fn open_calls(rows: &[MessageRow]) -> Vec<ToolCall> {
    let Some(last) = rows.iter().rposition(|row| row.kind == "assistant") else { return Vec::new() };
    let done: BTreeSet<&str> =
        rows[last..].iter().filter_map(|row| row.message["toolCallId"].as_str()).collect();
    calls(&rows[last].message).into_iter().filter(|call| !done.contains(&*call.id)).collect()
}

fn images(message: &Value) -> Vec<Image> {
    let image = |part: &Value| {
        Some(Image { mime_type: part["mimeType"].as_str()?.to_owned(), data: part["data"].as_str()?.into() })
    };
    parts(message, "image").filter_map(image).collect()
}

fn parts<'a>(message: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    message["content"].as_array().into_iter().flatten().filter(move |part| part["type"] == kind)
}
