//! Which call of a command belongs to which result. Every call ends once: with the node's result, at its deadline, when
//! the node's socket is gone, or because nobody waits any more. A node that says it is not ready is asked again, as long
//! as it has told nothing. Pure: time is what the caller says it is.

use crabtree_protocol::ConnId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a call may take unless its caller says otherwise.
pub const DEFAULT_BUDGET: Duration = Duration::from_secs(30);
/// The longest a call may take, whatever its caller says.
pub const MAX_BUDGET: Duration = Duration::from_secs(3_600);
/// Calls that may be open at the same time, over all nodes; the next one is refused.
pub const MAX_OPEN: usize = 1_000;
/// A node that is not ready is asked again after these, as recorded.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
];
/// What a node says that has not begun and will be able to soon.
const NOT_READY: &str = "NODE_NOT_READY";

/// A command for a node, and who waits for what comes of it.
#[derive(Debug)]
pub struct Call<A> {
    /// The node.
    pub node_id: String,
    /// The command.
    pub command: String,
    /// Its parameters as JSON.
    pub params: Option<String>,
    /// Handed on; the same key twice is two calls, as recorded.
    pub idempotency_key: Option<String>,
    /// Until when, by the gateway's own time.
    pub deadline: Duration,
    /// How often the node was not ready.
    pub tries: usize,
    /// Who waits.
    pub asker: A,
}

impl<A> Call<A> {
    /// What is left of its time.
    pub fn left(&self, now: Duration) -> Duration {
        self.deadline.saturating_sub(now)
    }
}

/// What a node says went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeError {
    /// Its word for it.
    pub code: Option<String>,
    /// Its words for people.
    pub message: Option<String>,
}

/// What a node sends back.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done: what came of it, and the same as the text it was sent as.
    Done(Value, Option<String>),
    /// It is not.
    Failed(NodeError),
}

/// What a result means.
#[derive(Debug)]
pub enum Heard<A> {
    /// Nobody waits for it any more, or it is not this node's to give.
    Ignored,
    /// It is the end of the call.
    Over(Call<A>, Answer),
    /// The call is to be made again after a while.
    Again(Call<A>, Duration),
}

struct Open<A> {
    conn: ConnId,
    call: Call<A>,
    /// The node has told how it goes: it has begun, so it is not asked again.
    begun: bool,
}

/// The calls that nodes work on.
pub struct Calls<A> {
    open: BTreeMap<String, Open<A>>,
}

impl<A> Default for Calls<A> {
    fn default() -> Self {
        Self { open: BTreeMap::new() }
    }
}

impl<A> Calls<A> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A call went out to this connection under this id.
    pub fn opened(&mut self, id: String, conn: ConnId, call: Call<A>) {
        self.open.insert(id, Open { conn, call, begun: false });
    }

    /// The node on this connection tells how a call goes; whether it was its to tell.
    pub fn progress(&mut self, id: &str, conn: ConnId) -> bool {
        let open = self.open.get_mut(id).filter(|open| open.conn == conn);
        open.map(|open| open.begun = true).is_some()
    }

    /// The node on this connection sends a result. Only whoever was asked can answer.
    pub fn result(&mut self, id: &str, conn: ConnId, answer: Answer, now: Duration) -> Heard<A> {
        if self.open.get(id).is_none_or(|open| open.conn != conn) {
            return Heard::Ignored;
        }
        let Some(Open { mut call, begun, .. }) = self.open.remove(id) else { return Heard::Ignored };
        let not_ready = matches!(&answer, Answer::Failed(error) if error.code.as_deref() == Some(NOT_READY));
        match RETRIES.get(call.tries).filter(|_| not_ready && !begun) {
            Some(wait) if *wait < call.left(now) => {
                call.tries += 1;
                Heard::Again(call, *wait)
            }
            _ => Heard::Over(call, answer),
        }
    }

    /// The id of the call of whoever this is.
    pub fn find(&self, is: impl Fn(&A) -> bool) -> Option<String> {
        self.open.iter().find(|(_, open)| is(&open.call.asker)).map(|(id, _)| id.clone())
    }

    /// Ends a call: its time is up, or nobody waits for it. With the connection that works on it.
    pub fn close(&mut self, id: &str) -> Option<(ConnId, Call<A>)> {
        self.open.remove(id).map(|open| (open.conn, open.call))
    }

    /// A connection is gone: these calls end with it.
    pub fn left(&mut self, conn: ConnId) -> Vec<Call<A>> {
        let gone: Vec<String> =
            self.open.iter().filter(|(_, open)| open.conn == conn).map(|(id, _)| id.clone()).collect();
        gone.iter().filter_map(|id| self.open.remove(id)).map(|open| open.call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(budget_ms: u64) -> Call<&'static str> {
        Call {
            node_id: "n".into(),
            command: "camera.list".into(),
            params: None,
            idempotency_key: None,
            deadline: Duration::from_millis(budget_ms),
            tries: 0,
            asker: "somebody",
        }
    }

    fn not_ready() -> Answer {
        Answer::Failed(NodeError { code: Some(NOT_READY.into()), message: Some("cleanup".into()) })
    }

    fn done() -> Answer {
        Answer::Done(json!({}), None)
    }

    const START: Duration = Duration::ZERO;

    #[test]
    fn a_result_ends_its_call_once_and_late_ones_are_ignored() {
        let (mut calls, conn) = (Calls::default(), ConnId::random());
        calls.opened("1".into(), conn, call(1_000));
        assert!(
            matches!(calls.result("1", conn, done(), START), Heard::Over(call, Answer::Done(..)) if call.asker == "somebody")
        );
        assert!(matches!(calls.result("1", conn, done(), START), Heard::Ignored));
        calls.opened("2".into(), conn, call(1_000));
        assert!(calls.close("2").is_some_and(|(on, _)| on == conn));
        assert!(matches!(calls.result("2", conn, done(), START), Heard::Ignored));
        assert!(calls.is_empty());
    }

    #[test]
    fn only_the_connection_that_was_asked_can_answer() {
        let (mut calls, conn, other) = (Calls::default(), ConnId::random(), ConnId::random());
        calls.opened("1".into(), conn, call(1_000));
        assert!(matches!(calls.result("1", other, done(), START), Heard::Ignored));
        assert!(!calls.progress("1", other) && !calls.progress("2", conn));
        assert_eq!(calls.left(other).len(), 0);
        assert_eq!(calls.len(), 1, "it still waits");
        assert!(matches!(calls.result("1", conn, done(), START), Heard::Over(..)));
    }

    /// The recording `n2`: five dispatches, and the delays between them.
    #[test]
    fn a_node_that_is_not_ready_is_asked_four_times_more() {
        let (mut calls, conn) = (Calls::default(), ConnId::random());
        let (mut next, mut waits, mut now) = (call(30_000), Vec::new(), START);
        loop {
            calls.opened("x".into(), conn, next);
            match calls.result("x", conn, not_ready(), now) {
                Heard::Again(again, wait) => {
                    (waits, now) = ([waits, vec![wait.as_millis()]].concat(), now + wait);
                    assert_eq!(again.left(now), Duration::from_millis(30_000) - now, "the budget shrinks");
                    next = again;
                }
                Heard::Over(_, answer) => {
                    assert_eq!(answer, not_ready());
                    break;
                }
                Heard::Ignored => panic!("ignored"),
            }
        }
        assert_eq!(waits, [100, 250, 500, 1_000]);
    }

    #[test]
    fn it_is_not_asked_again_when_it_has_begun_or_no_time_is_left() {
        let (mut calls, conn) = (Calls::default(), ConnId::random());
        calls.opened("1".into(), conn, call(30_000));
        assert!(calls.progress("1", conn));
        assert!(matches!(calls.result("1", conn, not_ready(), START), Heard::Over(..)));
        calls.opened("2".into(), conn, call(100));
        assert!(matches!(calls.result("2", conn, not_ready(), START), Heard::Over(..)));
        calls.opened("3".into(), conn, call(101));
        assert!(matches!(calls.result("3", conn, not_ready(), START), Heard::Again(..)));
        let busy = Answer::Failed(NodeError { code: Some("UNAVAILABLE".into()), message: None });
        calls.opened("4".into(), conn, call(30_000));
        assert!(matches!(calls.result("4", conn, busy, START), Heard::Over(..)));
    }

    #[test]
    fn all_calls_of_a_connection_end_with_it() {
        let (mut calls, conn, other) = (Calls::default(), ConnId::random(), ConnId::random());
        for (id, on) in [("1", conn), ("2", other), ("3", conn)] {
            calls.opened(id.into(), on, call(1_000));
        }
        assert_eq!(calls.left(conn).len(), 2);
        assert!(matches!(calls.result("1", conn, done(), START), Heard::Ignored));
        assert!(matches!(calls.result("2", other, done(), START), Heard::Over(..)));
    }
}
