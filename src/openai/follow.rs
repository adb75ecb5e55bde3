//! Follows an answer for a client, as text that only grows.

use super::sse::{ALIVE, Sender};
use super::{Wrong, words};
use crabtree_actors::methods::{Answering, Heard};
use crabtree_actors::sessions::Outcome;
use tokio::time::sleep;

/// What a client is told next.
pub enum Step {
    /// More words.
    More(String),
    /// The last words, if there are more, and how the turn ended.
    Ended(String, Box<Outcome>),
    /// There will be no whole answer.
    Failed(Wrong),
}

/// See the module.
pub struct Follower {
    answering: Answering,
    told: String,
}

impl Follower {
    /// Of this answer.
    pub fn of(answering: Answering) -> Self {
        Self { answering, told: String::new() }
    }

    /// The next step; none if the client has gone. Then the follower is to be dropped, which stops the run.
    pub async fn next(&mut self, sender: &Sender) -> Option<Step> {
        loop {
            let heard = tokio::select! {
                () = sender.gone() => return None,
                () = sleep(ALIVE) => {
                    sender.alive().await.ok()?;
                    continue;
                }
                heard = self.answering.next() => heard,
            };
            match heard {
                Err(refusal) => return Some(Step::Failed(refusal.into())),
                // What was taken back may come again; only the end decides.
                Ok(Heard::Text(text)) => {
                    if let Some(more) = self.more(&text).filter(|more| !more.is_empty()) {
                        return Some(Step::More(more));
                    }
                }
                Ok(Heard::Ended(outcome)) => return Some(self.end(outcome)),
            }
        }
    }

    fn end(&mut self, outcome: Box<Outcome>) -> Step {
        let rest = words(&outcome).and_then(|text| {
            let rest = self.more(text);
            rest.ok_or_else(|| Wrong::failed("The answer is another one than it began with."))
        });
        match rest {
            Ok(rest) => Step::Ended(rest, outcome),
            Err(wrong) => Step::Failed(wrong),
        }
    }

    /// What of `text` is new; none if it does not go on after what was told.
    fn more(&mut self, text: &str) -> Option<String> {
        let more = text.strip_prefix(self.told.as_str())?.to_owned();
        self.told.push_str(&more);
        Some(more)
    }
}

/// The end of an answer that nobody follows.
pub async fn ended(mut answering: Answering) -> Result<Outcome, Wrong> {
    loop {
        if let Heard::Ended(outcome) = answering.next().await? {
            return Ok(*outcome);
        }
    }
}
