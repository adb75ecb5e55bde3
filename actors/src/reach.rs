//! How the gateway is reached, as it is now: what outlives the actors that look after it.

use crate::settings::AuthSecret;
use crate::tls::Fingerprint;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use tokio::sync::watch;

/// What containers have,
const IN_CONTAINERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// and what is in their environment.
const OF_CONTAINERS: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "FLY_MACHINE_ID"];

/// Whether this is a container: of Docker, Podman, Kubernetes or Fly.
pub fn in_container() -> bool {
    IN_CONTAINERS.iter().any(|file| Path::new(file).exists())
        || OF_CONTAINERS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// See the module.
#[derive(Debug)]
pub struct Reach {
    /// The certificate that is served, if TLS is spoken.
    pub certificate: watch::Sender<Option<Certificate>>,
    /// Where the gateway listens.
    pub doors: OnceLock<Doors>,
    /// What Tailscale does, if it is to do anything.
    pub tailscale: watch::Sender<Option<Standing>>,
    /// Whether the network is told of the gateway, if it is to be.
    pub mdns: watch::Sender<Option<Standing>>,
}

/// A certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What clients pin.
    pub fingerprint: Fingerprint,
    /// When it ends, ms.
    pub expires_at: i64,
}

/// Where the gateway listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// For everybody.
    pub front: Vec<SocketAddr>,
    /// For Tailscale on this machine, and nobody else.
    pub tailscale: Option<SocketAddr>,
    /// Whether Tailscale brings whoever comes, and not only the tailnet.
    pub funnel: bool,
}

/// How something is that helps the gateway to be reached, and that it gets along without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// As it was asked for.
    pub mode: &'static str,
    /// How it is.
    pub state: State,
}

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is about to be.
    Starting,
    /// It works; where the gateway is to be found, if that is known.
    Up(Option<String>),
    /// It does not, and why.
    Down(String),
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            certificate: watch::Sender::new(None),
            doors: OnceLock::new(),
            tailscale: watch::Sender::new(None),
            mdns: watch::Sender::new(None),
        }
    }
}

impl Reach {
    /// The address that Tailscale gives the gateway, while it does.
    pub fn published(&self) -> Option<String> {
        match &self.tailscale.borrow().as_ref()?.state {
            State::Up(address) => address.clone(),
            State::Starting | State::Down(_) => None,
        }
    }

    /// Whether clients may be asked for this from now on: the doors stay as they are.
    ///
    /// # Errors
    /// Why not: they would be open to people they must not be open to.
    pub fn allows(&self, auth: &AuthSecret) -> Result<(), String> {
        let Some(doors) = self.doors.get() else { return Ok(()) };
        let is_open = *auth == AuthSecret::None;
        if let Some(front) = doors.front.iter().find(|address| is_open && !address.ip().is_loopback()) {
            return Err(format!(
                "gateway.auth.mode \"none\" is not taken up while the gateway listens on {front}; set gateway.bind to \
                 \"loopback\" and start it again"
            ));
        }
        if doors.tailscale.is_some() && is_open || doors.funnel && !matches!(auth, AuthSecret::Password(_)) {
            let needed = if doors.funnel { "password" } else { "token" };
            return Err(format!(
                "gateway.auth.mode {:?} is not taken up while Tailscale brings clients here, who need a {needed}; set \
                 gateway.tailscale.mode to \"off\" and start the gateway again",
                auth.mode()
            ));
        }
        Ok(())
    }

    /// For health; nothing where only plain doors are open.
    pub fn told(&self) -> Option<Value> {
        let mut told = json!({});
        if let Some(certificate) = *self.certificate.borrow() {
            let fingerprint = certificate.fingerprint.to_string();
            told["tls"] = json!({ "fingerprint": fingerprint, "expiresAt": certificate.expires_at });
        }
        for (name, standing) in [("tailscale", &self.tailscale), ("mdns", &self.mdns)] {
            if let Some(standing) = standing.borrow().as_ref() {
                told[name] = standing.told();
            }
        }
        told.as_object().is_some_and(|told| !told.is_empty()).then_some(told)
    }
}

impl Standing {
    /// For health and `system.actors`.
    pub fn told(&self) -> Value {
        let mut told = json!({ "mode": self.mode });
        match &self.state {
            State::Starting => told["state"] = json!("starting"),
            State::Up(address) => {
                told["state"] = json!("up");
                if let Some(address) = address {
                    told["url"] = json!(address);
                }
            }
            State::Down(why) => {
                told["state"] = json!("down");
                told["reason"] = json!(why);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    fn with(front: &str, tailscale: bool, funnel: bool) -> Reach {
        let reach = Reach::default();
        let front = vec![front.parse().unwrap()];
        let tailscale = tailscale.then(|| ([127, 0, 0, 1], 9).into());
        reach.doors.set(Doors { front, tailscale, funnel }).unwrap();
        reach
    }

    /// accepts: J11, J9
    #[test]
    fn a_change_never_opens_a_door_that_is_already_there() {
        let (open, token) = (AuthSecret::None, AuthSecret::Token(Secret::new("t")));
        let password = AuthSecret::Password(Secret::new("p"));
        assert_eq!(with("127.0.0.1:1", false, false).allows(&open), Ok(()));
        assert_eq!(with("0.0.0.0:1", false, false).allows(&token), Ok(()));
        assert!(with("0.0.0.0:1", false, false).allows(&open).unwrap_err().contains("0.0.0.0:1"));
        assert_eq!(with("127.0.0.1:1", true, false).allows(&token), Ok(()));
        assert!(with("127.0.0.1:1", true, false).allows(&open).unwrap_err().contains("Tailscale"));
        assert_eq!(with("127.0.0.1:1", true, true).allows(&password), Ok(()));
        assert!(with("127.0.0.1:1", true, true).allows(&token).unwrap_err().contains("need a password"));
    }

    #[test]
    fn what_is_not_asked_for_is_not_told() {
        let reach = Reach::default();
        assert_eq!((reach.told(), reach.published()), (None, None));
        let state = State::Up(Some("https://home.ts.net".into()));
        reach.tailscale.send_replace(Some(Standing { mode: "serve", state }));
        reach.mdns.send_replace(Some(Standing { mode: "full", state: State::Down("no network".into()) }));
        let told = json!({
            "tailscale": { "mode": "serve", "state": "up", "url": "https://home.ts.net" },
            "mdns": { "mode": "full", "state": "down", "reason": "no network" },
        });
        assert_eq!((reach.told(), reach.published().as_deref()), (Some(told), Some("https://home.ts.net")));
    }
}
