//! Calls of the Bot API.
//!
//! teloxide describes the methods and what they take; the calls are our own. Its client sleeps ten seconds on every
//! 5xx and forgets the status, loses all updates of an answer for one that it cannot read, and a message counts as
//! not sent when something in the answer is newer than the client.

use super::settings::Settings;
use crate::channels::contract::{Attachment, SendError, Trouble};
use reqwest::header::CONTENT_TYPE;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;
use teloxide_core::requests::Payload;
use thiserror::Error;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a call may take.
pub(super) const CALL: Duration = Duration::from_secs(30);
/// How long a call with a file, or fetching one, may take.
const TRANSFER: Duration = Duration::from_secs(60);
/// A connection that has been idle for so long is not used again: its other end may be closing it.
const IDLE: Duration = Duration::from_secs(20);
/// The largest answer, bytes: a hundred updates of the longest messages, several times over.
const MAX_ANSWER: usize = 16 << 20;
/// How long to leave Telegram alone if it says that it is too much but not for how long.
const BREATHER: Duration = Duration::from_secs(1);
/// How much of what the other side says is repeated, characters.
const MAX_WORDS: usize = 300;

/// Why a call did not do what it was to.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// It was understood, and is not done.
    #[error("{why} ({status})")]
    Refused { status: u16, why: String },
    #[error("{why}")]
    TooMuch { why: String, after: Duration },
    /// The group has become a supergroup, which has another id.
    #[error("the group is now the supergroup {0}")]
    Moved(i64),
    /// Telegram has trouble of its own.
    #[error("{0}")]
    Down(String),
    /// Nothing was handed over.
    #[error("{0}")]
    Unreached(String),
    /// Something was handed over, and no answer came that could be read.
    #[error("{0}")]
    Lost(String),
}

impl Failure {
    /// Whether it is about the formatting, and the same text without any may be taken.
    pub fn is_about_markup(&self) -> bool {
        matches!(self, Self::Refused { status: 400, why } if why.contains("parse entities"))
    }

    /// Whether a message is already as it is to be.
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Self::Refused { status: 400, why } if why.contains("message is not modified"))
    }

    /// What to do about it when a call fails that could as well be made again: not to know is no trouble then.
    pub fn again(self) -> SendError {
        match SendError::from(self) {
            SendError::Unknown(why) => SendError::Later { why, after: None },
            known => known,
        }
    }

    /// How the account ends for it, unless it may go better soon.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Refused { status: 401, why } => Some(unknown_bot(why)),
            Self::Refused { status: 409, why } => Some(Trouble::Retry(format!(
                "another program fetches the messages of this bot ({why}): end it, or give it a bot of its own"
            ))),
            _ => None,
        }
    }

    /// How an account ends that could not begin for it.
    pub fn trouble_at_first(&self) -> Trouble {
        match self {
            // Telegram has no such address: this is how it answers what is hardly a token.
            Self::Refused { status: 404, why } => unknown_bot(why),
            _ => self
                .trouble()
                .unwrap_or_else(|| Trouble::Retry(format!("Telegram cannot be reached: {self}"))),
        }
    }
}

fn unknown_bot(why: &str) -> Trouble {
    Trouble::Fatal(format!(
        "Telegram does not know this bot ({why}): check botToken, which @BotFather shows, and apiRoot if it is set"
    ))
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string();
        match failure {
            Failure::Refused { status: 400 | 403 | 413, .. } => Self::Refused(why),
            Failure::TooMuch { after, .. } => Self::Later { why, after: Some(after) },
            Failure::Lost(_) => Self::Unknown(why),
            Failure::Refused { .. } | Failure::Moved(_) | Failure::Down(_) | Failure::Unreached(_) => {
                Self::Later { why, after: None }
            }
        }
    }
}

/// What every call is answered with.
#[derive(Deserialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error_code: Option<u16>,
    description: Option<String>,
    parameters: Option<Parameters>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// A bot's way to Telegram. It has no Debug: the token is in it.
pub(super) struct Api {
    http: Client,
    root: Url,
    token: String,
}

impl Api {
    /// For the bot of these settings. Reads the machine's certificates, which takes a while.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        // No redirects: the token is in the address, and goes nowhere else.
        let http = Client::builder()
            .tls_backend_preconfigured(crate::tls::client_config()?)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none());
        let http = if is_local(&settings.root) { http.no_proxy() } else { http };
        let http = http.build().map_err(|e| e.to_string())?;
        Ok(Self { http, root: settings.root.clone(), token: settings.token.clone() })
    }

    /// Calls a method.
    pub async fn call<P: Payload + Serialize, T: DeserializeOwned>(
        &self,
        payload: &P,
        within: Duration,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(payload).map_err(|e| self.unsent(&e))?;
        self.ask(self.post(P::NAME).header(CONTENT_TYPE, "application/json").body(body).timeout(within)).await
    }

    /// Calls a method with these fields, and perhaps a file in one.
    pub async fn call_with<T: DeserializeOwned>(
        &self,
        method: &str,
        fields: &Map<String, Value>,
        file: Option<(&'static str, &Attachment)>,
    ) -> Result<T, Failure> {
        let Some((field, file)) = file else {
            let body = serde_json::to_vec(fields).map_err(|e| self.unsent(&e))?;
            let request = self.post(method).header(CONTENT_TYPE, "application/json").body(body);
            return self.ask(request.timeout(CALL)).await;
        };
        let form = fields.iter().fold(Form::new(), |form, (name, value)| match value {
            Value::String(text) => form.text(name.clone(), text.clone()),
            value => form.text(name.clone(), value.to_string()),
        });
        let name = file.file_name.clone().unwrap_or_else(|| "file".into());
        let part = || Part::bytes(file.bytes.clone()).file_name(name.clone());
        // Of what has no proper type, Telegram finds it out itself.
        let part = part().mime_str(&file.mime_type).unwrap_or_else(|_| part());
        self.ask(self.post(method).multipart(form.part(field, part)).timeout(TRANSFER)).await
    }

    /// Fetches a file, at most this many bytes of it.
    pub async fn download(&self, path: &str, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("file").push(&format!("bot{}", self.token)).extend(path.split('/'));
        }
        let answer = self.http.get(url).timeout(TRANSFER).send().await.map_err(|e| self.broken(e))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer.status().as_u16(), "the file is not given out", None));
        }
        let too_large =
            || Failure::Refused { status: 413, why: format!("the file is larger than {limit} bytes") };
        self.read(answer, limit).await?.ok_or_else(too_large)
    }

    fn post(&self, method: &str) -> RequestBuilder {
        // teloxide writes `GetMe`; the documentation, and servers that care, write `getMe`.
        let (first, rest) = method.split_at(method.len().min(1));
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            let method = format!("{}{rest}", first.to_ascii_lowercase());
            segments.pop_if_empty().push(&format!("bot{}", self.token)).push(&method);
        }
        self.http.post(url)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let answer = request.send().await.map_err(|e| self.broken(e))?;
        let status = answer.status();
        let body = match self.read(answer, MAX_ANSWER).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(Failure::Lost(format!("its answer is longer than {MAX_ANSWER} bytes"))),
            Err(_) if !status.is_success() => return Err(self.refusal(status.as_u16(), "", None)),
            Err(failure) => return Err(failure),
        };
        match serde_json::from_slice(&body) {
            Ok(Answer { ok: true, result: Some(result), .. }) => serde_json::from_str(result.get())
                .map_err(|e| Failure::Lost(self.words(&format!("its answer cannot be read: {e}")))),
            Ok(Answer { ok: false, error_code, description, parameters, .. }) => {
                let code = error_code.unwrap_or(status.as_u16());
                Err(self.refusal(code, description.as_deref().unwrap_or_default(), parameters))
            }
            Ok(_) | Err(_) if !status.is_success() => Err(self.refusal(status.as_u16(), "", None)),
            Ok(_) | Err(_) => Err(Failure::Lost("its answer is not that of a Bot API".into())),
        }
    }

    fn refusal(&self, status: u16, said: &str, parameters: Option<Parameters>) -> Failure {
        let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let why = self.words(if said.is_empty() { known.unwrap_or("it did not say why") } else { said });
        let parameters = parameters.unwrap_or_default();
        match (status, parameters.migrate_to_chat_id) {
            (_, Some(chat)) => Failure::Moved(chat),
            (429, _) => {
                let after = parameters.retry_after.map_or(BREATHER, Duration::from_secs);
                Failure::TooMuch { why, after }
            }
            // Who waited for it does not know either.
            (504, _) => Failure::Lost(why),
            (500.., _) => Failure::Down(why),
            _ => Failure::Refused { status, why },
        }
    }

    /// What comes, unless it is longer.
    async fn read(&self, mut answer: Response, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broken(e))? {
            if body.len() + chunk.len() > limit {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    fn broken(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        let why = self.words(&format!("{error}{causes}"));
        if error.is_connect() || error.is_builder() { Failure::Unreached(why) } else { Failure::Lost(why) }
    }

    fn unsent(&self, error: &serde_json::Error) -> Failure {
        Failure::Refused { status: 400, why: self.words(&error.to_string()) }
    }

    /// What can be repeated: short, and without the token.
    fn words(&self, text: &str) -> String {
        text.replace(&self.token, "<token>").chars().take(MAX_WORDS).collect()
    }
}

/// Whether an address is on this machine: the proxy of the environment is for the world outside.
fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}
