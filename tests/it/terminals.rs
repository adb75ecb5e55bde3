//! Shells of operators: typed into and read over real sockets.

use crate::client::{Client, Intro};
use crate::gateway::{Embedded, Process, http};
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

fn config() -> Value {
    json!({ "gateway": { "chaos": { "enabled": true }, "terminal": { "shell": "/bin/sh" } } })
}

async fn open(client: &mut Client) -> String {
    let opened = client.call("terminal.open", json!({ "cols": 80, "rows": 24 })).await;
    assert_eq!((&opened["shell"], &opened["confined"]), (&json!("/bin/sh"), &json!(false)), "{opened}");
    assert_eq!(opened["agentId"], "main");
    opened["sessionId"].as_str().unwrap().to_owned()
}

async fn types(client: &mut Client, id: &str, text: &str) {
    let done = client.call("terminal.input", json!({ "sessionId": id, "data": text })).await;
    assert_eq!(done, json!({ "ok": true }));
}

/// What it has shown so far.
fn shown(client: &Client, id: &str) -> String {
    let data =
        client.events.iter().filter(|e| e["event"] == "terminal.data" && e["payload"]["sessionId"] == id);
    data.map(|event| event["payload"]["data"].as_str().unwrap()).collect()
}

/// Waits until it has shown this.
async fn shows(client: &mut Client, id: &str, wanted: &str) {
    while !shown(client, id).contains(wanted) {
        client.read_one().await;
    }
}

/// Ctrl-C is the foreground's: the shell has its terminal.
async fn interrupts(client: &mut Client, id: &str) {
    types(client, id, "sh -c 'echo fore''ground; exec sleep 1000'\n").await;
    shows(client, id, "foreground").await;
    types(client, id, "\u{3}").await;
    types(client, id, "echo ba''ck again\n").await;
    shows(client, id, "back again").await;
}

async fn exit(client: &mut Client, id: &str) -> Value {
    client.event(|e| e["event"] == "terminal.exit" && e["payload"]["sessionId"] == id).await["payload"]
        .clone()
}

/// Waits until the list of terminals is as wanted.
async fn listed(client: &mut Client, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let list = client.call("terminal.list", json!({})).await["sessions"].as_array().unwrap().clone();
        if wanted(&list) {
            return list;
        }
        assert!(Instant::now() < deadline, "{list:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_shell_is_typed_into_resized_and_ends_with_its_code() {
    let gateway = Embedded::with(config()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    types(&mut client, &id, "echo $((6*7)) é; tty\n").await;
    shows(&mut client, &id, "42 é").await;
    shows(&mut client, &id, "/dev/").await;
    let size = json!({ "sessionId": id, "cols": 100, "rows": 30 });
    assert_eq!(client.call("terminal.resize", size).await, json!({ "ok": true }));
    types(&mut client, &id, "stty size\n").await;
    shows(&mut client, &id, "30 100").await;
    let last = client.events.iter().rfind(|e| e["event"] == "terminal.data").unwrap()["payload"].clone();
    assert_eq!(last["seq"], json!(shown(&client, &id).encode_utf16().count()), "seq counts UTF-16 units");
    interrupts(&mut client, &id).await;
    types(&mut client, &id, "exit 3\n").await;
    let told = json!({ "sessionId": id, "exitCode": 3, "signal": null, "reason": "process_exit" });
    assert_eq!(exit(&mut client, &id).await, told);
    listed(&mut client, <[Value]>::is_empty).await;
    let gone = client.call("terminal.input", json!({ "sessionId": id, "data": "x" })).await;
    assert_eq!(gone, json!({ "ok": false }));
}

#[tokio::test]
async fn ctrl_c_reaches_programs_also_where_the_gateway_ignores_it() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), config().to_string()).unwrap();
    let gateway = Process::in_the_background(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    interrupts(&mut client, &id).await;
}

#[tokio::test]
async fn a_terminal_is_its_connections_and_can_be_taken_over_with_what_it_showed() {
    let gateway = Embedded::with(config()).await;
    let mut first = Client::admin(gateway.addr).await;
    let intro = Intro { caps: vec!["terminal-offset-seq", "terminal-session-metadata"], ..Intro::default() };
    let mut second = Client::connect(gateway.addr, &intro).await.unwrap();
    let id = open(&mut first).await;
    types(&mut first, &id, "echo fir''st\n").await;
    shows(&mut first, &id, "first").await;
    let not_mine = second.call("terminal.input", json!({ "sessionId": id, "data": "x" })).await;
    assert_eq!(not_mine, json!({ "ok": false }));
    let attached = second.call("terminal.attach", json!({ "sessionId": id })).await;
    assert!(attached["buffer"].as_str().unwrap().contains("first"), "{attached}");
    let units = attached["buffer"].as_str().unwrap().encode_utf16().count();
    assert_eq!((&attached["owner"], &attached["seq"]), (&json!("conn"), &json!(units)));
    assert_eq!(exit(&mut first, &id).await["reason"], "detached");
    types(&mut second, &id, "echo sec''ond\n").await;
    shows(&mut second, &id, "second").await;
    assert!(!shown(&first, &id).contains("second"));
    // Its connection goes, and it stays.
    drop(second);
    let list = listed(&mut first, |list| list.len() == 1 && list[0]["attached"] == false).await;
    assert_eq!((&list[0]["owner"], &list[0]["sessionId"]), (&json!("conn"), &json!(id)));
    let attached = first.call("terminal.attach", json!({ "sessionId": id })).await;
    assert!(attached["buffer"].as_str().unwrap().contains("second") && attached.get("seq").is_none());
    assert_eq!(first.call("terminal.close", json!({ "sessionId": id })).await, json!({ "ok": true }));
    let told = first.events.iter().filter(|e| e["event"] == "terminal.exit").count();
    let closed = first.event(|e| e["event"] == "terminal.exit" && e["payload"]["reason"] == "closed").await;
    assert!(closed["payload"]["sessionId"] == json!(id) && told <= 2);
    let unknown = first.refused("terminal.attach", json!({ "sessionId": id })).await;
    assert_eq!(unknown["message"], format!("unknown terminal session \"{id}\""));
}

#[tokio::test]
async fn a_terminal_of_a_session_outlives_who_opened_it_once_it_is_used() {
    let gateway = Embedded::with(config()).await;
    let mut first = Client::admin(gateway.addr).await;
    let open = |key: &str| json!({ "sessionKey": key, "cols": 80, "rows": 24 });
    let missing = first.refused("terminal.open", open("nobody")).await;
    assert_eq!(missing["message"], "session is no longer available; refresh and retry");
    first.call("chat.send", json!({ "sessionKey": "main", "message": "hi", "idempotencyKey": "k" })).await;
    first.chat_end("k").await;
    let unused = first.call("terminal.open", open("main")).await["sessionId"].clone();
    let used = first.call("terminal.open", open("main")).await["sessionId"].as_str().unwrap().to_owned();
    types(&mut first, &used, "echo he''re\n").await;
    shows(&mut first, &used, "here").await;
    drop(first);
    let mut second = Client::admin(gateway.addr).await;
    let list = listed(&mut second, |list| list.len() == 1 && list[0]["attached"] == false).await;
    assert_eq!((&list[0]["sessionId"], &list[0]["owner"]), (&json!(used), &json!("agent:agent:main:main")));
    assert_ne!(list[0]["sessionId"], unused);
    let attached = second.call("terminal.attach", json!({ "sessionId": used })).await;
    assert!(attached["buffer"].as_str().unwrap().contains("here"));
    // Who closes it only stops looking; with its session it ends.
    assert_eq!(second.call("terminal.close", json!({ "sessionId": used })).await, json!({ "ok": true }));
    listed(&mut second, |list| list.len() == 1 && list[0]["attached"] == false).await;
    second.call("sessions.create", json!({ "key": "side" })).await;
    let id = second.call("terminal.open", open("side")).await["sessionId"].as_str().unwrap().to_owned();
    second.call("sessions.delete", json!({ "key": "side" })).await;
    assert_eq!(exit(&mut second, &id).await["reason"], "closed");
}

#[tokio::test]
async fn without_a_grace_a_terminal_ends_with_its_connection() {
    let mut config = config();
    config["gateway"]["terminal"]["detachedSessionTimeoutSeconds"] = json!(0);
    let gateway = Embedded::with(config).await;
    let mut first = Client::admin(gateway.addr).await;
    let mut second = Client::admin(gateway.addr).await;
    open(&mut first).await;
    listed(&mut second, |list| list.len() == 1).await;
    drop(first);
    listed(&mut second, <[Value]>::is_empty).await;
}

#[tokio::test]
async fn who_may_not_and_what_is_off_is_refused() {
    let gateway = Embedded::with(config()).await;
    let mut writer = Client::scoped(gateway.addr, &["operator.read", "operator.write"]).await;
    let size = json!({ "cols": 80, "rows": 24 });
    let refused = writer.refused("terminal.open", size.clone()).await;
    assert!(refused["message"].as_str().unwrap().contains("operator.admin"), "{refused}");
    let mut admin = Client::admin(gateway.addr).await;
    let unknown = admin.refused("terminal.open", json!({ "agentId": "no", "cols": 80, "rows": 24 })).await;
    assert_eq!(unknown["message"], "unknown agent \"no\"");
    let wide = admin.refused("terminal.open", json!({ "cols": 2001, "rows": 24 })).await;
    assert!(wide["message"].as_str().unwrap().contains("at /cols: must be <= 2000"), "{wide}");

    let off = Embedded::with(json!({ "gateway": { "terminal": { "enabled": false } } })).await;
    let mut client = Client::admin(off.addr).await;
    let refused = client.refused("terminal.open", size).await;
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("UNAVAILABLE"), &json!("terminal is disabled"))
    );
    assert_eq!(client.call("terminal.list", json!({})).await, json!({ "sessions": [] }));
    let refused = client.refused("terminal.attach", json!({ "sessionId": "x" })).await;
    assert_eq!(refused["message"], "terminal is not available");
}

#[tokio::test]
async fn turned_off_while_it_runs_all_of_them_end() {
    let gateway = Embedded::with(config()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    let hash = client.call("config.get", json!({})).await["hash"].clone();
    let patch = json!({ "raw": "{gateway: {terminal: {enabled: false}}}", "baseHash": hash });
    client.call("config.patch", patch).await;
    assert_eq!(exit(&mut client, &id).await["reason"], "closed");
}

#[tokio::test]
async fn who_opened_and_closed_one_is_written_down_and_what_was_typed_is_not() {
    let gateway = Embedded::with(config()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    types(&mut client, &id, "echo se''cret\n").await;
    shows(&mut client, &id, "secret").await;
    client.call("terminal.close", json!({ "sessionId": id })).await;
    let deadline = Instant::now() + LIMIT;
    let rows = loop {
        let page = client.call("audit.activity.list", json!({ "limit": 100 })).await;
        let rows = page["events"].as_array().unwrap().clone();
        let done = |row: &&Value, name: &str| row["action"] == name && row["status"] == "succeeded";
        if ["terminal.open", "terminal.close"].iter().all(|name| rows.iter().any(|row| done(&row, name))) {
            break rows;
        }
        assert!(Instant::now() < deadline, "{rows:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let closed = rows.iter().find(|row| row["action"] == "terminal.close").unwrap();
    assert_eq!(closed["target"], json!(id));
    assert!(!json!(rows).to_string().contains("cret"), "{rows:#?}");
}

/// Bytes that wait for all clients.
async fn waiting(gateway: &Embedded) -> u64 {
    let (_, text) = http(gateway.addr, "GET", "/metrics").await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("crabtree_buffered_bytes "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_program_waits_for_a_client_that_is_behind_and_nothing_is_lost() {
    let gateway = Embedded::with(config()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    types(&mut client, &id, "head -c 16000000 /dev/zero | tr '\\0' x; echo; echo do''ne\n").await;
    let deadline = Instant::now() + LIMIT;
    while waiting(&gateway).await < MIB {
        assert!(Instant::now() < deadline, "the client is never behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Without the wait all of it would be there soon, and the connection cut.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let waiting = waiting(&gateway).await;
        assert!(waiting < 3 * MIB, "{waiting}");
    }
    let mut seq = 0;
    let mut last = String::new();
    while !last.contains("done") {
        client.events.clear();
        client.read_one().await;
        for event in client.events.iter().filter(|event| event["event"] == "terminal.data") {
            last = event["payload"]["data"].as_str().unwrap().to_owned();
            seq += last.encode_utf16().count();
            assert_eq!(event["payload"]["seq"], json!(seq), "a gap");
        }
    }
    assert!(seq > 16_000_000, "{seq}");
    let attached = client.call("terminal.attach", json!({ "sessionId": id })).await;
    let kept = attached["buffer"].as_str().unwrap();
    assert!((200_000..400_000).contains(&kept.len()) && kept.contains("done"), "{}", kept.len());
}

#[tokio::test]
async fn the_crash_of_a_terminal_is_told_and_touches_no_other() {
    let gateway = Embedded::with(config()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    let other = open(&mut client).await;
    client.call("system.chaos", json!({ "path": "gateway/terminals", "fault": "panic" })).await;
    client
        .event(|e| {
            let payload = &e["payload"];
            e["event"] == "system.actors.changed"
                && payload["path"] == "gateway/terminals"
                && payload["state"] == "running"
        })
        .await;
    let path = format!("gateway/terminals/{id}");
    client.call("system.chaos", json!({ "path": path, "fault": "panic" })).await;
    assert_eq!(exit(&mut client, &id).await["reason"], "error");
    listed(&mut client, |list| list.len() == 1).await;
    types(&mut client, &other, "echo st''ill\n").await;
    shows(&mut client, &other, "still").await;
    open(&mut client).await;
}

#[tokio::test]
async fn kill_9_of_the_gateway_leaves_no_process() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), config().to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    let id = open(&mut client).await;
    types(&mut client, &id, "trap '' HUP TERM; (trap '' HUP TERM; sleep 1000) & echo pi''ds $$ $! =\n").await;
    let line = loop {
        // Not what was typed, which is shown as well; a prompt may stand before it.
        let text = shown(&client, &id);
        if let Some((line, _)) = text.split_once("pids ").and_then(|(_, rest)| rest.split_once(" =")) {
            break line.to_owned();
        }
        client.read_one().await;
    };
    let pids: Vec<Pid> = line.split(' ').filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect();
    assert_eq!(pids.len(), 2, "{line}");
    gateway.kill();
    let deadline = Instant::now() + LIMIT;
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        assert!(Instant::now() < deadline, "still there: {pids:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
