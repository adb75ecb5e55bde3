//! What is counted while the gateway runs, for `/metrics`. Part of the Estate: no actor's crash sets a counter back.
//!
//! Where many threads come by, counting is one relaxed atomic: no lock, no allocation, nobody waits. What has labels
//! is counted under a short lock, and only where a disk, a network or a person is waited for anyway. Every set of
//! labels is bounded: what comes later than the last that fits is counted as [`OTHER`].

use crate::agents::Usage;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The label of what has none of its own any more.
pub const OTHER: &str = "other";
/// Models, tools or accounts that have labels of their own.
const MAX_LABELS: usize = 100;

/// Upper bounds of a request's time, in microseconds.
const REQUEST_BOUNDS: [u64; 10] =
    [100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000, 60_000_000];
/// The same of a commit.
const COMMIT_BOUNDS: [u64; 9] = [500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];
/// The same of a turn, and of waiting for one.
const TURN_BOUNDS: [u64; 9] =
    [10_000, 100_000, 500_000, 2_000_000, 10_000_000, 30_000_000, 120_000_000, 600_000_000, 3_600_000_000];

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many so far.
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are at the moment.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// One that is counted for as long as this lives.
pub struct Inside<'a>(&'a Gauge);

impl Gauge {
    /// One more, until it is dropped.
    pub fn enter(&self) -> Inside<'_> {
        self.0.fetch_add(1, Relaxed);
        Inside(self)
    }

    /// How many.
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// How long something takes, in classes.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    classes: [AtomicU64; N],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

/// A histogram as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Upper bound of each class, in microseconds, and how many were within it or below.
    pub classes: Vec<(u64, u64)>,
    /// How many there were.
    pub count: u64,
    /// All together, in microseconds.
    pub sum_us: u64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        let zero = || AtomicU64::new(0);
        Self { bounds, classes: std::array::from_fn(|_| zero()), beyond: zero(), sum_us: zero() }
    }

    /// One took this long.
    pub fn observe(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = self.bounds.iter().position(|bound| us <= *bound);
        class.map_or(&self.beyond, |class| &self.classes[class]).fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// The same, in milliseconds of a wall clock that may have gone back.
    pub fn observe_ms(&self, ms: i64) {
        self.observe(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    }

    /// Adds what another has seen.
    fn take_over(&self, other: &Self) {
        for (mine, theirs) in self.classes.iter().zip(&other.classes) {
            mine.fetch_add(theirs.load(Relaxed), Relaxed);
        }
        self.beyond.fetch_add(other.beyond.load(Relaxed), Relaxed);
        self.sum_us.fetch_add(other.sum_us.load(Relaxed), Relaxed);
    }

    /// As it is now.
    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let classes = self.bounds.iter().zip(&self.classes).map(|(bound, class)| {
            count += class.load(Relaxed);
            (*bound, count)
        });
        let classes = classes.collect();
        count += self.beyond.load(Relaxed);
        Distribution { classes, count, sum_us: self.sum_us.load(Relaxed) }
    }
}

/// Figures by label, at most 100 of them.
#[derive(Debug)]
pub struct Labelled<K, V> {
    other: K,
    rows: Mutex<BTreeMap<K, V>>,
}

impl<K: Ord + Clone, V: Default + Clone> Labelled<K, V> {
    fn new(other: K) -> Self {
        Self { other, rows: Mutex::default() }
    }

    /// Changes the figure of a label.
    pub fn change(&self, label: K, change: impl FnOnce(&mut V)) {
        let mut rows = self.rows.lock();
        let known = rows.len() < MAX_LABELS || rows.contains_key(&label);
        change(rows.entry(if known { label } else { self.other.clone() }).or_default());
    }

    /// All of them.
    pub fn read(&self) -> BTreeMap<K, V> {
        self.rows.lock().clone()
    }
}

impl<K: Ord + Clone> Labelled<K, u64> {
    /// One more.
    pub fn count(&self, label: K) {
        self.change(label, |figure| *figure += 1);
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// With what was asked for.
    Well,
    /// It was refused.
    Refused,
    /// It may be asked again.
    Unavailable,
}

/// The requests of one connection: an atomic that several processors share is slow, and this one's are not shared.
#[derive(Debug)]
pub struct Tally {
    answers: [AtomicU64; 3],
    times: Histogram<10>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { answers: std::array::from_fn(|_| AtomicU64::new(0)), times: Histogram::new(&REQUEST_BOUNDS) }
    }
}

impl Tally {
    /// A request was answered, and took this long if that is known.
    pub fn count(&self, answered: Answered, time: Option<Duration>) {
        self.answers[answered as usize].fetch_add(1, Relaxed);
        if let Some(time) = time {
            self.times.observe(time);
        }
    }

    /// Adds those of another.
    pub fn take_over(&self, other: &Self) {
        for (mine, theirs) in self.answers.iter().zip(&other.answers) {
            mine.fetch_add(theirs.load(Relaxed), Relaxed);
        }
        self.times.take_over(&other.times);
    }

    /// How many were answered how, and how long they took.
    pub fn read(&self) -> ([(&'static str, u64); 3], Distribution) {
        let [ok, refused, unavailable] = &self.answers;
        let read = |figure: &AtomicU64| figure.load(Relaxed);
        let answers = [("ok", read(ok)), ("refused", read(refused)), ("unavailable", read(unavailable))];
        (answers, self.times.read())
    }
}

/// What is waiting for clients, and what could not wait. Shared by all outboxes.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Bytes that wait.
    pub bytes: std::sync::atomic::AtomicUsize,
    /// Droppable events that were dropped.
    pub dropped: Counter,
    /// Clients that were given up because they read too slowly.
    pub slow: Counter,
}

/// See the module.
#[derive(Debug)]
pub struct Meters {
    /// Actors that were brought back, by kind.
    pub restarts: Labelled<&'static str, u64>,
    /// Actors that were given up, by kind.
    pub parkings: Labelled<&'static str, u64>,
    /// Clients that were not let in, by reason.
    pub refused: Labelled<String, u64>,
    /// Sockets that ended: with the code of our close, or by the client.
    pub closed: Labelled<Option<u16>, u64>,
    /// Turns that ended, by outcome.
    pub runs: Labelled<&'static str, u64>,
    /// How long they took.
    pub run_times: Histogram<9>,
    /// How long an input waited for its turn.
    pub waits: Histogram<9>,
    /// Turns that wait for a lane.
    pub lanes_waiting: Gauge,
    /// What models used, by provider and name.
    pub models: Labelled<(String, String), Usage>,
    /// Calls of tools, by name and outcome.
    pub tools: Labelled<(String, &'static str), u64>,
    /// Messages that came in, by channel and account.
    pub received: Labelled<(String, String), u64>,
    /// Messages on their way out that came to an end, by channel, account and how.
    pub delivered: Labelled<(String, String, &'static str), u64>,
    /// How long commits took.
    pub commits: Histogram<9>,
    /// Writes in them.
    pub writes: Counter,
    /// Commits that failed.
    pub failed_commits: Counter,
    /// Alerts that were sent, by what they tell.
    pub alerts: Labelled<&'static str, u64>,
}

impl Default for Meters {
    fn default() -> Self {
        let other = || OTHER.to_owned();
        Self {
            restarts: Labelled::new(OTHER),
            parkings: Labelled::new(OTHER),
            refused: Labelled::new(other()),
            closed: Labelled::new(Some(0)),
            runs: Labelled::new(OTHER),
            run_times: Histogram::new(&TURN_BOUNDS),
            waits: Histogram::new(&TURN_BOUNDS),
            lanes_waiting: Gauge::default(),
            models: Labelled::new((other(), other())),
            tools: Labelled::new((other(), OTHER)),
            received: Labelled::new((other(), other())),
            delivered: Labelled::new((other(), other(), OTHER)),
            commits: Histogram::new(&COMMIT_BOUNDS),
            writes: Counter::default(),
            failed_commits: Counter::default(),
            alerts: Labelled::new(OTHER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_cumulative_and_their_bounds_belong_to_them() {
        let times = Histogram::new(&COMMIT_BOUNDS);
        for us in [0, 500, 501, 10_000_000] {
            times.observe(Duration::from_micros(us));
        }
        times.observe_ms(-1);
        let read = times.read();
        assert_eq!(
            (read.classes[0], read.classes[1], read.classes[8]),
            ((500, 3), (1_000, 4), (5_000_000, 4))
        );
        assert_eq!((read.count, read.sum_us), (5, 10_001_001));
    }

    #[test]
    fn labels_are_bounded_and_nothing_is_lost() {
        let labelled: Labelled<String, u64> = Labelled::new(OTHER.into());
        (0..3 * MAX_LABELS).for_each(|n| labelled.count(format!("tool-{n:03}")));
        labelled.count("tool-000".into());
        let read = labelled.read();
        assert_eq!((read.len(), read.values().sum::<u64>()), (MAX_LABELS + 1, 3 * MAX_LABELS as u64 + 1));
        assert_eq!((read[OTHER], read["tool-000"]), (2 * MAX_LABELS as u64, 2));
    }

    #[test]
    fn the_requests_of_a_connection_that_ends_are_kept() {
        let (all, one) = (Tally::default(), Tally::default());
        one.count(Answered::Well, Some(Duration::from_micros(50)));
        one.count(Answered::Unavailable, None);
        all.take_over(&one);
        all.take_over(&one);
        let (answers, times) = all.read();
        assert_eq!(answers, [("ok", 2), ("refused", 0), ("unavailable", 2)]);
        assert_eq!((times.count, times.sum_us), (2, 100));
    }
}
