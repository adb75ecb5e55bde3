//! Models of providers, over HTTP. How each of them is spoken to is genai's part; how long to wait, and what a failure
//! means, is ours.

mod http;
mod messages;

pub(super) use http::{Http, is_local};

use super::failure::{Failure, Reason};
use super::model::{Chunk, Model, ModelInfo, Prompt, ToolCall};
use super::usage::Usage;
use crate::settings::{Api, ModelEntry, Prices, ProviderSettings, Secret, Thinking};
use futures_util::stream::{self, BoxStream, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{ChatOptions, ChatRequest, ChatStream, ChatStreamEvent, ReasoningEffort, StreamEnd};
use genai::resolver::{AuthData, Endpoint};
use genai::{ModelIden, ServiceTarget};
use messages::{messages, offered};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a provider may be silent, before the first piece of an answer and between two: local models read a long
/// conversation for minutes before they say anything.
const SILENCE: Duration = Duration::from_secs(180);
/// How long a provider that did not accept the key is left alone, by all sessions (as recorded).
const COOLDOWN: Duration = Duration::from_secs(60);
/// A model of a provider.
pub struct Remote {
    provider: String,
    entry: ModelEntry,
    local: bool,
    asked: Asked,
    /// Until when the provider is left alone.
    cooling: Arc<Mutex<Option<Instant>>>,
}

/// All that a call needs.
#[derive(Clone)]
struct Asked {
    model: ModelIden,
    endpoint: Endpoint,
    key: Option<Secret>,
    max_tokens: Option<u32>,
    reasoning: bool,
    prices: Option<Prices>,
    silence: Duration,
    http: Http,
}

impl Remote {
    /// The models of the provider called `id`.
    ///
    /// # Errors
    /// Why there are none, and which key to change.
    pub(super) fn all(id: &str, settings: &ProviderSettings, http: &Http) -> Result<Vec<Self>, String> {
        let (url, api) = settings.target(id)?;
        let key = key_of(id, settings)?;
        let (kind, endpoint) = spoken(api, &url);
        let (cooling, local) = (Arc::default(), is_local(&url));
        let model = |entry: &ModelEntry| Self {
            provider: id.to_owned(),
            entry: entry.clone(),
            local,
            cooling: Arc::clone(&cooling),
            asked: Asked {
                model: ModelIden::new(kind, entry.id.clone()),
                endpoint: Endpoint::from_owned(endpoint.clone()),
                key: key.clone(),
                max_tokens: entry.max_tokens,
                reasoning: entry.reasoning,
                // Who works on this machine works for nothing.
                prices: entry.cost.or(local.then(Prices::default)),
                silence: settings.timeout_seconds.map_or(SILENCE, Duration::from_secs),
                http: http.clone(),
            },
        };
        Ok(settings.models.iter().filter(|entry| !entry.id.is_empty()).map(model).collect())
    }
}

impl Model for Remote {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn id(&self) -> &str {
        &self.entry.id
    }

    fn context_window(&self) -> u64 {
        self.entry.context_window
    }

    fn takes_tools(&self) -> bool {
        self.entry.compat.supports_tools != Some(false)
    }

    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.entry.name.clone().unwrap_or_else(|| self.entry.id.clone()),
            input: self.entry.input.clone(),
            reasoning: self.entry.reasoning,
            local: self.local,
        }
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        if self.cooling.lock().is_some_and(|until| until > Instant::now()) {
            let text = format!(
                "The API key of {} was not accepted a moment ago, and is not tried again for about a minute. Check \
                 models.providers.{}.apiKey, or choose another model.",
                self.provider, self.provider
            );
            return stream::iter([Chunk::Failed(Failure::new(Reason::Auth, text))]).boxed();
        }
        let cooling = self.cooling.clone();
        let begun = stream::once(begin(self.asked.clone(), prompt));
        begun
            .map(|begun| match begun {
                Ok(answer) => stream::unfold(Some(answer), next).boxed(),
                Err(failure) => stream::iter([Chunk::Failed(failure)]).boxed(),
            })
            .flatten()
            .inspect(move |chunk| {
                if matches!(chunk, Chunk::Failed(Failure { reason: Reason::Auth, .. })) {
                    *cooling.lock() = Some(Instant::now() + COOLDOWN);
                }
            })
            .boxed()
    }
}

/// genai's name of a way to speak, and its base address as genai wants it: with the version, and a slash behind.
fn spoken(api: Api, url: &str) -> (AdapterKind, String) {
    let url = url.trim_end_matches('/');
    let versioned = |url: &str| if url.ends_with("/v1") { format!("{url}/") } else { format!("{url}/v1/") };
    match api {
        Api::AnthropicMessages => (AdapterKind::Anthropic, versioned(url)),
        Api::OpenaiResponses => (AdapterKind::OpenAIResp, format!("{url}/")),
        Api::GoogleGenerativeAi => (AdapterKind::Gemini, format!("{url}/")),
        // Its address is often written as that of its OpenAI twin.
        Api::Ollama => (AdapterKind::Ollama, format!("{}/", url.trim_end_matches("/v1"))),
        Api::OpenaiCompletions | Api::Other => (AdapterKind::OpenAI, format!("{url}/")),
    }
}

/// What a provider is asked with, if it wants anything.
///
/// # Errors
/// Why its value is not known, and which key to change.
pub(super) fn key_of(id: &str, settings: &ProviderSettings) -> Result<Option<Secret>, String> {
    let key = settings.api_key.as_ref().map(|key| {
        let env = |name: &str| std::env::var(name).ok();
        key.resolve(&format!("models.providers.{id}.apiKey"), &env)
    });
    key.transpose().map_err(|e| e.to_string())
}

/// What comes of a call.
struct Answer {
    pieces: ChatStream,
    silence: Duration,
    /// Whether genai ends it like a whole one when it breaks off; what is whole says why it ended.
    says_why: bool,
    prices: Option<Prices>,
    /// What it was asked with.
    key: Option<Secret>,
    /// What its end has brought and nobody has taken yet.
    last: VecDeque<Chunk>,
}

async fn begin(asked: Asked, prompt: Prompt) -> Result<Answer, Failure> {
    let client = &asked.http.to(asked.endpoint.base_url()).await?.genai;
    let kind = asked.model.adapter_kind;
    let says_why = matches!(kind, AdapterKind::OpenAIResp | AdapterKind::Gemini | AdapterKind::Ollama);
    // Services without a key want some word all the same.
    let key = asked.key.as_ref().map_or("none", Secret::expose);
    let target =
        ServiceTarget { endpoint: asked.endpoint, auth: AuthData::from_single(key), model: asked.model };
    let mut options = ChatOptions::default().with_capture_usage(true).with_capture_tool_calls(true);
    if let Some(most) = asked.max_tokens {
        options = options.with_max_tokens(most);
    }
    if let Some(effort) = effort(kind, asked.reasoning, prompt.thinking) {
        options = options.with_reasoning_effort(effort);
    }
    let mut request = ChatRequest::new(messages(prompt.conversation, kind));
    if !prompt.tools.is_empty() {
        request = request.with_tools(prompt.tools.into_iter().map(offered).collect::<Vec<_>>());
    }
    if let Some(instructions) = prompt.instructions {
        request = request.with_system(instructions.text().await);
    }
    let begun = timeout(asked.silence, client.exec_chat_stream(target, request, Some(&options))).await;
    let begun = begun
        .map_err(|_| Failure::silent(asked.silence))?
        .map_err(|e| Failure::of(&e).without(asked.key.as_ref()))?;
    let (silence, prices) = (asked.silence, asked.prices);
    Ok(Answer { pieces: begun.stream, silence, says_why, prices, key: asked.key, last: VecDeque::new() })
}

/// What a model that thinks is told of how hard it should. To many that speak like OpenAI `none` is an error, and those
/// that do not think by themselves need no word.
fn effort(kind: AdapterKind, reasoning: bool, thinking: Thinking) -> Option<ReasoningEffort> {
    let speaks_openai = matches!(kind, AdapterKind::OpenAI | AdapterKind::OpenAIResp);
    match thinking {
        _ if !reasoning => None,
        Thinking::Off => (!speaks_openai).then_some(ReasoningEffort::Zero),
        Thinking::Minimal => Some(ReasoningEffort::Minimal),
        Thinking::Low => Some(ReasoningEffort::Low),
        Thinking::Medium => Some(ReasoningEffort::Medium),
        Thinking::High => Some(ReasoningEffort::High),
    }
}

/// The next piece, and what is left of the answer.
async fn next(answer: Option<Answer>) -> Option<(Chunk, Option<Answer>)> {
    let mut answer = answer?;
    if let Some(chunk) = answer.last.pop_front() {
        return Some((chunk, Some(answer)));
    }
    loop {
        let chunk = match timeout(answer.silence, answer.pieces.next()).await {
            Err(_) => Chunk::Failed(Failure::silent(answer.silence)),
            Ok(None) => Chunk::Failed(Failure::broken_off()),
            Ok(Some(Err(e))) => Chunk::Failed(Failure::of(&e).without(answer.key.as_ref())),
            Ok(Some(Ok(ChatStreamEvent::Chunk(piece)))) => {
                return Some((Chunk::Text(piece.content), Some(answer)));
            }
            Ok(Some(Ok(ChatStreamEvent::ReasoningChunk(piece)))) => {
                return Some((Chunk::Thought(piece.content), Some(answer)));
            }
            Ok(Some(Ok(ChatStreamEvent::End(end))))
                if answer.says_why && end.captured_stop_reason.is_none() =>
            {
                Chunk::Failed(Failure::broken_off())
            }
            Ok(Some(Ok(ChatStreamEvent::End(end)))) => {
                answer.last = last(end, answer.prices);
                let first = answer.last.pop_front()?;
                return Some((first, Some(answer)));
            }
            Ok(Some(Ok(_))) => continue,
        };
        return Some((chunk, None));
    }
}

/// What the end brings: the calls, which are whole only now, and the tokens with what they cost.
fn last(end: StreamEnd, prices: Option<Prices>) -> VecDeque<Chunk> {
    let used = used(end.captured_usage.clone());
    let usage = Chunk::End(prices.map_or(used, |prices| used.at(prices)));
    let calls = end.captured_into_tool_calls().unwrap_or_default().into_iter().map(|call| {
        Chunk::Call(ToolCall {
            id: call.call_id,
            name: call.fn_name,
            arguments: call.fn_arguments,
            thought_signatures: call.thought_signatures.unwrap_or_default(),
        })
    });
    calls.chain([usage]).collect()
}

/// genai counts what the cache had to what was read; OpenClaw tells them apart.
fn used(usage: Option<genai::chat::Usage>) -> Usage {
    let tokens = |count: Option<i32>| count.and_then(|count| count.try_into().ok()).unwrap_or(0u64);
    let usage = usage.unwrap_or_default();
    let details = usage.prompt_tokens_details.unwrap_or_default();
    let (cache_read, cache_write) = (tokens(details.cached_tokens), tokens(details.cache_creation_tokens));
    let input = tokens(usage.prompt_tokens).saturating_sub(cache_read + cache_write);
    Usage { input, output: tokens(usage.completion_tokens), cache_read, cache_write, cost: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use genai::chat::PromptTokensDetails;

    #[test]
    fn what_the_cache_had_is_told_apart() {
        let details = PromptTokensDetails {
            cached_tokens: Some(70),
            cache_creation_tokens: Some(20),
            ..PromptTokensDetails::default()
        };
        let counted = genai::chat::Usage {
            prompt_tokens: Some(100),
            prompt_tokens_details: Some(details),
            completion_tokens: Some(5),
            ..genai::chat::Usage::default()
        };
        let expected = Usage { input: 10, output: 5, cache_read: 70, cache_write: 20, cost: None };
        assert_eq!(used(Some(counted)), expected);
        assert_eq!(used(None), Usage::default());
    }

    #[test]
    fn a_model_is_priced_as_configured_and_free_on_this_machine() {
        let prices = |json: &str| {
            let provider: ProviderSettings = serde_json::from_str(json).unwrap();
            Remote::all("x", &provider, &Http::default()).unwrap().remove(0)
        };
        let far = prices(r#"{"baseUrl":"https://x.test/v1","models":[{"id":"m"}]}"#);
        assert!(far.asked.prices.is_none(), "it is not known");
        let near = prices(r#"{"baseUrl":"http://localhost:1/v1","models":[{"id":"m"}]}"#);
        assert_eq!(near.asked.prices, Some(Prices::default()));
        let priced = r#"{"baseUrl":"http://localhost:1","models":[{"id":"m","cost":{"output":2},
            "input":["text","image"],"compat":{"supportsTools":false}}]}"#;
        let priced = prices(priced);
        assert_eq!(priced.asked.prices.unwrap().output, 2.0);
        assert_eq!((priced.takes_tools(), priced.takes_images()), (false, true));
        assert_eq!((near.takes_tools(), near.takes_images()), (true, false));
    }
}
