use super::*;
use crate::config::edit::edited;
use crate::settings::Settings;
use serde_json::json;

/// Each older form, and the newer one.
fn forms() -> Vec<(Value, Value)> {
    vec![
        (
            json!({ "telegram": { "botToken": "t" } }),
            json!({ "channels": { "telegram": { "botToken": "t" } } }),
        ),
        (
            json!({ "discord": { "token": "old", "enabled": true }, "channels": { "discord": { "token": "new" } } }),
            json!({ "channels": { "discord": { "token": "new", "enabled": true } } }),
        ),
        (json!({ "gateway": { "token": "t" } }), json!({ "gateway": { "auth": { "token": "t" } } })),
        (json!({ "gateway": { "bind": "0.0.0.0" } }), json!({ "gateway": { "bind": "lan" } })),
        (
            json!({ "gateway": { "expose_via_tailscale": true, "tailscale_mode": "funnel" } }),
            json!({ "gateway": { "tailscale": { "mode": "funnel" } } }),
        ),
        (
            json!({ "gateway": { "expose_via_tailscale": true } }),
            json!({ "gateway": { "tailscale": { "mode": "serve" } } }),
        ),
        (
            json!({ "gateway": { "expose_via_tailscale": false, "tailscale_mode": "funnel" } }),
            json!({ "gateway": {} }),
        ),
        (
            json!({ "gateway": { "nodes": { "allowCommands": ["a"], "denyCommands": ["b"], "skills": { "enabled": false } } } }),
            json!({ "gateway": { "nodes": { "commands": { "allow": ["a"], "deny": ["b"] }, "allowSkills": false } } }),
        ),
        (
            json!({ "routing": {
                "allowFrom": ["+1"], "groupChat": { "requireMention": false }, "queue": { "mode": "queue", "byProvider": { "x": "collect" } },
                "agents": { "b": { "name": "B" } }, "defaultAgentId": "b",
                "bindings": [{ "agentId": "b", "match": { "provider": "telegram", "peer": { "kind": "dm", "id": "1" } } }],
            }, "whatsapp": {}, "channels": { "telegram": { "groups": { "*": { "requireMention": true } } } } }),
            json!({
                "channels": {
                    "telegram": { "groups": { "*": { "requireMention": true } } },
                    "whatsapp": { "allowFrom": ["+1"], "groups": { "*": { "requireMention": false } } },
                },
                "messages": { "queue": { "mode": "steer", "byChannel": { "x": "collect" } } },
                "agents": { "entries": { "b": { "name": "B", "default": true } } },
                "bindings": [{ "agentId": "b", "match": { "channel": "telegram", "peer": { "kind": "direct", "id": "1" } } }],
            }),
        ),
        (
            json!({ "agent": { "model": "a/b", "modelFallbacks": ["c/d"], "workspace": "/w", "tools": { "deny": ["x"] }, "bash": { "timeoutSec": 7 } } }),
            json!({ "tools": { "deny": ["x"], "exec": { "timeoutSeconds": 7 } },
                "agents": { "defaults": { "model": { "primary": "a/b", "fallbacks": ["c/d"] }, "workspace": "/w" } } }),
        ),
        (json!({ "defaultModel": "a/b" }), json!({ "agents": { "defaults": { "model": "a/b" } } })),
        (
            json!({ "identity": { "name": "N" } }),
            json!({ "agents": { "entries": { "main": { "identity": { "name": "N" } } } } }),
        ),
        (
            json!({ "channels": { "telegram": { "requireMention": false, "streamMode": "off" }, "discord": {
                "dm": { "policy": "open", "allowFrom": ["*"] }, "accounts": { "b": { "dm": { "policy": "disabled" } } } } } }),
            json!({ "channels": { "telegram": { "groups": { "*": { "requireMention": false } }, "streaming": { "mode": "off" } }, "discord": {
                "dmPolicy": "open", "allowFrom": ["*"], "accounts": { "b": { "dmPolicy": "disabled" } } } } }),
        ),
        (
            json!({ "session": { "idleMinutes": 5, "resetByType": { "dm": { "mode": "idle" } } } }),
            json!({ "session": { "reset": { "mode": "idle", "idleMinutes": 5 }, "resetByType": { "direct": { "mode": "idle" } } } }),
        ),
        (
            json!({ "session": { "idleMinutes": 5, "reset": { "mode": "daily" } } }),
            json!({ "session": { "reset": { "mode": "daily", "idleMinutes": 5 } } }),
        ),
        (
            json!({ "messages": { "queue": { "mode": "steer-backlog", "byChannel": { "discord": "queue" } } } }),
            json!({ "messages": { "queue": { "mode": "followup", "byChannel": { "discord": "steer" } } } }),
        ),
        (
            json!({ "models": { "providers": { "x": { "api": "openai" } } } }),
            json!({ "models": { "providers": { "x": { "api": "openai-completions" } } } }),
        ),
        (
            json!({ "mcp": { "servers": { "x": { "type": "http", "url": "u", "disabled": true, "timeout": 2.5, "workingDirectory": "/w" } } } }),
            json!({ "mcp": { "servers": { "x": { "url": "u", "enabled": false, "cwd": "/w", "requestTimeoutMs": 2500, "transport": "streamable-http" } } } }),
        ),
        (
            json!({ "agents": { "list": [{ "id": "b", "tools": { "exec": { "timeoutSec": 1 } } }, { "id": "a" }] } }),
            json!({ "agents": { "entries": { "b": { "default": true, "tools": { "exec": { "timeoutSeconds": 1 } } }, "a": {} } } }),
        ),
    ]
}

/// accepts: K1
#[test]
fn each_older_form_becomes_the_newer_one_with_a_word_for_it_and_stays_that() {
    for (older, newer) in forms() {
        let (made, found) = renewed(&older, For::Writing);
        assert_eq!(made, newer, "{older}");
        assert!(
            !found.is_empty()
                && found.iter().all(|one| !one.key.path.is_empty() && !one.key.became.is_empty())
        );
        assert_eq!(renewed(&newer, For::Writing), (newer.clone(), vec![]), "{newer}");
    }
}

/// accepts: K1
#[test]
fn the_gateway_reads_the_same_in_both_forms() {
    let read = |document: &Value| {
        let (document, _) = renewed(document, For::Reading);
        serde_json::from_value::<Settings>(document.clone()).unwrap_or_else(|e| panic!("{document}: {e}"))
    };
    for (older, newer) in forms() {
        let (one, other) = (read(&older), read(&newer));
        assert_eq!(one.default_agent_id(), other.default_agent_id(), "{older}");
        let ids = |settings: &Settings| {
            let mut ids: Vec<String> = settings.agent_ids().iter().map(|id| (*id).to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&one), ids(&other), "{older}");
        for section in ["gateway", "channels", "session", "messages", "models", "mcp", "tools", "bindings"] {
            assert!(one.section_hash(section) == other.section_hash(section), "{section}: {older}");
        }
    }
}

/// accepts: K1
#[test]
fn the_changes_make_the_newer_form_in_the_text_of_a_file() {
    for (older, newer) in forms() {
        let (_, found) = renewed(&older, For::Writing);
        let changes: Vec<Change> = found.into_iter().flat_map(|one| one.changes).collect();
        let mut raw = older.clone();
        let text = edited(&format!("// mine\n{older:#}\n"), &mut raw, &changes)
            .unwrap_or_else(|e| panic!("{older}: {e}"));
        assert!(text.starts_with("// mine\n"), "{text}");
        assert_eq!((json5::from_str::<Value>(&text).unwrap(), raw), (newer.clone(), newer));
    }
}

#[test]
fn what_the_same_agent_says_in_both_rosters_is_joined() {
    let both = json!({ "agents": { "list": [{ "id": "b", "name": "B" }, { "id": "a" }], "entries": { "b": { "name": "new" }, "c": {} } } });
    let (read, found) = renewed(&both, For::Reading);
    assert_eq!(read["agents"]["list"], json!([{ "id": "b", "name": "new" }, { "id": "a" }]));
    assert_eq!((&read["agents"]["entries"], found.len()), (&json!({ "c": {} }), 1));
    let twice = json!({ "agents": { "list": [{ "id": "a" }, { "id": "a" }] } });
    assert_eq!(renewed(&twice, For::Reading), (twice.clone(), vec![]), "what cannot be read stays");
}

#[test]
fn the_mode_of_exec_is_read_and_a_wrong_one_is_no_licence() {
    let read = |mode: Value| {
        let document = json!({ "tools": { "exec": { "mode": mode, "security": "full" } } });
        let (document, found) = renewed(&document, For::Reading);
        assert_eq!(found, [], "it is no older form");
        serde_json::from_value::<Settings>(document)
            .map(|s| (format!("{:?}", s.tools.exec.security), format!("{:?}", s.tools.exec.ask)))
    };
    for (mode, security, ask) in [
        ("deny", "Deny", "Off"),
        ("allowlist", "Allowlist", "Off"),
        ("ask", "Allowlist", "OnMiss"),
        ("auto", "Allowlist", "OnMiss"),
        ("full", "Full", "Off"),
    ] {
        assert_eq!(read(json!(mode)).unwrap(), (security.into(), ask.into()), "{mode}");
    }
    assert!(read(json!("alowlist")).is_err() && read(json!(7)).is_err());
}

#[test]
fn what_does_not_fit_is_left_as_it_is() {
    for odd in [
        json!({ "telegram": 1, "channels": 2 }),
        json!({ "gateway": { "token": "t", "auth": 7 } }),
        json!({ "channels": { "discord": { "accounts": { "b": { "dm": {} } } } } }),
        json!({}),
    ] {
        assert_eq!(renewed(&odd, For::Reading), (odd.clone(), vec![]));
    }
    assert_eq!(renewed(&json!([1]), For::Reading).0, json!([1]));
}
