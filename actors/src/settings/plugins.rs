//! `plugins`: of OpenClaw's plugins the settings of those whose work the gateway does itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `plugins`: what OpenClaw does by plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PluginsSettings {
    /// By the plugin's name.
    pub entries: PluginEntries,
}

/// `plugins.entries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PluginEntries {
    /// Pages that agents make.
    pub canvas: CanvasEntry,
    /// Ollama and its models.
    pub ollama: OllamaEntry,
    /// Setup codes for devices.
    #[serde(rename = "device-pair")]
    pub device_pair: DevicePairEntry,
}

/// `plugins.entries.canvas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CanvasEntry {
    /// Its settings.
    pub config: CanvasConfig,
}

/// `plugins.entries.canvas.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CanvasConfig {
    /// Serving them.
    pub host: CanvasHostSettings,
}

/// `plugins.entries.canvas.config.host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CanvasHostSettings {
    /// Whether pages are served, and agents may make some.
    pub enabled: bool,
}

impl Default for CanvasHostSettings {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `plugins.entries.device-pair`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DevicePairEntry {
    /// Its settings.
    pub config: DevicePairConfig,
}

/// `plugins.entries.device-pair.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DevicePairConfig {
    /// Where devices elsewhere reach this gateway.
    pub public_url: Option<String>,
}

/// `plugins.entries.ollama`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OllamaEntry {
    /// Its settings.
    pub config: OllamaConfig,
}

/// `plugins.entries.ollama.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OllamaConfig {
    /// Models that are not written down.
    pub discovery: Discovery,
}

/// `plugins.entries.ollama.config.discovery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
