//! One connection of a recorded case: what came on it, and what is waited for.

use super::PATIENCE;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Told a moment later than recorded: what a node offers is looked at when it is in.
const UNORDERED: [&str; 1] = ["node.pair.resolved"];

pub struct Wire {
    pub ws: WebSocketStream<TcpStream>,
    pub challenge: Value,
    pub sent: Instant,
    pub methods: HashMap<String, String>,
    pub waiting: Vec<Value>,
    /// Events about devices, and others that the case waits for, that were not waited for when they came.
    pub events: VecDeque<Value>,
    pub awaited: BTreeSet<String>,
}

impl Wire {
    pub async fn frame(&mut self) -> Result<Value, Option<(u16, String)>> {
        loop {
            match timeout(PATIENCE, self.ws.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|f| (f.code.into(), f.reason.to_string())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The answer to a request.
    pub async fn response(&mut self, id: &Value) -> Option<Value> {
        timeout(PATIENCE, self.next_response(id)).await.expect("an answer in time")
    }

    async fn next_response(&mut self, id: &Value) -> Option<Value> {
        if let Some(at) = self.waiting.iter().position(|frame| frame["id"] == *id) {
            return Some(self.waiting.remove(at));
        }
        loop {
            let frame = self.frame().await.ok()?;
            if frame["type"] == "res" && frame["id"] == *id {
                return Some(frame);
            }
            self.keep(frame);
        }
    }

    fn keep(&mut self, frame: Value) {
        if frame["type"] == "res" {
            self.waiting.push(frame);
        } else if let Some(name) = frame["event"].as_str()
            && (name.starts_with("device.") || self.awaited.contains(name))
        {
            self.events.push_back(frame);
        }
    }

    /// The next event that was kept, if one comes; of those in [`UNORDERED`] the next of this name, and of the others the
    /// next that is none of them.
    pub async fn event(&mut self, name: &str) -> Option<Value> {
        let is_free = |event: &Value| UNORDERED.contains(&event["event"].as_str().unwrap_or_default());
        let mut passed = VecDeque::new();
        let found = loop {
            let Some(event) = timeout(PATIENCE, self.next_event()).await.ok().flatten() else { break None };
            let is_it = if UNORDERED.contains(&name) { event["event"] == name } else { !is_free(&event) };
            if is_it {
                break Some(event);
            }
            passed.push_back(event);
        };
        passed.append(&mut self.events);
        self.events = passed;
        found
    }

    async fn next_event(&mut self) -> Option<Value> {
        while self.events.is_empty() {
            let frame = self.frame().await.ok()?;
            self.keep(frame);
        }
        self.events.pop_front()
    }

    pub async fn closed(&mut self) -> Option<(u16, String)> {
        let _ = self.ws.flush().await;
        loop {
            if let Err(closed) = self.frame().await {
                return closed;
            }
        }
    }
}
