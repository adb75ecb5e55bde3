//! Parts of the tree that crash: how long until each serves again, as a client hears of it, and how the gateway answers
//! meanwhile.

use crate::latency::{Latencies, Report, fine};
use crate::measured::{Ws, frame};
use crate::rpc::{self, request};
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Calls of `health` a second while parts crash.
const PROBES: f64 = 500.0;
/// How long a part may take to serve again.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Clone)]
pub struct Crash {
    /// Rounds, each with a gateway of its own, in which every child of the root crashes once
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

impl Crash {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree])?;
        let (mut recovered, mut probes) = (Latencies::new(), Latencies::new());
        let (mut slowest, mut busy) = ((Duration::ZERO, String::new()), 0);
        for _ in 0..self.rounds {
            let target = Target::of(which, Setup { chaos: true, ..Setup::default() }).await?;
            let (mut hand, mut prober) = (target.client().await?, target.client().await?);
            let parts = parts(&mut hand).await?;
            let crashing = async {
                for path in &parts {
                    let took = recovery(&mut hand, path).await?;
                    recovered.record(took);
                    if took > slowest.0 {
                        slowest = (took, path.clone());
                    }
                }
                Ok(())
            };
            let ((), (beside, refused)) = tokio::try_join!(crashing, rpc::probe(&mut prober, PROBES))?;
            probes.add(&beside);
            busy += refused;
        }
        Ok(Report::new("crash")
            .with("crashes", recovered.count())
            .latencies("recovery", &recovered)
            .with("slowest", slowest.1)
            .with("slowestMs", fine(slowest.0.as_secs_f64() * 1e3))
            .latencies("health", &probes)
            .with("healthRefused", busy))
    }
}

/// Paths of what is below the root.
async fn parts(hand: &mut Ws) -> Result<Vec<String>> {
    let tree = rpc::call(hand, "system.actors", &json!({ "depth": 1 })).await?;
    let children = tree["root"]["children"].as_array().context("a tree without children")?;
    let paths: Vec<String> =
        children.iter().filter_map(|child| Some(child["path"].as_str()?.to_owned())).collect();
    ensure!(!paths.is_empty(), "a tree without children");
    Ok(paths)
}

/// Makes an actor panic: how long until it is told to run again.
async fn recovery(hand: &mut Ws, path: &str) -> Result<Duration> {
    let params = json!({ "path": path, "fault": "panic" }).to_string();
    hand.send(request("crash", "system.chaos", Some(&params))?).await?;
    let (begun, mut crashed) = (Instant::now(), false);
    loop {
        let text = tokio::time::timeout(PATIENCE, frame(hand)).await.with_context(|| path.to_owned())??;
        ensure!(!text.starts_with(r#"{"type":"res","id":"crash","ok":false"#), "{}", text.as_str());
        if !text.starts_with(r#"{"type":"event","event":"system.actors.changed""#) {
            continue;
        }
        let event: Value = serde_json::from_str(&text)?;
        let news = &event["payload"];
        if news["path"] != path {
            continue;
        }
        crashed |= news["lastExit"]["kind"] == "panic";
        if crashed && news["state"] == "running" {
            return Ok(begun.elapsed());
        }
    }
}
