//! `/v1`: the gateway as programs know OpenAI's API. A model there is an agent here; what is asked is a turn like any
//! other, which every client sees, and what the agent may do is decided where it always is.
//!
//! An endpoint that is not enabled is not there. Who knows the gateway's secret speaks as its owner.

mod chat;
mod conversation;
mod follow;
mod models;
mod responses;
mod sse;
mod target;

use crate::body;
use crate::routes::{error, json, not_allowed, refusal, text};
use bytes::Buf;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::sessions::{Outcome, Status};
use crabtree_actors::settings::AuthSecret;
use crabtree_protocol::{Refusal, Scope};
use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// Largest body, in bytes (as recorded).
const MAX_BODY: usize = 20 * 1024 * 1024;
/// OpenAI's own clients ask again after a failure, unless they are told not to: a turn that failed may have done things.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The same key again is the same question: it is answered once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A request below `/v1`.
pub struct Asked<S> {
    /// Behind `/v1/`, as it was sent.
    pub path: String,
    /// Its method.
    pub method: Method,
    /// Its head.
    pub headers: HeaderMap,
    /// Its body.
    pub body: S,
    /// Who asks.
    pub addr: SocketAddr,
}

/// Answers it.
pub async fn answer<S, B>(asked: Asked<S>, wiring: Arc<Wiring>) -> Response
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let Asked { path, method, headers, body, addr } = asked;
    let estate = &wiring.store.estate;
    let endpoints = estate.config.load().settings.gateway.http.endpoints.clone();
    let (chat, responses) = (endpoints.chat_completions.enabled, endpoints.responses.enabled);
    let allowed = match path.as_str() {
        "chat/completions" | "embeddings" if chat => "POST",
        "responses" if responses => "POST",
        "models" if chat => "GET",
        _ if chat && path.starts_with("models/") => "GET",
        _ => return text(StatusCode::NOT_FOUND, "Not Found"),
    };
    if method.as_str() != allowed {
        return not_allowed(allowed);
    }
    // Without a secret any page could have its visitor's browser ask; browsers say where such a call is from.
    if *estate.auth() == AuthSecret::None && headers.contains_key(header::ORIGIN) {
        return error(StatusCode::FORBIDDEN, "Pages may not ask without a secret", "forbidden");
    }
    let needed = if allowed == "GET" { Scope::Read } else { Scope::Write };
    if let Some(refusal) = refusal(&headers, addr, &wiring, needed).await {
        return refusal;
    }
    if allowed == "GET" {
        return models::answer(path.strip_prefix("models").unwrap_or_default(), &estate.catalog.load());
    }
    let Some(body) = body::read(body, MAX_BODY).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", "invalid_request_error");
    };
    let answered = match path.as_str() {
        "chat/completions" => chat::answer(&body, &headers, &wiring).await,
        "responses" => responses::answer(&body, &headers, &wiring).await,
        _ => embeddings(&body),
    };
    answered.unwrap_or_else(Wrong::into_response)
}

/// There is nothing here that makes embeddings.
fn embeddings(body: &[u8]) -> Result<Response, Wrong> {
    let body: Value = parsed(body)?;
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Wrong::request("Missing `model`."));
    }
    Err(Wrong::failed("No embedding provider is configured."))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|e| Wrong::request(e.to_string()))
}

/// A program cannot lend its tools: they would have to be asked for outside, in the middle of a turn.
fn no_tools(body: &Value, names: &[&str]) -> Result<(), Wrong> {
    let offers = |name: &&&str| !body[**name].is_null() && body[**name] != json!([]);
    match names.iter().find(offers).filter(|_| body["tool_choice"] != "none") {
        Some(name) => Err(Wrong::request(format!(
            "`{name}` are not taken: the agent runs its own tools. Leave them out, or say `tool_choice: \"none\"`."
        ))),
        None => Ok(()),
    }
}

/// Why there is no answer.
#[derive(Debug)]
struct Wrong {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Wrong {
    /// The request cannot be understood, or asks for what is not there.
    fn request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid_request_error", message: message.into() }
    }

    /// It was understood, and came to nothing.
    fn failed(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "api_error", message: message.into() }
    }

    fn body(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind } })
    }

    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.body());
        if self.status.is_server_error() {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// What a session refuses.
impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.retryable {
            Some(true) => StatusCode::SERVICE_UNAVAILABLE,
            _ => return Self::request(refusal.message),
        };
        Self { status, kind: "api_error", message: refusal.message }
    }
}

/// The words of a turn that went well.
fn words(outcome: &Outcome) -> Result<&str, Wrong> {
    match outcome.status {
        Status::Ok => Ok(outcome.text.trim_end()),
        Status::Aborted => Err(Wrong::failed("The run was stopped before it was done.")),
        Status::Timeout => Err(Wrong::failed("The run took longer than it may.")),
        Status::Error => Err(Wrong::failed(outcome.error.as_deref().unwrap_or("The run failed."))),
    }
}
