//! Webhook mode: Telegram brings its updates to a listener of this account's own, behind whatever speaks TLS for it.
//! An update is answered with 200 when it is durable; anything else brings it again.

use super::api::Failure;
use super::settings::{HEALTH, Hook};
use super::{Bot, LOOKED_AT, update};
use crate::channels::contract::{Attachment, Trouble};
use crate::settings::{AuthSecret, Secret};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use teloxide_core::types::True;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{interval, sleep, timeout};

/// The largest update, bytes.
const MAX_BODY: usize = 1 << 20;
/// How long the head of a request, and its body, may take.
const HEAD: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
/// Connections at the same time; the next wait.
const CONNECTIONS: usize = 64;
/// Updates that are known again: Telegram brings one once more when an answer takes its time.
const KNOWN_AGAIN: usize = 1_000;
/// How often it is said that there is a listener: for hours nobody may write.
const ALIVE: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted: there may be too many files open.
const BREATHER: Duration = Duration::from_millis(100);
/// With this Telegram proves who it is.
const SECRET: &str = "x-telegram-bot-api-secret-token";
/// On what is durable, as proxies of OpenClaw may look for it.
const ACCEPTED: &str = "x-openclaw-delivery-accepted";

type Answer = Response<Full<Bytes>>;

/// What all connections share.
struct Counter<'a> {
    bot: &'a Bot<'a>,
    hook: &'a Hook,
    secret: AuthSecret,
    /// Updates that were taken in. One after another, so that one that comes twice is seen to.
    taken: Mutex<VecDeque<i32>>,
    /// How the account ends.
    end: mpsc::Sender<Trouble>,
}

impl Bot<'_> {
    /// Takes what Telegram brings, for ever.
    pub(super) async fn listen(&self, hook: &Hook) -> Result<Infallible, Trouble> {
        let bound = TcpListener::bind((&*hook.host, hook.port)).await;
        let listener = bound.map_err(|e| {
            Trouble::Retry(format!(
                "no listener at {}:{} ({e}): change webhookHost or webhookPort",
                hook.host, hook.port
            ))
        })?;
        self.advertise(hook).await?;
        self.connected().await?;
        let (end, mut ended) = mpsc::channel(1);
        let secret = AuthSecret::Token(Secret::new(hook.secret.clone()));
        let counter = Counter { bot: self, hook, secret, taken: Mutex::default(), end };
        let mut connections = FuturesUnordered::new();
        let mut alive = interval(ALIVE);
        loop {
            tokio::select! {
                Some(trouble) = ended.recv() => return Err(trouble),
                Some(()) = connections.next() => {}
                _ = alive.tick() => self.link.alive(),
                accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(counter.serve(TokioIo::new(stream))),
                    Err(_) => sleep(BREATHER).await,
                },
            }
        }
    }

    /// Tells Telegram where.
    async fn advertise(&self, hook: &Hook) -> Result<(), Trouble> {
        let fields = json!({
            "url": hook.url,
            "secret_token": hook.secret,
            "allowed_updates": LOOKED_AT,
            // The next comes when the one before it is durable: so they keep their order.
            "max_connections": 1,
        });
        let fields: Map<String, Value> = fields.as_object().cloned().unwrap_or_default();
        let certificate = match &hook.certificate {
            None => None,
            Some(path) => Some(certificate(path.clone()).await?),
        };
        let file = certificate.as_ref().map(|file| ("certificate", file));
        match self.api.call_with::<True>("setWebhook", &fields, file).await {
            Ok(True) => Ok(()),
            Err(Failure::Refused { status: 400, why }) => {
                Err(Trouble::Fatal(format!("Telegram does not take webhookUrl: {why}")))
            }
            Err(failure) => Err(failure.trouble_at_first()),
        }
    }
}

impl Counter<'_> {
    /// One request of one connection: who wants more comes again.
    async fn serve(&self, stream: TokioIo<tokio::net::TcpStream>) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
        let answered = service_fn(async |request| Ok::<_, Infallible>(self.answer(request).await));
        // Whoever breaks off comes again.
        let _ = http.serve_connection(stream, answered).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match request.uri().path() {
            HEALTH => return said(StatusCode::OK, "ok"),
            path if path != self.hook.path || request.method() != Method::POST => {
                return said(StatusCode::NOT_FOUND, "");
            }
            _ => {}
        }
        let mut secrets = request.headers().get_all(SECRET).iter();
        let told = secrets.next().and_then(|told| told.to_str().ok()).unwrap_or_default();
        if secrets.next().is_some() || !self.secret.admits(told) {
            return said(StatusCode::UNAUTHORIZED, "unauthorized");
        }
        match timeout(BODY, Limited::new(request.into_body(), MAX_BODY).collect()).await {
            Ok(Ok(body)) => self.take(&body.to_bytes()).await,
            Ok(Err(e)) if e.is::<LengthLimitError>() => said(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            Ok(Err(_)) => said(StatusCode::BAD_REQUEST, "broken off"),
            Err(_) => said(StatusCode::REQUEST_TIMEOUT, "too slow"),
        }
    }

    async fn take(&self, body: &[u8]) -> Answer {
        let update = std::str::from_utf8(body).ok().and_then(|text| Some((text, update::read(text)?.0)));
        let Some((text, number)) = update else { return said(StatusCode::BAD_REQUEST, "no update") };
        let mut taken = self.taken.lock().await;
        if !taken.contains(&number) {
            if let Err(trouble) = self.bot.take(text).await {
                // There is room for one, and one is enough.
                let _ = self.end.try_send(trouble);
                return said(StatusCode::SERVICE_UNAVAILABLE, "");
            }
            if taken.len() == KNOWN_AGAIN {
                taken.pop_front();
            }
            taken.push_back(number);
        }
        let mut accepted = said(StatusCode::OK, "");
        accepted.headers_mut().insert(ACCEPTED, HeaderValue::from_static("durable"));
        accepted
    }
}

async fn certificate(path: PathBuf) -> Result<Attachment, Trouble> {
    let name = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    let bytes = read.unwrap_or_else(|e| Err(e.into()));
    let bytes = bytes.map_err(|e| Trouble::Fatal(format!("webhookCertPath cannot be read ({name}): {e}")))?;
    let mime_type = "application/x-pem-file".into();
    Ok(Attachment { mime_type, file_name: Some("certificate.pem".into()), bytes })
}

fn said(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}
