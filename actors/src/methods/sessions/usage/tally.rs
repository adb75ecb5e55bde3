//! Sums of what runs used, and how they look.

use crate::agents::Usage;
use crate::store::UsageRow;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The sum of some rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub runs: u64,
    answered: u64,
    errors: u64,
    pub used: Usage,
    unpriced: u64,
    durations: Vec<u64>,
}

impl Tally {
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> Self {
        let mut tally = Self::default();
        rows.into_iter().for_each(|row| tally.add(row));
        tally
    }

    fn add(&mut self, row: &UsageRow) {
        self.runs += row.runs;
        self.answered += row.answered;
        self.errors += row.errors;
        self.used = self.used + row.used;
        self.unpriced += row.unpriced;
        self.durations.extend(&row.durations);
    }

    /// Tokens and what they cost.
    pub fn totals(&self) -> Value {
        let (used, cost) = (&self.used, self.used.cost());
        json!({
            "input": used.input, "output": used.output, "cacheRead": used.cache_read,
            "cacheWrite": used.cache_write, "totalTokens": used.tokens(),
            "totalCost": cost.total(), "inputCost": cost.input, "outputCost": cost.output,
            "cacheReadCost": cost.cache_read, "cacheWriteCost": cost.cache_write,
            "missingCostEntries": self.unpriced,
        })
    }

    /// What was said: each run was asked something, and answered unless something came between.
    pub fn messages(&self) -> Value {
        json!({
            "total": self.runs + self.answered,
            "user": self.runs,
            "assistant": self.answered,
            "toolCalls": 0,
            "toolResults": 0,
            "errors": self.errors,
        })
    }

    pub fn message_count(&self) -> u64 {
        self.runs + self.answered
    }

    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How long answers took, if there were any.
    pub fn latency(&self) -> Option<Value> {
        let mut sorted = self.durations.clone();
        sorted.sort_unstable();
        let (min, max) = (sorted.first()?, sorted.last()?);
        let count = sorted.len();
        Some(json!({
            "count": count,
            "avgMs": sorted.iter().sum::<u64>() / count as u64,
            "minMs": min,
            "maxMs": max,
            "p95Ms": sorted[(count * 95).div_ceil(100) - 1],
        }))
    }
}

/// The sums of rows that have something in common.
pub fn by<'a, K: Ord>(
    rows: impl IntoIterator<Item = &'a UsageRow>,
    key: impl Fn(&'a UsageRow) -> K,
) -> BTreeMap<K, Tally> {
    let mut sums = BTreeMap::<K, Tally>::new();
    for row in rows {
        sums.entry(key(row)).or_default().add(row);
    }
    sums
}

/// The members of `more` beside those of `row`.
pub fn with(mut row: Value, more: Value) -> Value {
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_of_what_was_answered() {
        assert_eq!(Tally::default().latency(), None);
        let row = UsageRow { runs: 101, durations: (1..=100).rev().collect(), ..UsageRow::default() };
        let latency = Tally::of([&row]).latency().unwrap();
        let expected = json!({ "count": 100, "avgMs": 50, "minMs": 1, "maxMs": 100, "p95Ms": 95 });
        assert_eq!(latency, expected);
    }
}
