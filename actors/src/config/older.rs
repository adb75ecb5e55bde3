//! Older forms of OpenClaw's keys: what they are read as, and the changes that write them so. Pure. A value that stands
//! in the newer place already wins over the older one.

mod rules;

use super::changes::dotted;
use super::edit::{Change, Step, apply, found};
use crate::settings::OlderKey;
use serde_json::Value;

/// What the newer form is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The gateway, which reads some older forms as they are.
    Reading,
    /// The file.
    Writing,
}

/// An older form, and the changes that make the newer one of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Older {
    /// The key, and what it became.
    pub key: OlderKey,
    /// In order, after those of the older forms before it.
    pub changes: Vec<Change>,
}

/// A document in the newer form, and what was older in it.
pub fn renewed(document: &Value, purpose: For) -> (Value, Vec<Older>) {
    let mut renewal = Renewal { document: document.clone(), found: Vec::new(), purpose };
    if document.is_object() {
        rules::apply(&mut renewal);
    }
    (renewal.document, renewal.found)
}

/// A path of keys.
fn keys(path: &[&str]) -> Vec<Step> {
    path.iter().map(|key| Step::from(*key)).collect()
}

/// What stands at a place of keys and indices, to be changed.
fn found_mut<'a>(document: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |place, step| match step {
        Step::Key(key) => place.as_object_mut()?.get_mut(key),
        Step::Index(index) => place.as_array_mut()?.get_mut(*index),
    })
}

/// One step further.
fn with(path: &[Step], step: impl Into<Step>) -> Vec<Step> {
    path.iter().cloned().chain([step.into()]).collect()
}

struct Renewal {
    document: Value,
    found: Vec<Older>,
    purpose: For,
}

impl Renewal {
    fn at(&self, path: &[Step]) -> Option<&Value> {
        found(&self.document, path)
    }

    /// The names below a place.
    fn below(&self, path: &[Step]) -> Vec<String> {
        let members = self.at(path).and_then(Value::as_object).into_iter().flatten();
        members.map(|(key, _)| key.clone()).collect()
    }

    /// Makes changes, all or none.
    fn make(&mut self, path: &[Step], became: String, changes: Vec<Change>) {
        let mut document = self.document.clone();
        if changes.iter().all(|change| apply(&mut document, change).is_some()) {
            self.document = document;
            self.found.push(Older { key: OlderKey { path: dotted(path), became }, changes });
        }
    }

    /// Takes what is at one place to another. What is there already stays, and of objects what is not there is added.
    fn relocate(&mut self, from: &[Step], to: &[Step]) {
        let mut changes = Vec::new();
        if self.at(from).is_some() {
            let is_whole = self.plan(from, to, &mut changes);
            let became = dotted(to) + if is_whole { "" } else { ", as far as that is not set there" };
            self.make(from, became, changes);
        }
    }

    fn plan(&self, from: &[Step], to: &[Step], changes: &mut Vec<Change>) -> bool {
        match (self.at(from), self.at(to)) {
            (Some(Value::Object(old)), Some(Value::Object(_))) => {
                let mut is_whole = true;
                for key in old.keys() {
                    is_whole &= self.plan(&with(from, key.as_str()), &with(to, key.as_str()), changes);
                }
                changes.push(Change::Remove(from.to_vec()));
                is_whole
            }
            (Some(_), None) => {
                changes.push(Change::Move(from.to_vec(), to.to_vec()));
                true
            }
            _ => {
                // Of an object that is gone through, what is left goes with it.
                changes.push(Change::Remove(from.to_vec()));
                false
            }
        }
    }

    /// Puts a value in the place of another.
    fn replace(&mut self, path: &[Step], value: impl Into<Value>) {
        let value = value.into();
        let became = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.make(path, format!("{} {became:?}", dotted(path)), vec![Change::Set(path.to_vec(), value)]);
    }

    /// The same at another place, if nothing stands there.
    fn convert(&mut self, from: &[Step], to: &[Step], value: impl Into<Value>) {
        let mut changes = Vec::new();
        let is_free = self.at(to).is_none();
        if is_free {
            changes.push(Change::Set(to.to_vec(), value.into()));
        }
        changes.push(Change::Remove(from.to_vec()));
        let became = if is_free { dotted(to) } else { format!("nothing: {} is set", dotted(to)) };
        self.make(from, became, changes);
    }

    /// Takes an object away that holds nothing any more; one that never did stays.
    fn tidy(&mut self, path: &[Step]) {
        let is_empty = self.at(path).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
        let mut places = self.found.iter().flat_map(|older| &older.changes).flat_map(Change::places);
        let was_filled = places.any(|place| place.starts_with(path));
        if let (true, true, Some(last)) = (is_empty, was_filled, self.found.last_mut()) {
            let change = Change::Remove(path.to_vec());
            if apply(&mut self.document, &change).is_some() {
                last.changes.push(change);
            }
        }
    }
}

#[cfg(test)]
#[path = "older_tests.rs"]
mod tests;
