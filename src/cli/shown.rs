//! The text of an answer as far as a reader has it, when what was read cannot be taken back.

use serde_json::Value;

/// See the module. Events carry the whole text each time, so a lost one costs nothing.
#[derive(Default)]
pub(super) struct Shown {
    text: String,
}

impl Shown {
    /// Whether nothing has been shown.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What a `chat` event adds.
    pub fn hear(&mut self, event: &Value) -> String {
        match (message_text(&event["message"]), event["deltaText"].as_str()) {
            (Some(text), _) => self.advance(&text),
            (None, Some(delta)) if event["replace"] == true => self.advance(delta),
            (None, Some(delta)) => self.advance(&(self.text.clone() + delta)),
            (None, None) => String::new(),
        }
    }

    /// What to add so that `text` stands there. Text that was taken back stays above, and a blank line follows it.
    pub fn advance(&mut self, text: &str) -> String {
        if self.text.trim_end().starts_with(text.trim_end()) {
            return String::new();
        }
        let more = match text.strip_prefix(self.text.as_str()) {
            Some(more) => more.to_owned(),
            None => format!("\n\n{text}"),
        };
        text.clone_into(&mut self.text);
        more
    }
}

/// The words of a message, if it is one.
pub(super) fn message_text(message: &Value) -> Option<String> {
    if let Some(text) = message["content"].as_str() {
        return Some(text.to_owned());
    }
    let parts = message["content"].as_array()?.iter();
    Some(parts.filter_map(|part| part["text"].as_str()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_shown_once_as_it_grows() {
        let mut shown = Shown::default();
        let steps =
            ["Hel", "Hello", "Hello", "Hello wor", "Hel", "Hello world"].map(|text| shown.advance(text));
        assert_eq!(steps, ["Hel", "lo", "", " wor", "", "ld"]);
        assert_eq!(shown.advance("Hello world "), "", "a blank at the end makes no difference");
        assert_eq!(shown.advance("Another try"), "\n\nAnother try");
        assert_eq!(shown.advance(""), "");
    }

    #[test]
    fn events_with_and_without_the_whole_text_are_heard() {
        let mut shown = Shown::default();
        let whole = json!({"content": [{"type": "text", "text": "a"}, {"type": "toolCall"}, {"text": "b"}]});
        let events = [
            json!({"message": whole, "deltaText": "b"}),
            json!({"deltaText": "c"}),
            json!({"deltaText": "", "replace": true}),
            json!({"deltaText": "abcd", "replace": true}),
            json!({"state": "final"}),
        ];
        assert_eq!(events.map(|event| shown.hear(&event)), ["ab", "c", "", "d", ""]);
        assert_eq!(message_text(&json!({"content": "as it was said"})).as_deref(), Some("as it was said"));
    }
}
