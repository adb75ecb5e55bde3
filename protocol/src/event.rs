//! The EVENTS table: every event the gateway sends, and who may receive it.

use crate::scope::{Role, Scope, Scopes};

/// Who may receive an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventScope {
    /// Every connection after its handshake: nodes and operators without scopes too.
    Everyone,
    /// Operators with `operator.read`.
    Read,
    /// Operators with `operator.admin`.
    Admin,
    /// Operators with `operator.pairing`.
    Pairing,
    /// Operators with `operator.approvals`.
    Approvals,
    /// Operators with `operator.questions`.
    Questions,
    /// Nobody by broadcast: it is sent to one connection, without a `seq`.
    Direct,
}

impl EventScope {
    /// The word used in the schema document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Direct => "direct",
            _ => self.scope().map_or("everyone", Scope::name),
        }
    }

    /// The scope an operator needs, if any.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Everyone | Self::Direct => None,
            Self::Read => Some(Scope::Read),
            Self::Admin => Some(Scope::Admin),
            Self::Pairing => Some(Scope::Pairing),
            Self::Approvals => Some(Scope::Approvals),
            Self::Questions => Some(Scope::Questions),
        }
    }

    /// Whether a broadcast reaches a connection.
    pub fn admits(self, role: Role, scopes: &Scopes) -> bool {
        match self {
            Self::Everyone => true,
            Self::Direct => false,
            _ => role == Role::Operator && self.scope().is_some_and(|scope| scopes.allows(scope)),
        }
    }
}

macro_rules! events {
    ($($(#[$meta:meta])* $variant:ident $name:literal $scope:ident;)+) => {
        /// An event of the gateway.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Event { $($(#[$meta])* $variant,)+ }

        impl Event {
            /// Every event, in the order they are advertised.
            pub const ALL: &'static [Event] = &[$(Event::$variant,)+];

            /// The event of a name on the wire.
            pub fn from_name(name: &str) -> Option<Event> {
                match name { $($name => Some(Event::$variant),)+ _ => None }
            }

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Event::$variant => $name,)+ }
            }

            /// Who may receive it.
            pub const fn scope(self) -> EventScope {
                match self { $(Event::$variant => EventScope::$scope,)+ }
            }
        }
    };
}

events! {
    /// The first frame on a connection.
    ConnectChallenge "connect.challenge" Direct;
    /// What a run does, step by step.
    Agent "agent" Read;
    /// A run's visible text; deltas and status frames are published as droppable.
    Chat "chat" Read;
    /// Models or commands of a chat changed.
    ChatMetadataChanged "chat.metadata.changed" Read;
    /// A row was added to a session's transcript.
    SessionMessage "session.message" Read;
    /// A tool step of a session's run.
    SessionTool "session.tool" Read;
    /// A session is compacted, or was.
    SessionOperation "session.operation" Read;
    /// Somebody writes in a session, or stopped.
    SessionTyping "session.typing" Read;
    /// A session's row changed.
    SessionsChanged "sessions.changed" Read;
    /// The full presence list.
    Presence "presence" Read;
    /// A sign of life.
    Tick "tick" Everyone;
    /// The gateway goes down.
    Shutdown "shutdown" Everyone;
    /// The gateway holds still for its host, or no more.
    GatewaySuspension "gateway.suspension" Everyone;
    /// The health snapshot.
    Health "health" Everyone;
    /// A heartbeat ran or was skipped.
    Heartbeat "heartbeat" Everyone;
    /// Something became of a job with a schedule.
    Cron "cron" Read;
    /// A background task changed.
    Task "task" Read;
    /// A device asks to pair.
    DevicePairRequested "device.pair.requested" Pairing;
    /// A device's request was decided.
    DevicePairResolved "device.pair.resolved" Pairing;
    /// A node asks to be allowed what it offers.
    NodePairRequested "node.pair.requested" Pairing;
    /// That was decided, or the node is one no more; the node hears it too.
    NodePairResolved "node.pair.resolved" Pairing;
    /// The person at a node was active.
    NodePresence "node.presence" Read;
    /// How a node's machine is.
    NodeHostStats "node.hostStats" Read;
    /// What a node can run was told anew.
    NodeRunnerInventoryChanged "node.runnerInventory.changed" Read;
    /// A node is asked to do something.
    NodeInvokeRequest "node.invoke.request" Direct;
    /// It need not do it any more.
    NodeInvokeCancel "node.invoke.cancel" Direct;
    /// The words that wake changed; nodes hear it too.
    VoicewakeChanged "voicewake.changed" Read;
    /// Where what follows them goes; told to nodes when they come.
    VoicewakeRoutingChanged "voicewake.routing.changed" Read;
    /// Something about a paired device is different.
    DevicePairChanged "device.pair.changed" Pairing;
    /// A setup code was used.
    DevicePairSetupCompleted "device.pair.setup.completed" Admin;
    /// Somebody is asked whether a command may run.
    ExecApprovalRequested "exec.approval.requested" Approvals;
    /// It was decided.
    ExecApprovalResolved "exec.approval.resolved" Approvals;
    /// Somebody is asked whether a plugin or a tool may do something.
    PluginApprovalRequested "plugin.approval.requested" Approvals;
    /// It was decided.
    PluginApprovalResolved "plugin.approval.resolved" Approvals;
    /// An agent asks people something.
    QuestionRequested "question.requested" Questions;
    /// It was answered, or will not be.
    QuestionResolved "question.resolved" Questions;
    /// A terminal shows something.
    TerminalData "terminal.data" Admin;
    /// A terminal is none any more.
    TerminalExit "terminal.exit" Admin;
    /// The configuration changed.
    ConfigChanged "config.changed" Read;
    /// Somebody on a channel is there, is writing, or is gone (ours).
    ChannelPresence "channel.presence" Read;
    /// An actor changed its state (ours).
    SystemActorsChanged "system.actors.changed" Read;
}

impl Event {
    /// The names for `features.events`.
    pub fn advertised_names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|event| event.name())
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for event in Event::ALL {
            assert_eq!(Event::from_name(event.name()), Some(*event));
        }
    }

    #[test]
    fn events_reach_whom_they_may() {
        let reach = |event: Event, role, scopes: &[Scope]| event.scope().admits(role, &Scopes::of(scopes));
        assert!(reach(Event::Tick, Role::Node, &[]) && reach(Event::Health, Role::Operator, &[]));
        assert!(reach(Event::Chat, Role::Operator, &[Scope::Write]));
        assert!(!reach(Event::Chat, Role::Operator, &[]) && !reach(Event::Presence, Role::Node, &[]));
        assert!(reach(Event::DevicePairRequested, Role::Operator, &[Scope::Pairing]));
        assert!(!reach(Event::DevicePairRequested, Role::Operator, &[Scope::Read]));
        assert!(!reach(Event::ConnectChallenge, Role::Operator, &[Scope::Admin]));
        assert_eq!(Event::Agent.scope().name(), "operator.read");
    }
}
