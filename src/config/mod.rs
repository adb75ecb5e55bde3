//! Configuration files, the environment and the secrets of the gateway: everything read before the tree starts.

mod load;
mod token;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crabtree_actors::settings::{AuthSecret, Bind, GatewaySettings, Loaded};
pub use load::{Sources, load, load_text, load_to_start};
pub use token::{client_secret, device_key, gateway_secret};

/// A configuration that cannot be used: says where, what was expected and what to do.
pub type ConfigError = crabtree_actors::settings::Invalid;

/// The environment variables, read once. A blank one counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process; names and values that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The variables whose name starts with `prefix`, as (rest of the name, value).
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let set = self.0.iter().filter(|(_, value)| !value.trim().is_empty());
        set.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// Where state is kept: the flag, `CRABTREE_STATE_DIR`, or `~/.crabtree`.
pub fn state_dir(flag: Option<&Path>, env: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(path) = flag.or(env.get("CRABTREE_STATE_DIR").map(Path::new)) {
        return std::path::absolute(path)
            .map_err(|error| ConfigError::new(format!("the state directory {}: {error}", path.display())));
    }
    let home = env.get("HOME").ok_or_else(|| {
        ConfigError::new(
            "there is no home directory (HOME is not set); set CRABTREE_STATE_DIR or give --state-dir",
        )
    })?;
    Ok(Path::new(home).join(".crabtree"))
}

/// Makes the state directory, for its owner only. Returns what it had to tighten.
pub fn prepare_state_dir(path: &Path) -> Result<Vec<String>, ConfigError> {
    let failed = |error: std::io::Error| {
        ConfigError::new(format!(
            "the state directory {} cannot be used: {error}; make it writable for this user, or choose another with \
             --state-dir",
            path.display()
        ))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    tighten(path, 0o700).map_err(failed)
}

/// Takes the rights of group and others away. Returns a warning if there were any.
fn tighten(path: &Path, mode: u32) -> std::io::Result<Vec<String>> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & 0o077 == 0 {
        return Ok(Vec::new());
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(vec![format!("{} was open to others (mode {found:03o}); it is {mode:03o} now", path.display())])
}

/// The addresses to listen on; both kinds of loopback where loopback is meant. Without a shared secret the gateway
/// stays on this machine.
pub fn listen_addresses(loaded: &Loaded, secret: &AuthSecret) -> Result<Vec<SocketAddr>, ConfigError> {
    let gateway = &loaded.settings.gateway;
    let address = SocketAddr::new(bind_address(gateway)?, gateway.port);
    if matches!(secret, AuthSecret::None) && !address.ip().is_loopback() {
        return Err(ConfigError::new(format!(
            "gateway.auth.mode is \"none\", but gateway.bind would let other machines in through {address}; set \
             gateway.auth.mode to \"token\", or gateway.bind to \"loopback\""
        )));
    }
    let both = matches!(gateway.bind, Bind::Loopback | Bind::Auto);
    let also = both.then(|| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), gateway.port));
    Ok([address].into_iter().chain(also).collect())
}

fn bind_address(gateway: &GatewaySettings) -> Result<IpAddr, ConfigError> {
    match (gateway.bind, &gateway.custom_bind_host) {
        (Bind::Loopback | Bind::Auto, _) => Ok(Ipv4Addr::LOCALHOST.into()),
        (Bind::Lan, _) => Ok(Ipv4Addr::UNSPECIFIED.into()),
        (Bind::Custom, Some(host)) => host.parse().map_err(|_| {
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
pub fn local_url(gateway: &GatewaySettings) -> Result<String, ConfigError> {
    let ip = match bind_address(gateway)? {
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("ws://{}", SocketAddr::new(ip, gateway.port)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gateway(value: serde_json::Value) -> GatewaySettings {
        serde_json::from_value(value).expect("gateway settings")
    }

    #[test]
    fn binding_follows_the_settings() {
        let url = |value| local_url(&gateway(value)).map_err(|e| e.to_string());
        assert_eq!(url(json!({})).as_deref(), Ok("ws://127.0.0.1:18789"));
        assert_eq!(url(json!({"bind": "lan", "port": 1})).as_deref(), Ok("ws://127.0.0.1:1"));
        assert_eq!(
            url(json!({"bind": "custom", "customBindHost": "::1"})).as_deref(),
            Ok("ws://[::1]:18789")
        );
        assert!(url(json!({"bind": "custom"})).expect_err("no host").contains("gateway.customBindHost"));
        assert!(
            url(json!({"bind": "custom", "customBindHost": "x"})).expect_err("bad host").contains("\"x\"")
        );
    }

    #[test]
    fn the_state_directory_is_the_flag_then_the_variable_then_home() {
        let env: Environment =
            [("HOME", "/home/me"), ("CRABTREE_STATE_DIR", "/var/lib/crabtree")].into_iter().collect();
        let home: Environment = [("HOME", "/home/me"), ("CRABTREE_STATE_DIR", " ")].into_iter().collect();
        assert_eq!(state_dir(Some(Path::new("/x")), &env), Ok("/x".into()));
        assert_eq!(state_dir(None, &env), Ok("/var/lib/crabtree".into()));
        assert_eq!(state_dir(None, &home), Ok("/home/me/.crabtree".into()));
        assert!(state_dir(None, &Environment::default()).is_err());
    }

    #[test]
    fn the_state_directory_is_for_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        assert_eq!(prepare_state_dir(&path), Ok(vec![]));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its owner may");
        assert!(prepare_state_dir(&path).expect("it is usable")[0].contains("mode 755"));
        assert_eq!(prepare_state_dir(&path), Ok(vec![]));
    }
}
