//! Configuration files, the environment and the secrets of the gateway: everything read before the tree starts.

mod layers;
mod listen;
mod load;
mod sound;
mod token;

use std::{
    collections::BTreeMap,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub use listen::{listen_addresses, local_url, url};
pub use load::{Sources, load, load_draft, load_to_start};
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

#[cfg(test)]
mod tests {
    use super::*;

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
