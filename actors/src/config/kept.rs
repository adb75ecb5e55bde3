//! What the published configuration does not have, because there are secrets in it: what stays in force where something
//! is broken, and what is kept for a start with a broken file.

use super::file::is_only_read;
use crate::settings::Loaded;
use serde_json::Value;
use zeroize::Zeroizing;

/// See the module. It is wiped when it is dropped.
#[derive(Default)]
pub struct Kept {
    used: Zeroizing<String>,
    good: Option<Zeroizing<String>>,
}

impl Kept {
    /// Of a configuration that still has its secrets.
    pub fn of(loaded: &Loaded) -> Self {
        Self { used: Zeroizing::new(loaded.origin.used.to_string()), good: good(loaded) }
    }

    /// The content in force; nothing is known of a configuration that was not read from files.
    pub fn used(&self) -> Option<Value> {
        serde_json::from_str(&self.used).ok().filter(Value::is_object)
    }

    /// What is kept for a start that finds a broken file; nothing if this is broken itself.
    pub fn good(&self) -> Option<&str> {
        self.good.as_ref().map(|text| text.as_str())
    }
}

/// What is kept of a configuration for a start that finds a broken file: the text of the file, or the content of all of
/// them; nothing if there is none, or something in it is broken.
pub fn good(loaded: &Loaded) -> Option<Zeroizing<String>> {
    let is_whole = loaded.origin.sites.is_empty() && !is_only_read(&loaded.path);
    let text = || if is_whole { loaded.text.clone() } else { format!("{:#}\n", loaded.raw) };
    (loaded.exists && loaded.issues().is_empty()).then(|| Zeroizing::new(text()))
}
