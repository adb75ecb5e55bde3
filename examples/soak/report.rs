//! What is told at the end: a line of JSON, and a table for people.

use crate::blows::Striker;
use crate::samples::{Allowed, Growth, Sample, median};
use crate::world::World;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::atomic::Ordering::SeqCst;

pub struct Report<'a> {
    pub world: &'a World,
    pub samples: &'a [Sample],
    pub growths: &'a [Growth],
    pub allowed: &'a Allowed,
    pub struck: &'a Times,
    /// Whether everything that was planned was done.
    pub complete: bool,
}

/// How long what was struck was away: names, how often, the middle and the longest, in milliseconds.
pub struct Times(Vec<(String, usize, f64, f64)>);

impl Times {
    pub fn of(striker: &Striker) -> Self {
        let line = |name: &str, times: &[f64]| {
            (
                name.to_owned(),
                times.len(),
                median(times.iter().copied()),
                times.iter().copied().fold(0.0, f64::max),
            )
        };
        let mut lines = vec![line("crashed actor", &striker.back)];
        lines.extend(striker.away.iter().map(|(how, times)| line(&format!("restart {}", how.name()), times)));
        lines.retain(|(_, count, ..)| *count > 0);
        Self(lines)
    }
}

impl Report<'_> {
    pub fn is_fine(&self) -> bool {
        self.world.problems().0 == 0 && self.growths.iter().all(|growth| growth.is_fine)
    }

    fn messages(&self) -> u64 {
        self.world.settled.load(SeqCst)
    }

    fn seconds(&self) -> f64 {
        self.samples.last().map_or(0.0, |last| last.seconds)
    }

    /// Messages a second, and milliseconds of processors that each took the gateway.
    fn speed(&self) -> (f64, f64) {
        let cpu: f64 = median(self.samples.iter().map(|sample| sample.cpu_a_message));
        (self.messages() as f64 / self.seconds().max(1e-3), cpu)
    }

    pub fn json(&self) -> Value {
        let (problems, told) = self.world.problems();
        let growth = |growth: &Growth| {
            let per = growth.measure.per;
            let of = |value: f64| round(value / per);
            json!({
                "name": growth.measure.name, "unit": growth.measure.unit, "first": of(growth.first),
                "late": of(growth.late), "last": of(growth.last), "growthPercent": round(growth.percent),
                "slack": of(growth.slack), "fine": growth.is_fine,
            })
        };
        let away: Map<String, Value> = self
            .struck
            .0
            .iter()
            .map(|(name, count, middle, longest)| {
                (
                    name.clone(),
                    json!({ "count": count, "medianMs": round(*middle), "maxMs": round(*longest) }),
                )
            })
            .collect();
        let (speed, cpu) = self.speed();
        json!({
            "measure": "soak", "seed": self.world.plan.seed, "complete": self.complete, "fine": self.is_fine(),
            "messages": self.messages(), "seconds": round(self.seconds()), "messagesASecond": round(speed),
            "cpuMsAMessage": round(cpu), "counts": self.world.counts(), "away": away,
            "storeBytes": self.samples.last().map_or(0.0, |last| last.store),
            "allowedPercent": self.allowed.growth, "allowedSlowerPercent": self.allowed.slower,
            "growths": self.growths.iter().map(growth).collect::<Vec<_>>(),
            "problems": problems, "told": told,
        })
    }

    pub fn table(&self) -> String {
        let mut table = String::new();
        let (speed, cpu) = self.speed();
        let _ = writeln!(
            table,
            "\n{} of {} messages in {:.0} s: {speed:.0} a second, {cpu:.2} ms of processors each\n",
            self.messages(),
            self.world.plan.messages,
            self.seconds()
        );
        let counts = self.world.counts();
        let width = counts.keys().map(String::len).max().unwrap_or(0);
        for (what, count) in &counts {
            let _ = writeln!(table, "  {what:width$} {count:>10}");
        }
        let _ = writeln!(
            table,
            "\n  {:24} {:>6} {:>12} {:>12}",
            "nobody was served for", "times", "median", "longest"
        );
        for (name, count, middle, longest) in &self.struck.0 {
            let _ = writeln!(table, "  {name:24} {count:>6} {middle:>9.0} ms {longest:>9.0} ms");
        }
        if self.growths.is_empty() {
            let _ = writeln!(table, "\n  not enough of the year has passed to say what grows");
        } else {
            let heads = ["10 to 20 %", "50 to 60 %", "90 to 100 %", "growth", "slack"];
            let _ = write!(table, "\n  {:24}", "of the year");
            for head in heads {
                let _ = write!(table, " {head:>12}");
            }
            let _ = writeln!(table);
        }
        for growth in self.growths {
            let measure = growth.measure;
            let told = |value: f64, unit: &str| match value.is_nan() {
                true => "-".to_owned(),
                false => format!("{value:.1} {unit}").trim_end().to_owned(),
            };
            let of = |value: f64| told(value / measure.per, measure.unit);
            let verdict = if growth.is_fine { "" } else { "  TOO MUCH" };
            let _ = writeln!(
                table,
                "  {:24} {:>12} {:>12} {:>12} {:>12} {:>12}{verdict}",
                measure.name,
                of(growth.first),
                of(growth.late),
                of(growth.last),
                told(growth.percent, "%"),
                of(growth.slack)
            );
        }
        let (problems, _) = self.world.problems();
        let verdict = if self.is_fine() { "all is fine" } else { "FAILED" };
        let rest = if self.complete { "" } else { "; cut short" };
        let _ = writeln!(table, "\n{problems} problems; {verdict}{rest}");
        table
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
