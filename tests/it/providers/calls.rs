//! Calls of tools, in each dialect.

use super::server::{Dialect, line, sse};
use serde_json::{Value, json};

/// The frames of the call number `at` of an answer; where the arguments come in pieces, in two.
pub fn frames(dialect: Dialect, at: usize, name: &str, arguments: &Value) -> String {
    let text = arguments.to_string();
    let (first, second) = text.split_at(text.len() / 2);
    match dialect {
        Dialect::Completions => {
            let delta = |call: Value| {
                sse(None, &json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }))
            };
            let function = json!({ "name": name, "arguments": first });
            delta(json!({ "index": at, "id": id(at), "type": "function", "function": function }))
                + &delta(json!({ "index": at, "function": { "arguments": second } }))
        }
        Dialect::Responses => responses(at, name, &text, [first, second]),
        Dialect::Anthropic => anthropic(at, name, [first, second]),
        Dialect::Gemini => {
            let call = json!({ "name": name, "args": arguments });
            let content = json!({ "role": "model", "parts": [{ "functionCall": call }] });
            sse(None, &json!({ "candidates": [{ "content": content }] }))
        }
        Dialect::Ollama => {
            let call = json!({ "function": { "name": name, "arguments": arguments } });
            let message = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
            line(&json!({ "model": "m", "message": message, "done": false }))
        }
    }
}

/// Its id; Gemini and Ollama give none.
fn id(at: usize) -> String {
    format!("call_{at}")
}

fn responses(at: usize, name: &str, whole: &str, pieces: [&str; 2]) -> String {
    let index = at + 1;
    let item = |arguments: &str| {
        json!({
            "type": "function_call", "id": format!("fc_{at}"), "call_id": id(at), "name": name, "arguments": arguments,
        })
    };
    let event = |name: &str, mut data: Value| {
        data["type"] = json!(name);
        data["output_index"] = json!(index);
        sse(Some(name), &data)
    };
    let delta = |piece: &str| {
        event(
            "response.function_call_arguments.delta",
            json!({ "item_id": format!("fc_{at}"), "delta": piece }),
        )
    };
    event("response.output_item.added", json!({ "item": item("") }))
        + &pieces.map(delta).concat()
        + &event("response.output_item.done", json!({ "item": item(whole) }))
}

fn anthropic(at: usize, name: &str, pieces: [&str; 2]) -> String {
    let block = json!({ "type": "tool_use", "id": id(at), "name": name, "input": {} });
    let delta = |piece: &str| {
        let delta = json!({ "type": "input_json_delta", "partial_json": piece });
        sse(
            Some("content_block_delta"),
            &json!({ "type": "content_block_delta", "index": at + 1, "delta": delta }),
        )
    };
    let start = json!({ "type": "content_block_start", "index": at + 1, "content_block": block });
    sse(Some("content_block_stop"), &json!({ "type": "content_block_stop", "index": at }))
        + &sse(Some("content_block_start"), &start)
        + &pieces.map(delta).concat()
}
