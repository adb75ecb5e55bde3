//! Where secrets may stand in a configuration: every place whose value somebody looks up. Pure.

use crate::settings::{
    AuthMode, Held, SEALED, SecretInput, SecretRef, SecretSource, Settings, is_reference, is_secret_key,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A place with a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Its keys.
    pub path: Vec<String>,
    /// Whether anybody needs it: what is switched off does not.
    pub active: bool,
}

impl Spot {
    /// Its keys, with dots.
    pub fn key(&self) -> String {
        self.path.join(".")
    }

    /// Who needs it: `gateway`, `channel telegram`, `provider openai` …
    pub fn owner(&self) -> String {
        let part = |index: usize| self.path.get(index).map_or("", String::as_str);
        match part(0) {
            "channels" if part(2) == "accounts" => format!("channel {}/{}", part(1), part(3)),
            "channels" => format!("channel {}", part(1)),
            "models" => format!("provider {}", part(2)),
            "mcp" => format!("MCP server {}", part(2)),
            "acp" => format!("agent acp/{}", part(2)),
            "skills" => format!("skill {}", part(2)),
            other => other.to_owned(),
        }
    }

    /// Whether the gateway cannot do without: what its clients have to present.
    pub fn is_critical(&self) -> bool {
        self.path[0] == "gateway"
    }
}

/// Gets each place with what stands there; what it answers takes its place.
type Look<'a> = dyn FnMut(&Spot, &SecretInput) -> Option<Held> + 'a;

/// Looks at every place with a secret.
pub fn visit(settings: &mut Settings, look: &mut Look<'_>) {
    let mut one = |path: &[&str], active: bool, input: &mut SecretInput| {
        let spot = Spot { path: path.iter().map(|part| (*part).to_owned()).collect(), active };
        if let Some(held) = look(&spot, input) {
            *input = SecretInput::Held(held);
        }
    };
    let auth = &mut settings.gateway.auth;
    let mode = auth.effective_mode();
    let (token, password) =
        (mode == AuthMode::Token, matches!(mode, AuthMode::Password | AuthMode::TrustedProxy));
    for (name, active, input) in
        [("token", token, &mut auth.token), ("password", password, &mut auth.password)]
    {
        input.iter_mut().for_each(|input| one(&["gateway", "auth", name], active, input));
    }
    let enabled = settings.hooks.enabled;
    settings.hooks.token.iter_mut().for_each(|input| one(&["hooks", "token"], enabled, input));
    for (id, provider) in &mut settings.models.providers {
        let key = provider.api_key.iter_mut();
        key.for_each(|input| one(&["models", "providers", id, "apiKey"], true, input));
    }
    for (name, entry) in &mut settings.skills.entries {
        let active = entry.enabled;
        let key = entry.api_key.iter_mut();
        key.for_each(|input| one(&["skills", "entries", name, "apiKey"], active, input));
        for (variable, input) in named_secrets(&mut entry.env) {
            one(&["skills", "entries", name, "env", variable], active, input);
        }
    }
    let enabled = settings.acp.enabled;
    for (name, agent) in &mut settings.acp.agents {
        for (variable, input) in named_secrets(&mut agent.env) {
            one(&["acp", "agents", name, "env", variable], enabled, input);
        }
    }
    for (name, server) in &mut settings.mcp.servers {
        let active = server.enabled;
        for (part, values) in [("env", &mut server.env), ("headers", &mut server.headers)] {
            for (variable, input) in values {
                one(&["mcp", "servers", name, part, variable], active, input);
            }
        }
    }
    let channels = &mut settings.channels;
    for (name, section) in &mut channels.0 {
        let mut path = vec!["channels".to_owned(), name.clone()];
        within(section, &mut path, true, &mut channels.1, look);
    }
}

/// The variables whose names say that they are secrets, or that refer to one.
fn named_secrets(
    variables: &mut BTreeMap<String, SecretInput>,
) -> impl Iterator<Item = (&String, &mut SecretInput)> {
    let is_plain = |input: &SecretInput| matches!(input, SecretInput::Text(text) if !refers(text));
    variables.iter_mut().filter(move |(name, input)| is_secret_key(name) || !is_plain(input))
}

/// Whether a text is no value, but names one, or has one in it.
pub(super) fn refers(text: &str) -> bool {
    text.contains("${") || text.starts_with(SEALED)
}

/// A channel's section, whose settings only the channel knows.
fn within(
    value: &mut Value,
    path: &mut Vec<String>,
    active: bool,
    held: &mut BTreeMap<String, Held>,
    look: &mut Look<'_>,
) {
    match value {
        Value::Object(members) => {
            let active = active && members.get("enabled") != Some(&Value::Bool(false));
            for (name, value) in members {
                path.push(name.clone());
                match input(name, value) {
                    Some(input) => {
                        if let Some(found) = look(&Spot { path: path.clone(), active }, &input) {
                            held.insert(found.mark.clone(), found.clone());
                            *value = serde_json::to_value(SecretInput::Held(found)).unwrap_or_default();
                        }
                    }
                    None => within(value, path, active, held, look),
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                within(value, path, active, held, look);
                path.pop();
            }
        }
        _ => {}
    }
}

/// What a member of a channel's section is, if it is a secret.
fn input(name: &str, value: &Value) -> Option<SecretInput> {
    match value {
        Value::String(text) if !text.trim().is_empty() && (refers(text) || is_secret_key(name)) => {
            Some(SecretInput::Text(text.clone()))
        }
        Value::Object(members) if is_reference(members) => {
            SecretRef::deserialize(value).ok().map(SecretInput::Reference)
        }
        _ => None,
    }
}

/// The secrets in a document that stand there in plain text, and the gateway reads: paths and values.
pub fn plain(document: &Value) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let Ok(mut settings) = serde_json::from_value::<Settings>(document.clone()) else { return found };
    visit(&mut settings, &mut |spot, input| {
        let stands = spot.path.iter().try_fold(document, |place, key| match place {
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            other => other.get(key),
        });
        match (input, stands) {
            (SecretInput::Text(text), Some(Value::String(_))) if !refers(text) && !text.trim().is_empty() => {
                found.push((spot.path.clone(), text.clone()));
            }
            _ => {}
        }
        None
    });
    found
}

/// Every sealed value of a document, whoever reads it: paths and values.
pub fn sealed(document: &Value) -> Vec<(Vec<String>, String)> {
    fn look(value: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
        let mut deeper = |key: String, value: &Value| {
            path.push(key);
            look(value, path, found);
            path.pop();
        };
        match value {
            Value::String(text) if text.starts_with(SEALED) => found.push((path.clone(), text.clone())),
            Value::Object(members) => members.iter().for_each(|(key, value)| deeper(key.clone(), value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| deeper(index.to_string(), value));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(document, &mut Vec::new(), &mut found);
    found
}

/// Whether the configuration refers to this entry of the store.
pub fn refers_to_store(settings: &Settings, name: &str) -> bool {
    let mut found = false;
    visit(&mut settings.clone(), &mut |_, input| {
        let reference = match input {
            SecretInput::Reference(reference) => Some(reference),
            SecretInput::Held(held) => held.reference.as_ref(),
            SecretInput::Text(_) => None,
        };
        found |= reference.is_some_and(|one| one.source == SecretSource::Store && one.id == name);
        None
    });
    found
}
