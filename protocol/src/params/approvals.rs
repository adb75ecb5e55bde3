//! Approvals: what people are asked before something is done, and what they say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record;
use crate::value::{Int, List, Maybe, Text, string_enum};

pub mod policy;

string_enum! {
    /// What an approval is about.
    any_of pub enum ApprovalKind {
        /// A command.
        Exec = "exec",
        /// Something a plugin or a tool wants to do.
        Plugin = "plugin",
        /// Something the gateway wants to change about itself; this gateway never asks.
        SystemAgent = "system-agent",
    }
}

string_enum! {
    /// What a person says to a request.
    any_of pub enum ApprovalDecision {
        /// Yes, this time.
        AllowOnce = "allow-once",
        /// Yes, and do not ask again.
        AllowAlways = "allow-always",
        /// No.
        Deny = "deny",
    }
}

impl ApprovalDecision {
    /// Whether it is a yes.
    pub fn allows(self) -> bool {
        self != Self::Deny
    }
}

string_enum! {
    /// How grave a plugin's request is.
    one_of pub enum Severity {
        /// Good to know.
        Info = "info",
        /// Look twice.
        Warning = "warning",
        /// Dangerous.
        Critical = "critical",
    }
}

/// Whom an action reaches, for people to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ApprovalScope {
    /// A message.
    MessageSend {
        /// To whom, in short.
        target: Text<128>,
        /// How many read it.
        recipient_count: Int<1, 1_000_000>,
        /// The first of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        recipients: Option<List<Text<128>, 0, 5>>,
        /// Whether they are strangers.
        #[serde(skip_serializing_if = "Option::is_none")]
        audience: Option<ScopeAudience>,
    },
    /// A payment.
    Payment {
        /// How much.
        amount: Text<40>,
        /// Of what.
        currency: Text<12>,
        /// To whom.
        target: Text<128>,
    },
    /// A post.
    ExternalPost {
        /// Where.
        target: Text<128>,
        /// Who reads it.
        visibility: ScopeVisibility,
    },
    /// A command that an automation may run from now on.
    StandingGrant {
        /// Which automation.
        automation: Text<128>,
        /// Which command.
        command: Text<256>,
        /// For how long.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_days: Option<Int<1, 3650>>,
    },
}

string_enum! {
    /// Whether those who read a message are strangers.
    any_of pub enum ScopeAudience {
        /// They are not.
        Internal = "internal",
        /// They are.
        External = "external",
    }
}

string_enum! {
    /// Who reads a post.
    any_of pub enum ScopeVisibility {
        /// Everybody.
        Public = "public",
        /// Some.
        Restricted = "restricted",
    }
}

/// A thread of a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ThreadId {
    /// By name.
    Text(String),
    /// By number.
    Number(serde_json::Number),
}

string_enum! {
    /// A decision that can be withheld.
    one_of pub enum Withheld {
        /// Not for good.
        AllowAlways = "allow-always",
    }
}

/// A part of a command that a client may set off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandSpan {
    /// Where it begins.
    pub start_index: Int,
    /// Where it ends.
    pub end_index: Int<1>,
}

/// A file that a planned command reads, and that must not change before it runs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileOperand {
    /// Which argument names it.
    pub argv_index: Int,
    /// Where it is.
    pub path: String,
    /// What it holds.
    pub sha256: String,
}

/// A command as a node has planned it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemRunPlan {
    /// Its words.
    pub argv: Vec<String>,
    /// Where it runs.
    #[serde(deserialize_with = "Maybe::deserialize")]
    pub cwd: Maybe<String>,
    /// How it is shown.
    pub command_text: String,
    /// The same, shorter.
    #[serde(default, skip_serializing_if = "Maybe::is_absent")]
    pub command_preview: Maybe<String>,
    /// For which agent.
    #[serde(deserialize_with = "Maybe::deserialize")]
    pub agent_id: Maybe<String>,
    /// For which session.
    #[serde(deserialize_with = "Maybe::deserialize")]
    pub session_key: Maybe<String>,
    /// The node's rules when it planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_snapshot: Option<policy::PolicySnapshot>,
    /// The file it depends on.
    #[serde(default, skip_serializing_if = "Maybe::is_absent")]
    pub mutable_file_operand: Maybe<FileOperand>,
}

/// Parameters of `exec.approval.request`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the contract's, and most are only passed on")]
pub struct ExecRequestParams {
    pub id: Option<Text>,
    pub command: Option<Text>,
    pub command_argv: Option<Vec<String>>,
    pub system_run_plan: Option<SystemRunPlan>,
    pub env: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub cwd: Maybe<String>,
    #[serde(default)]
    pub node_id: Maybe<Text>,
    #[serde(default)]
    pub host: Maybe<String>,
    #[serde(default)]
    pub security: Maybe<String>,
    #[serde(default)]
    pub ask: Maybe<String>,
    #[serde(default)]
    pub warning_text: Maybe<String>,
    pub scope: Option<ApprovalScope>,
    pub unavailable_decisions: Option<List<Withheld, 1, 1>>,
    pub command_spans: Option<Vec<CommandSpan>>,
    #[serde(default)]
    pub agent_id: Maybe<String>,
    #[serde(default)]
    pub resolved_path: Maybe<String>,
    #[serde(default)]
    pub session_key: Maybe<String>,
    #[serde(default)]
    pub session_id: Maybe<String>,
    #[serde(default)]
    pub run_id: Maybe<String>,
    #[serde(default)]
    pub tool_call_id: Maybe<String>,
    #[serde(default)]
    pub turn_source_channel: Maybe<String>,
    #[serde(default)]
    pub turn_source_to: Maybe<String>,
    #[serde(default)]
    pub turn_source_account_id: Maybe<String>,
    #[serde(default)]
    pub turn_source_thread_id: Maybe<ThreadId>,
    /// Read and not used: it is for the gateway's own runtimes.
    pub approval_reviewer_device_ids: Option<Vec<Text>>,
    /// Whether it is refused at once if nobody can be asked; it is unless this is false.
    pub require_delivery_route: Option<bool>,
    /// Nobody is told.
    pub suppress_delivery: Option<bool>,
    /// Read and not used: nobody but approval clients is ever told.
    pub deliver_to_approval_clients_only: Option<bool>,
    /// How long it waits, in milliseconds.
    pub timeout_ms: Option<Int<1>>,
    /// Answer twice: when the request is taken, and when it is decided.
    pub two_phase: Option<bool>,
}

/// Parameters of `plugin.approval.request`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the contract's, and most are only passed on")]
pub struct PluginRequestParams {
    #[serde(default)]
    pub plugin_id: Maybe<Text>,
    pub title: Text<80>,
    pub description: Text<512>,
    #[serde(default)]
    pub detail: Maybe<Text<16_384>>,
    #[serde(default)]
    pub severity: Maybe<Severity>,
    pub scope: Option<ApprovalScope>,
    #[serde(default)]
    pub tool_name: Maybe<String>,
    #[serde(default)]
    pub tool_call_id: Maybe<String>,
    /// Read and not used: it is for the gateway's own runtimes.
    pub mcp_tool: Option<McpTool>,
    #[serde(default)]
    pub allowed_decisions: Maybe<List<ApprovalDecision, 1, 3>>,
    #[serde(default)]
    pub agent_id: Maybe<String>,
    #[serde(default)]
    pub session_key: Maybe<String>,
    /// Read and not used: it is for the gateway's own runtimes.
    #[serde(default)]
    pub approval_reviewer_device_ids: Maybe<Vec<Text>>,
    #[serde(default)]
    pub turn_source_channel: Maybe<String>,
    #[serde(default)]
    pub turn_source_to: Maybe<String>,
    #[serde(default)]
    pub turn_source_account_id: Maybe<String>,
    #[serde(default)]
    pub turn_source_thread_id: Maybe<ThreadId>,
    /// How long it waits, in milliseconds.
    pub timeout_ms: Option<Int<1, 600_000>>,
    /// Answer twice: when the request is taken, and when it is decided.
    pub two_phase: Option<bool>,
}

/// A tool of an MCP server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct McpTool {
    /// The server.
    pub server: Text,
    /// The tool.
    pub tool: Text,
}

/// Parameters of `exec.approval.get` and `approval.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetParams {
    /// The approval, or how its id begins.
    pub id: Text,
}

/// Parameters of `exec.approval.waitDecision` and `plugin.approval.waitDecision`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitParams {
    /// The approval.
    pub id: Text,
}

/// Who decided in a channel.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reviewer {
    /// The channel.
    pub channel: Text,
    /// Its account.
    pub account_id: Text,
    /// The sender.
    pub sender_id: Text,
}

/// Parameters of `exec.approval.resolve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecResolveParams {
    /// The approval, or how its id begins.
    pub id: Text,
    /// The decision.
    pub decision: Text,
    /// Who decided in a channel; no channel decides yet.
    pub reviewer: Option<Reviewer>,
    /// How long a standing grant holds; there are none.
    pub grant_expires_in_days: Option<Int<1, 3650>>,
}

/// Parameters of `plugin.approval.resolve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginResolveParams {
    /// The approval, or how its id begins.
    pub id: Text,
    /// The decision.
    pub decision: Text,
    /// Who decided in a channel; no channel decides yet.
    pub reviewer: Option<Reviewer>,
}

/// Parameters of `approval.resolve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveParams {
    /// The approval, by its whole id.
    pub id: Text,
    /// What it is about.
    pub kind: ApprovalKind,
    /// The decision.
    pub decision: ApprovalDecision,
    /// Who decided in a channel; no channel decides yet.
    pub reviewer: Option<Reviewer>,
    /// How long a standing grant holds; there are none.
    pub grant_expires_in_days: Option<Int<1, 3650>>,
}

/// Parameters of `approval.history`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryParams {
    /// Where the page before ended.
    pub cursor: Option<Text<512>>,
    /// How many.
    pub limit: Option<Int<1, 100>>,
    /// Only these.
    pub kind: Option<ApprovalKind>,
}

/// Parameters of `exec.approval.grants.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantsListParams {
    /// How many.
    pub limit: Option<Int<1, 500>>,
}

/// Parameters of `exec.approval.grants.revoke`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantsRevokeParams {
    /// The grant.
    pub grant_id: Text,
}

mod results;
pub use results::*;
