//! The figures of `/metrics`, in Prometheus text, and those of `/health?view=summary`.
//!
//! Written by hand: every figure is read from a snapshot at the moment of asking, while the crates that are
//! kept well (`prometheus-client`, `prometheus`) hold registries of counters of their own, and bring an encoder
//! for another format or a derive macro with them. What there is to get wrong is [`escaped`], and tested.

use crabtree_actors::estate::Estate;
use crabtree_actors::tree::{Node, NodeState};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a walk over the tree found. Whatever an actor has not published yet counts as nothing.
#[derive(Debug, Default)]
pub struct Figures {
    /// Session actors.
    pub sessions: usize,
    /// Inputs that wait for their turn.
    pub queued: u64,
    running: u64,
    dead: u64,
    batches: u64,
    writes: u64,
    deepest: usize,
    actors: BTreeMap<(&'static str, &'static str), usize>,
}

impl Figures {
    /// Of the living tree.
    pub fn of(estate: &Estate) -> Self {
        let mut figures = Self::default();
        let mut rest: Vec<Arc<Node>> = estate.root.get().cloned().into_iter().collect();
        while let Some(node) = rest.pop() {
            figures.add(&node);
            rest.extend(node.children());
        }
        figures
    }

    fn add(&mut self, node: &Node) {
        let state = node.state().0;
        *self.actors.entry((node.kind(), state.as_str())).or_default() += 1;
        self.deepest = self.deepest.max(node.gauge().depth());
        let info = node.info();
        let figure = |pointer: &str| {
            info.as_deref().and_then(|info| info.pointer(pointer)).and_then(Value::as_u64).unwrap_or(0)
        };
        match node.kind() {
            "session" if state == NodeState::Running => self.sessions += 1,
            "store" => (self.batches, self.writes) = (figure("/batches"), figure("/writes")),
            "health" => {
                self.queued = figure("/inputs/queued");
                self.running = figure("/inputs/running");
                self.dead = figure("/inputs/dead");
            }
            _ => {}
        }
    }
}

/// Everything, in Prometheus text.
pub fn render(estate: &Estate) -> String {
    let figures = Figures::of(estate);
    let mut out = Exposition::default();
    out.family("crabtree_actors", "gauge", "Actors by kind and state.");
    for ((kind, state), count) in &figures.actors {
        out.sample(&[("kind", kind), ("state", state)], count);
    }
    out.counter("crabtree_actor_restarts", "Restarts of actors.", estate.restarts.load(Relaxed));
    out.gauge("crabtree_mailbox_depth_max", "Messages in the fullest mailbox.", figures.deepest);
    out.gauge("crabtree_connections", "Open connections.", estate.conns.count());
    out.gauge("crabtree_buffered_bytes", "Bytes waiting for all clients.", estate.conns.buffered());
    out.gauge("crabtree_active_runs", "Running turns.", estate.ledgers.count());
    out.family("crabtree_inputs", "gauge", "Accepted inputs that are not settled, and those given up.");
    for (state, count) in [("queued", figures.queued), ("running", figures.running), ("dead", figures.dead)] {
        out.sample(&[("state", state)], count);
    }
    out.counter("crabtree_store_batches", "Commits of the store since it started.", figures.batches);
    out.counter("crabtree_store_writes", "Writes in those commits.", figures.writes);
    let healthy = u8::from(estate.health.load().ok);
    out.gauge("crabtree_healthy", "1 while no actor is stuck or parked.", healthy);
    out.gauge("crabtree_uptime_seconds", "Age of the process.", estate.clock.uptime().as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        out.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
    }
    out.family("crabtree_build_info", "gauge", "The version, as a label.");
    out.sample(&[("version", estate.boot.version)], 1);
    out.text
}

/// Resident memory of this process, where the system tells it.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The text format, version 0.0.4.
#[derive(Default)]
struct Exposition {
    text: String,
    name: String,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(&[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(&format!("{name}_total"), "counter", help);
        self.sample(&[], value);
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line_or_its_quotes() {
        assert_eq!(escaped("plain"), "plain");
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
        let mut out = Exposition::default();
        out.family("x", "gauge", "Help.");
        out.sample(&[("a", "1\"} 2\n"), ("b", "")], 7);
        out.counter("y", "Help.", 3);
        assert_eq!(
            out.text,
            "# HELP x Help.\n# TYPE x gauge\nx{a=\"1\\\"} 2\\n\",b=\"\"} 7\n# HELP y_total Help.\n# TYPE y_total counter\ny_total 3\n"
        );
    }
}
