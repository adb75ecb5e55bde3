//! What people say.

use super::{channel, connected};
use crate::fakes::desk::direct;
use crate::fakes::discord::{ADA, ADA_DIRECT, BOT, BOT_ROLE, CHANNEL, Discord, GUILD, THREAD, person, text};
use crabtree_actors::channels::contract::{Button, Place, Quote, Sender};
use serde_json::json;
use std::time::Duration;

fn ada() -> Sender {
    Sender { id: ADA.into(), name: None, username: Some("ada".into()), is_bot: false }
}

#[tokio::test]
async fn a_direct_message_comes_in_and_is_answered() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    let id = server.says(ADA_DIRECT, text(person(ADA, "ada"), "hello"));
    let heard = desk.message().await;
    assert_eq!((heard.id.as_str(), heard.from, heard.text.as_str()), (id.as_str(), ada(), "hello"));
    assert_eq!((&heard.at, heard.place), (&direct(ADA), Place::default()));
    assert_eq!(heard.at_ms, (id.parse::<i64>().unwrap() >> 22) + 1_420_070_400_000);
    assert!(!heard.mentions_me && !heard.replies_to_me && heard.quote.is_none());

    desk.send(heard.at, "hello Ada").await.unwrap();
    assert_eq!(server.messages(ADA_DIRECT)[1]["content"], "hello Ada");
    assert!(server.calls("POST users/@me/channels").is_empty(), "it is known where she wrote");
}

#[tokio::test]
async fn somebody_who_has_not_written_is_written_to() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    desk.send(direct(ADA), "one").await.unwrap();
    desk.send(direct(ADA), "two").await.unwrap();
    let opened = server.calls("POST users/@me/channels");
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].body, json!({ "recipient_id": ADA }));
    assert_eq!(server.messages(ADA_DIRECT).len(), 2);
}

#[tokio::test]
async fn a_message_of_a_server_tells_where_it_was_written_and_in_which_role() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    let member = json!({ "roles": ["5902", "5903"], "nick": "Countess", "deaf": false, "mute": false });
    let mut said = text(person(ADA, "ada"), &format!("hey <@{BOT}>, ask <@!2002>"));
    said["member"] = member;
    said["mentions"] = json!([person(BOT, "crab"), person("2002", "bob")]);
    server.says(CHANNEL, said);
    let heard = desk.message().await;
    assert_eq!((heard.at, heard.from.name.as_deref()), (channel(CHANNEL), Some("Countess")));
    assert_eq!(heard.text, "hey @crab, ask @bob");
    assert!(heard.mentions_me);
    let place = Place {
        title: Some("general".into()),
        guild: Some(GUILD.into()),
        roles: vec!["5902".into(), "5903".into()],
        ..Place::default()
    };
    assert_eq!(heard.place, place);

    for (role, mentions_me) in [(BOT_ROLE, true), ("5900", false)] {
        let mut said = text(person(ADA, "ada"), &format!("<@&{role}> help"));
        said["mention_roles"] = json!([role]);
        server.says(CHANNEL, said);
        assert_eq!(desk.message().await.mentions_me, mentions_me, "{role}");
    }
    assert_eq!(server.calls(&format!("GET channels/{CHANNEL}")).len(), 1, "what is known is not asked again");
    assert_eq!(server.calls(&format!("GET guilds/{GUILD}/roles")).len(), 1);
}

#[tokio::test]
async fn a_thread_is_a_chat_that_knows_its_channel() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.says(THREAD, text(person(ADA, "ada"), "here"));
    let heard = desk.message().await;
    assert_eq!(heard.at, channel(THREAD));
    assert_eq!((heard.place.parent.as_deref(), heard.place.own_sessions), (Some(CHANNEL), true));
    assert_eq!((heard.place.title.as_deref(), heard.place.guild.as_deref()), (Some("plans"), Some(GUILD)));
}

#[tokio::test]
async fn a_reply_tells_what_it_replies_to() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    for (who, replies_to_me) in [(person(BOT, "crab"), true), (person("2002", "bob"), false)] {
        let name = who["username"].as_str().unwrap().to_owned();
        let first = server.says_unheard(CHANNEL, text(who, "first"));
        let mut said = text(person(ADA, "ada"), "and second");
        said["type"] = json!(19);
        said["referenced_message"] = server.messages(CHANNEL).pop().unwrap();
        server.says(CHANNEL, said);
        let heard = desk.message().await;
        assert_eq!(heard.replies_to_me, replies_to_me, "{name}");
        assert_eq!(heard.quote, Some(Quote { id: first, from: Some(name), text: "first".into() }));
    }
}

#[tokio::test]
async fn what_nobody_said_to_us_is_passed_over_and_other_bots_are_told() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.says(CHANNEL, text(person(BOT, "crab"), "I said that"));
    server.says(CHANNEL, json!({ "author": person(ADA, "ada"), "type": 7 }));
    server.says(CHANNEL, text(person(ADA, "ada"), ""));
    let edited = server.says_unheard(CHANNEL, text(person(ADA, "ada"), "typo"));
    server.dispatch("MESSAGE_UPDATE", json!({ "id": edited, "channel_id": CHANNEL, "content": "edited" }));
    let mut bot = person("2003", "weather");
    bot["bot"] = json!(true);
    server.says(CHANNEL, text(bot, "rain"));
    let mut hook = text(person("2004", "deploys"), "deployed");
    hook["webhook_id"] = json!("2004");
    server.says(CHANNEL, hook);
    for said in ["rain", "deployed"] {
        let heard = desk.message().await;
        assert_eq!((heard.text.as_str(), heard.from.is_bot), (said, true));
    }
    desk.hears_no_message(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn files_come_along_unless_they_are_too_large_or_gone() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    let note = server.attachment("note.txt", "text/plain; charset=utf-8", b"buy milk");
    let mut large = server.attachment("film.mp4", "video/mp4", b"...");
    large["size"] = json!(21 << 20);
    let mut liar = server.attachment("liar.png", "image/png", b"more than it says");
    liar["size"] = json!(4);
    let mut gone = server.attachment("gone.png", "image/png", b"1");
    gone["url"] = json!(gone["url"].as_str().unwrap().replace("gone.png", "nowhere.png"));
    let mut said = text(person(ADA, "ada"), "look");
    said["attachments"] = json!([note, large, liar, gone]);
    server.says(ADA_DIRECT, said);

    let heard = desk.message().await;
    assert_eq!(heard.attachments.len(), 1);
    let file = &heard.attachments[0];
    assert_eq!((file.mime_type.as_str(), file.file_name.as_deref()), ("text/plain", Some("note.txt")));
    assert_eq!(file.bytes, b"buy milk");
    assert!(heard.text.starts_with("look\n"), "{}", heard.text);
    assert!(heard.text.contains("film.mp4 is not here: it has 21 MB, and channels.discord.mediaMaxMb is 20"));
    assert!(heard.text.contains("liar.png is not here: it is too large"), "{}", heard.text);
    assert!(heard.text.contains("gone.png is not here: 404"), "{}", heard.text);
    assert!(server.calls("GET files/film.mp4").is_empty());
    assert!(
        server.calls("GET files/").iter().all(|call| call.authorization.is_none()),
        "the token is not for files"
    );
}

#[tokio::test]
async fn a_question_asked_with_the_command_is_answered_at_once_and_comes_in() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    let command = server.call(&format!("POST applications/{BOT}/commands")).await.body;
    assert_eq!((&command["name"], &command["options"][0]["name"]), (&json!("ask"), &json!("text")));

    let id = server.asks("why\n@everyone?");
    let (heard, durable) = desk.unacknowledged().await;
    let answer = server.call(&format!("POST interactions/{id}/token-of-{id}/callback")).await.body;
    assert_eq!((&answer["type"], &answer["data"]["content"]), (&json!(4), &json!("> why\n> @everyone?")));
    assert_eq!(answer["data"]["allowed_mentions"], json!({ "parse": [] }));
    durable.send(()).unwrap();
    assert_eq!((heard.id, heard.text.as_str(), heard.mentions_me), (id, "why\n@everyone?", true));
    assert_eq!((&heard.at, heard.from.name.as_deref()), (&channel(CHANNEL), Some("Countess")));
    assert_eq!((heard.place.roles, heard.place.title.as_deref()), (vec!["5902".to_owned()], Some("general")));
    desk.send(heard.at, "because").await.unwrap();
    assert_eq!(server.messages(CHANNEL)[0]["content"], "because");
}

#[tokio::test]
async fn a_pressed_button_says_what_it_says() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    let long = "a very long answer ".repeat(20);
    let button = |label: &str, says: &str| Button { label: label.into(), says: says.into() };
    let mut asked = super::text("1", channel(CHANNEL), "Do it?");
    asked.buttons =
        vec![button("Yes", "/approve 1=2#3"), button("Yes", "/approve 1=2#3"), button("Long", &long)];
    asked.buttons.extend((0..3).map(|at| button(&"x".repeat(200), &at.to_string())));
    let sent = desk.order(asked).await.unwrap();
    let rows = server.call(&format!("POST channels/{CHANNEL}/messages")).await.body["components"].clone();
    assert_eq!((rows[0]["components"].as_array().unwrap().len(), rows.as_array().unwrap().len()), (5, 2));
    assert_eq!(rows[1]["components"][0]["label"].as_str().unwrap().len(), 80);
    let ids: Vec<_> = (0..5).map(|at| rows[0]["components"][at]["custom_id"].as_str().unwrap()).collect();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() <= 100), "{ids:?}");

    for (custom_id, says) in [(ids[1], "/approve 1=2#3"), (ids[2], long.as_str())] {
        let id = server.presses(&sent.id, custom_id);
        let heard = desk.message().await;
        assert_eq!((heard.id.as_str(), heard.text.as_str()), (id.as_str(), says));
        assert!(heard.replies_to_me);
        assert_eq!(heard.quote.map(|quote| quote.text).as_deref(), Some("Do it?"));
        let answer = server.call(&format!("POST interactions/{id}")).await.body;
        assert_eq!(answer, json!({ "type": 6 }));
    }
    let id = server.presses(&sent.id, &ids[2].replace('#', "#0"));
    let answer = server.call(&format!("POST interactions/{id}")).await.body;
    assert_eq!((&answer["type"], &answer["data"]["flags"]), (&json!(4), &json!(64)));
    desk.hears_no_message(Duration::from_millis(100)).await;
}
