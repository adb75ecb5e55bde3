//! **Owns** the catalog: which agents there are, and which models they can use.
//! **Hears** of configuration changes (it is restarted with the new one); **tells** the Estate the catalog.
//! **On crash** nothing is lost: the catalog is made from the configuration, and the last one stays
//! published meanwhile.

mod model;
mod offline;

pub use model::{Chunk, Model, Prompt, Said, Speaker, Usage};
pub use offline::Offline;

use crate::estate::Estate;
use crate::settings::Settings;
use crate::tree::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    workspace: Option<String>,
    models: BTreeMap<String, Arc<dyn Model>>,
}

impl Catalog {
    /// Reads it out of the settings.
    pub fn new(settings: &Settings) -> Self {
        let mut agents: Vec<Agent> = Vec::new();
        let mut entries: Vec<_> = settings.agents.list.iter().collect();
        entries.sort_by_key(|a| !a.default);
        for entry in entries {
            let name = entry.identity.name.clone().or_else(|| entry.name.clone());
            agents.push(Agent { id: entry.id.clone(), name, emoji: entry.identity.emoji.clone() });
        }
        if agents.is_empty() {
            agents.push(Agent { id: "main".into(), name: None, emoji: None });
        }
        let defaults = &settings.agents.defaults;
        let offline: Arc<dyn Model> = Arc::new(Offline);
        Self {
            agents,
            primary: defaults.model.primary.clone(),
            timeout: Duration::from_secs(defaults.timeout_seconds),
            main_key: settings.session.main_key.clone(),
            workspace: defaults.workspace.clone(),
            models: BTreeMap::from([("crabtree/offline".to_owned(), offline)]),
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

    /// Provider and name of the default model.
    pub fn primary_parts(&self) -> (&str, &str) {
        self.primary.split_once('/').unwrap_or(("crabtree", &self.primary))
    }

    /// Answer of `agents.list`; `workspace` is where agents work unless the configuration says otherwise.
    pub fn agents_list(&self, workspace: &str) -> Value {
        let agents: Vec<Value> = self
            .agents
            .iter()
            .map(|agent| {
                let mut row = json!({
                    "id": agent.id,
                    "workspace": self.workspace.as_deref().unwrap_or(workspace),
                    "workspaceGit": false,
                    "agentRuntime": agent_runtime(),
                    "thinkingLevels": [{ "id": "off", "label": "off" }],
                    "thinkingOptions": ["off"],
                    "thinkingDefault": "off",
                    "model": { "primary": self.primary },
                });
                if let Some(name) = &agent.name {
                    row["name"] = json!(name);
                    row["identity"] = json!({ "name": name, "emoji": agent.emoji });
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
                json!({
                    "id": model.id(),
                    "name": format!("{} ({})", model.id(), model.provider()),
                    "provider": model.provider(),
                    "contextWindow": CONTEXT_TOKENS,
                    "local": true,
                    "input": ["text"],
                    "reasoning": false,
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

/// See the module. It hears nothing yet: answers are read from the published catalog.
pub struct Agents;

impl Behavior for Agents {
    type Msg = ();
    type Args = Arc<Estate>;
    const KIND: &'static str = "agents";

    fn start(ctx: &mut Ctx<()>, estate: Arc<Estate>) -> Result<Self, Fault> {
        let catalog = Catalog::new(&estate.config.load().settings);
        ctx.publish_info(json!({ "agents": catalog.agents.len(), "models": catalog.models.len() }));
        if catalog.model(&catalog.primary).is_none() {
            tracing::warn!(target: "crabtree::agents", model = %catalog.primary,
                "the default model is not known; runs will say so");
        }
        estate.catalog.store(Arc::new(catalog));
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}
