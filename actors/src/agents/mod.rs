//! **Owns** the catalog: which agents there are, and which models and tools they can use; and the MCP servers' being,
//! one child each.
//! **Hears** of configuration changes (it is restarted with the new one), that servers' tools have changed, and who wants
//! it to look for models now; **tells** the Estate the catalog and the tools, and operators that they may have changed
//! (`chat.metadata.changed`).
//! **On crash** nothing is lost: both are made from the configuration, and the servers' roster and the nodes' offers in
//! the Estate, and the last ones stay published meanwhile, with the models that were found. The servers do not notice:
//! they are adopted again.

pub mod acp;
mod catalog;
mod failure;
mod instructions;
mod mcp;
mod model;
mod offline;
mod ollama;
mod remote;
mod usage;

pub use catalog::{Agent, CONTEXT_TOKENS, Catalog, agent_runtime};
pub use failure::{Failure, Reason};
pub use instructions::{Instructions, Library};
pub use mcp::Roster;
pub(crate) use mcp::mcp_result;
pub use model::{Chunk, Image, Model, ModelInfo, Offer, Prompt, Said, ToolCall};
pub use offline::Offline;
pub use usage::{Cost, Usage};

use crate::approvals::ApprovalsMsg;
use crate::cron::CronMsg;
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::nodes::NodesMsg;
use crate::sessions::SessionsMsg;
use crate::tools::{self, Makings, Registry};
use crate::tree::*;
use crabtree_protocol::{Event as Name, Scope};
use ollama::Finds;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often models are looked for that are not configured.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What it is started with.
#[derive(Clone)]
pub struct AgentsArgs {
    /// The Estate.
    pub estate: Arc<Estate>,
    /// Where tools say something in a session.
    pub sessions: Slot<SessionsMsg>,
    /// Who asks people what tools may do.
    pub approvals: Slot<ApprovalsMsg>,
    /// Who has nodes do something.
    pub nodes: Slot<NodesMsg>,
    /// Who keeps jobs with a schedule.
    pub cron: Slot<CronMsg>,
    /// Its own address, for the MCP servers.
    pub slot: Slot<AgentsMsg>,
}

/// What it hears. What is asked of agents, models and tools is read from what is published.
pub enum AgentsMsg {
    /// Start and end MCP servers, so that there are those of the configuration.
    Attend,
    /// What the MCP servers have has changed, or what nodes offer.
    ToolsChanged,
    /// Look for models now; answered when that is done.
    Look(Option<Reply<()>>),
    /// What was found.
    Looked(Finds),
}

/// See the module.
pub struct Agents {
    estate: Arc<Estate>,
    slot: Slot<AgentsMsg>,
    /// Who has nodes do something.
    nodes: Slot<NodesMsg>,
    /// The tools that no MCP server has and no node.
    own: Registry,
    looking: bool,
    waiting: Vec<Reply<()>>,
    again: Option<Timer>,
    stopping: bool,
}

impl Behavior for Agents {
    type Msg = AgentsMsg;
    type Args = AgentsArgs;
    const KIND: &'static str = "agents";

    fn start(ctx: &mut Ctx<AgentsMsg>, args: AgentsArgs) -> Result<Self, Fault> {
        let AgentsArgs { estate, sessions, approvals, nodes, cron, slot } = args;
        let config = estate.config.load_full();
        let settings = &config.settings;
        let mut models = estate.acp.models(&settings.acp, &acp::people(approvals.clone()));
        models.extend(estate.brought.models.iter().cloned());
        let catalog = Catalog::new(settings, &models).with(estate.catalog.load().finds.clone(), settings);
        let mut own = tools::built_in(&Makings {
            settings,
            guard: &estate.guard,
            sessions: &sessions,
            approvals: &approvals,
            nodes: &nodes,
            cron: &cron,
        });
        own.extend(Registry::new(estate.brought.tools.iter().cloned()));
        if catalog.model(&catalog.primary).is_none() {
            tracing::warn!(target: "crabtree::agents", model = %catalog.primary,
                "the default model is not known; runs will say so");
        }
        estate.catalog.store(Arc::new(catalog));
        let (looking, waiting, again) = (false, Vec::new(), None);
        let mut agents = Self { estate, slot, nodes, own, looking, waiting, again, stopping: false };
        agents.publish(ctx);
        if ctx.node().restarts() > 0 {
            agents.tell();
        }
        // Children are told to end and to start once this actor is up to hear how that went.
        let _ = ctx.me().send(AgentsMsg::Attend);
        agents.look(ctx, None);
        Ok(agents)
    }

    fn handle(&mut self, ctx: &mut Ctx<AgentsMsg>, msg: AgentsMsg) -> Result<(), Fault> {
        match msg {
            AgentsMsg::Attend => mcp::attend(ctx, &self.estate, &self.slot),
            AgentsMsg::ToolsChanged => {
                self.publish(ctx);
                self.tell();
            }
            AgentsMsg::Look(asked) => self.look(ctx, asked),
            AgentsMsg::Looked(finds) => self.looked(ctx, finds),
        }
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<AgentsMsg>,
        _: &Arc<Node>,
        _: &Exit,
        fate: NodeState,
    ) -> Result<(), Fault> {
        if fate == NodeState::Stopped && !self.stopping {
            mcp::attend(ctx, &self.estate, &self.slot);
        }
        Ok(())
    }

    fn stopping(&mut self, _: &mut Ctx<AgentsMsg>) -> Stopping {
        self.stopping = true;
        Stopping::Now
    }
}

impl Agents {
    /// An MCP server's tool does not take the place of another one, and a node's takes that of none.
    fn publish(&self, ctx: &Ctx<AgentsMsg>) {
        let mut tools = self.estate.mcp.tools();
        tools.extend(self.own.clone());
        tools.extend(tools::offered(&self.estate.nodes.offers.all(), &tools, &self.nodes));
        let catalog = self.estate.catalog.load();
        ctx.publish_info(json!({
            "agents": catalog.agents.len(), "models": catalog.models.len(), "tools": tools.len(),
        }));
        self.estate.tools.store(Arc::new(tools));
    }

    /// Looks for models; whoever asks meanwhile waits for the same.
    fn look(&mut self, ctx: &mut Ctx<AgentsMsg>, asked: Option<Reply<()>>) {
        self.waiting.extend(asked);
        if self.looking {
            return;
        }
        let places = ollama::places(&self.estate.config.load().settings);
        let catalog = self.estate.catalog.load();
        if places.is_empty() && catalog.finds.is_empty() {
            return self.answer();
        }
        self.looking = true;
        ctx.task(ollama::look(places, catalog.finds.clone(), catalog.http.clone()), AgentsMsg::Looked);
    }

    fn looked(&mut self, ctx: &mut Ctx<AgentsMsg>, finds: Finds) {
        self.looking = false;
        let catalog = self.estate.catalog.load();
        if finds != catalog.finds {
            tracing::info!(target: "crabtree::agents", models = finds.values().map(Vec::len).sum::<usize>(),
                "the models that were found have changed");
            let catalog = catalog.with(finds, &self.estate.config.load().settings);
            self.estate.catalog.store(Arc::new(catalog));
            self.publish(ctx);
            self.tell();
        }
        self.again = Some(ctx.after(LOOK_AGAIN, AgentsMsg::Look(None)));
        self.answer();
    }

    fn answer(&mut self) {
        self.waiting.drain(..).for_each(|asked| asked.send(()));
    }

    fn tell(&self) {
        let audience = Audience::Scope(Scope::Read);
        self.estate.conns.publish(Event::new(Name::ChatMetadataChanged, audience, &json!({})));
    }
}
