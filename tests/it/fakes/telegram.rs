//! A Bot API on loopback, as its public documentation describes it: https://core.telegram.org/bots/api.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

mod form;
mod hook;
mod posts;

pub use hook::{brings, free_port, update};
pub use posts::Post;

pub const TOKEN: &str = "7001:AAfake-Token_of_a_bot";
pub const BOT: i64 = 7001;
/// How long a test waits for a call that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status and body, and not done.
    Answer(u16, String),
    /// It is done, and the connection is closed without an answer.
    TakenAndGone,
    /// It is not answered.
    Hang,
}

impl Fault {
    /// An error as Telegram words it.
    pub fn error(code: u16, description: &str) -> Self {
        Self::Answer(code, error(code, description, json!({})).to_string())
    }

    /// Too many requests.
    pub fn too_many(retry_after: u64) -> Self {
        let parameters = json!({ "retry_after": retry_after });
        let text = format!("Too Many Requests: retry after {retry_after}");
        Self::Answer(429, error(429, &text, parameters).to_string())
    }

    /// The group has another id now.
    pub fn moved(to: i64) -> Self {
        let text = "Bad Request: group chat was upgraded to a supergroup chat";
        Self::Answer(400, error(400, text, json!({ "migrate_to_chat_id": to })).to_string())
    }
}

/// The server; it ends with this.
pub struct Telegram {
    pub addr: SocketAddr,
    api: Arc<Api>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Api {
    known: Mutex<Known>,
    /// Something has come or was called.
    changed: Notify,
}

#[derive(Default)]
struct Known {
    updates: Vec<Value>,
    last_update: i64,
    /// The number of the poll that is waited for.
    polls: u64,
    webhook: String,
    faults: Vec<(String, Fault)>,
    calls: Vec<(String, Value)>,
    messages: BTreeMap<(i64, i64), Post>,
    last_message: i64,
    files: HashMap<String, (String, Vec<u8>)>,
}

impl Telegram {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let api = Arc::new(Api::default());
        let mut server = JoinSet::new();
        server.spawn(accept(listener, api.clone()));
        Self { addr, api, _server: server }
    }

    /// `channels.telegram` for this server.
    pub fn settings(&self) -> Value {
        json!({ "botToken": TOKEN, "apiRoot": format!("http://{}", self.addr) })
    }

    /// Something happens; the number of the update.
    pub fn update(&self, what: Value) -> i64 {
        let mut known = self.api.known.lock();
        known.last_update += 1;
        let number = known.last_update;
        let mut update = Map::from_iter([("update_id".to_owned(), number.into())]);
        update.extend(what.as_object().unwrap().clone());
        known.updates.push(update.into());
        drop(known);
        self.api.changed.notify_waiters();
        number
    }

    /// Ann writes to the bot; the number of the message.
    pub fn text(&self, text: &str) -> i64 {
        self.message(json!({ "text": text }))
    }

    /// Ann sends the bot a message with this in it, or somebody elsewhere.
    pub fn message(&self, what: Value) -> i64 {
        let number = self.number();
        let mut message = json!({
            "message_id": number, "date": 1_700_000_000, "chat": { "id": 42, "type": "private", "first_name": "Ann" },
            "from": { "id": 42, "is_bot": false, "first_name": "Ann", "username": "ann" },
        });
        message.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        self.update(json!({ "message": message }));
        number
    }

    /// Something that is no update of the documentation.
    pub fn raw(&self, update: Value) {
        self.api.known.lock().updates.push(update);
        self.api.changed.notify_waiters();
    }

    /// A file that can be fetched.
    pub fn file(&self, id: &str, path: &str, bytes: &[u8]) {
        self.api.known.lock().files.insert(id.into(), (path.into(), bytes.into()));
    }

    /// The next call of this method goes wrong; each fault happens once.
    pub fn fail(&self, method: &str, fault: Fault) {
        self.api.known.lock().faults.push((method.to_lowercase(), fault));
    }

    /// The first call of this method that was not asked for yet: what it was called with.
    pub async fn called(&self, method: &str) -> Value {
        let method = method.to_lowercase();
        let found = async {
            loop {
                let changed = self.api.changed.notified();
                {
                    let calls = &mut self.api.known.lock().calls;
                    if let Some(at) = calls.iter().position(|(name, _)| *name == method) {
                        return calls.remove(at).1;
                    }
                }
                changed.await;
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{method} is not called"))
    }

    /// How often this method was called that nobody has asked for.
    pub fn calls(&self, method: &str) -> usize {
        let method = method.to_lowercase();
        self.api.known.lock().calls.iter().filter(|(name, _)| *name == method).count()
    }

    /// The numbers of the updates that nobody has confirmed.
    pub fn unconfirmed(&self) -> Vec<i64> {
        self.api.known.lock().updates.iter().filter_map(|update| update["update_id"].as_i64()).collect()
    }

    /// Waits until all updates before this are confirmed.
    pub async fn confirmed(&self, number: i64) {
        let confirmed = async {
            loop {
                let changed = self.api.changed.notified();
                if self.unconfirmed().iter().all(|update| *update > number) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, confirmed).await.expect("it is confirmed");
    }

    fn number(&self) -> i64 {
        let mut known = self.api.known.lock();
        known.last_message += 1;
        known.last_message
    }
}

async fn accept(listener: TcpListener, api: Arc<Api>) {
    let mut served = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        served.spawn(serve(stream, api.clone()));
        while served.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, api: Arc<Api>) {
    let answer = service_fn(move |request| {
        let api = api.clone();
        async move { api.answer(request).await }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

type Reply = Result<Response<Full<Bytes>>, io::Error>;

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn error(code: u16, description: &str, parameters: Value) -> Value {
    json!({ "ok": false, "error_code": code, "description": description, "parameters": parameters })
}

fn bad(what: &str) -> Value {
    error(400, &format!("Bad Request: {what}"), json!({}))
}

fn done(result: Value) -> Value {
    json!({ "ok": true, "result": result })
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        if let Some(file) = path.strip_prefix(&format!("/file/bot{TOKEN}/")) {
            let known = self.known.lock();
            let found = known.files.values().find(|(path, _)| path == file);
            return found.map_or_else(|| reply(404, "{}"), |(_, bytes)| reply(200, bytes.clone()));
        }
        let Some((token, method)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
            return reply(404, error(404, "Not Found", json!({})).to_string());
        };
        if token != TOKEN {
            return reply(401, error(401, "Unauthorized", json!({})).to_string());
        }
        let content_type =
            head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let params = match content_type.split_once("boundary=") {
            Some((_, boundary)) => form::parts(&body, boundary),
            None => serde_json::from_slice(&body).unwrap_or_else(|_| json!({})),
        };
        let method = method.to_lowercase();
        let fault = {
            let mut known = self.known.lock();
            known.calls.push((method.clone(), params.clone()));
            let at = known.faults.iter().position(|(name, _)| *name == method);
            at.map(|at| known.faults.remove(at).1)
        };
        self.changed.notify_waiters();
        match fault {
            Some(Fault::Answer(status, body)) => return reply(status, body),
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::TakenAndGone) => {
                self.act(&method, &params).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            None => {}
        }
        let said = self.act(&method, &params).await;
        let status = said["error_code"].as_u64().unwrap_or(200);
        reply(status as u16, said.to_string())
    }

    async fn act(&self, method: &str, params: &Value) -> Value {
        match method {
            "getme" => done(json!({
                "id": BOT, "is_bot": true, "first_name": "Crab", "username": "crab_bot", "can_join_groups": true,
                "can_read_all_group_messages": false, "supports_inline_queries": false,
            })),
            "getupdates" => self.updates(params).await,
            "setwebhook" | "deletewebhook" => {
                self.known.lock().webhook = params["url"].as_str().unwrap_or_default().into();
                done(true.into())
            }
            "sendmessage" => self.known.lock().post(params, "text"),
            "sendphoto" => self.known.lock().post(params, "photo"),
            "senddocument" => self.known.lock().post(params, "document"),
            "editmessagetext" => self.known.lock().edit(params),
            "deletemessage" => self.known.lock().delete(params),
            "getfile" => {
                let id = params["file_id"].as_str().unwrap_or_default();
                let known = self.known.lock();
                known.files.get(id).map_or_else(
                    || bad("invalid file_id"),
                    |(path, bytes)| {
                        done(json!({ "file_id": id, "file_path": path, "file_size": bytes.len() }))
                    },
                )
            }
            "sendpoll" => self.known.lock().post(params, "poll"),
            "sendchataction"
            | "setmessagereaction"
            | "answercallbackquery"
            | "pinchatmessage"
            | "unpinchatmessage" => done(true.into()),
            _ => error(404, "Not Found", json!({})),
        }
    }

    /// What is before `offset` is confirmed; waits for something to tell, unless another asks meanwhile.
    async fn updates(&self, params: &Value) -> Value {
        let number = |name: &str| params[name].as_i64();
        let mine = {
            let mut known = self.known.lock();
            if !known.webhook.is_empty() {
                let text = "Conflict: can't use getUpdates method while webhook is active";
                return error(409, text, json!({}));
            }
            match number("offset") {
                Some(offset @ 1..) => {
                    known.updates.retain(|update| update["update_id"].as_i64().is_none_or(|id| id >= offset));
                }
                Some(offset @ ..=-1) => {
                    let first = known.updates.len().saturating_sub(offset.unsigned_abs() as usize);
                    known.updates.drain(..first);
                }
                _ => {}
            }
            known.polls += 1;
            known.polls
        };
        self.changed.notify_waiters();
        let until = Instant::now() + Duration::from_secs(number("timeout").unwrap_or(0) as u64);
        loop {
            let changed = self.changed.notified();
            {
                let known = self.known.lock();
                if known.polls != mine {
                    let text = "Conflict: terminated by other getUpdates request; make sure that only one bot \
                                instance is running";
                    return error(409, text, json!({}));
                }
                let limit = number("limit").unwrap_or(100) as usize;
                if !known.updates.is_empty() || Instant::now() >= until {
                    return done(known.updates.iter().take(limit).cloned().collect());
                }
            }
            let _ = timeout_at(until, changed).await;
        }
    }
}
