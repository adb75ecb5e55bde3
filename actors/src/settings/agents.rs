//! `agents`: the agents and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::heartbeat::HeartbeatSettings;
use super::tools::ToolsSettings;
use super::{Thinking, Usd};
use crabtree_protocol::value::Int;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs at the same time: of themselves, and at the most.
const CONCURRENT: u64 = 16;
const MAX_CONCURRENT: u64 = 1_000;

/// `agents`: the agents and what they share.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "AgentsInput")]
pub struct AgentsSettings {
    /// What every agent starts from.
    pub defaults: AgentDefaults,
    /// The agents; an empty list means one called `main`. They may be written as `entries`, by id, or as OpenClaw's
    /// older `list`. The order of `entries` means nothing: `main` comes first, then ids in their order.
    pub list: Vec<AgentEntry>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct AgentsInput {
    /// What every agent starts from.
    defaults: AgentDefaults,
    /// The agents, as OpenClaw once wrote them.
    list: Vec<Listed>,
    /// The agents by id; without any there is one called `main`.
    entries: BTreeMap<String, AgentEntry>,
}

/// An entry of the list, which needs an id.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "AgentEntry")]
struct Listed(AgentEntry);

impl TryFrom<AgentEntry> for Listed {
    type Error = &'static str;

    fn try_from(entry: AgentEntry) -> Result<Self, Self::Error> {
        if entry.id.is_empty() { Err("missing field `id`") } else { Ok(Self(entry)) }
    }
}

impl TryFrom<AgentsInput> for AgentsSettings {
    type Error = String;

    fn try_from(input: AgentsInput) -> Result<Self, String> {
        let mut list: Vec<AgentEntry> = input.list.into_iter().map(|Listed(entry)| entry).collect();
        let (main, others): (Vec<_>, Vec<_>) = input.entries.into_iter().partition(|(id, _)| id == "main");
        list.extend(main.into_iter().chain(others).map(|(id, entry)| AgentEntry { id, ..entry }));
        let mut ids = BTreeSet::new();
        if let Some(twice) = list.iter().find(|entry| !ids.insert(entry.id.as_str())) {
            return Err(format!("two agents are called {:?}; give each its own id", twice.id));
        }
        Ok(Self { defaults: input.defaults, list })
    }
}

/// `agents.defaults`: what every agent starts from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AgentDefaults {
    /// The model.
    pub model: ModelChoice,
    /// The directory that agents work in.
    pub workspace: Option<String>,
    /// Runs at the same time, over all sessions.
    pub max_concurrent: Int<1, MAX_CONCURRENT>,
    /// How long one run may take.
    pub timeout_seconds: u64,
    /// How often one run may ask its model: once more after each round of tools.
    pub max_rounds: usize,
    /// How hard models think, of those that do.
    pub thinking_default: Option<Thinking>,
    /// What one run may cost, in US dollars: a run that is past it does not ask its model again (ours).
    pub max_cost_usd: Option<Usd>,
    /// How agents look after things on their own.
    pub heartbeat: HeartbeatSettings,
}

impl Default for AgentDefaults {
    fn default() -> Self {
        Self {
            model: ModelChoice::default(),
            workspace: None,
            max_concurrent: Int::new(CONCURRENT).expect("the default is in range"),
            timeout_seconds: 600,
            max_rounds: 50,
            thinking_default: None,
            max_cost_usd: None,
            heartbeat: HeartbeatSettings::default(),
        }
    }
}

impl AgentDefaults {
    /// Runs at the same time, over all sessions.
    pub fn lanes(&self) -> usize {
        self.max_concurrent.get() as usize
    }
}

/// A model as `provider/model`, written alone or as `{primary, fallbacks}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "ModelInput")]
pub struct ModelChoice {
    /// The first choice.
    pub primary: String,
    /// What to try after it, in order.
    pub fallbacks: Vec<String>,
}

impl Default for ModelChoice {
    fn default() -> Self {
        Self { primary: "crabtree/offline".into(), fallbacks: Vec::new() }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "\"provider/model\" or {primary: \"provider/model\", fallbacks: [...]}")]
enum ModelInput {
    Alone(String),
    Full {
        /// The first choice.
        primary: Option<String>,
        /// What to try after it, in order.
        #[serde(default)]
        fallbacks: Vec<String>,
    },
}

impl From<ModelInput> for ModelChoice {
    fn from(input: ModelInput) -> Self {
        let (primary, fallbacks) = match input {
            ModelInput::Alone(primary) => (Some(primary), Vec::new()),
            ModelInput::Full { primary, fallbacks } => (primary, fallbacks),
        };
        Self { primary: primary.unwrap_or_else(|| Self::default().primary), fallbacks }
    }
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentEntry {
    /// The name used in session keys.
    pub id: String,
    /// The name shown to people.
    pub name: Option<String>,
    /// How the agent presents itself.
    pub identity: AgentIdentity,
    /// Whether it answers when nobody else is named.
    pub default: bool,
    /// The directory it works in; see [`AgentsSettings::workspace`] for the default.
    pub workspace: Option<String>,
    /// Its model, if it is not the default one.
    pub model: Option<ModelChoice>,
    /// How hard its model thinks, if it is not as hard as all do.
    #[serde(rename = "thinkingDefault")]
    pub thinking_default: Option<Thinking>,
    /// What it may use, if that is not what all may.
    pub tools: Option<ToolsSettings>,
    /// How it looks after things on its own, if that is not how all do.
    pub heartbeat: Option<HeartbeatSettings>,
}

/// How an agent presents itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentIdentity {
    /// Its name.
    pub name: Option<String>,
    /// Its mark.
    pub emoji: Option<String>,
    /// Its picture: a path in its workspace, an address or a data URI.
    pub avatar: Option<String>,
}

impl AgentsSettings {
    /// An agent that is written down.
    pub fn entry(&self, id: &str) -> Option<&AgentEntry> {
        self.list.iter().find(|entry| entry.id == id)
    }

    /// Where an agent works: its own directory; without one, and with other agents beside it,
    /// `<agents.defaults.workspace>/<id>` or `<state directory>/workspace-<id>`. The agent that answers when nobody
    /// else is named (`default`) has `agents.defaults.workspace` or `<state directory>/workspace` to itself.
    pub fn workspace(&self, id: &str, default: &str, state_dir: &Path) -> PathBuf {
        let own = self.entry(id).and_then(|entry| entry.workspace.as_deref());
        match (own, &self.defaults.workspace) {
            (Some(own), _) => expanded(own),
            (None, Some(shared)) if id == default => expanded(shared),
            (None, Some(shared)) => expanded(shared).join(id),
            (None, None) if id == default => state_dir.join("workspace"),
            (None, None) => state_dir.join(format!("workspace-{id}")),
        }
    }
}

/// A path as people write it: `~/` is the home directory.
pub(crate) fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(json: &str) -> Result<AgentsSettings, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_model_may_be_written_both_ways() {
        let read = |json: &str| serde_json::from_str::<ModelChoice>(json).expect("a model");
        assert_eq!(read(r#""a/b""#), ModelChoice { primary: "a/b".into(), fallbacks: vec![] });
        assert_eq!(read(r#"{"fallbacks": ["c/d"]}"#).primary, "crabtree/offline");
    }

    #[test]
    fn agents_are_written_as_entries_or_as_a_list() {
        let ids = |json: &str| agents(json).map(|a| a.list.into_iter().map(|e| e.id).collect::<Vec<_>>());
        assert_eq!(ids(r#"{"list": [{"id": "b"}, {"id": "a"}]}"#).unwrap(), ["b", "a"]);
        assert_eq!(ids(r#"{"entries": {"a": {}, "main": {}, "b": {}}}"#).unwrap(), ["main", "a", "b"]);
        let twice = ids(r#"{"list": [{"id": "a"}], "entries": {"a": {}}}"#).unwrap_err();
        assert!(twice.contains("two agents are called \"a\""), "{twice}");
        assert!(ids(r#"{"list": [{"name": "x"}]}"#).unwrap_err().contains("missing field `id`"));
    }

    #[test]
    fn every_agent_has_a_directory_of_its_own() {
        let at = |json: &str, id: &str| agents(json).unwrap().workspace(id, "main", Path::new("/s"));
        assert_eq!(at("{}", "main"), Path::new("/s/workspace"));
        assert_eq!(at("{}", "b"), Path::new("/s/workspace-b"));
        let shared = r#"{"defaults": {"workspace": "/w"}, "entries": {"c": {"workspace": "/c"}}}"#;
        assert_eq!(at(shared, "main"), Path::new("/w"));
        assert_eq!(at(shared, "b"), Path::new("/w/b"));
        assert_eq!(at(shared, "c"), Path::new("/c"));
    }
}
