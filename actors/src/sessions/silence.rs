//! Saying nothing: an agent that answers `NO_REPLY` has read what was said and says nothing to it. Nobody is told such
//! an answer, and whoever spoke to the agent directly gets another one (as recorded).

use crate::agents::Said;
use crate::store::{self, MessageRow};

/// What the agent writes when nothing is to be said.
const NO_REPLY: &str = "NO_REPLY";

/// What a model is told that said nothing to a person: what it says now is told.
const AGAIN: &str = "[System] Your last turn did not produce an answer that the user can see. The user waits for one: \
    answer now, in a few words if there is little to say. Do not mention this note.";

/// How much of an answer is told: not the word at its end that says so, nor, while it is being written, what may
/// become that word.
pub fn told(text: &str, is_whole: bool) -> &str {
    let text = text.trim_end();
    let rest = text.trim_end_matches(|c: char| !c.is_whitespace());
    let last = &text[rest.len()..];
    let is_silence = if is_whole { last == NO_REPLY } else { NO_REPLY.starts_with(last) };
    if is_silence { rest.trim_end() } else { text }
}

/// Whether an answer says nothing.
pub fn is_silent(text: &str) -> bool {
    text.trim() == NO_REPLY
}

/// The same of a row.
pub fn is_silent_row(row: &MessageRow) -> bool {
    row.kind == "assistant"
        && row.message["stopReason"] != "toolUse"
        && is_silent(&store::text_of(&row.message))
}

/// What is said to a model that was the last to speak, and said nothing.
pub fn again(conversation: &[Said]) -> Option<Said> {
    match conversation.last() {
        Some(Said::Assistant { text, calls, .. }) if calls.is_empty() && is_silent(text) => {
            Some(Said::user(AGAIN))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_not_told_nor_what_may_become_it() {
        for (text, writing, whole) in [
            ("", "", ""),
            ("N", "", "N"),
            ("NO_REP", "", "NO_REP"),
            ("NO_REPLY", "", ""),
            (" NO_REPLY\n", "", ""),
            ("NO_REPLY is the word", "NO_REPLY is the word", "NO_REPLY is the word"),
            ("Sure thing. NO_R", "Sure thing.", "Sure thing. NO_R"),
            ("Sure thing.\n\nNO_REPLY", "Sure thing.", "Sure thing."),
            ("NOT so", "NOT so", "NOT so"),
            ("xNO_REPLY", "xNO_REPLY", "xNO_REPLY"),
            ("Grüße N", "Grüße", "Grüße N"),
        ] {
            assert_eq!((told(text, false), told(text, true)), (writing, whole), "{text:?}");
        }
    }

    #[test]
    fn only_who_said_nothing_is_asked_again() {
        assert!(again(&[Said::user("x"), Said::assistant("NO_REPLY ")]).is_some());
        assert!(again(&[Said::assistant("NO_REPLY"), Said::user("x")]).is_none());
        assert!(again(&[Said::assistant("Sure. NO_REPLY")]).is_none() && again(&[]).is_none());
    }
}
