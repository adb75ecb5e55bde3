//! Discord.

use super::{answered, code, delivered, deliveries, on_discord};
use crate::channels::rows;
use crate::client::Client;
use crate::fakes::discord::{ADA, ADA_DIRECT, BOT, CHANNEL, Discord, Fault, THREAD, person, text};
use crate::gateway::Embedded;
use crate::media::{PNG, Witness};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;

fn ada(words: &str) -> Value {
    text(person(ADA, "ada"), words)
}

fn mention(words: &str) -> Value {
    let mut said = ada(&format!("<@{BOT}> {words}"));
    said["mentions"] = json!([person(BOT, "crab")]);
    said
}

/// accepts: A8, I13
#[tokio::test]
async fn what_ada_writes_is_answered_once_even_if_it_is_told_again() {
    let (gateway, fake) = on_discord(json!({})).await;
    let id = fake.says(ADA_DIRECT, ada("hi MOCK{n=3}"));
    assert_eq!(answered(&fake, ADA_DIRECT, 1).await, ["tok0 tok1 tok2"]);
    let mut again = fake.messages(ADA_DIRECT)[0].clone();
    again["id"] = json!(id);
    fake.dispatch("MESSAGE_CREATE", again);
    fake.says(ADA_DIRECT, ada("and MOCK{n=1}"));
    assert_eq!(answered(&fake, ADA_DIRECT, 2).await[1], "tok0");
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(rows(&mut client, "main").await.len(), 4);
}

/// accepts: I5
#[tokio::test]
async fn in_a_channel_who_names_it_is_answered_and_it_knows_what_was_said_before() {
    let (gateway, fake) = on_discord(json!({})).await;
    fake.says(CHANNEL, text(person("2002", "bob"), "lunch at noon"));
    let asked = fake.says(CHANNEL, mention("when? MOCK{n=1}"));
    assert_eq!(answered(&fake, CHANNEL, 1).await, ["tok0"]);
    let sent = fake.call(&format!("POST channels/{CHANNEL}/messages")).await.body;
    assert_eq!(sent["message_reference"]["message_id"], json!(asked), "{sent}");
    let mut client = Client::admin(gateway.addr).await;
    let said = rows(&mut client, &format!("agent:main:discord:channel:{CHANNEL}")).await;
    assert!(said[0].1.contains("bob: lunch at noon") && said[0].1.contains("when?"), "{said:?}");
    assert_eq!(said.len(), 2);
}

#[tokio::test]
async fn a_thread_is_a_session_of_its_own_and_answered_there() {
    let (gateway, fake) = on_discord(json!({})).await;
    fake.says(CHANNEL, mention("here MOCK{n=1}"));
    fake.says(THREAD, mention("there MOCK{n=2}"));
    assert_eq!(answered(&fake, CHANNEL, 1).await, ["tok0"]);
    assert_eq!(answered(&fake, THREAD, 1).await, ["tok0 tok1"]);
    let mut client = Client::admin(gateway.addr).await;
    let sessions = client.call("sessions.list", json!({})).await;
    let keys: Vec<&str> =
        sessions["sessions"].as_array().unwrap().iter().filter_map(|row| row["key"].as_str()).collect();
    for place in [CHANNEL, THREAD] {
        assert_eq!(keys.iter().filter(|key| key.ends_with(place)).count(), 1, "{keys:?}");
    }
}

#[tokio::test]
async fn a_file_reaches_the_model() {
    let fake = Discord::start().await;
    let witness = Witness::default();
    let mut settings = fake.settings();
    settings["allowFrom"] = json!([ADA]);
    let config =
        json!({ "channels": { "discord": settings }, "agents": { "defaults": { "model": "test/witness" } } });
    let _gateway = Embedded::with_models(config, vec![Arc::new(witness.clone())]).await;
    fake.line().seen(|seen| seen.identifies == 1).await;
    let mut said = ada("what is it?");
    said["attachments"] =
        json!([fake.attachment("dot.png", "image/png", &BASE64_STANDARD.decode(PNG).unwrap())]);
    fake.says(ADA_DIRECT, said);
    assert_eq!(answered(&fake, ADA_DIRECT, 1).await, ["seen"]);
    let (text, pictures) = witness.last();
    assert!(text.contains("what is it?") && pictures == ["image/png"], "{text} {pictures:?}");
}

#[tokio::test]
async fn an_edit_is_no_new_message_and_what_cannot_be_read_costs_nothing_else() {
    let (gateway, fake) = on_discord(json!({})).await;
    let id = fake.says(ADA_DIRECT, ada("first MOCK{n=1}"));
    answered(&fake, ADA_DIRECT, 1).await;
    fake.dispatch(
        "MESSAGE_UPDATE",
        json!({ "id": id, "channel_id": ADA_DIRECT, "content": "edited MOCK{n=5}" }),
    );
    fake.line().raw(r#"{"op":0,"t":"MESSAGE_CREATE","s":90,"d":{"id":"x"}}"#);
    fake.line().raw("{");
    fake.says(ADA_DIRECT, ada("second MOCK{n=2}"));
    assert_eq!(answered(&fake, ADA_DIRECT, 2).await, ["tok0", "tok0 tok1"]);
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(rows(&mut client, "main").await.len(), 4);
}

/// Discord takes the same message once: what may have been lost is sent again.
#[tokio::test]
async fn what_discord_does_not_take_at_once_is_sent_later_and_once() {
    let (gateway, fake) = on_discord(json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let faults = [Fault::TooMany(0.3), Fault::Status(500), Fault::Status(502), Fault::Cut];
    for (n, fault) in faults.into_iter().enumerate() {
        fake.go_wrong([fault]);
        fake.says(ADA_DIRECT, ada(&format!("MOCK{{text=answer-{n}.}}")));
        let said = answered(&fake, ADA_DIRECT, n + 1).await;
        assert_eq!(said[n], format!("answer-{n}."), "{fault:?}");
    }
    delivered(&mut client, "discord", "sent", 4).await;
    assert_eq!(deliveries(&mut client, "discord", "uncertain").await, 0);
}

#[tokio::test]
async fn what_is_written_while_the_line_is_cut_is_answered_once() {
    let (gateway, fake) = on_discord(json!({})).await;
    fake.says(ADA_DIRECT, ada("MOCK{n=1}"));
    answered(&fake, ADA_DIRECT, 1).await;
    fake.line().invalidate();
    fake.says_unheard(ADA_DIRECT, ada("MOCK{n=2}"));
    assert_eq!(answered(&fake, ADA_DIRECT, 2).await[1], "tok0 tok1");
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(rows(&mut client, "main").await.len(), 4);
}

/// accepts: K14
#[tokio::test]
async fn a_stranger_gets_a_code_and_is_answered_once_the_owner_has_let_them_in() {
    let (gateway, fake) = on_discord(json!({ "allowFrom": ["2999"] })).await;
    fake.says(ADA_DIRECT, ada("let me in MOCK{n=1}"));
    let code = code(&answered(&fake, ADA_DIRECT, 1).await[0]);
    let mut client = Client::admin(gateway.addr).await;
    let waiting = client.call("channels.pairing.list", json!({ "channel": "discord" })).await;
    let request = &waiting["requests"][0];
    assert_eq!(request["metadata"]["code"], code, "{waiting}");
    let approval = json!({
        "channel": "discord", "accountId": "default", "requestId": request["requestId"], "notify": false,
    });
    assert_eq!(client.call("channels.pairing.approve", approval).await["senderId"], ADA);
    fake.says(ADA_DIRECT, ada("now? MOCK{n=2}"));
    let said = answered(&fake, ADA_DIRECT, 2).await;
    assert_eq!(said[1], "tok0 tok1", "{said:?}");
}
