//! What the channel is told about a row of the outbox: its text, and what its `extra` adds: `replyTo`, `edits` (the
//! platform's id of the message it takes the place of), `editsDelivery` (the row that made it), `buttons`, `poll`.

use super::contract::{Act, Address, Button, Order, Outgoing, Poll, SendError, Sent};
use super::outgoing::extra;
use crate::store::{self, DeliveryRow, Store};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

/// The order that a row is.
///
/// # Errors
/// Why it cannot be carried out any more.
pub async fn order(
    store: &Store,
    row: &DeliveryRow,
    done: oneshot::Sender<Result<Sent, SendError>>,
) -> Result<Order, String> {
    let to = Address::deserialize(&row.address).map_err(|_| "its address is not one".to_owned())?;
    if let Some(poll) = part::<Poll>(row, "poll") {
        return Ok(Order::Act { at: to, act: Act::Poll(Box::new(poll)), done });
    }
    let edits = match extra(row, "editsDelivery") {
        Some(made_by) => Some(made(store, made_by).await?),
        None => extra(row, "edits"),
    };
    Ok(Order::Send(Box::new(outgoing(row, to, edits)), done))
}

/// A row as the message it says.
pub fn outgoing(row: &DeliveryRow, to: Address, edits: Option<String>) -> Outgoing {
    Outgoing {
        id: row.id.clone(),
        to,
        text: row.text.clone(),
        reply_to: extra(row, "replyTo"),
        edits,
        buttons: part::<Vec<Button>>(row, "buttons").unwrap_or_default(),
        attachments: Vec::new(),
    }
}

fn part<T: DeserializeOwned>(row: &DeliveryRow, name: &str) -> Option<T> {
    serde_json::from_value(row.extra.get(name)?.clone()).ok()
}

/// What the platform calls the message that a row has made. Those of a chat go out in their order, so it is there by
/// now, or never.
async fn made(store: &Store, row: String) -> Result<String, String> {
    let found = store.read(move |c| store::delivery_by_id(c, &row)).await.map_err(|e| e.to_string())?;
    found.and_then(|row| row.platform_id).ok_or_else(|| "what it would change was not sent".to_owned())
}
