//! Which file a place of a configuration stands in, when it is made of several. Pure.

use super::edit::{Change, Step};
use super::include::{INCLUDE, MAX_INCLUDES, includes, names, target};
use crate::settings::Loaded;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The one file that these changes are made in, and what they are there.
///
/// # Errors
/// They cannot be made in one file alone, or would take an include away: which files to edit by hand.
pub fn local(loaded: &Loaded, changes: &[Change]) -> Result<(PathBuf, Vec<Change>), String> {
    let mut files = BTreeSet::new();
    let mut found = Vec::new();
    for change in changes {
        let (file, change) = match change {
            Change::Set(path, value) => {
                let (file, path) = place(loaded, path, false)?;
                (file, Change::Set(path, value.clone()))
            }
            Change::Remove(path) => {
                let (file, path) = place(loaded, path, true)?;
                (file, Change::Remove(path))
            }
            Change::Move(from, to) => {
                let ((file, from), (other, to)) = (place(loaded, from, true)?, place(loaded, to, false)?);
                files.insert(other.to_owned());
                (file, Change::Move(from, to))
            }
        };
        files.insert(file.to_owned());
        found.push(change);
    }
    match (files.len(), files.pop_first()) {
        (1, Some(file)) => Ok((file, found)),
        (_, first) => {
            let names = first.iter().chain(&files).map(|file| file.display().to_string());
            Err(format!(
                "it concerns {}; change one after the other",
                names.collect::<Vec<_>>().join(" and ")
            ))
        }
    }
}

/// The file that a place stands in, and where it is there; of one that is new, where it belongs.
pub fn place<'a>(
    loaded: &'a Loaded,
    path: &[Step],
    is_removal: bool,
) -> Result<(&'a Path, Vec<Step>), String> {
    let mut layers = Vec::new();
    let main = Layer { file: &loaded.path, at: Vec::new(), value: &loaded.origin.written };
    let mut left = MAX_INCLUDES;
    main.spread(loaded, &mut left, &mut layers);
    for (index, step) in path.iter().enumerate() {
        let next: Vec<Layer<'_>> = layers.iter().filter_map(|layer| layer.step(step)).collect();
        let is_ambiguous = layers.len() > 1 && (next.is_empty() || matches!(step, Step::Index(_)));
        if layers.is_empty() || is_ambiguous {
            return Err(several(loaded, &layers, &path[..index]));
        }
        if next.is_empty() {
            let at = layers[0].at.iter().chain(&path[index..]).cloned().collect();
            return Ok((layers[0].file, at));
        }
        layers.clear();
        next.into_iter().for_each(|layer| layer.spread(loaded, &mut left, &mut layers));
    }
    // Of several single values the last one wins.
    let is_single = |layer: &Layer<'_>| !layer.value.is_object() && !layer.value.is_array();
    if layers.len() > 1 && (is_removal || !layers.iter().all(is_single)) {
        return Err(several(loaded, &layers, path));
    }
    let Some(last) = layers.pop() else { return Err(several(loaded, &[], path)) };
    if includes(last.value) || (is_removal && last.at.is_empty()) {
        let file = last.file.display();
        return Err(format!(
            "{} is made of other files, which {file} is part of; change it by hand",
            named(path)
        ));
    }
    Ok((last.file, last.at))
}

fn several(loaded: &Loaded, layers: &[Layer<'_>], path: &[Step]) -> String {
    let files: BTreeSet<_> = layers.iter().map(|layer| layer.file.display().to_string()).collect();
    match files.is_empty() {
        true => format!("{} includes a file that cannot be read; mend that first", loaded.path.display()),
        false => {
            let files: Vec<_> = files.into_iter().collect();
            format!("{} is put together of {}; change it by hand there", named(path), files.join(" and "))
        }
    }
}

fn named(path: &[Step]) -> String {
    if path.is_empty() { "the configuration".into() } else { super::changes::dotted(path) }
}

/// A value as it stands in one file.
#[derive(Clone)]
struct Layer<'a> {
    file: &'a Path,
    at: Vec<Step>,
    value: &'a Value,
}

impl<'a> Layer<'a> {
    /// What it is put together of: the files that it includes, and then itself, unless nothing else stands there. No
    /// more than may be included, so that files which include each other come to an end.
    fn spread(self, loaded: &'a Loaded, left: &mut usize, layers: &mut Vec<Self>) {
        let include = self.value.get(INCLUDE);
        for name in include.and_then(names).unwrap_or_default() {
            if *left == 0 {
                break;
            }
            *left -= 1;
            let path = target(self.file, name);
            let found = loaded.origin.included.iter().find(|file| file.path == path);
            if let Some(file) = found {
                let whole = Layer { file: &file.path, at: Vec::new(), value: &file.content };
                whole.spread(loaded, left, layers);
            }
        }
        if include.is_none() || self.value.as_object().is_some_and(|members| members.len() > 1) {
            layers.push(self);
        }
    }

    fn step(&self, step: &Step) -> Option<Self> {
        let value = match step {
            Step::Key(key) => self.value.as_object()?.get(key)?,
            Step::Index(index) => self.value.as_array()?.get(*index)?,
        };
        let at = self.at.iter().chain([step]).cloned().collect();
        Some(Self { file: self.file, at, value })
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
