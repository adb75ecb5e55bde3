//! Models of providers, over HTTP. How each of them is spoken to is genai's part; how long to wait, and what a failure
//! means, is ours.

mod messages;

use super::failure::{Failure, Reason};
use super::model::{Chunk, Model, ModelInfo, Prompt, ToolCall, Usage};
use crate::settings::{Api, ModelEntry, ProviderSettings, Secret};
use futures_util::stream::{self, BoxStream, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{ChatOptions, ChatRequest, ChatStream, ChatStreamEvent, StreamEnd};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget};
use messages::{messages, offered};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a provider may be silent, before the first piece of an answer and between two: local models read a long
/// conversation for minutes before they say anything.
const SILENCE: Duration = Duration::from_secs(180);
/// How long a provider that did not accept the key is left alone, by all sessions (as recorded).
const COOLDOWN: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The HTTP client of all models, made when the first of them is asked.
pub(super) type Http = Arc<OnceLock<Client>>;

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
        let key = settings.api_key.as_ref().map(|key| {
            let env = |name: &str| std::env::var(name).ok();
            key.resolve(&format!("models.providers.{id}.apiKey"), &env)
        });
        let key = key.transpose().map_err(|e| e.to_string())?;
        let (kind, endpoint) = spoken(api, &url);
        let cooling = Arc::default();
        let model = |entry: &ModelEntry| Self {
            provider: id.to_owned(),
            entry: entry.clone(),
            local: is_local(&url),
            cooling: Arc::clone(&cooling),
            asked: Asked {
                model: ModelIden::new(kind, entry.id.clone()),
                endpoint: Endpoint::from_owned(endpoint.clone()),
                key: key.clone(),
                max_tokens: entry.max_tokens,
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

/// Whether an address is on this machine.
fn is_local(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// What comes of a call.
struct Answer {
    pieces: ChatStream,
    silence: Duration,
    /// Whether genai ends it like a whole one when it breaks off; what is whole says why it ended.
    says_why: bool,
    /// What its end has brought and nobody has taken yet.
    last: VecDeque<Chunk>,
}

async fn begin(asked: Asked, prompt: Prompt) -> Result<Answer, Failure> {
    let client = match asked.http.get() {
        Some(client) => client,
        None => {
            // Reading the machine's certificates takes a while.
            let made = tokio::task::spawn_blocking(http_client).await.unwrap_or_else(|e| Err(e.to_string()));
            let made = made.map_err(|e| Failure::new(Reason::Unknown, format!("no HTTP client: {e}")))?;
            asked.http.get_or_init(|| made)
        }
    };
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
    let mut request = ChatRequest::new(messages(prompt.conversation, kind));
    if !prompt.tools.is_empty() {
        request = request.with_tools(prompt.tools.into_iter().map(offered).collect::<Vec<_>>());
    }
    if let Some(instructions) = prompt.instructions {
        request = request.with_system(instructions.text().await);
    }
    let begun = timeout(asked.silence, client.exec_chat_stream(target, request, Some(&options))).await;
    let begun = begun.map_err(|_| Failure::silent(asked.silence))?.map_err(|e| Failure::of(&e))?;
    Ok(Answer { pieces: begun.stream, silence: asked.silence, says_why, last: VecDeque::new() })
}

/// The next piece, and what is left of the answer.
async fn next(answer: Option<Answer>) -> Option<(Chunk, Option<Answer>)> {
    let mut answer = answer?;
    if let Some(chunk) = answer.last.pop_front() {
        return Some((chunk, Some(answer)));
    }
    let cut = || Chunk::Failed(Failure::new(Reason::Timeout, "the model's answer broke off"));
    loop {
        let chunk = match timeout(answer.silence, answer.pieces.next()).await {
            Err(_) => Chunk::Failed(Failure::silent(answer.silence)),
            Ok(None) => cut(),
            Ok(Some(Err(e))) => Chunk::Failed(Failure::of(&e)),
            Ok(Some(Ok(ChatStreamEvent::Chunk(piece)))) => {
                return Some((Chunk::Text(piece.content), Some(answer)));
            }
            Ok(Some(Ok(ChatStreamEvent::ReasoningChunk(piece)))) => {
                return Some((Chunk::Thought(piece.content), Some(answer)));
            }
            Ok(Some(Ok(ChatStreamEvent::End(end))))
                if answer.says_why && end.captured_stop_reason.is_none() =>
            {
                cut()
            }
            Ok(Some(Ok(ChatStreamEvent::End(end)))) => {
                answer.last = last(end);
                let first = answer.last.pop_front()?;
                return Some((first, Some(answer)));
            }
            Ok(Some(Ok(_))) => continue,
        };
        return Some((chunk, None));
    }
}

/// What the end brings: the calls, which are whole only now, and the tokens.
fn last(end: StreamEnd) -> VecDeque<Chunk> {
    let usage = Chunk::End(used(end.captured_usage.clone()));
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

fn used(usage: Option<genai::chat::Usage>) -> Usage {
    let tokens = |count: Option<i32>| count.and_then(|count| count.try_into().ok()).unwrap_or(0);
    let usage = usage.unwrap_or_default();
    Usage { input: tokens(usage.prompt_tokens), output: tokens(usage.completion_tokens) }
}

fn http_client() -> Result<Client, String> {
    // No redirects: a key goes nowhere else than where it was meant to.
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::tls::client_config()?)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| e.to_string())?;
    Client::builder().with_reqwest(http).build().map_err(|e| e.to_string())
}
