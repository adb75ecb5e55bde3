//! Parameters and results of the methods, and payloads of the events, by family.
//!
//! Parameters refuse unknown properties and enforce every limit while they are decoded; the types
//! of [`crate::value`] carry the limits. Results leave absent properties out.

pub mod actors;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod backup;
pub mod channel_acts;
pub mod channels;
pub mod chat;
pub mod config;
pub mod core;
pub mod cron;
pub mod devices;
pub mod diagnostics;
pub mod events;
pub mod history;
pub mod hooks;
pub mod lifecycle;
pub mod messages;
pub mod nodes;
pub mod questions;
pub mod runs;
pub mod secrets;
pub mod session_changes;
pub mod session_create;
pub mod session_entry;
pub mod session_groups;
pub mod session_lifecycle;
pub mod session_reads;
pub mod session_row;
pub mod session_usage;
pub mod sessions;
pub mod skills;
pub mod tasks;
pub mod terminals;
pub mod tools;
pub mod users;

/// An object the gateway sends: the plain properties are always there (an `Option` among them is
/// `null` when empty), those after `optional` are left out when they are `None`.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        $(; optional $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty,)*)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $($($(#[$optional_meta])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$optional_type>,)*)?
        }
    };
}
pub(crate) use record;

#[cfg(test)]
mod tests;
