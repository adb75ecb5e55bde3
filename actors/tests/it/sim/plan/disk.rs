//! What is wrong with the disk of a schedule, and for how long.

use super::{Act, Draft, Step};
use rand::RngExt;

/// How the disk is.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    /// It takes everything.
    Well,
    /// It takes nothing that needs more room.
    Full,
    /// It takes nothing.
    ReadOnly,
}

impl Draft {
    /// The disk is in trouble once or more, each time for a moment or for seconds.
    pub(super) fn disk_trouble(&mut self, span: u64) {
        for _ in 0..self.rng.random_range(1..4) {
            let at_ms = self.rng.random_range(0..span);
            let disk = if self.rng.random_bool(0.5) { Disk::Full } else { Disk::ReadOnly };
            self.disk(at_ms, disk);
            let most = if self.rng.random_bool(0.5) { 200 } else { 6_000 };
            let well_at_ms = at_ms + self.rng.random_range(1..most);
            self.disk(well_at_ms, Disk::Well);
        }
    }

    fn disk(&mut self, at_ms: u64, disk: Disk) {
        let spins = self.rng.random_range(0..60);
        self.plan.steps.push(Step { at_ms, spins, act: Act::Disk(disk) });
    }
}
