//! What goes out, and what becomes of it.

use super::{connected, outgoing};
use crate::fakes::desk::{Desk, direct, group};
use crate::fakes::telegram::{Fault, TOKEN, Telegram};
use crabtree_actors::channels::contract::{Address, Attachment, Order, Outgoing, SendError};
use crabtree_actors::channels::telegram::telegram;
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;

fn later(sent: Result<impl Sized, SendError>) -> (String, Option<Duration>) {
    match sent.err() {
        Some(SendError::Later { why, after }) => (why, after),
        other => panic!("it is for later: {other:?}"),
    }
}

/// As what of these a message was not sent.
fn kind<T>(sent: Result<T, SendError>) -> &'static str {
    match sent {
        Ok(_) => "sent",
        Err(SendError::Refused(_)) => "refused",
        Err(SendError::Later { .. }) => "later",
        Err(SendError::Unknown(_)) => "unknown",
    }
}

fn file(mime_type: &str, name: &str, bytes: &[u8]) -> Attachment {
    Attachment { mime_type: mime_type.into(), file_name: Some(name.into()), bytes: bytes.into() }
}

#[tokio::test]
async fn a_text_is_formatted_and_goes_where_it_is_to() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    let sent = desk.send(direct("42"), "**hi** <you>").await.unwrap();
    assert_eq!(sent.id, "42:1");
    let sent = fake.called("sendMessage").await;
    assert_eq!(sent, json!({ "chat_id": 42, "text": "<b>hi</b> &lt;you&gt;", "parse_mode": "HTML" }));

    let topic = |thread: &str| Address { thread: Some(thread.into()), ..group("-1001") };
    let answer = Outgoing { reply_to: Some("-1001:5".into()), ..outgoing(topic("9"), "x") };
    desk.order(answer).await.unwrap();
    let sent = fake.called("sendMessage").await;
    assert_eq!((&sent["message_thread_id"], &sent["chat_id"]), (&json!(9), &json!(-1001)));
    assert_eq!(sent["reply_parameters"], json!({ "message_id": 5, "allow_sending_without_reply": true }));

    // The general topic has no name; messages of other chats are not replied to here.
    let general = Outgoing { reply_to: Some("42:5".into()), ..outgoing(topic("1"), "x") };
    desk.order(general).await.unwrap();
    let sent = fake.called("sendMessage").await;
    assert_eq!((sent.get("message_thread_id"), sent.get("reply_parameters")), (None, None));

    for (to, word) in [(direct("ann"), "ann"), (topic("x"), "topic")] {
        let Err(SendError::Refused(why)) = desk.send(to, "x").await else { panic!("there is no such chat") };
        assert!(why.contains(word), "{why}");
    }
}

#[tokio::test]
async fn links_have_no_previews_where_they_are_not_wanted() {
    let fake = Telegram::start().await;
    let mut settings = fake.settings();
    settings["linkPreview"] = false.into();
    let desk = Desk::open(telegram(), settings);
    desk.send(direct("42"), "https://e.org").await.unwrap();
    assert_eq!(fake.called("sendMessage").await["link_preview_options"]["is_disabled"], true);
}

#[tokio::test]
async fn what_telegram_cannot_format_is_sent_as_it_was_written() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    fake.fail("sendMessage", Fault::error(400, "Bad Request: can't parse entities: Unexpected end tag"));
    desk.send(direct("42"), "**hi**").await.unwrap();
    assert_eq!(fake.called("sendMessage").await["parse_mode"], "HTML");
    assert_eq!(fake.called("sendMessage").await, json!({ "chat_id": 42, "text": "**hi**" }));
}

/// What may be sent again, what never, and what nobody knows.
#[tokio::test]
async fn every_failure_is_told_as_what_it_is() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    for (fault, expected) in [
        (Fault::error(500, "Internal Server Error"), "later"),
        (Fault::Answer(502, "<html>".into()), "later"),
        (Fault::error(401, "Unauthorized"), "later"),
        (Fault::error(400, "Bad Request: chat not found"), "refused"),
        (Fault::error(403, "Forbidden: bot was blocked by the user"), "refused"),
        (Fault::TakenAndGone, "unknown"),
        (Fault::Answer(504, "<html>".into()), "unknown"),
        (Fault::Answer(200, "<html>".into()), "unknown"),
        (Fault::Answer(200, r#"{"ok":true,"result":{}}"#.into()), "unknown"),
    ] {
        fake.fail("sendMessage", fault.clone());
        let sent = desk.send(direct("42"), "x").await;
        assert!(!format!("{sent:?}").contains(TOKEN), "{sent:?}");
        assert_eq!(kind(sent), expected, "{fault:?}");
    }
    fake.fail("sendMessage", Fault::too_many(7));
    let (why, after) = later(desk.send(direct("42"), "x").await);
    assert!(why.contains("Too Many Requests"), "{why}");
    assert_eq!(after, Some(Duration::from_secs(7)));
    drop(fake);
    // Whether one that was open took it, nobody knows; a new one there is not.
    let _ = desk.send(direct("42"), "x").await;
    let (why, after) = later(desk.send(direct("42"), "x").await);
    assert!(after.is_none() && !why.contains(TOKEN), "{why}");
}

#[tokio::test]
async fn a_group_that_has_moved_is_written_to_where_it_is() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    fake.fail("sendMessage", Fault::moved(-1009));
    let sent = desk.send(group("-5"), "x").await.unwrap();
    assert_eq!(sent.id, "-1009:1");
    // What is edited is found there too.
    let edit = Outgoing { edits: Some(sent.id), ..outgoing(group("-5"), "y") };
    assert_eq!(desk.order(edit).await.unwrap().id, "-1009:1");
    for _ in 0..4 {
        fake.fail("sendMessage", Fault::moved(-1009));
    }
    later(desk.send(group("-5"), "x").await);
}

#[tokio::test]
async fn a_chat_that_hangs_holds_up_no_other() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    fake.fail("sendMessage", Fault::Hang);
    let (done, mut hangs) = oneshot::channel();
    desk.give(Order::Send(Box::new(outgoing(direct("1"), "x")), done)).await;
    assert_eq!(fake.called("sendMessage").await["chat_id"], 1);
    desk.send(direct("2"), "x").await.unwrap();
    assert!(hangs.try_recv().is_err());
}

#[tokio::test]
async fn what_was_not_begun_is_for_later() {
    let fake = Telegram::start().await;
    fake.fail("getMe", Fault::error(500, "Internal Server Error"));
    let desk = Desk::open(telegram(), fake.settings());
    let (why, _) = later(desk.send(direct("42"), "x").await);
    assert!(why.contains("Internal Server Error"), "{why}");
}

#[tokio::test]
async fn a_message_is_edited_in_place() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    let sent = desk.send(direct("42"), "a").await.unwrap();
    let edit = |text: &str| Outgoing { edits: Some(sent.id.clone()), ..outgoing(direct("42"), text) };
    assert_eq!(desk.order(edit("**b**")).await, Ok(sent.clone()));
    let edited = fake.called("editMessageText").await;
    assert_eq!(edited, json!({ "chat_id": 42, "message_id": 1, "text": "<b>b</b>", "parse_mode": "HTML" }));
    // It is as it is to be.
    assert_eq!(desk.order(edit("**b**")).await, Ok(sent.clone()));
    let gone = Outgoing { edits: Some("42:99".into()), ..outgoing(direct("42"), "c") };
    assert_eq!(kind(desk.order(gone).await), "refused");
    // Twice is no harm.
    fake.fail("editMessageText", Fault::TakenAndGone);
    assert_eq!(kind(desk.order(edit("c")).await), "later");
}

#[tokio::test]
async fn it_shows_that_it_writes_and_what_it_feels() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    let general = Address { thread: Some("1".into()), ..group("-1001") };
    desk.give(Order::Typing(general.clone())).await;
    let typing = fake.called("sendChatAction").await;
    assert_eq!(typing, json!({ "chat_id": -1001, "action": "typing", "message_thread_id": 1 }));
    let react = async |message: &str, emoji: &str| {
        let (done, reacted) = oneshot::channel();
        let (at, message, emoji) = (general.clone(), message.into(), emoji.into());
        desk.give(Order::React { at, message, emoji, done }).await;
        reacted.await.unwrap()
    };
    // Telegram's heart is not a picture.
    react("-1001:5", "\u{2764}\u{fe0f}").await.unwrap();
    let reacted = fake.called("setMessageReaction").await;
    let heart = json!([{ "type": "emoji", "emoji": "\u{2764}" }]);
    assert_eq!(reacted, json!({ "chat_id": -1001, "message_id": 5, "reaction": heart }));
    react("5", "").await.unwrap();
    assert_eq!(fake.called("setMessageReaction").await["reaction"], json!([]));
    fake.fail("setMessageReaction", Fault::error(400, "Bad Request: REACTION_INVALID"));
    assert_eq!(kind(react("5", "x").await), "refused");
    assert_eq!(kind(react("five", "x").await), "refused");
}

#[tokio::test]
async fn files_go_with_their_text_or_after_it() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    let with = |text: &str, attachments| Outgoing { attachments, ..outgoing(direct("42"), text) };
    let sent = desk
        .order(with("*see*", vec![file("image/png", "a.png", b"png"), file("text/plain", "b.txt", b"b")]))
        .await;
    assert_eq!(sent.unwrap().id, "42:1");
    let photo = fake.called("sendPhoto").await;
    assert_eq!(
        (&photo["chat_id"], &photo["caption"], &photo["parse_mode"]),
        (&json!("42"), &json!("<i>see</i>"), &json!("HTML"))
    );
    assert_eq!(photo["photo"], json!({ "fileName": "a.png", "type": "image/png", "bytes": "png" }));
    let document = fake.called("sendDocument").await;
    assert_eq!(document["document"], json!({ "fileName": "b.txt", "type": "text/plain", "bytes": "b" }));
    assert_eq!(document.get("caption"), None);

    // More than fits below a file is a message before it.
    desk.order(with(&"x".repeat(1025), vec![file("text/plain", "b.txt", b"b")])).await.unwrap();
    assert_eq!(fake.called("sendMessage").await["text"].as_str().unwrap().len(), 1025);
    assert_eq!(fake.called("sendDocument").await.get("caption"), None);

    // What is no picture for Telegram is a file.
    fake.fail("sendPhoto", Fault::error(400, "Bad Request: PHOTO_INVALID_DIMENSIONS"));
    desk.order(with("", vec![file("image/png", "a.png", b"png")])).await.unwrap();
    assert_eq!(fake.called("sendDocument").await["document"]["fileName"], "a.png");
}

#[tokio::test]
async fn what_was_sent_in_part_is_not_sent_again() {
    let fake = Telegram::start().await;
    let desk = connected(&fake).await;
    let two = || vec![file("text/plain", "a", b"a"), file("text/plain", "b", b"b")];
    let with = |attachments| Outgoing { attachments, ..outgoing(direct("42"), "x") };
    fake.fail("sendDocument", Fault::too_many(1));
    assert_eq!(kind(desk.order(with(two())).await), "later");
    // The second this time.
    fake.fail("sendPhoto", Fault::too_many(1));
    let mixed = vec![file("text/plain", "a", b"a"), file("image/png", "b", b"b")];
    assert_eq!(kind(desk.order(with(mixed)).await), "unknown");
    let large = vec![file("text/plain", "a", b"a"), file("text/plain", "b", &vec![0; (20 << 20) + 1])];
    let calls = fake.calls("sendDocument");
    let Err(SendError::Refused(why)) = desk.order(with(large)).await else { panic!("it is too large") };
    assert!(why.contains("mediaMaxMb"), "{why}");
    assert_eq!(fake.calls("sendDocument"), calls);
}
