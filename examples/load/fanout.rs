//! Events to many: a node says how its machine is, and everybody is told. Small events, made by the request of a client, that
//! both gateways have, and tell before they keep them.

use crate::latency::Report;
use crate::measured::{Ws, frame};
use crate::node;
use crate::rpc::request;
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// What makes an event, and the event.
pub const METHOD: &str = "node.event";
pub const EVENT: &str = "node.hostStats";
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
        let mut publisher = match which.kind()? {
            Kind::Bare => target.client().await?,
            _ => node::join(&target).await?,
        };
        let watchers = Watchers::start(target.clients(self.watchers).await?, EVENT);
        let cpu = target.cpu_us();
        let told = watchers.told(&mut publisher, &machine()?, seconds).await?;
        let report = Report::new("fanout").with("watchers", self.watchers).rate(told.heard, told.took);
        let each = target.cpu_us_each(cpu, told.heard);
        Ok(report
            .with("refused", told.refused)
            .with("serverCpuUsEach", each)
            .with("rssMb", target.resident()))
    }
}

/// What came of requests that make events.
pub struct Told {
    pub heard: u64,
    pub took: Duration,
    /// Requests that were to be sent again later, which makes another one of them.
    pub refused: u64,
}

/// Connections that hear events, and count them.
pub struct Watchers {
    count: u64,
    heard: Arc<AtomicU64>,
    _listening: JoinSet<()>,
}

impl Watchers {
    pub fn start(clients: Vec<Ws>, event: &'static str) -> Self {
        let (count, heard, mut listening) =
            (clients.len() as u64, Arc::new(AtomicU64::new(0)), JoinSet::new());
        for mut ws in clients {
            let heard = heard.clone();
            listening.spawn(async move {
                while let Some(Ok(message)) = ws.next().await {
                    if message.to_text().is_ok_and(|text| is(text, event)) {
                        heard.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        Self { count, heard, _listening: listening }
    }

    /// Has events made by these requests, one of each outstanding, until `seconds` have passed, as fast as they are heard.
    /// Fails if one was not.
    pub async fn told(&self, publisher: &mut Ws, requests: &[Message], seconds: u64) -> Result<Told> {
        let before = self.heard.load(Relaxed);
        let heard = || self.heard.load(Relaxed) - before;
        let begun = Instant::now();
        let ends = begun + Duration::from_secs(seconds);
        let mut refused = 0;
        let (mut free, mut made) = ((0..requests.len()).collect::<Vec<usize>>(), 0);
        while Instant::now() < ends || free.len() < requests.len() {
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
                if !rest.starts_with(r#","ok":true"#) {
                    ensure!(rest.contains(r#""retryable":true"#), "refused: {}", text.as_str());
                    (refused, made) = (refused + 1, made - 1);
                }
                free.push(slot.parse()?);
            }
        }
        let all = made * self.count;
        while heard() < all {
            ensure!(ends.elapsed() < LATE, "{} of {all} events were heard", heard());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ensure!(heard() == all, "{} events were heard, of {all}", heard());
        Ok(Told { heard: all, took: begun.elapsed(), refused })
    }
}

/// Whether `text` is such an event.
pub fn is(text: &str, event: &str) -> bool {
    text.strip_prefix(r#"{"type":"event","event":""#).is_some_and(|rest| rest.starts_with(event))
}

/// As many requests as may be outstanding, each with its place as its id.
pub fn requests(method: &str, params: impl Fn(usize) -> Value) -> Result<Vec<Message>> {
    (0..OUTSTANDING).map(|at| request(&at.to_string(), method, Some(&params(at).to_string()))).collect()
}

fn machine() -> Result<Vec<Message>> {
    requests(METHOD, |at| {
        let stats = json!({
            "cpuCount": 2, "loadAverage": [0.5, 0.25, 0.125], "memoryTotalBytes": 1_u64 << 34,
            "memoryFreeBytes": (1_u64 << 33) + at as u64, "diskTotalBytes": 1_u64 << 40,
            "diskAvailableBytes": 1_u64 << 39,
        });
        json!({ "event": "node.host.stats", "payloadJSON": stats.to_string() })
    })
}
