//! Making, changing and removing agents, and their files.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::params::record;
use crate::value::{Maybe, Text};

/// Parameters of `agents.create`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateParams {
    /// Its name, from which its id is made.
    pub name: Text,
    /// The directory it works in; its own by default.
    pub workspace: Option<Text>,
    /// Its model, `provider/model`.
    pub model: Option<Text>,
    /// Its emoji.
    pub emoji: Option<String>,
    /// Its picture.
    pub avatar: Option<String>,
}

record! {
    /// Result of `agents.create`.
    pub struct Created {
        /// True.
        ok: bool,
        /// Its id.
        agent_id: String,
        /// Its name.
        name: String,
        /// The directory it works in.
        workspace: String,
        ; optional
        /// Its model.
        model: String,
    }
}

/// Parameters of `agents.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateParams {
    /// The agent.
    pub agent_id: Text,
    /// Its new name.
    pub name: Option<Text>,
    /// The directory it works in from now on.
    pub workspace: Option<Text>,
    /// Its new model; `null` for the default one.
    #[serde(default)]
    pub model: Maybe<Text>,
    /// Its new emoji.
    pub emoji: Option<String>,
    /// Its new picture.
    pub avatar: Option<String>,
}

record! {
    /// Result of `agents.update`.
    pub struct Updated {
        /// True.
        ok: bool,
        /// The agent.
        agent_id: String,
    }
}

/// Parameters of `agents.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteParams {
    /// The agent.
    pub agent_id: Text,
    /// Whether its workspace goes, too; it stays when absent.
    pub delete_files: Option<bool>,
}

record! {
    /// A path that was removed.
    pub struct RemovedPath {
        /// Which.
        path: String,
        /// How: `trash`, or `missing` if there was nothing.
        method: String,
    }
}

record! {
    /// A path that could not be removed.
    pub struct FailedPath {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    }
}

record! {
    /// Result of `agents.delete`.
    pub struct Deleted {
        /// True.
        ok: bool,
        /// The agent.
        agent_id: String,
        /// How many of `bindings` went with it.
        removed_bindings: u64,
        /// What was removed.
        removed: Vec<RemovedPath>,
        /// What could not be removed.
        failed: Vec<FailedPath>,
    }
}

/// Parameters of `agents.files.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesListParams {
    /// The agent.
    pub agent_id: Text,
}

/// Parameters of `agents.files.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesGetParams {
    /// The agent.
    pub agent_id: Text,
    /// The file.
    pub name: Text,
}

/// Parameters of `agents.files.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesSetParams {
    /// The agent.
    pub agent_id: Text,
    /// The file.
    pub name: Text,
    /// What it shall hold.
    pub content: String,
    /// SHA-256 in hex of what it holds now; with anything else in it, nothing is written.
    pub expected_hash: Option<Text>,
}

record! {
    /// A file of an agent's workspace.
    pub struct AgentFile {
        /// Its name.
        name: String,
        /// Where it is.
        path: String,
        /// Whether there is no such file.
        missing: bool,
        ; optional
        /// Whether that is as it should be.
        expected_absent: bool,
        /// Its size in bytes.
        size: u64,
        /// When it changed, in milliseconds since the epoch.
        updated_at_ms: u64,
        /// SHA-256 of its content, in hex.
        hash: String,
        /// Its content.
        content: String,
    }
}

record! {
    /// Result of `agents.files.list`.
    pub struct FilesList {
        /// The agent.
        agent_id: String,
        /// The directory it works in.
        workspace: String,
        /// The files.
        files: Vec<AgentFile>,
    }
}

record! {
    /// Result of `agents.files.get` and, with `ok`, of `agents.files.set`.
    pub struct OneFile {
        /// The agent.
        agent_id: String,
        /// The directory it works in.
        workspace: String,
        /// The file.
        file: AgentFile,
        ; optional
        /// True once it is written.
        ok: bool,
    }
}
