//! The configuration as the tree sees it. Key names are OpenClaw's own, so that an existing file reads as it is; a
//! key nobody reads is kept in the document and reported, never refused.

mod access;
mod acp;
mod agents;
mod alerts;
mod approvals;
mod audit;
mod bots;
mod channels;
mod control_ui;
mod cron;
mod document;
mod heartbeat;
mod hooks;
mod http;
mod logging;
mod mcp;
mod messages;
mod models;
mod money;
mod origin;
mod plugins;
mod queue;
mod reach;
mod schema;
mod secret;
mod secrets;
mod session;
mod skills;
mod streaming;
mod terminal;
mod thinking;
mod tools;

pub use access::{
    Addresses, DeviceAutoApprove, NodeCommandSettings, NodePairingSettings, NodeToolSettings, NodesSettings,
    RateLimitSettings, RemoteSettings, TrustedProxySettings,
};
pub use acp::{AcpAgent, AcpSettings};
pub(crate) use agents::expanded;
pub use agents::{AgentDefaults, AgentEntry, AgentIdentity, AgentsSettings, ModelChoice};
pub use alerts::{AlertEvent, AlertTarget, AlertsSettings};
pub use approvals::{
    ApprovalFilter, ApprovalTarget, ApprovalsSettings, CommandsSettings, ExecApprovals, Forwarding,
    ForwardingMode, ForwardingTarget,
};
pub use audit::AuditSettings;
pub use bots::{AllowBots, BotLoopProtection, LoopLimits};
pub(crate) use channels::is_reference;
pub use channels::{
    Binding, BindingMatch, BindingPeer, BroadcastSettings, ChannelSettings, ChannelsSettings,
    DEFAULT_ACCOUNT, DmPolicy, GroupEntry, GroupPolicy, GuildEntry, Ids, OnUncertain, ReactionNotifications,
};
pub use control_ui::{BasePath, ControlUiSettings, EmbedSandbox, Environment, EnvironmentColor};
pub use cron::{CronSettings, FailureAlert, Retention, duration_ms};
pub(crate) use document::is_secret_key;
pub use document::{Invalid, Loaded, REDACTED, config_hash, redacted, section_hash, unknown_keys};
pub use heartbeat::{ActiveHours, HeartbeatSettings};
pub use hooks::{
    GmailHook, HookAction, HookMapping, HookMatch, HookSessionMode, HookWake, HooksPath, HooksSettings,
};
pub use http::{HttpEndpoint, HttpEndpoints, HttpSettings, SecurityHeader, SecurityHeaders};
pub use logging::{ConsoleStyle, LogLevel, LoggingSettings};
pub use mcp::{McpServerSettings, McpSettings, McpTarget, McpTransport, ToolFilter};
pub use messages::{DropPolicy, MAX_CAP, MAX_DEBOUNCE_MS, MessagesSettings, QueueModeSetting, QueueSection};
pub use models::{Api, Compat, KNOWN, ModelEntry, ModelsSettings, ProviderSettings};
pub use money::{Prices, Usd};
pub use origin::{IncludeSite, IncludedFile, Issue, OlderKey, Origin};
pub use plugins::{
    CanvasConfig, CanvasEntry, CanvasHostSettings, DevicePairConfig, DevicePairEntry, Discovery,
    OllamaConfig, OllamaEntry, PluginEntries, PluginsSettings,
};
pub use queue::{QueueOverrides, QueueSettings};
pub use reach::{
    DiscoverySettings, MdnsMode, MdnsSettings, TailscaleMode, TailscaleSettings, TlsFiles, TlsSettings,
};
pub use schema::{lookup, schema, ui_hints};
use schemars::JsonSchema;
pub use secret::{AuthSecret, HELD, Held, SEALED, Secret, SecretError, SecretInput, SecretRef, SecretSource};
pub use secrets::{ExecProvider, FileMode, FileProvider, SecretDefaults, SecretProvider, SecretsSettings};
use serde::{Deserialize, Serialize};
pub use session::{DmScope, GroupScope, ResetByType, ResetMode, ResetSettings, SessionSettings};
pub use skills::{SkillEntry, SkillsLoad, SkillsSettings};
pub use streaming::Streaming;
pub use terminal::TerminalSettings;
pub use thinking::Thinking;
pub use tools::{
    ExecAsk, ExecHost, ExecSandbox, ExecSecurity, ExecSettings, InvokeSettings, LimitedTools, SsrfPolicy,
    ToolProfile, ToolsSettings, WebFetchSettings, WebSettings,
};

/// The settings this version reads. Everything has a default.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// The listener and who may use it.
    pub gateway: GatewaySettings,
    /// The agents and what they share.
    pub agents: AgentsSettings,
    /// What agents can think with.
    pub models: ModelsSettings,
    /// What OpenClaw does by plugins.
    pub plugins: PluginsSettings,
    /// Agents of others that think for ours.
    pub acp: AcpSettings,
    /// What agents may use.
    pub tools: ToolsSettings,
    /// Whose tools agents may use beside the gateway's own.
    pub mcp: McpSettings,
    /// Which skills agents may use.
    pub skills: SkillsSettings,
    /// Where people write.
    pub channels: ChannelsSettings,
    /// Where it is told, too, what is to be decided.
    pub approvals: ApprovalsSettings,
    /// Who may give commands.
    pub commands: CommandsSettings,
    /// Which agent answers what.
    pub bindings: Vec<Binding>,
    /// Chats that several agents answer.
    pub broadcast: BroadcastSettings,
    /// How conversations become sessions.
    pub session: SessionSettings,
    /// How messages are taken in.
    pub messages: MessagesSettings,
    /// Jobs with a schedule.
    pub cron: CronSettings,
    /// What programs elsewhere may tell agents.
    pub hooks: HooksSettings,
    /// Where secrets are kept.
    pub secrets: SecretsSettings,
    /// The database.
    pub store: StoreSettings,
    /// The log.
    pub logging: LoggingSettings,
    /// Who is told when something of the gateway itself is wrong.
    pub alerts: AlertsSettings,
    /// Who may find the gateway.
    pub discovery: DiscoverySettings,
}

/// The keys that a running gateway does not take up, and what is below them.
const AT_START: [&str; 10] = [
    "gateway.port",
    "gateway.bind",
    "gateway.customBindHost",
    "gateway.tls",
    "gateway.tailscale",
    "discovery",
    "store",
    "logging.consoleStyle",
    "logging.file",
    "logging.maxFileBytes",
];

/// Whether a change at this place (with dots) waits for the next start; everything else is taken up at once.
pub fn needs_restart(path: &str) -> bool {
    AT_START
        .iter()
        .any(|key| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

impl Settings {
    /// The agents, the one that answers when nobody else is named first.
    pub fn agent_ids(&self) -> Vec<&str> {
        let (first, rest): (Vec<_>, Vec<_>) = self.agents.list.iter().partition(|agent| agent.default);
        let ids: Vec<_> = first.into_iter().chain(rest).map(|agent| agent.id.as_str()).collect();
        if ids.is_empty() { vec!["main"] } else { ids }
    }

    /// How an agent looks after things on its own; none, if it does not. If some agents say how they do, only those do.
    pub fn heartbeat(&self, id: &str) -> Option<HeartbeatSettings> {
        let defaults = &self.agents.defaults.heartbeat;
        let own = self.agents.entry(id).and_then(|entry| entry.heartbeat.as_ref());
        match own {
            Some(own) => Some(own.or(defaults)),
            None if self.agents.list.iter().any(|entry| entry.heartbeat.is_some()) => None,
            None => (id == self.default_agent_id()).then(|| defaults.clone()),
        }
    }

    /// The agent that answers when nobody else is named.
    pub fn default_agent_id(&self) -> &str {
        self.agent_ids()[0]
    }
}

/// `gateway`: the listener and who may use it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewaySettings {
    /// TCP port for WebSocket and HTTP; 0 takes any free one.
    pub port: u16,
    /// Which addresses to listen on.
    pub bind: Bind,
    /// The address when `bind` is `custom`.
    pub custom_bind_host: Option<String>,
    /// OpenClaw's `local` or `remote`; a gateway is always local to itself.
    pub mode: Option<String>,
    /// The shared secret.
    pub auth: AuthSettings,
    /// Fault injection.
    pub chaos: ChaosSettings,
    /// How long a socket may take to authenticate.
    pub handshake_timeout_ms: u64,
    /// How often a socket is pinged; one that left a ping unanswered is dropped.
    pub ping_interval_ms: u64,
    /// Sockets of one address that may be open without having authenticated.
    pub max_preauth_connections_per_ip: usize,
    /// The Control UI in a browser.
    pub control_ui: ControlUiSettings,
    /// Nodes and their pairing.
    pub nodes: NodesSettings,
    /// Proxies that are believed when they say whom a request is from.
    pub trusted_proxies: Addresses,
    /// Whether they may say so in `X-Real-IP`, if there is no `X-Forwarded-For`.
    pub allow_real_ip_fallback: bool,
    /// Where others reach this gateway, as far as it says.
    pub remote: RemoteSettings,
    /// What `tools.invoke` may call.
    pub tools: InvokeSettings,
    /// APIs of others.
    pub http: HttpSettings,
    /// Shells of operators.
    pub terminal: TerminalSettings,
    /// TLS on the gateway's own port.
    pub tls: TlsSettings,
    /// Tailscale on this machine brings clients here.
    pub tailscale: TailscaleSettings,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            port: 18789,
            bind: Bind::default(),
            custom_bind_host: None,
            mode: None,
            auth: AuthSettings::default(),
            chaos: ChaosSettings::default(),
            handshake_timeout_ms: crabtree_protocol::frame::HANDSHAKE_TIMEOUT_MS,
            ping_interval_ms: crabtree_protocol::frame::PING_INTERVAL_MS,
            max_preauth_connections_per_ip: 32,
            control_ui: ControlUiSettings::default(),
            nodes: NodesSettings::default(),
            trusted_proxies: Addresses::default(),
            allow_real_ip_fallback: false,
            remote: RemoteSettings::default(),
            tools: InvokeSettings::default(),
            http: HttpSettings::default(),
            terminal: TerminalSettings::default(),
            tls: TlsSettings::default(),
            tailscale: TailscaleSettings::default(),
        }
    }
}

/// Which addresses the gateway listens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    /// This machine only.
    #[default]
    Loopback,
    /// Every interface.
    Lan,
    /// Every interface in a container, which nobody could reach otherwise; this machine only elsewhere.
    Auto,
    /// This machine, and the address that Tailscale has given it.
    Tailnet,
    /// The address in `customBindHost`, and this machine.
    Custom,
}

/// `gateway.auth`: the shared secret.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthSettings {
    /// What clients present; see [`AuthSettings::effective_mode`] for the default.
    pub mode: Option<AuthMode>,
    /// The token; without one the gateway makes its own on first start.
    pub token: Option<SecretInput>,
    /// The password.
    pub password: Option<SecretInput>,
    /// Who authenticates people, when the mode is `trusted-proxy`.
    pub trusted_proxy: TrustedProxySettings,
    /// Whether people are believed to be who Tailscale says, when `tailscale serve` on this machine forwards them. Any
    /// program here can pass for it, though not for somebody who is not on the tailnet.
    pub allow_tailscale: bool,
    /// What follows failures.
    pub rate_limit: RateLimitSettings,
}

/// What clients present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// A bearer token.
    Token,
    /// A password.
    Password,
    /// What a proxy says of them.
    #[serde(rename = "trusted-proxy")]
    TrustedProxy,
    /// Nothing.
    None,
}

impl AuthSettings {
    /// The mode in force: the one written down, a password when only that is given, else a token.
    pub fn effective_mode(&self) -> AuthMode {
        match (self.mode, &self.token, &self.password) {
            (Some(mode), ..) => mode,
            (None, None, Some(_)) => AuthMode::Password,
            (None, ..) => AuthMode::Token,
        }
    }
}

/// `gateway.chaos`: fault injection through `system.chaos`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChaosSettings {
    /// Off unless a test or a demonstration asks for it.
    pub enabled: bool,
}

/// `store`: the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StoreSettings {
    /// What an acknowledged write survives.
    pub sync: StoreSync,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreSync {
    /// A loss of power.
    #[default]
    Full,
    /// The death of the process; kinder to SD cards.
    Normal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_is_the_default() {
        let read: Settings = serde_json::from_str("{}").expect("everything has a default");
        assert!(read == Settings::default());
        assert_eq!((read.gateway.port, read.session.main_key.as_str()), (18789, "main"));
        assert_eq!(read.agents.defaults.model.primary, "crabtree/offline");
    }

    #[test]
    fn the_authentication_mode_follows_what_is_given() {
        let mode =
            |json: &str| serde_json::from_str::<AuthSettings>(json).expect("auth settings").effective_mode();
        assert_eq!(mode("{}"), AuthMode::Token);
        assert_eq!(mode(r#"{"password": "p"}"#), AuthMode::Password);
        assert_eq!(mode(r#"{"password": "p", "token": "t"}"#), AuthMode::Token);
        assert_eq!(mode(r#"{"mode": "none", "token": "t"}"#), AuthMode::None);
    }

    #[test]
    fn the_default_agent_comes_first() {
        let mut settings = Settings::default();
        assert_eq!((settings.agent_ids(), settings.default_agent_id()), (vec!["main"], "main"));
        let agent = |id: &str, default| AgentEntry { id: id.into(), default, ..Default::default() };
        settings.agents.list = vec![agent("a", false), agent("b", true)];
        assert_eq!((settings.agent_ids(), settings.default_agent_id()), (vec!["b", "a"], "b"));
    }
}
