//! People that somebody who is believed names, and whether there is a newer version.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::record;

/// The profile of whoever holds the gateway's secret.
pub const OWNER: &str = "gateway-owner";

record! {
    /// A person.
    pub struct Profile {
        /// Its id.
        id: String,
        /// Its name.
        display_name: Option<String>,
        /// The type of its picture; there are none.
        avatar_mime: Option<String>,
        /// The profile it was made a part of; none ever is.
        merged_into: Option<String>,
        /// When it was seen first, ms.
        created_at: i64,
        /// When it changed, ms.
        updated_at: i64,
        /// Its addresses.
        emails: Vec<String>,
        /// Who it is at GitHub; nobody says so.
        github_identity: Option<Value>,
        /// Whether it has a picture.
        has_avatar: bool,
    }
}

record! {
    /// Result of `users.self`.
    pub struct SelfResult {
        /// Whoever asks.
        profile: Profile,
    }
}

record! {
    /// Result of `users.list`.
    pub struct ListResult {
        /// Everybody who was seen, in that order.
        profiles: Vec<Profile>,
    }
}

/// Parameters of `update.status`.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateStatusParams {
    /// Asks to look anew (accepted: there is nothing that looks).
    pub refresh_checkout: Option<bool>,
}

record! {
    /// How this program was installed.
    pub struct UpdateInstall {
        /// `unknown`: whoever put it there did not say.
        kind: String,
    }
}

record! {
    /// When it updates itself.
    pub struct UpdateSchedule {
        /// Of which versions.
        channel: String,
        /// Whether it does: never.
        auto_enabled: bool,
        /// How it was installed.
        install: UpdateInstall,
    }
}

record! {
    /// Result of `update.status`.
    pub struct UpdateStatus {
        /// What is left to do after an update: nothing.
        sentinel: Value,
        /// A newer version; nobody looks for one.
        update_available: Value,
        /// Of which versions it is one.
        effective_channel: String,
        /// When it updates itself.
        schedule: UpdateSchedule,
    }
}
