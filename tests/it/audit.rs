//! The ledger of acts: who did what is written down, survives a kill, and shows when somebody has changed it.

use crate::client::{Client, Intro, TOKEN};
use crate::gateway::{Embedded, Process};
use crabtree_actors::store::{Db, Sync};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The newest row that is as wanted, once it is written.
async fn row(client: &mut Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let page = client.call("audit.activity.list", json!({ "limit": 500 })).await;
        let rows = page["events"].as_array().unwrap();
        if let Some(row) = rows.iter().find(|row| wanted(row)) {
            return row.clone();
        }
        assert!(Instant::now() < deadline, "no such row: {rows:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn done(action: &'static str, status: &'static str) -> impl Fn(&Value) -> bool {
    move |row| row["action"] == action && row["status"] == status
}

fn crabtree(state: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .args(args)
        .env("CRABTREE_STATE_DIR", state)
        .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
        .output()
        .unwrap()
}

#[tokio::test]
async fn who_did_what_is_written_down_without_what_was_said() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let hash = admin.call("config.get", json!({})).await["hash"].clone();
    let patch = json!({ "raw": "{hooks: {token: 'SECRET-1'}}", "baseHash": hash });
    admin.call("config.patch", patch).await;
    admin.call("sessions.create", json!({ "key": "one", "message": "SECRET-2" })).await;
    admin.call("sessions.patch", json!({ "key": "one", "label": "SECRET-3" })).await;
    admin.call("system.actors.restart", json!({ "path": "gateway/presence" })).await;
    admin.refused("sessions.delete", json!({ "key": "agent:main:main" })).await;

    let changed = row(&mut admin, done("config.patch", "succeeded")).await;
    assert_eq!(changed["summary"], json!({ "paths": ["hooks"] }));
    assert_eq!((&changed["kind"], &changed["actor"]["id"]), (&json!("operator_act"), &json!("cli")));
    assert_eq!(
        (&changed["origin"]["address"], &changed["origin"]["role"]),
        (&json!("127.0.0.1"), &json!("operator"))
    );
    let patched = row(&mut admin, done("sessions.patch", "succeeded")).await;
    assert_eq!((&patched["target"], &patched["summary"]), (&json!("one"), &json!({ "fields": ["label"] })));
    let restarted = row(&mut admin, done("system.actors.restart", "succeeded")).await;
    assert_eq!(restarted["target"], "gateway/presence");
    let refused = row(&mut admin, done("sessions.delete", "blocked")).await;
    assert_eq!(refused["errorCode"], "INVALID_REQUEST");

    let all = admin.call("audit.activity.list", json!({ "limit": 500 })).await.to_string();
    assert!(!all.contains("SECRET"), "{all}");
    let verdict = admin.call("audit.verify", json!({})).await;
    assert_eq!(verdict["ok"], true, "{verdict}");
}

#[tokio::test]
async fn who_is_not_let_in_and_who_may_not_are_written_down() {
    let gateway = Embedded::start().await;
    let wrong = Intro { auth: json!({ "token": "SECRET-wrong" }), device: Some([4; 32]), ..Intro::default() };
    assert!(Client::connect(gateway.addr, &wrong).await.is_err());
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    reader.refused("config.patch", json!({ "raw": "{}" })).await;
    let login = row(&mut reader, done("connect", "blocked")).await;
    assert_eq!(login["errorCode"], "AUTH_TOKEN_MISMATCH");
    assert_eq!(login["actor"]["id"], login["origin"]["device"]);
    assert_eq!(login["actor"]["id"].as_str().unwrap().len(), 64, "{login}");
    let refused = row(&mut reader, done("config.patch", "blocked")).await;
    assert_eq!(refused["origin"]["client"], "cli");
    assert!(!login.to_string().contains("SECRET"));
    // What merely reads leaves nothing.
    reader.call("sessions.list", json!({})).await;
    let rows = reader.call("audit.activity.list", json!({})).await["events"].clone();
    assert!(rows.as_array().unwrap().iter().all(|row| row["action"] != "sessions.list"), "{rows:#}");
}

#[tokio::test]
async fn runs_and_tools_with_effects_outside_are_told_in_the_recorded_shape() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let say = json!({ "sessionKey": "main", "message": "/tool exec {\"command\":\"echo SECRET\"}", "idempotencyKey": "k1" });
    client.call("chat.send", say).await;
    client.chat_end("k1").await;
    let ended = row(&mut client, done("agent.run.finished", "succeeded")).await;
    assert_eq!((&ended["schemaVersion"], &ended["eventType"]), (&json!(1), &json!("agent_run")));
    let page = client.call("audit.list", json!({ "runId": "k1" })).await;
    let rows = page["events"].as_array().unwrap();
    let told: Vec<_> = rows.iter().rev().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(told, ["agent.run.started", "tool.action.started", "agent.run.finished"]);
    for row in rows {
        assert_eq!(
            (&row["actor"], &row["redaction"]),
            (&json!({ "type": "agent", "id": "main" }), &json!("metadata_only"))
        );
        assert_eq!((&row["agentId"], &row["sessionKey"]), (&json!("main"), &json!("agent:main:main")));
        assert!(row.get("schemaVersion").is_none() && row["eventId"].as_str().unwrap().len() == 36);
    }
    assert_eq!(rows[1]["toolName"], "exec");
    assert!(!page.to_string().contains("SECRET"), "{page}");
    let tools = client.call("audit.list", json!({ "kind": "tool_action" })).await;
    assert_eq!(tools["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended_and_wrong_filters_are_refused_in_the_recorded_words() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    for name in ["a", "b", "c"] {
        client.call("sessions.create", json!({ "key": name })).await;
    }
    row(&mut client, |row| row["action"] == "sessions.create" && row["target"] == "c").await;
    let mut seen = vec![];
    let mut params = json!({ "method": "sessions.create", "limit": 1, "who": "cli" });
    loop {
        let page = client.call("audit.activity.list", params.clone()).await;
        seen.extend(page["events"].as_array().unwrap().iter().map(|row| row["sequence"].as_i64().unwrap()));
        match page.get("nextCursor") {
            Some(cursor) => params["cursor"] = cursor.clone(),
            None => break,
        }
    }
    assert!(seen.len() >= 3 && seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    let words = [
        (json!({ "cursor": "x" }), "invalid audit.activity.list range or cursor"),
        (json!({ "cursor": "0" }), "invalid audit.activity.list range or cursor"),
        (json!({ "after": 2, "before": 1 }), "invalid audit.activity.list range or cursor"),
        (
            json!({ "kind": "message", "sessionKey": "k" }),
            "invalid audit.activity.list filters: sessionKey only applies to kind agent_run or tool_action",
        ),
        (
            json!({ "kind": "agent_run", "channel": "telegram" }),
            "invalid audit.activity.list filters: channel only applies to kind message",
        ),
        (
            json!({ "direction": "inbound", "sessionKey": "k" }),
            "invalid audit.activity.list filters: direction cannot be combined with sessionKey",
        ),
    ];
    for (params, message) in words {
        let error = client.refused("audit.activity.list", params.clone()).await;
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("INVALID_REQUEST"), &json!(message)),
            "{params}"
        );
    }
    for params in
        [json!({ "limit": 0 }), json!({ "limit": 501 }), json!({ "nope": 1 }), json!({ "kind": "x" })]
    {
        client.refused("audit.list", params).await;
    }
    let messages = client.call("audit.activity.list", json!({ "channel": "telegram" })).await;
    assert_eq!(messages, json!({ "events": [] }));
}

/// The row of a request is written with what it changes or before it, so a kill never parts them.
#[tokio::test]
async fn a_change_that_survives_a_kill_has_its_row() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Process::start(state.path()).await;
    for round in 0..4 {
        let mut client = Client::admin(process.addr).await;
        client.call("sessions.create", json!({ "key": format!("s{round}") })).await;
        let addr = process.addr;
        process.kill();
        process = Process::restart(state.path(), addr).await;
        let mut client = Client::admin(process.addr).await;
        let session = client.call("sessions.describe", json!({ "key": format!("s{round}") })).await;
        assert!(!session["session"].is_null(), "it was acknowledged: {session}");
        let page = client.call("audit.activity.list", json!({ "method": "sessions.create" })).await;
        let rows = page["events"].as_array().unwrap();
        let of = |row: &&Value| row["target"] == json!(format!("s{round}"));
        assert!(rows.iter().any(|row| of(&row)), "round {round}: {rows:#?}");
        assert_eq!(client.call("audit.verify", json!({})).await["ok"], true);
    }
}

#[tokio::test]
async fn switched_off_nothing_is_written_and_its_bounds_hold() {
    let config = json!({ "logging": { "audit": { "enabled": false } } });
    let gateway = Embedded::with(config).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.create", json!({ "key": "a" })).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(client.call("audit.activity.list", json!({})).await, json!({ "events": [] }));

    let gateway = Embedded::with(json!({ "logging": { "audit": { "maxRows": 3 } } })).await;
    let mut client = Client::admin(gateway.addr).await;
    for n in 0..8 {
        client.call("sessions.create", json!({ "key": format!("s{n}") })).await;
    }
    row(&mut client, |row| row["target"] == "s7" && row["status"] == "succeeded").await;
    let rows = client.call("audit.activity.list", json!({})).await["events"].clone();
    assert!(rows.as_array().unwrap().len() <= 3, "{rows:#}");
    assert_eq!(client.call("audit.verify", json!({})).await["ok"], true, "the chain has an anchor");
}

#[tokio::test]
async fn the_command_line_lists_and_verifies_whether_the_gateway_runs_or_not() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    client.call("sessions.create", json!({ "key": "shown" })).await;
    row(&mut client, |row| row["target"] == "shown" && row["status"] == "succeeded").await;
    let listed =
        crabtree(state.path(), &["audit", "list", "--since", "1h", "--method", "sessions.", "--who", "cli"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("sessions.create") && text.contains("shown"), "{text}");
    let rows = crabtree(state.path(), &["audit", "list", "--json", "--limit", "1"]);
    let rows: Value = serde_json::from_slice(&rows.stdout).unwrap();
    assert_eq!(rows["events"].as_array().unwrap().len(), 1);
    let up = crabtree(state.path(), &["audit", "verify", "--json"]);
    let head = serde_json::from_slice::<Value>(&up.stdout).unwrap()["head"].as_str().unwrap().to_owned();
    assert!(up.status.success());

    process.kill();
    let down = crabtree(state.path(), &["audit", "verify", "--head", &head]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stdout));
    let db = Db::open(state.path().join("store.sqlite"), Sync::Full).unwrap();
    let sql = "UPDATE audit SET body = replace(body, 'shown', 'hidden')";
    db.write(|conn| Ok(conn.execute_batch(sql)?)).unwrap();
    drop(db);
    let tampered = crabtree(state.path(), &["audit", "verify"]);
    let text = String::from_utf8(tampered.stdout).unwrap();
    assert!(tampered.status.code() == Some(1) && text.contains("not as it was written"), "{text}");
}
