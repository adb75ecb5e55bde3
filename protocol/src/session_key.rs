//! Session keys: `agent:<agentId>:<rest>`, the name of a conversation with an agent.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::refusal::Refusal;
pub use place::{ChatType, Place, SessionMode};

mod place;

/// Longest session key in characters.
pub const MAX_SESSION_KEY_CHARS: usize = 512;
/// The rest of an agent's main session key.
pub const MAIN: &str = "main";
/// Sessions of the gateway's own: nobody names them from outside.
const RESERVED: [&str; 4] = ["subagent:", "cron:", "acp:", "hook:run:"];

/// A canonical session key, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(Arc<str>);

impl SessionKey {
    /// Brings a key as clients write it into its canonical form: a bare key such as `main`, `ops`
    /// or `acp-bridge:X` belongs to `default_agent`.
    ///
    /// Refused are blank and overlong keys, keys with control characters, and `agent:` keys
    /// without an agent or a rest.
    pub fn canonical(raw: &str, default_agent: &str) -> Result<Self, Refusal> {
        let key = raw.trim();
        if key.is_empty() {
            return Err(Refusal::invalid_request("session key must not be blank"));
        }
        if key.chars().any(char::is_control) {
            return Err(Refusal::invalid_request("session key must not contain control characters"));
        }
        let canonical: Cow<'_, str> = if key.starts_with("agent:") {
            Cow::Borrowed(key)
        } else {
            Cow::Owned(format!("agent:{default_agent}:{key}"))
        };
        if canonical.chars().count() > MAX_SESSION_KEY_CHARS {
            let message = format!("session key is longer than {MAX_SESSION_KEY_CHARS} characters");
            return Err(Refusal::invalid_request(message));
        }
        if split(&canonical).is_none() {
            return Err(Refusal::invalid_request(format!("malformed session key: {canonical}")));
        }
        Ok(Self(canonical.into()))
    }

    /// The main session of an agent.
    pub fn main(agent_id: &str) -> Self {
        Self(format!("agent:{agent_id}:{MAIN}").into())
    }

    /// The session of one run that a webhook asks for.
    pub fn hook_run(agent_id: &str, run_id: &str) -> Self {
        Self(format!("agent:{agent_id}:hook:run:{run_id}").into())
    }

    /// Whether a key as clients write it is of the gateway's own sessions, which nobody names from outside.
    pub fn is_reserved(raw: &str) -> bool {
        let key = raw.trim().to_lowercase();
        let local =
            key.strip_prefix("agent:").and_then(|rest| rest.split_once(':')).map_or(&*key, |(_, rest)| rest);
        RESERVED.iter().any(|reserved| local.starts_with(reserved))
    }

    /// The session an `agent` request without a key runs in.
    pub fn explicit(agent_id: &str, run_id: &str) -> Self {
        Self(format!("agent:{agent_id}:explicit:{run_id}").into())
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The agent that owns the session.
    pub fn agent_id(&self) -> &str {
        self.parts().0
    }

    /// What follows the agent.
    pub fn rest(&self) -> &str {
        self.parts().1
    }

    /// Whether this is the agent's main session.
    pub fn is_main(&self) -> bool {
        self.rest() == MAIN
    }

    fn parts(&self) -> (&str, &str) {
        split(&self.0).expect("a SessionKey is only made in canonical form")
    }
}

fn split(key: &str) -> Option<(&str, &str)> {
    let (agent, rest) = key.strip_prefix("agent:")?.split_once(':')?;
    (!agent.is_empty() && !rest.is_empty()).then_some((agent, rest))
}

impl fmt::Display for SessionKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SessionKey({})", self.0)
    }
}

impl AsRef<str> for SessionKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SessionKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Reads canonical keys only (stored rows, results); what clients send goes through
/// [`SessionKey::canonical`], which needs the default agent.
impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        match split(&key) {
            Some(_) => Ok(Self(key.into())),
            None => Err(serde::de::Error::custom("not a canonical session key")),
        }
    }
}

impl JsonSchema for SessionKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SessionKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_SESSION_KEY_CHARS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> String {
        SessionKey::canonical(raw, "main").unwrap().to_string()
    }

    #[test]
    fn bare_keys_belong_to_the_default_agent() {
        assert_eq!(canonical("t4bbare"), "agent:main:t4bbare");
        assert_eq!(canonical("main"), "agent:main:main");
        assert_eq!(canonical(" acp-bridge:987b "), "agent:main:acp-bridge:987b");
        assert_eq!(canonical("agent:ghost:x"), "agent:ghost:x");
        assert_eq!(SessionKey::canonical("main", "ops").unwrap(), SessionKey::main("ops"));
    }

    #[test]
    fn a_key_tells_its_parts() {
        let key = SessionKey::canonical("agent:main:dashboard:4c6d", "x").unwrap();
        assert_eq!((key.agent_id(), key.rest(), key.is_main()), ("main", "dashboard:4c6d", false));
        assert!(SessionKey::main("ops").is_main());
        assert_eq!(SessionKey::explicit("main", "r1").rest(), "explicit:r1");
    }

    #[test]
    fn sessions_of_the_gateway_are_found_behind_any_agent() {
        for key in ["subagent:x", "agent:main:cron:1", "agent:ops:acp:2", " Cron:x", "hook:run:1"] {
            assert!(SessionKey::is_reserved(key), "{key}");
        }
        for key in ["agent:main:notes", "main", "hook:github", "my-cron:1"] {
            assert!(!SessionKey::is_reserved(key), "{key}");
        }
        assert!(SessionKey::is_reserved(SessionKey::hook_run("main", "r").as_str()));
    }

    #[test]
    fn malformed_keys_are_refused() {
        for raw in ["", "  ", "agent:", "agent:x", "agent:x:", "agent::x", "a\nb"] {
            assert!(SessionKey::canonical(raw, "main").is_err(), "{raw:?}");
        }
        assert!(SessionKey::canonical(&"k".repeat(501), "main").is_ok());
        assert!(SessionKey::canonical(&"k".repeat(502), "main").is_err());
        assert!(serde_json::from_str::<SessionKey>(r#""bare""#).is_err());
    }
}
