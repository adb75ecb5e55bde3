//! What a configuration was made of: its files, older forms of keys, and what of it could not be used.

use super::document::Loaded;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a configuration was made of.
#[derive(Clone, Default)]
pub struct Origin {
    /// The content of the file itself: what it includes is not in it.
    pub written: Value,
    /// Where files are included.
    pub sites: Vec<IncludeSite>,
    /// The files that are included, each once.
    pub included: Vec<IncludedFile>,
    /// The files whose change may change the configuration, the missing ones among them; the main one is not named.
    pub watched: Vec<PathBuf>,
    /// What of it cannot be used.
    pub issues: Vec<Issue>,
    /// Older forms of keys that were read.
    pub older: Vec<OlderKey>,
    /// The content in force: includes merged, older forms moved, and what is broken replaced or left out.
    pub used: Value,
}

/// A place where files are included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludeSite {
    /// Where.
    pub at: Vec<String>,
    /// The files, in order.
    pub targets: Vec<PathBuf>,
    /// Whether they are written as a list.
    pub is_list: bool,
    /// Whether keys stand beside the include.
    pub has_siblings: bool,
    /// Whether it stands in a list.
    pub in_list: bool,
}

/// A file that is included.
#[derive(Clone)]
pub struct IncludedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The file as it is written.
    pub text: String,
    /// Its content.
    pub content: Value,
}

/// A part of a configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// The key, with dots; empty if it is not one key.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
    /// Whether what it was before stays in force; otherwise it is left out.
    #[serde(skip)]
    pub kept: bool,
}

impl Issue {
    /// It, and what follows, in a sentence.
    pub fn told(&self, file: &Path) -> String {
        let place = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        let then = match self.kept {
            true => "what it was before stays in force until it is corrected",
            false => "it is left out until it is corrected",
        };
        format!("{}: {place}{}; {then}", file.display(), self.message)
    }
}

/// A key in an older form, and what it was read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderKey {
    /// The key, with dots.
    pub path: String,
    /// What it is now.
    pub became: String,
}

impl Loaded {
    /// The text and the content of one of its files.
    pub fn file(&self, path: &Path) -> Option<(&str, &Value)> {
        if path == self.path {
            return Some((&self.text, &self.origin.written));
        }
        let found = self.origin.included.iter().find(|file| file.path == path);
        found.map(|file| (file.text.as_str(), &file.content))
    }

    /// What of it cannot be used, as clients are told.
    pub fn issues(&self) -> &[Issue] {
        &self.origin.issues
    }
}
