//! The configuration: writing it, and what may stand in it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::record;
use crate::value::{Int, List, Text, shaped_text};

shaped_text! {
    /// A place in the configuration, with dots.
    pub struct ConfigPath = r"^[A-Za-z0-9_./\[\]\-*]+$" if |text| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./[]-*".contains(c))
    }
}

/// Parameters of `config.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetParams {
    /// The whole configuration, JSON5.
    pub raw: Text,
    /// The `hash` of the one it is made of.
    pub base_hash: Option<Text>,
}

/// Where news of a restart would go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryContext {
    /// The channel.
    pub channel: Option<String>,
    /// The chat there.
    pub to: Option<String>,
    /// The account there.
    pub account_id: Option<String>,
    /// The thread there, a text or a number.
    pub thread_id: Option<Value>,
}

/// Parameters of `config.apply`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyParams {
    /// The whole configuration, JSON5.
    pub raw: Text,
    /// The `hash` of the one it is made of.
    pub base_hash: Option<Text>,
    /// Who would be told of a restart; nothing restarts here.
    pub session_key: Option<String>,
    /// Where that would be told.
    pub delivery_context: Option<DeliveryContext>,
    /// Why.
    pub note: Option<String>,
    /// How long a restart would wait, ms.
    pub restart_delay_ms: Option<Int<0>>,
}

/// Parameters of `config.patch`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchParams {
    /// A merge patch (RFC 7396), JSON5.
    pub raw: Text,
    /// The `hash` of the configuration it is for.
    pub base_hash: Option<Text>,
    /// Who would be told of a restart; nothing restarts here.
    pub session_key: Option<String>,
    /// Where that would be told.
    pub delivery_context: Option<DeliveryContext>,
    /// Why.
    pub note: Option<String>,
    /// How long a restart would wait, ms.
    pub restart_delay_ms: Option<Int<0>>,
    /// Places where an object replaces the one that is there.
    pub replace_paths: Option<List<Text, 0, 256>>,
}

record! {
    /// Result of `config.set`, `config.apply` and `config.patch`.
    pub struct Written {
        /// Always true.
        ok: bool,
        /// The file.
        path: String,
        /// Names this state of it.
        hash: String,
        /// Its content, secrets redacted.
        config: Value,
        ; optional
        /// What is different, of a patch.
        changed_paths: Vec<String>,
        /// What was done, for whoever made it (of `config.patch` and `config.apply`).
        sentinel: Value,
    }
}

record! {
    /// Result of `config.openFile`.
    pub struct Opened {
        /// Whether it is open.
        ok: bool,
        /// The file.
        path: String,
        ; optional
        /// Why it is not.
        error: String,
    }
}

/// Parameters of `config.schema.lookup`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupParams {
    /// The place.
    pub path: ConfigPath,
}

record! {
    /// Result of `config.schema`.
    pub struct Schema {
        /// JSON Schema, draft 7.
        schema: Value,
        /// What pages say of each place: a label and help.
        ui_hints: Value,
        /// Of the gateway.
        version: String,
        /// When it was made, ISO 8601.
        generated_at: String,
    }
}

record! {
    /// Result of `config.schema.lookup`.
    pub struct Lookup {
        /// The place.
        path: String,
        /// What may stand there, without what is below.
        schema: Value,
        /// `hot`, or `restart` if a change there waits for the next start.
        reload_kind: String,
        /// What stands below.
        children: Vec<Value>,
        ; optional
        /// What pages say of it.
        hint: Value,
        /// The place that says so.
        hint_path: String,
    }
}
