//! Nodes, what they are asked to do, and the places where things can run.

use super::Call;
use crate::canvas;
use crate::gateway::Wiring;
use crate::nodes::policy::shows_canvas;
use crate::nodes::{Invocation, NodesMsg, answer, routing};
use crate::responder::Responder;
use crate::tree::Reply;
use crabtree_protocol::params::core::{Empty, NoParams};
use crabtree_protocol::params::nodes::{
    AckParams, Described, DrainParams, EnqueueParams, Environment, Environments, EnvironmentsListParams,
    EnvironmentsStatusParams, EventParams, InvokeParams, Invoked, NodeParams, NodePolicySetParams, NodeRow,
    Nodes, PendingAction, ProgressParams, RenameParams, RequestParams, ResultParams, SkillsUpdateParams,
    SurfaceRefreshParams, SurfaceRefreshed, ToolsUpdateParams, Triggers, VoicewakeSetParams, WorkPriority,
};
use crabtree_protocol::{Refusal, Role};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Hands a message to the nodes actor; while it is restarted, its client is told to try again.
fn tell(wiring: &Wiring, msg: NodesMsg) {
    // The message comes back with its responder, which answers as it is dropped.
    let _ = wiring.nodes.send(msg);
}

/// Answers with what is made of something the actor knows.
fn shown<T: Send + 'static, R: Serialize>(
    responder: Responder,
    make: impl FnOnce(T) -> Result<R, Refusal> + Send + 'static,
) -> Reply<T> {
    Reply::new(move |known: Option<T>| {
        if let Some(known) = known {
            responder.settle(make(known));
        }
    })
}

/// The node that calls.
fn caller(call: &Call<'_>) -> String {
    let device = call.responder.conn().grant().and_then(|grant| grant.device.as_ref());
    device.map(ToString::to_string).unwrap_or_default()
}

pub(super) fn list(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (wiring, ts) = (call.wiring.clone(), call.estate().clock.now_ms());
    tell(&wiring, NodesMsg::Rows(shown(call.responder, move |nodes| Ok(Nodes { ts, nodes }))));
}

pub(super) fn describe(call: Call<'_>) {
    let Some((params, call)) = call.parse::<NodeParams>() else { return };
    let (wiring, ts) = (call.wiring.clone(), call.estate().clock.now_ms());
    let make = move |nodes: Vec<NodeRow>| {
        let found = nodes.into_iter().find(|node| *params.node_id == *node.node_id);
        found.map(|node| Described { ts, node }).ok_or_else(Refusal::unknown_node)
    };
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn rename(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RenameParams>() else { return };
    let (id, name) = (params.node_id.into_string(), params.display_name.trim().to_owned());
    if name.is_empty() {
        return call.responder.refuse(Refusal::invalid_request("displayName required"));
    }
    tell(call.wiring, NodesMsg::Rename(id, name, call.responder));
}

pub(super) fn invoke(call: Call<'_>) {
    let Some((params, call)) = call.parse::<InvokeParams>() else { return };
    let invocation = Invocation {
        node_id: params.node_id.into_string(),
        command: params.command.into_string(),
        params: params.params,
        budget: params.timeout_ms.map(|ms| Duration::from_millis(ms.get())),
        idempotency_key: Some(params.idempotency_key.into_string()),
        caller: Some(call.responder.conn().clone()),
        gone: None,
        reply: answer(call.responder),
    };
    tell(call.wiring, NodesMsg::Invoke(Box::new(invocation)));
}

pub(super) fn result(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ResultParams>() else { return };
    tell(call.wiring, NodesMsg::Result(Box::new(params), call.responder));
}

pub(super) fn progress(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ProgressParams>() else { return };
    tell(call.wiring, NodesMsg::Progress(params.invoke_id.into_string(), call.responder));
}

pub(super) fn event(call: Call<'_>) {
    let Some((params, call)) = call.parse::<EventParams>() else { return };
    tell(call.wiring, NodesMsg::Event(Box::new(params), call.responder));
}

pub(super) fn pairings(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let wiring = call.wiring.clone();
    tell(&wiring, NodesMsg::Pairings(shown(call.responder, Ok)));
}

pub(super) fn approve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    tell(call.wiring, NodesMsg::Approve(params.request_id.into_string(), call.responder));
}

pub(super) fn reject(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    tell(call.wiring, NodesMsg::Reject(params.request_id.into_string(), call.responder));
}

pub(super) fn remove(call: Call<'_>) {
    let Some((params, call)) = call.parse::<NodeParams>() else { return };
    tell(call.wiring, NodesMsg::Remove(params.node_id.into_string(), call.responder));
}

/// Only for nodes there are: the lists of others would grow without an end.
pub(super) fn enqueue(call: Call<'_>) {
    use crate::nodes::work::{DEFAULT_TTL_MS, Priority};
    let Some((params, call)) = call.parse::<EnqueueParams>() else { return };
    let (wiring, estate) = (call.wiring.clone(), call.estate().clone());
    let make = move |nodes: Vec<NodeRow>| {
        if !nodes.iter().any(|node| *params.node_id == *node.node_id) {
            return Err(Refusal::unknown_node());
        }
        let priority = match params.priority {
            Some(WorkPriority::High) => Priority::High,
            _ => Priority::Normal,
        };
        let ttl = params.expires_in_ms.map_or(DEFAULT_TTL_MS, |ms| ms.get() as i64);
        let mut work = estate.nodes.work.lock();
        Ok(work.add(&params.node_id, params.kind.name(), priority, ttl, estate.clock.now_ms()))
    };
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn drain(call: Call<'_>) {
    let Some((params, call)) = call.parse::<DrainParams>() else { return };
    let most = params.max_items.map(|most| most.get() as usize);
    let estate = call.estate();
    let drained = estate.nodes.work.lock().drain(&caller(&call), most, estate.clock.now_ms());
    call.responder.ok(&drained);
}

pub(super) fn pull(call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (wiring, node_id, estate) = (call.wiring.clone(), caller(&call), call.estate().clone());
    // What the node may not do any more is not asked of it.
    let make = move |nodes: Vec<NodeRow>| {
        let own = nodes.into_iter().find(|node| node.node_id == node_id);
        let commands = own.map(|node| node.commands).unwrap_or_default();
        let wanted = |action: &PendingAction| commands.contains(&action.command);
        let actions = estate.nodes.actions.lock().waiting(&node_id, wanted, estate.clock.now_ms());
        Ok(json!({ "nodeId": node_id, "actions": actions }))
    };
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn ack(call: Call<'_>) {
    let Some((params, call)) = call.parse::<AckParams>() else { return };
    let node_id = caller(&call);
    let ids: Vec<String> = params.ids.iter().map(|id| id.as_str().to_owned()).collect();
    let remaining = call.estate().nodes.actions.lock().done(&node_id, &ids);
    call.responder.ok(&json!({ "nodeId": node_id, "ackedIds": ids, "remainingCount": remaining }));
}

/// A node gets an address if what is approved of it shows the canvas, as soon as that is so.
pub(super) fn surface(call: Call<'_>) {
    let Some((params, call)) = call.parse::<SurfaceRefreshParams>() else { return };
    let surface = params.surface.as_ref().and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if surface != canvas::SURFACE {
        return call.responder.refuse(match surface {
            "" => Refusal::invalid_request("surface required"),
            other => Refusal::surface_unavailable(other),
        });
    }
    let (node_id, wiring) = (caller(&call), call.wiring.clone());
    let (estate, conn) = (call.estate().clone(), call.responder.conn().clone());
    let unavailable = || Refusal::surface_unavailable(canvas::SURFACE);
    let refresh = move || {
        let (plugin_surface_urls, expires_at_ms) = estate.canvas_urls(&conn).ok_or_else(unavailable)?;
        Ok(SurfaceRefreshed { surface: canvas::SURFACE.into(), plugin_surface_urls, expires_at_ms })
    };
    if call.responder.conn().grant().is_some_and(|grant| grant.role == Role::Operator) {
        return call.responder.settle(refresh());
    }
    let make = move |nodes: Vec<NodeRow>| {
        let own = nodes.into_iter().find(|node| node.node_id == node_id);
        let shows = own.is_some_and(|node| node.commands.iter().any(|command| shows_canvas(command)));
        if shows { refresh() } else { Err(unavailable()) }
    };
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn tools(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ToolsUpdateParams>() else { return };
    tell(call.wiring, NodesMsg::Tools(params.tools, call.responder));
}

pub(super) fn skills(call: Call<'_>) {
    let Some((params, call)) = call.parse::<SkillsUpdateParams>() else { return };
    tell(call.wiring, NodesMsg::Skills(params.skills, call.responder));
}

pub(super) fn inventory(call: Call<'_>) {
    let Some((params, call)) = call.parse::<Value>() else { return };
    let features = params["protocolFeatures"].as_array();
    if !features.is_some_and(|features| features.iter().all(Value::is_string)) {
        return call.responder.refuse(Refusal::invalid_request("invalid node runner inventory"));
    }
    tell(call.wiring, NodesMsg::Inventory(call.responder));
}

/// Asks a node about its own rules.
fn relay(call: Call<'_>, node_id: String, command: &str, params: Value) {
    let responder = call.responder;
    let reply = Reply::new(move |outcome: Option<Result<Invoked, Refusal>>| {
        if let Some(outcome) = outcome {
            responder.settle(outcome.map(|invoked| invoked.payload));
        }
    });
    let invocation = Invocation {
        node_id,
        command: command.to_owned(),
        params: Some(params),
        budget: None,
        idempotency_key: None,
        caller: None,
        gone: None,
        reply,
    };
    tell(call.wiring, NodesMsg::Invoke(Box::new(invocation)));
}

pub(super) fn policy_get(call: Call<'_>) {
    let Some((params, call)) = call.parse::<NodeParams>() else { return };
    relay(call, params.node_id.into_string(), "system.execApprovals.get", json!({}));
}

pub(super) fn policy_set(call: Call<'_>) {
    let Some((params, call)) = call.parse::<NodePolicySetParams>() else { return };
    let mut forwarded = json!({ "file": params.file });
    if let Some(hash) = &params.base_hash {
        forwarded["baseHash"] = json!(hash);
    }
    relay(call, params.node_id.into_string(), "system.execApprovals.set", forwarded);
}

fn here() -> Environment {
    Environment {
        id: "gateway".into(),
        kind: "local".into(),
        label: "Gateway local".into(),
        status: "available".into(),
        session_host: true,
        trust: "persistent".into(),
        capabilities: Some(["agent.run", "sessions", "tools", "workspace"].map(str::to_owned).to_vec()),
        invocable_commands: None,
        platform: Some(std::env::consts::OS.to_owned()),
        last_connected_at_ms: None,
        last_seen_at_ms: None,
        last_seen_reason: None,
        desktop: None,
    }
}

fn at_node(node: NodeRow) -> Environment {
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names.dedup();
        Some(names).filter(|names| !names.is_empty())
    };
    let invocable_commands = sorted(node.commands.clone()).filter(|_| node.connected);
    let is_desktop = |names: &Vec<String>| names.iter().any(|name| name == "desktop.stream");
    Environment {
        id: format!("node:{}", node.node_id),
        kind: "node".into(),
        label: node.display_name.unwrap_or(node.node_id),
        status: if node.connected { "available" } else { "unavailable" }.into(),
        session_host: false,
        trust: "persistent".into(),
        desktop: invocable_commands.as_ref().is_some_and(is_desktop).then_some(true),
        capabilities: sorted([node.caps, node.commands].concat()),
        invocable_commands,
        platform: node.platform.filter(|platform| !platform.is_empty()),
        last_connected_at_ms: node.last_connected_at_ms,
        last_seen_at_ms: node.last_seen_at_ms,
        last_seen_reason: node.last_seen_reason,
    }
}

fn everywhere(nodes: Vec<NodeRow>) -> Vec<Environment> {
    [here()].into_iter().chain(nodes.into_iter().map(at_node)).collect()
}

pub(super) fn environments(call: Call<'_>) {
    let Some((params, call)) = call.parse::<EnvironmentsListParams>() else { return };
    let wiring = call.wiring.clone();
    let profiles = params.projection.is_some_and(|projection| projection == *"profiles");
    let make =
        move |nodes| Ok(Environments { environments: if profiles { Vec::new() } else { everywhere(nodes) } });
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn environment(call: Call<'_>) {
    let Some((params, call)) = call.parse::<EnvironmentsStatusParams>() else { return };
    let wiring = call.wiring.clone();
    let make = move |nodes| {
        let found = everywhere(nodes).into_iter().find(|place| *params.environment_id == *place.id);
        found.ok_or_else(|| Refusal::invalid_request("unknown environmentId"))
    };
    tell(&wiring, NodesMsg::Rows(shown(call.responder, make)));
}

pub(super) fn triggers(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let wiring = call.wiring.clone();
    tell(&wiring, NodesMsg::Triggers(shown(call.responder, |triggers| Ok(Triggers { triggers }))));
}

pub(super) fn set_triggers(call: Call<'_>) {
    let Some((params, call)) = call.parse::<VoicewakeSetParams>() else { return };
    let words: Option<Vec<String>> = params.triggers.and_then(|words| serde_json::from_value(words).ok());
    match words {
        Some(words) => tell(call.wiring, NodesMsg::SetTriggers(words, call.responder)),
        None => {
            let words = "voicewake.set requires triggers: string[]";
            call.responder.refuse(Refusal::invalid_request(words));
        }
    }
}

pub(super) fn trigger_routing(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    call.responder.ok(&routing());
}
