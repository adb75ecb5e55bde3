//! What the gateway itself asks: a tool that wants to run a command, or to do something.

use super::request::{Decision, Kind, PLUGIN_PREFIX};
use super::shown::visible;
use super::{ApprovalsMsg, EXEC_WAIT_MS, MAX_WAIT_MS, PLUGIN_WAIT_MS};
use crate::settings::{ExecAsk, ExecSecurity};
use crate::store::ApprovalRow;
use crate::tree::Slot;
use crabtree_protocol::params::approvals::{ApprovalDecision, Severity};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Characters of a title, a description and a detail; the contract's bounds. The rest is cut off.
const MAX_TITLE: usize = 80;
const MAX_DESCRIPTION: usize = 512;
const MAX_DETAIL: usize = 16_384;
/// Characters of a command that can be shown; nobody is asked about a longer one, since nobody sees all of it.
pub const MAX_COMMAND: usize = 16_384;

/// A question of the gateway.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its id: whoever asks again after a crash, or after a restart, uses the same. [`Asked::Action`] puts `plugin:`
    /// before it.
    pub id: String,
    /// What it is about.
    pub about: Asked,
    /// How long it waits; the usual time of its kind by default.
    pub wait: Option<Duration>,
}

/// What a question is about.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A command.
    Command(CommandAsked),
    /// Something a tool wants to do.
    Action(ActionAsked),
}

/// A command that somebody is to agree to.
#[derive(Clone, Debug, Default)]
pub struct CommandAsked {
    /// As it is run.
    pub command: String,
    /// Its words, if it is run without a shell.
    pub argv: Option<Vec<String>>,
    /// Where it is run.
    pub cwd: Option<String>,
    /// The node at which it is run, if it is not the gateway's machine, and the plan that the node made of it.
    pub at_node: Option<(String, Value)>,
    /// The program.
    pub resolved_path: Option<String>,
    /// Which commands may run at all.
    pub security: ExecSecurity,
    /// When a person is asked.
    pub ask: ExecAsk,
    /// What to beware of.
    pub warning: Option<String>,
    /// Whether it may be allowed for good.
    pub may_always: bool,
    /// The agent.
    pub agent_id: Option<String>,
    /// The session.
    pub session_key: Option<String>,
    /// The run.
    pub run_id: Option<String>,
    /// The call.
    pub tool_call_id: Option<String>,
}

/// Something that somebody is to agree to.
#[derive(Clone, Debug)]
pub struct ActionAsked {
    /// Whose doing it is: a plugin, an MCP server.
    pub plugin_id: Option<String>,
    /// What, in short.
    pub title: String,
    /// What.
    pub description: String,
    /// What, in full.
    pub detail: Option<String>,
    /// How grave it is.
    pub severity: Severity,
    /// The tool.
    pub tool_name: Option<String>,
    /// What may be decided.
    pub allowed: Vec<ApprovalDecision>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The session.
    pub session_key: Option<String>,
    /// The run.
    pub run_id: Option<String>,
    /// The call.
    pub tool_call_id: Option<String>,
}

/// Asks, and waits for the decision, over crashes of whoever brings it. Dropped before, the question is taken back.
pub async fn ask(approvals: &Slot<ApprovalsMsg>, ask: Ask) -> Decision {
    let gone = CancellationToken::new();
    let _gone_at_the_end = gone.clone().drop_guard();
    approvals.ask(|reply| ApprovalsMsg::Ask { ask: Box::new(ask.clone()), gone: gone.clone(), reply }).await
}

fn cut(text: &str, limit: usize) -> String {
    let text = visible(text);
    match text.char_indices().nth(limit) {
        None => text,
        Some(_) => text.chars().take(limit - 1).chain(['…']).collect(),
    }
}

impl Ask {
    /// Whether it can be shown as a whole.
    pub(super) fn is_showable(&self) -> bool {
        match &self.about {
            Asked::Command(about) => fits(&visible(&about.command)),
            Asked::Action(_) => true,
        }
    }

    /// As it is stored.
    pub(super) fn row(&self, now: i64) -> ApprovalRow {
        let (kind, id, request, usual) = match &self.about {
            Asked::Command(about) => (Kind::Exec, self.id.clone(), about.request(), EXEC_WAIT_MS),
            Asked::Action(about) => {
                (Kind::Plugin, format!("{PLUGIN_PREFIX}{}", self.id), about.request(), PLUGIN_WAIT_MS)
            }
        };
        let wait = self.wait.map_or(usual, |wait| i64::try_from(wait.as_millis()).unwrap_or(MAX_WAIT_MS));
        ApprovalRow {
            kind: kind.name().into(),
            id,
            nonce: Uuid::new_v4().to_string(),
            request,
            created_at: now,
            expires_at: now + wait.clamp(1, MAX_WAIT_MS),
            ..ApprovalRow::default()
        }
    }
}

/// Whether a command can be shown as a whole.
pub fn fits(command: &str) -> bool {
    command.chars().nth(MAX_COMMAND).is_none()
}

impl CommandAsked {
    fn request(&self) -> Value {
        use ApprovalDecision::{AllowAlways, AllowOnce, Deny};
        let asked_always = self.ask == ExecAsk::Always || !self.may_always;
        let allowed: &[_] = if asked_always { &[AllowOnce, Deny] } else { &[AllowOnce, AllowAlways, Deny] };
        let mut request = exec_request();
        let members = [
            ("command", json!(visible(&self.command))),
            ("cwd", json!(self.cwd.as_deref().map(visible))),
            ("host", json!(if self.at_node.is_some() { "node" } else { "gateway" })),
            ("nodeId", json!(self.at_node.as_ref().map(|(node, _)| node))),
            ("systemRunPlan", json!(self.at_node.as_ref().map(|(_, plan)| plan))),
            ("security", json!(self.security)),
            ("ask", json!(self.ask)),
            ("warningText", json!(self.warning.as_deref().map(visible))),
            ("allowedDecisions", json!(allowed)),
            ("agentId", json!(self.agent_id)),
            ("resolvedPath", json!(self.resolved_path.as_deref().map(visible))),
            ("sessionKey", json!(self.session_key)),
            ("runId", json!(self.run_id)),
            ("toolCallId", json!(self.tool_call_id)),
        ];
        members.into_iter().for_each(|(name, value)| request[name] = value);
        if let Some(argv) = &self.argv {
            request["commandArgv"] = json!(argv);
        }
        request
    }
}

impl ActionAsked {
    fn request(&self) -> Value {
        let mut request = plugin_request();
        let members = [
            ("pluginId", json!(self.plugin_id)),
            ("title", json!(cut(&self.title, MAX_TITLE))),
            ("description", json!(cut(&self.description, MAX_DESCRIPTION))),
            ("detail", json!(self.detail.as_deref().map(|detail| cut(detail, MAX_DETAIL)))),
            ("severity", json!(self.severity)),
            ("toolName", json!(self.tool_name)),
            ("toolCallId", json!(self.tool_call_id)),
            ("allowedDecisions", json!(self.allowed)),
            ("agentId", json!(self.agent_id)),
            ("sessionKey", json!(self.session_key)),
            ("runId", json!(self.run_id)),
        ];
        members.into_iter().for_each(|(name, value)| request[name] = value);
        request
    }
}

/// What is told of a command, as recorded; everything is there, if only as `null`.
pub fn exec_request() -> Value {
    json!({
        "command": "", "systemRunBinding": null, "systemRunPlan": null, "cwd": null, "nodeId": null, "host": null,
        "security": null, "ask": null, "warningText": null, "scope": null, "commandAnalysis": null,
        "allowedDecisions": [], "agentId": null, "resolvedPath": null, "sessionKey": null, "sessionId": null,
        "runId": null, "toolCallId": null, "turnSourceChannel": null, "turnSourceTo": null,
        "turnSourceAccountId": null, "turnSourceThreadId": null, "cronExecutionSource": null,
        "cronOperationBinding": null,
    })
}

/// The same of something a plugin or a tool wants to do.
pub fn plugin_request() -> Value {
    json!({
        "pluginId": null, "title": "", "description": "", "scope": null, "detail": null, "severity": null,
        "toolName": null, "toolCallId": null, "agentId": null, "sessionKey": null, "runId": null,
        "turnSourceChannel": null, "turnSourceTo": null, "turnSourceAccountId": null, "turnSourceThreadId": null,
    })
}
