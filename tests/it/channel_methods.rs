//! What clients do on channels beside sending, what comes in beside messages, and how channels are shown.

mod reactions;

use crate::client::{Client, Intro};
use crate::fakes::discord::{ADA, CHANNEL, Discord, person, text};
use crate::fakes::platform::Platform;
use crate::fakes::telegram::Telegram;
use crate::gateway::Embedded;
use crate::mock_model::models;
use crate::plain_http::ask;
use crabtree_actors::channels::contract::{
    Account, Capabilities, Channel, Heard, Link, Offered, Orders, Trouble,
};
use crabtree_actors::estate::Brought;
use crabtree_protocol::{Refusal, Scope};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Settings with these beside.
fn and(mut settings: Value, more: Value) -> Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// A gateway with these channels, whose agent does what it is told.
async fn gateway(channels: Value) -> (Embedded, Client) {
    let agents = json!({ "defaults": { "model": "mock/mock-1" } });
    let gateway = Embedded::with_models(json!({ "channels": channels, "agents": agents }), models()).await;
    let client = Client::admin(gateway.addr).await;
    (gateway, client)
}

/// The same with Ann on Telegram, once it is connected.
async fn telegram(fake: &Telegram, more: Value) -> (Embedded, Client) {
    let section = and(fake.settings(), json!({ "allowFrom": [42] }));
    let both = gateway(json!({ "telegram": and(section, more) })).await;
    fake.called("getUpdates").await;
    both
}

/// The same with Ada on Discord.
async fn discord(server: &Discord) -> (Embedded, Client) {
    let more = json!({ "allowFrom": [ADA], "groups": { "*": {} } });
    let (gateway, mut client) = gateway(json!({ "discord": and(server.settings(), more) })).await;
    connected(&mut client, "discord").await;
    (gateway, client)
}

/// Waits until `health` says that a channel is connected, and gives it.
async fn connected(client: &mut Client, channel: &str) -> Value {
    loop {
        let health = client.call("health", json!({})).await;
        if health["channels"][channel]["connected"] == true {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn action(channel: &str, action: &str, params: Value) -> Value {
    json!({ "channel": channel, "action": action, "params": params, "idempotencyKey": format!("{action}-{params}") })
}

#[tokio::test]
async fn a_poll_goes_out_once_however_often_it_is_asked_for() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({})).await;
    let poll = json!({
        "to": "42", "question": "Lunch?", "options": ["Soup", "Rice"], "maxSelections": 2, "durationSeconds": 60,
        "isAnonymous": false, "idempotencyKey": "p1",
    });
    let sent = client.call("poll", poll.clone()).await;
    assert_eq!(
        sent,
        json!({ "runId": "p1", "messageId": sent["messageId"], "channel": "telegram", "chatId": "42" })
    );
    let asked = fake.called("sendPoll").await;
    let expected = json!({
        "chat_id": 42, "question": "Lunch?", "options": [{ "text": "Soup" }, { "text": "Rice" }],
        "is_anonymous": false, "allows_multiple_answers": true, "open_period": 60,
    });
    assert_eq!(asked, expected);
    assert_eq!(client.call("poll", poll.clone()).await, sent);
    assert_eq!(fake.calls("sendPoll"), 0, "the same poll is sent once");
    let refused =
        client.refused("poll", and(poll, json!({ "durationHours": 1, "idempotencyKey": "p2" }))).await;
    assert_eq!(refused["message"], "Error: durationSeconds and durationHours are mutually exclusive");
}

#[tokio::test]
async fn a_channel_without_polls_says_so_and_one_with_others_which() {
    let (server, platform) = (Discord::start().await, Platform::start());
    let loopback = platform.section(json!({}));
    let (_gateway, mut client) = gateway(json!({ "discord": server.settings(), "loopback": loopback })).await;
    connected(&mut client, "discord").await;
    let poll = |channel: &str, more: Value| {
        let key = format!("{channel}{more}");
        let poll = json!({
            "to": format!("channel:{CHANNEL}"), "question": "Lunch?", "options": ["Soup", "Rice"], "channel": channel,
            "idempotencyKey": key,
        });
        and(poll, more)
    };
    for (params, why) in [
        (poll("loopback", json!({})), "unsupported poll channel: loopback"),
        (poll("nowhere", json!({})), "unsupported poll channel: nowhere"),
        (
            poll("discord", json!({ "durationSeconds": 60 })),
            "durationSeconds is not supported for discord polls",
        ),
        (poll("discord", json!({ "isAnonymous": true })), "isAnonymous is not supported for discord polls"),
    ] {
        let refused = client.refused("poll", params).await;
        assert_eq!((&refused["code"], &refused["message"]), (&json!("INVALID_REQUEST"), &json!(why)));
    }
    let sent = client.call("poll", poll("discord", json!({ "durationHours": 2 }))).await;
    assert_eq!((&sent["channel"], &sent["chatId"]), (&json!("discord"), &json!(CHANNEL)));
    let body = server.call(&format!("POST channels/{CHANNEL}/messages")).await.body;
    let answers = json!([{ "poll_media": { "text": "Soup" } }, { "poll_media": { "text": "Rice" } }]);
    let question = json!({ "text": "Lunch?" });
    let expected =
        json!({ "question": question, "answers": answers, "duration": 2, "allow_multiselect": false });
    assert_eq!(body["poll"], expected);
}

#[tokio::test]
async fn messages_of_telegram_are_reacted_to_changed_pinned_and_taken_away() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({})).await;
    let sent = client
        .call("message.action", action("telegram", "send", json!({ "to": "telegram:42", "message": "hi" })));
    let sent = sent.await;
    let id = sent["messageId"].as_str().unwrap().to_owned();
    assert_eq!((&sent["ok"], &sent["chatId"]), (&json!(true), &json!("42")));
    let number: i64 = id.strip_prefix("42:").unwrap().parse().unwrap();
    fake.called("sendMessage").await;
    let at = |more: Value| and(json!({ "to": "42", "messageId": number }), more);

    let reacted =
        client.call("message.action", action("telegram", "react", at(json!({ "emoji": "👍" })))).await;
    assert_eq!(reacted, json!({ "ok": true, "added": "👍" }));
    let call = fake.called("setMessageReaction").await;
    assert_eq!((&call["message_id"], &call["reaction"][0]["emoji"]), (&json!(number), &json!("👍")));
    let back = action("telegram", "react", at(json!({ "emoji": "👍", "remove": true })));
    assert_eq!(client.call("message.action", back).await, json!({ "ok": true, "removed": true }));
    assert_eq!(fake.called("setMessageReaction").await["reaction"], json!([]));

    let edited =
        client.call("message.action", action("telegram", "edit", at(json!({ "message": "hello" })))).await;
    assert_eq!(edited, json!({ "ok": true, "messageId": id, "chatId": "42" }));
    assert_eq!(fake.called("editMessageText").await["text"], "hello");
    for (what, method, answer) in [
        ("pin", "pinChatMessage", json!({ "ok": true, "pinned": true })),
        ("unpin", "unpinChatMessage", json!({ "ok": true, "pinned": false })),
        ("delete", "deleteMessage", json!({ "ok": true, "deleted": true })),
    ] {
        assert_eq!(client.call("message.action", action("telegram", what, at(json!({})))).await, answer);
        let call = fake.called(method).await;
        assert_eq!((&call["chat_id"], &call["message_id"]), (&json!(42), &json!(number)), "{method}");
    }
    let unknown = client.refused("message.action", action("telegram", "ban", json!({ "to": "42" }))).await;
    assert_eq!(unknown["message"], "Message action ban not supported for channel telegram.");
    let nowhere = client.refused("message.action", action("nowhere", "send", json!({}))).await;
    assert_eq!(nowhere["message"], "unsupported channel: nowhere");
}

#[tokio::test]
async fn messages_of_discord_are_reacted_to_pinned_and_taken_away() {
    let server = Discord::start().await;
    let (_gateway, mut client) = discord(&server).await;
    let id = server.says_unheard(CHANNEL, text(person(ADA, "ada"), "hello"));
    let at = |more: Value| and(json!({ "channelId": CHANNEL, "messageId": id }), more);
    client.call("message.action", action("discord", "react", at(json!({ "emoji": "👍" })))).await;
    client.call("message.action", action("discord", "pin", at(json!({})))).await;
    let edit = action("discord", "edit", at(json!({ "message": "mine now" })));
    assert_eq!(client.call("message.action", edit).await["messageId"], id);
    client.call("message.action", action("discord", "delete", at(json!({})))).await;
    assert_eq!(server.calls(&format!("PUT channels/{CHANNEL}/messages/{id}/reactions/")).len(), 1);
    assert_eq!(server.calls(&format!("PUT channels/{CHANNEL}/pins/{id}")).len(), 1);
    assert_eq!(server.calls(&format!("DELETE channels/{CHANNEL}/messages/{id}")).len(), 1);
}

#[tokio::test]
async fn who_logs_out_leaves_no_key_behind() {
    let (fake, platform) = (Telegram::start().await, Platform::start());
    let loopback = platform.section(json!({}));
    let (gateway, mut client) = gateway(json!({ "telegram": fake.settings(), "loopback": loopback })).await;
    connected(&mut client, "telegram").await;
    let out = client.call("channels.logout", json!({ "channel": "telegram" })).await;
    let expected =
        json!({ "channel": "telegram", "accountId": "default", "cleared": true, "loggedOut": true });
    assert_eq!(out, expected);
    let file = std::fs::read_to_string(gateway.state.path().join("openclaw.json")).unwrap();
    assert!(!file.contains("botToken") && file.contains("apiRoot"), "{file}");
    let status = client.call("channels.status", json!({})).await;
    assert_eq!(status["channelAccounts"]["telegram"][0]["running"], false, "{status}");
    let again = client.call("channels.logout", json!({ "channel": "telegram" })).await;
    assert_eq!(again["cleared"], false);
    for (channel, why) in [
        ("loopback", "channel loopback does not support logout"),
        ("nowhere", "invalid channels.logout channel"),
    ] {
        assert_eq!(client.refused("channels.logout", json!({ "channel": channel })).await["message"], why);
    }
}

#[tokio::test]
async fn a_conversation_is_listed_and_written_to_by_its_name() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({})).await;
    fake.text("hello MOCK{n=1}");
    fake.called("sendMessage").await;
    let listed = client.call("conversations.list", json!({ "agentId": "main" })).await;
    let one = listed["conversations"][0].clone();
    assert_eq!(listed["conversations"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&one["channel"], &one["accountId"], &one["kind"], &one["target"]),
        (&json!("telegram"), &json!("default"), &json!("direct"), &json!("42"))
    );
    for none in [
        json!({ "agentId": "other" }),
        json!({ "agentId": "main", "channel": "discord" }),
        json!({ "agentId": "main", "query": "77" }),
    ] {
        assert_eq!(client.call("conversations.list", none).await, json!({ "conversations": [] }));
    }
    let send = |operation: &str, message: &str| json!({ "agentId": "main", "operationId": operation, "conversationRef": one["conversationRef"], "message": message });
    let sent = client.call("conversations.send", send("o1", "good news")).await;
    assert_eq!((&sent["status"], &sent["conversationRef"]), (&json!("sent"), &one["conversationRef"]));
    assert_eq!(fake.called("sendMessage").await["text"], "good news");
    assert_eq!(client.call("conversations.send", send("o1", "good news")).await, sent);
    assert_eq!(fake.calls("sendMessage"), 0);
    let other = client.refused("conversations.send", send("o1", "bad news")).await;
    assert_eq!(other["message"], "conversation send o1 was already used with different input");
    let mut unknown = send("o2", "x");
    unknown["conversationRef"] = json!(format!("conv_{}", "0".repeat(32)));
    let refused = client.refused("conversations.send", unknown).await;
    assert!(refused["message"].as_str().unwrap().starts_with("Conversation not found: conv_0"), "{refused}");
}

#[tokio::test]
async fn health_and_its_summary_tell_how_channels_are() {
    let fake = Telegram::start().await;
    let (gateway, mut client) = telegram(&fake, json!({})).await;
    let health = connected(&mut client, "telegram").await;
    assert_eq!(
        (&health["channelOrder"], &health["channelLabels"]),
        (&json!(["telegram"]), &json!({ "telegram": "Telegram" }))
    );
    let shown = &health["channels"]["telegram"];
    let named = |account: &Value| {
        ["accountId", "configured", "running", "connected", "healthState"].map(|name| account[name].clone())
    };
    let expected = [json!("default"), json!(true), json!(true), json!(true), json!("healthy")];
    assert_eq!((named(shown), named(&shown["accounts"]["default"])), (expected.clone(), expected));
    let summary = ask(gateway.addr, "GET", "/health?view=summary", &[]).await.json();
    assert_eq!(summary["connected_channels"], json!(["telegram"]));

    client.call("channels.stop", json!({ "channel": "telegram" })).await;
    let told = client
        .event(|e| e["event"] == "health" && e["payload"]["channels"]["telegram"]["healthState"] == "parked")
        .await;
    assert_eq!(told["payload"]["channels"]["telegram"]["connected"], false);
    let summary = ask(gateway.addr, "GET", "/health?view=summary", &[]).await.json();
    assert_eq!(summary["connected_channels"], json!([]));
}

/// A channel that brings methods, one of them in the place of the gateway's own.
struct Shouter;

impl Channel for Shouter {
    fn name(&self) -> &str {
        "shouter"
    }

    fn label(&self) -> &str {
        "Shouter"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::texts(100)
    }

    fn check(&self, _: &Account) -> Result<(), String> {
        Ok(())
    }

    fn run(self: Arc<Self>, _: Account, link: Link, mut orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            let _ = link.say(Heard::Connected(None)).await;
            while orders.recv().await.is_some() {}
            Trouble::Retry("it was stopped".into())
        })
    }

    fn methods(&self) -> &'static [Offered] {
        &[
            Offered { name: "shouter.shout", scope: Scope::Write },
            Offered { name: "last-heartbeat", scope: Scope::Read },
        ]
    }

    fn call(self: Arc<Self>, method: String, params: Value) -> BoxFuture<'static, Result<Value, Refusal>> {
        Box::pin(async move {
            let text = params["text"].as_str().unwrap_or_default().to_uppercase();
            Ok(json!({ "method": method, "text": text }))
        })
    }
}

/// accepts: C5, G5
#[tokio::test]
async fn methods_of_a_channel_are_listed_and_go_first_while_it_runs() {
    let brought = Brought { channels: vec![Arc::new(Shouter)], ..Brought::default() };
    let gateway = Embedded::with_brought(json!({ "channels": { "shouter": {} } }), brought).await;
    let mut client = Client::admin(gateway.addr).await;
    connected(&mut client, "shouter").await;
    let listed = |client: &Client, name: &str| {
        client.hello["features"]["methods"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|method| *method == name)
            .count()
    };
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!((listed(&client, "shouter.shout"), listed(&client, "last-heartbeat")), (1, 1), "each once");
    let shouted = client.call("shouter.shout", json!({ "text": "hey" })).await;
    assert_eq!(shouted, json!({ "method": "shouter.shout", "text": "HEY" }));
    assert_eq!(client.call("last-heartbeat", json!({})).await["method"], "last-heartbeat");
    let reads = Intro { scopes: vec!["operator.read"], ..Intro::default() };
    let mut reader = Client::connect(gateway.addr, &reads).await.unwrap();
    let refused = reader.refused("shouter.shout", json!({})).await;
    assert_eq!(refused["message"], "missing scope: operator.write");

    client.call("channels.stop", json!({ "channel": "shouter" })).await;
    client
        .event(|e| e["event"] == "health" && e["payload"]["channels"]["shouter"]["healthState"] == "parked")
        .await;
    let gone = client.refused("shouter.shout", json!({})).await;
    assert_eq!(gone["message"], "unknown method: shouter.shout");
    assert_eq!(client.call("last-heartbeat", json!({})).await, Value::Null);
    assert_eq!(listed(&Client::admin(gateway.addr).await, "shouter.shout"), 0);
}
