//! The contract between the gateway and a channel: what a channel's file implements, what it hands in, and what it is
//! told to do.
//!
//! A channel speaks one platform's protocol and nothing else. It knows no sessions, agents or rules: who may write,
//! which session a message belongs to, whether the agent answers, what is sent again and what never, is decided here.
//! It may crash, hang or be killed at any time: what it has not handed in is fetched from the platform again, and
//! what it has not sent is a row.

mod acts;
mod link;

pub use acts::{Act, Offered, Poll, PollLimits, Reaction};
pub use link::{Link, Stopped};

use crabtree_protocol::Refusal;
use crabtree_protocol::session_key::ChatType;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// What every channel implements.
pub trait Channel: Send + Sync + 'static {
    /// Its name in the configuration (`channels.<name>`), in session keys and on the wire, as OpenClaw has it.
    fn name(&self) -> &str;

    /// Its name for people.
    fn label(&self) -> &str;

    /// What its platform can do.
    fn capabilities(&self) -> Capabilities;

    /// What of an account's settings is not as this channel needs it: what to change, in words for its operator.
    ///
    /// # Errors
    /// The account cannot run like this, and is not started.
    fn check(&self, account: &Account) -> Result<(), String>;

    /// Connects, hands in what comes and carries out orders until it fails. It is dropped to stop it. It runs on a
    /// thread and runtime of its own, and must not block that: what computes for long goes to `spawn_blocking`.
    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble>;

    /// The setting that is the account's key to the platform: taken away when it is logged out. None if it has none.
    fn credential(&self) -> Option<&'static str> {
        None
    }

    /// Methods of its own.
    fn methods(&self) -> &'static [Offered] {
        &[]
    }

    /// Answers one of them.
    fn call(self: Arc<Self>, method: String, _params: Value) -> BoxFuture<'static, Result<Value, Refusal>> {
        Box::pin(async move { Err(Refusal::unknown_method(&method)) })
    }
}

/// An account of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its name: `default`, or that under `channels.<name>.accounts`.
    pub id: String,
    /// The channel's settings, with those of the account in their place. Secrets are resolved.
    pub settings: Value,
}

impl Account {
    /// A setting that is a text, and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }
}

/// What a platform can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The longest text of a message, in the platform's unit.
    pub text_limit: usize,
    /// In what that is counted.
    pub unit: Unit,
    /// Whether a message that is sent twice under the same [`Outgoing::id`] appears once: what is uncertain is sent
    /// again then.
    pub idempotent: bool,
    /// For how long the platform knows it.
    pub known_for: Duration,
    /// Whether a message that was sent can be changed, and how often at most.
    pub edits: Option<EditLimit>,
    /// How often the sign that somebody writes has to be given to stay, if there is one.
    pub typing: Option<Duration>,
    /// Whether messages can have buttons.
    pub buttons: bool,
    /// Whether messages can be reacted to.
    pub reactions: bool,
    /// Whether files can be sent.
    pub files: bool,
    /// What polls can be, where there are any.
    pub polls: Option<PollLimits>,
    /// Whether messages that were sent can be taken away.
    pub deletes: bool,
    /// Whether messages can be pinned.
    pub pins: bool,
    /// How long nothing may be heard of it until it counts as stuck: a channel says [`Link::alive`] more often.
    pub silence: Duration,
}

impl Capabilities {
    /// A platform that takes texts of this many characters, and can do nothing else.
    pub const fn texts(text_limit: usize) -> Self {
        Self {
            text_limit,
            unit: Unit::Chars,
            idempotent: false,
            known_for: Duration::MAX,
            edits: None,
            typing: None,
            buttons: false,
            reactions: false,
            files: false,
            polls: None,
            deletes: false,
            pins: false,
            silence: Duration::from_secs(120),
        }
    }
}

/// In what a platform counts the length of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Unicode scalar values.
    Chars,
    /// UTF-16 code units.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl Unit {
    /// The length of a text.
    pub fn of(self, text: &str) -> usize {
        match self {
            Self::Chars => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
            Self::Bytes => text.len(),
        }
    }
}

/// How often a message may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditLimit {
    /// Least time between two changes of the messages of a direct chat.
    pub every: Duration,
    /// The same where several talk.
    pub in_groups: Duration,
    /// Whether people see answers while they are written unless the operator says otherwise (`streaming`).
    pub drafts: bool,
}

impl EditLimit {
    /// Least time between two changes of the messages of a chat of this kind.
    pub fn of(self, kind: Kind) -> Duration {
        if kind == Kind::Direct { self.every } else { self.in_groups }
    }
}

/// A place where people talk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// What kind of chat.
    pub chat_type: Kind,
    /// The platform's id of the chat.
    pub chat: String,
    /// The topic or thread in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// What kind of chat, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two people.
    Direct,
    /// Several.
    Group,
    /// Where some speak to many, or a channel of a server.
    Channel,
}

impl From<Kind> for ChatType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Direct => Self::Direct,
            Kind::Group => Self::Group,
            Kind::Channel => Self::Channel,
        }
    }
}

/// Who wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sender {
    /// The platform's id of the person.
    pub id: String,
    /// Their name for people.
    pub name: Option<String>,
    /// Their unique name, without `@`.
    pub username: Option<String>,
    /// Whether it is a program.
    pub is_bot: bool,
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The platform's id of the message, unique in the account: the same message again has the same.
    pub id: String,
    /// Who wrote it.
    pub from: Sender,
    /// Where.
    pub at: Address,
    /// What else the platform tells of the place.
    pub place: Place,
    /// What is written.
    pub text: String,
    /// What came with it.
    pub attachments: Vec<Attachment>,
    /// Whether it names this account (`@name`, or the platform's own mention).
    pub mentions_me: bool,
    /// Whether it replies to a message of this account.
    pub replies_to_me: bool,
    /// What it replies to.
    pub quote: Option<Quote>,
    /// When it was written, ms.
    pub at_ms: i64,
}

/// What a platform tells of a place beside its id; bindings match it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub title: Option<String>,
    /// Whether threads of this place are sessions of their own (topics of a group), rather than part of it.
    pub own_sessions: bool,
    /// The chat it is a thread of, where threads are chats.
    pub parent: Option<String>,
    /// The server (Discord) it is in.
    pub guild: Option<String>,
    /// The team (Slack, Teams) it is in.
    pub team: Option<String>,
    /// The roles of who wrote.
    pub roles: Vec<String>,
}

/// A message that another replies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its id.
    pub id: String,
    /// Who wrote it.
    pub from: Option<String>,
    /// What it says.
    pub text: String,
}

/// What came with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its MIME type.
    pub mime_type: String,
    /// Its name.
    pub file_name: Option<String>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Unique, and the same when it is sent again.
    pub id: String,
    /// Where to.
    pub to: Address,
    /// What it says, in Markdown, within the platform's limit.
    pub text: String,
    /// The message it replies to.
    pub reply_to: Option<String>,
    /// The message it takes the place of, where messages can be changed.
    pub edits: Option<String>,
    /// What can be pressed below it.
    pub buttons: Vec<Button>,
    /// What goes with it.
    pub attachments: Vec<Attachment>,
}

/// What can be pressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it.
    pub label: String,
    /// What comes in as a message of who pressed it.
    pub says: String,
}

/// A message was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The platform's id of it.
    pub id: String,
}

/// A message was not sent, or it is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The platform will never take it: it says why.
    #[error("not taken: {0}")]
    Refused(String),
    /// It was not sent, and may be later.
    #[error("not sent: {why}")]
    Later {
        /// Why.
        why: String,
        /// How long the platform wants to be left alone.
        after: Option<Duration>,
    },
    /// Nobody knows: the connection was lost after it was handed over.
    #[error("not known: {0}")]
    Unknown(String),
}

/// What a channel is told to do.
#[derive(Debug)]
pub enum Order {
    /// Send a message, or put it in the place of another.
    Send(Box<Outgoing>, oneshot::Sender<Result<Sent, SendError>>),
    /// Show that somebody writes, for a few seconds. Nobody waits for it.
    Typing(Address),
    /// React to a message, or take the reaction back (empty).
    React {
        /// Where.
        at: Address,
        /// The message.
        message: String,
        /// An emoji.
        emoji: String,
        /// What became of it.
        done: oneshot::Sender<Result<(), SendError>>,
    },
    /// Do something else there; told with the message that was made or meant.
    Act {
        /// Where.
        at: Address,
        /// What.
        act: Act,
        /// What became of it.
        done: oneshot::Sender<Result<Sent, SendError>>,
    },
}

/// What comes of a channel that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// It would end like this again: a wrong token, a closed account. It is parked until somebody has changed that.
    #[error("{0}")]
    Fatal(String),
    /// It may go better next time.
    #[error("{0}")]
    Retry(String),
}

/// The orders of an account, in the order in which they are to be begun. Those to different chats may be carried out
/// side by side; the next for a chat is given when the one before it has ended.
pub type Orders = mpsc::Receiver<Order>;

/// What a channel says to the gateway.
#[derive(Debug)]
pub enum Heard {
    /// A message; answered when it is durable, or decided that it is none for us.
    Message(Box<Envelope>, oneshot::Sender<()>),
    /// A reaction; answered as a message is.
    Reacted(Box<Reaction>, oneshot::Sender<()>),
    /// Everything before this place has been handed in; answered when that is durable.
    Checkpoint(String, oneshot::Sender<()>),
    /// It is connected, as this user.
    Connected(Option<Sender>),
    /// It is not, and tries again by itself.
    Disconnected(String),
    /// Somebody writes there.
    Typing {
        /// Who.
        from: Sender,
        /// Where.
        at: Address,
    },
    /// To be shown to who logs in: a QR code's text, or none when that is over.
    Qr(Option<String>),
}
