//! What was told of what is wrong, and what is to be told next. Pure; it is kept in the store, so that a restart tells
//! nothing twice.
//!
//! Each trouble is told once, and once that it is over. One that comes and goes is told again [`AGAIN_AFTER`] later at
//! the soonest. What is due while somebody was told just now, or [`MOST_AN_HOUR`] times within an hour, waits, and is
//! told in one message with whatever else is due then: nothing is lost.

use super::trouble::Trouble;
use crate::settings::AlertEvent;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a trouble has to be away to be over, ms: an actor that is started anew may end again.
pub const WELL_AFTER: i64 = 60_000;
/// How long after it was told a trouble that has come back is told again, ms.
pub const AGAIN_AFTER: i64 = 10 * 60_000;
/// Least time between two messages, ms: what happens together is told together.
pub const GAP: i64 = 20_000;
/// Messages within an hour.
pub const MOST_AN_HOUR: usize = 20;
/// Troubles that are known at the same time; those beyond are told when others are over.
const MAX_KNOWN: usize = 500;
const HOUR: i64 = 3_600_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    known: BTreeMap<String, Known>,
    /// When somebody was told, within the last hour.
    sent: Vec<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    trouble: Trouble,
    /// When it was told last.
    told: Option<i64>,
    /// It was told, and not yet that it is over.
    open: bool,
    /// When it was there last.
    seen: i64,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something is wrong.
    Wrong(Trouble),
    /// It is not any more, since it was seen last (ms).
    Well(Trouble, i64),
}

impl News {
    /// The trouble it is about.
    pub fn trouble(&self) -> &Trouble {
        match self {
            Self::Wrong(trouble) | Self::Well(trouble, _) => trouble,
        }
    }
}

impl Ledger {
    /// What was kept of it. What was wrong then counts as seen now: it may be again in a moment.
    pub fn resumed(kept: &str, now: i64) -> Self {
        let mut ledger: Self = serde_json::from_str(kept).unwrap_or_default();
        ledger.known.values_mut().filter(|known| known.open).for_each(|known| known.seen = now);
        ledger
    }

    /// Takes up what is wrong now; returns what is to be told now.
    pub fn look(&mut self, troubles: Vec<Trouble>, now: i64) -> Vec<News> {
        for trouble in troubles {
            let name = trouble.name();
            if let Some(known) = self.known.get_mut(&name) {
                if !known.open {
                    known.trouble = trouble;
                }
                known.seen = now;
            } else if self.known.len() < MAX_KNOWN {
                self.known.insert(name, Known { trouble, told: None, open: false, seen: now });
            }
        }
        for known in self.known.values_mut() {
            // The wall clock may have gone back.
            known.seen = known.seen.min(now);
            known.told = known.told.map(|told| told.min(now));
        }
        self.known.retain(|_, known| known.open || known.seen == now || !known.may_be_told(now));
        self.sent.retain(|at| (now - HOUR..=now).contains(at));
        let just_now = self.sent.last().is_some_and(|last| now - last < GAP);
        if just_now || self.sent.len() >= MOST_AN_HOUR {
            return Vec::new();
        }
        self.known.values().filter_map(|known| self.news(known, now)).collect()
    }

    fn news(&self, known: &Known, now: i64) -> Option<News> {
        let Known { trouble, open, seen, .. } = known;
        if !open && *seen == now && known.may_be_told(now) {
            return Some(News::Wrong(trouble.clone()));
        }
        // One that was stuck and is parked now is not well.
        let ails = |other: &Known| other.trouble.subject == trouble.subject && other.seen == now;
        let over = *open && now - seen >= WELL_AFTER && !self.known.values().any(ails);
        over.then(|| News::Well(trouble.clone(), *seen))
    }

    /// This was told.
    pub fn told(&mut self, news: &[News], now: i64) {
        for one in news {
            let Some(known) = self.known.get_mut(&one.trouble().name()) else { continue };
            known.open = matches!(one, News::Wrong(_));
            if known.open {
                known.told = Some(now);
            }
        }
        self.sent.push(now);
    }

    /// Troubles that were told and are not over.
    pub fn open(&self) -> usize {
        self.known.values().filter(|known| known.open).count()
    }
}

impl Known {
    fn may_be_told(&self, now: i64) -> bool {
        self.told.is_none_or(|told| now - told >= AGAIN_AFTER)
    }
}

impl Trouble {
    /// Unique.
    fn name(&self) -> String {
        format!("{} {}", self.event.as_str(), self.subject)
    }
}

/// Of what is wrong that which is to be told.
pub fn wanted(troubles: Vec<Trouble>, events: &[AlertEvent]) -> Vec<Trouble> {
    troubles.into_iter().filter(|trouble| events.contains(&trouble.event)).collect()
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
