//! What happens in the year: how often, and at which message.

use clap::Args;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// The whole year.
const MESSAGES: f64 = 1_000_000.0;
const RECONNECTS: f64 = 10_000.0;
const CRASHES: f64 = 1_000.0;
const RESTARTS: f64 = 100.0;
/// How often old sessions are put away.
const TIDIES: f64 = 50.0;

/// A part of the year, from and to, as shares of its messages.
pub type Span = (f64, f64);
/// Caches fill, and statements are prepared, before this.
pub const FIRST: Span = (0.1, 0.2);
/// The same process as in [`FIRST`], much later.
pub const LATE: Span = (0.5, 0.6);
/// All restarts.
pub const ROUGH: Span = (0.6, 0.88);
/// The last process, with the store of a year.
pub const LAST: Span = (0.9, 1.0);
/// Crashes and reconnects: evenly over nearly all of it, so that the last ones are mended before its end.
const EVENLY: Span = (0.02, 0.98);

#[derive(Args, Clone)]
pub struct Sizes {
    /// How much of the year: 1 is a million messages, 10,000 reconnects, 1,000 crashes and 100 restarts
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Messages instead
    #[arg(long)]
    messages: Option<u64>,
    /// Reconnects instead
    #[arg(long)]
    reconnects: Option<u64>,
    /// Crashes of actors instead
    #[arg(long)]
    crashes: Option<u64>,
    /// Restarts of the program instead
    #[arg(long)]
    restarts: Option<u64>,
    /// What everything that is left to chance is made from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How the program is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// By SIGUSR2, in the same process.
    InPlace,
    /// By SIGTERM, and started again.
    InOrder,
    /// By SIGKILL, and started again.
    Killed,
}

impl How {
    pub const ALL: [Self; 3] = [Self::InPlace, Self::InOrder, Self::Killed];

    pub fn name(self) -> &'static str {
        match self {
            Self::InPlace => "inPlace",
            Self::InOrder => "inOrder",
            Self::Killed => "killed",
        }
    }
}

/// What one hand does to the gateway, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    Crash,
    Restart(How),
    Tidy,
}

pub struct Plan {
    pub seed: u64,
    pub messages: u64,
    /// At which message clients go and come back.
    pub reconnects: Vec<u64>,
    /// At which message something is done to the gateway.
    pub blows: Vec<(u64, Blow)>,
}

impl Plan {
    pub fn of(sizes: &Sizes) -> Self {
        let scaled = |own: Option<u64>, year: f64| own.unwrap_or((year * sizes.scale).ceil() as u64);
        let messages = scaled(sizes.messages, MESSAGES).max(1);
        let spread = |(from, to): Span, count: u64| {
            let at = move |n: u64| from + (to - from) * (n as f64 + 0.5) / count as f64;
            (0..count).map(move |n| (at(n) * messages as f64) as u64)
        };
        let restarts = scaled(sizes.restarts, RESTARTS);
        let mut rng = Self::rng(sizes.seed, "plan");
        let mut hows: Vec<How> = How::ALL.into_iter().cycle().take(restarts as usize).collect();
        hows.shuffle(&mut rng);
        let crashes = spread(EVENLY, scaled(sizes.crashes, CRASHES)).map(|at| (at, Blow::Crash));
        let hows = spread(ROUGH, restarts).zip(hows.into_iter().map(Blow::Restart));
        let tidies = spread(EVENLY, scaled(None, TIDIES)).map(|at| (at, Blow::Tidy));
        let mut blows: Vec<_> = crashes.chain(hows).chain(tidies).collect();
        blows.sort_by_key(|(at, _)| *at);
        let reconnects = spread(EVENLY, scaled(sizes.reconnects, RECONNECTS)).collect();
        Self { seed: sizes.seed, messages, reconnects, blows }
    }

    pub fn at(&self, share: f64) -> u64 {
        (self.messages as f64 * share) as u64
    }

    /// Chance for one purpose.
    pub fn rng(seed: u64, purpose: &str) -> StdRng {
        let salt =
            purpose.bytes().fold(seed, |salt, byte| salt.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
        StdRng::seed_from_u64(salt)
    }
}

/// One of them.
pub fn any<'a, T>(rng: &mut StdRng, of: &'a [T]) -> Option<&'a T> {
    (!of.is_empty()).then(|| &of[rng.random_range(0..of.len())])
}
