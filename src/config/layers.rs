//! The layers over the file: what the environment says, and flags.

use super::Environment;
use crabtree_actors::settings::{Settings, unknown_keys};
use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map},
};
use serde_json::{Value, json};

/// OpenClaw's own variables and the keys they set.
const OPENCLAW_VARIABLES: [(&str, &[&str]); 5] = [
    ("OPENCLAW_GATEWAY_PORT", &["gateway", "port"]),
    ("OPENCLAW_GATEWAY_TOKEN", &["gateway", "auth", "token"]),
    ("OPENCLAW_GATEWAY_PASSWORD", &["gateway", "auth", "password"]),
    ("OPENCLAW_LOG_LEVEL", &["logging", "level"]),
    ("OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP", &["gateway", "maxPreauthConnectionsPerIp"]),
];

/// One layer of the configuration; errors name it.
pub(super) struct Layer {
    /// What errors call it.
    pub name: String,
    /// In the shape of the file.
    pub value: Value,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let value = figment::value::Value::serialize(&self.value)?;
        let dict = value.into_dict().ok_or_else(|| Error::from("an object was expected".to_owned()))?;
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// The layers that the environment adds, later ones stronger, and warnings about variables that look like
/// settings and are none.
pub(super) fn environment(env: &Environment) -> (Vec<Layer>, Vec<String>) {
    let (mut layers, mut warnings) = (Vec::new(), Vec::new());
    for (name, path) in OPENCLAW_VARIABLES {
        if let Some(value) = env.get(name) {
            let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
            layers.push(Layer {
                name: format!("the environment variable {name}"),
                value: nested(&path, value),
            });
        }
    }
    for (rest, value) in env.with_prefix("CRABTREE_") {
        let path: Vec<String> = rest.split("__").map(camel_case).collect();
        if path.len() > 1 {
            let name = format!("the environment variable CRABTREE_{rest}");
            layers.push(Layer { name, value: nested(&path, value) });
        } else if rest != "STATE_DIR" {
            warnings.push(format!(
                "the environment variable CRABTREE_{rest} is not used; levels of a setting are parted by two \
                 underscores, as in CRABTREE_GATEWAY__PORT"
            ));
        }
    }
    (layers, warnings)
}

pub(super) fn unused(layer: &Layer) -> Vec<String> {
    let keys = unknown_keys(&layer.value);
    keys.into_iter().map(|key| format!("{}: this version does not use {key}", layer.name)).collect()
}

/// `HANDSHAKE_TIMEOUT_MS` is `handshakeTimeoutMs`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_').map(str::to_ascii_lowercase);
    let first = words.next().unwrap_or_default();
    words.fold(first, |mut all, word| {
        all.extend(word.get(..1).map(str::to_ascii_uppercase));
        all.push_str(word.get(1..).unwrap_or_default());
        all
    })
}

/// `value` at `path` in nested objects, typed like the setting that it replaces.
fn nested(path: &[String], value: &str) -> Value {
    let mut default = serde_json::to_value(Settings::default()).unwrap_or_default();
    for key in path {
        default = default.get_mut(key).map(Value::take).unwrap_or_default();
    }
    let typed = match default {
        Value::String(_) if path == ["logging", "level"] => value.to_ascii_lowercase().into(),
        Value::String(_) | Value::Null => value.into(),
        _ => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    };
    path.iter().rev().fold(typed, |inner, key| json!({ key: inner }))
}
