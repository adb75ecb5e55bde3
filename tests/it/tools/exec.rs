//! Commands in turns: who agrees to them, what they do to the workspace, and that a crash does not run them twice.

use crate::client::{Client, Intro};
use crate::gateway::{Embedded, Process};
use crate::mock_model::models;
use crabtree_actors::estate::Brought;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// A client that is asked.
async fn decider(addr: std::net::SocketAddr) -> Client {
    let intro = Intro { caps: vec!["tool-events", "exec-approvals"], ..Intro::default() };
    Client::connect(addr, &intro).await.unwrap()
}

/// A gateway whose agent does what `/tool` says, with these settings of `tools.exec`.
async fn gateway(exec: Value) -> (Embedded, Client) {
    let brought = Brought { models: models(), ..Brought::default() };
    let gateway = Embedded::with_brought(json!({ "tools": { "exec": exec } }), brought).await;
    let client = decider(gateway.addr).await;
    (gateway, client)
}

/// Has the agent run it; the text of the result when the turn has ended.
async fn run(client: &mut Client, command: &str, run: &str) -> String {
    start(client, command, run).await;
    assert_eq!(client.chat_end(run).await["state"], "final");
    result(client, "main").await
}

async fn start(client: &mut Client, command: &str, run: &str) {
    let message = format!("/tool exec {}", json!({ "command": command }));
    let said = json!({ "sessionKey": "main", "message": message, "idempotencyKey": run });
    client.call("chat.send", said).await;
}

/// What the last tool of a session came to.
async fn result(client: &mut Client, session: &str) -> String {
    let page = client.call("chat.history", json!({ "sessionKey": session })).await;
    let rows = page["messages"].as_array().unwrap().clone();
    let last = rows.iter().rfind(|row| row["role"] == "toolResult").expect("a tool has answered");
    last["content"][0]["text"].as_str().unwrap().to_owned()
}

async fn asked(client: &mut Client) -> Value {
    client.event(|e| e["event"] == "exec.approval.requested").await["payload"].clone()
}

#[tokio::test]
async fn a_command_works_in_the_workspace_and_its_output_is_told_as_it_comes() {
    let (gateway, mut client) = gateway(json!({})).await;
    let text = run(&mut client, "echo made > here; cat here; pwd", "k1").await;
    let workspace = gateway.state.path().join("workspace").canonicalize().unwrap();
    assert_eq!(text, format!("made\n{}", workspace.display()));
    assert!(workspace.join("here").exists());
    let mut events = client.events.iter().map(|e| &e["payload"]);
    let end = events.rfind(|p| p["stream"] == "command_output").unwrap();
    assert_eq!((&end["data"]["status"], &end["data"]["exitCode"]), (&json!("completed"), &json!(0)), "{end}");
}

/// Where bubblewrap is not installed, or the system lets nobody make namespaces, the command is refused instead.
#[tokio::test]
async fn in_the_sandbox_only_the_workspace_can_be_written_and_there_is_no_network() {
    let works = std::process::Command::new("bwrap")
        .args(["--ro-bind", "/", "/", "--unshare-all", "true"])
        .status()
        .is_ok_and(|status| status.success());
    let (gateway, mut client) = gateway(json!({ "sandbox": "bwrap" })).await;
    if !works {
        assert!(std::env::var_os("CI").is_none(), "CI has bubblewrap");
        assert!(!run(&mut client, "echo in", "k1").await.starts_with("in\n"));
        return;
    }
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let forbidden = outside.path().join("file");
    let config = gateway.state.path().join("openclaw.json");
    let address = gateway.addr;
    let command = format!(
        "echo in > inside; cat inside; echo x > {} || echo read-only; ls {} || echo hidden; \
         (exec 3<>/dev/tcp/{}/{}) || echo offline",
        forbidden.display(),
        config.display(),
        address.ip(),
        address.port(),
    );
    std::fs::write(&config, "{}").unwrap();
    let text = run(&mut client, &format!("bash -c '{command}' 2>/dev/null"), "k1").await;
    assert_eq!(text, "in\nread-only\nhidden\noffline");
    assert!(!forbidden.exists() && gateway.state.path().join("workspace/inside").exists());
}

#[tokio::test]
async fn what_is_denied_or_not_on_the_list_is_not_run() {
    let (gateway, mut client) = gateway(json!({ "security": "deny" })).await;
    let text = run(&mut client, "touch denied", "k1").await;
    assert!(text.contains("exec security is \"deny\""), "{text}");
    let (listed, mut other) = self::gateway(json!({ "security": "allowlist", "ask": "off" })).await;
    let text = run(&mut other, "touch unlisted", "k1").await;
    assert!(text.contains("not on the allowlist"), "{text}");
    let made = |gateway: &Embedded, name: &str| gateway.state.path().join("workspace").join(name).exists();
    assert!(!made(&gateway, "denied") && !made(&listed, "unlisted"));
}

/// accepts: E9
#[tokio::test]
async fn a_person_is_asked_and_the_command_waits_for_the_answer() {
    let (gateway, mut client) = gateway(json!({ "security": "full", "ask": "always" })).await;
    start(&mut client, "echo ran >> log", "k1").await;
    let question = asked(&mut client).await;
    let request = &question["request"];
    assert_eq!(
        (&request["command"], &request["sessionKey"]),
        (&json!("echo ran >> log"), &json!("agent:main:main"))
    );
    assert_eq!((&request["runId"], &request["agentId"]), (&json!("k1"), &json!("main")), "{request}");
    let log = gateway.state.path().join("workspace/log");
    assert!(!log.exists(), "nothing runs before the answer");
    client.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "allow-once" })).await;
    assert_eq!(client.chat_end("k1").await["state"], "final");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n");

    client.events.clear();
    start(&mut client, "echo again >> log", "k2").await;
    let question = asked(&mut client).await;
    client.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "deny" })).await;
    assert_eq!(client.chat_end("k2").await["state"], "final");
    assert!(result(&mut client, "main").await.starts_with("Denied: a person"), "the model hears of it");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n");
}

#[tokio::test]
async fn what_is_allowed_for_good_is_not_asked_for_again() {
    let (_gateway, mut client) = gateway(json!({ "security": "allowlist", "ask": "on-miss" })).await;
    start(&mut client, "uname -s", "k1").await;
    let question = asked(&mut client).await;
    client.call("exec.approval.resolve", json!({ "id": question["id"], "decision": "allow-always" })).await;
    client.chat_end("k1").await;
    client.events.clear();
    assert!(!run(&mut client, "uname -m", "k2").await.is_empty());
    assert!(
        client.events.iter().all(|e| e["event"] != "exec.approval.requested"),
        "the program is listed now"
    );
    let listed =
        client.call("exec.approvals.get", json!({})).await["file"]["agents"]["main"]["allowlist"].clone();
    assert!(listed[0]["pattern"].as_str().unwrap().ends_with("/uname"), "{listed}");
}

#[tokio::test]
async fn an_abort_takes_the_question_back() {
    let (gateway, mut client) = gateway(json!({ "ask": "always" })).await;
    start(&mut client, "touch made", "k1").await;
    let question = asked(&mut client).await;
    client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    let id = question["id"].clone();
    client.event(move |e| e["event"] == "exec.approval.resolved" && e["payload"]["id"] == id).await;
    assert_eq!(client.call("exec.approval.list", json!({})).await, json!([]));
    assert!(!gateway.state.path().join("workspace/made").exists());
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came about");
}

fn configured(state: &Path, exec: Value) {
    let config = json!({ "tools": { "exec": exec }, "gateway": { "chaos": { "enabled": true } } });
    std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
}

/// The command has begun when the process is killed: it ends with it, and is not run again; the model is told.
#[tokio::test]
async fn a_command_that_was_cut_off_by_kill_9_is_not_run_again() {
    let state = tempfile::tempdir().unwrap();
    configured(state.path(), json!({}));
    let process = Process::start(state.path()).await;
    let mut client = decider(process.addr).await;
    start(&mut client, "echo begun >> log; sleep 60; echo ended >> log", "k1").await;
    let log = state.path().join("workspace/log");
    until(|| log.exists()).await;
    process.kill();
    let process = Process::start(state.path()).await;
    let mut client = decider(process.addr).await;
    let waited = client.call("agent.wait", json!({ "runId": "k1", "timeoutMs": 15_000 })).await;
    assert_eq!(waited["status"], "ok", "{waited}");
    let text = result(&mut client, "main").await;
    assert!(text.contains("cut off by a crash"), "{text}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "begun\n");
}

/// The question is there after a restart, its answer runs the command once, and the turn ends under its own name.
#[tokio::test]
async fn a_command_that_waits_for_an_answer_waits_over_kill_9() {
    let state = tempfile::tempdir().unwrap();
    configured(state.path(), json!({ "ask": "always" }));
    let process = Process::start(state.path()).await;
    let mut client = decider(process.addr).await;
    start(&mut client, "echo ran >> log", "k1").await;
    let before = asked(&mut client).await;
    process.kill();
    let process = Process::start(state.path()).await;
    let mut client = decider(process.addr).await;
    let pending = client.call("exec.approval.list", json!({})).await;
    assert_eq!((pending.as_array().unwrap().len(), &pending[0]["id"]), (1, &before["id"]), "{pending}");
    client.call("exec.approval.resolve", json!({ "id": before["id"], "decision": "allow-once" })).await;
    let waited = client.call("agent.wait", json!({ "runId": "k1", "timeoutMs": 15_000 })).await;
    assert_eq!(waited["status"], "ok", "{waited}");
    assert_eq!(std::fs::read_to_string(state.path().join("workspace/log")).unwrap(), "ran\n");
}
