//! `GET /__openclaw__/assistant-media`: a file that came with a message, for pages that show the conversation. With
//! `meta=1` it is told whether there is one, and a ticket is given: what stands in an `<img>` can bring no token.

use crate::routes::{json, not_allowed, refusal, text};
use blake3::Hash;
use crabtree_actors::estate::Estate;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::media::{Inbox, name_of, picture_type};
use crabtree_protocol::Scope;
use crabtree_protocol::frame::MAX_ATTACHMENT_BYTES;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

/// Without anything before it.
const PATH: &str = "/__openclaw__/assistant-media";
/// How long a ticket is good for, ms (as recorded).
const TICKET_MS: i64 = 300_000;
/// What its key is for.
const TICKET_KEY: &str = "crabtree 2026 ticket for one file of a conversation";

/// What is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    source: String,
    meta: Option<String>,
    media_ticket: Option<String>,
}

/// Where it is: for the Control UI also below its base path.
pub fn path(wiring: Arc<Wiring>) -> impl Filter<Extract = (), Error = Rejection> + Clone + Send + Sync {
    let is_here = move |path: FullPath| {
        let config = wiring.store.estate.config.load();
        let path = path.as_str();
        let is_here =
            path == PATH || path.strip_prefix(config.settings.gateway.control_ui.base()) == Some(PATH);
        std::future::ready(if is_here { Ok(()) } else { Err(warp::reject::not_found()) })
    };
    warp::path::full().and_then(is_here).untuple_one()
}

/// Answers the request.
pub async fn answer(
    method: Method,
    headers: HeaderMap,
    asked: Asked,
    addr: SocketAddr,
    wiring: Arc<Wiring>,
) -> Response {
    let estate = &wiring.store.estate;
    if !matches!(method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let name = name_of(&asked.source);
    let wants_meta = asked.meta.as_deref() == Some("1");
    let ticket = asked.media_ticket.as_deref().filter(|_| !wants_meta);
    let has_ticket = name.zip(ticket).is_some_and(|(name, ticket)| is_good(ticket, name, estate));
    if !has_ticket && let Some(refusal) = refusal(&headers, addr, &wiring, Scope::Read).await {
        return refusal;
    }
    let found = match name {
        Some(name) => read(estate.inbox.clone(), name.to_owned()).await.map(|bytes| (name, bytes)),
        None => None,
    };
    match found {
        Some((name, bytes)) if wants_meta => meta(name, &bytes, estate),
        Some((name, bytes)) => file(name, bytes),
        None if wants_meta => {
            let none = json!({ "available": false, "code": "file-not-found", "reason": "File not found" });
            json(StatusCode::OK, &none)
        }
        None => text(StatusCode::NOT_FOUND, "Not Found"),
    }
}

async fn read(inbox: Inbox, name: String) -> Option<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || inbox.read(&name, MAX_ATTACHMENT_BYTES)).await;
    read.ok()?.ok().map(|(bytes, _)| bytes)
}

fn meta(name: &str, bytes: &[u8], estate: &Estate) -> Response {
    let until = estate.clock.now_ms() + TICKET_MS;
    let ticket = format!("v1.{until}.{}", seal(name, until, estate).to_hex());
    let told = json!({
        "available": true, "mimeType": kind(bytes), "sizeBytes": bytes.len(), "mediaTicket": ticket,
        "mediaTicketExpiresAt": chrono::DateTime::from_timestamp_millis(until).map(|at| at.to_rfc3339()),
    });
    json(StatusCode::OK, &told)
}

/// Pictures are shown; everything else is for the disk, and never a page of this origin.
fn file(name: &str, bytes: Vec<u8>) -> Response {
    let kind = kind(&bytes);
    let place = if picture_type(&bytes).is_some() { "inline" } else { "attachment" };
    let place = HeaderValue::try_from(format!("{place}; filename=\"{name}\""));
    let mut response = warp::reply::with_status(bytes, StatusCode::OK).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(place) = place {
        headers.insert(header::CONTENT_DISPOSITION, place);
    }
    response
}

fn kind(bytes: &[u8]) -> &'static str {
    picture_type(bytes).unwrap_or("application/octet-stream")
}

/// Whether a ticket is for this file, and not too old.
fn is_good(ticket: &str, name: &str, estate: &Estate) -> bool {
    let Some((until, seal_sent)) = ticket.strip_prefix("v1.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let until = until.parse::<i64>().ok().filter(|until| *until >= estate.clock.now_ms());
    // Hashes are compared in constant time.
    until.is_some_and(|until| Hash::from_hex(seal_sent).is_ok_and(|sent| sent == seal(name, until, estate)))
}

fn seal(name: &str, until: i64, estate: &Estate) -> Hash {
    let key = blake3::derive_key(TICKET_KEY, &estate.device_key);
    blake3::keyed_hash(&key, format!("{name}\n{until}").as_bytes())
}
