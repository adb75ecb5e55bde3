//! The one port: WebSocket upgrades on any path, and plain HTTP through warp.

use crate::socket;
use bytes::Bytes;
use crabtree_actors::conns::Peer;
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use warp::{Filter, Reply};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves one accepted connection until it ends or becomes a WebSocket.
pub async fn serve(stream: TcpStream, peer: SocketAddr, wiring: Arc<Wiring>, sockets: TaskTracker) {
    let routes = warp::service(routes(wiring.store.estate.clone()));
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (mut routes, wiring, sockets) = (routes.clone(), wiring.clone(), sockets.clone());
        async move {
            match accept_key(request.headers()) {
                Some(key) => {
                    let response = upgrade(&mut request, &key, peer, wiring, &sockets);
                    Ok::<_, Infallible>(response.map(Either::Left))
                }
                None => routes.call(request).await.map(|response| response.map(Either::Right)),
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    // Whatever goes wrong here is between this client and its own request.
    let _ = builder.serve_connection(TokioIo::new(stream), answer).with_upgrades().await;
}

/// The accept key, if this is a WebSocket upgrade.
fn accept_key(headers: &HeaderMap) -> Option<String> {
    let upgrade = headers.get(header::UPGRADE)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    upgrade.as_bytes().eq_ignore_ascii_case(b"websocket").then(|| derive_accept_key(key.as_bytes()))
}

fn upgrade(
    request: &mut Request<Incoming>,
    key: &str,
    addr: SocketAddr,
    wiring: Arc<Wiring>,
    sockets: &TaskTracker,
) -> Response<Full<Bytes>> {
    if wiring.store.estate.is_draining() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "Gateway websocket admission closed");
    }
    let named = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let peer = Peer {
        ip: addr.ip(),
        origin: named(header::ORIGIN).map(Into::into),
        host: named(header::HOST).map(Into::into),
    };
    let upgraded = hyper::upgrade::on(request);
    sockets.spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            socket::run(upgraded, peer, wiring).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The plain HTTP answers, as recorded.
fn routes(
    estate: Arc<Estate>,
) -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone + Send + Sync + 'static {
    warp::method().and(warp::path::full()).map(
        move |method: warp::http::Method, path: warp::path::FullPath| {
            let reads = matches!(method, warp::http::Method::GET | warp::http::Method::HEAD);
            match path.as_str() {
                "/health" | "/healthz" if reads => {
                    json(StatusCode::OK, serde_json::json!({ "ok": true, "status": "live" }))
                }
                "/ready" | "/readyz" if reads => ready(&estate),
                "/health" | "/healthz" | "/ready" | "/readyz" => {
                    text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
                }
                _ => text(StatusCode::NOT_FOUND, "Not Found"),
            }
        },
    )
}

fn ready(estate: &Estate) -> warp::reply::Response {
    let failing: Vec<&str> = if estate.is_draining() {
        vec!["draining"]
    } else if estate.ready.is_complete() {
        Vec::new()
    } else {
        vec!["startup-sidecars"]
    };
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(
        status,
        serde_json::json!({
            "ready": ready,
            "failing": failing,
            "waitingFor": estate.ready.missing(),
            "uptimeMs": estate.clock.uptime().as_millis() as u64,
        }),
    )
}

fn json(status: StatusCode, body: serde_json::Value) -> warp::reply::Response {
    let reply = warp::reply::with_header(warp::reply::json(&body), "cache-control", "no-store");
    warp::reply::with_status(reply, status).into_response()
}

fn text(status: StatusCode, body: &'static str) -> warp::reply::Response {
    warp::reply::with_status(body, status).into_response()
}
