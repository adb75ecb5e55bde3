//! Reads the configuration: defaults, then the file and what it includes, then the environment, then flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crabtree_actors::config::include::{Composed, Draft, composed};
use crabtree_actors::config::older::{For, renewed};
use crabtree_actors::config::{Ask, LAST_GOOD, Reload};
use crabtree_actors::settings::{Loaded, OlderKey, Origin, Settings, config_hash, unknown_keys};
use figment::Figment;
use figment::providers::{Format, Toml};
use serde_json::{Value, json};

use super::layers::{Layer, environment, unused};
use super::sound::{Reader, sound};
use super::{ConfigError, Environment, token};

/// The file in the state directory,
const FILE: &str = "openclaw.json";
/// and what is read if it is not there.
const OTHERWISE: [&str; 2] = ["openclaw.yaml", "openclaw.yml"];

/// Where a configuration comes from.
#[derive(Clone)]
pub struct Sources {
    /// The state directory; the file is `openclaw.json` in it, or `openclaw.yaml`,
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
    pub fn path(&self) -> PathBuf {
        if let Some(file) = &self.file {
            return file.clone();
        }
        let own = self.state_dir.join(FILE);
        let mut others = OTHERWISE.iter().map(|name| self.state_dir.join(name));
        if own.exists() { own } else { others.find(|other| other.exists()).unwrap_or(own) }
    }

    /// How a running gateway reads it.
    pub fn reader(self) -> Reload {
        Arc::new(move |ask| read(&self, ask))
    }
}

/// Loads the configuration. Nothing is written.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    read(sources, Ask::default())
}

/// The same as if this text stood in the file.
pub fn load_draft(sources: &Sources, text: &str) -> Result<Loaded, ConfigError> {
    let path = sources.path();
    let draft = Draft { path: &path, text };
    read(sources, Ask { draft: Some(draft), last: None })
}

fn read(sources: &Sources, ask: Ask<'_>) -> Result<Loaded, ConfigError> {
    let path = sources.path();
    let text = match ask.draft.filter(|draft| draft.path == path) {
        Some(draft) => Ok(Some(draft.text.to_owned())),
        None => content(sources, &path),
    }?;
    let written = parse(&path, text.as_deref().unwrap_or_default())?;
    if !written.is_object() {
        let why = "an object was expected; write { ... } around its content";
        return Err(ConfigError::new(format!(
            "the configuration file {} cannot be read: {why}",
            path.display()
        )));
    }
    let parsed = |path: &Path, text: &str| parse(path, text).map_err(|error| error.problem);
    let whole = composed(&path, &written, ask.draft, &parsed);
    let file = Text { path, exists: text.is_some(), text: text.unwrap_or_default(), written };
    made(sources, file, whole, ask.last)
}

fn content(sources: &Sources, path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && sources.file.is_none() => Ok(None),
        Err(error) => Err(ConfigError::new(format!(
            "the configuration file {} cannot be read: {error}; correct the path or its permissions",
            path.display()
        ))),
    }
}

/// Loads the configuration; if it is broken where the gateway cannot do without, the last one that stood its trial, with
/// a warning that says so.
pub fn load_to_start(sources: &Sources) -> Result<Loaded, ConfigError> {
    load(sources).or_else(|invalid| {
        let kept = sources.state_dir.join(LAST_GOOD);
        let Ok(text) = std::fs::read_to_string(&kept) else { return Err(invalid) };
        let written = parse(&kept, &text).map_err(|_| invalid.clone())?;
        let parsed = |path: &Path, text: &str| parse(path, text).map_err(|error| error.problem);
        let path = sources.path();
        let whole = composed(&path, &written, None, &parsed);
        let file = Text { path, exists: true, text, written };
        let mut loaded = made(sources, file, whole, None).map_err(|_| invalid.clone())?;
        loaded.origin.issues.insert(0, invalid.issue());
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

/// The main file.
struct Text {
    path: PathBuf,
    exists: bool,
    text: String,
    written: Value,
}

/// The configuration that these files make.
fn made(sources: &Sources, file: Text, whole: Composed, last: Option<&Value>) -> Result<Loaded, ConfigError> {
    let Text { path, exists, text, written } = file;
    let Composed { content: raw, sites, included, watched, problems } = whole;
    let (document, older) = renewed(&raw, For::Reading);
    let (variables, mut warnings) = environment(&sources.env);
    let name = format!("the file {}", path.display());
    let flags = Layer { name: "the command line".into(), value: sources.flags.clone() };
    let settings = |document: &Value| {
        let mut figment = Figment::from(Layer { name: name.clone(), value: document.clone() });
        for variable in &variables {
            figment = figment.merge(variable);
        }
        figment.merge(&flags).extract::<Settings>().map_err(Box::new)
    };
    for variable in &variables {
        warnings.extend(unused(variable));
    }
    let unknown = unknown_keys(&document);
    let reader = Reader { settings: &settings, sites: &sites };
    let (settings, used, issues) = sound(document, problems, last, &reader)?;

    let at = path.display();
    warnings.extend(
        unknown.into_iter().map(|key| format!("{at}: this version does not use {key}; it is kept as it is")),
    );
    let older: Vec<OlderKey> = older.into_iter().map(|older| older.key).collect();
    warnings.extend(older.iter().map(|OlderKey { path: key, became }| {
        format!(
            "{at}: {key} is an older form; it is read as {became} (`crabtree config migrate` writes it so)"
        )
    }));
    let key = token::existing_device_key(&sources.state_dir).unwrap_or_default();
    // What clients saw of it: the content, and which file it stands in.
    let seen = match included.is_empty() {
        true => raw.clone(),
        false => json!([raw, written, included.iter().map(|file| &file.content).collect::<Vec<_>>()]),
    };
    let (hash, state_dir) = (config_hash(&seen, &key), sources.state_dir.clone());
    warnings.extend(unreadable(&settings));
    warnings.extend(settings.hooks.warnings());
    let mut others = OTHERWISE.iter().map(|name| sources.state_dir.join(name));
    if let Some(other) = others.find(|other| sources.file.is_none() && *other != path && other.exists()) {
        warnings.push(format!("{} is not read: {at} is there", other.display()));
    }
    // Where it cannot be told, a start says why, and a running gateway keeps what it has.
    let env = |name: &str| sources.env.get(name).map(str::to_owned);
    let auth = settings.gateway.auth.secret(&env).ok().flatten();
    let origin = Origin { written, sites, included, watched, issues, older, used };
    Ok(Loaded { path, exists, text, raw, settings, warnings, hash, state_dir, auth, origin })
}

/// Addresses that are none.
fn unreadable(settings: &Settings) -> Vec<String> {
    let gateway = &settings.gateway;
    let lists = [
        ("gateway.trustedProxies", &gateway.trusted_proxies),
        ("gateway.nodes.pairing.autoApproveCidrs", &gateway.nodes.pairing.auto_approve_cidrs),
    ];
    let told = |(name, list): (&str, &crabtree_actors::settings::Addresses)| -> Vec<String> {
        let told = list.unreadable().map(|entry| {
            format!("{name}: {entry:?} is no address and no range such as 10.0.0.0/8; it has no effect")
        });
        told.collect()
    };
    lists.into_iter().flat_map(told).collect()
}

/// What a text is: JSON5, or what the name of its file says. What is said of a broken one has nothing of it: it may hold
/// secrets.
fn parse(path: &Path, text: &str) -> Result<Value, ConfigError> {
    let wrong = |why: String| {
        let at = path.display();
        ConfigError::new(format!("the configuration file {at} cannot be read: {why}; correct it there"))
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let value: Value = match ending {
        _ if text.trim().is_empty() => json!({}),
        "toml" => Toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?,
        "yaml" | "yml" => {
            serde_saphyr::from_str(text).map_err(|error| wrong(error.without_snippet().to_string()))?
        }
        _ => json5::from_str(text).map_err(|error| wrong(error.to_string()))?,
    };
    Ok(value)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
