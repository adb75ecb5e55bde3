//! Webhooks: what programs elsewhere ask over plain HTTP. There is no actor behind them: what is asked is an input of a
//! session, or an event that waits for a heartbeat, and durable before it is answered. What comes of it, whom it is told
//! and what the main session hears of it is written with the outcome itself, so that nobody has to be there for it.
//!
//! Who knows `hooks.token` is a program, and what it says may have been written by anybody: its turns may use next to no
//! tools (`tools.hooks`), and the model is told whose words it reads.

mod action;
mod answer;
mod completion;
mod event;
mod mapping;
mod outside;
mod rules;
mod run;
mod status;
mod template;
mod wake;

pub use answer::{Answer, Request, answer};
pub use event::{events, is_from_hook, is_urgent};
pub use outside::told;
pub use status::status;
pub use template::Scene;

use crabtree_protocol::Refusal;

/// Whose inputs these are.
pub const SOURCE: &str = "hook";
/// Runs that webhooks have asked for and that are not over; more are refused until one is.
pub const MAX_OPEN: usize = 64;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The status of HTTP.
    pub status: u16,
    /// What is wrong, and what to do.
    pub error: String,
    /// The run that did not come to be.
    pub run_id: Option<String>,
}

impl Wrong {
    /// The request is not one that can be followed.
    pub fn request(error: impl Into<String>) -> Self {
        Self { status: 400, error: error.into(), run_id: None }
    }

    /// It may be tried again.
    pub fn later(error: impl Into<String>) -> Self {
        Self { status: 503, error: error.into(), run_id: None }
    }

    /// Something here is not as it should be.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { status: 500, error: error.into(), run_id: None }
    }
}

/// What a session refuses.
impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        let status = if refusal.retryable == Some(true) { 503 } else { 409 };
        Self { status, error: refusal.message, run_id: None }
    }
}
