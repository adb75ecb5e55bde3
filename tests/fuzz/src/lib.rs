//! Fuzzing: everything that reads what others wrote is given what nobody would write, and what it makes of that is held
//! against what it promises, not only against a panic.
//!
//! | target | what reads |
//! |---|---|
//! | [`frame`] | a client's frame |
//! | [`connect`] | the parameters of `connect` |
//! | [`config`] | the configuration file, its older forms, and changes to it |
//! | [`session_key`] | names of sessions |
//! | [`cron`] | `cron.add`, and what a schedule comes to |
//! | [`driver`] | a frame of a channel driver |
//! | [`markdown`] | an answer that is cut into messages |
//!
//! `cargo test` gives each target what once failed (`found/TARGET/*`), its seeds, most of which are recorded, and a
//! bounded number of inputs that are damaged from those, the same ones each time. `CRABTREE_FUZZ_INPUTS=N` makes that
//! any number and `CRABTREE_FUZZ_SEED=N` other ones. An input that fails is printed, and kept in `found`, where it is
//! replayed first from then on: it is committed with what mends it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

pub mod config;
pub mod connect;
pub mod cron;
pub mod driver;
pub mod frame;
pub mod markdown;
pub mod mutate;
pub mod session_key;
mod twice;

use mutate::{Dice, damaged};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// With what the inputs of `cargo test` begin.
const SEED: u64 = 0x00c0_ffee;
/// What takes longer hangs, however loaded the machine is: alone the slowest has taken less than two seconds.
const SLOWEST: Duration = Duration::from_secs(60);
/// Inputs that came all the way, and are damaged further.
const MAX_KEPT: usize = 256;
/// Longer inputs are not damaged further.
const MAX_LENGTH: usize = 16 * 1024;

/// Characters that are shown of the input that took longest.
const SHOWN: usize = 200;

/// Something that reads.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads an input and asserts what is promised of that; how far it came, from 0.
    pub read: fn(&[u8]) -> usize,
    /// How many there are of these steps; inputs reach each of them.
    pub steps: usize,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<String>,
    /// What may stand in any of them.
    pub words: &'static [&'static str],
    /// How many inputs `cargo test` gives it.
    pub inputs: usize,
}

/// What the environment says in place of a number.
fn set(variable: &str, otherwise: u64) -> u64 {
    let Ok(set) = std::env::var(variable) else { return otherwise };
    set.parse().unwrap_or_else(|_| panic!("{variable} is no number: {set}"))
}

/// Gives a target everything it is given by `cargo test`.
///
/// # Panics
/// An input fails, or none comes as far as they should.
pub fn run(target: &Target) {
    let (seed, inputs) = (set("CRABTREE_FUZZ_SEED", SEED), set("CRABTREE_FUZZ_INPUTS", target.inputs as u64));
    for (name, input) in found(target) {
        read(target, &input, &format!("{name}, which failed once"));
    }
    let mut pool = (target.seeds)();
    for input in &pool {
        read(target, input.as_bytes(), "a seed");
    }
    let (recorded, mut dice, mut steps) = (pool.len(), Dice(seed | 1), vec![0_u64; target.steps]);
    let mut slowest = (Duration::ZERO, Vec::new());
    for number in 0..inputs {
        let input = damaged(&mut dice, &pool, target.words);
        let begun = Instant::now();
        let step = read(target, &input, &format!("input {number} of CRABTREE_FUZZ_SEED={seed}"));
        steps[step] += 1;
        if begun.elapsed() > slowest.0 {
            slowest = (begun.elapsed(), input.clone());
        }
        // What came all the way is a seed of others, so that they lead away from the recorded ones.
        if step + 1 == target.steps && input.len() < MAX_LENGTH && dice.roll(8) == 0 {
            let kept = String::from_utf8_lossy(&input).into_owned();
            match pool.len() - recorded < MAX_KEPT {
                true => pool.push(kept),
                false => pool[recorded + dice.roll(MAX_KEPT)] = kept,
            }
        }
    }
    let (took, input) = slowest;
    let input: String = input.escape_ascii().map(char::from).take(SHOWN).collect();
    println!(
        "{}: {inputs} inputs came so far: {steps:?}; the slowest took {took:?}: \"{input}\"",
        target.name
    );
    assert!(steps.iter().all(|reached| *reached * 200 >= inputs), "inputs reach every part: {steps:?}");
}

/// One input; one that fails is told and kept.
fn read(target: &Target, input: &[u8], which: &str) -> usize {
    let begun = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| (target.read)(input)));
    let took = begun.elapsed();
    match read {
        Ok(step) if took < SLOWEST => step,
        failed => {
            let told = input.escape_ascii();
            let name = target.name;
            println!("{name} failed with {which}, {took:?}, {}:\n\"{told}\"", kept(target, input));
            match failed {
                Ok(_) => panic!("{name}: an input takes {took:?}"),
                Err(panic) => resume_unwind(panic),
            }
        }
    }
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name)
}

/// What failed once.
fn found(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder(target)).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| (entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()))
        .collect();
    found.sort_unstable();
    found
}

/// Keeps an input; where.
fn kept(target: &Target, input: &[u8]) -> String {
    let name = &blake3::hash(input).to_hex()[..12];
    let path = folder(target).join(name);
    let is_kept = std::fs::create_dir_all(folder(target)).and_then(|()| std::fs::write(&path, input));
    match is_kept {
        Ok(()) => format!("kept in {}", path.display()),
        Err(e) => format!("which cannot be kept in {}: {e}", path.display()),
    }
}

/// What is sent in the recordings of conversations: the frames of clients.
fn recorded_requests() -> Vec<Value> {
    let calls = include_str!("../../data/calls.jsonl").lines();
    calls.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether two values are the same JSON, however numbers are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
