//! The command line of secrets, and starts of the program with them.

use super::written;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program, with a state directory of its own and no environment that says otherwise.
fn program(state: &Path, args: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program.args(args).env_remove("OPENCLAW_GATEWAY_TOKEN").env("CRABTREE_STATE_DIR", state);
    program
}

fn run(state: &Path, args: &[&str]) -> Output {
    program(state, args).stdin(Stdio::null()).output().unwrap()
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

fn sealed(state: &Path, value: &str, more: &[&str]) -> String {
    let args = [&["secrets", "seal", "--stdin"], more].concat();
    let mut child = program(state, &args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    line(&child.wait_with_output().unwrap())
}

fn configured(state: &Path, config: &Value) {
    fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
}

/// accepts: K2, C5
#[test]
fn a_secret_the_gateway_cannot_do_without_stops_its_start_and_says_which() {
    let state = tempfile::tempdir().unwrap();
    let lost = json!({ "source": "file", "provider": "keys", "id": "/token" });
    let providers = json!({ "keys": { "source": "file", "path": "/nowhere/keys.json" } });
    let auth = json!({ "gateway": { "auth": { "token": lost } }, "secrets": { "providers": providers } });
    configured(state.path(), &auth);
    let ended = run(state.path(), &["run", "--port", "0"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{told}");
    assert!(
        told.contains("gateway.auth.token has no value") && told.contains("/nowhere/keys.json"),
        "{told}"
    );

    let strict = json!({
        "channels": { "loopback": { "port": 1, "token": lost } },
        "secrets": { "providers": providers, "strict": true },
    });
    configured(state.path(), &strict);
    let ended = run(state.path(), &["run", "--port", "0"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(78), "{told}");
    assert!(
        told.contains("channels.loopback.token has no value") && told.contains("secrets.strict"),
        "{told}"
    );
}

#[tokio::test]
async fn a_gateway_starts_with_a_sealed_token_and_its_own_commands_know_it() {
    let state = tempfile::tempdir().unwrap();
    let key = line(&run(state.path(), &["secrets", "key"]));
    let elsewhere = tempfile::tempdir().unwrap();
    let token = sealed(elsewhere.path(), "the-sealed-token\n", &["--key", &key]);
    assert!(!elsewhere.path().join("secrets.key").exists(), "sealing for another needs no key of one's own");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configured(state.path(), &json!({ "gateway": { "port": port, "auth": { "token": token } } }));
    assert_eq!(line(&run(state.path(), &["token"])), "the-sealed-token");
    let mut own = program(state.path(), &["run"]);
    let mut child = own.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let health = loop {
        let health = run(state.path(), &["health", "--json"]);
        if health.status.success() || Instant::now() > deadline {
            break health;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let told = String::from_utf8_lossy(&health.stderr).into_owned();
    let reload = run(state.path(), &["secrets", "reload"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(health.status.success(), "{told}");
    assert_eq!(line(&reload), "all secrets are there");
}

/// accepts: K2
#[test]
fn lists_and_checks_tell_where_secrets_are_kept_and_no_value() {
    let state = tempfile::tempdir().unwrap();
    let keys = state.path().join("keys.json");
    written(&keys, r#"{"a": "s3cret-in-file"}"#, 0o600);
    let of = |id: &str| json!({ "source": "file", "provider": "keys", "id": id });
    let channel = sealed(state.path(), "s3cret-sealed", &[]);
    configured(
        state.path(),
        &json!({
            "channels": { "telegram": { "botToken": channel }, "discord": { "enabled": false, "token": of("/off") } },
            "models": { "providers": { "x": { "apiKey": of("/a") }, "y": { "apiKey": of("/b") } } },
            "secrets": { "providers": { "keys": { "source": "file", "path": keys } } },
        }),
    );
    let list = run(state.path(), &["secrets", "list", "--json"]);
    let check = run(state.path(), &["secrets", "check", "--json"]);
    assert_eq!((list.status.code(), check.status.code()), (Some(0), Some(1)));
    let all = String::from_utf8([list.stdout, check.stdout.clone(), check.stderr].concat()).unwrap();
    assert!(!all.contains("s3cret"), "{all}");
    let checked: Value = serde_json::from_slice(&check.stdout).unwrap();
    let states: Vec<_> = checked["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["path"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [
            ("models.providers.x.apiKey", "found"),
            ("models.providers.y.apiKey", "missing"),
            ("channels.discord.token", "inactive"),
            ("channels.telegram.botToken", "found"),
        ]
    );
    let people = String::from_utf8(run(state.path(), &["secrets", "check"]).stdout).unwrap();
    assert!(people.contains("file:keys:/b") && people.contains("has nothing at /b"), "{people}");
}

/// accepts: K2
#[test]
fn a_key_that_is_being_replaced_is_never_lost_wherever_it_is_broken_off() {
    let state = tempfile::tempdir().unwrap();
    let plain = json!({ "channels": { "telegram": { "botToken": "s3cret-one" } }, "gateway": { "auth": { "token": "s3cret-two" } } });
    configured(state.path(), &plain);
    let done = line(&run(state.path(), &["secrets", "seal-config"]));
    assert!(done.contains("sealed  channels.telegram.botToken"), "{done}");
    let opens = || {
        let check = run(state.path(), &["secrets", "check", "--json"]);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        assert_eq!(line(&run(state.path(), &["token"])), "s3cret-two");
    };
    opens();
    let begun = Instant::now();
    line(&run(state.path(), &["secrets", "rotate"]));
    let whole = begun.elapsed();
    opens();
    // Spread over the time it takes, from its first breath to its last.
    for part in 0..16_u32 {
        let mut child = program(state.path(), &["secrets", "rotate"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * part / 14);
        child.kill().unwrap();
        child.wait().unwrap();
        opens();
    }
    let text = line(&run(state.path(), &["secrets", "rotate"]));
    assert!(text.contains("2 in the configuration"), "{text}");
    opens();
    assert_eq!(fs::read_to_string(state.path().join("secrets.key")).unwrap().lines().count(), 1);
}
