//! The log of a real process: its file, and who follows it.

use crate::client::{Client, TOKEN};
use crate::gateway::Process;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

/// How long is waited for a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// accepts: K10
#[tokio::test]
async fn the_file_has_every_line_and_its_level_changes_while_the_gateway_runs() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("openclaw.json");
    std::fs::write(&config, r#"{ "logging": { "file": "logs/gateway.log", "consoleLevel": "silent" } }"#)
        .unwrap();
    let gateway = Process::start(state.path()).await;
    let lines = || {
        let text = std::fs::read_to_string(state.path().join("logs/gateway.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let until = async |what: &dyn Fn(&Value) -> bool| {
        let found = async {
            while !lines().iter().any(what) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(PATIENCE, found).await.is_ok(), "{:?}", lines());
    };
    until(&|line| line["message"].as_str().unwrap().contains("Gateway listening on ws://")).await;
    assert!(!lines().iter().any(|line| line["_meta"]["logLevelName"] == "DEBUG"));
    let debug = r#"{ "logging": { "file": "logs/gateway.log", "subsystems": { "config": "silent" }, "level": "debug" } }"#;
    std::fs::write(&config, debug).unwrap();
    // An actor that starts anew is told at this level.
    let mut client = Client::admin(gateway.addr).await;
    let found = async {
        while !lines().iter().any(|line| line["_meta"]["logLevelName"] == "DEBUG") {
            client.call("system.actors.restart", json!({ "path": "gateway/presence" })).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    assert!(timeout(PATIENCE, found).await.is_ok(), "{:?}", lines());
}

#[tokio::test]
async fn who_follows_the_log_follows_it_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let addr = gateway.addr;
    let mut reader = tokio::process::Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .args(["logs", "-f", "--level", "info", "--subsystem", "gateway", "--token", TOKEN])
        .args(["--url", &format!("ws://{addr}")])
        .env("CRABTREE_STATE_DIR", state.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut until_listening = async || {
        let found = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it goes on");
                assert!(line.contains(" gateway: "), "{line}");
                if line.contains("Gateway listening") {
                    return;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the line comes");
    };
    until_listening().await;
    gateway.kill();
    let _gateway = Process::restart(state.path(), addr).await;
    until_listening().await;
    reader.kill().await.unwrap();
}
