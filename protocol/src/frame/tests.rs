use super::*;
use crate::refusal::Refusal;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_is_borrowed() {
    let raw = r#"{"type":"req","id":"1:ab","method":"chat.send","params":{"a":[1, 2]}}"#;
    let frame = RequestFrame::parse(raw).unwrap();
    assert_eq!((frame.id, &*frame.method), (r#""1:ab""#, "chat.send"));
    assert!(matches!(frame.method, Cow::Borrowed(_)));
    assert_eq!(frame.params.unwrap().get(), r#"{"a":[1, 2]}"#);
    assert_eq!(frame.id_text(), "1:ab");
}

#[test]
fn absent_and_null_params_are_the_same() {
    for raw in [
        r#"{"type":"req","id":"1","method":"health"}"#,
        r#" {"type":"req","id":"1","method":"health","params":null}"#,
    ] {
        assert!(RequestFrame::parse(raw).unwrap().params.is_none());
    }
}

#[test]
fn traces_and_profiles_are_read() {
    let raw =
        r#"{"type":"req","id":"m5","method":"x","traceparent":"00-4bf92f35-00","expectedProfileId":"nope"}"#;
    let frame = RequestFrame::parse(raw).unwrap();
    assert_eq!(frame.traceparent.as_deref(), Some("00-4bf92f35-00"));
    assert_eq!(frame.expected_profile_id.as_deref(), Some("nope"));
}

/// Every bad frame of the recording, with the id and text it was answered with.
#[test]
fn bad_frames_are_answered_as_recorded() {
    let long = format!(r#"{{"type":"req","id":"m6","method":"h","traceparent":"{}"}}"#, "x".repeat(129));
    let cases: &[(&str, &str, &str)] = &[
        (
            r#"{"type":"req","method":"health","params":{}}"#,
            r#""invalid""#,
            "must have required property 'id'",
        ),
        (r#"{"type":"req","id":7,"method":"health","params":{}}"#, "7", "at /id: must be string"),
        (
            r#"{"type":"req","id":"","method":"health"}"#,
            r#""""#,
            "at /id: must not have fewer than 1 characters",
        ),
        (r#"{"type":"req","id":"m1"}"#, r#""m1""#, "must have required property 'method'"),
        (
            r#"{"type":"req","id":"m2","method":""}"#,
            r#""m2""#,
            "at /method: must not have fewer than 1 characters",
        ),
        (
            r#"{"type":"req","id":"m3","method":"health","zzz":1}"#,
            r#""m3""#,
            "at root: unexpected property 'zzz'",
        ),
        (r#"{"id":"m4","method":"health"}"#, r#""m4""#, "must have required property 'type'"),
        (
            r#"{"type":"event","event":"x"}"#,
            r#""invalid""#,
            "must have required property 'id'; at root: unexpected property 'event'; at /type: must be equal to constant",
        ),
        (
            r#"{"type":"res","id":"q","ok":true}"#,
            r#""q""#,
            "must have required property 'method'; at root: unexpected property 'ok'; at /type: must be equal to constant",
        ),
        ("42", r#""invalid""#, "must be object"),
        ("null", r#""invalid""#, "must be object"),
        ("[]", r#""invalid""#, "must be object"),
        (r#"["req","\"1\"","health"]"#, r#""invalid""#, "must be object"),
        (
            r#"{"type":"req","id":"m7","method":"health","traceparent":null,"expectedProfileId":null}"#,
            r#""m7""#,
            "at /traceparent: must be string; at /expectedProfileId: must be string",
        ),
        (&long, r#""m6""#, "at /traceparent: must not have more than 128 characters"),
    ];
    for (raw, id, what) in cases {
        let expected =
            FrameError::Invalid { id: (*id).to_owned(), message: format!("invalid request frame: {what}") };
        assert_eq!(RequestFrame::parse(raw).unwrap_err(), expected, "{raw}");
    }
}

#[test]
fn what_is_no_json_is_ignored() {
    for raw in ["", "nope{", "hello", "{\"type\":\"req\"", "{} {}"] {
        let error = RequestFrame::parse(raw).unwrap_err();
        assert_eq!(error, FrameError::NotJson);
        assert_eq!(error.refusal(), None);
        assert_eq!(error.close_before_handshake(), Close::silent());
    }
}

#[test]
fn responses_are_written_in_the_recorded_order() {
    assert_eq!(
        text(encode_ok("\"1\"", b"{\"a\":1}")),
        r#"{"type":"res","id":"1","ok":true,"payload":{"a":1}}"#
    );
    assert_eq!(text(encode_ok("\"1\"", b"null")), r#"{"type":"res","id":"1","ok":true,"payload":null}"#);
    assert_eq!(text(encode_ok_empty("7")), r#"{"type":"res","id":7,"ok":true}"#);
    let refusal = Refusal::unknown_method("no.such.method");
    let error = r#""error":{"code":"INVALID_REQUEST","message":"unknown method: no.such.method"}}"#;
    assert_eq!(
        text(encode_refusal("\"x\"", &refusal)),
        format!(r#"{{"type":"res","id":"x","ok":false,{error}"#)
    );
    assert_eq!(
        text(encode_error_with_payload("\"x\"", &refusal, b"{}")),
        format!(r#"{{"type":"res","id":"x","ok":false,"payload":{{}},{error}"#)
    );
}

#[test]
fn encoders_allocate_once() {
    let refusal = Refusal::draining("chat.send", "accepting");
    for frame in [
        encode_ok("\"1\"", &[b' '; 1000]),
        encode_ok_empty("\"1\""),
        encode_refusal("\"1\"", &refusal),
        encode_error_with_payload("\"1\"", &refusal, b"{}"),
    ] {
        assert!(frame.capacity() <= frame.len() + 256, "{} of {}", frame.len(), frame.capacity());
    }
}

#[test]
fn a_seq_goes_between_payload_and_state_version() {
    let plain = event_head("tick", br#"{"ts":5}"#, None);
    assert_eq!(text(plain.encode(Some(3))), r#"{"type":"event","event":"tick","payload":{"ts":5},"seq":3}"#);
    assert_eq!(text(plain.encode(None)), r#"{"type":"event","event":"tick","payload":{"ts":5}}"#);
    let versioned = event_head("presence", b"{}", Some(StateVersion { presence: 14, health: 11 }));
    let expected = r#"{"type":"event","event":"presence","payload":{},"seq":1,"stateVersion":{"presence":14,"health":11}}"#;
    assert_eq!(text(versioned.encode(Some(1))), expected);
    assert!(versioned.encode(Some(u64::MAX)).len() <= versioned.max_len());
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    assert_eq!(Close::new(1008, "é".repeat(70)).reason.len(), 120);
    assert_eq!(Close::new(1008, format!("x{}", "é".repeat(70))).reason.len(), 119);
    assert_eq!(Close::too_big(), Close { code: 1009, reason: String::new() });
}
