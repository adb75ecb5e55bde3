//! What the methods about the gateway itself say and do. Below it: all methods, in their declared shapes.

mod shapes;

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn names(node: &Value) -> Vec<&str> {
    node["children"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

fn assert_paths(node: &Value) {
    for child in node["children"].as_array().unwrap() {
        let path = format!("{}/{}", node["path"].as_str().unwrap(), child["name"].as_str().unwrap());
        assert_eq!(child["path"], path.as_str());
        assert_eq!(child["state"], "running", "{path}");
        assert_paths(child);
    }
}

/// accepts: A17
#[tokio::test]
async fn the_tree_is_shown_as_deep_and_wide_as_asked() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let turn = json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k1" });
    client.call("chat.send", turn).await;
    client.chat_end("k1").await;
    let root = client.call("system.actors", json!({})).await["root"].clone();
    assert_eq!((&root["path"], &root["state"]), (&json!("gateway"), &json!("running")));
    let parts = [
        "store",
        "config",
        "broadcast",
        "presence",
        "devices",
        "nodes",
        "approvals",
        "agents",
        "sessions",
        "channels",
        "canvas",
        "terminals",
        "cron",
        "scheduler",
        "health",
        "alerts",
        "connections",
        "listener",
    ];
    let as_set = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(as_set(names(&root)), as_set(parts.to_vec()));
    assert_paths(&root);
    let conn = client.hello["server"]["connId"].as_str().unwrap();
    let child =
        |parent: &str| root["children"].as_array().unwrap().iter().find(|c| c["name"] == parent).unwrap();
    assert_eq!(names(child("connections")), [conn]);
    assert_eq!(names(child("sessions")), ["agent:main:main"]);

    let shallow = client.call("system.actors", json!({ "depth": 0 })).await["root"].clone();
    assert_eq!((&shallow["children"], &shallow["more"]), (&json!([]), &json!(parts.len())));
    let level = client.call("system.actors", json!({ "depth": 1 })).await["root"].clone();
    let sessions = level["children"].as_array().unwrap().iter().find(|c| c["name"] == "sessions").unwrap();
    assert_eq!((&sessions["children"], &sessions["more"]), (&json!([]), &json!(1)));
    assert_eq!(level.get("more"), None);
    let narrow = client.call("system.actors", json!({ "limit": 3 })).await["root"].clone();
    assert_eq!((narrow["children"].as_array().unwrap().len(), &narrow["more"]), (3, &json!(parts.len() - 3)));
    let path = "gateway/sessions/agent:main:main";
    let part = client.call("system.actors", json!({ "path": path })).await["root"].clone();
    assert_eq!((&part["path"], &part["kind"]), (&json!(path), &json!("session")));
}

/// accepts: A9
#[tokio::test]
async fn actors_are_restarted_parked_and_resumed_by_hand() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let path = "gateway/scheduler";
    let actor = json!({ "path": path });
    let changed = |state: &'static str, restarts: u64| {
        move |e: &Value| {
            let p = &e["payload"];
            e["event"] == "system.actors.changed"
                && p["path"] == path
                && (p["state"] == state && p["restarts"] == restarts)
        }
    };
    let restarted = client.call("system.actors.restart", actor.clone()).await;
    assert_eq!(restarted, json!({ "ok": true, "path": path, "state": "running", "restarts": 1 }));
    let news = client.event(changed("running", 1)).await["payload"].clone();
    assert_eq!(news["lastExit"]["kind"], "stopped", "{news}");

    let parked = client.call("system.actors.park", actor.clone()).await;
    assert_eq!((&parked["state"], &parked["path"]), (&json!("parked"), &json!(path)));
    client.event(|e| e["event"] == "system.actors.changed" && e["payload"]["state"] == "parked").await;
    // Whoever needs it is told to come back, and health names it.
    let error = client.refused("last-heartbeat", json!({})).await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
    let sick = client.event(|e| e["event"] == "health" && e["payload"]["ok"] == false).await;
    assert_eq!(sick["payload"]["actors"]["parked"], json!([path]));
    let again = client.call("system.actors.park", actor.clone()).await;
    assert_eq!(again["state"], "parked");

    let resumed = client.call("system.actors.resume", actor.clone()).await;
    assert_eq!(resumed["state"], "running");
    client.call("last-heartbeat", json!({})).await;
    let restarts = resumed["restarts"].clone();
    let running = client.call("system.actors.resume", actor.clone()).await;
    assert_eq!((&running["state"], &running["restarts"]), (&json!("running"), &restarts));
}

/// accepts: A17
#[tokio::test]
async fn a_crash_is_told_with_its_cause() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let path = "gateway/presence";
    assert_eq!(
        client.call("system.chaos", json!({ "path": path, "fault": "panic" })).await,
        json!({ "ok": true })
    );
    let of = |state: &'static str| {
        move |e: &Value| {
            let p = &e["payload"];
            e["event"] == "system.actors.changed" && p["path"] == path && p["state"] == state
        }
    };
    let up = client.event(of("running")).await["payload"].clone();
    assert_eq!((&up["restarts"], &up["lastExit"]["kind"]), (&json!(1), &json!("panic")), "{up}");
    assert!(up["lastExit"]["at"].as_u64() <= up["ts"].as_u64());
    let reason = up["lastExit"]["reason"].as_str().unwrap();
    assert!(!reason.is_empty() && reason.chars().count() <= 200, "{reason}");
    let node = client.call("system.actors", json!({ "path": path })).await["root"].clone();
    assert_eq!((&node["state"], &node["lastExit"]), (&json!("running"), &up["lastExit"]));
    assert_eq!((&up["lastExit"]["backoffMs"], &node["restartsLeft"]), (&json!(0), &json!(4)));

    client.call("system.chaos", json!({ "path": path, "fault": "kill" })).await;
    let again = |e: &Value| of("running")(e) && e["payload"]["restarts"] == 2;
    let up = client.event(again).await["payload"].clone();
    assert_eq!(up["lastExit"]["kind"], "killed", "{up}");
    assert!((80..=120).contains(&up["lastExit"]["backoffMs"].as_u64().unwrap()), "{up}");
    let root = client.call("system.actors", json!({ "depth": 2 })).await["root"].clone();
    let parts = root["children"].as_array().unwrap();
    let left = |name: &str| &parts.iter().find(|part| part["name"] == name).unwrap()["restartsLeft"];
    assert_eq!((left("presence"), left("cron")), (&json!(3), &json!(5)));
    let connections = parts.iter().find(|part| part["name"] == "connections").unwrap();
    assert_eq!(connections["children"][0].get("restartsLeft"), None, "nobody brings a connection back");
}

/// accepts: D9
#[tokio::test]
async fn some_actors_may_not_be_touched() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let conn = format!("gateway/connections/{}", client.hello["server"]["connId"].as_str().unwrap());
    let untouchable = [
        ("gateway", "gateway may not be touched: the root is restarted with the process".to_owned()),
        (&conn, format!("{conn} may not be touched: a connection ends with its socket")),
        ("gateway/nobody", "unknown actor: gateway/nobody".to_owned()),
        ("elsewhere", "unknown actor: elsewhere".to_owned()),
    ];
    for (path, message) in &untouchable {
        let details = json!({ "path": path });
        let expected = json!({ "code": "INVALID_REQUEST", "message": message, "details": details });
        for order in ["restart", "park", "resume"] {
            let error = client.refused(&format!("system.actors.{order}"), json!({ "path": path })).await;
            assert_eq!(error, expected);
        }
        let error = client.refused("system.chaos", json!({ "path": path, "fault": "panic" })).await;
        assert_eq!(error, expected);
    }
    let error = client.refused("system.actors", json!({ "path": "gateway/nobody" })).await;
    assert_eq!(error["message"], "unknown actor: gateway/nobody");

    // Faults are for tests: a gateway that was not told to knows nothing of them.
    let sober = Embedded::with(json!({})).await;
    let mut client = Client::admin(sober.addr).await;
    let error = client.refused("system.chaos", json!({ "path": "gateway/presence", "fault": "panic" })).await;
    assert_eq!(error, json!({ "code": "INVALID_REQUEST", "message": "unknown method: system.chaos" }));
}

/// accepts: K6
#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let gateway = Embedded::with(json!({
        "gateway": { "auth": { "token": "plain-secret-1", "password": "${GATEWAY_PASSWORD}" } },
        "tts": {},
        "channels": { "telegram": { "enabled": false, "botToken": "plain-secret-2", "accounts": { "b": { "botToken": "${BOT}" } } } },
        "models": { "providers": { "x": { "apiKey": { "source": "env", "id": "X_KEY" } } } },
    }))
    .await;
    let mut client = Client::scoped(gateway.addr, &["operator.read"]).await;
    let config = client.call("config.get", json!({})).await;
    let shown = config.to_string();
    assert!(!shown.contains("plain-secret") && !shown.contains(TOKEN), "{shown}");
    let redacted = "__OPENCLAW_REDACTED__";
    let parsed = &config["parsed"];
    assert_eq!(parsed["gateway"]["auth"], json!({ "token": redacted, "password": "${GATEWAY_PASSWORD}" }));
    assert_eq!(
        parsed["channels"]["telegram"],
        json!({ "enabled": false, "botToken": redacted, "accounts": { "b": { "botToken": "${BOT}" } } })
    );
    assert_eq!(parsed["models"]["providers"]["x"]["apiKey"], json!({ "source": "env", "id": "X_KEY" }));
    assert_eq!(config["config"]["gateway"]["auth"]["token"], redacted);
    assert_eq!((&config["valid"], &config["exists"]), (&json!(true), &json!(true)));
    assert_eq!(serde_json::from_str::<Value>(config["raw"].as_str().unwrap()).unwrap(), *parsed);
    let warnings = config["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains("tts")), "{warnings:?}");
}

/// accepts: A9
#[tokio::test]
async fn the_log_is_followed_with_a_cursor() {
    let gateway = Embedded::start().await;
    let mut client = Client::scoped(gateway.addr, &["operator.read"]).await;
    ["one", "two"].into_iter().for_each(|line| gateway.log.push(line.into()));
    let first = client.call("logs.tail", json!({})).await;
    assert_eq!(first["lines"], json!(["one", "two"]));
    assert_eq!((&first["cursor"], &first["size"], &first["reset"]), (&json!(8), &json!(8), &json!(false)));
    let since = |cursor: &Value| json!({ "cursor": cursor, "limit": 500, "maxBytes": 1000 });
    let nothing = client.call("logs.tail", since(&first["cursor"])).await;
    assert_eq!((&nothing["lines"], &nothing["cursor"]), (&json!([]), &first["cursor"]));
    gateway.log.push("three".into());
    let next = client.call("logs.tail", since(&first["cursor"])).await;
    assert_eq!((&next["lines"], &next["cursor"]), (&json!(["three"]), &json!(14)));
    let last = client.call("logs.tail", json!({ "limit": 1 })).await;
    assert_eq!((&last["lines"], &last["cursor"]), (&json!(["three"]), &json!(14)));
    // A cursor from before a restart starts over, and says so.
    let lost = client.call("logs.tail", since(&json!(4000))).await;
    assert_eq!((&lost["lines"], &lost["reset"]), (&json!(["one", "two", "three"]), &json!(true)));
}

/// accepts: A9, K13
#[tokio::test]
async fn a_wake_runs_a_turn_now_or_waits_for_the_heartbeat() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let done = json!({ "ok": true });
    let now = json!({ "mode": "now", "text": "the door rang" });
    assert_eq!(client.call("wake", now).await, done);
    let end = client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    assert_eq!(end["payload"]["sessionKey"], "agent:main:main");
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert_eq!(history["messages"][0]["content"], "System event: the door rang");
    assert_eq!(history["totalMessages"], 2);

    let later = json!({ "mode": "next-heartbeat", "text": "the post came" });
    assert_eq!(client.call("wake", later).await, done);
    assert_eq!(client.call("system-event", json!({ "text": "a window opened" })).await, done);
    let status = client.call("status", json!({})).await;
    assert_eq!(status["queuedSystemEvents"], json!(["the post came", "a window opened"]));
    assert_eq!(status["sessions"]["count"], 1);
    let error = client.refused("wake", json!({ "mode": "now", "text": "x", "agentId": "ghost" })).await;
    assert_eq!(error["message"], "Agent \"ghost\" no longer exists in configuration");
    let error = client.refused("wake", json!({ "mode": "soon", "text": "x" })).await;
    assert!(error["message"].as_str().unwrap().starts_with("invalid wake params: at /mode: "), "{error}");
}

/// accepts: A9, G3
#[tokio::test]
async fn agents_models_and_commands_are_listed() {
    let gateway = Embedded::start().await;
    let mut client = Client::scoped(gateway.addr, &["operator.read"]).await;
    assert_eq!(client.call("last-heartbeat", json!({})).await, Value::Null);
    let assistant = json!({ "agentId": "main", "name": "Assistant", "nameSource": "default", "avatar": "A" });
    assert_eq!(client.call("agent.identity.get", json!({})).await, assistant);
    assert_eq!(client.call("agent.identity.get", json!({ "sessionKey": "agent:main:x" })).await, assistant);
    let agents = client.call("agents.list", json!({})).await;
    assert_eq!((&agents["defaultId"], &agents["ownership"]), (&json!("main"), &json!("sole")));
    let models = client.call("models.list", json!({})).await;
    let model = &models["models"][0];
    assert_eq!((&model["provider"], &model["id"]), (&json!("crabtree"), &json!("offline")));
    assert_eq!((&model["tags"], &model["available"]), (&json!(["default"]), &json!(true)));
    let commands = client.call("commands.list", json!({})).await;
    let metadata = client.call("chat.metadata", json!({})).await;
    assert_eq!((&metadata["commands"], &metadata["models"]), (&commands["commands"], &models["models"]));
    let named =
        |name: &str| commands["commands"].as_array().unwrap().iter().find(|c| c["name"] == name).cloned();
    let stop = named("stop").unwrap();
    assert_eq!((&stop["textAliases"], &stop["acceptsArgs"]), (&json!(["/stop"]), &json!(false)));
    let verbose = named("verbose").unwrap();
    assert_eq!(
        (&verbose["textAliases"], &verbose["category"]),
        (&json!(["/verbose", "/v"]), &json!("options"))
    );
    assert_eq!(verbose["args"][0]["choices"][0], json!({ "value": "on", "label": "on" }));

    let gateway = Embedded::with(json!({ "agents": { "list": [
        { "id": "ops", "identity": { "name": "Olga", "emoji": "🦀" } },
        { "id": "home", "name": "Hugo", "default": true },
    ] } }))
    .await;
    let mut client = Client::admin(gateway.addr).await;
    let agents = client.call("agents.list", json!({})).await;
    assert_eq!((&agents["defaultId"], &agents["ownership"]), (&json!("home"), &json!("explicit")));
    assert_eq!(agents["agents"][1]["identity"], json!({ "name": "Olga", "emoji": "🦀" }));
    let olga = client.call("agent.identity.get", json!({ "sessionKey": "agent:ops:main" })).await;
    assert_eq!(olga, json!({ "agentId": "ops", "name": "Olga", "nameSource": "config", "avatar": "🦀" }));
    let error = client.refused("agent.identity.get", json!({ "agentId": "ghost" })).await;
    assert_eq!(error["message"], "Unknown agent id \"ghost\"");
    // A bare key belongs to the default agent, or to the one that is named beside it.
    for (params, key) in [
        (json!({ "sessionKey": "main" }), "agent:home:main"),
        (json!({ "sessionKey": "main", "agentId": "ops" }), "agent:ops:main"),
        (json!({ "sessionKey": "agent:ops:x" }), "agent:ops:x"),
    ] {
        assert_eq!(client.call("chat.history", params).await["sessionKey"], key);
    }
}
