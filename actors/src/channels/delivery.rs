//! Sending: which message is next, and what its state is whatever happens. A message is handed to the channel only when
//! it is durable that it will be; so one that is lost with a crash is known to be in doubt.

use super::contract::{Capabilities, Order, Outgoing, SendError, Sent};
use super::outgoing::extra;
use super::{draft, ordered};
use crate::estate::Estate;
use crate::kill_points::KillPoint;
use crate::settings::OnUncertain;
use crate::store::{DeliveryRow, DeliveryState, Store, WriteOp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a channel may take to send a message; then nobody knows.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// First and longest wait before a message is tried again, ms.
const BACKOFF: (i64, i64) = (1_000, 60_000);
/// Messages on their way out that are read at once, of each chat and in all; the rest stays in the store. A chat that
/// takes nothing for hours is in nobody's way.
pub const WINDOW: (u32, u32) = (10, 1_000);
/// How long a message is tried, ms.
const GIVE_UP_AFTER: i64 = 24 * 60 * 60 * 1000;

/// Since when the platform may have a message, ms: a field of what is kept with it.
const TRIED_AT: &str = "triedAt";

/// Where the channel answers what it was asked to do.
type Asked<T> = oneshot::Sender<Result<T, SendError>>;

/// What came of a message.
pub struct Delivered {
    /// As it is stored.
    pub row: DeliveryRow,
    /// Whether its chat is left alone for a while.
    pub wait: Option<Wait>,
}

/// How long a chat is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// This long, ms: the platform says so.
    Exactly(i64),
    /// Longer each time.
    Longer,
}

/// Hands a message to the channel and writes down what became of it.
pub async fn deliver(
    store: Store,
    orders: mpsc::Sender<Order>,
    terms: (Capabilities, OnUncertain),
    row: DeliveryRow,
) -> Delivered {
    let post = Post { store, orders, terms };
    if extra(&row, "draft").is_some() { draft::finish(&post, row).await } else { post.send(row).await }
}

/// The way of a message to its channel, and what is written of it.
pub struct Post {
    /// Where that is written.
    pub store: Store,
    /// The channel.
    pub orders: mpsc::Sender<Order>,
    /// What it can do, and what is done when nobody knows.
    pub terms: (Capabilities, OnUncertain),
}

impl Post {
    /// Sends a message that is none yet.
    pub async fn send(&self, mut row: DeliveryRow) -> Delivered {
        let (done, answered) = oneshot::channel();
        let order = match ordered::order(&self.store, &row, done).await {
            Ok(order) => order,
            Err(why) => return self.end(failed(row, &why, self.now())).await,
        };
        if self.is_in_doubt(&row) {
            return self.give_up(row).await;
        }
        if !self.begin(&mut row).await {
            return Delivered { row, wait: Some(Wait::Longer) };
        }
        let result = self.give(order, answered).await;
        self.end(self.became(row, result)).await
    }

    /// Whether the platform may have a message, and would not know it again.
    pub fn is_in_doubt(&self, row: &DeliveryRow) -> bool {
        tried_at(row).is_some_and(|tried| !may_be_sent_again(row, tried, self.terms, self.now()))
    }

    /// Leaves a message that is in doubt.
    pub async fn give_up(&self, row: DeliveryRow) -> Delivered {
        self.end(Delivered { row: in_doubt(row, self.now()), wait: None }).await
    }

    /// Makes it durable that a message is handed over; if that fails it waits.
    pub async fn begin(&self, row: &mut DeliveryRow) -> bool {
        row.state = DeliveryState::Sending;
        row.attempts += 1;
        row.updated_at = self.now();
        let is_first = tried_at(row).is_none();
        if is_first {
            row.extra[TRIED_AT] = json!(row.updated_at);
        }
        if let Err(e) = self.store.write(WriteOp::Delivery(row.clone())).await {
            tracing::warn!(target: "crabtree::channels", "a message waits: {e}");
            row.state = DeliveryState::Queued;
            if is_first {
                not_tried(row);
            }
            return false;
        }
        self.store.estate.kill_points.reach(KillPoint::DeliveryBegun);
        true
    }

    /// Has the channel send a message, or change one.
    pub async fn post(&self, outgoing: Outgoing) -> Result<Sent, SendError> {
        self.order(|done| Order::Send(Box::new(outgoing), done)).await
    }

    /// Has the channel do something.
    pub async fn order<T>(&self, order: impl FnOnce(Asked<T>) -> Order) -> Result<T, SendError> {
        let (done, answered) = oneshot::channel();
        self.give(order(done), answered).await
    }

    async fn give<T>(
        &self,
        order: Order,
        answered: oneshot::Receiver<Result<T, SendError>>,
    ) -> Result<T, SendError> {
        let lost = || Err(SendError::Unknown("the channel was lost while it was sending".into()));
        let asked = async {
            match self.orders.send(order).await {
                Ok(()) => answered.await.unwrap_or_else(|_| lost()),
                Err(_) => Err(SendError::Later { why: "the channel is not there".into(), after: None }),
            }
        };
        let late = || Err(SendError::Unknown(format!("it took more than {} s", SEND_LIMIT.as_secs())));
        let result = timeout(SEND_LIMIT, asked).await.unwrap_or_else(|_| late());
        self.store.estate.kill_points.reach(KillPoint::DeliverySent);
        result
    }

    /// What became of a message with this result.
    pub fn became(&self, row: DeliveryRow, result: Result<Sent, SendError>) -> Delivered {
        became(row, result, self.terms, self.now())
    }

    /// Its address is none: it is not sent.
    pub async fn misdirected(&self, row: DeliveryRow) -> Delivered {
        self.end(failed(row, "its address is not one", self.now())).await
    }

    /// Writes what became of a message.
    pub async fn end(&self, delivered: Delivered) -> Delivered {
        if let Err(e) = self.store.carry_on(WriteOp::Delivery(delivered.row.clone())).await {
            // It stays as being sent: after a restart it is in doubt.
            tracing::error!(target: "crabtree::channels", "what became of a message was not written: {e}");
        }
        count(&self.store.estate, &delivered.row);
        delivered
    }

    fn now(&self) -> i64 {
        self.store.estate.clock.now_ms()
    }
}

/// The state of a message after an attempt. Pure.
fn became(
    mut row: DeliveryRow,
    result: Result<Sent, SendError>,
    (capabilities, on_uncertain): (Capabilities, OnUncertain),
    now: i64,
) -> Delivered {
    let was_first = tried_at(&row) == Some(row.updated_at);
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
            let wait = after.map_or(Wait::Longer, |after| Wait::Exactly(after.as_millis() as i64));
            (row.state, row.error) = (DeliveryState::Queued, Some(why));
            if was_first {
                not_tried(&mut row);
            }
            Delivered { row, wait: Some(wait) }
        }
        Err(SendError::Unknown(why)) => {
            row.error = Some(why);
            let row = after_a_loss(row, capabilities, on_uncertain, now);
            let wait = (row.state == DeliveryState::Queued).then_some(Wait::Longer);
            Delivered { row, wait }
        }
    }
}

/// Counts a message that has come to an end.
pub fn count(estate: &Estate, row: &DeliveryRow) {
    if matches!(row.state, DeliveryState::Sent | DeliveryState::Failed | DeliveryState::Uncertain) {
        estate.meters.delivered.count((row.channel.clone(), row.account.clone(), row.state.as_str()));
    }
}

fn failed(mut row: DeliveryRow, why: &str, now: i64) -> Delivered {
    tracing::warn!(target: "crabtree::channels", id = %row.id, "a message was not sent: {why}");
    (row.state, row.error, row.updated_at) = (DeliveryState::Failed, Some(why.to_owned()), now);
    Delivered { row, wait: None }
}

/// A message of which nobody knows whether it was sent: it is sent again where that cannot be seen twice, or is wanted.
/// One that was to take the place of another can not.
pub fn after_a_loss(
    mut row: DeliveryRow,
    capabilities: Capabilities,
    on_uncertain: OnUncertain,
    now: i64,
) -> DeliveryRow {
    let tried = tried_at(&row).unwrap_or(row.updated_at);
    if !may_be_sent_again(&row, tried, (capabilities, on_uncertain), now) {
        return in_doubt(row, now);
    }
    (row.state, row.updated_at) = (DeliveryState::Queued, now);
    row
}

/// Whether a message that the platform may have had since `tried` can be sent without being seen twice, or is to be.
fn may_be_sent_again(
    row: &DeliveryRow,
    tried: i64,
    (capabilities, on_uncertain): (Capabilities, OnUncertain),
    now: i64,
) -> bool {
    let is_change = row.platform_id.is_some() || is_edit(row);
    let known_until = tried.saturating_add(capabilities.known_for.as_millis().try_into().unwrap_or(i64::MAX));
    let is_known = capabilities.idempotent && now <= known_until;
    is_known || is_change || on_uncertain == OnUncertain::Resend
}

fn in_doubt(mut row: DeliveryRow, now: i64) -> DeliveryRow {
    tracing::warn!(target: "crabtree::channels", id = %row.id, account = %row.account, channel = %row.channel,
        "nobody knows whether a message was sent; it is not sent again");
    (row.state, row.updated_at) = (DeliveryState::Uncertain, now);
    row
}

fn tried_at(row: &DeliveryRow) -> Option<i64> {
    row.extra.get(TRIED_AT)?.as_i64()
}

/// The platform cannot have it.
pub fn not_tried(row: &mut DeliveryRow) {
    if let Some(extra) = row.extra.as_object_mut() {
        extra.remove(TRIED_AT);
    }
}

/// Changed twice, a message is as changed once.
fn is_edit(row: &DeliveryRow) -> bool {
    extra(row, "edits").or_else(|| extra(row, "editsDelivery")).is_some()
}

/// What is on its way out of an account: each chat in its order, the chats side by side.
#[derive(Default)]
pub struct Due {
    rows: VecDeque<DeliveryRow>,
    known: BTreeSet<String>,
    /// Chats with a message in the channel's hands.
    busy: BTreeSet<String>,
    /// Chats that are left alone, until when (ms).
    waits: BTreeMap<String, i64>,
    /// How often in a row nothing could be sent to a chat.
    failures: BTreeMap<String, u32>,
    /// What came back while the store was being read: what was read of it is old.
    settled: BTreeSet<String>,
    /// Drafts in the channel's hands.
    held: BTreeSet<String>,
    /// There was more of a chat, or in all, than was read.
    was_cut: bool,
}

impl Due {
    /// The store is going to be read.
    pub fn will_read(&mut self) {
        self.settled.clear();
    }

    /// Enters what was read and is not known yet, nor was settled meanwhile.
    pub fn add(&mut self, rows: Vec<DeliveryRow>) {
        let mut of_chat = BTreeMap::<String, u32>::new();
        rows.iter().for_each(|row| *of_chat.entry(row.address.to_string()).or_default() += 1);
        self.was_cut = rows.len() >= WINDOW.1 as usize || of_chat.values().any(|count| *count >= WINDOW.0);
        for row in rows {
            if !self.settled.contains(&row.id) && self.known.insert(row.id.clone()) {
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
            let free = !self.busy.contains(&chat)
                && !self.waits.contains_key(&chat)
                && !passed.contains(&chat)
                && !self.held.contains(&draft::name(row));
            // What comes later for a chat that waits must not overtake it.
            passed.insert(chat);
            free
        })?;
        let row = self.rows.remove(at)?;
        self.busy.insert(row.address.to_string());
        Some(row)
    }

    /// The message of a draft is not sent until it is released: a change that is under way must not come after it.
    pub fn hold(&mut self, id: &str) {
        self.held.insert(id.to_owned());
    }

    /// The same message may be sent.
    pub fn release(&mut self, id: &str) {
        self.held.remove(id);
    }

    /// A chat is left alone until then.
    pub fn leave(&mut self, chat: String, until: i64) {
        let at = self.waits.entry(chat).or_default();
        *at = until.max(*at);
    }

    /// How long until a chat may be sent to again that has something to be sent.
    pub fn wait(&self, now: i64) -> Option<Duration> {
        let due = self.rows.iter().filter_map(|row| self.waits.get(&row.address.to_string()));
        due.min().map(|until| Duration::from_millis((until - now).max(1) as u64))
    }

    /// A message came back. True if all that was read is through, or all of its chat: there may be more.
    pub fn came_back(&mut self, delivered: Delivered, now: i64) -> bool {
        let Delivered { row, wait } = delivered;
        let (chat, address) = (row.address.to_string(), row.address.clone());
        self.busy.remove(&chat);
        match wait {
            Some(wait) => {
                let failures = self.failures.entry(chat.clone()).or_default();
                *failures += 1;
                let longer = (BACKOFF.0 << (*failures - 1).min(6)).min(BACKOFF.1);
                let ms = if let Wait::Exactly(ms) = wait { ms } else { longer };
                self.waits.insert(chat, now + ms);
            }
            None => drop(self.failures.remove(&chat)),
        }
        if row.state == DeliveryState::Queued {
            self.rows.push_front(row);
        } else {
            self.known.remove(&row.id);
            self.settled.insert(row.id);
        }
        let is_through = || !self.rows.iter().any(|row| row.address == address);
        self.rows.is_empty() && self.busy.is_empty() || self.was_cut && is_through()
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

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
