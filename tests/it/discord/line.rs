//! The connection to the gateway.

use super::{connected, resumed};
use crate::fakes::desk::{Desk, direct};
use crate::fakes::discord::{ADA, ADA_DIRECT, Discord, TOKEN, person, text};
use crabtree_actors::channels::contract::{Account, Channel, Heard, Link, Trouble};
use crabtree_actors::channels::discord;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Guilds, messages and reactions in them and in direct chats, and what they say.
const INTENTS: u64 = 1 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15;

#[tokio::test]
async fn a_cut_connection_is_taken_up_where_it_was_cut() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    assert_eq!(server.line().intents(), INTENTS);
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "one"));
    assert_eq!(desk.message().await.text, "one");
    for hang_up in [|server: &Discord| server.line().cut(), |server: &Discord| server.line().close(4000)] {
        hang_up(&server);
        server.says(ADA_DIRECT, text(person(ADA, "ada"), "meanwhile"));
        assert_eq!(desk.message().await.text, "meanwhile");
    }
    let seen = server.line().seen(|seen| seen.resumes == 2).await;
    assert_eq!(seen.identifies, 1);
}

#[tokio::test]
async fn after_a_lost_session_what_was_missed_is_fetched() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "one"));
    assert_eq!(desk.message().await.text, "one");
    server.line().invalidate();
    server.says_unheard(ADA_DIRECT, text(person(ADA, "ada"), "two"));
    server.line().seen(|seen| seen.identifies == 2).await;
    assert_eq!(desk.message().await.text, "two");
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "three"));
    assert_eq!(desk.message().await.text, "three");
}

#[tokio::test]
async fn a_gateway_that_is_away_is_told_and_called_again() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.line().shut(true);
    server.line().cut();
    desk.next(|news| matches!(news, Heard::Disconnected(_))).await;
    desk.send(direct(ADA), "still sent").await.unwrap();
    server.line().shut(false);
    server.line().seen(|seen| seen.identifies == 2).await;
    desk.next(|news| matches!(news, Heard::Connected(_))).await;
}

#[tokio::test]
async fn a_broken_connection_holds_up_no_order() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.line().shut(true);
    server.line().reset();
    desk.next(|news| matches!(news, Heard::Disconnected(_))).await;
    // Longer than it takes to notice, and far shorter than the time between two heartbeats.
    for at in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        timeout(Duration::from_secs(2), desk.send(direct(ADA), &at.to_string())).await.unwrap().unwrap();
    }
}

/// Serenity would look for what comes over the broken one until the next heartbeat, 41 s later.
#[tokio::test]
async fn a_line_that_is_not_taken_up_again_soon_is_made_anew() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "one"));
    assert_eq!(desk.message().await.text, "one");
    server.line().shut(true);
    server.line().reset();
    desk.next(|news| matches!(news, Heard::Disconnected(_))).await;
    server.says_unheard(ADA_DIRECT, text(person(ADA, "ada"), "meanwhile"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.line().shut(false);
    assert_eq!(desk.message().await.text, "meanwhile");
    assert_eq!(server.line().seen(|seen| seen.identifies == 2).await.resumes, 0);
}

#[tokio::test]
async fn what_is_no_event_disturbs_nobody() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.line().raw("{");
    server.line().raw(r#"{"op":0,"t":"MESSAGE_CREATE","s":2,"d":{"id":"x"}}"#);
    server.line().raw(r#"{"op":0,"t":"NEWS_OF_TOMORROW","s":3,"d":null}"#);
    server.line().raw(r#"{"op":99}"#);
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "still there?"));
    assert_eq!(desk.message().await.text, "still there?");
    assert_eq!(server.line().seen(|_| true).await.connections, 1);
}

#[tokio::test]
async fn what_only_its_operator_can_change_ends_it_and_says_what() {
    for (code, names) in [
        (4004, "channels.discord.token"),
        (4014, "Message Content Intent"),
        (4013, "whether there is a newer Crabtree"),
    ] {
        let server = Discord::start().await;
        server.line().send_away(code);
        let desk = Desk::open(Arc::new(discord::Discord), server.settings());
        let Trouble::Fatal(why) = desk.ended().await else { panic!("{code} is fatal") };
        assert!(why.contains(names) && !why.contains(TOKEN), "{code}: {why}");
        assert!(why.contains("https://discord.com/developers/applications"), "{code}: {why}");
    }
}

#[tokio::test]
async fn a_wrong_token_ends_it_before_it_calls() {
    let server = Discord::start().await;
    let mut settings = server.settings();
    settings["token"] = json!("not-the-token");
    let desk = Desk::open(Arc::new(discord::Discord), settings);
    let Trouble::Fatal(why) = desk.ended().await else { panic!("it is fatal") };
    assert!(!why.contains("not-the-token"), "{why}");
    assert_eq!(server.line().seen(|_| true).await.connections, 0);
}

#[tokio::test]
async fn who_may_not_call_waits() {
    let server = Discord::start().await;
    server.calls_left(0);
    let desk = Desk::open(Arc::new(discord::Discord), server.settings());
    let Trouble::Retry(why) = desk.ended().await else { panic!("it may be better later") };
    assert!(why.contains("2 minutes"), "{why}");
    server.calls_left(1);
    server.refuse("GET gateway", 503);
    let desk = Desk::open(Arc::new(discord::Discord), server.settings());
    assert!(matches!(desk.ended().await, Trouble::Retry(_)));
    assert_eq!(server.line().seen(|_| true).await.connections, 0);
}

#[tokio::test]
async fn heartbeats_go_on_while_a_message_waits_to_be_durable() {
    let server = Discord::start().await;
    server.line().heartbeat(Duration::from_millis(200));
    let mut desk = connected(&server).await;
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "one"));
    let (_, durable) = desk.unacknowledged().await;
    server.says(ADA_DIRECT, text(person(ADA, "ada"), "two"));
    let before = server.line().seen(|_| true).await.heartbeats;
    server.line().seen(|seen| seen.heartbeats >= before + 4).await;
    assert_eq!(server.line().seen(|_| true).await.connections, 1);
    durable.send(()).unwrap();
    assert_eq!(desk.message().await.text, "two");
}

#[tokio::test]
async fn it_is_alive_as_long_as_its_heart_beats() {
    /// What time it is: later each time somebody looks.
    static NOW: AtomicI64 = AtomicI64::new(0);
    let server = Discord::start().await;
    server.line().heartbeat(Duration::from_millis(100));
    let (heard, mut news) = mpsc::channel(8);
    let (_orders, to_channel) = mpsc::channel(1);
    let last = Arc::new(AtomicI64::new(0));
    let link = Link::new(heard, last.clone(), Arc::new(|| NOW.fetch_add(1, Relaxed) + 1), None);
    let account = Account { id: "default".into(), settings: server.settings() };
    let running = tokio::spawn(Arc::new(discord::Discord).run(account, link, to_channel));
    assert!(matches!(news.recv().await, Some(Heard::Connected(_))));
    let since = last.load(Relaxed);
    let beats = server.line().seen(|_| true).await.heartbeats;
    // Nothing happens but heartbeats.
    server.line().seen(|seen| seen.heartbeats >= beats + 10).await;
    assert!(last.load(Relaxed) >= since + 3, "{} since {since}", last.load(Relaxed));
    running.abort();
}

#[tokio::test]
async fn who_is_stopped_hangs_up() {
    let server = Discord::start().await;
    let desk = connected(&server).await;
    let checkpoint = desk.kill();
    server.line().seen(|seen| seen.hang_ups == 1).await;
    drop(resumed(&server, checkpoint).await);
}
