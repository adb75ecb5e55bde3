//! What the channel is told about a row of the outbox: its text, and what its `extra` adds: `replyTo`, `edits` (the
//! platform's id of the message it takes the place of), `editsDelivery` (the row that made it), `buttons`, `poll`,
//! `file`.

use super::contract::{Act, Address, Attachment, Button, Order, Outgoing, Poll, SendError, Sent};
use super::outgoing::extra;
use crate::media::picture_type;
use crate::store::{self, DeliveryRow, Store};
use crate::tools::files::workspace::Workspace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::sync::oneshot;

/// The largest file that goes out, bytes; platforms may take less.
pub const MAX_FILE: usize = 20 * 1024 * 1024;

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
    let mut outgoing = outgoing(row, to, edits);
    if let Some(file) = part::<Enclosure>(row, "file") {
        let workspace = store.estate.config.load().workspace(&file.agent_id);
        let read = tokio::task::spawn_blocking(move || file.read(&workspace)).await;
        outgoing.attachments.push(read.map_err(|e| e.to_string())??);
    }
    Ok(Order::Send(Box::new(outgoing), done))
}

/// A file of an agent's workspace that goes out, as it is when it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enclosure {
    /// The agent.
    pub agent_id: String,
    /// Where it is in the workspace.
    pub path: String,
}

impl Enclosure {
    /// Reads it; blocks.
    ///
    /// # Errors
    /// Why it cannot be sent: it is not there, elsewhere, or larger than 20 MiB.
    pub fn read(&self, workspace: &Path) -> Result<Attachment, String> {
        let workspace = Workspace::open(workspace)?.ok_or("the agent has no workspace")?;
        let path = workspace.inside(&self.path)?;
        let bytes = workspace.content(&path, MAX_FILE)?;
        let mime_type = picture_type(&bytes).unwrap_or("application/octet-stream").to_owned();
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Attachment { mime_type, file_name, bytes })
    }
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
