//! Commands that only look.

use super::{Command, Seen};
use crate::conns::Conn;
use crate::estate::Estate;
use crate::sessions::model_of;
use crate::store::{Counts, SessionRecord};
use crate::tree::Node;
use crabtree_protocol::params::session_lifecycle::Compacted;
use crabtree_protocol::{Refusal, SessionKey};
use std::sync::Arc;

/// Sessions that `/sessions` lists.
pub(super) const LISTED: u32 = 10;
/// How deep `/tree` goes, and how many children of one actor it shows.
const TREE_DEPTH: usize = 2;
const TREE_WIDTH: usize = 20;

/// What is answered to a command that began the session anew (as recorded).
pub(super) fn begun(command: Command) -> &'static str {
    if command == Command::New { "✅ New session started." } else { "✅ Session reset." }
}

/// What came of `/compact`.
pub(super) fn compacted(done: Result<Compacted, Refusal>) -> String {
    match done {
        Ok(Compacted { result: Some(result), .. }) => format!(
            "⚙️ Compacted: a summary stands for what was said before the last turns ({} tokens).\n\n{}",
            result.tokens_before, result.summary
        ),
        Ok(Compacted { reason: Some(reason), .. }) => format!("⚙️ Not compacted: {reason}."),
        Ok(_) => "⚙️ Not compacted.".to_owned(),
        Err(refusal) => format!("⚙️ Not compacted: {}.", refusal.message),
    }
}

pub(super) fn status(estate: &Estate, key: &SessionKey, seen: &Seen) -> String {
    let now = estate.clock.now_ms();
    let active = match estate.ledgers.of(key).first() {
        Some(turn) => format!("answering for {}", duration(now - turn.lock().started_at)),
        None => "idle".to_owned(),
    };
    let Counts { sessions, queued, running, dead } = seen.counts;
    let health = if estate.health.load().ok { "all parts run" } else { "not all parts run, see health" };
    [
        format!("🦀 Crabtree {}", estate.boot.version),
        format!("Up: {}; {health}", duration(estate.clock.uptime().as_millis() as i64)),
        format!("Model: {}", model_of(seen.record.as_ref(), &estate.catalog.load())),
        format!("Session: {key} ({active}; {} messages)", seen.messages),
        format!("Inputs: {running} running, {queued} waiting, {dead} given up; {sessions} sessions"),
        format!("Clients: {}", estate.conns.count()),
    ]
    .join("\n")
}

/// The sessions, a line each.
pub(super) fn sessions(records: &[SessionRecord], now: i64) -> String {
    if records.is_empty() {
        return "There are no sessions yet.".to_owned();
    }
    let line = |record: &SessionRecord| {
        let name = record.label.as_ref().or(record.title.as_ref());
        let name = name.map(|name| format!("  “{name}”")).unwrap_or_default();
        let status = record.status.as_deref().unwrap_or("new");
        format!("{}{name}  {status}, {} ago", record.key, duration(now - record.updated_at))
    };
    let lines: Vec<String> = records.iter().map(line).collect();
    format!("The latest sessions\n\n{}", lines.join("\n"))
}

/// Who is at a connection.
pub(in crate::methods) fn who(conn: &Conn) -> String {
    let Some(grant) = conn.grant() else { return "Nobody the gateway knows.".to_owned() };
    let client = &grant.params.client;
    let device = grant.device.as_ref().map_or("none".to_owned(), ToString::to_string);
    let scopes = match grant.scopes.as_list() {
        [] => "none".to_owned(),
        scopes => scopes.join(", "),
    };
    [
        format!("Client: {} ({}) {}", client.id.name(), client.mode.name(), &*client.version),
        format!("Device: {device}"),
        format!("Role: {}", grant.role.name()),
        format!("Scopes: {scopes}"),
        format!("Connection: {} ({})", conn.id(), grant.method),
    ]
    .join("\n")
}

/// The tree, a line for each actor.
pub(super) fn tree(root: &Arc<Node>) -> String {
    let mut lines = Vec::new();
    grow(root, 0, &mut lines);
    lines.join("\n")
}

fn grow(node: &Arc<Node>, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let restarts = match node.restarts() {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        n => format!(", restarted {n} times"),
    };
    lines.push(format!("{indent}{}: {}{restarts}", node.name(), node.state().0.as_str()));
    if depth == TREE_DEPTH {
        return;
    }
    let children = node.children();
    for child in children.iter().take(TREE_WIDTH) {
        grow(child, depth + 1, lines);
    }
    if children.len() > TREE_WIDTH {
        lines.push(format!("{indent}  … and {} more", children.len() - TREE_WIDTH));
    }
}

/// A duration in its two largest units.
fn duration(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown: Vec<_> = [-1, 59_999, 61_000, 3_660_000, 90_000_000].map(duration).into();
        assert_eq!(shown, ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
