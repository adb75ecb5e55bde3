//! Nodes, as the gateway shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{NodeSkill, NodeTool};
use crate::params::record;
use crate::value::{Int, List};

/// How a node's machine is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStats {
    /// Processors.
    pub cpu_count: Int<1, 4_096>,
    /// Averages of 1, 5 and 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
    /// Bytes.
    pub memory_total_bytes: Int,
    /// Bytes.
    pub memory_free_bytes: Int,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<Int>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_available_bytes: Option<Int>,
    /// When it was told, ms.
    #[serde(default)]
    pub updated_at_ms: i64,
}

impl HostStats {
    /// Whether the figures can be those of a machine.
    pub fn is_sound(&self) -> bool {
        let load = self.load_average.iter().flatten().all(|load| (0.0..=100_000.0).contains(load));
        let disk = match (self.disk_total_bytes, self.disk_available_bytes) {
            (Some(total), Some(available)) => available <= total,
            (None, None) => true,
            _ => false,
        };
        load && disk && self.memory_free_bytes <= self.memory_total_bytes
    }
}

/// A node, as `node.list` and `node.describe` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// Its device.
    pub node_id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Its operating system, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The kind of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// The kind of its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Its address, unless it is on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// Its abilities, as far as they are approved.
    pub caps: Vec<String>,
    /// Its commands, as far as they are approved, in order.
    pub commands: Vec<String>,
    /// Whether sessions run there; not with this gateway.
    pub session_host: bool,
    /// How its machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_stats: Option<HostStats>,
    /// The tools it offers agents, while it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_plugin_tools: Option<Vec<NodeTool>>,
    /// What the person at the node allows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
    /// Where it looks for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_env: Option<String>,
    /// `approved`, `pending-approval`, `pending-reapproval` or `unapproved`.
    pub approval_state: String,
    /// The request that waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_request_id: Option<String>,
    /// The abilities it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_declared_caps: Option<Vec<String>>,
    /// The commands it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_declared_commands: Option<Vec<String>>,
    /// The permissions it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_declared_permissions: Option<BTreeMap<String, bool>>,
    /// Since when it is connected, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_at_ms: Option<i64>,
    /// When it connected last, ms, if it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connected_at_ms: Option<i64>,
    /// When it was seen last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<i64>,
    /// Why it was seen: `connect`, `manual` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_reason: Option<String>,
    /// Whether its person was active last of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// When its person was active last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at_ms: Option<i64>,
    /// When that was told, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_updated_at_ms: Option<i64>,
    /// When it was approved, ms; its device, as long as nothing else is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_at_ms: Option<i64>,
    /// Whether its device is paired.
    pub paired: bool,
    /// Whether it is connected.
    pub connected: bool,
}

record! {
    /// Result of `node.list`.
    pub struct Nodes {
        /// When, ms.
        ts: i64,
        /// The nodes: who is connected first, then by name.
        nodes: Vec<NodeRow>,
    }
}

/// Result of `node.describe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Described {
    /// When, ms.
    pub ts: i64,
    /// The node.
    #[serde(flatten)]
    pub node: NodeRow,
}

record! {
    /// Result of `node.rename`.
    pub struct Renamed {
        /// Which.
        node_id: String,
        /// What people call it now.
        display_name: String,
    }
}

/// Result of `node.invoke`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invoked {
    /// Always true.
    pub ok: bool,
    /// The node.
    pub node_id: String,
    /// What it did.
    pub command: String,
    /// What came of it.
    pub payload: Value,
    /// The same as the text it came as.
    #[serde(rename = "payloadJSON")]
    pub payload_json: Option<String>,
}

record! {
    /// Result of `node.invoke.result` and `node.invoke.progress`.
    pub struct Taken {
        /// Always true.
        ok: bool,
        ; optional
        /// Nobody waited for it.
        ignored: bool,
    }
}

record! {
    /// Result of `node.event`; for some events it only says that they were taken.
    pub struct EventTaken {
        /// Always true.
        ok: bool,
        ; optional
        /// What happened.
        event: String,
        /// Whether something came of it.
        handled: bool,
        /// Why, or why not.
        reason: String,
    }
}

/// A node that asks for something, as `node.pair.list` and `node.pair.requested` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairRequest {
    /// Names the request.
    pub request_id: String,
    /// The node, as it described itself.
    #[serde(flatten)]
    pub node: PairNode,
    /// Whoever approves it needs all of these.
    pub required_approve_scopes: Vec<String>,
    /// What the person at the node allows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
    /// Its device was paired without asking anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<bool>,
    /// When it asked, ms.
    pub ts: i64,
}

/// Who a node says it is and what it offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairNode {
    /// Its device.
    pub node_id: String,
    /// Its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The kind of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Its operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kind of its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// Its abilities.
    pub caps: Vec<String>,
    /// Its commands.
    pub commands: Vec<String>,
}

/// A node that is approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairedNode {
    /// The node, with what of it is approved.
    #[serde(flatten)]
    pub node: PairNode,
    /// What the person at the node allows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeMap<String, bool>>,
    /// When it was approved first, ms.
    pub created_at_ms: i64,
    /// When it was approved last, ms.
    pub approved_at_ms: i64,
    /// When it connected last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_connected_at_ms: Option<i64>,
    /// How its machine was when it told so last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host_stats: Option<HostStats>,
    /// When it was seen last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at_ms: Option<i64>,
    /// Why it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_reason: Option<String>,
}

record! {
    /// Result of `node.pair.list`.
    pub struct Pairings {
        /// Who asks for something, the latest first.
        pending: Vec<PairRequest>,
        /// Who is approved, the latest first.
        paired: Vec<PairedNode>,
    }
}

record! {
    /// Result of `node.pair.approve`.
    pub struct Approved {
        /// The request.
        request_id: String,
        /// The node.
        node: PairedNode,
    }
}

record! {
    /// Result of `node.pair.reject`.
    pub struct Rejected {
        /// The request.
        request_id: String,
        /// The node.
        node_id: String,
    }
}

record! {
    /// Result of methods that only name the node.
    pub struct Named {
        /// The node.
        node_id: String,
    }
}

record! {
    /// Result of `node.pluginTools.update`.
    pub struct ToolsUpdated {
        /// The node.
        node_id: String,
        /// Those of its tools that its approved commands cover.
        tools: Vec<NodeTool>,
    }
}

record! {
    /// Result of `node.skills.update`.
    pub struct SkillsUpdated {
        /// The node.
        node_id: String,
        /// Its skills.
        skills: List<NodeSkill, 0, 64>,
    }
}

record! {
    /// Something a phone is to do when it is in the foreground again.
    pub struct PendingAction {
        /// Its id.
        id: String,
        /// The command.
        command: String,
        /// With what; null if with nothing.
        #[serde(rename = "paramsJSON")]
        params_json: Option<String>,
        /// Since when it waits, ms.
        enqueued_at_ms: i64,
    }
}

record! {
    /// Result of `voicewake.get` and `voicewake.set`, and payload of `voicewake.changed`.
    pub struct Triggers {
        /// The words that wake.
        triggers: Vec<String>,
    }
}

record! {
    /// Where something can run.
    pub struct Environment {
        /// `gateway` or `node:ID`.
        id: String,
        /// `local` or `node`.
        #[serde(rename = "type")]
        kind: String,
        /// What people call it.
        label: String,
        /// `available` or `unavailable`.
        status: String,
        /// Whether sessions run there.
        session_host: bool,
        /// `persistent`.
        trust: String,
        ; optional
        /// What it can do, if anything.
        capabilities: Vec<String>,
        /// The commands that a connected node carries out, if any.
        invocable_commands: Vec<String>,
        /// Its operating system.
        platform: String,
        /// When it connected last, ms.
        last_connected_at_ms: i64,
        /// When it was seen last, ms.
        last_seen_at_ms: i64,
        /// Why it was seen.
        last_seen_reason: String,
        /// Whether its desktop can be shared.
        desktop: bool,
    }
}

record! {
    /// Result of `environments.list`.
    pub struct Environments {
        /// This machine first.
        environments: Vec<Environment>,
    }
}
