//! The tools that connected nodes offer: their calls go to their node, and their names are told apart.

use super::nodes::Errand;
use super::{Call, Definition, Effects, Permission, Registry, Sandbox, Tool, ToolResult};
use crate::agents::mcp_result;
use crate::nodes::offers::{MCP_COMMAND, command_of};
use crate::nodes::{NodesMsg, Offer};
use crate::tree::Slot;
use crabtree_protocol::params::nodes::NodeTool;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a node may take, as OpenClaw has it; and one of its MCP servers.
const WAIT: Duration = Duration::from_secs(30);
const MCP_WAIT: Duration = Duration::from_secs(120);
/// What a call needs beyond that to hear of its end.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Characters of a description.
const MAX_DESCRIPTION: usize = 1_024;
/// The longest schema of one tool, bytes; one with a longer one is left out.
const MAX_SCHEMA: usize = 64 * 1024;
/// The longest name models know a tool by, and how much of it says which node's it is if that must be said.
const MAX_NAME: usize = 64;
const MAX_NODE: usize = 12;

/// The tools of these offers. A name that another tool has already, or two nodes give, says whose it is.
pub fn offered(offers: &[Offer], taken: &Registry, nodes: &Slot<NodesMsg>) -> Registry {
    let mut used: BTreeSet<String> =
        taken.tools().map(|tool| tool.definition().name.to_ascii_lowercase()).collect();
    let each = || offers.iter().flat_map(|offer| offer.tools.iter().map(move |tool| (offer, tool)));
    let mut counts = BTreeMap::<String, usize>::new();
    for (_, tool) in each() {
        *counts.entry(tool.name.as_str().to_ascii_lowercase()).or_default() += 1;
    }
    let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
    for (offer, tool) in each() {
        let own = tool.name.as_str();
        let alone = counts.get(&own.to_ascii_lowercase()) == Some(&1);
        let name = if alone { own.to_owned() } else { prefixed(&offer.node_id, own) };
        let free = |name: &String| !used.contains(&name.to_ascii_lowercase());
        let Some(name) = [name, prefixed(&offer.node_id, own)].into_iter().find(free) else { continue };
        match NodeTools::of(offer, tool, &name, nodes) {
            Some(tool) => {
                used.insert(name.to_ascii_lowercase());
                tools.push(Arc::new(tool));
            }
            None => tracing::warn!(target: "crabtree::tools", node = %offer.node_id, tool = own,
                "left out: its schema is too long"),
        }
    }
    Registry::new(tools)
}

fn prefixed(node_id: &str, name: &str) -> String {
    let node: String = node_id.chars().filter(char::is_ascii_alphanumeric).take(MAX_NODE).collect();
    let mut name = format!("node_{node}_{name}");
    name.truncate(MAX_NAME);
    name
}

/// A tool at a node.
struct NodeTools {
    definition: Definition,
    node_id: String,
    command: String,
    /// The MCP server and its tool, if it is one of these.
    mcp: Option<(String, String)>,
    nodes: Slot<NodesMsg>,
}

impl NodeTools {
    /// Nothing if it cannot be used.
    fn of(offer: &Offer, tool: &NodeTool, name: &str, nodes: &Slot<NodesMsg>) -> Option<Self> {
        let command = command_of(tool)?.to_owned();
        let mcp = tool.mcp.as_ref().filter(|_| command == MCP_COMMAND);
        let mcp = mcp.map(|mcp| (mcp.server.as_str().to_owned(), mcp.tool.as_str().to_owned()));
        let mut parameters = Value::Object(tool.parameters.clone().unwrap_or_default());
        parameters["type"] = json!("object");
        if parameters.to_string().len() > MAX_SCHEMA {
            return None;
        }
        let about: String = tool.description.chars().take(MAX_DESCRIPTION).collect();
        let wait = if mcp.is_some() { MCP_WAIT } else { WAIT };
        let more = mcp.as_ref().map(|_| Permission::Mcp);
        let definition = Definition {
            name: name.to_owned(),
            label: tool.name.as_str().to_owned(),
            description: format!("{about} (node: {})", offer.name),
            parameters,
            group: format!("node:{}", tool.plugin_id.as_str()),
            permissions: [Permission::Nodes].into_iter().chain(more).collect(),
            timeout: wait + AFTERWARDS,
            sandbox: Sandbox::None,
            effects: Effects::External,
        };
        Some(Self { definition, node_id: offer.node_id.clone(), command, mcp, nodes: nodes.clone() })
    }
}

impl Tool for NodeTools {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        let (node_id, command, nodes) = (self.node_id.clone(), self.command.clone(), self.nodes.clone());
        let params = match &self.mcp {
            Some((server, tool)) => json!({ "server": server, "tool": tool, "arguments": call.args }),
            None => call.args.clone(),
        };
        let budget = self.definition.timeout - AFTERWARDS;
        let work = async move {
            let errand = Errand { call: &call, node_id: &node_id, command: &command, params, budget };
            match errand.run(&nodes).await {
                Ok(done) => {
                    mcp_result(&done.payload).unwrap_or_else(|| ToolResult::text(shown(&done.payload)))
                }
                Err(undone) => ToolResult::error(undone.words(&node_id)),
            }
        };
        work.boxed()
    }
}

/// Text as it is, and everything else as JSON.
fn shown(payload: &Value) -> String {
    payload.as_str().map_or_else(|| payload.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tools: &Registry) -> Vec<&str> {
        tools.tools().map(|tool| &*tool.definition().name).collect()
    }

    fn offer(node_id: &str, tools: &[&str]) -> Offer {
        let tool = |name: &&str| {
            let tool = json!({ "pluginId": "p", "name": name, "description": "does it", "command": "x.y" });
            serde_json::from_value(tool).unwrap()
        };
        Offer {
            node_id: node_id.into(),
            name: format!("the {node_id}"),
            remote_ip: None,
            tools: tools.iter().map(tool).collect(),
            skills: Vec::new(),
        }
    }

    #[test]
    fn names_say_whose_a_tool_is_where_they_must() {
        let slot = Slot::default();
        let own = offered(&[offer("a", &["exec"])], &Registry::default(), &slot);
        let offers = [offer("aa", &["exec", "Lamp", "door"]), offer("bb", &["lamp", "window"])];
        let all = offered(&offers, &own, &slot);
        assert_eq!(names(&all), ["door", "node_aa_Lamp", "node_aa_exec", "node_bb_lamp", "window"]);
        let door = all.tool("door").unwrap().definition();
        assert_eq!((&*door.description, &*door.group), ("does it (node: the aa)", "node:p"));
        assert_eq!(door.parameters, json!({ "type": "object" }));
    }

    #[test]
    fn a_schema_that_is_too_long_leaves_its_tool_out() {
        let mut offer = offer("a", &["lamp", "door"]);
        let long = json!({ "description": "x".repeat(MAX_SCHEMA) });
        offer.tools[0].parameters = long.as_object().cloned();
        assert_eq!(names(&offered(&[offer], &Registry::default(), &Slot::default())), ["door"]);
    }
}
