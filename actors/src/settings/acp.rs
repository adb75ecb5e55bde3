//! `acp`: agents of others that think for ours, over the Agent Client Protocol.

use super::SecretInput;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `acp`: agents of others that think for ours, over the Agent Client Protocol.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AcpSettings {
    /// Whether any of them is used.
    pub enabled: bool,
    /// Which of them may be used; all, if none is named.
    pub allowed_agents: Vec<String>,
    /// How they are started, by the name that stands behind the `/` of the model `acp/name`.
    pub agents: BTreeMap<String, AcpAgent>,
}

impl Default for AcpSettings {
    fn default() -> Self {
        Self { enabled: true, allowed_agents: Vec::new(), agents: BTreeMap::new() }
    }
}

impl AcpSettings {
    /// Those that may be used, with their names.
    pub fn usable(&self) -> impl Iterator<Item = (&str, &AcpAgent)> {
        let allowed = |name: &String| self.allowed_agents.is_empty() || self.allowed_agents.contains(name);
        let usable = self.agents.iter().filter(move |(name, _)| self.enabled && allowed(name));
        usable.map(|(name, agent)| (name.as_str(), agent))
    }
}

/// `acp.agents.<name>`: a program that speaks the protocol on stdin and stdout.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AcpAgent {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables it needs. It inherits the gateway's own, except what looks like a secret.
    pub env: BTreeMap<String, SecretInput>,
    /// Where it works; in the workspace of the agent it thinks for, if nothing is said.
    pub cwd: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_may_be_used_unless_it_is_said_otherwise() {
        let names = |more: &str| {
            let json = format!(r#"{{{more} "agents": {{"a": {{"command": "x"}}, "b": {{}}}}}}"#);
            let read: AcpSettings = serde_json::from_str(&json).unwrap();
            read.usable().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["a", "b"]);
        assert_eq!(names(r#""allowedAgents": ["b", "c"],"#), ["b"]);
        assert!(names(r#""enabled": false,"#).is_empty());
    }
}
