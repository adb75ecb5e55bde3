//! Reads the configuration: defaults, then the file, then the environment, then flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crabtree_actors::config::{LAST_GOOD, Reload};
use crabtree_actors::settings::{Loaded, Settings, config_hash, unknown_keys};
use figment::{
    Error, Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map},
};
use serde_json::{Value, json};

use super::{ConfigError, Environment, token};

/// OpenClaw's own variables and the keys they set.
const OPENCLAW_VARIABLES: [(&str, &[&str]); 5] = [
    ("OPENCLAW_GATEWAY_PORT", &["gateway", "port"]),
    ("OPENCLAW_GATEWAY_TOKEN", &["gateway", "auth", "token"]),
    ("OPENCLAW_GATEWAY_PASSWORD", &["gateway", "auth", "password"]),
    ("OPENCLAW_LOG_LEVEL", &["logging", "level"]),
    ("OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP", &["gateway", "maxPreauthConnectionsPerIp"]),
];

/// Where a configuration comes from.
#[derive(Clone)]
pub struct Sources {
    /// The state directory; the file is `openclaw.json` in it,
    pub state_dir: PathBuf,
    /// unless another one is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Environment,
    /// Settings given as flags, in the shape of the file.
    pub flags: Value,
}

impl Sources {
    /// The file.
    fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.state_dir.join("openclaw.json"))
    }

    /// How a running gateway reads it: the file, or a text that may become the file.
    pub fn reader(self) -> Reload {
        Arc::new(move |text| match text {
            Some(text) => load_text(&self, text.to_owned()),
            None => load(&self),
        })
    }
}

/// One layer of the configuration; errors name it.
struct Layer {
    name: String,
    value: Value,
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

/// Loads the configuration. Nothing is written.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let path = sources.path();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && sources.file.is_none() => None,
        Err(error) => {
            return Err(ConfigError::new(format!(
                "the configuration file {} cannot be read: {error}; correct the path or its permissions",
                path.display()
            )));
        }
    };
    let exists = text.is_some();
    Ok(Loaded { exists, ..load_text(sources, text.unwrap_or_default())? })
}

/// Loads the configuration; if the file is broken, the last one that stood its trial, with a warning that says so.
pub fn load_to_start(sources: &Sources) -> Result<Loaded, ConfigError> {
    load(sources).or_else(|invalid| {
        let kept = sources.state_dir.join(LAST_GOOD);
        let Ok(text) = std::fs::read_to_string(&kept) else { return Err(invalid) };
        let mut loaded = load_text(sources, text).map_err(|_| invalid.clone())?;
        loaded.warnings.insert(
            0,
            format!(
                "{invalid}; until then the gateway works with the last configuration that was good, {}",
                kept.display()
            ),
        );
        Ok(loaded)
    })
}

/// The configuration as it would be with this text in the file.
pub fn load_text(sources: &Sources, text: String) -> Result<Loaded, ConfigError> {
    let path = sources.path();
    let raw = parse(&path, &text)?;
    let (variables, mut warnings) = environment(&sources.env);

    let mut figment =
        Figment::from(Layer { name: format!("the file {}", path.display()), value: raw.clone() });
    for variable in variables {
        warnings.extend(unused(&variable));
        figment = figment.merge(variable);
    }
    let flags = Layer { name: "the command line".into(), value: sources.flags.clone() };
    let settings: Settings = figment.merge(flags).extract().map_err(|error| explained(&error))?;

    warnings.extend(
        unknown_keys(&raw)
            .into_iter()
            .map(|key| format!("{}: this version does not use {key}; it is kept as it is", path.display())),
    );
    let key = token::existing_device_key(&sources.state_dir).unwrap_or_default();
    let (hash, state_dir) = (config_hash(&raw, &key), sources.state_dir.clone());
    let gateway = &settings.gateway;
    let lists = [
        ("gateway.trustedProxies", &gateway.trusted_proxies),
        ("gateway.nodes.pairing.autoApproveCidrs", &gateway.nodes.pairing.auto_approve_cidrs),
    ];
    for (name, list) in lists {
        warnings.extend(list.unreadable().map(|entry| {
            format!("{name}: {entry:?} is no address and no range such as 10.0.0.0/8; it has no effect")
        }));
    }
    // Where it cannot be told, a start says why, and a running gateway keeps what it has.
    let auth = token::configured(&gateway.auth, &sources.env).ok().flatten();
    Ok(Loaded { path, exists: true, text, raw, settings, warnings, hash, state_dir, auth })
}

fn parse(path: &Path, text: &str) -> Result<Value, ConfigError> {
    let failed = |why: String, next: &str| {
        ConfigError::new(format!("the configuration file {} cannot be read: {why}; {next}", path.display()))
    };
    let value: Value = if text.trim().is_empty() {
        json!({})
    } else if path.extension().is_some_and(|extension| extension == "toml") {
        Toml::from_str(text).map_err(|error| failed(error.to_string(), "correct it there"))?
    } else {
        json5::from_str(text).map_err(|error| failed(error.to_string(), "correct it there"))?
    };
    if !value.is_object() {
        return Err(failed("an object was expected".into(), "write { ... } around its content"));
    }
    Ok(value)
}

/// The layers that the environment adds, later ones stronger, and warnings about variables that look like
/// settings and are none.
fn environment(env: &Environment) -> (Vec<Layer>, Vec<String>) {
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

fn unused(layer: &Layer) -> Vec<String> {
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

fn explained(error: &Error) -> ConfigError {
    let place = error.metadata.as_ref().map_or("the configuration", |metadata| metadata.name.as_ref());
    let key = error.path.join(".");
    let problem = error.kind.to_string();
    ConfigError { text: format!("{place}: {key}: {problem}; correct that value"), key, problem }
}

#[cfg(test)]
mod tests {
    use crabtree_actors::settings::{AuthMode, LogLevel, SecretInput};

    use super::*;

    fn sources(file: &str, env: &[(&str, &str)], flags: Value) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().expect("a directory");
        if !file.is_empty() {
            std::fs::write(dir.path().join("openclaw.json"), file).expect("it is writable");
        }
        let env = env.iter().copied().collect();
        let sources = Sources { state_dir: dir.path().into(), file: None, env, flags };
        (dir, sources)
    }

    fn loaded(file: &str, env: &[(&str, &str)], flags: Value) -> Result<Loaded, String> {
        load(&sources(file, env, flags).1).map_err(|error| error.to_string())
    }

    fn error(file: &str, env: &[(&str, &str)]) -> String {
        loaded(file, env, json!({})).err().expect("it is refused")
    }

    #[test]
    fn the_limit_of_sockets_has_openclaws_own_variable() {
        let limit = |env: &[_]| {
            let loaded = loaded("", env, json!({})).expect("it loads");
            loaded.settings.gateway.max_preauth_connections_per_ip
        };
        assert_eq!((limit(&[]), limit(&[("OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP", "7")])), (32, 7));
    }

    #[test]
    fn each_layer_wins_over_the_one_before() {
        let port =
            |file, env: &[_], flags| loaded(file, env, flags).map(|loaded| loaded.settings.gateway.port);
        let file = "{ gateway: { port: 1, /* JSON5 */ }, }";
        let openclaw = ("OPENCLAW_GATEWAY_PORT", "2");
        let ours = ("CRABTREE_GATEWAY__PORT", "3");
        assert_eq!(port("", &[], json!({})), Ok(18789));
        assert_eq!(port(file, &[], json!({})), Ok(1));
        assert_eq!(port(file, &[openclaw], json!({})), Ok(2));
        assert_eq!(port(file, &[openclaw, ours], json!({})), Ok(3));
        assert_eq!(port(file, &[openclaw, ours], json!({"gateway": {"port": 4}})), Ok(4));
    }

    #[test]
    fn the_environment_reaches_every_setting() {
        let env = [
            ("CRABTREE_GATEWAY__HANDSHAKE_TIMEOUT_MS", "9"),
            ("CRABTREE_GATEWAY__CHAOS__ENABLED", "true"),
            ("CRABTREE_AGENTS__LIST", r#"[{"id":"a"}]"#),
            ("CRABTREE_AGENTS__DEFAULTS__MODEL", r#"{"primary":"x/y"}"#),
            ("CRABTREE_STATE_DIR", "/nowhere"),
            ("CRABTREE_GATEWAY_PORT", "1"),
            ("CRABTREE_GATEWAY__PROT", "1"),
            ("OPENCLAW_GATEWAY_TOKEN", "12345"),
            ("OPENCLAW_LOG_LEVEL", "DEBUG"),
        ];
        let loaded = loaded("", &env, json!({})).expect("it loads");
        let Settings { gateway, agents, logging, .. } = loaded.settings;
        assert!(gateway.chaos.enabled && gateway.handshake_timeout_ms == 9);
        assert_eq!((agents.list[0].id.as_str(), agents.defaults.model.primary.as_str()), ("a", "x/y"));
        assert!(gateway.auth.token == Some(SecretInput::Text("12345".into())));
        assert_eq!((gateway.auth.effective_mode(), logging.level), (AuthMode::Token, LogLevel::Debug));
        assert!(loaded.warnings.iter().any(|w| w.contains("CRABTREE_GATEWAY_PORT is not used")));
        assert!(loaded.warnings.iter().any(|w| w.contains("CRABTREE_GATEWAY__PROT: this version")));
        assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    }

    #[test]
    fn unknown_keys_warn_and_stay() {
        let loaded = loaded("{tts: {telegram: {botToken: 'x'}}}", &[], json!({})).expect("it loads");
        assert_eq!(loaded.raw["tts"]["telegram"]["botToken"], "x");
        assert!(loaded.exists && loaded.warnings.len() == 1 && loaded.warnings[0].contains("tts"));
        assert!(loaded.hash.starts_with("blake3:v1:"));
    }

    #[test]
    fn errors_name_place_and_key() {
        let text = error("{gateway: {port: 'abc'}}", &[]);
        assert!(text.contains("openclaw.json: gateway.port: ") && text.contains("expected u16"), "{text}");
        let text = error("{gateway: {bind: 'lam'}}", &[]);
        assert!(text.contains("gateway.bind: ") && text.contains("loopback"), "{text}");
        let text = error("", &[("CRABTREE_GATEWAY__PORT", "99999")]);
        assert!(
            text.starts_with("the environment variable CRABTREE_GATEWAY__PORT: gateway.port: "),
            "{text}"
        );
        let text = error("{gateway: {auth: {token: 55555}}}", &[]);
        assert!(text.contains("gateway.auth.token: ") && !text.contains("55555"), "{text}");
        let text = error("{gateway: {port: }", &[]);
        assert!(text.contains("openclaw.json cannot be read"), "{text}");
        assert!(error("[]", &[]).contains("an object was expected"));
        assert!(error("{agents: {list: [{name: 'x'}]}}", &[]).contains("agents.list.0: missing field `id`"));
    }

    #[test]
    fn toml_is_read_and_a_named_file_must_exist() {
        let (dir, mut sources) = sources("", &[], json!({}));
        sources.file = Some(dir.path().join("c.toml"));
        assert!(load(&sources).err().expect("no file").to_string().contains("c.toml cannot be read"));
        std::fs::write(dir.path().join("c.toml"), "[gateway]\nport = 7\n").expect("it is writable");
        let loaded = load(&sources).map_err(|e| e.to_string());
        assert_eq!(
            loaded.map(|l| (l.settings.gateway.port, l.raw)),
            Ok((7, json!({"gateway": {"port": 7}})))
        );
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/openclaw.example.json5"));
        let mut loaded = loaded(example, &[], json!({})).expect("it loads");
        assert_eq!(loaded.warnings, [""; 0]);
        assert!(loaded.settings.gateway.auth.mode.take() == Some(AuthMode::Token));
        assert!(loaded.settings == Settings::default());
    }
}
