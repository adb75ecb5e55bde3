//! The connection to the gateway: what it tells is read when it says that something changed, and slowly anyway; when it
//! is lost, it is sought again for as long as the screen is there.

use std::time::Duration;

use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::model::View;
use crate::cli::{
    Failure, Global,
    client::{Client, Incoming},
};

/// Without events, what is shown is read so often: nobody tells how long mailboxes are.
const POLL: Duration = Duration::from_secs(3);
/// After an event; those that come meanwhile are one with it.
const SOON: Duration = Duration::from_millis(200);
/// The first wait before a lost gateway is sought again; it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest such wait.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Sessions that are listed, the newest.
const SESSIONS: u64 = 200;

/// What is to be done with an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Restart,
    Park,
    Resume,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Park => "park",
            Self::Resume => "resume",
        }
    }
}

/// Something to be done with the actor at a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub verb: Verb,
    pub path: String,
}

/// What the screen wants.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    /// To show this.
    Show(View),
    /// To have this done.
    Order(Order),
}

/// What the screen is told.
#[derive(Debug)]
pub(super) enum Heard {
    /// There is a gateway, and whether it takes orders.
    Connected { admin: bool },
    /// There is none any more, or still none; whether an order had no answer yet.
    Lost { why: String, unanswered: bool },
    /// The answer of `system.actors`, and the last change that was told before it.
    Tree { tree: Value, changed: Option<Value> },
    /// The answer of `sessions.list`.
    Sessions(Value),
    /// The answer of `channels.status`.
    Channels(Value),
    /// What became of an order, in words.
    Done(String),
}

/// A connection, and whether orders are taken over it.
pub(super) async fn connect(global: &Global) -> Result<(Client, bool), Failure> {
    let target = global.target()?;
    let client = match Client::connect(&target, &[Scope::Read, Scope::Admin], &[]).await {
        // Who may not do anything may look all the same.
        Err(failure) if !failure.is_unreachable() => {
            Client::connect(&target, &[Scope::Read], &[]).await.map_err(|_| failure)?
        }
        connected => connected?,
    };
    let scopes = client.hello["auth"]["scopes"].as_array();
    let admin = scopes.is_some_and(|scopes| scopes.iter().any(|scope| *scope == Scope::Admin.name()));
    Ok((client, admin))
}

/// See the module.
pub(super) struct Feed<'a> {
    global: &'a Global,
    asks: mpsc::Receiver<Ask>,
    told: mpsc::Sender<Heard>,
    view: View,
}

/// Nobody listens any more.
struct Gone;

impl<'a> Feed<'a> {
    pub fn new(global: &'a Global, asks: mpsc::Receiver<Ask>, told: mpsc::Sender<Heard>) -> Self {
        Self { global, asks, told, view: View::default() }
    }

    /// Follows the gateway until nobody listens.
    pub async fn follow(mut self, mut client: Client) {
        loop {
            let mut life = Life::new();
            let lost = match life.live(&mut self, &mut client).await {
                Err(failure) => failure,
                Ok(Gone) => return,
            };
            let lost = Heard::Lost { why: lost.told(), unanswered: !life.orders.is_empty() };
            let Ok(again) = self.seek(lost).await else { return };
            client = again;
        }
    }

    /// Tries until there is a connection.
    async fn seek(&mut self, mut lost: Heard) -> Result<Client, Gone> {
        let mut wait = FIRST_RETRY;
        loop {
            self.tell(lost).await?;
            sleep(wait).await;
            wait = (wait * 2).min(LAST_RETRY);
            // What was asked meanwhile is not done later, when nobody expects it.
            while self.asks.try_recv().is_ok() {}
            match connect(self.global).await {
                Ok((client, admin)) => {
                    self.tell(Heard::Connected { admin }).await?;
                    return Ok(client);
                }
                Err(failure) => lost = Heard::Lost { why: failure.told(), unanswered: false },
            }
        }
    }

    async fn tell(&self, heard: Heard) -> Result<(), Gone> {
        self.told.send(heard).await.map_err(|_| Gone)
    }
}

/// Something that is read again and again.
struct Reading {
    view: View,
    method: &'static str,
    due: Instant,
    /// The request that is on its way, and until when its answer is waited for.
    asked: Option<(String, Instant)>,
}

/// One connection's life.
struct Life {
    readings: [Reading; 3],
    /// Orders without an answer yet.
    orders: Vec<(String, Order)>,
    changed: Option<Value>,
}

impl Life {
    fn new() -> Self {
        let reading = |view, method| Reading { view, method, due: Instant::now(), asked: None };
        Self {
            readings: [
                reading(View::Tree, "system.actors"),
                reading(View::Sessions, "sessions.list"),
                reading(View::Channels, "channels.status"),
            ],
            orders: Vec::new(),
            changed: None,
        }
    }

    /// Until the connection is lost, or nobody listens.
    async fn live(&mut self, feed: &mut Feed<'_>, client: &mut Client) -> Result<Gone, Failure> {
        let limit = client.timeout;
        client.send("sessions.subscribe", json!({})).await?;
        loop {
            let now = Instant::now();
            self.read(feed.view, client, now + limit).await?;
            let late = self
                .readings
                .iter()
                .filter_map(|reading| reading.asked.as_ref().map(|(_, until)| *until))
                .min();
            // What is on its way is not asked again before it is here.
            let due = self
                .readings
                .iter()
                .filter(|r| r.asked.is_none() && r.is_shown(feed.view))
                .map(|r| r.due)
                .min();
            let next = late.into_iter().chain(due).min().unwrap_or(now + POLL);
            tokio::select! {
                incoming = client.next() => {
                    if let Some(heard) = self.take(incoming?)
                        && feed.tell(heard).await.is_err()
                    {
                        return Ok(Gone);
                    }
                }
                ask = feed.asks.recv() => match ask {
                    None => return Ok(Gone),
                    Some(Ask::Show(view)) => {
                        feed.view = view;
                        self.stir(&[view], Duration::ZERO);
                    }
                    Some(Ask::Order(order)) => {
                        let method = format!("system.actors.{}", order.verb.name());
                        let id = client.send(&method, json!({ "path": order.path })).await?;
                        self.orders.push((id, order));
                    }
                },
                () = sleep_until(next) => {
                    if late.is_some_and(|late| late <= Instant::now()) {
                        return Err(Failure::timeout("the gateway", limit.as_millis()));
                    }
                }
            }
        }
    }

    /// Asks for what is due.
    async fn read(&mut self, shown: View, client: &mut Client, until: Instant) -> Result<(), Failure> {
        let now = Instant::now();
        for reading in &mut self.readings {
            if reading.asked.is_none() && reading.due <= now && reading.is_shown(shown) {
                let params =
                    if reading.view == View::Sessions { json!({ "limit": SESSIONS }) } else { json!({}) };
                reading.asked = Some((client.send(reading.method, params).await?, until));
                reading.due = now + POLL;
            }
        }
        Ok(())
    }

    /// These shall be read after `wait`, if not sooner.
    fn stir(&mut self, views: &[View], wait: Duration) {
        let due = Instant::now() + wait;
        for reading in self.readings.iter_mut().filter(|reading| views.contains(&reading.view)) {
            reading.due = reading.due.min(due);
        }
    }

    /// What the screen has to know of what came in.
    fn take(&mut self, incoming: Incoming) -> Option<Heard> {
        match incoming {
            Incoming::Event { name, payload } => {
                match name.as_str() {
                    "system.actors.changed" => {
                        self.changed = Some(payload);
                        self.stir(&[View::Tree, View::Channels], SOON);
                    }
                    "health" => self.stir(&[View::Tree, View::Channels], SOON),
                    "sessions.changed" => self.stir(&[View::Tree, View::Sessions], SOON),
                    _ => {}
                }
                None
            }
            Incoming::Response { id, result } => self.answered(&id, result),
        }
    }

    fn answered(&mut self, id: &str, result: Result<Value, Failure>) -> Option<Heard> {
        if let Some(index) = self.orders.iter().position(|(asked, _)| asked == id) {
            let (_, order) = self.orders.swap_remove(index);
            self.stir(&[View::Tree, View::Channels], Duration::ZERO);
            return Some(Heard::Done(match result {
                Ok(done) => format!("{}: {}", order.path, done["state"].as_str().unwrap_or("?")),
                Err(failure) => failure.told(),
            }));
        }
        let reading =
            self.readings.iter_mut().find(|r| r.asked.as_ref().is_some_and(|(asked, _)| asked == id))?;
        reading.asked = None;
        Some(match (reading.view, result) {
            (View::Tree, Ok(tree)) => Heard::Tree { tree, changed: self.changed.take() },
            (View::Sessions, Ok(list)) => Heard::Sessions(list),
            (View::Channels, Ok(status)) => Heard::Channels(status),
            (_, Err(failure)) => Heard::Done(failure.told()),
        })
    }
}

impl Reading {
    /// The tree is always wanted: the other views show of it what is in memory.
    fn is_shown(&self, view: View) -> bool {
        self.view == View::Tree || self.view == view
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
