//! The store of secrets, and the values of references.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::record;
use crate::value::{List, Text, shaped_text, string_enum};

shaped_text! {
    /// The name of an entry of the store; OpenClaw's setup of GitHub has names of its own.
    pub struct StoreName = r"^(?:[A-Z][A-Z0-9_]{0,127}|github-setup-[a-f0-9]{32})$" if |text| {
        let is_hex = |rest: &str| rest.len() == 32 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_name = |text: &str| {
            text.len() <= 128
                && text.starts_with(|c: char| c.is_ascii_uppercase())
                && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        is_name(text) || text.strip_prefix("github-setup-").is_some_and(is_hex)
    }
}

string_enum! {
    /// What an entry of the store is for.
    any_of pub enum StoreKind {
        /// Written, and never shown again.
        Secret = "secret",
        /// Shown to administrators.
        Env = "env",
    }
}

/// Parameters of `secrets.store.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSetParams {
    /// The entry.
    pub name: StoreName,
    /// Its value.
    pub value: Text<65_536, 0>,
    /// What it is for.
    pub kind: StoreKind,
    /// Hosts that OpenClaw's egress proxy would send it to; kept, and used by nobody here.
    pub allowed_hosts: Option<List<Text<253>, 0, 128>>,
}

/// Parameters of `secrets.store.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreDeleteParams {
    /// The entry.
    pub name: StoreName,
}

record! {
    /// One entry of the store. What is secret has no value here.
    pub struct StoreEntry {
        /// Its name.
        name: String,
        /// Always `team`.
        scope_kind: String,
        /// Always empty.
        scope_id: String,
        /// When it was made, ms.
        created_at_ms: u64,
        /// When it was written last, ms.
        updated_at_ms: u64,
        /// What it is for.
        kind: StoreKind,
        ; optional
        /// Who wrote it last.
        updated_by: String,
        /// The value of one that is for environments.
        value: String,
        /// Hosts, of one that is secret.
        allowed_hosts: Vec<String>,
    }
}

record! {
    /// Result of `secrets.store.list`.
    pub struct Entries {
        /// All of them, by name.
        entries: Vec<StoreEntry>,
    }
}

record! {
    /// Result of `secrets.store.set` and `secrets.store.delete`.
    pub struct Stored {
        /// Always true.
        ok: bool,
        /// Whether the configuration refers to it, and was taken up anew.
        reloaded: bool,
        ; optional
        /// Secrets that are not to be had.
        warning_count: u64,
    }
}

record! {
    /// Result of `secrets.reload`.
    pub struct Reloaded {
        /// Always true.
        ok: bool,
        /// Secrets that are not to be had.
        warning_count: u64,
    }
}

/// What OpenClaw's programs would rather use than what is configured.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderOverrides {
    /// To search the web with.
    pub web_search: Option<Text>,
    /// To read it with.
    pub web_fetch: Option<Text>,
}

/// Parameters of `secrets.resolve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveParams {
    /// Who asks.
    pub command_name: Text,
    /// The places that are meant, with dots and `*`.
    pub target_ids: List<Text>,
    /// Only these of them.
    pub allowed_paths: Option<List<Text>>,
    /// Places that are in use whatever the configuration says; nothing depends on it here.
    pub forced_active_paths: Option<List<Text>>,
    /// Places that may be missing; all may be here.
    pub optional_active_paths: Option<List<Text>>,
    /// Nothing depends on it here.
    pub provider_overrides: Option<ProviderOverrides>,
}

record! {
    /// The value of a reference.
    pub struct Assignment {
        /// Where it stands, key by key.
        path_segments: Vec<String>,
        /// Its value.
        value: Value,
        ; optional
        /// Where it stands, with dots.
        path: String,
    }
}

record! {
    /// Result of `secrets.resolve`.
    pub struct Resolved {
        /// Always true.
        ok: bool,
        /// The values.
        assignments: Vec<Assignment>,
        /// What is not to be had, and why.
        diagnostics: Vec<String>,
        /// References that nobody needs.
        inactive_ref_paths: Vec<String>,
    }
}
