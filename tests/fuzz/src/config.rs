//! The configuration file: what can be read of it is read, what cannot is named; older forms become today's, once, and
//! mean the same; a change changes what it says, and nothing else.

use crate::twice::repeats_within;
use crate::{Target, same};
use crabtree::config::{Environment, Sources, load_draft};
use crabtree_actors::config::changes::between;
use crabtree_actors::config::edit::{Change, apply, edited};
use crabtree_actors::config::include::includes;
use crabtree_actors::config::older::{For, Older, renewed};
use crabtree_actors::settings::{Loaded, Settings, redacted};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// See the module.
pub const TARGET: Target = Target {
    name: "config",
    read,
    steps: 3,
    seeds,
    words: &[
        "// why\n",
        "/* on */",
        "'",
        "gateway:",
        "channels:",
        "telegram:",
        "agents:",
        "list:",
        "entries:",
        "routing:",
        "messages:",
        "accounts:",
        "default: true,",
        "id: 'a'",
        "0x10",
        "+1",
        ".5",
        "Infinity",
        "NaN",
        "\\\n",
        "$include:",
        "\u{2028}",
        "enabled: false,",
        "timeout: 2.5",
        "\"__proto__\":",
        "port: 1,",
        "a: 1, a: 2,",
    ],
    inputs: 6_000,
};

static SOURCES: LazyLock<(tempfile::TempDir, Sources)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().to_owned();
    (dir, Sources { state_dir, file: None, env: Environment::default(), flags: json!({}) })
});

fn seeds() -> Vec<String> {
    let older = [
        json!({ "telegram": { "botToken": "t" }, "gateway": { "token": "t", "bind": "0.0.0.0", "tailscale_mode": "funnel" } }),
        json!({ "routing": {
            "allowFrom": ["+1"], "groupChat": { "requireMention": false }, "agents": { "b": { "name": "B" } },
            "queue": { "mode": "queue", "byProvider": { "x": "collect" } }, "defaultAgentId": "b",
            "bindings": [{ "agentId": "b", "match": { "provider": "telegram", "peer": { "kind": "dm", "id": "1" } } }],
        }, "whatsapp": {}, "channels": { "telegram": { "groups": { "*": { "requireMention": true } } } } }),
        json!({ "agent": { "model": "a/b", "modelFallbacks": ["c/d"], "tools": { "deny": ["x"] }, "bash": { "timeoutSec": 7 } } }),
        json!({ "channels": { "discord": { "dm": { "policy": "open", "allowFrom": ["*"] }, "accounts": { "b": { "dm": {} } } } } }),
        json!({ "session": { "idleMinutes": 5, "resetByType": { "dm": { "mode": "idle" } } }, "defaultModel": "a/b" }),
        json!({ "mcp": { "servers": { "x": { "type": "http", "url": "u", "disabled": true, "timeout": 2.5 } } } }),
        json!({ "agents": { "list": [{ "id": "b", "tools": { "exec": { "timeoutSec": 1 } } }, { "id": "a" }] } }),
        json!({ "models": { "providers": { "x": { "api": "openai", "models": [{ "id": "m", "cost": { "input": 1 } }] } } } }),
    ];
    let commented = "// mine\n{\n  gateway: { port: 0x10, 'auth': { mode: 'none' }, }, // why\n  agents: {\n    list: [\n      \
                     { id: 'main', default: true }, // first\n    ],\n  },\n  hooks: { enabled: false, token: '${T}' },\n}\n";
    let example = include_str!("../../../config/openclaw.example.json5");
    let sections = parts(&json5_of(example));
    let own = older.iter().chain(&sections).map(|value| format!("{value:#}"));
    own.chain([commented.to_owned(), String::new(), "{}".to_owned()]).collect()
}

/// The example's sections, each alone: mutations of the whole would seldom meet the same place.
fn parts(example: &Value) -> Vec<Value> {
    example.as_object().unwrap().iter().map(|(name, section)| json!({ name: section })).collect()
}

/// What the gateway reads in a text that it reads.
fn json5_of(text: &str) -> Value {
    load_draft(&SOURCES.1, text).unwrap().raw
}

/// Refused as a whole, read in part, read.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let sources = &SOURCES.1;
    let loaded = match load_draft(sources, &text) {
        Ok(loaded) => loaded,
        Err(invalid) => {
            let file = sources.path().display().to_string();
            let section = invalid.key.split('.').next().unwrap_or_default();
            assert!(invalid.text.contains(&file), "it says where: {invalid}");
            assert!(section.is_empty() || invalid.text.contains(section), "{invalid}");
            assert!(!invalid.problem.is_empty());
            return 0;
        }
    };
    assert!(loaded.issues().iter().all(|issue| !issue.path.is_empty() && !issue.message.is_empty()));
    assert!(loaded.origin.older.iter().all(|key| !key.path.is_empty() && !key.became.is_empty()));
    assert_eq!(redacted(&redacted(&loaded.raw)), redacted(&loaded.raw));
    is_read_again(&loaded);
    is_renewed_once(&loaded.raw);
    if !includes(&loaded.raw) {
        is_migrated(&loaded);
        is_changed(&loaded);
    }
    1 + usize::from(loaded.issues().is_empty())
}

fn draft(text: &str) -> Loaded {
    load_draft(&SOURCES.1, text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Written as JSON it is the same configuration.
fn is_read_again(loaded: &Loaded) {
    let again = draft(&loaded.raw.to_string());
    assert!(same(&again.raw, &loaded.raw), "{} became {}", loaded.raw, again.raw);
    assert_eq!(again.issues(), loaded.issues());
    assert!(settings(&again.settings) == settings(&loaded.settings), "the settings differ");
}

fn settings(settings: &Settings) -> Value {
    serde_json::to_value(settings).unwrap()
}

/// Older forms are found once, and the changes that are named make the newer ones.
fn is_renewed_once(raw: &Value) {
    for purpose in [For::Reading, For::Writing] {
        let (newer, found) = renewed(raw, purpose);
        let mut made = raw.clone();
        for change in found.iter().flat_map(|older| &older.changes) {
            apply(&mut made, change).unwrap_or_else(|| panic!("{change:?} does not fit"));
        }
        assert_eq!(made, newer);
        let (again, left) = renewed(&newer, purpose);
        assert_eq!(again, newer, "{left:?}");
        // What the gateway reads as it is stays, and is named each time.
        let is_read_so = |older: &Older| purpose == For::Reading && older.changes.is_empty();
        assert!(left.iter().all(is_read_so), "{left:?}");
    }
}

/// What `crabtree config migrate` writes means the same.
fn is_migrated(loaded: &Loaded) {
    let (newer, found) = renewed(&loaded.raw, For::Writing);
    let changes: Vec<Change> = found.into_iter().flat_map(|older| older.changes).collect();
    let Some(after) = written(loaded, &changes) else { return };
    assert!(same(&after.raw, &newer), "{} instead of {newer}", after.raw);
    assert_eq!(after.origin.older, []);
    if loaded.issues().is_empty() && after.issues().is_empty() {
        let (before, after) = (&loaded.settings, &after.settings);
        assert_eq!(before.default_agent_id(), after.default_agent_id());
        let sections =
            ["gateway", "channels", "session", "messages", "models", "mcp", "tools", "bindings", "cron"];
        for section in sections {
            assert_eq!(
                before.section_hash(section),
                after.section_hash(section),
                "{section} means something else"
            );
        }
    }
}

/// Changes reach what they are for, and a section that was not there goes again.
fn is_changed(loaded: &Loaded) {
    let mut wanted = loaded.raw.clone();
    wanted["ui"] = json!({ "seamColor": "it's \"b\"\n" });
    let (there, back) = (between(&loaded.raw, &wanted), between(&wanted, &loaded.raw));
    let Some(after) = written(loaded, &there) else { return };
    assert!(same(&after.raw, &wanted), "{} instead of {wanted}", after.raw);
    assert_eq!(after.issues(), loaded.issues());
    let after = written(&after, &back).expect("what was written can be written again");
    assert!(same(&after.raw, &loaded.raw), "{} instead of {}", after.raw, loaded.raw);
    assert!(settings(&after.settings) == settings(&loaded.settings), "the settings differ");
}

/// The file with these changes; none if it cannot be edited in place, which plain JSON always can.
fn written(loaded: &Loaded, changes: &[Change]) -> Option<Loaded> {
    match edited(&loaded.text, &mut loaded.raw.clone(), changes) {
        Ok(text) => Some(draft(&text)),
        Err(why) => {
            let is_plain =
                serde_json::from_str::<Value>(&loaded.text).is_ok() && !repeats_within(&loaded.text);
            assert!(!is_plain, "{why}: {changes:?}");
            None
        }
    }
}
