//! Who is not the owner: strangers in the owner's session, and programs that answer each other.

use super::{ANN, FORUM, QUIET, and, answered, gateway, on_discord, on_telegram, posted};
use crate::client::Client;
use crate::fakes::discord::{ADA, BOT, CHANNEL, Discord, person, text};
use crate::fakes::telegram::Telegram;
use serde_json::{Value, json};

/// Where a session is reached, as lists show it.
async fn route(client: &mut Client, key: &str) -> Value {
    let sessions = client.call("sessions.list", json!({})).await;
    let rows = sessions["sessions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(row["lastTo"], row["deliveryContext"]["to"], "{row}");
    row["deliveryContext"].clone()
}

fn direct(from: i64, name: &str, words: &str) -> Value {
    json!({
        "text": words, "chat": { "id": from, "type": "private" },
        "from": { "id": from, "is_bot": false, "first_name": name },
    })
}

#[tokio::test]
async fn a_stranger_in_the_main_session_is_answered_and_does_not_move_where_the_owner_is_reached() {
    let (gateway, fake) = on_telegram(json!({ "dmPolicy": "open" })).await;
    let mut client = Client::admin(gateway.addr).await;
    fake.text("hi MOCK{n=1}");
    posted(&fake, ANN, 1).await;
    let at_ann = json!({ "channel": "telegram", "to": ANN.to_string(), "accountId": "default" });
    assert_eq!(route(&mut client, "agent:main:main").await, at_ann);
    fake.message(direct(43, "Eve", "and me? MOCK{n=2}"));
    assert_eq!(posted(&fake, 43, 1).await, ["tok0 tok1"]);
    assert_eq!(route(&mut client, "agent:main:main").await, at_ann);
}

#[tokio::test]
async fn of_several_owners_the_one_who_wrote_last_is_reached() {
    let fake = Telegram::start().await;
    let settings = and(fake.settings(), json!({ "allowFrom": [ANN, 44] }));
    let gateway = gateway(json!({ "telegram": settings }), json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    for (from, name) in [(ANN, "Ann"), (44, "Bob")] {
        fake.message(direct(from, name, "MOCK{n=1}"));
        posted(&fake, from, 1).await;
        assert_eq!(route(&mut client, "agent:main:main").await["to"], from.to_string());
    }
}

#[tokio::test]
async fn a_topic_is_reached_in_its_group_and_the_message_goes_there() {
    let (gateway, fake) = on_telegram(json!({ "groups": { "*": {} } })).await;
    let mut client = Client::admin(gateway.addr).await;
    fake.message(super::telegram::in_topic(7, "MOCK{n=1}"));
    posted(&fake, FORUM, 1).await;
    let route = route(&mut client, &format!("agent:main:telegram:group:{FORUM}:topic:7")).await;
    assert_eq!((&route["to"], &route["threadId"]), (&json!(format!("group:{FORUM}")), &json!("7")));
    let mut wish = route.clone();
    wish["message"] = "by the way".into();
    wish["idempotencyKey"] = "k1".into();
    client.call("send", wish).await;
    assert_eq!(posted(&fake, FORUM, 2).await[1], "by the way");
    assert_eq!(fake.posts(FORUM)[1].thread, Some(7));
}

fn program(words: &str) -> Value {
    let mut said = text(person("3001", "other"), &format!("<@{BOT}> {words}"));
    said["author"]["bot"] = true.into();
    said["mentions"] = json!([person(BOT, "crab")]);
    said
}

async fn bot_loop(client: &mut Client) -> Value {
    client.call("channels.status", json!({})).await["channelAccounts"]["discord"][0]["botLoop"].clone()
}

#[tokio::test]
async fn a_program_that_answers_every_answer_is_left_out_after_a_while() {
    let limits = json!({ "maxEventsPerWindow": 3, "windowSeconds": 600, "cooldownSeconds": 600 });
    let (gateway, fake) = on_discord(json!({ "allowBots": true, "botLoopProtection": limits })).await;
    let mut client = Client::admin(gateway.addr).await;
    // It says something to every answer.
    for n in 1..=3 {
        fake.says(CHANNEL, program("go on MOCK{n=1}"));
        answered(&fake, CHANNEL, n).await;
    }
    assert_eq!(bot_loop(&mut client).await, Value::Null);
    fake.says(CHANNEL, program("go on MOCK{n=1}"));
    answered(&fake, CHANNEL, 3).await;
    assert_eq!(bot_loop(&mut client).await["leftOut"], 1);
    // A crash of the channel begins nothing anew.
    client.call("system.actors.restart", json!({ "path": "gateway/channels/discord%2Fdefault" })).await;
    fake.line().seen(|seen| seen.identifies == 2).await;
    fake.says(CHANNEL, program("go on MOCK{n=1}"));
    tokio::time::sleep(QUIET).await;
    // People are answered as ever.
    let mut asked = text(person(ADA, "ada"), &format!("<@{BOT}> MOCK{{n=2}}"));
    asked["mentions"] = json!([person(BOT, "crab")]);
    fake.says(CHANNEL, asked);
    assert_eq!(answered(&fake, CHANNEL, 4).await[3], "tok0 tok1");
    assert_eq!(bot_loop(&mut client).await["leftOut"], 2);
}

#[tokio::test]
async fn programs_are_not_heard_unless_that_is_wanted() {
    let hears = async |allowed: Value| {
        let fake = Discord::start().await;
        let settings = and(
            fake.settings(),
            json!({ "groupPolicy": "open", "allowBots": allowed, "groups": { "*": { "requireMention": false } } }),
        );
        let _gateway = gateway(json!({ "discord": settings }), json!({})).await;
        fake.line().seen(|seen| seen.identifies == 1).await;
        let mut unnamed = text(person("3001", "other"), "MOCK{n=1}");
        unnamed["author"]["bot"] = true.into();
        fake.says(CHANNEL, unnamed);
        fake.says(CHANNEL, program("MOCK{n=2}"));
        fake.says(CHANNEL, text(person(ADA, "ada"), "MOCK{n=3}"));
        super::until("people are answered", || {
            fake.answers(CHANNEL).iter().any(|said| said.contains("tok2"))
        })
        .await;
        fake.answers(CHANNEL).join(" ").matches("tok0").count()
    };
    assert_eq!(hears(json!(false)).await, 1);
    assert_eq!(hears(json!("mentions")).await, 2);
}
