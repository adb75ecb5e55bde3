//! Plain HTTP on the one port: probes, the summary of row J4, and the metrics. Everything is read from
//! published snapshots; no actor is asked, so the answers come while anything hangs.

use crate::bearer::{self, Bearer, LOCKED_OUT};
use crate::control_ui::{self, ControlUi};
use crate::{canvas, hooks, invoke, media, metrics, openai, page, upgrade};
use crabtree_actors::channels::{self, AccountName};
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::settings::AuthSecret;
use crabtree_protocol::Scope;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Reply};

/// On every plain answer that does not say otherwise: nobody may frame it, guess its type, or learn where a link was
/// followed from.
const SECURITY: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(self), geolocation=()"),
];

/// The plain answers to a client at `addr`.
pub fn routes(
    addr: SocketAddr,
    wiring: Arc<Wiring>,
    ui: Arc<ControlUi>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let (own, asking, keeper, hooked) = (wiring.clone(), wiring.clone(), wiring.clone(), wiring.clone());
    let pages = canvas::routes(addr, wiring.clone());
    let invoked = warp::path!("tools" / "invoke")
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, headers, body| {
            let wiring = own.clone();
            async move { secured(invoke::answer(method, headers, body, addr, wiring).await) }
        });
    let openai = warp::path("v1")
        .and(warp::path::tail())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |tail: warp::path::Tail, method, headers, body| {
            let (path, wiring) = (tail.as_str().to_owned(), asking.clone());
            async move {
                secured(openai::answer(openai::Asked { path, method, headers, body, addr }, wiring).await)
            }
        });
    let shown = media::path(wiring.clone())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::query())
        .then(move |method, headers, asked| {
            let wiring = keeper.clone();
            async move { secured(media::answer(method, headers, asked, addr, wiring).await) }
        });
    let hooks = hooks::path(wiring.clone())
        .and(warp::path::full())
        .and(warp::query())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |path, query, method, headers, body| {
            let wiring = hooked.clone();
            async move {
                let asked = hooks::Asked { path, query, method, headers, body, addr };
                secured(hooks::answer(asked, wiring).await)
            }
        });
    let plain = warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned()).then(
        move |method: Method, path: FullPath, query: String, headers: HeaderMap| {
            let (asked, wiring, ui) = (Asked { addr, method, query, headers }, wiring.clone(), ui.clone());
            async move { secured(asked.answer(path.as_str(), &wiring, &ui).await) }
        },
    );
    invoked.or(openai).unify().or(shown).unify().or(pages).unify().or(hooks).unify().or(plain).unify()
}

fn secured(mut response: Response) -> Response {
    secure(response.headers_mut());
    response
}

/// A plain request.
struct Asked {
    addr: SocketAddr,
    method: Method,
    query: String,
    headers: HeaderMap,
}

impl Asked {
    async fn answer(&self, path: &str, wiring: &Arc<Wiring>, ui: &Arc<ControlUi>) -> Response {
        let estate = &wiring.store.estate;
        match path {
            "/health" | "/healthz" | "/ready" | "/readyz" | "/metrics" if !self.reads() => {
                not_allowed("GET, HEAD")
            }
            "/health" if self.wants("view", "summary") => {
                self.guarded(wiring, || json(StatusCode::OK, &summary(estate))).await
            }
            "/health" | "/healthz" => json(StatusCode::OK, &json!({ "ok": true, "status": "live" })),
            "/ready" | "/readyz" => ready(estate),
            "/metrics" => self.guarded(wiring, || exposition(metrics::render(estate))).await,
            _ => {
                let Self { addr, method, query, headers } = self;
                let asked = control_ui::Asked { addr: *addr, method, path, query, headers };
                match ui.answer(&asked, wiring).await {
                    Some(response) => response,
                    None => page::answer(method, path, headers)
                        .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "Not Found")),
                }
            }
        }
    }

    fn reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    fn wants(&self, name: &str, value: &str) -> bool {
        self.query.split('&').any(|pair| pair.split_once('=') == Some((name, value)))
    }

    /// What only this machine and those who know the secret may see.
    async fn guarded(&self, wiring: &Wiring, answer: impl FnOnce() -> Response) -> Response {
        if self.is_local() {
            return answer();
        }
        refusal(&self.headers, self.addr, wiring, Scope::Read).await.unwrap_or_else(answer)
    }

    /// From this machine, under a name that no web page can borrow. What a proxy forwards does not come here.
    fn is_local(&self) -> bool {
        let named = self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        self.addr.ip().to_canonical().is_loopback() && named.is_none_or(is_loopback_name)
    }
}

/// What is answered to who does not know the secret, and is no device that may do this; none to who does or is, or if
/// there is no secret.
pub async fn refusal(
    headers: &HeaderMap,
    addr: SocketAddr,
    wiring: &Wiring,
    needed: Scope,
) -> Option<Response> {
    match bearer::judge(headers, &upgrade::peer(headers, addr.ip()), wiring).await {
        Bearer::Right => None,
        Bearer::Device(scopes) if scopes.allows(needed) => None,
        Bearer::Device(_) => {
            let message = format!("missing scope: {}", needed.name());
            Some(error(StatusCode::FORBIDDEN, &message, "forbidden"))
        }
        Bearer::Absent if *wiring.store.estate.auth() == AuthSecret::None => None,
        Bearer::Absent | Bearer::Wrong => {
            Some(error(StatusCode::UNAUTHORIZED, "Unauthorized", "unauthorized"))
        }
        Bearer::Unsure => {
            let message = "Devices cannot be asked at the moment; try again";
            Some(error(StatusCode::SERVICE_UNAVAILABLE, message, "unavailable"))
        }
        Bearer::LockedOut(left) => Some(locked_out(left)),
    }
}

/// Whether a `Host` header names this machine: a page elsewhere can have its own name resolve to it.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn ready(estate: &Estate) -> Response {
    let failing: Vec<&str> = if estate.is_draining() {
        vec!["gateway-draining"]
    } else if estate.ready.is_complete() {
        Vec::new()
    } else {
        vec!["startup-sidecars"]
    };
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(
        status,
        &json!({
            "ready": ready,
            "failing": failing,
            "waitingFor": estate.ready.missing(),
            "uptimeMs": estate.clock.uptime().as_millis() as u64,
        }),
    )
}

/// `/health?view=summary`: the figures of row J4.
fn summary(estate: &Estate) -> Value {
    let whole = estate.health.load().ok && estate.ready.is_complete() && !estate.is_draining();
    let figures = metrics::Figures::of(estate);
    let accounts = channels::configured(&estate.config.load().settings.channels, None);
    let is_connected = |name: &&AccountName| channels::condition(estate, name).connected;
    let connected: BTreeSet<&str> = accounts.iter().filter(is_connected).map(|name| &*name.channel).collect();
    json!({
        "status": if whole { "healthy" } else { "degraded" },
        "uptime_seconds": estate.clock.uptime().as_secs(),
        "connected_channels": connected,
        "active_sessions": figures.sessions,
        "queued_messages": figures.queued,
        "registered_tools": estate.tools.load().len(),
        "memory_usage_mb": metrics::resident_bytes().map(|bytes| bytes / (1024 * 1024)),
    })
}

/// An answer in JSON that nobody keeps.
pub fn json(status: StatusCode, body: &Value) -> Response {
    let kind = "application/json; charset=utf-8";
    let mut response = of_kind(kind, status, body.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn exposition(body: String) -> Response {
    let mut response = of_kind("text/plain; version=0.0.4; charset=utf-8", StatusCode::OK, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in words.
pub fn text(status: StatusCode, body: &'static str) -> Response {
    of_kind("text/plain; charset=utf-8", status, body.to_owned())
}

fn of_kind(kind: &'static str, status: StatusCode, body: String) -> Response {
    let mut response = warp::reply::with_status(body, status).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Too many tokens were wrong.
fn locked_out(left: Duration) -> Response {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, LOCKED_OUT, "rate_limited");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1));
    response
}

/// Only these methods are.
pub fn not_allowed(allowed: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A refusal, in the shape of those before authentication.
pub fn error(status: StatusCode, message: &str, kind: &str) -> Response {
    json(status, &json!({ "error": { "message": message, "type": kind } }))
}

/// Adds the headers of every plain answer.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:18789", "127.8.8.8", "[::1]:80", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "10.0.0.1:1", "[fe80::1]:1", "127.0.0.1.nip.io"]
        {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
