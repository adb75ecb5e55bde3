//! A transcript as a model reads it: what people, the agent and its tools said, and nothing else of what stands
//! there.

use crate::agents::{Image, Said, ToolCall};
use crate::media;
use crate::store::{self, MessageRow};
use crate::tools::ToolResult;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};

/// What a picture takes of a model's mind, in characters.
const IMAGE_CHARS: usize = 4_000;
/// One result may take this part of it.
const RESULT_SHARE: usize = 4;
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

/// The newest part of it, of about `most` characters: what is to be answered in any case. It begins with what a person
/// said, or at least not with a result.
pub fn fitting(all: Vec<Said>, most: usize) -> Vec<Said> {
    let (mut left, mut kept) = (most, VecDeque::new());
    for said in all.into_iter().rev() {
        let said = shortened(said, most / RESULT_SHARE);
        let size = size(&said);
        if size > left && !kept.is_empty() {
            break;
        }
        left = left.saturating_sub(size);
        kept.push_front(said);
    }
    let begins = kept.iter().position(|said| matches!(said, Said::User { .. }));
    let begins = begins.or_else(|| kept.iter().position(|said| !matches!(said, Said::Tool { .. })));
    kept.drain(..begins.unwrap_or(0));
    kept.into()
}

fn shortened(said: Said, most: usize) -> Said {
    match said {
        Said::Tool { call_id, name, text, images } if text.len() > most => {
            let text = ToolResult::text(text).cut(most).as_text();
            Said::Tool { call_id, name, text, images }
        }
        other => other,
    }
}

/// Characters, about.
fn size(said: &Said) -> usize {
    let (calls, images) = match said {
        Said::Assistant { calls, .. } => (calls.iter().map(|call| call.arguments.to_string().len()).sum(), 0),
        Said::User { images, .. } | Said::Tool { images, .. } => (0, images.len()),
    };
    said.text().len() + calls + images * IMAGE_CHARS
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
        "user" => Some(Said::User { text: with_files(text, &row.message), images: images(&row.message) }),
        "assistant" => {
            let thought =
                parts(&row.message, "thinking").filter_map(|part| part["thinking"].as_str()).collect();
            let calls = calls(&row.message);
            // Of a turn that ran out of time there may be an empty row; providers refuse such.
            let is_empty = text.is_empty() && calls.is_empty();
            (!is_empty).then_some(Said::Assistant { text, calls, thought })
        }
        "toolResult" => Some(Said::Tool {
            call_id: word("toolCallId"),
            name: word("toolName"),
            text,
            images: images(&row.message),
        }),
        _ => None,
    }
}

/// What came with a message, if it is not shown in its content.
fn with_files(mut text: String, message: &Value) -> String {
    if message["content"].is_string() {
        for fact in media::facts(&message["__openclaw"]) {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&format!("[{}]", media::called(fact)));
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(id: &str, text: &str) -> Said {
        Said::Tool { call_id: id.into(), name: "t".into(), text: text.into(), images: vec![] }
    }

    fn calling(ids: &[&str]) -> Said {
        let call = |id: &&str| ToolCall {
            id: (*id).into(),
            name: "t".into(),
            arguments: serde_json::json!({}),
            thought_signatures: vec![],
        };
        Said::Assistant { text: String::new(), calls: ids.iter().map(call).collect(), thought: String::new() }
    }

    #[test]
    fn what_does_not_fit_is_the_oldest_and_no_result_loses_its_call() {
        let all = vec![
            Said::user("x".repeat(50)),
            calling(&["a"]),
            tool("a", "old result"),
            Said::user("y".repeat(50)),
            calling(&["b"]),
            tool("b", "r"),
        ];
        assert_eq!(fitting(all.clone(), 1_000), all);
        assert_eq!(fitting(all.clone(), 60), all[3..]);
        assert_eq!(fitting(all.clone(), 10), all[4..], "a long turn: not even its question fits");
        assert_eq!(fitting(vec![Said::user("z".repeat(99))], 10).len(), 1, "what is to be answered stays");
    }

    #[test]
    fn a_huge_result_does_not_push_out_all_the_rest() {
        let all = vec![Said::user("question"), calling(&["a"]), tool("a", &"r".repeat(10_000))];
        let kept = fitting(all, 1_000);
        assert_eq!(kept.len(), 3);
        assert!(kept[2].text().len() < 400 && kept[2].text().contains("left out"));
    }
}
