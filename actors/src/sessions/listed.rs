//! Answers of `sessions.list` that hold still. User interfaces ask for the same page again and again, also while nothing
//! happens: as long as nothing was written, no run began or ended and the configuration is the same, an answer
//! is as true as on the day it was made.

use crate::agents::Catalog;
use crate::estate::Estate;
use crate::settings::Loaded;
use crate::store::Db;
use arc_swap::ArcSwap;
use crabtree_protocol::{RunId, SessionKey};
use std::collections::HashMap;
use std::sync::Arc;

/// How long an answer is given at the most, in milliseconds: it tells the time it was made at.
const MAX_AGE_MS: i64 = 1_000;
/// Answers that are kept.
const MAX_ANSWERS: usize = 4;
/// Bytes of one that is kept at the most.
const MAX_BYTES: usize = 256 * 1024;

/// What an answer rests on.
pub struct Basis {
    db: Arc<Db>,
    writes: u64,
    config: Arc<Loaded>,
    catalog: Arc<Catalog>,
    active: HashMap<SessionKey, RunId>,
    now: i64,
}

impl Basis {
    /// As it is now; nothing before the database is open. Taken before an answer is made, for what is written meanwhile
    /// may be missing in it.
    pub fn of(estate: &Estate) -> Option<Self> {
        let db = estate.db.load_full()?;
        Some(Self {
            writes: db.writes(),
            db,
            config: estate.config.load_full(),
            catalog: estate.catalog.load_full(),
            active: estate.ledgers.active(),
            now: estate.clock.now_ms(),
        })
    }

    /// Whether an answer that was made then is true now.
    fn holds(&self, now: &Self) -> bool {
        Arc::ptr_eq(&self.db, &now.db)
            && self.writes == now.writes
            && Arc::ptr_eq(&self.config, &now.config)
            && Arc::ptr_eq(&self.catalog, &now.catalog)
            && self.active == now.active
            && (self.now..self.now + MAX_AGE_MS).contains(&now.now)
    }
}

/// One answer.
pub struct Answer {
    params: Box<str>,
    basis: Basis,
    /// The payload.
    pub json: Vec<u8>,
}

/// The last answers. Part of the Estate.
#[derive(Default)]
pub struct Listed(ArcSwap<Vec<Arc<Answer>>>);

impl Listed {
    /// What these parameters, as they were written, were answered, if it holds on this basis.
    pub fn find(&self, params: &str, now: &Basis) -> Option<Arc<Answer>> {
        let answers = self.0.load();
        answers.iter().find(|answer| *answer.params == *params && answer.basis.holds(now)).cloned()
    }

    /// Keeps an answer, unless it is large.
    pub fn keep(&self, params: Box<str>, basis: Basis, json: Vec<u8>) {
        if json.len() > MAX_BYTES || params.len() > MAX_BYTES {
            return;
        }
        let known = self.0.load();
        let others: Vec<_> = known.iter().filter(|answer| answer.params != params).cloned().collect();
        let newest = Arc::new(Answer { params, basis, json });
        let answers = [newest].into_iter().chain(others).take(MAX_ANSWERS).collect();
        // Of two at once one may be lost, which is made again when it is asked for.
        self.0.store(Arc::new(answers));
    }
}
