//! The sockets of attackers, and what came back on them.

use super::arsenal::{Arsenal, Challenge, Shot};
use super::doorman::Doorman;
use super::requests::OPEN;
use crate::flood::{mutate::Dice, tcp};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// An answer or a close comes within this.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is waited for what need not come: the gateway may be in the middle of a message.
const MOMENT: Duration = Duration::from_millis(20);
/// Messages that may follow the first one; few do most of the time.
const MORE: usize = 8;
/// The page strangers come from.
const PAGE: &str = "http://localhost:5173";
/// Asked last: with its answer all that came before it is answered.
const LAST: &str = r#"{"type":"req","id":"the last","method":"health"}"#;
/// Codes in `error.details`, and beginnings of messages without one, that are recorded for a handshake.
const RECORDED: &[&str] = &[
    "AUTH_BOOTSTRAP_TOKEN_INVALID",
    "AUTH_DEVICE_TOKEN_MISMATCH",
    "AUTH_SCOPE_MISMATCH",
    "AUTH_TOKEN_MISMATCH",
    "AUTH_TOKEN_MISSING",
    "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
    "CONTROL_UI_ORIGIN_NOT_ALLOWED",
    "DEVICE_AUTH_DEVICE_ID_MISMATCH",
    "DEVICE_AUTH_NONCE_MISMATCH",
    "DEVICE_AUTH_NONCE_REQUIRED",
    "DEVICE_AUTH_SIGNATURE_EXPIRED",
    "DEVICE_AUTH_SIGNATURE_INVALID",
    "DEVICE_IDENTITY_REQUIRED",
    "PAIRING_REQUIRED",
    "PROTOCOL_MISMATCH",
    "copilot",
    "invalid connect params",
    "invalid handshake",
    "invalid role",
];
/// How a socket may be closed: the close code of a handshake that failed, or of the WebSocket itself.
const CLOSES: [u16; 6] = [1000, 1002, 1003, 1007, 1008, 1009];

pub struct Siege {
    pub to: SocketAddr,
    pub seed: u64,
    pub arsenal: Arsenal,
    pub doorman: Doorman,
}

/// What came of it.
#[derive(Default)]
pub struct Seen {
    pub frames: u64,
    pub connections: u64,
    entered: u64,
    refusals: BTreeMap<String, u64>,
    closes: BTreeMap<String, u64>,
    /// What must not be.
    pub breaches: Vec<String>,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.connections += other.connections;
        self.entered += other.entered;
        self.breaches.extend(other.breaches);
        for (to, from) in [(&mut self.refusals, other.refusals), (&mut self.closes, other.closes)] {
            from.into_iter().for_each(|(what, n)| *to.entry(what).or_default() += n);
        }
    }

    /// Every way to be refused was met, and the door was open for who is right.
    pub fn is_thorough(&self) -> bool {
        RECORDED.iter().all(|code| self.refusals.contains_key(*code)) && self.entered > 0
    }

    /// Whether a refusal of a handshake is one that is recorded.
    pub fn is_recorded(error: &Value) -> bool {
        let code = matches!(error["code"].as_str(), Some("INVALID_REQUEST" | "NOT_PAIRED"));
        code && RECORDED.contains(&kind(error))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} rightly let in; refused {:?}; closed {:?}", self.entered, self.refusals, self.closes)
    }
}

fn kind(error: &Value) -> &str {
    let message = error["message"].as_str().unwrap_or_default();
    let message = message.split([':', ';']).next().unwrap_or_default();
    let message = if message.starts_with("browser copilot") { "copilot" } else { message };
    error["details"]["code"].as_str().unwrap_or(message)
}

/// One connection: what was sent on it, and how far it came.
struct Attack {
    ws: WebSocketStream<TcpStream>,
    nonce: String,
    /// The first message, if it is one.
    first: Option<String>,
    /// Methods of what follows, by id.
    asked: HashMap<String, String>,
    /// It came from somebody else's page.
    page: bool,
    /// Something else than messages was sent.
    garbled: bool,
    /// The scopes it was granted.
    granted: Option<Vec<String>>,
}

impl Siege {
    /// Sends at least so many frames, from so many addresses at the same time.
    pub async fn lay(siege: &Arc<Self>, from: u64, frames: u64, lanes: usize) -> Seen {
        let left = Arc::new(AtomicI64::new(frames as i64));
        let next = Arc::new(AtomicU64::new(from));
        let mut attackers = tokio::task::JoinSet::new();
        for lane in 0..lanes {
            let (siege, left, next) = (siege.clone(), left.clone(), next.clone());
            attackers.spawn(async move {
                let mut seen = Seen::default();
                while left.load(Relaxed) > 0 && seen.breaches.is_empty() {
                    let sent = seen.frames;
                    siege.attack(next.fetch_add(1, Relaxed), lane, &mut seen).await;
                    left.fetch_sub((seen.frames - sent) as i64, Relaxed);
                }
                seen
            });
        }
        let mut all = Seen::default();
        while let Some(seen) = attackers.join_next().await {
            all.add(seen.unwrap());
        }
        all
    }

    async fn attack(&self, number: u64, lane: usize, seen: &mut Seen) {
        let mut dice = Dice((self.seed ^ number << 20) | 1);
        let page = dice.roll(60) == 0;
        let mut request = format!("ws://{}/", self.to).into_client_request().unwrap();
        if page {
            request.headers_mut().insert("origin", PAGE.parse().unwrap());
        }
        let (mut ws, _) = client_async(request, tcp(self.to, lane).await).await.unwrap();
        seen.connections += 1;
        let challenge = timeout(PATIENCE, ws.next()).await.expect("a challenge in time").unwrap().unwrap();
        let challenge: Value = serde_json::from_str(challenge.to_text().unwrap()).unwrap();
        let payload = &challenge["payload"];
        let nonce = payload["nonce"].as_str().unwrap().to_owned();
        let challenge = Challenge { nonce: nonce.clone(), ts: payload["ts"].as_u64().unwrap() };
        let (asked, granted) = (HashMap::new(), None);
        let mut attack = Attack { ws, nonce, first: None, asked, page, garbled: false, granted };
        let first = match page {
            true => self.arsenal.stranger(&mut dice, &challenge),
            false => self.arsenal.first(&mut dice, &challenge),
        };
        attack.first = attack.send(first).await;
        let more = if dice.roll(4) == 0 { dice.roll(MORE) } else { dice.roll(2) };
        for _ in 0..more {
            if let Some(text) = attack.send(self.arsenal.next(&mut dice, &challenge)).await {
                attack.note(&text);
            }
        }
        attack.send(Shot::Text(LAST.into())).await;
        attack.note(LAST);
        let _ = attack.ws.flush().await;
        seen.frames += 1 + more as u64;
        if let Err(breach) = attack.look(&self.doorman, seen).await {
            let first = attack.first.unwrap_or_default();
            seen.breaches.push(format!("connection {number}: {breach}, after {first}"));
        }
    }
}

impl Attack {
    /// A socket that is closing shows itself when it is read. Returns what the gateway reads as a message.
    async fn send(&mut self, shot: Shot) -> Option<String> {
        match &shot {
            Shot::Text(text) => drop(self.ws.feed(Message::text(text.clone())).await),
            Shot::Binary(bytes) => drop(self.ws.feed(Message::binary(bytes.clone())).await),
            Shot::Raw(bytes) => {
                let _ = self.ws.flush().await;
                let _ = self.ws.get_mut().write_all(bytes).await;
                self.garbled = true;
            }
        }
        shot.text()
    }

    fn note(&mut self, text: &str) {
        if let Ok(frame) = serde_json::from_str::<Value>(text) {
            let method = frame["method"].as_str().unwrap_or_default();
            self.asked.insert(frame["id"].to_string(), method.to_owned());
        }
    }

    /// Reads until all is answered, or the socket is closed.
    async fn look(&mut self, doorman: &Doorman, seen: &mut Seen) -> Result<(), String> {
        loop {
            let wait = if self.garbled { MOMENT } else { PATIENCE };
            let message = match timeout(wait, self.ws.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(_) => return Ok(()),
                Err(_) if self.garbled => return Ok(()),
                Err(_) => return Err("neither an answer nor a close".into()),
            };
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
                    self.read(&frame, doorman, seen)?;
                    if frame["id"] == "the last" {
                        return Ok(());
                    }
                }
                Message::Close(Some(close)) => {
                    let code = u16::from(close.code);
                    let reason = close.reason.split([':', '(']).next().unwrap_or_default();
                    *seen.closes.entry(format!("{code} {reason}")).or_default() += 1;
                    if !CLOSES.contains(&code) {
                        return Err(format!("closed with {code} {}", close.reason));
                    }
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, frame: &Value, doorman: &Doorman, seen: &mut Seen) -> Result<(), String> {
        let hello = frame["ok"] == true && frame["payload"]["type"] == "hello-ok";
        match (&self.granted, frame["type"].as_str()) {
            (None, Some("res")) if hello => {
                seen.entered += 1;
                self.enter(&frame["payload"]["auth"], doorman)
            }
            (None, Some("res")) if frame["ok"] == false => {
                *seen.refusals.entry(kind(&frame["error"]).to_owned()).or_default() += 1;
                let recorded = Seen::is_recorded(&frame["error"]);
                if recorded { Ok(()) } else { Err(format!("an answer that is not recorded: {frame}")) }
            }
            (None, _) => Err(format!("told before it was let in: {frame}")),
            (Some(scopes), Some("res")) if scopes.is_empty() && frame["ok"] == true => {
                let method = self.asked.get(&frame["id"].to_string());
                let open = method.is_some_and(|method| OPEN.contains(&method.as_str()));
                if open { Ok(()) } else { Err(format!("{method:?} without a scope: {frame}")) }
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, auth: &Value, doorman: &Doorman) -> Result<(), String> {
        let first = self.first.as_deref().unwrap_or_default();
        if self.page || !doorman.admits(first, &self.nonce) {
            return Err(format!("let in: {auth}"));
        }
        let asked: Value = serde_json::from_str(first).unwrap_or_default();
        let list = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
        let (wanted, granted) = (list(&asked["params"]["scopes"]), list(&auth["scopes"]));
        let role = asked["params"]["role"].as_str().unwrap_or("operator");
        if auth["role"] != role || granted.iter().any(|scope| !wanted.contains(scope)) {
            return Err(format!("given more than it asked for: {auth}"));
        }
        // Nodes may do what nodes do.
        self.granted = Some(if role == "node" { vec!["node".into()] } else { granted });
        Ok(())
    }
}
