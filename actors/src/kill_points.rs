//! Named places in the path of an input where the process can be told to die (`system.chaos`), so that tests
//! can look at what is left. Between two of them everything is either a commit or forgotten with the process.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Where the process can die, in the order in which an input passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// The store has operations in hand, and has not begun their transaction.
    StoreBeforeBegin,
    /// The operations are done and not committed.
    StoreAfterOps,
    /// They are committed, and nobody was told.
    StoreAfterCommit,
    /// An input is durable and not acknowledged.
    SessionBeforeAck,
    /// It is acknowledged, and its run has not begun.
    SessionAfterAck,
    /// An input that waited is about to have an attempt counted.
    SessionBeforeAttempt,
    /// An attempt is counted, and its run has not begun.
    SessionAttempt,
    /// The model is about to be asked.
    RunModel,
    /// The model has answered, and the session was not told.
    RunOver,
    /// A tool is about to run; if it has effects outside, that is durable.
    ToolBegun,
    /// An answer that calls tools is written, and nobody was told.
    SessionCalled,
    /// An outcome is known and about to be written.
    SessionBeforeSettle,
    /// It is written, and nobody was told.
    SessionAfterSettle,
    /// Inputs have joined a turn, and neither the run nor anybody else was told.
    SessionJoined,
    /// A change of a session is written, and nobody was told.
    SessionChanged,
    /// A message is noted as being sent, and was not handed to its channel.
    DeliveryBegun,
    /// The channel has said what became of it, and that is not written.
    DeliverySent,
    /// The draft of an answer is noted as being sent, and was not handed to its channel.
    DraftBegun,
    /// The channel has sent it, and under which id is not written.
    DraftSent,
}

/// Every point under the name `system.chaos` takes.
pub const KILL_POINTS: &[(&str, KillPoint)] = &[
    ("store.before_begin", KillPoint::StoreBeforeBegin),
    ("store.after_ops", KillPoint::StoreAfterOps),
    ("store.after_commit", KillPoint::StoreAfterCommit),
    ("session.before_ack", KillPoint::SessionBeforeAck),
    ("session.after_ack", KillPoint::SessionAfterAck),
    ("session.before_attempt", KillPoint::SessionBeforeAttempt),
    ("session.attempt", KillPoint::SessionAttempt),
    ("run.model", KillPoint::RunModel),
    ("run.over", KillPoint::RunOver),
    ("tool.begun", KillPoint::ToolBegun),
    ("session.called", KillPoint::SessionCalled),
    ("session.before_settle", KillPoint::SessionBeforeSettle),
    ("session.after_settle", KillPoint::SessionAfterSettle),
    ("session.joined", KillPoint::SessionJoined),
    ("session.changed", KillPoint::SessionChanged),
    ("delivery.begun", KillPoint::DeliveryBegun),
    ("delivery.sent", KillPoint::DeliverySent),
    ("draft.begun", KillPoint::DraftBegun),
    ("draft.sent", KillPoint::DraftSent),
];

impl KillPoint {
    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The points that are armed. Part of the Estate.
#[derive(Default)]
pub struct KillPoints(AtomicU32);

impl KillPoints {
    /// The next time `point` is reached, the process aborts.
    pub fn arm(&self, point: KillPoint) {
        self.0.fetch_or(point.bit(), Relaxed);
    }

    /// Passes the point, or dies there without unwinding or flushing anything.
    pub fn reach(&self, point: KillPoint) {
        if self.0.load(Relaxed) & point.bit() != 0 {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_one_name_and_one_bit() {
        let bits: Vec<u32> = KILL_POINTS.iter().map(|(_, point)| point.bit()).collect();
        let expected: Vec<u32> = (0..KILL_POINTS.len()).map(|n| 1 << n).collect();
        assert_eq!(bits, expected, "the table stands in the order of the enum");
    }
}
