//! Clients that hear everything: one that keeps up, some that stop reading for a while, some that read a byte at a
//! time. Those that fall too far behind are sent away by the gateway, and come back.

use crate::measured::{Ws, greeted};
use crate::plan::Plan;
use crate::world::{World, connect_request, request};
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Pause before a watcher comes back.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long one reads, sleeps, or goes on byte by byte, in milliseconds.
const SPELL: std::ops::Range<u64> = 500..5_000;
/// Events that are counted at once.
const COUNT: u64 = 100;
/// Between two bytes.
const BYTE_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
pub enum Watcher {
    /// Reads all the time.
    Attentive,
    /// Reads for a while, and then does not.
    Sleepy,
    /// Reads a byte at a time.
    Trickling,
}

/// All that there are.
pub const WATCHERS: [Watcher; 5] =
    [Watcher::Attentive, Watcher::Sleepy, Watcher::Sleepy, Watcher::Trickling, Watcher::Trickling];

/// Watches until everything is over.
pub async fn watch(world: Arc<World>, number: usize, how: Watcher) {
    let watching = async {
        let connect = connect_request(&[]);
        let mut rng = Plan::rng(world.plan.seed, &format!("watcher {number}"));
        loop {
            if let Ok((ws, hello)) = greeted(world.addr, &connect).await {
                let hello: Value = serde_json::from_str(&hello).unwrap_or_default();
                let id = hello["payload"]["server"]["connId"].as_str().unwrap_or_default().to_owned();
                world.watchers.lock().insert(number, id);
                match how {
                    Watcher::Attentive => attend(&world, ws).await,
                    Watcher::Sleepy => doze(&world, &mut rng, ws).await,
                    Watcher::Trickling => trickle(&mut rng, ws).await,
                }
                world.watchers.lock().remove(&number);
                world.count(&format!("returns of {how:?} watchers"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = world.over.cancelled() => {}
        () = watching => {}
    }
}

/// Reads until the socket ends; events come in order, and no message ends twice.
async fn attend(world: &World, mut ws: Ws) {
    let (mut last, mut heard) = (0, 0);
    let mut ended = vec![false; world.plan.messages as usize];
    while let Some(Ok(message)) = ws.next().await {
        let Message::Text(text) = message else { continue };
        let Some((_, rest)) = text.rsplit_once(r#","seq":"#) else { continue };
        let number: u64 =
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if number <= last {
            world.problem(format!("an event has the number {number} after {last}"));
        }
        (last, heard) = (number, heard + 1);
        if let Some(ended) = ends(&text).and_then(|number| ended.get_mut(number))
            && std::mem::replace(ended, true)
        {
            world.problem(format!("a message has ended twice: {}", text.as_str()));
        }
        if heard == COUNT {
            world.count_many("events heard", std::mem::take(&mut heard));
        }
    }
}

/// The number of the message of whose end this tells.
fn ends(text: &str) -> Option<usize> {
    let chat = text.strip_prefix(r#"{"type":"event","event":"chat""#)?;
    let (_, run) = chat.split_once(r#""runId":"m"#)?;
    chat.contains(r#""state":"final""#).then(|| run.split('"').next()?.parse().ok())?
}

async fn doze(world: &World, rng: &mut StdRng, mut ws: Ws) {
    let subscribe = Message::Text(request("s", "sessions.subscribe", &json!({})));
    if ws.send(subscribe).await.is_err() {
        return;
    }
    loop {
        let spell = Duration::from_millis(rng.random_range(SPELL));
        let reading = async {
            loop {
                match ws.next().await {
                    Some(Ok(Message::Close(close))) => {
                        let slow = close.is_some_and(|close| close.code == CloseCode::Policy);
                        world.count(if slow { "slow clients sent away" } else { "watchers sent away" });
                    }
                    Some(Ok(_)) => {}
                    _ => return,
                }
            }
        };
        if tokio::time::timeout(spell, reading).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(SPELL))).await;
    }
}

async fn trickle(rng: &mut StdRng, ws: Ws) {
    let mut stream = ws.into_inner();
    let reading = async {
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(BYTE_PAUSE).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(rng.random_range(SPELL) * 4), reading).await;
}
