//! What a node does, and what it does not.

use super::Machine;
use super::machine::{Host, approve, invocation};
use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const FILES: [&str; 4] = ["dir.list", "file.fetch", "file.stat", "file.write"];

struct Home {
    _gateway: Embedded,
    operator: Client,
    machine: Machine,
    host: Host,
    node: String,
}

impl Home {
    async fn with(args: &[&str]) -> Self {
        let gateway =
            Embedded::with(json!({ "gateway": { "nodes": { "commands": { "allow": FILES } } } })).await;
        let reviewer = Intro { caps: vec!["approvals"], ..Intro::default() };
        let mut operator = Client::connect(gateway.addr, &reviewer).await.unwrap();
        let machine = Machine::new();
        let mut host = machine.with_token(gateway.addr, args);
        let node = approve(&mut operator, &mut host).await;
        Self { _gateway: gateway, operator, machine, host, node }
    }

    /// What comes of a command.
    async fn done(&mut self, command: &str, params: Value) -> Value {
        self.operator.call("node.invoke", invocation(&self.node, command, params)).await["payload"].clone()
    }

    async fn refused(&mut self, command: &str, params: Value) -> Value {
        self.operator.refused("node.invoke", invocation(&self.node, command, params)).await
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.machine.dir.path().join(name)
    }
}

/// accepts: F1, F2, F5
#[tokio::test]
async fn a_node_is_approved_says_what_it_offers_and_finds_programs() {
    let mut home = Home::with(&[]).await;
    let shown = home.operator.call("node.describe", json!({ "nodeId": home.node })).await;
    let offered = "dir.list file.fetch file.stat file.write fs.listDir system.execApprovals.get \
        system.execApprovals.set system.run system.run.prepare system.which";
    assert_eq!(shown["commands"], json!(offered.split_whitespace().collect::<Vec<_>>()));
    assert_eq!((&shown["caps"], &shown["displayName"]), (&json!(["file", "system"]), &json!("attic")));
    assert_eq!((&shown["clientId"], &shown["approvalState"]), (&json!("node-host"), &json!("approved")));
    assert_eq!(shown["pathEnv"], json!(std::env::var("PATH").unwrap()));
    let found = home.done("system.which", json!({ "bins": ["sh", "no-such-program", "../sh", ""] })).await;
    let bins = found["bins"].as_object().unwrap();
    assert_eq!(bins.keys().collect::<Vec<_>>(), ["sh"]);
    assert!(bins["sh"].as_str().unwrap().ends_with("/sh"));
    let stats = home.operator.event(|e| e["event"] == "node.hostStats").await["payload"].clone();
    assert_eq!(stats["nodeId"], home.node.as_str());
    assert!(stats["hostStats"]["memoryTotalBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    let done = home.host.says("done").await;
    assert_eq!((&done["command"], &done["ok"]), (&json!("system.which"), &json!(true)));
    let (status, content) = home.machine.status(&["--token", crate::client::TOKEN]).await;
    assert!(content, "{status}");
    assert_eq!((&status["connected"], &status["displayName"]), (&json!(true), &json!("attic")));
}

/// The chain of the recording `a2`.
/// accepts: G2
#[tokio::test]
async fn a_command_runs_once_when_a_person_agreed_and_not_at_all_before() {
    let mut home = Home::with(&[]).await;
    let log = home.file("ran");
    let line = format!("echo ran >> {}; echo out; echo err >&2; exit 3", log.display());
    let asked = json!({ "command": ["sh", "-c", line] });
    let refused = home.refused("system.run", asked.clone()).await;
    let recorded = json!({ "code": "SYSTEM_RUN_DENIED", "message": "SYSTEM_RUN_DENIED: approval required" });
    let expected = json!({
        "code": "UNAVAILABLE", "message": "SYSTEM_RUN_DENIED: SYSTEM_RUN_DENIED: approval required",
        "details": { "nodeCommandDispatched": true, "nodeError": recorded },
    });
    assert_eq!(refused, expected);
    let nonsense = home.refused("system.run", json!({ "command": "ls" })).await;
    assert_eq!(nonsense["message"], "INVALID_REQUEST: command required");

    let prepared = home.done("system.run.prepare", asked).await;
    let plan = prepared["plan"].clone();
    assert_eq!(prepared["execPolicy"], json!({ "security": "allowlist", "ask": "on-miss" }));
    let request = json!({
        "id": "plan-1", "command": plan["commandText"], "commandArgv": plan["argv"], "systemRunPlan": plan,
        "nodeId": home.node, "host": "node", "cwd": plan["cwd"], "twoPhase": true, "timeoutMs": 30000,
        "requireDeliveryRoute": false,
    });
    home.operator.call("exec.approval.request", request).await;
    home.operator.call("exec.approval.resolve", json!({ "id": "plan-1", "decision": "allow-once" })).await;
    let agreed = json!({
        "command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"], "systemRunPlan": plan,
        "runId": "plan-1", "approved": true, "approvalDecision": "allow-once",
    });
    let both = [
        home.operator.send("node.invoke", invocation(&home.node, "system.run", agreed.clone())).await,
        home.operator.send("node.invoke", invocation(&home.node, "system.run", agreed)).await,
    ];
    let mut answers = [home.operator.response(&both[0]).await, home.operator.response(&both[1]).await];
    answers.sort_by_key(|answer| answer["ok"].as_bool());
    assert_eq!(answers[0]["error"]["message"], "approval required");
    let expected = json!({
        "exitCode": 3, "timedOut": false, "success": false, "stdout": "out\n", "stderr": "err\n", "error": null,
    });
    assert_eq!(answers[1]["payload"]["payload"], expected);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n");
}

#[tokio::test]
async fn the_rules_are_read_and_changed_from_the_gateway_and_never_beyond_the_owners() {
    let mut home = Home::with(&[]).await;
    let which = home.done("system.which", json!({ "bins": ["uname"] })).await["bins"]["uname"].clone();
    let shown = home.operator.call("exec.approvals.node.get", json!({ "nodeId": home.node })).await;
    assert_eq!((&shown["exists"], shown.get("resolvedDefaults")), (&json!(false), None));
    let allow = json!({ "version": 1, "defaults": { "security": "full", "ask": "off" },
        "agents": { "main": { "allowlist": [{ "pattern": which }] } } });
    let change = json!({ "nodeId": home.node, "file": allow, "baseHash": shown["hash"] });
    let changed = home.operator.call("exec.approvals.node.set", change.clone()).await;
    assert_eq!(changed["file"]["agents"]["main"]["allowlist"][0]["pattern"], which);
    let stale = home.operator.refused("exec.approvals.node.set", change).await;
    assert!(stale["message"].as_str().unwrap().contains("exec approvals changed"), "{stale}");
    let done = home.done("system.run", json!({ "command": ["uname", "-s"] })).await;
    assert_eq!((&done["success"], &done["exitCode"]), (&json!(true), &json!(0)));
    let refused = home.refused("system.run", json!({ "command": ["sh", "-c", "true"] })).await;
    assert!(refused["message"].as_str().unwrap().contains("approval required"), "{refused}");
    // Its own document, not the one of a gateway with the same state directory.
    assert!(home.machine.state().join("node/exec-approvals.json").exists());
}

#[tokio::test]
async fn with_full_anything_runs_within_its_time() {
    let mut home = Home::with(&["--exec", "full"]).await;
    let missing = home.done("system.run", json!({ "command": ["/no/such/program"] })).await;
    assert_eq!(missing["error"], "Command failed during launch or output capture (ENOENT)");
    let late = home.done("system.run", json!({ "command": ["sleep", "100"], "timeoutMs": 100 })).await;
    assert_eq!((&late["exitCode"], &late["timedOut"]), (&json!(124), &json!(true)));
    let env = json!({ "command": ["sh", "-c", "echo $A; pwd"], "env": { "A": "b" }, "cwd": home.machine.given("") });
    let said = home.done("system.run", env).await["stdout"].clone();
    assert_eq!(said, format!("b\n{}\n", home.machine.given("").trim_end_matches('/')));
    let flood = json!({ "command": ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"] });
    let said = home.done("system.run", flood).await["stdout"].as_str().unwrap().to_owned();
    assert!(
        said.len() < 250_000 && said.contains("bytes left out") && said.ends_with("end\n"),
        "{}",
        said.len()
    );
    let secret = json!({ "command": ["sh", "-c", "echo \"$HOME_API_KEY.\""] });
    assert_eq!(home.done("system.run", secret).await["stdout"], ".\n");
}

/// accepts: F2
#[tokio::test]
async fn without_commands_and_roots_only_looking_for_programs_is_offered() {
    let gateway = Embedded::start().await;
    let mut operator = Client::admin(gateway.addr).await;
    let machine = Machine::new();
    let url = format!("ws://{}", gateway.addr);
    let mut program =
        machine.program(&["run", "--url", &url, "--token", crate::client::TOKEN, "--exec", "deny"]);
    let _node = program.stdout(std::process::Stdio::null()).spawn().unwrap();
    let request = operator.event(|e| e["event"] == "node.pair.requested").await["payload"].clone();
    assert_eq!((&request["commands"], &request["caps"]), (&json!(["system.which"]), &json!(["system"])));
}

#[tokio::test]
async fn files_are_given_from_their_roots_and_from_nowhere_else() {
    let mut home = Home::with(&[]).await;
    std::fs::write(home.file("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", home.file("given/link")).unwrap();
    let (file, link) = (home.machine.given("a/b.txt"), home.machine.given("link"));
    let written = home
        .done("file.write", json!({ "path": file, "contentBase64": "aGVsbG8=", "createParents": true }))
        .await;
    assert_eq!((&written["ok"], &written["overwritten"]), (&json!(true), &json!(false)));
    let fetched = home.done("file.fetch", json!({ "path": file })).await;
    assert_eq!((&fetched["base64"], &fetched["sha256"]), (&json!("aGVsbG8="), &written["sha256"]));
    let listed = home.done("fs.listDir", json!({})).await;
    assert_eq!(listed["entries"], json!([{ "name": "a", "path": home.machine.given("a") }]));
    let listed = home.done("dir.list", json!({ "path": home.machine.given("a") })).await;
    assert_eq!((&listed["entries"][0]["name"], &listed["entries"][0]["size"]), (&json!("b.txt"), &json!(5)));

    let secret = home.file("secret").canonicalize().unwrap();
    let climbing = home.machine.given("../secret");
    for path in [json!(secret), json!(climbing), json!(link)] {
        let asked =
            json!({ "path": path, "followSymlinks": true, "contentBase64": "eA==", "overwrite": true });
        for command in ["file.fetch", "file.stat", "file.write"] {
            let done = home.done(command, asked.clone()).await;
            assert_eq!(done["ok"], false, "{command} {path}: {done}");
        }
    }
    let refused = home.refused("fs.listDir", json!({ "path": home.machine.given("..") })).await;
    assert!(refused["message"].as_str().unwrap().contains("--root"), "{refused}");
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
}

/// A parent and its child that both ignore SIGTERM; each writes its pid.
fn family(pids: &Path) -> Value {
    let pids = pids.display();
    let line = format!("trap '' TERM; echo $$ >>{pids}; sleep 1000 & echo $! >>{pids}; wait; sleep 1000");
    json!({ "command": ["sh", "-c", line] })
}

async fn born(pids: &Path) -> Vec<Pid> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = Machine::pids(pids);
        if found.len() == 2 {
            return found.into_iter().filter_map(Pid::from_raw).collect();
        }
        assert!(Instant::now() < deadline, "only {found:?} were born");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn gone(pids: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(left) = pids.iter().find(|pid| test_kill_process(**pid).is_ok()) {
        assert!(Instant::now() < deadline, "{left:?} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As recorded: the caller's time is up, the node is told, and ends what it runs.
#[tokio::test]
async fn a_cancelled_command_ends_with_all_it_started() {
    let mut home = Home::with(&["--exec", "full"]).await;
    let pids = home.file("pids");
    let mut asked = invocation(&home.node, "system.run", family(&pids));
    asked["timeoutMs"] = json!(3_000);
    let id = home.operator.send("node.invoke", asked).await;
    let family = born(&pids).await;
    let refused = home.operator.response(&id).await["error"].clone();
    assert_eq!(refused["message"], "TIMEOUT: node invoke timed out");
    assert_eq!(home.host.says("cancelled").await["command"], "system.run");
    gone(&family).await;
    let done = home.done("system.run", json!({ "command": ["echo", "on"] })).await;
    assert_eq!(done["stdout"], "on\n", "the node goes on");
}

#[tokio::test]
async fn commands_end_with_their_node_however_that_ends() {
    let mut home = Home::with(&["--exec", "full"]).await;
    let pids = home.file("pids");
    home.operator.send("node.invoke", invocation(&home.node, "system.run", family(&pids))).await;
    let family = born(&pids).await;
    let pid = Pid::from_raw(home.host.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    gone(&family).await;
}

#[tokio::test]
async fn too_much_at_once_is_put_off_and_the_rest_goes_on() {
    let mut home = Home::with(&["--exec", "full"]).await;
    let sleeps = json!({ "command": ["sleep", "1000"] });
    let mut ids = Vec::new();
    for _ in 0..8 {
        let mut asked = invocation(&home.node, "system.run", sleeps.clone());
        asked["timeoutMs"] = json!(8_000);
        ids.push(home.operator.send("node.invoke", asked).await);
    }
    let refused = home.refused("system.which", json!({ "bins": ["sh"] })).await;
    assert_eq!(refused["details"]["nodeError"]["code"], "NODE_NOT_READY", "{refused}");
    for id in ids {
        assert_eq!(home.operator.response(&id).await["ok"], false);
    }
    assert_eq!(home.done("system.which", json!({ "bins": [] })).await, json!({ "bins": {} }));
}
