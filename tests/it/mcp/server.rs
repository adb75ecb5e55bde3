//! MCP servers of the tests: this program as a process of its own, and one on a socket.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The configuration of a server that is this program, with more in it.
pub fn process(more: Value) -> Value {
    let mut server = json!({
        "command": std::env::current_exe().unwrap(),
        "args": ["--exact", "mcp::server::a_server_of_its_own", "--ignored", "--nocapture"],
    });
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server
}

/// No test: a server for others, see [`process`]. What the test harness writes is no message, and so is passed over.
#[test]
#[ignore = "started by other tests, as a process of its own"]
fn a_server_of_its_own() {
    let mut out = std::io::stdout();
    writeln!(out).unwrap();
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = answer(&line.unwrap()) {
            writeln!(out, "{answer}").unwrap();
            out.flush().unwrap();
        }
    }
}

fn answer(asked: &str) -> Option<Value> {
    let asked: Value = serde_json::from_str(asked).unwrap();
    let id = asked.get("id")?;
    let params = &asked["params"];
    let result = match asked["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": params["protocolVersion"], "capabilities": { "tools": {} },
            "serverInfo": { "name": "test", "version": "1" },
        }),
        "tools/list" => {
            let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
            let tool = |name| json!({ "name": name, "description": name, "inputSchema": schema });
            let tools = ["echo", "env", "pid", "die"].map(tool);
            json!({ "tools": tools })
        }
        "tools/call" => {
            let text = params["arguments"]["text"].as_str().unwrap_or_default();
            let said = match params["name"].as_str()? {
                "echo" => text.to_owned(),
                "env" => std::env::var(text).unwrap_or_default(),
                "pid" => std::process::id().to_string(),
                _ => std::process::exit(3),
            };
            json!({ "content": [{ "type": "text", "text": said }] })
        }
        _ => json!({}),
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// A server on a socket.
pub struct Http {
    addr: SocketAddr,
    keys: Arc<Mutex<Vec<Option<String>>>>,
    _tasks: JoinSet<()>,
}

impl Http {
    /// Starts it; it answers, or points elsewhere.
    pub async fn start(elsewhere: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let keys = Arc::<Mutex<Vec<_>>>::default();
        let heard = keys.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                sockets.spawn(serve(socket, heard.clone(), elsewhere.clone()));
            }
        });
        Self { addr, keys, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// The header `x-key` of every request there was.
    pub fn keys(&self) -> Vec<Option<String>> {
        self.keys.lock().clone()
    }
}

async fn serve(socket: TcpStream, keys: Arc<Mutex<Vec<Option<String>>>>, elsewhere: Option<String>) {
    let mut socket = BufReader::new(socket);
    while let Some((posted, key, body)) = request(&mut socket).await {
        keys.lock().push(key);
        let (status, header, body) = match (&elsewhere, answer(&body)) {
            (Some(elsewhere), _) => {
                ("307 Temporary Redirect", format!("Location: {elsewhere}"), String::new())
            }
            _ if !posted => ("405 Method Not Allowed", "Allow: POST".to_owned(), String::new()),
            (None, Some(answer)) => {
                ("200 OK", "Content-Type: application/json".to_owned(), answer.to_string())
            }
            (None, None) => ("202 Accepted", "X-None: none".to_owned(), String::new()),
        };
        let answer = format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Whether it is a POST, its `x-key`, and its body.
async fn request(socket: &mut BufReader<TcpStream>) -> Option<(bool, Option<String>, String)> {
    let (mut posted, mut key, mut length) = (None, None, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        posted.get_or_insert_with(|| line.starts_with("POST "));
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("x-key: ") {
            key = Some(line[7..].to_owned());
        }
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).unwrap();
    Some((posted?, key, if body.is_empty() { "{}".into() } else { body }))
}
