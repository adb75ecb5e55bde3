//! What is under way: what a restart would interrupt, and what a suspension waits for.

use crate::store::{self, Store};
use crabtree_protocol::params::lifecycle::{Blocker, Preflight, RestartCounts};

/// Rows of the outbox's counts that are looked at: so many accounts and states.
const MAX_ROWS: u32 = 1_000;

/// What is under way now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Inputs that wait for their turn.
    pub queued: u64,
    /// Answers on their way to channels.
    pub replies: u64,
    /// Turns.
    pub turns: u64,
    /// Requests of clients that wait for their answer.
    pub requests: u64,
}

impl Work {
    /// What is under way, beside `asking` requests that want to know. A store that does not answer has nothing waiting
    /// that would be lost.
    pub async fn of(store: &Store, asking: u64) -> Self {
        let counted = store.read(|c| Ok((store::counts(c)?.queued, store::outbox(c, MAX_ROWS)?))).await;
        let (queued, outbox) = counted.unwrap_or_default();
        Self {
            queued: u64::try_from(queued).unwrap_or(0),
            replies: outbox.iter().map(|(.., count)| count).sum(),
            turns: store.estate.ledgers.count() as u64,
            requests: store.estate.conns.requests().saturating_sub(asking),
        }
    }

    /// All together.
    pub fn total(self) -> u64 {
        self.queued + self.replies + self.turns + self.requests
    }

    /// The same in words, as recorded.
    pub fn blockers(self) -> Vec<Blocker> {
        [
            (self.queued, "queue", "queued or active operation(s)"),
            (self.replies, "reply", "pending reply delivery operation(s)"),
            (self.turns, "embedded-run", "active embedded run(s)"),
            (self.requests, "root-request", "active gateway request(s)"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, kind, what)| Blocker { kind: kind.into(), count, message: format!("{count} {what}") })
        .collect()
    }

    /// The answer of `gateway.restart.preflight`.
    pub fn preflight(self) -> Preflight {
        let blockers = self.blockers();
        let words: Vec<&str> = blockers.iter().map(|blocker| blocker.message.as_str()).collect();
        let summary = match words.is_empty() {
            true => "safe to restart now".into(),
            false => format!("restart deferred: {}", words.join("; ")),
        };
        let counts = RestartCounts {
            queue_size: self.queued,
            pending_replies: self.replies,
            embedded_runs: self.turns,
            root_requests: self.requests,
            total_active: self.total(),
            ..RestartCounts::default()
        };
        Preflight { safe: self.total() == 0, counts, blockers, summary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_under_way_is_counted_and_told_in_the_recorded_words() {
        let idle = serde_json::to_value(Work::default().preflight()).unwrap();
        let recorded = json!({ "safe": true, "counts": { "queueSize": 0, "pendingReplies": 0, "embeddedRuns": 0,
            "cronRuns": 0, "backgroundExecSessions": 0, "rootRequests": 0, "activeTasks": 0, "totalActive": 0 },
            "blockers": [], "summary": "safe to restart now" });
        assert_eq!(idle, recorded);
        let busy = Work { turns: 2, requests: 1, ..Work::default() }.preflight();
        assert_eq!((busy.safe, busy.counts.total_active), (false, 3));
        assert_eq!(busy.summary, "restart deferred: 2 active embedded run(s); 1 active gateway request(s)");
    }
}
