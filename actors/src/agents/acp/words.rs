//! What an agent is told of a conversation. It keeps its own memory of it: only what it has not heard yet is told, as
//! long as both remember the same.

use crate::agents::{Image, Said};
use agent_client_protocol::v1::schema::{ContentBlock, ImageContent, TextContent};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Characters of one thing said earlier, to an agent that was not there.
const MAX_EARLIER: usize = 20_000;

/// What an agent has heard people say, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard(Vec<u64>);

impl Heard {
    /// What of a conversation is new to it; nothing can be said of that if the two do not remember the same, because
    /// the conversation has begun anew, gone another way, or is asked again.
    pub(super) fn unheard<'a>(&self, conversation: &'a [Said]) -> Option<&'a [Said]> {
        let (places, said) = people(conversation);
        let new = (1..said.len()).find(|new| self.0.ends_with(&said[..said.len() - new]))?;
        Some(&conversation[places[said.len() - new]..])
    }

    /// It has heard this.
    pub(super) fn of(conversation: &[Said]) -> Self {
        Self(people(conversation).1)
    }
}

/// What people said in it: where, and what.
fn people(conversation: &[Said]) -> (Vec<usize>, Vec<u64>) {
    let of_people = |(place, said): (usize, &Said)| {
        let Said::User { text, .. } = said else { return None };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Some((place, hasher.finish()))
    };
    conversation.iter().enumerate().filter_map(of_people).unzip()
}

/// The prompt: who the agent is here, if it does not know yet, and what it has not heard.
pub(super) fn prompt(instructions: Option<&str>, unheard: &[Said], sees: bool) -> Vec<ContentBlock> {
    let is_people = |said: &Said| matches!(said, Said::User { .. });
    let now = unheard.iter().rposition(|said| !is_people(said)).map_or(0, |last| last + 1);
    let (earlier, asked) = unheard.split_at(now);
    let mut text = String::new();
    if let Some(instructions) = instructions {
        text.push_str(&format!("[Who you are in this conversation]\n{instructions}\n\n"));
    }
    if !earlier.is_empty() {
        text.push_str("[What was said before]\n");
        earlier.iter().for_each(|said| text.push_str(&told(said)));
    }
    if !text.is_empty() {
        text.push_str("[What you are asked now]\n");
    }
    let words: Vec<_> = asked.iter().map(Said::text).filter(|words| !words.is_empty()).collect();
    text.push_str(&words.join("\n\n"));
    let images: Vec<&Image> = asked.iter().flat_map(images).collect();
    if !images.is_empty() && !sees {
        text.push_str(&format!(
            "\n\n[{} picture(s) came with this that cannot be shown to you]",
            images.len()
        ));
    }
    let picture = |image: &&Image| {
        ContentBlock::Image(ImageContent::new(image.data.to_string(), image.mime_type.clone()))
    };
    let pictures = images.iter().filter(|_| sees).map(picture);
    [ContentBlock::Text(TextContent::new(text))].into_iter().chain(pictures).collect()
}

fn images(said: &Said) -> &[Image] {
    match said {
        Said::User { images, .. } | Said::Tool { images, .. } => images,
        Said::Assistant { .. } => &[],
    }
}

fn told(said: &Said) -> String {
    let who = match said {
        Said::User { .. } => "They".to_owned(),
        Said::Assistant { .. } => "You".to_owned(),
        Said::Tool { name, .. } => format!("The tool {name}"),
    };
    let text = said.text().trim();
    match text.char_indices().nth(MAX_EARLIER) {
        _ if text.is_empty() => String::new(),
        Some((at, _)) => format!("{who}: {}…\n\n", &text[..at]),
        None => format!("{who}: {text}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(words: &[&str]) -> Vec<Said> {
        let said = |(at, word): (usize, &&str)| match at % 2 {
            0 => Said::user(*word),
            _ => Said::assistant(*word),
        };
        words.iter().enumerate().map(said).collect()
    }

    fn heard(words: &[&str]) -> Heard {
        Heard::of(&talk(words))
    }

    fn text(blocks: &[ContentBlock]) -> &str {
        let [ContentBlock::Text(text), ..] = blocks else { unreachable!("text comes first") };
        &text.text
    }

    #[test]
    fn only_what_is_new_is_told() {
        let all = talk(&["a", "A", "b", "B", "c"]);
        assert_eq!(heard(&["a", "A", "b"]).unheard(&all), Some(&all[4..]));
        assert_eq!(heard(&["a"]).unheard(&all), Some(&all[2..]), "others have answered meanwhile");
        assert_eq!(heard(&["x", "X", "a", "A", "b"]).unheard(&all), Some(&all[4..]), "a part is shown");
        let same = talk(&["ok", "1", "ok", "2", "ok"]);
        assert_eq!(heard(&["ok", "1", "ok"]).unheard(&same), Some(&same[4..]));
    }

    #[test]
    fn where_memories_differ_all_is_told() {
        let all = talk(&["a", "A", "b"]);
        for known in [&[][..], &["a", "A", "b"], &["a", "A", "b", "B", "c"], &["x"]] {
            assert_eq!(heard(known).unheard(&all), None, "{known:?}");
        }
        assert_eq!(heard(&["a"]).unheard(&talk(&["new"])), None, "begun anew");
    }

    #[test]
    fn an_agent_that_was_there_gets_the_words_alone_and_another_the_whole_story() {
        let all = talk(&["a", "A", "b"]);
        assert_eq!(text(&prompt(None, &all[2..], false)), "b");
        let whole = prompt(Some("You are Crab."), &all, false);
        assert_eq!(
            text(&whole),
            "[Who you are in this conversation]\nYou are Crab.\n\n[What was said before]\nThey: a\n\nYou: A\n\n\
             [What you are asked now]\nb"
        );
    }

    #[test]
    fn pictures_go_to_those_who_see() {
        let image = Image { mime_type: "image/png".into(), data: "AA==".into() };
        let said = [Said::User { text: "look".into(), images: vec![image] }];
        assert_eq!(prompt(None, &said, true).len(), 2);
        let blind = prompt(None, &said, false);
        assert!(blind.len() == 1 && text(&blind).contains("1 picture(s)"));
    }

    #[test]
    fn a_long_speech_is_cut() {
        let speech = "x".repeat(MAX_EARLIER + 1);
        assert!(told(&Said::user(speech)).chars().count() < MAX_EARLIER + 20);
    }
}
