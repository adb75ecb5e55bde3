//! Plain HTTP: probes, the summary, the metrics, and the headers every plain answer carries.

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A plain answer.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// As text, whatever it is.
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Asks with these headers; `Host` is the gateway's address unless it is among them.
pub async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += &format!("Host: {addr}\r\n");
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

/// accepts: B3, C9
#[tokio::test]
async fn every_plain_answer_is_typed_and_kept_out_of_frames_and_caches() {
    let gateway = Embedded::start().await;
    let live = json!({ "ok": true, "status": "live" }).to_string();
    let (json, text) = ("application/json; charset=utf-8", "text/plain; charset=utf-8");
    for (method, path, status, kind, body) in [
        ("GET", "/health", 200, json, live.as_str()),
        ("GET", "/healthz?view=summary", 200, json, &live),
        ("HEAD", "/health", 200, json, ""),
        ("POST", "/health", 405, text, "Method Not Allowed"),
        ("DELETE", "/readyz", 405, text, "Method Not Allowed"),
        ("POST", "/metrics", 405, text, "Method Not Allowed"),
        ("GET", "/nowhere", 404, text, "Not Found"),
        ("POST", "/api/nope", 404, text, "Not Found"),
    ] {
        let answer = ask(gateway.addr, method, path, &[]).await;
        let what = format!("{method} {path}: {:?}", answer.headers);
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{what}");
        let header = |name: &str| answer.headers.get(name).map(String::as_str);
        assert_eq!(header("content-type"), Some(kind), "{what}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{what}");
        assert_eq!(header("x-frame-options"), Some("DENY"), "{what}");
        assert_eq!(header("content-security-policy"), Some("frame-ancestors 'none'"), "{what}");
        assert_eq!(header("cache-control"), (kind == json).then_some("no-store"), "{what}");
        assert_eq!(header("allow"), (status == 405).then_some("GET, HEAD"), "{what}");
    }
    let ready = ask(gateway.addr, "GET", "/ready", &[]).await;
    assert_eq!((ready.status, &ready.json()["failing"]), (200, &json!([])));
}

/// accepts: B3
#[tokio::test]
async fn our_page_is_there_for_anybody_is_kept_by_browsers_and_runs_nothing_from_elsewhere() {
    let gateway = Embedded::start().await;
    let page = ask(gateway.addr, "GET", "/", &[]).await;
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(&*page.headers["x-content-type-options"], "nosniff");
    let script = "/crabtree/main.js";
    assert!(page.body.contains(script), "{}", page.body);
    let script = ask(gateway.addr, "GET", script, &[]).await;
    assert_eq!((script.status, &*script.headers["content-type"]), (200, "text/javascript; charset=utf-8"));
    let tag = page.headers["etag"].clone();
    let again = ask(gateway.addr, "GET", "/", &[("if-none-match", &tag)]).await;
    assert_eq!((again.status, again.body.as_str(), &again.headers["etag"]), (304, "", &tag));
    assert_eq!(ask(gateway.addr, "HEAD", "/", &[]).await.body, "");
    assert_eq!(ask(gateway.addr, "POST", "/", &[]).await.status, 405);
    assert_eq!(ask(gateway.addr, "GET", "/crabtree/../crabtree.key", &[]).await.status, 404);
}

/// accepts: J4
#[tokio::test]
async fn the_summary_tells_this_machine_and_who_knows_the_secret() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let turn = json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k1" });
    client.call("chat.send", turn).await;
    client.chat_end("k1").await;
    let path = "/health?view=summary";
    let summary = ask(gateway.addr, "GET", path, &[]).await;
    let mut figures = summary.json();
    let rss = figures["memory_usage_mb"].take().as_u64().unwrap();
    assert!((1..4096).contains(&rss), "{rss}");
    assert!(figures["uptime_seconds"].take().as_u64().is_some());
    assert!(figures["registered_tools"].take().as_u64().unwrap() > 0);
    let expected = json!({
        "status": "healthy", "uptime_seconds": null, "connected_channels": [], "active_sessions": 1,
        "queued_messages": 0, "registered_tools": null, "memory_usage_mb": null,
    });
    assert_eq!(figures, expected);
    // A page whose name leads here is not this machine; whoever knows the secret may ask from anywhere.
    let (stranger, right) = (("Host", "evil.example"), format!("Bearer {TOKEN}"));
    for path in [path, "/metrics"] {
        let refused = ask(gateway.addr, "GET", path, &[stranger]).await;
        let words = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
        assert_eq!((refused.status, refused.json()), (401, words));
        for wrong in ["Bearer wrong", "Bearer ", TOKEN] {
            assert_eq!(
                ask(gateway.addr, "GET", path, &[stranger, ("Authorization", wrong)]).await.status,
                401
            );
        }
        assert_eq!(ask(gateway.addr, "GET", path, &[stranger, ("Authorization", &right)]).await.status, 200);
    }
    client.call("system.actors.park", json!({ "path": "gateway/scheduler" })).await;
    client.event(|e| e["event"] == "health" && e["payload"]["ok"] == false).await;
    assert_eq!(ask(gateway.addr, "GET", path, &[]).await.json()["status"], "degraded");
}

/// accepts: D14
#[tokio::test]
async fn guessing_tokens_at_plain_answers_ends_in_a_lockout() {
    let limits = json!({ "maxAttempts": 2, "exemptLoopback": false });
    let gateway = Embedded::with(json!({ "gateway": { "auth": { "rateLimit": limits } } })).await;
    let stranger = ("Host", "evil.example");
    let guess = async |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(gateway.addr, "GET", "/metrics", &[stranger, ("Authorization", &bearer)]).await
    };
    assert_eq!((guess("one").await.status, guess("two").await.status), (401, 401));
    let locked = guess(TOKEN).await;
    assert_eq!((locked.status, &locked.json()["error"]["type"]), (429, &json!("rate_limited")));
    assert!(locked.headers["retry-after"].parse::<u64>().unwrap() > 0);
    // Who asks from here, and brings no token, is not concerned.
    assert_eq!(ask(gateway.addr, "GET", "/metrics", &[]).await.status, 200);
}

/// The value of a sample, by its name with labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// accepts: A17
#[tokio::test]
async fn metrics_are_read_from_the_living_tree() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("system.actors.restart", json!({ "path": "gateway/presence" })).await;
    let turn = json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k1" });
    client.call("chat.send", turn).await;
    client.chat_end("k1").await;
    let answer = ask(gateway.addr, "GET", "/metrics", &[]).await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.body;
    for (name, value) in [
        ("crabtree_actors{kind=\"presence\",state=\"running\"}", 1.0),
        ("crabtree_actors{kind=\"connection\",state=\"running\"}", 1.0),
        ("crabtree_actor_restarts_total{kind=\"presence\"}", 1.0),
        ("crabtree_clients{role=\"operator\"}", 1.0),
        ("crabtree_connections_accepted_total", 1.0),
        ("crabtree_rpc_requests_total{outcome=\"ok\"}", 2.0),
        ("crabtree_rpc_duration_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("crabtree_runs_total{outcome=\"ok\"}", 1.0),
        ("crabtree_run_duration_seconds_count", 1.0),
        ("crabtree_run_queue_seconds_count", 1.0),
        ("crabtree_sessions_live", 1.0),
        ("crabtree_connections", 1.0),
        ("crabtree_active_runs", 0.0),
        ("crabtree_inputs{state=\"queued\"}", 0.0),
        ("crabtree_inputs{state=\"running\"}", 0.0),
        ("crabtree_inputs{state=\"dead\"}", 0.0),
        ("crabtree_healthy", 1.0),
    ] {
        assert_eq!(sample(&text, name), Some(value), "{name}\n{text}");
    }
    for name in [
        "crabtree_mailbox_depth_max{kind=\"store\"}",
        "crabtree_actor_busy_seconds_max{kind=\"store\"}",
        "crabtree_store_batch_duration_seconds_count",
        "crabtree_store_file_bytes",
        "crabtree_store_wal_bytes",
        "crabtree_events_published_total",
        "crabtree_events_dropped_total",
        "crabtree_approvals_waiting",
        "crabtree_nodes_connected",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
        "crabtree_buffered_bytes",
        "crabtree_store_batches_total",
        "crabtree_store_writes_total",
        "crabtree_uptime_seconds",
        "process_resident_memory_bytes",
    ] {
        assert!(sample(&text, name).is_some(), "{name}\n{text}");
    }
    // Each metric is introduced once, before its samples.
    let named = |prefix: &str| -> Vec<String> {
        let words = text.lines().filter_map(|line| line.strip_prefix(prefix)?.split(' ').next());
        words.map(str::to_owned).collect()
    };
    let types = named("# TYPE ");
    assert_eq!(types, named("# HELP "));
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.iter().all(|line| types.iter().any(|name| line.starts_with(name.as_str()))), "{text}");
    // The tree may hang: it is not asked.
    client.call("system.chaos", json!({ "path": "gateway/store", "fault": "hang" })).await;
    assert_eq!(ask(gateway.addr, "GET", "/metrics", &[]).await.status, 200);
}
