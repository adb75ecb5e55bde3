//! Events to many: a client changes what wakes an agent by voice, and everybody is told. Small events, made by the
//! request of a client, that both gateways have.

use crate::latency::Report;
use crate::measured::{Ws, frame};
use crate::rpc::request;
use crate::target::{Setup, Target, Which};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// What makes an event, and the event.
pub const METHOD: &str = "voicewake.set";
pub const EVENT: &str = "voicewake.changed";
/// Bytes of a word of an event.
const WORD: usize = 60;
/// Requests that are outstanding, and events that a watcher may have before it.
const OUTSTANDING: usize = 32;
const AHEAD: u64 = 256;
/// How long the last event may take to be heard.
const LATE: Duration = Duration::from_secs(60);

#[derive(Args, Clone)]
pub struct Fanout {
    /// Connections that hear each event
    #[arg(long, default_value_t = 200)]
    pub watchers: usize,
}

impl Fanout {
    pub async fn measure(&self, which: &Which, seconds: u64) -> Result<Report> {
        let target = Target::of(which, Setup::default()).await?;
        let watchers = Watchers::start(target.clients(self.watchers).await?);
        let mut publisher = target.client().await?;
        let cpu = target.cpu_us();
        let (heard, took) = watchers.told(&mut publisher, 1, seconds).await?;
        let report = Report::new("fanout").with("watchers", self.watchers).rate(heard, took);
        let each = target.cpu_us_each(cpu, heard);
        Ok(report.with("serverCpuUsEach", each).with("rssMb", target.resident()))
    }
}

/// Connections that hear events, and count them.
pub struct Watchers {
    count: u64,
    heard: Arc<AtomicU64>,
    _listening: JoinSet<()>,
}

impl Watchers {
    pub fn start(clients: Vec<Ws>) -> Self {
        let (count, heard, mut listening) =
            (clients.len() as u64, Arc::new(AtomicU64::new(0)), JoinSet::new());
        for mut ws in clients {
            let heard = heard.clone();
            listening.spawn(async move {
                while let Some(Ok(message)) = ws.next().await {
                    if message.to_text().is_ok_and(is_told) {
                        heard.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        Self { count, heard, _listening: listening }
    }

    /// Has events of so many words made until `seconds` have passed, as fast as they are heard: how many were heard, and
    /// in which time. Fails if one was not.
    pub async fn told(&self, publisher: &mut Ws, words: usize, seconds: u64) -> Result<(u64, Duration)> {
        let requests = requests(words)?;
        let before = self.heard.load(Relaxed);
        let heard = || self.heard.load(Relaxed) - before;
        let begun = Instant::now();
        let ends = begun + Duration::from_secs(seconds);
        let (mut free, mut made) = ((0..OUTSTANDING).collect::<Vec<usize>>(), 0);
        while Instant::now() < ends || free.len() < OUTSTANDING {
            while Instant::now() < ends && made * self.count < heard() + AHEAD * self.count {
                let Some(slot) = free.pop() else { break };
                publisher.feed(requests[slot].clone()).await?;
                made += 1;
            }
            publisher.flush().await?;
            // A while, since it is watchers who are waited for, too.
            let Ok(text) = tokio::time::timeout(Duration::from_millis(1), frame(publisher)).await else {
                continue;
            };
            let text = text?;
            if let Some(rest) = text.strip_prefix(r#"{"type":"res","id":""#) {
                let (slot, rest) = rest.split_once('"').context("an id without an end")?;
                ensure!(rest.starts_with(r#","ok":true"#), "{METHOD}: {}", text.as_str());
                free.push(slot.parse()?);
            }
        }
        let all = made * self.count;
        while heard() < all {
            ensure!(ends.elapsed() < LATE, "{} of {all} events were heard", heard());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ensure!(heard() == all, "{} events were heard, of {all}", heard());
        Ok((all, begun.elapsed()))
    }
}

/// Whether `text` is such an event.
pub fn is_told(text: &str) -> bool {
    text.strip_prefix(r#"{"type":"event","event":""#).is_some_and(|rest| rest.starts_with(EVENT))
}

fn requests(words: usize) -> Result<Vec<Message>> {
    let of = |slot: usize| {
        let words: Vec<String> =
            (0..words).map(|word| format!("{slot:02}{word:02}{}", "a".repeat(WORD - 4))).collect();
        request(&slot.to_string(), METHOD, Some(&json!({ "triggers": words }).to_string()))
    };
    (0..OUTSTANDING).map(of).collect()
}
