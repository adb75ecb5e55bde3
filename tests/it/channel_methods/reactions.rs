//! Reactions that come in: who is told of which.

use super::{discord, telegram};
use crate::client::Client;
use crate::fakes::discord::{ADA, BOT, CHANNEL, Discord, GUILD, person, text};
use crate::fakes::telegram::Telegram;
use serde_json::json;
use std::time::Duration;

/// Waits until the gateway knows that a channel has sent so many messages.
async fn delivered(client: &mut Client, channel: &str, count: u64) {
    loop {
        let status = client.call("channels.status", json!({})).await;
        if status["channelAccounts"][channel][0]["deliveries"]["sent"] == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ann, or somebody else, reacts to a message of her chat with the bot.
fn reacts(fake: &Telegram, from: i64, message: i64, emoji: &str) -> i64 {
    fake.update(json!({ "message_reaction": {
        "chat": { "id": 42, "type": "private", "first_name": "Ann" }, "message_id": message, "date": 1_700_000_000,
        "user": { "id": from, "is_bot": false, "first_name": "Ann", "username": "ann" },
        "old_reaction": [], "new_reaction": [{ "type": "emoji", "emoji": emoji }],
    } }))
}

/// What the agent read last, in the main session.
async fn read_last(client: &mut Client, key: &str) -> String {
    let page = client.call("chat.history", json!({ "sessionKey": key })).await;
    let rows = page["messages"].as_array().unwrap().clone();
    let last = rows.iter().rfind(|row| row["role"] == "user").unwrap();
    last["content"].as_str().or(last["content"][0]["text"].as_str()).unwrap().to_owned()
}

#[tokio::test]
async fn a_reaction_to_an_answer_is_told_with_the_next_message_and_wakes_nobody() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({})).await;
    let hers = fake.text("hello MOCK{n=1}");
    fake.called("sendMessage").await;
    delivered(&mut client, "telegram", 1).await;
    let answer = hers + 1;
    reacts(&fake, 42, answer, "👍");
    reacts(&fake, 42, hers, "🔥");
    let last = reacts(&fake, 77, answer, "👎");
    fake.confirmed(last).await;
    assert_eq!(fake.calls("sendMessage"), 0, "nobody is woken");
    fake.text("and now? MOCK{n=1}");
    fake.called("sendMessage").await;
    let read = read_last(&mut client, "main").await;
    assert!(
        read.contains(&format!("System: Telegram reaction added: 👍 by Ann (@ann) on msg {answer}")),
        "{read}"
    );
    assert!(!read.contains("🔥") && !read.contains("👎"), "not its own, and of somebody unknown: {read}");
}

#[tokio::test]
async fn how_many_reactions_are_told_is_bounded_and_none_where_that_is_wanted() {
    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({ "reactionNotifications": "all" })).await;
    let updates: Vec<i64> = (0..60).map(|message| reacts(&fake, 42, 1_000 + message, "👍")).collect();
    let last = updates[59];
    fake.confirmed(last).await;
    fake.text("and now? MOCK{n=1}");
    fake.called("sendMessage").await;
    let read = read_last(&mut client, "main").await;
    assert_eq!(read.matches("reaction added").count(), 50, "the latest are told");
    assert!(read.contains("on msg 1059") && !read.contains("on msg 1009"), "{read}");

    let fake = Telegram::start().await;
    let (_gateway, mut client) = telegram(&fake, json!({ "reactionNotifications": "off" })).await;
    fake.confirmed(reacts(&fake, 42, 1_000, "👍")).await;
    fake.text("and now? MOCK{n=1}");
    fake.called("sendMessage").await;
    assert!(!read_last(&mut client, "main").await.contains("reaction"));
}

#[tokio::test]
async fn a_reaction_on_discord_is_told_to_the_session_of_its_channel() {
    let server = Discord::start().await;
    let (_gateway, mut client) = discord(&server).await;
    let mention = |text_: &str| {
        let mut said = text(person(ADA, "ada"), text_);
        said["mentions"] = json!([person(BOT, "crab")]);
        said
    };
    server.says(CHANNEL, mention("hello MOCK{n=1}"));
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    server.call(&format!("POST channels/{CHANNEL}/messages")).await;
    let answer = loop {
        let found = server.messages(CHANNEL).into_iter().find(|message| message["content"] == "tok0");
        match found {
            Some(message) => break message["id"].as_str().unwrap().to_owned(),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    delivered(&mut client, "discord", 1).await;
    let member = json!({ "user": person(ADA, "ada"), "roles": [], "deaf": false, "mute": false,
        "joined_at": "2024-01-01T00:00:00Z", "flags": 0 });
    server.dispatch(
        "MESSAGE_REACTION_ADD",
        json!({
            "user_id": ADA, "channel_id": CHANNEL, "message_id": answer, "guild_id": GUILD, "member": member,
            "emoji": { "id": null, "name": "🎉" }, "burst": false, "type": 0,
        }),
    );
    client.events.clear();
    server.says(CHANNEL, mention("and now? MOCK{n=2}"));
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    let read = read_last(&mut client, &format!("agent:main:discord:channel:{CHANNEL}")).await;
    assert!(read.contains(&format!("System: Discord reaction added: 🎉 by ada on msg {answer}")), "{read}");
}
