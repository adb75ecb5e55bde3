//! What everybody who takes part knows: how far the year is, what was counted, and what went wrong.

use crate::measured::TOKEN;
use crate::plan::Plan;
use crate::talk::Said;
use crabtree_protocol::client::encode_request;
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

/// Problems that are told; the rest is counted, up to so many, which are enough.
const TOLD: usize = 50;
const ENOUGH: u64 = 1_000;
/// Messages that are remembered to the end.
const REMEMBERED: usize = 256;
/// How often who waits for the year to go on looks.
pub const LOOK: Duration = Duration::from_millis(5);

/// What was measured since the last sample, in milliseconds.
#[derive(Default)]
pub struct Window {
    pub health: Vec<f64>,
    pub ack: Vec<f64>,
    pub turn: Vec<f64>,
}

pub struct World {
    pub plan: Plan,
    pub addr: SocketAddr,
    pub connect: Utf8Bytes,
    /// The process.
    pub pid: AtomicU32,
    /// Connections that may be struck.
    pub watchers: Mutex<BTreeMap<usize, String>>,
    pub begun_at: Instant,
    /// Messages that were begun, and those with an outcome.
    begun: AtomicU64,
    pub settled: AtomicU64,
    /// No message from this one on is begun yet: what is to be done before has not been.
    pub horizon: AtomicU64,
    /// Restarts that have begun, and those that are over: odd during one.
    pub era: AtomicU64,
    /// Crashes and restarts that have begun.
    pub blows: AtomicU64,
    pub window: Mutex<Window>,
    counts: Mutex<BTreeMap<String, u64>>,
    problems: Mutex<(u64, Vec<String>)>,
    remembered: Mutex<Vec<Said>>,
    /// No more messages: the year is cut short.
    stopped: AtomicBool,
    /// Everybody goes home.
    pub over: CancellationToken,
}

impl World {
    pub fn new(plan: Plan, addr: SocketAddr) -> Self {
        Self {
            plan,
            addr,
            connect: connect_request(&["session-scoped-events"]),
            pid: AtomicU32::new(0),
            watchers: Mutex::default(),
            begun_at: Instant::now(),
            begun: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            horizon: AtomicU64::new(0),
            era: AtomicU64::new(0),
            blows: AtomicU64::new(0),
            window: Mutex::default(),
            counts: Mutex::default(),
            problems: Mutex::default(),
            remembered: Mutex::default(),
            stopped: AtomicBool::new(false),
            over: CancellationToken::new(),
        }
    }

    /// Whether there are messages that were not begun.
    pub fn has_more(&self) -> bool {
        self.begun.load(SeqCst) < self.plan.messages && !self.is_stopped()
    }

    /// The number of the next message; none when there are no more.
    pub async fn number(&self) -> Option<u64> {
        loop {
            let begun = self.begun.load(SeqCst);
            if begun >= self.plan.messages || self.is_stopped() {
                return None;
            }
            if begun >= self.horizon.load(SeqCst) {
                tokio::time::sleep(LOOK).await;
            } else if self.begun.compare_exchange(begun, begun + 1, SeqCst, SeqCst).is_ok() {
                return Some(begun);
            }
        }
    }

    /// Waits until so many messages have an outcome; false if they never will.
    pub async fn reached(&self, settled: u64) -> bool {
        while self.settled.load(SeqCst) < settled {
            if self.is_stopped() {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst) || self.over.is_cancelled()
    }

    pub fn count(&self, what: &str) {
        self.count_many(what, 1);
    }

    pub fn count_many(&self, what: &str, many: u64) {
        *self.counts.lock().entry(what.to_owned()).or_default() += many;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().clone()
    }

    pub fn counted(&self, what: &str) -> u64 {
        self.counts.lock().get(what).copied().unwrap_or_default()
    }

    pub fn problem(&self, what: impl Into<String>) {
        let (count, told) = &mut *self.problems.lock();
        *count += 1;
        if told.len() < TOLD {
            let what = format!("at message {}: {}", self.settled.load(SeqCst), what.into());
            eprintln!("PROBLEM {what}");
            told.push(what);
        }
        if *count >= ENOUGH {
            self.over.cancel();
        }
    }

    /// How many there were, and the first of them.
    pub fn problems(&self) -> (u64, Vec<String>) {
        self.problems.lock().clone()
    }

    /// There is no going on.
    pub fn fail(&self, what: impl Into<String>) {
        if !self.over.is_cancelled() {
            self.problem(what);
            self.over.cancel();
        }
    }

    /// Remembers some of all messages, each with the same chance.
    pub fn remember(&self, said: &Said, rng: &mut StdRng) {
        let mut remembered = self.remembered.lock();
        let place = rng.random_range(0..=said.number as usize);
        if remembered.len() < REMEMBERED {
            remembered.push(said.clone());
        } else if place < REMEMBERED {
            remembered[place] = said.clone();
        }
    }

    pub fn remembered(&self) -> Vec<Said> {
        self.remembered.lock().clone()
    }
}

/// The request a connection of these capabilities begins with.
pub fn connect_request(caps: &[&str]) -> Utf8Bytes {
    let params = json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": { "id": "gateway-client", "mode": "backend", "version": "0", "platform": "linux" },
        "caps": caps,
        "role": "operator",
        "scopes": ["operator.read", "operator.write", "operator.admin"],
        "auth": { "token": TOKEN },
    });
    request("c", "connect", &params)
}

pub fn request(id: &str, method: &str, params: &Value) -> Utf8Bytes {
    let request = encode_request(id, method, Some(params.to_string().as_bytes()));
    request.try_into().expect("JSON is UTF-8")
}
