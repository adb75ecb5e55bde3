//! What the gateway tells, as the screen shows it: typed, each text printable and in one line.

use serde_json::Value;

use crate::cli::printable;

/// An actor, and those below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Actor {
    pub path: String,
    pub name: String,
    pub kind: String,
    pub state: String,
    /// Since when, in milliseconds since the epoch.
    pub since: Option<u64>,
    pub restarts: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub oldest_ms: Option<u64>,
    /// How long it has been at one message.
    pub busy_ms: Option<u64>,
    pub exit: Option<Exit>,
    pub children: Vec<Actor>,
    /// Children that are not listed.
    pub more: u64,
}

/// How an actor ended last.
#[derive(Clone, Debug, Default)]
pub(super) struct Exit {
    /// `panic: boom`.
    pub cause: String,
    pub at: Option<u64>,
}

/// A session.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub key: String,
    /// `running` while a run is active, else how the last one ended.
    pub state: String,
    pub updated_at: Option<u64>,
    pub model: String,
    pub tokens: u64,
    pub title: String,
    pub error: String,
}

/// An account of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// `telegram/default`, as its actor is called.
    pub name: String,
    pub state: String,
    pub since: Option<u64>,
    pub inbound_at: Option<u64>,
    pub outbound_at: Option<u64>,
    /// `2 queued, 1 uncertain`.
    pub deliveries: String,
    pub error: String,
}

impl Actor {
    pub fn read(actor: &Value) -> Self {
        let exit = &actor["lastExit"];
        let cause = || format!("{}: {}", line(&exit["kind"]), line(&exit["reason"]));
        Self {
            path: line(&actor["path"]),
            name: line(&actor["name"]),
            kind: line(&actor["kind"]),
            state: line(&actor["state"]),
            since: actor["sinceMs"].as_u64(),
            restarts: actor["restarts"].as_u64().unwrap_or_default(),
            waiting: actor["mailbox"]["depth"].as_u64().unwrap_or_default(),
            oldest_ms: actor["mailbox"]["oldestMs"].as_u64(),
            busy_ms: actor["busyMs"].as_u64(),
            exit: exit.is_object().then(|| Exit { cause: cause(), at: exit["at"].as_u64() }),
            children: rows(&actor["children"]).map(Self::read).collect(),
            more: actor["more"].as_u64().unwrap_or_default(),
        }
    }

    /// It and all below it, also those that are not listed.
    pub fn count(&self) -> u64 {
        1 + self.more + self.children.iter().map(Self::count).sum::<u64>()
    }

    /// How many of them are parked.
    pub fn parked(&self) -> u64 {
        u64::from(self.state == PARKED) + self.children.iter().map(Self::parked).sum::<u64>()
    }

    /// The actor at a path.
    pub fn find(&self, path: &str) -> Option<&Self> {
        if self.path == path {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(path))
    }
}

impl Session {
    fn read(row: &Value) -> Self {
        let title = ["label", "derivedTitle", "displayName"].map(|name| &row[name]);
        Self {
            key: line(&row["key"]),
            state: if row["hasActiveRun"] == true { "running".into() } else { line(&row["status"]) },
            updated_at: row["updatedAt"].as_u64(),
            model: line(&row["model"]),
            tokens: row["totalTokens"].as_u64().unwrap_or_default(),
            title: title.into_iter().find(|title| title.is_string()).map(line).unwrap_or_default(),
            error: line(&row["lastRunError"]),
        }
    }

    /// The rows of `sessions.list`.
    pub fn list(list: &Value) -> Vec<Self> {
        rows(&list["sessions"]).map(Self::read).collect()
    }

    /// The path of its actor, which is there while it is in memory.
    pub fn path(&self) -> String {
        format!("gateway/sessions/{}", self.key.replace('/', "%2F"))
    }
}

impl Account {
    fn read(channel: &str, row: &Value) -> Self {
        let counts = row["deliveries"].as_object().into_iter().flatten();
        let counts: Vec<String> = counts.map(|(state, n)| printable(&format!("{n} {state}"))).collect();
        Self {
            name: printable(&format!("{channel}/{}", line(&row["accountId"]))),
            state: line(&row["healthState"]),
            since: row["lastStartAt"].as_u64(),
            inbound_at: row["lastInboundAt"].as_u64(),
            outbound_at: row["lastOutboundAt"].as_u64(),
            deliveries: counts.join(", "),
            error: line(&row["lastError"]),
        }
    }

    /// The accounts of `channels.status`.
    pub fn list(status: &Value) -> Vec<Self> {
        let channels = status["channelAccounts"].as_object().into_iter().flatten();
        channels.flat_map(|(channel, accounts)| rows(accounts).map(|row| Self::read(channel, row))).collect()
    }

    /// The path of its actor.
    pub fn path(&self) -> String {
        format!("gateway/channels/{}", self.name.replace('/', "%2F"))
    }
}

/// The state that nothing leaves by itself.
pub(super) const PARKED: &str = "parked";

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text of one line; nothing if it is no text.
pub(super) fn line(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default()).replace(['\n', '\t'], " ")
}
