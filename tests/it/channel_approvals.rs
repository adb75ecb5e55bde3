//! Approvals on channels: who may decide is asked by a message with buttons, which becomes the outcome.

use crate::client::{Client, Intro};
use crate::fakes::discord::{ADA, BOT, CHANNEL, Discord, person, text};
use crate::fakes::telegram::Telegram;
use crate::gateway::Embedded;
use crate::mock_model::models;
use base64::Engine;
use serde_json::{Value, json};
use std::time::Duration;

/// The group Ann and Bob are in.
const GROUP: i64 = -100_777;

async fn gateway(channels: Value, more: Value) -> (Embedded, Client) {
    let mut config = json!({
        "channels": channels,
        "agents": { "defaults": { "model": "mock/mock-1" } },
        "tools": { "exec": { "security": "full", "ask": "always" } },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let gateway = Embedded::with_models(config, models()).await;
    let intro = Intro { caps: vec!["exec-approvals"], ..Intro::default() };
    let client = Client::connect(gateway.addr, &intro).await.unwrap();
    (gateway, client)
}

/// A gateway whose owner is Ann, on Telegram.
async fn telegram(fake: &Telegram, more: Value) -> (Embedded, Client) {
    let mut section = fake.settings();
    let own = json!({ "allowFrom": [42], "groups": { GROUP.to_string(): {} } });
    section.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let both = gateway(json!({ "telegram": section }), json!({})).await;
    fake.called("getUpdates").await;
    both
}

/// What has the agent run a command.
fn wants(command: &str) -> String {
    let args = base64::prelude::BASE64_STANDARD.encode(json!({ "command": command }).to_string());
    format!("MOCK{{tool=exec:{args};n=1}}")
}

/// What stands on the buttons, and what they say.
fn buttons(message: &Value) -> Vec<(String, String)> {
    let keyboard = message["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
    let all = keyboard.iter().flat_map(|row| row.as_array().unwrap().clone());
    let word = |button: &Value, name: &str| button[name].as_str().unwrap().to_owned();
    all.map(|button| (word(&button, "text"), word(&button, "callback_data"))).collect()
}

/// Somebody presses a button below a message.
fn presses(fake: &Telegram, from: i64, chat: i64, data: &str) -> i64 {
    let kind = if chat > 0 { "private" } else { "supergroup" };
    let chat = json!({ "id": chat, "type": kind, "title": "team", "first_name": "Ann" });
    let bot = json!({ "id": 7001, "is_bot": true, "first_name": "Crab" });
    let message = json!({ "message_id": 1, "date": 1, "chat": chat, "from": bot, "text": "?" });
    let from = json!({ "id": from, "is_bot": false, "first_name": if from == 42 { "Ann" } else { "Bob" } });
    fake.update(json!({ "callback_query": {
        "id": format!("{from}{data}"), "from": from, "chat_instance": "1", "data": data, "message": message,
    } }))
}

/// What is asked next.
async fn asked(client: &mut Client) -> Value {
    let question = client.event(|e| e["event"] == "exec.approval.requested").await["payload"].clone();
    client.events.clear();
    question
}

#[tokio::test]
async fn an_owner_is_asked_in_the_direct_chat_and_a_click_decides() {
    let fake = Telegram::start().await;
    let (gateway, mut client) = telegram(&fake, json!({})).await;
    fake.text(&wants("echo ran > made"));
    let card = fake.called("sendMessage").await;
    let shown = card["text"].as_str().unwrap();
    assert!(card["chat_id"] == 42 && shown.contains("echo ran &gt; made"), "{card}");
    let offered = buttons(&card);
    // It is always asked, so there is no always.
    assert_eq!(offered.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>(), ["Allow once", "Deny"]);
    assert!(offered.iter().all(|(_, says)| says.len() <= 64 && says.starts_with("/approve ")), "{offered:?}");
    let made = gateway.state.path().join("workspace/made");
    assert!(!made.exists());
    presses(&fake, 42, 42, &offered[0].1);
    let edited = fake.called("editMessageText").await;
    assert!(edited["text"].as_str().unwrap().contains("✅ Allowed once by Ann (telegram:42)"), "{edited}");
    assert!(buttons(&edited).is_empty(), "{edited}");
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    assert_eq!(std::fs::read_to_string(made).unwrap(), "ran\n");
    let told = client.events.iter().find(|e| e["event"] == "exec.approval.resolved").unwrap();
    assert_eq!(told["payload"]["resolvedBy"], "Ann (telegram:42)");
    // Only the answer of the agent follows: the message tells the rest.
    assert_eq!(fake.called("sendMessage").await["text"], "tok0");
    presses(&fake, 42, 42, &offered[1].1);
    let late = fake.called("sendMessage").await;
    assert!(late["text"].as_str().unwrap().contains("decided already"), "{late}");
}

#[tokio::test]
async fn others_in_the_group_may_look_but_not_decide() {
    let fake = Telegram::start().await;
    let (gateway, mut client) =
        telegram(&fake, json!({ "groupPolicy": "open", "execApprovals": { "target": "channel" } })).await;
    let said = format!("@crab_bot {}", wants("touch made"));
    fake.message(json!({
        "text": said, "chat": { "id": GROUP, "type": "supergroup", "title": "team" },
        "entities": [{ "type": "mention", "offset": 0, "length": 9 }],
    }));
    let card = fake.called("sendMessage").await;
    assert_eq!(card["chat_id"], GROUP);
    let offered = buttons(&card);
    presses(&fake, 43, GROUP, &offered[0].1);
    let refused = fake.called("sendMessage").await;
    assert!(refused["text"].as_str().unwrap().contains("You may not decide"), "{refused}");
    assert_eq!(client.call("exec.approval.list", json!({})).await.as_array().unwrap().len(), 1);
    assert!(!gateway.state.path().join("workspace/made").exists());
    presses(&fake, 42, GROUP, &offered[1].1);
    let edited = fake.called("editMessageText").await;
    assert!(edited["text"].as_str().unwrap().contains("❌ Denied by Ann"), "{edited}");
    assert!(!gateway.state.path().join("workspace/made").exists());
}

#[tokio::test]
async fn what_is_decided_elsewhere_is_told_and_a_restart_asks_nobody_twice() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({})).await;
    fake.text(&wants("touch made"));
    fake.called("sendMessage").await;
    let id = asked(&mut client).await["id"].clone();
    client.call("system.actors.restart", json!({ "path": "gateway/approvals" })).await;
    // Told again to clients, it is the same message on the channel.
    assert_eq!(asked(&mut client).await["id"], id);
    client.call("exec.approval.resolve", json!({ "id": id, "decision": "deny" })).await;
    let edited = fake.called("editMessageText").await;
    assert!(edited["text"].as_str().unwrap().contains("❌ Denied by"), "{edited}");
    assert_eq!(fake.called("sendMessage").await["text"], "tok0", "the agent goes on");
    assert_eq!((fake.calls("sendMessage"), fake.calls("editMessageText")), (0, 0));
}

#[tokio::test]
async fn who_may_decide_can_say_so_in_words() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({ "execApprovals": { "enabled": false } })).await;
    fake.text(&wants("touch made"));
    let id = asked(&mut client).await["id"].as_str().unwrap().to_owned();
    assert_eq!(fake.calls("sendMessage"), 0, "nobody is asked there");
    fake.text("/approve nonsense");
    assert!(fake.called("sendMessage").await["text"].as_str().unwrap().contains("Usage: /approve"));
    fake.text(&format!("/approve {} deny", &id[..12]));
    let (mut denied, mut answered) = (false, false);
    for _ in 0..2 {
        let text = fake.called("sendMessage").await["text"].as_str().unwrap().to_owned();
        (denied, answered) = (denied || text == "❌ Denied.", answered || text == "tok0");
    }
    assert!(denied && answered);

    // A client that may decide says it in a chat.
    fake.text(&wants("touch made"));
    let id = asked(&mut client).await["id"].as_str().unwrap().to_owned();
    let said = json!({ "sessionKey": "other", "message": format!("/approve {id} allow-once"), "idempotencyKey": "k9" });
    client.call("chat.send", said.clone()).await;
    let end = client.chat_end("k9").await;
    assert!(end["message"]["content"][0]["text"].as_str().unwrap().contains("✅ Allowed once."), "{end}");
    let writes = Intro { scopes: vec!["operator.write"], ..Intro::default() };
    let mut writer = Client::connect(_gateway.addr, &writes).await.unwrap();
    let again =
        json!({ "sessionKey": "other", "message": format!("/approve {id} deny"), "idempotencyKey": "k10" });
    writer.call("chat.send", again).await;
    let end = client.chat_end("k10").await;
    assert!(end["message"]["content"][0]["text"].as_str().unwrap().contains("operator.approvals"), "{end}");
}

#[tokio::test]
async fn on_discord_it_is_asked_where_that_is_set_and_pressed_there() {
    let server = Discord::start().await;
    let mut section = server.settings();
    let own = json!({
        "allowFrom": [ADA], "groups": { "*": {} }, "execApprovals": { "enabled": true, "target": "channel" },
    });
    section.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let (_gateway, mut client) = gateway(json!({ "discord": section }), json!({})).await;
    while client.call("health", json!({})).await["channels"]["discord"]["connected"] != true {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut said = text(person(ADA, "ada"), &wants("touch made"));
    said["mentions"] = json!([person(BOT, "crab")]);
    server.says(CHANNEL, said);
    let card = server.call(&format!("POST channels/{CHANNEL}/messages")).await.body;
    let row = card["components"][0]["components"].as_array().unwrap().clone();
    assert_eq!(
        row.iter().map(|button| button["label"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Allow once", "Deny"]
    );
    let message = server.messages(CHANNEL).last().unwrap()["id"].as_str().unwrap().to_owned();
    server.presses(&message, row[1]["custom_id"].as_str().unwrap());
    let edited = server.call(&format!("PATCH channels/{CHANNEL}/messages/{message}")).await.body;
    assert!(edited["content"].as_str().unwrap().contains("❌ Denied by Countess"), "{edited}");
    assert_eq!(edited["components"], json!([]));
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
}

#[tokio::test]
async fn a_chat_without_buttons_is_told_where_that_is_forwarded() {
    let platform = crate::fakes::platform::Platform::start();
    let forwarded = json!({ "approvals": { "exec": {
        "enabled": true, "mode": "targets", "targets": [{ "channel": "loopback", "to": "boss" }],
    } } });
    let section = platform.section(json!({ "allowFrom": ["boss"] }));
    let (_gateway, mut client) = gateway(json!({ "loopback": section }), forwarded).await;
    platform.says("0", "boss", "hello MOCK{n=1}");
    platform.answers_in("boss", 1).await;
    let said = json!({ "sessionKey": "main", "message": wants("touch made"), "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    let shown = platform.answers_in("boss", 2).await[1].clone();
    let handle = shown.split("Decide with: `/approve ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    platform.says("1", "boss", &format!("/approve {handle} deny"));
    client.chat_end("k1").await;
    let told = platform.answers_in("boss", 3).await;
    assert!(told.iter().any(|text| text.starts_with("❌ Denied by boss")), "{told:?}");
}
