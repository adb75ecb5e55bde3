//! `system.actors` and its relatives: the living tree, and faults on demand.

use super::Call;
use crate::connection::ConnectionMsg;
use crate::kill_points::KILL_POINTS;
use crate::tree::{Chaos, Ctx, Node, NodeState, Order};
use crabtree_protocol::params::actors::{
    ActorParams, ActorsParams, ChaosParams, DEFAULT_DEPTH, DEFAULT_LIMIT, Fault,
};
use crabtree_protocol::params::core::Ok as Done;
use crabtree_protocol::{Method, Refusal};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a restart, park or resume may take before the state is reported as it is.
const SETTLE: Duration = Duration::from_secs(5);
/// Longest `slow` and `spin`, in milliseconds.
const MAX_FAULT_MS: u64 = 60_000;

pub(super) fn tree(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ActorsParams>() else { return };
    let Some(root) = call.estate().root.get() else {
        return call.responder.refuse(Refusal::unavailable(100));
    };
    let path = params.path.as_deref().unwrap_or(root.path());
    let Some(node) = root.find(path) else {
        return call.responder.refuse(Refusal::unknown_actor(path));
    };
    let depth = params.depth.map_or(DEFAULT_DEPTH, |d| d.get());
    let limit = params.limit.map_or(DEFAULT_LIMIT, |l| l.get()) as usize;
    let ts = call.estate().clock.now_ms();
    call.responder.ok(&json!({ "ts": ts, "root": actor(&node, depth, limit) }));
}

/// A node and what is below it, `depth` levels deep and `limit` children wide.
pub(super) fn actor(node: &Arc<Node>, depth: u64, limit: usize) -> Value {
    let (state, since) = node.state();
    let gauge = node.gauge();
    let mut mailbox = json!({ "depth": gauge.depth() });
    if let Some(ms) = gauge.oldest_ms() {
        mailbox["oldestMs"] = json!(ms);
    }
    let mut row = json!({
        "path": &**node.path(),
        "name": &**node.name(),
        "kind": node.kind(),
        "state": state.as_str(),
        "sinceMs": since,
        "restarts": node.restarts(),
        "mailbox": mailbox,
    });
    if let Some(exit) = node.last_exit() {
        row["lastExit"] = exit.shown();
    }
    if let Some(left) = node.restarts_left() {
        row["restartsLeft"] = json!(left);
    }
    if let Some(ms) = gauge.busy_ms() {
        row["busyMs"] = json!(ms);
    }
    if let Some(info) = node.info() {
        row["info"] = Value::clone(&info);
    }
    let children = if depth == 0 { Vec::new() } else { node.children() };
    let shown = children.len().min(limit);
    let hidden = node.child_count() - shown.min(node.child_count());
    row["children"] = children.iter().take(limit).map(|c| actor(c, depth - 1, limit)).collect();
    if hidden > 0 {
        row["more"] = json!(hidden);
    }
    row
}

/// The node a command is about; the root and single connections are left alone.
fn target(call: &Call<'_>, path: &str) -> Result<Arc<Node>, Refusal> {
    let root = call.estate().root.get().ok_or_else(|| Refusal::unavailable(100))?;
    let node = root.find(path).ok_or_else(|| Refusal::unknown_actor(path))?;
    if node.parent().is_none() {
        return Err(Refusal::actor_untouchable(path, "the root is restarted with the process"));
    }
    if node.kind() == "connection" {
        return Err(Refusal::actor_untouchable(path, "a connection ends with its socket"));
    }
    Ok(node)
}

pub(super) fn restart(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    command(ctx, call, Order::Restart);
}

pub(super) fn park(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    command(ctx, call, Order::Park);
}

pub(super) fn resume(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    command(ctx, call, Order::Restart);
}

/// Gives an order to the target's parent and answers when it has been carried out.
fn command(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, order: Order) {
    let Some((params, call)) = call.parse::<ActorParams>() else { return };
    let node = match target(&call, &params.path) {
        Ok(node) => node,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    if call.method == Method::SystemActorsResume && node.state().0 != NodeState::Parked {
        return answer(call.responder, &node);
    }
    let before = node.generation();
    let mut watch = node.watch();
    if !node.command(order) {
        return call.responder.refuse(Refusal::unavailable(100));
    }
    let responder = call.responder;
    ctx.detached(async move {
        let done = watch.wait_for(|(state, generation)| match order {
            Order::Park => *state == NodeState::Parked,
            _ => *generation > before && *state == NodeState::Running,
        });
        // Late or not, the answer says how it is.
        let _ = tokio::time::timeout(SETTLE, done).await;
        answer(responder, &node);
    });
}

fn answer(responder: crate::responder::Responder, node: &Node) {
    responder.ok(&json!({
        "ok": true, "path": &**node.path(), "state": node.state().0.as_str(), "restarts": node.restarts(),
    }));
}

pub(super) fn chaos(call: Call<'_>) {
    if !call.estate().config.load().settings.gateway.chaos.enabled {
        return call.responder.refuse(Refusal::unknown_method(call.method.name()));
    }
    let Some((params, call)) = call.parse::<ChaosParams>() else { return };
    let injected = inject(&call, &params);
    call.responder.settle(injected.map(|()| Done::TRUE));
}

fn inject(call: &Call<'_>, params: &ChaosParams) -> Result<(), Refusal> {
    let length = Duration::from_millis(params.ms.map_or(1_000, |ms| ms.get()).min(MAX_FAULT_MS));
    let chaos = match params.fault {
        Fault::Panic => Some(Chaos::Panic),
        Fault::Kill => None,
        Fault::Hang => Some(Chaos::Hang),
        Fault::Slow => Some(Chaos::Slow(length)),
        Fault::Spin => Some(Chaos::Spin(length)),
        Fault::Killpoint => {
            let named = KILL_POINTS.iter().find(|(name, _)| params.name.as_deref() == Some(*name));
            let (_, point) = named.ok_or_else(|| {
                let names: Vec<&str> = KILL_POINTS.iter().map(|(name, _)| *name).collect();
                Refusal::invalid_request(format!("name must be one of: {}", names.join(", ")))
            })?;
            call.estate().kill_points.arm(*point);
            return Ok(());
        }
    };
    let node = target(call, &params.path)?;
    if chaos.map_or_else(|| node.kill(), |chaos| node.inject(chaos)) {
        Ok(())
    } else {
        Err(Refusal::unavailable(100))
    }
}
