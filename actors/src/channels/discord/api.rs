//! The REST API of Discord: one call, and what its failure means for what was to be done.
//!
//! Calls are made here and not with serenity's own client: that one sleeps through every rate limit while somebody
//! waits for the answer, knows no other server but Discord's while it does, and forgets how long Discord wants to be
//! left alone when it does not.

use super::Settings;
use crate::channels::contract::{Attachment, SendError};
use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take, beside the time for files.
const ANSWER: Duration = Duration::from_secs(8);
/// The slowest line over which a file is sent or fetched, in bytes a second.
const SLOWEST: usize = 100_000;
/// Largest answer that is read, in bytes: a page of messages, or one message, is far below.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Characters of Discord's own words in an error.
const MAX_WORDS: usize = 300;
/// How Discord wants programs to name themselves.
const AGENT: &str = concat!("DiscordBot (https://crates.io, ", env!("CARGO_PKG_VERSION"), ") Crabtree");

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The token is not one: no call will do better.
    Token,
    /// What it means for a message.
    Call(SendError),
}

impl Failure {
    fn later(why: impl Into<String>) -> Self {
        Self::Call(SendError::Later { why: why.into(), after: None })
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::Call(SendError::Unknown(why.into()))
    }

    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Call(SendError::Refused(why.into()))
    }

    /// Nothing that was to be sent has failed: the same call may be made again.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Token | Self::Call(SendError::Refused(_)))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token => f.write_str("Discord does not accept the token"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

/// Discord's API, as one bot.
pub(super) struct Api {
    http: Client,
    root: Url,
    token: HeaderValue,
}

/// What a call sends.
pub(super) enum Body {
    Nothing,
    Json(Value),
    Files(Value, Vec<Attachment>),
}

impl Api {
    /// Reading the machine's certificates takes a while: not for a thread others wait for.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let http = Client::builder()
            .tls_backend_preconfigured(crate::tls::client_config()?)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none());
        // The proxy of the environment is for the world outside, not for a server of one's own.
        let http = if settings.is_own_server { http.no_proxy() } else { http };
        let mut token = HeaderValue::try_from(format!("Bot {}", settings.token))
            .map_err(|_| "the token cannot be sent".to_owned())?;
        token.set_sensitive(true);
        Ok(Self { http: http.build().map_err(|e| e.to_string())?, root: settings.api_root.clone(), token })
    }

    /// Makes a call and reads its answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Body,
    ) -> Result<T, Failure> {
        let answer = self.make(method, path, &[], body).await?;
        read(answer).await
    }

    /// Makes a call whose answer says nothing.
    pub(super) async fn tell(&self, method: Method, path: &[&str], body: Body) -> Result<(), Failure> {
        self.make(method, path, &[], body).await.map(drop)
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        read(self.make(Method::GET, path, query, Body::Nothing).await?).await
    }

    /// Fetches a file, which is at most so many bytes long. Others than Discord never see the token.
    pub(super) async fn fetch(&self, url: &str, most: usize) -> Result<Vec<u8>, String> {
        let answer = self.http.get(url).timeout(patience(most)).send().await.map_err(cause)?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        bytes(answer, most).await?.ok_or_else(|| "it is too large".into())
    }

    async fn make(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Body,
    ) -> Result<Response, Failure> {
        let mut url = self.root.clone();
        // What stands between two slashes is one name, whatever is in it.
        url.path_segments_mut()
            .map_err(|()| Failure::refused("channels.discord.apiRoot is no address of a server"))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header(USER_AGENT, AGENT);
        let request = request.header(AUTHORIZATION, self.token.clone());
        let request = filled(request, body).map_err(Failure::refused)?;
        let answer = request.send().await.map_err(|error| match error.is_connect() {
            true => Failure::later(format!("Discord cannot be reached: {}", cause(error))),
            false => Failure::unknown(format!("no answer of Discord: {}", cause(error))),
        })?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => Err(failure(status, answer).await),
        }
    }
}

fn filled(request: RequestBuilder, body: Body) -> Result<RequestBuilder, String> {
    Ok(match body {
        Body::Nothing => request.timeout(ANSWER),
        Body::Json(value) => {
            request.timeout(ANSWER).header(CONTENT_TYPE, "application/json").body(value.to_string())
        }
        Body::Files(value, files) => {
            let request = request.timeout(patience(files.iter().map(|file| file.bytes.len()).sum()));
            let mut form = Form::new().text("payload_json", value.to_string());
            for (at, file) in files.into_iter().enumerate() {
                let name = file.file_name.unwrap_or_else(|| format!("file{at}"));
                let part = Part::bytes(file.bytes).file_name(name).mime_str(&file.mime_type);
                let part = part.map_err(|_| format!("`{}` is no MIME type", file.mime_type))?;
                form = form.part(format!("files[{at}]"), part);
            }
            request.multipart(form)
        }
    })
}

fn patience(bytes: usize) -> Duration {
    ANSWER + Duration::from_secs((bytes / SLOWEST) as u64)
}

/// What Discord says when it does not do something.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: i64,
    message: String,
    retry_after: Option<f64>,
}

async fn failure(status: StatusCode, answer: Response) -> Failure {
    if status == StatusCode::UNAUTHORIZED {
        return Failure::Token;
    }
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let said = match bytes(answer, MAX_ANSWER).await {
        Ok(Some(body)) => serde_json::from_slice::<Said>(&body).unwrap_or_default(),
        _ => Said::default(),
    };
    let words: String = said.message.chars().take(MAX_WORDS).collect();
    match status {
        StatusCode::TOO_MANY_REQUESTS => Failure::Call(SendError::Later {
            why: "Discord wants to be left alone for a while".into(),
            after: said.retry_after.or(header).and_then(|s| Duration::try_from_secs_f64(s).ok()),
        }),
        _ if status.is_server_error() => Failure::later(format!("Discord has troubles: {status}")),
        _ if words.is_empty() => Failure::refused(format!("Discord says {status}")),
        _ => Failure::refused(format!("Discord says: {words} ({status}, code {})", said.code)),
    }
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, Failure> {
    let lost = |why| Failure::unknown(format!("the answer of Discord was lost: {why}"));
    let body = bytes(answer, MAX_ANSWER).await.map_err(lost)?;
    let body = body.ok_or_else(|| lost("it is too large".into()))?;
    serde_json::from_slice(&body).map_err(|error| lost(error.to_string()))
}

/// What is in an answer, unless it is more than so many bytes.
async fn bytes(answer: Response, most: usize) -> Result<Option<Vec<u8>>, String> {
    let (mut all, mut pieces) = (Vec::new(), answer.bytes_stream());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(cause)?;
        if all.len() + piece.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&piece);
    }
    Ok(Some(all))
}

/// The deepest cause: no address, for there are secrets in the addresses of interactions.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let deepest = std::iter::successors(std::error::Error::source(&error), |error| (**error).source()).last();
    match deepest {
        _ if error.is_timeout() => "it took too long".into(),
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
