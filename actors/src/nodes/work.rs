//! What nodes find to do when they next look: for each a short list, the urgent before the rest. Kept in memory; a node
//! that looks is always told to say how it is. Pure.

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Items kept for one node; the last one makes room.
const MAX_ITEMS: usize = 64;
/// Items given at once unless the node asks for another number, and at most.
const DEFAULT_GIVEN: usize = 4;
/// How long an item is worth doing unless its caller says otherwise, ms.
pub const DEFAULT_TTL_MS: i64 = 86_400_000;

/// How urgent an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before the others.
    High,
    /// As the others.
    Normal,
    /// Always there.
    Default,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its id.
    pub id: String,
    /// `status.request` or `location.request`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// ms.
    pub created_at_ms: i64,
    /// ms; never if there is none.
    pub expires_at_ms: Option<i64>,
}

#[derive(Default)]
struct List {
    revision: u64,
    items: Vec<Item>,
}

impl List {
    fn drop_expired(&mut self, now: i64) {
        let before = self.items.len();
        self.items.retain(|item| item.expires_at_ms.is_none_or(|at| at > now));
        self.revision += u64::from(self.items.len() != before);
    }
}

/// The lists of all nodes.
#[derive(Default)]
pub struct Work(BTreeMap<String, List>);

impl Work {
    /// Adds an item; what the caller is told.
    pub fn add(&mut self, node_id: &str, kind: &str, priority: Priority, ttl_ms: i64, now: i64) -> Value {
        let list = self.0.entry(node_id.to_owned()).or_default();
        list.drop_expired(now);
        if list.items.len() >= MAX_ITEMS {
            list.items.pop();
        }
        let item = Item {
            id: Uuid::new_v4().to_string(),
            kind: kind.to_owned(),
            priority,
            created_at_ms: now,
            expires_at_ms: Some(now + ttl_ms),
        };
        list.items.push(item.clone());
        // Stable: the earlier stays before the later of the same urgency.
        list.items.sort_by_key(|item| item.priority);
        list.revision += 1;
        json!({ "nodeId": node_id, "revision": list.revision, "queued": item, "wakeTriggered": false })
    }

    /// Takes items off a node's list; what the node is told.
    pub fn drain(&mut self, node_id: &str, most: Option<usize>, now: i64) -> Value {
        let most = most.unwrap_or(DEFAULT_GIVEN);
        let mut list = self.0.remove(node_id).unwrap_or_default();
        list.drop_expired(now);
        let rest = list.items.split_off(list.items.len().min(most));
        let mut given = std::mem::replace(&mut list.items, rest);
        let (has_more, revision) = (!list.items.is_empty(), list.revision + u64::from(!given.is_empty()));
        if given.len() < most {
            given.push(Item {
                id: "baseline-status".into(),
                kind: "status.request".into(),
                priority: Priority::Default,
                created_at_ms: now,
                expires_at_ms: None,
            });
        }
        if has_more {
            self.0.insert(node_id.to_owned(), List { revision, items: list.items });
        }
        json!({ "nodeId": node_id, "revision": revision, "items": given, "hasMore": has_more })
    }

    /// The node is not one any more.
    pub fn forget(&mut self, node_id: &str) {
        self.0.remove(node_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recording `n2`.
    #[test]
    fn items_are_drained_once_the_urgent_first_and_the_status_last() {
        let mut work = Work::default();
        let empty = work.drain("n", None, 5);
        assert_eq!(
            empty,
            json!({ "nodeId": "n", "revision": 0, "hasMore": false, "items": [{
                "id": "baseline-status", "type": "status.request", "priority": "default", "createdAtMs": 5,
                "expiresAtMs": null,
            }] })
        );
        let normal = work.add("n", "status.request", Priority::Normal, DEFAULT_TTL_MS, 10);
        assert_eq!((&normal["revision"], &normal["queued"]["expiresAtMs"]), (&json!(1), &json!(86_400_010)));
        assert_eq!(normal["wakeTriggered"], false);
        let high = work.add("n", "location.request", Priority::High, 60_000, 11);
        assert_eq!(high["queued"]["priority"], "high");
        let drained = work.drain("n", Some(5), 12);
        let ids: Vec<_> = drained["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!(ids, [&high["queued"]["id"], &normal["queued"]["id"], &json!("baseline-status")]);
        assert_eq!((&drained["revision"], &drained["hasMore"]), (&json!(3), &json!(false)));
        assert_eq!(work.drain("n", None, 13)["items"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_too_old_or_too_much_goes() {
        let mut work = Work::default();
        work.add("n", "status.request", Priority::Normal, 1_000, 0);
        assert_eq!(work.drain("n", None, 1_000)["items"].as_array().unwrap().len(), 1, "only the status");
        for at in 0..200 {
            work.add("n", "status.request", Priority::Normal, 100_000, at);
        }
        work.add("other", "status.request", Priority::Normal, 100_000, 0);
        let first = work.drain("n", Some(10), 300);
        assert_eq!((first["items"].as_array().unwrap().len(), &first["hasMore"]), (10, &json!(true)));
        let rest = work.drain("n", Some(1_000), 300);
        assert_eq!(rest["items"].as_array().unwrap().len(), MAX_ITEMS - 10 + 1);
        work.forget("other");
        assert_eq!(work.drain("other", None, 0)["items"].as_array().unwrap().len(), 1);
    }
}
