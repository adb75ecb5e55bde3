//! The embedded model `crabtree/offline`: no key, no network, always the same answer to the same words.
//! It is there so that the whole path, from a socket to the transcript and back, can be seen and tested on
//! a fresh machine.

use super::model::{Chunk, Model, Prompt, Usage};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
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
        let asked = prompt.conversation.last().map_or("", |said| said.text.trim()).to_owned();
        let turn = prompt.conversation.len().div_ceil(2);
        let reply = reply(&asked, turn);
        let usage = Usage { input: words(&asked), output: words(&reply) };
        let pieces: Vec<Chunk> = reply
            .split_inclusive(' ')
            .map(|word| Chunk::Text(word.to_owned()))
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
    use super::super::model::{Said, Speaker};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn says_the_same_each_time_word_by_word() {
        let prompt = Prompt {
            instructions: None,
            conversation: vec![Said { by: Speaker::User, text: "hello there".into() }],
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
        assert_eq!(chunks.last(), Some(&Chunk::End(Usage { input: 2, output: words(&text) })));
    }
}
