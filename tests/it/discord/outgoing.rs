//! What is sent.

use super::{channel, connected, text};
use crate::fakes::desk::direct;
use crate::fakes::discord::{ADA, CHANNEL, Discord, Fault, THREAD, TOKEN};
use crabtree_actors::channels::contract::{Address, Attachment, Button, Order, SendError, Trouble};
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;

fn posts(to: &str) -> String {
    format!("POST channels/{to}/messages")
}

#[tokio::test]
async fn a_message_says_that_it_is_one_and_calls_nobody_it_should_not() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    let mut reply = text("one", channel(CHANNEL), "@everyone hello");
    reply.reply_to = Some("4001".into());
    desk.order(reply).await.unwrap();
    let body = server.call(&posts(CHANNEL)).await.body;
    assert_eq!((body["nonce"].as_str().unwrap().len(), &body["enforce_nonce"]), (25, &json!(true)));
    assert_eq!(body["allowed_mentions"], json!({ "parse": ["users"], "replied_user": true }));
    assert_eq!(body["message_reference"], json!({ "message_id": "4001", "fail_if_not_exists": false }));
    desk.send(channel(THREAD), "there").await.unwrap();
    let parent = Address { thread: Some(THREAD.into()), ..channel(CHANNEL) };
    desk.send(parent, "and there").await.unwrap();
    assert_eq!(server.messages(THREAD).len(), 2);
}

#[tokio::test]
async fn a_message_can_be_changed_and_have_files() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    let sent = desk.send(channel(CHANNEL), "draft").await.unwrap();
    let mut change = text("change", channel(CHANNEL), "final");
    change.edits = Some(sent.id.clone());
    assert_eq!(desk.order(change).await.unwrap().id, sent.id);
    assert_eq!(server.messages(CHANNEL)[0]["content"], "final");
    let body = server.call(&format!("PATCH channels/{CHANNEL}/messages/{}", sent.id)).await.body;
    assert_eq!((&body["nonce"], &body["components"]), (&json!(null), &json!([])));

    let mut with_files = text("files", channel(THREAD), "here");
    with_files.attachments = vec![
        Attachment { mime_type: "text/plain".into(), file_name: Some("a.txt".into()), bytes: b"milk".into() },
        Attachment { mime_type: "image/png".into(), file_name: None, bytes: b"png".into() },
    ];
    desk.order(with_files).await.unwrap();
    let call = server.call(&posts(THREAD)).await;
    assert_eq!((&call.body["content"], call.body["enforce_nonce"] == true), (&json!("here"), true));
    let file = |name: &str, kind: &str, bytes: &[u8]| (name.to_owned(), kind.to_owned(), bytes.to_vec());
    assert_eq!(call.files, [file("a.txt", "text/plain", b"milk"), file("file1", "image/png", b"png")]);
}

#[tokio::test]
async fn somebody_writes_and_reacts() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    desk.give(Order::Typing(channel(CHANNEL))).await;
    server.call(&format!("POST channels/{CHANNEL}/typing")).await;

    let sent = desk.send(channel(CHANNEL), "done").await.unwrap();
    let react = async |emoji: &str| {
        let (done, answer) = oneshot::channel();
        let (at, message, emoji) = (channel(CHANNEL), sent.id.clone(), emoji.into());
        desk.give(Order::React { at, message, emoji, done }).await;
        answer.await.unwrap()
    };
    let reactions = format!("channels/{CHANNEL}/messages/{}/reactions", sent.id);
    react("👀").await.unwrap();
    react("").await.unwrap();
    let put = server.call(&format!("PUT {reactions}/")).await.what;
    let taken = server.calls(&format!("DELETE {reactions}/"));
    assert_eq!(put.replace("PUT", "DELETE"), taken[0].what);
    assert_eq!(taken.len(), 1, "others keep theirs");
}

#[tokio::test]
async fn what_goes_wrong_is_told_as_what_it_is() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    server.go_wrong([Fault::TooMany(1.5), Fault::Status(502), Fault::Status(403), Fault::Status(400)]);
    let later = desk.send(channel(CHANNEL), "a").await.unwrap_err();
    assert!(
        matches!(later, SendError::Later { after: Some(after), .. } if after == Duration::from_millis(1_500))
    );
    let later = desk.send(channel(CHANNEL), "b").await.unwrap_err();
    assert!(matches!(later, SendError::Later { after: None, .. }), "{later:?}");
    for _ in 0..2 {
        let refused = desk.send(channel(CHANNEL), "c").await.unwrap_err();
        assert!(matches!(&refused, SendError::Refused(why) if why.contains("it is as it is")), "{refused:?}");
    }
    assert!(server.messages(CHANNEL).is_empty());
}

#[tokio::test]
async fn what_was_taken_and_not_answered_is_sent_again_and_there_once() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    server.go_wrong([Fault::Cut]);
    let message = text("the same", channel(CHANNEL), "once");
    let unknown = desk.order(message.clone()).await.unwrap_err();
    assert!(matches!(unknown, SendError::Unknown(_)), "{unknown:?}");
    assert_eq!(server.messages(CHANNEL).len(), 1, "it was taken");
    let sent = desk.order(message).await.unwrap();
    assert_eq!(server.messages(CHANNEL)[0]["id"], sent.id.as_str());
    desk.order(text("another", channel(CHANNEL), "once")).await.unwrap();
    assert_eq!(server.messages(CHANNEL).len(), 2, "the same words are not the same message");
}

#[tokio::test]
async fn a_message_that_hangs_holds_up_no_other_chat_and_ends() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    server.go_wrong([Fault::Hang]);
    let hanging = desk.send(channel(CHANNEL), "slow");
    let other = async {
        server.call(&posts(CHANNEL)).await;
        desk.send(channel(THREAD), "fast").await.unwrap();
        assert_eq!(server.messages(THREAD).len(), 1);
        tokio::time::Instant::now()
    };
    let (hung, other) = tokio::join!(hanging, other);
    assert!(matches!(hung, Err(SendError::Unknown(_))), "{hung:?}");
    assert!(other.elapsed() > Duration::from_secs(1), "the other one did not wait for it");
}

#[tokio::test]
async fn nothing_but_an_id_becomes_part_of_an_address() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    for chat in ["general", "../users/@me", "6001/messages/1", "", "-1"] {
        let refused = desk.send(channel(chat), "x").await.unwrap_err();
        assert!(matches!(refused, SendError::Refused(_)), "{refused:?}");
        assert!(matches!(desk.send(direct(chat), "x").await, Err(SendError::Refused(_))));
    }
    let mut change = text("1", channel(CHANNEL), "x");
    change.edits = Some("1/reactions".into());
    assert!(matches!(desk.order(change).await, Err(SendError::Refused(_))));
    let mut reply = text("1", channel(CHANNEL), "x");
    reply.reply_to = Some("that one".into());
    assert!(matches!(desk.order(reply).await, Err(SendError::Refused(_))));
    assert!(server.calls("POST channels").is_empty() && server.calls("POST users").is_empty());
}

#[tokio::test]
async fn more_than_discord_takes_is_refused_with_what_to_do() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    let mut many = text("1", direct(ADA), "x");
    many.buttons = vec![Button { label: "a".into(), says: "b".into() }; 26];
    assert!(matches!(desk.order(many).await, Err(SendError::Refused(why)) if why.contains("25 buttons")));
    let file = Attachment { mime_type: "text/plain".into(), file_name: None, bytes: vec![] };
    let mut many = text("1", direct(ADA), "x");
    many.attachments = vec![file; 11];
    assert!(matches!(desk.order(many).await, Err(SendError::Refused(why)) if why.contains("10 files")));
}

#[tokio::test]
async fn a_token_that_is_none_any_more_ends_it_and_keeps_the_message() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    server.go_wrong([Fault::Status(401)]);
    let later = desk.send(channel(CHANNEL), "wait").await.unwrap_err();
    assert!(matches!(later, SendError::Later { .. }), "{later:?}");
    let Trouble::Fatal(why) = desk.ended().await else { panic!("no try will do better") };
    assert!(why.contains("channels.discord.token") && !why.contains(TOKEN), "{why}");
}
