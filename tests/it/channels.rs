//! Channels from outside: what people write comes in once, and every answer goes out once.

mod crash;
mod drivers;
mod faults;
mod whatsapp;

use crate::client::Client;
use crate::fakes::platform::{Manner, Platform};
use crate::gateway::Embedded;
use crate::mock_model::models;
use base64::Engine;
use serde_json::{Value, json};

/// A gateway with a platform, and these settings of the channel.
async fn gateway(section: Value) -> (Embedded, Platform) {
    with(section, json!({})).await
}

/// The same, with these sections of the configuration.
async fn with(section: Value, more: Value) -> (Embedded, Platform) {
    let platform = Platform::start();
    let mut config = json!({
        "channels": { "loopback": platform.section(section) },
        "agents": { "defaults": { "model": "mock/mock-1" } },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let gateway = Embedded::with_models(config, models()).await;
    (gateway, platform)
}

/// Who said what in a session, in its order.
pub async fn rows(client: &mut Client, key: &str) -> Vec<(String, String)> {
    let page = client.call("chat.history", json!({ "sessionKey": key })).await;
    let row = |row: &Value| {
        let content = &row["content"];
        let text = content.as_str().or(content[0]["text"].as_str()).unwrap_or_default();
        (row["role"].as_str().unwrap().to_owned(), text.trim().to_owned())
    };
    page["messages"].as_array().unwrap().iter().map(row).collect()
}

/// accepts: A8, I13
#[tokio::test]
async fn what_is_written_is_answered_where_it_was_written_and_clients_see_it() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    let mut client = Client::admin(gateway.addr).await;
    platform.says("1", "ann", "hello MOCK{n=3}");
    let end = client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    assert_eq!(end["payload"]["sessionKey"], "agent:main:main");
    assert_eq!(platform.answers_in("ann", 1).await, ["tok0 tok1 tok2"]);
    platform.until("it is acknowledged", |p| p.received() == ["1"]).await;
    let expected = [("user", "hello MOCK{n=3}"), ("assistant", "tok0 tok1 tok2")];
    let rows = rows(&mut client, "main").await;
    assert!(rows.iter().map(|(a, b)| (&**a, &**b)).eq(expected), "{rows:?}");
}

#[tokio::test]
async fn the_same_message_again_is_one_message() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    for _ in 0..3 {
        platform.says("1", "ann", "hello MOCK{n=1}");
    }
    platform.answers_in("ann", 1).await;
    platform.says("2", "ann", "again MOCK{n=2}");
    platform.until("all are acknowledged", |p| p.received().len() == 4).await;
    assert_eq!(platform.answers_in("ann", 2).await, ["tok0", "tok0 tok1"]);
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(rows(&mut client, "main").await.len(), 4);
}

/// accepts: I5
#[tokio::test]
async fn in_a_group_the_agent_answers_who_speaks_to_it_and_knows_what_was_said() {
    let (gateway, platform) = gateway(json!({ "groups": { "g": {} } })).await;
    let write = |id: &str, from: &str, text: &str, mention: bool| {
        platform.write(json!({
            "id": id, "from": from, "text": text, "chat": "g", "kind": "group", "mention": mention,
        }));
    };
    write("1", "bob", "lunch at noon?", false);
    platform.until("it was heard", |p| p.received() == ["1"]).await;
    write("2", "ann", "what did he say? MOCK{n=1}", true);
    assert_eq!(platform.answers_in("g", 1).await, ["tok0"]);
    assert_eq!(platform.sent()[0]["replyTo"], "2");
    let mut client = Client::admin(gateway.addr).await;
    let key = "agent:main:loopback:group:g";
    let asked = &rows(&mut client, key).await[0].1;
    assert!(
        asked.contains("bob: lunch at noon?") && asked.ends_with("ann: what did he say? MOCK{n=1}"),
        "{asked}"
    );
    write("3", "ann", "thanks MOCK{n=1}", true);
    platform.answers_in("g", 2).await;
    assert!(!rows(&mut client, key).await[2].1.contains("lunch"), "it is told once");
}

#[tokio::test]
async fn who_is_not_known_gets_a_code_and_is_let_in_by_it() {
    let (gateway, platform) = gateway(json!({ "dmPolicy": "pairing" })).await;
    platform.says("1", "eve", "let me in MOCK{n=1}");
    let said = platform.answers_in("eve", 1).await;
    let code = said[0].split("Pairing code: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    platform.says("2", "eve", "hello?");
    platform.until("it is acknowledged", |p| p.received().len() == 2).await;
    let mut client = Client::admin(gateway.addr).await;
    let waiting = client.call("channels.pairing.list", json!({ "channel": "loopback" })).await;
    let request = &waiting["requests"][0];
    assert_eq!(
        (&request["metadata"]["code"], &request["senderId"]),
        (&json!(code), &json!("eve")),
        "{waiting}"
    );
    let approval = |id: &Value| json!({ "channel": "loopback", "accountId": "default", "requestId": id });
    let wrong = client.refused("channels.pairing.approve", approval(&json!("other"))).await;
    assert_eq!(wrong["message"], "pending DM access request no longer exists");
    client.call("channels.pairing.approve", approval(&request["requestId"])).await;
    platform.says("3", "eve", "now? MOCK{n=2}");
    platform.until("the answer", |p| p.sent_to("eve").iter().any(|text| text == "tok0 tok1")).await;
}

/// accepts: A12
#[tokio::test]
async fn stop_on_one_channel_stops_a_run_that_another_started() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    let mut client = Client::admin(gateway.addr).await;
    let said = json!({ "sessionKey": "main", "message": "long MOCK{n=500;d=100}", "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["state"] == "delta").await;
    platform.says("1", "ann", "stop");
    assert_eq!(client.chat_end("k1").await["state"], "aborted");
    assert_eq!(platform.answers_in("ann", 1).await, ["⚙️ Agent was aborted."]);
    platform.says("2", "ann", "/status");
    assert!(platform.answers_in("ann", 2).await[1].contains("Crabtree"), "{:?}", platform.sent_to("ann"));
}

#[tokio::test]
async fn who_begins_anew_with_a_message_keeps_nobody_waiting() {
    let (_gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    platform.says("1", "ann", "/new long MOCK{n=500;d=100}");
    platform.until("it is acknowledged", |p| p.received() == ["1"]).await;
    platform.says("2", "ann", "/stop");
    assert_eq!(platform.answers_in("ann", 1).await, ["⚙️ Agent was aborted."]);
    platform.says("3", "ann", "/new again MOCK{n=2}");
    assert_eq!(platform.answers_in("ann", 2).await[1], "tok0 tok1");
}

/// A session that takes nothing more keeps the others of its account waiting for a while, and then its sender is told.
#[tokio::test]
async fn a_session_that_takes_nothing_does_not_make_its_account_deaf() {
    let queue = json!({ "messages": { "queue": { "mode": "followup", "cap": 1, "drop": "new" } } });
    let (_gateway, platform) = with(json!({ "allowFrom": ["ann"] }), queue).await;
    for (id, text) in [("1", "long MOCK{n=500;d=100}"), ("2", "waits MOCK{n=1}"), ("3", "is too much")] {
        platform.says(id, "ann", text);
    }
    assert_eq!(platform.answers_in("ann", 1).await, ["⚠️ session backlog is full (1 messages)"]);
    platform.says("4", "ann", "stop");
    assert_eq!(platform.answers_in("ann", 2).await[1], "⚙️ Agent was aborted.");
    let all = |p: &Platform| ["1", "2", "3", "4"].iter().all(|id| p.received().iter().any(|got| got == id));
    platform.until("all are acknowledged", all).await;
}

#[tokio::test]
async fn long_answers_go_out_in_pieces_and_none_is_lost_when_the_platform_says_later() {
    let (_gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    platform.answers(Manner::LaterOnce);
    platform.says("1", "ann", "MOCK{n=1500;d=0}");
    let pieces = platform.answers_in("ann", 3).await;
    let said: String = pieces.join(" ");
    let expected: Vec<String> = (0..1500).map(|n| format!("tok{n}")).collect();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), expected);
    assert!(pieces.iter().all(|piece| piece.chars().count() <= 4_000));
}

#[tokio::test]
async fn what_may_not_have_been_sent_is_not_sent_again_and_is_reported_at_the_next_contact() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    platform.answers(Manner::Silent);
    platform.says("1", "ann", "MOCK{n=2}");
    platform.answers_in("ann", 1).await;
    let mut client = Client::admin(gateway.addr).await;
    let uncertain = async {
        loop {
            let status = client.call("channels.status", json!({})).await;
            let counts = &status["channelAccounts"]["loopback"][0]["deliveries"];
            if counts["uncertain"] == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), uncertain)
        .await
        .expect("it is uncertain in the end");
    platform.answers(Manner::Takes);
    platform.says("2", "ann", "MOCK{n=1}");
    let said = platform.answers_in("ann", 3).await;
    assert!(said[1].contains("may not have reached you") && said[1].contains("tok0 tok1"), "{said:?}");
    assert_eq!((&*said[0], &*said[2]), ("tok0 tok1", "tok0"));
}

/// A stranger may talk, and have nothing done on the machine.
#[tokio::test]
async fn who_does_not_own_the_assistant_has_no_tools_and_no_commands() {
    let (gateway, platform) =
        with(json!({ "allowFrom": ["ann"] }), json!({ "session": { "dmScope": "per-channel-peer" } })).await;
    let call = "MOCK{tool=exec:eyJjb21tYW5kIjoiZWNobyBoaSJ9;n=1}";
    platform.says("1", "ann", call);
    platform.says("2", "eve", call);
    for who in ["ann", "eve"] {
        assert_eq!(platform.answers_in(who, 1).await, ["tok0"]);
    }
    let mut client = Client::admin(gateway.addr).await;
    let result = async |client: &mut Client, who: &str| {
        let key = format!("agent:main:loopback:direct:{who}");
        let rows = rows(client, &key).await;
        rows.into_iter().find(|(role, _)| role == "toolResult").unwrap().1
    };
    assert!(result(&mut client, "ann").await.contains("hi"));
    let refused = result(&mut client, "eve").await;
    assert!(!refused.contains("hi\n") && refused.contains("not"), "{refused}");
    platform.says("3", "eve", "/status");
    platform.answers_in("eve", 2).await;
    let asked = rows(&mut client, "agent:main:loopback:direct:eve").await;
    assert!(asked.iter().any(|(role, text)| role == "user" && text == "eve: /status"), "{asked:?}");
}

#[tokio::test]
async fn what_the_platform_does_not_take_is_failed_and_tried_no_more() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    platform.answers(Manner::Refuses);
    let mut client = Client::admin(gateway.addr).await;
    let wish = json!({ "to": "ann", "message": "hello", "idempotencyKey": "s1" });
    let refused = client.refused("send", wish.clone()).await;
    assert!(refused["message"].as_str().unwrap().contains("does not want it"), "{refused}");
    platform.answers(Manner::Takes);
    assert_eq!(
        client.refused("send", wish).await["message"],
        refused["message"],
        "the same again is the same"
    );
    let other = json!({ "to": "ann", "message": "hello", "idempotencyKey": "s2", "channel": "loopback" });
    let sent = client.call("send", other).await;
    assert_eq!((&sent["channel"], &sent["chatId"]), (&json!("loopback"), &json!("ann")), "{sent}");
    assert_eq!(platform.sent_to("ann"), ["hello"]);
}

#[tokio::test]
async fn the_agent_writes_to_others_of_its_own_accord() {
    let (gateway, platform) = gateway(json!({ "allowFrom": ["ann"] })).await;
    let mut client = Client::admin(gateway.addr).await;
    let call = json!({ "to": "group:g", "text": "The washing is done." }).to_string();
    let arguments = base64::engine::general_purpose::STANDARD.encode(call);
    let said = json!({
        "sessionKey": "main", "message": format!("MOCK{{tool=message:{arguments};n=1}}"), "idempotencyKey": "k1",
    });
    client.call("chat.send", said).await;
    client.chat_end("k1").await;
    assert_eq!(platform.sent_to("g"), ["The washing is done."]);
    let rows = rows(&mut client, "main").await;
    assert!(
        rows.iter().any(|(role, text)| role == "toolResult" && text.contains("\"sent\":true")),
        "{rows:?}"
    );
}
