//! The METHODS table: every method the gateway answers, with the role and scope it asks for, and
//! the types of its parameters and result. Adding a method costs one row here; a match on
//! [`Method`] then does not compile until somebody answers it. What is answered with its empty state stands in
//! another table, see [`crate::empty`].

use serde_json::Value;

use crate::empty::{Empty, EmptyParams};
use crate::params::agents::{providers, roster};
use crate::params::{approvals, channel_acts, devices, nodes, questions, terminals};
use crate::schema;
use crate::scope::{Role, Scope};
use crate::{connect, hello, params};

mod audited;
mod authorize;
mod dynamic;
mod registered;

pub use audited::is_audited;
pub use authorize::authorize;

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
    /// This one, unless the parameters ask for another.
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

    /// The scope that is checked unless the parameters ask for another.
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
    /// Makes a job, or changes the one that was declared under the same key.
    CronAdd "cron.add" Operator One(Admin), Listed, params::cron::AddParams => Value;
    /// One job.
    CronGet "cron.get" Operator One(Read), Listed, params::cron::JobParams => Value;
    /// A page of the jobs.
    CronList "cron.list" Operator One(Read), Listed, params::cron::ListParams => params::cron::Jobs;
    /// Removes a job, and ends what it does.
    CronRemove "cron.remove" Operator One(Admin), Listed, params::cron::JobParams => params::cron::Removed;
    /// Runs a job now.
    CronRun "cron.run" Operator One(Admin), Listed, params::cron::RunParams => params::cron::Ran;
    /// A page of the records of jobs.
    CronRuns "cron.runs" Operator One(Read), Listed, params::cron::RunsParams => params::cron::Runs;
    /// What agents do while nobody looks on.
    TasksList "tasks.list" Operator One(Read), Listed, params::tasks::ListParams => params::tasks::Tasks;
    /// One of that.
    TasksGet "tasks.get" Operator One(Read), Listed, params::tasks::GetParams => params::tasks::GotTask;
    /// Ends one.
    TasksCancel "tasks.cancel" Operator One(Write), Listed, params::tasks::CancelParams => params::tasks::CancelledTask;
    /// What a job keeps for itself.
    CronScratchGet "cron.scratch.get" Operator One(Admin), Listed, params::cron::JobParams => params::cron::ScratchGot;
    /// Changes that.
    CronScratchSet "cron.scratch.set" Operator One(Admin), Listed, params::cron::ScratchSetParams => params::cron::ScratchSet;
    /// How it is with jobs.
    CronStatus "cron.status" Operator One(Read), Listed, params::core::Empty => params::cron::Status;
    /// Changes a job.
    CronUpdate "cron.update" Operator One(Admin), Listed, params::cron::UpdateParams => Value;
    /// How it is with what programs elsewhere may tell agents.
    HooksStatus "hooks.status" Operator One(Read), Listed, params::hooks::StatusParams => params::hooks::Status;
    /// The last heartbeat, or null.
    LastHeartbeat "last-heartbeat" Operator One(Read), Listed, params::core::NoParams => Option<params::core::Heartbeat>;
    /// Turns heartbeats on and off.
    SetHeartbeats "set-heartbeats" Operator One(Admin), Listed, params::core::SetHeartbeatsParams => params::core::HeartbeatsSet;
    /// Enqueues a system event for an agent.
    Wake "wake" Operator One(Write), Listed, params::core::WakeParams => params::core::Ok;
    /// The configured agents.
    AgentsList "agents.list" Operator One(Read), Listed, params::agents::AgentsListParams => params::agents::AgentsList;
    /// An agent's name and avatar.
    AgentIdentityGet "agent.identity.get" Operator One(Read), Listed, params::agents::AgentIdentityParams => params::agents::AgentIdentity;
    /// Makes an agent; rewrites the configuration file.
    AgentsCreate "agents.create" Operator One(Admin), Listed, roster::CreateParams => roster::Created;
    /// Changes an agent; rewrites the configuration file.
    AgentsUpdate "agents.update" Operator One(Admin), Listed, roster::UpdateParams => roster::Updated;
    /// Removes an agent; rewrites the configuration file.
    AgentsDelete "agents.delete" Operator One(Admin), Listed, roster::DeleteParams => roster::Deleted;
    /// The files of an agent that say who it is.
    AgentsFilesList "agents.files.list" Operator One(Read), Listed, roster::FilesListParams => roster::FilesList;
    /// One of them.
    AgentsFilesGet "agents.files.get" Operator One(Read), Listed, roster::FilesGetParams => roster::OneFile;
    /// Writes one of them.
    AgentsFilesSet "agents.files.set" Operator One(Admin), Listed, roster::FilesSetParams => roster::OneFile;
    /// The models an agent may use.
    ModelsList "models.list" Operator One(Read), Listed, params::agents::ModelsListParams => params::agents::ModelsList;
    /// What the providers of models are asked with.
    ModelsAuthStatus "models.authStatus" Operator One(Read), Listed, providers::AuthStatusParams => providers::AuthStatus;
    /// Asks a provider something, to see whether it answers.
    ModelsProbe "models.probe" Operator One(Admin), Listed, providers::ProbeParams => providers::Probe;
    /// The tools there are.
    ToolsCatalog "tools.catalog" Operator One(Read), Listed, params::tools::CatalogParams => params::tools::Catalog;
    /// The tools a session may use.
    ToolsEffective "tools.effective" Operator One(Read), Listed, params::tools::EffectiveParams => params::tools::Effective;
    /// Calls a tool, and waits for what it comes to.
    ToolsInvoke "tools.invoke" Operator One(Write), Listed, params::tools::InvokeParams => params::tools::Invoked;
    /// The skills of an agent, and what they need.
    SkillsStatus "skills.status" Operator One(Read), Listed, params::skills::StatusParams => params::skills::Status;
    /// The programs that skills ask for, for nodes to say which they have.
    SkillsBins "skills.bins" Node NoScope, Listed, params::core::Empty => params::skills::Bins;
    /// Installs a skill from a folder, an archive or a repository.
    SkillsInstall "skills.install" Operator One(Admin), Listed, params::skills::InstallParams => params::skills::Installation;
    /// The slash commands.
    CommandsList "commands.list" Operator One(Read), Listed, params::agents::CommandsListParams => params::agents::CommandsList;
    /// Runs an agent and waits: an acknowledgement first, the outcome later, under one id.
    Agent "agent" Operator Dynamic(Write), Listed, params::runs::AgentParams => params::runs::AgentResponse;
    /// Waits for a run to end.
    AgentWait "agent.wait" Operator One(Write), Listed, params::runs::AgentWaitParams => params::runs::AgentWaitResult;
    /// The latest page of a session's history and what a chat needs to start.
    ChatStartup "chat.startup" Operator One(Read), Listed, params::history::StartupParams => params::history::HistoryResult;
    /// A page of a session's history.
    ChatHistory "chat.history" Operator One(Read), Listed, params::history::HistoryParams => params::history::HistoryResult;
    /// Sends a message into a session.
    ChatSend "chat.send" Operator One(Write), Listed, params::chat::SendParams => params::chat::SendResult;
    /// Aborts a run, or all of a session.
    ChatAbort "chat.abort" Operator One(Write), Listed, params::chat::AbortParams => params::chat::AbortResult;
    /// Models and commands of a chat.
    ChatMetadata "chat.metadata" Operator One(Read), Listed, params::chat::MetadataParams => params::chat::Metadata;
    /// Puts an answer into a session that no model gave.
    ChatInject "chat.inject" Operator One(Admin), Listed, params::session_reads::InjectParams => params::session_reads::Injected;
    /// One message of a session, in full.
    ChatMessageGet "chat.message.get" Operator One(Read), Listed, params::session_reads::MessageGetParams => params::session_reads::MessageGot;
    /// The sessions.
    SessionsList "sessions.list" Operator One(Read), Listed, params::sessions::ListParams => params::sessions::SessionsList;
    /// One session's row, or null.
    SessionsDescribe "sessions.describe" Operator One(Read), Listed, params::sessions::DescribeParams => params::sessions::Described;
    /// The messages of a session; only the latest page yet, so not advertised.
    SessionsGet "sessions.get" Operator One(Read), Listed, params::sessions::GetParams => params::sessions::Got;
    /// Subscribes to changes of all sessions.
    SessionsSubscribe "sessions.subscribe" Operator One(Read), Listed, params::sessions::SubscribeParams => params::sessions::Subscribed;
    /// Subscribes to the messages of one session.
    SessionsMessagesSubscribe "sessions.messages.subscribe" Operator One(Read), Listed, params::sessions::MessagesSubscribeParams => params::sessions::MessagesSubscribed;
    /// Ends such a subscription.
    SessionsMessagesUnsubscribe "sessions.messages.unsubscribe" Operator One(Read), Listed, params::sessions::MessagesUnsubscribeParams => params::sessions::MessagesSubscribed;
    /// The last messages of several sessions.
    SessionsPreview "sessions.preview" Operator One(Read), Listed, params::session_reads::PreviewParams => params::session_reads::Previews;
    /// The session a client means.
    SessionsResolve "sessions.resolve" Operator One(Read), Listed, params::session_reads::ResolveParams => params::session_reads::Resolution;
    /// Looks for words in the messages.
    SessionsSearch "sessions.search" Operator One(Read), Listed, params::session_reads::SearchParams => params::session_reads::SearchResult;
    /// Creates a session, and sends a first message into it.
    SessionsCreate "sessions.create" Operator Dynamic(Write), Listed, params::session_create::CreateParams => params::session_create::Created;
    /// Sends a message into a session that exists.
    SessionsSend "sessions.send" Operator One(Write), Listed, params::session_create::SendParams => params::chat::SendResult;
    /// The same, in place of what runs.
    SessionsSteer "sessions.steer" Operator One(Write), Hidden, params::session_create::SteerParams => params::chat::SendResult;
    /// Aborts what runs in a session.
    SessionsAbort "sessions.abort" Operator One(Write), Listed, params::session_lifecycle::AbortParams => params::session_lifecycle::Aborted;
    /// Changes a session.
    SessionsPatch "sessions.patch" Operator Dynamic(Write), Listed, params::session_changes::PatchParams => params::session_changes::Patched;
    /// Changes several sessions alike.
    SessionsPatchMany "sessions.patchMany" Operator Dynamic(Write), Listed, params::session_changes::PatchManyParams => params::session_changes::PatchedMany;
    /// Begins a session anew.
    SessionsReset "sessions.reset" Operator One(Admin), Listed, params::session_lifecycle::ResetParams => params::session_lifecycle::Reset;
    /// Deletes a session; writers may, if it is archived.
    SessionsDelete "sessions.delete" Operator Dynamic(Admin), Listed, params::session_lifecycle::DeleteParams => params::session_lifecycle::Deleted;
    /// Puts a summary in place of a session's older messages.
    SessionsCompact "sessions.compact" Operator One(Admin), Listed, params::session_lifecycle::CompactParams => params::session_lifecycle::Compacted;
    /// Removes sessions nobody needs.
    SessionsCleanup "sessions.cleanup" Operator One(Admin), Listed, params::session_lifecycle::CleanupParams => params::session_lifecycle::Cleanup;
    /// A fresh session with the messages before one.
    SessionsFork "sessions.fork" Operator One(Write), Listed, params::session_lifecycle::ForkParams => params::session_lifecycle::Forked;
    /// Goes back before a message; what came after stays as a branch.
    SessionsRewind "sessions.rewind" Operator One(Admin), Listed, params::session_lifecycle::RewindParams => params::session_lifecycle::Rewound;
    /// The ways a session went.
    SessionsBranchesList "sessions.branches.list" Operator One(Read), Listed, params::session_lifecycle::BranchesListParams => params::session_lifecycle::Branches;
    /// Goes on with another branch.
    SessionsBranchesSwitch "sessions.branches.switch" Operator One(Admin), Listed, params::session_lifecycle::BranchesSwitchParams => params::core::Empty;
    /// The groups of sessions.
    SessionsGroupsList "sessions.groups.list" Operator One(Read), Listed, params::core::Empty => params::session_groups::Groups;
    /// Sets which groups there are.
    SessionsGroupsPut "sessions.groups.put" Operator One(Write), Listed, params::session_groups::PutParams => params::session_groups::GroupsChanged;
    /// Renames a group.
    SessionsGroupsRename "sessions.groups.rename" Operator One(Write), Listed, params::session_groups::RenameParams => params::session_groups::GroupsChanged;
    /// Deletes a group; its sessions stay.
    SessionsGroupsDelete "sessions.groups.delete" Operator One(Write), Listed, params::session_groups::DeleteParams => params::session_groups::GroupsChanged;
    /// Sets where sessions of a group start.
    SessionsGroupsUpdate "sessions.groups.update" Operator One(Write), Listed, params::session_groups::UpdateParams => params::session_groups::DefaultsChanged;
    /// Where sessions of the groups start.
    SessionsGroupsDefaults "sessions.groups.defaults" Operator One(Write), Listed, params::core::Empty => params::session_groups::Defaults;
    /// What sessions used.
    SessionsUsage "sessions.usage" Operator One(Read), Listed, params::session_usage::UsageParams => params::session_usage::Usage;
    /// What a session used, message by message.
    SessionsUsageLogs "sessions.usage.logs" Operator One(Read), Listed, params::session_usage::UsageDetailParams => params::session_usage::UsageLogs;
    /// What a session used over time.
    SessionsUsageTimeseries "sessions.usage.timeseries" Operator One(Read), Listed, params::session_usage::UsageDetailParams => params::session_usage::UsageSeries;
    /// Says which sessions the caller looks at.
    SessionsViewersSet "sessions.viewers.set" Operator One(Read), Listed, params::session_reads::ViewersSetParams => params::session_reads::ViewersSet;
    /// Says whether the caller is seen.
    SessionsObserverVisibility "sessions.observer.visibility" Operator One(Read), Listed, params::session_reads::ObserverVisibilityParams => params::core::Ok;
    /// Says whether the caller writes.
    SessionTyping "session.typing" Operator One(Write), Listed, params::session_reads::TypingParams => params::session_reads::Typed;
    /// Asks whether a command may run, and waits for the decision.
    ExecApprovalRequest "exec.approval.request" Operator One(Approvals), Listed, approvals::ExecRequestParams => approvals::Requested;
    /// A command that waits for a decision.
    ExecApprovalGet "exec.approval.get" Operator One(Approvals), Listed, approvals::GetParams => approvals::ExecApproval;
    /// The commands that wait for a decision.
    ExecApprovalList "exec.approval.list" Operator One(Approvals), Listed, params::core::NoParams => Vec<approvals::PendingApproval>;
    /// Decides whether a command may run.
    ExecApprovalResolve "exec.approval.resolve" Operator One(Approvals), Listed, approvals::ExecResolveParams => params::core::Ok;
    /// Waits for a decision.
    ExecApprovalWaitDecision "exec.approval.waitDecision" Operator One(Approvals), Listed, approvals::WaitParams => approvals::Decided;
    /// What automations may run without asking.
    ExecApprovalGrantsList "exec.approval.grants.list" Operator One(Approvals), Listed, approvals::GrantsListParams => approvals::Grants;
    /// Takes such a permission back.
    ExecApprovalGrantsRevoke "exec.approval.grants.revoke" Operator One(Approvals), Listed, approvals::GrantsRevokeParams => approvals::GrantRevoked;
    /// Which commands may run without asking.
    ExecApprovalsGet "exec.approvals.get" Operator One(Admin), Listed, params::core::Empty => approvals::policy::PolicyShown;
    /// Changes that.
    ExecApprovalsSet "exec.approvals.set" Operator One(Admin), Listed, approvals::policy::SetParams => approvals::policy::PolicyShown;
    /// An approval of any kind, whatever became of it.
    ApprovalGet "approval.get" Operator One(Approvals), Listed, approvals::GetParams => approvals::Got;
    /// Decides on an approval of any kind; the first decision counts.
    ApprovalResolve "approval.resolve" Operator One(Approvals), Listed, approvals::ResolveParams => approvals::Resolved;
    /// What was decided.
    ApprovalHistory "approval.history" Operator One(Approvals), Listed, approvals::HistoryParams => approvals::History;
    /// Asks whether a plugin may do something, and waits for the decision.
    PluginApprovalRequest "plugin.approval.request" Operator One(Approvals), Listed, approvals::PluginRequestParams => approvals::Requested;
    /// What plugins and tools wait to be allowed.
    PluginApprovalList "plugin.approval.list" Operator One(Approvals), Listed, params::core::NoParams => Vec<approvals::PendingApproval>;
    /// Decides whether a plugin or a tool may do something.
    PluginApprovalResolve "plugin.approval.resolve" Operator One(Approvals), Listed, approvals::PluginResolveParams => params::core::Ok;
    /// Waits for a decision.
    PluginApprovalWaitDecision "plugin.approval.waitDecision" Operator One(Approvals), Listed, approvals::WaitParams => approvals::Decided;
    /// Asks people something.
    QuestionRequest "question.request" Operator One(Questions), Listed, questions::RequestParams => questions::Requested;
    /// What people are asked, whatever became of it.
    QuestionGet "question.get" Operator One(Questions), Listed, questions::GetParams => questions::Got;
    /// What waits for an answer.
    QuestionList "question.list" Operator One(Questions), Listed, params::core::Empty => questions::Questions;
    /// Answers, or declines to.
    QuestionResolve "question.resolve" Operator One(Questions), Listed, questions::ResolveParams => questions::Answered;
    /// Waits for an answer.
    QuestionWaitAnswer "question.waitAnswer" Operator One(Questions), Listed, questions::WaitParams => questions::Answered;
    /// The nodes.
    NodeList "node.list" Operator One(Read), Listed, params::core::Empty => nodes::Nodes;
    /// One of them.
    NodeDescribe "node.describe" Operator One(Read), Listed, nodes::NodeParams => nodes::Described;
    /// Gives a node a name.
    NodeRename "node.rename" Operator One(Pairing), Listed, nodes::RenameParams => nodes::Renamed;
    /// Has a node do something, and waits for what comes of it.
    NodeInvoke "node.invoke" Operator Dynamic(Write), Listed, nodes::InvokeParams => nodes::Invoked;
    /// What came of it, from the node.
    NodeInvokeResult "node.invoke.result" Node NoScope, Listed, nodes::ResultParams => nodes::Taken;
    /// How it goes, from the node.
    NodeInvokeProgress "node.invoke.progress" Node NoScope, Listed, nodes::ProgressParams => nodes::Taken;
    /// Something happened at a node.
    NodeEvent "node.event" Node NoScope, Listed, nodes::EventParams => nodes::EventTaken;
    /// What nodes ask for, and who is approved.
    NodePairList "node.pair.list" Operator One(Pairing), Listed, params::core::Empty => nodes::Pairings;
    /// Lets a node do what it asks for.
    NodePairApprove "node.pair.approve" Operator One(Pairing), Listed, nodes::RequestParams => nodes::Approved;
    /// Does not.
    NodePairReject "node.pair.reject" Operator One(Pairing), Listed, nodes::RequestParams => nodes::Rejected;
    /// Takes a device its role as a node.
    NodePairRemove "node.pair.remove" Operator One(Pairing), Listed, nodes::NodeParams => nodes::Named;
    /// Leaves a node something to do for when it next looks.
    NodePendingEnqueue "node.pending.enqueue" Operator One(Write), Listed, nodes::EnqueueParams => Value;
    /// A node looks.
    NodePendingDrain "node.pending.drain" Node NoScope, Listed, nodes::DrainParams => Value;
    /// What a node could not do in the background; nothing is kept for that here.
    NodePendingPull "node.pending.pull" Node NoScope, Listed, params::core::Empty => Value;
    /// It is done.
    NodePendingAck "node.pending.ack" Node NoScope, Listed, nodes::AckParams => Value;
    /// A new address of the canvas for a node that may show it; the former one is good no more.
    NodePluginSurfaceRefresh "node.pluginSurface.refresh" Node NoScope, Listed, nodes::SurfaceRefreshParams => nodes::SurfaceRefreshed;
    /// The same for an operator.
    PluginSurfaceRefresh "plugin.surface.refresh" Operator One(Read), Listed, nodes::SurfaceRefreshParams => nodes::SurfaceRefreshed;
    /// The tools a node offers.
    NodePluginToolsUpdate "node.pluginTools.update" Node NoScope, Listed, nodes::ToolsUpdateParams => nodes::ToolsUpdated;
    /// The skills a node offers.
    NodeSkillsUpdate "node.skills.update" Node NoScope, Listed, nodes::SkillsUpdateParams => nodes::SkillsUpdated;
    /// What a node can run; says itself what it takes.
    NodeRunnerInventoryUpdate "node.runnerInventory.update" Node NoScope, Listed, Value => nodes::Named;
    /// Which commands may run at a node without asking.
    ExecApprovalsNodeGet "exec.approvals.node.get" Operator One(Admin), Listed, nodes::NodeParams => Value;
    /// Changes that.
    ExecApprovalsNodeSet "exec.approvals.node.set" Operator One(Admin), Listed, nodes::NodePolicySetParams => Value;
    /// Where things can run.
    EnvironmentsList "environments.list" Operator Dynamic(Read), Listed, nodes::EnvironmentsListParams => nodes::Environments;
    /// One of these places.
    EnvironmentsStatus "environments.status" Operator One(Read), Listed, nodes::EnvironmentsStatusParams => nodes::Environment;
    /// The words that wake.
    VoicewakeGet "voicewake.get" Operator One(Read), Listed, params::core::NoParams => nodes::Triggers;
    /// Changes them, for everybody.
    VoicewakeSet "voicewake.set" Operator One(Write), Listed, nodes::VoicewakeSetParams => nodes::Triggers;
    /// Where what follows them goes: to the session in front of the person.
    VoicewakeRoutingGet "voicewake.routing.get" Operator One(Read), Listed, params::core::NoParams => Value;
    /// Which devices are paired, and which ask to be.
    DevicePairList "device.pair.list" Operator One(Pairing), Listed, params::core::NoParams => devices::Devices;
    /// Pairs a device that asked.
    DevicePairApprove "device.pair.approve" Operator One(Pairing), Listed, devices::RequestParams => devices::Approved;
    /// Does not.
    DevicePairReject "device.pair.reject" Operator One(Pairing), Listed, devices::RequestParams => devices::Rejected;
    /// Forgets a device.
    DevicePairRemove "device.pair.remove" Operator One(Pairing), Listed, devices::DeviceParams => devices::Removed;
    /// Gives a device a name.
    DevicePairRename "device.pair.rename" Operator One(Pairing), Listed, devices::RenameParams => devices::Renamed;
    /// Makes a code with which a device pairs itself.
    DevicePairSetupCode "device.pair.setupCode" Operator One(Admin), Hidden, devices::SetupCodeParams => devices::SetupCode;
    /// Whether a code was used.
    DevicePairSetupStatus "device.pair.setupStatus" Operator One(Admin), Hidden, devices::SetupStatusParams => devices::SetupStatus;
    /// Makes a new token for a device; the last one is dead.
    DeviceTokenRotate "device.token.rotate" Operator One(Pairing), Listed, devices::RotateParams => devices::Rotated;
    /// Takes a device's token back.
    DeviceTokenRevoke "device.token.revoke" Operator One(Pairing), Listed, devices::RevokeParams => devices::Revoked;
    /// Asks for more scopes for the caller's device.
    DeviceScopesRequestUpgrade "device.scopes.requestUpgrade" Operator NoScope, Listed, devices::UpgradeParams => devices::UpgradeRequested;
    /// Waits until that is decided.
    DeviceScopesWaitUpgrade "device.scopes.waitUpgrade" Operator NoScope, Listed, devices::RequestParams => devices::Upgraded;
    /// Tokens and costs by day; of all agents together yet, so not advertised.
    UsageCost "usage.cost" Operator One(Read), Listed, params::core::UsageCostParams => Value;
    /// What is left at the models' providers.
    UsageStatus "usage.status" Operator One(Read), Listed, params::core::NoParams => params::session_usage::UsageStatus;
    /// How the channels' accounts are.
    ChannelsStatus "channels.status" Operator One(Read), Listed, params::channels::StatusParams => Value;
    /// Starts accounts that do not run.
    ChannelsStart "channels.start" Operator One(Admin), Listed, params::channels::AccountParams => params::channels::Switched;
    /// Stops accounts until they are started.
    ChannelsStop "channels.stop" Operator One(Admin), Listed, params::channels::AccountParams => params::channels::Switched;
    /// Takes an account's key to its platform away.
    ChannelsLogout "channels.logout" Operator One(Admin), Listed, params::channels::AccountParams => channel_acts::LoggedOut;
    /// Who asks to be let in.
    ChannelsPairingList "channels.pairing.list" Operator One(Pairing), Listed, params::channels::PairingListParams => params::channels::PairingList;
    /// Lets somebody in.
    ChannelsPairingApprove "channels.pairing.approve" Operator One(Pairing), Listed, params::channels::PairingApproveParams => params::channels::PairingApproved;
    /// Does not let somebody in.
    ChannelsPairingDismiss "channels.pairing.dismiss" Operator One(Pairing), Listed, params::channels::PairingDismissParams => params::channels::PairingDismissed;
    /// Who is there on channels (ours).
    ChannelsPresence "channels.presence" Operator One(Read), Listed, params::core::Empty => params::channels::Presence;
    /// Begins to log in at a channel that shows a code.
    WebLoginStart "web.login.start" Operator One(Admin), Listed, params::channels::LoginStartParams => params::channels::Login;
    /// Waits until that is done, or another code is to be shown.
    WebLoginWait "web.login.wait" Operator One(Admin), Listed, params::channels::LoginWaitParams => params::channels::Login;
    /// Sends a message to a chat of a channel.
    Send "send" Operator One(Write), Listed, params::channels::SendParams => params::channels::SendResult;
    /// Asks those in a chat to choose.
    Poll "poll" Operator One(Write), Listed, channel_acts::PollParams => channel_acts::PollResult;
    /// Does something to a message of a channel.
    MessageAction "message.action" Operator One(Write), Listed, channel_acts::ActionParams => Value;
    /// The chats an agent is talked to in.
    ConversationsList "conversations.list" Operator One(Admin), Listed, channel_acts::ConversationsParams => channel_acts::Conversations;
    /// Sends a message to one of them.
    ConversationsSend "conversations.send" Operator One(Admin), Listed, channel_acts::ConversationSendParams => channel_acts::ConversationSent;
    /// Who the caller is, if somebody who is believed says so.
    UsersSelf "users.self" Operator One(Read), Listed, params::core::NoParams => params::users::SelfResult;
    /// Everybody who was seen.
    UsersList "users.list" Operator One(Read), Listed, params::core::NoParams => params::users::ListResult;
    /// Whether there is a newer version.
    UpdateStatus "update.status" Operator One(Admin), Listed, params::users::UpdateStatusParams => params::users::UpdateStatus;
    /// Runs of agents, and what their tools did outside.
    AuditList "audit.list" Operator One(Read), Listed, params::audit::ListParams => params::audit::AuditPage;
    /// The same with what operators and programs did.
    AuditActivityList "audit.activity.list" Operator One(Read), Listed, params::audit::ActivityParams => params::audit::AuditPage;
    /// Whether the ledger is as it was written (ours).
    AuditVerify "audit.verify" Operator One(Read), Listed, params::audit::VerifyParams => params::audit::Verified;
    /// Reads the database whole (ours).
    SystemStore "system.store" Operator One(Read), Listed, params::audit::StoreParams => params::audit::StoreReport;
    /// Copies the database, for a backup on the gateway's machine (ours).
    SystemBackup "system.backup" Operator One(Admin), Listed, params::backup::CopyParams => params::backup::StoreCopy;
    /// The configuration, secrets redacted.
    ConfigGet "config.get" Operator One(Read), Listed, params::core::Empty => Value;
    /// What may stand in the configuration.
    ConfigSchema "config.schema" Operator One(Read), Listed, params::core::Empty => params::config::Schema;
    /// One place of that, and what is right below it.
    ConfigSchemaLookup "config.schema.lookup" Operator One(Read), Listed, params::config::LookupParams => params::config::Lookup;
    /// Writes the whole configuration; what is not accepted changes nothing.
    ConfigSet "config.set" Operator One(Admin), Listed, params::config::SetParams => params::config::Written;
    /// The same; the answer says whether something of it waits for the next start.
    ConfigApply "config.apply" Operator One(Admin), Listed, params::config::ApplyParams => params::config::Written;
    /// Changes parts of the configuration.
    ConfigPatch "config.patch" Operator One(Admin), Listed, params::config::PatchParams => params::config::Written;
    /// Looks all secrets up anew.
    SecretsReload "secrets.reload" Operator One(Admin), Listed, params::core::NoParams => params::secrets::Reloaded;
    /// The values of references, for programs of the operator.
    SecretsResolve "secrets.resolve" Operator One(Admin), Listed, params::secrets::ResolveParams => params::secrets::Resolved;
    /// What is in the store of secrets; of what is secret only the name.
    SecretsStoreList "secrets.store.list" Operator One(Admin), Listed, params::core::Empty => params::secrets::Entries;
    /// Puts a secret into the store.
    SecretsStoreSet "secrets.store.set" Operator One(Admin), Listed, params::secrets::StoreSetParams => params::secrets::Stored;
    /// Takes one out of it.
    SecretsStoreDelete "secrets.store.delete" Operator One(Admin), Listed, params::secrets::StoreDeleteParams => params::secrets::Stored;
    /// Opens the configuration file on the gateway's machine; that it cannot be opened is an answer, too.
    ConfigOpenFile "config.openFile" Operator One(Admin), Listed, params::core::Empty => params::config::Opened;
    /// Opens a shell on the gateway's machine.
    TerminalOpen "terminal.open" Operator One(Admin), Listed, terminals::OpenParams => terminals::Opened;
    /// Types into one.
    TerminalInput "terminal.input" Operator One(Admin), Listed, terminals::InputParams => terminals::Done;
    /// Says how large it is shown.
    TerminalResize "terminal.resize" Operator One(Admin), Listed, terminals::ResizeParams => terminals::Done;
    /// Ends one, or stops looking at one that belongs to a session.
    TerminalClose "terminal.close" Operator One(Admin), Listed, terminals::TerminalParams => terminals::Done;
    /// The terminals there are.
    TerminalList "terminal.list" Operator One(Admin), Listed, params::core::NoParams => terminals::Terminals;
    /// Takes one over, with the end of what it has shown.
    TerminalAttach "terminal.attach" Operator One(Admin), Listed, terminals::TerminalParams => terminals::Attached;
    /// The end of the log.
    LogsTail "logs.tail" Operator One(Read), Listed, params::core::LogsTailParams => params::core::LogsTail;
    /// What runs side by side.
    DiagnosticsLanes "diagnostics.lanes" Operator One(Read), Listed, params::core::Empty => params::diagnostics::Lanes;
    /// What has happened lately to the gateway itself.
    DiagnosticsStability "diagnostics.stability" Operator One(Read), Listed, params::diagnostics::StabilityParams => Value;
    /// What a restart would interrupt.
    GatewayRestartPreflight "gateway.restart.preflight" Operator One(Read), Listed, params::core::Empty => params::lifecycle::Preflight;
    /// Starts the gateway anew, once nothing is under way.
    GatewayRestartRequest "gateway.restart.request" Operator One(Admin), Listed, params::lifecycle::RestartParams => params::lifecycle::RestartRequested;
    /// Has the gateway hold still, so that its host may freeze it.
    GatewaySuspendPrepare "gateway.suspend.prepare" Operator One(Admin), Listed, params::lifecycle::SuspendPrepareParams => params::lifecycle::SuspendPrepared;
    /// Whether it holds still.
    GatewaySuspendStatus "gateway.suspend.status" Operator One(Read), Listed, params::lifecycle::SuspensionParams => params::lifecycle::SuspendStatus;
    /// Has it go on.
    GatewaySuspendResume "gateway.suspend.resume" Operator One(Admin), Listed, params::lifecycle::SuspensionParams => params::lifecycle::SuspendResumed;
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

#[cfg(test)]
mod tests;
