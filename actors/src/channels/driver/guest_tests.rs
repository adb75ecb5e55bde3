use super::*;
use crate::channels::driver::sealed::tests::{Caller, call};
use crate::settings::Secret;
use serde_json::{Value, json};

const GATEWAY: [u8; 32] = [2; 32];

/// The door of `signal/default`.
fn terms(secret: AuthSecret, pinned: bool) -> Terms {
    let pinned = pinned.then(|| PublicKey::from(&StaticSecret::from([1; 32])));
    Terms { client_id: "signal/default".into(), secret, pinned, claims: Default::default() }
}

fn token() -> AuthSecret {
    AuthSecret::Token(Secret::new("right"))
}

fn frame(kind: &str, payload: Value) -> Packet {
    Packet::Text(json!({ "type": kind, "id": "1", "timestamp": 1, "payload": payload }).to_string())
}

fn connect(changes: Value) -> Packet {
    let mut payload = json!({ "protocol": 1, "driver": "t", "channel": "signal", "token": "right" });
    payload.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    frame("connect", payload)
}

fn text(packet: &Packet) -> String {
    let Packet::Text(text) = packet else { panic!("{packet:?}") };
    text.clone()
}

/// What becomes of somebody who says these.
fn said(terms: &Terms, packets: &[Packet]) -> Verdict {
    let find = |who: &str| (who == "signal/default").then(|| terms.clone());
    let key = LinkKey::new(GATEWAY);
    let mut guest = Guest::new(&find, Some(&key), || 1);
    packets.iter().map(|packet| guest.hear(packet)).last().unwrap()
}

fn is_unauthorized(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Out(None, close) if close.code == 4001 && close.reason == "Unauthorized")
}

/// accepts: B15, C8
#[test]
fn whoever_may_not_come_in_is_told_no_more_than_that() {
    let open = terms(token(), false);
    let other = json!({ "account": "other" });
    for packet in [
        connect(json!({ "token": "wrong" })),
        connect(json!({ "token": null })),
        connect(json!({ "channel": "other" })),
        connect(json!({ "channel": null })),
        connect(other),
        frame("heartbeat", json!({})),
        frame("seal", json!({ "protocol": 1, "channel": "signal", "key": "AAAA" })),
        Packet::Text("no json".into()),
        Packet::Text(format!("{}{}", " ".repeat(MAX_GREETING), text(&connect(json!({}))))),
        Packet::Binary(b"{}".to_vec()),
        connect(json!({ "token": "wrong", "protocol": 2 })),
    ] {
        assert!(is_unauthorized(said(&open, std::slice::from_ref(&packet))), "{packet:?}");
    }
    assert!(matches!(said(&open, &[connect(json!({}))]), Verdict::In(admitted) if admitted.sealer.is_none()));
}

#[test]
fn who_is_known_is_told_what_does_not_fit() {
    let Verdict::Out(Some(last), close) = said(&terms(token(), false), &[connect(json!({ "protocol": 2 }))])
    else {
        panic!()
    };
    assert!(text(&last).contains("unsupported"));
    assert_eq!((close.code, close.reason.contains("protocol 2")), (1008, true));
}

#[test]
fn a_link_that_is_to_be_sealed_is_not_taken_in_the_open() {
    assert!(is_unauthorized(said(&terms(token(), true), &[connect(json!({}))])));
}

/// Seals as the driver whose key is `own`, and goes on with what `then` makes of that.
fn sealing(terms: &Terms, own: u8, then: impl FnOnce(&mut Caller) -> Packet) -> (Verdict, Caller) {
    let find = |who: &str| (who == "signal/default").then(|| terms.clone());
    let key = LinkKey::new(GATEWAY);
    let mut guest = Guest::new(&find, Some(&key), || 1);
    let (own, made) = (StaticSecret::from([own; 32]), StaticSecret::from([7; 32]));
    let mine = sealed::tests::encoded(&PublicKey::from(&made));
    let hello = frame("seal", json!({ "protocol": 1, "channel": "signal", "key": mine }));
    let Verdict::Answer(answer) = guest.hear(&hello) else { panic!() };
    let answer: Value = serde_json::from_str(&text(&answer)).unwrap();
    assert_eq!(answer["type"], "seal");
    let theirs = sealed::public_key(answer["payload"]["key"].as_str().unwrap()).unwrap();
    let gateway = PublicKey::from(&StaticSecret::from(GATEWAY));
    let mut caller = call(&own, &made, &gateway, &theirs, "signal/default");
    let packet = then(&mut caller);
    (guest.hear(&packet), caller)
}

#[test]
fn who_has_the_key_comes_in_sealed_and_needs_no_token() {
    let connect = text(&connect(json!({ "token": null })));
    let (verdict, mut caller) = sealing(&terms(AuthSecret::None, true), 1, |caller| {
        Packet::Binary(caller.sealer.seal(&connect).unwrap())
    });
    let Verdict::In(mut admitted) = verdict else { panic!() };
    let packet = wrap(admitted.sealer.as_mut(), admitted.welcome).unwrap();
    let Packet::Binary(bytes) = packet else { panic!("it is sealed") };
    assert!(caller.opener.open(&bytes).unwrap().contains("connected"));
    let heartbeat = Packet::Binary(caller.sealer.seal("{}").unwrap());
    assert_eq!(unwrap(admitted.opener.as_mut(), heartbeat.clone()), Ok("{}".into()));
    assert_eq!(unwrap(admitted.opener.as_mut(), heartbeat).unwrap_err().code, 4001, "it was repeated");
    let plain = Packet::Text("{}".into());
    assert_eq!(unwrap(admitted.opener.as_mut(), plain).unwrap_err().code, 4001, "it is not sealed");
}

#[test]
fn who_has_another_key_or_goes_on_in_the_open_does_not_come_in() {
    let terms = terms(AuthSecret::None, true);
    let hello = text(&connect(json!({})));
    let sealed = |caller: &mut Caller| Packet::Binary(caller.sealer.seal(&hello).unwrap());
    assert!(is_unauthorized(sealing(&terms, 9, sealed).0));
    assert!(is_unauthorized(sealing(&terms, 1, |_| connect(json!({}))).0));
    let torn = |caller: &mut Caller| Packet::Binary(caller.sealer.seal(&hello).unwrap()[1..].to_vec());
    assert!(is_unauthorized(sealing(&terms, 1, torn).0));
    assert!(matches!(sealing(&terms, 1, sealed).0, Verdict::In(_)));
}

#[test]
fn a_sealed_link_asks_for_the_token_too_if_there_is_one() {
    let wrong = text(&connect(json!({ "token": "wrong" })));
    let sealed = |caller: &mut Caller| Packet::Binary(caller.sealer.seal(&wrong).unwrap());
    assert!(is_unauthorized(sealing(&terms(token(), true), 1, sealed).0));
}

#[test]
fn frames_in_the_open_are_text_of_a_size() {
    assert_eq!(unwrap(None, Packet::Binary(vec![])).unwrap_err().code, 1003);
    assert_eq!(unwrap(None, Packet::Text("x".repeat(MAX_FRAME + 1))).unwrap_err().code, 1009);
    assert!(unwrap(None, Packet::Text("x".repeat(MAX_FRAME))).is_ok());
}
