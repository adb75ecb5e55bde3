//! Which tools a session may use.

use super::{Definition, Permission};
use crate::settings::{Settings, ToolProfile, ToolsSettings};
use crabtree_protocol::SessionKey;
use serde_json::Value;
use std::collections::BTreeSet;

/// Who among those whom a turn answers does not own the assistant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Askers {
    /// People on channels.
    pub strangers: bool,
    /// Programs that called a webhook.
    pub hooks: bool,
}

impl Askers {
    /// These, and who said an input with this body.
    #[must_use]
    pub fn and(self, body: &Value) -> Self {
        let is = |name: &str| body.get(name) == Some(&Value::Bool(true));
        Self { strangers: self.strangers || is("stranger"), hooks: self.hooks || is("hook") }
    }
}

/// What a session may use: what it is permitted, less what the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    profile: ToolProfile,
    permissions: BTreeSet<Permission>,
    allow: Vec<String>,
    also_allow: Vec<String>,
    deny: Vec<String>,
    /// Of all these only those that are named here.
    only: Option<Vec<String>>,
}

impl Policy {
    /// That of a session: its agent's `tools`, where it has any, instead of everybody's.
    pub fn of(settings: &Settings, key: &SessionKey) -> Self {
        let own = settings.agents.entry(key.agent_id()).and_then(|agent| agent.tools.as_ref());
        Self::new(own.unwrap_or(&settings.tools))
    }

    /// That of a turn in it, which answers these.
    pub fn of_turn(settings: &Settings, key: &SessionKey, askers: Askers) -> Self {
        let (mut policy, tools) = (Self::of(settings, key), &settings.tools);
        for (asks, most) in [(askers.strangers, tools.strangers), (askers.hooks, tools.hooks)] {
            if asks {
                let most = granted(most.profile);
                policy.permissions.retain(|permission| most.contains(permission));
                policy.also_allow.clear();
            }
        }
        policy
    }

    /// The same, but only of these tools, if any are named.
    #[must_use]
    pub fn only(self, names: Option<&[String]>) -> Self {
        Self { only: names.map(<[String]>::to_vec), ..self }
    }

    /// That of these settings.
    pub fn new(tools: &ToolsSettings) -> Self {
        Self {
            profile: tools.profile,
            permissions: granted(tools.profile).into_iter().collect(),
            allow: tools.allow.clone(),
            also_allow: tools.also_allow.clone(),
            deny: tools.deny.clone(),
            only: None,
        }
    }

    /// The selection it starts from.
    pub fn profile(&self) -> ToolProfile {
        self.profile
    }

    /// What it is permitted (`toolPermissions` of a session's row).
    pub fn permissions(&self) -> &BTreeSet<Permission> {
        &self.permissions
    }

    /// Whether a tool may be used: all it needs is permitted and it is among those allowed, or it is named beside
    /// them; and it is not denied.
    pub fn allows(&self, tool: &Definition) -> bool {
        let named = |names: &[String]| names.iter().any(|name| names_it(name, tool));
        let permitted = tool.permissions.iter().all(|needed| self.permissions.contains(needed));
        let allowed = permitted && (self.allow.is_empty() || named(&self.allow));
        (allowed || named(&self.also_allow)) && !named(&self.deny) && self.only.as_deref().is_none_or(named)
    }
}

/// The profiles in which a tool is permitted.
pub fn profiles_of(tool: &Definition) -> Vec<ToolProfile> {
    use ToolProfile::*;
    let permits = |profile: &ToolProfile| {
        let granted = granted(*profile);
        tool.permissions.iter().all(|needed| granted.contains(needed))
    };
    [Minimal, Coding, Messaging, Full].into_iter().filter(permits).collect()
}

/// What a profile permits.
fn granted(profile: ToolProfile) -> Vec<Permission> {
    use Permission::*;
    match profile {
        ToolProfile::Minimal => vec![],
        ToolProfile::Coding => vec![FsRead, FsWrite, Exec, Web, SessionsRead, SessionsSend, Mcp],
        ToolProfile::Messaging => vec![SessionsRead, SessionsSend, Message],
        ToolProfile::Full => {
            vec![FsRead, FsWrite, Exec, Web, SessionsRead, SessionsSend, Message, Cron, Nodes, Mcp]
        }
    }
}

/// `name`, `group:fs`, or `*` at the end of the beginning of a name.
pub(super) fn names_it(name: &str, tool: &Definition) -> bool {
    match (name.strip_prefix("group:"), name.strip_suffix('*')) {
        (Some(group), _) => tool.group == group,
        (None, Some(beginning)) => tool.name.starts_with(beginning),
        (None, None) => tool.name == name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effects, Sandbox};
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn tool(name: &str, group: &str, permissions: &[Permission]) -> Definition {
        Definition {
            name: name.into(),
            label: name.into(),
            description: String::new(),
            parameters: json!({ "type": "object" }),
            group: group.into(),
            permissions: permissions.to_vec(),
            timeout: Duration::from_secs(1),
            sandbox: Sandbox::None,
            effects: Effects::None,
        }
    }

    fn policy(tools: serde_json::Value) -> Policy {
        Policy::new(&serde_json::from_value(tools).unwrap())
    }

    /// accepts: I12
    #[test]
    fn a_tool_needs_all_of_its_permissions() {
        let both = tool("fetch_to_file", "web", &[Permission::Web, Permission::FsWrite]);
        assert!(policy(json!({})).allows(&both), "everything is permitted unless something is said");
        assert!(policy(json!({ "profile": "coding" })).allows(&both));
        assert!(!policy(json!({ "profile": "messaging" })).allows(&both));
        assert!(policy(json!({ "profile": "minimal" })).allows(&tool("now", "core", &[])));
    }

    #[test]
    fn a_turn_may_be_given_some_tools_only() {
        let policy = Policy::new(&ToolsSettings::default());
        let names = |only: &[&str]| only.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let read = tool("read", "fs", &[Permission::FsRead]);
        let write = tool("write", "fs", &[Permission::FsWrite]);
        let may = |only: &[&str]| {
            let policy = policy.clone().only(Some(&names(only)));
            [policy.allows(&read), policy.allows(&write)]
        };
        assert_eq!((may(&["read"]), may(&[]), may(&["*"])), ([true, false], [false; 2], [true; 2]));
    }

    #[test]
    fn a_turn_for_strangers_may_do_what_its_session_may_and_strangers_may() {
        let key = SessionKey::main("main");
        let of = |tools: serde_json::Value| {
            let settings: Settings = serde_json::from_value(json!({ "tools": tools })).unwrap();
            Policy::of_turn(&settings, &key, Askers::default().and(&json!({ "stranger": true })))
        };
        let (exec, web, status) = (
            tool("exec", "runtime", &[Permission::Exec]),
            tool("web", "web", &[Permission::Web]),
            tool("s", "core", &[]),
        );
        let allowed = |policy: Policy| [&exec, &web, &status].map(|tool| policy.allows(tool));
        assert_eq!(allowed(of(json!({}))), [false, false, true]);
        assert_eq!(allowed(of(json!({ "alsoAllow": ["exec"] }))), [false, false, true], "that is for owners");
        assert_eq!(allowed(of(json!({ "strangers": { "profile": "coding" } }))), [true, true, true]);
        let both = json!({ "profile": "messaging", "strangers": { "profile": "coding" } });
        assert_eq!(allowed(of(both)), [false, false, true]);
        assert!(Policy::of_turn(&Settings::default(), &key, Askers::default()).allows(&exec));
    }

    /// accepts: D10
    #[test]
    fn a_turn_for_a_webhook_may_do_next_to_nothing_unless_it_is_said() {
        let (exec, status) = (tool("exec", "runtime", &[Permission::Exec]), tool("s", "core", &[]));
        let of = |tools: serde_json::Value, body: serde_json::Value| {
            let settings: Settings = serde_json::from_value(json!({ "tools": tools })).unwrap();
            let policy = Policy::of_turn(&settings, &SessionKey::main("main"), Askers::default().and(&body));
            [&exec, &status].map(|tool| policy.allows(tool))
        };
        let hook = || json!({ "hook": true });
        assert_eq!(of(json!({ "alsoAllow": ["exec"] }), hook()), [false, true]);
        assert_eq!(of(json!({ "hooks": { "profile": "coding" } }), hook()), [true, true]);
        let both = json!({ "hook": true, "stranger": true });
        assert_eq!(of(json!({ "hooks": { "profile": "coding" } }), both), [false, true], "the least of both");
    }

    #[test]
    fn names_groups_and_beginnings_are_allowed_and_denied() {
        let (read, write) =
            (tool("read", "fs", &[Permission::FsRead]), tool("write", "fs", &[Permission::FsWrite]));
        let exec = tool("exec", "runtime", &[Permission::Exec]);
        let only = policy(json!({ "allow": ["group:fs"], "deny": ["write"] }));
        assert_eq!([&read, &write, &exec].map(|tool| only.allows(tool)), [true, false, false]);
        let more = policy(json!({ "profile": "minimal", "alsoAllow": ["rea*"] }));
        assert_eq!([&read, &write, &exec].map(|tool| more.allows(tool)), [true, false, false]);
        assert!(!policy(json!({ "deny": ["*"] })).allows(&read));
    }
}
