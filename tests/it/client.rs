//! A WebSocket client for tests: it records every frame, and knows nothing of the gateway's insides.

use crate::leaks;
use crabtree_protocol::client::encode_request;
use crabtree_protocol::proof::DeviceKey;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The token of every gateway under test.
pub const TOKEN: &str = "a-token-for-tests-only";
/// Nothing in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a client introduces itself.
#[derive(Clone)]
pub struct Intro {
    pub id: &'static str,
    pub mode: &'static str,
    pub role: &'static str,
    pub scopes: Vec<&'static str>,
    pub caps: Vec<&'static str>,
    pub auth: Value,
    pub device: Option<[u8; 32]>,
}

impl Default for Intro {
    fn default() -> Self {
        Self {
            id: "cli",
            mode: "cli",
            role: "operator",
            scopes: vec!["operator.admin"],
            caps: vec![],
            auth: json!({ "token": TOKEN }),
            device: None,
        }
    }
}

/// How a socket ended: code and reason, or nothing for an end without a close frame.
pub type Closed = Option<(u16, String)>;

pub struct Client {
    ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
    addr: Option<SocketAddr>,
    next_id: u64,
    /// Requests whose answers have secrets in them.
    by_design: Vec<String>,
    pub hello: Value,
    /// Events in the order of arrival.
    pub events: Vec<Value>,
    /// Responses that were not waited for when they came.
    pub responses: Vec<Value>,
    pub closed: Option<Closed>,
}

impl Client {
    /// Opens a socket and waits for the challenge.
    pub async fn open(addr: SocketAddr) -> (Self, Value) {
        let (ws, _) = connect_async(format!("ws://{addr}")).await.unwrap();
        Self::over(ws).await
    }

    /// The same on a socket that was opened otherwise.
    pub async fn over(ws: WebSocketStream<MaybeTlsStream<TcpStream>>) -> (Self, Value) {
        let (events, responses) = (vec![], vec![]);
        let addr = match ws.get_ref() {
            MaybeTlsStream::Plain(stream) => stream.peer_addr().ok(),
            _ => None,
        };
        let (by_design, hello) = (vec![], Value::Null);
        let mut client = Self { ws, addr, next_id: 0, by_design, hello, events, responses, closed: None };
        let challenge = client.frame().await.expect("a challenge");
        assert_eq!(challenge["event"], "connect.challenge");
        (client, challenge["payload"].clone())
    }

    /// Connects as `intro`; the refusal's error if there is no hello.
    pub async fn connect(addr: SocketAddr, intro: &Intro) -> Result<Self, Value> {
        let (mut client, challenge) = Self::open(addr).await;
        let params = connect_params(intro, &challenge);
        let answer = client.response_to("connect", params).await;
        match answer["ok"].as_bool() {
            Some(true) => {
                client.hello = answer["payload"].clone();
                Ok(client)
            }
            _ => Err(answer["error"].clone()),
        }
    }

    pub async fn admin(addr: SocketAddr) -> Self {
        Self::connect(addr, &Intro::default()).await.expect("an admin is let in")
    }

    /// A command line with these scopes.
    pub async fn scoped(addr: SocketAddr, scopes: &[&'static str]) -> Self {
        let intro = Intro { scopes: scopes.to_vec(), ..Intro::default() };
        Self::connect(addr, &intro).await.expect("an operator is let in")
    }

    /// Sends a request without waiting; returns its id.
    pub async fn send(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = format!("t{}", self.next_id);
        if leaks::may_answer(method) {
            self.by_design.push(id.clone());
        }
        let frame = encode_request(&id, method, Some(params.to_string().as_bytes()));
        self.send_text(String::from_utf8(frame).unwrap()).await;
        id
    }

    pub async fn send_text(&mut self, text: impl Into<String>) {
        // A socket that is closing shows itself when it is read.
        let _ = self.ws.send(Message::text(text.into())).await;
    }

    /// The same in a binary message.
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        let _ = self.ws.send(Message::binary(bytes.into())).await;
    }

    /// Bytes that are no message of this library's making.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.ws.get_mut().write_all(bytes).await.unwrap();
    }

    /// Reads and keeps every frame, responses among them, until one is the `last`.
    pub async fn frames_until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = vec![];
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("closed {:?}: {frames:#?}", self.closed));
            frames.push(frame);
            if frames.last().is_some_and(&last) {
                return frames;
            }
        }
    }

    /// The next frame; `None` when the socket has ended.
    pub async fn frame(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.next_frame()).await.expect("a frame in time")
    }

    /// The same, however long it takes. What is not waited for to the end is not lost.
    pub async fn next_frame(&mut self) -> Option<Value> {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let is_asked_for = self.by_design.iter().any(|id| frame["id"] == id.as_str());
                    if let Some(addr) = self.addr.filter(|_| !is_asked_for) {
                        leaks::check_frame(addr, &frame, &text);
                    }
                    return Some(frame);
                }
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(frame.map(|f| (f.code.into(), f.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    self.closed.get_or_insert(None);
                    return None;
                }
            }
        }
    }

    /// Reads until a response with this id has come; everything else is recorded.
    pub async fn response(&mut self, id: &str) -> Value {
        if let Some(at) = self.responses.iter().position(|r| r["id"] == id) {
            return self.responses.remove(at);
        }
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("closed {:?} before {id}", self.closed));
            if frame["type"] == "res" && frame["id"] == id {
                return frame;
            }
            self.record(frame);
        }
    }

    fn record(&mut self, frame: Value) {
        if frame["type"] == "event" { self.events.push(frame) } else { self.responses.push(frame) }
    }

    pub async fn response_to(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await;
        self.response(&id).await
    }

    /// The payload of a request that must succeed.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.response_to(method, params).await;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        answer["payload"].clone()
    }

    /// The error of a request that must be refused.
    pub async fn refused(&mut self, method: &str, params: Value) -> Value {
        let answer = self.response_to(method, params).await;
        assert_eq!(answer["ok"], false, "{method}: {answer}");
        answer["error"].clone()
    }

    /// Reads until an event satisfies `wanted`, which may have come already.
    pub async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = 0;
        loop {
            if let Some(event) = self.events[seen..].iter().find(|e| wanted(e)) {
                return event.clone();
            }
            seen = self.events.len();
            let frame = self.frame().await.unwrap_or_else(|| panic!("closed {:?}", self.closed));
            self.record(frame);
        }
    }

    /// The terminal `chat` event of a run.
    pub async fn chat_end(&mut self, run_id: &str) -> Value {
        self.event(|e| is_chat_end(e, run_id)).await["payload"].clone()
    }

    /// Reads one frame, whatever it is, and records it.
    pub async fn read_one(&mut self) {
        let frame = self.frame().await.unwrap_or_else(|| panic!("closed {:?}", self.closed));
        self.record(frame);
    }

    /// Reads to the end of the socket.
    pub async fn until_closed(&mut self) -> Closed {
        while let Some(frame) = self.frame().await {
            self.record(frame);
        }
        self.closed.clone().unwrap()
    }

    /// Frame numbers of the recorded events, in order.
    pub fn seqs(&self) -> Vec<u64> {
        self.events.iter().filter_map(|e| e["seq"].as_u64()).collect()
    }
}

pub fn is_chat_end(event: &Value, run_id: &str) -> bool {
    let payload = &event["payload"];
    event["event"] == "chat"
        && payload["runId"] == run_id
        && matches!(payload["state"].as_str(), Some("final" | "aborted" | "error"))
}

/// The params of a `connect`, signed if the intro has a device.
pub fn connect_params(intro: &Intro, challenge: &Value) -> Value {
    let mut params = json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": { "id": intro.id, "mode": intro.mode, "version": "0", "platform": "linux" },
        "caps": intro.caps,
        "role": intro.role,
        "scopes": intro.scopes,
        "auth": intro.auth,
    });
    if let Some(seed) = &intro.device {
        let mut typed = serde_json::from_value(params).unwrap();
        let nonce = challenge["nonce"].as_str().unwrap();
        DeviceKey::from_seed(seed).sign_device(&mut typed, nonce, challenge["ts"].as_u64().unwrap());
        params = serde_json::to_value(typed).unwrap();
    }
    params
}
