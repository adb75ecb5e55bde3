//! The one port: WebSocket upgrades on any path, drivers at `/driver`; plain HTTP goes to `routes`.

use crate::ingress::{self, Source};
use crate::routes::routes;
use crate::{driver, socket, upgrade};
use bytes::Bytes;
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

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves one accepted connection until it ends or becomes a WebSocket.
pub async fn serve(stream: TcpStream, peer: SocketAddr, wiring: Arc<Wiring>, sockets: TaskTracker) {
    let direct = warp::service(routes(peer, wiring.clone()));
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (mut direct, wiring, sockets) = (direct.clone(), wiring.clone(), sockets.clone());
        async move {
            match accept_key(request.headers()) {
                Some(key) => {
                    let response = upgrade(&mut request, &key, peer, wiring, &sockets).await;
                    Ok::<_, Infallible>(response.map(Either::Left))
                }
                None => {
                    let config = wiring.store.estate.config.load_full();
                    let from = ingress::source(request.headers(), peer.ip(), &config.settings.gateway);
                    let response = match from {
                        None => return Ok(upgrade::unattributed(false).map(Either::Left)),
                        Some(Source { via: None, .. }) => direct.call(request).await,
                        // Of one connection of a proxy each request may be somebody else's.
                        Some(Source { ip, .. }) => {
                            let client = SocketAddr::new(ip, peer.port());
                            warp::service(routes(client, wiring)).call(request).await
                        }
                    };
                    response.map(|response| response.map(Either::Right))
                }
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

async fn upgrade(
    request: &mut Request<Incoming>,
    key: &str,
    addr: SocketAddr,
    wiring: Arc<Wiring>,
    sockets: &TaskTracker,
) -> Response<Full<Bytes>> {
    let peer = match upgrade::admit(request.headers(), addr.ip(), &wiring.store.estate).await {
        Ok(peer) => peer,
        Err(refusal) => return *refusal,
    };
    let is_driver = request.uri().path() == driver::PATH;
    let upgraded = hyper::upgrade::on(request);
    sockets.spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            match is_driver {
                true => driver::run(upgraded, peer, wiring.store.estate.clone()).await,
                false => socket::run(upgraded, peer, wiring).await,
            }
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
