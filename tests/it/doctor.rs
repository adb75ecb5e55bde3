//! `crabtree doctor` on homes that are broken in one way each: it finds that, says what to do, and changes nothing unless
//! it is told to.

use crate::client::{Client, TOKEN};
use crate::gateway::Process;
use crabtree_actors::store::{Db, Sync};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What the doctor said: its exit code, its findings, and all of its text.
struct Said {
    code: Option<i32>,
    told: Value,
    text: String,
}

impl Said {
    /// The findings of a check with this status, in one text.
    fn of(&self, name: &str, status: &str) -> String {
        let checks = self.told["checks"].as_array().unwrap();
        let wanted = checks.iter().filter(|one| one["name"] == name && one["status"] == status);
        wanted.map(|one| one["seen"].as_str().unwrap()).collect::<Vec<_>>().join("; ")
    }

    fn problems(&self) -> Vec<&Value> {
        self.told["checks"].as_array().unwrap().iter().filter(|one| one["status"] == "problem").collect()
    }
}

/// A free port, so that nothing else on this machine is in the way.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn doctor(state: &Path, args: &[&str], env: &[(&str, &str)]) -> Said {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program.args(["doctor", "--json"]).args(args).env_remove("OPENCLAW_GATEWAY_TOKEN");
    program.env("CRABTREE_STATE_DIR", state).env("HOME", state.parent().unwrap());
    program.env("CRABTREE_GATEWAY__PORT", free_port().to_string()).envs(env.iter().copied());
    let output = program.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    Said { code: output.status.code(), told, text }
}

/// A state directory as a gateway makes it, with this configuration.
fn home(config: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, PermissionsExt::from_mode(0o700)).unwrap();
    private(&state.join("openclaw.json"), config.as_bytes());
    (dir, state)
}

fn private(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Every file below, with its mode and content.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let found = entry.metadata().unwrap();
            let content = if found.is_dir() { vec![] } else { fs::read(entry.path()).unwrap() };
            all.insert(entry.path(), (found.permissions().mode(), content));
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    all
}

/// A home that is broken: the doctor finds a problem (or not), exits accordingly, and leaves everything as it was.
fn broken(config: &str, env: &[(&str, &str)], breaks: impl FnOnce(&Path)) -> Said {
    let (dir, state) = home(config);
    breaks(&state);
    let before = tree(dir.path());
    let said = doctor(&state, &[], env);
    assert!(tree(dir.path()) == before, "{:?}", tree(dir.path()).keys());
    assert_eq!(said.code, Some(i32::from(!said.problems().is_empty())), "{}", said.text);
    said
}

#[test]
fn a_new_home_and_one_that_is_not_there_have_no_problem() {
    let said = broken("{}", &[], |_| {});
    assert_eq!((said.problems(), &said.told["ok"]), (vec![], &json!(true)));
    assert!(said.of("gateway", "warn").contains("does not run"), "{}", said.text);
    assert!(said.of("port", "ok").contains("is free"), "{}", said.text);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("none");
    let said = doctor(&state, &[], &[]);
    assert!(said.code == Some(0) && said.of("state", "warn").contains("not there"), "{}", said.text);
    assert!(!state.exists());
    let said = doctor(&state, &["--fix"], &[]);
    assert_eq!((said.code, fs::metadata(&state).unwrap().permissions().mode() & 0o777), (Some(0), 0o700));
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_problem_and_an_unknown_key_a_warning() {
    let said = broken("{ gateway: { port: ", &[], |_| {});
    assert!(said.of("config", "problem").contains("openclaw.json"), "{}", said.text);
    let said = broken("{ session: { dmScope: 'nonsense' } }", &[], |_| {});
    assert!(said.of("config", "problem").contains("session.dmScope"), "{}", said.text);
    let said = broken("{ gatewey: {} }", &[], |_| {});
    assert!(said.code == Some(0) && said.of("config", "warn").contains("gatewey"), "{}", said.text);
}

#[test]
fn a_secret_that_leads_nowhere_is_a_problem_and_none_is_ever_shown() {
    let config = "{ channels: { telegram: { botToken: '${MY_BOT}' } }, hooks: { token: 'SECRET-PLAIN' } }";
    let said = broken(config, &[], |_| {});
    assert!(said.of("secrets", "problem").contains("MY_BOT"), "{}", said.text);
    let token = "123456:SECRET-aaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let said = broken(config, &[("MY_BOT", token)], |_| {});
    assert!(said.problems().is_empty() && !said.text.contains("SECRET"), "{}", said.text);
    let said = broken(config, &[("MY_BOT", "SECRET-malformed")], |_| {});
    assert!(said.of("channels", "problem").contains("botToken"), "{}", said.text);
    assert!(!said.text.contains("SECRET"), "{}", said.text);
}

#[test]
fn what_is_open_to_others_is_a_problem_that_fix_mends_and_nothing_else() {
    let (dir, state) = home("{}");
    private(&state.join("gateway.token"), b"token");
    fs::create_dir(state.join("media")).unwrap();
    for (path, mode) in [("", 0o755), ("openclaw.json", 0o644), ("gateway.token", 0o640), ("media", 0o755)] {
        fs::set_permissions(state.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    let before = tree(dir.path());
    let said = doctor(&state, &[], &[]);
    assert!(said.code == Some(1) && tree(dir.path()) == before);
    let told = said.of("state", "problem");
    for name in ["state is open", "openclaw.json", "gateway.token", "media"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    let said = doctor(&state, &["--fix"], &[]);
    assert_eq!((said.code, said.told["mended"].as_array().unwrap().len()), (Some(0), 4), "{}", said.text);
    let after = tree(dir.path());
    for (path, (_, content)) in &before {
        let (mode, now) = &after[path];
        assert!(now == content && mode & 0o077 == 0, "{}", path.display());
    }
    let said = doctor(&state, &["--fix"], &[]);
    assert_eq!(said.told["mended"], json!([]), "there is nothing left to mend");
}

#[test]
fn a_port_that_somebody_else_holds_is_a_problem_that_names_them() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port().to_string();
    let said = broken("{}", &[("CRABTREE_GATEWAY__PORT", &port)], |_| {});
    let told = said.of("port", "problem");
    assert!(told.contains(&port), "{}", said.text);
    if cfg!(target_os = "linux") {
        assert!(told.contains(&std::process::id().to_string()), "{told}");
    }
}

#[test]
fn a_damaged_database_is_a_problem_and_so_is_a_ledger_that_was_changed() {
    let said = broken("{}", &[], |state| private(&state.join("store.sqlite"), &[b'x'; 9000]));
    assert!(said.of("store", "problem").contains("damaged"), "{}", said.text);
    let said = broken("{}", &[], |state| {
        let db = Db::open(state.join("store.sqlite"), Sync::Full).unwrap();
        let sql = "INSERT INTO audit VALUES (1, 1, '{}', zeroblob(32))";
        db.write(|conn| Ok(conn.execute_batch(sql)?)).unwrap();
    });
    assert!(!said.of("store", "ok").is_empty(), "{}", said.text);
    assert!(said.of("audit", "problem").contains("row 1"), "{}", said.text);
}

#[test]
fn a_program_that_the_configuration_needs_and_is_not_there_is_a_problem() {
    let config = "{ mcp: { servers: { x: { command: '/no/such/server' } } } }";
    let said = broken(config, &[], |_| {});
    assert!(said.of("programs", "problem").contains("mcp.servers.x"), "{}", said.text);
}

#[tokio::test]
async fn a_gateway_that_runs_is_asked_and_one_that_was_killed_is_looked_at_without_a_trace() {
    let (dir, state) = home("{}");
    let process = Process::start(&state).await;
    let port = process.addr.port().to_string();
    let env = [("OPENCLAW_GATEWAY_TOKEN", TOKEN), ("CRABTREE_GATEWAY__PORT", port.as_str())];
    let mut client = Client::admin(process.addr).await;
    client.call("sessions.create", json!({ "key": "a" })).await;
    let (of, home) = (state.clone(), env.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let asked = move || {
        let env: Vec<_> = home.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        doctor(&of, &["--timeout-ms", "1500"], &env)
    };
    let said = tokio::task::spawn_blocking(asked.clone()).await.unwrap();
    assert_eq!((said.code, &said.told["gatewayRuns"]), (Some(0), &json!(true)), "{}", said.text);
    assert!(said.of("store", "ok").contains("the gateway has read all of it"), "{}", said.text);
    assert!(said.of("audit", "ok").contains("as they were written"), "{}", said.text);
    assert!(said.of("port", "ok").contains("held by this gateway"), "{}", said.text);
    assert!(said.of("gateway", "ok").contains(&process.pid().to_string()), "{}", said.text);

    client.call("system.actors.park", json!({ "path": "gateway/scheduler" })).await;
    client
        .event(|e| e["event"] == "health" && e["payload"]["actors"]["parked"] == json!(["gateway/scheduler"]))
        .await;
    let said = tokio::task::spawn_blocking(asked.clone()).await.unwrap();
    assert!(said.of("gateway", "problem").contains("gateway/scheduler is parked"), "{}", said.text);

    process.signal("STOP");
    let said = tokio::task::spawn_blocking(asked.clone()).await.unwrap();
    process.signal("CONT");
    assert!(said.of("gateway", "problem").contains("does not answer"), "{}", said.text);

    process.kill();
    let before = tree(dir.path());
    let said = tokio::task::spawn_blocking(asked).await.unwrap();
    assert!(tree(dir.path()) == before, "{:?}", tree(dir.path()).keys());
    assert_eq!((said.code, &said.told["gatewayRuns"]), (Some(0), &json!(false)), "{}", said.text);
    assert!(said.of("store", "ok").contains("is whole"), "{}", said.text);
}

#[test]
fn people_read_a_table_and_the_features_are_listed_with_how_they_are_verified() {
    let (_dir, state) = home("{ gatewey: {} }");
    let shown = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        program.arg("doctor").args(args).env("CRABTREE_STATE_DIR", &state);
        program.env("CRABTREE_GATEWAY__PORT", free_port().to_string());
        let output = program.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = shown(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("config     ok") && text.contains("→") && text.contains("0 problems"), "{text}");
    let (code, text) = shown(&["--features"]);
    assert!(code == Some(0) && text.contains("crabtree channels list"), "{text}");
}
