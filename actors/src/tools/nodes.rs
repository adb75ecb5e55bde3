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
const LIST_WAIT: Duration = Duration::from_secs(5);
/// Characters of the beginning of an id that name a node.
const MIN_BEGINNING: usize = 6;
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
    let Some(nodes) = listed(&slot).await else {
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

/// The node that is meant: by its id or the beginning of that, its name, or its address.
///
/// # Errors
/// There is none or more than one, in words for the model.
pub(super) fn matching<'a>(nodes: &'a [NodeRow], named: &str) -> Result<&'a NodeRow, String> {
    let named = named.trim();
    let only = |is: &dyn Fn(&NodeRow) -> bool| {
        let mut fitting = nodes.iter().filter(|node| is(node));
        (fitting.next(), fitting.next())
    };
    let is_called = |node: &NodeRow| {
        let name = node.display_name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(named));
        node.node_id == named || name || node.remote_ip.as_deref() == Some(named)
    };
    let begins = |node: &NodeRow| named.len() >= MIN_BEGINNING && node.node_id.starts_with(named);
    match (only(&is_called), only(&begins)) {
        ((Some(node), None), _) | ((None, _), (Some(node), None)) => Ok(node),
        ((None, _), (None, _)) => Err(format!("There is no node {named}. list tells which there are.")),
        _ => Err(format!("Several nodes are called {named}. Name one by its id.")),
    }
}

fn find<'a>(nodes: &'a [NodeRow], call: &Call) -> Result<&'a NodeRow, ToolResult> {
    let Some(named) = call.args["node"].as_str() else {
        return Err(ToolResult::error(
            "Which node? Give its id or its name as node; list tells which there are.",
        ));
    };
    matching(nodes, named).map_err(ToolResult::error)
}

/// Why it is not known that a node did something.
pub(super) enum Undone {
    /// It was not asked.
    NotSent,
    /// It did not, or may not: what it says, or what the gateway says of it.
    Refused(Box<Refusal>),
    /// Nobody knows.
    Lost,
}

impl Undone {
    /// In words for the model.
    pub(super) fn words(&self, node_id: &str) -> String {
        match self {
            Self::NotSent => "Not sent: the nodes are being restarted. Try again in a moment.".into(),
            Self::Refused(refusal) => format!("{node_id}: {}", refusal.message),
            Self::Lost => {
                "It is not known whether the node did it: the answer was lost. Look before you try again."
                    .into()
            }
        }
    }
}

/// What an agent has a node do.
pub(super) struct Errand<'a> {
    /// For whom.
    pub call: &'a Call,
    /// The node.
    pub node_id: &'a str,
    /// The command.
    pub command: &'a str,
    /// With what.
    pub params: Value,
    /// How long it may take.
    pub budget: Duration,
}

impl Errand<'_> {
    /// Has it done, and waits. When that is dropped, the node is told to stop.
    ///
    /// # Errors
    /// Why it may not have been done.
    pub(super) async fn run(self, slot: &Slot<NodesMsg>) -> Result<Invoked, Undone> {
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let (reply, outcome) = Reply::<Result<Invoked, Refusal>>::oneshot();
        let invocation = Invocation {
            node_id: self.node_id.to_owned(),
            command: self.command.to_owned(),
            params: Some(self.params),
            budget: Some(self.budget),
            idempotency_key: Some(format!("{}.{}.{}", self.call.place.run_id, self.call.id, self.command)),
            caller: None,
            gone: Some(gone),
            reply,
        };
        if slot.send(NodesMsg::Invoke(Box::new(invocation))).is_err() {
            return Err(Undone::NotSent);
        }
        match outcome.await {
            Ok(done) => done.map_err(|refusal| Undone::Refused(Box::new(refusal))),
            Err(_) => Err(Undone::Lost),
        }
    }
}

/// All nodes; nothing while they are being restarted for long.
pub(super) async fn listed(slot: &Slot<NodesMsg>) -> Option<Vec<NodeRow>> {
    slot.ask_within(LIST_WAIT, NodesMsg::Rows).await
}

async fn invoke(call: &Call, node: &NodeRow, slot: &Slot<NodesMsg>) -> ToolResult {
    let Some(command) = call.args["command"].as_str() else {
        return ToolResult::error("Which command? describe tells what the node can do.");
    };
    if APART.iter().any(|beginning| command.starts_with(beginning)) {
        return ToolResult::error(format!(
            "{command} is not for this tool: shell commands at nodes are run by exec, with node as its host."
        ));
    }
    let wait = call.args["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_WAIT);
    let params = call.args.get("params").cloned().unwrap_or_else(|| json!({}));
    let (node_id, budget) = (&*node.node_id, Duration::from_secs(wait));
    match (Errand { call, node_id, command, params, budget }).run(slot).await {
        Ok(invoked) => ToolResult::text(invoked.payload.to_string()),
        Err(undone) => ToolResult::error(undone.words(node_id)),
    }
}
