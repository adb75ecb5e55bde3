//! What of a turn is seen: not that nothing is to be said.

use super::{Turn, silence};
use serde_json::{Value, json};

impl Turn {
    /// The answer of this step is complete: that nothing is to be said is no part of what it says.
    pub fn whole(&mut self) {
        self.is_whole = true;
        let answer = self.answer();
        let kept = silence::told(answer.text(), true).len();
        if kept < answer.text().trim_end().len() && (kept > 0 || !answer.calls().is_empty()) {
            self.reply.cut(self.answer_at.text + kept);
        }
    }

    /// Whether it has nothing to say in this step.
    pub fn is_silent(&self) -> bool {
        let answer = self.answer();
        silence::is_silent(answer.text()) && answer.calls().is_empty()
    }

    /// Whether it said nothing in an earlier step.
    pub fn was_silent(&self) -> bool {
        self.was_silent
    }

    /// What it says in the end.
    pub fn said(&self) -> &str {
        let text = self.reply.text();
        if self.is_silent() { text[..self.answer_at.text].trim_end() } else { text }
    }

    /// The text as clients see it: white space at its end waits for the word that follows, and so does what may say
    /// that nothing is to be said.
    pub fn visible(&self) -> &str {
        let (before, answer) = self.reply.text().split_at_checked(self.answer_at.text).unwrap_or_default();
        let told = silence::told(answer, self.is_whole).len();
        self.reply.text()[..before.len() + told].trim_end()
    }

    /// What of the text the clients have been told.
    pub fn told(&self) -> &str {
        self.reply.text().get(..self.told).unwrap_or_default()
    }

    pub(super) fn message(&self, now: i64) -> Value {
        let mut seen = self.reply.clone();
        seen.cut(self.visible().len());
        json!({ "role": "assistant", "content": seen.visible(), "timestamp": now })
    }
}
