//! The line to Discord's gateway: serenity keeps it, and takes it up again where it was cut.
//!
//! It has a thread of its own. Serenity's tasks end with nothing but their runtime; and when a connection breaks and
//! cannot be made again at once, they look for what comes over it without a pause until the next heartbeat is due. So
//! a line that is not taken up again soon is given up, with its runtime, and made anew.

use super::api::{Api, Failure};
use super::known::Known;
use super::{PORTAL, Settings, stopped, token_refused};
use crate::channels::contract::{Heard, Link, Sender, Trouble};
use futures_util::StreamExt;
use serde::Deserialize;
use serenity::all::{
    ConnectionStage, Context, Event, GatewayIntents, HttpBuilder, RawEventHandler, ShardId, ShardManager,
    ShardManagerOptions,
};
use serenity::gateway::GatewayError;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often it is looked whether the line is there.
const LOOK: Duration = Duration::from_millis(250);
/// How long there may be no line; then we begin anew.
const MAX_AWAY: Duration = Duration::from_secs(60);
/// How long a line may be taken up again; then it is made anew. Serenity is busy with nothing all the while, and would be
/// until the next heartbeat.
const MAX_BUSY: Duration = Duration::from_secs(3);

/// Where the line goes, and whether we may call.
#[derive(Deserialize)]
struct Gateway {
    url: String,
    session_start_limit: Calls,
}

#[derive(Deserialize)]
struct Calls {
    remaining: u64,
    /// In ms.
    reset_after: u64,
}

/// Keeps a line until that is of no use any more; what comes over it goes to `events`.
pub(super) async fn keep(
    settings: &Settings,
    api: &Api,
    known: &Known,
    link: &Link,
    events: mpsc::Sender<Box<Event>>,
) -> Trouble {
    loop {
        if let Break(trouble) = keep_one(settings, api, known, link, events.clone()).await {
            return trouble;
        }
    }
}

/// Keeps a line until that is of no use any more, or another has to be made.
async fn keep_one(
    settings: &Settings,
    api: &Api,
    known: &Known,
    link: &Link,
    events: mpsc::Sender<Box<Event>>,
) -> ControlFlow<Trouble> {
    let gateway = match gateway(api).await {
        Ok(gateway) => gateway,
        Err(trouble) => return Break(trouble),
    };
    let ear = Ear { link: link.clone(), events };
    let (tell_manager, manager) = oneshot::channel();
    let (tell_end, end) = oneshot::channel();
    // Dropped with this future, which ends the thread.
    let (_wanted, unwanted) = oneshot::channel::<()>();
    let token = settings.token.clone();
    let thread = std::thread::Builder::new().name("discord-line".into());
    let started = thread.spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::warn!(target: "crabtree::discord", "no runtime: {error}"),
        };
        runtime.block_on(async move {
            let (manager, mut end) = ShardManager::new(options(&gateway, &token, ear));
            let begun = manager.initialize();
            if begun.is_err() || tell_manager.send(manager).is_err() {
                return;
            }
            tokio::select! {
                _ = unwanted => {}
                ended = end.next() => drop(tell_end.send(ended.and_then(Result::err))),
            }
        });
        runtime.shutdown_background();
    });
    let Ok(manager) = started.map(|_| manager) else {
        return Break(Trouble::Retry("there is no thread left".into()));
    };
    let Ok(manager) = manager.await else { return Break(why(None)) };
    tokio::select! {
        ended = end => Break(why(ended.ok().flatten())),
        trouble = watch(&manager, known, link) => trouble,
    }
}

async fn gateway(api: &Api) -> Result<Gateway, Trouble> {
    let gateway: Gateway = match api.get(&["gateway", "bot"], &[]).await {
        Err(Failure::Token) => return Err(token_refused()),
        Err(failure) => return Err(Trouble::Retry(format!("no gateway of Discord: {failure}"))),
        Ok(gateway) => gateway,
    };
    let calls = &gateway.session_start_limit;
    if calls.remaining == 0 {
        // Discord takes the token away from who goes on.
        let minutes = calls.reset_after.div_ceil(60_000);
        return Err(Trouble::Retry(format!("Discord allows no more connections for {minutes} minutes")));
    }
    Ok(gateway)
}

fn options(gateway: &Gateway, token: &str, ear: Ear) -> ShardManagerOptions {
    ShardManagerOptions {
        data: Arc::default(),
        event_handlers: vec![],
        raw_event_handlers: vec![Arc::new(ear)],
        shard_index: 0,
        shard_init: 1,
        shard_total: 1,
        ws_url: Arc::new(tokio::sync::Mutex::new(gateway.url.clone())),
        // It only knows the token: calls are made elsewhere.
        http: Arc::new(HttpBuilder::new(token).ratelimiter_disabled(true).build()),
        intents: GatewayIntents::GUILDS
            | GatewayIntents::GUILD_MESSAGES
            | GatewayIntents::DIRECT_MESSAGES
            | GatewayIntents::GUILD_MESSAGE_REACTIONS
            | GatewayIntents::DIRECT_MESSAGE_REACTIONS
            | GatewayIntents::MESSAGE_CONTENT,
        presence: None,
    }
}

/// Tells whether there is a line, and of every heartbeat: serenity says that by how long it took.
async fn watch(manager: &ShardManager, known: &Known, link: &Link) -> ControlFlow<Trouble> {
    let (mut is_there, mut heartbeat, mut there_at) = (false, None, Instant::now());
    let mut was_ever_there = false;
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let now = manager.runners.lock().await.get(&ShardId(0)).map(|shard| (shard.stage, shard.latency));
        let me = known.me.lock().clone();
        let connected = me.filter(|_| now.is_some_and(|(stage, _)| stage == ConnectionStage::Connected));
        if let Some((_, Some(latency))) = now
            && heartbeat != Some(latency)
        {
            heartbeat = Some(latency);
            link.alive();
        }
        let was_there = std::mem::replace(&mut is_there, connected.is_some());
        let news = match connected {
            Some(_) if was_there => None,
            Some(me) => Some(Heard::Connected(Some(Sender {
                id: me.id.to_string(),
                name: Some(me.name.clone()),
                username: Some(me.name),
                is_bot: true,
            }))),
            None if was_there => Some(Heard::Disconnected("the connection to Discord was lost".into())),
            None if there_at.elapsed() > MAX_AWAY => {
                let why = format!("no connection to Discord for {} s", MAX_AWAY.as_secs());
                return Break(Trouble::Retry(why));
            }
            None if was_ever_there
                && there_at.elapsed() > MAX_BUSY
                && now.is_some_and(|(stage, _)| stage.is_connecting()) =>
            {
                return Continue(());
            }
            None => continue,
        };
        there_at = Instant::now();
        was_ever_there |= is_there;
        if let Some(news) = news
            && let Err(end) = link.say(news).await
        {
            return Break(stopped(end));
        }
    }
}

fn why(ended: Option<GatewayError>) -> Trouble {
    match ended {
        Some(GatewayError::InvalidAuthentication) => token_refused(),
        Some(GatewayError::DisallowedGatewayIntents) => Trouble::Fatal(format!(
            "Discord does not let this bot read messages: switch on `Message Content Intent` under Bot, \
             Privileged Gateway Intents, at {PORTAL}"
        )),
        Some(GatewayError::InvalidGatewayIntents) => Trouble::Fatal(format!(
            "Discord does not know what this bot wants to hear: look at {PORTAL} whether it may be used at all, \
             and whether there is a newer Crabtree"
        )),
        Some(error) => Trouble::Retry(format!("the gateway of Discord: {error}")),
        None => Trouble::Retry("the connection to Discord has ended".into()),
    }
}

/// Hands on what serenity hears. Serenity gives every event a task of its own, so that its heartbeats wait for none.
struct Ear {
    link: Link,
    events: mpsc::Sender<Box<Event>>,
}

#[serenity::async_trait]
impl RawEventHandler for Ear {
    async fn raw_event(&self, _: Context, event: Event) {
        self.link.alive();
        // Nobody is there any more when this fails.
        let _ = self.events.send(Box::new(event)).await;
    }
}
