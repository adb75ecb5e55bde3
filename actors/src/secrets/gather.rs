//! Looks secrets up where the configuration says they are kept: each place is asked once, all at the same time, and none
//! is waited for longer than it may take. It blocks; actors have it done elsewhere.

use super::sealed::Keyring;
use super::{SecretStore, exec, file};
use crate::process::Guard;
use crate::settings::{
    ExecProvider, FileProvider, Secret, SecretProvider, SecretRef, SecretSource, SecretsSettings,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long reading a file may take, unless told, and at most (as recorded).
const FILE_LIMIT: Duration = Duration::from_secs(5);
const LONGEST_FILE: Duration = Duration::from_secs(120);
/// What a program may take to be started and ended, beside what it may take itself.
const AROUND_EXEC: Duration = Duration::from_secs(5);
/// Secrets that one place is asked for at most (as recorded).
const MAX_IDS: usize = 512;

/// What has a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A sealed text.
    Sealed(String),
    /// Something that is kept elsewhere, with its provider.
    Reference(SecretRef),
}

/// What was found.
#[derive(Clone)]
pub struct Found {
    /// What the place it was found in was then.
    pub place: Option<SecretProvider>,
    /// The value, or why there is none.
    pub value: Result<Secret, String>,
    /// Why the value is one of before.
    pub stale: Option<String>,
}

/// What is asked with.
pub struct Asking<'a> {
    /// Where the keys and the store are.
    pub state_dir: &'a Path,
    /// Who watches over programs.
    pub guard: &'a Guard,
    /// The places.
    pub settings: &'a SecretsSettings,
}

type Answers = BTreeMap<String, Result<Secret, String>>;

/// A reference with the provider that is meant.
pub fn complete(reference: &SecretRef, settings: &SecretsSettings) -> SecretRef {
    let provider = reference.provider.clone().unwrap_or_else(|| usual(reference.source, settings).to_owned());
    SecretRef { provider: Some(provider), ..reference.clone() }
}

fn usual(source: SecretSource, settings: &SecretsSettings) -> &str {
    let defaults = &settings.defaults;
    let named = match source {
        SecretSource::Env => &defaults.env,
        SecretSource::File => &defaults.file,
        SecretSource::Exec => &defaults.exec,
        SecretSource::Store => &defaults.store,
    };
    named.as_deref().unwrap_or("default")
}

/// The place a complete reference means.
///
/// # Errors
/// There is none, or the id is none there (as recorded).
pub fn place(reference: &SecretRef, settings: &SecretsSettings) -> Result<SecretProvider, String> {
    let (source, id) = (reference.source, reference.id.as_str());
    let name = reference.provider.as_deref().unwrap_or_default();
    let of_source = |provider: &&SecretProvider| source_of(provider) == source;
    let builtin = match source {
        SecretSource::Env => Some(SecretProvider::Env { allowlist: None }),
        SecretSource::Store => Some(SecretProvider::Store {}),
        SecretSource::File | SecretSource::Exec => None,
    };
    let found = settings.providers.get(name).filter(of_source).cloned();
    let found = found.or(builtin.filter(|_| name == usual(source, settings)));
    let found = found.ok_or_else(|| {
        let source = source.name();
        format!(
            "there is no secrets.providers.{name} with source \"{source}\"; add it, or name another provider"
        )
    })?;
    match &found {
        SecretProvider::Exec(_) if !is_exec_id(id) => {
            Err(format!("{id:?} is no id that a program is asked for: letters, digits and ._:/#- only"))
        }
        SecretProvider::Env { allowlist: Some(allowed) } if !allowed.iter().any(|name| name == id) => {
            Err(format!("secrets.providers.{name}.allowlist does not name {id}"))
        }
        _ => Ok(found),
    }
}

fn source_of(provider: &SecretProvider) -> SecretSource {
    match provider {
        SecretProvider::Env { .. } => SecretSource::Env,
        SecretProvider::File(_) => SecretSource::File,
        SecretProvider::Exec(_) => SecretSource::Exec,
        SecretProvider::Store {} => SecretSource::Store,
    }
}

/// Whether programs may be asked for it (as recorded).
fn is_exec_id(id: &str) -> bool {
    id.len() <= 256
        && id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "._:/#-".contains(c))
        && !id.split('/').any(|part| part == "." || part == "..")
}

/// What is found for each, of which `before` is what was found the last time: it is used again where a place does not
/// answer now, and `again` says of which places it is used without asking.
pub fn gather(
    asking: &Asking<'_>,
    wants: impl IntoIterator<Item = Want>,
    before: &BTreeMap<Want, Found>,
    again: impl Fn(&SecretProvider) -> bool,
) -> BTreeMap<Want, Found> {
    let mut found = BTreeMap::new();
    let mut places: BTreeMap<(SecretSource, String), (SecretProvider, Vec<String>)> = BTreeMap::new();
    let mut keys = None;
    for want in wants {
        let known = before.get(&want);
        match &want {
            Want::Sealed(text) => {
                let keys = keys.get_or_insert_with(|| Keyring::open(asking.state_dir));
                let opened = keys.as_ref().map_err(ToString::to_string);
                let value = opened.and_then(|keys| keys.open_sealed(text).map_err(|error| error.to_string()));
                put(&mut found, want, None, value, before);
            }
            Want::Reference(reference) => match place(reference, asking.settings) {
                Err(why) => put(&mut found, want, None, Err(why), before),
                Ok(place) => {
                    match known.filter(|known| known.place.as_ref() == Some(&place) && again(&place)) {
                        Some(known) => drop(found.insert(want.clone(), known.clone())),
                        None => {
                            let name = reference.provider.clone().unwrap_or_default();
                            let (_, ids) =
                                places.entry((reference.source, name)).or_insert_with(|| (place, Vec::new()));
                            ids.push(reference.id.clone());
                        }
                    }
                }
            },
        }
    }
    for ((source, name), (place, answers)) in ask(asking, places) {
        for (id, value) in answers {
            let want = Want::Reference(SecretRef { source, provider: Some(name.clone()), id });
            put(&mut found, want, Some(place.clone()), value, before);
        }
    }
    found
}

/// Notes what was found; in place of nothing, what was found before in the same place.
fn put(
    found: &mut BTreeMap<Want, Found>,
    want: Want,
    place: Option<SecretProvider>,
    value: Result<Secret, String>,
    before: &BTreeMap<Want, Found>,
) {
    let good = before.get(&want).filter(|known| known.place == place && known.value.is_ok());
    let now = match (value, good) {
        (Err(why), Some(good)) => Found { stale: Some(why), ..good.clone() },
        (value, _) => Found { place, value, stale: None },
    };
    found.insert(want, now);
}

type Asked = BTreeMap<(SecretSource, String), (SecretProvider, Vec<String>)>;
type Told = BTreeMap<(SecretSource, String), (SecretProvider, Answers)>;

/// Asks all places at the same time.
fn ask(asking: &Asking<'_>, places: Asked) -> Told {
    let begun = Instant::now();
    let asked = places.into_iter().map(|(name, (place, ids))| {
        let (tell, told) = mpsc::channel();
        let limit = limit(&place);
        let (state_dir, guard) = (asking.state_dir.to_owned(), asking.guard.clone());
        let (key, provider, of) = (name.1.clone(), place.clone(), ids.clone());
        let work = move || tell.send(values(&key, &provider, &of, &state_dir, &guard));
        // One that hangs keeps its thread, and nobody else.
        let thread = std::thread::Builder::new().name(format!("secrets {}", name.1)).spawn(work);
        (name, place, ids, limit, thread.map(|_| told))
    });
    let asked: Vec<_> = asked.collect();
    let answers = asked.into_iter().map(|(name, place, ids, limit, told)| {
        let answers = told.map_err(|error| format!("it cannot be asked: {error}")).and_then(|told| {
            let left = limit.saturating_sub(begun.elapsed());
            let late = |_| format!("secrets.providers.{} took longer than {} ms", name.1, limit.as_millis());
            told.recv_timeout(left).map_err(late)?
        });
        let answers =
            answers.unwrap_or_else(|why| ids.iter().map(|id| (id.clone(), Err(why.clone()))).collect());
        (name, (place, answers))
    });
    answers.collect()
}

fn limit(place: &SecretProvider) -> Duration {
    match place {
        SecretProvider::File(FileProvider { timeout_ms, .. }) => {
            timeout_ms.map_or(FILE_LIMIT, Duration::from_millis).min(LONGEST_FILE)
        }
        SecretProvider::Exec(provider) => exec::limit(provider) + AROUND_EXEC,
        SecretProvider::Env { .. } | SecretProvider::Store {} => FILE_LIMIT,
    }
}

fn values(
    name: &str,
    place: &SecretProvider,
    ids: &[String],
    state_dir: &Path,
    guard: &Guard,
) -> Result<Answers, String> {
    if ids.len() > MAX_IDS {
        return Err(format!("secrets.providers.{name} is asked for more than {MAX_IDS} secrets"));
    }
    match place {
        SecretProvider::File(provider) => {
            file::values(provider, ids).map_err(|why| format!("secrets.providers.{name}.path: {why}"))
        }
        SecretProvider::Exec(provider) => run(name, provider, ids, guard),
        SecretProvider::Store {} => SecretStore::new(state_dir).values(ids),
        SecretProvider::Env { .. } => Ok(ids.iter().map(|id| (id.clone(), variable(id))).collect()),
    }
}

fn run(name: &str, provider: &ExecProvider, ids: &[String], guard: &Guard) -> Result<Answers, String> {
    exec::values(name, provider, ids, guard)
}

fn variable(name: &str) -> Result<Secret, String> {
    let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    value.map(Secret::new).ok_or_else(|| format!("the environment variable {name} is not set"))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
