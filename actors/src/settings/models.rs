//! `models`: the providers of models, as OpenClaw writes them.

use super::{Prices, SecretInput};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Context of a model that says nothing of it, in tokens.
const CONTEXT_WINDOW: u64 = 128_000;

/// `models`: what agents can think with beside the embedded model.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelsSettings {
    /// Providers by the name that stands before the `/` of `provider/model`.
    pub providers: BTreeMap<String, ProviderSettings>,
}

/// `models.providers.<id>`: one service, and what it offers.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderSettings {
    /// Where it listens; known services need none.
    pub base_url: Option<String>,
    /// What it is asked with; services on this machine often need none.
    pub api_key: Option<SecretInput>,
    /// How it is spoken to; known services need none.
    pub api: Option<Api>,
    /// How long it may be silent before and while it answers, in seconds.
    pub timeout_seconds: Option<u64>,
    /// Its models.
    pub models: Vec<ModelEntry>,
}

/// A way to speak to a provider, by OpenClaw's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `/chat/completions`, which nearly everybody speaks: llama.cpp, vLLM, LM Studio, OpenRouter.
    OpenaiCompletions,
    /// `/responses` of OpenAI.
    OpenaiResponses,
    /// `/messages` of Anthropic.
    AnthropicMessages,
    /// Gemini.
    GoogleGenerativeAi,
    /// `/api/chat` of Ollama.
    Ollama,
    /// One that is not spoken here.
    #[serde(other)]
    Other,
}

/// One model of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelEntry {
    /// Its name with the provider.
    pub id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// Whether it can think before it answers.
    pub reasoning: bool,
    /// What it reads: `text`, `image`.
    pub input: Vec<String>,
    /// How much it can keep in mind, in tokens.
    pub context_window: u64,
    /// How much it writes at most, in tokens; its own limit without it.
    pub max_tokens: Option<u32>,
    /// What it costs; what is not known is not counted.
    pub cost: Option<Prices>,
    /// What it cannot do.
    pub compat: Compat,
}

/// `compat`: what a model can do beside talking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Compat {
    /// Whether it can call tools; it can, unless told.
    pub supports_tools: Option<bool>,
}

impl Default for ModelEntry {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: None,
            reasoning: false,
            input: vec!["text".into()],
            context_window: CONTEXT_WINDOW,
            max_tokens: None,
            cost: None,
            compat: Compat::default(),
        }
    }
}

impl ProviderSettings {
    /// Where the provider called `id` listens, and how it is spoken to.
    ///
    /// # Errors
    /// What is missing, or cannot be done, and which key to change.
    pub fn target(&self, id: &str) -> Result<(String, Api), String> {
        let known = KNOWN.iter().find(|(name, ..)| *name == id);
        let url = self.base_url.as_deref().or(known.map(|(_, url, _)| *url));
        let url =
            url.ok_or_else(|| format!("models.providers.{id}.baseUrl is missing; say where it listens"))?;
        match self.api.or(known.map(|(_, _, api)| *api)).unwrap_or(Api::OpenaiCompletions) {
            Api::Other => Err(format!(
                "models.providers.{id}.api is not spoken here; use openai-completions, openai-responses, \
                 anthropic-messages, google-generative-ai or ollama"
            )),
            api => Ok((url.to_owned(), api)),
        }
    }
}

/// Services that everybody reaches at the same place: name, address, and how they are spoken to.
pub const KNOWN: &[(&str, &str, Api)] = &[
    ("anthropic", "https://api.anthropic.com", Api::AnthropicMessages),
    ("google", "https://generativelanguage.googleapis.com/v1beta", Api::GoogleGenerativeAi),
    ("ollama", "http://127.0.0.1:11434", Api::Ollama),
    ("openai", "https://api.openai.com/v1", Api::OpenaiResponses),
    ("openrouter", "https://openrouter.ai/api/v1", Api::OpenaiCompletions),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(json: &str) -> ProviderSettings {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn known_services_need_no_address() {
        let (url, api) = provider(r#"{"apiKey":"${KEY}"}"#).target("anthropic").unwrap();
        assert_eq!((url.as_str(), api), ("https://api.anthropic.com", Api::AnthropicMessages));
        let (url, api) = provider(r#"{"baseUrl":"http://nas:8080/v1"}"#).target("openai").unwrap();
        assert_eq!((url.as_str(), api), ("http://nas:8080/v1", Api::OpenaiResponses));
        let (_, api) = provider(r#"{"baseUrl":"http://nas:8080/v1"}"#).target("home").unwrap();
        assert_eq!(api, Api::OpenaiCompletions);
    }

    #[test]
    fn what_cannot_be_used_says_which_key_to_change() {
        let error = provider("{}").target("home").unwrap_err();
        assert!(error.starts_with("models.providers.home.baseUrl is missing"), "{error}");
        let error =
            provider(r#"{"baseUrl":"http://x","api":"bedrock-converse-stream"}"#).target("aws").unwrap_err();
        assert!(error.starts_with("models.providers.aws.api is not spoken here"), "{error}");
    }
}
