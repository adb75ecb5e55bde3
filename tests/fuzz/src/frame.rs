//! A client's frame: accepted if a second reading accepts it, answered or closed in the recorded words if not.

use crate::Target;
use crate::mutate::seeds;
use crate::twice::repeats;
use crabtree_protocol::frame::{
    Close, INVALID_ID, MAX_TRACEPARENT_CHARS, encode_ok, encode_refusal, event_head,
};
use crabtree_protocol::{FrameError, RequestFrame};
use serde_json::{Value, json};

/// See the module.
pub const TARGET: Target = Target {
    name: "frame",
    read,
    steps: 3,
    seeds: all_seeds,
    words: &[
        "\"type\":\"req\"",
        "\"id\":",
        "\"method\":",
        "\"params\":",
        "\"traceparent\":",
        "\"expectedProfileId\":",
        "\"health\"",
        ",",
    ],
    inputs: 150_000,
};

/// Frames of clients, whatever they ask for.
fn all_seeds() -> Vec<String> {
    let calls = crate::recorded_requests().into_iter().enumerate().map(|(n, call)| {
        json!({ "type": "req", "id": n.to_string(), "method": call["method"], "params": call["params"] })
            .to_string()
    });
    let traced = json!({
        "type": "req", "id": "m5", "method": "x", "traceparent": "00-4bf92f35-00", "expectedProfileId": "nope", "params": {},
    });
    calls.chain([traced.to_string()]).chain(seeds()).collect()
}

/// No JSON, JSON that is no request, a request.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let value = serde_json::from_str::<Value>(&text);
    match RequestFrame::parse(&text) {
        Err(error) => {
            assert!(matches!(error.close_before_handshake(), Close { code: 1000 | 1008, .. }));
            assert_eq!(error.refusal().is_none(), error == FrameError::NotJson);
            let FrameError::Invalid { id, message } = &error else {
                assert!(value.is_err(), "it is JSON");
                return 0;
            };
            let (value, why) = (value.unwrap(), message.strip_prefix("invalid request frame: ").unwrap());
            assert_eq!(why == "must not repeat a property", is_request(&value), "{why}");
            assert!(!is_request(&value) || repeats(&text), "it is a request");
            let answer =
                serde_json::from_slice::<Value>(&encode_refusal(id, &error.refusal().unwrap())).unwrap();
            let own = &value["id"];
            assert!(answer["id"] == *own || id == INVALID_ID && !own.is_string() && !own.is_number());
            assert_eq!((&answer["ok"], &answer["error"]["message"]), (&json!(false), &json!(message)));
            1
        }
        Ok(frame) => {
            assert!(!repeats(&text), "a property stands there twice");
            // A second reading knows no half of a surrogate, no number past 64 bits, and less depth.
            assert!(value.as_ref().map_or(true, is_request), "it is no request");
            let again = written(&frame);
            let second = RequestFrame::parse(&again).unwrap();
            assert_eq!(format!("{frame:?}"), format!("{second:?}"));
            assert_eq!(written(&second), again);
            let answer = encode_ok(frame.id, b"null");
            assert!(answer.starts_with(format!("{{\"type\":\"res\",\"id\":{},", frame.id).as_bytes()));
            let event = event_head(&frame.method, b"{}", None).encode(Some(7));
            assert_eq!(serde_json::from_slice::<Value>(&event).unwrap()["event"], *frame.method);
            2
        }
    }
}

/// The frame as a client would write it.
fn written(frame: &RequestFrame<'_>) -> String {
    let mut text = format!(r#"{{"type":"req","id":{},"method":{}"#, frame.id, json!(frame.method));
    if let Some(params) = frame.params {
        text += &format!(r#","params":{params}"#);
    }
    for (name, value) in
        [("traceparent", &frame.traceparent), ("expectedProfileId", &frame.expected_profile_id)]
    {
        text += &value.as_ref().map(|value| format!(r#","{name}":{}"#, json!(value))).unwrap_or_default();
    }
    text + "}"
}

/// Whether a value is a request, by the published contract.
fn is_request(value: &Value) -> bool {
    let Value::Object(frame) = value else { return false };
    let text = |name: &str| frame.get(name).and_then(Value::as_str);
    let filled = |name: &str| text(name).is_some_and(|text| !text.is_empty());
    let known = ["type", "id", "method", "params", "traceparent", "expectedProfileId"];
    text("type") == Some("req")
        && filled("id")
        && filled("method")
        && frame.keys().all(|key| known.contains(&key.as_str()))
        && (!frame.contains_key("traceparent")
            || text("traceparent").is_some_and(|trace| trace.chars().count() <= MAX_TRACEPARENT_CHARS))
        && (!frame.contains_key("expectedProfileId") || filled("expectedProfileId"))
}
