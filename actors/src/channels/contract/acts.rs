//! What a channel may do beside sending messages: polls, deleting, pinning; reactions that come in; methods of its own.

use super::{Address, Place, Sender};
use crabtree_protocol::Scope;
use serde::{Deserialize, Serialize};

/// What can be done in a chat beside sending a message. Done twice it is done once, but for a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask those who are there.
    Poll(Box<Poll>),
    /// Take a message away.
    Delete(String),
    /// Keep a message in sight.
    Pin(String),
    /// Do not any more.
    Unpin(String),
}

/// A question with answers to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// Unique, and the same when it is sent again.
    pub id: String,
    /// The question.
    pub question: String,
    /// The answers.
    pub options: Vec<String>,
    /// Whether several may be chosen.
    pub several: bool,
    /// How long it is open, seconds; as long as the platform likes if nothing is said.
    pub seconds: Option<u64>,
    /// Whether nobody sees who chose what; as the platform likes if nothing is said.
    pub anonymous: Option<bool>,
    /// Whether nobody is woken by it.
    pub silent: bool,
}

/// What polls of a platform can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollLimits {
    /// How many answers there are at most.
    pub options: usize,
    /// Whether it can be said in seconds how long they are open; in hours it is else.
    pub seconds: bool,
    /// Whether it can be said whether they are anonymous.
    pub anonymous: bool,
}

/// Somebody reacted to a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    /// Unique in the account: the same again has the same.
    pub id: String,
    /// Who reacted.
    pub from: Sender,
    /// Where.
    pub at: Address,
    /// What else the platform tells of the place.
    pub place: Place,
    /// The platform's id of the message.
    pub message: String,
    /// With what.
    pub emoji: String,
}

/// A method that clients may call while an account of the channel runs; it goes before the gateway's own of the same
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its name on the wire.
    pub name: &'static str,
    /// What an operator needs to call it.
    pub scope: Scope,
}
