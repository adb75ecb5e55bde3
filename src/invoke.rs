//! `POST /tools/invoke`: a tool called over plain HTTP, by those who know the secret and devices that may write.

use crate::body;
use crate::routes::{error, json, not_allowed, refusal};
use bytes::Buf;
use crabtree_actors::audit;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::settings::AuthSecret;
use crabtree_actors::tools::invoke::{Asked, Failure, invoke};
use crabtree_protocol::{Refusal, Scope, SessionKey};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use warp::http::header::{self, HeaderMap};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// Largest body, in bytes (as recorded).
const MAX_BODY: usize = 2 * 1024 * 1024;

/// What is asked for. OpenClaw's clients say `tool` as well.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(alias = "tool")]
    name: Option<String>,
    #[serde(default)]
    args: Map<String, Value>,
    session_key: Option<String>,
    idempotency_key: Option<String>,
}

/// Answers the request.
pub async fn answer<B: Buf>(
    method: Method,
    headers: HeaderMap,
    body: impl Stream<Item = Result<B, warp::Error>>,
    addr: SocketAddr,
    wiring: Arc<Wiring>,
) -> Response {
    if method != Method::POST {
        return not_allowed("POST");
    }
    let estate = &wiring.store.estate;
    // Without a secret any page could have its visitor's browser call tools; browsers say where such a call is from.
    if *estate.auth() == AuthSecret::None && headers.contains_key(header::ORIGIN) {
        return error(StatusCode::FORBIDDEN, "Pages may not call tools without a secret", "forbidden");
    }
    if let Some(refusal) = refusal(&headers, addr, &wiring, Scope::Write).await {
        return refusal;
    }
    let Some(body) = body::read(body, MAX_BODY).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", "invalid_request_error");
    };
    let body: Body = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(e) => return failed(StatusCode::BAD_REQUEST, "invalid_request", &format!("invalid JSON: {e}")),
    };
    call(body, addr, &wiring).await
}

async fn call(body: Body, addr: SocketAddr, wiring: &Wiring) -> Response {
    let Some(name) = body.name.filter(|name| !name.is_empty()) else {
        return failed(StatusCode::BAD_REQUEST, "invalid_request", "tools.invoke requires name");
    };
    let catalog = wiring.store.estate.catalog.load_full();
    let named = body.session_key.as_deref().unwrap_or(&catalog.main_key);
    let session = match SessionKey::canonical(named, &catalog.default_agent().id) {
        Ok(key) => key,
        Err(refusal) => return failed(StatusCode::BAD_REQUEST, "invalid_request", &refusal.message),
    };
    let estate = &wiring.store.estate;
    let note = audit::over_http(estate, addr.ip(), &name, session.as_str());
    let args = Value::Object(body.args);
    let asked = Asked { name, args, session, idempotency_key: body.idempotency_key };
    let invoked = invoke(&wiring.store, asked).await;
    if let Some(note) = note {
        let failed = Refusal::failed("the tool");
        note.end(invoked.as_ref().map(drop).map_err(|_| &failed));
    }
    match invoked {
        Ok(result) => json(StatusCode::OK, &json!({ "ok": true, "result": result })),
        Err(Failure::NotFound(why)) => failed(StatusCode::NOT_FOUND, "not_found", &why),
        Err(Failure::Invalid(why)) => failed(StatusCode::BAD_REQUEST, "invalid_request", &why),
        Err(Failure::Failed(why)) => failed(StatusCode::INTERNAL_SERVER_ERROR, "tool_error", &why),
    }
}

fn failed(status: StatusCode, kind: &str, message: &str) -> Response {
    json(status, &json!({ "ok": false, "error": { "type": kind, "message": message } }))
}
