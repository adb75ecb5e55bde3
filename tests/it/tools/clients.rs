//! Tools as clients see them: which there are, which a session may use, and calling one without a model.

use super::{echo, gateway_with, tool};
use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crabtree_actors::settings::AuthSecret;
use crabtree_actors::tools::ToolResult;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

fn ids(groups: &Value) -> Vec<&str> {
    let tools = groups.as_array().unwrap().iter().flat_map(|group| group["tools"].as_array().unwrap());
    tools.map(|tool| tool["id"].as_str().unwrap()).collect()
}

/// accepts: I12
#[tokio::test]
async fn the_catalog_has_all_tools_and_a_session_those_it_may_use() {
    let settings = json!({ "tools": { "profile": "messaging", "alsoAllow": ["echo"] } });
    let (_gateway, mut client) =
        gateway_with(settings, vec![echo(), tool("other", async |_| ToolResult::text("x"))]).await;
    let catalog = client.call("tools.catalog", json!({})).await;
    assert_eq!(catalog["agentId"], "main");
    let all = ids(&catalog["groups"]);
    for name in ["echo", "other", "session_status", "sessions_send"] {
        assert!(all.contains(&name), "{name}: {all:?}");
    }
    let groups = catalog["groups"].as_array().unwrap();
    let sessions = groups.iter().find(|group| group["id"] == "sessions").unwrap();
    let status =
        sessions["tools"].as_array().unwrap().iter().find(|tool| tool["id"] == "session_status").unwrap();
    assert_eq!(status["defaultProfiles"], json!(["minimal", "coding", "messaging", "full"]));
    let mine = client.call("tools.effective", json!({ "sessionKey": "main" })).await;
    assert_eq!(mine["profile"], "messaging");
    let may = ids(&mine["groups"]);
    assert!(may.contains(&"echo") && may.contains(&"sessions_send") && !may.contains(&"other"), "{may:?}");
    let made = client.call("sessions.create", json!({ "key": "one" })).await;
    let row = client.call("sessions.describe", json!({ "key": made["key"] })).await["session"].clone();
    assert_eq!(row["toolPermissions"], json!(["sessions.read", "sessions.send", "message"]));
}

/// accepts: I11, J2
#[tokio::test]
async fn a_client_calls_a_tool_through_the_same_gates() {
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    let counts = tool("count", move |_| {
        let count = counted.clone();
        async move { ToolResult::text((count.fetch_add(1, SeqCst) + 1).to_string()) }
    });
    let broken = tool("broken", async |_| ToolResult::error("it is broken"));
    let (_gateway, mut client) = gateway_with(json!({}), vec![echo(), counts, broken]).await;
    let done = client.call("tools.invoke", json!({ "name": "echo", "args": { "text": "x" } })).await;
    let output = json!({ "content": [{ "type": "text", "text": "echoed x" }] });
    assert_eq!(done, json!({ "ok": true, "toolName": "echo", "output": output, "source": "core" }));
    for (name, args, code, words) in [
        ("nothing", json!({}), "not_found", "Tool not available: nothing"),
        (
            "sessions_send",
            json!({ "sessionKey": "x", "message": "y" }),
            "not_found",
            "Tool not available: sessions_send",
        ),
        ("echo", json!({ "text": 5 }), "invalid_request", "Invalid arguments for echo: at /text"),
        ("broken", json!({}), "tool_error", "it is broken"),
    ] {
        let done = client.call("tools.invoke", json!({ "name": name, "args": args })).await;
        assert_eq!((&done["ok"], &done["error"]["code"]), (&json!(false), &json!(code)), "{done}");
        assert!(done["error"]["message"].as_str().unwrap().starts_with(words), "{done}");
    }
    let keyed = json!({ "name": "count", "idempotencyKey": "k" });
    let (first, again) =
        (client.call("tools.invoke", keyed.clone()).await, client.call("tools.invoke", keyed).await);
    assert_eq!((&first, count.load(SeqCst)), (&again, 1), "the same key is the same call");
}

/// A request of plain HTTP: status, and the body.
async fn post(addr: SocketAddr, head: &str, body: &str) -> (u16, Value) {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (method, head) = head.split_once('|').unwrap();
    let request = format!(
        "{method} /tools/invoke HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\ncontent-length: {}\r\n{head}\r\n{body}",
        body.len()
    );
    // What is too large is answered before it is read.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

/// accepts: J2
#[tokio::test]
async fn the_same_over_plain_http_with_the_recorded_answers() {
    let settings = json!({ "gateway": { "tools": { "deny": ["other"], "allow": ["sessions_list"] } } });
    let (gateway, _client) =
        gateway_with(settings, vec![echo(), tool("other", async |_| ToolResult::text("x"))]).await;
    let right = format!("POST|Authorization: Bearer {TOKEN}\r\n");
    let call = |name: &str| json!({ "name": name, "args": {} }).to_string();
    let wrong = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
    let failed =
        |kind: &str, message: &str| json!({ "ok": false, "error": { "type": kind, "message": message } });
    let large = json!({ "error": { "message": "Payload too large", "type": "invalid_request_error" } });
    for (head, body, status, answer) in [
        ("GET|", String::new(), 405, json!("Method Not Allowed")),
        ("POST|", call("echo"), 401, wrong.clone()),
        ("POST|Authorization: Bearer no\r\n", call("echo"), 401, wrong),
        (&*right, "{}".into(), 400, failed("invalid_request", "tools.invoke requires name")),
        (&*right, call("exec"), 404, failed("not_found", "Tool not available: exec")),
        (&*right, call("other"), 404, failed("not_found", "Tool not available: other")),
        (&*right, format!("{{\"name\":\"{}\"}}", "x".repeat(3 << 20)), 413, large),
    ] {
        assert_eq!(post(gateway.addr, head, &body).await, (status, answer), "{head}");
    }
    let body = json!({ "tool": "echo", "args": { "text": "x" } }).to_string();
    let result = json!({ "content": [{ "type": "text", "text": "echoed x" }] });
    assert_eq!(post(gateway.addr, &right, &body).await, (200, json!({ "ok": true, "result": result })));
    let (status, listed) = post(gateway.addr, &right, &call("sessions_list")).await;
    assert_eq!((status, &listed["ok"]), (200, &json!(true)), "what is allowed by name: {listed}");
}

#[tokio::test]
async fn without_a_secret_programs_may_call_tools_and_pages_may_not() {
    let gateway = Embedded::with_auth(json!({}), AuthSecret::None).await;
    let body = json!({ "name": "sessions_list", "args": {} }).to_string();
    let allowed = post(gateway.addr, "POST|", &body).await;
    assert_eq!((allowed.0, &allowed.1["ok"]), (200, &json!(true)), "{allowed:?}");
    for origin in ["https://evil.example", "null"] {
        let (status, _) = post(gateway.addr, &format!("POST|Origin: {origin}\r\n"), &body).await;
        assert_eq!(status, 403, "{origin}");
    }
}

/// The client goes; the call does not, and whoever asks again under its key gets what it came to.
#[tokio::test]
async fn a_call_under_a_key_outlives_the_client_that_began_it() {
    let (begun, gate) = (Arc::<AtomicUsize>::default(), Arc::new(Notify::new()));
    let (count, opened) = (begun.clone(), gate.clone());
    let slow = tool("slow", move |_| {
        let (count, opened) = (count.clone(), opened.clone());
        async move {
            count.fetch_add(1, SeqCst);
            opened.notified().await;
            ToolResult::text("at last")
        }
    });
    let (gateway, mut client) = gateway_with(json!({}), vec![slow]).await;
    let call = json!({ "name": "slow", "idempotencyKey": "k" });
    client.send("tools.invoke", call.clone()).await;
    for _ in 0..500 {
        if begun.load(SeqCst) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(client);
    gate.notify_one();
    let mut other = Client::admin(gateway.addr).await;
    let done = other.call("tools.invoke", call).await;
    assert_eq!((&done["ok"], begun.load(SeqCst)), (&json!(true), 1), "{done}");
}
