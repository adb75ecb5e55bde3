//! A model that speaks OpenAI's `chat/completions` and says the same to everybody: `tok0 tok1 …`, a token each so many
//! milliseconds. It is what turns are measured with.

use anyhow::Result;
use clap::Args;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Its name in the configuration.
pub const PROVIDER: &str = "load";
pub const NAME: &str = "load/mock";

/// What it says, and how fast.
#[derive(Args, Clone, Copy)]
pub struct Script {
    /// Tokens of an answer of the model
    #[arg(long, default_value_t = 20)]
    pub tokens: u64,
    /// Milliseconds before each token
    #[arg(long, default_value_t = 20)]
    pub token_ms: u64,
}

impl Script {
    /// How an answer ends.
    pub fn last(&self) -> String {
        format!("tok{}", self.tokens.saturating_sub(1))
    }

    /// How long it takes when nobody adds to it.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.tokens * self.token_ms)
    }
}

/// A model that listens; it ends with this value.
pub struct Model {
    pub addr: SocketAddr,
    pub script: Script,
    counts: Arc<Counts>,
    listening: AbortHandle,
}

/// How many answers it is giving, and the most at the same time.
#[derive(Default)]
struct Counts {
    now: AtomicU64,
    most: AtomicU64,
}

/// An answer on its way.
struct Answering(Arc<Counts>);

impl Answering {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.most.fetch_max(counts.now.fetch_add(1, Relaxed) + 1, Relaxed);
        Self(counts.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Model {
    pub async fn start(script: Script, port: u16) -> Result<Self> {
        let door = TcpListener::bind(("127.0.0.1", port)).await?;
        let addr = door.local_addr()?;
        let counts = Arc::new(Counts::default());
        let listening = tokio::spawn(serve(door, script, counts.clone())).abort_handle();
        Ok(Self { addr, script, counts, listening })
    }

    /// The most answers it was giving at the same time.
    pub fn most(&self) -> u64 {
        self.counts.most.load(Relaxed)
    }

    /// What `openclaw.json` says of it, in the words of both gateways.
    pub fn config(&self) -> Value {
        let model = json!({ "id": "mock", "name": "Mock", "reasoning": false, "input": ["text"], "contextWindow": 200_000,
            "maxTokens": 8_192, "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 } });
        let url = format!("http://{}/v1", self.addr);
        json!({ "providers": { (PROVIDER): { "baseUrl": url, "apiKey": "none", "api": "openai-completions",
            "models": [model] } } })
    }
}

async fn serve(door: TcpListener, script: Script, counts: Arc<Counts>) {
    while let Ok((stream, _)) = door.accept().await {
        let _ = stream.set_nodelay(true);
        let counts = counts.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, script, counts.clone()));
            // A gateway that ends its connection in the middle of an answer is nothing to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = StreamBody<std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

async fn answer(
    request: Request<Incoming>,
    script: Script,
    counts: Arc<Counts>,
) -> Result<Response<Body>, hyper::http::Error> {
    if !request.uri().path().ends_with("/chat/completions") {
        return Response::builder()
            .status(StatusCode::NOT_FOUND)
            .body(StreamBody::new(Box::pin(stream::empty())));
    }
    let answering = Answering::new(&counts);
    // What was asked does not matter; a question that breaks off is answered to nobody.
    let _ = request.into_body().collect().await;
    let spoken = stream::unfold(
        (0, Instant::now(), answering),
        move |(token, begun, answering)| async move {
            let chunk = match token {
                said if said < script.tokens => {
                    let due = begun + Duration::from_millis(script.token_ms * (said + 1));
                    // A timer takes a millisecond also for a moment that has passed.
                    if script.token_ms > 0 {
                        tokio::time::sleep_until(due).await;
                    }
                    chunk(
                        &json!([{ "index": 0, "delta": { "role": "assistant", "content": format!("tok{said} ") } }]),
                    )
                }
                end if end == script.tokens => ending(script.tokens),
                _ => return None,
            };
            Some((Ok(Frame::data(chunk)), (token + 1, begun, answering)))
        },
    );
    Response::builder().header("content-type", "text/event-stream").body(StreamBody::new(Box::pin(spoken)))
}

fn chunk(choices: &Value) -> Bytes {
    let chunk = json!({ "id": "load", "object": "chat.completion.chunk", "created": 0, "model": "mock", "choices": choices });
    format!("data: {chunk}\n\n").into()
}

fn ending(tokens: u64) -> Bytes {
    let stop = chunk(&json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]));
    let usage = json!({ "id": "load", "object": "chat.completion.chunk", "created": 0, "model": "mock", "choices": [],
        "usage": { "prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens } });
    [&stop[..], format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes()].concat().into()
}
