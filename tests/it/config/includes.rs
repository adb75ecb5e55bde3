//! A configuration of several files.

use crate::client::Client;
use crate::fakes::telegram::{Fault, Telegram};
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MAIN: &str = "// main\n{\n  agents: { $include: './parts/agents.json5' }, // who\n  \
    channels: { $include: ['a.json', 'b.json'] },\n  session: { mainKey: 'one' },\n}\n";
const AGENTS: &str =
    "{\n  // mine\n  list: [{ id: 'main', name: 'One' }],\n  token: 'abcdefghijklmnop',\n}\n";

fn at(state: &Path, name: &str) -> PathBuf {
    state.join(name)
}

fn written(state: &Path, name: &str) -> String {
    std::fs::read_to_string(at(state, name)).unwrap()
}

fn write_all(state: &Path) {
    std::fs::create_dir_all(state.join("parts")).unwrap();
    // The main file last, so that nobody reads half of it all.
    for (name, text) in
        [("parts/agents.json5", AGENTS), ("a.json", "{}"), ("b.json", "{}"), ("openclaw.json", MAIN)]
    {
        std::fs::write(at(state, name), text).unwrap();
    }
}

/// A gateway with these files, and the hash of what they hold.
async fn included() -> (Embedded, Client, Value) {
    let gateway = Embedded::start().await;
    write_all(gateway.state.path());
    let mut client = Client::admin(gateway.addr).await;
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
    let hash = client.call("config.get", json!({})).await["hash"].clone();
    (gateway, client, hash)
}

/// A patch of what is in the files; what was written by hand is read soon.
async fn patch(client: &mut Client, raw: &str) -> Value {
    for _ in 0..200 {
        let base = client.call("config.get", json!({})).await["hash"].clone();
        let answer = client.response_to("config.patch", json!({ "raw": raw, "baseHash": base })).await;
        if !answer.to_string().contains("config changed since last load") {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the files are never read");
}

/// accepts: K6
#[tokio::test]
async fn a_client_sees_the_whole_and_where_it_comes_from() {
    let (gateway, mut client, _) = included().await;
    let config = client.call("config.get", json!({})).await;
    let file = |name: &str| json!(at(gateway.state.path(), name));
    assert_eq!(config["includedPaths"], json!([file("parts/agents.json5"), file("a.json"), file("b.json")]));
    let expected = json!([
        { "path": ["agents"], "kind": "single", "hasSiblingOverrides": false, "hasArrayAncestor": false,
            "targetPath": file("parts/agents.json5") },
        { "path": ["channels"], "kind": "multiple", "hasSiblingOverrides": false, "hasArrayAncestor": false,
            "targetPaths": [file("a.json"), file("b.json")] },
    ]);
    assert_eq!(config["includeProvenance"], expected);
    assert_eq!(
        (&config["agentRosterIncludeOwned"], &config["bindingsIncludeOwned"]),
        (&json!(true), &json!(false))
    );
    assert_eq!((&config["raw"], &config["valid"]), (&json!(MAIN), &json!(true)));
    assert_eq!(config["parsed"]["agents"], json!({ "$include": "./parts/agents.json5" }));
    assert_eq!(config["resolved"]["agents"]["entries"]["main"]["name"], "One");
    assert!(!config.to_string().contains("abcdefghijklmnop"), "secrets of included files are redacted");
}

/// accepts: K6
#[tokio::test]
async fn a_change_goes_to_the_file_that_owns_it_and_no_include_is_lost() {
    let (gateway, mut client, hash) = included().await;
    let state = gateway.state.path();
    let done =
        patch(&mut client, "{agents: {list: [{id: 'main', name: 'Two'}], token: '__OPENCLAW_REDACTED__'}}")
            .await;
    assert_eq!(
        (&done["ok"], &done["payload"]["changedPaths"]),
        (&json!(true), &json!(["agents.list.0.name"])),
        "{done}"
    );
    assert_ne!(done["payload"]["hash"], hash);
    assert_eq!(written(state, "openclaw.json"), MAIN);
    let agents = written(state, "parts/agents.json5");
    assert!(
        agents.contains("// mine") && agents.contains("'abcdefghijklmnop'") && agents.contains("Two"),
        "{agents}"
    );
    assert_eq!(written(state, "parts/agents.json5.bak"), AGENTS, "the last state is kept beside it");
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Two");
    // By the methods of agents, too.
    client.call("agents.create", json!({ "name": "Bee" })).await;
    assert!(written(state, "parts/agents.json5").contains("Bee"));
    // What the main file owns goes there, and its includes stay.
    assert_eq!(patch(&mut client, "{session: {mainKey: 'two'}}").await["ok"], true);
    let main = written(state, "openclaw.json");
    assert!(
        main.contains("// who") && main.contains("$include: ['a.json', 'b.json']") && main.contains("two"),
        "{main}"
    );
}

/// accepts: K6
#[tokio::test]
async fn what_no_single_file_owns_is_refused_and_the_files_are_named() {
    let (gateway, mut client, hash) = included().await;
    let state = gateway.state.path();
    let names = ["openclaw.json", "parts/agents.json5", "a.json", "b.json"];
    let before = names.map(|name| written(state, name));
    for (raw, said) in [
        ("{channels: {slack: {enabled: false}}}", "a.json and "),
        (
            "{agents: {list: [{id: 'main', name: 'X'}]}, session: {mainKey: 'x'}}",
            "change one after the other",
        ),
        ("{agents: null}", "change it by hand"),
        ("{channels: {$include: 'c.json'}}", "by hand"),
    ] {
        let answer = patch(&mut client, raw).await;
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{raw}: {answer}"));
        assert!(
            message.starts_with("the configuration was not changed: ") && message.contains(said),
            "{raw}: {message}"
        );
    }
    // A whole text that goes without an include would lose it.
    let text = MAIN.replace("$include: './parts/agents.json5'", "list: [{ id: 'main' }]");
    let error = client.refused("config.set", json!({ "raw": text, "baseHash": hash })).await;
    assert!(error["message"].as_str().unwrap().contains("agents.$include"), "{error}");
    assert_eq!(names.map(|name| written(state, name)), before);
}

/// accepts: K6
#[tokio::test]
async fn a_whole_text_keeps_the_includes_with_them_in_it_or_without() {
    let (gateway, mut client, hash) = included().await;
    let state = gateway.state.path();
    let text = MAIN.replace("mainKey: 'one'", "mainKey: 'two', dmScope: 'per-peer'");
    let done = client.call("config.set", json!({ "raw": text, "baseHash": hash })).await;
    assert_eq!(
        (written(state, "openclaw.json"), written(state, "parts/agents.json5").as_str()),
        (text.clone(), AGENTS)
    );
    // A page that knows no includes sends all of it, as it was shown.
    let config = client.call("config.get", json!({})).await;
    let mut all = json!({ "agents": { "list": [{ "id": "main", "name": "Three" }], "token": "__OPENCLAW_REDACTED__" } });
    all["channels"] = json!({});
    all["session"] = config["sourceConfig"]["session"].clone();
    let done = client.call("config.apply", json!({ "raw": all.to_string(), "baseHash": done["hash"] })).await;
    assert_eq!(done["config"]["agents"]["entries"]["main"]["name"], "Three");
    assert_eq!(written(state, "openclaw.json"), text);
    let agents = written(state, "parts/agents.json5");
    assert!(
        agents.contains("// mine") && agents.contains("Three") && agents.contains("abcdefghijklmnop"),
        "{agents}"
    );
}

/// accepts: K6
#[tokio::test]
async fn a_change_of_an_included_file_is_taken_up_and_a_broken_one_changes_nothing() {
    let (gateway, mut client, hash) = included().await;
    let state = gateway.state.path();
    // Nobody says that it changed.
    std::fs::write(at(state, "parts/agents.json5"), AGENTS.replace("One", "Seen")).unwrap();
    client.event(|e| e["event"] == "config.changed" && e["payload"]["hash"] != hash).await;
    client.event(|e| e["payload"]["path"] == "gateway/agents" && e["payload"]["state"] == "running").await;
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Seen");
    std::fs::write(at(state, "parts/agents.json5"), "{ broken").unwrap();
    client.event(|e| e["event"] == "health" && e["payload"]["config"]["valid"] == false).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!((&config["valid"], &config["issues"][0]["path"]), (&json!(false), &json!("agents")));
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Seen");
    // It is looked for until it is there again.
    client.events.clear();
    std::fs::write(at(state, "parts/agents.json5"), AGENTS.replace("One", "Mended")).unwrap();
    client.event(|e| e["event"] == "health" && e["payload"]["config"]["valid"] == true).await;
    assert_eq!(
        client.call("config.get", json!({})).await["resolved"]["agents"]["entries"]["main"]["name"],
        "Mended"
    );
}

/// accepts: K6
#[tokio::test]
async fn a_change_of_an_included_file_that_parks_an_actor_is_taken_back_there() {
    let (gateway, mut client, _) = included().await;
    let state = gateway.state.path();
    std::fs::write(at(state, "a.json"), r#"{ "telegram": { "enabled": false } }"#).unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
    let fake = Telegram::start().await;
    fake.fail("getMe", Fault::error(401, "Unauthorized"));
    let mut telegram = fake.settings();
    telegram["enabled"] = json!(true);
    let done = patch(&mut client, &json!({ "channels": { "telegram": telegram } }).to_string()).await;
    assert_eq!(done["ok"], true, "{done}");
    client.event(|e| e["event"] == "system.actors.changed" && e["payload"]["state"] == "parked").await;
    client.events.clear();
    client.event(|e| e["event"] == "config.changed").await;
    assert_eq!(written(state, "a.json"), r#"{ "telegram": { "enabled": false } }"#);
    assert_eq!(written(state, "openclaw.json"), MAIN);
}

/// accepts: K6
#[tokio::test]
async fn the_last_good_configuration_is_that_of_all_files_and_outlives_a_kill() {
    let state = tempfile::tempdir().unwrap();
    write_all(state.path());
    let good = at(state.path(), "config.last-good");
    let process = Process::start(state.path()).await;
    // What has stood its trial is kept after ten seconds.
    let kept = async {
        while !good.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), kept).await.unwrap();
    process.kill();
    std::fs::write(at(state.path(), "parts/agents.json5"), "{ list: [{ name: 'nobody' }] }").unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["config"]["agents"]["entries"]["main"]["name"], "One", "{}", config["warnings"]);
    assert_eq!((&config["valid"], &config["issues"][0]["path"]), (&json!(false), &json!("agents.list.0")));
    std::fs::write(at(state.path(), "parts/agents.json5"), AGENTS.replace("One", "Two")).unwrap();
    client.event(|e| e["event"] == "config.changed").await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(
        (&config["valid"], &config["parsed"]["agents"]["$include"]),
        (&json!(true), &json!("./parts/agents.json5"))
    );
}
