//! Groups of sessions: their names, their order, and where their sessions start.

use schemars::JsonSchema;
use serde::Deserialize;

use super::record;
use crate::value::{Maybe, Text};

/// A group's name.
pub type GroupName = Text<512>;

/// Parameters of `sessions.groups.put`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutParams {
    /// All groups there are to be, in their order.
    pub names: Vec<GroupName>,
    /// The order of the sidebar's sections.
    pub section_order: Option<Vec<GroupName>>,
}

/// Parameters of `sessions.groups.rename`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameParams {
    /// The group.
    pub name: GroupName,
    /// Its name from now on.
    pub to: GroupName,
}

/// Parameters of `sessions.groups.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteParams {
    /// The group.
    pub name: GroupName,
}

/// Parameters of `sessions.groups.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateParams {
    /// The group.
    pub name: GroupName,
    /// The directory its sessions start in; null for the agent's.
    #[serde(deserialize_with = "Maybe::deserialize")]
    pub cwd: Maybe<Text>,
    /// Whether its sessions get worktrees of their own.
    pub worktree: bool,
}

record! {
    /// Result of `sessions.groups.list`.
    pub struct Groups {
        /// The groups, in their order.
        groups: Vec<Group>,
        /// The order of the sidebar's sections.
        section_order: Vec<String>,
    }
}

record! {
    /// A group.
    pub struct Group {
        /// Its name.
        name: String,
        /// Its place, from 0.
        position: u64,
    }
}

record! {
    /// Result of `sessions.groups.put`, `.rename` and `.delete`.
    pub struct GroupsChanged {
        /// Always true.
        ok: bool,
        /// The groups, in their order.
        groups: Vec<Group>,
        /// The order of the sidebar's sections.
        section_order: Vec<String>,
        ; optional
        /// Sessions that were moved; of `rename` and `delete`.
        updated_sessions: u64,
    }
}

record! {
    /// Result of `sessions.groups.defaults`.
    pub struct Defaults {
        /// Where sessions start, by group.
        defaults: Vec<GroupDefaults>,
    }
}

record! {
    /// Where sessions of a group start.
    pub struct GroupDefaults {
        /// The group.
        name: String,
        ; optional
        /// The directory.
        cwd: String,
        /// Whether they get worktrees of their own.
        worktree: bool,
    }
}

record! {
    /// Result of `sessions.groups.update`.
    pub struct DefaultsChanged {
        /// Always true.
        ok: bool,
        /// Where sessions start, by group.
        defaults: Vec<GroupDefaults>,
    }
}
