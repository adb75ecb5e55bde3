//! `plugins`: of OpenClaw's plugins the settings of those whose work the gateway does itself.

use serde::{Deserialize, Serialize};

/// `plugins`: what OpenClaw does by plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginsSettings {
    /// By the plugin's name.
    pub entries: PluginEntries,
}

/// `plugins.entries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginEntries {
    /// Ollama and its models.
    pub ollama: OllamaEntry,
}

/// `plugins.entries.ollama`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OllamaEntry {
    /// Its settings.
    pub config: OllamaConfig,
}

/// `plugins.entries.ollama.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OllamaConfig {
    /// Models that are not written down.
    pub discovery: Discovery,
}

/// `plugins.entries.ollama.config.discovery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Whether they are looked for.
    pub enabled: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { enabled: true }
    }
}
