//! How often a client may fail to authenticate. It is part of the Estate: no actor's crash forgives anybody.
//!
//! The rules are recorded (handshake.md, "Rate limiting"): so many failures in a window lock the client out,
//! for each kind of secret on its own. A client on this machine is not locked out, so that nobody can shut its
//! owner out; instead the answer to a wrong shared secret is delayed, longer with each failure in the window. A
//! page in a browser on this machine is somebody else's program: it is counted by its origin, and locked out.

use crate::conns::Peer;
use crate::settings::RateLimitSettings;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Clients remembered; beyond it the one that failed longest ago is forgotten.
const MAX_ROWS: usize = 4_096;
/// Failures remembered for one client.
const MAX_FAILURES: usize = 64;
/// The delay of a first failure on this machine; each further one in the window doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Bytes of an origin that tell pages apart.
const MAX_ORIGIN: usize = 256;

/// The kinds of secrets, each with a count of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// The shared token or password.
    Shared,
    /// A device's token.
    Device,
    /// The token of a setup code.
    Bootstrap,
    /// The token of webhooks.
    Hook,
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// A client at an address.
    Address(IpAddr),
    /// A page on this machine, by its origin.
    Page(String),
}

impl Culprit {
    /// Who a connection counts for.
    pub fn of(peer: &Peer) -> Self {
        match &peer.origin {
            Some(origin) if peer.is_loopback() => {
                Self::Page(origin[..origin.floor_char_boundary(MAX_ORIGIN)].to_owned())
            }
            _ => Self::Address(peer.ip.to_canonical()),
        }
    }

    fn is_exempt(&self, limits: &RateLimitSettings) -> bool {
        limits.exempt_loopback && matches!(self, Self::Address(ip) if ip.is_loopback())
    }
}

/// See the module.
#[derive(Default)]
pub struct AuthLimiter(Mutex<Windows>);

impl AuthLimiter {
    /// How long this client is still locked out.
    pub fn locked(
        &self,
        culprit: &Culprit,
        kind: SecretKind,
        now: Duration,
        limits: &RateLimitSettings,
    ) -> Option<Duration> {
        self.0.lock().locked(culprit, kind, now, limits)
    }

    /// Counts a failure; returns how long its answer is delayed.
    pub fn failed(
        &self,
        culprit: &Culprit,
        kind: SecretKind,
        now: Duration,
        limits: &RateLimitSettings,
    ) -> Duration {
        self.0.lock().failed(culprit, kind, now, limits)
    }

    /// The client has shown the right secret: its failures are forgotten.
    pub fn passed(&self, culprit: &Culprit, kind: SecretKind) {
        self.0.lock().rows.remove(&(culprit.clone(), kind));
    }
}

#[derive(Default)]
struct Row {
    failures: VecDeque<Duration>,
    locked_until: Option<Duration>,
}

#[derive(Default)]
struct Windows {
    rows: HashMap<(Culprit, SecretKind), Row>,
}

impl Windows {
    fn locked(
        &mut self,
        culprit: &Culprit,
        kind: SecretKind,
        now: Duration,
        limits: &RateLimitSettings,
    ) -> Option<Duration> {
        let key = (culprit.clone(), kind);
        let until = self.rows.get(&key)?.locked_until?;
        if until > now && !culprit.is_exempt(limits) {
            return Some(until - now);
        }
        self.rows.remove(&key);
        None
    }

    fn failed(
        &mut self,
        culprit: &Culprit,
        kind: SecretKind,
        now: Duration,
        limits: &RateLimitSettings,
    ) -> Duration {
        let window = Duration::from_millis(limits.window_ms);
        self.make_room(now, window);
        let row = self.rows.entry((culprit.clone(), kind)).or_default();
        let since = now.saturating_sub(window);
        while row.failures.front().is_some_and(|at| now > window && *at <= since) {
            row.failures.pop_front();
        }
        if row.failures.len() >= MAX_FAILURES {
            row.failures.pop_front();
        }
        row.failures.push_back(now);
        if culprit.is_exempt(limits) {
            return if kind == SecretKind::Shared { delay(row.failures.len()) } else { Duration::ZERO };
        }
        if row.failures.len() >= limits.max_attempts.clamp(1, MAX_FAILURES) {
            row.locked_until = Some(now + Duration::from_millis(limits.lockout_ms));
        }
        Duration::ZERO
    }

    fn make_room(&mut self, now: Duration, window: Duration) {
        if self.rows.len() < MAX_ROWS {
            return;
        }
        let last = |row: &Row| row.failures.back().copied().unwrap_or_default();
        self.rows
            .retain(|_, row| row.locked_until.is_some_and(|until| until > now) || last(row) + window > now);
        if self.rows.len() >= MAX_ROWS {
            let oldest = self.rows.iter().min_by_key(|(_, row)| (row.locked_until, last(row)));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.rows.remove(&key);
            }
        }
    }
}

fn delay(failures: usize) -> Duration {
    let doubled = 1_u32 << failures.saturating_sub(1).min(5);
    (FIRST_DELAY * doubled).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SecretKind::*;

    const LIMITS: RateLimitSettings =
        RateLimitSettings { max_attempts: 3, window_ms: 6_000, lockout_ms: 4_000, exempt_loopback: true };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn remote(last: u8) -> Culprit {
        Culprit::Address([203, 0, 113, last].into())
    }

    fn local() -> Culprit {
        Culprit::Address([127, 0, 0, 1].into())
    }

    /// The recording `rate_limit_remote`.
    #[test]
    fn the_third_failure_locks_that_address_and_that_kind() {
        let mut windows = Windows::default();
        for at in [0, 10, 20] {
            assert_eq!(windows.locked(&remote(50), Shared, ms(at), &LIMITS), None);
            assert_eq!(windows.failed(&remote(50), Shared, ms(at), &LIMITS), Duration::ZERO);
        }
        assert_eq!(windows.locked(&remote(50), Shared, ms(42), &LIMITS), Some(ms(3_978)));
        assert_eq!(windows.locked(&remote(50), Device, ms(42), &LIMITS), None);
        assert_eq!(windows.locked(&remote(51), Shared, ms(42), &LIMITS), None);
        assert_eq!(windows.locked(&remote(50), Shared, ms(4_020), &LIMITS), None);
        // What comes after a lockout begins anew.
        windows.failed(&remote(50), Shared, ms(4_021), &LIMITS);
        assert_eq!(windows.locked(&remote(50), Shared, ms(4_022), &LIMITS), None);
    }

    /// The recording `rate_limit_loopback`: the times are those at which the failures came.
    #[test]
    fn on_this_machine_each_failure_in_the_window_doubles_the_delay() {
        let mut windows = Windows::default();
        let seen: Vec<u64> = [0, 260, 780, 1_800, 3_850, 7_900, 8_420, 9_440]
            .iter()
            .map(|at| windows.failed(&local(), Shared, ms(*at), &LIMITS).as_millis() as u64)
            .collect();
        assert_eq!(seen, [250, 500, 1_000, 2_000, 4_000, 500, 1_000, 2_000]);
        assert_eq!(windows.locked(&local(), Shared, ms(9_441), &LIMITS), None);
        assert_eq!(windows.failed(&local(), Device, ms(9_441), &LIMITS), Duration::ZERO);
        assert_eq!((delay(6), delay(64)), (ms(5_000), ms(5_000)));
    }

    #[test]
    fn without_the_exemption_this_machine_is_locked_out_too() {
        let limits = RateLimitSettings { exempt_loopback: false, ..LIMITS };
        let mut windows = Windows::default();
        for at in 0..3 {
            assert_eq!(windows.failed(&local(), Shared, ms(at), &limits), Duration::ZERO);
        }
        assert!(windows.locked(&local(), Shared, ms(3), &limits).is_some());
    }

    #[test]
    fn a_page_counts_for_itself_and_success_forgives() {
        let limiter = AuthLimiter::default();
        let page = Culprit::of(&Peer { origin: Some("http://a".into()), ..Peer::new([127, 0, 0, 1].into()) });
        for at in 0..3 {
            assert_eq!(limiter.failed(&page, Shared, ms(at), &LIMITS), Duration::ZERO);
        }
        assert!(limiter.locked(&page, Shared, ms(3), &LIMITS).is_some());
        assert_eq!(limiter.locked(&local(), Shared, ms(3), &LIMITS), None);
        assert_eq!(limiter.failed(&local(), Shared, ms(3), &LIMITS), ms(250));
        limiter.passed(&local(), Shared);
        assert_eq!(limiter.failed(&local(), Shared, ms(4), &LIMITS), ms(250));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_keeps_who_is_locked_out() {
        let mut windows = Windows::default();
        for at in 0..3 {
            windows.failed(&remote(1), Shared, ms(at), &LIMITS);
        }
        for n in 0..(2 * MAX_ROWS as u32) {
            windows.failed(&Culprit::Address(IpAddr::V4(n.into())), Shared, ms(5), &LIMITS);
        }
        assert!(windows.rows.len() <= MAX_ROWS);
        assert!(windows.locked(&remote(1), Shared, ms(6), &LIMITS).is_some());
    }
}
