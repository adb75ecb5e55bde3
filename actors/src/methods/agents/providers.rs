//! The providers of models: what they are asked with, and whether they answer.

use super::super::Call;
use crate::agents::{AgentsMsg, Catalog, Chunk, Failure, Model, Prompt, Reason, Said};
use crate::connection::ConnectionMsg;
use crate::settings::{Api, KNOWN, ProviderSettings, SecretInput, Settings, Thinking};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::agents::ModelsListParams;
use crabtree_protocol::params::agents::providers::{
    AuthStatus, AuthStatusParams, KeySource, Probe, ProbeParams, ProbeStatus, ProbeTarget, ProviderAuth,
    ProviderCapability,
};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a provider may take to begin with its answer, unless told; and at the most.
const PROBE: Duration = Duration::from_secs(20);
const LONGEST_PROBE: Duration = Duration::from_secs(60);

pub(in crate::methods) fn list(call: Call<'_>) {
    let Some((params, call)) = call.parse::<ModelsListParams>() else { return };
    let (estate, responder) = (call.estate().clone(), call.responder);
    // Whatever comes of looking, there are models to tell of.
    let answer = move |_| responder.ok(&estate.catalog.load().models_list());
    if params.refresh == Some(true) {
        let _ = call.wiring.agents.send(AgentsMsg::Look(Some(Reply::new(answer))));
    } else {
        answer(Some(()));
    }
}

pub(in crate::methods) fn auth_status(call: Call<'_>) {
    let Some((params, call)) = call.parse::<AuthStatusParams>() else { return };
    if let Err(refusal) = known_agent(&call, params.agent_id.as_deref()) {
        return call.responder.refuse(refusal);
    }
    let estate = call.estate();
    let providers = &estate.config.load().settings.models.providers;
    let capability = |(name, _, api): &(&str, &str, Api)| ProviderCapability {
        provider: (*name).to_owned(),
        api_key_supported: *api != Api::Ollama,
        quick_api_key_setup: false,
    };
    call.responder.ok(&AuthStatus {
        ts: estate.clock.now_ms().max(0) as u64,
        providers: providers.iter().map(|(id, provider)| auth_of(id, provider)).collect(),
        provider_capabilities: KNOWN.iter().map(capability).collect(),
    });
}

fn known_agent(call: &Call<'_>, id: Option<&str>) -> Result<(), Refusal> {
    match id.filter(|id| !id.is_empty()) {
        Some(id) if call.estate().catalog.load().agent(id).is_none() => Err(Refusal::unknown_agent_id(id)),
        _ => Ok(()),
    }
}

fn auth_of(id: &str, provider: &ProviderSettings) -> ProviderAuth {
    let api_key = provider.api_key.as_ref().map(source_of);
    let env = |name: &str| std::env::var(name).ok();
    let resolved = provider.api_key.as_ref().map(|key| key.resolve(id, &env).is_ok());
    // Only the services that everybody knows are known to want a key.
    let needs_none =
        provider.base_url.is_some() || provider.target(id).is_ok_and(|(_, api)| api == Api::Ollama);
    ProviderAuth {
        provider: id.to_owned(),
        auth_provider: id.to_owned(),
        display_name: id.to_owned(),
        status: if resolved.unwrap_or(needs_none) { "static" } else { "missing" }.to_owned(),
        profiles: Vec::new(),
        api_key: api_key.filter(|_| resolved == Some(true)),
    }
}

fn source_of(key: &SecretInput) -> KeySource {
    let variable = key.variable();
    let source = if variable.is_some() { "env" } else { "config" };
    KeySource { source: source.to_owned(), env_var: variable.map(str::to_owned) }
}

pub(in crate::methods) fn probe(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<ProbeParams>() else { return };
    if let Err(refusal) = known_agent(&call, params.agent_id.as_deref()) {
        return call.responder.refuse(refusal);
    }
    let provider = params.provider.trim().to_owned();
    if let Some(profile) = &params.profile_id {
        let why =
            format!("There is no account {profile}: providers have one key each here. Leave profileId out.");
        return call.responder.ok(&Probe {
            provider,
            status: ProbeStatus::NoModel,
            results: Vec::new(),
            latency_ms: None,
            error: Some(why),
        });
    }
    let estate = call.estate();
    let model = first_model(&estate.catalog.load(), &estate.config.load().settings, &provider);
    let limit = params.timeout_ms.map_or(PROBE, |ms| Duration::from_millis(ms.get()).min(LONGEST_PROBE));
    let responder = call.responder;
    ctx.detached(async move { responder.ok(&probed(provider, model, limit).await) });
}

/// The model that is used of this provider: the default one or one of those that take its place, else the first that
/// is configured, else the first there is.
fn first_model(catalog: &Catalog, settings: &Settings, provider: &str) -> Option<Arc<dyn Model>> {
    let choice = &settings.agents.defaults.model;
    let configured =
        settings.models.providers.get(provider).into_iter().flat_map(|provider| &provider.models);
    let configured = configured.map(|entry| format!("{provider}/{}", entry.id));
    let of_provider = |name: &String| name.split_once('/').is_some_and(|(of, _)| of == provider);
    let chosen =
        [&choice.primary].into_iter().chain(&choice.fallbacks).filter(|name| of_provider(name)).cloned();
    let any = catalog.model_names().map(str::to_owned).filter(|name| of_provider(name));
    chosen.chain(configured).chain(any).find_map(|name| catalog.model(&name))
}

async fn probed(provider: String, model: Option<Arc<dyn Model>>, limit: Duration) -> Probe {
    let Some(model) = model else {
        let error = Some(format!("It has no model. Give models.providers.{provider} some, or start it."));
        return Probe {
            provider,
            status: ProbeStatus::NoModel,
            results: Vec::new(),
            latency_ms: None,
            error,
        };
    };
    let began = Instant::now();
    let failed = timeout(limit, asked(&*model)).await;
    let latency_ms = Some(began.elapsed().as_millis() as u64);
    let late =
        || Some(Failure::new(Reason::Timeout, format!("It said nothing for {} s.", limit.as_secs_f64())));
    let failure = failed.unwrap_or_else(|_| late());
    let status = failure.as_ref().map_or(ProbeStatus::Ok, |failure| status_of(failure.reason));
    let error = failure.map(|failure| failure.text);
    let label = format!("{provider}/{}", model.id());
    let target = ProbeTarget { label, status, profile_id: None, latency_ms, error: error.clone() };
    Probe { provider, status, results: vec![target], latency_ms, error }
}

/// Asks for a word. When its answer begins that is enough: what would follow is not waited for, and ends.
async fn asked(model: &dyn Model) -> Option<Failure> {
    let conversation = vec![Said::user("Reply with OK.")];
    let mut answer =
        model.answer(Prompt { instructions: None, conversation, tools: Vec::new(), thinking: Thinking::Off });
    match answer.next().await {
        Some(Chunk::Failed(failure)) => Some(failure),
        Some(_) => None,
        None => Some(Failure::broken_off()),
    }
}

fn status_of(reason: Reason) -> ProbeStatus {
    match reason {
        Reason::Auth => ProbeStatus::Auth,
        Reason::RateLimit => ProbeStatus::RateLimit,
        Reason::Billing => ProbeStatus::Billing,
        Reason::Timeout => ProbeStatus::Timeout,
        Reason::Format | Reason::ModelNotFound => ProbeStatus::Format,
        Reason::ServerError | Reason::Unknown => ProbeStatus::Unknown,
    }
}
