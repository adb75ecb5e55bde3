//! Chat turns against a model that takes a known time: the gateway's part is what is left. And many turns that stream at
//! the same time while others watch.

use crate::latency::{Latencies, Report, Schedule, fine};
use crate::measured::{Ws, frame};
use crate::model::{Model, Script};
use crate::rpc;
use crate::talk::{Talk, chat};
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Calls of `health` a second while turns stream.
const PROBES: f64 = 50.0;
/// Where sessions begin that no other turn has.
const FRESH: u64 = 1_000_000;

#[derive(Args, Clone)]
pub struct Turns {
    #[command(flatten)]
    pub script: Script,
    /// Closed loop: sessions, each with one turn after the other
    #[arg(long, default_value_t = 1)]
    pub sessions: u64,
    /// Closed loop: turns after which a session is begun anew, for a longer one costs more
    #[arg(long, default_value_t = 20)]
    pub turns: u64,
    /// Open loop: turns a second, each in a session of its own; latencies count from when a turn was due
    #[arg(long)]
    pub rate: Option<f64>,
}

impl Turns {
    pub async fn measure(&self, which: &Which, seconds: u64) -> Result<Report> {
        ensure!(self.sessions > 0 && self.turns > 0, "there is nobody to talk to");
        which.only(&[Kind::Crabtree, Kind::OpenClaw, Kind::Running])?;
        let target = Target::of(which, Setup { model: Some(self.script), ..Setup::default() }).await?;
        let mut talk = Talk::new(target.client().await?, last(&target));
        // What the first turn of a gateway and of a session costs is no cost of a turn.
        for session in 0..self.sessions {
            talk.say(session, Instant::now()).await?;
            talk.ended().await?;
        }
        talk.reset();
        let begun = Instant::now();
        match self.rate {
            None => self.closed(&mut talk, begun + Duration::from_secs(seconds)).await?,
            Some(rate) => open(&mut talk, Schedule::new(rate, seconds)?).await?,
        }
        let pace = self.rate.map_or_else(|| self.sessions.to_string(), |rate| format!("{rate}/s"));
        let name = format!("turn {pace}x{}x{}ms", self.script.tokens, self.script.token_ms);
        let model = self.script.took().as_secs_f64() * 1e3;
        let mut report = Report::new(name)
            .rate(talk.finals.count(), begun.elapsed())
            .latencies("accepted", &talk.accepted)
            .latencies("firstDelta", &talk.first)
            .latencies("final", &talk.finals)
            .with("refused", talk.refused);
        if target.model.is_some() {
            report = report.with("overheadP50Ms", fine(talk.finals.at(0.5) - model));
        }
        Ok(report.with("rssMb", target.resident()))
    }

    async fn closed(&self, talk: &mut Talk, ends: Instant) -> Result<()> {
        for session in 0..self.sessions {
            talk.say(session, Instant::now()).await?;
        }
        let mut turns = vec![0; usize::try_from(self.sessions)?];
        while talk.going() > 0 {
            let place = talk.ended().await? % self.sessions;
            let now = Instant::now();
            if now < ends {
                let before = &mut turns[usize::try_from(place)?];
                *before += 1;
                talk.say(place + *before / self.turns * self.sessions, now).await?;
            }
        }
        Ok(())
    }
}

async fn open(talk: &mut Talk, schedule: Schedule) -> Result<()> {
    let mut due = schedule.start(1).pop().context("one way")?;
    let mut asked = 0;
    while asked < schedule.calls || talk.going() > 0 {
        tokio::select! {
            Some(turn) = due.recv() => {
                asked += 1;
                talk.say(FRESH + turn, schedule.due(turn)).await?;
            }
            ended = talk.ended(), if talk.going() > 0 => drop(ended?),
        }
    }
    Ok(())
}

/// What the text of each turn ends with, if the model is ours.
fn last(target: &Target) -> Option<String> {
    target.model.as_ref().map(|model| model.script.last())
}

#[derive(Args, Clone)]
pub struct Streams {
    #[command(flatten)]
    pub script: Script,
    /// Turns, each in a session of its own, asked for at once
    #[arg(long, default_value_t = 1_000)]
    pub turns: u64,
    /// Connections that hear them all
    #[arg(long, default_value_t = 20)]
    pub watchers: usize,
    /// Count turns that end as an error, instead of giving up at the first
    #[arg(long)]
    pub count_failed: bool,
}

/// How a turn ends.
const ENDS: [&str; 3] = ["final", "error", "aborted"];

impl Streams {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw, Kind::Running])?;
        let target = Target::of(which, Setup { model: Some(self.script), ..Setup::default() }).await?;
        let mut talk = Talk::new(target.client().await?, last(&target));
        talk.say(FRESH, Instant::now()).await?;
        talk.ended().await?;
        talk.reset();
        talk.failed = self.count_failed.then_some(0);
        let before = target.resident();
        let mut watching = JoinSet::new();
        for ws in target.clients(self.watchers).await? {
            watching.spawn(ends(ws, talk.prefix.clone(), self.turns));
        }
        let prober = target.client().await?;
        let begun = Instant::now();
        let asking = async {
            for session in 0..self.turns {
                talk.say(session, begun).await?;
            }
            while talk.going() > 0 {
                talk.ended().await?;
            }
            while let Some(heard) = watching.join_next().await {
                heard??;
            }
            anyhow::Ok(begun.elapsed())
        };
        let (came, peak) = target.peak_while(probed(prober, asking)).await;
        let (took, (probes, busy)) = came?;
        Ok(Report::new("streams")
            .with("turns", self.turns)
            .with("watchers", self.watchers)
            .with("endsHeard", self.turns * self.watchers as u64)
            .with("failed", talk.failed)
            .rate(talk.finals.count(), took)
            .latencies("accepted", &talk.accepted)
            .latencies("final", &talk.finals)
            .latencies("health", &probes)
            .with("healthRefused", busy)
            .with("refused", talk.refused)
            .with("mostAtOnce", target.model.as_ref().map(Model::most))
            .with("rssBeforeMb", before)
            .with("rssPeakMb", peak))
    }
}

/// Hears until so many turns of this prefix have ended for this connection, too.
async fn ends(mut ws: Ws, prefix: String, turns: u64) -> Result<()> {
    let mut ended = HashSet::new();
    while (ended.len() as u64) < turns {
        let text = frame(&mut ws).await?;
        if !text.contains(r#""state":"delta""#)
            && let Some(chat) = chat(&text)?
            && ENDS.contains(&&*chat.state)
            && chat.run_id.starts_with(&prefix)
        {
            ended.insert(chat.run_id.into_owned());
        }
    }
    Ok(())
}

/// Asks for `health` second after second until `work` is done; what it came to, how long the answers took, and how many
/// of them said that the gateway is too busy.
async fn probed<T>(mut prober: Ws, work: impl Future<Output = Result<T>>) -> Result<(T, (Latencies, u64))> {
    let (mut probes, mut busy, done) = (Latencies::new(), 0, AtomicBool::new(false));
    let work = async {
        let came = work.await;
        done.store(true, Relaxed);
        came
    };
    let probing = async {
        while !done.load(Relaxed) {
            let (latencies, refused) = rpc::probe(&mut prober, PROBES).await?;
            probes.add(&latencies);
            busy += refused;
        }
        Ok(())
    };
    let (came, ()) = tokio::try_join!(work, probing)?;
    Ok((came, (probes, busy)))
}
