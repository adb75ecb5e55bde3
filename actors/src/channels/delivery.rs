//! Sending: which message is next, and what its state is whatever happens. A message is handed to the channel only when
//! it is durable that it will be; so one that is lost with a crash is known to be in doubt.

use super::contract::{Capabilities, Order, SendError, Sent};
use super::ordered;
use super::outgoing::extra;
use crate::settings::OnUncertain;
use crate::store::{DeliveryRow, DeliveryState, Store, WriteOp};
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
    mut row: DeliveryRow,
) -> Delivered {
    let now = || store.estate.clock.now_ms();
    let (done, sent) = oneshot::channel();
    let order = match ordered::order(&store, &row, done).await {
        Ok(order) => order,
        Err(why) => return end(&store, failed(row, &why, now())).await,
    };
    row.state = DeliveryState::Sending;
    row.attempts += 1;
    row.updated_at = now();
    if let Err(e) = store.write(WriteOp::Delivery(row.clone())).await {
        tracing::warn!(target: "crabtree::channels", "a message waits: {e}");
        row.state = DeliveryState::Queued;
        return Delivered { row, wait: Some(Wait::Longer) };
    }
    store.estate.kill_points.reach(crate::kill_points::KillPoint::DeliveryBegun);
    let lost = || Err(SendError::Unknown("the channel was lost while it was sending".into()));
    let asked = async {
        match orders.send(order).await {
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
            let wait = after.map_or(Wait::Longer, |after| Wait::Exactly(after.as_millis() as i64));
            (row.state, row.error) = (DeliveryState::Queued, Some(why));
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
    let again = capabilities.idempotent || is_edit(&row) || on_uncertain == OnUncertain::Resend;
    row.state = if again { DeliveryState::Queued } else { DeliveryState::Uncertain };
    row.updated_at = now;
    if !again {
        tracing::warn!(target: "crabtree::channels", id = %row.id, account = %row.account, channel = %row.channel,
            "nobody knows whether a message was sent; it is not sent again");
    }
    row
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
}

impl Due {
    /// The store is going to be read.
    pub fn will_read(&mut self) {
        self.settled.clear();
    }

    /// Enters what was read and is not known yet, nor was settled meanwhile.
    pub fn add(&mut self, rows: Vec<DeliveryRow>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, chat: &str) -> DeliveryRow {
        DeliveryRow {
            id: id.into(),
            channel: "c".into(),
            account: "a".into(),
            address: json!({ "chat": chat }),
            session_key: None,
            run_id: None,
            text: id.into(),
            extra: json!({}),
            state: DeliveryState::Queued,
            attempts: 0,
            platform_id: None,
            error: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    fn sent(row: DeliveryRow) -> Delivered {
        Delivered { row: DeliveryRow { state: DeliveryState::Sent, ..row }, wait: None }
    }

    fn next(due: &mut Due, now: i64) -> Option<String> {
        due.next(2, now).map(|row| row.id)
    }

    #[test]
    fn each_chat_has_its_order_and_chats_go_side_by_side() {
        let mut due = Due::default();
        due.add(vec![row("a1", "a"), row("a2", "a"), row("b1", "b"), row("c1", "c")]);
        assert_eq!(
            [next(&mut due, 0), next(&mut due, 0), next(&mut due, 0)].map(|id| id.unwrap_or_default()),
            ["a1", "b1", ""]
        );
        due.came_back(sent(row("a1", "a")), 0);
        assert_eq!(next(&mut due, 0).as_deref(), Some("a2"));
        due.came_back(sent(row("b1", "b")), 0);
        assert_eq!(next(&mut due, 0).as_deref(), Some("c1"));
    }

    #[test]
    fn a_chat_that_cannot_be_sent_to_waits_longer_each_time_and_keeps_its_order() {
        let mut due = Due::default();
        due.add(vec![row("a1", "a"), row("a2", "a")]);
        let mut now = 0;
        for wait in [1_000, 2_000, 4_000] {
            assert_eq!(next(&mut due, now).as_deref(), Some("a1"));
            due.came_back(Delivered { row: row("a1", "a"), wait: Some(Wait::Longer) }, now);
            assert_eq!((next(&mut due, now), due.wait(now)), (None, Some(Duration::from_millis(wait))));
            now += wait as i64;
        }
        assert_eq!(next(&mut due, now).as_deref(), Some("a1"));
        due.came_back(Delivered { row: row("a1", "a"), wait: Some(Wait::Exactly(50)) }, now);
        assert_eq!(due.wait(now), Some(Duration::from_millis(50)));
    }

    /// The store is read while a message is being sent: what was read of it is old when it comes.
    #[test]
    fn what_was_read_before_a_message_was_sent_does_not_send_it_again() {
        let mut due = Due::default();
        due.add(vec![row("a1", "a")]);
        let first = due.next(2, 0).unwrap();
        due.will_read();
        due.came_back(sent(first), 0);
        due.add(vec![row("a1", "a"), row("a2", "a")]);
        assert_eq!([next(&mut due, 0), next(&mut due, 0)], [Some("a2".into()), None]);
    }

    #[test]
    fn what_becomes_of_a_message() {
        use DeliveryState::{Failed, Queued, Sent as Done, Uncertain};
        let capabilities = Capabilities::texts(100);
        let idempotent = Capabilities { idempotent: true, ..capabilities };
        let (report, resend) = (OnUncertain::Report, OnUncertain::Resend);
        let later = || SendError::Later { why: "busy".into(), after: Some(Duration::from_secs(7)) };
        let unknown = || SendError::Unknown("cut".into());
        let became = |result, terms, now| {
            let Delivered { row, wait } = became(row("a", "a"), result, terms, now);
            (row.state, wait)
        };
        assert_eq!(became(Ok(Sent { id: "7".into() }), (capabilities, report), 1), (Done, None));
        assert_eq!(became(Err(SendError::Refused("no".into())), (capabilities, report), 1), (Failed, None));
        assert_eq!(became(Err(later()), (capabilities, report), 1), (Queued, Some(Wait::Exactly(7_000))));
        assert_eq!(became(Err(later()), (capabilities, report), GIVE_UP_AFTER + 1), (Failed, None));
        assert_eq!(became(Err(unknown()), (capabilities, report), 1), (Uncertain, None));
        assert_eq!(became(Err(unknown()), (idempotent, report), 1), (Queued, Some(Wait::Longer)));
        assert_eq!(became(Err(unknown()), (capabilities, resend), 1), (Queued, Some(Wait::Longer)));
    }
}
