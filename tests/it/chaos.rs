//! `crabtree chaos` against gateways under load: what it says must be so, and what it must not do it refuses.

use crate::client::{Client, TOKEN, is_chat_end};
use crate::fakes::platform::Platform;
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Clients of the test's own that talk while the command is at work.
const TALKERS: usize = 3;
/// How often somebody writes on the channel meanwhile.
const WRITES: Duration = Duration::from_millis(250);
/// Ten times what recovery may take, beyond the backoff, in milliseconds.
const RECOVERY_MS: f64 = 50.0;
/// The longest that a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(addr: SocketAddr, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
    program
        .args(["chaos", "run", "--token", TOKEN, "--url", &format!("ws://{addr}")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    program
}

/// Exit code, and what it says for programs.
async fn told(addr: SocketAddr, arguments: &[&str]) -> (i32, Value) {
    let output = command(addr, arguments).arg("--json").output().await.unwrap();
    parsed(&output)
}

fn parsed(output: &Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), value)
}

/// Talks in a session of its own until it is over; returns what it said, all of which was acknowledged and has ended.
async fn talk(addr: SocketAddr, session: String, over: watch::Receiver<bool>) -> Vec<String> {
    let mut client = Client::admin(addr).await;
    let mut said = vec![];
    while !*over.borrow() {
        let run = format!("{session}-{}", said.len());
        let params =
            json!({ "sessionKey": session, "message": format!("[{run}] goes on"), "idempotencyKey": run });
        loop {
            let answer = client.response_to("chat.send", params.clone()).await;
            if answer["ok"] == true {
                break;
            }
            assert_eq!(answer["error"]["retryable"], true, "{answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(client.chat_end(&run).await["state"], "final");
        said.push(run);
    }
    assert_eq!(client.responses, Vec::<Value>::new(), "nothing is answered twice");
    let seqs = client.seqs();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap: {seqs:?}");
    for run in &said {
        let ends = client.events.iter().filter(|event| is_chat_end(event, run)).count();
        assert_eq!(ends, 1, "{run}");
    }
    said
}

/// What holds in every report of a gateway that nothing is wrong with.
fn assert_all_held(report: &Value) {
    assert_eq!((&report["ok"], &report["violations"]), (&json!(true), &json!([])), "{report:#}");
    assert_eq!(report["stopped"], Value::Null, "{report:#}");
    let (clients, turns) = (&report["clients"], &report["turns"]);
    assert_eq!(
        (&clients["sockets"], &clients["lost"], &clients["missed"]),
        (&json!(7), &json!(0), &json!(0))
    );
    assert_eq!(clients["requests"], clients["answers"]);
    assert!(clients["events"].as_u64() > Some(0) && turns["sent"].as_u64() > Some(0), "{report:#}");
    assert_eq!((&turns["settled"], &turns["final"]), (&turns["sent"], &turns["sent"]), "{report:#}");
    assert_eq!(report["tree"]["parked"], json!([]));
    assert_is_prompt(&report["recovery"]);
}

#[track_caller]
fn assert_is_prompt(figures: &Value) {
    assert!(
        figures["count"].as_u64() > Some(0) && figures["p50Ms"].as_f64() <= Some(RECOVERY_MS),
        "{figures}"
    );
}

/// The gateway has counted the restarts that the report tells of, and no others.
async fn assert_restarts(client: &mut Client, report: &Value) {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in report["faults"].as_array().unwrap() {
        *expected.entry(fault["path"].as_str().unwrap()).or_default() += fault["restarts"].as_u64().unwrap();
    }
    let tree = client.call("system.actors", json!({ "depth": 1 })).await;
    for part in tree["root"]["children"].as_array().unwrap() {
        let path = part["path"].as_str().unwrap();
        assert_eq!(
            part["restarts"].as_u64(),
            Some(expected.get(path).copied().unwrap_or_default()),
            "{path}"
        );
        assert_eq!(part["state"], "running", "{path}");
    }
}

async fn assert_no_session_is_left(client: &mut Client) {
    let list = client.call("sessions.list", json!({ "limit": 100 })).await;
    let keys = list["sessions"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap());
    assert_eq!(keys.filter(|key| key.contains("chaos-")).count(), 0, "{list}");
}

/// Everything that was said stands in the store once and is settled.
async fn assert_settled(client: &mut Client, said: &[Vec<String>]) {
    for (nth, runs) in said.iter().enumerate() {
        assert!(!runs.is_empty(), "nobody has talked");
        let params = json!({ "sessionKey": format!("load-{nth}"), "limit": 1_000 });
        let rows = client.call("chat.history", params).await["messages"].clone();
        for run in runs {
            let waited = client.call("agent.wait", json!({ "runId": run, "timeoutMs": 0 })).await;
            assert_eq!(waited["status"], "ok", "{run}: {waited}");
            let token = format!("[{run}]");
            let rows = rows.as_array().unwrap().iter();
            let of = |role| {
                rows.clone().filter(|row| row["role"] == role && row.to_string().contains(&token)).count()
            };
            assert_eq!((of("user"), of("assistant")), (1, 1), "{run}");
        }
    }
}

/// Nothing is on its way out any more: how many answers were sent, and how many are in doubt.
async fn delivered(client: &mut Client, people: u64) -> (u64, u64) {
    let mut deliveries = Value::Null;
    for _ in 0..400 {
        let status = client.call("channels.status", json!({})).await;
        deliveries = status["channelAccounts"]["loopback"][0]["deliveries"].clone();
        let count = |state: &str| deliveries[state].as_u64().unwrap_or_default();
        if count("queued") + count("sending") == 0 && count("sent") + count("uncertain") >= people {
            return (count("sent"), count("uncertain"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("something is on its way for ever: {deliveries}");
}

/// A storm of a seed on a gateway of its own, while clients and people talk with it.
async fn storm(seed: &'static str) {
    let (state, platform) = (tempfile::tempdir().unwrap(), Platform::start());
    let config = json!({
        "channels": { "loopback": platform.section(json!({})) },
        "session": { "dmScope": "per-channel-peer" },
    });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let over = watch::Sender::new(false);
    let mut talkers = JoinSet::new();
    for nth in 0..TALKERS {
        let (addr, over) = (gateway.addr, over.subscribe());
        talkers.spawn(async move { (nth, talk(addr, format!("load-{nth}"), over).await) });
    }
    let mut program = command(gateway.addr, &["storm", "--seed", seed, "--faults", "16", "--yes", "--json"]);
    let (output, mut people) = (program.output(), 0);
    tokio::pin!(output);
    let output = loop {
        tokio::select! {
            output = &mut output => break output.unwrap(),
            () = tokio::time::sleep(WRITES) => {
                people += 1;
                platform.says(&format!("m{people}"), &format!("p{people}"), &format!("[m{people}] hello"));
            }
        }
    };
    over.send_replace(true);
    let mut said = talkers.join_all().await;
    said.sort_unstable();
    let said: Vec<_> = said.into_iter().map(|(_, said)| said).collect();

    let (code, report) = parsed(&output);
    assert_all_held(&report);
    assert_eq!((code, report["faults"].as_array().unwrap().len()), (0, 16), "{report:#}");
    let mut client = Client::admin(gateway.addr).await;
    assert_restarts(&mut client, &report).await;
    assert_no_session_is_left(&mut client).await;
    assert_settled(&mut client, &said).await;
    platform.until("every message is taken in", |p| p.received().len() >= people).await;
    let (sent, uncertain) = delivered(&mut client, people as u64).await;
    let answers = |n: usize| {
        let sent = platform.sent_to(&format!("p{n}"));
        sent.iter().filter(|text| text.contains(&format!("[m{n}]"))).count()
    };
    let answered: usize = (1..=people).map(answers).sum();
    assert!((1..=people).all(|n| answers(n) <= 1), "somebody was answered twice: {:?}", platform.sent());
    assert!(
        answered as u64 >= sent && answered as u64 + uncertain >= people as u64,
        "{sent} {uncertain} {answered}"
    );
    let inputs = client.call("status", json!({})).await["inputs"].clone();
    assert_eq!(inputs, json!({ "queued": 0, "running": 0, "dead": 0 }));
    println!("seed {seed}: {} turns, {people} people, {}", said.concat().len(), report["recovery"]);
}

/// accepts: A10, C4, G9, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_under_load_are_noticed_by_nobody() {
    let storms = [tokio::spawn(storm("7")), tokio::spawn(storm("14"))];
    for storm in storms {
        storm.await.unwrap();
    }
}

/// accepts: A9, A10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_tour_every_part_recovers_within_milliseconds() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let (code, report) = told(gateway.addr, &["tour", "--yes"]).await;
    assert_all_held(&report);
    // From the crash until the very actor has answered a client again.
    assert_is_prompt(&report["served"]);
    let mut client = Client::admin(gateway.addr).await;
    let tree = client.call("system.actors", json!({ "depth": 1 })).await;
    let paths = |rows: &Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((code, paths(&report["faults"])), (0, paths(&tree["root"]["children"])));
    assert!(report["faults"].as_array().unwrap().iter().all(|fault| fault["restarts"] == 1));
    assert_restarts(&mut client, &report).await;
    assert_no_session_is_left(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_where_that_is_not_allowed_or_not_agreed_to() {
    let gateway = Embedded::with(json!({})).await;
    let refused = async |arguments: &[&str]| {
        let (code, answer) = told(gateway.addr, arguments).await;
        assert_eq!(answer["ok"], false, "{answer}");
        (code, answer["error"].clone())
    };
    let (code, error) = refused(&["tour", "--yes"]).await;
    assert_eq!((code, error["next"].as_str()), (78, Some("crabtree config set gateway.chaos.enabled true")));
    let (code, error) = refused(&["tour"]).await;
    assert!(code == 2 && error["next"].as_str().unwrap().contains("--yes"), "{error}");
    let (code, error) = refused(&["tsunami", "--yes"]).await;
    assert!(code == 2 && error["message"].as_str().unwrap().contains("tour, storm, sessions"), "{error}");
    for wrong in [["--faults", "1001"], ["--faults", "0"], ["--for", "2h"], ["--seed", "x"]] {
        assert_eq!(refused(&[&["tour", "--yes"][..], &wrong].concat()).await.0, 2, "{wrong:?}");
    }

    let mut client = Client::admin(gateway.addr).await;
    let hash = client.call("config.get", json!({})).await["hash"].clone();
    let patch = json!({ "raw": "{ gateway: { chaos: { enabled: true } } }", "baseHash": hash });
    client.call("config.patch", patch).await;
    let (code, error) = refused(&["tour", "--yes", "--only", "gateway/cron", "gateway/none"]).await;
    assert!(code == 2 && error["message"].as_str().unwrap().starts_with("gateway/none: "), "{error}");
    let (code, error) = refused(&["tour", "--yes", "--only", "gateway"]).await;
    assert!(code == 2 && error["message"].as_str().unwrap().contains("the root"), "{error}");
    let tree = client.call("system.actors", json!({ "depth": 1 })).await;
    assert!(tree["root"]["children"].as_array().unwrap().iter().all(|part| part["restarts"] == 0), "{tree}");

    let (code, report) =
        told(gateway.addr, &["storm", "--yes", "--only", "gateway/cron", "--faults", "2"]).await;
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["path"] == "gateway/cron"), "{report:#}");
    assert_eq!((code, faults.len()), (0, 2), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_is_a_schedule_and_a_rehearsal_does_nothing() {
    let gateway = Embedded::start().await;
    let rehearsed = async |seed: &str| {
        let (code, plan) =
            told(gateway.addr, &["storm", "--dry-run", "--seed", seed, "--faults", "40"]).await;
        assert_eq!((code, plan["faults"].as_array().unwrap().len()), (0, 40));
        plan
    };
    let first = rehearsed("42").await;
    assert_eq!(first, rehearsed("42").await);
    assert_ne!(first["faults"], rehearsed("43").await["faults"]);
    let mut client = Client::admin(gateway.addr).await;
    let tree = client.call("system.actors", json!({ "depth": 1 })).await;
    for part in tree["root"]["children"].as_array().unwrap() {
        assert_eq!(part["restarts"], 0, "{part}");
        let struck = first["faults"].as_array().unwrap().iter().any(|fault| fault["target"] == part["path"]);
        assert!(struck, "{part}");
    }
}

/// A long storm that has begun, as people see it.
async fn begun(addr: SocketAddr) -> (Child, tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) {
    let mut child = command(addr, &["storm", "--faults", "900", "--yes"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    assert!(first.is_some_and(|line| line.trim_start().starts_with("1 ")), "a line for each fault");
    (child, lines)
}

/// Its exit code, and what else it says.
async fn ended(
    (mut child, mut lines): (Child, tokio::io::Lines<BufReader<tokio::process::ChildStdout>>),
) -> (Option<i32>, String) {
    let mut text = String::new();
    let end = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            text += &line;
            text.push('\n');
        }
        child.wait().await.unwrap().code()
    };
    let code = tokio::time::timeout(PATIENCE, end).await.unwrap();
    (code, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_when_told_to_when_somebody_is_parked_and_when_the_gateway_is_gone() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;

    let storm = begun(gateway.addr).await;
    let interrupt =
        std::process::Command::new("kill").args(["-INT", &storm.0.id().unwrap().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let (code, text) = ended(storm).await;
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("interrupted") && text.contains("everything held"), "{text}");
    assert_no_session_is_left(&mut client).await;

    let storm = begun(gateway.addr).await;
    client.call("system.actors.park", json!({ "path": "gateway/canvas" })).await;
    let (code, text) = ended(storm).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("VIOLATED") && text.contains("gateway/canvas"), "{text}");
    assert_no_session_is_left(&mut client).await;

    let storm = begun(gateway.addr).await;
    gateway.kill();
    let (code, text) = ended(storm).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cannot be reached") && text.contains("7, 7 lost"), "{text}");
}
