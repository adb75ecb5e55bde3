//! The pace of events towards one client. Each write costs the kernel more than the events in it; who is told things
//! faster than anybody can look gets them in fewer, larger writes.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Between two writes of events, once there have been many.
pub const PERIOD: Duration = Duration::from_millis(4);
/// Writes that are ahead of that before the pace begins: a turn has a dozen.
pub const BURST: u32 = 32;

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
            let now = Instant::now();
            let free_from = self.due.checked_sub(PERIOD * BURST).unwrap_or(now);
            if free_from <= now {
                return true;
            }
            self.waiting = Some(Box::pin(sleep_until(free_from)));
        }
        false
    }

    /// Something is written. What comes next never waits for longer than [`PERIOD`].
    pub fn written(&mut self) {
        self.waiting = None;
        let now = Instant::now();
        self.due = self.due.clamp(now, now + PERIOD * BURST) + PERIOD;
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
    use tokio::time::{advance, sleep};

    /// Writes as soon as it may, for so long: how long each write had waited.
    async fn waits(pace: &mut Pace, span: Duration) -> Vec<Duration> {
        let (ends, mut waits) = (Instant::now() + span, Vec::new());
        while Instant::now() < ends {
            let began = Instant::now();
            if !pace.is_free() {
                pace.resumed().await;
            }
            pace.written();
            waits.push(began.elapsed());
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_writes_are_a_period_apart() {
        let mut pace = Pace::default();
        let waits = waits(&mut pace, PERIOD * 100).await;
        let (burst, rest) = waits.split_at(BURST as usize + 1);
        assert!(burst.iter().all(Duration::is_zero), "{burst:?}");
        assert!(rest.iter().all(|wait| *wait == PERIOD), "{rest:?}");
        assert_eq!(rest.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn rest_brings_the_burst_back_little_by_little() {
        let mut pace = Pace::default();
        waits(&mut pace, PERIOD * 10).await;
        sleep(PERIOD * 7).await;
        let again = waits(&mut pace, PERIOD).await;
        assert_eq!(again.iter().take_while(|wait| wait.is_zero()).count(), 7);
        advance(PERIOD * BURST * 5).await;
        let again = waits(&mut pace, PERIOD).await;
        assert_eq!(again.iter().take_while(|wait| wait.is_zero()).count(), BURST as usize + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_was_written_nothing_waits_for_longer_than_a_period() {
        let mut pace = Pace::default();
        (0..100_000).for_each(|_| pace.written());
        assert!(!pace.is_free());
        let began = Instant::now();
        pace.resumed().await;
        assert!(began.elapsed() <= PERIOD, "{:?}", began.elapsed());
    }
}
