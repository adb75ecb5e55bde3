//! The providers of models: what they are asked with, and whether they answer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::record;
use crate::value::{Int, Text, string_enum};

/// Parameters of `models.authStatus`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthStatusParams {
    /// Read everything anew.
    pub refresh: Option<bool>,
    /// For this agent.
    pub agent_id: Option<String>,
}

record! {
    /// Result of `models.authStatus`.
    pub struct AuthStatus {
        /// When, in milliseconds since the epoch.
        ts: u64,
        /// The providers of the configuration.
        providers: Vec<ProviderAuth>,
        /// What can be set up with the providers that are known.
        provider_capabilities: Vec<ProviderCapability>,
    }
}

record! {
    /// What a provider is asked with.
    pub struct ProviderAuth {
        /// The provider.
        provider: String,
        /// The provider whose key it is.
        auth_provider: String,
        /// Its name for people.
        display_name: String,
        /// `static`: it has what it needs; `missing`: it has no key.
        status: String,
        /// Accounts; there are none.
        profiles: Vec<String>,
        ; optional
        /// Where its key comes from.
        api_key: KeySource,
    }
}

record! {
    /// Where a key comes from.
    pub struct KeySource {
        /// `config` or `env`.
        source: String,
        ; optional
        /// The variable of the environment.
        env_var: String,
    }
}

record! {
    /// What can be set up with a provider.
    pub struct ProviderCapability {
        /// The provider.
        provider: String,
        /// Whether it takes a key.
        api_key_supported: bool,
        /// Whether a client can set the key.
        quick_api_key_setup: bool,
    }
}

/// Parameters of `models.probe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeParams {
    /// The provider.
    pub provider: Text,
    /// Only this account of it.
    pub profile_id: Option<Text>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: Option<Int<1>>,
    /// For this agent.
    pub agent_id: Option<String>,
}

string_enum! {
    /// How it went with a provider that was asked something.
    any_of pub enum ProbeStatus {
        /// It answered.
        Ok = "ok",
        /// It does not accept the key.
        Auth = "auth",
        /// Too much was asked for.
        RateLimit = "rate_limit",
        /// It wants to be paid.
        Billing = "billing",
        /// It could not be reached, or was silent.
        Timeout = "timeout",
        /// It does not know the model, or not take the question.
        Format = "format",
        /// Something else went wrong.
        Unknown = "unknown",
        /// It has no model that could be asked.
        NoModel = "no_model",
    }
}

record! {
    /// How it went with what was asked.
    pub struct ProbeTarget {
        /// What was asked, for people.
        label: String,
        /// How it went.
        status: ProbeStatus,
        ; optional
        /// The account.
        profile_id: String,
        /// How long it took, in milliseconds.
        latency_ms: u64,
        /// What went wrong.
        error: String,
    }
}

record! {
    /// Result of `models.probe`.
    pub struct Probe {
        /// The provider.
        provider: String,
        /// How it went.
        status: ProbeStatus,
        /// The same for everything that was asked.
        results: Vec<ProbeTarget>,
        ; optional
        /// How long it took, in milliseconds.
        latency_ms: u64,
        /// What went wrong.
        error: String,
    }
}
