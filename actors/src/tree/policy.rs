//! Restart policy: pure data and one pure decision.

use super::lifecycle::ExitKind;
use super::supervise::Order;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Which exits bring a child back (OTP's terms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// After an abnormal exit only; a kill that nobody asked for is abnormal.
    Transient,
    /// Never: the child is forgotten when it ends.
    Temporary,
}

/// In which order a parent stops its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOrder {
    /// One after the other, last started first.
    Reverse,
    /// All at the same time.
    Together,
}

/// How long to wait before the n-th restart in a row.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait before the second restart; the first one is immediate.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Share of the wait that is random, in percent either way.
    pub jitter_percent: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(100), max: Duration::from_secs(30), jitter_percent: 20 }
    }
}

impl Backoff {
    /// The wait before restart number `nth` (1 is the first). `unit` in 0..1 places it within the jitter.
    pub fn delay(&self, nth: u32, unit: f64) -> Duration {
        if nth <= 1 {
            return Duration::ZERO;
        }
        let doubled = self.base.saturating_mul(1u32 << (nth - 2).min(20)).min(self.max);
        let share = f64::from(self.jitter_percent) / 100.0;
        doubled.mul_f64(1.0 + share * (2.0 * unit - 1.0))
    }
}

/// More than `restarts` within `window` parks the child.
#[derive(Clone, Copy, Debug)]
pub struct Intensity {
    /// Restarts that are still fine.
    pub restarts: usize,
    /// The sliding window.
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 5, window: Duration::from_secs(60) }
    }
}

impl Intensity {
    /// How many more abnormal exits are fine, after those at `recent` instants.
    pub(super) fn left(&self, recent: &VecDeque<Instant>, now: Instant) -> usize {
        let counted = recent.iter().filter(|at| now.duration_since(**at) <= self.window).count();
        self.restarts.saturating_sub(counted)
    }
}

/// What happens to a child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start it again after the wait.
    Respawn(Duration),
    /// Keep it, stopped, until an operator resumes it.
    Park,
    /// It ended for good.
    Forget,
    /// It was to stay, stopped, by order of a shutdown.
    Rest,
}

/// Decides from the policy, an order that was standing, and the exit. `recent` holds the times of abnormal
/// exits and is pruned to the window.
pub(super) fn decide(
    restart: Restart,
    (backoff, intensity): (Backoff, Intensity),
    order: Option<Order>,
    kind: ExitKind,
    recent: &mut VecDeque<Instant>,
    (now, unit): (Instant, f64),
) -> Verdict {
    match order {
        Some(Order::Restart) => return Verdict::Respawn(Duration::ZERO),
        Some(Order::Park) => return Verdict::Park,
        Some(Order::Stop) => {
            return if restart == Restart::Permanent { Verdict::Rest } else { Verdict::Forget };
        }
        None => {}
    }
    match (restart, kind) {
        (Restart::Temporary, _) | (Restart::Transient, ExitKind::Stopped) => return Verdict::Forget,
        _ => {}
    }
    recent.push_back(now);
    while recent.front().is_some_and(|t| now.duration_since(*t) > intensity.window) {
        recent.pop_front();
    }
    if recent.len() > intensity.restarts {
        return Verdict::Park;
    }
    Verdict::Respawn(backoff.delay(recent.len() as u32, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(restart: Restart, order: Option<Order>, kind: ExitKind) -> Verdict {
        let mut recent = VecDeque::new();
        decide(restart, Default::default(), order, kind, &mut recent, (Instant::now(), 0.5))
    }

    #[test]
    fn a_kill_nobody_asked_for_is_abnormal() {
        assert_eq!(ruling(Restart::Transient, None, ExitKind::Killed), Verdict::Respawn(Duration::ZERO));
        assert_eq!(ruling(Restart::Transient, None, ExitKind::Stopped), Verdict::Forget);
        assert_eq!(ruling(Restart::Temporary, None, ExitKind::Panic), Verdict::Forget);
        assert_eq!(ruling(Restart::Permanent, None, ExitKind::Stopped), Verdict::Respawn(Duration::ZERO));
        assert_eq!(ruling(Restart::Permanent, Some(Order::Stop), ExitKind::Panic), Verdict::Rest);
        assert_eq!(ruling(Restart::Transient, Some(Order::Park), ExitKind::Killed), Verdict::Park);
    }

    #[test]
    fn backoff_starts_at_once_doubles_and_is_capped() {
        let b = Backoff::default();
        let ms = |n| b.delay(n, 0.5).as_millis();
        assert_eq!([ms(1), ms(2), ms(3), ms(4)], [0, 100, 200, 400]);
        assert_eq!(ms(40), 30_000);
        assert_eq!(b.delay(2, 0.0).as_millis(), 80);
        assert_eq!(b.delay(2, 1.0).as_millis(), 120);
    }

    #[test]
    fn the_sixth_failure_in_a_minute_parks_and_a_late_one_does_not() {
        let mut recent = VecDeque::new();
        let t0 = Instant::now();
        let mut at = |s: u64| {
            let when = (t0 + Duration::from_secs(s), 0.5);
            decide(Restart::Permanent, Default::default(), None, ExitKind::Panic, &mut recent, when)
        };
        for s in 0..5 {
            assert!(matches!(at(s), Verdict::Respawn(_)));
        }
        assert_eq!(at(5), Verdict::Park);
        assert!(matches!(at(120), Verdict::Respawn(_)));
        let left = |s: u64| Intensity::default().left(&recent, t0 + Duration::from_secs(s));
        assert_eq!([left(120), left(180), left(181)], [4, 4, 5]);
    }
}
