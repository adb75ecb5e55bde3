//! What was said while nobody listened, or faster than it could be heard.

use super::{connected, resumed};
use crate::fakes::discord::{ADA, ADA_DIRECT, CHANNEL, Discord, GUILD, THREAD, person, text};
use serde_json::{Value, json};
use std::time::Duration;

/// More than may wait to be handed in.
const FLOOD: usize = 700;

fn ada(said: &str) -> Value {
    text(person(ADA, "ada"), said)
}

#[tokio::test]
async fn after_a_restart_what_was_missed_comes_in_once_and_in_its_order() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    for channel in [ADA_DIRECT, CHANNEL] {
        server.says(channel, ada("before"));
        assert_eq!(desk.message().await.text, "before");
    }
    // The place is kept a moment later, and told with whatever comes next.
    desk.hears_no_message(Duration::from_millis(2_500)).await;
    let checkpoint = desk.kill();
    assert!(checkpoint.is_some());
    for said in ["one", "two"] {
        server.says_unheard(ADA_DIRECT, ada(said));
    }
    server.says_unheard(CHANNEL, text(person("1001", "crab"), "my own"));
    server.says_unheard(CHANNEL, json!({ "author": "nobody knows" }));
    let in_guild = server.says_unheard(CHANNEL, ada("three"));
    server.says_unheard(THREAD, ada("never heard of"));

    let mut desk = resumed(&server, checkpoint).await;
    let mut heard = vec![desk.message().await, desk.message().await, desk.message().await];
    heard.sort_by_key(|heard| heard.at.chat != ADA);
    assert_eq!(heard.iter().map(|heard| heard.text.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    let last = heard.pop().unwrap();
    assert_eq!((last.id, last.place.guild.as_deref()), (in_guild, Some(GUILD)));
    assert_eq!(last.place.roles, ["5902"], "what tells no roles is asked for them");
    desk.hears_no_message(Duration::from_millis(300)).await;
    desk.send(heard[0].at.clone(), "I was away").await.unwrap();
    assert!(server.calls("POST users/@me/channels").is_empty(), "it is known where she wrote");
}

#[tokio::test]
async fn no_more_is_fetched_of_a_channel_than_anybody_waits_for() {
    let server = Discord::start().await;
    let first = server.says_unheard(ADA_DIRECT, ada("before"));
    (0..60).for_each(|at| drop(server.says_unheard(ADA_DIRECT, ada(&at.to_string()))));
    let checkpoint = json!({ "last": { ADA_DIRECT: first.parse::<u64>().unwrap(), "6999": 5 } });
    let mut desk = resumed(&server, Some(checkpoint.to_string())).await;
    for at in 0..50 {
        assert_eq!(desk.message().await.text, at.to_string());
    }
    desk.hears_no_message(Duration::from_millis(300)).await;
    server.says(ADA_DIRECT, ada("now"));
    assert_eq!(desk.message().await.text, "now");
    desk.hears_no_message(Duration::from_millis(2_500)).await;
    assert!(!desk.kill().unwrap().contains("6999"), "a channel that is gone is forgotten");
}

#[tokio::test]
async fn what_cannot_be_fetched_now_is_fetched_later_and_overtaken_by_nothing() {
    let server = Discord::start().await;
    let first = server.says_unheard(CHANNEL, ada("before"));
    server.says_unheard(CHANNEL, ada("one"));
    server.refuse(&format!("GET channels/{CHANNEL}/messages"), 500);
    let checkpoint = json!({ "last": { CHANNEL: first.parse::<u64>().unwrap() } });
    let mut desk = resumed(&server, Some(checkpoint.to_string())).await;
    server.call(&format!("GET channels/{CHANNEL}/messages")).await;
    server.says(CHANNEL, ada("two"));
    desk.hears_no_message(Duration::from_millis(300)).await;
    server.refuse(&format!("GET channels/{CHANNEL}/messages"), 200);
    assert_eq!(desk.message().await.text, "one");
    assert_eq!(desk.message().await.text, "two");
}

#[tokio::test]
async fn a_chat_that_cannot_be_looked_up_now_is_heard_later() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.refuse(&format!("GET channels/{THREAD}"), 500);
    server.says(THREAD, ada("one"));
    server.call(&format!("GET channels/{THREAD}")).await;
    desk.hears_no_message(Duration::from_millis(300)).await;
    server.refuse(&format!("GET channels/{THREAD}"), 200);
    let heard = desk.message().await;
    assert_eq!((heard.text.as_str(), heard.place.parent.as_deref()), ("one", Some(CHANNEL)));
}

#[tokio::test]
async fn a_flood_is_handed_in_whole_and_in_its_order() {
    let server = Discord::start().await;
    let mut desk = connected(&server).await;
    server.says(ADA_DIRECT, ada("first"));
    let (_, durable) = desk.unacknowledged().await;
    (0..FLOOD).for_each(|at| drop(server.says(ADA_DIRECT, ada(&at.to_string()))));
    // One after the other on one line: when this is heard, so was everything before.
    server.asks("there?");
    server.call("POST interactions").await;
    durable.send(()).unwrap();
    let mut next = 0;
    while next < FLOOD {
        let heard = desk.message().await;
        let Ok(at) = heard.text.parse::<usize>() else { continue };
        // What is handed in twice is one message; nothing is left out.
        assert!(at <= next, "{at} came before {next}");
        next = next.max(at + 1);
    }
    assert!(
        !server.calls(&format!("GET channels/{ADA_DIRECT}/messages")).is_empty(),
        "not all of it could wait"
    );
}
