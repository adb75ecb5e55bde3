//! A server in memory, as tests need it: it speaks just enough of the protocol, and does what its tools are called.

use super::client::Client;
use super::dial::{Dial, Line};
use futures_util::FutureExt;
use parking_lot::Mutex;
use rmcp::ServiceExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, WriteHalf};
use tokio::sync::Notify;

/// What a server in memory is and does; shared by all its connections.
#[derive(Default)]
pub(super) struct Fake {
    /// Its tools; two a page.
    pub tools: Mutex<Vec<Value>>,
    /// What it was told without being asked.
    pub told: Mutex<Vec<Value>>,
    /// How often it was reached, and asked whether it is there.
    pub dialled: AtomicUsize,
    pub pinged: AtomicUsize,
    /// It answers nothing any more.
    pub is_deaf: AtomicBool,
    /// Ends a connection.
    pub hang_up: Notify,
    /// Has a connection say that its tools have changed.
    pub announce: Notify,
}

impl Fake {
    pub(super) fn with(tools: &[&str]) -> Arc<Self> {
        let this = Self::default();
        this.set(tools);
        Arc::new(this)
    }

    pub(super) fn set(&self, tools: &[&str]) {
        let tool = |name: &&str| json!({ "name": name, "inputSchema": { "type": "object" } });
        *self.tools.lock() = tools.iter().map(tool).collect();
    }

    pub(super) fn dial(self: &Arc<Self>) -> Dial {
        let this = self.clone();
        Arc::new(move |client| this.clone().reached(client).boxed())
    }

    pub(super) async fn reached(self: Arc<Self>, client: Client) -> Result<Line, String> {
        self.dialled.fetch_add(1, SeqCst);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(self.serve(theirs));
        let service = client.serve(tokio::io::split(ours)).await.map_err(|e| e.to_string())?;
        Ok(Line { service, process: None })
    }

    async fn serve(self: Arc<Self>, stream: DuplexStream) {
        let (read, mut write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = self.hang_up.notified() => return,
                () = self.announce.notified() => {
                    say(&mut write, json!({ "method": "notifications/tools/list_changed" })).await;
                    continue;
                }
            };
            let Ok(Some(line)) = line else { return };
            let asked: Value = serde_json::from_str(&line).unwrap();
            if asked.get("id").is_none() {
                self.told.lock().push(asked);
            } else if !self.is_deaf.load(SeqCst) {
                self.answer(&mut write, &asked).await;
            }
        }
    }

    async fn answer(&self, write: &mut WriteHalf<DuplexStream>, asked: &Value) {
        let params = &asked["params"];
        let result = match asked["method"].as_str().unwrap() {
            "initialize" => json!({
                "protocolVersion": params["protocolVersion"], "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "fake", "version": "1" },
            }),
            "tools/list" => self.page(&params["cursor"]),
            "ping" => {
                self.pinged.fetch_add(1, SeqCst);
                json!({})
            }
            "tools/call" => match self.call(write, params).await {
                Some(result) => result,
                None => return,
            },
            other => panic!("asked for {other}"),
        };
        let mut answer = json!({ "id": asked["id"] });
        match result.get("code") {
            Some(_) => answer["error"] = result,
            None => answer["result"] = result,
        }
        say(write, answer).await;
    }

    fn page(&self, cursor: &Value) -> Value {
        let begin: usize = cursor.as_str().map_or(0, |cursor| cursor.parse().unwrap());
        let tools = self.tools.lock();
        let end = tools.len().min(begin + 2);
        let mut page = json!({ "tools": tools[begin..end] });
        if end < tools.len() {
            page["nextCursor"] = json!(end.to_string());
        }
        page
    }

    async fn call(&self, write: &mut WriteHalf<DuplexStream>, params: &Value) -> Option<Value> {
        let said = |text: &str| json!({ "content": [{ "type": "text", "text": text }] });
        Some(match params["name"].as_str().unwrap() {
            "echo" => said(&params["arguments"].to_string()),
            "slow" => {
                let token = &params["_meta"]["progressToken"];
                for (progress, message) in [(1, json!("half way")), (2, Value::Null)] {
                    let mut half = json!({ "progressToken": token, "progress": progress, "total": 2 });
                    if !message.is_null() {
                        half["message"] = message;
                    }
                    say(write, json!({ "method": "notifications/progress", "params": half })).await;
                    // Its listener is to hear of it before the answer.
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                said("there")
            }
            "refuse" => json!({ "code": -32602, "message": "no such thing" }),
            "fail" => json!({ "content": [{ "type": "text", "text": "it is broken" }], "isError": true }),
            _ => return None,
        })
    }
}

async fn say(write: &mut WriteHalf<DuplexStream>, mut said: Value) {
    said["jsonrpc"] = json!("2.0");
    // Who has hung up does not hear it.
    let _ = write.write_all(format!("{said}\n").as_bytes()).await;
}
