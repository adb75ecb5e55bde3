//! Drafts: people see an answer while it is written, in a message that is changed as it grows.
//!
//! A draft is nothing but the row of the first message of its answer before there is a text, under a name that is made of
//! the run and the chat. So that people see each answer once, whatever is killed when:
//!
//! - The row is durable before the draft is handed to the channel, and what the platform calls it before it is changed
//!   for the first time. It is entered only while its turn is open.
//! - The commit that ends the turn gives the row its text and its own name, as it makes the rows of the other messages; or lets it end,
//!   if nothing is to be said or the turn was stopped. From then on it is a message on its way out like any other,
//!   except that it is sent by changing the draft: which can be done twice, and so is done again after a kill.
//! - If the draft cannot be changed (somebody deleted it), the row forgets it, durably, and is sent as a new message.
//! - Killed in between, when it was handed over and its name is not known: a platform that shows a message once under
//!   one name ([`Capabilities::idempotent`]) is given it again, and tells, for as long as it knows it. On others the answer is sent as a new
//!   message. What may be there of the draft stays: it is a beginning that says so by its end, and never all of an answer.
//! - A change in the channel's hands is waited for before the answer is sent, and no new one begins then.
//!
//! Everything else about a draft is best effort: at most one call for each is under way, it always has the newest text,
//! and what fails is not made up for.

use super::chunks::chunks;
use super::contract::{Act, Address, Capabilities, Order, Outgoing, SendError, Sent};
use super::delivery::{Delivered, Post, Wait, not_tried};
use super::ordered::outgoing;
use super::outgoing::{Answer, extra};
use crate::kill_points::KillPoint;
use crate::store::{self, DeliveryRow, DeliveryState, WriteOp, WriteReply};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

/// Characters that are worth a draft: what is shorter comes when it is whole.
const MIN_TEXT: usize = 30;
/// What an unfinished text ends with, and what stands for one that nobody will see.
const UNFINISHED: &str = " …";
/// How long a channel may take to begin with a draft; then it is left.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long it may take to show it. The answer may have to wait for it.
const LIMIT: Duration = Duration::from_secs(10);
/// Letters of the name of an answer: as good as unique.
const ID_LETTERS: usize = 32;

/// The name of the draft of an answer of a run.
pub fn id(run_id: &str, answer: &Answer) -> String {
    let told = format!("{run_id}\n{}\n{}\n{}", answer.channel, answer.account, json!(answer.to));
    format!("out-{}", &blake3::hash(told.as_bytes()).to_hex()[..ID_LETTERS])
}

/// The name of the draft that a message takes the place of, if there is one.
pub fn name(row: &DeliveryRow) -> String {
    extra(row, "draftId").unwrap_or_else(|| row.id.clone())
}

/// What stays of an answer that was stopped: its first message, and only where there is a draft of it.
pub fn left(mut rows: Vec<DeliveryRow>) -> Vec<DeliveryRow> {
    rows.truncate(1);
    rows.iter_mut().for_each(|row| row.extra["draft"] = json!("end"));
    rows
}

/// What a draft says of a text that goes on: its beginning, without the last word. None if that is not worth it.
pub fn shown(text: &str, capabilities: Capabilities) -> Option<String> {
    let most = capabilities.text_limit.saturating_mul(2);
    let text = text.char_indices().nth(most).map_or(text, |(at, _)| &text[..at]);
    let last = text.trim_end().char_indices().next_back()?.0;
    let text = text[..text.trim_end().rfind(char::is_whitespace).unwrap_or(last)].trim_end();
    if text.chars().count() < MIN_TEXT {
        return None;
    }
    let limit = capabilities.text_limit.saturating_sub(capabilities.unit.of(UNFINISHED));
    let piece = chunks(text, limit, capabilities.unit).into_iter().next()?;
    Some(piece + UNFINISHED)
}

/// A draft that is to be shown.
pub struct Draft {
    /// The row of its message.
    pub id: String,
    /// The run it comes from.
    pub run_id: String,
    /// The session it comes from.
    pub session_key: String,
    /// Where it goes.
    pub answer: Answer,
    /// What it says.
    pub text: String,
    /// What the platform calls it, if it is there.
    pub platform_id: Option<String>,
}

/// What came of showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// The platform has it, under this name, with this text.
    Shown(String, String),
    /// Not now; the platform may have said for how long.
    NotNow(Option<Duration>),
    /// Nothing more is shown in this turn.
    Over,
}

/// Shows a draft, or changes it.
pub async fn show(post: Post, draft: Draft) -> Came {
    if let Some(message) = draft.platform_id.clone() {
        return change(&post, &draft, message).await;
    }
    let begun = post.store.write(WriteOp::BeginDraft(row(&draft, post.store.estate.clock.now_ms()))).await;
    match begun {
        Ok(WriteReply::Count(1)) => {}
        Ok(_) => match resumed(&post, &draft).await {
            Some(Some(message)) => return change(&post, &draft, message).await,
            // Under the same name it is the same message.
            Some(None) if post.terms.0.idempotent => {}
            _ => return Came::Over,
        },
        Err(_) => return Came::NotNow(None),
    }
    post.store.estate.kill_points.reach(KillPoint::DraftBegun);
    let result = brief(&post, said(&draft, None)).await;
    post.store.estate.kill_points.reach(KillPoint::DraftSent);
    match result {
        Ok(platform_id) => {
            let known = WriteOp::ShowDraft { id: draft.id.clone(), platform_id: platform_id.clone() };
            match post.store.write(known).await {
                Ok(_) => Came::Shown(platform_id, draft.text),
                Err(_) => Came::Over,
            }
        }
        Err(SendError::Unknown(_)) => Came::Over,
        Err(error) => {
            // It is not there: so says the row, or else the answer takes it for lost.
            let _ = post.store.write(WriteOp::RemoveDraft { id: draft.id.clone() }).await;
            not_shown(error)
        }
    }
}

async fn change(post: &Post, draft: &Draft, message: String) -> Came {
    // Under a name of its own: it is not the same again.
    let change = Outgoing { id: Uuid::now_v7().to_string(), ..said(draft, Some(message.clone())) };
    match brief(post, change).await {
        Ok(_) => Came::Shown(message, draft.text.clone()),
        Err(SendError::Unknown(_)) => Came::NotNow(None),
        Err(error) => not_shown(error),
    }
}

fn not_shown(error: SendError) -> Came {
    match error {
        SendError::Later { after, .. } => Came::NotNow(after),
        SendError::Refused(_) | SendError::Unknown(_) => Came::Over,
    }
}

/// What the platform calls the draft of an earlier attempt; none within if that is not known, none if it is over.
async fn resumed(post: &Post, draft: &Draft) -> Option<Option<String>> {
    let id = draft.id.clone();
    let row = post.store.read(move |c| store::delivery_by_id(c, &id)).await.ok()??;
    (extra(&row, "draft").as_deref() == Some("live")).then_some(row.platform_id)
}

/// Has a channel post or change a message, unless it is busy; what the platform calls it.
async fn brief(post: &Post, outgoing: Outgoing) -> Result<String, SendError> {
    let busy = || SendError::Later { why: "the channel is busy".into(), after: None };
    let place = timeout(HAND_OVER, post.orders.reserve()).await;
    let Ok(Ok(place)) = place else { return Err(busy()) };
    let (done, answered) = oneshot::channel();
    place.send(Order::Send(Box::new(outgoing), done));
    match timeout(LIMIT, answered).await {
        Ok(Ok(result)) => result.map(|sent| sent.id),
        Ok(Err(_)) => Err(SendError::Unknown("the channel was lost".into())),
        Err(_) => Err(SendError::Unknown("it took too long".into())),
    }
}

fn said(draft: &Draft, edits: Option<String>) -> Outgoing {
    Outgoing {
        id: draft.id.clone(),
        to: draft.answer.to.clone(),
        text: draft.text.clone(),
        reply_to: draft.answer.reply_to.clone(),
        edits,
        buttons: Vec::new(),
        attachments: Vec::new(),
    }
}

fn row(draft: &Draft, now: i64) -> DeliveryRow {
    let Answer { channel, account, to, .. } = &draft.answer;
    DeliveryRow {
        session_key: Some(draft.session_key.clone()),
        run_id: Some(draft.run_id.clone()),
        extra: json!({ "draft": "live" }),
        state: DeliveryState::Sending,
        ..DeliveryRow::queued(draft.id.clone(), (channel, account), json!(to), String::new(), now)
    }
}

/// Sends a message whose draft people may have seen.
pub async fn finish(post: &Post, row: DeliveryRow) -> Delivered {
    let id = row.id.clone();
    // What was read of it may be from before the platform had it.
    let mut row = match post.store.read(move |c| store::delivery_by_id(c, &id)).await {
        Ok(Some(row)) => row,
        Ok(None) => return forget(post, row).await,
        Err(_) => return Delivered { row, wait: Some(Wait::Longer) },
    };
    let ends = extra(&row, "draft").as_deref() == Some("end");
    if row.platform_id.is_none() && !post.terms.0.idempotent {
        return if ends { forget(post, row).await } else { post.send(row).await };
    }
    let Ok(to) = Address::deserialize(&row.address) else { return post.misdirected(row).await };
    if post.is_in_doubt(&row) {
        return post.give_up(row).await;
    }
    if !post.begin(&mut row).await {
        return Delivered { row, wait: Some(Wait::Longer) };
    }
    let message = match row.platform_id.clone() {
        Some(message) => message,
        None => match post.post(as_draft(&row, to.clone())).await {
            Ok(sent) => row.platform_id.insert(sent.id).clone(),
            result => return post.end(post.became(row, result)).await,
        },
    };
    let result = match row.text.is_empty() {
        true => take_back(post, to.clone(), message.clone()).await,
        false => {
            let last = outgoing(&row, to.clone(), Some(message.clone()));
            post.post(Outgoing { id: format!("{}:end", row.id), ..last }).await.map(drop)
        }
    };
    match result {
        Ok(()) if row.text.is_empty() => forget(post, row).await,
        Err(SendError::Refused(_)) if ends => forget(post, row).await,
        Err(SendError::Refused(why)) => {
            let _ = take_back(post, to, message).await;
            post.end(anew(row, why)).await
        }
        Ok(()) => post.end(post.became(row, Ok(Sent { id: message }))).await,
        Err(error) => post.end(post.became(row, Err(error))).await,
    }
}

/// A row under the name of its draft, and with something to say: a platform takes no message without.
fn as_draft(row: &DeliveryRow, to: Address) -> Outgoing {
    let text = if row.text.is_empty() { UNFINISHED.trim().to_owned() } else { row.text.clone() };
    Outgoing { id: name(row), text, ..outgoing(row, to, None) }
}

async fn take_back(post: &Post, at: Address, message: String) -> Result<(), SendError> {
    post.order(|done| Order::Act { at, act: Act::Delete(message), done }).await.map(drop)
}

/// The draft cannot become the message: that is sent as if there had been none.
fn anew(mut row: DeliveryRow, why: String) -> Delivered {
    tracing::info!(target: "crabtree::channels", id = %row.id, "a draft cannot be changed, its answer is sent anew: {why}");
    if let Value::Object(extra) = &mut row.extra {
        extra.remove("draft");
    }
    not_tried(&mut row);
    (row.state, row.platform_id) = (DeliveryState::Queued, None);
    Delivered { row, wait: None }
}

/// Nothing is left to do about a draft.
async fn forget(post: &Post, mut row: DeliveryRow) -> Delivered {
    if post.store.write(WriteOp::RemoveDraft { id: row.id.clone() }).await.is_err() {
        row.state = DeliveryState::Queued;
        return Delivered { row, wait: Some(Wait::Longer) };
    }
    row.state = DeliveryState::Sent;
    Delivered { row, wait: None }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
