use super::*;
use serde_json::json;

fn me() -> Me {
    let me = json!({ "id": 7, "is_bot": true, "first_name": "Crab", "username": "Crab_bot", "can_join_groups": true });
    serde_json::from_value(me).unwrap()
}

/// A message of Ann's, with this besides.
fn message(more: Value) -> Message {
    let mut message = json!({
        "message_id": 5, "date": 1_700_000_000, "chat": { "id": 42, "type": "private", "first_name": "Ann" },
        "from": { "id": 42, "is_bot": false, "first_name": "Ann", "last_name": "Lee", "username": "ann" },
    });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(message).unwrap()
}

fn envelope(more: Value) -> Envelope {
    message(more).envelope(&me()).unwrap()
}

fn supergroup(is_forum: bool) -> Value {
    json!({ "id": -1001, "type": "supergroup", "title": "Club", "is_forum": is_forum })
}

#[test]
fn a_text_says_who_where_and_when() {
    let heard = envelope(json!({ "text": "hello" }));
    assert_eq!(heard.id, "42:5");
    let ann =
        Sender { id: "42".into(), name: Some("Ann Lee".into()), username: Some("ann".into()), is_bot: false };
    assert_eq!(heard.from, ann);
    assert_eq!(heard.at, Address { chat_type: Kind::Direct, chat: "42".into(), thread: None });
    assert_eq!((heard.text.as_str(), heard.at_ms), ("hello", 1_700_000_000_000));
    assert!(!heard.mentions_me && !heard.replies_to_me && heard.quote.is_none());
}

#[test]
fn a_caption_is_a_text_too() {
    let heard = envelope(json!({
        "caption": "@crab_bot look", "photo": [{ "file_id": "p" }],
        "caption_entities": [{ "type": "mention", "offset": 0, "length": 9 }],
    }));
    assert_eq!((heard.text.as_str(), heard.mentions_me), ("@crab_bot look", true));
}

#[test]
fn every_kind_of_chat_has_its_place() {
    let at = |chat: Value, more: Value| {
        let mut all = json!({ "text": "x", "chat": chat });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let heard = envelope(all);
        (heard.at.chat_type, heard.at.thread, heard.place.own_sessions, heard.place.title)
    };
    let club = || Some("Club".to_owned());
    let group = json!({ "id": -5, "type": "group", "title": "Club" });
    assert_eq!(at(group, json!({})), (Kind::Group, None, false, club()));
    // A row of replies is no topic.
    assert_eq!(at(supergroup(false), json!({ "message_thread_id": 9 })), (Kind::Group, None, false, club()));
    let topic = json!({ "message_thread_id": 9, "is_topic_message": true });
    assert_eq!(at(supergroup(true), topic), (Kind::Group, Some("9".into()), true, club()));
    assert_eq!(at(supergroup(true), json!({})), (Kind::Group, Some("1".into()), true, club()));
    assert_eq!(
        at(supergroup(true), json!({ "message_thread_id": 9 })),
        (Kind::Group, Some("1".into()), true, club())
    );
    let channel = json!({ "id": -1002, "type": "channel", "title": "Club" });
    assert_eq!(at(channel, json!({})), (Kind::Channel, None, false, club()));
    let private = json!({ "id": 42, "type": "private" });
    assert_eq!(at(private, json!({ "message_thread_id": 3 })), (Kind::Direct, Some("3".into()), false, None));
}

#[test]
fn topics_of_direct_chats_are_sessions_where_the_bot_has_them() {
    let me = Me { has_topics_enabled: true, ..me() };
    let heard = message(json!({ "text": "x", "message_thread_id": 3 })).envelope(&me).unwrap();
    assert!(heard.place.own_sessions);
    assert!(!message(json!({ "text": "x" })).envelope(&me).unwrap().place.own_sessions);
}

#[test]
fn who_speaks_for_a_chat_is_that_chat() {
    let channel = json!({ "id": -1002, "type": "channel", "title": "News", "username": "news" });
    let post: Message = serde_json::from_value(json!({
        "message_id": 1, "date": 1, "chat": channel, "sender_chat": channel, "text": "x",
    }))
    .unwrap();
    let from = post.envelope(&me()).unwrap().from;
    assert_eq!(
        (from.id.as_str(), from.name.as_deref(), from.username.as_deref()),
        ("-1002", Some("News"), Some("news"))
    );
    // An anonymous administrator.
    let hidden = json!({ "id": 1_087_968_824, "is_bot": true, "first_name": "Group" });
    let heard = envelope(json!({
        "chat": supergroup(false), "from": hidden, "sender_chat": supergroup(false), "text": "x",
    }));
    assert_eq!((heard.from.id.as_str(), heard.from.is_bot), ("-1001", false));
}

#[test]
fn our_own_messages_are_left_out_and_other_bots_are_told() {
    let own = json!({ "id": 7, "is_bot": true, "first_name": "Crab" });
    assert!(message(json!({ "from": own, "text": "x" })).envelope(&me()).is_none());
    let other = json!({ "id": 8, "is_bot": true, "first_name": "Other" });
    assert!(envelope(json!({ "from": other, "text": "x" })).from.is_bot);
}

#[test]
fn what_says_nothing_is_left_out() {
    for more in [json!({}), json!({ "new_chat_title": "x" }), json!({ "text": "" }), json!({ "poll": {} })] {
        assert!(message(more).envelope(&me()).is_none());
    }
}

#[test]
fn it_is_mentioned_by_name_by_link_and_by_command() {
    let mentions = |text: &str, entity: Value| {
        let heard = envelope(json!({ "text": text, "entities": [entity] }));
        (heard.mentions_me, heard.text)
    };
    // Offsets are counted in UTF-16.
    let mention =
        |offset: usize, length: usize| json!({ "type": "mention", "offset": offset, "length": length });
    assert!(mentions("🦀🦀 @crab_BOT hi", mention(5, 9)).0);
    assert!(!mentions("🦀🦀 @crab_BOT hi", mention(4, 9)).0);
    assert!(!mentions("@other_bot hi", mention(0, 10)).0);
    assert!(!mentions("@crab_bot", mention(90, usize::MAX)).0);
    let link = |id: u64| {
        let user = json!({ "id": id, "is_bot": true, "first_name": "C" });
        json!({ "type": "text_mention", "offset": 0, "length": 4, "user": user })
    };
    assert!(mentions("Crab hi", link(7)).0);
    assert!(!mentions("Crab hi", link(8)).0);
    let command = |length: usize| json!({ "type": "bot_command", "offset": 0, "length": length });
    assert_eq!(mentions("/status@Crab_bot now", command(16)), (true, "/status now".into()));
    assert_eq!(mentions("/status@other now", command(13)), (false, "/status@other now".into()));
    assert_eq!(mentions("/status now", command(7)), (false, "/status now".into()));
}

#[test]
fn a_reply_tells_what_to() {
    let replied = |from: u64, id: i32| {
        json!({
            "message_id": id, "date": 1, "chat": supergroup(true), "text": "the whole",
            "from": { "id": from, "is_bot": from == 7, "first_name": "Someone" },
        })
    };
    let heard = envelope(json!({ "chat": supergroup(true), "text": "x", "reply_to_message": replied(7, 3) }));
    assert!(heard.replies_to_me);
    let quote = Quote { id: "-1001:3".into(), from: Some("Someone".into()), text: "the whole".into() };
    assert_eq!(heard.quote, Some(quote));
    let marked = envelope(json!({
        "chat": supergroup(true), "text": "x", "reply_to_message": replied(8, 3), "quote": { "text": "whole", "position": 4 },
    }));
    assert_eq!((marked.replies_to_me, marked.quote.unwrap().text.as_str()), (false, "whole"));
    // A topic that we began.
    let topic = json!({ "message_thread_id": 3, "is_topic_message": true });
    let mut in_topic = json!({ "chat": supergroup(true), "text": "x", "reply_to_message": replied(7, 3) });
    in_topic.as_object_mut().unwrap().extend(topic.as_object().unwrap().clone());
    let heard = envelope(in_topic);
    assert!(!heard.replies_to_me && heard.quote.is_none());
}

#[test]
fn every_kind_of_file_is_found() {
    let file = |id: &str| json!({ "file_id": id, "file_size": 9, "mime_type": "a/b" });
    for kind in ["document", "voice", "audio", "video", "video_note", "animation", "sticker"] {
        let heard = message(json!({ kind: file(kind) }));
        assert_eq!(heard.media().unwrap().0.file_id.0, kind);
        assert!(heard.envelope(&me()).is_some());
    }
    let sizes = json!([{ "file_id": "s", "file_size": 1 }, { "file_id": "l", "file_size": 3 }]);
    let photo = message(json!({ "photo": sizes }));
    assert_eq!(
        photo.media().map(|(media, mime_type)| (media.file_id.0.as_str(), mime_type)),
        Some(("l", "image/jpeg"))
    );
    let animation = message(json!({ "animation": file("a"), "document": file("d") }));
    assert_eq!(animation.media().unwrap().0.file_id.0, "a");
    assert_eq!(envelope(json!({ "sticker": { "file_id": "s", "emoji": "🦀" } })).text, "🦀");
}

/// Telegram gained dates in texts (`date_time`) after teloxide 0.13.
#[test]
fn what_is_newer_than_we_are_costs_no_message() {
    let heard = envelope(json!({
        "text": "@crab_bot at noon",
        "entities": [{ "type": "date_time", "offset": 10, "length": 7, "unix_time": 1 }, { "type": "mention", "offset": 0, "length": 9 }],
        "reply_to_message": { "message_id": "not yet known" },
        "quote": 1, "photo": [{ "new": true }], "document": { "new": true }, "rich_message": { "blocks": [] },
    }));
    assert_eq!((heard.text.as_str(), heard.mentions_me, heard.quote), ("@crab_bot at noon", true, None));
}

#[test]
fn a_press_is_a_message_of_who_pressed() {
    let (number, news) = read(
        &json!({ "update_id": 3, "callback_query": {
            "id": "77", "from": { "id": 9, "is_bot": false, "first_name": "Bob" }, "chat_instance": "1", "data": "yes",
            "message": { "message_id": 4, "date": 0, "chat": { "id": -1001, "type": "supergroup", "title": "Club" } },
        } })
        .to_string(),
    )
    .unwrap();
    let Ok(Update::Press(press)) = news else { panic!("it is a press") };
    let heard = press.envelope("Yes!".into(), &me(), 5).unwrap();
    assert_eq!((number, heard.id.as_str(), heard.text.as_str()), (3, "-1001:4:77", "Yes!"));
    assert_eq!((heard.from.id.as_str(), heard.at.chat.as_str(), heard.at_ms), ("9", "-1001", 5));
    assert!(heard.mentions_me && heard.replies_to_me);
}

#[test]
fn what_cannot_be_read_still_has_its_number() {
    assert!(matches!(read(r#"{"update_id":3,"message":{"text":"x"}}"#), Some((3, Err(_)))));
    assert!(matches!(read(r#"{"update_id":4,"future":{}}"#), Some((4, Ok(Update::Other)))));
    assert!(read(r#"{"message":{}}"#).is_none());
    assert!(read("7").is_none());
}
