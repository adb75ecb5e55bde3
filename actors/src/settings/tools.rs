//! `tools`: what agents may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `tools`: what agents may use. A tool is named by its name, its group (`group:fs`) or `*`; `deny` wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ToolsSettings {
    /// What there is to begin with.
    pub profile: ToolProfile,
    /// Only these of it, if any are named.
    pub allow: Vec<String>,
    /// These besides.
    pub also_allow: Vec<String>,
    /// None of these.
    pub deny: Vec<String>,
    /// The most that a turn may use which answers somebody on a channel who does not own the assistant.
    pub strangers: LimitedTools,
    /// The most that a turn may use which answers a webhook.
    pub hooks: LimitedTools,
    /// How commands are run.
    pub exec: ExecSettings,
    /// How the web is read.
    pub web: WebSettings,
}

/// `gateway.tools`: what `tools.invoke` and `POST /tools/invoke` may call beside or instead of what they may call
/// anyway, by name or group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InvokeSettings {
    /// These, too.
    pub allow: Vec<String>,
    /// None of these.
    pub deny: Vec<String>,
}

/// `tools.strangers`, `tools.hooks`: tools for those who do not own the assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitedTools {
    /// The selection.
    pub profile: ToolProfile,
}

impl Default for LimitedTools {
    fn default() -> Self {
        Self { profile: ToolProfile::Minimal }
    }
}

/// A selection of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolProfile {
    /// Next to nothing.
    Minimal,
    /// Files, commands, the web, memory and sessions.
    Coding,
    /// Messages and sessions.
    Messaging,
    /// Everything.
    #[default]
    Full,
}

/// `tools.exec`: how commands are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecSettings {
    /// Which commands may run at all.
    pub security: ExecSecurity,
    /// When a person is asked.
    pub ask: ExecAsk,
    /// How long a command may take, unless a call says otherwise.
    pub timeout_seconds: u64,
    /// Runs commands in a container of their own.
    pub sandbox: ExecSandbox,
    /// On which machine they run.
    pub host: ExecHost,
    /// At which node, by its id, its name or its address, if it is a node; the only one that can by default.
    pub node: Option<String>,
}

impl Default for ExecSettings {
    fn default() -> Self {
        Self {
            security: ExecSecurity::default(),
            ask: ExecAsk::default(),
            timeout_seconds: 1_800,
            sandbox: ExecSandbox::default(),
            host: ExecHost::default(),
            node: None,
        }
    }
}

/// On which machine commands run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecHost {
    /// On the gateway's, unless a call names another one.
    #[default]
    Auto,
    /// On the gateway's, in the sandbox and not without.
    Sandbox,
    /// On the gateway's.
    Gateway,
    /// At a node.
    Node,
}

/// Which commands may run at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecSecurity {
    /// None.
    Deny,
    /// Those of the allowlist, and those a person agrees to.
    Allowlist,
    /// All.
    #[default]
    Full,
}

/// When a person is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecAsk {
    /// Never.
    #[default]
    Off,
    /// When the allowlist has no entry for it.
    OnMiss,
    /// Always.
    Always,
}

/// What keeps a command from the rest of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecSandbox {
    /// Nothing: it may do what the gateway's user may.
    #[default]
    Off,
    /// bubblewrap: the workspace can be written, the rest of the machine only read, and there is no network.
    Bwrap,
}

/// `tools.web`: how the web is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WebSettings {
    /// `tools.web.fetch`.
    pub fetch: WebFetchSettings,
}

/// `tools.web.fetch`: how pages are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WebFetchSettings {
    /// Whether they are.
    pub enabled: bool,
    /// How much text of a page is given, characters.
    pub max_chars: usize,
    /// How long a page may take.
    pub timeout_seconds: u64,
    /// How often a page may point to another.
    pub max_redirects: usize,
    /// Which hosts may be asked beside those of the public internet.
    pub ssrf_policy: SsrfPolicy,
}

impl Default for WebFetchSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_chars: 50_000,
            timeout_seconds: 30,
            max_redirects: 3,
            ssrf_policy: SsrfPolicy::default(),
        }
    }
}

/// `tools.web.fetch.ssrfPolicy`: what a page, or whoever writes to an agent, can make the gateway connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SsrfPolicy {
    /// Any host of any network, this machine among them.
    pub dangerously_allow_private_network: bool,
    /// These hosts wherever they are: names or addresses, exactly as in the URL.
    pub allowed_hostnames: Vec<String>,
}
