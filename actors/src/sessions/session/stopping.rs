//! Stopping: what waits and what runs is ended at once, by people who abort it or by a message that takes its
//! place. Whoever asked is answered when that is durable.

use super::{Abort, Session, SessionMsg};
use crate::agents::Usage;
use crate::sessions::outcome::{INTERRUPTED, Status};
use crate::sessions::queue::is_detached;
use crate::sessions::session::ending::outcome;
use crate::sessions::turn::Turn;
use crate::store::{InputRow, InputState};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::RunId;
use parking_lot::Mutex;

/// What was ended.
struct Ended {
    /// The run as whoever asked knows it.
    named: RunId,
    /// The run whose outcome is written.
    turn: RunId,
}

impl Session {
    pub(super) fn abort(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        run_id: Option<RunId>,
        reason: &'static str,
        done: Reply<Vec<RunId>>,
    ) {
        // What others have stopped, or has just ended, is not over before it is durable.
        let named = |id: &&RunId| run_id.as_ref().is_none_or(|only| only == *id);
        let ending: Vec<RunId> = self.settling.iter().filter(named).cloned().collect();
        let queued = self.backlog.take_named(run_id.as_ref());
        let mut ended: Vec<Ended> =
            queued.into_iter().filter_map(|rows| self.stop_queued(ctx, rows, reason)).collect();
        let named = |active: &super::Active| run_id.as_ref().is_none_or(|id| active.is_named(id));
        if self.active.as_ref().is_some_and(named) {
            ended.extend(self.stop_active(ctx, reason));
        }
        self.answer_when(ended, ending, done);
    }

    /// Answers with what was ended, once that and what was `ending` already is durable.
    fn answer_when(&mut self, ended: Vec<Ended>, ending: Vec<RunId>, done: Reply<Vec<RunId>>) {
        let left = ended.iter().map(|ended| ended.turn.clone()).chain(ending).collect();
        self.aborts.push(Abort { left, all: ended.into_iter().map(|ended| ended.named).collect(), done });
        self.answer_aborts(&[]);
    }

    /// Ends the turn that runs, at once; returns its run, unless it has ended already.
    fn stop_active(&mut self, ctx: &mut Ctx<SessionMsg>, reason: &str) -> Option<Ended> {
        let active = self.active.as_mut().filter(|active| !active.ended)?;
        active.ended = true;
        active.pace = None;
        let (run_id, rows, turn) = (active.run_id.clone(), active.rows.clone(), active.turn.clone());
        let child = turn.lock().child.clone();
        ctx.kill_child(&child);
        self.settle_aborted(ctx, &turn, &rows, reason);
        Some(Ended { named: run_id.clone(), turn: run_id })
    }

    /// What was to interrupt and has not begun, and what runs, make room for another; `done` hears which they were
    /// when that is durable.
    pub(super) fn make_room(&mut self, ctx: &mut Ctx<SessionMsg>, done: Reply<Vec<RunId>>) {
        let waiting = self.backlog.take_interrupting();
        let mut ended: Vec<Ended> =
            waiting.into_iter().filter_map(|row| self.stop_queued(ctx, vec![row], INTERRUPTED)).collect();
        ended.extend(self.stop_active(ctx, INTERRUPTED));
        self.answer_when(ended, Vec::new(), done);
    }

    /// Ends what would have been answered by one turn.
    fn stop_queued(&mut self, ctx: &mut Ctx<SessionMsg>, rows: Vec<InputRow>, reason: &str) -> Option<Ended> {
        let first = rows.first()?;
        let named = RunId::from(first.run_id.as_str());
        let turn = first.turn.as_deref().map_or_else(|| named.clone(), RunId::from);
        let ledger = self.ledger(&turn, &rows, ctx.now_ms());
        self.settle_aborted(ctx, &ledger, &rows, reason);
        Some(Ended { named, turn })
    }

    fn settle_aborted(
        &mut self,
        ctx: &mut Ctx<SessionMsg>,
        turn: &Mutex<Turn>,
        rows: &[InputRow],
        reason: &str,
    ) {
        let outcome = outcome(&turn.lock(), Status::Aborted, reason, Usage::default(), None, ctx.now_ms());
        self.settle(turn, rows, InputState::Settled, outcome);
    }

    /// Answers who waits for ends, now that these are durable.
    pub(super) fn answer_aborts(&mut self, settled: &[RunId]) {
        for abort in &mut self.aborts {
            settled.iter().for_each(|run_id| {
                abort.left.remove(run_id);
            });
        }
        for abort in self.aborts.extract_if(.., |abort| abort.left.is_empty()) {
            abort.done.send(abort.all);
        }
    }
}

impl super::Active {
    /// Whether somebody who stops this run means this turn: by its name, or by that of the submission that
    /// began it.
    fn is_named(&self, run_id: &RunId) -> bool {
        self.run_id == *run_id
            || self.rows.first().is_some_and(|row| row.run_id == run_id.as_str() && is_detached(row))
    }
}
