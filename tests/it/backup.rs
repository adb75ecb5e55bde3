//! Backups, from outside: made of a gateway at work, verified, restored elsewhere; broken off and damaged.

use crate::client::{Client, Intro, TOKEN};
use crate::gateway::Process;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PASSPHRASE: &str = "a horse, a battery and a staple";
/// How often a test looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long it waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn crabtree(state: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program
        .env("CRABTREE_STATE_DIR", state)
        .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
        .env("CRABTREE_BACKUP_PASSPHRASE", PASSPHRASE)
        .stdin(Stdio::null())
        .args(["--json", "backup"]);
    program
}

fn output(state: &Path, arguments: &[&str]) -> Output {
    crabtree(state).args(arguments).output().unwrap()
}

/// What it says for programs, and its exit code.
fn told(state: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = output(state, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), value)
}

#[track_caller]
fn done(state: &Path, arguments: &[&str]) -> Value {
    let (code, value) = told(state, arguments);
    assert_eq!((code, &value["ok"]), (0, &json!(true)), "{value}");
    value
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn device(auth: Value) -> Intro {
    Intro {
        scopes: vec!["operator.read", "operator.write"],
        auth,
        device: Some([83; 32]),
        ..Intro::default()
    }
}

async fn say(client: &mut Client, key: &str, message: &str) {
    let turn = json!({ "sessionKey": "main", "message": message, "idempotencyKey": key });
    client.call("chat.send", turn).await;
    client.chat_end(key).await;
}

async fn history(client: &mut Client) -> String {
    client.call("chat.history", json!({ "sessionKey": "main", "limit": 1000 })).await["messages"].to_string()
}

#[tokio::test]
async fn a_gateway_at_work_is_backed_up_and_lives_on_elsewhere() {
    let (state, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gateway = Process::start(state.path()).await;
    let mut owner = Client::connect(gateway.addr, &device(json!({ "token": TOKEN }))).await.unwrap();
    let token = owner.hello["auth"]["deviceToken"].clone();
    assert!(token.is_string(), "{}", owner.hello);
    say(&mut owner, "k-before", "the first words").await;

    // It is written to while the backup is made.
    let addr = gateway.addr;
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let mut client = Client::admin(addr).await;
        let mut count = 0;
        while stopped.try_recv().is_err() {
            say(&mut client, &format!("k-{count}"), &format!("word {count}")).await;
            count += 1;
        }
        count
    });
    let (dir, to) = (state.path().to_owned(), kept.path().to_owned());
    let made = tokio::task::spawn_blocking(move || done(&dir, &["create", text(&to)])).await.unwrap();
    stop.send(()).unwrap();
    assert!(writing.await.unwrap() > 0, "it went on writing");
    assert_eq!((&made["running"], &made["schemaVersion"].is_u64()), (&json!(true), &true), "{made}");
    let path = PathBuf::from(made["path"].as_str().unwrap());
    assert_eq!(names(kept.path()), [path.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(&state.path().join("backup.tmp")), ["lock"], "nothing is left over");
    let bytes = fs::read(&path).unwrap();
    for secret in ["the first words", token.as_str().unwrap(), "device.key", "openclaw.json"] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is sealed");
    }
    assert_eq!(done(state.path(), &["verify", text(&path)])["restorable"], true);

    // A gateway that runs is not replaced.
    let (code, refused) = told(state.path(), &["restore", "--force", text(&path)]);
    assert_eq!(code, 78, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("owns the state directory"), "{refused}");
    gateway.kill();

    let elsewhere = tempfile::tempdir().unwrap();
    let new = elsewhere.path().join("state");
    done(&new, &["restore", "--dry-run", text(&path)]);
    assert!(!new.exists());
    done(&new, &["restore", text(&path)]);
    let gateway = Process::start(&new).await;
    let known = device(json!({ "deviceToken": token }));
    let mut owner = Client::connect(gateway.addr, &known).await.expect("its token is as good as before");
    assert_eq!(owner.hello["auth"]["method"], "device-token");
    assert!(history(&mut owner).await.contains("the first words"));
    say(&mut owner, "k-after", "on it goes").await;
    drop(gateway);

    // What a killed gateway left is backed up without one.
    let other = kept.path().join("at-rest.tar");
    let made = done(state.path(), &["create", "--no-workspaces", text(&other)]);
    assert_eq!(made["running"], false, "{made}");
    let (code, refused) = told(state.path(), &["create", text(&other)]);
    assert_eq!(code, 78, "nothing is written over: {refused}");
    let within = state.path().join("backup.tar");
    let (code, refused) = told(state.path(), &["create", text(&within)]);
    assert!(code == 78 && refused.to_string().contains("every later backup"), "{refused}");
}

/// A state directory of a gateway that ran, with a file that takes a while to write.
fn used(state: &Path, mark: &str) {
    fs::create_dir_all(state.join("media")).unwrap();
    fs::write(state.join("mark"), mark).unwrap();
    let noise: Vec<u8> =
        (0..24_u64 << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    fs::write(state.join("media/large"), noise).unwrap();
    drop(
        crabtree_actors::store::Db::open(state.join("store.sqlite"), crabtree_actors::store::Sync::Normal)
            .unwrap(),
    );
}

/// Waits until something is there while the program still works.
fn until(there: &Path, child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while !there.exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "{} came", there.display());
        std::thread::sleep(LOOK);
    }
}

fn kill(mut child: Child) -> bool {
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

#[test]
fn killed_at_any_time_there_is_no_half_backup_and_no_half_state() {
    let outer = tempfile::tempdir().unwrap();
    let (state, kept) = (outer.path().join("state"), outer.path().join("kept"));
    used(&state, "old");
    fs::create_dir(&kept).unwrap();
    let spawn = |arguments: &[&str]| {
        crabtree(&state).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut creating = spawn(&["create", text(&kept)]);
    until(&kept.join(".crabtree-backup.part"), &mut creating);
    assert!(kill(creating), "it was killed in the middle");
    assert_eq!(names(&kept), [".crabtree-backup.part"], "nothing that looks like a backup");
    let path = kept.join("b.tar");
    done(&state, &["create", text(&path)]);
    assert_eq!(names(&kept), ["b.tar"]);

    fs::write(state.join("mark"), "newer").unwrap();
    let mut killed = 0;
    for wait in [0, 30, 120, 400] {
        let mut restoring = spawn(&["restore", "--force", text(&path)]);
        until(&outer.path().join("state.restoring"), &mut restoring);
        std::thread::sleep(Duration::from_millis(wait));
        killed += usize::from(kill(restoring));
        let mark = fs::read_to_string(state.join("mark")).unwrap();
        let whole = fs::metadata(state.join("media/large")).unwrap().len() == 24 << 20;
        assert!(whole && ["old", "newer"].contains(&mark.as_str()) && state.join("store.sqlite").exists());
        let aside: Vec<_> = names(outer.path()).into_iter().filter(|name| name.contains("before")).collect();
        assert!(mark == "newer" || !aside.is_empty(), "the old state is kept: {aside:?}");
    }
    assert!(killed > 0, "one was killed in the middle");
    let restored = done(&state, &["restore", "--force", text(&path)]);
    assert_eq!(fs::read_to_string(state.join("mark")).unwrap(), "old");
    assert!(Path::new(restored["aside"].as_str().unwrap()).join("mark").exists());
    assert!(!outer.path().join("state.restoring").exists());
}

#[test]
fn what_is_wrong_with_a_backup_is_said_and_has_its_exit_code() {
    let outer = tempfile::tempdir().unwrap();
    let (state, path) = (outer.path().join("state"), outer.path().join("b.tar"));
    fs::create_dir(&state).unwrap();
    // Not beside its state, and not all of one file.
    let config = outer.path().join("etc/openclaw.json");
    fs::create_dir_all(config.parent().unwrap().join("more")).unwrap();
    fs::write(&config, r#"{ "logging": { "$include": "more/logging.json" } }"#).unwrap();
    fs::write(config.parent().unwrap().join("more/logging.json"), r#"{ "file": "day.log" }"#).unwrap();
    fs::write(state.join("day.log"), "line").unwrap();
    let made = done(&state, &["create", text(&path), "--config", text(&config)]);
    assert!(made["leftOut"].to_string().contains("the log"), "{made}");
    let new = outer.path().join("new");
    let restored = done(&new, &["restore", text(&path)]);
    assert_eq!(fs::read(restored["config"].as_str().unwrap()).unwrap(), fs::read(&config).unwrap());
    assert!(new.join("config.restored/more/logging.json").exists() && !new.join("day.log").exists());
    let (code, refused) = told(&new, &["restore", text(&path)]);
    assert!(code == 78 && refused.to_string().contains("is not empty"), "{refused}");

    let words = outer.path().join("words");
    fs::write(&words, "something else entirely\n").unwrap();
    let with = ["verify", text(&path), "--passphrase-file", text(&words)];
    let (code, refused) = told(&state, &with);
    assert_eq!((code, &refused["error"]["message"]), (77, &json!("the passphrase is wrong")));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (code, refused) = told(&state, &["verify", text(&path)]);
    assert!(code == 1 && refused.to_string().contains("damaged"), "{refused}");
    let (code, _) = told(&outer.path().join("none"), &["restore", text(&path)]);
    assert!(code == 1 && !outer.path().join("none").exists());

    fs::write(&words, "short").unwrap();
    let elsewhere = outer.path().join("c.tar");
    let (code, refused) = told(&state, &["create", text(&elsewhere), "--passphrase-file", text(&words)]);
    assert!(code == 78 && refused.to_string().contains("at least 8"), "{refused}");
    let silent =
        crabtree(&state).env_remove("CRABTREE_BACKUP_PASSPHRASE").args(["create", text(&elsewhere)]).output();
    assert!(String::from_utf8(silent.unwrap().stdout).unwrap().contains("--passphrase-file"));
    assert!(!elsewhere.exists());
}
