//! Two gateways side by side: reads the lines that measurements printed, and prints medians, the least and the most, and
//! how many times better one is than the other, as a table in Markdown or as JSON.

use crate::target::{Kind, Which};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::Command;

/// What is better.
#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
    /// It is told, not compared.
    Neither,
}
use Better::{Less, More, Neither};

/// A row of the table: the words, the measurement, the place of the figure in its line, its unit.
type Row = (&'static str, &'static str, &'static str, &'static str, Better);

const ROWS: &[Row] = &[
    ("start of the process to the first accepted `connect`", "start", "/ms", "ms", Less),
    ("resident memory, idle, with child processes", "idle", "/rssMb", "MB", Less),
    ("… for each idle connection", "idle", "/rssKbEach", "kB", Less),
    ("… on Telegram and Discord", "platforms", "/rssMb", "MB", Less),
    ("… after a minute of load, at rest again", "worn", "/rssMb", "MB", Less),
    ("handshakes a second, 16 at a time", "handshakes", "/perSecond", "", More),
    ("`health` calls a second, 4 clients × 8 outstanding", "health", "/perSecond", "", More),
    ("… p50", "health", "/latency/p50Ms", "ms", Less),
    ("… p99", "health", "/latency/p99Ms", "ms", Less),
    ("`sessions.list` calls a second, 1 row", "sessions.list of 1", "/perSecond", "", More),
    ("… p50", "sessions.list of 1", "/latency/p50Ms", "ms", Less),
    ("… p99", "sessions.list of 1", "/latency/p99Ms", "ms", Less),
    ("`sessions.list` calls a second, 100 rows", "sessions.list of 100", "/perSecond", "", More),
    ("… p50", "sessions.list of 100", "/latency/p50Ms", "ms", Less),
    ("… p99", "sessions.list of 100", "/latency/p99Ms", "ms", Less),
    ("chat turn, a model without delay: first delta, p50", "turn 1x1x0ms", "/firstDelta/p50Ms", "ms", Less),
    ("… p99", "turn 1x1x0ms", "/firstDelta/p99Ms", "ms", Less),
    ("8 sessions at once, a model of 20 × 20 ms: final, p50", "turn 8x20x20ms", "/final/p50Ms", "ms", Less),
    ("… of which the gateway's part", "turn 8x20x20ms", "/overheadP50Ms", "ms", Less),
    ("small events to 200 clients, deliveries a second", "fanout", "/perSecond", "", More),
    (
        "1,000 turns asked for at once, 20 watchers: all ends heard by all after",
        "streams",
        "/seconds",
        "s",
        Less,
    ),
    ("… most turns that streamed at the same time", "streams", "/mostAtOnce", "", Neither),
    ("… turns that ended as an error", "streams", "/failed", "", Neither),
    ("… times that one was sent away for now, and asked for again", "streams", "/refused", "", Neither),
    ("… p99 of `health` meanwhile", "streams", "/health/p99Ms", "ms", Less),
    ("… calls of `health` that it was too busy for", "streams", "/healthRefused", "", Neither),
    ("… resident memory at its peak", "streams", "/rssPeakMb", "MB", Less),
    ("a crashed actor serves again after, p50", "crash", "/recovery/p50Ms", "ms", Less),
    ("… the slowest", "crash", "/slowestMs", "ms", Less),
    ("2,000 clients of 64 addresses come back at once: all in after", "storm", "/allInMs", "ms", Less),
    ("5 clients that read, deliveries a second", "slow", "/aloneDeliveriesPerSecond", "", More),
    ("… beside 5 that do not", "slow", "/deliveriesPerSecond", "", More),
    ("… of those: closed with 1008", "slow", "/slowTold1008", "", Neither),
    ("… closed otherwise", "slow", "/slowCut", "", Neither),
    ("… kept", "slow", "/slowKept", "", Neither),
    ("… events they missed", "slow", "/slowMissedEvents", "", Neither),
    ("… resident memory at its peak", "slow", "/rssPeakMb", "MB", Less),
];

#[derive(Args)]
pub struct Compare {
    /// The lines
    file: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The figures of one gateway in a row, and the pairs of runs they belong to.
struct Figures(Vec<(u64, f64)>);

impl Figures {
    fn of(lines: &[Value], kind: Kind, measure: &str, place: &str) -> Self {
        let mine = |line: &&Value| line["target"] == kind.name() && line["measure"] == measure;
        let figure =
            |line: &Value| Some((line["pair"].as_u64().unwrap_or(0), line.pointer(place)?.as_f64()?));
        Self(lines.iter().filter(mine).filter_map(figure).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().map(|(_, figure)| *figure).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        Some(if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + upper) / 2.0 } else { upper })
    }

    fn json(&self) -> Value {
        let sorted = self.sorted();
        json!({ "median": self.median(), "min": sorted.first(), "max": sorted.last(), "runs": sorted.len() })
    }

    fn cell(&self, unit: &str) -> String {
        let sorted = self.sorted();
        let (Some(median), Some(min), Some(max)) = (self.median(), sorted.first(), sorted.last()) else {
            return String::new();
        };
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        if min == max {
            return format!("{}{unit}", number(median));
        }
        format!("{}{unit} ({}–{})", number(median), number(*min), number(*max))
    }

    /// How many times better these are than those: the median of the pairs.
    fn better_than(&self, those: &Self, better: Better) -> Option<f64> {
        let ratio = |(pair, mine): &(u64, f64)| {
            let (_, other) = those.0.iter().find(|(other, _)| other == pair)?;
            let ratio = match better {
                Less => other / mine,
                More => mine / other,
                Neither => return None,
            };
            ratio.is_finite().then_some((*pair, ratio))
        };
        Self(self.0.iter().filter_map(ratio).collect()).median()
    }
}

impl Compare {
    pub fn print(&self) -> Result<()> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let facts = lines.iter().find(|line| line["measure"] == "facts").cloned().unwrap_or_default();
        let rows = ROWS.iter().filter_map(|row @ (_, measure, place, ..)| {
            let of = |kind| Figures::of(&lines, kind, measure, place);
            let (ours, theirs, bare) = (of(Kind::Crabtree), of(Kind::OpenClaw), of(Kind::Bare));
            let any = !(ours.0.is_empty() && theirs.0.is_empty());
            any.then_some((row, ours, theirs, bare))
        });
        if self.json {
            let rows: Vec<Value> = rows
                .map(|((words, measure, place, unit, better), ours, theirs, bare)| {
                    json!({ "words": words, "measure": measure, "figure": place, "unit": unit, "crabtree": ours.json(),
                        "openclaw": theirs.json(), "bare": bare.json(), "times": ours.better_than(&theirs, *better) })
                })
                .collect();
            println!("{}", json!({ "facts": facts, "rows": rows }));
            return Ok(());
        }
        println!("| | crabtree | OpenClaw | times better | bare tokio-tungstenite server |");
        println!("| --- | ---: | ---: | ---: | ---: |");
        for ((words, _, _, unit, better), ours, theirs, bare) in rows {
            let times = ours.better_than(&theirs, *better).map(|times| format!("{}×", number(times)));
            let cells = [ours.cell(unit), theirs.cell(unit), times.unwrap_or_default(), bare.cell(unit)];
            println!("| {words} | {} |", cells.join(" | "));
        }
        println!("\nMedians, with the least and the most of the runs. {}", words(&facts));
        Ok(())
    }
}

fn words(facts: &Value) -> String {
    let known = facts.as_object().map(|facts| {
        let fact = |(name, is): (&String, &Value)| {
            let is = is.as_str().map_or_else(|| is.to_string(), str::to_owned);
            (name != "measure" && name != "target").then(|| format!("{name}: {is}"))
        };
        facts.iter().filter_map(fact).collect::<Vec<_>>().join("; ")
    });
    known.unwrap_or_default()
}

/// With as many digits as people read.
fn number(value: f64) -> String {
    if value.abs() < 1_000.0 {
        let digits = match value.abs() {
            size if size >= 100.0 || value.fract() == 0.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        return format!("{value:.digits$}");
    }
    let mut digits = format!("{value:.0}");
    let mut at = digits.len().saturating_sub(3);
    while at > 0 {
        digits.insert(at, ',');
        at = at.saturating_sub(3);
    }
    digits
}

/// The machine, and what is measured on it.
pub fn facts(which: &Which) -> Result<Value> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let (load, memory) = (read("/proc/loadavg"), read("/proc/meminfo"));
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    let said = Command::new(&which.server).arg("--version").output();
    let said = said.with_context(|| format!("cannot start {}", which.server.display()))?;
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let mut facts = Map::from_iter([
        ("measure".to_owned(), json!("facts")),
        ("date".to_owned(), json!(chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string())),
        ("processor".to_owned(), json!(model.map_or(std::env::consts::ARCH, |(_, name)| name))),
        ("cores".to_owned(), json!(std::thread::available_parallelism()?.get())),
        ("memory".to_owned(), json!(memory.map(|kib| format!("{:.0} GiB", kib / 1_048_576.0)))),
        ("Linux".to_owned(), json!(read("/proc/sys/kernel/osrelease").trim())),
        ("load average before".to_owned(), json!(load.split(' ').next())),
        ("crabtree".to_owned(), json!(version.trim_start_matches("crabtree "))),
    ]);
    if let Some(dir) = &which.openclaw {
        let package = std::fs::read_to_string(dir.join("oc/node_modules/openclaw/package.json"))?;
        let package: Value = serde_json::from_str(&package)?;
        facts.insert("OpenClaw".to_owned(), package["version"].clone());
        let package = std::fs::read_to_string(dir.join("node/node_modules/node/package.json"))?;
        let package: Value = serde_json::from_str(&package)?;
        facts.insert("Node".to_owned(), package["version"].clone());
    }
    Ok(Value::Object(facts))
}
