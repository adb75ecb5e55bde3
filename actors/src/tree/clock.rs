//! Monotonic and wall time from one place, so that a simulation can own both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Tells the time. Monotonic time is always tokio's (and so stands still when tokio is paused).
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    simulated_epoch_ms: Option<i64>,
}

impl Clock {
    /// The machine's own wall clock.
    pub fn system() -> Self {
        Self { start: Instant::now(), simulated_epoch_ms: None }
    }

    /// A wall clock that starts at `epoch_ms` (milliseconds since 1970) and runs with tokio's time.
    pub fn simulated(epoch_ms: i64) -> Self {
        Self { start: Instant::now(), simulated_epoch_ms: Some(epoch_ms) }
    }

    /// Time since this clock was made.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Wall time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match self.simulated_epoch_ms {
            Some(epoch) => epoch + self.start.elapsed().as_millis() as i64,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
        }
    }
}
