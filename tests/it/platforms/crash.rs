//! `kill -9` of a real process between a message and its answer.

use super::{ANN, and, answered, posted, until};
use crate::client::Client;
use crate::fakes::discord::{ADA, ADA_DIRECT, Discord, person, text};
use crate::fakes::telegram::{Telegram, brings, free_port, update};
use crate::gateway::Process;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

fn state(channel: &str, settings: Value) -> TempDir {
    let state = tempfile::tempdir().unwrap();
    let config = json!({
        "channels": { channel: settings },
        "agents": { "defaults": { "model": "mock/mock-1" } },
        "gateway": { "chaos": { "enabled": true } },
    });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    state
}

/// Has the process die where it passes this point.
async fn strike(process: &Process, point: &str) {
    let mut client = Client::admin(process.addr).await;
    client.call("system.chaos", json!({ "path": "gateway", "fault": "killpoint", "name": point })).await;
}

async fn died(mut process: Process, point: &str) {
    assert!(process.died_within(Duration::from_secs(20)).await, "{point} is passed");
}

/// accepts: A8, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_a_message_and_its_answer_telegram_is_answered_once() {
    let fake = Telegram::start().await;
    let state = state("telegram", and(fake.settings(), json!({ "allowFrom": [ANN] })));
    let process = Process::with_mock_models(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    fake.text("MOCK{text=slow-answer.;step=1;d=200}");
    // It is durable and at work, and nothing of an answer is written.
    client.event(|e| e["payload"]["state"] == "delta").await;
    process.kill();
    let process = Process::with_mock_models(state.path()).await;
    assert_eq!(posted(&fake, ANN, 1).await, ["slow-answer."]);
    // Killed when it was durable and Telegram had not been told so: it comes again, and is the same.
    strike(&process, "store.after_commit").await;
    fake.text("MOCK{text=second.}");
    died(process, "store.after_commit").await;
    let process = Process::with_mock_models(state.path()).await;
    assert_eq!(posted(&fake, ANN, 2).await[1], "second.");
    // Killed when Telegram had it and had said so: nobody knows, it is not sent again, and Ann is told.
    strike(&process, "delivery.sent").await;
    fake.text("MOCK{text=third.}");
    died(process, "delivery.sent").await;
    let _process = Process::with_mock_models(state.path()).await;
    fake.text("MOCK{text=fourth.}");
    let said = posted(&fake, ANN, 5).await;
    assert_eq!((&*said[2], &*said[4]), ("third.", "fourth."));
    assert!(said[3].contains("may not have reached you") && said[3].contains("third."), "{said:?}");
}

/// accepts: A8, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_an_update_is_accepted_it_is_brought_again_and_answered_once() {
    let (fake, port) = (Telegram::start().await, free_port());
    let hook = json!({
        "allowFrom": [ANN], "webhookUrl": "https://bot.example/tg", "webhookSecret": "s", "webhookPort": port,
    });
    let state = state("telegram", and(fake.settings(), hook));
    let brings = async |body: &str| brings(port, "/telegram-webhook", &["s"], body).await.status;
    let process = Process::with_mock_models(state.path()).await;
    assert_eq!(brings(&update(1, "MOCK{text=first.}")).await, Some(200));
    assert_eq!(posted(&fake, ANN, 1).await, ["first."]);
    strike(&process, "store.after_commit").await;
    let second = update(2, "MOCK{text=second.}");
    assert_eq!(brings(&second).await, None, "it is durable, and Telegram has not been told so");
    died(process, "store.after_commit").await;
    let _process = Process::with_mock_models(state.path()).await;
    assert_eq!(brings(&second).await, Some(200));
    assert_eq!(posted(&fake, ANN, 2).await, ["first.", "second."]);
}

/// accepts: A8, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_a_message_and_its_answer_discord_is_answered_once() {
    let fake = Discord::start().await;
    let state = state("discord", and(fake.settings(), json!({ "allowFrom": [ADA] })));
    let mut process = Process::with_mock_models(state.path()).await;
    let says = |words: &str| fake.says(ADA_DIRECT, text(person(ADA, "ada"), words));
    fake.line().seen(|seen| seen.identifies == 1).await;
    let mut client = Client::admin(process.addr).await;
    says("MOCK{text=slow-answer.;step=1;d=200}");
    client.event(|e| e["payload"]["state"] == "delta").await;
    process.kill();
    process = Process::with_mock_models(state.path()).await;
    assert_eq!(answered(&fake, ADA_DIRECT, 1).await, ["slow-answer."]);
    // Whatever was under way when it was killed, the same message is one on Discord.
    for (n, point) in ["delivery.begun", "delivery.sent"].into_iter().enumerate() {
        fake.line().seen(|seen| seen.identifies == n + 2).await;
        strike(&process, point).await;
        says(&format!("MOCK{{text={point}.}}"));
        died(process, point).await;
        process = Process::with_mock_models(state.path()).await;
        until(point, || fake.answers(ADA_DIRECT).len() == n + 2).await;
        assert_eq!(answered(&fake, ADA_DIRECT, n + 2).await[n + 1], format!("{point}."));
    }
}
