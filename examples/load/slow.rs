//! Clients that stop reading while others watch: whether those that read keep their rate, what becomes of those that do
//! not, and what it costs the gateway.

use crate::fanout::{Told, Watchers, is, requests};
use crate::latency::Report;
use crate::measured::{Ws, greet};
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Result, ensure};
use clap::Args;
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// What makes an event, and the event: what wakes an agent by voice changes. It may be of any size.
const METHOD: &str = "voicewake.set";
const EVENT: &str = "voicewake.changed";
/// Bytes of a word of an event.
const WORD: usize = 60;
/// What the system keeps for a client that does not read, beside what it keeps for the gateway.
const RECEIVE_BUFFER: u32 = 64 * 1024;
/// How long one who reads again hears nothing before what it was sent is over.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Args, Clone)]
pub struct Slow {
    /// Connections that read
    #[arg(long, default_value_t = 5)]
    pub fast: usize,
    /// Connections that stop reading
    #[arg(long, default_value_t = 5)]
    pub slow: usize,
    /// Words of 60 bytes in an event
    #[arg(long, default_value_t = 30)]
    pub words: usize,
}

/// What became of one who did not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was told that it is too slow (1008).
    Told,
    /// Its socket was closed otherwise.
    Cut,
    /// It is still connected, and hears what is new.
    Kept,
}

impl Slow {
    pub async fn measure(&self, which: &Which, seconds: u64) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw, Kind::Running])?;
        ensure!(self.fast > 0, "nobody watches");
        let target = Target::of(which, Setup::default()).await?;
        let watchers = Watchers::start(target.clients(self.fast).await?, EVENT);
        let mut publisher = target.client().await?;
        let words = words(self.words)?;
        let alone = watchers.told(&mut publisher, &words, seconds).await?;
        let before = target.resident();
        let mut silent = Vec::with_capacity(self.slow);
        for _ in 0..self.slow {
            silent.push(narrow(&target).await?);
        }
        let (beside, peak) = target.peak_while(watchers.told(&mut publisher, &words, seconds)).await;
        let beside = beside?;
        let mut reading = JoinSet::new();
        silent.into_iter().for_each(|ws| drop(reading.spawn(fate(ws))));
        let (mut fates, mut missed) = (Vec::new(), 0);
        while let Some(one) = reading.join_next().await {
            let (fate, events) = one?;
            fates.push(fate);
            missed += (beside.heard / self.fast as u64).saturating_sub(events);
        }
        let count = |fate| fates.iter().filter(|one| **one == fate).count();
        let rate = |told: &Told| (told.heard as f64 / told.took.as_secs_f64()).round() as u64;
        Ok(Report::new("slow")
            .with("fast", self.fast)
            .with("slow", self.slow)
            .with("aloneDeliveriesPerSecond", rate(&alone))
            .with("deliveriesPerSecond", rate(&beside))
            .with("eventsEach", beside.heard / self.fast as u64)
            .with("slowTold1008", count(Fate::Told))
            .with("slowCut", count(Fate::Cut))
            .with("slowKept", count(Fate::Kept))
            .with("slowMissedEvents", missed)
            .with("rssBeforeMb", before)
            .with("rssPeakMb", peak)
            .with("rssAfterMb", target.resident()))
    }
}

/// Requests that make events of so many words.
fn words(count: usize) -> Result<Vec<Message>> {
    requests(METHOD, |at| {
        let word = |n| format!("{at:02}{n:02}{}", "a".repeat(WORD - 4));
        json!({ "triggers": (0..count).map(word).collect::<Vec<String>>() })
    })
}

/// A connection of which the system keeps little that is not read.
async fn narrow(target: &Target) -> Result<Ws> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(greet(socket.connect(target.addr).await?, target.addr, &target.connect).await?.0)
}

/// Reads again: what it was sent meanwhile, and how that ended.
async fn fate(mut ws: Ws) -> (Fate, u64) {
    let mut events = 0;
    loop {
        match tokio::time::timeout(SILENCE, ws.next()).await {
            Err(_) => return (Fate::Kept, events),
            Ok(Some(Ok(Message::Close(Some(close))))) if u16::from(close.code) == 1008 => {
                return (Fate::Told, events);
            }
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return (Fate::Cut, events),
            Ok(Some(Ok(message))) => events += u64::from(message.to_text().is_ok_and(|text| is(text, EVENT))),
        }
    }
}
