//! A provider on a socket: answers in the dialect it is started with what it is told to answer, and remembers what it
//! was asked.

use super::calls;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A way to speak to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Completions,
    Responses,
    Anthropic,
    Gemini,
    Ollama,
}

impl Dialect {
    pub const ALL: [Self; 5] =
        [Self::Completions, Self::Responses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completions => "openai-completions",
            Self::Responses => "openai-responses",
            Self::Anthropic => "anthropic-messages",
            Self::Gemini => "google-generative-ai",
            Self::Ollama => "ollama",
        }
    }

    /// Where the model `m` is asked.
    pub fn path(self) -> &'static str {
        match self {
            Self::Completions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Anthropic => "/v1/messages",
            Self::Gemini => "/v1beta/models/m:streamGenerateContent?alt=sse",
            Self::Ollama => "/api/chat",
        }
    }

    /// One piece of text, as a frame of the stream.
    fn piece(self, text: &str) -> String {
        match self {
            Self::Completions => {
                sse(None, &json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }))
            }
            Self::Responses => sse(
                Some("response.output_text.delta"),
                &json!({
                    "type": "response.output_text.delta", "delta": text, "item_id": "i", "output_index": 0,
                    "content_index": 0,
                }),
            ),
            Self::Anthropic => sse(
                Some("content_block_delta"),
                &json!({
                    "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text },
                }),
            ),
            Self::Gemini => sse(
                None,
                &json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "text": text }] } }] }),
            ),
            Self::Ollama => line(
                &json!({ "model": "m", "message": { "role": "assistant", "content": text }, "done": false }),
            ),
        }
    }

    /// A piece of what is thought before the answer, in the dialects of models at home.
    fn thought(self, text: &str) -> String {
        match self {
            Self::Ollama => line(&json!({
                "model": "m", "message": { "role": "assistant", "content": "", "thinking": text }, "done": false,
            })),
            _ => sse(None, &json!({ "choices": [{ "index": 0, "delta": { "reasoning_content": text } }] })),
        }
    }

    fn beginning(self) -> String {
        match self {
            Self::Anthropic => {
                let message = json!({
                    "id": "x", "type": "message", "role": "assistant", "model": "m", "content": [],
                    "usage": { "input_tokens": 7, "output_tokens": 0 },
                });
                let block = json!({
                    "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" },
                });
                sse(Some("message_start"), &json!({ "type": "message_start", "message": message }))
                    + &sse(Some("content_block_start"), &block)
            }
            _ => String::new(),
        }
    }

    /// Seven tokens were read, and three written; it is the block with this number that ends.
    fn end(self, block: usize) -> String {
        match self {
            Self::Completions => {
                let usage = json!({ "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 });
                sse(None, &json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))
                    + &sse(None, &json!({ "choices": [], "usage": usage }))
                    + "data: [DONE]\n\n"
            }
            Self::Responses => {
                let usage = json!({ "input_tokens": 7, "output_tokens": 3, "total_tokens": 10 });
                let response =
                    json!({ "id": "r", "status": "completed", "model": "m", "output": [], "usage": usage });
                sse(
                    Some("response.completed"),
                    &json!({ "type": "response.completed", "response": response }),
                )
            }
            Self::Anthropic => {
                let delta = json!({
                    "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 3 },
                });
                sse(Some("content_block_stop"), &json!({ "type": "content_block_stop", "index": block }))
                    + &sse(Some("message_delta"), &delta)
                    + &sse(Some("message_stop"), &json!({ "type": "message_stop" }))
            }
            Self::Gemini => {
                let usage =
                    json!({ "promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10 });
                let last = json!({ "content": { "role": "model", "parts": [] }, "finishReason": "STOP" });
                sse(None, &json!({ "candidates": [last], "usageMetadata": usage }))
            }
            Self::Ollama => line(&json!({
                "model": "m", "message": { "role": "assistant", "content": "" }, "done": true, "done_reason": "stop",
                "prompt_eval_count": 7, "eval_count": 3,
            })),
        }
    }
}

pub(super) fn sse(event: Option<&str>, data: &Value) -> String {
    let event = event.map_or_else(String::new, |event| format!("event: {event}\n"));
    format!("{event}data: {data}\n\n")
}

pub(super) fn line(data: &Value) -> String {
    format!("{data}\n")
}

/// What it answers.
pub struct Reply {
    status: u16,
    headers: String,
    body: String,
    thoughts: Vec<String>,
    pieces: Vec<String>,
    calls: Vec<(&'static str, Value)>,
    ends: Ends,
}

enum Ends {
    Well,
    Cut,
    Hang,
    Garbage,
}

impl Reply {
    /// This text, in pieces.
    pub fn text(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let (headers, body, ends) = (String::new(), String::new(), Ends::Well);
        Self { status: 200, headers, body, thoughts: vec![], pieces, calls: vec![], ends }
    }

    /// Thought of before.
    pub fn after(self, thoughts: &[&str]) -> Self {
        Self { thoughts: thoughts.iter().map(|thought| (*thought).to_owned()).collect(), ..self }
    }

    /// And then calls of these tools.
    pub fn calling(self, calls: &[(&'static str, Value)]) -> Self {
        Self { calls: calls.to_vec(), ..self }
    }

    /// An error.
    pub fn status(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned(), ..Self::text(&[]) }
    }

    /// With this header beside an error.
    pub fn with_header(self, name: &str, value: &str) -> Self {
        Self { headers: format!("{}{name}: {value}\r\n", self.headers), ..self }
    }

    /// The connection closes before the end.
    pub fn cut(self) -> Self {
        Self { ends: Ends::Cut, ..self }
    }

    /// Nothing more comes.
    pub fn hang(self) -> Self {
        Self { ends: Ends::Hang, ..self }
    }

    /// What comes instead of the end is no JSON.
    pub fn garbage(self) -> Self {
        Self { ends: Ends::Garbage, ..self }
    }
}

/// A request it has had.
#[derive(Clone)]
pub struct Asked {
    pub path: String,
    pub key: Option<String>,
    pub body: Value,
}

/// See the module. It ends when it is dropped.
pub struct Provider {
    pub dialect: Dialect,
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

impl Provider {
    /// `answers` says what the request of a number gets.
    pub async fn start(dialect: Dialect, answers: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let mut serving = JoinSet::new();
        let known = asked.clone();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            let answers = Arc::new(answers);
            while let Ok((socket, _)) = listener.accept().await {
                let (known, answers) = (known.clone(), answers.clone());
                open.spawn(async move {
                    // A client that goes away is none of its business.
                    let _ = serve(socket, dialect, &known, &*answers).await;
                });
            }
        });
        Self { dialect, addr, asked, _serving: serving }
    }

    /// As the configuration has it.
    pub fn base_url(&self) -> String {
        let version = match self.dialect {
            Dialect::Completions | Dialect::Responses => "/v1",
            Dialect::Gemini => "/v1beta",
            Dialect::Anthropic | Dialect::Ollama => "",
        };
        format!("http://{}{version}", self.addr)
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

/// One request a connection.
async fn serve(
    socket: TcpStream,
    dialect: Dialect,
    known: &Mutex<Vec<Asked>>,
    answers: &(impl Fn(usize) -> Reply + Sync),
) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let asked = read(&mut socket).await?;
    let number = {
        let mut known = known.lock();
        known.push(asked);
        known.len() - 1
    };
    let reply = answers(number);
    if reply.status != 200 {
        let (status, headers, body) = (reply.status, reply.headers, reply.body);
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}"
        );
        return socket
            .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await;
    }
    let kind = if dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let thoughts = reply.thoughts.iter().map(|text| dialect.thought(text));
    let calls = reply.calls.iter().enumerate();
    let calls = calls.map(|(at, (name, arguments))| calls::frames(dialect, at, name, arguments));
    let pieces = thoughts.chain(reply.pieces.iter().map(|text| dialect.piece(text))).chain(calls);
    for frame in [dialect.beginning()].into_iter().filter(|frame| !frame.is_empty()).chain(pieces) {
        chunk(&mut socket, &frame).await?;
    }
    match reply.ends {
        Ends::Well => {
            chunk(&mut socket, &dialect.end(reply.calls.len())).await?;
            socket.write_all(b"0\r\n\r\n").await
        }
        Ends::Garbage => chunk(&mut socket, "data: {\"choices\": [\n\n").await,
        Ends::Cut => socket.write_all(b"0\r\n\r\n").await,
        Ends::Hang => std::future::pending().await,
    }
}

async fn chunk(socket: &mut BufReader<TcpStream>, frame: &str) -> std::io::Result<()> {
    socket.write_all(format!("{:x}\r\n{frame}\r\n", frame.len()).as_bytes()).await?;
    socket.flush().await
}

async fn read(socket: &mut BufReader<TcpStream>) -> std::io::Result<Asked> {
    let mut request = String::new();
    socket.read_line(&mut request).await?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut key, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        socket.read_line(&mut header).await?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => key = value.strip_prefix("Bearer ").map(str::to_owned),
            "x-api-key" | "x-goog-api-key" => key = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Asked { path, key, body: serde_json::from_slice(&body).unwrap() })
}
