//! `approvals`, `commands` and the `execApprovals` of channels: whom people are asked through on channels, and who may
//! decide there.

use super::channels::Ids;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Channels whose accounts ask by themselves whoever may decide; the others when they are told to.
const ASK_BY_THEMSELVES: [&str; 1] = ["telegram"];

/// `commands`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CommandsSettings {
    /// Who may decide on approvals on channels, where `execApprovals.approvers` names nobody: `telegram:ID`, or an id
    /// alone.
    pub owner_allow_from: Ids,
}

/// `approvals`: where it is told, too, what is to be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ApprovalsSettings {
    /// Commands.
    pub exec: Forwarding,
    /// What plugins and tools want to do.
    pub plugin: Forwarding,
}

/// `approvals.exec` and `approvals.plugin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Forwarding {
    /// Whether it is told at all.
    pub enabled: bool,
    /// Where.
    pub mode: ForwardingMode,
    /// These agents only.
    #[serde(flatten)]
    pub filter: ApprovalFilter,
    /// Where, if the mode names targets.
    pub targets: Vec<ForwardingTarget>,
}

/// `approvals.exec.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMode {
    /// In the chat the session is about.
    #[default]
    Session,
    /// At the targets.
    Targets,
    /// Both.
    Both,
}

/// One of `approvals.exec.targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardingTarget {
    /// The channel.
    pub channel: String,
    /// The chat, as in `send`.
    pub to: String,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<Value>,
}

/// Which requests are meant; all, where a list is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ApprovalFilter {
    /// Of these agents.
    pub agent_filter: Vec<String>,
    /// Of sessions in whose key one of these stands.
    pub session_filter: Vec<String>,
}

impl ApprovalFilter {
    /// Whether a request of this agent and session is meant.
    pub fn admits(&self, agent: Option<&str>, session: Option<&str>) -> bool {
        let agents = &self.agent_filter;
        let sessions = &self.session_filter;
        (agents.is_empty() || agent.is_some_and(|agent| agents.iter().any(|one| one == agent)))
            && (sessions.is_empty()
                || session.is_some_and(|key| sessions.iter().any(|part| key.contains(part.as_str()))))
    }
}

/// `channels.<channel>.execApprovals`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecApprovals {
    enabled: Option<Value>,
    /// Who may decide.
    pub approvers: Ids,
    /// Where they are asked.
    pub target: ApprovalTarget,
    /// About what.
    #[serde(flatten)]
    pub filter: ApprovalFilter,
}

impl ExecApprovals {
    /// Whether the accounts of this channel ask, if there is somebody to be asked.
    pub fn asks(&self, channel: &str) -> bool {
        match &self.enabled {
            None => ASK_BY_THEMSELVES.contains(&channel),
            Some(enabled) => enabled == true || enabled == "auto",
        }
    }
}

/// `channels.<channel>.execApprovals.target`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalTarget {
    /// In the direct chat with each who may decide.
    #[default]
    Dm,
    /// In the chat the session is about.
    Channel,
    /// Both.
    Both,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn telegram_asks_by_itself_and_others_when_they_are_told_to() {
        let read = |value: Value| serde_json::from_value::<ExecApprovals>(value).unwrap();
        assert!(read(json!({})).asks("telegram") && !read(json!({})).asks("discord"));
        assert!(read(json!({ "enabled": "auto" })).asks("discord"));
        assert!(read(json!({ "enabled": true })).asks("discord"));
        assert!(!read(json!({ "enabled": false })).asks("telegram"));
    }

    #[test]
    fn a_filter_admits_what_it_names() {
        let read = |value: Value| serde_json::from_value::<Forwarding>(value).unwrap().filter;
        assert!(read(json!({})).admits(None, None));
        let filter = read(json!({ "agentFilter": ["main"], "sessionFilter": ["telegram"] }));
        assert!(filter.admits(Some("main"), Some("agent:main:telegram:direct:7")));
        assert!(!filter.admits(Some("main"), Some("agent:main:main")));
        assert!(!filter.admits(None, Some("agent:main:telegram:direct:7")));
    }
}
