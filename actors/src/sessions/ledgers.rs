//! Which turns run, and what of waiting submissions clients know. Part of the Estate.

use super::turn::Turn;
use crabtree_protocol::{RunId, SessionKey};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The running turns of all sessions, and which submissions that wait have been told to be delivered.
#[derive(Default)]
pub struct Ledgers {
    turns: Mutex<BTreeMap<RunId, Arc<Mutex<Turn>>>>,
    delivered: Mutex<HashSet<RunId>>,
}

impl Ledgers {
    /// Notes that a submission is told to be delivered; false if it was told before.
    pub fn deliver(&self, run_id: &RunId) -> bool {
        self.delivered.lock().insert(run_id.clone())
    }

    /// A submission has its outcome.
    pub fn settled(&self, run_id: &RunId) {
        self.delivered.lock().remove(run_id);
    }

    /// The turn of a run.
    pub fn get(&self, run_id: &RunId) -> Option<Arc<Mutex<Turn>>> {
        self.turns.lock().get(run_id).cloned()
    }

    /// Enters a turn, unless it is there already; returns the one that is.
    pub fn open(&self, turn: Turn) -> Arc<Mutex<Turn>> {
        self.turns.lock().entry(turn.run_id.clone()).or_insert_with(|| Arc::new(Mutex::new(turn))).clone()
    }

    /// The turn has been told to its end.
    pub fn close(&self, run_id: &RunId) {
        self.turns.lock().remove(run_id);
    }

    /// The turns of one session.
    pub fn of(&self, key: &SessionKey) -> Vec<Arc<Mutex<Turn>>> {
        self.turns.lock().values().filter(|t| t.lock().key == *key).cloned().collect()
    }

    /// How many turns are running or being told.
    pub fn count(&self) -> usize {
        self.turns.lock().len()
    }

    /// How many of them have begun in this process: an earlier one's that wait to be tried again lose nothing if they
    /// wait for the next.
    pub fn at_work(&self) -> usize {
        // The actor of an attempt is named after it, too.
        let has_begun = |turn: &&Arc<Mutex<Turn>>| {
            let turn = turn.lock();
            *turn.child != *turn.run_id.as_str()
        };
        self.turns.lock().values().filter(has_begun).count()
    }

    /// Keys of the sessions with a running turn, and the run.
    pub fn active(&self) -> HashMap<SessionKey, RunId> {
        let turns = self.turns.lock();
        turns
            .values()
            .map(|t| {
                let turn = t.lock();
                (turn.key.clone(), turn.run_id.clone())
            })
            .collect()
    }
}
