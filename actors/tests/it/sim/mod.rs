//! The whole tree, simulated: clients without sockets, a database in memory, paused time, and a schedule of
//! words and faults that is made from a seed. What must never break is checked while it runs and at its end.
//!
//! | file | what |
//! |---|---|
//! | `plan` | the schedule of a seed |
//! | `world` | the tree, and the hand that carries the schedule out |
//! | `acts` | what the hand does |
//! | `link` | one connection: the socket's part and the client's |
//! | `errand` | what nodes do, and what must hold of it |
//! | `wire` | what a client sees, judged frame by frame |
//! | `check`, `order` | what must hold when all has come to rest |
//! | `tally` | what happened how often |
//! | `trace` | what was seen, to be the same for the same seed |
//!
//! `CRABTREE_SIM_SEED=<n>` replays one seed, `CRABTREE_SIM_SEEDS=<n>` runs that many.

mod acts;
mod check;
mod errand;
mod link;
mod order;
mod plan;
mod tally;
mod trace;
mod wire;
mod world;

use plan::Plan;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tally::Tally;
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 80;
/// Seeds that are told twice.
const TWICE: u64 = 4;

/// Problems shown of one seed, and how much of each.
const MAX_PROBLEMS: usize = 12;
const MAX_PROBLEM_BYTES: usize = 1_600;

struct Story {
    problems: Vec<String>,
    hash: u64,
    lines: Vec<String>,
    tally: Tally,
}

fn tell(seed: u64) -> Story {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let mut world = World::start(Plan::of(seed)).await;
        world.run().await;
        world.conclude().await;
        world
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let mut trace = world.trace.lock();
    let lines = std::mem::take(&mut trace.lines);
    Story { problems: world.problems.clone(), hash: trace.hash(), lines, tally: world.tally() }
}

fn add(tally: &mut Tally, more: Tally) {
    for (what, n) in more {
        *tally.entry(what).or_default() += n;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn report(seed: u64, story: &Story) -> String {
    let replay =
        format!("CRABTREE_SIM_SEED={seed} cargo test -p crabtree-actors --profile ci sim -- --nocapture");
    let mut text = format!("seed {seed} (replay: {replay})\n");
    for problem in story.problems.iter().take(MAX_PROBLEMS) {
        let end = problem.floor_char_boundary(MAX_PROBLEM_BYTES);
        text.push_str(&format!("  {}\n", &problem[..end]));
    }
    text
}

#[test]
fn nothing_is_lost_doubled_or_closed_under_any_schedule() {
    if let Some(seed) = number("CRABTREE_SIM_SEED") {
        let story = tell(seed);
        if let Ok(path) = std::env::var("CRABTREE_SIM_TRACE") {
            std::fs::write(path, story.lines.join("\n")).unwrap();
        }
        assert!(story.problems.is_empty(), "{}", report(seed, &story));
        return;
    }
    let first = number("CRABTREE_SIM_FIRST").unwrap_or(0);
    let last = first + number("CRABTREE_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let (mut failed, mut tally) = (String::new(), Tally::new());
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= last {
                return (failed, tally);
            }
            let story = tell(seed);
            add(&mut tally, story.tally.clone());
            if !story.problems.is_empty() {
                failed.push_str(&report(seed, &story));
            }
        }
    };
    let (mut failed, mut tally) = (String::new(), Tally::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let (text, more) = worker.join().unwrap();
            failed.push_str(&text);
            add(&mut tally, more);
        }
    });
    println!("{} seeds: {tally:?}", last - first);
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..number("CRABTREE_SIM_TWICE").unwrap_or(TWICE) {
        let (one, two) = (tell(seed), tell(seed));
        let same = one.lines.iter().zip(&two.lines).take_while(|(a, b)| a == b).count();
        assert!(
            one.hash == two.hash,
            "seed {seed} differs from line {same} on:\n{:#?}\n{:#?}",
            one.lines[same.saturating_sub(5)..].iter().take(12).collect::<Vec<_>>(),
            two.lines[same.saturating_sub(5)..].iter().take(12).collect::<Vec<_>>(),
        );
    }
}
