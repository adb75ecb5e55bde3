//! The WhatsApp bridge, with a WhatsApp that is not there. It is tried where there is a `node`.

use super::guard;
use crate::fakes::desk::{Desk, direct, group};
use crabtree_actors::channels::contract::{Attachment, Envelope, Heard, Order, Outgoing, SendError, Trouble};
use crabtree_actors::channels::whatsapp::WhatsApp;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

const BRIDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/whatsapp-bridge/bridge.mjs");
const BAILEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/driver/baileys.mjs");

fn has_node() -> bool {
    let found = std::process::Command::new("node").arg("--version").output().is_ok();
    if !found {
        eprintln!("there is no node: the bridge is not tried");
    }
    found
}

fn settings() -> Value {
    json!({ "bridge": BRIDGE, "driver": { "env": { "BAILEYS": BAILEYS } } })
}

fn open(state: &Path) -> Desk {
    let channel = WhatsApp::new(&settings(), guard(), state.into()).unwrap();
    Desk::open(Arc::new(channel), settings())
}

/// An account that has been logged in; the messages that it was offered are durable.
async fn logged_in() -> (Desk, TempDir) {
    let state = tempfile::tempdir().unwrap();
    let mut desk = open(state.path());
    for _ in 0..4 {
        desk.message().await;
    }
    (desk, state)
}

/// What the WhatsApp that is not there was told about this.
async fn told(desk: &mut Desk, about: &str) -> Value {
    loop {
        let told: Value = serde_json::from_str(&desk.message().await.text).unwrap();
        if told.get(about).is_some() {
            return told;
        }
    }
}

#[tokio::test]
async fn a_code_is_shown_and_what_comes_is_handed_in() {
    if !has_node() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let mut desk = open(state.path());
    let code = desk.next(|news| matches!(news, Heard::Qr(Some(_)))).await;
    assert!(matches!(code, Heard::Qr(Some(text)) if text == "2@code"));
    desk.next(|news| matches!(news, Heard::Qr(None))).await;
    let me = desk.next(|news| matches!(news, Heard::Connected(_))).await;
    assert!(matches!(me, Heard::Connected(Some(me)) if me.id == "+4911"));
    let message = desk.message().await;
    assert_eq!((message.id.as_str(), message.text.as_str()), ("direct", "hi"));
    assert_eq!((message.at, message.from.id.as_str()), (direct("+4922"), "+4922"));
    assert_eq!(message.from.name.as_deref(), Some("Ann"));
    let message = desk.message().await;
    assert_eq!((&message.at, message.from.id.as_str()), (&group("12@g.us"), "+4933"));
    assert!(message.mentions_me && message.replies_to_me);
    assert_eq!(message.quote.map(|quote| (quote.id, quote.text)), Some(("old".into(), "said before".into())));
    let Envelope { text, attachments, .. } = desk.message().await;
    assert_eq!((text.as_str(), attachments[0].bytes.as_slice()), ("see", &b"abcd"[..]));
    assert_eq!(attachments[0].mime_type, "image/png");
    let message = desk.message().await;
    assert_eq!(message.text, "[video of 99 MB, which is too large to be loaded]");
    assert!(message.attachments.is_empty());
    assert_eq!(told(&mut desk, "read").await["read"], "direct", "it is read when it is durable");
}

#[tokio::test]
async fn what_is_sent_arrives_as_whatsapp_writes_it() {
    if !has_node() {
        return;
    }
    let (mut desk, _state) = logged_in().await;
    let message = Outgoing {
        id: "o1".into(),
        to: group("12@g.us"),
        text: "# Yes\n**bold** @4933000000 `**code**` [here](https://x.example)".into(),
        reply_to: Some("group".into()),
        edits: None,
        buttons: vec![],
        attachments: vec![Attachment {
            mime_type: "image/png".into(),
            file_name: None,
            bytes: b"pixels".into(),
        }],
    };
    assert_eq!(desk.order(message).await.unwrap().id, "sent");
    let text = told(&mut desk, "text").await;
    assert_eq!(text["text"], "*Yes*\n*bold* @4933000000 `**code**` here (https://x.example)");
    assert_eq!((&text["jid"], &text["quoted"]), (&json!("12@g.us"), &json!("group")));
    assert_eq!(text["mentions"], json!(["4933000000@s.whatsapp.net"]));
    let image = told(&mut desk, "image").await;
    assert_eq!((&image["image"], &image["mimetype"]), (&json!("pixels"), &json!("image/png")));

    desk.give(Order::Typing(direct("+4922"))).await;
    assert_eq!(told(&mut desk, "presence").await["jid"], "4922@s.whatsapp.net");
    let (done, reacted) = oneshot::channel();
    let message = "direct".to_owned();
    desk.give(Order::React { at: direct("+4922"), message, emoji: "👍".into(), done }).await;
    assert_eq!(reacted.await.unwrap(), Ok(()));
    assert_eq!(told(&mut desk, "react").await["react"]["text"], "👍");

    let refused = desk.send(direct("+4922"), "refuse").await;
    assert_eq!(refused, Err(SendError::Refused("not allowed".into())));
    let broken = desk.send(direct("+4922"), "break").await;
    assert_eq!(broken, Err(SendError::Unknown("Timed Out".into())));
}

#[tokio::test]
async fn what_was_not_durable_is_handed_in_again_by_the_next_bridge() {
    if !has_node() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let mut desk = open(state.path());
    assert_eq!(desk.message().await.id, "direct");
    let (second, _never) = desk.unacknowledged().await;
    assert_eq!(second.id, "group");
    desk.kill();
    let mut desk = open_again(state.path()).await;
    // What was durable may come again too, if the bridge was killed before it heard of that.
    let mut missing = vec!["group", "image", "video"];
    while !missing.is_empty() {
        let message = desk.message().await;
        missing.retain(|id| *id != message.id);
    }
}

/// The next bridge, when the one before has let go of the directory.
async fn open_again(state: &Path) -> Desk {
    for _ in 0..50 {
        if !state.join("default/owner.lock").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    open(state)
}

#[tokio::test]
async fn a_directory_has_one_owner_and_a_dead_one_is_none() {
    if !has_node() {
        return;
    }
    let (desk, state) = logged_in().await;
    let Trouble::Retry(why) = open(state.path()).ended().await else { panic!() };
    assert!(why.contains("one bridge an account"), "{why}");
    desk.kill();
    open_again(state.path()).await.kill();
    let lock = state.path().join("default/owner.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    // A number that another process has by now.
    std::fs::write(&lock, format!("{} 1", std::process::id())).unwrap();
    let mut desk = open(state.path());
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
}

#[tokio::test]
async fn a_restart_is_not_noticed_and_a_login_that_has_ended_is_told() {
    if !has_node() {
        return;
    }
    let (mut desk, state) = logged_in().await;
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    let _ = desk.send(direct("+4922"), "restart").await;
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
    let _ = desk.send(direct("+4922"), "logout").await;
    let Trouble::Fatal(why) = desk.ended().await else { panic!() };
    assert!(why.contains("the phone has ended this login"), "{why}");
    assert!(!state.path().join("default/auth").exists(), "the next login begins with a code");
}
