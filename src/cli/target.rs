//! Which gateway a command talks to: the one it is told, the one that `gateway.remote` names, or this machine's own; with
//! which secret, and how it is known that it is the right one.

use std::time::Duration;

use crabtree_actors::settings::{AuthSecret, Loaded, Secret};
use crabtree_actors::tls::Fingerprint;

use super::client::{Target, is_local};
use super::{Failure, Global, tls};
use crate::config::{self, ConfigError, Environment};
use crate::owner;

/// Where a gateway is.
pub(super) struct Place {
    pub url: String,
    pub pin: Option<Fingerprint>,
    /// Whether it is on this machine, so that secrets from its files may go there.
    pub here: bool,
}

impl Global {
    /// The gateway to talk to. A secret from this machine's files goes to this machine only.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let timeout = Duration::from_millis(self.timeout_ms.unwrap_or(10_000));
        let explicit = match (&self.token, &self.password) {
            (Some(token), _) => Some(AuthSecret::Token(Secret::new(token))),
            (None, Some(password)) => Some(AuthSecret::Password(Secret::new(password))),
            (None, None) => None,
        };
        if let (Some(url), Some(secret), false) = (&self.url, &explicit, self.looks_for_a_pin()) {
            let (url, secret, pin) = (url.clone(), secret.clone(), self.tls_fingerprint);
            return Ok(Target { url, secret, timeout, pin });
        }
        let (loaded, env) = self.loaded()?;
        let Place { url, pin, here } = self.place(&loaded)?;
        let secret = match explicit {
            Some(secret) => secret,
            None if here => own_secret(&loaded, &env)?,
            None => {
                let token = env.get("OPENCLAW_GATEWAY_TOKEN").ok_or_else(|| {
                    Failure::config("a gateway on another machine needs --token or OPENCLAW_GATEWAY_TOKEN")
                })?;
                AuthSecret::Token(Secret::new(token))
            }
        };
        Ok(Target { url, secret, timeout, pin })
    }

    /// Whether the gateway is this machine's own, with a certificate that only its files tell of.
    fn looks_for_a_pin(&self) -> bool {
        let url = self.url.as_deref().unwrap_or_default();
        self.tls_fingerprint.is_none() && url.starts_with("wss:") && is_local(url)
    }

    /// Where the gateway is.
    pub(super) fn place(&self, loaded: &Loaded) -> Result<Place, Failure> {
        let gateway = &loaded.settings.gateway;
        let given = self.tls_fingerprint;
        let own = |url: &str| given.or_else(|| tls::own(loaded).filter(|_| url.starts_with("wss:")));
        let remote = gateway.remote.url.as_ref().filter(|_| gateway.mode.as_deref() == Some("remote"));
        match (&self.url, remote) {
            (Some(url), _) if is_local(url) => Ok(Place { url: url.clone(), pin: own(url), here: true }),
            (Some(url), _) => Ok(Place { url: url.clone(), pin: given, here: false }),
            (None, Some(url)) => {
                let pinned = gateway.remote.tls_fingerprint.as_deref().map(str::parse).transpose();
                let pinned = pinned
                    .map_err(|error| Failure::config(format!("gateway.remote.tlsFingerprint: {error}")))?;
                Ok(Place { url: url.clone(), pin: given.or(pinned), here: false })
            }
            (None, None) => {
                let url = here(loaded)?;
                Ok(Place { pin: own(&url), url, here: true })
            }
        }
    }
}

fn own_secret(loaded: &Loaded, env: &Environment) -> Result<AuthSecret, Failure> {
    // Without one the gateway decides: it may not run at all.
    Ok(config::client_secret(loaded, env)?.unwrap_or(AuthSecret::None))
}

/// The address of the gateway of this state directory: of the one that runs, or of its next start.
pub(super) fn here(loaded: &Loaded) -> Result<String, ConfigError> {
    let gateway = &loaded.settings.gateway;
    match owner::address(&loaded.state_dir) {
        Some(address) => Ok(config::url(gateway, address)),
        None => config::local_url(gateway),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RunArgs;
    use serde_json::{Value, json};

    /// Where a command goes, with this configuration.
    fn goes(global: Global, gateway: Value) -> Result<(String, Option<String>, bool), String> {
        let dir = tempfile::tempdir().expect("a directory");
        let text = json!({ "gateway": gateway }).to_string();
        std::fs::write(dir.path().join("openclaw.json"), text).expect("it is writable");
        let global = Global { state_dir: Some(dir.path().to_owned()), ..global };
        let sources = global.sources(Environment::default(), &RunArgs::default()).expect("sources");
        let loaded = config::load(&sources).map_err(|error| error.to_string())?;
        let place = global.place(&loaded).map_err(|failure| failure.told())?;
        Ok((place.url, place.pin.map(|pin| pin.to_string()), place.here))
    }

    fn url(url: &str) -> Global {
        Global { url: Some(url.into()), ..Global::default() }
    }

    /// accepts: J8
    #[test]
    fn a_command_goes_where_it_is_told_then_where_the_configuration_says() {
        let (own, far) = ("ws://127.0.0.1:18789".to_owned(), "wss://home.example:1".to_owned());
        let [pin, other] = ["a", "b"].map(|digit| digit.repeat(64));
        assert_eq!(goes(Global::default(), json!({})), Ok((own.clone(), None, true)));
        let remote =
            json!({ "mode": "remote", "remote": { "url": far, "tlsFingerprint": format!("sha256:{pin}") } });
        assert_eq!(goes(Global::default(), remote.clone()), Ok((far.clone(), Some(pin.clone()), false)));
        let given = Global { tls_fingerprint: other.parse().ok(), ..Global::default() };
        assert_eq!(goes(given, remote.clone()), Ok((far.clone(), Some(other), false)));
        assert_eq!(goes(url(&own), remote), Ok((own.clone(), None, true)), "a pin is for that one gateway");
        let named = json!({ "remote": { "url": far, "tlsFingerprint": pin } });
        assert_eq!(
            goes(Global::default(), named.clone()),
            Ok((own, None, true)),
            "others reach this one there"
        );
        assert_eq!(goes(url(&far), named), Ok((far, None, false)));
        let wrong = json!({ "mode": "remote", "remote": { "url": "wss://h", "tlsFingerprint": "abc" } });
        assert!(
            goes(Global::default(), wrong)
                .expect_err("no fingerprint")
                .contains("gateway.remote.tlsFingerprint")
        );
    }

    #[test]
    fn a_gateway_here_that_speaks_tls_is_called_so() {
        let tls = json!({ "tls": { "enabled": true } });
        assert_eq!(goes(Global::default(), tls), Ok(("wss://127.0.0.1:18789".into(), None, true)));
    }
}
