//! What a model's work takes: tokens, and what they cost.

use crate::settings::{Prices, Usd};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::iter::Sum;
use std::ops::Add;

/// Tokens used by a call of a model, or by several, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Usage {
    /// Read by the model, and not found in its cache.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Found in its cache.
    pub cache_read: u64,
    /// Put into its cache.
    pub cache_write: u64,
    /// What they cost, if that is known.
    pub cost: Option<Cost>,
}

/// What tokens cost, by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cost {
    /// Read by the model, and not found in its cache.
    pub input: Usd,
    /// Written by the model.
    pub output: Usd,
    /// Found in its cache.
    pub cache_read: Usd,
    /// Put into its cache.
    pub cache_write: Usd,
}

impl Usage {
    /// So many tokens, for which nobody pays.
    pub fn free(input: u64, output: u64) -> Self {
        Self { input, output, cost: Some(Cost::default()), ..Self::default() }
    }

    /// The same tokens, at these prices.
    pub fn at(self, prices: Prices) -> Self {
        let cost = Cost {
            input: Prices::of(self.input, prices.input),
            output: Prices::of(self.output, prices.output),
            cache_read: Prices::of(self.cache_read, prices.cache_read),
            cache_write: Prices::of(self.cache_write, prices.cache_write),
        };
        Self { cost: Some(cost), ..self }
    }

    /// Tokens the model was shown.
    pub fn shown(&self) -> u64 {
        self.input + self.cache_read + self.cache_write
    }

    /// All tokens.
    pub fn tokens(&self) -> u64 {
        self.shown() + self.output
    }

    /// What is known of their cost.
    pub fn cost(&self) -> Cost {
        self.cost.unwrap_or_default()
    }

    /// As transcripts and clients have it, in the recorded shape.
    pub fn told(&self) -> Value {
        let cost = self.cost();
        json!({
            "input": self.input, "output": self.output, "totalTokens": self.tokens(),
            "cacheRead": self.cache_read, "cacheWrite": self.cache_write,
            "cost": {
                "input": cost.input, "output": cost.output, "cacheRead": cost.cache_read,
                "cacheWrite": cost.cache_write, "total": cost.total(),
            },
        })
    }
}

impl Cost {
    /// All together.
    pub fn total(&self) -> Usd {
        [self.input, self.output, self.cache_read, self.cache_write].into_iter().sum()
    }
}

impl Add for Usage {
    type Output = Self;

    /// What is known of the costs is summed up.
    fn add(self, more: Self) -> Self {
        let known = [self.cost, more.cost].into_iter().flatten();
        Self {
            input: self.input + more.input,
            output: self.output + more.output,
            cache_read: self.cache_read + more.cache_read,
            cache_write: self.cache_write + more.cache_write,
            cost: known.reduce(|one, other| Cost {
                input: one.input + other.input,
                output: one.output + other.output,
                cache_read: one.cache_read + other.cache_read,
                cache_write: one.cache_write + other.cache_write,
            }),
        }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { input: 1.0, output: 2.0, cache_read: 0.1, cache_write: 1.25 };

    #[test]
    fn a_call_is_told_as_recorded() {
        let told = Usage { input: 100, output: 5, ..Usage::default() }.at(PRICES).told();
        let recorded = json!({
            "input": 100, "output": 5, "totalTokens": 105, "cacheRead": 0, "cacheWrite": 0,
            "cost": { "input": 0.0001, "output": 1e-05, "cacheRead": 0, "cacheWrite": 0, "total": 0.00011 },
        });
        assert_eq!(told, recorded);
        assert_eq!(serde_json::from_value::<Usage>(told.clone()).unwrap().told(), told, "it is read again");
    }

    #[test]
    fn the_cache_has_prices_of_its_own() {
        let used = Usage { input: 10, output: 1, cache_read: 1000, cache_write: 100, cost: None }.at(PRICES);
        assert_eq!((used.shown(), used.tokens()), (1110, 1111));
        assert_eq!(used.cost().total(), Usd::from(0.000_01 + 0.000_002 + 0.000_1 + 0.000_125));
    }

    #[test]
    fn what_is_known_of_costs_is_summed_up() {
        let unknown = Usage { input: 1, output: 1, ..Usage::default() };
        let known = unknown.at(PRICES);
        let sum = [known, unknown, known].into_iter().sum::<Usage>();
        assert_eq!((sum.input, sum.cost().total()), (3, Usd::from(0.000_006)));
        assert_eq!((unknown + unknown).cost, None);
        assert_eq!(Usage::free(3, 4).cost, Some(Cost::default()));
        let before: Usage = serde_json::from_value(json!({ "input": 1, "output": 1 })).unwrap();
        assert_eq!(before, unknown, "as it was written before costs were counted");
    }
}
