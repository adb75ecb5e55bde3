//! Webhooks: who may call them, and what is read of a request. What is done is in `crabtree_actors::hooks`.

use crate::body;
use crate::routes::{json, not_allowed, text};
use crate::upgrade;
use bytes::Buf;
use crabtree_actors::auth_limiter::{Culprit, SecretKind};
use crabtree_actors::gateway::Wiring;
use crabtree_actors::hooks::{Answer, Request, Scene, answer as follow};
use crabtree_actors::settings::{HooksSettings, RateLimitSettings, Secret};
use futures_util::Stream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

/// How long a body may take (as recorded).
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Wrong tokens of one address in a window, and how long it is not listened to after that, ms (as recorded).
const LIMITS: RateLimitSettings =
    RateLimitSettings { max_attempts: 20, window_ms: 60_000, lockout_ms: 60_000, exempt_loopback: false };
const TOKEN: HeaderName = HeaderName::from_static("x-openclaw-token");
const KEYS: [&str; 2] = ["idempotency-key", "x-openclaw-idempotency-key"];
/// What of a head templates do not see.
const SECRETS: [&str; 4] = ["authorization", "x-openclaw-token", "cookie", "proxy-authorization"];
/// What is always where it is.
const PROBES: [&str; 5] = ["/health", "/healthz", "/ready", "/readyz", "/metrics"];
/// What is answered to who has the token in the address (as recorded).
const IN_QUERY: &str = "Hook token must be provided via Authorization: Bearer <token> or X-OpenClaw-Token header (query \
    parameters are not allowed).";

/// A request below `hooks.path`.
pub struct Asked<S> {
    /// Its path.
    pub path: FullPath,
    /// What stands behind `?`.
    pub query: BTreeMap<String, String>,
    /// Its method.
    pub method: Method,
    /// Its head.
    pub headers: HeaderMap,
    /// Its body.
    pub body: S,
    /// Who asks.
    pub addr: SocketAddr,
}

/// Where they are, while they are on.
pub fn path(wiring: Arc<Wiring>) -> impl Filter<Extract = (), Error = Rejection> + Clone + Send + Sync {
    let is_here = move |path: FullPath| {
        let config = wiring.store.estate.config.load();
        let hooks = &config.settings.hooks;
        let is_here = hooks.secret().is_some()
            && hooks.path.below(path.as_str()).is_some()
            && !PROBES.contains(&path.as_str());
        std::future::ready(if is_here { Ok(()) } else { Err(warp::reject::not_found()) })
    };
    warp::path::full().and_then(is_here).untuple_one()
}

/// Answers the request.
pub async fn answer<S, B>(asked: Asked<S>, wiring: Arc<Wiring>) -> Response
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let config = wiring.store.estate.config.load_full();
    let hooks = &config.settings.hooks;
    let (Some(token), Some(below)) = (hooks.secret(), hooks.path.below(asked.path.as_str())) else {
        return text(StatusCode::NOT_FOUND, "Not Found");
    };
    let query = asked.query;
    if query.contains_key("token") {
        return text(StatusCode::BAD_REQUEST, IN_QUERY);
    }
    if asked.method != Method::POST {
        return not_allowed("POST");
    }
    if let Some(refusal) = refusal(&asked.headers, asked.addr, &wiring, &token) {
        return refusal;
    }
    if below.is_empty() {
        return text(StatusCode::NOT_FOUND, "Not Found");
    }
    if wiring.store.estate.is_draining() {
        return draining();
    }
    let payload = match payload(asked.body, hooks, below).await {
        Ok(payload) => payload,
        Err((status, why)) => return json(status, &json!({ "ok": false, "error": why })),
    };
    let key = KEYS.iter().find_map(|name| asked.headers.get(*name)?.to_str().ok().map(str::to_owned));
    let scene = Scene {
        payload,
        headers: headers(&asked.headers),
        query,
        path: below.to_owned(),
        now: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    };
    written(follow(&wiring, Request { token, scene, key }).await)
}

/// What is answered to who does not know the token.
fn refusal(headers: &HeaderMap, addr: SocketAddr, wiring: &Wiring, token: &Secret) -> Option<Response> {
    let estate = &wiring.store.estate;
    let (culprit, now) = (Culprit::of(&upgrade::peer(headers, addr.ip())), estate.clock.uptime());
    if sent(headers).is_some_and(|sent| token.is(sent)) {
        estate.auth_limiter.passed(&culprit, SecretKind::Hook);
        return None;
    }
    if let Some(left) = estate.auth_limiter.locked(&culprit, SecretKind::Hook, now, &LIMITS) {
        let mut response = text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1));
        return Some(response);
    }
    estate.auth_limiter.failed(&culprit, SecretKind::Hook, now, &LIMITS);
    Some(text(StatusCode::UNAUTHORIZED, "Unauthorized"))
}

fn sent(headers: &HeaderMap) -> Option<&str> {
    let word = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let bearer = word(&header::AUTHORIZATION).and_then(|sent| {
        let (scheme, token) = sent.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.filter(|token| !token.is_empty()).or_else(|| word(&TOKEN))
}

/// The body, as JSON; nothing is an object without members.
async fn payload<B: Buf>(
    body: impl Stream<Item = Result<B, warp::Error>>,
    hooks: &HooksSettings,
    below: &str,
) -> Result<Value, (StatusCode, String)> {
    let read = tokio::time::timeout(BODY_LIMIT, body::read(body, hooks.max_body(below))).await;
    let body = read.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "request body timeout".to_owned()))?;
    let body = body.ok_or_else(|| (StatusCode::PAYLOAD_TOO_LARGE, "payload too large".to_owned()))?;
    let body = String::from_utf8_lossy(&body);
    if body.trim().is_empty() {
        return Ok(json!({}));
    }
    let payload: Value =
        serde_json::from_str(&body).map_err(|error| (StatusCode::BAD_REQUEST, complaint(&body, &error)))?;
    Ok(if payload.is_object() { payload } else { json!({}) })
}

/// What is wrong with JSON, in the recorded words where there are any.
fn complaint(body: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "Unexpected end of JSON input".into();
    }
    let before: usize = body.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (before + error.column().saturating_sub(1)).min(body.len());
    let place = format!("in JSON at position {at} (line {} column {})", error.line(), error.column());
    if error.to_string().starts_with("key must be a string") {
        let is_first = body.get(..at).is_some_and(|before| before.trim_end().ends_with('{'));
        let wanted = if is_first { "property name or '}'" } else { "double-quoted property name" };
        return format!("Expected {wanted} {place}");
    }
    if error.to_string().starts_with("trailing characters") {
        return format!("Unexpected non-whitespace character after {}", place.trim_start_matches("in "));
    }
    format!("Invalid value {place}")
}

fn headers(head: &HeaderMap) -> BTreeMap<String, String> {
    let shown = head.iter().filter(|(name, _)| !SECRETS.contains(&name.as_str()));
    shown.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

fn written(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match answer.body {
        Some(body) => json(status, &body),
        None if status == StatusCode::NOT_FOUND => text(status, "Not Found"),
        None => text(status, ""),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Nothing begins any more (as recorded).
fn draining() -> Response {
    let message = "Gateway is temporarily unavailable while suspending or restarting";
    let error = json!({ "message": message, "type": "service_unavailable", "code": "gateway_unavailable" });
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error }));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> String {
        complaint(body, &serde_json::from_str::<Value>(body).unwrap_err())
    }

    #[test]
    fn broken_json_is_told_as_recorded() {
        assert_eq!(said("{bad"), "Expected property name or '}' in JSON at position 1 (line 1 column 2)");
        assert_eq!(
            said("{\"a\":1,\n x"),
            "Expected double-quoted property name in JSON at position 9 (line 2 column 2)"
        );
        assert_eq!(said("{\"a\":"), "Unexpected end of JSON input");
        assert_eq!(
            said("{} x"),
            "Unexpected non-whitespace character after JSON at position 3 (line 1 column 4)"
        );
    }

    #[test]
    fn a_token_is_found_in_either_header_and_a_bearer_goes_first() {
        let head = |list: &[(&'static str, &'static str)]| -> HeaderMap {
            list.iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        let (bearer, own) = (("authorization", "bearer  one "), ("x-openclaw-token", "two"));
        assert_eq!(sent(&head(&[bearer, own])), Some("one"));
        assert_eq!(sent(&head(&[("authorization", "Bearer "), own])), Some("two"));
        assert_eq!(sent(&head(&[("authorization", "Basic one")])), None);
    }

    #[test]
    fn templates_see_no_secret_of_a_head() {
        let mut head = HeaderMap::new();
        for name in SECRETS {
            head.insert(name, HeaderValue::from_static("s"));
        }
        head.insert("X-GitHub-Event", HeaderValue::from_static("push"));
        assert_eq!(headers(&head), BTreeMap::from([("x-github-event".to_owned(), "push".to_owned())]));
    }
}
