//! Every recorded handshake, replayed: the same frames must get the same answers and the same closes.
//!
//! `tests/data/handshake.jsonl` holds one case a line, made from the recordings of a real gateway (2026.9.6):
//! what clients sent, with `<placeholders>` for what differs from run to run (nonces, signatures, tokens, ids),
//! and what they got. Cases that share a device are one group and run in order; groups run side by side, each
//! from an address of its own, since addresses have limits of their own. Setup codes that were made without a profile
//! are made with `full` here: that is the default there, and none of ours.

use crate::client::TOKEN;
use crate::gateway::Embedded;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_protocol::frame::Close;
use differences::{DIFFERENCES, ELSEWHERE};
use forge::{device, filled, refused_upgrade, signed};
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use wire::Wire;

mod differences;
mod forge;
mod wire;

const CASES: &str = include_str!("../data/handshake.jsonl");
/// No answer is waited for longer; the recorded silence of 15 s is the longest.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a gateway with tight limits locks clients out.
const LOCKOUT_MS: u64 = 4_000;
/// Groups that run side by side.
const LANES: usize = 24;

/// accepts: B4, B5, B6, B7, B8, B10, B15, C1, C8, C9, D1, D2, D4, D7, D13, D14, E1, E3, E4, E7, E8, E9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_handshake_replays() {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let cases: Vec<Value> = CASES.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() == 180 && ELSEWHERE.len() == 4);
    for case in cases {
        let group = case["group"].as_str().or(case["case"].as_str()).unwrap().to_owned();
        groups.entry(group).or_default().push(case);
    }
    let mut shared = HashMap::new();
    for mode in ["token", "password", "none"] {
        shared.insert(mode.to_owned(), gateway(mode).await);
    }
    let (shared, lanes) = (Arc::new(shared), Arc::new(tokio::sync::Semaphore::new(LANES)));
    let mut players = Vec::new();
    for (nth, cases) in groups.into_values().enumerate() {
        let (shared, lanes) = (shared.clone(), lanes.clone());
        players.push(tokio::spawn(async move {
            let _lane = lanes.acquire().await.unwrap();
            // Lockouts and pairings of the recorded gateway with tight limits are each case's own.
            let own = match shared.contains_key(cases[0]["gateway"].as_str().unwrap()) {
                true => None,
                false => Some(gateway(cases[0]["gateway"].as_str().unwrap()).await),
            };
            let gateway = own.as_ref().unwrap_or_else(|| &shared[cases[0]["gateway"].as_str().unwrap()]);
            let mut player = Player::new(gateway.addr, Ipv4Addr::new(127, 9, nth as u8, 1));
            for case in &cases {
                player.play(case, gateway).await;
            }
            player.unlike
        }));
    }
    let mut unlike = BTreeMap::new();
    for player in players {
        unlike.extend(player.await.unwrap());
    }
    let known: BTreeSet<&str> = DIFFERENCES.iter().map(|(what, _)| *what).collect();
    let found: BTreeSet<&str> = unlike.keys().map(String::as_str).collect();
    let surprises: Vec<_> = unlike.iter().filter(|(what, _)| !known.contains(what.as_str())).collect();
    assert!(surprises.is_empty(), "not as recorded: {surprises:#?}");
    for what in known.difference(&found) {
        eprintln!("as recorded by now, and no difference any more: {what}");
    }
}

async fn gateway(mode: &str) -> Embedded {
    let secret = Secret::new(TOKEN);
    let auth = match mode {
        "password" => AuthSecret::Password(secret),
        "none" => AuthSecret::None,
        "people" => AuthSecret::TrustedProxy(Some(secret)),
        _ => AuthSecret::Token(secret),
    };
    let proxies = json!(["127.9.0.0/16"]);
    let settings = match mode {
        "limited" => json!({ "auth": { "rateLimit": limits() } }),
        // Whatever comes from these addresses is a proxy's, if it says so.
        "proxied" => json!({ "auth": { "rateLimit": limits() }, "trustedProxies": proxies }),
        "people" => json!({
            "auth": {
                "mode": "trusted-proxy", "password": TOKEN,
                "trustedProxy": {
                    "userHeader": "x-forwarded-user", "requiredHeaders": ["x-forwarded-proto"],
                    "allowLoopback": true, "deviceAutoApprove": { "enabled": true },
                },
            },
            "controlUi": { "allowedOrigins": ["https://gw.example"] },
            "trustedProxies": proxies,
        }),
        _ => json!({}),
    };
    Embedded::with_auth(json!({ "gateway": settings }), auth).await
}

fn limits() -> Value {
    json!({ "maxAttempts": 3, "windowMs": 6000, "lockoutMs": LOCKOUT_MS })
}

struct Player {
    addr: SocketAddr,
    from: Ipv4Addr,
    /// What placeholders stand for.
    bound: HashMap<String, String>,
    wires: HashMap<u64, Wire>,
    /// Names of the events that the case waits for.
    awaited: BTreeSet<String>,
    /// What was not as recorded: where, and how.
    unlike: BTreeMap<String, String>,
}

impl Player {
    fn new(addr: SocketAddr, from: Ipv4Addr) -> Self {
        let bound = [
            ("<secret>".to_owned(), TOKEN.to_owned()),
            ("<long>".to_owned(), "i".repeat(5_000)),
            ("<buildId>".to_owned(), concat!("crabtree-", env!("CARGO_PKG_VERSION")).to_owned()),
            ("<host>".to_owned(), addr.to_string()),
        ];
        let (wires, awaited) = (HashMap::new(), BTreeSet::new());
        Self { addr, from, bound: bound.into(), wires, awaited, unlike: BTreeMap::new() }
    }

    async fn play(&mut self, case: &Value, gateway: &Embedded) {
        let name = case["case"].as_str().unwrap();
        let steps = case["steps"].as_array().unwrap();
        self.wires.clear();
        self.awaited = steps.iter().filter_map(|step| step["name"].as_str().map(Into::into)).collect();
        for step in steps {
            let (kind, conn) = step.as_object().unwrap().iter().next().unwrap();
            let conn = conn.as_u64().unwrap();
            let outcome = match kind.as_str() {
                "open" => {
                    let refused = steps.iter().find(|s| s["http"] == conn);
                    self.open(step, conn, refused).await
                }
                "send" => self.send(step, conn).await,
                "recv" => self.receive(step, conn).await,
                "close" => self.closed(step, conn).await,
                "hangup" => {
                    self.wires.remove(&conn);
                    Ok(())
                }
                "silent" => Err(("silent".to_owned(), "a challenge was sent".to_owned())),
                "http" => Ok(()),
                "event" => self.event(step, conn).await,
                "lockout" => {
                    tokio::time::sleep(Duration::from_millis(LOCKOUT_MS)).await;
                    Ok(())
                }
                "secret" => {
                    let changed = json!({ "gateway": { "auth": { "token": "another-secret" } } });
                    std::fs::write(gateway.state.path().join("openclaw.json"), changed.to_string()).unwrap();
                    gateway.gateway.reload();
                    Ok(())
                }
                other => panic!("{other}"),
            };
            if let Err((what, how)) = outcome {
                self.unlike.insert(format!("{name} {what}"), how);
            }
        }
    }

    async fn tcp(&self, step: &Value) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        let mut from = self.from.octets();
        from[3] += u8::from(step["from"] == "other");
        // Only Linux has all of 127.0.0.0/8.
        let _ = socket.bind((Ipv4Addr::from(from), 0).into());
        socket.connect(self.addr).await.unwrap()
    }

    async fn open(&mut self, step: &Value, conn: u64, refused: Option<&Value>) -> Outcome {
        let stream = self.tcp(step).await;
        let path = self.rendered(step["path"].as_str().unwrap_or("/"));
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            headers.push((name.clone(), self.rendered(value.as_str().unwrap())));
        }
        if let Some(origin) = step["origin"].as_str() {
            headers.push(("origin".into(), origin.replace("<host>", &self.addr.to_string())));
        }
        if let Some(refused) = refused {
            return refused_upgrade(stream, &headers, refused).await;
        }
        let mut request = format!("ws://{}{path}", self.addr).into_client_request().unwrap();
        for (name, value) in &headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(name).unwrap();
            let value = if value.starts_with("Bearer ") { format!("Bearer {TOKEN}") } else { value.clone() };
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (ws, _) = client_async(request, stream).await.unwrap();
        let (methods, waiting, events) = (HashMap::new(), vec![], VecDeque::new());
        let (challenge, sent, awaited) = (Value::Null, Instant::now(), self.awaited.clone());
        let mut wire = Wire { ws, challenge, sent, methods, waiting, events, awaited };
        wire.challenge = wire.frame().await.expect("a challenge")["payload"].clone();
        self.wires.insert(conn, wire);
        Ok(())
    }

    async fn send(&mut self, step: &Value, conn: u64) -> Outcome {
        let text = if let Some(text) = step["text"].as_str() {
            text.to_owned()
        } else if let Some(fill) = step.get("fill") {
            filled(fill)
        } else {
            let mut frame = self.outgoing(&step["frame"]);
            let challenge = &self.wires[&conn].challenge;
            if frame["params"]["device"].is_object() {
                signed(&mut frame["params"], challenge);
            }
            frame.to_string()
        };
        let wire = self.wires.get_mut(&conn).unwrap();
        if let (Some(id), Some(method)) = (step["frame"].get("id"), step["frame"]["method"].as_str()) {
            wire.methods.insert(id.to_string(), method.to_owned());
        }
        wire.sent = Instant::now();
        let message =
            if step["binary"] == true { Message::binary(text.into_bytes()) } else { Message::text(text) };
        // A socket that is being closed shows itself when it is read.
        // What follows at once goes out with it: nothing is flushed before an answer is waited for.
        let _ = wire.ws.feed(message).await;
        Ok(())
    }

    async fn receive(&mut self, step: &Value, conn: u64) -> Outcome {
        let id = self.outgoing(&step["id"]);
        let wire = self.wires.get_mut(&conn).unwrap();
        let _ = wire.ws.flush().await;
        let what =
            wire.methods.get(&step["id"].to_string()).cloned().unwrap_or_else(|| step["id"].to_string());
        let answer = wire.response(&id).await.ok_or_else(|| (what.clone(), "closed".to_owned()))?;
        let took = wire.sent.elapsed().as_millis() as u64;
        if step["after"].as_u64().is_some_and(|after| took < after) {
            return Err((what, format!("answered after {took} ms already")));
        }
        let mut actual = answer.clone();
        let expected = if let Some(hello) = step.get("hello") {
            let auth = &mut actual["payload"]["auth"];
            let issued = auth.as_object_mut().and_then(|auth| auth.shift_remove("issuedAtMs"));
            assert_eq!(issued.is_some(), auth.get("deviceToken").is_some(), "{auth}");
            actual = json!({ "protocol": answer["payload"]["protocol"], "auth": auth });
            hello.clone()
        } else if step["ok"] == true {
            let payload = step
                .get("payload")
                .filter(|payload| !payload.is_null())
                .map(|payload| if *payload == "*" { answer["payload"].clone() } else { payload.clone() });
            json!({ "type": "res", "id": step["id"], "ok": true, "payload": payload })
        } else {
            json!({ "type": "res", "id": step["id"], "ok": false, "error": step["error"] })
        };
        self.compare(&expected, &actual, "").map_err(|how| (what, format!("{how} in {answer}")))
    }

    /// The next event of a name.
    async fn event(&mut self, step: &Value, conn: u64) -> Outcome {
        let name = step["name"].as_str().unwrap();
        // What leads to it may be said on another connection.
        for wire in self.wires.values_mut() {
            let _ = wire.ws.flush().await;
        }
        let event = self.wires.get_mut(&conn).unwrap().event(name).await;
        let event = event.ok_or_else(|| (name.to_owned(), "it did not come".to_owned()))?;
        if event["event"] != name {
            let instead = format!("{event} came instead");
            self.wires.get_mut(&conn).unwrap().events.push_front(event);
            return Err((name.to_owned(), instead));
        }
        let compared = self.compare(&step["payload"], &event["payload"], "");
        compared.map_err(|how| (name.to_owned(), format!("{how} in {event}")))
    }

    async fn closed(&mut self, step: &Value, conn: u64) -> Outcome {
        let what = "close".to_owned();
        let mut wire = self.wires.remove(&conn).unwrap();
        let closed = tokio::time::timeout(PATIENCE, wire.closed()).await;
        let closed = closed.map_err(|_| (what.clone(), "it stays open".to_owned()))?;
        let reason =
            self.bound.iter().fold(step["reason"].as_str().unwrap().to_owned(), |reason, (name, value)| {
                reason.replace(name, value)
            });
        let expected = Close::new(step["code"].as_u64().unwrap() as u16, reason);
        match closed {
            Some((code, reason)) if (code, &reason) == (expected.code, &expected.reason) => Ok(()),
            other => Err((what, format!("{other:?} instead of {expected:?}"))),
        }
    }

    /// A recorded text with its placeholders filled in.
    fn rendered(&self, text: &str) -> String {
        if let Some(label) = text.strip_prefix("<d").and_then(|rest| rest.strip_suffix('>')) {
            return device(&format!("d{label}")).device_id().to_string();
        }
        if let Some(label) = text.strip_prefix("<p").and_then(|rest| rest.strip_suffix('>')) {
            return device(label).public_key();
        }
        if text.starts_with("<t") && !self.bound.contains_key(text) {
            return "a-token-of-another-gateway".to_owned();
        }
        self.bound.get(text).cloned().unwrap_or_else(|| text.replace("<secret>", TOKEN))
    }

    fn outgoing(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.rendered(text).into(),
            Value::Array(list) => list.iter().map(|item| self.outgoing(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(k, v)| (k.clone(), self.outgoing(v)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    /// Compares, and learns what placeholders of answers stand for.
    fn compare(&mut self, expected: &Value, actual: &Value, at: &str) -> Result<(), String> {
        match (expected, actual) {
            (Value::Object(e), Value::Object(a)) => {
                let keys =
                    |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
                if keys(e) != keys(a) {
                    return Err(format!("{at}: keys {:?}, not {:?}", keys(a), keys(e)));
                }
                e.iter().try_for_each(|(key, e)| self.compare(e, &a[key], &format!("{at}/{key}")))
            }
            (Value::Number(e), Value::Number(a)) if at.ends_with("/retryAfterMs") => {
                let (e, a) = (e.as_i64().unwrap(), a.as_i64().unwrap());
                if e == a || (a > 0 && e - a < 3_000 && a <= 4_000) {
                    Ok(())
                } else {
                    Err(format!("{at}: {a}"))
                }
            }
            (Value::String(e), Value::String(_)) if e == "*" => Ok(()),
            (Value::String(e), Value::Number(_)) if e == "<ms>" => Ok(()),
            (Value::Array(e), Value::Array(a)) if e.len() == a.len() => e
                .iter()
                .zip(a)
                .enumerate()
                .try_for_each(|(n, (e, a))| self.compare(e, a, &format!("{at}/{n}"))),
            (Value::String(e), Value::String(a)) if e.starts_with("<code:") => {
                let name = e.strip_prefix("<code:").and_then(|rest| rest.strip_suffix('>')).unwrap();
                let told = BASE64_URL_SAFE_NO_PAD.decode(a).unwrap();
                let told: Value = serde_json::from_slice(&told).unwrap();
                let keys: Vec<_> = told.as_object().unwrap().keys().collect();
                assert_eq!(keys, ["url", "bootstrapToken", "expiresAtMs"]);
                self.bound.insert(name.to_owned(), told["bootstrapToken"].as_str().unwrap().to_owned());
                Ok(())
            }
            (Value::String(e), Value::String(a)) if e.starts_with("<t") || e.starts_with("<r") => {
                let known = self.bound.entry(e.clone()).or_insert_with(|| a.clone());
                if known == a { Ok(()) } else { Err(format!("{at}: {a} is not {e}, which was {known}")) }
            }
            (e, a) if self.outgoing(e) == *a => Ok(()),
            (e, a) => Err(format!("{at}: {a}, not {e}")),
        }
    }
}

/// What was not as recorded, and how.
type Outcome = Result<(), (String, String)>;
