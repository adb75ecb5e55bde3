//! A client that only looks: it asks now and then, hears everything, and must notice nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::line::Line;
use super::report::Tally;

/// How often it asks; there are some of them.
const PAUSE: Duration = Duration::from_millis(40);

/// What it asks, in turn: answers out of memory, out of the database, and of actors.
fn question(nth: usize) -> (&'static str, Value) {
    match nth % 5 {
        0 => ("health", json!({})),
        1 => ("sessions.list", json!({ "limit": 1 })),
        2 => ("system-presence", json!({})),
        3 => ("cron.list", json!({ "limit": 1 })),
        _ => ("node.list", json!({})),
    }
}

/// Looks until it is over.
pub(super) async fn look(mut line: Line, mut over: watch::Receiver<bool>) -> Tally {
    let mut due = interval(PAUSE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for nth in 0.. {
        tokio::select! {
            _ = over.wait_for(|over| *over) => break,
            _ = due.tick() => {}
        }
        let (method, params) = question(nth);
        match line.once(method, params, |_| {}).await {
            Err(_) if line.tally.lost => break,
            // The next question comes soon enough.
            Err(failure) if failure.retry_ms().is_none() => {
                line.violated("what fails may be asked again", format!("{method}: {}", failure.told()));
            }
            _ => {}
        }
    }
    line.end().await
}
