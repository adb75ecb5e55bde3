//! Which hosts a tool may connect to. A page, or whoever writes to an agent, must not make the gateway ask machines
//! that they cannot reach themselves. What counts is the address that is connected to, so names are resolved here, and
//! every hop of a redirect is looked at anew.

use crate::settings::SsrfPolicy;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Longest URL, bytes.
const MAX_URL: usize = 2_048;
/// Names that mean this machine or its network, whatever they resolve to.
const LOCAL_NAMES: [&str; 3] = ["localhost", "local", "internal"];

/// Asks for the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// See the module. As a resolver it gives only addresses that may be connected to.
#[derive(Clone)]
pub(super) struct Guard {
    policy: Arc<SsrfPolicy>,
    lookup: Lookup,
}

/// Why a host is not asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}. Only the public internet is reached; whoever runs this gateway can allow a host with \
     tools.web.fetch.ssrfPolicy.allowedHostnames."
)]
pub(super) struct Refused(String);

impl Guard {
    /// With the resolver of this machine.
    pub(super) fn new(policy: &SsrfPolicy) -> Self {
        let lookup = |name: String| -> BoxFuture<'static, _> {
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
        };
        Self::with_lookup(policy, Arc::new(lookup))
    }

    /// With another one.
    pub(super) fn with_lookup(policy: &SsrfPolicy, lookup: Lookup) -> Self {
        Self { policy: Arc::new(policy.clone()), lookup }
    }

    /// A URL that may be asked, as far as it tells itself; where its name leads is looked at by the resolver.
    pub(super) fn url(&self, url: &str) -> Result<Url, String> {
        let parsed = Url::parse(url).map_err(|e| format!("{} is no URL: {e}.", shortened(url)))?;
        self.check(&parsed)?;
        Ok(parsed)
    }

    /// The same of one that was read before.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let shown = shortened(url.as_str());
        if url.as_str().len() > MAX_URL {
            return Err(format!("{shown} is too long: at most {MAX_URL} bytes."));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{shown} is refused: only http and https are spoken."));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("A URL with a user name or password in it is refused: leave them out.".into());
        }
        self.host(url.host_str().unwrap_or_default()).map_err(|e| e.to_string())
    }

    fn host(&self, host: &str) -> Result<(), Refused> {
        if self.is_allowed(host) {
            return Ok(());
        }
        let bare = bare(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return if is_public(address) {
                Ok(())
            } else {
                Err(Refused(format!("{host} is no public address")))
            };
        }
        let last = bare.rsplit('.').next().unwrap_or_default();
        if LOCAL_NAMES.contains(&last) {
            return Err(Refused(format!("{host} is a name of this machine or its network")));
        }
        Ok(())
    }

    fn is_allowed(&self, host: &str) -> bool {
        let named = |allowed: &String| bare(allowed) == bare(host);
        self.policy.dangerously_allow_private_network || self.policy.allowed_hostnames.iter().any(named)
    }

    /// All addresses of a name, if none of them is refused.
    async fn addresses(
        &self,
        name: &str,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        self.host(name)?;
        let found = (self.lookup)(name.to_owned()).await?;
        let private = found.iter().find(|address| !is_public(address.ip()));
        match private {
            Some(address) if !self.is_allowed(name) => {
                let address = address.ip();
                Err(Refused(format!("{name} leads to {address}, which is no public address")).into())
            }
            _ => Ok(found),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A host as it is compared: without the brackets of an address and the dot at the end of a name.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase()
}

fn shortened(url: &str) -> &str {
    &url[..url.floor_char_boundary(200)]
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the special-purpose registry of the IANA (RFC 6890 and its successors).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let refused = match address.octets() {
        // This network, private, loopback, multicast, reserved and broadcast.
        [0 | 10 | 127 | 224.., ..] => true,
        // Shared by carriers.
        [100, second, ..] => (64..128).contains(&second),
        // Link-local: metadata services of clouds among them.
        [169, 254, ..] => true,
        [172, second, ..] => (16..32).contains(&second),
        [192, 168, ..] => true,
        // Protocol assignments, documentation, relays of 6to4.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => true,
        // Benchmarks and documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !refused
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        // IPv4 in another coat: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // Protocol assignments, Teredo among them, and documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second >= 0x1000,
        // Everything else that is public begins so; local, site-local, unique local and multicast do not.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [&str; 9] = [
        "1.1.1.1",
        "100.63.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::1",
    ];
    const REFUSED: [&str; 44] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.1.2.3",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
    ];

    fn guard(policy: SsrfPolicy, leads_to: &[&str]) -> Guard {
        let found: Vec<SocketAddr> =
            leads_to.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let lookup = move |_| -> BoxFuture<'static, _> {
            let found = found.clone();
            Box::pin(async move { Ok(found) })
        };
        Guard::with_lookup(&policy, Arc::new(lookup))
    }

    fn literal(address: &str) -> String {
        if address.contains(':') {
            format!("http://[{address}]/")
        } else {
            format!("http://{address}:8080/x")
        }
    }

    #[test]
    fn only_public_addresses_are_asked() {
        let guard = guard(SsrfPolicy::default(), &[]);
        for address in PUBLIC {
            assert!(guard.url(&literal(address)).is_ok(), "{address}");
        }
        for address in REFUSED.into_iter().chain(["ff02::1"]) {
            assert!(guard.url(&literal(address)).is_err(), "{address}");
        }
    }

    #[test]
    fn other_ways_to_write_an_address_are_the_same_address() {
        let guard = guard(SsrfPolicy::default(), &[]);
        for host in
            ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[::ffff:7f00:1]", "①②⑦.0.0.1"]
        {
            assert!(guard.url(&format!("http://{host}/")).is_err(), "{host}");
        }
    }

    #[test]
    fn local_names_other_protocols_and_passwords_are_refused() {
        let guard = guard(SsrfPolicy::default(), &["1.1.1.1"]);
        for url in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://user@example.com/",
            "http://user:password@example.com/",
            "http://:password@example.com/",
            "no url",
        ] {
            assert!(guard.url(url).is_err(), "{url}");
        }
        assert!(guard.url(&format!("http://example.com/{}", "x".repeat(MAX_URL))).is_err());
        assert!(guard.url("http://example.com/").is_ok());
        assert!(guard.url("http://internal.example.com/").is_ok());
    }

    #[tokio::test]
    async fn a_name_is_refused_if_one_of_its_addresses_is() {
        for address in REFUSED {
            let guard = guard(SsrfPolicy::default(), &["1.1.1.1", address]);
            let refused = guard.addresses("example.com").await.unwrap_err();
            assert!(refused.to_string().starts_with("example.com leads to "), "{refused}");
        }
        let guard = guard(SsrfPolicy::default(), &PUBLIC);
        assert_eq!(guard.addresses("example.com").await.unwrap().len(), PUBLIC.len());
        assert!(guard.addresses("localhost").await.is_err());
    }

    #[tokio::test]
    async fn hosts_can_be_allowed_one_by_one_or_all() {
        let named = SsrfPolicy {
            allowed_hostnames: vec!["Printer.local".into(), "::1".into(), "10.0.0.1".into()],
            ..SsrfPolicy::default()
        };
        let some = guard(named, &["192.168.1.1"]);
        for url in ["http://printer.local/", "http://[::1]/", "http://10.0.0.1:8080/"] {
            assert!(some.url(url).is_ok(), "{url}");
        }
        assert!(some.addresses("printer.local").await.is_ok());
        assert!(some.addresses("example.com").await.is_err());
        assert!(some.url("http://10.0.0.2/").is_err());
        let any = SsrfPolicy { dangerously_allow_private_network: true, ..SsrfPolicy::default() };
        let any = guard(any, &["192.168.1.1"]);
        assert!(any.url("http://localhost/").is_ok() && any.addresses("example.com").await.is_ok());
        assert!(any.url("file:///etc/passwd").is_err());
    }
}
