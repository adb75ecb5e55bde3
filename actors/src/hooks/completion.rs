//! What came of a run, as far as who called the webhook is told: never what was said.

use crate::channels::{self, Fate};
use crate::sessions::{Outcome, Saying, Status, silence};
use crate::store::{self, InputRow};
use serde::Serialize;

/// See the module; as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    status: &'static str,
    reply_disposition: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_attempted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_suppression_reason: Option<&'static str>,
}

/// Waits for it. None: it cannot be known, because the gateway goes down.
pub async fn completion(saying: &Saying) -> Option<Completion> {
    let outcome = saying.outcome(|| None).await?;
    let input = saying.input().await?;
    let is_silent = says_nothing(saying).await;
    let mut completion = of(&outcome, is_silent);
    let goes_out = input.body.get("channel").is_some();
    if goes_out && completion.status == "ok" && completion.reply_disposition != "visible" {
        completion.delivery_suppression_reason = Some(completion.reply_disposition);
    } else if goes_out {
        completion.delivery_attempted = Some(true);
        completion.delivered = delivered(saying, input, &outcome).await;
        completion.delivery_error = (completion.delivered == Some(false)).then_some("delivery-failed");
    }
    Some(completion)
}

/// Whether the model answered that there is nothing to say; its outcome has no words then.
async fn says_nothing(saying: &Saying) -> bool {
    let run_id = saying.run_id.clone();
    let rows = saying.store.read(move |c| store::messages_by_run(c, &run_id)).await;
    rows.is_ok_and(|rows| rows.iter().any(silence::is_silent_row))
}

fn of(outcome: &Outcome, is_silent: bool) -> Completion {
    let disposition = match (silence::told(outcome.text.trim(), true).is_empty(), is_silent) {
        (false, _) => "visible",
        (true, true) => "silent",
        (true, false) => "empty",
    };
    Completion {
        status: if outcome.status == Status::Ok { "ok" } else { "error" },
        reply_disposition: disposition,
        delivered: Some(false),
        delivery_attempted: Some(false),
        delivery_error: None,
        delivery_suppression_reason: None,
    }
}

/// Whether people have it; none: nobody knows yet.
async fn delivered(saying: &Saying, input: InputRow, outcome: &Outcome) -> Option<bool> {
    let rows = channels::answers(&saying.run_id, &[input], outcome);
    let last = rows.last()?.id.clone();
    match channels::fate(&saying.store, &last).await {
        Ok(Fate::Sent(_)) => Some(true),
        Ok(Fate::Failed(_)) => Some(false),
        Ok(Fate::Waits) | Err(_) => None,
    }
}
