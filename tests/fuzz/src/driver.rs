//! A frame of a channel driver, as a line of a child process or a message at `/driver`: accepted if its schema accepts
//! it, and everything that is kept of it is within its limits.

use crate::Target;
use crate::twice::repeats_within;
use crabtree_protocol::driver::{BlockType, Frame, FromDriver, MAX_NAME, Refused, RefusedCode, ToDriver};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// See the module.
pub const TARGET: Target = Target {
    name: "driver",
    read,
    steps: 3,
    seeds,
    words: &[
        "\"type\":\"message_in\"",
        "\"payload\":{",
        "\"session_id\":",
        "\"timestamp\":0",
        "\"channel\":{\"kind\":\"group\",\"id\":\"g\"}",
        "\"sender\":{\"id\":\"u\"}",
        "\"quote\":",
        "\"block_type\":\"text\"",
        "=",
    ],
    inputs: 150_000,
};

/// By the schema that those who write drivers are given.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::validator_for(&schemars::schema_for!(Frame<FromDriver>).to_value()).unwrap()
});

fn seeds() -> Vec<String> {
    let chat = json!({ "kind": "direct", "id": "c" });
    let group = json!({
        "kind": "channel", "id": "g1", "thread": "7", "title": "Home", "own_sessions": true, "parent": "p",
        "guild": "s", "team": "t",
    });
    let who = json!({ "id": "u", "name": "Ann", "username": "ann", "is_bot": false, "roles": ["a", "b"] });
    let payloads = [
        (
            "connect",
            json!({ "protocol": 1, "driver": "x/1", "capabilities": { "edits_every_ms": 900, "unit": "utf16" } }),
        ),
        (
            "connect",
            json!({ "protocol": 1, "driver": "x", "channel": "signal", "account": "a", "token": "t" }),
        ),
        ("seal", json!({ "protocol": 1, "channel": "signal", "account": "a", "key": "a2V5" })),
        (
            "message_in",
            json!({ "channel": chat, "sender": who, "content": "hi", "quote": { "id": "q", "content": "" } }),
        ),
        (
            "message_in",
            json!({ "channel": group, "sender": who, "content": "", "mentions_me": true, "sent_at": 5 }),
        ),
        (
            "stream_block",
            json!({
                "id": "m", "block_id": "1", "block_type": "file", "content": "eHk=", "mime_type": "image/png", "file_name": "a",
            }),
        ),
        ("message_ack", json!({ "id": "o", "platform_id": "p" })),
        ("error", json!({ "id": "o", "code": "later", "message": "wait", "retry_after_ms": 5 })),
        ("presence", json!({ "channel": chat, "sender": who, "state": "typing" })),
        ("reaction", json!({ "channel": group, "sender": who, "message_id": "m", "emoji": "🦀" })),
        ("channel_status", json!({ "state": "connected", "me": who })),
        ("channel_status", json!({ "state": "login", "qr": "2@" })),
        ("channel_status", json!({ "state": "disconnected", "reason": "" })),
        ("channel_status", json!({ "state": "failed", "reason": "logged out" })),
        ("heartbeat", json!({})),
    ];
    let framed = |(kind, payload): (&str, Value)| json!({ "type": kind, "id": "1", "timestamp": 1_700_000_000_000_u64, "session_id": "s", "payload": payload });
    let (short, long) = ("x".repeat(MAX_NAME), "x".repeat(MAX_NAME + 1));
    let edges = [short, long].map(|name| framed(("message_ack", json!({ "id": "o", "platform_id": name }))));
    payloads.into_iter().map(framed).chain(edges).map(|frame| frame.to_string()).collect()
}

/// No JSON, refused, understood.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let value = serde_json::from_str::<Value>(&text);
    match Frame::read(&text) {
        Err(invalid) => {
            assert!(!invalid.why.is_empty());
            assert!(invalid.id.as_ref().is_none_or(|id| id.len() <= MAX_NAME));
            let refused = Refused { id: invalid.id, code: RefusedCode::Invalid, message: invalid.why };
            let answer =
                Frame { body: ToDriver::Error(refused), id: "2".into(), timestamp: 1, session_id: None };
            assert!(!answer.write().contains('\n'), "a frame is a line");
            let Ok(value) = value else { return 0 };
            let is_right =
                SCHEMA.is_valid(&value) && is_known(&value) && is_whole(&value) && !repeats_within(&text);
            assert!(!is_right || longest(&value) > MAX_NAME || empty(&value), "nothing is wrong with it");
            1
        }
        Ok(frame) => {
            let value = value.unwrap();
            assert!(SCHEMA.is_valid(&value) && is_known(&value), "the schema does not accept it");
            assert_eq!((&value["id"], &value["timestamp"]), (&json!(frame.id), &json!(frame.timestamp)));
            assert!((1..=MAX_NAME).contains(&frame.id.len()));
            assert!(longest(&value) <= MAX_NAME, "a name is longer than {MAX_NAME} bytes");
            if let FromDriver::StreamBlock(block) = &frame.body
                && let (BlockType::File, Ok(bytes)) = (block.block_type, block.bytes())
            {
                assert!(bytes.len() <= block.content.len());
            }
            2
        }
    }
}

/// Whether a frame has nothing that frames do not have.
fn is_known(frame: &Value) -> bool {
    let known = ["type", "id", "timestamp", "session_id", "payload"];
    frame.as_object().is_some_and(|frame| frame.keys().all(|key| known.contains(&key.as_str())))
}

/// Whether all numbers are whole as they are written: to a schema 1e3 is, too.
fn is_whole(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(is_whole),
        Value::Object(members) => members.values().all(is_whole),
        _ => true,
    }
}

/// What is as long as it likes: texts for people, and contents.
const LONG: [&str; 5] = ["content", "message", "reason", "qr", "state"];

/// The longest name in a frame.
fn longest(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(longest).max().unwrap_or_default(),
        Value::Object(members) => {
            let names = members.iter().filter(|(key, _)| !LONG.contains(&key.as_str()));
            names.map(|(_, value)| longest(value)).max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// Whether a name is empty.
fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(empty),
        Value::Object(members) => members.iter().any(|(_, value)| *value == "" || empty(value)),
        _ => false,
    }
}
