//! The catalog: which agents there are, and which models they can use, as everybody reads it.

use super::ollama::{self, Finds};
use super::remote::{Http, Remote};
use super::{Model, Offline};
use crate::settings::{AgentDefaults, AgentEntry, ProviderSettings, Settings, Thinking};
use crabtree_protocol::session_key::MAIN;
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
    /// How hard its model thinks, as configured.
    pub thinking: Option<Thinking>,
}

/// The agents and models, as everybody reads them.
#[derive(Clone)]
pub struct Catalog {
    /// The agents, the default one first.
    pub agents: Vec<Agent>,
    /// `provider/model` of the default model.
    pub primary: String,
    /// How long a run may take.
    pub timeout: Duration,
    /// Last part of the main session's key.
    pub main_key: String,
    pub(super) models: BTreeMap<String, Arc<dyn Model>>,
    /// The models without those that were found.
    configured: Arc<BTreeMap<String, Arc<dyn Model>>>,
    pub(super) finds: Finds,
    pub(super) http: Http,
}

impl Agent {
    fn new(id: &str, entry: Option<&AgentEntry>, defaults: &AgentDefaults) -> Self {
        let identity = entry.map(|entry| entry.identity.clone()).unwrap_or_default();
        let name = identity.name.or_else(|| entry.and_then(|entry| entry.name.clone()));
        let choice = entry.and_then(|entry| entry.model.as_ref()).unwrap_or(&defaults.model).clone();
        let thinking = entry.and_then(|entry| entry.thinking_default).or(defaults.thinking_default);
        let shown = |value: Option<String>| value.filter(|value| !value.is_empty());
        let (emoji, avatar) = (shown(identity.emoji), shown(identity.avatar));
        let (model, fallbacks) = (choice.primary, choice.fallbacks);
        Self { id: id.to_owned(), name, emoji, avatar, model, fallbacks, thinking }
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
        let agent = |id: &str| Agent::new(id, settings.agents.entry(id), &settings.agents.defaults);
        let agents = settings.agent_ids().into_iter().map(agent).collect();
        let defaults = &settings.agents.defaults;
        let offline: Arc<dyn Model> = Arc::new(Offline);
        let http = Http::default();
        let providers = settings.models.providers.iter();
        let remote = providers.flat_map(|(id, provider)| of_provider(id, provider, &http));
        let models = [offline].into_iter().chain(remote).chain(brought.iter().cloned());
        let models: BTreeMap<_, _> = models.map(named).collect();
        Self {
            agents,
            primary: defaults.model.primary.clone(),
            timeout: Duration::from_secs(defaults.timeout_seconds),
            main_key: MAIN.to_owned(),
            models: models.clone(),
            configured: Arc::new(models),
            finds: Finds::new(),
            http,
        }
    }

    /// With the models that were found, and none that were found before. What is configured counts more.
    pub(super) fn with(&self, finds: Finds, settings: &Settings) -> Self {
        let places = ollama::places(settings);
        let models = finds.iter().filter_map(|(id, found)| {
            let models = found.iter().map(|found| found.entry.clone()).collect();
            let provider = ProviderSettings { models, ..places.get(id)?.clone() };
            Some(of_provider(id, &provider, &self.http))
        });
        let mut models: BTreeMap<_, _> = models.flatten().map(named).collect();
        models.extend(self.configured.iter().map(|(name, model)| (name.clone(), model.clone())));
        Self { models, finds, ..self.clone() }
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

    /// The levels at which a model, `provider/model`, can think.
    pub fn thinking_levels(&self, name: &str) -> &'static [Thinking] {
        Thinking::of_model(self.reasons(name)).0
    }

    /// How hard it thinks for an agent: as `wished`, else as configured, else as models do by themselves; of these the
    /// first that it can.
    pub fn thinking(&self, agent_id: &str, name: &str, wished: Option<Thinking>) -> Thinking {
        let (levels, own) = Thinking::of_model(self.reasons(name));
        let configured = self.agent(agent_id).and_then(|agent| agent.thinking);
        [wished, configured].into_iter().flatten().find(|level| levels.contains(level)).unwrap_or(own)
    }

    /// The same in words, as rows tell it of an agent with this model.
    pub fn thinking_row(&self, agent_id: &str, name: &str) -> [(&'static str, Value); 3] {
        let levels = self.thinking_levels(name).iter().map(|level| level.name());
        let labelled = levels.clone().map(|name| json!({ "id": name, "label": name }));
        [
            ("thinkingLevels", labelled.collect()),
            ("thinkingOptions", levels.collect()),
            ("thinkingDefault", json!(self.thinking(agent_id, name, None))),
        ]
    }

    fn reasons(&self, name: &str) -> bool {
        self.models.get(name).is_some_and(|model| model.info().reasoning)
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
                    "model": { "primary": agent.model },
                });
                for (name, value) in self.thinking_row(&agent.id, &agent.model) {
                    row[name] = value;
                }
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
                let mut row = json!({
                    "id": model.id(),
                    "name": info.name,
                    "provider": model.provider(),
                    "contextWindow": model.context_window(),
                    "local": info.local,
                    "input": info.input,
                    "reasoning": info.reasoning,
                    "tags": if *name == self.primary { vec!["default"] } else { vec![] },
                    "available": true,
                });
                let [levels, _, default] = self.thinking_row(&self.default_agent().id, name);
                for (name, value) in [levels, default] {
                    row[name] = value;
                }
                if !model.takes_tools() {
                    row["supportsTools"] = json!(false);
                }
                row
            })
            .collect();
        json!({ "models": models })
    }
}

fn named(model: Arc<dyn Model>) -> (String, Arc<dyn Model>) {
    (format!("{}/{}", model.provider(), model.id()), model)
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
