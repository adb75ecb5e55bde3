//! What is done in a channel beside sending: polls, deleting, pinning.

use super::api::{Body, Failure};
use super::sending::{Hand, Made, NONCE, id};
use crate::channels::contract::{Act, Address, Poll, PollLimits, SendError, Sent};
use reqwest::Method;
use serde_json::{Value, json};

/// What polls of Discord can be.
pub(super) const POLLS: PollLimits = PollLimits { options: 10, seconds: false, anonymous: false };
/// How long a poll is open at the most, hours.
const MOST_HOURS: u64 = 32 * 24;
/// The same, if nothing is said.
const HOURS: u64 = 24;
/// Characters of a poll's question, and of an answer.
const MAX_QUESTION: usize = 300;
const MAX_OPTION: usize = 55;
/// Marks a message that wakes nobody.
const SILENT: u32 = 1 << 12;

impl Hand {
    /// Does it; what is done already is done.
    pub(super) async fn act(&self, at: &Address, act: &Act) -> Result<Sent, Failure> {
        let channel = self.channel(at).await?;
        let (method, path, message) = match act {
            Act::Poll(poll) => return self.poll(&channel, poll).await,
            Act::Delete(message) => (Method::DELETE, vec!["channels", &channel, "messages"], message),
            Act::Pin(message) => (Method::PUT, vec!["channels", &channel, "pins"], message),
            Act::Unpin(message) => (Method::DELETE, vec!["channels", &channel, "pins"], message),
        };
        let path: Vec<&str> = path.into_iter().chain([id(message)?]).collect();
        match self.api.tell(method, &path, Body::Nothing).await {
            // It may have been done, and done again it is the same.
            Err(Failure::Call(SendError::Unknown(why))) => {
                Err(Failure::Call(SendError::Later { why, after: None }))
            }
            done => done.map(|()| Sent { id: message.clone() }),
        }
    }

    async fn poll(&self, channel: &str, poll: &Poll) -> Result<Sent, Failure> {
        let hours = poll.seconds.map_or(HOURS, |seconds| seconds.div_ceil(3600));
        if hours > MOST_HOURS {
            let why = format!("a poll is open for {MOST_HOURS} hours at the most on Discord, not {hours}");
            return Err(Failure::refused(why));
        }
        let too_long = |text: &str, most: usize| text.chars().count() > most;
        if too_long(&poll.question, MAX_QUESTION)
            || poll.options.iter().any(|text| too_long(text, MAX_OPTION))
        {
            return Err(Failure::refused(format!(
                "a question has at most {MAX_QUESTION} characters on Discord, an answer {MAX_OPTION}: shorten it"
            )));
        }
        let answers: Vec<Value> =
            poll.options.iter().map(|text| json!({ "poll_media": { "text": text } })).collect();
        let mut message = json!({
            "poll": {
                "question": { "text": poll.question },
                "answers": answers,
                "duration": hours,
                "allow_multiselect": poll.several,
            },
            "nonce": &blake3::hash(poll.id.as_bytes()).to_hex()[..NONCE],
            "enforce_nonce": true,
        });
        if poll.silent {
            message["flags"] = json!(SILENT);
        }
        let path = ["channels", channel, "messages"];
        let made: Made = self.api.call(Method::POST, &path, Body::Json(message)).await?;
        Ok(Sent { id: made.id })
    }
}
