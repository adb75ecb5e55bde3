//! What has happened lately to the gateway itself, for `diagnostics.stability`: actors that ended, turns, trouble with
//! the disk, alerts. Names, counts and times; nothing that anybody said. Part of the Estate: it outlives every actor.

use crate::tree::{Lifecycle, NodeState};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Events that are kept; the oldest go first. As many as OpenClaw keeps.
pub const CAPACITY: usize = 1_000;

/// See the module.
#[derive(Default)]
pub struct Recorder(Mutex<Held>);

#[derive(Default)]
struct Held {
    events: VecDeque<Recorded>,
    /// How many there have been.
    seq: u64,
}

#[derive(Clone)]
struct Recorded {
    seq: u64,
    at: i64,
    kind: &'static str,
    facts: Map<String, Value>,
}

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// At most so many, the latest.
    pub limit: usize,
    /// Only those of this type.
    pub kind: Option<String>,
    /// Only those after this one.
    pub since: Option<u64>,
}

impl Recorder {
    /// Notes an event; `facts` is an object.
    pub fn note(&self, kind: &'static str, facts: Value, at: i64) {
        let Value::Object(facts) = facts else { return };
        let mut held = self.0.lock();
        held.seq += 1;
        let seq = held.seq;
        held.events.push_back(Recorded { seq, at, kind, facts });
        if held.events.len() > CAPACITY {
            held.events.pop_front();
        }
    }

    /// Notes how an actor fares. What was asked for is not news.
    pub fn lifecycle(&self, change: &Lifecycle, at: i64) {
        let kind = match change.state {
            _ if change.ordered => return,
            NodeState::Running if change.restarts > 0 => "actor.running",
            NodeState::Restarting => "actor.restarting",
            NodeState::Parked => "actor.parked",
            _ => return,
        };
        let exit = change.last_exit.as_ref().map(|exit| exit.kind.as_str());
        let facts =
            json!({ "path": &*change.path, "kind": change.kind, "restarts": change.restarts, "exit": exit });
        self.note(kind, facts, at);
    }

    /// What is wanted of it, in the recorded shape; `generated_at` is now, as clients read it.
    pub fn shown(&self, wanted: &Wanted, generated_at: &str) -> Value {
        let held = self.0.lock();
        let is_wanted = |event: &&Recorded| {
            wanted.kind.as_deref().is_none_or(|kind| kind == event.kind)
                && wanted.since.is_none_or(|since| event.seq > since)
        };
        let found: Vec<&Recorded> = held.events.iter().filter(is_wanted).collect();
        let mut by_type: BTreeMap<&str, u64> = BTreeMap::new();
        found.iter().for_each(|event| *by_type.entry(event.kind).or_default() += 1);
        let latest = &found[found.len().saturating_sub(wanted.limit)..];
        let mut shown = json!({
            "generatedAt": generated_at,
            "capacity": CAPACITY,
            "count": found.len(),
            "dropped": held.seq - held.events.len() as u64,
        });
        // Left out when there is none, as recorded.
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            shown["firstSeq"] = json!(first.seq);
            shown["lastSeq"] = json!(last.seq);
        }
        shown["events"] = latest.iter().map(|event| event.shown()).collect();
        shown["summary"] = json!({ "byType": by_type });
        shown
    }
}

impl Recorded {
    fn shown(&self) -> Value {
        let mut shown = json!({ "seq": self.seq, "ts": self.at, "type": self.kind });
        for (name, fact) in self.facts.iter().filter(|(_, fact)| !fact.is_null()) {
            shown[name] = fact.clone();
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_events_are_kept_and_the_rest_is_counted() {
        let recorder = Recorder::default();
        for n in 0..CAPACITY as i64 + 5 {
            let kind = if n % 2 == 0 { "run.ended" } else { "actor.parked" };
            recorder.note(kind, json!({ "n": n, "nothing": null }), n);
        }
        let all = recorder.shown(&Wanted { limit: 2, ..Wanted::default() }, "now");
        assert_eq!(
            (&all["count"], &all["dropped"], &all["firstSeq"]),
            (&json!(CAPACITY), &json!(5), &json!(6))
        );
        assert_eq!(all["events"][1], json!({ "seq": 1005, "ts": 1004, "type": "run.ended", "n": 1004 }));
        let few = Wanted { limit: 10, kind: Some("actor.parked".into()), since: Some(1_002) };
        let few = recorder.shown(&few, "now");
        assert_eq!(
            (&few["count"], &few["summary"]),
            (&json!(1), &json!({ "byType": { "actor.parked": 1 } }))
        );
        let none = Recorder::default().shown(&Wanted::default(), "now");
        let empty = json!({
            "generatedAt": "now", "capacity": CAPACITY, "count": 0, "dropped": 0, "events": [],
            "summary": { "byType": {} },
        });
        assert_eq!(none, empty);
    }
}
