//! What stock clients ask to show their pages: the empty state of what this gateway does not have, and the
//! little that it does have.

use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use crabtree_protocol::{Empty, Method};
use serde_json::{Value, json};

/// The methods that are answered with their empty state, by the scope they ask for.
const EMPTY: [(&str, &str); 3] = [
    (
        "operator.read",
        "artifacts.list board.get controlUi.sessionPullRequests.subscribe \
         doctor.memory.status \
         memory.search mentions.list \
         plugins.catalog.browse plugins.controlUi.list plugins.list portal.list progressCard.get projects.list session.discussion.info \
         sessions.catalog.list sessions.companion.state skills.library.list skills.proposals.list skills.search \
         talk.catalog taskSuggestions.list themes.list \
         tools.github.status tts.status users.prefs.get worktrees.list",
    ),
    ("operator.admin", "migrations.memory.plan openclaw.chat.history"),
    ("operator.approvals", "openclaw.approval.list"),
];

fn table() -> impl Iterator<Item = (&'static str, &'static str)> {
    EMPTY.into_iter().flat_map(|(scope, names)| names.split_whitespace().map(move |name| (scope, name)))
}

/// accepts: G2
#[tokio::test]
async fn empty_methods_answer_for_their_scope_alone_and_are_not_advertised() {
    let mut listed: Vec<&str> = table().map(|(_, name)| name).collect();
    listed.sort_unstable();
    assert_eq!(listed, Empty::all().map(Empty::name).collect::<Vec<_>>());
    let gateway = Embedded::start().await;
    let mut nobody = Client::scoped(gateway.addr, &[]).await;
    let node = Intro { id: "node-host", mode: "node", role: "node", scopes: vec![], ..Intro::default() };
    let mut node = Client::connect(gateway.addr, &Intro { device: Some([9; 32]), ..node }).await.unwrap();
    for (scope, names) in EMPTY {
        let mut client = Client::scoped(gateway.addr, &[scope]).await;
        let advertised = client.hello["features"]["methods"].as_array().unwrap().clone();
        for name in names.split_whitespace() {
            assert!(!advertised.contains(&json!(name)), "{name}");
            let answer = client.call(name, json!({ "agentId": "main", "sessionKey": "main" })).await;
            assert!(!answer.to_string().contains("\"@"), "{name}: {answer}");
            let error = client.refused(name, json!([])).await;
            assert_eq!(error["code"], "INVALID_REQUEST", "{name}: {error}");
            let error = nobody.refused(name, json!({})).await;
            assert_eq!(
                (&error["code"], &error["details"]["missingScope"]),
                (&json!("FORBIDDEN"), &json!(scope))
            );
        }
        let first = names.split_whitespace().next().unwrap();
        let error = node.refused(first, json!({})).await;
        assert_eq!(error["message"], "unauthorized role: node");
    }
}

/// accepts: G2
#[tokio::test]
async fn what_clients_look_at_closely_is_as_they_want_it() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let jobs = client.call("cron.list", json!({ "limit": 50, "offset": 0, "enabled": "all" })).await;
    let page = json!({
        "jobs": [], "snapshotRevision": jobs["snapshotRevision"], "total": 0, "offset": 0, "limit": 50,
        "hasMore": false, "nextOffset": null, "deliveryPreviews": {},
    });
    assert_eq!(jobs, page);
    assert!(jobs["snapshotRevision"].as_str().is_some_and(|revision| !revision.is_empty()));
    assert_eq!(client.call("cron.list", json!({})).await["limit"], 1, "at least");
    for list in ["exec.approval.list", "plugin.approval.list", "openclaw.approval.list"] {
        assert_eq!(client.call(list, json!({})).await, json!([]));
    }
    let machine = client.call("environments.list", json!({})).await["environments"][0].clone();
    assert_eq!((&machine["id"], &machine["platform"]), (&json!("gateway"), &json!(std::env::consts::OS)));
    let approvals = client.call("exec.approvals.get", json!({})).await;
    let file = json!({ "version": 1, "defaults": {}, "agents": {} });
    assert_eq!((&approvals["exists"], &approvals["file"]), (&json!(false), &file));
    assert!(approvals["path"].as_str().unwrap().starts_with(gateway.state.path().to_str().unwrap()));
    assert_eq!(approvals["hash"].as_str().unwrap().len(), 64);
    let board = client.call("board.get", json!({ "sessionKey": "agent:main:x" })).await;
    assert_eq!((&board["sessionKey"], &board["revision"]), (&json!("agent:main:x"), &json!(0)));
    let lanes = client.call("diagnostics.lanes", json!({})).await;
    let main = json!({
        "lane": "main", "queuedCount": 0, "activeCount": 0, "maxConcurrent": 16, "draining": false,
        "generation": 0, "blockedBy": null,
    });
    assert_eq!(lanes["lanes"], json!([main]));
    let stability =
        client.call("diagnostics.stability", json!({ "limit": 25, "type": "actor.parked" })).await;
    let at = stability["generatedAt"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.len() == 24, "{at}");
    assert_eq!((&stability["capacity"], &stability["dropped"]), (&json!(1000), &json!(0)));
    assert_eq!(stability["summary"], json!({ "byType": {} }));
    let error = client.refused("users.self", json!({})).await;
    let words = "users.self requires an authenticated user";
    assert_eq!((&error["code"], &error["message"]), (&json!("FORBIDDEN"), &json!(words)));
}

/// accepts: E3
#[tokio::test]
async fn the_paired_devices_are_listed_with_their_tokens() {
    let gateway = Embedded::start().await;
    let mut client = Client::scoped(gateway.addr, &["operator.pairing"]).await;
    assert_eq!(client.call("device.pair.list", json!({})).await, json!({ "pending": [], "paired": [] }));
    let scopes = vec!["operator.read", "operator.write"];
    let intro = Intro { id: "openclaw-tui", mode: "ui", scopes, device: Some([5; 32]), ..Intro::default() };
    let device = Client::connect(gateway.addr, &intro).await.unwrap();
    let list = client.call("device.pair.list", json!({})).await;
    let paired = list["paired"].as_array().unwrap();
    let row = &paired[0];
    assert_eq!(
        (paired.len(), &row["clientId"], &row["role"]),
        (1, &json!("openclaw-tui"), &json!("operator"))
    );
    assert_eq!((&row["connected"], &row["approvedVia"]), (&json!(true), &json!("silent")));
    assert_eq!(row["tokens"][0]["scopes"], json!(["operator.read", "operator.write"]));
    let token = device.hello["auth"]["deviceToken"].as_str().unwrap();
    assert!(!list.to_string().contains(token));
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    assert_eq!(reader.refused("device.pair.list", json!({})).await["code"], "FORBIDDEN");
}

/// accepts: G2
#[tokio::test]
async fn messages_and_tokens_of_turns_are_read_from_the_store() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let none = client.call("sessions.get", json!({ "key": "main" })).await;
    assert_eq!(none, json!({ "messages": [] }));
    let turn = json!({ "sessionKey": "main", "message": "one two three", "idempotencyKey": "k1" });
    client.call("chat.send", turn).await;
    client.chat_end("k1").await;
    let messages =
        client.call("sessions.get", json!({ "key": "main", "limit": 20 })).await["messages"].clone();
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert_eq!((messages.as_array().unwrap().len(), &messages), (2, &history["messages"]));
    let newest = client.call("sessions.get", json!({ "key": "main", "limit": 1 })).await;
    assert_eq!(newest["messages"][0]["role"], "assistant");

    let cost = client.call("usage.cost", json!({ "days": 7, "agentScope": "all" })).await;
    let daily = cost["daily"].as_array().unwrap();
    let usage = &history["messages"][1]["usage"];
    assert_eq!((daily.len(), &cost["totals"]["input"]), (7, &usage["input"]));
    assert_eq!((&daily[6]["totalTokens"], &daily[5]["totalTokens"]), (&usage["totalTokens"], &json!(0)));
    assert_eq!(cost["totals"]["totalCost"], 0);
    assert_eq!(client.call("usage.cost", json!({})).await["daily"].as_array().unwrap().len(), 30);
}

/// The final `chat` event of a command.
fn said(event: &Value) -> &str {
    event["message"]["content"][0]["text"].as_str().unwrap()
}

/// accepts: G3
#[tokio::test]
async fn slash_commands_are_answered_at_once_also_while_a_turn_runs() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    let send =
        |message: &str, key: &str| json!({ "sessionKey": "main", "message": message, "idempotencyKey": key });
    // In a session that nobody has spoken in.
    let ack = client.call("chat.send", send(" /STATUS ", "s1")).await;
    assert_eq!(ack, json!({ "runId": "s1", "status": "started" }));
    let end = client.chat_end("s1").await;
    assert!(said(&end).contains("crabtree/offline") && said(&end).contains("agent:main:main (idle"), "{end}");
    let mut keys: Vec<&String> = end.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["message", "runId", "seq", "sessionKey", "state"]);
    let role = |role: &'static str| {
        move |e: &Value| e["event"] == "session.message" && e["payload"]["message"]["role"] == role
    };
    assert_eq!(client.event(role("user")).await["payload"]["message"]["content"], " /STATUS ");
    client.event(role("assistant")).await;

    client.call("chat.send", send(&"and so on ".repeat(500), "k1")).await;
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "delta").await;
    client.call("chat.send", send("/status", "s2")).await;
    let end = client.chat_end("s2").await;
    assert!(said(&end).contains("answering for"), "{end}");
    client.call("chat.send", send("/help", "s3")).await;
    let help = client.chat_end("s3").await;
    assert!(["/help", "/status", "/stop"].iter().all(|name| said(&help).contains(name)), "{help}");
    let stopped = client.call("chat.send", send("/stop", "s4")).await;
    assert_eq!(stopped, json!({ "ok": true, "aborted": true, "runIds": ["k1"] }));

    // Said once more it is not done once more; another text is another matter.
    assert_eq!(client.call("chat.send", send("/help", "s3")).await, json!({ "runId": "s3", "status": "ok" }));
    let error = client.refused("chat.send", send("/status", "s3")).await;
    assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    let error = client
        .refused(
            "chat.send",
            json!({ "sessionKey": "agent:ghost:main", "message": "/help", "idempotencyKey": "s5" }),
        )
        .await;
    assert_eq!(error["message"], "Agent \"ghost\" no longer exists in configuration");
    // They are in the history, and no model reads them.
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    let texts: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|m| m["content"].to_string()).collect();
    assert_eq!(
        texts.iter().filter(|text| text.contains("/status") || text.contains("/STATUS")).count(),
        3,
        "{texts:?}"
    );
    client.call("chat.send", send("hello", "k2")).await;
    let end = client.chat_end("k2").await;
    assert!(said(&end).contains("(turn 2): hello"), "{end}");
    let named = |m: &Value| m["name"].as_str().unwrap().to_owned();
    let commands = client.call("commands.list", json!({})).await;
    let names: Vec<_> = commands["commands"].as_array().unwrap().iter().map(named).collect();
    assert!(
        ["help", "status", "stop"].iter().all(|name| names.iter().any(|known| known == name)),
        "{names:?}"
    );
    assert!(Method::from_name("chat.send").is_some_and(Method::advertised));
}
