//! Agents, models and commands.

use schemars::JsonSchema;
use serde::Deserialize;

use super::record;
use crate::value::{Text, string_enum};

pub mod providers;
pub mod roster;

/// Parameters of `agents.list`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentsListParams {}

record! {
    /// A value with a name for people.
    pub struct Labelled {
        /// The value.
        id: String,
        /// The name.
        label: String,
    }
}

record! {
    /// What runs an agent's turns.
    pub struct AgentRuntime {
        /// Which runtime; ours is `crabtree`.
        id: String,
        /// Whether sessions can move to the cloud.
        cloud_placement_supported: bool,
        /// Whether sessions can move to another device.
        device_placement_supported: bool,
        /// Why this runtime: `implicit` or `config`.
        source: String,
    }
}

record! {
    /// An agent's models.
    pub struct AgentModel {
        /// The first choice, `provider/model`.
        primary: String,
        ; optional
        /// The next ones.
        fallbacks: Vec<String>,
    }
}

record! {
    /// How an agent appears.
    #[derive(Default)]
    pub struct Identity {
        ; optional
        /// Its name.
        name: String,
        /// Its emoji.
        emoji: String,
        /// Its picture.
        avatar: String,
    }
}

record! {
    /// One agent.
    pub struct AgentRow {
        /// Its id.
        id: String,
        /// The directory it works in.
        workspace: String,
        /// Whether that is a git checkout.
        workspace_git: bool,
        /// What runs its turns.
        agent_runtime: AgentRuntime,
        /// How hard it may think, with names.
        thinking_levels: Vec<Labelled>,
        /// How hard it may think.
        thinking_options: Vec<String>,
        /// How hard it thinks unless told.
        thinking_default: String,
        ; optional
        /// Its name.
        name: String,
        /// How it appears.
        identity: Identity,
        /// Its models.
        model: AgentModel,
        /// What its tools may do unless told: `full`, `workspace`, `guarded` or `read-only`.
        default_permission_mode: String,
    }
}

record! {
    /// Result of `agents.list`.
    pub struct AgentsList {
        /// The agent that gets what names none.
        default_id: String,
        /// `sole` with one agent, `explicit` with several.
        ownership: String,
        /// Whether a client has to choose.
        selection_required: bool,
        /// The rest of a main session's key.
        main_key: String,
        /// `per-sender` or `global`.
        scope: String,
        /// The agents.
        agents: Vec<AgentRow>,
    }
}

/// Parameters of `agent.identity.get`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentIdentityParams {
    /// The agent.
    pub agent_id: Option<Text>,
    /// A session of the agent.
    pub session_key: Option<String>,
}

record! {
    /// Result of `agent.identity.get`.
    pub struct AgentIdentity {
        /// The agent.
        agent_id: String,
        /// Its name.
        name: String,
        /// Where the name comes from: `default` or `config`.
        name_source: String,
        /// Its picture or a letter.
        avatar: String,
        ; optional
        /// Its emoji.
        emoji: String,
    }
}

string_enum! {
    /// Which models to list.
    any_of pub enum ModelsView {
        /// What a person may choose from.
        Default = "default",
        /// What the configuration names.
        Configured = "configured",
        /// What the configuration names, with the providers' own facts.
        ProviderConfig = "provider-config",
        /// Everything.
        All = "all",
    }
}

/// Parameters of `models.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelsListParams {
    /// For this agent.
    pub agent_id: Option<Text>,
    /// For this session.
    pub session_key: Option<Text>,
    /// Which models.
    pub view: Option<ModelsView>,
    /// Whether to say what each provider can do.
    pub include_provider_capabilities: Option<bool>,
    /// Whether to include details.
    pub include_details: Option<bool>,
    /// Only what is known already.
    pub prepared_only: Option<bool>,
    /// Ask the providers again.
    pub refresh: Option<bool>,
}

record! {
    /// One model.
    pub struct ModelRow {
        /// Its id within the provider.
        id: String,
        /// Its name.
        name: String,
        /// Its provider.
        provider: String,
        ; optional
        /// Tokens it can look at.
        context_window: u64,
        /// Whether it thinks.
        reasoning: bool,
        /// What it takes: `text`, `image`.
        input: Vec<String>,
        /// `default` and others.
        tags: Vec<String>,
        /// How hard it may think.
        thinking_levels: Vec<Labelled>,
        /// How hard it thinks unless told.
        thinking_default: String,
        /// Whether it can be used now.
        available: bool,
        /// Whether it can call tools.
        supports_tools: bool,
        /// Whether it runs inside the gateway (ours).
        local: bool,
    }
}

record! {
    /// Result of `models.list`.
    pub struct ModelsList {
        /// The models.
        models: Vec<ModelRow>,
        ; optional
        /// Which account pays.
        account_selection: AccountSelection,
    }
}

string_enum! {
    /// Where a command can be given.
    any_of pub enum CommandScope {
        /// As text.
        Text = "text",
        /// In a channel's own menu.
        Native = "native",
        /// Both.
        Both = "both",
    }
}

/// Parameters of `commands.list`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandsListParams {
    /// For this session.
    pub session_key: Option<Text>,
    /// For this agent.
    pub agent_id: Option<Text>,
    /// For this channel.
    pub provider: Option<Text>,
    /// Where the commands can be given.
    pub scope: Option<CommandScope>,
    /// Whether to describe their arguments; true when absent.
    pub include_args: Option<bool>,
}

record! {
    /// One argument of a command.
    pub struct CommandArg {
        /// Its name.
        name: String,
        /// What it means.
        description: String,
        /// `string`, `number` or `boolean`.
        #[serde(rename = "type")]
        kind: String,
        ; optional
        /// Whether it must be given.
        required: bool,
        /// What may be given.
        choices: Vec<CommandChoice>,
    }
}

record! {
    /// A value of an argument.
    pub struct CommandChoice {
        /// The value.
        value: String,
        /// Its name.
        label: String,
    }
}

record! {
    /// One command.
    pub struct CommandRow {
        /// Its name.
        name: String,
        /// How it is written.
        text_aliases: Vec<String>,
        /// What it does.
        description: String,
        /// Where it comes from: `native`, `skill` or `plugin`.
        source: String,
        /// Where it can be given.
        scope: CommandScope,
        /// Whether it takes arguments.
        accepts_args: bool,
        ; optional
        /// Under which heading it stands.
        category: String,
        /// Its name in a channel's own menu.
        native_name: String,
        /// Its arguments.
        args: Vec<CommandArg>,
    }
}

record! {
    /// Result of `commands.list`.
    pub struct CommandsList {
        /// The commands.
        commands: Vec<CommandRow>,
    }
}

record! {
    /// Which account pays.
    pub struct AccountSelection {
        /// `automatic`.
        kind: String,
        /// Its name.
        label: String,
    }
}
