//! An answer that is told while it is written, as server-sent events.

use bytes::Bytes;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use warp::http::header::{self, HeaderValue};
use warp::reply::Response;
use warp::{Reply, reply};

/// Events that wait for a client that reads slowly; then the next one waits for it.
const BACKLOG: usize = 64;
/// Without news this is how often a stream says that it is alive.
pub const ALIVE: Duration = Duration::from_secs(15);

/// Where events go.
pub struct Sender(mpsc::Sender<Result<Bytes, Infallible>>);

/// The client is gone.
#[derive(Debug)]
pub struct Gone;

/// A stream and its answer.
pub fn stream() -> (Sender, Response) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let events = futures_util::stream::unfold(receiver, async |mut receiver| {
        let event = receiver.recv().await?;
        Some((event, receiver))
    });
    let mut response = reply::stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    (Sender(sender), response)
}

impl Sender {
    /// An event without a name.
    pub async fn data(&self, data: &Value) -> Result<(), Gone> {
        self.send(format!("data: {data}\n\n")).await
    }

    /// An event that is named by its `type`.
    pub async fn typed(&self, data: &Value) -> Result<(), Gone> {
        let name = data["type"].as_str().unwrap_or_default();
        self.send(format!("event: {name}\ndata: {data}\n\n")).await
    }

    /// Nothing follows.
    pub async fn done(&self) -> Result<(), Gone> {
        self.send("data: [DONE]\n\n".into()).await
    }

    /// Says that it is alive.
    pub async fn alive(&self) -> Result<(), Gone> {
        self.send(": alive\n\n".into()).await
    }

    /// Resolves when the client has gone.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    async fn send(&self, event: String) -> Result<(), Gone> {
        self.0.send(Ok(event.into())).await.map_err(|_| Gone)
    }
}
