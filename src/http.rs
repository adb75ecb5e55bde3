//! The one port: WebSocket upgrades on any path, drivers at `/driver`; plain HTTP goes to `routes`.

use crate::control_ui::ControlUi;
use crate::ingress::{self, Door, Source};
use crate::line::Line;
use crate::prompt::Prompt;
use crate::routes::routes;
use crate::{driver, socket, upgrade};
use bytes::Bytes;
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::settings::GatewaySettings;
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
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Whose connection it is, as far as the socket tells.
#[derive(Clone, Copy)]
pub struct Visit {
    /// Its other end.
    pub peer: SocketAddr,
    /// The door it came by.
    pub door: Door,
}

/// What is open, as far as a shutdown waits for it.
#[derive(Clone, Default)]
pub struct Open {
    /// WebSockets.
    pub sockets: TaskTracker,
    /// Those of drivers that have not ended by themselves are cut.
    pub cut: CancellationToken,
    /// Plain HTTP connections.
    pub plain: TaskTracker,
    /// What was asked is answered, and then the connection ends; one that has not asked yet may.
    pub closing: CancellationToken,
}

/// Serves one accepted connection until it ends or becomes a WebSocket.
pub async fn serve(line: Line, visit: Visit, wiring: Arc<Wiring>, ui: Arc<ControlUi>, open: Open) {
    let (Visit { peer, door }, sealed) = (visit, line.is_sealed());
    let (_open, upgrades) = (open.plain.token(), open.clone());
    let asked = Arc::new(Notify::new());
    let has_asked = asked.clone();
    let direct = warp::service(routes(peer, wiring.clone(), ui.clone()));
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (mut direct, ui) = (direct.clone(), ui.clone());
        let (wiring, upgrades) = (wiring.clone(), upgrades.clone());
        has_asked.notify_one();
        async move {
            let config = wiring.store.estate.config.load_full();
            let gateway = &config.settings.gateway;
            let response = match accept_key(request.headers()) {
                Some(key) => {
                    let response = upgrade(&mut request, &key, visit, sealed, wiring, &upgrades).await;
                    response.map(Either::Left)
                }
                None if is_closed(request.uri().path(), &wiring.store.estate) => {
                    upgrade::closed().map(Either::Left)
                }
                None => match ingress::source(request.headers(), peer.ip(), door, gateway) {
                    None => upgrade::unattributed(false).map(Either::Left),
                    Some(Source { via: None, .. }) => direct.call(request).await?.map(Either::Right),
                    // Of one connection of a proxy each request may be somebody else's.
                    Some(Source { ip, .. }) => {
                        let client = SocketAddr::new(ip, peer.port());
                        warp::service(routes(client, wiring, ui)).call(request).await?.map(Either::Right)
                    }
                },
            };
            Ok::<_, Infallible>(strict(response, gateway))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let serving = builder.serve_connection(TokioIo::new(Prompt::new(line)), answer).with_upgrades();
    let mut serving = std::pin::pin!(serving);
    // Whatever goes wrong here is between this client and its own request.
    tokio::select! {
        _ = &mut serving => {}
        () = async { tokio::join!(open.closing.cancelled(), asked.notified()); } => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// With `Strict-Transport-Security`, if its owner wants it.
fn strict<B>(mut response: Response<B>, gateway: &GatewaySettings) -> Response<B> {
    let wanted = gateway.http.security_headers.strict_transport();
    if let Some(Ok(value)) = wanted.map(HeaderValue::from_str) {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response
}

/// Whether this asks for work, and none is taken.
fn is_closed(path: &str, estate: &Estate) -> bool {
    const WORK: [&str; 3] = ["/v1/", "/tools/", "/hooks/"];
    !estate.admits() && WORK.iter().any(|work| path.starts_with(work))
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
    visit: Visit,
    sealed: bool,
    wiring: Arc<Wiring>,
    open: &Open,
) -> Response<Full<Bytes>> {
    let peer = match upgrade::admit(request.headers(), visit, sealed, &wiring).await {
        Ok(peer) => peer,
        Err(refusal) => return *refusal,
    };
    let is_driver = request.uri().path() == driver::PATH;
    let (upgraded, cut) = (hyper::upgrade::on(request), open.cut.clone());
    open.sockets.spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            match is_driver {
                // In a place of its own: a client's socket need not have room for it.
                true => Box::pin(driver::run(upgraded, peer, wiring.store.estate.clone(), cut)).await,
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
