//! What a model is to the rest of the gateway.

use super::failure::Failure;
use super::instructions::Instructions;
use crate::sessions::Insert;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A person.
    User,
    /// The agent.
    Assistant,
}

/// One thing said earlier in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By whom.
    pub by: Speaker,
    /// What.
    pub text: String,
}

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Who answers; nobody in particular without it.
    pub instructions: Option<Instructions>,
    /// The conversation so far, oldest first; the last entry is to be answered.
    pub conversation: Vec<Said>,
}

/// Tokens used by a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read by the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
}

/// A piece of a model's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// More text.
    Text(String),
    /// More of what the model thinks before it answers.
    Thought(String),
    /// Something else than text.
    Block(Insert),
    /// The answer is complete.
    End(Usage),
    /// There is no answer, or no more of it.
    Failed(Failure),
}

/// What people and clients are told of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name for people.
    pub name: String,
    /// What it reads: `text`, `image`.
    pub input: Vec<String>,
    /// Whether it can think before it answers.
    pub reasoning: bool,
    /// Whether it works on this machine.
    pub local: bool,
}

/// A model that streams answers. Dropping the stream ends the work.
pub trait Model: Send + Sync {
    /// Its provider's name.
    fn provider(&self) -> &str;
    /// Its own name.
    fn id(&self) -> &str;
    /// How much it can keep in mind, in tokens.
    fn context_window(&self) -> u64 {
        super::CONTEXT_TOKENS
    }
    /// What else is told of it.
    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: format!("{} ({})", self.id(), self.provider()),
            input: vec!["text".into()],
            reasoning: false,
            local: true,
        }
    }
    /// Answers.
    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk>;
}
