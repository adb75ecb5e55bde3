//! What is measured all the year, and whether it grows.

use crate::link::{Answer, Client};
use crate::plan::{FIRST, LAST, LATE, Plan, Span};
use crate::server::{Look, store_bytes};
use crate::world::World;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Samples of a year; of a shorter time fewer, so that each is about some messages.
const SAMPLES: u64 = 200;
const MESSAGES: u64 = 25;
/// What is below that says nothing: answers in a sample, and samples in a part of the year.
const FEW_ANSWERS: usize = 10;
const FEW_SAMPLES: usize = 3;
/// Messages of a time in which enough is heard in each part: what is unknown there is wrong.
const LONG: u64 = 50_000;
/// Between two calls of `health`.
const PROBE: Duration = Duration::from_millis(20);

/// How things were after so many messages; latencies in milliseconds, sizes in bytes. What nothing was heard of is not a
/// number, which is null in JSON.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub messages: u64,
    pub seconds: f64,
    pub resident: f64,
    pub anonymous: f64,
    pub files: f64,
    pub threads: f64,
    pub store: f64,
    /// Since the sample before.
    pub messages_a_second: f64,
    pub cpu_a_message: f64,
    pub health_p50: f64,
    pub health_p99: f64,
    pub ack_p50: f64,
    pub ack_p99: f64,
    pub turn_p50: f64,
    pub turn_p99: f64,
}

/// Asks for `health` again and again.
pub async fn probe(client: Arc<Client>) {
    while let Some(link) = client.link().await {
        let begun = Instant::now();
        if let Answer::Ok(_) = link.ask("health", &json!({}), 1).next().await {
            client.world.window.lock().health.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// Takes the samples, and writes each as a line of JSON if there is a file for them.
pub async fn take(world: Arc<World>, state: PathBuf, mut file: Option<File>) -> Result<Vec<Sample>> {
    let every = (world.plan.messages / SAMPLES).max(MESSAGES);
    let (mut samples, mut cpu) = (Vec::<Sample>::new(), (0, 0.0));
    for at in 1.. {
        if at * every > world.plan.messages || !world.reached(at * every).await {
            break;
        }
        let window = std::mem::take(&mut *world.window.lock());
        let pid = world.pid.load(SeqCst);
        // Nothing is there during a restart.
        let Ok(look) = Look::at(pid) else { continue };
        let last = samples.last().cloned().unwrap_or_default();
        let messages = world.settled.load(SeqCst);
        let seconds = world.begun_at.elapsed().as_secs_f64();
        let count = (messages - last.messages).max(1) as f64;
        let used = if cpu.0 == pid { look.cpu - cpu.1 } else { look.cpu };
        cpu = (pid, look.cpu);
        let (health_p50, health_p99) = of(window.health);
        let (ack_p50, ack_p99) = of(window.ack);
        let (turn_p50, turn_p99) = of(window.turn);
        let sample = Sample {
            messages,
            seconds,
            resident: look.resident as f64,
            anonymous: look.anonymous as f64,
            files: look.files as f64,
            threads: look.threads as f64,
            store: store_bytes(&state) as f64,
            messages_a_second: count / (seconds - last.seconds).max(1e-3),
            cpu_a_message: used / count,
            health_p50,
            health_p99,
            ack_p50,
            ack_p99,
            turn_p50,
            turn_p99,
        };
        if let Some(file) = &mut file {
            writeln!(file, "{}", serde_json::to_string(&sample)?)?;
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// The middle one and the one that one in a hundred is above; not numbers if a few answers are all there is, as in a
/// sample that lasted for a moment after a restart.
fn of(mut values: Vec<f64>) -> (f64, f64) {
    if values.len() < FEW_ANSWERS {
        return (f64::NAN, f64::NAN);
    }
    values.sort_by(f64::total_cmp);
    (at(0.5, &values), at(0.99, &values))
}

fn at(share: f64, sorted: &[f64]) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share) as usize).copied().unwrap_or(f64::NAN)
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    at(0.5, &values)
}

/// Something that must not grow.
pub struct Measure {
    pub name: &'static str,
    /// What a growth may be anyway: these are small numbers, or clients come and go.
    slack: f64,
    pub unit: &'static str,
    /// In how much of the unit it is told.
    pub per: f64,
    /// Whether it grows by [`PIECE`].
    in_pieces: bool,
    read: fn(&[Sample]) -> f64,
}

impl Measure {
    const fn new(name: &'static str, slack: f64, unit: &'static str, read: fn(&[Sample]) -> f64) -> Self {
        Self { name, slack, unit, per: 1.0, in_pieces: false, read }
    }
}

macro_rules! median_of {
    ($field:ident) => {
        |samples| {
            let values: Vec<f64> =
                samples.iter().map(|sample| sample.$field).filter(|it| it.is_finite()).collect();
            if values.len() < FEW_SAMPLES { f64::NAN } else { median(values.into_iter()) }
        }
    };
}

/// The log reaches the database in pieces of about this size: a span of few messages has one more or less of them.
const PIECE: f64 = 5e6;

/// What is held against its growth.
pub const MEASURES: [Measure; 12] = [
    Measure { per: 1e6, ..Measure::new("resident", 4e6, "MB", median_of!(resident)) },
    Measure { per: 1e6, ..Measure::new("anonymous", 4e6, "MB", median_of!(anonymous)) },
    Measure::new("file descriptors", 8.0, "", median_of!(files)),
    Measure::new("threads", 8.0, "", median_of!(threads)),
    Measure { in_pieces: true, ..Measure::new("store, bytes a message", 64.0, "", bytes_a_message) },
    Measure::new("processors, a message", 0.5, "ms", median_of!(cpu_a_message)),
    Measure::new("health p50", 1.0, "ms", median_of!(health_p50)),
    Measure::new("health p99", 20.0, "ms", median_of!(health_p99)),
    Measure::new("ack p50", 5.0, "ms", median_of!(ack_p50)),
    Measure::new("ack p99", 50.0, "ms", median_of!(ack_p99)),
    Measure::new("turn p50", 20.0, "ms", median_of!(turn_p50)),
    Measure::new("turn p99", 200.0, "ms", median_of!(turn_p99)),
];

/// How fast the store grows with messages.
fn bytes_a_message(samples: &[Sample]) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0.0 };
    (last.store - first.store) / (last.messages - first.messages).max(1) as f64
}

/// A measure in the parts of the year that are compared; not a number where too little was heard.
pub struct Growth {
    pub measure: &'static Measure,
    pub first: f64,
    pub late: f64,
    pub last: f64,
    pub slack: f64,
    /// The larger one of the two growths, in percent.
    pub percent: f64,
    pub is_fine: bool,
}

/// What growth is fine, in percent, beside the slack of each measure.
#[derive(Args, Clone)]
pub struct Allowed {
    /// How much more is fine at the end, in percent, beside the slack that the table shows
    #[arg(long, default_value_t = 10.0)]
    pub growth: f64,
    /// The same for latencies, if the machine has other things to do, too [default: as --growth]
    #[arg(long)]
    pub slower: Option<f64>,
}

impl Allowed {
    fn of(&self, measure: &Measure) -> f64 {
        let is_latency = measure.name.ends_with("p50") || measure.name.ends_with("p99");
        self.slower.filter(|_| is_latency).unwrap_or(self.growth)
    }
}

/// Compares; nothing if not so much of the year has passed.
pub fn growths(plan: &Plan, samples: &[Sample], allowed: &Allowed) -> Vec<Growth> {
    let part = |(from, to): Span| -> Vec<Sample> {
        let inside = plan.at(from)..=plan.at(to);
        samples.iter().filter(|sample| inside.contains(&sample.messages)).cloned().collect()
    };
    let parts = [FIRST, LATE, LAST].map(part);
    if parts.iter().any(|part| part.len() < FEW_SAMPLES) {
        return Vec::new();
    }
    let growth = |measure: &'static Measure| {
        let [first, late, last] = [0, 1, 2].map(|n: usize| (measure.read)(&parts[n]));
        let worst = late.max(last);
        let percent = if first == 0.0 { 0.0 } else { (worst / first - 1.0) * 100.0 };
        let pieces =
            if measure.in_pieces { PIECE / (plan.at(FIRST.1) - plan.at(FIRST.0)).max(1) as f64 } else { 0.0 };
        let slack = measure.slack + pieces;
        let is_unknown = first.is_nan() || late.is_nan() || last.is_nan();
        let has_grown = worst > first * (1.0 + allowed.of(measure) / 100.0) + slack;
        let is_fine = !has_grown && (!is_unknown || plan.messages < LONG);
        Growth { measure, first, late, last, slack, percent, is_fine }
    };
    MEASURES.iter().map(growth).collect()
}
