//! Telegram and Discord through a whole gateway: their real clients, servers on loopback that speak as the platforms'
//! documentation says, and what people see of it.

mod crash;
mod discord;
mod guests;
mod memory;
mod telegram;

use crate::client::{Client, TOKEN};
use crate::fakes::discord::{ADA, ADA_DIRECT, Discord, person, text};
use crate::fakes::telegram::Telegram;
use crate::gateway::Embedded;
use crate::mock_model::models;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long is waited for what must not come.
const QUIET: Duration = Duration::from_millis(400);
/// Ann, on Telegram, and a group and a forum there.
const ANN: i64 = 42;
const CLUB: i64 = -1001;
const FORUM: i64 = -1002;

/// A gateway with these channels, and more of a configuration.
async fn gateway(channels: Value, more: Value) -> Embedded {
    let mut config = json!({ "channels": channels, "agents": { "defaults": { "model": "mock/mock-1" } } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Embedded::with_models(config, models()).await
}

/// The settings of an account with these in addition.
fn and(mut settings: Value, more: Value) -> Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// One with Telegram, which Ann owns.
async fn on_telegram(more: Value) -> (Embedded, Telegram) {
    let fake = Telegram::start().await;
    let settings = and(and(fake.settings(), json!({ "allowFrom": [ANN] })), more);
    (gateway(json!({ "telegram": settings }), json!({})).await, fake)
}

/// One with Discord, which Ada owns.
async fn on_discord(more: Value) -> (Embedded, Discord) {
    let fake = Discord::start().await;
    let settings = and(and(fake.settings(), json!({ "allowFrom": [ADA], "groupPolicy": "open" })), more);
    let gateway = gateway(json!({ "discord": settings }), json!({})).await;
    fake.line().seen(|seen| seen.identifies == 1).await;
    (gateway, fake)
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// The bot's texts to somebody on Telegram, as soon as there are so many; and there are not more.
async fn posted(fake: &Telegram, chat: i64, count: usize) -> Vec<String> {
    until(&format!("{count} posts to {chat}"), || fake.posted(chat).len() >= count).await;
    tokio::time::sleep(QUIET).await;
    let posted = fake.posted(chat);
    assert_eq!(posted.len(), count, "{posted:?}");
    posted
}

/// The same on Discord.
async fn answered(fake: &Discord, channel: &str, count: usize) -> Vec<String> {
    until(&format!("{count} answers in {channel}"), || fake.answers(channel).len() >= count).await;
    tokio::time::sleep(QUIET).await;
    let answers = fake.answers(channel);
    assert_eq!(answers.len(), count, "{answers:?}");
    answers
}

/// How many messages of a channel are in this state.
async fn deliveries(client: &mut Client, channel: &str, state: &str) -> u64 {
    let status = client.call("channels.status", json!({})).await;
    status["channelAccounts"][channel][0]["deliveries"][state].as_u64().unwrap_or_default()
}

/// Waits until a channel has said that so many of its messages are in this state.
async fn delivered(client: &mut Client, channel: &str, state: &str, count: u64) {
    let wait = async {
        while deliveries(client, channel, state).await != count {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{count} of {channel} are {state}");
}

/// `crabtree channels …` at this gateway; what it prints.
async fn crabtree(gateway: &Embedded, args: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    let url = format!("ws://{}", gateway.addr);
    program
        .env("CRABTREE_STATE_DIR", gateway.state.path())
        .args(["--url", &url, "--token", TOKEN, "channels"])
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = timeout(PATIENCE, program.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// The code of somebody who is not known.
fn code(said: &str) -> String {
    said.split("Pairing code: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// accepts: A12
#[tokio::test]
async fn stop_on_telegram_stops_what_discord_has_begun() {
    let (telegram, discord) = (Telegram::start().await, Discord::start().await);
    let channels = json!({
        "telegram": and(telegram.settings(), json!({ "allowFrom": [ANN] })),
        "discord": and(discord.settings(), json!({ "allowFrom": [ADA] })),
    });
    let gateway = gateway(channels, json!({ "session": { "dmScope": "main" } })).await;
    discord.line().seen(|seen| seen.identifies == 1).await;
    let mut client = Client::admin(gateway.addr).await;
    discord.says(ADA_DIRECT, text(person(ADA, "ada"), "count MOCK{n=500;d=100}"));
    client.event(|e| e["payload"]["state"] == "delta").await;
    telegram.text("stop");
    let end = client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "aborted").await;
    assert_eq!(end["payload"]["sessionKey"], "agent:main:main");
    assert_eq!(posted(&telegram, ANN, 1).await, ["⚙️ Agent was aborted."]);
    // The session goes on, and answers where it is asked.
    telegram.text("and now? MOCK{n=1}");
    assert_eq!(posted(&telegram, ANN, 2).await[1], "tok0");
    assert!(
        !discord.answers(ADA_DIRECT).iter().any(|said| said == "tok0"),
        "{:?}",
        discord.answers(ADA_DIRECT)
    );
}
