//! Which pages may connect. A browser tells where a page is from; that must be a place the operator named, this
//! gateway itself, or this machine (handshake.md, section 6, "Origin").

use crate::conns::Peer;
use crabtree_protocol::{ClientId, ClientMode, ConnectParams, ConnectRefusal};
use std::net::IpAddr;

/// Where a page is from: host and, if given, port.
struct Place<'a> {
    scheme: &'a str,
    host: &'a str,
    authority: &'a str,
}

fn parse(origin: &str) -> Option<Place<'_>> {
    let (scheme, rest) = origin.trim().split_once("://")?;
    let authority = rest.trim_end_matches('/');
    let host = host_of(authority);
    let plain = !authority.contains(['/', '?', '#', '@', ' ']);
    (plain && !scheme.is_empty() && !host.is_empty()).then_some(Place { scheme, host, authority })
}

/// The host without its port; an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(host, _)| host);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A name nobody on the internet can make a victim's browser believe to be this gateway.
pub(crate) fn is_private(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => is_loopback(host) || host.to_ascii_lowercase().ends_with(".local"),
    }
}

/// Clients that always run in a browser, and so always have an origin.
pub fn is_browser(id: ClientId, mode: ClientMode) -> bool {
    matches!(id, ClientId::ControlUi | ClientId::Webchat | ClientId::WebchatUi) || mode == ClientMode::Webchat
}

/// Whether the page and this gateway are one place: it was loaded from here.
fn is_own_page(peer: &Peer) -> bool {
    let place = peer.origin.as_deref().and_then(parse);
    let host = peer.host.as_deref();
    place.is_some_and(|place| host.is_some_and(|host| host.eq_ignore_ascii_case(place.authority)))
}

/// Checks where a client's page is from; `allowed` is `gateway.controlUi.allowedOrigins`.
pub fn check(params: &ConnectParams, peer: &Peer, allowed: &[String]) -> Result<(), ConnectRefusal> {
    let client = (params.client.id, params.client.mode);
    let Some(origin) = &peer.origin else {
        return if is_browser(client.0, client.1) { Err(ConnectRefusal::origin(true)) } else { Ok(()) };
    };
    let Some(place) = parse(origin) else { return Err(ConnectRefusal::origin(true)) };
    let named = allowed.iter().map(|entry| entry.trim()).any(|entry| {
        entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin.trim_end_matches('/'))
    });
    // The copilot is an extension: its origin is its own id. It is let in by pairing.
    let copilot = place.scheme == "chrome-extension" && client.0 == ClientId::BrowserCopilot;
    let own = is_private(place.host) && is_own_page(peer);
    let local = peer.is_loopback() && is_loopback(place.host);
    if named || copilot || own || local { Ok(()) } else { Err(ConnectRefusal::origin(false)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(id: &str, mode: &str, from: &str, host: &str, origin: Option<&str>) -> Option<String> {
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": { "id": id, "mode": mode, "version": "1", "platform": "linux" },
        });
        let params = ConnectParams::parse(Some(serde_json::from_str(&params.to_string()).unwrap())).unwrap();
        let mut peer = Peer::new(from.parse().unwrap());
        (peer.origin, peer.host) = (origin.map(Into::into), Some(host.into()));
        let allowed = ["https://ui.example".to_owned()];
        let refusal = check(&params, &peer, &allowed).err()?.refusal.unwrap();
        Some(refusal.details.unwrap()["reason"].as_str().unwrap().to_owned())
    }

    #[test]
    fn pages_of_this_gateway_this_machine_or_the_list_are_let_in() {
        let (no, bad) = (Some("origin not allowed".to_owned()), Some("origin missing or invalid".to_owned()));
        let ui = |from, host, origin| verdict("openclaw-control-ui", "webchat", from, host, origin);
        let here = "127.0.0.1:18789";
        assert_eq!(ui("127.0.0.1", here, Some("http://127.0.0.1:18789")), None);
        assert_eq!(ui("127.0.0.1", here, Some("http://localhost:5173")), None);
        assert_eq!(ui("::1", "[::1]:18789", Some("http://[::1]:18789")), None);
        assert_eq!(ui("127.0.0.1", here, Some("https://ui.example")), None);
        assert_eq!(ui("127.0.0.1", here, Some("https://evil.example")), no);
        assert_eq!(ui("192.168.1.7", "192.168.1.5:1", Some("http://192.168.1.5:1")), None);
        assert_eq!(ui("192.168.1.7", "192.168.1.5:1", Some("http://192.168.1.5:2")), no);
        assert_eq!(ui("192.168.1.7", "192.168.1.5:1", Some("http://localhost:1")), no);
        // A name that was made to point here (DNS rebinding) is not this gateway.
        assert_eq!(ui("127.0.0.1", "evil.example", Some("http://evil.example")), no);
        assert_eq!(ui("127.0.0.1", here, None), bad);
        assert_eq!(ui("127.0.0.1", here, Some("null")), bad);
        assert_eq!(verdict("cli", "cli", "127.0.0.1", here, None), None);
        assert_eq!(verdict("cli", "cli", "127.0.0.1", here, Some("https://evil.example")), no);
        let extension = Some("chrome-extension://abcdef");
        assert_eq!(verdict("openclaw-browser-copilot", "ui", "127.0.0.1", here, extension), None);
        assert_eq!(verdict("cli", "cli", "127.0.0.1", here, extension), no);
    }
}
