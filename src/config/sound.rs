//! What of a document can be used: a broken part stays what it was, or is left out, and everything else counts.

use std::collections::BTreeSet;

use crabtree_actors::settings::{ChannelSettings, IncludeSite, Issue, Settings};
use figment::Figment;
use figment::error::{Actual, Kind};
use serde_json::{Value, json};

use super::ConfigError;
use super::layers::Layer;

/// Sections that are never left out: without them there is no gateway, or their defaults would let people do, see or
/// reach more than was meant.
const NEEDED: [&str; 8] =
    ["gateway", "store", "agents", "tools", "session", "bindings", "commands", "secrets"];
/// Where parts stand that are each of their own: the names below are the parts.
const PARTS: [&[&str]; 6] = [
    &["channels"],
    &["models", "providers"],
    &["mcp", "servers"],
    &["skills", "entries"],
    &["acp", "agents"],
    &["plugins", "entries"],
];
/// Parts that are on unless it is said otherwise: left out, they are off.
const ON: [&str; 2] = ["skills", "entries"];

/// How a document is read.
pub(super) struct Reader<'a> {
    /// The settings that it makes.
    pub settings: &'a dyn Fn(&Value) -> Result<Settings, Box<figment::Error>>,
    /// Where it includes files.
    pub sites: &'a [IncludeSite],
}

/// The settings, the document that made them, and what of it could not be used. `problems` are places that could not be
/// included; `last` is what is in force.
pub(super) fn sound(
    document: Value,
    problems: Vec<(Vec<String>, String)>,
    last: Option<&Value>,
    reader: &Reader<'_>,
) -> Result<(Settings, Value, Vec<Issue>), ConfigError> {
    let (issues, tried) = (Vec::new(), BTreeSet::new());
    let mut trying = Trying { document, issues, tried, last, sites: reader.sites };
    for (at, why) in problems {
        if !trying.mended(&at, &why) {
            let key = at.join(".");
            let text = format!("{key}: {why}; correct that");
            return Err(ConfigError { key, problem: why, text });
        }
    }
    loop {
        let settings = match (reader.settings)(&trying.document) {
            Ok(settings) => settings,
            Err(error) if trying.mended(&error.path, &told(&error.kind)) => continue,
            Err(error) => return Err(explained(&error, reader.sites)),
        };
        let wrong = channels(&settings);
        // Without anything before it, an account says itself that it cannot run, and is shown parked.
        let is_mended = wrong.into_iter().any(|(at, why)| match last {
            Some(_) => !trying.is_known(&at) && trying.mended(&at, &why),
            None => {
                trying.note(&at, &why, false);
                false
            }
        });
        if !is_mended {
            return Ok((settings, trying.document, trying.issues));
        }
    }
}

struct Trying<'a> {
    document: Value,
    issues: Vec<Issue>,
    /// The parts that are what they were (`true`), or left out.
    tried: BTreeSet<(Vec<String>, bool)>,
    last: Option<&'a Value>,
    sites: &'a [IncludeSite],
}

impl Trying<'_> {
    /// Puts in place of what is broken what it was before, or leaves it out; false if neither can be done any more.
    fn mended(&mut self, at: &[String], why: &str) -> bool {
        let Some(section) = at.first() else { return false };
        let part =
            PARTS.iter().find(|place| at.len() > place.len() && at.iter().zip(**place).all(|(a, b)| a == b));
        let part = part.map(|place| at[..=place.len()].to_vec());
        let whole = vec![section.clone()];
        let may_be_left_out = !NEEDED.contains(&section.as_str());
        let parts: Vec<_> = part.into_iter().chain([whole]).collect();
        let was = parts.iter().filter(|_| self.last.is_some()).map(|part| (part.clone(), true));
        let without = parts.iter().filter(|_| may_be_left_out).map(|part| (part.clone(), false));
        let Some(next) = was.chain(without).find(|next| !self.tried.contains(next)) else { return false };
        let (part, kept) = next.clone();
        let value = match (kept, self.last) {
            (true, Some(last)) => part.iter().try_fold(last, |place, key| place.get(key)).cloned(),
            _ => part.iter().zip(ON).all(|(a, b)| a == b).then(|| json!({ "enabled": false })),
        };
        put(&mut self.document, &part, value.filter(|_| kept || part.len() > 2));
        self.tried.insert(next);
        self.note(at, why, kept);
        true
    }

    fn is_known(&self, at: &[String]) -> bool {
        self.issues.iter().any(|issue| issue.path == at.join("."))
    }

    fn note(&mut self, at: &[String], why: &str, kept: bool) {
        let path = at.join(".");
        match self.issues.iter_mut().find(|issue| issue.path == path) {
            Some(known) => known.kept = kept,
            None => {
                self.issues.push(Issue { message: format!("{why}{}", place(self.sites, at)), path, kept })
            }
        }
    }
}

/// Puts a value there, or takes away what is there.
fn put(document: &mut Value, at: &[String], value: Option<Value>) {
    let Some((last, way)) = at.split_last() else { return };
    let mut place = document;
    for key in way {
        let Some(members) = place.as_object_mut() else { return };
        place = members.entry(key.clone()).or_insert_with(|| json!({}));
    }
    let Some(members) = place.as_object_mut() else { return };
    match value {
        Some(value) => drop(members.insert(last.clone(), value)),
        None => drop(members.shift_remove(last)),
    }
}

/// What is wrong with channels, as far as it can be told without them: their settings are read only by themselves.
fn channels(settings: &Settings) -> Vec<(Vec<String>, String)> {
    let mut wrong = Vec::new();
    let path =
        |keys: &[&str]| ["channels"].iter().chain(keys).map(|key| (*key).to_owned()).collect::<Vec<_>>();
    for (name, section) in settings.channels.0.iter().filter(|(name, _)| *name != "defaults") {
        let own = section.get("accounts");
        for (at, what) in [(path(&[name]), Some(section)), (path(&[name, "accounts"]), own)] {
            if what.is_some_and(|what| !what.is_object()) {
                wrong.push((at, "an object was expected".into()));
            }
        }
        for (id, value) in settings.channels.accounts(name) {
            let layer = Layer { name: String::new(), value };
            let Err(error) = Figment::from(layer).extract::<ChannelSettings>() else { continue };
            let is_own =
                error.path.first().is_some_and(|key| own.is_some_and(|own| own[&id].get(key).is_some()));
            let before = if is_own { path(&[name, "accounts", &id]) } else { path(&[name]) };
            wrong.push((before.into_iter().chain(error.path).collect(), told(&error.kind)));
        }
    }
    wrong
}

/// What is wrong, without the text that stands there: it may be a secret in the wrong place.
fn told(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(Actual::Str(_), expected) => {
            format!("invalid type: found string, expected {expected}")
        }
        Kind::InvalidValue(Actual::Str(_), expected) => {
            format!("invalid value: found string, expected {expected}")
        }
        other => other.to_string(),
    }
}

/// The file that a place stands in, if it is included.
fn place(sites: &[IncludeSite], at: &[String]) -> String {
    let around = sites.iter().filter(|site| at.starts_with(&site.at)).max_by_key(|site| site.at.len());
    let files =
        around.map(|site| site.targets.iter().map(|file| file.display().to_string()).collect::<Vec<_>>());
    files.map(|files| format!(" (in {})", files.join(" or "))).unwrap_or_default()
}

fn explained(error: &figment::Error, sites: &[IncludeSite]) -> ConfigError {
    let layer = error.metadata.as_ref().map_or("the configuration", |metadata| metadata.name.as_ref());
    let key = error.path.join(".");
    let problem = format!("{}{}", told(&error.kind), place(sites, &error.path));
    ConfigError { text: format!("{layer}: {key}: {problem}; correct that value"), key, problem }
}

#[cfg(test)]
#[path = "sound_tests.rs"]
mod tests;
