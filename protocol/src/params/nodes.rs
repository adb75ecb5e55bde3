//! Nodes: the devices that do something for agents, what they offer, and what they are asked to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::approvals::ThreadId;
use super::approvals::policy::PolicyFile;
use crate::value::{Int, List, Text, shaped_text, string_enum};

mod results;

pub use results::*;

/// Parameters of methods that name a node.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeParams {
    /// Which.
    pub node_id: Text,
}

/// Parameters of `node.rename`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameParams {
    /// Which.
    pub node_id: Text,
    /// What people call it from now on.
    pub display_name: Text,
}

/// Parameters of `node.pair.approve` and `node.pair.reject`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestParams {
    /// Which request.
    pub request_id: Text,
}

/// Parameters of `node.invoke`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvokeParams {
    /// The node.
    pub node_id: Text,
    /// What it is to do.
    pub command: Text,
    /// With what.
    pub params: Option<Value>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: Option<Int>,
    /// Handed on to the node.
    pub idempotency_key: Text,
    /// The session it is done for (accepted, unused).
    pub session_key: Option<Text>,
    /// Where the turn came from (accepted, unused).
    pub turn_source_channel: Option<String>,
    /// The same.
    pub turn_source_to: Option<String>,
    /// The same.
    pub turn_source_account_id: Option<String>,
    /// The same.
    pub turn_source_thread_id: Option<ThreadId>,
}

/// What went wrong at a node.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResultError {
    /// The node's word for it.
    pub code: Option<Text>,
    /// Its words for people.
    pub message: Option<Text>,
}

/// Parameters of `node.invoke.result`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResultParams {
    /// The call.
    pub id: Text,
    /// The node that sends it.
    pub node_id: Text,
    /// Whether it is done.
    pub ok: bool,
    /// What came of it.
    pub payload: Option<Value>,
    /// The same as JSON text.
    #[serde(rename = "payloadJSON")]
    pub payload_json: Option<String>,
    /// Why it is not done.
    pub error: Option<ResultError>,
}

/// Parameters of `node.invoke.progress`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProgressParams {
    /// The call.
    pub invoke_id: Text,
    /// The node that sends it.
    pub node_id: Text,
    /// Its place among the pieces.
    pub seq: Int,
    /// A piece of what came of it so far.
    pub chunk: Text<16_384, 0>,
}

/// Parameters of `node.event`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventParams {
    /// What happened.
    pub event: Text,
    /// The facts.
    pub payload: Option<Value>,
    /// The same as JSON text.
    #[serde(rename = "payloadJSON")]
    pub payload_json: Option<String>,
}

string_enum! {
    /// What a node can be asked to do when it next looks.
    one_of pub enum WorkKind {
        /// To say how it is.
        Status = "status.request",
        /// To say where it is.
        Location = "location.request",
    }
}

string_enum! {
    /// How urgent that is.
    one_of pub enum WorkPriority {
        /// As usual.
        Normal = "normal",
        /// Before the rest.
        High = "high",
    }
}

/// Parameters of `node.pending.enqueue`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnqueueParams {
    /// The node.
    pub node_id: Text,
    /// What it is to do.
    #[serde(rename = "type")]
    pub kind: WorkKind,
    /// How urgent that is.
    pub priority: Option<WorkPriority>,
    /// For how long it is worth doing, in milliseconds.
    pub expires_in_ms: Option<Int<1_000, 86_400_000>>,
    /// Whether the node is to be woken; this gateway cannot wake any.
    pub wake: Option<bool>,
}

/// Parameters of `node.pending.drain`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainParams {
    /// How much at once.
    pub max_items: Option<Int<1, 10>>,
}

/// Parameters of `node.pending.ack`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckParams {
    /// What is done.
    pub ids: List<Text, 1>,
}

shaped_text! {
    /// The name of a tool of a node.
    pub struct NodeToolName = "^[A-Za-z][A-Za-z0-9_-]{0,63}$" if |text| {
        text.len() <= 64
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    }
}

impl Serialize for NodeToolName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Which tool of an MCP server at a node is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeMcpTool {
    /// The server.
    pub server: Text,
    /// The tool.
    pub tool: Text,
}

/// A tool that a node offers agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeTool {
    /// Who made it.
    pub plugin_id: Text,
    /// What it is called.
    pub name: NodeToolName,
    /// What it does.
    pub description: Text,
    /// JSON Schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// The command that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Text>,
    /// The tool of an MCP server behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<NodeMcpTool>,
}

/// Parameters of `node.pluginTools.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolsUpdateParams {
    /// All tools that the node offers.
    pub tools: Vec<NodeTool>,
}

shaped_text! {
    /// The name of a skill of a node.
    pub struct NodeSkillName = "^(?!.*--)[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$" if |text| {
        (1..=64).contains(&text.len())
            && !text.contains("--")
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    }
}

impl Serialize for NodeSkillName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A skill that a node offers agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSkill {
    /// What it is called.
    pub name: NodeSkillName,
    /// What it is for.
    pub description: Text<1_024>,
    /// Its `SKILL.md`.
    pub content: Text<65_536>,
}

/// Parameters of `node.skills.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SkillsUpdateParams {
    /// All skills that the node offers.
    pub skills: List<NodeSkill, 0, 64>,
}

/// Parameters of `exec.approvals.node.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePolicySetParams {
    /// The node.
    pub node_id: Text,
    /// What may run there without asking.
    pub file: PolicyFile,
    /// The hash of what it is now.
    pub base_hash: Option<Text>,
}

/// Parameters of `environments.list`; what else may be asked for there is nothing of here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentsListParams {
    /// Asks how a desktop is set up (accepted, unused).
    pub include_desktop_setup: Option<bool>,
    /// Asks what another runtime needs (accepted, unused).
    pub runtime_id: Option<Text>,
    /// `profiles` asks for the profiles of cloud workers alone; there are none.
    pub projection: Option<Text>,
}

/// Parameters of `environments.status`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentsStatusParams {
    /// Which.
    pub environment_id: Text,
}

/// Parameters of `voicewake.set`, which says itself what it takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct VoicewakeSetParams {
    /// The words.
    pub triggers: Option<Value>,
}

/// Parameters of `node.pluginSurface.refresh` and `plugin.surface.refresh`, which say themselves what they take.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct SurfaceRefreshParams {
    /// Which surface.
    pub surface: Option<Value>,
}

/// Result of `node.pluginSurface.refresh` and `plugin.surface.refresh`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SurfaceRefreshed {
    /// Which surface.
    pub surface: String,
    /// Where it is now, by its name.
    pub plugin_surface_urls: Value,
    /// Until when that is good, ms.
    pub expires_at_ms: i64,
}
