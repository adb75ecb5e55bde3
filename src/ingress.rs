//! Whom a request is from: the socket's other end, or whom a proxy speaks for that is believed. Nobody else may say
//! so, and a client that is behind a proxy must not pass for one on this machine.

use crabtree_actors::conns::Voucher;
use crabtree_actors::estate::Estate;
use crabtree_actors::settings::{AuthMode, GatewaySettings};
use hyper::header::{HeaderMap, HeaderName};
use std::net::{IpAddr, SocketAddr};

/// By which door a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one that everybody knows.
    Front,
    /// The one of Tailscale on this machine, which says whom a request is from. Another program here may say so, too, and
    /// gains nothing: what is behind this door is never taken for this machine.
    Tailscale,
}

/// Whom a request is from.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The client.
    pub ip: IpAddr,
    /// The proxy that says so.
    pub via: Option<IpAddr>,
    /// The door it came by.
    door: Door,
    /// The person Tailscale's proxy names.
    login: Option<String>,
}

impl Source {
    /// Whether the proxy may name people. Tailscale passes on what its clients write.
    fn is_believed(&self, gateway: &GatewaySettings) -> bool {
        gateway.auth.effective_mode() == AuthMode::TrustedProxy && self.door == Door::Front
    }
}

/// Whom a request is from, if that can be told. `from` is the socket's other end.
pub fn source(headers: &HeaderMap, from: IpAddr, door: Door, gateway: &GatewaySettings) -> Option<Source> {
    let from = from.to_canonical();
    let forwarded = is_forwarded(headers);
    let direct = |ip| Source { ip, via: None, door, login: None };
    if !forwarded && from.is_loopback() && door == Door::Front {
        return Some(direct(from));
    }
    let login = text(headers, "tailscale-user-login").filter(|_| gateway.auth.allow_tailscale);
    let login = login.filter(|_| from.is_loopback() && is_served(headers));
    if login.is_some() || door == Door::Tailscale {
        let ip = forwarded_for(headers, |ip| ip.is_loopback()).filter(|ip| !ip.is_loopback())?;
        return Some(Source { ip, via: Some(from), door, login: login.map(str::to_owned) });
    }
    if gateway.trusted_proxies.cover(from) {
        let real = || text(headers, "x-real-ip").and_then(address);
        let ip = forwarded_for(headers, |ip| gateway.trusted_proxies.cover(ip))
            .or_else(|| real().filter(|_| gateway.allow_real_ip_fallback))
            .filter(|ip| !ip.is_loopback())?;
        return Some(Source { ip, via: Some(from), door, login: None });
    }
    (!forwarded).then(|| direct(from))
}

/// Whether the client itself speaks TLS: with the proxy that is believed, else with the gateway. Of several words the last
/// one is the proxy's own.
pub fn is_sealed(headers: &HeaderMap, source: &Source, line: bool) -> bool {
    let said = source.via.and_then(|_| text(headers, "x-forwarded-proto"));
    said.map_or(line, |said| {
        said.rsplit(',')
            .next()
            .is_some_and(|last| ["https", "wss"].iter().any(|tls| last.trim().eq_ignore_ascii_case(tls)))
    })
}

/// Who somebody who is believed says the client is.
pub async fn voucher(headers: &HeaderMap, source: &Source, estate: &Estate) -> Option<Voucher> {
    if let Some(named) = &source.login {
        let login = estate.whois.login(source.ip).await?;
        return login.eq_ignore_ascii_case(named).then_some(Voucher::Tailscale(login));
    }
    let config = estate.config.load_full();
    let gateway = &config.settings.gateway;
    let via = source.via.filter(|_| source.is_believed(gateway))?;
    Some(Voucher::Proxy(named(headers, via, gateway)))
}

/// The person a proxy names, or the recorded word for why that is not believed.
fn named(headers: &HeaderMap, via: IpAddr, gateway: &GatewaySettings) -> Result<String, String> {
    let proxy = &gateway.auth.trusted_proxy;
    if via.is_loopback() && !proxy.allow_loopback {
        return Err("trusted_proxy_loopback_source".into());
    }
    let there = |name: &str| text(headers, &name.trim().to_ascii_lowercase());
    if let Some(missing) = proxy.required_headers.iter().find(|name| there(name).is_none()) {
        return Err(format!("trusted_proxy_missing_header_{missing}"));
    }
    // A proxy that adds its own line leaves what its client wrote, and which one is whose nobody can tell.
    let lines = headers.get_all(proxy.user_header.trim().to_ascii_lowercase()).iter().count();
    let user = there(&proxy.user_header).filter(|_| lines == 1).ok_or("trusted_proxy_user_missing")?;
    if !proxy.allow_users.is_empty() && !proxy.allow_users.iter().any(|allowed| allowed == user) {
        return Err("trusted_proxy_user_not_allowed".into());
    }
    Ok(user.to_owned())
}

/// Whether a request says whom it is forwarded for.
fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().map(HeaderName::as_str).any(|name| {
        matches!(name, "forwarded" | "x-real-ip")
            || name.starts_with("x-forwarded-")
            || name.starts_with("tailscale-")
    })
}

/// Whether it looks like one of `tailscale serve`; what comes through a funnel is from anybody.
fn is_served(headers: &HeaderMap) -> bool {
    let has = |name: &str| headers.contains_key(name);
    has("x-forwarded-for")
        && has("x-forwarded-proto")
        && has("x-forwarded-host")
        && !has("tailscale-funnel-request")
}

/// The last address that no proxy stands for. What comes before it anybody may have written.
fn forwarded_for(headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|line| line.to_str().unwrap_or("?"))
        .flat_map(|line| line.split(','))
        .collect();
    for hop in lines.iter().rev() {
        let ip = address(hop)?;
        if !is_proxy(ip) {
            return Some(ip);
        }
    }
    None
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = plain.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_all(name).iter().next_back()?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use serde_json::{Value, json};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn gateway(document: Value) -> GatewaySettings {
        serde_json::from_value(document).unwrap()
    }

    fn found(list: &[(&'static str, &'static str)], from: &str, document: Value) -> Option<(String, bool)> {
        let source = source(&headers(list), from.parse().unwrap(), Door::Front, &gateway(document))?;
        Some((source.ip.to_string(), source.via.is_some()))
    }

    #[test]
    fn whatever_a_proxy_adds_is_noticed() {
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-real-ip", "tailscale-user-login"]
        {
            for from in ["127.0.0.1", "192.168.1.9"] {
                assert_eq!(found(&[("host", "h"), (name, "9.9.9.9")], from, json!({})), None, "{name}");
            }
        }
        let plain = [("host", "h"), ("origin", "o"), ("x-openclaw-scopes", "")];
        assert_eq!(found(&plain, "::ffff:127.0.0.1", json!({})), Some(("127.0.0.1".into(), false)));
        assert_eq!(found(&plain, "192.168.1.9", json!({})), Some(("192.168.1.9".into(), false)));
    }

    #[test]
    fn a_trusted_proxy_speaks_for_its_clients_and_never_for_this_machine() {
        let trust = || json!({ "trustedProxies": ["127.0.0.5", "10.0.0.0/8"] });
        let of = |text: &'static str, from: &str| found(&[("x-forwarded-for", text)], from, trust());
        let client = Some(("203.0.113.7".to_owned(), true));
        assert_eq!(of("203.0.113.7", "127.0.0.5"), client);
        assert_eq!(of("6.6.6.6, 203.0.113.7, 10.1.1.1", "127.0.0.5"), client, "the last that is no proxy");
        assert_eq!(of("203.0.113.7:4711", "10.2.2.2"), client);
        for lie in ["127.0.0.1", "::1", "not-an-ip", "", "10.1.1.1", "203.0.113.7, nonsense"] {
            assert_eq!(of(lie, "127.0.0.5"), None, "{lie}");
        }
        assert_eq!(of("203.0.113.7", "127.0.0.1"), None, "another program here");
        assert_eq!(found(&[], "127.0.0.5", trust()), Some(("127.0.0.5".into(), false)));
        assert_eq!(found(&[], "10.2.2.2", trust()), None, "it has to say for whom");
        let real = [("x-real-ip", "203.0.113.7")];
        assert_eq!(found(&real, "127.0.0.5", trust()), None);
        let mut fallback = trust();
        fallback["allowRealIpFallback"] = json!(true);
        assert_eq!(found(&real, "127.0.0.5", fallback), client);
    }

    #[test]
    fn a_person_is_named_as_the_settings_want_it() {
        let gateway = gateway(json!({ "auth": { "mode": "trusted-proxy", "trustedProxy": {
            "userHeader": "X-Forwarded-User", "requiredHeaders": ["x-forwarded-proto"],
            "allowUsers": ["ada"], "allowLoopback": true,
        } } }));
        let named = |list: &[_]| named(&headers(list), [127, 0, 0, 5].into(), &gateway);
        let (proto, ada) = (("x-forwarded-proto", "https"), ("x-forwarded-user", " ada "));
        assert_eq!(named(&[proto, ada]), Ok("ada".into()));
        assert_eq!(named(&[ada]), Err("trusted_proxy_missing_header_x-forwarded-proto".into()));
        assert_eq!(named(&[proto]), Err("trusted_proxy_user_missing".into()));
        let eve = ("x-forwarded-user", "eve");
        assert_eq!(named(&[proto, eve]), Err("trusted_proxy_user_not_allowed".into()));
        let doubled = Err("trusted_proxy_user_missing".into());
        assert_eq!(named(&[proto, eve, ada]), doubled, "the first line is what the client wrote");
        let mut strict = gateway.clone();
        strict.auth.trusted_proxy.allow_loopback = false;
        let refused = super::named(&headers(&[proto, ada]), [127, 0, 0, 5].into(), &strict);
        assert_eq!(refused, Err("trusted_proxy_loopback_source".into()));
    }

    #[test]
    fn tailscale_is_heard_only_where_it_is_wanted_and_from_here() {
        let serve = [
            ("x-forwarded-for", "100.64.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "home.ts.net"),
            ("tailscale-user-login", "ada@example.com"),
        ];
        let wanted = || gateway(json!({ "auth": { "allowTailscale": true } }));
        let heard = source(&headers(&serve), [127, 0, 0, 1].into(), Door::Front, &wanted()).unwrap();
        assert_eq!(
            (heard.ip.to_string(), heard.login.as_deref()),
            ("100.64.0.9".into(), Some("ada@example.com"))
        );
        assert_eq!(source(&headers(&serve), [192, 168, 1, 2].into(), Door::Front, &wanted()), None);
        assert_eq!(source(&headers(&serve), [127, 0, 0, 1].into(), Door::Front, &gateway(json!({}))), None);
        let funnel = [&serve[..], &[("tailscale-funnel-request", "?1")]].concat();
        assert_eq!(source(&headers(&funnel), [127, 0, 0, 1].into(), Door::Front, &wanted()), None);
        let mut lie = serve;
        lie[0].1 = "127.0.0.1";
        assert_eq!(source(&headers(&lie), [127, 0, 0, 1].into(), Door::Front, &wanted()), None);
    }

    /// accepts: J9, J10
    #[test]
    fn behind_tailscales_door_nobody_is_this_machine() {
        let heard = |list: &[_], document: Value| {
            let source = source(&headers(list), [127, 0, 0, 1].into(), Door::Tailscale, &gateway(document));
            source.map(|source| (source.ip.to_string(), source.via.is_some(), source.login))
        };
        let funnel = [("x-forwarded-for", "203.0.113.7"), ("tailscale-funnel-request", "?1")];
        assert_eq!(heard(&funnel, json!({})), Some(("203.0.113.7".into(), true, None)));
        let login = ("tailscale-user-login", "ada@example.com");
        let serve = [
            ("x-forwarded-for", "100.64.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "h"),
            login,
        ];
        assert_eq!(heard(&serve, json!({})), Some(("100.64.0.9".into(), true, None)), "it is not asked for");
        let wanted = json!({ "auth": { "allowTailscale": true } });
        assert_eq!(
            heard(&serve, wanted.clone()),
            Some(("100.64.0.9".into(), true, Some("ada@example.com".into())))
        );
        let forged = [funnel[0], funnel[1], ("x-forwarded-proto", "https"), ("x-forwarded-host", "h"), login];
        assert_eq!(heard(&forged, wanted), Some(("203.0.113.7".into(), true, None)), "from anybody");
        for nobody in [&[][..], &[("x-forwarded-for", "127.0.0.1")], &[("x-forwarded-for", "?")]] {
            assert_eq!(heard(nobody, json!({})), None, "{nobody:?}");
        }
    }

    #[tokio::test]
    async fn what_tailscale_brings_is_not_a_proxy_that_names_people() {
        let gateway = gateway(json!({ "auth": { "mode": "trusted-proxy", "trustedProxy": {
            "userHeader": "x-forwarded-user", "allowLoopback": true,
        } }, "trustedProxies": ["127.0.0.1"] }));
        let named = headers(&[("x-forwarded-for", "100.64.0.9"), ("x-forwarded-user", "ada")]);
        let by = |door| source(&named, [127, 0, 0, 1].into(), door, &gateway).unwrap();
        assert!(by(Door::Front).is_believed(&gateway));
        assert!(!by(Door::Tailscale).is_believed(&gateway));
    }

    /// accepts: J8
    #[test]
    fn a_client_speaks_tls_where_it_sees_it() {
        let source = |via: Option<[u8; 4]>| Source {
            ip: [192, 168, 1, 9].into(),
            via: via.map(Into::into),
            door: Door::Front,
            login: None,
        };
        let (direct, proxied) = (source(None), source(Some([10, 0, 0, 1])));
        let said = |word: &'static str| headers(&[("x-forwarded-proto", word)]);
        assert!(is_sealed(&headers(&[]), &direct, true) && !is_sealed(&headers(&[]), &direct, false));
        assert!(!is_sealed(&said("https"), &direct, false), "anybody may say so");
        for word in ["https", " HTTPS ", "wss", "http, https"] {
            assert!(is_sealed(&said(word), &proxied, false), "{word}");
        }
        for word in ["http", "https, http", "httpsx"] {
            assert!(!is_sealed(&said(word), &proxied, true), "{word}");
        }
        assert!(is_sealed(&headers(&[]), &proxied, true), "it says nothing: as the gateway sees it");
    }
}
