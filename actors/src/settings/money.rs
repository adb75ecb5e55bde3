//! Sums of money: what a model's work costs, and how much of it a run may take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// The smallest sums that are told apart, in a dollar.
const PARTS: u64 = 10_000_000_000;

/// US dollars, in ten-billionths, so that sums have no noise behind their tenth decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(from = "f64")]
pub struct Usd(u64);

impl From<f64> for Usd {
    fn from(dollars: f64) -> Self {
        // What is negative or no number becomes nothing, what is too much the most.
        Self((dollars * PARTS as f64).round() as u64)
    }
}

impl From<Usd> for f64 {
    fn from(sum: Usd) -> Self {
        sum.0 as f64 / PARTS as f64
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Add::add)
    }
}

/// Nothing is `0`, as clients know it of JavaScript.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => serializer.serialize_u64(0),
            _ => serializer.serialize_f64(f64::from(*self)),
        }
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "${}", f64::from(*self))
    }
}

/// `cost` of a model: US dollars for a million tokens of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Prices {
    /// Read by the model, and not found in its cache.
    pub input: f64,
    /// Written by it.
    pub output: f64,
    /// Found in its cache.
    pub cache_read: f64,
    /// Put into its cache.
    pub cache_write: f64,
}

impl Prices {
    /// What so many tokens cost at one of the prices.
    pub fn of(tokens: u64, price: f64) -> Usd {
        Usd::from(tokens as f64 * price / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums_have_no_noise() {
        let cost = Prices::of(100, 1.0) + Prices::of(4, 2.0) + Prices::of(0, 9.0);
        assert_eq!(json!(cost).to_string(), "0.000108");
        assert_eq!(json!([cost, Usd::default()]), json!([0.000108, 0]));
        assert_eq!(serde_json::from_value::<Usd>(json!(0.00010800000000000001)).unwrap(), cost);
        assert_eq!((0..1000).map(|_| Usd::from(0.1)).sum::<Usd>(), Usd::from(100.0));
        assert_eq!((cost.to_string(), Usd::from(2.5).to_string()), ("$0.000108".into(), "$2.5".into()));
    }

    #[test]
    fn what_is_no_sum_is_nothing() {
        assert_eq!([-1.0, f64::NAN].map(Usd::from), [Usd::default(); 2]);
        assert!(Usd::from(f64::INFINITY) + Usd::from(1.0) > Usd::from(1e8));
    }
}
