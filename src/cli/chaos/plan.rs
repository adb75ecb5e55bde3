//! The plans: whom a plan strikes, how, and in which order. A plan is a row of [`PLANS`]; what comes of it with a seed
//! is a [`Schedule`].

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::actors::Tree;

/// Pauses between two faults, in milliseconds, are chosen from these.
const PAUSE_MS: std::ops::Range<u64> = 100..600;

/// What is done to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It panics at its next message.
    Panic,
    /// It is killed at once.
    Kill,
    /// It never goes on, until health has it replaced.
    Hang,
    /// Each of its messages takes longer, for a while.
    Slow,
    /// It computes without a pause, for a while.
    Spin,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Spin => "spin",
        }
    }

    /// Whether the actor ends of it and is brought back.
    pub fn is_fatal(self) -> bool {
        !matches!(self, Self::Slow | Self::Spin)
    }
}

/// Whom a plan strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Every part of the gateway: the children of the root.
    Parts,
    /// One part.
    Part(&'static str),
    /// The accounts of channels.
    Accounts,
    /// Sessions that the plan talks in, and what runs in them; nobody else's.
    Talks,
}

/// One target of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The actor at this path.
    At(String),
    /// A session that the plan talks in.
    Session,
    /// What runs in one.
    Run,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(path) => f.write_str(path),
            Self::Session => f.write_str("a session of its own"),
            Self::Run => f.write_str("a turn of its own"),
        }
    }
}

/// A plan.
#[derive(Debug)]
pub struct Plan {
    /// What it is called.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) about: &'static str,
    aims: &'static [Aim],
    /// What is done, and how often beside the others.
    faults: &'static [(Fault, u32)],
    /// Whether the order is the seed's.
    shuffled: bool,
    /// How many faults; as many as there are targets, if it does not say.
    count: Option<usize>,
}

/// All of them.
pub(super) const PLANS: &[Plan] = &[
    Plan {
        name: "tour",
        about: "each part of the gateway panics once, one after the other",
        aims: &[Aim::Parts],
        faults: &[(Fault::Panic, 1)],
        shuffled: false,
        count: None,
    },
    Plan {
        name: "storm",
        about: "all kinds of faults at all kinds of actors, as the seed has it",
        aims: &[Aim::Parts, Aim::Accounts, Aim::Talks],
        faults: &[(Fault::Panic, 5), (Fault::Kill, 4), (Fault::Slow, 1), (Fault::Spin, 1), (Fault::Hang, 1)],
        shuffled: true,
        count: Some(30),
    },
    Plan {
        name: "sessions",
        about: "sessions, what runs in them and their parent end while turns are told",
        aims: &[Aim::Part("gateway/sessions"), Aim::Talks, Aim::Talks],
        faults: &[(Fault::Panic, 1), (Fault::Kill, 1)],
        shuffled: true,
        count: Some(15),
    },
    Plan {
        name: "channels",
        about: "accounts of channels and their parent end; each account connects to its platform again",
        aims: &[Aim::Part("gateway/channels"), Aim::Accounts],
        faults: &[(Fault::Panic, 1), (Fault::Kill, 1)],
        shuffled: true,
        count: None,
    },
    Plan {
        name: "store",
        about: "the writer of the database ends and is slow while turns are told",
        aims: &[Aim::Part("gateway/store")],
        faults: &[(Fault::Panic, 2), (Fault::Kill, 2), (Fault::Slow, 1)],
        shuffled: true,
        count: Some(4),
    },
    Plan {
        name: "stuck",
        about: "some parts hang until they are found and replaced, some seconds each",
        aims: &[Aim::Parts],
        faults: &[(Fault::Hang, 1)],
        shuffled: true,
        count: Some(3),
    },
];

/// The plan of this name.
pub fn named(name: &str) -> Result<&'static Plan, String> {
    PLANS.iter().find(|plan| plan.name == name).ok_or_else(|| {
        let names: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
        format!("no such plan; there are {}", names.join(", "))
    })
}

impl Plan {
    /// Whom it strikes in this tree.
    pub(super) fn targets(&self, tree: &Tree) -> Vec<Target> {
        let at = |path: &String| Target::At(path.clone());
        let of = |aim: &Aim| match aim {
            Aim::Parts => tree.parts.iter().map(at).collect(),
            Aim::Part(path) => tree.parts.iter().filter(|part| part == path).map(at).collect(),
            Aim::Accounts => tree.below("gateway/channels").map(at).collect(),
            Aim::Talks => vec![Target::Session, Target::Run],
        };
        self.aims.iter().flat_map(of).collect()
    }

    /// How many faults, if nobody says.
    pub(super) fn count(&self, targets: &[Target]) -> usize {
        self.count.unwrap_or(targets.len())
    }
}

/// One fault that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub target: Target,
    pub fault: Fault,
    /// How long after the one before.
    pub pause: Duration,
}

/// What a seed makes of a plan: faults without end, each target once before any of them comes again.
pub(super) struct Schedule {
    plan: &'static Plan,
    targets: Vec<Target>,
    /// Those whose turn is yet to come in this round, the next one last.
    round: Vec<Target>,
    rng: StdRng,
}

impl Schedule {
    pub fn new(plan: &'static Plan, targets: Vec<Target>, seed: u64) -> Self {
        Self { plan, targets, round: Vec::new(), rng: StdRng::seed_from_u64(seed) }
    }

    fn fault(&mut self, target: &Target) -> Fault {
        let total: u32 = self.plan.faults.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.random_range(0..total);
        let drawn = self.plan.faults.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        match drawn {
            // Of a turn it only matters that it ends.
            Some((fault, _)) if *target != Target::Run || fault.is_fatal() && *fault != Fault::Hang => *fault,
            _ => Fault::Panic,
        }
    }
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        if self.round.is_empty() {
            self.round = self.targets.iter().rev().cloned().collect();
            if self.plan.shuffled {
                self.round.shuffle(&mut self.rng);
            }
        }
        let target = self.round.pop()?;
        let fault = self.fault(&target);
        let pause = Duration::from_millis(self.rng.random_range(PAUSE_MS));
        Some(Due { target, fault, pause })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn tree() -> Tree {
        let row =
            |path: &str, children: Value| json!({"path": path, "state": "running", "children": children});
        let account = row("gateway/channels/loopback%2Fdefault", json!([]));
        let parts = json!([
            row("gateway/store", json!([])),
            row("gateway/sessions", json!([row("gateway/sessions/agent:main:main", json!([]))])),
            row("gateway/channels", json!([account])),
        ]);
        Tree::of(&json!({"root": row("gateway", parts)}))
    }

    fn drawn(name: &str, seed: u64) -> Vec<Due> {
        let plan = named(name).expect("a plan");
        Schedule::new(plan, plan.targets(&tree()), seed).take(60).collect()
    }

    #[test]
    fn a_seed_is_a_schedule() {
        for plan in PLANS {
            assert_eq!(drawn(plan.name, 7), drawn(plan.name, 7));
            let drawn: Vec<_> = drawn(plan.name, 7);
            assert_eq!(drawn.len(), 60, "it has no end");
            let known = |due: &Due| plan.faults.iter().any(|(fault, _)| *fault == due.fault);
            assert!(drawn.iter().all(known), "{drawn:?}");
        }
        assert_ne!(drawn("storm", 1), drawn("storm", 2));
        let kinds: BTreeSet<_> = drawn("storm", 1).iter().map(|due| due.fault.name()).collect();
        assert_eq!(kinds.len(), 5, "{kinds:?}");
    }

    #[test]
    fn the_tour_keeps_to_the_order_of_the_tree() {
        let plan = named("tour").expect("a plan");
        let targets = plan.targets(&tree());
        assert_eq!(plan.count(&targets), 3);
        let paths: Vec<_> = drawn("tour", 9).iter().take(4).map(|due| due.target.to_string()).collect();
        assert_eq!(paths, ["gateway/store", "gateway/sessions", "gateway/channels", "gateway/store"]);
    }

    #[test]
    fn each_target_comes_once_a_round_and_no_session_of_anybody_else() {
        for round in drawn("storm", 3).chunks_exact(6) {
            let targets: BTreeSet<String> = round.iter().map(|due| due.target.to_string()).collect();
            assert_eq!(targets.len(), 6, "{targets:?}");
            assert!(!targets.iter().any(|target| target.contains("agent:main")), "{targets:?}");
            assert!(targets.contains("gateway/channels/loopback%2Fdefault"));
            let of_turns = round.iter().filter(|due| due.target == Target::Run);
            assert!(of_turns.into_iter().all(|due| matches!(due.fault, Fault::Panic | Fault::Kill)));
        }
    }

    #[test]
    fn who_names_no_plan_is_told_them() {
        let words = named("tsunami").err().unwrap_or_default();
        assert_eq!(words, "no such plan; there are tour, storm, sessions, channels, store, stuck");
    }
}
