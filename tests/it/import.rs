//! An installation of OpenClaw is taken over: whole, once, and without a change over there.

mod home;

use crate::client::{Client, Intro};
use crate::gateway::Process;
use home::{Home, NODE_TOKEN, OPERATOR_TOKEN, THEIR_TOKEN};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn crabtree(state: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program.env("CRABTREE_STATE_DIR", state).env_remove("OPENCLAW_GATEWAY_TOKEN");
    program
}

fn run(home: &Home, state: &Path, flags: &[&str]) -> Output {
    let mut program = crabtree(state);
    program.args(["import", "openclaw"]).arg(home.path()).args(flags).output().unwrap()
}

/// What it came to, for programs.
fn told(home: &Home, state: &Path, flags: &[&str]) -> Value {
    let output = run(home, state, &[&["--json"], flags].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

fn action<'a>(told: &'a Value, kind: &str, name: &str) -> &'a Value {
    let items = told["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["kind"] == kind && item["name"] == name);
    &item.unwrap_or_else(|| panic!("{kind} {name} in {told}"))["action"]
}

async fn texts(client: &mut Client, key: &str) -> Vec<String> {
    let history = client.call("chat.history", json!({ "sessionKey": key })).await;
    let text = |message: &Value| match &message["content"] {
        Value::String(text) => text.clone(),
        content => content[0]["text"].as_str().unwrap().to_owned(),
    };
    history["messages"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_dry_run_changes_nothing_anywhere() {
    let home = Home::new();
    let before = home.listing();
    assert!(
        before.keys().any(|path| path.to_string_lossy().ends_with("openclaw.sqlite-wal")),
        "it has a log"
    );
    let outer = tempfile::tempdir().unwrap();
    let state = outer.path().join("state");
    let told = told(&home, &state, &["--dry-run"]);
    assert_eq!(action(&told, "config", "openclaw.json"), "import");
    assert_eq!(action(&told, "devices", "their operator"), "import");
    assert_eq!(action(&told, "nodes", "their node"), "import");
    assert_eq!(action(&told, "people", "telegram:4712"), "import");
    assert_eq!(action(&told, "cron", "morning"), "import");
    assert_eq!(action(&told, "cron", "heartbeat-main"), "skip");
    assert_eq!(action(&told, "sessions", "agent:old:main"), "import");
    assert_eq!(action(&told, "sessions", "agent:old:bad"), "skip");
    assert!(!state.exists(), "nothing was made here");
    assert!(home.listing() == before, "nothing was changed there");
    let page = String::from_utf8(run(&home, &state, &["--dry-run"]).stdout).unwrap();
    assert!(page.contains("it was deleted there") && page.contains("here already"), "{page}");
}

#[tokio::test]
async fn devices_people_and_conversations_come_over() {
    let home = Home::new();
    let before = home.listing();
    let state = tempfile::tempdir().unwrap();
    let done = told(&home, state.path(), &[]);
    assert!(home.listing() == before, "nothing was changed there");
    let came = json!({ "config": 1, "devices": 2, "nodes": 1, "people": 2, "cron": 1, "sessions": 3 });
    assert_eq!(done["imported"], came, "{done}");
    assert_eq!((&done["brokenEntries"], &done["failed"]), (&json!(2), &json!([])), "{done}");
    let broken = done["broken"].to_string();
    assert!(broken.contains("agents/old/sessions/f.jsonl:2:"), "{broken}");
    assert!(!state.path().join("import.tmp").exists());
    let token = crabtree(state.path()).arg("token").output().unwrap();
    assert_eq!(String::from_utf8(token.stdout).unwrap().trim(), THEIR_TOKEN);

    let gateway = Process::start(state.path()).await;
    let operator = Client::connect(gateway.addr, &home::operator()).await.expect("it needs no pairing");
    assert_eq!(operator.hello["auth"]["method"], "device-token");
    let own = operator.hello["auth"]["deviceToken"].clone();
    assert_ne!(own, OPERATOR_TOKEN, "it is given one of ours");
    let with = |auth: Value| Intro { auth, ..home::operator() };
    Client::connect(gateway.addr, &with(json!({ "deviceToken": own }))).await.expect("ours is good");
    let refused =
        Client::connect(gateway.addr, &with(json!({ "deviceToken": NODE_TOKEN }))).await.err().unwrap();
    assert_eq!(refused["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
    Client::connect(gateway.addr, &home::node()).await.expect("the node needs no pairing");

    let mut admin = Client::admin(gateway.addr).await;
    let list = admin.call("device.pair.list", json!({})).await;
    assert_eq!((list["paired"].as_array().unwrap().len(), &list["pending"]), (2, &json!([])));
    let nodes = admin.call("node.list", json!({})).await;
    assert_eq!(nodes["nodes"][0]["approvalState"], "approved", "{nodes}");
    let sessions = admin.call("sessions.list", json!({})).await;
    let main = sessions["sessions"].as_array().unwrap().iter().find(|row| row["key"] == "agent:main:main");
    let main = main.unwrap();
    assert_eq!(
        (&main["label"], &main["sessionId"], &main["thinkingLevel"]),
        (&json!("Chosen"), &json!("now"), &json!("high"))
    );
    assert_eq!(
        (&main["createdAt"], &main["updatedAt"]),
        (&json!(1_600_000_000_000_i64), &json!(1_700_000_000_000_i64))
    );
    let said = ["first question", "first answer", "second question", "second answer"];
    assert_eq!(texts(&mut admin, "agent:main:main").await, said);
    assert_eq!(texts(&mut admin, "agent:main:done").await, ["Reset", "since then"]);
    assert_eq!(texts(&mut admin, "agent:old:main").await, ["word 0", "word 1"]);
    let branches = admin.call("sessions.branches.list", json!({ "sessionKey": "agent:main:main" })).await;
    let headlines: Vec<_> = branches["branches"].as_array().unwrap().iter().map(|b| &b["headline"]).collect();
    assert_eq!(headlines, ["second answer", "a way that was left"]);

    // What it was given there is worth nothing once its token is taken back here.
    let device = list["paired"].as_array().unwrap().iter().find(|row| row["clientId"] == "cli").unwrap();
    let params = json!({ "deviceId": device["deviceId"], "role": "operator" });
    admin.call("device.token.rotate", params).await;
    let refused = Client::connect(gateway.addr, &home::operator()).await.err().unwrap();
    assert_eq!(refused["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
}

#[test]
fn a_second_run_changes_nothing() {
    let home = Home::new();
    let state = tempfile::tempdir().unwrap();
    told(&home, state.path(), &[]);
    let again = told(&home, state.path(), &[]);
    let none = json!({ "config": 0, "devices": 0, "nodes": 0, "people": 0, "cron": 0, "sessions": 0 });
    assert_eq!((&again["imported"], &again["messages"]), (&none, &json!(0)), "{again}");
    assert_eq!(action(&again, "sessions", "agent:main:main"), "present");
    assert_eq!(action(&again, "devices", "their operator"), "present");
    assert_eq!(action(&again, "cron", "morning"), "present");
}

#[test]
fn an_import_that_is_killed_is_completed_by_the_next_one() {
    const MESSAGES: u64 = 30_000;
    let home = Home::new().with_long_transcript(MESSAGES);
    let state = tempfile::tempdir().unwrap();
    let mut program = crabtree(state.path());
    program.args(["import", "openclaw"]).arg(home.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(first.contains("messages") && !ended.success(), "it was killed in the middle: {first}");
    let done = told(&home, state.path(), &[]);
    assert_eq!(action(&done, "sessions", "agent:long:main"), "import", "it was not whole");
    assert!(done["messages"].as_u64().unwrap() < MESSAGES, "it went on where it was: {done}");
    let db = crabtree_actors::store::Db::open(
        state.path().join("store.sqlite"),
        crabtree_actors::store::Sync::Normal,
    )
    .unwrap();
    let all = db.read(|c| crabtree_actors::store::transcripts_of(c, "agent:long:main")).unwrap();
    assert_eq!(
        all.iter().map(|t| (t.visible as u64, t.total as u64)).collect::<Vec<_>>(),
        [(MESSAGES, MESSAGES)]
    );
    assert_eq!(
        fs::read_dir(state.path())
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().starts_with("import") })
            .count(),
        0
    );
}

#[test]
fn a_configuration_that_is_here_stays_unless_it_is_to_give_way_and_secrets_are_not_shown() {
    let home = Home::new();
    let state = tempfile::tempdir().unwrap();
    let own = r#"{ gateway: { port: 4711 } }"#;
    let file = state.path().join("openclaw.json");
    fs::write(&file, own).unwrap();
    let first = run(&home, state.path(), &[]);
    let page = String::from_utf8_lossy(&first.stdout).into_owned() + &String::from_utf8_lossy(&first.stderr);
    assert!(first.status.success() && page.contains("--replace-config"), "{page}");
    assert_eq!(fs::read_to_string(&file).unwrap(), own);
    let second = run(&home, state.path(), &["--replace-config", "--json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(fs::read_to_string(&file).unwrap().contains(THEIR_TOKEN));
    assert_eq!(fs::read_to_string(state.path().join("openclaw.json.bak")).unwrap(), own);
    assert_eq!((mode(&file), mode(&state.path().join("store.sqlite"))), (0o600, 0o600));
    let printed = page + &String::from_utf8_lossy(&second.stdout) + &String::from_utf8_lossy(&second.stderr);
    for secret in [THEIR_TOKEN, OPERATOR_TOKEN, NODE_TOKEN] {
        assert!(!printed.contains(secret), "{printed}");
        let store = fs::read(state.path().join("store.sqlite")).unwrap();
        assert!(!store.windows(secret.len()).any(|part| part == secret.as_bytes()), "it is not in the store");
    }
}

/// accepts: A6
#[tokio::test]
async fn neither_gateway_may_run_meanwhile() {
    let home = Home::new();
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let refused = run(&home, state.path(), &[]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("pid {}", gateway.pid())));
    assert!(run(&home, state.path(), &["--dry-run"]).status.success(), "to look is no harm");
    gateway.kill();
    let locks = home.path().join("tmp/openclaw-0");
    fs::create_dir_all(&locks).unwrap();
    fs::write(locks.join("gateway.state.lock"), json!({ "pid": std::process::id() }).to_string()).unwrap();
    let refused = run(&home, state.path(), &[]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("openclaw gateway stop"));
    fs::remove_file(locks.join("gateway.state.lock")).unwrap();
    assert!(run(&home, state.path(), &[]).status.success());
}

#[test]
fn where_there_is_nothing_nothing_is_made() {
    let outer = tempfile::tempdir().unwrap();
    let state = outer.path().join("state");
    let mut program = crabtree(&state);
    let output = program.args(["import", "openclaw"]).arg(outer.path().join("none")).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(!state.exists());
    // Nor is anything made in the installation itself.
    let home = Home::new();
    let inside = run(&home, &home.path().join("ours"), &[]);
    assert_eq!(inside.status.code(), Some(78));
    assert!(!home.path().join("ours").exists());
}

#[test]
fn a_damaged_database_is_named_and_stops_the_import() {
    let home = Home::new();
    let broken = home.path().join("agents/old/agent/openclaw-agent.sqlite");
    fs::create_dir_all(broken.parent().unwrap()).unwrap();
    fs::write(&broken, vec![b'x'; 5000]).unwrap();
    let state = tempfile::tempdir().unwrap();
    let output = run(&home, state.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("old") && text.contains("next:"), "{text}");
}
