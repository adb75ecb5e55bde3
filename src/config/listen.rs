//! Where the gateway listens, and what it does not begin: a door that is open to others must have a lock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crabtree_actors::reach::in_container;
use crabtree_actors::settings::{AuthSecret, Bind, GatewaySettings, Loaded, TailscaleMode};

use super::ConfigError;

/// What the machine is.
#[derive(Clone, Copy, Default)]
struct Machine {
    /// The address that Tailscale has given it.
    tailnet: Option<Ipv4Addr>,
    /// Whether it is a container.
    container: bool,
}

impl Machine {
    /// This one, as far as it matters.
    fn this(bind: Bind) -> Self {
        let tailnet = || if_addrs::get_if_addrs().ok()?.into_iter().find_map(|found| tailnet(found.ip()));
        Self {
            tailnet: (bind == Bind::Tailnet).then(tailnet).flatten(),
            container: bind == Bind::Auto && in_container(),
        }
    }
}

/// The address, if it is one of a tailnet: 100.64.0.0/10.
fn tailnet(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 => Some(v4),
        _ => None,
    }
}

/// The addresses to listen on. Where others are let in, those of this machine find the gateway at 127.0.0.1 all the same;
/// where only this machine is, at both kinds of loopback.
///
/// # Errors
/// What would let others in without a secret, or is no address.
pub fn listen_addresses(loaded: &Loaded, secret: &AuthSecret) -> Result<Vec<SocketAddr>, ConfigError> {
    let gateway = &loaded.settings.gateway;
    addresses(gateway, secret, Machine::this(gateway.bind))
}

fn addresses(
    gateway: &GatewaySettings,
    secret: &AuthSecret,
    machine: Machine,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let ip = bind_address(gateway, machine)?;
    let address = SocketAddr::new(ip, gateway.port);
    if let Some(why) = unsound(gateway, secret, address) {
        return Err(ConfigError::new(why));
    }
    let also: Option<IpAddr> = match ip {
        _ if ip.is_unspecified() => None,
        _ if ip != IpAddr::from(Ipv4Addr::LOCALHOST) => Some(Ipv4Addr::LOCALHOST.into()),
        _ => (gateway.bind != Bind::Custom).then_some(Ipv6Addr::LOCALHOST.into()),
    };
    Ok([ip].into_iter().chain(also).map(|ip| SocketAddr::new(ip, gateway.port)).collect())
}

/// Why the gateway must not listen there.
fn unsound(gateway: &GatewaySettings, secret: &AuthSecret, address: SocketAddr) -> Option<String> {
    let is_local = address.ip().is_loopback();
    let open = matches!(secret, AuthSecret::None);
    if open && !is_local {
        return Some(format!(
            "gateway.auth.mode is \"none\", but gateway.bind would let other machines in through {address}; set \
             gateway.auth.mode to \"token\", or gateway.bind to \"loopback\""
        ));
    }
    if matches!(secret, AuthSecret::TrustedProxy(_)) && gateway.trusted_proxies.is_empty() {
        return Some(
            "gateway.auth.mode is \"trusted-proxy\", but gateway.trustedProxies names no proxy; add its address, or \
             set gateway.auth.mode to \"token\""
                .into(),
        );
    }
    let command = gateway.tailscale.mode.command()?;
    if !is_local {
        return Some(format!(
            "gateway.tailscale.mode is {command:?}, which brings clients to this machine, but gateway.bind would let \
             others in through {address}, too; set gateway.bind to \"loopback\""
        ));
    }
    if gateway.tailscale.mode == TailscaleMode::Funnel && !matches!(secret, AuthSecret::Password(_)) {
        return Some(
            "gateway.tailscale.mode is \"funnel\", which is open to everybody, and wants a password: set \
             gateway.auth.mode to \"password\" and gateway.auth.password (or OPENCLAW_GATEWAY_PASSWORD)"
                .into(),
        );
    }
    open.then(|| {
        format!(
            "gateway.tailscale.mode is {command:?}, but gateway.auth.mode is \"none\": the whole tailnet could use the \
             gateway; set gateway.auth.mode to \"token\""
        )
    })
}

fn bind_address(gateway: &GatewaySettings, machine: Machine) -> Result<IpAddr, ConfigError> {
    match (gateway.bind, &gateway.custom_bind_host) {
        (Bind::Auto, _) if machine.container => Ok(Ipv4Addr::UNSPECIFIED.into()),
        (Bind::Loopback | Bind::Auto, _) => Ok(Ipv4Addr::LOCALHOST.into()),
        (Bind::Lan, _) => Ok(Ipv4Addr::UNSPECIFIED.into()),
        (Bind::Tailnet, _) => Ok(machine.tailnet.unwrap_or(Ipv4Addr::LOCALHOST).into()),
        (Bind::Custom, Some(host)) => host.trim().parse().map_err(|_| {
            ConfigError::new(format!(
                "gateway.customBindHost is {host:?}; an IP address such as 192.168.1.5 was expected"
            ))
        }),
        (Bind::Custom, None) => Err(ConfigError::new(
            "gateway.bind is \"custom\", but gateway.customBindHost is missing; set it to an IP address",
        )),
    }
}

/// Where a client on this machine finds the gateway.
///
/// # Errors
/// There is no address to listen on.
pub fn local_url(gateway: &GatewaySettings) -> Result<String, ConfigError> {
    let ip = match bind_address(gateway, Machine::default())? {
        ip if ip.is_loopback() => ip,
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    Ok(url(gateway, SocketAddr::new(ip, gateway.port)))
}

/// The address as clients name it.
pub fn url(gateway: &GatewaySettings, address: SocketAddr) -> String {
    let scheme = if gateway.tls.enabled { "wss" } else { "ws" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
