//! Which commands may run without asking: the document of `exec.approvals.get` and `.set`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::params::record;
use crate::value::{Int, Number, Text, string_enum};

string_enum! {
    /// Where an entry came from that no person wrote.
    any_of pub enum Generated {
        /// Made by a person who said "always".
        AllowAlways = "allow-always",
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyFile {
    /// 1.
    pub version: Int<1, 1>,
    /// A socket that other programs of OpenClaw ask at; kept for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PolicySocket>,
    /// What holds for agents that say nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<PolicyDefaults>,
    /// What holds for each agent, `*` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<BTreeMap<String, AgentPolicy>>,
}

/// Where other programs of OpenClaw ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySocket {
    /// The socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its secret; never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What holds for agents that say nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDefaults {
    /// Which commands may run at all: `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// When a person is asked: `off`, `on-miss` or `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// What happens if nobody answers: `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_fallback: Option<String>,
    /// Whether programs of skills count as allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allow_skills: Option<bool>,
}

/// What holds for an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentPolicy {
    /// Which commands may run at all: `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// When a person is asked: `off`, `on-miss` or `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// What happens if nobody answers: `deny`, `allowlist` or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_fallback: Option<String>,
    /// Whether programs of skills count as allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allow_skills: Option<bool>,
    /// What may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowlist: Option<Vec<AllowlistEntry>>,
    /// Tools of MCP servers that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_tools: Option<Vec<AllowedMcpTool>>,
}

/// Something that may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowlistEntry {
    /// The program: a path or a name, with wildcards.
    pub pattern: String,
    /// Names the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Text>,
    /// Where it came from, unless a person wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Generated>,
    /// Read for old documents.
    #[serde(default, skip_serializing)]
    pub command_text: Option<String>,
    /// With which arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
    /// When it was used last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Number>,
    /// For what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_command: Option<String>,
    /// Which program that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resolved_path: Option<String>,
}

/// A tool of an MCP server that may be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedMcpTool {
    /// The server.
    pub server: Text,
    /// The tool.
    pub tool: Text,
    /// Where it came from.
    pub source: Generated,
    /// When it was allowed, ms.
    pub added_at: Number,
    /// When it was used last, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Number>,
}

/// Parameters of `exec.approvals.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetParams {
    /// What it is to be.
    pub file: PolicyFile,
    /// The hash of what it is now.
    pub base_hash: Option<Text>,
}

record! {
    /// Result of `exec.approvals.get` and `exec.approvals.set`.
    pub struct PolicyShown {
        /// Where the document is.
        path: String,
        /// Whether there is one.
        exists: bool,
        /// What it holds, without secrets.
        file: PolicyFile,
        /// SHA-256 of it, in hex.
        hash: String,
        /// What holds for an agent that it does not name.
        resolved_defaults: ResolvedDefaults,
    }
}

record! {
    /// What holds for an agent that the document does not name.
    pub struct ResolvedDefaults {
        /// Which commands may run at all.
        security: String,
        /// When a person is asked.
        ask: String,
        /// What happens if nobody answers.
        ask_fallback: String,
        /// Whether programs of skills count as allowed.
        auto_allow_skills: bool,
    }
}

string_enum! {
    /// Which commands may run at all.
    any_of pub enum SnapshotSecurity {
        /// None.
        Deny = "deny",
        /// Those of the list.
        Allowlist = "allowlist",
        /// All.
        Full = "full",
    }
}

string_enum! {
    /// When a person is asked.
    any_of pub enum SnapshotAsk {
        /// Never.
        Off = "off",
        /// If the list has no entry.
        OnMiss = "on-miss",
        /// Always.
        Always = "always",
    }
}

/// The rules of a node when it planned a command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySnapshot {
    /// Which commands may run at all.
    pub security: SnapshotSecurity,
    /// When a person is asked.
    pub ask: SnapshotAsk,
    /// What happens if nobody answers.
    pub ask_fallback: SnapshotSecurity,
    /// Whether programs of skills count as allowed.
    pub auto_allow_skills: bool,
    /// What may run.
    pub allowlist_rules: Vec<AllowlistRule>,
}

/// What may run, as a node says it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowlistRule {
    /// The program.
    pub pattern: String,
    /// With which arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Generated>,
}
