//! Drivers behind a gateway: a program in Python that it starts, and one that comes in at `/driver`.

use crate::client::Client;
use crate::gateway::Embedded;
use crate::mock_model::models;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn gateway(channels: Value) -> Embedded {
    let config = json!({ "channels": channels, "agents": { "defaults": { "model": "mock/mock-1" } } });
    Embedded::with_models(config, models()).await
}

/// accepts: B18, B19, C3
#[tokio::test]
async fn a_driver_in_python_brings_a_message_and_takes_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("board.sock");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/drivers/echo.py");
    let lines = std::fs::read_to_string(program).unwrap().lines().count();
    assert!(lines <= 60, "it is to be read in one look: {lines} lines");
    let driver = json!({ "command": "python3", "args": [program, socket] });
    let gateway = gateway(json!({ "board": { "dmPolicy": "open", "driver": driver } })).await;
    let person = async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(person) => return person,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let (heard, mut says) = timeout(PATIENCE, person).await.expect("the driver runs").into_split();
    says.write_all(b"ann\nMOCK{n=2}\n").await.unwrap();
    let mut lines = BufReader::new(heard).lines();
    let answer = timeout(PATIENCE, lines.next_line()).await.expect("an answer comes").unwrap();
    assert_eq!(answer.as_deref(), Some("tok0 tok1"));
    let mut client = Client::admin(gateway.addr).await;
    let account = client.call("channels.status", json!({})).await["channelAccounts"]["board"][0].clone();
    assert_eq!(
        (&account["healthState"], &account["connected"]),
        (&json!("healthy"), &json!(true)),
        "{account}"
    );
    gateway.gateway.shutdown("done").await;
}

struct Guest(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Guest {
    async fn dial(gateway: &Embedded) -> Self {
        Self(connect_async(format!("ws://{}/driver", gateway.addr)).await.unwrap().0)
    }

    async fn say(&mut self, kind: &str, id: &str, payload: Value) {
        let frame = json!({ "type": kind, "id": id, "timestamp": 1, "payload": payload });
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame of this kind, or the code it was closed with.
    async fn hears(&mut self, kind: &str) -> Result<Value, u16> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("something comes") {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] == kind {
                        return Ok(frame);
                    }
                }
                Some(Ok(Message::Close(close))) => return Err(close.map_or(0, |close| close.code.into())),
                Some(Ok(_)) => {}
                other => panic!("cut off: {other:?}"),
            }
        }
    }

    async fn connect(&mut self, token: &str) {
        let hello = json!({ "protocol": 1, "driver": "test/1", "channel": "board", "token": token });
        self.say("connect", "1", hello).await;
    }
}

/// accepts: B15, B16, C8
#[tokio::test]
async fn a_driver_elsewhere_comes_in_with_its_token_and_without_it_is_closed_with_4001() {
    let gateway =
        gateway(json!({ "board": { "dmPolicy": "open", "driver": { "token": "the-link" } } })).await;
    let mut wrong = Guest::dial(&gateway).await;
    wrong.connect("another").await;
    assert_eq!(wrong.hears("connected").await, Err(4001));
    let mut driver = loop {
        let mut driver = Guest::dial(&gateway).await;
        driver.connect("the-link").await;
        // Its account may just be starting.
        match driver.hears("connected").await {
            Ok(connected) => {
                assert_eq!(connected["payload"]["client_id"], "board/default");
                break driver;
            }
            Err(code) => assert_eq!(code, 4001),
        }
        sleep(Duration::from_millis(50)).await;
    };
    let message = json!({ "channel": { "kind": "direct", "id": "ann" }, "sender": { "id": "ann" }, "content": "MOCK{n=1}" });
    driver.say("message_in", "post-1", message).await;
    assert_eq!(driver.hears("message_ack").await.unwrap()["payload"]["id"], "post-1");
    assert_eq!(driver.hears("stream_block").await.unwrap()["payload"]["content"], "tok0");
    let end = driver.hears("stream_end").await.unwrap();
    driver.say("message_ack", "2", json!({ "id": end["payload"]["id"], "platform_id": "77" })).await;
    let mut client = Client::admin(gateway.addr).await;
    let sent = async {
        loop {
            let status = client.call("channels.status", json!({})).await;
            if status["channelAccounts"]["board"][0]["deliveries"]["sent"] == 1 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, sent).await.expect("it is known to be sent");
}
