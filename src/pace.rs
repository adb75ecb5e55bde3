//! The pace of events towards one client. Each write costs the kernel more than the events in it; who is told things
//! faster than anybody can look gets them in fewer, larger writes.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Between two writes of events, while there are too many.
pub const PERIOD: Duration = Duration::from_millis(4);
/// What an event counts: 10,000 a second are not too many. A turn has a dozen.
const COST: Duration = Duration::from_micros(100);
/// Events that are ahead of that before the pace begins.
pub const BURST: u32 = 128;

/// When the next write may be: the virtual scheduling algorithm of ITU-T I.371, with a tolerance of [`BURST`].
pub struct Pace {
    due: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { due: Instant::now(), waiting: None }
    }
}

impl Pace {
    /// Whether events may be written now; [`Pace::resumed`] tells when, if not.
    pub fn is_free(&mut self) -> bool {
        if self.waiting.is_none() {
            if self.due <= Instant::now() + COST * BURST {
                return true;
            }
            self.waiting = Some(Box::pin(sleep(PERIOD)));
        }
        false
    }

    /// So many events are written. What comes next never waits for longer than [`PERIOD`].
    pub fn written(&mut self, events: usize) {
        self.waiting = None;
        let now = Instant::now();
        let cost = COST.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        self.due = (self.due.max(now) + cost).min(now + COST * BURST + PERIOD);
    }

    /// Whether somebody waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Resolves when what waits may be written; at once if nothing does.
    pub async fn resumed(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes so many events at once as soon as it may, this often: how long each write had waited.
    async fn waits(pace: &mut Pace, events: usize, writes: usize) -> Vec<Duration> {
        let mut waits = Vec::new();
        for _ in 0..writes {
            let began = Instant::now();
            if !pace.is_free() {
                pace.resumed().await;
            }
            pace.written(events);
            waits.push(began.elapsed());
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_events_writes_are_a_period_apart() {
        let waits = waits(&mut Pace::default(), BURST as usize, 100).await;
        let (burst, rest) = waits.split_at(2);
        assert!(burst.iter().all(Duration::is_zero), "{burst:?}");
        assert!(rest.iter().all(|wait| *wait == PERIOD), "{rest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_less_than_that_never_waits() {
        let mut pace = Pace::default();
        for _ in 0..10_000 {
            assert!(pace.is_free());
            pace.written(9);
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rest_brings_the_burst_back() {
        let mut pace = Pace::default();
        waits(&mut pace, 1_000_000, 100).await;
        sleep(COST * BURST + PERIOD).await;
        let again = waits(&mut pace, 1, BURST as usize * 2).await;
        assert_eq!(again.iter().take_while(|wait| wait.is_zero()).count(), BURST as usize + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_was_written_nothing_waits_for_longer_than_a_period() {
        let mut pace = Pace::default();
        (0..100_000).for_each(|_| pace.written(usize::MAX));
        assert!(!pace.is_free());
        let began = Instant::now();
        pace.resumed().await;
        assert!(began.elapsed() <= PERIOD && pace.waiting.take().is_some() && pace.is_free());
    }
}
