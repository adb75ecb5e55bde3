//! What connected nodes offer agents: tools and skills, as far as their approved commands carry them. Part of the Estate:
//! what is there stays while `nodes` is reborn, and goes with its node.

use super::{Nodes, gate};
use crate::agents::AgentsMsg;
use crate::responder::Responder;
use crate::settings::NodesSettings;
use crate::skills::parse_skill;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::nodes::{NodeSkill, NodeTool, SkillsUpdated, ToolsUpdated};
use crabtree_protocol::value::List;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Tools of one node.
const MAX_TOOLS: usize = 128;
/// The command behind the tools of MCP servers at a node.
pub const MCP_COMMAND: &str = "mcp.tools.call.v1";
/// How commands begin that no tool of a node may stand for: they run what they are told, which has its own tool and its
/// own questions to people, or change what may run.
const APART: [&str; 2] = [gate::COMMAND, "system.execApprovals."];

/// What one node offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The node.
    pub node_id: String,
    /// What people call it.
    pub name: String,
    /// Where it is, if it is not on this machine.
    pub remote_ip: Option<String>,
    /// Its tools.
    pub tools: Vec<NodeTool>,
    /// Its skills; none if no command can run there, since what a skill asks for runs where it is.
    pub skills: Vec<NodeSkill>,
}

/// What all of them offer.
#[derive(Default)]
pub struct Offers(Mutex<BTreeMap<String, Offer>>);

impl Offers {
    /// That of each node that offers something.
    pub fn all(&self) -> Vec<Offer> {
        self.0.lock().values().cloned().collect()
    }

    /// This is what a node offers now; whether it is something else than before.
    fn set(&self, node_id: &str, offer: Option<Offer>) -> bool {
        let mut all = self.0.lock();
        if all.get(node_id) == offer.as_ref() {
            return false;
        }
        match offer {
            Some(offer) => drop(all.insert(node_id.to_owned(), offer)),
            None => drop(all.remove(node_id)),
        }
        true
    }
}

/// The command that carries a tool out.
pub fn command_of(tool: &NodeTool) -> Option<&str> {
    let own = tool.command.as_ref().map(|command| command.as_str());
    own.or(tool.mcp.as_ref().map(|_| MCP_COMMAND))
}

/// Of the tools a node tells of those that these commands carry.
pub fn carried(tools: &[NodeTool], commands: &[String]) -> Vec<NodeTool> {
    let is_apart = |command: &str| APART.iter().any(|beginning| command.starts_with(beginning));
    let counts = |tool: &&NodeTool| {
        command_of(tool)
            .is_some_and(|command| !is_apart(command) && commands.iter().any(|known| known == command))
    };
    tools.iter().filter(counts).take(MAX_TOOLS).cloned().collect()
}

/// Skills whose file says of them what the node says.
fn sound(node_id: &str, skills: &[NodeSkill]) -> Vec<NodeSkill> {
    let is_sound = |skill: &&NodeSkill| {
        let words = skill.description.split_whitespace().collect::<Vec<_>>().join(" ");
        let wrong = match parse_skill(skill.content.as_bytes()) {
            Ok(read) if read.name == skill.name.as_str() && read.description == words => {
                return true;
            }
            Ok(_) => "its file has another name or description".to_owned(),
            Err(why) => why,
        };
        tracing::warn!(target: "crabtree::nodes", node = %node_id, skill = skill.name.as_str(), "left out: {wrong}");
        false
    };
    skills.iter().filter(is_sound).cloned().collect()
}

impl super::node::Node {
    /// What it offers over this connection, if anything.
    fn offer(&self, link: &super::Link, settings: &NodesSettings) -> Option<Offer> {
        let commands = self.effective(link, &settings.commands).commands;
        let told = link.told();
        let runs = commands.iter().any(|command| command == gate::COMMAND);
        let tools = if settings.plugin_tools.enabled { carried(&told.tools, &commands) } else { Vec::new() };
        let skills = if runs && settings.allow_skills { told.skills } else { Vec::new() };
        let name = self.shown_name().unwrap_or(&self.id).clone();
        let remote_ip = (!link.conn.peer.is_loopback()).then(|| link.conn.peer.ip.to_string());
        let offer = Offer { node_id: self.id.clone(), name, remote_ip, tools, skills };
        (!(offer.tools.is_empty() && offer.skills.is_empty())).then_some(offer)
    }
}

impl Nodes {
    /// Looks at what a node offers anew. Until its row is read, what it offered before stands.
    pub(super) fn offer(&self, node_id: &str) {
        if self.arriving.values().any(|(arriving, _)| arriving == node_id) {
            return;
        }
        let config = self.estate.config.load();
        let link = self.estate.nodes.to(node_id);
        let both = self.nodes.get(node_id).zip(link);
        let offer = both.and_then(|(kept, link)| kept.node.offer(&link, &config.settings.gateway.nodes));
        if self.estate.nodes.offers.set(node_id, offer) {
            // An incarnation of `agents` that misses it reads the offers when it starts.
            let _ = self.args.agents.send(AgentsMsg::ToolsChanged);
        }
    }

    /// The same of every node that offers something or could.
    pub(super) fn offer_all(&self) {
        let offering = self.estate.nodes.offers.all().into_iter().map(|offer| offer.node_id);
        let connected = self.estate.nodes.all().into_iter().map(|link| link.node_id.clone());
        offering.chain(connected).for_each(|node_id| self.offer(&node_id));
    }

    /// Of the tools a node offers those count that its approved commands carry; the others count when these are.
    pub(super) fn tools(&mut self, mut tools: Vec<NodeTool>, responder: Responder) {
        let config = self.estate.config.load_full();
        let Some((kept, link)) = self.sender(responder.conn()) else {
            return responder.refuse(Refusal::unknown_node());
        };
        let commands = kept.node.effective(&link, &config.settings.gateway.nodes.commands).commands;
        tools.truncate(MAX_TOOLS);
        let counting = carried(&tools, &commands);
        link.tell(|told| told.tools = tools);
        self.offer(&link.node_id);
        responder.ok(&ToolsUpdated { node_id: link.node_id.clone(), tools: counting });
    }

    pub(super) fn skills(&mut self, skills: List<NodeSkill, 0, 64>, responder: Responder) {
        let Some((_, link)) = self.sender(responder.conn()) else {
            return responder.refuse(Refusal::unknown_node());
        };
        let told = sound(&link.node_id, &skills);
        link.tell(|known| known.skills = told);
        self.offer(&link.node_id);
        responder.ok(&SkillsUpdated { node_id: link.node_id.clone(), skills });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(name: &str, more: serde_json::Value) -> NodeTool {
        let mut tool = json!({ "pluginId": "p", "name": name, "description": "d" });
        tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(tool).unwrap()
    }

    #[test]
    fn a_tool_counts_with_its_command_and_none_runs_what_it_is_told() {
        let mcp = json!({ "mcp": { "server": "s", "tool": "t" } });
        let tools = [
            tool("camera", json!({ "command": "camera.list" })),
            tool("mcp", mcp),
            tool("shell", json!({ "command": "system.run" })),
            tool("prepares", json!({ "command": "system.run.prepare" })),
            tool("rules", json!({ "command": "system.execApprovals.set" })),
            tool("nothing", json!({})),
        ];
        let names = |commands: &[&str]| {
            let commands: Vec<String> = commands.iter().map(|name| (*name).to_owned()).collect();
            carried(&tools, &commands).iter().map(|tool| tool.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        let all =
            ["camera.list", MCP_COMMAND, "system.run", "system.run.prepare", "system.execApprovals.set"];
        assert_eq!(names(&all), ["camera", "mcp"]);
        assert_eq!(names(&["camera.list"]), ["camera"]);
        assert_eq!(names(&[]), [""; 0]);
    }

    #[test]
    fn the_number_of_tools_is_bounded() {
        let tools = vec![tool("x", json!({ "command": "camera.list" })); 2 * MAX_TOOLS];
        assert_eq!(carried(&tools, &["camera.list".to_owned()]).len(), MAX_TOOLS);
    }

    #[test]
    fn a_skill_is_what_its_file_says() {
        let skill = |content: &str| {
            let skill = json!({ "name": "notes", "description": "takes notes", "content": content });
            serde_json::from_value::<NodeSkill>(skill).unwrap()
        };
        let good = skill("---\nname: notes\ndescription: takes notes\n---\nDo it.");
        let other = skill("---\nname: notes\ndescription: runs things\n---\nDo it.");
        assert_eq!(sound("n", &[good.clone(), other, skill("no head")]), [good]);
    }
}
