//! The document of rules, as clients see it.

use super::asker;
use crate::gateway::Embedded;
use serde_json::json;

/// accepts: A9
#[tokio::test]
async fn the_rules_are_shown_and_changed_as_recorded() {
    let gateway = Embedded::start().await;
    let mut op = asker(gateway.addr).await;
    let first = op.call("exec.approvals.get", json!({})).await;
    let path = gateway.state.path().join("exec-approvals.json");
    assert_eq!((&first["exists"], &first["path"]), (&json!(false), &json!(path)));
    assert_eq!(first["file"], json!({ "version": 1, "defaults": {}, "agents": {} }));
    let open = json!({ "security": "full", "ask": "off", "askFallback": "deny", "autoAllowSkills": false });
    assert_eq!(first["resolvedDefaults"], open);
    let file = json!({ "version": 1, "defaults": { "security": "allowlist", "ask": "on-miss" },
        "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/uname", "lastUsedAt": 1_795_139_716_700_u64 }] } } });
    let changed = "exec approvals changed since last load; re-run exec.approvals.get and retry";
    let set = |hash: &serde_json::Value| json!({ "file": file, "baseHash": hash });
    assert_eq!(op.refused("exec.approvals.set", set(&json!("bad"))).await["message"], changed);
    let next = op.call("exec.approvals.set", set(&first["hash"])).await;
    let entry = &next["file"]["agents"]["main"]["allowlist"][0];
    assert_eq!(
        (&entry["pattern"], &entry["lastUsedAt"]),
        (&json!("/usr/bin/uname"), &json!(1_795_139_716_700_u64))
    );
    assert_eq!(entry["id"].as_str().unwrap().len(), 36);
    let strict =
        json!({ "security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false });
    assert_eq!((&next["exists"], &next["resolvedDefaults"]), (&json!(true), &strict));
    assert_eq!(op.call("exec.approvals.get", json!({})).await, next);
    let error = op.refused("exec.approvals.set", json!({ "file": { "version": 1 } })).await;
    assert_eq!(error["message"], "exec approvals base hash required; re-run exec.approvals.get and retry");
    assert_eq!(op.refused("exec.approvals.set", set(&first["hash"])).await["message"], changed);
    let error = op.refused("exec.approvals.set", json!({ "file": { "version": 2 } })).await;
    assert!(
        error["message"].as_str().unwrap().starts_with("invalid exec.approvals.set params: at /file/version"),
        "{error}"
    );
    // What a person writes into it counts, and what cannot be read is neither shown nor lost.
    std::fs::write(&path, "{ oops").unwrap();
    let error = op.refused("exec.approvals.get", json!({})).await;
    assert!(error["message"].as_str().unwrap().contains("cannot be used"), "{error}");
    assert_eq!(op.refused("exec.approvals.set", set(&next["hash"])).await["code"], "UNAVAILABLE");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{ oops");
}
