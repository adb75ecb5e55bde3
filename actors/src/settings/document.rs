//! The document that settings were read from: what was loaded, its hashes, and a copy that may be shown.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    AgentEntry, AlertTarget, AuthSecret, HELD, HookMapping, Issue, McpServerSettings, ModelEntry, Origin,
    Prices, ProviderSettings, ResetSettings, SecretError, Settings, SkillEntry,
};

/// What stands in for a secret wherever a configuration is shown.
pub const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// Key endings, without case, `-` and `_`, that mark a secret.
const SECRET_KEYS: [&str; 13] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "encryptkey",
    "authorization",
    "cookie",
    "credential",
];

/// A configuration as it was read.
#[derive(Clone)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// Whether the file is there; without it everything is at its default.
    pub exists: bool,
    /// The file as it is written.
    pub text: String,
    /// The content of the file and of what it includes, with the keys this version does not read.
    pub raw: Value,
    /// The settings in force: defaults, file, environment and flags together.
    pub settings: Settings,
    /// What the operator should know and may ignore.
    pub warnings: Vec<String>,
    /// [`config_hash`] of that content.
    pub hash: String,
    /// Where the gateway keeps its state.
    pub state_dir: PathBuf,
    /// What clients must present, as far as it is written down here.
    pub auth: Option<AuthSecret>,
    /// What it was made of.
    pub origin: Origin,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key, with dots; empty if it is not one key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// Both, where it stands and what to do, in a sentence.
    pub text: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// Something that is not about one key.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { key: String::new(), problem: text.clone(), text }
    }

    /// A part that cannot be used.
    pub fn at(issue: &Issue) -> Self {
        let Issue { path, message, .. } = issue;
        Self { key: path.clone(), problem: message.clone(), text: format!("{path}: {message}") }
    }

    /// The same, as a part: nothing of the configuration is taken up.
    pub fn issue(&self) -> Issue {
        Issue { path: self.key.clone(), message: self.problem.clone(), kept: true }
    }
}

impl From<SecretError> for Invalid {
    fn from(error: SecretError) -> Self {
        Self::new(error.to_string())
    }
}

impl Loaded {
    /// The directory an agent works in.
    pub fn workspace(&self, agent_id: &str) -> PathBuf {
        self.settings.agents.workspace(agent_id, self.settings.default_agent_id(), &self.state_dir)
    }
}

impl Settings {
    /// [`section_hash`] of the settings in force.
    pub fn section_hash(&self, name: &str) -> String {
        section_hash(&plain(self), name)
    }
}

fn plain(settings: &Settings) -> Value {
    serde_json::to_value(settings).expect("settings are plain data")
}

/// Hash of one top-level section, the same for any order of keys: what a child depends on has changed when this
/// has. A missing section hashes like `null`.
pub fn section_hash(document: &Value, name: &str) -> String {
    blake3::hash(&canonical(document.get(name).unwrap_or(&Value::Null))).to_hex().to_string()
}

/// Hash of a whole document for clients. The key keeps them from guessing secrets by trying values.
pub fn config_hash(document: &Value, key: &[u8; 32]) -> String {
    format!("blake3:v1:{}", blake3::keyed_hash(key, &canonical(document)).to_hex())
}

fn canonical(value: &Value) -> Vec<u8> {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    sorted.to_string().into_bytes()
}

/// A copy of a configuration that may be shown: the values of secret keys are replaced at any depth, references
/// to where a secret is kept stay.
pub fn redacted(raw: &Value) -> Value {
    let mut shown = without_secrets(raw);
    super::mcp::conceal(&mut shown);
    super::secrets::conceal(&mut shown);
    shown
}

fn without_secrets(raw: &Value) -> Value {
    match raw {
        Value::Object(map) => map
            .iter()
            // The mark of what is held is nobody's business.
            .filter(|(key, _)| key != &"held" || !map.contains_key("source"))
            .map(|(key, value)| {
                let shown = if is_secret_key(key) { redacted_secret(value) } else { without_secrets(value) };
                (key.clone(), shown)
            })
            .collect(),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        Value::String(text) if text.starts_with(HELD) => REDACTED.into(),
        other => other.clone(),
    }
}

pub(crate) fn is_secret_key(key: &str) -> bool {
    let plain: String = key.chars().filter(|c| !matches!(c, '-' | '_')).collect::<String>().to_lowercase();
    SECRET_KEYS.iter().any(|ending| plain.ends_with(ending))
}

pub(super) fn redacted_secret(value: &Value) -> Value {
    match value {
        Value::String(text) if super::secret::variable_name(text).is_some() || text.is_empty() => {
            value.clone()
        }
        Value::String(_) | Value::Number(_) => REDACTED.into(),
        Value::Array(items) => items.iter().map(redacted_secret).collect(),
        other => without_secrets(other),
    }
}

/// Paths of the keys in `raw` that this version does not read.
pub fn unknown_keys(raw: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(raw, &known_keys(), "", &mut found);
    found.retain(|path| path != "$schema");
    found
}

/// Every key this version reads; `*` stands for any.
fn known_keys() -> Value {
    let agent = AgentEntry::default();
    let mut known = plain(&Settings::default());
    let reset = || json!(ResetSettings::default());
    known["agents"]["list"] = json!([agent]);
    known["agents"]["entries"] = json!({ "*": agent });
    let model = ModelEntry { cost: Some(Prices::default()), ..ModelEntry::default() };
    let provider = ProviderSettings { models: vec![model], ..ProviderSettings::default() };
    known["models"]["providers"] = json!({ "*": provider });
    known["mcp"]["servers"] = json!({ "*": McpServerSettings::default() });
    known["mcp"]["servers"]["*"]["env"] = json!({ "*": null });
    known["mcp"]["servers"]["*"]["headers"] = json!({ "*": null });
    known["skills"]["entries"] = json!({ "*": SkillEntry::default() });
    known["skills"]["entries"]["*"]["env"] = json!({ "*": null });
    known["session"]["identityLinks"] = json!({ "*": [] });
    known["channels"] = json!({ "*": null });
    known["secrets"]["providers"] = json!({ "*": null });
    known["bindings"] = json!([null]);
    known["broadcast"] = json!({ "*": null });
    known["session"]["reset"] = reset();
    known["session"]["resetByType"] =
        json!({ "direct": reset(), "dm": reset(), "group": reset(), "thread": reset() });
    known["session"]["resetByChannel"] = json!({ "*": reset() });
    known["logging"]["subsystems"] = json!({ "*": null });
    known["hooks"]["mappings"] = json!([HookMapping::default()]);
    known["alerts"]["fallbacks"] = json!([AlertTarget::default()]);
    known["messages"]["queue"]["byChannel"] = json!({ "*": null });
    known["messages"]["queue"]["debounceMsByChannel"] = json!({ "*": null });
    known
}

fn compare(raw: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (raw, known) {
        (Value::Object(raw), Value::Object(known)) => {
            for (key, value) in raw {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key).or_else(|| known.get("*")) {
                    Some(known) => compare(value, known, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(raw), Value::Array(known)) => {
            let Some(known) = known.first() else { return };
            for (index, value) in raw.iter().enumerate() {
                compare(value, known, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_ignore_the_order_of_keys() {
        let a = json!({"gateway": {"port": 1, "auth": {"mode": "none"}}, "x": 1});
        let b = json!({"x": 2, "gateway": {"auth": {"mode": "none"}, "port": 1}});
        assert_eq!(section_hash(&a, "gateway"), section_hash(&b, "gateway"));
        assert_ne!(section_hash(&a, "x"), section_hash(&b, "x"));
        assert_ne!(config_hash(&a, &[0; 32]), config_hash(&a, &[1; 32]));
        assert!(config_hash(&a, &[0; 32]).starts_with("blake3:v1:"));
        let settings = Settings::default();
        assert_eq!(settings.section_hash("gateway"), Settings::default().section_hash("gateway"));
        assert_ne!(settings.section_hash("gateway"), settings.section_hash("agents"));
    }

    #[test]
    fn secrets_are_redacted_and_references_stay() {
        let raw = json!({
            "gateway": {"auth": {"token": "a", "password": {"source": "env", "id": "P"}}, "port": 1},
            "channels": {"telegram": {"botToken": "${BOT}", "accounts": [{"bot_token": "b"}], "webhookSecret": 7}},
            "models": {"providers": {"x": {"apiKey": "sk", "headers": {"X-Api-Key": "k"}, "maxTokens": 9}}},
            "env": {"OPENAI_API_KEY": "sk"},
        });
        let shown = redacted(&raw);
        assert_eq!(
            shown,
            json!({
                "gateway": {"auth": {"token": REDACTED, "password": {"source": "env", "id": "P"}}, "port": 1},
                "channels": {"telegram": {
                    "botToken": "${BOT}", "accounts": [{"bot_token": REDACTED}], "webhookSecret": REDACTED,
                }},
                "models": {"providers": {"x": {
                    "apiKey": REDACTED, "headers": {"X-Api-Key": REDACTED}, "maxTokens": 9,
                }}},
                "env": {"OPENAI_API_KEY": REDACTED},
            })
        );
    }

    #[test]
    fn unknown_keys_are_named_by_path() {
        let raw = json!({
            "$schema": "x",
            "gateway": {"port": 1, "prot": 2, "auth": {"token": {"source": "env", "id": "T", "provider": "p"}}},
            "agents": {"defaults": {"model": "a/b"}, "list": [{"id": "main"}, {"id": "b", "identity": {"theme": "x"}}]},
            "session": {"resetByType": {"dm": {"mode": "idle"}, "room": {}}, "resetByChannel": {"x": {"hour": 1}}},
            "messages": {"queue": {"byChannel": {"discord": "steer"}}, "tts": {}},
            "skills": {"entries": {"x": {"enabled": false, "env": {"A": "1"}, "config": {}}}},
            "mcp": {"servers": {"x": {"command": "a", "env": {"A": "1"}, "toolFilter": {"include": []}, "auth": "oauth"}}},
            "channels": {"telegram": {}},
        });
        let unknown = [
            "gateway.prot",
            "agents.list[1].identity.theme",
            "session.resetByType.room",
            "session.resetByChannel.x.hour",
            "messages.tts",
            "skills.entries.x.config",
            "mcp.servers.x.auth",
        ];
        assert_eq!(unknown_keys(&raw), unknown);
        let entries = json!({"agents": {"entries": {"a": {"workspace": "/a"}, "b": {"tts": 1}}}});
        assert_eq!(unknown_keys(&entries), ["agents.entries.b.tts"]);
    }
}
