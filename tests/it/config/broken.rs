//! A configuration that is broken in places.

use crate::client::Client;
use crate::gateway::{Embedded, Process};
use serde_json::json;
use std::process::Command;

/// accepts: K6
#[tokio::test]
async fn a_start_goes_without_what_is_broken_and_says_so() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("openclaw.json");
    let text = "{ session: { mainKey: 'kept' }, channels: { telegram: { dmPolicy: 'x', botToken: 't' } },
        mcp: { servers: { a: { args: 7 } } }, models: { providers: { p: { models: 5 } } } }";
    std::fs::write(&file, text).unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    let config = client.call("config.get", json!({})).await;
    let paths: Vec<_> =
        config["issues"].as_array().unwrap().iter().map(|issue| issue["path"].clone()).collect();
    let expected = ["mcp.servers.a.args", "models.providers.p.models", "channels.telegram.dmPolicy"];
    assert_eq!((&config["valid"], paths), (&json!(false), expected.map(|path| json!(path)).to_vec()));
    assert_eq!(config["config"]["session"]["mainKey"], "kept");
    client
        .event(|e| {
            e["event"] == "health"
                && e["payload"]["config"]["issues"].as_array().is_some_and(|all| all.len() == 3)
        })
        .await;
    assert_eq!(client.call("status", json!({})).await["config"]["valid"], false);
    let log = client.call("logs.tail", json!({})).await.to_string();
    assert!(
        log.contains("mcp.servers.a.args: ") && log.contains("it is left out until it is corrected"),
        "{log}"
    );
    let mut validate = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    let said =
        validate.args(["config", "validate"]).env("CRABTREE_STATE_DIR", state.path()).output().unwrap();
    let printed = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(78));
    assert!(expected.iter().all(|path| printed.contains(path)), "{printed}");
    // What is whole can be changed meanwhile; nothing more may break.
    let patch = |raw: &str, hash| json!({ "raw": raw, "baseHash": hash });
    let done =
        client.call("config.patch", patch("{session: {mainKey: 'two'}}", config["hash"].clone())).await;
    let more =
        client.refused("config.patch", patch("{mcp: {servers: {b: {args: 8}}}}", done["hash"].clone())).await;
    assert!(more["message"].as_str().unwrap().starts_with("invalid config: mcp.servers.b.args: "), "{more}");
    let beside = "{mcp: {servers: {a: {command: 'x'}}}}";
    let left = client.refused("config.patch", patch(beside, done["hash"].clone())).await;
    assert!(
        left["message"].as_str().unwrap().contains("beside mcp.servers.a.args it would not count"),
        "{left}"
    );
    let mended = "{channels: {telegram: null}, mcp: {servers: {a: {args: []}}}, models: null}";
    client.call("config.patch", patch(mended, done["hash"].clone())).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!((&config["valid"], &config["issues"]), (&json!(true), &json!([])));
}

/// accepts: K6
#[tokio::test]
async fn a_running_gateway_keeps_what_is_broken_and_takes_up_the_rest() {
    let good =
        json!({ "session": { "mainKey": "a" }, "agents": { "list": [{ "id": "main", "name": "One" }] } });
    let gateway = Embedded::with(good).await;
    let mut client = Client::admin(gateway.addr).await;
    let file = gateway.state.path().join("openclaw.json");
    std::fs::write(
        &file,
        "{ session: { mainKey: 'b' }, agents: { list: [{ name: 'Two' }] }, gateway: { port: 'x' } }",
    )
    .unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["config"]["session"]["mainKey"], "b");
    assert_eq!(config["config"]["agents"]["entries"]["main"]["name"], "One");
    assert_eq!(
        (&config["valid"], config["issues"].as_array().unwrap().len()),
        (&json!(false), 2),
        "{}",
        config["issues"]
    );
    // What cannot be read at all changes nothing, and shows.
    std::fs::write(&file, "{ session: { mainKey: ").unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "health" && e["payload"]["config"]["issues"][0]["path"] == "").await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!((&config["valid"], &config["config"]["session"]["mainKey"]), (&json!(false), &json!("b")));
    std::fs::write(&file, "{ session: { mainKey: 'c' } }").unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed" && e["payload"]["hash"] != config["hash"]).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!((&config["valid"], &config["config"]["session"]["mainKey"]), (&json!(true), &json!("c")));
}

/// accepts: K2
#[test]
fn a_broken_gateway_section_without_a_good_configuration_stops_the_start_and_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), "{ gateway: { port: 'abc' } }").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    let ended = program.arg("run").env("CRABTREE_STATE_DIR", state.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains("gateway.port") && said.contains("correct that value"), "{said}");
    assert!(!state.path().join("store.sqlite").exists(), "nothing was begun");
}
