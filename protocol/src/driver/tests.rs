use super::*;
use serde_json::{Value, json};

fn read(body: Value) -> Result<Frame<FromDriver>, Invalid> {
    let mut frame = json!({ "id": "1", "timestamp": 5 });
    frame.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    Frame::read(&frame.to_string())
}

fn why(body: Value) -> String {
    read(body).unwrap_err().why
}

fn message(change: impl FnOnce(&mut Value)) -> Value {
    let mut payload = json!({
        "channel": { "kind": "group", "id": "g1", "title": "Home" },
        "sender": { "id": "u1", "name": "Ann" },
        "content": "hi",
    });
    change(&mut payload);
    json!({ "type": "message_in", "payload": payload })
}

/// accepts: B18
#[test]
fn a_frame_is_type_id_timestamp_session_and_payload() {
    let frame = Frame {
        body: ToDriver::Heartbeat(Nothing {}),
        id: "7".into(),
        timestamp: 1_700_000_000_000,
        session_id: Some("s".into()),
    };
    let expected = json!({
        "type": "heartbeat", "id": "7", "timestamp": 1_700_000_000_000_u64, "session_id": "s", "payload": {},
    });
    assert_eq!(serde_json::from_str::<Value>(&frame.write()).unwrap(), expected);
    let read = Frame::read(&expected.to_string()).unwrap();
    assert_eq!((read.body, read.session_id), (FromDriver::Heartbeat(Nothing {}), Some("s".into())));
}

/// accepts: B20
#[test]
fn everything_a_driver_may_say_is_understood() {
    let chat = json!({ "kind": "direct", "id": "c" });
    let who = json!({ "id": "u" });
    for (kind, payload) in [
        ("connect", json!({ "protocol": 1, "driver": "x/1", "capabilities": { "edits_every_ms": 900 } })),
        ("seal", json!({ "protocol": 1, "channel": "signal", "key": "k" })),
        ("message_in", json!({ "channel": chat, "sender": who, "content": "", "quote": { "id": "q" } })),
        ("stream_block", json!({ "id": "m", "block_id": "1", "block_type": "file", "content": "" })),
        ("message_ack", json!({ "id": "o", "platform_id": "p" })),
        ("error", json!({ "id": "o", "code": "later", "retry_after_ms": 5 })),
        ("presence", json!({ "channel": chat, "sender": who, "state": "typing" })),
        ("reaction", json!({ "channel": chat, "sender": who, "message_id": "m", "emoji": "" })),
        ("channel_status", json!({ "state": "connected", "me": who })),
        ("channel_status", json!({ "state": "login", "qr": "2@" })),
        ("channel_status", json!({ "state": "disconnected", "reason": "" })),
        ("channel_status", json!({ "state": "failed", "reason": "logged out" })),
        ("heartbeat", json!({})),
    ] {
        read(json!({ "type": kind, "payload": payload })).unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
}

/// accepts: B21
#[test]
fn everything_the_gateway_says_has_its_name() {
    let (id, channel) = (String::from("1"), Chat::new(ChatKind::Direct, "c", None));
    let ack = Ack { id: id.clone(), platform_id: None };
    let end =
        StreamEnd { id: id.clone(), channel: channel.clone(), reply_to: None, edits: None, buttons: vec![] };
    let tool = ToolStatus { channel: channel.clone(), tool: "exec".into(), state: ToolState::Running };
    let refused = Refused { id: None, code: RefusedCode::Invalid, message: "no".into() };
    for (body, kind, payload) in [
        (ToDriver::MessageAck(ack), "message_ack", json!({ "id": "1" })),
        (
            ToDriver::StreamBlock(Block::piece("1", "b", b"xy")),
            "stream_block",
            json!({ "id": "1", "block_id": "b", "block_type": "file", "content": "eHk=" }),
        ),
        (
            ToDriver::StreamEnd(end),
            "stream_end",
            json!({ "id": "1", "channel": { "kind": "direct", "id": "c" } }),
        ),
        (
            ToDriver::ToolStatus(tool),
            "tool_status",
            json!({ "channel": { "kind": "direct", "id": "c" }, "tool": "exec", "state": "running" }),
        ),
        (ToDriver::Error(refused), "error", json!({ "code": "invalid", "message": "no" })),
    ] {
        let frame = Frame { body, id: id.clone(), timestamp: 1, session_id: None };
        let expected = json!({ "type": kind, "id": "1", "timestamp": 1, "payload": payload });
        assert_eq!(serde_json::from_str::<Value>(&frame.write()).unwrap(), expected);
    }
}

#[test]
fn what_is_mistyped_is_told_by_name() {
    for (body, told) in [
        (json!({ "type": "mesage_in", "payload": {} }), "unknown variant `mesage_in`"),
        (json!({ "type": "heartbeat", "payload": { "x": 1 } }), "unknown field `x`"),
        (json!({ "type": "heartbeat", "payload": {}, "sesion_id": "s" }), "unknown field `sesion_id`"),
        (json!({ "type": "heartbeat" }), "missing field `payload`"),
        (message(|m| m["replyTo"] = json!("q")), "unknown field `replyTo`"),
        (message(|m| m["channel"]["id"] = json!(7)), "invalid type: integer `7`"),
        (message(|m| m["sender"] = json!(["u", null, null])), "a list stands where an object belongs"),
        (
            json!({ "type": "channel_status", "payload": { "state": "login", "code": "x" } }),
            "unknown field `code`",
        ),
    ] {
        let said = why(body);
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn ids_are_there_and_names_are_of_a_size_that_can_be_kept() {
    let long = "x".repeat(MAX_NAME + 1);
    for (body, told) in [
        (message(|m| m["channel"]["id"] = json!("")), "channel.id is empty"),
        (message(|m| m["sender"]["id"] = json!("")), "id of a person is empty"),
        (message(|m| m["channel"]["title"] = json!(long)), "channel.title is longer than 1024 bytes"),
        (message(|m| m["sender"]["roles"] = json!(["a", long])), "role of a person is longer than"),
        (message(|m| m["quote"] = json!({ "id": long })), "quote.id is longer than"),
        (json!({ "type": "heartbeat", "payload": {}, "id": "" }), "id is empty"),
        (json!({ "type": "heartbeat", "payload": {}, "id": long }), "id is longer than"),
        (json!({ "type": "heartbeat", "payload": {}, "session_id": long }), "session_id is longer than"),
        (json!({ "type": "message_ack", "payload": { "id": long } }), "id of what is acknowledged is longer"),
        (
            json!({ "type": "error", "payload": { "id": "", "code": "later" } }),
            "id of what has failed is empty",
        ),
    ] {
        let said = why(body);
        assert!(said.starts_with(told), "{said}");
    }
    assert!(read(message(|m| m["channel"]["title"] = json!(&long[1..]))).is_ok());
}

#[test]
fn what_cannot_be_understood_still_tells_its_id() {
    assert_eq!(read(json!({ "type": "?", "payload": {} })).unwrap_err().id.as_deref(), Some("1"));
    for text in ["", "not json", "[]", r#"{"id":7}"#, &format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_NAME + 1))]
    {
        assert_eq!(Frame::read(text).unwrap_err().id, None, "{text}");
    }
}

#[test]
fn a_piece_and_a_long_text_fit_a_frame() {
    let piece = Block::piece("1", "2", &vec![0xff; MAX_PIECE]);
    assert_eq!(piece.bytes().unwrap(), vec![0xff; MAX_PIECE]);
    let frame = Frame { body: ToDriver::StreamBlock(piece), id: "1".into(), timestamp: 1, session_id: None };
    assert!(frame.write().len() < MAX_FRAME);
}

#[test]
fn the_protocol_has_a_schema() {
    for (schema, kind) in [
        (schemars::schema_for!(Frame<FromDriver>), "message_in"),
        (schemars::schema_for!(Frame<ToDriver>), "stream_end"),
    ] {
        let schema = schema.to_value();
        assert!(schema.to_string().contains(kind), "{schema}");
        assert!(schema["properties"].get("session_id").is_some());
    }
}
