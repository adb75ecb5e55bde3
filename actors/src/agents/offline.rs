//! The embedded model `crabtree/offline`: no key, no network, always the same answer to the same words.
//! It is there so that the whole path, from a socket to the transcript and back, can be seen and tested on
//! a fresh machine.

use super::model::{Chunk, Model, Prompt, Said, ToolCall};
use super::usage::Usage;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use std::time::Duration;

/// Pause between two words.
const WORD_PAUSE: Duration = Duration::from_millis(20);

/// See the module.
pub struct Offline;

impl Model for Offline {
    fn provider(&self) -> &str {
        "crabtree"
    }

    fn id(&self) -> &str {
        "offline"
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let talk = |said: &&Said| match said {
            Said::User { .. } => true,
            Said::Assistant { calls, .. } => calls.is_empty(),
            Said::Tool { .. } => false,
        };
        let turn = prompt.conversation.iter().filter(talk).count().div_ceil(2);
        let asked = prompt.conversation.last().map_or("", |said| said.text().trim());
        let (reply, call) = match prompt.conversation.last() {
            Some(Said::Tool { name, text, .. }) => {
                let question = prompt.conversation.iter().rfind(|said| matches!(said, Said::User { .. }));
                let question = question.map_or("", |said| said.text());
                (format!("{name} says: {text}\n\n(turn {turn}: {question})"), None)
            }
            Some(Said::User { text, .. }) => match wanted(text.trim(), turn) {
                Some(Ok(call)) => (String::new(), Some(call)),
                Some(Err(why)) => (why, None),
                None => (reply(asked, turn), None),
            },
            _ => (reply(asked, turn), None),
        };
        let usage = Usage::free(words(asked), words(&reply));
        let pieces: Vec<Chunk> = reply
            .split_inclusive(' ')
            .map(|word| Chunk::Text(word.to_owned()))
            .chain(call.map(Chunk::Call))
            .chain([Chunk::End(usage)])
            .collect();
        stream::iter(pieces)
            .then(|chunk| async move {
                tokio::time::sleep(WORD_PAUSE).await;
                chunk
            })
            .boxed()
    }
}

/// The call that `/tool NAME JSON` asks for; or what is wrong with it.
fn wanted(asked: &str, turn: usize) -> Option<Result<ToolCall, String>> {
    let words = asked.strip_prefix("/tool ")?.trim();
    let (name, arguments) = words.split_once(char::is_whitespace).unwrap_or((words, "{}"));
    let call = |arguments| ToolCall {
        id: format!("call_{turn}"),
        name: name.to_owned(),
        arguments,
        thought_signatures: Vec::new(),
    };
    // What stands behind the arguments is said to nobody.
    let mut read = serde_json::Deserializer::from_str(arguments).into_iter::<Value>();
    let read = read.next().unwrap_or_else(|| Ok(json!({}))).map(call);
    Some(read.map_err(|e| {
        format!("What follows the name of the tool is no JSON: {e}. Say /tool NAME {{\"key\": …}}.")
    }))
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn reply(asked: &str, turn: usize) -> String {
    format!(
        "This is crabtree/offline, the built-in model that needs no key and no network. \
         It cannot think, but it heard you (turn {turn}): {asked}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Thinking;

    #[tokio::test(start_paused = true)]
    async fn says_the_same_each_time_word_by_word() {
        let prompt = Prompt {
            instructions: None,
            conversation: vec![Said::user("hello there")],
            tools: vec![],
            thinking: Thinking::Off,
        };
        let chunks: Vec<Chunk> = Offline.answer(prompt.clone()).collect().await;
        let again: Vec<Chunk> = Offline.answer(prompt).collect().await;
        assert_eq!(chunks, again);
        let text: String = chunks
            .iter()
            .filter_map(|c| match c {
                Chunk::Text(t) => Some(t.as_str()),
                _ => None,
            })
            .collect();
        assert!(text.ends_with("(turn 1): hello there"), "{text}");
        assert_eq!(chunks.last(), Some(&Chunk::End(Usage::free(2, words(&text)))));
    }
}
