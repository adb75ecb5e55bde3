//! What a model is to the rest of the gateway.

use super::failure::Failure;
use super::instructions::Instructions;
use super::usage::Usage;
use crate::sessions::Insert;
use crate::settings::Thinking;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `image/png` …
    pub mime_type: String,
    /// Base64.
    pub data: Arc<str>,
}

/// A call of a tool, as a model wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Unique in its answer.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What for.
    pub arguments: Value,
    /// What the provider wants to see again with the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thought_signatures: Vec<String>,
}

/// One thing said earlier in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// By a person.
    User {
        /// What.
        text: String,
        /// What was shown with it.
        images: Vec<Image>,
    },
    /// By the agent.
    Assistant {
        /// What.
        text: String,
        /// The tools it called then.
        calls: Vec<ToolCall>,
        /// What it thought before.
        thought: String,
    },
    /// By a tool.
    Tool {
        /// The call's id.
        call_id: String,
        /// The tool.
        name: String,
        /// What.
        text: String,
        /// What it showed.
        images: Vec<Image>,
    },
}

impl Said {
    /// By a person, in words alone.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into(), images: Vec::new() }
    }

    /// By the agent, in words alone.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::Assistant { text: text.into(), calls: Vec::new(), thought: String::new() }
    }

    /// For models that see nothing: each picture becomes a note.
    pub fn lose_images(&mut self) {
        if let Self::User { text, images } | Self::Tool { text, images, .. } = self {
            for image in images.drain(..) {
                text.push_str(&format!("\n[a picture, {}, which you cannot see]", image.mime_type));
            }
        }
    }

    /// The words.
    pub fn text(&self) -> &str {
        match self {
            Self::User { text, .. } | Self::Assistant { text, .. } | Self::Tool { text, .. } => text,
        }
    }
}

/// A tool, as a model is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Who answers; nobody in particular without it.
    pub instructions: Option<Instructions>,
    /// The conversation so far, oldest first; the last entry is to be answered.
    pub conversation: Vec<Said>,
    /// The tools it may call.
    pub tools: Vec<Offer>,
    /// How hard it is to think.
    pub thinking: Thinking,
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
    /// A tool is to be called.
    Call(ToolCall),
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
    /// Whether it can call tools; it is offered none otherwise.
    fn takes_tools(&self) -> bool {
        true
    }
    /// Whether it can look at pictures.
    fn takes_images(&self) -> bool {
        self.info().input.iter().any(|kind| kind == "image")
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
