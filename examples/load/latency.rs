//! Latencies in a histogram, the report of a measurement, and a clock that says when calls are due.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Digits that a latency is exact to.
const DIGITS: u8 = 3;

/// Latencies in microseconds.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Self {
        Self(Histogram::new(DIGITS).expect("so many digits are allowed"))
    }

    pub fn record(&mut self, latency: Duration) {
        self.0 += u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    }

    pub fn add(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// At this share of all, in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        fine(self.0.value_at_quantile(share) as f64 / 1e3)
    }

    pub fn json(&self) -> Value {
        json!({ "p50Ms": self.at(0.5), "p90Ms": self.at(0.9), "p99Ms": self.at(0.99), "p999Ms": self.at(0.999),
            "maxMs": self.at(1.0) })
    }
}

/// To the microsecond, of milliseconds.
pub fn fine(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// What came of a measurement: its name and figures.
pub struct Report(Map<String, Value>);

impl Report {
    pub fn new(measure: impl Into<String>) -> Self {
        Self(Map::from_iter([("measure".to_owned(), Value::String(measure.into()))]))
    }

    pub fn with(mut self, name: &str, figure: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), figure.into());
        self
    }

    /// The figures of `latencies`, in an object of this name.
    pub fn latencies(self, name: &str, latencies: &Latencies) -> Self {
        self.with(name, latencies.json())
    }

    /// How many, and how many of them a second.
    pub fn rate(self, count: u64, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        let rate = (count as f64 / seconds).round() as u64;
        self.with("perSecond", rate).with("count", count).with("seconds", fine(seconds))
    }

    pub fn json(self) -> Value {
        Value::Object(self.0)
    }
}

/// The calls of an open loop: `per_second` of them until `seconds` have passed. Call `n` is due `n` intervals after the
/// beginning, whatever became of those before it, and its latency counts from there.
#[derive(Clone, Copy)]
pub struct Schedule {
    pub begun: Instant,
    pub calls: u64,
    interval: f64,
}

impl Schedule {
    pub fn new(per_second: f64, seconds: u64) -> Result<Self> {
        let valid = per_second.is_finite() && per_second > 0.0;
        let per_second = valid.then_some(per_second).context("a rate is more than 0 calls a second")?;
        let calls = ((per_second * seconds as f64) as u64).max(1);
        Ok(Self { begun: Instant::now(), calls, interval: per_second.recip() })
    }

    pub fn due(&self, call: u64) -> Instant {
        self.begun + Duration::from_secs_f64(self.interval * call as f64)
    }

    /// Hands out the calls as they are due, to `ways` in turn. On a thread of its own: the runtime's clock is only exact
    /// to the millisecond.
    pub fn start(self, ways: usize) -> Vec<UnboundedReceiver<u64>> {
        let (senders, receivers): (Vec<UnboundedSender<u64>>, Vec<_>) =
            (0..ways).map(|_| unbounded_channel()).unzip();
        std::thread::spawn(move || {
            for (call, sender) in (0..self.calls).zip(senders.iter().cycle()) {
                std::thread::sleep(self.due(call).saturating_duration_since(Instant::now()));
                if sender.send(call).is_err() {
                    return;
                }
            }
        });
        receivers
    }

    /// How many of them way `way` of so many gets.
    pub fn share(&self, way: usize, ways: usize) -> u64 {
        let (way, ways) = (way as u64, ways as u64);
        self.calls / ways + u64::from(way < self.calls % ways)
    }
}
