use super::*;
use crate::settings::Secret;
use serde_json::{Value, json};

fn session(secret: AuthSecret, claims: Capabilities) -> Session {
    Session::new("signal/default".into(), secret, claims, || 1_000)
}

fn open() -> Session {
    let mut session = session(AuthSecret::None, Capabilities::texts(2000));
    assert!(matches!(session.hear(&connect(json!({}))), Step::Welcome(_)));
    session
}

fn frame(kind: &str, id: &str, payload: Value) -> String {
    json!({ "type": kind, "id": id, "timestamp": 900, "payload": payload }).to_string()
}

fn connect(changes: Value) -> String {
    let mut payload = json!({ "protocol": 1, "driver": "test/1" });
    payload.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    frame("connect", "hello", payload)
}

fn message(id: &str) -> String {
    let payload = json!({
        "channel": { "kind": "group", "id": "g", "thread": "7", "title": "Home", "own_sessions": true },
        "sender": { "id": "u", "name": "Ann", "roles": ["owner"] },
        "content": "hi", "mentions_me": true, "quote": { "id": "q", "sender": "Bo", "content": "?" },
    });
    frame("message_in", id, payload)
}

fn said(step: Step) -> Value {
    let (Step::Say(frame) | Step::Welcome(frame) | Step::End(frame, _)) = step else { panic!("{step:?}") };
    serde_json::from_str(&frame).unwrap()
}

fn refusal(step: Step) -> (String, String) {
    let said = said(step);
    let text = |name: &str| said["payload"][name].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

/// accepts: B16, B19
#[test]
fn who_connects_is_told_which_connection_and_account_it_is() {
    let mut session = session(AuthSecret::None, Capabilities::texts(2000));
    let welcome = said(session.hear(&connect(json!({}))));
    let id = welcome["session_id"].as_str().unwrap().to_owned();
    assert_eq!(welcome["type"], "connected");
    assert_eq!(
        welcome["payload"],
        json!({
            "protocol": 1, "client_id": "signal/default", "heartbeat_ms": 30_000,
            "max_frame": 1_048_576, "max_files": 16_777_216, "max_unacknowledged": 64,
        })
    );
    let of = |session: &str| json!({ "type": "heartbeat", "id": "1", "timestamp": 1, "payload": {}, "session_id": session });
    assert_eq!(session.hear(&of(&id).to_string()), Step::None);
    assert!(refusal(session.hear(&of("another").to_string())).1.contains("another connection"));
}

#[test]
fn nothing_is_taken_before_connect_and_connect_only_once() {
    let mut session = session(AuthSecret::None, Capabilities::texts(2000));
    assert_eq!(refusal(session.hear(&message("m"))), ("refused".into(), "connect comes first".into()));
    assert!(matches!(session.hear(&connect(json!({}))), Step::Welcome(_)));
    assert_eq!(refusal(session.hear(&connect(json!({})))).0, "refused");
}

#[test]
fn who_does_not_know_the_token_is_not_let_in() {
    for token in [json!({}), json!({ "token": "wrong" }), json!({ "token": "" })] {
        let secret = AuthSecret::Token(Secret::new("right"));
        let mut session = session(secret, Capabilities::texts(2000));
        let step = session.hear(&connect(token));
        assert!(matches!(step, Step::End(_, Trouble::Fatal(_))), "{step:?}");
        assert_eq!(refusal(step).0, "unauthorized");
        assert_eq!(refusal(session.hear(&message("m"))).1, "connect comes first");
        assert!(matches!(session.hear(&connect(json!({ "token": "right" }))), Step::Welcome(_)));
    }
}

#[test]
fn what_is_claimed_of_a_platform_its_driver_must_offer() {
    let mut claims = Capabilities::texts(2000);
    claims.typing = Some(Duration::from_secs(5));
    for (offers, told) in [
        (json!({}), "typing is set"),
        (json!({ "typing": true, "text_limit": 1999 }), "the driver takes 1999 at most"),
        (json!({ "typing": true, "unit": "utf16" }), "unit has to be utf16"),
    ] {
        let step = session(AuthSecret::None, claims).hear(&connect(json!({ "capabilities": offers })));
        let (code, message) = refusal(step);
        assert_eq!(code, "unsupported");
        assert!(message.contains(told), "{message}");
        assert!(message.ends_with("change channels.signal.driver.capabilities"), "{message}");
    }
    let more =
        json!({ "capabilities": { "typing": true, "files": true, "text_limit": 9000, "unit": "chars" } });
    assert!(matches!(session(AuthSecret::None, claims).hear(&connect(more)), Step::Welcome(_)));
}

#[test]
fn another_version_is_not_spoken() {
    let step = session(AuthSecret::None, Capabilities::texts(1)).hear(&connect(json!({ "protocol": 2 })));
    assert!(matches!(step, Step::End(_, Trouble::Fatal(_))));
    assert_eq!(refusal(step).0, "unsupported");
}

#[test]
fn a_message_is_handed_in_as_it_is() {
    let Step::Receive(envelope) = open().hear(&message("m1")) else { panic!() };
    let expected = Envelope {
        id: "m1".into(),
        from: Sender { id: "u".into(), name: Some("Ann".into()), ..Sender::default() },
        at: Address { chat_type: Kind::Group, chat: "g".into(), thread: Some("7".into()) },
        place: Place {
            title: Some("Home".into()),
            own_sessions: true,
            roles: vec!["owner".into()],
            ..Place::default()
        },
        text: "hi".into(),
        attachments: vec![],
        mentions_me: true,
        replies_to_me: false,
        quote: Some(Quote { id: "q".into(), from: Some("Bo".into()), text: "?".into() }),
        at_ms: 900,
    };
    assert_eq!(*envelope, expected);
}

#[test]
fn files_come_before_their_message() {
    let mut session = open();
    let block = |content: &str| {
        let payload = json!({
            "id": "m1", "block_id": "1", "block_type": "file", "content": content, "mime_type": "text/plain",
            "file_name": "a.txt",
        });
        frame("stream_block", "b", payload)
    };
    assert_eq!(session.hear(&block("aGU=")), Step::None);
    assert_eq!(session.hear(&block("eQ==")), Step::None);
    let Step::Receive(envelope) = session.hear(&message("m1")) else { panic!() };
    let file = &envelope.attachments[0];
    assert_eq!((file.bytes.as_slice(), file.file_name.as_deref()), (&b"hey"[..], Some("a.txt")));
    session.hear(&block("no base64!"));
    let (code, why) = refusal(session.hear(&message("m1")));
    assert!(code == "refused" && why.contains("send it again under the same id without them"), "{why}");
    assert!(matches!(session.hear(&message("m1")), Step::Receive(_)));
}

#[test]
fn a_driver_that_begins_too_much_is_not_heard_any_further() {
    let mut session = open();
    let block = |id: usize| {
        let payload = json!({ "id": id.to_string(), "block_id": "1", "block_type": "file", "content": "" });
        session.hear(&frame("stream_block", "b", payload))
    };
    let steps: Vec<_> = (0..9).map(block).collect();
    assert!(steps[..8].iter().all(|step| *step == Step::None));
    assert!(matches!(&steps[8], Step::End(_, Trouble::Retry(_))));
}

#[test]
fn answers_say_what_became_of_a_message() {
    let answered = |kind: &str, payload: Value| match open().hear(&frame(kind, "a", payload)) {
        Step::Settled(id, answer) => {
            assert_eq!(id, "out");
            answer
        }
        step => panic!("{step:?}"),
    };
    let ack = |payload| answered("message_ack", payload);
    assert_eq!(ack(json!({ "id": "out", "platform_id": "p" })), Ok("p".into()));
    assert_eq!(ack(json!({ "id": "out" })), Ok("out".into()));
    let error = |payload| answered("error", payload).unwrap_err();
    assert_eq!(
        error(json!({ "id": "out", "code": "refused", "message": "too\nlong" })),
        SendError::Refused("too long".into())
    );
    assert_eq!(error(json!({ "id": "out", "code": "unknown" })), SendError::Unknown(String::new()));
    let later = |ms: Value| error(json!({ "id": "out", "code": "later", "retry_after_ms": ms }));
    let after = |after| SendError::Later { why: String::new(), after };
    assert_eq!(later(json!(1500)), after(Some(Duration::from_millis(1500))));
    assert_eq!(later(json!(u64::MAX)), after(Some(MAX_PAUSE)));
    assert_eq!(later(json!(null)), after(None));
}

#[test]
fn what_cannot_be_understood_is_answered_and_the_connection_goes_on() {
    let mut session = open();
    let refused = said(session.hear(r#"{"type":"message","id":"9","timestamp":1,"payload":{}}"#));
    assert_eq!((&refused["payload"]["id"], &refused["payload"]["code"]), (&json!("9"), &json!("invalid")));
    assert_eq!(refusal(session.hear("no json")).0, "invalid");
    assert!(matches!(session.hear(&message("m")), Step::Receive(_)));
}
