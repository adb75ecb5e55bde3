//! The nodes of a schedule, what they are asked to do, and what is broken while they do it.

use super::{Act, Command, Deed, Draft, Persona, Step, Target};
use rand::RngExt;

/// The most nodes of a schedule.
const MAX_NODES: usize = 2;
/// How long a node stays away that goes in the middle of a command, in milliseconds.
const AWAY_MS: u64 = 3_000;

impl Draft {
    pub(super) fn errands(&mut self, span: u64) {
        let nodes = self.rng.random_range(0..=MAX_NODES);
        let persona = || Persona { subscribes: false, slow: None, device: true, node: true };
        self.plan.clients.extend((0..nodes).map(|_| persona()));
        if nodes == 0 {
            return;
        }
        for _ in 0..self.rng.random_range(4..16) {
            self.errand(span, nodes);
        }
    }

    /// One or more commands at the same time, and perhaps something that happens while they are carried out.
    fn errand(&mut self, span: u64, nodes: usize) {
        let (at_ms, node) = (self.rng.random_range(0..span), self.people + self.pick(nodes));
        for _ in 0..self.rng.random_range(1..4) {
            let (deed, client) = (self.deed(), self.client());
            let timeout_ms = self.rng.random_bool(0.5).then(|| self.rng.random_range(200..6_000));
            let command = self.plan.commands.len();
            self.plan.commands.push(Command { node, deed, timeout_ms });
            let spins = self.rng.random_range(0..20);
            self.plan.steps.push(Step { at_ms, spins, act: Act::Invoke { client, command } });
            if deed == Deed::Gone {
                self.back(node, at_ms + AWAY_MS);
            }
        }
        let target = match self.rng.random_range(0..10) {
            0..5 => Target::Static("nodes"),
            5..7 => Target::Link(node),
            7 => Target::Static("store"),
            _ => return,
        };
        // In the middle of it: before it reaches the node, while it works, or as it answers.
        let most = if self.rng.random_bool(0.5) { 2 } else { 900 };
        let (at_ms, spins) = (at_ms + self.rng.random_range(0..most), self.rng.random_range(0..60));
        let act = self.fault(target, at_ms);
        self.plan.steps.extend(act.map(|act| Step { at_ms, spins, act }));
    }

    fn deed(&mut self) -> Deed {
        match self.rng.random_range(0..10) {
            0..5 => Deed::Done(self.rng.random_range(0..900)),
            5..7 => Deed::Late(self.rng.random_range(1..6)),
            7 => Deed::Failed,
            8 => Deed::Silent,
            _ => Deed::Gone,
        }
    }
}
