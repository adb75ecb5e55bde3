//! Secrets: looked up before a configuration is published, and in it only as marks that cannot be read back.
//!
//! What a configuration says of a secret ([`SecretInput`]) is followed here, off the actors, and what was found takes its
//! place in the settings, where only the code that needs it takes it out ([`SecretInput::resolve`]): the account that
//! logs in, the provider that is asked. The document that is shown has references and stand-ins. A mark differs when the
//! value does, so that whoever works with a value that has changed is started anew, and nobody else.
//!
//! | file | what |
//! |---|---|
//! | `spots` | where secrets may stand |
//! | `gather` | asks the places they are kept in |
//! | `file`, `exec`, `store` | those places |
//! | `sealed` | values that are sealed for this gateway |
//! | `rotate` | another key |

mod exec;
mod file;
mod gather;
pub mod rotate;
mod sealed;
pub mod spots;
pub mod store;

pub use gather::{Asking, Want};
pub use sealed::{Keyring, MAX_VALUE, Recipient, SealError};
pub use spots::Spot;
pub use store::SecretStore;

use crate::config::{Kept, conceal};
use crate::process::Guard;
use crate::settings::{
    AuthSecret, HELD, Held, Loaded, SEALED, Secret, SecretError, SecretInput, SecretProvider, SecretRef,
    SecretSource, Settings,
};
use arc_swap::ArcSwap;
use gather::{Found, complete, gather};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was found.
    Found,
    /// It was found before, and could not be looked up again.
    Stale,
    /// There is none.
    Missing,
    /// Nobody needs it.
    Inactive,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Inactive => "inactive",
        }
    }
}

/// A reference of the configuration, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub spot: Spot,
    /// What it refers to; nothing if it is sealed.
    pub reference: Option<SecretRef>,
    /// How it is.
    pub state: State,
    /// Why it is not found.
    pub why: Option<String>,
}

impl Row {
    /// For operators; never a value.
    pub fn shown(&self) -> Value {
        let reference = self.reference.as_ref();
        json!({
            "path": self.spot.key(),
            "owner": self.spot.owner(),
            "source": reference.map_or("sealed", |reference| reference.source.name()),
            "provider": reference.and_then(|reference| reference.provider.as_deref()),
            "id": reference.map(|reference| &reference.id),
            "state": self.state.name(),
            "reason": self.why,
        })
    }
}

/// How the secrets of a configuration are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All references.
    pub rows: Vec<Row>,
    /// Whether a missing one stops everything.
    pub strict: bool,
}

impl Report {
    /// Those that are missing, or old.
    pub fn wanting(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.state, State::Missing | State::Stale))
    }

    /// What is missing, if nothing may be.
    pub fn strictly_missing(&self) -> Option<String> {
        let missing = self.rows.iter().filter(|row| self.strict && row.state == State::Missing);
        let missing: Vec<_> = missing
            .map(|row| format!("{} has no value: {}", row.spot.key(), row.why.as_deref().unwrap_or_default()))
            .collect();
        let next = "secrets.strict is set, and so nothing goes on without them";
        (!missing.is_empty()).then(|| format!("{}; {next}", missing.join("; ")))
    }
}

/// Whether places are asked that answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All of them.
    Anew,
    /// Not the programs, whose answers are taken for as good as they were.
    WhatChanged,
}

/// See the module. Part of the Estate: no actor's crash touches it.
pub struct Secrets {
    state_dir: PathBuf,
    guard: Guard,
    /// The key of marks.
    marks: [u8; 32],
    /// The gateway's own store.
    pub store: SecretStore,
    found: Mutex<BTreeMap<Want, Found>>,
    report: ArcSwap<Report>,
    /// What the config actor works with, whichever incarnation of it.
    kept: ArcSwap<Kept>,
}

impl Secrets {
    /// Of the gateway with this state directory; nothing is looked up yet.
    pub fn new(state_dir: &Path, guard: Guard, device_key: &[u8; 32]) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            guard,
            marks: blake3::derive_key("crabtree 2026-11-20 marks of secrets", device_key),
            store: SecretStore::new(state_dir),
            found: Mutex::default(),
            report: ArcSwap::default(),
            kept: ArcSwap::default(),
        }
    }

    /// Looks the secrets of a configuration up, and takes them out of what is shown of it; how they are. It blocks.
    pub fn prepare(&self, loaded: &mut Loaded, ask: Ask) -> Report {
        let mut wants = Vec::new();
        spots::visit(&mut loaded.settings.clone(), &mut |spot, input| {
            wants.extend(want(input, &loaded.settings).filter(|_| spot.active));
            None
        });
        let asking =
            Asking { state_dir: &self.state_dir, guard: &self.guard, settings: &loaded.settings.secrets };
        let before = self.found.lock().clone();
        let again =
            |place: &SecretProvider| ask == Ask::WhatChanged && matches!(place, SecretProvider::Exec(_));
        let found = gather(&asking, wants, &before, again);
        let report = self.put(&mut loaded.settings, &found);
        *self.found.lock() = found;
        if loaded.auth.is_none() {
            loaded.auth = loaded.settings.gateway.auth.secret(&variable).ok().flatten();
        }
        conceal(loaded);
        report
    }

    /// The references of a configuration, with nothing looked up.
    pub fn survey(loaded: &mut Loaded) -> Report {
        let none = Self::new(&loaded.state_dir, Guard::none(), &[0; 32]);
        let mut wants = Vec::new();
        spots::visit(&mut loaded.settings.clone(), &mut |spot, input| {
            wants.extend(want(input, &loaded.settings).filter(|_| spot.active));
            None
        });
        let found = |want| (want, Found { place: None, value: Ok(Secret::new("")), stale: None });
        none.put(&mut loaded.settings, &wants.into_iter().map(found).collect())
    }

    /// Puts what was found in its places.
    fn put(&self, settings: &mut Settings, found: &BTreeMap<Want, Found>) -> Report {
        let written = settings.clone();
        let mut rows = Vec::new();
        spots::visit(settings, &mut |spot, input| {
            let mut note = |reference: Option<SecretRef>, state, why| {
                let state = if spot.active { state } else { State::Inactive };
                rows.push(Row { spot: spot.clone(), reference, state, why });
            };
            if let Some(variable_name) = input.variable() {
                // The environment does not change: it is asked by whoever needs it.
                let named =
                    SecretRef { source: SecretSource::Env, provider: None, id: variable_name.to_owned() };
                let reference = match input {
                    SecretInput::Reference(reference) => reference.clone(),
                    _ => named,
                };
                let reference = complete(&reference, &written.secrets);
                let denied = gather::place(&reference, &written.secrets).err();
                let unset = || variable(variable_name).is_none_or(|value| value.trim().is_empty());
                let why = denied.clone().or_else(|| {
                    unset().then(|| format!("the environment variable {variable_name} is not set"))
                });
                let state = if why.is_some() { State::Missing } else { State::Found };
                note(Some(reference.clone()), state, why);
                return denied.map(|why| self.held(Some(reference), Err(why)));
            }
            let Some(want) = want(input, &written) else {
                let SecretInput::Text(text) = input else { return None };
                let is_value = !spots::refers(text) && !text.trim().is_empty();
                return is_value.then(|| self.held(None, Ok(Secret::new(text))));
            };
            let reference = match &want {
                Want::Reference(reference) => Some(reference.clone()),
                Want::Sealed(_) => None,
            };
            let Some(found) = found.get(&want) else {
                note(reference, State::Inactive, None);
                return None;
            };
            let state = match (&found.value, &found.stale) {
                (Err(_), _) => State::Missing,
                (Ok(_), Some(_)) => State::Stale,
                (Ok(_), None) => State::Found,
            };
            note(reference.clone(), state, found.value.clone().err().or(found.stale.clone()));
            Some(self.held(reference, found.value.clone()))
        });
        Report { rows, strict: written.secrets.strict }
    }

    fn held(&self, reference: Option<SecretRef>, value: Result<Secret, String>) -> Held {
        let text = match &value {
            Ok(secret) => secret.expose(),
            Err(why) => why.as_str(),
        };
        let mark = blake3::keyed_hash(&self.marks, text.as_bytes()).to_hex();
        let lost = if value.is_err() { "missing:" } else { "" };
        Held { reference, mark: format!("{HELD}{lost}{}", &mark[..16]), value }
    }

    /// How the secrets of the configuration in force are.
    pub fn report(&self) -> Arc<Report> {
        self.report.load_full()
    }

    /// What the published configuration does not have; for the config actor.
    pub(crate) fn kept(&self) -> Arc<Kept> {
        self.kept.load_full()
    }

    /// From now on this is what it does not have.
    pub(crate) fn keep(&self, kept: Kept) {
        self.kept.store(Arc::new(kept));
    }

    /// From now on this is how they are; says what is new of it.
    pub fn publish(&self, report: Report) {
        let before = self.report.swap(Arc::new(report.clone()));
        for row in report.wanting().filter(|row| !before.rows.contains(row)) {
            let (key, owner, state) = (row.spot.key(), row.spot.owner(), row.state.name());
            let why = row.why.as_deref().unwrap_or_default();
            tracing::warn!(target: "crabtree::secrets", key, owner, state,
                "a secret is not to be had: {why}; then read it again with `crabtree secrets reload`");
        }
        if before.wanting().next().is_some() && report.wanting().next().is_none() {
            tracing::info!(target: "crabtree::secrets", "all secrets are there again");
        }
    }
}

/// What a secret is looked up as; nothing if it is a value, or in the environment.
fn want(input: &SecretInput, settings: &Settings) -> Option<Want> {
    match input {
        SecretInput::Text(text) => text.starts_with(SEALED).then(|| Want::Sealed(text.clone())),
        SecretInput::Reference(reference) if reference.source == SecretSource::Env => None,
        SecretInput::Reference(reference) => Some(Want::Reference(complete(reference, &settings.secrets))),
        SecretInput::Held(_) => None,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The shared secret of the gateway that the configuration names, wherever it is kept; `None` if the gateway has to make
/// one. It blocks.
///
/// # Errors
/// Its value is not to be had.
pub fn auth(
    loaded: &Loaded,
    guard: &Guard,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<AuthSecret>, SecretError> {
    let mut settings = loaded.settings.clone();
    let mut wants = Vec::new();
    let critical = |spot: &Spot| spot.is_critical() && spot.active;
    spots::visit(&mut settings, &mut |spot, input| {
        wants.extend(want(input, &loaded.settings).filter(|_| critical(spot)));
        None
    });
    let asking = Asking { state_dir: &loaded.state_dir, guard, settings: &loaded.settings.secrets };
    let found = gather(&asking, wants, &BTreeMap::new(), |_| false);
    spots::visit(&mut settings, &mut |_, input| {
        let found = found.get(&want(input, &loaded.settings)?)?;
        Some(Held { reference: None, mark: String::new(), value: found.value.clone() })
    });
    settings.gateway.auth.secret(env)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
