//! A client comes in, talks, and goes.

use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::gateway::{Embedded, http};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

/// accepts: C1, C2, C7, C10, D1, D2, H2
#[tokio::test]
async fn hello_says_who_answers_and_what_it_can() {
    let gateway = Embedded::start().await;
    let client = Client::admin(gateway.addr).await;
    let hello = &client.hello;
    assert_eq!((hello["type"].as_str(), hello["protocol"].as_u64()), (Some("hello-ok"), Some(4)));
    let keys: Vec<&String> = hello.as_object().unwrap().keys().collect();
    let expected =
        ["type", "protocol", "server", "features", "snapshot", "pluginSurfaceUrls", "auth", "policy"];
    assert_eq!(keys, expected);
    let methods = hello["features"]["methods"].as_array().unwrap();
    assert!(methods.contains(&json!("system.actors")) && !methods.contains(&json!("connect")));
    assert_eq!(hello["snapshot"]["presence"][0]["mode"], "gateway");
    assert_eq!(hello["snapshot"]["health"]["ok"], true);
    assert_eq!(hello["snapshot"]["sessionDefaults"]["mainSessionKey"], "agent:main:main");
    let auth = &hello["auth"];
    assert_eq!((&auth["method"], &auth["role"]), (&json!("token"), &json!("operator")));
    assert_eq!((&auth["scopes"], &auth["deviceToken"]), (&json!(["operator.admin"]), &Value::Null));
    assert_eq!(hello["policy"]["tickIntervalMs"], 30_000);
}

/// accepts: E1, E3, E4, E7, E8
#[tokio::test]
async fn a_device_is_paired_in_silence_over_loopback_and_comes_back_with_its_token() {
    let gateway = Embedded::start().await;
    let intro = Intro { device: Some([9; 32]), ..Intro::default() };
    let first = Client::connect(gateway.addr, &intro).await.unwrap();
    let token = first.hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 43);
    let again = Client::connect(gateway.addr, &intro).await.unwrap();
    assert_eq!(again.hello["auth"]["deviceToken"], token.as_str());
    let by_token = Intro { auth: json!({ "deviceToken": token }), ..intro.clone() };
    let third = Client::connect(gateway.addr, &by_token).await.unwrap();
    assert_eq!(third.hello["auth"]["method"], "device-token");
    let wrong = Intro { auth: json!({ "deviceToken": "wrong" }), ..intro };
    let error = Client::connect(gateway.addr, &wrong).await.err().unwrap();
    assert_eq!(error["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
}

/// accepts: B6, C9, D14
#[tokio::test]
async fn what_is_no_connect_is_closed_as_recorded() {
    let gateway = Embedded::start().await;
    for (first, close) in [
        ("hello", (1000, "")),
        ("{}", (1008, "invalid request frame")),
        (
            r#"{"type":"req","id":"1","method":"health"}"#,
            (1008, "invalid handshake: first request must be connect"),
        ),
    ] {
        let (mut client, _) = Client::open(gateway.addr).await;
        client.send_text(first).await;
        assert_eq!(client.until_closed().await, Some((close.0, close.1.to_owned())), "{first}");
    }
    let wrong = Intro { auth: json!({ "token": "wrong" }), ..Intro::default() };
    let (mut client, challenge) = Client::open(gateway.addr).await;
    let answer = client.response_to("connect", connect_params(&wrong, &challenge)).await;
    assert_eq!(answer["error"]["details"]["code"], "AUTH_TOKEN_MISMATCH");
    assert_eq!(client.until_closed().await.unwrap().0, 1008);
    let (mut client, _) = Client::open(gateway.addr).await;
    client.send_text("x".repeat(65_537)).await;
    assert_eq!(client.until_closed().await.unwrap().0, 1009);
}

/// accepts: B3, J5
#[tokio::test]
async fn the_same_port_answers_plain_http() {
    let gateway = Embedded::start().await;
    let live = json!({ "ok": true, "status": "live" }).to_string();
    assert_eq!(http(gateway.addr, "GET", "/health").await, Some((200, live.clone())));
    assert_eq!(http(gateway.addr, "GET", "/healthz").await, Some((200, live)));
    assert_eq!(http(gateway.addr, "POST", "/health").await, Some((405, "Method Not Allowed".into())));
    assert_eq!(http(gateway.addr, "GET", "/nowhere").await, Some((404, "Not Found".into())));
    let (status, body) = http(gateway.addr, "GET", "/ready").await.unwrap();
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()["ready"].clone()), (200, json!(true)));
}

/// accepts: C4, G7, I13
#[tokio::test]
async fn agent_answers_twice_and_a_watcher_sees_the_turn() {
    let gateway = Embedded::start().await;
    let mut watcher = Client::admin(gateway.addr).await;
    let mut client = Client::admin(gateway.addr).await;
    let params = json!({ "message": "hello", "sessionKey": "agent:main:main", "idempotencyKey": "k1" });
    let id = client.send("agent", params).await;
    let ack = client.response(&id).await;
    assert_eq!(
        (ack["payload"]["status"].as_str(), ack["payload"]["runId"].as_str()),
        (Some("accepted"), Some("k1"))
    );
    let end = client.response(&id).await["payload"].clone();
    let text = end["result"]["payloads"][0]["text"].as_str().unwrap().to_owned();
    assert!(text.ends_with("(turn 1): hello"), "{end}");
    let seen = watcher.chat_end("k1").await;
    assert_eq!(
        (seen["state"].as_str(), seen["message"]["content"][0]["text"].as_str()),
        (Some("final"), Some(&*text))
    );
    let seqs = watcher.seqs();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "{seqs:?}");
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    let roles: Vec<_> = history["messages"].as_array().unwrap().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant"]);
}

/// accepts: K5
#[tokio::test]
async fn shutdown_is_announced_and_closes_with_1012() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    assert!(!TOKEN.is_empty());
    gateway.gateway.shutdown("gateway stopping").await;
    assert_eq!(client.until_closed().await, Some((1012, "service restart".into())));
    let last = client.events.last().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["payload"]["reason"].as_str()),
        (Some("shutdown"), Some("gateway stopping"))
    );
}

#[tokio::test]
async fn a_close_of_the_client_is_answered() {
    let gateway = Embedded::start().await;
    let (mut ws, _) = tokio_tungstenite::connect_async(format!("ws://{}", gateway.addr)).await.unwrap();
    assert!(ws.next().await.unwrap().unwrap().to_text().unwrap().contains("connect.challenge"));
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    ws.close(Some(goodbye.clone())).await.unwrap();
    assert_eq!(ws.next().await.unwrap().unwrap(), Message::Close(Some(goodbye)));
    assert!(ws.next().await.is_none());
}
