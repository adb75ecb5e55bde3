//! The METHODS table: every method the gateway answers, with the role and scope it asks for, and
//! the types of its parameters and result. Adding a method costs one row here; a match on
//! [`Method`] then does not compile until somebody answers it. What is answered with its empty state stands in
//! another table, see [`crate::empty`].

use serde_json::Value;

use crate::empty::{Empty, EmptyParams};
use crate::refusal::Refusal;
use crate::schema;
use crate::scope::{Role, Scope, Scopes};
use crate::{connect, hello, params};
use registered::Caller;

mod registered;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodRole {
    /// Operators only.
    Operator,
    /// Nodes only.
    Node,
    /// Both.
    Any,
}

impl MethodRole {
    /// The word used in the schema document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
            Self::Any => "any",
        }
    }

    /// Whether a client of `role` may call.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Self::Any => true,
            Self::Operator => role == Role::Operator,
            Self::Node => role == Role::Node,
        }
    }
}

/// The scope an operator needs to call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeRule {
    /// None.
    None,
    /// This one.
    One(Scope),
    /// At least this one; the parameters may ask for more, which the method checks.
    Dynamic(Scope),
}

impl ScopeRule {
    /// The scope's name, `null` in the schema document when none is needed.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::One(scope) | Self::Dynamic(scope) => Some(scope.name()),
        }
    }

    /// The scope that is checked before the method sees the request.
    pub fn minimum(self) -> Option<Scope> {
        match self {
            Self::None => None,
            Self::One(scope) | Self::Dynamic(scope) => Some(scope),
        }
    }
}

/// When a method is named in `features.methods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Listed,
    Hidden,
    WithChaos,
}

/// One row: `Variant "name" role rule listing, Params => Result;`
macro_rules! methods {
    ($($(#[$meta:meta])* $variant:ident $name:literal $role:ident $rule:expr, $listing:ident, $params:ty => $result:ty;)+) => {
        /// A method of the gateway.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $($(#[$meta])* $variant,)+
            /// One of those that are answered with their empty state; not part of [`Method::ALL`].
            Empty(Empty),
        }

        impl Method {
            /// Every real method, in the order they are advertised.
            pub const ALL: &'static [Method] = &[$(Method::$variant,)+];

            /// The method of a name on the wire.
            pub fn from_name(name: &str) -> Option<Method> {
                match name {
                    $($name => Some(Method::$variant),)+
                    _ => Empty::from_name(name).map(Method::Empty),
                }
            }

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Method::$variant => $name,)+ Method::Empty(empty) => empty.name() }
            }

            /// Who may call it.
            pub const fn role(self) -> MethodRole {
                match self { $(Method::$variant => MethodRole::$role,)+ Method::Empty(_) => MethodRole::Operator }
            }

            /// The scope an operator needs.
            pub const fn scope(self) -> ScopeRule {
                use Scope::*;
                use ScopeRule::{Dynamic, None as NoScope, One};
                match self { $(Method::$variant => $rule,)+ Method::Empty(empty) => One(empty.scope()) }
            }

            const fn listing(self) -> Listing {
                match self { $(Method::$variant => Listing::$listing,)+ Method::Empty(_) => Listing::Hidden }
            }

            /// The schemas of its parameters and of its result.
            pub fn schemas(self) -> (Value, Value) {
                match self {
                    $(Method::$variant => (schema::inbound::<$params>(), schema::outbound::<$result>()),)+
                    Method::Empty(_) => (schema::inbound::<EmptyParams>(), schema::outbound::<Value>()),
                }
            }

            /// What is wrong with parameters, in the words of a refusal; for tests and tools.
            pub fn complaints(self, params: &Value) -> Option<String> {
                match self {
                    $(Method::$variant => schema::complaints::<$params>(params),)+
                    Method::Empty(_) => schema::complaints::<EmptyParams>(params),
                }
            }
        }
    };
}

methods! {
    /// Opens a connection; valid once, as its first request.
    Connect "connect" Any NoScope, Hidden, connect::ConnectParams => hello::HelloOk<'static>;
    /// The health snapshot; open to nodes and to operators without scopes.
    Health "health" Any NoScope, Listed, params::core::HealthParams => Value;
    /// The gateway's state in one object.
    Status "status" Operator One(Read), Listed, params::core::StatusParams => Value;
    /// Who and what is there.
    SystemPresence "system-presence" Operator One(Read), Listed, params::core::NoParams => Vec<params::core::PresenceEntry>;
    /// Adds or refreshes a presence entry.
    SystemEvent "system-event" Operator One(Admin), Listed, params::core::SystemEventParams => params::core::Ok;
    /// Facts about host and process.
    SystemInfo "system.info" Operator One(Read), Listed, params::core::Empty => Value;
    /// The supervision tree (ours).
    SystemActors "system.actors" Operator One(Read), Listed, params::actors::ActorsParams => params::actors::ActorsResult;
    /// Restarts an actor (ours).
    SystemActorsRestart "system.actors.restart" Operator One(Admin), Listed, params::actors::ActorParams => params::actors::ActorResult;
    /// Stops an actor until it is resumed (ours).
    SystemActorsPark "system.actors.park" Operator One(Admin), Listed, params::actors::ActorParams => params::actors::ActorResult;
    /// Starts a parked actor (ours).
    SystemActorsResume "system.actors.resume" Operator One(Admin), Listed, params::actors::ActorParams => params::actors::ActorResult;
    /// Injects a fault, if `gateway.chaos.enabled` (ours).
    SystemChaos "system.chaos" Operator One(Admin), WithChaos, params::actors::ChaosParams => params::core::Ok;
    /// The last heartbeat, or null.
    LastHeartbeat "last-heartbeat" Operator One(Read), Listed, params::core::NoParams => Option<params::core::Heartbeat>;
    /// Enqueues a system event for an agent.
    Wake "wake" Operator One(Write), Listed, params::core::WakeParams => params::core::Ok;
    /// The configured agents.
    AgentsList "agents.list" Operator One(Read), Listed, params::agents::AgentsListParams => params::agents::AgentsList;
    /// An agent's name and avatar.
    AgentIdentityGet "agent.identity.get" Operator One(Read), Listed, params::agents::AgentIdentityParams => params::agents::AgentIdentity;
    /// The models an agent may use.
    ModelsList "models.list" Operator One(Read), Listed, params::agents::ModelsListParams => params::agents::ModelsList;
    /// The slash commands.
    CommandsList "commands.list" Operator One(Read), Listed, params::agents::CommandsListParams => params::agents::CommandsList;
    /// Runs an agent and waits: an acknowledgement first, the outcome later, under one id.
    Agent "agent" Operator Dynamic(Write), Listed, params::runs::AgentParams => params::runs::AgentResponse;
    /// Waits for a run to end.
    AgentWait "agent.wait" Operator One(Write), Listed, params::runs::AgentWaitParams => params::runs::AgentWaitResult;
    /// The latest page of a session's history and what a chat needs to start.
    ChatStartup "chat.startup" Operator One(Read), Listed, params::chat::StartupParams => params::chat::History;
    /// A page of a session's history.
    ChatHistory "chat.history" Operator One(Read), Listed, params::chat::HistoryParams => params::chat::History;
    /// Sends a message into a session.
    ChatSend "chat.send" Operator One(Write), Listed, params::chat::SendParams => params::chat::SendResult;
    /// Aborts a run, or all of a session.
    ChatAbort "chat.abort" Operator One(Write), Listed, params::chat::AbortParams => params::chat::AbortResult;
    /// Models and commands of a chat.
    ChatMetadata "chat.metadata" Operator One(Read), Listed, params::chat::MetadataParams => params::chat::Metadata;
    /// The sessions.
    SessionsList "sessions.list" Operator One(Read), Listed, params::sessions::ListParams => params::sessions::SessionsList;
    /// One session's row, or null.
    SessionsDescribe "sessions.describe" Operator One(Read), Listed, params::sessions::DescribeParams => params::sessions::Described;
    /// The messages of a session; only the latest page yet, so not advertised.
    SessionsGet "sessions.get" Operator One(Read), Hidden, params::sessions::GetParams => params::sessions::Got;
    /// Subscribes to changes of all sessions.
    SessionsSubscribe "sessions.subscribe" Operator One(Read), Listed, params::sessions::SubscribeParams => params::sessions::Subscribed;
    /// Subscribes to the messages of one session.
    SessionsMessagesSubscribe "sessions.messages.subscribe" Operator One(Read), Listed, params::sessions::MessagesSubscribeParams => params::sessions::MessagesSubscribed;
    /// Ends such a subscription.
    SessionsMessagesUnsubscribe "sessions.messages.unsubscribe" Operator One(Read), Listed, params::sessions::MessagesUnsubscribeParams => params::sessions::MessagesSubscribed;
    /// The paired devices; nothing that can be done about them yet, so not advertised.
    DevicePairList "device.pair.list" Operator One(Pairing), Hidden, params::core::NoParams => Value;
    /// Tokens and costs by day; of all agents together yet, so not advertised.
    UsageCost "usage.cost" Operator One(Read), Hidden, params::core::UsageCostParams => Value;
    /// Who the caller is; there are no profiles, so it is refused as recorded.
    UsersSelf "users.self" Operator One(Read), Hidden, params::core::NoParams => Value;
    /// The configuration, secrets redacted.
    ConfigGet "config.get" Operator One(Read), Listed, params::core::Empty => Value;
    /// The end of the log.
    LogsTail "logs.tail" Operator One(Read), Listed, params::core::LogsTailParams => params::core::LogsTail;
}

impl Method {
    /// Whether the method is always named in `features.methods`.
    pub const fn advertised(self) -> bool {
        self.advertised_with(false)
    }

    /// Whether the method is named in `features.methods`, given `gateway.chaos.enabled`.
    pub const fn advertised_with(self, chaos: bool) -> bool {
        match self.listing() {
            Listing::Listed => true,
            Listing::Hidden => false,
            Listing::WithChaos => chaos,
        }
    }

    /// The names for `features.methods`.
    pub fn advertised_names(chaos: bool) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |method| method.advertised_with(chaos)).map(|method| method.name())
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// Decides whether a connection may call the method called `name`, after its handshake.
///
/// The recorded order: the role first (a node learns nothing about methods that are not its own),
/// then the scope, and existence last: what does not exist needs `operator.admin`. Whether
/// `system.chaos` is enabled is for the caller to check. `connect` is always refused here.
///
/// # Errors
/// `unauthorized role`, `missing scope`, `unknown method`, or `connect is only valid …`.
pub fn authorize(name: &str, role: Role, scopes: &Scopes) -> Result<Method, Refusal> {
    let method = Method::from_name(name);
    if method == Some(Method::Connect) {
        return Err(Refusal::connect_not_first());
    }
    let Some(method) = method else {
        return Err(absent(name, role, scopes));
    };
    if !method.role().admits(role) {
        return Err(Refusal::unauthorized_role(role));
    }
    match method.scope().minimum() {
        Some(scope) if role == Role::Operator && !scopes.allows(scope) => Err(Refusal::missing_scope(scope)),
        _ => Ok(method),
    }
}

/// The refusal of a method this gateway does not have. Methods nobody has belong to administrators.
fn absent(name: &str, role: Role, scopes: &Scopes) -> Refusal {
    let caller = registered::caller(name).unwrap_or(Caller::Operator(Scope::Admin));
    match (role, caller) {
        (Role::Node, Caller::Node) => Refusal::unknown_method(name),
        (Role::Node, _) | (Role::Operator, Caller::Node) => Refusal::unauthorized_role(role),
        (Role::Operator, Caller::Operator(scope)) if !scopes.allows(scope) => Refusal::missing_scope(scope),
        (Role::Operator, Caller::Operator(_)) => Refusal::unknown_method(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, role: Role, scopes: &[Scope]) -> Result<Method, String> {
        authorize(name, role, &Scopes::of(scopes)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn names_are_unique_and_found() {
        for method in Method::ALL {
            assert_eq!(Method::from_name(method.name()), Some(*method));
        }
        assert_eq!(Method::from_name("no.such.method"), None);
    }

    #[test]
    fn authorization_precedes_existence() {
        let operator = Role::Operator;
        assert_eq!(
            verdict("no.such.method", operator, &[Scope::Admin]),
            Err("unknown method: no.such.method".into())
        );
        for scopes in [&[][..], &[Scope::Read], &[Scope::Write]] {
            assert_eq!(
                verdict("no.such.method", operator, scopes),
                Err("missing scope: operator.admin".into())
            );
        }
        assert_eq!(
            verdict("chat.send", operator, &[Scope::Read]),
            Err("missing scope: operator.write".into())
        );
        assert_eq!(
            verdict("cron.add", operator, &[Scope::Read]),
            Err("missing scope: operator.admin".into())
        );
        assert_eq!(
            verdict("exec.approval.resolve", operator, &[Scope::Read]),
            Err("missing scope: operator.approvals".into())
        );
        assert_eq!(
            verdict("node.event", operator, &[Scope::Admin]),
            Err("unauthorized role: operator".into())
        );
        assert_eq!(verdict("node.event", Role::Node, &[]), Err("unknown method: node.event".into()));
        assert_eq!(verdict("sessions.list", operator, &[]), Err("missing scope: operator.read".into()));
        assert_eq!(verdict("chat.history", operator, &[Scope::Write]), Ok(Method::ChatHistory));
        assert_eq!(verdict("agent", operator, &[Scope::Write]), Ok(Method::Agent));
    }

    #[test]
    fn nodes_are_told_nothing_but_their_role() {
        for name in ["chat.send", "config.get", "no.such"] {
            assert_eq!(verdict(name, Role::Node, &[Scope::Admin]), Err("unauthorized role: node".into()));
        }
        assert_eq!(verdict("health", Role::Node, &[]), Ok(Method::Health));
        assert_eq!(verdict("health", Role::Operator, &[]), Ok(Method::Health));
    }

    #[test]
    fn connect_is_refused_after_the_handshake() {
        for role in [Role::Operator, Role::Node] {
            assert_eq!(
                verdict("connect", role, &[]),
                Err("connect is only valid as the first request".into())
            );
        }
    }

    #[test]
    fn only_real_methods_are_advertised() {
        let names: Vec<_> = Method::advertised_names(false).collect();
        assert!(!names.contains(&"connect") && !names.contains(&"system.chaos"));
        assert!(Method::advertised_names(true).any(|name| name == "system.chaos"));
        let hidden = Method::ALL.iter().filter(|method| !method.advertised_with(true));
        let hidden: Vec<_> = hidden.map(|method| method.name()).collect();
        assert_eq!(hidden, ["connect", "sessions.get", "device.pair.list", "usage.cost", "users.self"]);
        assert_eq!(names.len(), Method::ALL.len() - hidden.len() - 1);
    }
}
