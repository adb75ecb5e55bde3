//! The gateway of the Discord that is not there.

use super::{BOT, GUILD, TOKEN, World, person};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Opcodes.
const DISPATCH: u8 = 0;
const HEARTBEAT: u64 = 1;
const IDENTIFY: u64 = 2;
const RESUME: u64 = 6;
const INVALID_SESSION: u8 = 9;
const HELLO: u8 = 10;
const HEARTBEAT_ACK: u8 = 11;

pub struct Line {
    pub addr: SocketAddr,
    session: Mutex<Session>,
    seen: watch::Sender<Seen>,
    /// Close code for whoever says who they are.
    refusal: Mutex<Option<u16>>,
    /// Nobody is let in.
    is_shut: AtomicBool,
    /// Time between two heartbeats, ms.
    heartbeat: AtomicU64,
}

/// How often what was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub identifies: usize,
    pub resumes: usize,
    pub heartbeats: usize,
    pub connections: usize,
    /// Connections that the other side has ended.
    pub hang_ups: usize,
}

#[derive(Default)]
struct Session {
    id: String,
    is_valid: bool,
    /// Everything that was told, in its order.
    told: Vec<Value>,
    socket: Option<mpsc::UnboundedSender<Out>>,
    intents: u64,
}

enum Out {
    Text(String),
    Close(u16),
    Cut,
    Reset,
}

impl Line {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            session: Mutex::default(),
            seen: watch::Sender::default(),
            refusal: Mutex::default(),
            is_shut: AtomicBool::default(),
            heartbeat: AtomicU64::new(41_250),
        }
    }

    /// Something happens: whoever is there is told, and whoever resumes later.
    pub(super) fn dispatch(&self, event: &str, what: Value) {
        let mut session = self.session.lock();
        let frame = json!({ "op": DISPATCH, "t": event, "s": session.told.len() + 1, "d": what });
        session.told.push(frame.clone());
        session.out(Out::Text(frame.to_string()));
    }

    /// Text that is said as it is.
    pub fn raw(&self, text: &str) {
        self.session.lock().out(Out::Text(text.into()));
    }

    /// Closes the connection with a code.
    pub fn close(&self, code: u16) {
        self.session.lock().hang_up(Out::Close(code));
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        self.session.lock().hang_up(Out::Cut);
    }

    /// Resets the connection, as a broken network does.
    pub fn reset(&self) {
        self.session.lock().hang_up(Out::Reset);
    }

    /// The session is none any more.
    pub fn invalidate(&self) {
        self.session.lock().is_valid = false;
        self.raw(&json!({ "op": INVALID_SESSION, "d": false }).to_string());
    }

    /// Whoever says who they are is sent away with this code.
    pub fn send_away(&self, code: u16) {
        *self.refusal.lock() = Some(code);
    }

    /// Whether anybody is let in.
    pub fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Relaxed);
    }

    pub fn heartbeat(&self, every: Duration) {
        self.heartbeat.store(every.as_millis() as u64, Relaxed);
    }

    pub fn intents(&self) -> u64 {
        self.session.lock().intents
    }

    /// What was heard, as soon as this is true of it.
    pub async fn seen(&self, is_it: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let there = tokio::time::timeout(super::PATIENCE * 2, seen.wait_for(is_it)).await;
        *there.expect("it is heard in time").unwrap()
    }
}

impl Session {
    fn out(&self, out: Out) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(out);
        }
    }

    fn hang_up(&mut self, out: Out) {
        self.out(out);
        self.socket = None;
    }
}

pub(super) async fn serve(listener: TcpListener, world: Arc<World>) {
    let mut sockets = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if !world.line.is_shut.load(Relaxed) {
            let world = world.clone();
            sockets.spawn(async move { talk(stream, &world.line).await });
        }
    }
}

async fn talk(stream: TcpStream, line: &Line) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    let interval = line.heartbeat.load(Relaxed);
    let hello = json!({ "op": HELLO, "d": { "heartbeat_interval": interval } });
    line.seen.send_modify(|seen| seen.connections += 1);
    let (to_socket, mut out) = mpsc::unbounded_channel();
    let _ = socket.send(Message::text(hello.to_string())).await;
    loop {
        tokio::select! {
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => {
                    let heard: Value = serde_json::from_str(&text).unwrap();
                    hear(&heard, line, &to_socket);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    line.seen.send_modify(|seen| seen.hang_ups += 1);
                    return;
                }
                Some(Ok(_)) => {}
            },
            Some(out) = out.recv() => match out {
                Out::Text(text) => drop(socket.send(Message::text(text)).await),
                Out::Close(code) => return close(socket, code).await,
                Out::Cut => return,
                Out::Reset => return drop(socket.get_ref().set_zero_linger()),
            },
        }
    }
}

/// Waits for the other side, as a server does.
async fn close(mut socket: WebSocketStream<TcpStream>, code: u16) {
    let frame = CloseFrame { code: code.into(), reason: "".into() };
    let _ = socket.close(Some(frame)).await;
    while let Some(Ok(_)) = socket.next().await {}
}

fn hear(heard: &Value, line: &Line, socket: &mpsc::UnboundedSender<Out>) {
    let say = |frame: Value| drop(socket.send(Out::Text(frame.to_string())));
    let body = &heard["d"];
    let knows_token = body["token"].as_str().is_some_and(|token| token.trim_start_matches("Bot ") == TOKEN);
    match heard["op"].as_u64() {
        Some(HEARTBEAT) => {
            line.seen.send_modify(|seen| seen.heartbeats += 1);
            say(json!({ "op": HEARTBEAT_ACK }));
        }
        Some(IDENTIFY) => {
            let refusal = line.refusal.lock().or((!knows_token).then_some(4004));
            if let Some(code) = refusal {
                let _ = socket.send(Out::Close(code));
                return line.seen.send_modify(|seen| seen.identifies += 1);
            }
            let mut session = line.session.lock();
            let id = format!("session-{}", line.seen.borrow().identifies + 1);
            *session = Session {
                id: id.clone(),
                is_valid: true,
                told: vec![],
                socket: Some(socket.clone()),
                intents: body["intents"].as_u64().unwrap_or_default(),
            };
            drop(session);
            line.dispatch("READY", ready(&id, line.addr));
            // Only now: what is told before would be of no session.
            line.seen.send_modify(|seen| seen.identifies += 1);
        }
        Some(RESUME) => {
            line.seen.send_modify(|seen| seen.resumes += 1);
            let mut session = line.session.lock();
            if !session.is_valid || body["session_id"] != session.id.as_str() || !knows_token {
                return say(json!({ "op": INVALID_SESSION, "d": false }));
            }
            let seen = body["seq"].as_u64().unwrap_or_default() as usize;
            session.told.iter().skip(seen).for_each(|frame| say(frame.clone()));
            session.socket = Some(socket.clone());
            drop(session);
            line.dispatch("RESUMED", json!({ "_trace": [] }));
        }
        _ => {}
    }
}

fn ready(session: &str, addr: SocketAddr) -> Value {
    let mut user = person(BOT, "crab");
    user["verified"] = json!(true);
    user["mfa_enabled"] = json!(false);
    user["email"] = Value::Null;
    json!({
        "v": 10, "user": user, "guilds": [{ "id": GUILD, "unavailable": true }], "session_id": session,
        "resume_gateway_url": format!("ws://{addr}"), "shard": [0, 1], "application": { "id": BOT, "flags": 0 },
    })
}
