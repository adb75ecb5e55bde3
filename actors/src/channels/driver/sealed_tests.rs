use super::*;

/// A driver's end of a link.
pub struct Caller {
    pub opener: Opener,
    pub sealer: Sealer,
}

/// What a driver makes of the keys: its own, its key for the connection, and those that it knows of the gateway.
pub fn call(
    own: &StaticSecret,
    made: &StaticSecret,
    gateway: &PublicKey,
    theirs: &PublicKey,
    client_id: &str,
) -> Caller {
    let mut said = Vec::new();
    let public = [&PublicKey::from(own), gateway, &PublicKey::from(made), theirs];
    for part in [client_id.as_bytes()].into_iter().chain(public.map(|key| key.as_bytes().as_slice())) {
        said.extend((part.len() as u32).to_le_bytes());
        said.extend(part);
    }
    let secrets = [(made, theirs), (made, gateway), (own, theirs), (own, gateway)]
        .map(|(ours, theirs)| *ours.diffie_hellman(theirs).as_bytes());
    let key = |context| blake3::derive_key(context, &[secrets.as_flattened(), &said].concat());
    Caller { opener: Opener(Half::new(key(DOWN))), sealer: Sealer(Half::new(key(UP))) }
}

fn secret(byte: u8) -> StaticSecret {
    StaticSecret::from([byte; 32])
}

fn public(byte: u8) -> PublicKey {
    PublicKey::from(&secret(byte))
}

/// Both ends, where the driver's keys are 1 and 3, and the gateway's 2 and 4.
fn link() -> (Caller, Agreed) {
    let agreed = agree(&LinkKey::new([2; 32]), &public(1), "signal/default", &public(3), &secret(4)).unwrap();
    (call(&secret(1), &secret(3), &public(2), &public(4), "signal/default"), agreed)
}

/// The expected values come from another implementation: Python's `cryptography` and `blake3`.
#[test]
fn the_keys_and_what_they_seal_are_those_of_the_vectors() {
    assert_eq!(LinkKey::new([2; 32]).public(), "zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=");
    let (_, mut gateway) = link();
    assert_eq!(gateway.key, "rAGyIJ6GNU+4UyN7XeD0+rE8f8v0M6YcAZNpYX/s8Qs=");
    for (sealed, frame) in [
        ("RZ1QGehGssZqv4W1ffeBI9uDTY6VZSG7W0bU", r#"{"first":1}"#),
        ("6Ys3ZMn6sYj+8WnsgAkWSyhkAZqYFsnMnF4B4A==", r#"{"second":2}"#),
    ] {
        assert_eq!(gateway.opener.open(&STANDARD.decode(sealed).unwrap()).unwrap(), frame);
    }
    for (frame, sealed) in [
        (r#"{"answer":1}"#, "O8/Pcgg9tybqEIxc3IkulmGDU6yhMR+O/9bW+Q=="),
        (r#"{"answer":2}"#, "qNL4Nt0cz9FkCH5AhtQr95eCnyZvqbB3+eWlCA=="),
    ] {
        assert_eq!(STANDARD.encode(gateway.sealer.seal(frame).unwrap()), sealed);
    }
}

#[test]
fn what_one_seals_the_other_opens() {
    let (mut driver, mut gateway) = link();
    for frame in ["a", "", "ä".repeat(1000).as_str()] {
        assert_eq!(gateway.opener.open(&driver.sealer.seal(frame).unwrap()).unwrap(), frame);
        assert_eq!(driver.opener.open(&gateway.sealer.seal(frame).unwrap()).unwrap(), frame);
    }
}

#[test]
fn another_key_another_account_or_another_connection_opens_nothing() {
    let (mut driver, _) = link();
    let sealed = driver.sealer.seal("hello").unwrap();
    let opens = |gateway: u8, pinned: u8, client_id: &str, made: u8, ours: u8| {
        let key = LinkKey::new([gateway; 32]);
        agree(&key, &public(pinned), client_id, &public(made), &secret(ours)).unwrap().opener.open(&sealed)
    };
    assert_eq!(opens(2, 1, "signal/default", 3, 4).as_deref(), Ok("hello"));
    for (gateway, pinned, client_id, made, ours) in [
        (9, 1, "signal/default", 3, 4),
        (2, 9, "signal/default", 3, 4),
        (2, 1, "signal/other", 3, 4),
        (2, 1, "signal/default", 9, 4),
        // The same driver's recording, at a gateway that has made another key.
        (2, 1, "signal/default", 3, 9),
    ] {
        assert_eq!(opens(gateway, pinned, client_id, made, ours), Err(Broken));
    }
}

#[test]
fn what_is_repeated_moved_lost_cut_or_changed_ends_the_link() {
    let frames = || {
        let (mut driver, gateway) = link();
        let sealed: Vec<_> = ["one", "two", "three"].map(|frame| driver.sealer.seal(frame).unwrap()).into();
        (sealed, gateway.opener)
    };
    type Attack = fn(&mut Vec<Vec<u8>>);
    let attacks: [(&str, Attack); 7] = [
        ("repeated", |frames| frames[1] = frames[0].clone()),
        ("moved", |frames| frames.swap(1, 2)),
        ("lost", |frames| drop(frames.remove(1))),
        ("cut", |frames| frames[1].truncate(18)),
        ("cut to nothing", |frames| frames[1].clear()),
        ("changed", |frames| frames[1][0] ^= 1),
        ("its tag changed", |frames| *frames[1].last_mut().unwrap() ^= 0x80),
    ];
    for (what, attack) in attacks {
        let (mut sealed, mut opener) = frames();
        let third = sealed[2].clone();
        attack(&mut sealed);
        assert_eq!(opener.open(&sealed[0]).as_deref(), Ok("one"));
        assert_eq!(opener.open(&sealed[1]), Err(Broken), "{what}");
        assert_eq!(opener.open(&third), Err(Broken), "{what}: nothing opens after it");
    }
}

#[test]
fn what_the_gateway_says_is_not_taken_for_what_a_driver_says() {
    let (_, mut gateway) = link();
    let own = gateway.sealer.seal("hello").unwrap();
    assert_eq!(gateway.opener.open(&own), Err(Broken));
}

#[test]
fn keys_that_make_every_secret_known_are_refused() {
    let zero = PublicKey::from([0; 32]);
    let key = LinkKey::new([2; 32]);
    assert!(agree(&key, &public(1), "x/default", &zero, &secret(4)).is_none());
    assert!(agree(&key, &zero, "x/default", &public(3), &secret(4)).is_none());
}

#[test]
fn a_frame_that_is_too_large_is_not_opened_and_a_counter_does_not_begin_anew() {
    let (mut driver, mut gateway) = link();
    assert!(gateway.opener.open(&vec![0; MAX_FRAME + TAG + 1]).is_err());
    driver.sealer.0.next = Some(u64::MAX);
    assert!(driver.sealer.seal("the last").is_ok());
    assert_eq!(driver.sealer.seal("one more"), Err(Broken));
}

#[test]
fn a_public_key_is_32_bytes_of_base64() {
    assert!(public_key("zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=").is_some());
    for text in ["", "zo06", "not base64!", &STANDARD.encode([0; 33])] {
        assert!(public_key(text).is_none(), "{text}");
    }
}

/// A public key as it is said.
pub fn encoded(key: &PublicKey) -> String {
    STANDARD.encode(key.as_bytes())
}
