//! Who may open a WebSocket: what is checked on the head of its request, before anything is said on it.

use crate::bearer::{self, Bearer, LOCKED_OUT};
use crate::http::Visit;
use crate::ingress::{self, Source};
use crate::routes::secure;
use bytes::Bytes;
use crabtree_actors::conns::Peer;
use crabtree_actors::gateway::Wiring;
use crabtree_protocol::Scopes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// The most scopes a connection may be granted, set by whoever stands before the client.
const SCOPES_HEADER: &str = "x-openclaw-scopes";
/// The name a proxy was asked for.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// The answer to a forwarded request; `upgrade` closes the connection and needs no page's headers.
pub fn unattributed(upgrade: bool) -> Response<Full<Bytes>> {
    let message = "Proxy client attribution is required. Configure gateway.trustedProxies narrowly and make the \
                   proxy overwrite or safely rebuild forwarded client headers.";
    let body = json!({ "error": { "message": message, "type": "proxy_attribution_required" } });
    let mut response = error(StatusCode::FORBIDDEN, &body);
    if !upgrade {
        response.headers_mut().remove(header::CONNECTION);
        secure(response.headers_mut());
    }
    response
}

/// The answer to who asks for work while none is taken.
pub fn closed() -> Response<Full<Bytes>> {
    let message = "Gateway is temporarily unavailable while suspending or restarting";
    let kind = json!({ "message": message, "type": "service_unavailable", "code": "gateway_unavailable" });
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": kind }));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().remove(header::CONNECTION);
    secure(response.headers_mut());
    response
}

/// Takes the client's place among those that have not authenticated, and looks at what it brings; `sealed` says whether it
/// speaks TLS with the gateway. `Err` is the answer when it may not come in.
pub async fn admit(
    headers: &HeaderMap,
    visit: Visit,
    sealed: bool,
    wiring: &Wiring,
) -> Result<Peer, Box<Response<Full<Bytes>>>> {
    let admitted = judge(headers, visit, sealed, wiring).await;
    if let Err(refused) = &admitted {
        wiring.store.estate.meters.refused.count(format!("HTTP_{}", refused.status().as_u16()));
    }
    admitted
}

async fn judge(
    headers: &HeaderMap,
    visit: Visit,
    sealed: bool,
    wiring: &Wiring,
) -> Result<Peer, Box<Response<Full<Bytes>>>> {
    let estate = &wiring.store.estate;
    if estate.is_draining() {
        return Err(text("Gateway websocket admission closed"));
    }
    let config = estate.config.load_full();
    let gateway = &config.settings.gateway;
    let Some(source) = ingress::source(headers, visit.peer.ip(), visit.door, gateway) else {
        return Err(Box::new(unattributed(true)));
    };
    let Some(place) = estate.preauth.take(source.ip, gateway.max_preauth_connections_per_ip) else {
        return Err(text("Too many unauthenticated sockets"));
    };
    let voucher = ingress::voucher(headers, &source, estate).await;
    let tls = ingress::is_sealed(headers, &source, sealed);
    let Source { ip, via, .. } = source;
    // A proxy may be asked for by another name than it passes on.
    let asked = headers.get(FORWARDED_HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let peer = peer(headers, ip);
    let host = asked.filter(|_| via.is_some()).or(peer.host);
    let peer = Peer { via, voucher, tls, host, place: Some(place), ..peer };
    bearer(headers, &peer, wiring).await?;
    Ok(peer)
}

/// What a request says of the client.
pub fn peer(headers: &HeaderMap, ip: IpAddr) -> Peer {
    let named = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let cap = headers.get(SCOPES_HEADER).map(|value| {
        let list = value.to_str().unwrap_or_default().split(',').map(str::trim);
        let list: Vec<String> = list.filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        Scopes::parse(&list)
    });
    Peer { origin: named(header::ORIGIN), host: named(header::HOST), scope_cap: cap, ..Peer::new(ip) }
}

/// A Bearer token decides nothing: `connect` does. But one that is wrong is refused at once (ours, row C1).
async fn bearer(headers: &HeaderMap, peer: &Peer, wiring: &Wiring) -> Result<(), Box<Response<Full<Bytes>>>> {
    match bearer::judge(headers, peer, wiring).await {
        Bearer::Absent | Bearer::Right | Bearer::Device(_) | Bearer::Unsure => Ok(()),
        Bearer::LockedOut(left) => Err(Box::new(locked_out(left))),
        Bearer::Wrong => {
            let body = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
            Err(Box::new(error(StatusCode::UNAUTHORIZED, &body)))
        }
    }
}

fn locked_out(left: Duration) -> Response<Full<Bytes>> {
    let body = json!({ "error": { "message": LOCKED_OUT, "type": "rate_limited" } });
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, &body);
    let seconds = HeaderValue::from(left.as_secs() + 1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

fn error(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    closing(status, "application/json; charset=utf-8", body.to_string())
}

fn text(text: &'static str) -> Box<Response<Full<Bytes>>> {
    Box::new(closing(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text.to_owned()))
}

fn closing(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_scopes_header_caps_and_an_empty_one_takes_everything() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let cap = |list: &[_]| peer(&headers(list), ip).scope_cap.map(|s| s.as_list().to_vec());
        assert_eq!(cap(&[]), None);
        assert_eq!(cap(&[(SCOPES_HEADER, "")]), Some(vec![]));
        let two = vec!["operator.read".to_owned(), "operator.write".to_owned()];
        assert_eq!(cap(&[(SCOPES_HEADER, " operator.read,operator.write ,")]), Some(two));
    }
}
