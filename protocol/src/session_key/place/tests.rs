use super::*;

fn key(raw: &str) -> SessionKey {
    SessionKey::canonical(raw, "main").unwrap()
}

/// accepts: C6, I2
#[test]
fn keys_are_openclaws_own_and_tell_their_parts_again() {
    use ChatType::{Channel, Direct, Group};
    let chat =
        |channel, account, chat, peer| SessionKey::of_chat("main", channel, account, chat, peer).unwrap();
    let whole = |channel, account, chat_type, peer, topic| Place { channel, account, chat_type, peer, topic };
    let rows = [
        (
            SessionKey::of_peer("main", " Alice ").unwrap(),
            "agent:main:direct:alice",
            whole(None, None, Direct, "alice", None),
        ),
        (
            chat("Telegram", None, Direct, "123"),
            "agent:main:telegram:direct:123",
            whole(Some("telegram"), None, Direct, "123", None),
        ),
        (
            chat("telegram", Some(""), Direct, "123"),
            "agent:main:telegram:default:direct:123",
            whole(Some("telegram"), Some("default"), Direct, "123", None),
        ),
        (
            chat("telegram", None, Group, "-1001").topic("42").unwrap(),
            "agent:main:telegram:group:-1001:topic:42",
            whole(Some("telegram"), None, Group, "-1001", Some("42")),
        ),
        (
            chat("discord", None, Channel, "9").thread("77").unwrap(),
            "agent:main:discord:channel:9:thread:77",
            whole(Some("discord"), None, Channel, "9", None),
        ),
        (
            chat("matrix", None, Channel, "!Room:Server"),
            "agent:main:matrix:channel:!Room:Server",
            whole(Some("matrix"), None, Channel, "!Room:Server", None),
        ),
        (
            chat("signal", None, Group, "aBc="),
            "agent:main:signal:group:aBc=",
            whole(Some("signal"), None, Group, "aBc=", None),
        ),
        (
            chat("whatsapp", None, Group, "12@G.us"),
            "agent:main:whatsapp:group:12@g.us",
            whole(Some("whatsapp"), None, Group, "12@g.us", None),
        ),
        (
            chat("", None, Group, ""),
            "agent:main:unknown:group:unknown",
            whole(Some(UNKNOWN), None, Group, UNKNOWN, None),
        ),
    ];
    for (made, written, place) in rows {
        assert_eq!(made.as_str(), written);
        assert_eq!(made.place(), Some(place), "{written}");
    }
    assert_eq!(key("telegram:dm:5").place().map(|place| place.chat_type), Some(Direct));
    assert_eq!(key("discord:channel:9:thread:77").thread_id(), Some("77"));
    assert_eq!(chat("discord", None, Channel, "9").thread(" ").unwrap(), chat("discord", None, Channel, "9"));
}

/// accepts: C6, I2, I3
#[test]
fn a_key_tells_mode_kind_and_classification() {
    let direct = Some(ChatType::Direct);
    let rows = [
        ("main", None, "main", "direct", "main"),
        ("main", direct, "main", "direct", "main"),
        ("main:thread:4", None, "main", "direct", "thread"),
        ("dashboard:4c6d", None, "main", "direct", "dashboard"),
        ("dashboard:4c6d", direct, "main", "direct", "direct"),
        ("acp-bridge:987b", direct, "main", "direct", "direct"),
        ("t3idem2", None, "main", "direct", "custom"),
        ("t3abq", direct, "main", "direct", "direct"),
        ("direct:alice", None, "main", "direct", "direct"),
        ("telegram:default:direct:1", None, "main", "direct", "direct"),
        ("telegram:group:-1", None, "group", "group", "group"),
        ("telegram:group:-1:topic:2", None, "group", "group", "group"),
        ("discord:channel:9", None, "group", "group", "channel"),
        ("discord:channel:9:thread:7", None, "group", "group", "thread"),
        ("cron:4891", None, "queue", "direct", "cron"),
        ("cron:4891:run:group:1", None, "queue", "direct", "cron"),
        ("hook:github", None, "queue", "direct", "hook"),
        ("subagent:x", None, "queue", "direct", "subagent"),
        ("explicit:1111", None, "queue", "direct", "explicit"),
        ("heartbeat", None, "queue", "direct", "heartbeat"),
    ];
    for (rest, known, mode, kind, classification) in rows {
        let key = key(rest);
        assert_eq!((key.mode().name(), key.kind(known)), (mode, kind), "{rest}");
        assert_eq!(key.classification(known), classification, "{rest}");
    }
}

/// accepts: C6
#[test]
fn what_is_no_chat_has_no_place() {
    for rest in
        ["main", "t1", "a:b", "a:b:c", "a:b:group:c", "telegram:group", "dashboard:direct:x", "cron:group:x"]
    {
        assert_eq!(key(rest).place(), None, "{rest}");
    }
    assert!(SessionKey::of_peer("main", &"p".repeat(600)).is_err(), "as long as any other key at most");
}
