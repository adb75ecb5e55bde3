//! Telegram.

use super::{
    ANN, CLUB, FORUM, QUIET, and, code, crabtree, delivered, deliveries, gateway, on_telegram, posted, until,
};
use crate::channels::rows;
use crate::client::Client;
use crate::fakes::telegram::{Fault, Telegram};
use crate::gateway::Embedded;
use crate::media::{PNG, Witness};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;

fn in_chat(id: i64, more: Value, text: &str, mentions: bool) -> Value {
    let mut chat = json!({ "id": id, "type": "supergroup", "title": "Club" });
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut message = json!({ "chat": chat, "text": text });
    if mentions {
        message["text"] = format!("@crab_bot {text}").into();
        message["entities"] = json!([{ "type": "mention", "offset": 0, "length": 9 }]);
    }
    message
}

pub fn in_topic(topic: i64, text: &str) -> Value {
    let mut message = in_chat(FORUM, json!({ "is_forum": true }), text, true);
    message["message_thread_id"] = topic.into();
    message["is_topic_message"] = true.into();
    message
}

/// accepts: A8, I13
#[tokio::test]
async fn what_ann_writes_is_answered_once_even_if_it_is_told_again() {
    let (gateway, fake) = on_telegram(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let message = json!({ "message": {
        "message_id": 900, "date": 1_700_000_000, "chat": { "id": ANN, "type": "private" }, "text": "hi MOCK{n=3}",
        "from": { "id": ANN, "is_bot": false, "first_name": "Ann" },
    } });
    fake.update(message.clone());
    assert_eq!(posted(&fake, ANN, 1).await, ["tok0 tok1 tok2"]);
    let last = fake.update(message);
    fake.confirmed(last).await;
    assert_eq!(posted(&fake, ANN, 1).await.len(), 1, "the same message is one message");
    let said = rows(&mut client, "main").await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(deliveries(&mut client, "telegram", "sent").await, 1);
}

/// accepts: I5
#[tokio::test]
async fn in_a_group_who_names_it_is_answered_and_it_knows_what_was_said_before() {
    let (gateway, fake) = on_telegram(json!({ "groups": { CLUB.to_string(): {} } })).await;
    fake.message(in_chat(CLUB, json!({}), "lunch at noon", false));
    let asked = fake.message(in_chat(CLUB, json!({}), "when? MOCK{n=1}", true));
    assert_eq!(posted(&fake, CLUB, 1).await, ["tok0"]);
    assert_eq!(fake.posts(CLUB)[0].reply_to, Some(asked));
    let mut client = Client::admin(gateway.addr).await;
    let said = rows(&mut client, &format!("agent:main:telegram:group:{CLUB}")).await;
    assert!(said[0].1.contains("Ann: lunch at noon") && said[0].1.contains("when?"), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[tokio::test]
async fn a_topic_is_a_session_of_its_own_and_answered_there() {
    let (gateway, fake) = on_telegram(json!({ "groups": { "*": {} } })).await;
    for topic in [7, 9] {
        fake.message(in_topic(topic, &format!("topic {topic} MOCK{{n={topic}}}")));
    }
    posted(&fake, FORUM, 2).await;
    let mut client = Client::admin(gateway.addr).await;
    for (topic, words) in [(7, 7), (9, 9)] {
        let post = fake.posts(FORUM).into_iter().find(|post| post.thread == Some(topic)).unwrap();
        assert_eq!(post.text.split(' ').count(), words, "{post:?}");
        let said = rows(&mut client, &format!("agent:main:telegram:group:{FORUM}:topic:{topic}")).await;
        assert_eq!(said.len(), 2, "{said:?}");
    }
}

#[tokio::test]
async fn a_photo_reaches_the_model() {
    let fake = Telegram::start().await;
    let witness = Witness::default();
    let mut settings = fake.settings();
    settings["allowFrom"] = json!([ANN]);
    let config = json!({ "channels": { "telegram": settings }, "agents": { "defaults": { "model": "test/witness" } } });
    let _gateway = Embedded::with_models(config, vec![Arc::new(witness.clone())]).await;
    fake.file("p", "photos/1.png", &BASE64_STANDARD.decode(PNG).unwrap());
    // Telegram says nothing of a photo's type.
    fake.message(json!({ "caption": "what is it?", "photo": [{ "file_id": "p", "file_size": 70 }] }));
    assert_eq!(posted(&fake, ANN, 1).await, ["seen"]);
    let (text, pictures) = witness.last();
    assert!(text.contains("what is it?") && pictures == ["image/png"], "{text} {pictures:?}");
}

#[tokio::test]
async fn an_edit_is_no_new_message_and_what_cannot_be_read_costs_nothing_else() {
    let (gateway, fake) = on_telegram(json!({})).await;
    let number = fake.text("first MOCK{n=1}");
    posted(&fake, ANN, 1).await;
    let edited = json!({
        "message_id": number, "date": 1_700_000_000, "edit_date": 1_700_000_009, "text": "edited MOCK{n=5}",
        "chat": { "id": ANN, "type": "private" }, "from": { "id": ANN, "is_bot": false, "first_name": "Ann" },
    });
    fake.update(json!({ "edited_message": edited }));
    fake.update(json!({ "message": { "text": "no chat, no date" } }));
    fake.update(json!({ "message": 7 }));
    fake.raw(json!("nonsense"));
    fake.text("second MOCK{n=2}");
    assert_eq!(posted(&fake, ANN, 2).await, ["tok0", "tok0 tok1"]);
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(rows(&mut client, "main").await.len(), 4);
}

#[tokio::test]
async fn what_is_written_while_telegram_is_away_is_answered_once() {
    let (gateway, fake) = on_telegram(json!({})).await;
    for fault in [Fault::Answer(502, "<html>".into()), Fault::TakenAndGone, Fault::too_many(1)] {
        fake.fail("getUpdates", fault);
    }
    fake.text("MOCK{n=1}");
    fake.text("MOCK{n=2}");
    until("both are answered", || fake.posted(ANN).join(" ").contains("tok1")).await;
    let mut client = Client::admin(gateway.addr).await;
    let said = rows(&mut client, "main").await;
    assert_eq!(said.iter().filter(|(role, _)| role == "user").count(), 2, "{said:?}");
}

/// accepts: I7
#[tokio::test]
async fn a_message_that_cannot_be_answered_does_not_keep_the_next_from_it() {
    let fake = Telegram::start().await;
    let settings = and(fake.settings(), json!({ "allowFrom": [ANN] }));
    let queue = json!({ "messages": { "queue": { "mode": "followup" } } });
    let _gateway = gateway(json!({ "telegram": settings }), queue).await;
    fake.text("MOCK{n=3;d=100}");
    fake.text("MOCK{err=400}");
    fake.text("MOCK{text=third.}");
    let said = posted(&fake, ANN, 3).await;
    assert_eq!((&*said[0], &*said[2]), ("tok0 tok1 tok2", "third."));
    assert!(said[1].starts_with("⚠️"), "{said:?}");
}

#[tokio::test]
async fn what_telegram_does_not_take_at_once_is_sent_later_and_once() {
    let (gateway, fake) = on_telegram(json!({})).await;
    fake.fail("sendMessage", Fault::too_many(1));
    fake.fail("sendMessage", Fault::error(500, "Internal Server Error"));
    fake.fail("sendMessage", Fault::Answer(502, "<html>".into()));
    fake.text("hi MOCK{n=2}");
    until("it is sent in the end", || !fake.posted(ANN).is_empty()).await;
    assert_eq!(posted(&fake, ANN, 1).await, ["tok0 tok1"]);
    let mut client = Client::admin(gateway.addr).await;
    delivered(&mut client, "telegram", "sent", 1).await;
}

#[tokio::test]
async fn what_telegram_may_have_taken_is_not_sent_again_and_said_at_the_next_contact() {
    let (gateway, fake) = on_telegram(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    for (n, fault) in [Fault::TakenAndGone, Fault::error(504, "Gateway Timeout")].into_iter().enumerate() {
        let before = fake.posted(ANN).len();
        let was_taken = matches!(fault, Fault::TakenAndGone);
        fake.fail("sendMessage", fault);
        fake.text(&format!("MOCK{{text=doubtful-{n}.}}"));
        delivered(&mut client, "telegram", "uncertain", n as u64 + 1).await;
        let taken = fake.posted(ANN)[before..].to_vec();
        let expected = if was_taken { vec![format!("doubtful-{n}.")] } else { vec![] };
        assert_eq!(taken, expected);
        fake.text("MOCK{n=1}");
        let said = posted(&fake, ANN, before + taken.len() + 2).await;
        let said = &said[before + taken.len()..];
        assert!(
            said[0].contains("may not have reached you") && said[0].contains(&format!("doubtful-{n}")),
            "{said:?}"
        );
        assert_eq!(said[1], "tok0");
    }
}

/// accepts: K14
#[tokio::test]
async fn a_stranger_gets_a_code_and_is_answered_once_the_owner_has_let_them_in() {
    let (gateway, fake) = on_telegram(json!({})).await;
    let eve = |text: &str| {
        let from = json!({ "id": 43, "is_bot": false, "first_name": "Eve" });
        fake.message(json!({ "text": text, "from": from, "chat": { "id": 43, "type": "private" } }))
    };
    eve("let me in MOCK{n=1}");
    let code = code(&posted(&fake, 43, 1).await[0]);
    eve("hello?");
    tokio::time::sleep(QUIET).await;
    assert_eq!(fake.posted(43).len(), 1, "it is said once");
    assert!(crabtree(&gateway, &["pending"]).await.contains(&code));
    assert!(crabtree(&gateway, &["approve", "telegram", &code]).await.contains("43 let in"));
    eve("now? MOCK{n=2}");
    let said = posted(&fake, 43, 3).await;
    assert_eq!(said[2], "tok0 tok1", "{said:?}");
}

/// The call of the tool that sends these files to Ann, as the model makes it.
fn send(files: &[&str]) -> String {
    let args = json!({ "to": ANN.to_string(), "text": "here", "files": files }).to_string();
    format!("MOCK{{tool=message:{};text=done.}}", BASE64_STANDARD.encode(args))
}

/// accepts: I13
#[tokio::test]
async fn files_of_the_workspace_are_sent_and_nothing_from_elsewhere() {
    let (gateway, fake) = on_telegram(json!({})).await;
    let workspace = gateway.state.path().join("workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    std::fs::write(workspace.join("dot.png"), BASE64_STANDARD.decode(PNG).unwrap()).unwrap();
    std::fs::write(workspace.join("notes.txt"), "as it was").unwrap();
    fake.text(&send(&["dot.png", "notes.txt"]));
    assert_eq!(fake.called("sendPhoto").await["photo"]["fileName"], "dot.png");
    assert_eq!(fake.called("sendDocument").await["document"]["fileName"], "notes.txt");
    until("the answer", || fake.posted(ANN).iter().any(|text| text == "done.")).await;
    let sent = (fake.calls("sendDocument"), fake.calls("sendPhoto"));
    let secret = gateway.state.path().join("gateway.token");
    std::fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, workspace.join("link.txt")).unwrap();
    for outside in ["../gateway.token", secret.to_str().unwrap(), "link.txt", "no-such.txt"] {
        let before = fake.posted(ANN).len();
        fake.text(&send(&[outside]));
        until("the text and the answer", || fake.posted(ANN).len() == before + 2).await;
        assert_eq!((fake.calls("sendDocument"), fake.calls("sendPhoto")), sent, "{outside}");
    }
    let mut client = Client::admin(gateway.addr).await;
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert!(history.to_string().contains("Not sent: "), "the model is told");
}
