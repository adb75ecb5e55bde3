//! Clients write the configuration.

use super::restarts;
use crate::client::Client;
use crate::fakes::telegram::{Fault, Telegram};
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::path::PathBuf;

const FILE: &str =
    "// my own gateway\n{\n  hooks: { token: 'abcdefghijklmnop' }, // secret\n  tools: {},\n}\n";

fn file(gateway: &Embedded) -> PathBuf {
    gateway.state.path().join("openclaw.json")
}

fn written(gateway: &Embedded) -> String {
    std::fs::read_to_string(file(gateway)).unwrap()
}

/// A gateway with comments in its file, and the hash of that.
async fn commented() -> (Embedded, Client, String) {
    let gateway = Embedded::start().await;
    std::fs::write(file(&gateway), FILE).unwrap();
    let mut client = Client::admin(gateway.addr).await;
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
    let hash = client.call("config.get", json!({})).await["hash"].as_str().unwrap().to_owned();
    (gateway, client, hash)
}

/// accepts: K6
#[tokio::test]
async fn a_patch_leaves_comments_and_secrets_as_they_are_and_is_in_force_when_it_is_answered() {
    let (gateway, mut client, hash) = commented().await;
    let patch =
        json!({ "raw": "{session: {dmScope: 'per-peer'}, tools: null}", "baseHash": hash, "note": "n" });
    let done = client.call("config.patch", patch).await;
    assert_eq!((&done["ok"], &done["changedPaths"]), (&json!(true), &json!(["tools", "session"])));
    let told = &done["sentinel"]["payload"];
    assert_eq!((&told["kind"], &told["message"]), (&json!("config-patch"), &json!("n")));
    assert_eq!(told["stats"]["requiresRestart"], false);
    assert_eq!(done["config"]["hooks"]["token"], "__OPENCLAW_REDACTED__");
    let text = written(&gateway);
    for kept in ["// my own gateway", "'abcdefghijklmnop'", "// secret"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    assert!(!text.contains("tools"), "{text}");
    let now = client.call("config.get", json!({})).await;
    assert_eq!((&now["hash"], &now["config"]["session"]["dmScope"]), (&done["hash"], &json!("per-peer")));
    client.event(|e| e["event"] == "config.changed" && e["payload"]["hash"] == done["hash"]).await;
    let kept = std::fs::read_to_string(gateway.state.path().join("openclaw.json.bak")).unwrap();
    assert_eq!(kept, FILE);
}

/// accepts: K6
#[tokio::test]
async fn a_text_that_was_shown_without_secrets_can_be_written_back() {
    let (gateway, mut client, hash) = commented().await;
    let shown = client.call("config.get", json!({})).await["raw"].as_str().unwrap().to_owned();
    assert!(shown.contains("// my own gateway") && !shown.contains("abcdefghijklmnop"), "{shown}");
    let same = client.call("config.set", json!({ "raw": shown, "baseHash": hash })).await;
    assert_eq!((written(&gateway).as_str(), &same["hash"]), (FILE, &json!(hash)));
    let text = shown.replace("tools: {}", "tools: {}, /* new */ session: { mainKey: 'home' }");
    let done =
        client.call("config.apply", json!({ "raw": text, "baseHash": hash, "restartDelayMs": 5 })).await;
    assert_eq!(done["sentinel"]["payload"]["stats"]["mode"], "config.apply");
    let text = written(&gateway);
    assert!(text.contains("/* new */") && text.contains("abcdefghijklmnop"), "{text}");
    // A secret is kept where it is, and goes nowhere else.
    let moved = json!({ "raw": r#"{"tts": {"token": "__OPENCLAW_REDACTED__"}}"#, "baseHash": done["hash"] });
    let error = client.refused("config.patch", moved).await;
    assert!(error["message"].as_str().unwrap().starts_with("invalid config: tts.token: "), "{error}");
    assert_eq!(written(&gateway), text);
}

/// accepts: K6
#[tokio::test]
async fn what_is_not_accepted_is_refused_in_the_recorded_words_and_changes_nothing() {
    let (gateway, mut client, hash) = commented().await;
    let stale = "config changed since last load; re-run config.get and retry";
    let needed = "config base hash required; re-run config.get and retry";
    for (method, raw, base, message) in [
        ("config.set", "{}", None, needed),
        ("config.apply", "{}", None, needed),
        (
            "config.patch",
            "{logging: {level: 'info'}}",
            None,
            "config base hash required for logging.level; re-run config.get and retry with baseHash",
        ),
        ("config.set", "{}", Some("bad"), stale),
        ("config.patch", "{logging: {level: 'info'}}", Some("bad"), stale),
        ("config.patch", "[1]", Some(&*hash), "config.patch raw must be an object"),
        ("config.set", "[1]", Some(&hash), "config raw must be an object"),
        ("config.set", "{bad", Some(&hash), "SyntaxError: JSON5: "),
        ("config.patch", "not json {", Some(&hash), "SyntaxError: JSON5: "),
        ("config.patch", "{session: {dmScope: 'x'}}", Some(&hash), "invalid config: session.dmScope: "),
        ("config.patch", "{gateway: {port: 'x'}}", Some(&hash), "invalid config: gateway.port: "),
    ] {
        let mut params = json!({ "raw": raw });
        if let Some(base) = base {
            params["baseHash"] = json!(base);
        }
        let error = client.refused(method, params).await;
        let said = error["message"].as_str().unwrap();
        assert!(error["code"] == "INVALID_REQUEST" && said.starts_with(message), "{method} {raw}: {error}");
        if said.starts_with("invalid config") {
            let issue = &error["details"]["issues"][0];
            let place = issue["path"].as_str().unwrap();
            assert!(
                said == format!("invalid config: {place}: {}", issue["message"].as_str().unwrap()),
                "{error}"
            );
        }
        assert_eq!(written(&gateway), FILE, "{method} {raw}");
    }
    let lookup = client.refused("config.schema.lookup", json!({ "path": "nope.nope" })).await;
    assert_eq!(lookup, json!({ "code": "INVALID_REQUEST", "message": "config schema path not found" }));
    let port = client.call("config.schema.lookup", json!({ "path": "gateway.port" })).await;
    assert_eq!((&port["reloadKind"], &port["children"]), (&json!("restart"), &json!([])));
    let schema = client.call("config.schema", json!({})).await;
    assert_eq!(schema["schema"]["properties"]["gateway"]["type"], "object");
}

/// accepts: K6
#[tokio::test]
async fn of_two_who_write_at_once_one_is_told_to_look_again() {
    let (gateway, mut one, hash) = commented().await;
    let mut two = Client::admin(gateway.addr).await;
    let write =
        |level: &str| json!({ "raw": format!("{{session: {{mainKey: '{level}'}}}}"), "baseHash": hash });
    let ids = (one.send("config.patch", write("a")).await, two.send("config.patch", write("b")).await);
    let answers = [one.response(&ids.0).await, two.response(&ids.1).await];
    let refused: Vec<&Value> = answers.iter().filter(|answer| answer["ok"] == false).collect();
    assert_eq!(refused.len(), 1, "{answers:?}");
    assert!(refused[0]["error"]["message"].as_str().unwrap().starts_with("config changed"), "{refused:?}");
    assert_eq!(restarts(&mut one).await, [("agents".to_owned(), 1)], "one change");
}

/// accepts: K6
#[tokio::test]
async fn a_start_that_finds_a_broken_file_works_with_the_last_good_one() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("config.last-good"), "{ session: { mainKey: 'kept' } }").unwrap();
    std::fs::write(state.path().join("openclaw.json"), "{ session: { mainKey: ").unwrap();
    let process = Process::start(state.path()).await;
    let mut client = Client::admin(process.addr).await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["config"]["session"]["mainKey"], "kept");
    let warning = config["warnings"][0].as_str().unwrap();
    assert!(warning.contains("cannot be read") && warning.contains("config.last-good"), "{warning}");
    // The file is repaired, and taken up.
    std::fs::write(state.path().join("openclaw.json"), "{ session: { mainKey: 'mended' } }").unwrap();
    client.event(|e| e["event"] == "config.changed").await;
    let config = client.call("config.get", json!({})).await;
    assert_eq!(
        (&config["config"]["session"]["mainKey"], &config["warnings"]),
        (&json!("mended"), &json!([]))
    );
}

/// accepts: K6
#[tokio::test]
async fn a_change_for_which_an_actor_is_parked_is_taken_back() {
    let (gateway, mut client, hash) = commented().await;
    let fake = Telegram::start().await;
    fake.fail("getMe", Fault::error(401, "Unauthorized"));
    let patch = json!({ "channels": { "telegram": fake.settings() } }).to_string();
    client.call("config.patch", json!({ "raw": patch, "baseHash": hash })).await;
    client.event(|e| e["event"] == "system.actors.changed" && e["payload"]["state"] == "parked").await;
    client.events.clear();
    client.event(|e| e["event"] == "config.changed" && e["payload"]["hash"] == json!(hash)).await;
    assert_eq!(written(&gateway), FILE);
    let status = client.call("channels.status", json!({})).await;
    assert_eq!(status["channelOrder"], json!([]));
}
