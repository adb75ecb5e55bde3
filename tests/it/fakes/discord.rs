//! A Discord that is not there: its REST API here, its gateway in `line`, both as its public documentation tells.

mod line;
mod rest;

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The token of the one bot there is.
pub const TOKEN: &str = "MTAwMQ.GabcdE.the-secret-part";
/// The bot's user and application.
pub const BOT: &str = "1001";
/// The server there is, and the role in it that Discord made for the bot.
pub const GUILD: &str = "5001";
pub const BOT_ROLE: &str = "5901";
/// A channel of that server, and a thread of the channel.
pub const CHANNEL: &str = "6001";
pub const THREAD: &str = "6101";
/// The direct chat with Ada.
pub const ADA: &str = "2001";
pub const ADA_DIRECT: &str = "7001";
/// Where ids begin: what is written gets later ones.
const FIRST_ID: u64 = 1_200_000_000_000_000_000;
/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Discord {
    api: SocketAddr,
    world: Arc<World>,
    _tasks: JoinSet<()>,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Call {
    pub what: String,
    pub body: Value,
    /// Name, type and bytes of its files.
    pub files: Vec<(String, String, Vec<u8>)>,
    pub authorization: Option<String>,
}

/// What is wrong with the next message that is sent.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Too many: seconds to be left alone.
    TooMany(f64),
    Status(u16),
    /// Taken, and never answered.
    Hang,
    /// Taken, and the connection is cut instead of an answer.
    Cut,
}

struct World {
    calls: watch::Sender<Vec<Call>>,
    line: line::Line,
    next_id: AtomicU64,
    /// By channel: what is in it.
    messages: Mutex<BTreeMap<String, Vec<Value>>>,
    channels: BTreeMap<&'static str, Value>,
    /// By nonce: the message it made.
    nonces: Mutex<HashMap<String, Value>>,
    faults: Mutex<VecDeque<Fault>>,
    /// What is answered to requests that begin like this, instead of what they ask for.
    refusals: Mutex<Vec<(String, u16)>>,
    /// What can be fetched.
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    calls_left: AtomicU64,
}

impl Discord {
    pub async fn start() -> Self {
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = api.local_addr().unwrap();
        let channel = json!({ "type": 0, "name": "general", "guild_id": GUILD });
        let thread = json!({ "type": 11, "name": "plans", "guild_id": GUILD, "parent_id": CHANNEL });
        let world = Arc::new(World {
            calls: watch::Sender::new(vec![]),
            line: line::Line::new(gateway.local_addr().unwrap()),
            next_id: AtomicU64::new(FIRST_ID),
            messages: Mutex::default(),
            channels: BTreeMap::from([
                (CHANNEL, channel),
                (THREAD, thread),
                (ADA_DIRECT, json!({ "type": 1, "recipients": [person(ADA, "ada")] })),
            ]),
            nonces: Mutex::default(),
            faults: Mutex::default(),
            refusals: Mutex::default(),
            files: Mutex::default(),
            calls_left: AtomicU64::new(1_000),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(line::serve(gateway, world.clone()));
        tasks.spawn(rest::serve(api, world.clone()));
        Self { api: addr, world, _tasks: tasks }
    }

    /// The settings of an account here.
    pub fn settings(&self) -> Value {
        json!({ "enabled": true, "token": TOKEN, "apiRoot": format!("http://{}/api/v10", self.api) })
    }

    /// Somebody writes there, and it is told; the id of it.
    pub fn says(&self, channel: &str, message: Value) -> String {
        let (id, told) = self.written(channel, message);
        self.dispatch("MESSAGE_CREATE", told);
        id
    }

    /// Somebody writes there while nobody listens.
    pub fn says_unheard(&self, channel: &str, message: Value) -> String {
        self.written(channel, message).0
    }

    fn written(&self, channel: &str, message: Value) -> (String, Value) {
        let mut kept = self.world.filled(channel, message);
        let member = kept.as_object_mut().unwrap().shift_remove("member");
        let id = kept["id"].as_str().unwrap().to_owned();
        self.world.messages.lock().entry(channel.to_owned()).or_default().push(kept.clone());
        // Only what is told says where it is, and who wrote it.
        if let Some(guild) = self.world.channels[channel].get("guild_id") {
            kept["guild_id"] = guild.clone();
            kept["member"] = member.unwrap_or_else(|| json!({ "roles": [], "deaf": false, "mute": false }));
        }
        (id, kept)
    }

    /// Something happens.
    pub fn dispatch(&self, event: &str, what: Value) {
        self.world.line.dispatch(event, what);
    }

    /// Somebody asks with the command.
    pub fn asks(&self, text: &str) -> String {
        let options = json!([{ "name": "text", "type": 3, "value": text }]);
        self.interacts(2, json!({ "id": "8801", "name": "ask", "type": 1, "options": options }), json!({}))
    }

    /// Somebody presses a button of a message.
    pub fn presses(&self, message: &str, custom_id: &str) -> String {
        let data = json!({ "custom_id": custom_id, "component_type": 2 });
        let message = self.world.find(CHANNEL, message).unwrap();
        self.interacts(3, data, json!({ "message": message }))
    }

    fn interacts(&self, kind: u8, data: Value, more: Value) -> String {
        let id = self.world.id();
        let member = json!({
            "user": person(ADA, "ada"), "roles": ["5902"], "nick": "Countess", "deaf": false, "mute": false,
            "flags": 0, "joined_at": "2024-01-01T00:00:00Z", "permissions": "0",
        });
        let mut interaction = json!({
            "id": id, "application_id": BOT, "type": kind, "data": data, "guild_id": GUILD,
            "channel_id": CHANNEL, "member": member, "token": format!("token-of-{id}"), "version": 1,
            "app_permissions": "0", "locale": "en-GB", "entitlements": [], "attachment_size_limit": 10_485_760,
            "authorizing_integration_owners": {}, "context": 0,
        });
        interaction.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.dispatch("INTERACTION_CREATE", interaction);
        id
    }

    /// The next messages that are sent go wrong like this.
    pub fn go_wrong(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world.faults.lock().extend(faults);
    }

    /// Requests that begin like this are answered with this, from now on; with 200: as usual again.
    pub fn refuse(&self, what: &str, status: u16) {
        self.world.refusals.lock().retain(|(refused, _)| refused != what);
        if status != 200 {
            self.world.refusals.lock().push((what.into(), status));
        }
    }

    /// Something that can be fetched, as an attachment.
    pub fn attachment(&self, name: &str, mime_type: &str, bytes: &[u8]) -> Value {
        self.world.files.lock().insert(name.into(), bytes.to_vec());
        let url = format!("http://{}/files/{name}", self.api);
        json!({
            "id": self.world.id(), "filename": name, "size": bytes.len(), "url": url, "proxy_url": url,
            "content_type": mime_type,
        })
    }

    pub fn calls_left(&self, left: u64) {
        self.world.calls_left.store(left, Relaxed);
    }

    /// The gateway.
    pub fn line(&self) -> &line::Line {
        &self.world.line
    }

    /// What is in a channel.
    pub fn messages(&self, channel: &str) -> Vec<Value> {
        self.world.messages.lock().get(channel).cloned().unwrap_or_default()
    }

    /// The texts of the bot in a channel, in their order.
    pub fn answers(&self, channel: &str) -> Vec<String> {
        let all = self.messages(channel).into_iter();
        let own = all.filter(|message| message["author"]["id"] == BOT);
        own.map(|message| message["content"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The requests so far that begin like this.
    pub fn calls(&self, what: &str) -> Vec<Call> {
        self.world.calls.borrow().iter().filter(|call| call.what.starts_with(what)).cloned().collect()
    }

    /// The first request that begins like this, as soon as there is one.
    pub async fn call(&self, what: &str) -> Call {
        let mut calls = self.world.calls.subscribe();
        let there = calls.wait_for(|calls| calls.iter().any(|call| call.what.starts_with(what)));
        drop(timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("no {what}")).unwrap());
        self.calls(what).remove(0)
    }
}

impl World {
    fn id(&self) -> String {
        // A second apart.
        (self.next_id.fetch_add(1_000 << 22, Relaxed)).to_string()
    }

    /// A message with everything a message has.
    fn filled(&self, channel: &str, message: Value) -> Value {
        let mut all = json!({
            "id": self.id(), "channel_id": channel, "author": person(BOT, "crab"), "content": "",
            "timestamp": "2024-01-27T00:00:00.000000+00:00", "edited_timestamp": null, "tts": false,
            "mention_everyone": false, "mentions": [], "mention_roles": [], "attachments": [], "embeds": [],
            "pinned": false, "type": 0,
        });
        all.as_object_mut().unwrap().extend(message.as_object().unwrap().clone());
        all
    }

    fn find(&self, channel: &str, id: &str) -> Option<Value> {
        self.messages.lock().get(channel)?.iter().find(|message| message["id"] == id).cloned()
    }
}

/// Somebody.
pub fn person(id: &str, name: &str) -> Value {
    json!({
        "id": id, "username": name, "global_name": null, "discriminator": "0", "avatar": null, "bot": id == BOT,
    })
}

/// What somebody writes.
pub fn text(author: Value, text: &str) -> Value {
    json!({ "author": author, "content": text })
}
