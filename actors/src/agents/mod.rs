//! **Owns** the catalog: which agents there are, and which models and tools they can use.
//! **Hears** of configuration changes (it is restarted with the new one); **tells** the Estate the catalog and the
//! tools, and operators that they may have changed (`chat.metadata.changed`).
//! **On crash** nothing is lost: both are made from the configuration, and the last ones stay published meanwhile.

pub mod acp;
mod failure;
mod instructions;
mod model;
mod offline;
mod remote;

pub use failure::{Failure, Reason};
pub use instructions::Instructions;
pub use model::{Chunk, Image, Model, ModelInfo, Offer, Prompt, Said, ToolCall, Usage};
pub use offline::Offline;

use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::sessions::SessionsMsg;
use crate::settings::{AgentEntry, ModelChoice, ProviderSettings, Settings};
use crate::tools::{self, Makings, Registry};
use crate::tree::*;
use crabtree_protocol::session_key::MAIN;
use crabtree_protocol::{Event as Name, Scope};
use remote::{Http, Remote};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The name used in session keys.
    pub id: String,
    /// The name shown to people.
    pub name: Option<String>,
    /// Its mark.
    pub emoji: Option<String>,
    /// Its picture.
    pub avatar: Option<String>,
    /// `provider/model` of its model.
    pub model: String,
    /// The same of those that take its place when it fails, in their order.
    pub fallbacks: Vec<String>,
}

/// The agents and models, as everybody reads them.
pub struct Catalog {
    /// The agents, the default one first.
    pub agents: Vec<Agent>,
    /// `provider/model` of the default model.
    pub primary: String,
    /// How long a run may take.
    pub timeout: Duration,
    /// Last part of the main session's key.
    pub main_key: String,
    models: BTreeMap<String, Arc<dyn Model>>,
}

impl Agent {
    fn new(id: &str, entry: Option<&AgentEntry>, shared: &ModelChoice) -> Self {
        let identity = entry.map(|entry| entry.identity.clone()).unwrap_or_default();
        let name = identity.name.or_else(|| entry.and_then(|entry| entry.name.clone()));
        let choice = entry.and_then(|entry| entry.model.as_ref()).unwrap_or(shared).clone();
        let shown = |value: Option<String>| value.filter(|value| !value.is_empty());
        let (emoji, avatar) = (shown(identity.emoji), shown(identity.avatar));
        let (model, fallbacks) = (choice.primary, choice.fallbacks);
        Self { id: id.to_owned(), name, emoji, avatar, model, fallbacks }
    }

    /// How it appears, as rows show it.
    fn identity(&self) -> Value {
        let known = [("name", &self.name), ("emoji", &self.emoji), ("avatar", &self.avatar)];
        known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?)))).collect()
    }
}

impl Catalog {
    /// Reads it out of the settings. There are the embedded model, those of the providers, and those the embedding
    /// program `brought`; of two with the same `provider/model` the brought one counts.
    pub fn new(settings: &Settings, brought: &[Arc<dyn Model>]) -> Self {
        let shared = &settings.agents.defaults.model;
        let agent = |id: &str| Agent::new(id, settings.agents.entry(id), shared);
        let agents = settings.agent_ids().into_iter().map(agent).collect();
        let defaults = &settings.agents.defaults;
        let offline: Arc<dyn Model> = Arc::new(Offline);
        let http = Http::default();
        let providers = settings.models.providers.iter();
        let remote = providers.flat_map(|(id, provider)| of_provider(id, provider, &http));
        let models = [offline].into_iter().chain(remote).chain(brought.iter().cloned());
        let models = models.map(|model| (format!("{}/{}", model.provider(), model.id()), model));
        Self {
            agents,
            primary: defaults.model.primary.clone(),
            timeout: Duration::from_secs(defaults.timeout_seconds),
            main_key: MAIN.to_owned(),
            models: models.collect(),
        }
    }

    /// The agent that answers when nobody else is named.
    pub fn default_agent(&self) -> &Agent {
        self.agents.first().expect("a catalog has at least one agent")
    }

    /// An agent by id.
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.iter().find(|a| a.id == id)
    }

    /// A model by `provider/model`.
    pub fn model(&self, name: &str) -> Option<Arc<dyn Model>> {
        self.models.get(name).cloned()
    }

    /// How much a model, `provider/model`, can keep in mind, in tokens; of one that is not known what the embedded
    /// one can.
    pub fn context_window(&self, name: &str) -> u64 {
        self.models.get(name).map_or(CONTEXT_TOKENS, |model| model.context_window())
    }

    /// `provider/model` that an agent uses unless a session or a message says otherwise.
    pub fn model_of(&self, agent_id: &str) -> &str {
        self.agent(agent_id).map_or(&self.primary, |agent| &agent.model)
    }

    /// `provider/model` of every model.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// Provider and name of the default model.
    pub fn primary_parts(&self) -> (&str, &str) {
        self.primary.split_once('/').unwrap_or(("crabtree", &self.primary))
    }

    /// Answer of `agents.list`; `workspace` tells where an agent works.
    pub fn agents_list(&self, workspace: impl Fn(&str) -> PathBuf) -> Value {
        let agents: Vec<Value> = self
            .agents
            .iter()
            .map(|agent| {
                let mut row = json!({
                    "id": agent.id,
                    "workspace": workspace(&agent.id),
                    "workspaceGit": false,
                    "agentRuntime": agent_runtime(),
                    "thinkingLevels": [{ "id": "off", "label": "off" }],
                    "thinkingOptions": ["off"],
                    "thinkingDefault": "off",
                    "model": { "primary": agent.model },
                });
                if let Some(name) = &agent.name {
                    row["name"] = json!(name);
                    row["identity"] = agent.identity();
                }
                row
            })
            .collect();
        json!({
            "defaultId": self.default_agent().id,
            "ownership": if self.agents.len() == 1 { "sole" } else { "explicit" },
            "selectionRequired": false,
            "mainKey": self.main_key,
            "scope": "per-sender",
            "agents": agents,
        })
    }

    /// Answer of `agent.identity.get`, if there is such an agent.
    pub fn identity(&self, id: &str) -> Option<Value> {
        let agent = self.agent(id)?;
        let name = agent.name.as_deref().unwrap_or("Assistant");
        Some(json!({
            "agentId": agent.id,
            "name": name,
            "nameSource": if agent.name.is_some() { "config" } else { "default" },
            "avatar": agent.emoji.clone().unwrap_or_else(|| name.chars().take(1).collect()),
        }))
    }

    /// Answer of `models.list`.
    pub fn models_list(&self) -> Value {
        let models: Vec<Value> = self
            .models
            .iter()
            .map(|(name, model)| {
                let info = model.info();
                json!({
                    "id": model.id(),
                    "name": info.name,
                    "provider": model.provider(),
                    "contextWindow": model.context_window(),
                    "local": info.local,
                    "input": info.input,
                    "reasoning": info.reasoning,
                    "tags": if *name == self.primary { vec!["default"] } else { vec![] },
                    "thinkingLevels": [{ "id": "off", "label": "off" }],
                    "thinkingDefault": "off",
                    "available": true,
                })
            })
            .collect();
        json!({ "models": models })
    }
}

/// A provider's models; none, and a warning, if it cannot be used.
fn of_provider(id: &str, settings: &ProviderSettings, http: &Http) -> Vec<Arc<dyn Model>> {
    match Remote::all(id, settings, http) {
        Ok(models) => models.into_iter().map(|model| Arc::new(model) as Arc<dyn Model>).collect(),
        Err(why) => {
            tracing::warn!(target: "crabtree::agents", provider = id, "its models cannot be used: {why}");
            Vec::new()
        }
    }
}

/// Context of the embedded model, in tokens.
pub const CONTEXT_TOKENS: u64 = 32_768;

/// `agentRuntime` of agents and sessions: everything runs in this process.
pub fn agent_runtime() -> Value {
    json!({
        "id": "crabtree",
        "cloudPlacementSupported": false,
        "devicePlacementSupported": false,
        "source": "implicit",
    })
}

/// What it is started with.
#[derive(Clone)]
pub struct AgentsArgs {
    /// The Estate.
    pub estate: Arc<Estate>,
    /// Where tools say something in a session.
    pub sessions: Slot<SessionsMsg>,
}

/// See the module. It hears nothing yet: answers are read from what is published.
pub struct Agents;

impl Behavior for Agents {
    type Msg = ();
    type Args = AgentsArgs;
    const KIND: &'static str = "agents";

    fn start(ctx: &mut Ctx<()>, AgentsArgs { estate, sessions }: AgentsArgs) -> Result<Self, Fault> {
        let config = estate.config.load_full();
        let settings = &config.settings;
        let mut models = estate.acp.models(&settings.acp, &acp::refuse());
        models.extend(estate.brought.models.iter().cloned());
        let catalog = Catalog::new(settings, &models);
        let mut tools = tools::built_in(&Makings { settings, guard: &estate.guard, sessions: &sessions });
        tools.extend(Registry::new(estate.brought.tools.iter().cloned()));
        ctx.publish_info(json!({
            "agents": catalog.agents.len(), "models": catalog.models.len(), "tools": tools.len(),
        }));
        if catalog.model(&catalog.primary).is_none() {
            tracing::warn!(target: "crabtree::agents", model = %catalog.primary,
                "the default model is not known; runs will say so");
        }
        estate.catalog.store(Arc::new(catalog));
        estate.tools.store(Arc::new(tools));
        if ctx.node().restarts() > 0 {
            let audience = Audience::Scope(Scope::Read);
            estate.conns.publish(Event::new(Name::ChatMetadataChanged, audience, &json!({})));
        }
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}
