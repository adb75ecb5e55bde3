//! `tools.*`: what agents can use.

use super::record;
use crate::value::{Text, string_enum};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

string_enum! {
    /// A selection of tools.
    any_of pub enum Profile {
        /// Next to nothing.
        Minimal = "minimal",
        /// What programming takes.
        Coding = "coding",
        /// What talking to people takes.
        Messaging = "messaging",
        /// Everything.
        Full = "full",
    }
}

string_enum! {
    /// Who a tool belongs to.
    any_of pub enum ToolSource {
        /// The gateway.
        Core = "core",
        /// An extension.
        Plugin = "plugin",
        /// A channel.
        Channel = "channel",
        /// An MCP server.
        Mcp = "mcp",
    }
}

/// Parameters of `tools.catalog`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogParams {
    /// For this agent.
    pub agent_id: Option<Text>,
    /// Whether those of extensions are listed.
    pub include_plugins: Option<bool>,
}

record! {
    /// Result of `tools.catalog`.
    pub struct Catalog {
        /// The agent.
        agent_id: String,
        /// The selections there are.
        profiles: Vec<ProfileRow>,
        /// The tools, by group.
        groups: Vec<CatalogGroup>,
    }
}

record! {
    /// A selection.
    pub struct ProfileRow {
        /// Its id.
        id: Profile,
        /// Its name.
        label: String,
    }
}

record! {
    /// Tools that belong together.
    pub struct CatalogGroup {
        /// Its id.
        id: String,
        /// Its name.
        label: String,
        /// Whose they are.
        source: ToolSource,
        /// The tools.
        tools: Vec<CatalogTool>,
        ; optional
        /// The extension; the server, for those of MCP servers.
        plugin_id: String,
    }
}

record! {
    /// A tool there is.
    pub struct CatalogTool {
        /// What models call it.
        id: String,
        /// What people call it.
        label: String,
        /// What it does.
        description: String,
        /// Whose it is.
        source: ToolSource,
        /// The selections it is part of.
        default_profiles: Vec<Profile>,
        ; optional
        /// The extension; the server, for those of MCP servers.
        plugin_id: String,
    }
}

/// Parameters of `tools.effective`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectiveParams {
    /// The session.
    pub session_key: Text,
    /// Whose it is, if the key does not say so.
    pub agent_id: Option<Text>,
}

record! {
    /// Result of `tools.effective`: what a session may use.
    pub struct Effective {
        /// The agent.
        agent_id: String,
        /// The selection it starts from.
        profile: String,
        /// The tools, by whose they are.
        groups: Vec<EffectiveGroup>,
    }
}

record! {
    /// Tools of one source.
    pub struct EffectiveGroup {
        /// Its id.
        id: ToolSource,
        /// Its name.
        label: String,
        /// Whose they are.
        source: ToolSource,
        /// The tools.
        tools: Vec<EffectiveTool>,
    }
}

record! {
    /// A tool that may be used.
    pub struct EffectiveTool {
        /// What models call it.
        id: String,
        /// What people call it.
        label: String,
        /// What it does, in short.
        description: String,
        /// What the model is told of it.
        raw_description: String,
        /// Whose it is.
        source: ToolSource,
        ; optional
        /// The MCP server.
        mcp_server: String,
        /// What that calls it.
        mcp_tool_name: String,
    }
}

/// Parameters of `tools.invoke`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvokeParams {
    /// The tool.
    pub name: Text,
    /// Its arguments.
    pub args: Option<Map<String, Value>>,
    /// The session it is done for; the main one if none is named.
    pub session_key: Option<Text>,
    /// Whose it is, if the key does not say so.
    pub agent_id: Option<Text>,
    /// Said by clients that have asked a person.
    pub confirm: Option<bool>,
    /// The same one again, within five minutes, is the same call.
    pub idempotency_key: Option<Text>,
    /// Where the wish to read a conversation comes from.
    pub conversation_read_origin: Option<ReadOrigin>,
}

string_enum! {
    /// Where the wish to read a conversation comes from.
    any_of pub enum ReadOrigin {
        /// An operator.
        DirectOperator = "direct-operator",
    }
}

record! {
    /// Result of `tools.invoke`.
    pub struct Invoked {
        /// Whether it worked.
        ok: bool,
        /// The tool.
        tool_name: String,
        ; optional
        /// What it came to: `content` and `details`.
        output: Value,
        /// Whose it is.
        source: ToolSource,
        /// What went wrong.
        error: InvokeError,
    }
}

record! {
    /// What went wrong.
    pub struct InvokeError {
        /// `not_found`, `invalid_request` or `tool_error`.
        code: String,
        /// In words.
        message: String,
    }
}
