//! The phases of a start and of a stop: each is a line of the log and an entry of `diagnostics.stability`.

use crabtree_actors::estate::{Estate, Part};
use crabtree_actors::tree::{Node, NodeState};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who has not started after this long is told of otherwise: its phase is not.
const PATIENCE: Duration = Duration::from_secs(60);
/// The actors whose start is a phase, in the order of the tree: the agent runtime, the channels, and what acts by itself.
const STARTS: [&str; 4] = ["agents", "channels", "cron", "scheduler"];
/// Those whose end is one, the other way round: nothing comes in, clients are gone, channels are disconnected, sessions
/// are written down, the agent runtime is closed, and the store last.
const ENDS: [&str; 6] = ["listener", "connections", "channels", "sessions", "agents", "store"];

/// A phase of the start is over.
pub fn started(estate: &Estate, phase: &str, took: Duration) {
    told(estate, "start", phase, took);
}

/// A phase of the stop is over.
pub fn stopped(estate: &Estate, phase: &str, took: Duration) {
    told(estate, "stop", phase, took);
}

fn told(estate: &Estate, what: &'static str, phase: &str, took: Duration) {
    let duration_ms = took.as_millis() as u64;
    tracing::info!(target: "crabtree::gateway", phase, duration_ms, "{what}");
    let facts = json!({ "what": what, "phase": phase, "durationMs": duration_ms });
    estate.stability.note("gateway.phase", facts, estate.clock.now_ms());
}

/// Tells the phases of a start from when the tree was planted.
pub async fn follow_start(estate: Arc<Estate>, root: Arc<Node>, planted: Instant) {
    let parts = async {
        for (part, phase) in [(Part::Store, "store"), (Part::Devices, "devices")] {
            estate.ready.wait(part).await;
            started(&estate, phase, planted.elapsed());
        }
        estate.ready.complete().await;
        started(&estate, "serving", planted.elapsed());
    };
    let actors = async {
        if !reached(&root, NodeState::Running).await {
            return;
        }
        for child in STARTS.iter().filter_map(|name| root.child(name)) {
            if reached(&child, NodeState::Running).await {
                started(&estate, child.name(), planted.elapsed());
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, async { tokio::join!(parts, actors) }).await;
}

/// The actors whose end is a phase. One that has ended is no child any more: to be asked before.
pub fn ends(root: &Node) -> Vec<Arc<Node>> {
    ENDS.iter().filter_map(|name| root.child(name)).collect()
}

/// Tells the phases of a stop until the store has ended.
pub async fn follow_stop(estate: Arc<Estate>, ends: Vec<Arc<Node>>) {
    let ordered = Instant::now();
    for actor in ends {
        if reached(&actor, NodeState::Stopped).await {
            stopped(&estate, actor.name(), ordered.elapsed());
        }
    }
}

/// Whether it comes to this state, and not to an end.
async fn reached(node: &Node, wanted: NodeState) -> bool {
    let mut watch = node.watch();
    let reached = watch.wait_for(|(state, _)| *state == wanted || *state == NodeState::Stopped).await;
    reached.is_ok_and(|reached| reached.0 == wanted)
}
