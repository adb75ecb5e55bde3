//! The models of an Ollama that runs somewhere: they are found, not configured.

use super::remote::{Http, key_of};
use crate::settings::{Api, Compat, KNOWN, ModelEntry, Prices, ProviderSettings, Settings};
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Its usual name among the providers.
const NAME: &str = "ollama";
/// How long somebody who listens may take to say so.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long all answers of one place may take.
const LOOK: Duration = Duration::from_secs(20);
/// Largest answer: what it tells of one model has its licence and its tensors.
const MOST_BYTES: usize = 4 << 20;
/// Models that are taken from one place, in its order: the latest ones.
const MOST_MODELS: usize = 200;
/// Models it is asked about at the same time.
const AT_ONCE: usize = 4;

/// A model that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// As if it were configured.
    pub entry: ModelEntry,
    /// What it is made of; whoever has the same is the same.
    digest: String,
}

/// What was found, by the provider's name.
pub type Finds = BTreeMap<String, Vec<Found>>;

/// Where to look, by the provider's name: each Ollama without models of its own in the configuration, and the usual
/// place, unless that is configured.
pub(super) fn places(settings: &Settings) -> BTreeMap<String, ProviderSettings> {
    if !settings.plugins.entries.ollama.config.discovery.enabled {
        return BTreeMap::new();
    }
    let providers = &settings.models.providers;
    let speaks =
        |id: &str, provider: &ProviderSettings| provider.target(id).is_ok_and(|(_, api)| api == Api::Ollama);
    let silent = providers.iter().filter(|(id, provider)| provider.models.is_empty() && speaks(id, provider));
    let mut places: BTreeMap<_, _> = silent.map(|(id, provider)| (id.clone(), provider.clone())).collect();
    if !providers.contains_key(NAME) && KNOWN.iter().any(|(name, ..)| *name == NAME) {
        places.insert(NAME.to_owned(), ProviderSettings::default());
    }
    places
}

/// Looks at all places. Where nobody answers, what was known stays: it may be about to start.
pub(super) async fn look(places: BTreeMap<String, ProviderSettings>, known: Finds, http: Http) -> Finds {
    let mut finds = Finds::new();
    for (id, settings) in places {
        let before = known.get(&id).map_or(&[][..], Vec::as_slice);
        let found = match timeout(LOOK, at(&id, &settings, before, &http)).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => {
                tracing::debug!(target: "crabtree::agents", provider = id, "no models are found: {why}");
                before.to_vec()
            }
            Err(_) => before.to_vec(),
        };
        if !found.is_empty() {
            finds.insert(id, found);
        }
    }
    finds
}

async fn at(
    id: &str,
    settings: &ProviderSettings,
    before: &[Found],
    http: &Http,
) -> Result<Vec<Found>, String> {
    let (url, _) = settings.target(id)?;
    let key = key_of(id, settings)?;
    let root = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
    somebody_listens(&root).await?;
    let client = &http.to(&root).await.map_err(|failure| failure.text)?.plain;
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        let mut request = client.request(method, format!("{root}{path}")).timeout(ANSWER);
        if let Some(key) = &key {
            request = request.bearer_auth(key.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        read(answer.map_err(|e| e.without_url().to_string())?).await
    };
    let tags: Tags =
        serde_json::from_slice(&ask(Method::GET, "/api/tags", None).await?).map_err(|e| e.to_string())?;
    let show = async |tag: Tag| {
        if let Some(same) = before.iter().find(|found| found.is(&tag)) {
            return Some(same.clone());
        }
        let shown = ask(Method::POST, "/api/show", Some(json!({ "model": tag.name }))).await;
        let shown = shown.and_then(|body| serde_json::from_slice::<Shown>(&body).map_err(|e| e.to_string()));
        Found::new(tag, shown.unwrap_or_default())
    };
    let tags = tags.models.into_iter().filter(|tag| !tag.name.is_empty()).take(MOST_MODELS);
    let found = stream::iter(tags).map(show).buffered(AT_ONCE);
    Ok(found.filter_map(async |found| found).collect().await)
}

/// A connection that is closed again: where nobody listens there is no need of HTTP.
async fn somebody_listens(url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|e| e.to_string())?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or_default();
    match timeout(CONNECT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("nobody answers".to_owned()),
    }
}

async fn read(answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let (mut pieces, mut body) = (answer.bytes_stream(), Vec::new());
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(|e| e.without_url().to_string())?);
        if body.len() > MOST_BYTES {
            return Err(format!("the answer is larger than {MOST_BYTES} bytes"));
        }
    }
    Ok(body)
}

/// Answer of `/api/tags`.
#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    name: String,
    #[serde(default)]
    digest: String,
}

/// Answer of `/api/show`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown {
    model_info: Map<String, Value>,
    capabilities: Option<Vec<String>>,
}

impl Found {
    /// None if it is no model to talk to.
    fn new(tag: Tag, shown: Shown) -> Option<Self> {
        let can = |what: &str| shown.capabilities.as_ref().map(|can| can.iter().any(|can| can == what));
        if can("completion") == Some(false) {
            return None;
        }
        let context = shown.model_info.iter().find(|(name, _)| name.ends_with(".context_length"));
        let plain = ModelEntry::default();
        let mut input = plain.input.clone();
        input.extend((can("vision") == Some(true)).then(|| "image".to_owned()));
        let entry = ModelEntry {
            id: tag.name,
            reasoning: can("thinking") == Some(true),
            input,
            context_window: context.and_then(|(_, tokens)| tokens.as_u64()).unwrap_or(plain.context_window),
            cost: Some(Prices::default()),
            compat: Compat { supports_tools: can("tools") },
            ..plain
        };
        Some(Self { entry, digest: tag.digest })
    }

    fn is(&self, tag: &Tag) -> bool {
        !tag.digest.is_empty() && self.digest == tag.digest && self.entry.id == tag.name
    }
}

#[cfg(test)]
#[path = "ollama_tests.rs"]
mod tests;
