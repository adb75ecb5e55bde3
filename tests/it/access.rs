//! Who is let in, beside what the recordings show: headers of the upgrade, settings, limits, and secrets that
//! change.

use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::gateway::{Embedded, Process};
use crabtree_actors::conns::MAX_IN_FLIGHT;
use crabtree_actors::settings::{AuthSecret, Secret};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Sends a request with these headers; the head and the body of the answer, as far as they come.
async fn asked(addr: SocketAddr, upgrade: bool, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut head = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\n");
    head += if upgrade {
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    } else {
        "Connection: close\r\n"
    };
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !String::from_utf8_lossy(&answer[..length]).contains("\r\n\r\n") {
        length += stream.read(&mut answer[length..]).await.unwrap();
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        while let Ok(more @ 1..) = stream.read(&mut answer[length..]).await {
            length += more;
        }
    }
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// What a page at `origin` is told, after it connected as `intro`.
async fn from_page(addr: SocketAddr, origin: &str, intro: &Intro) -> Value {
    let mut request = format!("ws://{addr}/").into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    let (ws, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let (mut client, challenge) = Client::over(ws).await;
    client.response_to("connect", connect_params(intro, &challenge)).await
}

fn control_ui(auth: Value) -> Intro {
    Intro { id: "openclaw-control-ui", mode: "webchat", auth, device: Some([31; 32]), ..Intro::default() }
}

/// accepts: C1 (conflict), D3
#[tokio::test]
async fn a_bearer_that_is_wrong_is_refused_at_the_upgrade_and_a_right_one_decides_nothing() {
    let gateway = Embedded::start().await;
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(asked(gateway.addr, true, &[("Authorization", &bearer(TOKEN))]).await.0, 101);
    assert_eq!(asked(gateway.addr, true, &[("Authorization", "Basic eDp5")]).await.0, 101);
    let start = Instant::now();
    let (status, answer) = asked(gateway.addr, true, &[("Authorization", &bearer("wrong"))]).await;
    assert!(
        status == 401 && answer.contains(r#"{"error":{"message":"Unauthorized","type":"unauthorized"}}"#)
    );
    // It tells as much as a wrong `connect`, so it is as slow; and both count together.
    assert!(start.elapsed() >= Duration::from_millis(250));
    let start = Instant::now();
    let wrong = Intro { auth: json!({ "token": "wrong" }), ..Intro::default() };
    assert!(Client::connect(gateway.addr, &wrong).await.is_err());
    assert!(start.elapsed() >= Duration::from_millis(500));
    // Plain requests are not the WebSocket's business.
    assert_eq!(asked(gateway.addr, false, &[("Authorization", &bearer("wrong"))]).await.0, 200);
}

/// The recording `http_requests`, and `http_ws_xff_untrusted` over plain HTTP.
#[tokio::test]
async fn a_forwarded_request_is_refused() {
    let gateway = Embedded::start().await;
    for header in ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Tailscale-User-Login"] {
        for upgrade in [true, false] {
            let (status, answer) = asked(gateway.addr, upgrade, &[(header, "203.0.113.9")]).await;
            assert!(status == 403 && answer.contains("proxy_attribution_required"), "{header}: {answer}");
            assert_eq!(answer.contains("x-content-type-options: nosniff"), !upgrade, "{answer}");
        }
    }
}

#[tokio::test]
async fn pages_that_the_operator_names_may_connect() {
    let config = json!({ "gateway": { "controlUi": { "allowedOrigins": ["https://ui.example"] } } });
    let gateway = Embedded::with(config).await;
    let intro = control_ui(json!({ "token": TOKEN }));
    let refused = from_page(gateway.addr, "https://evil.example", &intro).await;
    assert_eq!(refused["error"]["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED");
    assert_eq!(from_page(gateway.addr, "https://ui.example", &intro).await["ok"], true);
}

/// accepts: B2
#[tokio::test]
async fn ipv6_loopback_is_the_same_gateway() {
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], gateway.addr.port()));
    // A machine without IPv6 has been warned about it.
    if tokio::net::TcpStream::connect(v6).await.is_ok() {
        Client::admin(v6).await.call("health", json!({})).await;
    }
    Client::admin(gateway.addr).await.call("health", json!({})).await;
}

#[tokio::test]
async fn sockets_that_do_not_authenticate_are_limited_for_each_address() {
    let gateway = Embedded::with(json!({ "gateway": { "maxPreauthConnectionsPerIp": 2 } })).await;
    let first = Client::open(gateway.addr).await;
    let second = Client::open(gateway.addr).await;
    let (status, answer) = asked(gateway.addr, true, &[]).await;
    assert!(status == 503 && answer.ends_with("Too many unauthenticated sockets"), "{answer}");
    // Who authenticates makes room, and so does who goes.
    let (mut client, challenge) = first;
    assert_eq!(
        client.response_to("connect", connect_params(&Intro::default(), &challenge)).await["ok"],
        true
    );
    drop(second);
    let deadline = Instant::now() + Duration::from_secs(10);
    while asked(gateway.addr, true, &[]).await.0 != 101 {
        assert!(Instant::now() < deadline, "no place is free again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Client::admin(gateway.addr).await;
}

/// The numbers of the recording `rate_limit_remote`, with this machine treated like any other.
#[tokio::test]
async fn who_fails_too_often_is_locked_out_for_each_kind_of_secret() {
    let limits = json!({ "maxAttempts": 3, "windowMs": 6000, "lockoutMs": 1500, "exemptLoopback": false });
    let gateway = Embedded::with(json!({ "gateway": { "auth": { "rateLimit": limits } } })).await;
    let device = Some([32; 32]);
    let code = |auth: Value| {
        let intro = Intro { auth, device, ..Intro::default() };
        async move {
            match Client::connect(gateway.addr, &intro).await {
                Ok(_) => "ok".to_owned(),
                Err(error) => error["details"]["code"].as_str().unwrap().to_owned(),
            }
        }
    };
    for kind in
        [("deviceToken", "AUTH_DEVICE_TOKEN_MISMATCH"), ("bootstrapToken", "AUTH_BOOTSTRAP_TOKEN_INVALID")]
    {
        for _ in 0..3 {
            assert_eq!(code(json!({ kind.0: "bad" })).await, kind.1);
        }
        assert_eq!(code(json!({ kind.0: "bad" })).await, "AUTH_RATE_LIMITED");
    }
    // What is missing never counts.
    for _ in 0..4 {
        assert_eq!(code(json!({})).await, "AUTH_TOKEN_MISSING");
    }
    for _ in 0..3 {
        assert_eq!(code(json!({ "token": "bad" })).await, "AUTH_TOKEN_MISMATCH");
    }
    assert_eq!(code(json!({ "token": "bad" })).await, "AUTH_RATE_LIMITED");
    assert_eq!(code(json!({ "token": TOKEN })).await, "AUTH_RATE_LIMITED");
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(code(json!({ "token": TOKEN })).await, "ok");
}

/// The tokens of browsers die with the shared secret they were issued under; those of programs do not.
/// accepts: E3
#[tokio::test]
async fn a_browsers_token_dies_with_the_shared_secret() {
    let gateway = Embedded::start().await;
    let cli = Intro { device: Some([33; 32]), ..Intro::default() };
    let page = format!("http://{}", gateway.addr);
    let browser = from_page(gateway.addr, &page, &control_ui(json!({ "token": TOKEN }))).await;
    let browser_token = browser["payload"]["auth"]["deviceToken"].clone();
    let cli_token = Client::connect(gateway.addr, &cli).await.unwrap().hello["auth"]["deviceToken"].clone();
    let by_token = control_ui(json!({ "deviceToken": browser_token }));
    assert_eq!(from_page(gateway.addr, &page, &by_token).await["ok"], true);

    let gateway = gateway.restarted(AuthSecret::Token(Secret::new("another"))).await;
    let page = format!("http://{}", gateway.addr);
    let refused = from_page(gateway.addr, &page, &by_token).await;
    assert_eq!(refused["error"]["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH", "{refused}");
    let by_token = Intro { auth: json!({ "token": cli_token }), ..cli };
    let again = Client::connect(gateway.addr, &by_token).await.unwrap();
    assert_eq!(again.hello["auth"]["method"], "device-token");
}

/// The recording `keepalive`, faster: who leaves a ping unanswered is dropped at the next one.
#[tokio::test]
async fn who_leaves_a_ping_unanswered_is_dropped() {
    let gateway = Embedded::with(json!({ "gateway": { "pingIntervalMs": 200 } })).await;
    let mut lively = Client::admin(gateway.addr).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (start, mut seen) = (Instant::now(), Vec::new());
    // Nothing answers the ping, and nothing is said at the end: no close frame.
    let silent = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut seen));
    tokio::pin!(silent);
    loop {
        tokio::select! {
            ended = &mut silent => {
                let _ = ended.unwrap();
                break;
            }
            // Who reads answers pings.
            _ = lively.call("health", json!({})) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(390) && seen.ends_with(&[0x89, 0]), "{seen:?}");
    lively.call("health", json!({})).await;
}

/// Who has as many requests in flight as may be is not read, and not taken for silent for that.
#[tokio::test]
async fn who_waits_for_all_it_may_ask_is_not_taken_for_silent() {
    let gateway = Embedded::with(json!({ "gateway": { "pingIntervalMs": 100 } })).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut asked = Vec::new();
    for _ in 0..MAX_IN_FLIGHT {
        asked.push(client.send("agent.wait", json!({ "runId": "none", "timeoutMs": 1_500 })).await);
    }
    for id in asked {
        assert_eq!(client.response(&id).await["payload"]["status"], "timeout");
    }
    client.call("health", json!({})).await;
}

/// A `connect` that claims to be a worker is another protocol, whatever else is wrong with it.
#[tokio::test]
async fn a_worker_is_closed_before_anything_else_is_looked_at() {
    let gateway = Embedded::start().await;
    for frame in [
        r#"{"type":"req","id":"1","method":"connect","params":{"role":"worker"}}"#,
        r#"{"type":"req","method":"connect","params":{"client":{"id":"openclaw-worker"}}}"#,
        r#"{"type":"req","id":"1","method":"connect","zzz":1,"params":{"client":{"mode":"worker"}}}"#,
    ] {
        let (mut client, _) = Client::open(gateway.addr).await;
        client.send_text(frame).await;
        assert_eq!(client.until_closed().await, Some((1008, "invalid-handshake".into())), "{frame}");
        assert!(client.responses.is_empty());
    }
}

/// accepts: E2, E9
#[tokio::test]
async fn operators_hear_what_waits_for_them() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let node = |scopes: &[&'static str]| Intro {
        id: "node-host",
        mode: "node",
        role: "node",
        scopes: scopes.to_vec(),
        device: Some([34; 32]),
        ..Intro::default()
    };
    let refused = Client::connect(gateway.addr, &node(&["operator.read"])).await.err().unwrap();
    let requested = admin.event(|e| e["event"] == "device.pair.requested").await["payload"].clone();
    let keys: Vec<&String> = requested.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "requestId",
            "deviceId",
            "publicKey",
            "platform",
            "deviceFamily",
            "clientId",
            "clientMode",
            "role",
            "roles",
            "scopes",
            "silent",
            "isRepair",
            "ts"
        ]
    );
    assert_eq!(requested["requestId"], refused["details"]["requestId"]);
    assert_eq!((&requested["deviceFamily"], &requested["silent"]), (&json!("Linux"), &json!(true)));
    // The same device, more modest: the request is withdrawn and the device approved.
    Client::connect(gateway.addr, &node(&[])).await.unwrap();
    let decided = admin.event(|e| e["payload"]["decision"] == "approved").await;
    assert_eq!(decided["payload"]["deviceId"], requested["deviceId"]);
    let withdrawn = |e: &&Value| e["payload"]["requestId"] == requested["requestId"];
    assert!(admin.events.iter().filter(withdrawn).any(|e| e["payload"]["decision"] == "rejected"));
}

/// accepts: E4, E9
#[tokio::test]
async fn an_operators_device_is_no_node_until_somebody_says_so() {
    let gateway = Embedded::start().await;
    let operator = Intro { device: Some([35; 32]), ..Intro::default() };
    Client::connect(gateway.addr, &operator).await.unwrap();
    let node = Intro { id: "node-host", mode: "node", role: "node", scopes: vec![], ..operator };
    let refused = Client::connect(gateway.addr, &node).await.err().unwrap();
    let message = "pairing required: device is asking for a higher role than currently approved";
    assert_eq!((&refused["code"], &refused["message"]), (&json!("NOT_PAIRED"), &json!(message)));
    let details = &refused["details"];
    assert_eq!(
        (&details["code"], &details["reason"], &details["approvedRoles"]),
        (&json!("PAIRING_REQUIRED"), &json!("role-upgrade"), &json!(["operator"]))
    );
    // Asked again, it is the same request.
    let again = Client::connect(gateway.addr, &node).await.err().unwrap();
    assert_eq!(again["details"]["requestId"], details["requestId"]);
}

/// With `gateway.nodes.pairing.autoApproveLocal` off nobody is approved in silence.
#[tokio::test]
async fn silence_can_be_switched_off() {
    let config = json!({ "gateway": { "nodes": { "pairing": { "autoApproveLocal": false } } } });
    let gateway = Embedded::with(config).await;
    let device = Intro { device: Some([36; 32]), ..Intro::default() };
    let refused = Client::connect(gateway.addr, &device).await.err().unwrap();
    assert_eq!(refused["details"]["reason"], "not-paired");
    Client::admin(gateway.addr).await;
}

#[tokio::test]
async fn a_message_after_the_refusal_is_not_answered() {
    let gateway = Embedded::start().await;
    let (mut ws, _) = tokio_tungstenite::connect_async(format!("ws://{}", gateway.addr)).await.unwrap();
    let challenge = ws.next().await.unwrap().unwrap();
    let challenge: Value = serde_json::from_str(challenge.to_text().unwrap()).unwrap();
    let wrong = Intro { auth: json!({ "token": "wrong" }), ..Intro::default() };
    let params = connect_params(&wrong, &challenge["payload"]);
    let connect = json!({ "type": "req", "id": "c", "method": "connect", "params": params });
    ws.feed(Message::text(connect.to_string())).await.unwrap();
    for _ in 0..40 {
        ws.feed(Message::text(r#"{"type":"req","id":"x","method":"health"}"#)).await.unwrap();
    }
    ws.flush().await.unwrap();
    let mut answers = 0;
    while let Some(Ok(message)) = ws.next().await {
        answers += usize::from(message.is_text());
    }
    assert_eq!(answers, 1);
}
