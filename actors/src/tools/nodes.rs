//! Nodes for agents: which there are, what one can do, and having one do it.

use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use crate::nodes::{Invocation, NodesMsg};
use crate::tree::{Reply, Slot};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::nodes::{Invoked, NodeRow};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a node may take, seconds, unless the agent says otherwise; and at most.
const DEFAULT_WAIT: u64 = 30;
const MAX_WAIT: u64 = 300;
/// How long is waited for the list of nodes.
pub(super) const LIST_WAIT: Duration = Duration::from_secs(5);
/// Commands that have a tool or a method of their own, where people are asked about them.
const APART: [&str; 2] = ["system.run", "system.execApprovals."];

/// The tool; `nodes` is who has nodes do something.
pub(super) fn tool(nodes: Slot<NodesMsg>) -> Arc<dyn Tool> {
    plain(definition(), move |call| act(call, nodes.clone()))
}

fn definition() -> Definition {
    let about = "Other devices of your people (phones, computers): list them, describe one with the commands it can \
        carry out, or invoke a command there. Only commands that describe shows can be invoked.";
    Definition {
        name: "nodes".into(),
        label: "Nodes".into(),
        description: about.into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "action": { "enum": ["list", "describe", "invoke"] },
                "node": { "type": "string", "minLength": 1, "description": "Its id or its name." },
                "command": { "type": "string", "minLength": 1, "description": "For invoke, e.g. camera.list." },
                "params": { "type": "object", "description": "For invoke: what the command takes." },
                "timeoutSeconds": { "type": "integer", "minimum": 1, "maximum": MAX_WAIT },
            },
            "required": ["action"],
            "additionalProperties": false,
        }),
        group: "nodes".into(),
        permissions: vec![Permission::Nodes],
        timeout: Duration::from_secs(MAX_WAIT + 30),
        sandbox: Sandbox::None,
        effects: Effects::External,
    }
}

async fn act(call: Call, slot: Slot<NodesMsg>) -> ToolResult {
    let Some(nodes) = slot.ask_within(LIST_WAIT, NodesMsg::Rows).await else {
        return ToolResult::error("The nodes are being restarted. Try again in a moment.");
    };
    match call.args["action"].as_str() {
        Some("list") => ToolResult::text(json!(nodes.iter().map(brief).collect::<Vec<_>>()).to_string()),
        Some("describe") => match find(&nodes, &call) {
            Ok(node) => ToolResult::text(described(node).to_string()),
            Err(refused) => refused,
        },
        _ => match find(&nodes, &call) {
            Ok(node) => invoke(&call, node, &slot).await,
            Err(refused) => refused,
        },
    }
}

fn brief(node: &NodeRow) -> Value {
    json!({
        "node": node.node_id, "name": node.display_name, "platform": node.platform, "connected": node.connected,
        "approval": node.approval_state, "active": node.active.unwrap_or(false),
    })
}

fn described(node: &NodeRow) -> Value {
    let mut shown = brief(node);
    for (name, value) in [
        ("commands", json!(node.commands)),
        ("caps", json!(node.caps)),
        ("permissions", json!(node.permissions)),
        ("hostStats", json!(node.host_stats)),
        ("lastSeenAtMs", json!(node.last_seen_at_ms)),
    ] {
        if !value.is_null() {
            shown[name] = value;
        }
    }
    shown
}

/// The node that is meant: by its id, the beginning of it, or its name.
pub(super) fn find<'a>(nodes: &'a [NodeRow], call: &Call) -> Result<&'a NodeRow, ToolResult> {
    let Some(named) = call.args["node"].as_str().map(str::trim) else {
        return Err(ToolResult::error(
            "Which node? Give its id or its name as node; list tells which there are.",
        ));
    };
    let is_called = |node: &&NodeRow| {
        node.node_id == named
            || node.display_name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(named))
    };
    let mut fitting = nodes.iter().filter(is_called);
    match (fitting.next(), fitting.next()) {
        (Some(node), None) => Ok(node),
        (Some(_), Some(_)) => {
            Err(ToolResult::error(format!("Several nodes are called {named}. Name one by its id.")))
        }
        _ => Err(ToolResult::error(format!("There is no node {named}. list tells which there are."))),
    }
}

async fn invoke(call: &Call, node: &NodeRow, slot: &Slot<NodesMsg>) -> ToolResult {
    let wait = Duration::from_secs(call.args["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_WAIT));
    let Some(command) = call.args["command"].as_str() else {
        return ToolResult::error("Which command? describe tells what the node can do.");
    };
    if APART.iter().any(|beginning| command.starts_with(beginning)) {
        return ToolResult::error(format!(
            "{command} is not for this tool: shell commands at nodes are not offered."
        ));
    }
    let params = call.args.get("params").cloned().unwrap_or_else(|| json!({}));
    match have_done(call, node, command, params, wait, slot).await {
        Ok(payload) => ToolResult::text(payload.to_string()),
        Err(refused) => refused,
    }
}

/// Has a node carry out a command; what it answers.
pub(super) async fn have_done(
    call: &Call,
    node: &NodeRow,
    command: &str,
    params: Value,
    wait: Duration,
    slot: &Slot<NodesMsg>,
) -> Result<Value, ToolResult> {
    let gone = CancellationToken::new();
    // When this call is ended, the node is told to stop.
    let _gone = gone.clone().drop_guard();
    let (reply, outcome) = Reply::<Result<Invoked, Refusal>>::oneshot();
    let invocation = Invocation {
        node_id: node.node_id.clone(),
        command: command.to_owned(),
        params: Some(params),
        budget: Some(wait),
        idempotency_key: Some(format!("{}.{}", call.place.run_id, call.id)),
        caller: None,
        gone: Some(gone),
        reply,
    };
    if slot.send(NodesMsg::Invoke(Box::new(invocation))).is_err() {
        return Err(ToolResult::error("Not sent: the nodes are being restarted. Try again in a moment."));
    }
    match outcome.await {
        Ok(Ok(invoked)) => Ok(invoked.payload),
        Ok(Err(refusal)) => Err(ToolResult::error(format!("{}: {}", node.node_id, refusal.message))),
        Err(_) => Err(ToolResult::error(
            "It is not known whether the node did it: the answer was lost. Look before you try again.",
        )),
    }
}
