//! What the main session hears of a run, and what webhooks tell it: events that wait for its next heartbeat.

use super::SOURCE;
use crate::sessions::{Outcome, Status, silence};
use crate::settings::HookWake;
use crate::store::{EventRow, InputRow};
use serde::{Deserialize, Serialize};

/// Characters of an answer that are told.
const MAX_TOLD: usize = 2_000;
/// How the ids of such events begin, and of those that are told at once.
const ANY: &str = "hook:";
const URGENT: &str = "hook:now:";

/// Whom it is told, in the body of an input (`tell`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// The main session.
    pub session: String,
    /// What the run is called.
    pub name: String,
    /// When.
    pub wake: HookWake,
    /// Only if it fails.
    pub quiet: bool,
}

/// The id of an event.
pub fn id(wake: HookWake, of: &str) -> String {
    match wake {
        HookWake::Now => format!("{URGENT}{of}"),
        HookWake::NextHeartbeat => format!("{ANY}later:{of}"),
    }
}

/// Whether an event is a webhook's: who is told it may do next to nothing in that turn.
pub fn is_from_hook(event: &EventRow) -> bool {
    event.id.starts_with(ANY)
}

/// Whether it is told at once.
pub fn is_urgent(event: &EventRow) -> bool {
    event.id.starts_with(URGENT)
}

/// What main sessions hear of an outcome of these inputs.
pub fn events(inputs: &[InputRow], outcome: &Outcome) -> Vec<EventRow> {
    let event = |input: &InputRow| {
        let tell = Tell::deserialize(input.body.get("tell").filter(|_| input.source == SOURCE)?).ok()?;
        let text = said(&tell, outcome)?;
        Some(EventRow {
            id: id(tell.wake, &input.run_id),
            session_key: tell.session,
            text,
            at: outcome.ended_at,
            run_id: None,
        })
    };
    inputs.iter().filter_map(event).collect()
}

fn said(tell: &Tell, outcome: &Outcome) -> Option<String> {
    let Tell { name, quiet, .. } = tell;
    let text = match outcome.status {
        Status::Ok if *quiet => return None,
        Status::Ok => {
            let text = silence::told(outcome.text.trim(), true);
            return (!text.is_empty()).then(|| format!("Webhook {name} came to this: {}", cut(text)));
        }
        Status::Aborted => "it was stopped",
        Status::Timeout => "it took longer than it may",
        Status::Error => outcome.error.as_deref().unwrap_or("the run failed"),
    };
    Some(format!("Webhook {name} failed: {}", cut(text)))
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TOLD).collect()
}
