//! The methods: each turns its parameters into one message to the actor that answers it, or reads a
//! published snapshot. A row of the METHODS table without an arm here does not compile.

mod actors;
mod agents;
mod approvals;
mod audit;
mod backup;
mod channels;
pub(crate) mod chat;
mod commands;
mod config;
mod core;
mod cron;
mod devices;
mod diagnostics;
mod empty;
mod hello;
mod hooks;
mod lifecycle;
mod nodes;
mod secrets;
mod sessions;
mod skills;
mod tasks;
mod terminals;
mod tools;
pub(crate) mod users;

pub use channels::own::brought;
pub use chat::{Answering, Heard, Question, ask, speaker};

use crate::approvals::Kind;
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::gateway::Wiring;
use crate::responder::Responder;
use crate::sessions::Compactor;
use crate::store::StoreError;
use crate::suspension::Phase;
use crate::tree::Ctx;
use crabtree_protocol::{Method, Refusal, SessionKey, schema};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// How long a method waits for an actor that is down before it answers without it.
const ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// A request that may be answered.
pub struct Call<'a> {
    /// Everybody who can answer.
    pub wiring: &'a Arc<Wiring>,
    /// What is asked.
    pub method: Method,
    /// With which parameters.
    pub params: Option<&'a RawValue>,
    /// Where the answer goes.
    pub responder: Responder,
}

impl<'a> Call<'a> {
    fn estate(&self) -> &'a Arc<Estate> {
        &self.wiring.store.estate
    }

    /// The parameters as this method takes them; refuses otherwise.
    fn parse<P: Deserialize<'a> + JsonSchema + 'static>(self) -> Option<(P, Call<'a>)> {
        match schema::params::<P>(self.method.name(), self.params) {
            Ok(params) => Some((params, self)),
            Err(refusal) => {
                self.responder.refuse(refusal);
                None
            }
        }
    }

    /// The session a client means.
    fn key(&self, raw: &str) -> Result<SessionKey, Refusal> {
        self.key_of(raw, None)
    }

    /// The same; a bare key belongs to the agent that is named beside it.
    fn key_of(&self, raw: &str, agent_id: Option<&str>) -> Result<SessionKey, Refusal> {
        let catalog = self.estate().catalog.load();
        SessionKey::canonical(raw, agent_id.unwrap_or(&catalog.default_agent().id))
    }
}

/// How a session that has grown near its model's context is summed up.
pub fn compactor(wiring: Arc<Wiring>) -> Compactor {
    Arc::new(move |key| {
        let wiring = wiring.clone();
        Box::pin(async move {
            if let Err(refusal) = sessions::compact::compact(&wiring, key.clone(), "").await {
                tracing::warn!(target: "crabtree::sessions", %key, "not summed up: {}", refusal.message);
            }
        })
    })
}

/// How the session of a run is forgotten that nobody needs any more, with its transcript.
pub fn forgetter(wiring: Arc<Wiring>) -> crate::cron::Forget {
    Arc::new(move |key| {
        let wiring = wiring.clone();
        Box::pin(async move {
            if let Err(refusal) = sessions::lifecycle::forget(&wiring, key.clone()).await {
                tracing::warn!(target: "crabtree::cron", %key, "not forgotten: {}", refusal.message);
            }
        })
    })
}

/// Answers a request, now or later.
pub fn dispatch(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    if call.estate().is_draining() {
        return call.responder.refuse(Refusal::draining(call.method.name(), "accepting"));
    }
    let phase = call.estate().suspension.phase();
    if phase != Phase::Accepting && !lifecycle::is_of_suspension(call.method) {
        return call.responder.refuse(Refusal::suspended(call.method.name(), phase.name()));
    }
    match call.method {
        Method::Connect => call.responder.refuse(Refusal::connect_not_first()),
        Method::Health => core::health(call),
        Method::Status => core::status(ctx, call),
        Method::SystemPresence => core::system_presence(call),
        Method::SystemEvent => core::system_event(call),
        Method::SystemInfo => core::system_info(ctx, call),
        Method::SystemActors => actors::tree(call),
        Method::SystemActorsRestart => actors::restart(ctx, call),
        Method::SystemActorsPark => actors::park(ctx, call),
        Method::SystemActorsResume => actors::resume(ctx, call),
        Method::SystemChaos => actors::chaos(call),
        Method::CronAdd => cron::add(call),
        Method::CronGet => cron::get(call),
        Method::CronList => cron::list(call),
        Method::CronRemove => cron::remove(call),
        Method::CronRun => cron::run(call),
        Method::CronRuns => cron::runs(ctx, call),
        Method::CronScratchGet => cron::scratch_get(ctx, call),
        Method::CronScratchSet => cron::scratch_set(ctx, call),
        Method::CronStatus => cron::status(call),
        Method::CronUpdate => cron::update(call),
        Method::HooksStatus => hooks::status(call),
        Method::SetHeartbeats => core::set_heartbeats(call),
        Method::LastHeartbeat => core::last_heartbeat(call),
        Method::Wake => chat::wake(call),
        Method::AgentsList => agents::list(call),
        Method::AgentIdentityGet => agents::identity(call),
        Method::AgentsCreate => agents::create(call),
        Method::AgentsUpdate => agents::update(call),
        Method::AgentsDelete => agents::delete(call),
        Method::AgentsFilesList => agents::file_list(ctx, call),
        Method::AgentsFilesGet => agents::file_get(ctx, call),
        Method::AgentsFilesSet => agents::file_set(ctx, call),
        Method::ModelsList => agents::models(call),
        Method::ModelsAuthStatus => agents::auth_status(call),
        Method::ModelsProbe => agents::probe(ctx, call),
        Method::ToolsCatalog => tools::catalog(call),
        Method::ToolsEffective => tools::effective(call),
        Method::ToolsInvoke => tools::call(ctx, call),
        Method::SkillsStatus => skills::status(ctx, call),
        Method::SkillsBins => skills::bins(ctx, call),
        Method::SkillsInstall => skills::install(ctx, call),
        Method::CommandsList => agents::list_commands(call),
        Method::Agent => chat::agent(call),
        Method::AgentWait => chat::wait(ctx, call),
        Method::ChatStartup => chat::startup(ctx, call),
        Method::ChatHistory => chat::history(ctx, call),
        Method::ChatMessageGet => chat::message_get(ctx, call),
        Method::ChatSend => chat::send(ctx, call),
        Method::ChatAbort => chat::abort(call),
        Method::ChatMetadata => agents::metadata(call),
        Method::SessionsList => sessions::list(ctx, call),
        Method::SessionsDescribe => sessions::describe(ctx, call),
        Method::SessionsGet => sessions::get(ctx, call),
        Method::SessionsPreview => sessions::preview(ctx, call),
        Method::SessionsResolve => sessions::resolve(ctx, call),
        Method::SessionsSearch => sessions::search(ctx, call),
        Method::SessionsGroupsList => sessions::groups_list(ctx, call),
        Method::SessionsGroupsDefaults => sessions::groups_defaults(ctx, call),
        Method::SessionsGroupsPut => sessions::groups_put(ctx, call),
        Method::SessionsGroupsRename => sessions::groups_rename(ctx, call),
        Method::SessionsGroupsDelete => sessions::groups_delete(ctx, call),
        Method::SessionsGroupsUpdate => sessions::groups_update(ctx, call),
        Method::SessionsUsage => sessions::usage(ctx, call),
        Method::SessionsUsageLogs => sessions::logs(ctx, call),
        Method::SessionsUsageTimeseries => sessions::timeseries(ctx, call),
        Method::SessionsSubscribe => sessions::subscribe(ctx, call),
        Method::SessionsMessagesSubscribe => sessions::subscribe_messages(ctx, call),
        Method::SessionsMessagesUnsubscribe => sessions::unsubscribe_messages(ctx, call),
        Method::SessionsCreate => sessions::create::create(ctx, call),
        Method::SessionsSend => sessions::talk::send(ctx, call),
        Method::SessionsSteer => sessions::talk::steer(ctx, call),
        Method::SessionsAbort => sessions::talk::abort(ctx, call),
        Method::SessionsPatch => sessions::changes::patch(ctx, call),
        Method::SessionsPatchMany => sessions::changes::patch_many(ctx, call),
        Method::SessionsReset => sessions::lifecycle::reset(ctx, call),
        Method::SessionsDelete => sessions::lifecycle::delete(ctx, call),
        Method::SessionsCleanup => sessions::cleanup::cleanup(ctx, call),
        Method::ExecApprovalRequest => approvals::exec_request(call),
        Method::ExecApprovalGet => approvals::exec_get(ctx, call),
        Method::ExecApprovalList => approvals::list(ctx, call, Kind::Exec),
        Method::ExecApprovalResolve => approvals::exec_resolve(call),
        Method::ExecApprovalWaitDecision => approvals::wait(call, Kind::Exec),
        Method::ExecApprovalGrantsList => approvals::grants(call),
        Method::ExecApprovalGrantsRevoke => approvals::revoke(call),
        Method::ExecApprovalsGet => approvals::policy_get(ctx, call),
        Method::ExecApprovalsSet => approvals::policy_set(ctx, call),
        Method::ApprovalGet => approvals::get(ctx, call),
        Method::ApprovalResolve => approvals::resolve(call),
        Method::ApprovalHistory => approvals::history(ctx, call),
        Method::PluginApprovalRequest => approvals::plugin_request(call),
        Method::PluginApprovalList => approvals::list(ctx, call, Kind::Plugin),
        Method::PluginApprovalResolve => approvals::plugin_resolve(call),
        Method::PluginApprovalWaitDecision => approvals::wait(call, Kind::Plugin),
        Method::QuestionRequest => approvals::question_request(call),
        Method::QuestionGet => approvals::question_get(ctx, call),
        Method::QuestionList => approvals::question_list(ctx, call),
        Method::QuestionResolve => approvals::question_resolve(call),
        Method::QuestionWaitAnswer => approvals::question_wait(call),
        Method::NodeList => nodes::list(call),
        Method::NodeDescribe => nodes::describe(call),
        Method::NodeRename => nodes::rename(call),
        Method::NodeInvoke => nodes::invoke(call),
        Method::NodeInvokeResult => nodes::result(call),
        Method::NodeInvokeProgress => nodes::progress(call),
        Method::NodeEvent => nodes::event(call),
        Method::NodePairList => nodes::pairings(call),
        Method::NodePairApprove => nodes::approve(call),
        Method::NodePairReject => nodes::reject(call),
        Method::NodePairRemove => nodes::remove(call),
        Method::NodePendingEnqueue => nodes::enqueue(call),
        Method::NodePendingDrain => nodes::drain(call),
        Method::NodePendingPull => nodes::pull(call),
        Method::NodePendingAck => nodes::ack(call),
        Method::NodePluginSurfaceRefresh | Method::PluginSurfaceRefresh => nodes::surface(call),
        Method::NodePluginToolsUpdate => nodes::tools(call),
        Method::NodeSkillsUpdate => nodes::skills(call),
        Method::NodeRunnerInventoryUpdate => nodes::inventory(call),
        Method::ExecApprovalsNodeGet => nodes::policy_get(call),
        Method::ExecApprovalsNodeSet => nodes::policy_set(call),
        Method::EnvironmentsList => nodes::environments(call),
        Method::EnvironmentsStatus => nodes::environment(call),
        Method::VoicewakeGet => nodes::triggers(call),
        Method::VoicewakeSet => nodes::set_triggers(call),
        Method::VoicewakeRoutingGet => nodes::trigger_routing(call),
        Method::ConfigGet => config::get(call),
        Method::ConfigSchema => config::schema(call),
        Method::ConfigSchemaLookup => config::lookup(call),
        Method::ConfigSet => config::set(call),
        Method::ConfigApply => config::apply(call),
        Method::ConfigPatch => config::patch(call),
        Method::SecretsReload => secrets::reload(call),
        Method::SecretsResolve => secrets::resolve(call),
        Method::SecretsStoreList => secrets::list(ctx, call),
        Method::SecretsStoreSet => secrets::set(ctx, call),
        Method::SecretsStoreDelete => secrets::delete(ctx, call),
        Method::ConfigOpenFile => config::open_file(ctx, call),
        Method::TerminalOpen => terminals::open(ctx, call),
        Method::TerminalInput => terminals::input(call),
        Method::TerminalResize => terminals::resize(call),
        Method::TerminalClose => terminals::close(call),
        Method::TerminalList => terminals::list(call),
        Method::TerminalAttach => terminals::attach(call),
        Method::LogsTail => core::logs_tail(call),
        Method::DiagnosticsLanes => diagnostics::lanes(call),
        Method::DiagnosticsStability => diagnostics::stability(call),
        Method::GatewayRestartPreflight => lifecycle::preflight(ctx, call),
        Method::GatewayRestartRequest => lifecycle::request(ctx, call),
        Method::GatewaySuspendPrepare => lifecycle::prepare(ctx, call),
        Method::GatewaySuspendStatus => lifecycle::status(ctx, call),
        Method::GatewaySuspendResume => lifecycle::resume(call),
        Method::DevicePairList => devices::list(call),
        Method::DevicePairApprove => devices::approve(call),
        Method::DevicePairReject => devices::reject(call),
        Method::DevicePairRemove => devices::remove(call),
        Method::DevicePairRename => devices::rename(call),
        Method::DevicePairSetupCode => devices::setup_code(ctx, call),
        Method::DevicePairSetupStatus => devices::setup_status(call),
        Method::DeviceTokenRotate => devices::rotate(call),
        Method::DeviceTokenRevoke => devices::revoke(call),
        Method::DeviceScopesRequestUpgrade => devices::request_upgrade(call),
        Method::DeviceScopesWaitUpgrade => devices::wait_upgrade(call),
        Method::UsageCost => sessions::cost(ctx, call),
        Method::UsageStatus => sessions::usage_status(call),
        Method::ChannelsStatus => channels::status(ctx, call),
        Method::ChannelsStart => channels::start(call),
        Method::ChannelsStop => channels::stop(call),
        Method::ChannelsLogout => channels::logout::logout(ctx, call),
        Method::ChannelsPairingList => channels::pairing_list(ctx, call),
        Method::ChannelsPairingApprove => channels::pairing_approve(ctx, call),
        Method::ChannelsPairingDismiss => channels::pairing_dismiss(ctx, call),
        Method::ChannelsPresence => channels::presence(call),
        Method::WebLoginStart => channels::login::start(ctx, call),
        Method::WebLoginWait => channels::login::wait(ctx, call),
        Method::Send => channels::send(ctx, call),
        Method::Poll => channels::acts::poll(ctx, call),
        Method::MessageAction => channels::acts::action(ctx, call),
        Method::ConversationsList => channels::conversations::list(ctx, call),
        Method::ConversationsSend => channels::conversations::send(ctx, call),
        Method::UsersSelf => users::own(ctx, call),
        Method::UsersList => users::list(ctx, call),
        Method::UpdateStatus => users::update_status(call),
        Method::AuditList => audit::list(ctx, call),
        Method::AuditActivityList => audit::activity(ctx, call),
        Method::AuditVerify => audit::verify(ctx, call),
        Method::SystemStore => audit::database(ctx, call),
        Method::TasksList => tasks::list(ctx, call),
        Method::TasksGet => tasks::get(ctx, call),
        Method::TasksCancel => tasks::cancel(ctx, call),
        Method::SystemBackup => backup::copy(ctx, call),
        Method::SessionsFork => sessions::branches::fork(ctx, call),
        Method::SessionsRewind => sessions::branches::rewind(ctx, call),
        Method::SessionsBranchesList => sessions::branches::list(ctx, call),
        Method::SessionsBranchesSwitch => sessions::branches::switch(ctx, call),
        Method::SessionsCompact => sessions::compact::answer(ctx, call),
        Method::SessionsViewersSet => sessions::company::viewers(call),
        Method::SessionsObserverVisibility => sessions::company::visibility(call),
        Method::SessionTyping => sessions::company::typing(ctx, call),
        Method::ChatInject => sessions::inject::answer(ctx, call),
        Method::Empty(empty) => empty::answer(empty, call),
    }
}

/// A question the store could not answer.
pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    let refusal = Refusal::failed(format!("the store could not be read: {error}"));
    if error.is_retryable() { refusal.with_retry(1000) } else { refusal }
}
