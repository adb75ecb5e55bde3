//! MCP servers: processes of the gateway and services elsewhere, as clients see their tools.

mod server;

use crate::client::Client;
use crate::gateway::{Embedded, Process};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use server::{Http, process};
use std::time::{Duration, Instant};

/// How long it may take until a process is gone: the farewell, the graces of its guard, and some.
const GONE_WITHIN: Duration = Duration::from_secs(8);

fn config(servers: Value) -> Value {
    json!({ "mcp": { "servers": servers }, "gateway": { "tools": { "allow": ["*"] } } })
}

async fn names(client: &mut Client) -> Vec<String> {
    let catalog = client.call("tools.catalog", json!({})).await;
    let groups = catalog["groups"].as_array().unwrap().iter();
    let tools = groups.flat_map(|group| group["tools"].as_array().unwrap());
    tools.map(|tool| tool["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a tool is there, or is not any more. News of changes come as events, but may have come already.
async fn until(client: &mut Client, tool: &str, is_there: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while names(client).await.iter().any(|name| name == tool) != is_there {
        assert!(Instant::now() < deadline, "{tool}: still not {is_there}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn invoke(client: &mut Client, tool: &str, args: Value) -> Value {
    client.call("tools.invoke", json!({ "name": tool, "args": args })).await
}

fn text(done: &Value) -> &str {
    done["output"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{done}"))
}

async fn pid(client: &mut Client, server: &str) -> Pid {
    let done = invoke(client, &format!("{server}__pid"), json!({})).await;
    Pid::from_raw(text(&done).parse().unwrap()).unwrap()
}

async fn gone(pid: Pid) {
    let deadline = Instant::now() + GONE_WITHIN;
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < deadline, "{pid:?} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn write(gateway: &Embedded, config: &Value) {
    std::fs::write(gateway.state.path().join("openclaw.json"), config.to_string()).unwrap();
    gateway.gateway.reload();
}

#[tokio::test]
async fn the_tools_of_a_process_pass_the_gates_like_any_others() {
    let servers = json!({ "mine": process(json!({ "env": { "SPOKEN": "word" }, "toolFilter": { "exclude": ["die"] } })) });
    let gateway = Embedded::with(config(servers)).await;
    let mut client = Client::admin(gateway.addr).await;
    until(&mut client, "mine__echo", true).await;
    assert!(!names(&mut client).await.contains(&"mine__die".to_owned()));
    let done = invoke(&mut client, "mine__echo", json!({ "text": "hello" })).await;
    assert_eq!((done["ok"].as_bool(), &done["source"], text(&done)), (Some(true), &json!("mcp"), "hello"));
    let wrong = invoke(&mut client, "mine__echo", json!({ "text": 7 })).await;
    assert_eq!(wrong["error"]["code"], "invalid_request", "{wrong}");
    let spoken = invoke(&mut client, "mine__env", json!({ "text": "SPOKEN" })).await;
    assert_eq!(text(&spoken), "word");
    let shown = client.call("config.get", json!({})).await.to_string();
    assert!(!shown.contains("\"word\""), "what is in the environment of a server may be secret: {shown}");
    write(&gateway, &json!({ "mcp": { "servers": {} } }));
    until(&mut client, "mine__echo", false).await;
}

#[tokio::test]
async fn a_server_that_dies_takes_only_its_tools_with_it_and_comes_back() {
    let gateway =
        Embedded::with(config(json!({ "one": process(json!({})), "two": process(json!({})) }))).await;
    let mut client = Client::admin(gateway.addr).await;
    until(&mut client, "one__pid", true).await;
    until(&mut client, "two__pid", true).await;
    let (one, two) = (pid(&mut client, "one").await, pid(&mut client, "two").await);
    let died = invoke(&mut client, "one__die", json!({})).await;
    let why = died["error"]["message"].as_str().unwrap();
    assert!(why.contains("The MCP server one has ended"), "{died}");
    let down =
        |e: &Value| e["payload"]["path"] == "gateway/agents/mcp:one" && !e["payload"]["lastExit"].is_null();
    let exit = client.event(down).await["payload"]["lastExit"]["reason"].clone();
    assert!(exit.as_str().unwrap().contains("it ended with code 3"), "{exit}");
    until(&mut client, "one__pid", true).await;
    assert_ne!(pid(&mut client, "one").await, one);
    kill_process(pid(&mut client, "one").await, Signal::KILL).unwrap();
    gone(one).await;
    assert_eq!(pid(&mut client, "two").await, two, "the other one did not notice");
}

/// accepts: K6
#[tokio::test]
async fn a_change_of_the_configuration_is_felt_only_by_the_servers_it_is_about() {
    let both = json!({ "same": process(json!({})), "other": process(json!({})) });
    let gateway = Embedded::with(config(both)).await;
    let mut client = Client::admin(gateway.addr).await;
    until(&mut client, "same__pid", true).await;
    until(&mut client, "other__pid", true).await;
    let (same, other) = (pid(&mut client, "same").await, pid(&mut client, "other").await);
    let changed = process(json!({ "env": { "SPOKEN": "word" } }));
    let mut next = config(json!({ "same": process(json!({})), "other": changed, "new": process(json!({})) }));
    next["tools"] = json!({ "deny": ["new__env"] });
    write(&gateway, &next);
    until(&mut client, "new__pid", true).await;
    gone(other).await;
    until(&mut client, "other__pid", true).await;
    assert_eq!(text(&invoke(&mut client, "other__env", json!({ "text": "SPOKEN" })).await), "word");
    assert_eq!(pid(&mut client, "same").await, same);
    write(&gateway, &config(json!({ "same": { "command": "none", "enabled": false } })));
    until(&mut client, "same__pid", false).await;
    gone(same).await;
}

#[tokio::test]
async fn no_server_outlives_a_gateway_that_was_killed() {
    let state = tempfile::tempdir().unwrap();
    let servers = config(json!({ "mine": process(json!({})) }));
    std::fs::write(state.path().join("openclaw.json"), servers.to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    until(&mut client, "mine__pid", true).await;
    let server = pid(&mut client, "mine").await;
    gateway.kill();
    gone(server).await;
}

#[tokio::test]
async fn a_server_elsewhere_is_asked_with_the_headers_of_the_configuration() {
    let http = Http::start(None).await;
    let elsewhere = json!({ "url": http.url(), "transport": "streamable-http", "headers": { "X-Key": "k" } });
    let gateway = Embedded::with(config(json!({ "far": elsewhere }))).await;
    let mut client = Client::admin(gateway.addr).await;
    until(&mut client, "far__echo", true).await;
    let done = invoke(&mut client, "far__echo", json!({ "text": "hello" })).await;
    assert_eq!(text(&done), "hello");
    assert!(http.keys().iter().all(|key| key.as_deref() == Some("k")), "{:?}", http.keys());
}

#[tokio::test]
async fn the_headers_are_for_nobody_that_a_server_points_to() {
    let stranger = Http::start(None).await;
    let http = Http::start(Some(stranger.url())).await;
    let gateway =
        Embedded::with(config(json!({ "far": { "url": http.url(), "headers": { "X-Key": "k" } } }))).await;
    let mut client = Client::admin(gateway.addr).await;
    let down =
        |e: &Value| e["payload"]["path"] == "gateway/agents/mcp:far" && !e["payload"]["lastExit"].is_null();
    client.event(down).await;
    assert!(!http.keys().is_empty() && stranger.keys().is_empty(), "{:?}", stranger.keys());
}

#[tokio::test]
async fn why_a_server_cannot_be_reached_is_told_without_its_address() {
    let away = json!({ "url": "http://127.0.0.1:1/mcp?key=hush" });
    let gateway = Embedded::with(config(json!({ "far": away }))).await;
    let mut client = Client::admin(gateway.addr).await;
    let down =
        |e: &Value| e["payload"]["path"] == "gateway/agents/mcp:far" && !e["payload"]["lastExit"].is_null();
    let exit = client.event(down).await["payload"]["lastExit"]["reason"].clone();
    let exit = exit.as_str().unwrap();
    assert!(exit.starts_with("it cannot be reached: Connection refused") && !exit.contains("hush"), "{exit}");
}
