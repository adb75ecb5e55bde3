//! What a seed says.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// The sessions of a world, and what is said in each: ways in which nobody else may interfere, and all at once.
pub const SESSIONS: [(&str, &[How]); 4] = [
    ("main", &[How::Chat("followup"), How::Agent, How::Tool]),
    ("joined", &[How::Chat("steer")]),
    ("gathered", &[How::Chat("collect")]),
    (
        "mixed",
        &[
            How::Chat("steer"),
            How::Chat("followup"),
            How::Chat("collect"),
            How::Chat("interrupt"),
            How::Agent,
            How::Tool,
        ],
    ),
];
/// Clients that talk at the same time.
pub const CLIENTS: usize = 3;
/// What one client does in a round, at the most.
const DEEDS: usize = 5;
/// One in so many deeds is a command, an abort, or something that was said before.
const COMMANDS: u32 = 10;
const ABORTS: u32 = 14;
const REPEATS: u32 = 12;
/// One in so many messages is long in words, or in bytes.
const WORDY: u32 = 4;
const BULKY: u32 = 12;
/// Words of a long message; each takes 20 ms to answer.
const WORDS: u32 = 20;
/// Characters of a message with one big word.
const BULK: usize = 4_000;
/// How long the load goes on around a named point, and how often it is helped along after that, in milliseconds.
const ROUND: u64 = 400;
const NUDGE: u64 = 200;
const NUDGES: u64 = 20;

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    /// So many milliseconds after the load has begun.
    After(u64),
    /// So many milliseconds after the process was started, before anybody talks to it.
    Starting(u64),
    /// At the named point, which is armed so many milliseconds after the load has begun.
    At(&'static str, u64),
}

/// A way to say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `chat.send` with this `queueMode`.
    Chat(&'static str),
    /// The method `agent`.
    Agent,
    /// `chat.send`, with the wish that a tool is called.
    Tool,
    /// A command, by `chat.send`.
    Command,
}

/// Something a client does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Says something new: what stands before its words is made when it is said.
    Say { session: usize, how: How, words: String },
    /// Sends what was said before once more, by its place in the book.
    Again(usize),
    /// Aborts everything in a session, or only the last run of it.
    Abort { session: usize, one: bool },
}

/// When, in milliseconds after the load has begun.
pub type Timed = (u64, Deed);

/// Kills at random instants: many of them early, some late enough for whole turns.
pub fn kills(seed: u64, count: u64) -> Vec<Kill> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kill = || match rng.random_range(0..10) {
        0 => Kill::Starting(rng.random_range(0..25)),
        1..=4 => Kill::After(rng.random_range(0..60)),
        5..=7 => Kill::After(rng.random_range(60..400)),
        _ => Kill::After(rng.random_range(400..1_400)),
    };
    (0..count).map(|_| kill()).collect()
}

/// Each of the points once, in some order.
pub fn strikes(seed: u64, points: impl Iterator<Item = &'static str>) -> Vec<Kill> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kills: Vec<Kill> = points.map(|point| Kill::At(point, rng.random_range(0..ROUND / 2))).collect();
    kills.shuffle(&mut rng);
    kills
}

/// What the clients do until the kill, from the seed of the round; `open` are the places in the book of what was
/// not acknowledged, `closed` of what was.
pub fn round(seed: u64, kill: Kill, open: &[usize], closed: &[usize]) -> Vec<Vec<Timed>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let length = match kill {
        Kill::After(ms) => ms + 1,
        Kill::At(..) => ROUND,
        Kill::Starting(_) => return vec![],
    };
    let mut clients: Vec<Vec<Timed>> = (0..CLIENTS)
        .map(|_| {
            let count = rng.random_range(1..=DEEDS);
            // Half of them at once, the others spread.
            let mut at = |_| if rng.random() { 0 } else { rng.random_range(0..length) };
            let times: Vec<u64> = (0..count).map(&mut at).collect();
            times.into_iter().map(|at| (at, deed(&mut rng, closed))).collect()
        })
        .collect();
    for known in open {
        let (client, at) = (rng.random_range(0..CLIENTS), rng.random_range(0..length));
        if rng.random() {
            clients[client].push((at, Deed::Again(*known)));
        }
    }
    if let Kill::At(..) = kill {
        // Two at a time: the second has to wait, and has an attempt of its own.
        for nudge in 0..NUDGES {
            let (at, session) = (ROUND + nudge * NUDGE, rng.random_range(0..SESSIONS.len()));
            clients[0].extend([
                (at, say(&mut rng, session)),
                (at, Deed::Say { session, how: How::Command, words: "/help".into() }),
                (at + NUDGE / 4, say(&mut rng, session)),
            ]);
        }
    }
    clients.iter_mut().for_each(|deeds| deeds.sort_by_key(|(at, _)| *at));
    clients
}

fn deed(rng: &mut StdRng, closed: &[usize]) -> Deed {
    let session = rng.random_range(0..SESSIONS.len());
    if rng.random_ratio(1, COMMANDS) {
        let words = if rng.random() { "/help" } else { "/status" };
        return Deed::Say { session, how: How::Command, words: words.into() };
    }
    if rng.random_ratio(1, ABORTS) {
        return Deed::Abort { session, one: rng.random() };
    }
    match closed.choose(rng) {
        Some(known) if rng.random_ratio(1, REPEATS) => Deed::Again(*known),
        _ => say(rng, session),
    }
}

fn say(rng: &mut StdRng, session: usize) -> Deed {
    let how = *SESSIONS[session].1.choose(rng).expect("something is said in every session");
    let words = if rng.random_ratio(1, BULKY) {
        " ".to_owned() + &"x".repeat(BULK)
    } else if rng.random_ratio(1, WORDY) {
        (0..rng.random_range(1..=WORDS)).map(|n| format!(" w{n}")).collect()
    } else {
        String::new()
    };
    Deed::Say { session, how, words }
}
