//! What came of a plan: each fault, what clients saw, and what was not as it has to be.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Fault;
use crate::cli::tree::span;
use crate::cli::{printable, table};

/// Something that was not as it has to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Violation {
    /// Who has seen it.
    pub who: String,
    pub expected: String,
    pub seen: String,
}

/// What came of one fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blow {
    pub path: String,
    pub fault: Fault,
    /// When, after the begin.
    pub at: Duration,
    /// How often the actor was restarted for it.
    pub restarts: u64,
    /// From the crash until it ran again, on the gateway's clock, and how much of that it had to wait.
    pub down: Option<(Duration, Duration)>,
    /// From the blow until the actor has answered a request again, as a client sees it.
    pub served: Option<Duration>,
    /// How long it hung before it was replaced.
    pub hung: Option<Duration>,
}

impl Blow {
    /// From the crash until it ran again, beyond the wait.
    pub fn recovery(&self) -> Option<Duration> {
        self.down.map(|(down, backoff)| down.saturating_sub(backoff))
    }

    /// From the blow until the answer, beyond the wait.
    pub fn service(&self) -> Option<Duration> {
        Some(self.served?.saturating_sub(self.down?.1))
    }

    fn json(&self) -> Value {
        json!({
            "path": self.path,
            "fault": self.fault.name(),
            "atMs": ms(self.at),
            "restarts": self.restarts,
            "downMs": self.down.map(|(down, _)| ms(down)),
            "backoffMs": self.down.map(|(_, backoff)| ms(backoff)),
            "recoveryMs": self.recovery().map(ms),
            "servedMs": self.service().map(ms),
            "hungMs": self.hung.map(ms),
        })
    }

    /// One line, while it goes on.
    pub fn line(&self, nth: usize) -> String {
        let back = self.recovery().map(|back| format!("back in {} ms", ms(back)));
        let backoff = self.down.map(|(_, backoff)| backoff).filter(|backoff| !backoff.is_zero());
        let parts = [
            self.hung.map(|hung| format!("replaced after {}", span(hung.as_millis() as u64))),
            back,
            backoff.map(|backoff| format!("after a backoff of {} ms", ms(backoff))),
            self.service().map(|served| format!("answered in {} ms", ms(served))),
        ];
        let told: Vec<String> = parts.into_iter().flatten().collect();
        let told = match (told.is_empty(), self.fault.is_fatal()) {
            (false, _) => told.join(", "),
            (true, true) => "its session has gone on".into(),
            (true, false) => "went on".into(),
        };
        printable(&format!("{nth:>4}  {:<34} {:<6} {told}", self.path, self.fault.name()))
    }
}

/// Milliseconds with a decimal.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// What a socket has seen, or several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub requests: usize,
    pub answers: usize,
    /// Answers that said to ask again.
    pub put_off: usize,
    pub events: usize,
    /// Events that were not heard.
    pub missed: u64,
    /// The longest that an answer took.
    pub slowest: Duration,
    pub lost: bool,
    pub violations: Vec<Violation>,
}

/// What became of turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Turns {
    pub sent: usize,
    pub finals: usize,
    pub errors: usize,
    pub aborted: usize,
    pub slowest: Duration,
}

impl Turns {
    pub fn end(&mut self, state: &str, took: Duration) {
        match state {
            "final" => self.finals += 1,
            "error" => self.errors += 1,
            _ => self.aborted += 1,
        }
        self.slowest = self.slowest.max(took);
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.finals += other.finals;
        self.errors += other.errors;
        self.aborted += other.aborted;
        self.slowest = self.slowest.max(other.slowest);
    }

    fn settled(&self) -> usize {
        self.finals + self.errors + self.aborted
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub plan: &'static str,
    pub seed: u64,
    pub blows: Vec<Blow>,
    pub took: Duration,
    /// Why it ended before all faults were done.
    pub stopped: Option<String>,
    pub sockets: usize,
    pub lost: usize,
    pub seen: Tally,
    pub turns: Turns,
    /// How many actors there were at the end, and which of them are parked.
    pub actors: usize,
    pub parked: Vec<String>,
    /// `inputs` of `status` at the end: everybody's.
    pub inputs: Value,
    pub violations: Vec<Violation>,
}

impl Report {
    /// Adds what a socket has seen.
    pub fn add(&mut self, tally: Tally) {
        self.sockets += 1;
        self.lost += usize::from(tally.lost);
        let seen = &mut self.seen;
        seen.requests += tally.requests;
        seen.answers += tally.answers;
        seen.put_off += tally.put_off;
        seen.events += tally.events;
        seen.missed += tally.missed;
        seen.slowest = seen.slowest.max(tally.slowest);
        self.violations.extend(tally.violations);
    }

    /// Adds what became of turns.
    pub fn add_turns(&mut self, turns: &Turns) {
        self.turns.add(turns);
        let (sent, settled) = (turns.sent, turns.settled());
        if settled != sent {
            self.violated(
                "the turns",
                "each turn ends once",
                format!("{sent} were sent and {settled} have ended"),
            );
        }
    }

    pub fn violated(&mut self, who: &str, expected: &str, seen: impl Into<String>) {
        self.violations.push(Violation { who: who.into(), expected: expected.into(), seen: seen.into() });
    }

    pub fn ok(&self) -> bool {
        self.violations.is_empty()
    }

    pub fn json(&self) -> Value {
        let of = |times: Vec<Duration>| {
            let figures = Figures::of(times);
            json!({ "count": figures.count, "p50Ms": ms(figures.p50), "p99Ms": ms(figures.p99), "maxMs": ms(figures.max) })
        };
        let violation = |v: &Violation| json!({ "who": v.who, "expected": v.expected, "seen": v.seen });
        json!({
            "ok": self.ok(),
            "plan": self.plan,
            "seed": self.seed,
            "tookMs": ms(self.took),
            "stopped": self.stopped,
            "faults": self.blows.iter().map(Blow::json).collect::<Vec<_>>(),
            "recovery": of(self.blows.iter().filter_map(Blow::recovery).collect()),
            "served": of(self.blows.iter().filter_map(Blow::service).collect()),
            "clients": {
                "sockets": self.sockets, "lost": self.lost, "requests": self.seen.requests,
                "answers": self.seen.answers, "putOff": self.seen.put_off, "slowestMs": ms(self.seen.slowest),
                "events": self.seen.events, "missed": self.seen.missed,
            },
            "turns": {
                "sent": self.turns.sent, "settled": self.turns.settled(), "final": self.turns.finals,
                "error": self.turns.errors, "aborted": self.turns.aborted, "slowestMs": ms(self.turns.slowest),
            },
            "tree": { "actors": self.actors, "parked": self.parked },
            "inputs": self.inputs,
            "violations": self.violations.iter().map(violation).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let row = |name: &str, told: String| [name.to_owned(), told];
        let (seen, turns) = (&self.seen, &self.turns);
        let took = span(self.took.as_millis() as u64);
        let mut rows = vec![row(
            "faults",
            format!("{} of plan {} in {took}, seed {}", self.blows.len(), self.plan, self.seed),
        )];
        rows.extend(self.stopped.iter().map(|why| row("stopped", why.clone())));
        let figures = |times: Vec<Duration>| Figures::of(times).told();
        rows.extend([
            row(
                "recovery",
                figures(self.blows.iter().filter_map(Blow::recovery).collect()) + ", crash to running",
            ),
            row(
                "serving",
                figures(self.blows.iter().filter_map(Blow::service).collect()) + ", fault to its next answer",
            ),
            row("sockets", format!("{}, {} lost", self.sockets, self.lost)),
            row(
                "requests",
                format!(
                    "{}, {} answers, {} of them put off; the slowest took {} ms",
                    seen.requests,
                    seen.answers,
                    seen.put_off,
                    ms(seen.slowest)
                ),
            ),
            row("events", format!("{}, {} missed", seen.events, seen.missed)),
            row(
                "turns",
                format!(
                    "{} sent, {} settled ({} final, {} error, {} aborted)",
                    turns.sent,
                    turns.settled(),
                    turns.finals,
                    turns.errors,
                    turns.aborted
                ),
            ),
            row(
                "tree",
                match self.parked.is_empty() {
                    true => format!("{} actors, none parked", self.actors),
                    false => format!("{} actors, parked: {}", self.actors, self.parked.join(", ")),
                },
            ),
        ]);
        let violations = self
            .violations
            .iter()
            .map(|v| row("VIOLATED", format!("{} ({}): {}", v.expected, v.who, v.seen)));
        rows.extend(violations);
        if self.ok() {
            rows.push(row("verdict", "everything held".into()));
        }
        printable(&table::lines(&rows).join("\n"))
    }
}

/// What many times come to.
struct Figures {
    count: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Figures {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let nth = (times.len() * percent).div_ceil(100).max(1);
            times.get(nth - 1).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: rank(50), p99: rank(99), max: rank(100) }
    }

    fn told(&self) -> String {
        match self.count {
            0 => "none measured".into(),
            count => format!(
                "p50 {} ms, p99 {} ms, max {} ms beyond the backoff ({count} times)",
                ms(self.p50),
                ms(self.p99),
                ms(self.max)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn blow(down: u64, backoff: u64) -> Blow {
        Blow {
            path: "gateway/cron".into(),
            fault: Fault::Panic,
            at: millis(5),
            restarts: 1,
            down: Some((millis(down), millis(backoff))),
            served: Some(millis(down + 1)),
            hung: None,
        }
    }

    #[test]
    fn what_is_measured_is_beyond_the_backoff() {
        let report = Report { blows: (1..=100).map(|n| blow(n + 100, 100)).collect(), ..Report::default() };
        let told = report.json();
        assert_eq!(told["recovery"], json!({"count": 100, "p50Ms": 50.0, "p99Ms": 99.0, "maxMs": 100.0}));
        assert_eq!(told["faults"][1]["servedMs"], 3.0);
        assert!(told["ok"] == true && report.text().ends_with("everything held"), "{}", report.text());
        assert_eq!(Figures::of(vec![]).told(), "none measured");
    }

    #[test]
    fn what_was_not_so_is_said_with_what_was_expected() {
        let mut report = Report::default();
        report.add(Tally { lost: true, ..Tally::default() });
        report.add_turns(&Turns { sent: 2, finals: 1, ..Turns::default() });
        assert_eq!((report.ok(), report.lost), (false, 1));
        let text = report.text();
        assert!(
            text.contains("VIOLATED  each turn ends once (the turns): 2 were sent and 1 have ended"),
            "{text}"
        );
        assert!(!text.contains("everything held"));
    }

    #[test]
    fn a_line_tells_one_fault() {
        let told = blow(101, 100).line(3);
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "3 gateway/cron panic back in 1 ms, after a backoff of 100 ms, answered in 2 ms"
        );
    }
}
