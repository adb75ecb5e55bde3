//! Another key, and secrets that stood in the files in plain text. Both rewrite them and keep what people wrote there.
//!
//! A new key is put before the old ones first, then everything is sealed for it, and only when nothing is sealed for
//! another are the old ones forgotten: broken off anywhere, all values still open, and the next time finishes it.

use super::{Keyring, Recipient, SecretStore, spots};
use crate::config::edit::{self, Change, Step};
use crate::config::{ConfigFile, Edit, LAST_GOOD, Plan, Writing, changes, is_only_read, place, replaced};
use crate::settings::{Loaded, SEALED};
use crabtree_protocol::Refusal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Values in the configuration that are sealed for the new key.
    pub config: usize,
    /// Values in the store.
    pub store: usize,
    /// Where values stand that could not be rewritten; while there are any, the old keys are kept.
    pub left: Vec<String>,
    /// What the values were sealed for so far does not open anything any more.
    pub retired: bool,
}

/// Makes a new key and seals everything for it.
///
/// # Errors
/// Why not, and what to do; everything still opens.
pub fn rotate(state_dir: &Path, file: &ConfigFile) -> Result<Rotated, Refusal> {
    let failed =
        |error: &dyn std::fmt::Display| Refusal::failed(format!("the key was not replaced: {error}"));
    let before = file.read(None).map_err(|unread| failed(&unread.why))?.loaded;
    whole(&before).map_err(|why| failed(&why))?;
    let mut keys = Keyring::made(state_dir).map_err(|error| failed(&error))?;
    for (path, text) in spots::sealed(&before.raw) {
        if let Err(error) = keys.open_sealed(&text) {
            return Err(failed(&format!("{}: {error}", path.join("."))));
        }
    }
    keys.add().map_err(|error| failed(&error))?;
    let store = SecretStore::new(state_dir).reseal(&keys).map_err(|error| failed(&error))?;
    for path in files(&before) {
        file.rewrite(resealing(path, Keyring::open(state_dir).map_err(|error| failed(&error))?), None)?;
    }
    let after = file.read(None).map_err(|unread| failed(&unread.why))?.loaded;
    // What could not be included now may hold values that were not seen.
    whole(&after).map_err(|why| failed(&why))?;
    let kept = state_dir.join(LAST_GOOD);
    if let Ok(text) = std::fs::read_to_string(&kept) {
        let new = resealed(&text, &keys);
        if new != text {
            replaced(&kept, &new).map_err(|error| failed(&error))?;
        }
    }
    let (current, left): (Vec<_>, Vec<_>) =
        spots::sealed(&after.raw).into_iter().partition(|(_, text)| keys.is_current(text));
    let retired = left.is_empty();
    if retired {
        keys.retire().map_err(|error| failed(&error))?;
    }
    let left = left.into_iter().map(|(path, _)| path.join(".")).collect();
    Ok(Rotated { config: current.len(), store, left, retired })
}

/// The files of a configuration.
fn files(loaded: &Loaded) -> Vec<PathBuf> {
    [&loaded.path].into_iter().chain(loaded.origin.included.iter().map(|file| &file.path)).cloned().collect()
}

/// Whether all of it was read: what is left out is not looked through.
fn whole(loaded: &Loaded) -> Result<(), String> {
    match loaded.issues().first() {
        None => Ok(()),
        Some(issue) => Err(format!("{}: {}; correct that first", issue.path, issue.message)),
    }
}

/// Seals everything in one file anew, unless it is one that is only read.
fn resealing(path: PathBuf, keys: Keyring) -> Plan {
    Box::new(move |loaded: &Loaded| {
        let text = loaded.file(&path).map(|(text, _)| text).filter(|_| !is_only_read(&path));
        let new = text.map(|text| (text, resealed(text, &keys))).filter(|(text, new)| text != new);
        let writing = match new {
            Some((_, new)) => Writing::Back(path, new),
            None => Writing::Changes(Vec::new()),
        };
        Ok(Edit { writing, answer: Box::new(|_| Value::Null) })
    })
}

/// The text with each value in it that opens sealed anew. Such a value is a word of its own in any notation.
fn resealed(text: &str, keys: &Keyring) -> String {
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(SEALED) {
        let body = &rest[at + SEALED.len()..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let end = at + SEALED.len() + body.find(|c| !is_part(c)).unwrap_or(body.len());
        let old = &rest[at..end];
        let new = keys.open_sealed(old).ok().filter(|_| !keys.is_current(old));
        let new = new.and_then(|value| keys.recipient()?.seal(value.expose()).ok());
        done.push_str(&rest[..at]);
        done.push_str(new.as_deref().unwrap_or(old));
        rest = &rest[end..];
    }
    done.push_str(rest);
    done
}

/// Seals every secret that stands in the files in plain text and that the gateway reads, file after file; where they
/// stood. With `dry` they are left alone.
///
/// # Errors
/// Why a file was not changed.
pub fn seal_config(file: &ConfigFile, recipient: Recipient, dry: bool) -> Result<Vec<String>, Refusal> {
    let refused =
        |why: &dyn std::fmt::Display| Refusal::invalid_request(format!("nothing was sealed: {why}"));
    let loaded = file.read(None).map_err(|unread| refused(&unread.why))?.loaded;
    whole(&loaded).map_err(|why| refused(&why))?;
    let found = found(&loaded).map_err(|why| refused(&why))?;
    if !dry {
        let owners: BTreeSet<PathBuf> = found.iter().map(|one| one.file.clone()).collect();
        for owner in owners {
            file.rewrite(sealing(owner, recipient), None)?;
        }
    }
    Ok(found.into_iter().map(|one| one.path.join(".")).collect())
}

/// A secret in plain text.
struct Plain {
    /// Where it stands in the whole,
    path: Vec<String>,
    /// in which file,
    file: PathBuf,
    /// and where there.
    local: String,
    value: String,
}

/// The secrets that stand in the files in plain text.
fn found(loaded: &Loaded) -> Result<Vec<Plain>, String> {
    let one = |(path, value): (Vec<String>, String)| {
        let at = steps(&loaded.raw, &path);
        let key = path.join(".");
        if edit::found(&loaded.raw, &at).and_then(Value::as_str) != Some(&value) {
            return Err(format!("{key} is written in an older form; run `crabtree config migrate` first"));
        }
        let (file, local) = place(loaded, &at, false)?;
        Ok(Plain { file: file.to_owned(), local: changes::dotted(&local), path, value })
    };
    spots::plain(&loaded.origin.used).into_iter().map(one).collect()
}

/// Seals what stands in one file.
fn sealing(owner: PathBuf, recipient: Recipient) -> Plan {
    Box::new(move |loaded: &Loaded| {
        // A file may be included in several places: one value there is one value everywhere.
        let mut sealed: BTreeMap<String, String> = BTreeMap::new();
        let mut made = Vec::new();
        let found = found(loaded).map_err(Refusal::invalid_request)?;
        for one in found.into_iter().filter(|one| one.file == owner) {
            let value = match sealed.get(&one.local) {
                Some(value) => value.clone(),
                None => recipient.seal(&one.value).map_err(|error| {
                    Refusal::invalid_request(format!("{} was not sealed: {error}", one.path.join(".")))
                })?,
            };
            made.push(Change::Set(steps(&loaded.raw, &one.path), value.clone().into()));
            sealed.insert(one.local, value);
        }
        Ok(Edit { writing: Writing::Sealing(made), answer: Box::new(|_| Value::Null) })
    })
}

/// A path as the editor takes it: where there is a list, its parts are numbers.
fn steps(document: &Value, path: &[String]) -> Vec<Step> {
    let mut place = Some(document);
    let one = |part: &String| {
        let index = place.filter(|place| place.is_array()).and_then(|_| part.parse::<usize>().ok());
        place = place.and_then(|place| index.map_or_else(|| place.get(part), |index| place.get(index)));
        index.map_or_else(|| Step::Key(part.clone()), Step::Index)
    };
    path.iter().map(one).collect()
}

#[cfg(test)]
#[path = "rotate_tests.rs"]
mod tests;
