//! Every recorded scenario of chats and sessions, played again with a model that says the same: the same events in
//! the same order, with the same keys, and the same answers. What differs is in [`differences`] and [`keys`], with its reason.
//!
//! `tests/data/chat` holds what was recorded of a real gateway (2026.9.6), see `distill.py` there. Strict is, per
//! client, the order of each run's `chat`, `agent` and `session.message` events and answers; the order of turns in a
//! session; and `sessions.changed` of a session, each kind and run once.
//!
//! With `CRABTREE_SCENARIO=name` one scenario is played, and everything of it is printed; with
//! `CRABTREE_SCENARIO_PRINT=1` everything of all is (`--nocapture` shows it).

mod compare;
mod differences;
mod frames;
mod host;
mod keys;
mod player;
mod recording;

use compare::{Comparison, compare, lost};
use differences::{stale, why};
use frames::Line;
use host::Host;
use player::Player;
use recording::Recording;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Scenarios that are played at the same time.
const LANES: usize = 8;

/// The scenarios, and those that made the sessions they find.
const SCENARIOS: &[(&str, &[&str])] = &[
    ("abort_queued", &[]),
    ("abort_running", &[]),
    ("agent_basic", &[]),
    ("agent_idempotency", &[]),
    ("agents", &[]),
    ("bad_model", &[]),
    ("cut", &[]),
    ("delta_500x2ms", &[]),
    ("err401", &[]),
    ("err500", &[]),
    ("err500_agent", &[]),
    ("hang_agent_timeout", &[]),
    ("hang_mid_timeout", &[]),
    ("hang_timeout", &[]),
    ("idempotency", &[]),
    ("image", &[]),
    ("noreply", &[]),
    ("noreply_agent_nodeliver", &[]),
    ("queue_collect", &[]),
    ("queue_followup", &[]),
    ("queue_interrupt", &[]),
    ("queue_steer", &[]),
    ("reasoning", &[]),
    ("restart_kill", &[]),
    ("restart_post_term", &[]),
    ("restart_term2", &[]),
    ("routing_tool_turn", &[]),
    ("sess_create", &[]),
    ("sess_fork", &["sess_create", "sess_send"]),
    ("sess_groups", &["sess_create"]),
    ("sess_list", &["sess_create"]),
    ("sess_reset_delete", &["sess_create"]),
    ("sess_send", &["sess_create"]),
    ("slash", &[]),
    ("slash_stop_running", &[]),
    ("tool_agent_method", &[]),
    ("tool_exec", &[]),
    ("tool_read", &[]),
];

struct Report {
    name: &'static str,
    comparison: Comparison,
    stuck: Option<String>,
}

/// accepts: G1, G6, G8, I13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_scenarios_replay() {
    let chosen = std::env::var("CRABTREE_SCENARIO").ok();
    let print_all = chosen.is_some() || std::env::var_os("CRABTREE_SCENARIO_PRINT").is_some();
    let mut playing = vec![];
    let lanes = Arc::new(Semaphore::new(LANES));
    for (name, after) in SCENARIOS {
        if chosen.as_deref().is_none_or(|chosen| chosen == *name) {
            let lanes = lanes.clone();
            playing.push(tokio::spawn(async move {
                let _lane = lanes.acquire().await.unwrap();
                play(name, after).await
            }));
        }
    }
    assert!(!playing.is_empty(), "no such scenario");
    let (mut failed, mut found, mut print) = (vec![], BTreeSet::new(), String::new());
    for report in playing {
        let report = report.await.unwrap();
        let differs = report.differs();
        if differs || print_all {
            report.render(print_all, &mut print);
        }
        if differs {
            failed.push(format!("{} is not as recorded", report.name));
        }
        found.extend(report.comparison.found);
    }
    if chosen.is_none() && failed.is_empty() {
        failed.extend(stale(&found));
    }
    eprintln!("{print}");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn play(name: &'static str, after: &[&'static str]) -> Report {
    let recording = Recording::load(name);
    let mut host = if recording.is_interrupted() { Host::there().await } else { Host::here().await };
    for before in after {
        let recording = Recording::load(before);
        let lost = |line: &Line| lost(line, &|what| is_listed(before, what));
        Player::new(&mut host, &recording, &lost).play().await;
    }
    let lost = |line: &Line| lost(line, &|what| is_listed(name, what));
    let played = Player::new(&mut host, &recording, &lost).play().await;
    host.stop().await;
    Report { name, comparison: compare(name, &recording.told(), &played.told), stuck: played.stuck }
}

fn is_listed(place: &str, what: &str) -> bool {
    why(place, what).is_some()
}

impl Report {
    fn differs(&self) -> bool {
        self.stuck.is_some() || self.comparison.found.iter().any(|(place, what)| !is_listed(place, what))
    }

    /// What differs, side by side; or everything.
    fn render(&self, all: bool, out: &mut String) {
        let why = |(place, what): &(String, String)| why(place, what);
        let state = if self.differs() { "NOT AS RECORDED" } else { "as recorded" };
        let _ =
            writeln!(out, "== {}: {state} (recorded | here; - + ~ differ, ! is not in the table)", self.name);
        if let Some(stuck) = &self.stuck {
            let _ = writeln!(out, "  stuck {stuck}");
        }
        for stream in &self.comparison.streams {
            if all || stream.rows.iter().any(|row| row.found.iter().any(|found| why(found).is_none())) {
                stream.render(&why, out);
            }
        }
        for (place, what) in self.comparison.found.iter().filter(|found| why(found).is_none()) {
            let _ = writeln!(out, "  not in the table: {place:?}: {what:?}");
        }
    }
}
