//! The schedule of a seed: who is there, what they say and when, and what is broken meanwhile. It is made
//! whole before anything runs, so that it depends on nothing but the seed.

mod disk;
mod errands;

use super::errand::Deed;
pub use disk::Disk;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// Abnormal ends of one actor in a whole schedule (which is shorter than the window of a minute): the sixth
/// would park it.
const MAX_FAULTS_PER_PATH: u32 = 4;
/// The actors of the table.
pub const STATIC: [&str; 11] = [
    "store",
    "config",
    "broadcast",
    "presence",
    "devices",
    "nodes",
    "agents",
    "sessions",
    "scheduler",
    "health",
    "connections",
];

/// Modes of a queue; steering most often, since it has most that can go wrong.
const MODES: [&str; 7] = ["steer", "steer", "steer", "followup", "followup", "collect", "interrupt"];

pub struct Persona {
    /// Subscribes to all sessions.
    pub subscribes: bool,
    /// Drains this many items at a time, with this pause.
    pub slow: Option<(usize, u64)>,
    /// Proves a device; such clients appear in presence.
    pub device: bool,
    /// Is a node, and no person; such clients come last.
    pub node: bool,
}

/// A command for a node, which is given once.
pub struct Command {
    /// The client that is this node.
    pub node: usize,
    /// What the node will make of it.
    pub deed: Deed,
    pub timeout_ms: Option<u64>,
}

/// Something that is said once, and perhaps again.
pub struct Said {
    pub id: String,
    /// Its session; `agent` without one gets a session of its own.
    pub session: Option<usize>,
    pub agent: bool,
    pub text: String,
    pub timeout_ms: Option<u64>,
    pub model: Option<&'static str>,
    /// How `chat.send` asks for it to be queued.
    pub mode: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Static(&'static str),
    Session(usize),
    RunOf(usize),
    Link(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Panic,
    Kill,
    /// Found by the watch of health.
    Hang,
    /// Found by an operator.
    HangRestart,
    Restart,
    Slow(u64),
    Park,
    Resume,
}

impl Blow {
    fn is_abnormal(self) -> bool {
        matches!(self, Self::Panic | Self::Kill | Self::Hang | Self::HangRestart)
    }
}

#[derive(Clone, Debug)]
pub enum Act {
    Say {
        client: usize,
        run: usize,
    },
    Differently {
        client: usize,
        run: usize,
    },
    Abort {
        client: usize,
        session: usize,
        run: Option<usize>,
    },
    StopWord {
        client: usize,
        session: usize,
    },
    Wait {
        client: usize,
        run: Option<usize>,
        ms: u64,
    },
    History {
        client: usize,
        session: usize,
    },
    Health {
        client: usize,
    },
    Invoke {
        client: usize,
        command: usize,
    },
    HangUp {
        client: usize,
    },
    Connect {
        client: usize,
    },
    Fault(Target, Blow),
    Disk(Disk),
    /// The process ends at once, and another one takes its place.
    Reboot {
        in_order: bool,
    },
}

pub struct Step {
    pub at_ms: u64,
    /// How many tasks may take a step before it, within the same moment.
    pub spins: u32,
    pub act: Act,
}

pub struct Plan {
    pub clients: Vec<Persona>,
    pub sessions: usize,
    /// Seconds after which an idle session leaves memory.
    pub passivate_after: u64,
    pub said: Vec<Said>,
    pub commands: Vec<Command>,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let heavy = seed % 16 == 15;
        let clients = personas(&mut rng, heavy);
        let sessions = rng.random_range(1..=4);
        let passivate_after = if rng.random_bool(0.5) { rng.random_range(1..4) } else { 600 };
        let (people, said, commands, steps) = (clients.len(), Vec::new(), Vec::new(), Vec::new());
        let plan = Self { clients, sessions, passivate_after, said, commands, steps };
        let mut draft = Draft { rng, plan, people, faults: BTreeMap::new(), heavy };
        let span = draft.rng.random_range(10_000..40_000);
        for _ in 0..draft.rng.random_range(15..45) {
            draft.moment(span);
        }
        for _ in 0..draft.rng.random_range(0..3) {
            draft.flood(span);
        }
        if seed % 4 == 3 {
            draft.parked_session(span);
        }
        draft.errands(span);
        if seed % 4 == 1 {
            draft.reboot(span);
        }
        if seed % 4 == 2 {
            draft.disk_trouble(span);
        }
        let mut plan = draft.plan;
        plan.steps.sort_by_key(|step| step.at_ms);
        plan
    }
}

fn personas(rng: &mut StdRng, heavy: bool) -> Vec<Persona> {
    let mut clients: Vec<Persona> = (0..rng.random_range(3..=8))
        .map(|_| Persona {
            subscribes: rng.random_bool(0.5),
            slow: rng.random_bool(0.2).then(|| (rng.random_range(1..64), rng.random_range(200..4_000))),
            device: rng.random_bool(0.4),
            node: false,
        })
        .collect();
    // Somebody sees everything.
    clients[0] = Persona { subscribes: true, slow: None, device: false, node: false };
    if heavy {
        for client in clients.iter_mut().skip(1).take(2) {
            client.slow = Some((rng.random_range(1..40), rng.random_range(2_000..9_000)));
        }
    }
    clients
}

struct Draft {
    rng: StdRng,
    plan: Plan,
    people: usize,
    faults: BTreeMap<Target, u32>,
    heavy: bool,
}

impl Draft {
    fn pick(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    fn client(&mut self) -> usize {
        self.pick(self.people)
    }

    fn session(&mut self) -> usize {
        self.pick(self.plan.sessions)
    }

    /// A few things at the same time.
    fn moment(&mut self, span: u64) {
        let at_ms = self.rng.random_range(0..span);
        for n in 0..self.rng.random_range(1..8) {
            let most = if self.rng.random_bool(0.5) { 8 } else { 60 };
            let spins = if n == 0 { 0 } else { self.rng.random_range(0..most) };
            let act = self.act(at_ms);
            self.plan.steps.extend(act.map(|act| Step { at_ms, spins, act }));
        }
    }

    /// More for one session than it keeps.
    fn flood(&mut self, span: u64) {
        let (at_ms, session) = (self.rng.random_range(0..span), self.session());
        for _ in 0..self.rng.random_range(10..40) {
            let (client, spins) = (self.client(), self.rng.random_range(0..4));
            let act = Act::Say { client, run: self.say(session) };
            self.plan.steps.push(Step { at_ms, spins, act });
        }
    }

    fn act(&mut self, at_ms: u64) -> Option<Act> {
        let (client, session) = (self.client(), self.session());
        let run = (!self.plan.said.is_empty()).then(|| self.pick(self.plan.said.len()));
        Some(match self.rng.random_range(0..100) {
            0..36 => Act::Say { client, run: self.say(session) },
            36..42 => Act::Say { client, run: run? },
            42..44 => Act::Differently { client, run: run? },
            44..46 => {
                // Stopped as soon as it is said.
                let at_ms = at_ms + self.rng.random_range(0..3);
                let spins = self.rng.random_range(0..40);
                let act = Act::Abort { client, session, run: None };
                self.plan.steps.push(Step { at_ms, spins, act });
                Act::Say { client, run: self.say(session) }
            }
            46..49 => {
                let run = run.filter(|_| self.rng.random_bool(0.5));
                let session = run.and_then(|run| self.plan.said[run].session).unwrap_or(session);
                Act::Abort { client, session, run }
            }
            49..50 => Act::StopWord { client, session },
            50..53 => Act::Wait { client, run, ms: self.rng.random_range(0..15_000) },
            53..54 => Act::Wait { client, run: None, ms: 10_000 },
            54..57 => Act::History { client, session },
            57..59 => Act::Health { client },
            59..62 => self.leave(client, at_ms)?,
            62..75 => self.fault(Target::Session(session), at_ms)?,
            75..83 => self.fault(Target::RunOf(session), at_ms)?,
            83..87 => self.fault(Target::Static("store"), at_ms)?,
            87..90 => self.fault(Target::Static("sessions"), at_ms)?,
            90..99 => {
                let name = STATIC[self.pick(STATIC.len())];
                self.fault(Target::Static(name), at_ms)?
            }
            _ => self.fault(Target::Link(client), at_ms)?,
        })
    }

    fn say(&mut self, session: usize) -> usize {
        let run = self.plan.said.len();
        let agent = self.rng.random_bool(0.4);
        let alone = agent && self.rng.random_bool(0.15);
        let mut text = format!("r{run} says {}", "word ".repeat(self.pick(12)));
        if self.heavy && self.rng.random_bool(0.5) {
            text.push_str(&"x".repeat(self.rng.random_range(100_000..300_000)));
        }
        self.plan.said.push(Said {
            id: format!("r{run}"),
            session: (!alone).then_some(session),
            agent,
            text: text.trim().to_owned(),
            timeout_ms: self.rng.random_bool(0.1).then(|| self.rng.random_range(1..3) * 1_000 - 700),
            model: (agent && self.rng.random_bool(0.1)).then_some("no/such"),
            mode: (!agent && self.rng.random_bool(0.7)).then(|| MODES[self.rng.random_range(0..MODES.len())]),
        });
        run
    }

    /// Hangs up, and comes back later.
    fn leave(&mut self, client: usize, at_ms: u64) -> Option<Act> {
        if client == 0 {
            return None;
        }
        self.back(client, at_ms);
        Some(Act::HangUp { client })
    }

    fn back(&mut self, client: usize, at_ms: u64) {
        let at_ms = at_ms + self.rng.random_range(0..9_000);
        self.plan.steps.push(Step { at_ms, spins: 0, act: Act::Connect { client } });
    }

    fn later(&mut self, at_ms: u64, least: u64, most: u64, target: Target, blow: Blow) {
        let at_ms = at_ms + self.rng.random_range(least..most);
        let spins = self.rng.random_range(0..30);
        self.plan.steps.push(Step { at_ms, spins, act: Act::Fault(target, blow) });
    }

    fn fault(&mut self, target: Target, at_ms: u64) -> Option<Act> {
        let blow = match self.rng.random_range(0..20) {
            0..6 => Blow::Panic,
            6..12 => Blow::Kill,
            12 => Blow::Hang,
            13 => Blow::HangRestart,
            14..17 => Blow::Restart,
            _ => Blow::Slow(self.rng.random_range(20..400)),
        };
        let count = self.faults.entry(target).or_default();
        if blow.is_abnormal() {
            *count += 1;
        }
        let lone = matches!(target, Target::RunOf(_) | Target::Link(_));
        if !lone && *count > MAX_FAULTS_PER_PATH {
            return None;
        }
        match (target, blow) {
            // The witness stays, and an operator may not restart a connection.
            (Target::Link(0), _) | (Target::Link(_), Blow::Restart | Blow::HangRestart | Blow::Slow(_)) => {
                return None;
            }
            (Target::Link(client), _) => self.back(client, at_ms + 5_000),
            (_, Blow::Slow(_)) => self.later(at_ms, 500, 3_000, target, Blow::Restart),
            (_, Blow::HangRestart) => self.later(at_ms, 0, 2_000, target, Blow::Restart),
            _ => {}
        }
        Some(Act::Fault(target, blow))
    }

    fn reboot(&mut self, span: u64) {
        let at_ms = self.rng.random_range(0..span);
        let spins = self.rng.random_range(0..60);
        let in_order = self.rng.random_bool(0.5);
        self.plan.steps.push(Step { at_ms, spins, act: Act::Reboot { in_order } });
        for client in 0..self.plan.clients.len() {
            self.back(client, at_ms + 1);
        }
    }

    /// Parks a session, by order or by a storm of crashes, and resumes it.
    fn parked_session(&mut self, span: u64) {
        let target = Target::Session(self.session());
        let at_ms = self.rng.random_range(0..span);
        if self.rng.random_bool(0.5) {
            self.later(at_ms, 0, 1, target, Blow::Park);
        } else {
            for n in 0..8 {
                self.later(at_ms + n * 500, 0, 400, target, Blow::Panic);
            }
        }
        self.later(at_ms + 6_000, 0, 4_000, target, Blow::Resume);
    }
}
