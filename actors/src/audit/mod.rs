//! The ledger of acts, as it is noted: who did what, and what it came to. Noting takes a lock for a moment and nothing
//! else; the store's single writer takes what was noted into its next commit, at the latest [`WRITTEN_AFTER`] later.
//!
//! A request is noted before it is carried out, and everything that it writes to the store is written after that: so the
//! row of a request whose effect survived `kill -9` has survived, too, and says at least that it began. What leaves its
//! effect elsewhere (the configuration file, say) may lose the rows of the last moment. The book itself is in the Estate:
//! no actor's crash touches it.

mod summary;

pub use summary::{summary, target};

use crate::conns::Conn;
use crate::estate::Estate;
use crate::store::Act;
use crate::tree::Clock;
use crabtree_protocol::{ConnectParams, ErrorCode, Method, Refusal, Role, Scope, is_audited};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// How long what was noted waits for company in its commit.
pub const WRITTEN_AFTER: Duration = Duration::from_millis(200);
/// Acts that wait to be written; what comes while there are as many is counted only.
const MAX_WAITING: usize = 4096;
/// Refusals that are noted one by one in [`WINDOW_MS`]; the rest is counted: whoever is refused may try without end.
const MAX_REFUSED: u32 = 30;
/// See [`MAX_REFUSED`].
const WINDOW_MS: i64 = 60_000;

/// What was noted and is not written yet.
pub struct Book {
    clock: Clock,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Act)>,
    last_ticket: u64,
    missed: u64,
    window_from: i64,
    refused: u32,
    refused_more: u64,
}

impl Queue {
    fn push(&mut self, act: Act) -> u64 {
        self.last_ticket += 1;
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((self.last_ticket, act));
        } else {
            self.missed += 1;
        }
        self.last_ticket
    }

    /// Tells how many refusals of the last minute were not noted.
    fn close_window(&mut self, now: i64) {
        if now.saturating_sub(self.window_from).unsigned_abs() < WINDOW_MS.unsigned_abs() {
            return;
        }
        let more = std::mem::take(&mut self.refused_more);
        (self.window_from, self.refused) = (now, 0);
        if more > 0 {
            self.push(counted("audit.refused", "blocked", more, now));
        }
    }
}

/// A row about rows that are not there.
fn counted(action: &str, status: &str, count: u64, now: i64) -> Act {
    Act {
        at: now,
        kind: "operator_act".into(),
        action: action.into(),
        status: status.into(),
        actor_type: "system".into(),
        actor_id: "gateway".into(),
        summary: Some(json!({ "notWritten": count })),
        ..Act::default()
    }
}

impl Book {
    /// An empty one, which takes its time from there.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, queue: Mutex::default(), news: Notify::default() })
    }

    /// Notes that something begins. What it came to is said by the [`Note`]; dropped, it says that nobody knows.
    pub fn begin(self: &Arc<Self>, act: Act) -> Note {
        let act = Act { status: "started".into(), ..act };
        let ticket = self.queue.lock().push(act.clone());
        self.news.notify_one();
        Note { book: self.clone(), ticket, act: Some(Box::new(act)) }
    }

    /// Notes something that is over.
    pub fn add(&self, act: Act) {
        self.queue.lock().push(act);
        self.news.notify_one();
    }

    /// Notes that somebody was refused before anything began.
    pub fn refused(&self, act: Act) {
        let mut queue = self.queue.lock();
        queue.close_window(act.at);
        if queue.refused < MAX_REFUSED {
            queue.refused += 1;
            queue.push(Act { status: "blocked".into(), ..act });
        } else {
            queue.refused_more += 1;
        }
        drop(queue);
        self.news.notify_one();
    }

    fn end(&self, ticket: u64, act: Act) {
        let mut queue = self.queue.lock();
        match queue.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            // Not written yet: one row tells all of it.
            Ok(at) => queue.waiting[at].1 = Act { at: queue.waiting[at].1.at, ..act },
            Err(_) => {
                queue.push(act);
            }
        }
        drop(queue);
        self.news.notify_one();
    }

    /// What is to be written now, in order. It is gone from here.
    pub fn take(&self) -> Vec<Act> {
        let (now, mut queue) = (self.clock.now_ms(), self.queue.lock());
        queue.close_window(now);
        let missed = std::mem::take(&mut queue.missed);
        let mut acts: Vec<Act> = std::mem::take(&mut queue.waiting).into_iter().map(|(_, act)| act).collect();
        if missed > 0 {
            acts.push(counted("audit.missed", "unknown", missed, now));
        }
        acts
    }

    /// These could not be written for now.
    pub fn put_back(&self, acts: Vec<Act>) {
        let mut queue = self.queue.lock();
        let room = MAX_WAITING.saturating_sub(queue.waiting.len());
        queue.missed += acts.len().saturating_sub(room) as u64;
        acts.into_iter().take(room).rev().for_each(|act| queue.waiting.push_front((0, act)));
    }

    /// These could not be written, and never will be: their number is told with the next ones.
    pub fn miss(&self, count: usize) {
        self.queue.lock().missed += count as u64;
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        let queue = self.queue.lock();
        queue.waiting.is_empty() && queue.missed == 0
    }

    /// Resolves when something was noted.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

/// Something that has begun and is noted.
pub struct Note {
    book: Arc<Book>,
    ticket: u64,
    act: Option<Box<Act>>,
}

impl Note {
    /// What it came to.
    pub fn end(mut self, came_to: Result<(), &Refusal>) {
        let (status, code) = match came_to {
            Ok(()) => ("succeeded", None),
            Err(refusal) => (blocked(refusal), Some(code(refusal))),
        };
        self.finish(status, code);
    }

    fn finish(&mut self, status: &str, code: Option<String>) {
        if let Some(act) = self.act.take() {
            let at = self.book.clock.now_ms();
            self.book.end(self.ticket, Act { status: status.into(), code, at, ..*act });
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.finish("unknown", None);
    }
}

/// Who may not is blocked; what was tried and did not work has failed.
fn blocked(refusal: &Refusal) -> &'static str {
    match refusal.code {
        ErrorCode::Unavailable | ErrorCode::AgentTimeout => "failed",
        _ => "blocked",
    }
}

fn code(refusal: &Refusal) -> String {
    refusal.detail_code().unwrap_or(refusal.code.name()).chars().take(80).collect()
}

/// Notes a request, if its kind is.
pub fn request(
    estate: &Estate,
    conn: &Conn,
    (name, scope): (&str, Option<Scope>),
    params: Option<&RawValue>,
) -> Option<Note> {
    let noted = is_audited(name, scope) && is_on(estate);
    noted.then(|| estate.audit.begin(asked(estate, conn, name, params)))
}

/// Notes that a request was refused because of who asked. Methods that nobody has leave no row.
pub fn forbidden(estate: &Estate, conn: &Conn, name: &str, params: Option<&RawValue>, refusal: &Refusal) {
    if Method::from_name(name).is_some_and(Method::is_audited) && is_on(estate) {
        let act = asked(estate, conn, name, params);
        estate.audit.refused(Act { code: Some(code(refusal)), ..act });
    }
}

/// Notes that somebody was not let in.
pub fn turned_away(estate: &Estate, conn: &Conn, params: &ConnectParams, refusal: &Refusal) {
    // One that is starting, or stopping, turns nobody away.
    if !is_on(estate) || refusal.code == ErrorCode::Unavailable {
        return;
    }
    let act = by_client(conn, estate.clock.now_ms());
    let device = params.device.as_ref().map(|device| device.id.as_str().to_owned());
    let client = params.client.id.name();
    let mut origin = act.origin.unwrap_or_default();
    (origin["client"], origin["mode"]) = (json!(client), json!(params.client.mode.name()));
    (origin["device"], origin["role"]) = (json!(device), json!(params.role().map(Role::name).ok()));
    estate.audit.refused(Act {
        action: "connect".into(),
        actor_id: device.unwrap_or_else(|| client.into()),
        origin: Some(origin),
        code: Some(code(refusal)),
        ..act
    });
}

/// Notes a command that somebody gave on a channel; of what it says, only its name.
pub fn command(
    estate: &Estate,
    channel: &str,
    sender: &Value,
    text: &str,
    session_key: &str,
) -> Option<Note> {
    let word: String = text.split_whitespace().next()?.chars().take(40).collect();
    let act = Act {
        at: estate.clock.now_ms(),
        kind: "operator_act".into(),
        action: format!("command {word}"),
        actor_type: "channel_sender".into(),
        actor_id: format!("{channel}:{}", sender["senderId"].as_str().unwrap_or("unknown")),
        target: Some(session_key.into()),
        session_key: Some(session_key.into()),
        request: Some(Uuid::new_v4().simple().to_string()),
        ..Act::default()
    };
    is_on(estate).then(|| estate.audit.begin(act))
}

/// Notes a tool that is called over plain HTTP.
pub fn over_http(estate: &Estate, address: IpAddr, tool: &str, session_key: &str) -> Option<Note> {
    let act = Act {
        at: estate.clock.now_ms(),
        kind: "operator_act".into(),
        action: "tools.invoke".into(),
        actor_type: "operator".into(),
        actor_id: "http".into(),
        origin: Some(json!({ "client": "http", "address": address.to_canonical().to_string() })),
        target: Some(tool.chars().take(80).collect()),
        session_key: Some(session_key.into()),
        request: Some(Uuid::new_v4().simple().to_string()),
        ..Act::default()
    };
    is_on(estate).then(|| estate.audit.begin(act))
}

fn is_on(estate: &Estate) -> bool {
    estate.config.load().settings.logging.audit.enabled
}

/// A request, with nothing yet of what it came to.
fn asked(estate: &Estate, conn: &Conn, name: &str, params: Option<&RawValue>) -> Act {
    let params: Value = params
        .filter(|params| params.get().len() <= summary::MAX_READ)
        .and_then(|params| serde_json::from_str(params.get()).ok())
        .unwrap_or_default();
    Act {
        action: name.into(),
        target: target(&params),
        summary: summary(name, &params, &estate.config.load().raw),
        agent_id: word(&params, "agentId"),
        session_key: word(&params, "sessionKey"),
        request: Some(Uuid::new_v4().simple().to_string()),
        ..by_client(conn, estate.clock.now_ms())
    }
}

fn word(params: &Value, name: &str) -> Option<String> {
    params[name].as_str().filter(|text| text.len() <= 200).map(str::to_owned)
}

/// Something that a client does.
fn by_client(conn: &Conn, now: i64) -> Act {
    let (role, device, client) = match conn.grant() {
        Some(grant) => {
            (grant.role, grant.device.as_ref().map(ToString::to_string), Some(&grant.params.client))
        }
        None => (Role::Operator, None, None),
    };
    let name = client.map(|client| client.id.name());
    let actor = device.clone().or(conn.peer.user().map(str::to_owned));
    Act {
        at: now,
        kind: "operator_act".into(),
        actor_type: if role == Role::Node { "node".into() } else { "operator".into() },
        actor_id: actor.unwrap_or_else(|| name.unwrap_or("unknown").into()),
        origin: Some(json!({
            "client": name,
            "mode": client.map(|client| client.mode.name()),
            "role": role.name(),
            "device": device,
            "user": conn.peer.user(),
            "address": conn.peer.ip.to_canonical().to_string(),
            "connection": conn.id().to_string(),
        })),
        ..Act::default()
    }
}

#[cfg(test)]
#[path = "../audit_tests.rs"]
mod tests;
