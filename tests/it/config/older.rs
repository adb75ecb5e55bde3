//! Older forms of keys, and files that are only read.

use crate::client::Client;
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

const OLD: &str = "// from long ago\n{\n  // the bot\n  loopback: 1,\n  telegram: {\n    enabled: false, // not yet\n  },\n  \
    agents: { list: [{ id: 'ann', name: 'Ann' }, { id: 'bob' }] },\n  gateway: { bind: '127.0.0.1' },\n  \
    messages: { queue: { mode: 'queue' } },\n}\n";

fn crabtree(state: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program.args(arguments).env("CRABTREE_STATE_DIR", state).env_remove("OPENCLAW_GATEWAY_TOKEN");
    program.output().unwrap()
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// accepts: K1
#[tokio::test]
async fn older_forms_are_read_with_a_warning_each_and_the_file_is_not_touched() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("openclaw.json");
    std::fs::write(&file, OLD).unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    let config = client.call("config.get", json!({})).await;
    let paths: Vec<_> =
        config["legacyIssues"].as_array().unwrap().iter().map(|one| one["path"].clone()).collect();
    assert_eq!(paths, ["telegram", "gateway.bind", "agents.list", "messages.queue.mode"]);
    let warnings = config["warnings"].as_array().unwrap();
    let of = |key: &str| {
        warnings
            .iter()
            .filter(|text| text.as_str().unwrap().contains(&format!(": {key} is an older form")))
            .count()
    };
    assert!(paths.iter().all(|path| of(path.as_str().unwrap()) == 1), "{warnings:?}");
    assert_eq!(config["resolved"]["channels"]["telegram"], json!({ "enabled": false }));
    assert_eq!(config["config"]["messages"]["queue"]["mode"], "steer");
    assert_eq!(client.call("agent.identity.get", json!({})).await["agentId"], "ann");
    // A patch in today's words reaches what stands in the older ones, or says what to do.
    let patch = |raw: &str| json!({ "raw": raw, "baseHash": config["hash"] });
    let error = client.refused("config.patch", patch("{channels: {telegram: {enabled: null}}}")).await;
    assert!(error["message"].as_str().unwrap().contains("run `crabtree config migrate` first"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), OLD);
    let done = client.call("config.patch", patch("{agents: {entries: {ann: {name: 'Anna'}}}}")).await;
    assert_eq!(done["config"]["agents"]["entries"]["ann"]["name"], "Anna");
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Anna");
}

/// accepts: K1
#[test]
fn a_migration_writes_them_as_they_are_written_now() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("openclaw.json");
    std::fs::write(&file, OLD).unwrap();
    let dry = crabtree(state.path(), &["config", "migrate", "--dry-run"]);
    assert!(
        dry.status.success()
            && String::from_utf8_lossy(&dry.stdout).contains("would write  telegram as channels.telegram"),
        "{dry:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), OLD);
    let done = printed(&crabtree(state.path(), &["config", "migrate", "--json"]));
    assert_eq!((&done["ok"], done["older"].as_array().unwrap().len()), (&json!(true), 4), "{done}");
    let text = std::fs::read_to_string(&file).unwrap();
    for kept in ["// from long ago", "// the bot", "enabled: false, // not yet", "loopback: 1"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert_eq!(std::fs::read_to_string(state.path().join("openclaw.json.bak")).unwrap(), OLD);
    let now: Value = json5_of(&text);
    assert_eq!(now["agents"]["entries"]["ann"], json!({ "name": "Ann", "default": true }));
    assert_eq!(
        (&now["gateway"]["bind"], &now["messages"]["queue"]["mode"]),
        (&json!("loopback"), &json!("steer"))
    );
    let again = printed(&crabtree(state.path(), &["config", "migrate", "--json"]));
    assert_eq!(again["older"], json!([]));
    assert!(crabtree(state.path(), &["config", "validate"]).status.success());
}

/// accepts: K1
#[test]
fn a_migration_goes_through_the_files_and_names_what_it_leaves() {
    let state = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(state.path().join(name), text).unwrap();
    write(
        "openclaw.json",
        "{ channels: { $include: 'c.json5' }, agents: { $include: 'a.json5' }, identity: { name: 'N' }, gateway: { bind: '::' } }",
    );
    write("c.json5", "{ /* c */ telegram: { requireMention: false } }");
    write("a.json5", "{ /* a */ defaults: {} }");
    let done = crabtree(state.path(), &["config", "migrate", "--json"]);
    let told = printed(&done);
    let left = |path: &str| {
        told["older"].as_array().unwrap().iter().find(|one| one["path"] == path).unwrap()["left"].clone()
    };
    assert_eq!((left("gateway.bind"), left("channels.telegram.requireMention")), (json!(null), json!(null)));
    assert!(left("identity").as_str().unwrap().contains("a.json5 and "), "{told}");
    assert_eq!(done.status.code(), Some(1), "something is left");
    let channels = json5_of(&std::fs::read_to_string(state.path().join("c.json5")).unwrap());
    assert_eq!(channels, json!({ "telegram": { "groups": { "*": { "requireMention": false } } } }));
}

/// accepts: K12
#[tokio::test]
async fn yaml_is_read_and_never_written() {
    let state = tempfile::tempdir().unwrap();
    let text = "# mine\nsession:\n  mainKey: yaml\nagents:\n  list:\n    - id: main\n      name: Ann\n";
    std::fs::write(state.path().join("openclaw.yaml"), text).unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["config"]["session"]["mainKey"], "yaml");
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Ann");
    let patch = json!({ "raw": "{session: {mainKey: 'x'}}", "baseHash": config["hash"] });
    let error = client.refused("config.patch", patch).await;
    assert!(
        error["message"].as_str().unwrap().contains("openclaw.yaml is YAML, which is only read"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(state.path().join("openclaw.yaml")).unwrap(), text);
    let named = state.path().join("other.yml");
    std::fs::write(&named, "gateway: { port: x }").unwrap();
    let refused = crabtree(state.path(), &["config", "validate", named.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(78));
}

/// accepts: K6
#[tokio::test]
async fn a_file_that_cannot_be_opened_here_is_an_answer_that_says_so() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        let answer = client.call("config.openFile", json!({})).await;
        let path = gateway.state.path().join("openclaw.json");
        assert_eq!((&answer["ok"], &answer["path"]), (&json!(false), &json!(path)));
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with("Cannot open file in headless environment. File path: "), "{error}");
    }
    let error = client.refused("config.openFile", json!({ "path": "/etc/passwd" })).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    assert!(
        reader.refused("config.openFile", json!({})).await["message"].to_string().contains("operator.admin")
    );
}

fn json5_of(text: &str) -> Value {
    // The tests have no JSON5 of their own: what they write here needs none but for comments and bare keys.
    let file = tempfile::NamedTempFile::with_suffix(".json5").unwrap();
    std::fs::write(file.path(), text).unwrap();
    let sources = crabtree::config::Sources {
        state_dir: file.path().parent().unwrap().into(),
        file: Some(file.path().into()),
        env: crabtree::config::Environment::default(),
        flags: json!({}),
    };
    crabtree::config::load(&sources).unwrap().raw
}
