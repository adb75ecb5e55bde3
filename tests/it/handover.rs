//! A gateway that is started anew in place: the process stays, whoever connects waits, and nothing acknowledged is lost.

use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::gateway::{Process, http};
use crabtree_protocol::client::encode_request;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const CLIENTS: usize = 200;
/// Between what a client says; all of them together say 500 things a second.
const PAUSE: Duration = Duration::from_millis(400);
const HANDOVERS: usize = 4;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

type Ws = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What all clients have seen together.
#[derive(Default)]
struct Seen {
    /// TCP connects that nobody took.
    refused: AtomicU64,
    /// Sockets that ended before they were WebSockets, without an answer.
    cut: AtomicU64,
    /// Upgrades that were answered with 503, and connects that were told to come again.
    later: AtomicU64,
    /// Sockets that were told to go.
    told: AtomicU64,
    /// Messages that were acknowledged.
    acknowledged: AtomicU64,
    over: AtomicBool,
}

/// The next frame; none when the socket has ended.
async fn frame(ws: &mut Ws) -> Option<Value> {
    loop {
        match ws.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// The answer to a request; none when the socket has ended.
async fn ask(ws: &mut Ws, seen: &Seen, id: &str, method: &str, params: Value) -> Option<Value> {
    let request = encode_request(id, method, Some(params.to_string().as_bytes()));
    ws.send(Message::text(String::from_utf8(request).unwrap())).await.ok()?;
    loop {
        let frame = frame(ws).await?;
        if frame["event"] == "shutdown" {
            assert_eq!(frame["payload"]["reason"], "gateway restarting");
            assert!(frame["payload"]["restartExpectedMs"].as_u64().is_some_and(|ms| ms < 60_000), "{frame}");
            seen.told.fetch_add(1, SeqCst);
        }
        if frame["type"] == "res" && frame["id"] == id {
            return Some(frame);
        }
    }
}

/// A socket that was let in; none if it has to be tried again.
async fn come_in(addr: SocketAddr, seen: &Seen) -> Option<Ws> {
    let mut ws = match connect_async(format!("ws://{addr}")).await {
        Ok((ws, _)) => ws,
        Err(Error::Http(answer)) => {
            assert_eq!(answer.status(), 503, "{answer:?}");
            seen.later.fetch_add(1, SeqCst);
            return None;
        }
        Err(Error::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            seen.refused.fetch_add(1, SeqCst);
            return None;
        }
        Err(_) => {
            seen.cut.fetch_add(1, SeqCst);
            return None;
        }
    };
    let challenge = frame(&mut ws).await?;
    let params = connect_params(&Intro::default(), &challenge["payload"]);
    let answer = ask(&mut ws, seen, "c", "connect", params).await?;
    if answer["ok"] == true {
        return Some(ws);
    }
    assert_eq!(answer["error"]["code"], "UNAVAILABLE", "{answer}");
    seen.later.fetch_add(1, SeqCst);
    None
}

/// A client that says one thing after another, comes back whenever its socket ends, and repeats what it does not know to
/// have arrived. Returns what was acknowledged.
async fn client(addr: SocketAddr, number: usize, seen: Arc<Seen>) -> Vec<String> {
    let mut acknowledged = vec![];
    while !seen.over.load(SeqCst) {
        let Some(mut ws) = come_in(addr, &seen).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !seen.over.load(SeqCst) {
            let key = format!("h{number}-{}", acknowledged.len());
            let params = json!({
                "sessionKey": format!("agent:main:h{number}"), "message": format!("[{key}]"), "idempotencyKey": key,
                "queueMode": "followup",
            });
            let Some(answer) = ask(&mut ws, &seen, &key, "chat.send", params).await else { break };
            if answer["ok"] == true {
                acknowledged.push(key);
                seen.acknowledged.fetch_add(1, SeqCst);
            } else {
                assert_eq!(answer["error"]["code"], "UNAVAILABLE", "{answer}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    acknowledged
}

/// The program that serves now.
async fn boot_id(addr: SocketAddr) -> String {
    let (deadline, seen) = (Instant::now() + PATIENCE, Seen::default());
    while Instant::now() < deadline {
        if let Ok((mut ws, _)) = connect_async(format!("ws://{addr}")).await
            && let Some(challenge) = frame(&mut ws).await
            && let params = connect_params(&Intro::default(), &challenge["payload"])
            && let Some(answer) = ask(&mut ws, &seen, "c", "connect", params).await
            && let Some(id) = answer["payload"]["server"]["bootId"].as_str()
        {
            return id.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody serves");
}

/// Waits until another program serves than this one.
async fn next_after(addr: SocketAddr, before: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let id = boot_id(addr).await;
        if id != before {
            return id;
        }
        assert!(Instant::now() < deadline, "it was not started anew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// accepts: C4, K5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nobody_is_refused_and_nothing_acknowledged_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Process::start(state.path()).await;
    let (addr, pid, seen) = (process.addr, process.pid(), Arc::new(Seen::default()));
    let clients: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(client(addr, n, seen.clone()))).collect();
    let mut serving = boot_id(addr).await;
    for round in 1..=HANDOVERS {
        let deadline = Instant::now() + PATIENCE;
        while seen.acknowledged.load(SeqCst) < (round * CLIENTS / 2) as u64 {
            assert!(Instant::now() < deadline, "there is no load");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.signal("USR2");
        serving = next_after(addr, &serving).await;
    }
    // Those that follow each other at once are one or several; none of them kills.
    for _ in 0..5 {
        process.signal("USR2");
        process.signal("USR1");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    next_after(addr, &serving).await;
    seen.over.store(true, SeqCst);
    let mut acknowledged = vec![];
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    let count = |figure: &AtomicU64| figure.load(SeqCst);
    println!(
        "{} acknowledged; {} told, {} later, {} cut, {} refused",
        acknowledged.len(),
        count(&seen.told),
        count(&seen.later),
        count(&seen.cut),
        count(&seen.refused)
    );
    assert_eq!(count(&seen.refused), 0, "a connect was refused");
    let mut again = boot_client(addr).await;
    for key in &acknowledged {
        settled(&mut again, key).await;
    }
    for number in 0..CLIENTS {
        said_once(&mut again, number, &acknowledged).await;
    }
    assert!(!process.died_within(Duration::ZERO).await, "the process is the same");
    assert_eq!(process.pid(), pid);
    process.signal("TERM");
    assert!(process.ended().success());
}

async fn boot_client(addr: SocketAddr) -> Client {
    boot_id(addr).await;
    let intro = Intro { auth: json!({ "token": TOKEN }), ..Intro::default() };
    Client::connect(addr, &intro).await.unwrap()
}

/// Said again with the same key, it is known, and over.
async fn settled(client: &mut Client, key: &str) {
    let number = key[1..].split('-').next().unwrap();
    let params = json!({
        "sessionKey": format!("agent:main:h{number}"), "message": format!("[{key}]"), "idempotencyKey": key,
        "queueMode": "followup",
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.response_to("chat.send", params.clone()).await;
        assert_eq!(answer["ok"], true, "{key}: {answer}");
        if answer["payload"]["status"] == "ok" {
            return;
        }
        assert_eq!(answer["payload"]["status"], "in_flight", "{key}: {answer}");
        assert!(Instant::now() < deadline, "{key} does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each message is in the transcript once.
async fn said_once(client: &mut Client, number: usize, acknowledged: &[String]) {
    let params = json!({ "sessionKey": format!("agent:main:h{number}"), "limit": 1000 });
    let history = client.response_to("chat.history", params).await["payload"].clone();
    let rows = history["messages"].as_array().unwrap();
    let said: Vec<String> =
        rows.iter().filter(|row| row["role"] == "user").map(|row| row["content"].to_string()).collect();
    for key in acknowledged.iter().filter(|key| key.starts_with(&format!("h{number}-"))) {
        let times = said.iter().filter(|text| text.contains(&format!("[{key}]"))).count();
        assert_eq!(times, 1, "{key}: {said:?}");
    }
}

/// accepts: K3, K4, K5
#[tokio::test]
async fn each_phase_of_start_and_stop_is_a_line_and_an_event() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Process::start(state.path()).await;
    let mut admin = Client::admin(process.addr).await;
    let deadline = Instant::now() + PATIENCE;
    let wanted = [
        "configuration",
        "listening",
        "secrets",
        "store",
        "devices",
        "serving",
        "agents",
        "channels",
        "cron",
    ];
    loop {
        let told = admin.response_to("diagnostics.stability", json!({ "type": "gateway.phase" })).await;
        let events = told["payload"]["events"].as_array().unwrap().clone();
        let phases: Vec<&str> = events.iter().filter_map(|event| event["phase"].as_str()).collect();
        if wanted.iter().all(|phase| phases.contains(phase)) {
            assert!(
                events.iter().all(|event| event["what"] == "start" && event["durationMs"].is_u64()),
                "{events:?}"
            );
            assert_eq!(phases[..3], wanted[..3]);
            break;
        }
        assert!(Instant::now() < deadline, "{phases:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
    let printed = process.printed();
    let lines = [
        "Gateway listening on ws://",
        "Shutting down...",
        "phase=\"drain\"",
        "phase=\"listener\"",
        "phase=\"connections\"",
        "phase=\"channels\"",
        "phase=\"agents\"",
        "phase=\"store\"",
        "Shutdown complete",
    ];
    let plain: String = strip(&printed);
    let mut rest = plain.as_str();
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line} is missing, or comes too early: {plain}"));
        rest = &rest[at..];
    }
}

/// Without the colours of a terminal.
fn strip(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.by_ref().find(char::is_ascii_alphabetic)),
            letter => plain.push(letter),
        }
    }
    plain
}

/// accepts: C4
#[tokio::test]
async fn a_client_asks_for_a_restart_and_is_told_when_to_come_back() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path()).await;
    let mut admin = Client::admin(process.addr).await;
    let before = admin.hello["server"]["bootId"].as_str().unwrap().to_owned();
    let safe = admin.response_to("gateway.restart.preflight", json!({})).await["payload"].clone();
    assert_eq!((&safe["safe"], &safe["summary"]), (&json!(true), &json!("safe to restart now")), "{safe}");
    let asked = admin.response_to("gateway.restart.request", json!({ "reason": "probe", "note": 1 })).await;
    let restart = &asked["payload"]["restart"];
    assert_eq!(asked["payload"]["status"], "scheduled", "{asked}");
    let recorded = json!({ "ok": true, "pid": process.pid(), "signal": "SIGUSR2", "reason": "probe", "mode": "emit",
        "cooldownMsApplied": 0, "delayMs": 0, "coalesced": false, "emitHooksQueued": false });
    assert_eq!(restart, &recorded);
    while admin.frame().await.is_some() {}
    let shutdown = admin.events.iter().find(|event| event["event"] == "shutdown");
    if let Some(shutdown) = shutdown {
        assert_eq!(shutdown["payload"]["reason"], "gateway restarting");
    }
    assert_eq!(admin.closed.clone().flatten(), Some((1012, "service restart".into())));
    next_after(process.addr, &before).await;
}

/// Who does not read is given up: all others wait for the gateway to be back.
#[tokio::test]
async fn a_client_that_does_not_read_delays_no_restart() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path()).await;
    let mut admin = Client::admin(process.addr).await;
    let before = admin.hello["server"]["bootId"].as_str().unwrap().to_owned();
    let said = json!({ "sessionKey": "main", "message": "x".repeat(400_000), "idempotencyKey": "long" });
    admin.call("chat.send", said).await;
    admin.chat_end("long").await;
    let mut deaf = Client::admin(process.addr).await;
    for _ in 0..8 {
        deaf.send("chat.history", json!({ "sessionKey": "main", "maxChars": 500_000 })).await;
    }
    // More than the kernel takes for it.
    let deadline = Instant::now() + PATIENCE;
    while buffered(process.addr).await < 1_000_000.0 {
        assert!(Instant::now() < deadline, "nothing waits for it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    process.signal("USR2");
    next_after(process.addr, &before).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Bytes that wait for clients.
async fn buffered(addr: SocketAddr) -> f64 {
    let (_, metrics) = http(addr, "GET", "/metrics").await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("crabtree_buffered_bytes "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn without_a_program_to_go_on_as_the_gateway_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("crabtree");
    std::fs::hard_link(env!("CARGO_BIN_EXE_crabtree"), &program).unwrap();
    let state = tempfile::tempdir().unwrap();
    let process = Process::of_program(&program, state.path()).await;
    let before = boot_id(process.addr).await;
    std::fs::remove_file(&program).unwrap();
    process.signal("USR2");
    let deadline = Instant::now() + PATIENCE;
    while !process.printed().contains("not started anew") {
        assert!(Instant::now() < deadline, "it says nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(boot_id(process.addr).await, before);
    assert_eq!(http(process.addr, "GET", "/ready").await.unwrap().0, 200);
}
