//! The Telegram channel alone, with its real client, against a Bot API on loopback.

use crate::fakes::desk::{Desk, direct, group};
use crate::fakes::telegram::{BOT, Fault, TOKEN, Telegram};
use crabtree_actors::channels::contract::{Address, Attachment, Button, Heard, Kind, Outgoing, Trouble};
use crabtree_actors::channels::telegram::telegram;
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;

mod outgoing;
mod webhook;

/// How long is waited for what must not come.
const QUIET: Duration = Duration::from_millis(300);

fn open(fake: &Telegram) -> Desk {
    Desk::open(telegram(), fake.settings())
}

/// One that has greeted, and polls.
async fn connected(fake: &Telegram) -> Desk {
    let mut desk = open(fake);
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    fake.called("getUpdates").await;
    desk
}

/// Waits for something while the desk makes durable what is handed in.
async fn meanwhile<T>(desk: &mut Desk, something: impl Future<Output = T>) -> T {
    tokio::select! {
        done = something => done,
        _ = desk.next(|_| false) => unreachable!("nothing is asked for"),
    }
}

fn outgoing(to: Address, text: &str) -> Outgoing {
    Outgoing {
        id: "1".into(),
        to,
        text: text.into(),
        reply_to: None,
        edits: None,
        buttons: vec![],
        attachments: vec![],
    }
}

#[tokio::test]
async fn it_says_who_it_is_and_hands_in_what_is_written() {
    let fake = Telegram::start().await;
    let mut desk = open(&fake);
    let Heard::Connected(Some(me)) = desk.next(|news| matches!(news, Heard::Connected(_))).await else {
        panic!("it tells who it is")
    };
    assert_eq!((me.id, me.username.as_deref(), me.is_bot), (BOT.to_string(), Some("crab_bot"), true));
    let number = fake.text("hello");
    let heard = desk.message().await;
    assert_eq!(
        (heard.id, heard.text.as_str(), heard.from.id.as_str()),
        (format!("42:{number}"), "hello", "42")
    );
    assert_eq!(heard.at, direct("42"));
    let polled = fake.called("getUpdates").await;
    assert_eq!(
        polled["allowed_updates"],
        json!(["message", "channel_post", "callback_query", "message_reaction"])
    );
}

#[tokio::test]
async fn telegram_forgets_what_is_durable_and_nothing_else() {
    let fake = Telegram::start().await;
    fake.text("one");
    let last = fake.text("two");
    let mut desk = open(&fake);
    assert_eq!(desk.message().await.text, "one");
    let (two, durable) = desk.unacknowledged().await;
    assert_eq!(two.text, "two");
    // Killed between being handed in and being durable: both are fetched again, in their order.
    assert_eq!(fake.unconfirmed().len(), 2);
    drop(durable);
    let checkpoint = desk.kill();
    assert_eq!(checkpoint, None);
    let mut desk = Desk::resume(telegram(), fake.settings(), checkpoint);
    assert_eq!(desk.message().await.text, "one");
    let again = desk.message().await;
    assert_eq!((again.text.as_str(), &again.id), ("two", &two.id));
    meanwhile(&mut desk, fake.confirmed(last)).await;
    let checkpoint = desk.kill();
    assert_eq!(checkpoint, Some(format!("{BOT}:3")));
    // After a restart it goes on behind them.
    fake.text("three");
    let mut desk = Desk::resume(telegram(), fake.settings(), checkpoint);
    assert_eq!(desk.message().await.text, "three");
    desk.hears_no_message(QUIET).await;
}

#[tokio::test]
async fn what_was_kept_but_not_yet_confirmed_is_not_handed_in_twice() {
    let fake = Telegram::start().await;
    fake.text("one");
    fake.text("two");
    let mut desk = Desk::resume(telegram(), fake.settings(), Some(format!("{BOT}:2")));
    assert_eq!(desk.message().await.text, "two");
    desk.hears_no_message(QUIET).await;
}

#[tokio::test]
async fn a_place_of_another_bot_skips_nothing() {
    let fake = Telegram::start().await;
    fake.text("one");
    let mut desk = Desk::resume(telegram(), fake.settings(), Some("123:900".into()));
    assert_eq!(desk.message().await.text, "one");
}

#[tokio::test]
async fn an_update_that_cannot_be_read_costs_no_other() {
    let fake = Telegram::start().await;
    fake.text("before");
    fake.update(json!({ "message": { "text": "no chat, no date" } }));
    fake.update(json!({ "message": 7 }));
    fake.update(json!({ "callback_query": { "id": 7 } }));
    fake.update(json!({ "something": { "of": "tomorrow" } }));
    fake.raw(json!({ "message": { "text": "without a number" } }));
    fake.raw(json!("nonsense"));
    fake.text("after");
    let mut desk = open(&fake);
    assert_eq!(desk.message().await.text, "before");
    assert_eq!(desk.message().await.text, "after");
    meanwhile(&mut desk, fake.confirmed(6)).await;
}

#[tokio::test]
async fn updates_without_numbers_are_not_asked_for_in_haste() {
    let fake = Telegram::start().await;
    let mut desk = connected(&fake).await;
    fake.raw(json!("nonsense"));
    desk.next(|news| matches!(news, Heard::Disconnected(_))).await;
    let polls = fake.calls("getUpdates");
    desk.hears_no_message(QUIET).await;
    assert_eq!(fake.calls("getUpdates"), polls);
    // What comes meanwhile is not stuck behind it.
    fake.text("hello");
    assert_eq!(desk.message().await.text, "hello");
}

#[tokio::test]
async fn own_messages_and_service_messages_are_left_out() {
    let fake = Telegram::start().await;
    let own = json!({ "id": BOT, "is_bot": true, "first_name": "Crab" });
    fake.message(json!({ "text": "mine", "from": own }));
    fake.message(json!({ "new_chat_title": "x" }));
    fake.update(json!({ "message_reaction": { "chat": { "id": 42, "type": "private" }, "message_id": 1 } }));
    let other = json!({ "id": 8, "is_bot": true, "first_name": "Other" });
    fake.message(json!({ "text": "of a bot", "from": other }));
    let mut desk = open(&fake);
    let heard = desk.message().await;
    assert_eq!((heard.text.as_str(), heard.from.is_bot), ("of a bot", true));
}

#[tokio::test]
async fn posts_of_channels_and_topics_of_forums_come_in_where_they_are() {
    let fake = Telegram::start().await;
    let news = json!({ "id": -1002, "type": "channel", "title": "News" });
    fake.update(json!({ "channel_post": {
        "message_id": 3, "date": 1, "chat": news, "sender_chat": news, "text": "posted",
    } }));
    let forum = json!({ "id": -1001, "type": "supergroup", "title": "Club", "is_forum": true });
    fake.message(json!({
        "text": "@crab_bot hi", "chat": forum, "message_thread_id": 9, "is_topic_message": true,
        "entities": [{ "type": "mention", "offset": 0, "length": 9 }],
    }));
    let mut desk = open(&fake);
    let posted = desk.message().await;
    assert_eq!(
        (posted.at.chat_type, posted.at.chat.as_str(), posted.from.id.as_str()),
        (Kind::Channel, "-1002", "-1002")
    );
    let asked = desk.message().await;
    assert_eq!(asked.at, Address { thread: Some("9".into()), ..group("-1001") });
    assert!(asked.mentions_me && asked.place.own_sessions);
}

#[tokio::test]
async fn what_is_wrong_with_the_account_is_said_without_its_token() {
    for (fault, is_fatal, word) in [
        (Fault::error(401, "Unauthorized"), true, "botToken"),
        (Fault::error(404, "Not Found"), true, "apiRoot"),
        (Fault::error(409, "Conflict: terminated by other getUpdates request"), false, "another program"),
        (Fault::error(500, "Internal Server Error"), false, "Internal Server Error"),
        (Fault::too_many(1), false, "Too Many Requests"),
        (Fault::Answer(502, "<html>".into()), false, "Bad Gateway"),
        (Fault::TakenAndGone, false, "cannot be reached"),
        (Fault::error(401, &format!("no /bot{TOKEN}/getMe")), true, "<token>"),
    ] {
        let fake = Telegram::start().await;
        fake.fail("getMe", fault);
        let trouble = open(&fake).ended().await;
        assert_eq!(matches!(trouble, Trouble::Fatal(_)), is_fatal, "{trouble:?}");
        let why = trouble.to_string();
        assert!(why.contains(word) && !why.contains(TOKEN), "{why}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_without_the_token() {
    let fake = Telegram::start().await;
    let settings = fake.settings();
    drop(fake);
    let Trouble::Retry(why) = Desk::open(telegram(), settings).ended().await else {
        panic!("it may come back")
    };
    assert!(why.contains("cannot be reached") && !why.contains(TOKEN) && !why.contains("/bot"), "{why}");
}

#[tokio::test]
async fn a_second_poller_and_a_revoked_token_end_it() {
    let fake = Telegram::start().await;
    let first = connected(&fake).await;
    let _second = open(&fake);
    let trouble = first.ended().await;
    assert!(matches!(&trouble, Trouble::Retry(why) if why.contains("another program")), "{trouble:?}");

    let fake = Telegram::start().await;
    fake.fail("getUpdates", Fault::error(401, "Unauthorized"));
    let trouble = open(&fake).ended().await;
    assert!(matches!(&trouble, Trouble::Fatal(why) if why.contains("botToken")), "{trouble:?}");
}

#[tokio::test]
async fn trouble_of_telegram_is_waited_out() {
    let fake = Telegram::start().await;
    for fault in [Fault::error(500, "Internal Server Error"), Fault::Answer(200, "<html>".into())] {
        fake.fail("getUpdates", fault);
    }
    fake.text("hello");
    let mut desk = open(&fake);
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    for word in ["Internal Server Error", "not that of a Bot API"] {
        let news = desk.next(|news| matches!(news, Heard::Disconnected(_))).await;
        assert!(matches!(&news, Heard::Disconnected(why) if why.contains(word)), "{news:?}");
    }
    assert_eq!(desk.message().await.text, "hello");
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
}

fn pressed(data: &Value) -> Value {
    let chat = json!({ "id": 42, "type": "private" });
    json!({ "callback_query": {
        "id": "77", "from": { "id": 42, "is_bot": false, "first_name": "Ann" }, "chat_instance": "1", "data": data,
        "message": { "message_id": 1, "date": 1, "chat": chat, "text": "Sure?" },
    } })
}

#[tokio::test]
async fn a_button_says_what_it_says_however_long() {
    let fake = Telegram::start().await;
    let mut desk = connected(&fake).await;
    let long = "long ".repeat(20);
    let button = |label: &str, says: &str| Button { label: label.into(), says: says.into() };
    let buttons = vec![button("Yes", "/approve 1"), button("No", &long)];
    desk.order(Outgoing { buttons, ..outgoing(direct("42"), "Sure?") }).await.unwrap();
    let keyboard = fake.called("sendMessage").await["reply_markup"]["inline_keyboard"].clone();
    assert_eq!(keyboard[0][0], json!({ "text": "Yes", "callback_data": "/approve 1" }));
    assert!(keyboard[0][1]["callback_data"].as_str().unwrap().len() <= 64);
    for (at, says) in ["/approve 1", &long].into_iter().enumerate() {
        fake.update(pressed(&keyboard[0][at]["callback_data"]));
        let heard = desk.message().await;
        assert_eq!((heard.text.as_str(), heard.from.id.as_str(), heard.id.as_str()), (says, "42", "42:1:77"));
        assert!(heard.replies_to_me);
        let answered = meanwhile(&mut desk, fake.called("answerCallbackQuery")).await;
        assert_eq!(answered, json!({ "callback_query_id": "77" }));
    }
    // One whose words are forgotten says so, and nothing else.
    fake.update(pressed(&json!("~0123")));
    let answered = meanwhile(&mut desk, fake.called("answerCallbackQuery")).await;
    assert_eq!(answered["show_alert"], true);
    desk.hears_no_message(QUIET).await;
}

#[tokio::test]
async fn files_come_with_their_messages() {
    let fake = Telegram::start().await;
    fake.file("p", "photos/file_1.jpg", b"jpeg");
    fake.message(json!({ "caption": "look", "photo": [{ "file_id": "p", "file_size": 4 }] }));
    fake.file("v", "voice/1.oga", b"ogg");
    fake.message(json!({ "voice": { "file_id": "v", "mime_type": "audio/ogg" } }));
    let mut desk = open(&fake);
    let photo = desk.message().await;
    let jpeg = Attachment { mime_type: "image/jpeg".into(), file_name: None, bytes: b"jpeg".into() };
    assert_eq!((photo.text.as_str(), photo.attachments), ("look", vec![jpeg]));
    let voice = desk.message().await;
    assert_eq!((voice.text.as_str(), voice.attachments[0].bytes.as_slice()), ("", b"ogg".as_slice()));
}

#[tokio::test]
async fn a_message_whose_file_does_not_come_comes_without() {
    let fake = Telegram::start().await;
    let mut settings = fake.settings();
    settings["mediaMaxMb"] = 1.into();
    let document =
        |id: &str, size: usize| json!({ "caption": "see", "document": { "file_id": id, "file_size": size } });
    let large = vec![0; (1 << 20) + 1];
    // Told to be too large, being so nevertheless, not given out, not reached once, not reached at all.
    fake.message(document("told", large.len()));
    fake.file("lies", "lies", &large);
    fake.message(document("lies", 1));
    fake.message(document("unknown", 1));
    fake.file("slow", "slow", b"x");
    fake.fail("getFile", Fault::error(400, "Bad Request: file is too big"));
    let mut desk = Desk::open(telegram(), settings);
    assert_eq!(
        desk.message().await.text,
        "see\n\n[media unavailable: the file is larger than 1 MB (mediaMaxMb)]"
    );
    for why in ["file is too big", "invalid file_id"] {
        let heard = desk.message().await;
        assert!(heard.text.contains(why) && heard.attachments.is_empty(), "{}", heard.text);
    }
    fake.message(document("lies", 1));
    let heard = desk.message().await;
    assert!(
        heard.text.contains("larger than 1048576 bytes") && heard.attachments.is_empty(),
        "{}",
        heard.text
    );
    fake.fail("getFile", Fault::TakenAndGone);
    fake.message(document("slow", 1));
    assert_eq!(desk.message().await.attachments[0].bytes, b"x");
    for _ in 0..2 {
        fake.fail("getFile", Fault::TakenAndGone);
    }
    fake.message(document("slow", 1));
    let heard = desk.message().await;
    assert!(
        heard.text.starts_with("see\n\n[media unavailable: ") && !heard.text.contains(TOKEN),
        "{}",
        heard.text
    );
}
