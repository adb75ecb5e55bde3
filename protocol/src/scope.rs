//! Roles and scopes: what a connection may do.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::string_enum;

string_enum! {
    /// The role a client connects in.
    one_of pub enum Role {
        /// People and programs that steer the gateway.
        Operator = "operator",
        /// Devices that lend the gateway their capabilities.
        Node = "node",
    }
}

string_enum! {
    /// A scope the gateway knows. Scopes apply to operators; nodes have none.
    one_of pub enum Scope {
        /// Everything.
        Admin = "operator.admin",
        /// Reading state and receiving events.
        Read = "operator.read",
        /// Sending messages and steering runs.
        Write = "operator.write",
        /// Deciding on exec and plugin approvals.
        Approvals = "operator.approvals",
        /// Deciding on devices and nodes that want to pair.
        Pairing = "operator.pairing",
        /// Answering questions of agents.
        Questions = "operator.questions",
        /// Voice conversations.
        Talk = "operator.talk",
        /// Reading the secrets of voice conversations.
        TalkSecrets = "operator.talk.secrets",
        /// Reading sessions only.
        SessionsRead = "operator.sessions.read",
        /// Changing sessions only.
        SessionsWrite = "operator.sessions.write",
    }
}

impl Scope {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The bits of this scope and of all it implies.
    const fn reach(self) -> u16 {
        match self {
            Self::Admin => u16::MAX,
            Self::Write => self.bit() | Self::Read.reach() | Self::Talk.bit() | Self::SessionsWrite.reach(),
            Self::Read | Self::SessionsWrite => self.bit() | Self::SessionsRead.bit(),
            _ => self.bit(),
        }
    }
}

/// The scopes of a connection: the list exactly as granted, and what it allows. Cheap to clone.
///
/// Strings the gateway does not know are kept and shown, and allow nothing.
#[derive(Clone, Debug)]
pub struct Scopes {
    granted: Arc<[String]>,
    allowed: u16,
}

impl Scopes {
    /// Scopes from a list of the wire, in its order.
    pub fn parse(list: &[String]) -> Self {
        let known = list.iter().filter_map(|name| Scope::from_name(name));
        let allowed = known.fold(0, |bits, scope| bits | scope.reach());
        Self { granted: list.into(), allowed }
    }

    /// Scopes from known ones.
    pub fn of(scopes: &[Scope]) -> Self {
        let names: Vec<String> = scopes.iter().map(|scope| scope.name().to_owned()).collect();
        Self::parse(&names)
    }

    /// No scope at all, as nodes have it.
    pub fn none() -> Self {
        Self::parse(&[])
    }

    /// Whether the scope is granted, or implied by a granted one.
    pub fn allows(&self, scope: Scope) -> bool {
        self.allowed & scope.bit() != 0
    }

    /// The list as granted.
    pub fn as_list(&self) -> &[String] {
        &self.granted
    }

    /// Whether nothing was granted.
    pub fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    /// Whether the list holds the scope literally; what only administrators see in a hello goes
    /// by this, not by implication.
    pub fn contains(&self, scope: Scope) -> bool {
        self.granted.iter().any(|name| name == scope.name())
    }

    /// Whether `other` covers every scope of this list, implications counted. A string unknown to
    /// the gateway is covered by itself, and by admin if it starts with `operator.`.
    pub fn is_subset_of(&self, other: &Scopes) -> bool {
        self.granted.iter().all(|name| match Scope::from_name(name) {
            Some(scope) => other.allows(scope),
            None => {
                other.granted.contains(name) || (name.starts_with("operator.") && other.allows(Scope::Admin))
            }
        })
    }

    /// The scopes of this list that `cap` covers, in order.
    pub fn capped(&self, cap: &Scopes) -> Scopes {
        let kept: Vec<String> = self
            .granted
            .iter()
            .filter(|name| Scopes::parse(std::slice::from_ref(*name)).is_subset_of(cap))
            .cloned()
            .collect();
        Scopes::parse(&kept)
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self::none()
    }
}

impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        self.granted == other.granted
    }
}

impl Eq for Scopes {}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.granted.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&Vec::deserialize(deserializer)?))
    }
}

impl JsonSchema for Scopes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(list: &[&str]) -> Scopes {
        Scopes::parse(&list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn implications_are_the_recorded_ones() {
        let allowed = |scope: Scope| {
            let held = Scopes::of(&[scope]);
            Scope::ALL.iter().copied().filter(|other| held.allows(*other)).collect::<Vec<_>>()
        };
        use Scope::*;
        assert_eq!(allowed(Admin), Scope::ALL);
        assert_eq!(allowed(Write), [Read, Write, Talk, SessionsRead, SessionsWrite]);
        assert_eq!(allowed(Read), [Read, SessionsRead]);
        assert_eq!(allowed(SessionsWrite), [SessionsRead, SessionsWrite]);
        for plain in [Approvals, Pairing, Questions, Talk, TalkSecrets, SessionsRead] {
            assert_eq!(allowed(plain), [plain]);
        }
    }

    #[test]
    fn unknown_scopes_are_kept_and_allow_nothing() {
        let odd = scopes(&["operator.bogus", "operator.read"]);
        assert_eq!(odd.as_list(), ["operator.bogus", "operator.read"]);
        assert!(odd.allows(Scope::Read) && !odd.allows(Scope::Write));
        assert_eq!(serde_json::to_string(&odd).unwrap(), r#"["operator.bogus","operator.read"]"#);
    }

    #[test]
    fn a_subset_counts_implications() {
        assert!(scopes(&["operator.read"]).is_subset_of(&scopes(&["operator.write"])));
        assert!(!scopes(&["operator.write"]).is_subset_of(&scopes(&["operator.read"])));
        assert!(scopes(&["operator.bogus", "operator.pairing"]).is_subset_of(&scopes(&["operator.admin"])));
        assert!(!scopes(&["operator.bogus"]).is_subset_of(&scopes(&["operator.write"])));
        assert!(Scopes::none().is_subset_of(&Scopes::none()));
        let cap = scopes(&["operator.read"]);
        assert_eq!(scopes(&["operator.write", "operator.read"]).capped(&cap), cap);
    }

    #[test]
    fn admin_by_implication_is_not_admin_by_name() {
        assert!(scopes(&["operator.admin"]).contains(Scope::Admin));
        assert!(!scopes(&["operator.admin"]).contains(Scope::Read));
    }
}
