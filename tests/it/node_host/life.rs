//! How a node comes in, comes back, and ends.

use super::Machine;
use super::machine::{approve, invocation};
use crate::client::{Client, Intro, TOKEN};
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn token_file(machine: &Machine) -> std::path::PathBuf {
    machine.state().join("node/token.json")
}

/// accepts: E3, E4
#[tokio::test]
async fn it_comes_back_by_itself_after_kill_9_of_its_gateway_and_with_its_own_token() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let addr = gateway.addr;
    let machine = Machine::new();
    let mut host = machine.with_token(addr, &[]);
    let mut operator = Client::admin(addr).await;
    let node = approve(&mut operator, &mut host).await;
    let mode = |name: &str| {
        let file = machine.state().join("node").join(name);
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("device.key"), mode("token.json"), mode("")), (0o600, 0o600, 0o700));

    gateway.kill();
    let lost = host.says("disconnected").await;
    assert!(lost["retryInMs"].as_u64().is_some_and(|ms| (1_000..=30_000).contains(&ms)), "{lost}");
    let gateway = Process::restart(state.path(), addr).await;
    host.says("connected").await;
    host.says("approved").await;
    let mut operator = Client::admin(addr).await;
    let which = invocation(&node, "system.which", json!({ "bins": ["sh"] }));
    assert_eq!(operator.call("node.invoke", which.clone()).await["ok"], true);

    // Only one at a time; and once the gateway knows it, it needs nothing but its own token.
    let url = format!("ws://{addr}");
    let (status, failure) = machine.start(&["--url", &url]).ended().await;
    assert_eq!(status.code(), Some(78), "{failure}");
    assert!(failure["error"]["message"].as_str().unwrap().contains("another `crabtree node run`"));
    host.terminate();
    assert!(host.ended().await.0.success());
    let mut host = machine.start(&["--url", &url]);
    host.says("approved").await;
    assert_eq!(operator.call("node.invoke", which).await["ok"], true);
    drop(gateway);
}

#[tokio::test]
async fn removed_it_ends_and_says_how_it_is_let_in_again() {
    let gateway = Embedded::start().await;
    let mut operator = Client::admin(gateway.addr).await;
    let machine = Machine::new();
    let mut host = machine.with_token(gateway.addr, &[]);
    let node = approve(&mut operator, &mut host).await;
    assert!(token_file(&machine).exists());
    operator.call("node.pair.remove", json!({ "nodeId": node })).await;
    let (status, failure) = host.ended().await;
    assert_eq!(status.code(), Some(77), "{failure}");
    assert!(failure["error"]["next"].as_str().unwrap().contains("crabtree devices invite --access node"));
    assert!(!token_file(&machine).exists(), "it is worth nothing any more");
    let (status, content) =
        machine.status(&["--url", &format!("ws://{}", gateway.addr), "--token", TOKEN]).await;
    assert_eq!((&status["paired"], content), (&json!(false), false));
}

#[tokio::test]
async fn a_wrong_token_ends_it_and_a_stale_one_of_its_own_is_replaced() {
    let gateway = Embedded::start().await;
    let url = format!("ws://{}", gateway.addr);
    let machine = Machine::new();
    let (status, failure) = machine.start(&["--url", &url, "--token", "wrong"]).ended().await;
    assert_eq!(
        (status.code(), &failure["error"]["code"]),
        (Some(77), &json!("INVALID_REQUEST")),
        "{failure}"
    );
    assert_eq!(failure["error"]["details"]["code"], "AUTH_TOKEN_MISMATCH");
    assert!(failure["error"]["next"].as_str().unwrap().contains("crabtree token"));

    let stale = json!({ "url": url, "deviceToken": "stale" });
    std::fs::write(token_file(&machine), stale.to_string()).unwrap();
    let (status, failure) = machine.start(&["--url", &url, "--bootstrap-token", "x"]).ended().await;
    assert_eq!(status.code(), Some(77), "{failure}");
    assert_eq!(failure["error"]["details"]["code"], "AUTH_BOOTSTRAP_TOKEN_INVALID");
    std::fs::write(token_file(&machine), stale.to_string()).unwrap();
    let mut host = machine.start(&["--url", &url, "--token", TOKEN]);
    host.says("connected").await;
    let kept: Value = serde_json::from_slice(&std::fs::read(token_file(&machine)).unwrap()).unwrap();
    assert_eq!((&kept["url"], kept["deviceToken"].as_str().unwrap().len()), (&json!(url), 43));
}

/// accepts: E9
#[tokio::test]
async fn a_device_that_has_to_be_approved_waits_for_it() {
    let gateway =
        Embedded::with(json!({ "gateway": { "nodes": { "pairing": { "autoApproveLocal": false } } } })).await;
    let mut operator = Client::admin(gateway.addr).await;
    let (machine, url) = (Machine::new(), format!("ws://{}", gateway.addr));
    let mut host = machine.with_token(gateway.addr, &[]);
    let waits = host.until(|told| told["for"] == "device").await;
    let request = waits["requestId"].as_str().unwrap();
    assert_eq!(waits["next"], format!("crabtree devices approve {request}"));
    let (status, _) = machine.status(&["--url", &url, "--token", TOKEN]).await;
    assert_eq!(status["next"], format!("crabtree devices approve {request}"));
    operator.call("device.pair.approve", json!({ "requestId": request })).await;
    host.says("connected").await;
    // What it says is what helps.
    let waits = host.until(|told| told["for"] == "commands").await;
    let next = waits["next"].as_str().unwrap().strip_prefix("crabtree node ").unwrap();
    let words: Vec<&str> = next.split(' ').chain(["--url", &url, "--token", TOKEN]).collect();
    let done = machine.program(&words).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    host.says("approved").await;
}

#[tokio::test]
async fn a_setup_code_lets_it_in_once_and_its_token_from_then_on() {
    let gateway = Embedded::start().await;
    let mut operator = Client::connect(gateway.addr, &Intro::default()).await.unwrap();
    let url = format!("ws://{}", gateway.addr);
    let asked = json!({ "publicUrl": url, "bootstrapProfile": "node", "includeQr": false });
    let made = operator.call("device.pair.setupCode", asked).await;
    let code = made["setupCode"].as_str().unwrap();
    let machine = Machine::new();
    let mut host = machine.start(&["--code", code]);
    host.says("approved").await;
    // The code approves what does no harm; commands still wait for a person.
    let pending = operator.call("node.pair.list", json!({})).await["pending"][0].clone();
    assert!(pending["commands"].as_array().unwrap().contains(&json!("system.run")), "{pending}");
    operator.call("node.pair.approve", json!({ "requestId": pending["requestId"] })).await;
    host.terminate();
    assert!(host.ended().await.0.success());
    let mut host = machine.start(&["--code", code]);
    host.says("approved").await;
    let (status, failure) = Machine::new().start(&["--code", code]).ended().await;
    assert_eq!(status.code(), Some(77), "{failure}");
    assert!(failure["error"]["next"].as_str().unwrap().contains("good once"));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let machine = Machine::new();
    let (status, failure) = machine.start(&["--code", "nonsense"]).ended().await;
    assert_eq!((status.code(), &failure["error"]["message"]), (Some(78), &json!("this is no setup code")));
    let (status, failure) =
        machine.start(&["--url", "ws://127.0.0.1:1", "--root", "/no/such/dir"]).ended().await;
    assert!(failure["error"]["message"].as_str().unwrap().contains("/no/such/dir"), "{failure}");
    assert_eq!(status.code(), Some(78));
    let (none, content) = Machine::new().status(&[]).await;
    assert!(none["error"]["next"].as_str().unwrap().contains("crabtree node run") && !content);
    let mut host = machine.start(&["--url", "ws://127.0.0.1:1"]);
    host.says("disconnected").await;
}
