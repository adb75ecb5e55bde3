//! The REST API of the Discord that is not there.

use super::{BOT, BOT_ROLE, Call, Fault, GUILD, TOKEN, World};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower_service::Service;
use warp::Filter;
use warp::http::{HeaderMap, Method, Response};

/// Marks an answer that is not given: the connection is cut in its place.
const CUT: &str = "x-cut";

pub(super) async fn serve(listener: TcpListener, world: Arc<World>) {
    let mut sockets = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        sockets.spawn(answer_all(stream, world.clone()));
    }
}

async fn answer_all(stream: TcpStream, world: Arc<World>) {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let request = warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned());
    let routes = request.and(warp::body::bytes()).then(
        move |method: Method, path: warp::path::FullPath, query: String, headers: HeaderMap, body: Bytes| {
            let world = world.clone();
            async move { world.answer(&method, path.as_str(), &query, &headers, &body).await }
        },
    );
    let service = warp::service(routes);
    let answer = hyper::service::service_fn(move |request| {
        let mut service = service.clone();
        async move {
            let answer = service.call(request).await.unwrap();
            if answer.headers().contains_key(CUT) { Err(std::io::Error::other("cut")) } else { Ok(answer) }
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let _ = connection.await;
}

fn status(status: u16, body: &Value) -> Response<Vec<u8>> {
    Response::builder().status(status).body(body.to_string().into_bytes()).unwrap()
}

fn error(code: u16, message: &str) -> Response<Vec<u8>> {
    status(code, &json!({ "message": message, "code": u32::from(code) * 100 }))
}

impl World {
    async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<Vec<u8>> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let authorization = header("authorization");
        let (body, files) = content(header("content-type").as_deref(), body);
        let path = path.trim_start_matches("/api/v10/").trim_start_matches('/').to_owned();
        let mut what = format!("{method} {path}");
        if !query.is_empty() {
            what += &format!("?{query}");
        }
        let call =
            Call { what: what.clone(), body: body.clone(), files, authorization: authorization.clone() };
        self.calls.send_modify(|calls| calls.push(call));
        let refusal = self.refusals.lock().iter().find(|(refused, _)| what.starts_with(refused)).cloned();
        if let Some((_, code)) = refusal {
            return error(code, "it is as it is");
        }
        let parts: Vec<_> = path.split('/').collect();
        if let ["files", name] = parts[..] {
            return match self.files.lock().get(name) {
                Some(bytes) => Response::new(bytes.clone()),
                None => error(404, "no such file"),
            };
        }
        if authorization != Some(format!("Bot {TOKEN}")) {
            return status(401, &json!({ "message": "401: Unauthorized", "code": 0 }));
        }
        match (method.as_str(), &parts[..]) {
            ("POST", ["channels", channel, "messages"]) => self.send(channel, body).await,
            ("PATCH", ["channels", channel, "messages", id]) => self.change(channel, id, &body),
            (method, parts) => self.simple(method, parts, query),
        }
    }

    fn simple(&self, method: &str, parts: &[&str], query: &str) -> Response<Vec<u8>> {
        let empty = || Response::builder().status(204).body(vec![]).unwrap();
        match (method, parts) {
            ("GET", ["gateway", "bot"]) => {
                let left = self.calls_left.load(Relaxed);
                let start =
                    json!({ "total": 1_000, "remaining": left, "reset_after": 90_000, "max_concurrency": 1 });
                let url = format!("ws://{}", self.line.addr);
                status(200, &json!({ "url": url, "shards": 1, "session_start_limit": start }))
            }
            ("POST", ["users", "@me", "channels"]) => {
                status(200, &json!({ "id": super::ADA_DIRECT, "type": 1, "recipients": [] }))
            }
            ("GET", ["channels", channel]) => match self.channels.get(channel) {
                Some(found) => {
                    let mut found = found.clone();
                    found["id"] = json!(channel);
                    status(200, &found)
                }
                None => error(404, "Unknown Channel"),
            },
            ("GET", ["channels", channel, "messages"]) => {
                let asked: HashMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
                let (after, limit): (u64, usize) =
                    (asked["after"].parse().unwrap(), asked["limit"].parse().unwrap());
                let messages = self.messages.lock().get(*channel).cloned().unwrap_or_default();
                let is_after =
                    |message: &Value| message["id"].as_str().unwrap().parse::<u64>().unwrap() > after;
                let mut page: Vec<_> = messages.into_iter().filter(is_after).take(limit).collect();
                page.reverse();
                status(200, &json!(page))
            }
            ("GET", ["channels", channel, "messages", id]) => match self.find(channel, id) {
                Some(message) => status(200, &message),
                None => error(404, "Unknown Message"),
            },
            ("PUT", ["channels", channel, "messages", id, "reactions", emoji, "@me"]) => {
                let mut messages = self.messages.lock();
                let of =
                    messages.get_mut(*channel).into_iter().flatten().find(|message| message["id"] == *id);
                let Some(message) = of else { return error(404, "Unknown Message") };
                message["reactions"] = json!([
                    { "me": true, "count": 1, "emoji": { "id": null, "name": decoded(emoji) } },
                    { "me": false, "count": 3, "emoji": { "id": "77", "name": "blob" } },
                ]);
                empty()
            }
            ("DELETE", ["channels", channel, "messages", id]) => {
                let mut messages = self.messages.lock();
                let of = messages.entry((*channel).to_owned()).or_default();
                let before = of.len();
                of.retain(|message| message["id"] != *id);
                if of.len() < before { empty() } else { error(404, "Unknown Message") }
            }
            ("DELETE" | "PUT", ["channels", _, "pins", _])
            | ("DELETE", ["channels", _, "messages", _, "reactions", _, "@me"])
            | ("POST", ["channels", _, "typing"] | ["interactions", _, _, "callback"]) => empty(),
            ("GET", ["guilds", GUILD, "roles"]) => status(
                200,
                &json!([
                    { "id": GUILD, "name": "@everyone" },
                    { "id": "5900", "name": "another bot", "tags": { "bot_id": "1002" } },
                    { "id": BOT_ROLE, "name": "crab", "tags": { "bot_id": BOT } },
                ]),
            ),
            ("GET", ["guilds", GUILD, "members", super::ADA]) => status(200, &json!({ "roles": ["5902"] })),
            ("POST", ["applications", BOT, "commands"]) => status(201, &json!({ "id": "8801" })),
            _ => error(404, "404: Not Found"),
        }
    }

    async fn send(&self, channel: &str, body: Value) -> Response<Vec<u8>> {
        let fault = self.faults.lock().pop_front();
        match fault {
            Some(Fault::TooMany(after)) => {
                let said = json!({ "message": "You are being rate limited.", "retry_after": after, "global": false });
                return status(429, &said);
            }
            Some(Fault::Status(code)) => return error(code, "it is as it is"),
            _ => {}
        }
        let nonce = body["nonce"].as_str().filter(|_| body["enforce_nonce"] == true).map(str::to_owned);
        let known = nonce.as_ref().and_then(|nonce| self.nonces.lock().get(nonce).cloned());
        let message = known.unwrap_or_else(|| {
            let message = self.filled(channel, json!({ "content": body["content"] }));
            self.messages.lock().entry(channel.to_owned()).or_default().push(message.clone());
            nonce.map(|nonce| self.nonces.lock().insert(nonce, message.clone()));
            message
        });
        match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Cut) => Response::builder().header(CUT, "1").body(vec![]).unwrap(),
            _ => status(200, &message),
        }
    }

    fn change(&self, channel: &str, id: &str, body: &Value) -> Response<Vec<u8>> {
        let mut messages = self.messages.lock();
        let of = messages.get_mut(channel).into_iter().flatten().find(|message| message["id"] == id);
        let Some(message) = of else { return error(404, "Unknown Message") };
        message["content"] = body["content"].clone();
        status(200, message)
    }
}

/// The JSON and the files of a body.
fn content(kind: Option<&str>, body: &[u8]) -> (Value, Vec<(String, String, Vec<u8>)>) {
    let boundary = kind.and_then(|kind| kind.strip_prefix("multipart/form-data; boundary="));
    let Some(boundary) = boundary else {
        return (serde_json::from_slice(body).unwrap_or_default(), vec![]);
    };
    let (mut value, mut files) = (Value::Null, vec![]);
    let text = String::from_utf8_lossy(body).into_owned();
    for part in text.split(&format!("--{boundary}")) {
        let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
        let content = content.trim_end_matches("\r\n");
        let field = |name: &str| {
            let at = head.to_ascii_lowercase().find(name)? + name.len();
            Some(head[at..].split(['"', '\r', ';']).next().unwrap().to_owned())
        };
        match field("; name=\"").unwrap().as_str() {
            "payload_json" => value = serde_json::from_str(content).unwrap(),
            _ => files.push((
                field("filename=\"").unwrap(),
                field("content-type: ").unwrap_or_default(),
                content.as_bytes().to_vec(),
            )),
        }
    }
    (value, files)
}

/// An emoji in an address.
fn decoded(part: &str) -> String {
    let bytes: Vec<u8> =
        part.split('%').skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect();
    String::from_utf8(bytes).unwrap()
}
