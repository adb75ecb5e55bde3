//! What of a request's parameters may be written down: names, ids and decisions of a fixed list; of everything else only
//! that it was there. Never a text that somebody wrote, never a value of the configuration.

use crate::config::changes;
use serde_json::{Map, Value, json};

/// Parameters longer than this are not looked at.
pub(super) const MAX_READ: usize = 1 << 20;
/// Longer words are no ids.
const MAX_WORD: usize = 200;
/// Words of a list, and paths of a configuration, that are written down.
const MAX_WORDS: usize = 40;

/// What a request can be about, the most particular first.
const TARGETS: [&str; 20] = [
    "deviceId",
    "nodeId",
    "requestId",
    "id",
    "approvalId",
    "key",
    "sessionKey",
    "jobId",
    "taskId",
    "path",
    "skill",
    "name",
    "from",
    "agentId",
    "channel",
    "accountId",
    "contactId",
    "terminalId",
    "sessionId",
    "runId",
];

/// Parameters whose values say what changed and are no content.
const TOLD: [&str; 21] = [
    "decision",
    "role",
    "scopes",
    "roles",
    "mode",
    "enabled",
    "access",
    "account",
    "channel",
    "accountId",
    "agentId",
    "nodeId",
    "name",
    "fault",
    "kind",
    "action",
    "state",
    "pinned",
    "archived",
    "deleteTranscript",
    "permissionMode",
];

/// What a request is about.
pub fn target(params: &Value) -> Option<String> {
    TARGETS.iter().find_map(|name| short(&params[*name])?.as_str().map(str::to_owned))
}

/// What a request changes, in names.
pub fn summary(method: &str, params: &Value, config: &Value) -> Option<Value> {
    if method.starts_with("config.") {
        return Some(json!({ "paths": config_paths(method, params, config) }));
    }
    let params = params.as_object().filter(|params| !params.is_empty())?;
    let mut told = Map::new();
    for name in TOLD {
        if let Some(value) = params.get(name).and_then(short) {
            told.insert(name.into(), value);
        }
    }
    if method == "node.invoke"
        && let Some(command) = params.get("command").and_then(short)
    {
        told.insert("command".into(), command);
    }
    let rest: Vec<&String> = params
        .keys()
        .filter(|name| !told.contains_key(*name) && !TARGETS.contains(&name.as_str()) && name.len() <= 64)
        .take(MAX_WORDS)
        .collect();
    if !rest.is_empty() {
        told.insert("fields".into(), json!(rest));
    }
    (!told.is_empty()).then_some(Value::Object(told))
}

/// A value that is a word, a number, or a list of words.
fn short(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.len() <= MAX_WORD && !text.is_empty() && !text.contains('\n') => {
            Some(value.clone())
        }
        Value::Bool(_) | Value::Number(_) => Some(value.clone()),
        Value::Array(items) if items.iter().all(|item| matches!(item, Value::String(s) if s.len() <= 64)) => {
            Some(items.iter().take(MAX_WORDS).cloned().collect())
        }
        _ => None,
    }
}

/// Which places of the configuration a request changes.
fn config_paths(method: &str, params: &Value, config: &Value) -> Vec<String> {
    let Some(given) = params["raw"].as_str().and_then(|raw| json5::from_str::<Value>(raw).ok()) else {
        return Vec::new();
    };
    let wanted = match method {
        "config.patch" => changes::merged(config, &given, &[]),
        _ => given,
    };
    // A secret that was not shown comes back as it was.
    let wanted = changes::restored(&wanted, config).unwrap_or(wanted);
    let mut paths = changes::paths(&changes::between(config, &wanted));
    paths.truncate(MAX_WORDS);
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: &str, params: Value) -> Value {
        summary(method, &params, &json!({})).unwrap_or_default()
    }

    #[test]
    fn names_and_decisions_are_told_and_contents_are_not() {
        let told = |method: &str, params: Value| {
            let text = told(method, params).to_string();
            assert!(!text.contains("SECRET"), "{method}: {text}");
            text
        };
        told("secrets.store.set", json!({ "name": "telegram", "value": "SECRET" }));
        told(
            "exec.approval.request",
            json!({ "id": "a", "command": "curl SECRET", "commandArgv": ["SECRET"] }),
        );
        told("send", json!({ "channel": "telegram", "to": "1", "message": "SECRET" }));
        told("question.resolve", json!({ "id": "q", "answers": { "a": "SECRET" } }));
        told("tools.invoke", json!({ "name": "exec", "args": { "command": "SECRET" } }));
        told("channels.pairing.approve", json!({ "channel": "telegram", "code": "SECRET" }));
        told("sessions.create", json!({ "message": "SECRET" }));
        told("agents.files.set", json!({ "name": "SOUL.md", "content": "SECRET" }));
        told("terminal.open", json!({ "env": { "A": "SECRET" }, "cwd": "SECRET" }));
        let text = told("exec.approval.resolve", json!({ "id": "a", "decision": "allow-once" }));
        assert!(text.contains("allow-once"), "{text}");
        let text = told(
            "node.invoke",
            json!({ "nodeId": "n", "command": "system.run", "params": { "c": "SECRET" } }),
        );
        assert!(text.contains("system.run") && text.contains("\"fields\":[\"params\"]"), "{text}");
    }

    #[test]
    fn of_a_configuration_only_the_places_are_told() {
        let before = json!({ "gateway": { "port": 1, "auth": { "token": "OLD" } } });
        let patch = json!({ "raw": "{gateway: {auth: {token: 'SECRET'}}, session: {mainKey: 'x'}}" });
        let told = summary("config.patch", &patch, &before).unwrap();
        assert_eq!(told, json!({ "paths": ["gateway.auth.token", "session"] }));
        let whole = json!({ "raw": "{gateway: {port: 2, auth: {token: '__OPENCLAW_REDACTED__'}}}" });
        assert_eq!(summary("config.set", &whole, &before).unwrap(), json!({ "paths": ["gateway.port"] }));
        assert_eq!(summary("config.set", &json!({ "raw": "{" }), &before).unwrap(), json!({ "paths": [] }));
    }

    #[test]
    fn a_request_is_about_the_most_particular_name_it_has() {
        assert_eq!(
            target(&json!({ "agentId": "a", "key": "agent:a:main" })).as_deref(),
            Some("agent:a:main")
        );
        assert_eq!(target(&json!({ "path": "gateway/presence" })).as_deref(), Some("gateway/presence"));
        assert_eq!(target(&json!({ "message": "hello" })), None);
    }
}
