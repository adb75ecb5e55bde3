//! Sending: which message is next, and what its state is whatever happens. A message is handed to the channel only when
//! it is durable that it will be; so one that is lost with a crash is known to be in doubt.

use super::contract::{Address, Capabilities, Order, Outgoing, SendError, Sent};
use super::outgoing::extra;
use crate::settings::OnUncertain;
use crate::store::{DeliveryRow, DeliveryState, Store, WriteOp};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a channel may take to send a message; then nobody knows.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// First and longest wait before a message is tried again, ms.
const BACKOFF: (i64, i64) = (1_000, 60_000);
/// How long a message is tried, ms.
const GIVE_UP_AFTER: i64 = 24 * 60 * 60 * 1000;

/// What came of a message.
pub struct Delivered {
    /// As it is stored.
    pub row: DeliveryRow,
    /// How long its chat wants to be left alone, ms.
    pub wait: Option<i64>,
}

/// Hands a message to the channel and writes down what became of it.
pub async fn deliver(
    store: Store,
    orders: mpsc::Sender<Order>,
    terms: (Capabilities, OnUncertain),
    mut row: DeliveryRow,
) -> Delivered {
    let now = || store.estate.clock.now_ms();
    let Ok(to) = Address::deserialize(&row.address) else {
        return end(&store, failed(row, "its address is not one", now())).await;
    };
    row.state = DeliveryState::Sending;
    row.attempts += 1;
    row.updated_at = now();
    if let Err(e) = store.write(WriteOp::Delivery(row.clone())).await {
        tracing::warn!(target: "crabtree::channels", "a message waits: {e}");
        row.state = DeliveryState::Queued;
        return Delivered { row, wait: Some(BACKOFF.0) };
    }
    store.estate.kill_points.reach(crate::kill_points::KillPoint::DeliveryBegun);
    let (done, sent) = oneshot::channel();
    let outgoing = Outgoing {
        id: row.id.clone(),
        to,
        text: row.text.clone(),
        reply_to: extra(&row, "replyTo"),
        edits: extra(&row, "edits"),
        buttons: Vec::new(),
        attachments: Vec::new(),
    };
    let lost = || Err(SendError::Unknown("the channel was lost while it was sending".into()));
    let asked = async {
        match orders.send(Order::Send(Box::new(outgoing), done)).await {
            Ok(()) => sent.await.unwrap_or_else(|_| lost()),
            Err(_) => Err(SendError::Later { why: "the channel is not there".into(), after: None }),
        }
    };
    let late = || Err(SendError::Unknown(format!("it took more than {} s", SEND_LIMIT.as_secs())));
    let result = timeout(SEND_LIMIT, asked).await.unwrap_or_else(|_| late());
    store.estate.kill_points.reach(crate::kill_points::KillPoint::DeliverySent);
    end(&store, became(row, result, terms, now())).await
}

async fn end(store: &Store, delivered: Delivered) -> Delivered {
    if let Err(e) = store.write(WriteOp::Delivery(delivered.row.clone())).await {
        // It stays as being sent: after a restart it is in doubt.
        tracing::error!(target: "crabtree::channels", "what became of a message was not written: {e}");
    }
    delivered
}

/// The state of a message after an attempt. Pure.
fn became(
    mut row: DeliveryRow,
    result: Result<Sent, SendError>,
    (capabilities, on_uncertain): (Capabilities, OnUncertain),
    now: i64,
) -> Delivered {
    row.updated_at = now;
    match result {
        Ok(Sent { id }) => {
            (row.state, row.platform_id, row.error) = (DeliveryState::Sent, Some(id), None);
            Delivered { row, wait: None }
        }
        Err(SendError::Refused(why)) => failed(row, &why, now),
        Err(SendError::Later { why, .. }) if now - row.created_at > GIVE_UP_AFTER => {
            failed(row, &format!("given up after a day: {why}"), now)
        }
        Err(SendError::Later { why, after }) => {
            let doubled = BACKOFF.0 << row.attempts.saturating_sub(1).min(6);
            let wait = after.map_or(doubled.min(BACKOFF.1), |after| after.as_millis() as i64);
            (row.state, row.error) = (DeliveryState::Queued, Some(why));
            Delivered { row, wait: Some(wait) }
        }
        Err(SendError::Unknown(why)) => {
            row.error = Some(why);
            let row = after_a_loss(row, capabilities, on_uncertain, now);
            let wait = (row.state == DeliveryState::Queued).then_some(BACKOFF.0);
            Delivered { row, wait }
        }
    }
}

fn failed(mut row: DeliveryRow, why: &str, now: i64) -> Delivered {
    tracing::warn!(target: "crabtree::channels", id = %row.id, "a message was not sent: {why}");
    (row.state, row.error, row.updated_at) = (DeliveryState::Failed, Some(why.to_owned()), now);
    Delivered { row, wait: None }
}

/// A message of which nobody knows whether it was sent: it is sent again where that cannot be seen twice, or is wanted.
pub fn after_a_loss(
    mut row: DeliveryRow,
    capabilities: Capabilities,
    on_uncertain: OnUncertain,
    now: i64,
) -> DeliveryRow {
    let again =
        capabilities.idempotent || extra(&row, "edits").is_some() || on_uncertain == OnUncertain::Resend;
    row.state = if again { DeliveryState::Queued } else { DeliveryState::Uncertain };
    row.updated_at = now;
    if !again {
        tracing::warn!(target: "crabtree::channels", id = %row.id, account = %row.account, channel = %row.channel,
            "nobody knows whether a message was sent; it is not sent again");
    }
    row
}

/// What is on its way out of an account: each chat in its order, the chats side by side.
#[derive(Default)]
pub struct Due {
    rows: VecDeque<DeliveryRow>,
    known: BTreeSet<String>,
    /// Chats with a message in the channel's hands.
    busy: BTreeSet<String>,
    /// Chats that want to be left alone, until when (ms).
    waits: BTreeMap<String, i64>,
}

impl Due {
    /// Enters what is not known yet.
    pub fn add(&mut self, rows: Vec<DeliveryRow>) {
        for row in rows {
            if self.known.insert(row.id.clone()) {
                self.rows.push_back(row);
            }
        }
    }

    /// The next message whose chat is free, if fewer than `most` are in the channel's hands.
    pub fn next(&mut self, most: usize, now: i64) -> Option<DeliveryRow> {
        if self.busy.len() >= most {
            return None;
        }
        self.waits.retain(|_, until| *until > now);
        let mut passed = BTreeSet::new();
        let at = self.rows.iter().position(|row| {
            let chat = row.address.to_string();
            let free =
                !self.busy.contains(&chat) && !self.waits.contains_key(&chat) && !passed.contains(&chat);
            // What comes later for a chat that waits must not overtake it.
            passed.insert(chat);
            free
        })?;
        let row = self.rows.remove(at)?;
        self.busy.insert(row.address.to_string());
        Some(row)
    }

    /// How long until a chat may be sent to again that has something to be sent.
    pub fn wait(&self, now: i64) -> Option<Duration> {
        let due = self.rows.iter().filter_map(|row| self.waits.get(&row.address.to_string()));
        due.min().map(|until| Duration::from_millis((until - now).max(1) as u64))
    }

    /// A message came back. True if all that was read is through: there may be more.
    pub fn came_back(&mut self, delivered: Delivered, now: i64) -> bool {
        let Delivered { row, wait } = delivered;
        let chat = row.address.to_string();
        self.busy.remove(&chat);
        if let Some(wait) = wait {
            self.waits.insert(chat, now + wait);
        }
        if row.state == DeliveryState::Queued {
            self.rows.push_front(row);
        } else {
            self.known.remove(&row.id);
        }
        self.rows.is_empty() && self.busy.is_empty()
    }

    /// Messages in the channel's hands.
    pub fn in_flight(&self) -> usize {
        self.busy.len()
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }
}
