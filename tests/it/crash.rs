//! The crash matrix: the real process is killed while several clients talk in several sessions, started again on
//! what it left, and asked what became of every message.
//!
//! A world is one state directory and a row of kills; all of it is made from its seed. The instants are the
//! kernel's, so that a seed gives the same words and the same kills, and nearly the same story.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what a seed says: the kills, the words, who says them when |
//! | `load` | the clients, and the book in which they write what they sent and heard |
//! | `verdict` | what must be true afterwards, and the story that a failing world tells |
//!
//! `CRABTREE_CRASH_KILLS=<n>` kills that often, `CRABTREE_CRASH_SEED=<n>` begins with that seed.

mod load;
mod plan;
mod verdict;

use crabtree_actors::kill_points::KILL_POINTS;
use load::{Book, play};
use plan::Kill;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;
use tokio::task::JoinSet;

/// Kills at random instants in an ordinary run.
const KILLS: u64 = 120;
/// Kills of one world.
const KILLS_OF_A_WORLD: u64 = 8;
/// Worlds at the same time: each waits most of the time.
const LANES: usize = 3;
/// Times that each named point is struck.
const STRIKES: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays the worlds, some at a time; tells the stories of those that went wrong.
async fn judge(name: &str, worlds: impl IntoIterator<Item = (u64, Vec<Kill>)>) {
    let begun = Instant::now();
    let (mut tally, mut failed) = (BTreeMap::<&str, usize>::new(), 0);
    let (mut worlds, mut playing, mut seeds) = (worlds.into_iter(), JoinSet::new(), HashMap::new());
    loop {
        while playing.len() < LANES
            && let Some((seed, kills)) = worlds.next()
        {
            seeds.insert(playing.spawn(play(seed, kills)).id(), seed);
        }
        let book: Book = match playing.join_next_with_id().await {
            Some(Ok((_, book))) => book,
            Some(Err(broken)) => {
                println!("seed {} broke off: {broken}", seeds[&broken.id()]);
                failed += 1;
                continue;
            }
            None => break,
        };
        for (what, count) in book.tally() {
            *tally.entry(what).or_default() += count;
        }
        if !book.problems.is_empty() {
            println!("{}", book.story());
            failed += 1;
        }
    }
    println!("{name}: {tally:?} in {:.0} s", begun.elapsed().as_secs_f64());
    assert_eq!(failed, 0, "so many worlds went wrong; their stories are above");
}

fn first_seed() -> u64 {
    let seed = number("CRABTREE_CRASH_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("CRABTREE_CRASH_SEED={seed}");
    seed
}

/// accepts: C4, G9, G10, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let (first, kills) = (first_seed(), number("CRABTREE_CRASH_KILLS").unwrap_or(KILLS));
    let worlds = (0..kills.div_ceil(KILLS_OF_A_WORLD)).map(|n| {
        let left = kills - n * KILLS_OF_A_WORLD;
        (first + n, plan::kills(first + n, left.min(KILLS_OF_A_WORLD)))
    });
    judge("at any instant", worlds).await;
}

/// accepts: C4, G9, G10, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_named_point_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let first = first_seed();
    // Those of channels are struck where there is one (`channels::crash`).
    let here = |name: &&str| !name.starts_with("delivery.") && !name.starts_with("draft.");
    let points = || KILL_POINTS.iter().map(|(name, _)| *name).filter(here);
    let worlds = (first..first + STRIKES).map(|seed| (seed, plan::strikes(seed, points())));
    judge("at named points", worlds).await;
}
