//! An installation of OpenClaw in a folder: a database in the middle of its life, and files of older versions.

use crate::client::{Intro, connect_params};
use crabtree_actors::store::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// The token of its gateway.
pub const THEIR_TOKEN: &str = "their-gateway-token-0123456789";
/// What it gave its devices.
pub const OPERATOR_TOKEN: &str = "their-token-of-an-operator";
pub const NODE_TOKEN: &str = "their-token-of-a-node";

/// See the module. Its databases stay open, so that they have logs.
pub struct Home {
    dir: TempDir,
    _open: Vec<Connection>,
}

/// A command line that is paired there.
pub fn operator() -> Intro {
    Intro {
        scopes: vec!["operator.read", "operator.write"],
        auth: json!({ "deviceToken": OPERATOR_TOKEN }),
        device: Some([41; 32]),
        ..Intro::default()
    }
}

/// A node that is paired there.
pub fn node() -> Intro {
    let (id, mode, role) = ("node-host", "node", "node");
    Intro {
        id,
        mode,
        role,
        scopes: vec![],
        auth: json!({ "deviceToken": NODE_TOKEN }),
        device: Some([42; 32]),
        ..Intro::default()
    }
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "gateway": { "mode": "local", "auth": { "mode": "token", "token": THEIR_TOKEN } },
            "plugins": { "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } },
        });
        fs::write(dir.path().join("openclaw.json"), config.to_string()).unwrap();
        let open = vec![shared(dir.path()), agent(dir.path())];
        files(dir.path());
        Self { dir, _open: open }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A long conversation more, in a file.
    pub fn with_long_transcript(self, messages: u64) -> Self {
        let sessions = self.path().join("agents/long/sessions");
        fs::create_dir_all(&sessions).unwrap();
        let list = json!({ "agent:long:main": { "sessionId": "long", "updatedAt": 5 } });
        fs::write(sessions.join("sessions.json"), list.to_string()).unwrap();
        let text: String = (0..messages).map(|n| line(&format!("m{n}"), n.checked_sub(1), n)).collect();
        fs::write(sessions.join("long.jsonl"), text).unwrap();
        self
    }

    /// Every file with its content and its time.
    pub fn listing(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut listing = BTreeMap::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                if path.is_dir() {
                    open.push(path.clone());
                }
                listing.insert(path, (content, modified));
            }
        }
        listing
    }
}

fn line(id: &str, parent: Option<u64>, n: u64) -> String {
    let parent = parent.map(|parent| format!("m{parent}"));
    let entry = json!({
        "type": "message", "id": id, "parentId": parent, "timestamp": "2026-01-02T03:04:05.000Z",
        "message": { "role": if n.is_multiple_of(2) { "user" } else { "assistant" }, "content": format!("word {n}") },
    });
    format!("{entry}\n")
}

fn database(path: &Path, sql: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    conn.execute_batch(sql).unwrap();
    conn
}

fn paired(intro: &Intro, token: &str, surface: Option<Value>) -> [Option<String>; 10] {
    let params = connect_params(intro, &json!({ "nonce": "n", "ts": 1 }));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let scopes = json!(intro.scopes);
    let tokens =
        json!({ intro.role: { "token": token, "role": intro.role, "scopes": scopes, "createdAtMs": 7 } });
    [
        text(&params["device"]["id"]),
        text(&params["device"]["publicKey"]),
        Some(format!("their {}", intro.role)),
        Some("linux".into()),
        Some(intro.id.into()),
        Some(intro.mode.into()),
        Some(json!([intro.role]).to_string()),
        Some(scopes.to_string()),
        Some(tokens.to_string()),
        surface.map(|surface| surface.to_string()),
    ]
}

fn shared(dir: &Path) -> Connection {
    let conn = database(
        &dir.join("state/openclaw.sqlite"),
        "CREATE TABLE device_pairing_paired (
             device_id TEXT, public_key TEXT, display_name TEXT, platform TEXT, client_id TEXT, client_mode TEXT,
             roles_json TEXT, approved_scopes_json TEXT, tokens_json TEXT, node_surface_json TEXT,
             created_at_ms INTEGER, approved_at_ms INTEGER);
         CREATE TABLE channel_pairing_allow_entries (
             channel_key TEXT, account_id TEXT, entry TEXT, sort_order INTEGER, updated_at INTEGER);
         INSERT INTO channel_pairing_allow_entries VALUES ('telegram', 'default', '4711', 0, 5);
         CREATE TABLE cron_jobs (job_id TEXT, job_json TEXT, state_json TEXT, updated_at INTEGER);",
    );
    let surface =
        json!({ "caps": ["system"], "commands": ["system.which"], "createdAtMs": 8, "approvedAtMs": 9 });
    let rows = [paired(&operator(), OPERATOR_TOKEN, None), paired(&node(), NODE_TOKEN, Some(surface))];
    for row in rows {
        let text = "INSERT INTO device_pairing_paired VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 5, 6)";
        conn.execute(text, row).unwrap();
    }
    let job = |id: &str, more: Value| {
        let mut job = json!({
            "id": id, "name": id, "enabled": true, "createdAtMs": 5, "schedule": { "kind": "cron", "expr": "0 7 * * *" },
            "sessionTarget": "isolated", "wakeMode": "now", "payload": { "kind": "agentTurn", "message": "Good morning" },
            "delivery": { "mode": "none" }, "state": {},
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let row = [id.to_owned(), job.to_string(), json!({ "nextRunAtMs": 9 }).to_string()];
        conn.execute("INSERT INTO cron_jobs VALUES (?1, ?2, ?3, 6)", row).unwrap();
    };
    job("morning", json!({}));
    job("heartbeat-main", json!({ "declarationKey": "heartbeat:main", "payload": { "kind": "heartbeat" } }));
    conn
}

fn agent(dir: &Path) -> Connection {
    let conn = database(
        &dir.join("agents/main/agent/openclaw-agent.sqlite"),
        "CREATE TABLE session_nodes (session_key TEXT, current_session_id TEXT, entry_json TEXT);
         CREATE TABLE session_windows (session_id TEXT, session_key TEXT, created_at INTEGER);
         CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at INTEGER);",
    );
    let node = |key: &str, id: &str, more: Value| {
        let mut entry = json!({ "sessionId": id, "updatedAt": 1_700_000_000_000_i64, "createdAt": 1_600_000_000_000_i64 });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let row = [key.to_owned(), id.to_owned(), entry.to_string()];
        conn.execute("INSERT INTO session_nodes VALUES (?1, ?2, ?3)", row).unwrap();
        conn.execute("INSERT INTO session_windows VALUES (?1, ?2, 5)", [id, key]).unwrap();
    };
    node("agent:main:main", "now", json!({ "label": "Chosen", "thinkingLevel": "high" }));
    node("agent:main:done", "done", json!({ "archivedAt": 9, "archiveReason": "manual" }));
    conn.execute("INSERT INTO session_windows VALUES ('before', 'agent:main:main', 1)", ()).unwrap();
    let said = |id: &str, parent: &str, role: &str, text: &str| {
        json!({
            "type": "message", "id": id, "parentId": parent, "timestamp": "2026-01-02T03:04:05.000Z",
            "message": { "role": role, "content": [{ "type": "text", "text": text }] },
        })
    };
    let entries = [
        ("before", json!({ "type": "session", "id": "before" })),
        ("before", said("z1", "", "user", "an earlier window")),
        ("now", json!({ "type": "session", "id": "now" })),
        ("now", said("a1", "", "user", "first question")),
        ("now", said("a2", "a1", "assistant", "first answer")),
        ("now", said("a3", "a2", "user", "a way that was left")),
        ("now", json!({ "type": "leaf", "id": "l", "parentId": "a3", "targetId": "a2" })),
        ("now", said("a4", "a2", "user", "second question")),
        ("now", json!("junk")),
        ("now", said("a5", "a4", "assistant", "second answer")),
        ("done", said("d1", "", "user", "before it was begun anew")),
        (
            "done",
            json!({ "type": "reset", "id": "d2", "parentId": "d1", "timestamp": "2026-01-02T03:04:06.000Z" }),
        ),
        ("done", said("d3", "d2", "user", "since then")),
    ];
    for (seq, (session, entry)) in entries.iter().enumerate() {
        let row = [session.to_string(), seq.to_string(), entry.to_string()];
        conn.execute("INSERT INTO transcript_events VALUES (?1, ?2, ?3, 5)", row).unwrap();
    }
    conn
}

/// An agent whose sessions are still in files.
fn files(dir: &Path) {
    let sessions = dir.join("agents/old/sessions");
    fs::create_dir_all(&sessions).unwrap();
    let list = json!({ "agent:old:main": { "sessionId": "f", "updatedAt": 1_500_000_000_000_i64 }, "agent:old:bad": 7 });
    fs::write(sessions.join("sessions.json"), list.to_string()).unwrap();
    let text = [&line("m0", None, 0), "{\"type\": \"mess\n", "\n", &line("m1", Some(0), 1)].concat();
    fs::write(sessions.join("f.jsonl"), text.as_bytes()).unwrap();
    fs::write(sessions.join("g.jsonl.deleted.2026"), "").unwrap();
    fs::create_dir_all(dir.join("credentials")).unwrap();
    let people = json!({ "version": 1, "allowFrom": ["4711", "4712"] });
    fs::write(dir.join("credentials/telegram-allowFrom.json"), people.to_string()).unwrap();
}
