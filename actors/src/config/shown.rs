//! What is shown of the configuration's files. Pure.

use super::{changes, edit};
use crate::settings::{Loaded, redacted};
use serde_json::Value;

/// The content and the text of the main file with stand-ins for its secrets; of a text that cannot be edited, the content.
pub fn shown(loaded: &Loaded) -> (Value, String) {
    let mut written = loaded.origin.written.clone();
    let shown = redacted(&written);
    let concealing = changes::between(&written, &shown);
    let text = edit::edited(&loaded.text, &mut written, &concealing)
        .unwrap_or_else(|_| serde_json::to_string_pretty(&shown).unwrap_or_default());
    (shown, text)
}

/// Takes the secrets out of the documents and the texts. Of included files only their paths stay: what in them is secret
/// is told by where they are included.
pub fn conceal(loaded: &mut Loaded) {
    (loaded.origin.written, loaded.text) = shown(loaded);
    loaded.raw = redacted(&loaded.raw);
    loaded.origin.used = Value::Null;
    for file in &mut loaded.origin.included {
        (file.text, file.content) = (String::new(), Value::Null);
    }
}
