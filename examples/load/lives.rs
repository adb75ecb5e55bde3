//! A gateway at rest, and who comes in: from the start of its process to the first accepted connect, its memory with
//! nothing to do and with connections that are idle, and handshakes.

use crate::latency::{Latencies, Report, fine};
use crate::measured::{IDLE, hello, round};
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[derive(Args, Clone)]
pub struct Start {
    /// Starts of which the median is told
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
}

impl Start {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw, Kind::Bare])?;
        let mut times = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            let begun = Instant::now();
            let _target = Target::of(which, Setup::default()).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).context("no runs")?;
        let (min, max) = (times.first().context("no runs")?, times.last().context("no runs")?);
        Ok(Report::new("start")
            .with("runs", self.runs)
            .with("ms", fine(*median))
            .with("minMs", fine(*min))
            .with("maxMs", fine(*max)))
    }
}

/// Connections that are there before what a connection costs is counted.
const FIRST: usize = 100;

#[derive(Args, Clone)]
pub struct Idle {
    /// Connections that do nothing
    #[arg(long, default_value_t = 1_000)]
    pub connections: usize,
}

impl Idle {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw])?;
        let mut target = Target::of(which, Setup::default()).await?;
        let gateway = target.gateway.as_ref().context("nothing was started")?;
        tokio::time::sleep(IDLE).await;
        let (all, own) = (gateway.memory("VmRSS")?, gateway.memory("RssAnon")?);
        // The first ones touch the program's pages; what each costs, others tell.
        let _first = Self::resting(&target, FIRST).await?;
        let before = gateway.memory("VmRSS")?;
        let _others = Self::resting(&target, self.connections).await?;
        let with = gateway.memory("VmRSS")?;
        target.stop().await?;
        Ok(Report::new("idle")
            .with("rssMb", round(all))
            .with("anonymousMb", round(own))
            .with("connections", self.connections)
            .with("rssWithMb", round(with))
            .with("rssKbEach", round((with - before) * 1e3 / self.connections as f64)))
    }

    /// So many clients that have rested for a while. They read: who does not is a slow client rather than an idle one.
    async fn resting(target: &Target, clients: usize) -> Result<JoinSet<()>> {
        let mut reading = JoinSet::new();
        for mut client in target.clients(clients).await? {
            reading.spawn(async move { while let Some(Ok(_)) = client.next().await {} });
        }
        tokio::time::sleep(IDLE).await;
        Ok(reading)
    }
}

#[derive(Args, Clone)]
pub struct Handshakes {
    /// Clients that come and go at the same time
    #[arg(long, default_value_t = 16)]
    pub workers: usize,
    /// Connections that are open meanwhile and do nothing
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
}

impl Handshakes {
    pub async fn measure(&self, which: &Which, seconds: u64) -> Result<Report> {
        let target = Target::of(which, Setup::default()).await?;
        let _others = target.clients(self.idle).await?;
        let (cpu, begun) = (target.cpu_us(), Instant::now());
        let ends = begun + Duration::from_secs(seconds);
        let mut coming = JoinSet::new();
        for _ in 0..self.workers {
            let (addr, connect) = (target.addr, target.connect.clone());
            coming.spawn(async move {
                let mut latencies = Latencies::new();
                while Instant::now() < ends {
                    let begun = Instant::now();
                    let mut ws = hello(addr, &connect).await?;
                    latencies.record(begun.elapsed());
                    ws.close(None).await?;
                    while let Some(Ok(_)) = ws.next().await {}
                }
                anyhow::Ok(latencies)
            });
        }
        let mut latencies = Latencies::new();
        while let Some(some) = coming.join_next().await {
            latencies.add(&some??);
        }
        let report = Report::new("handshakes")
            .with("workers", self.workers)
            .with("idle", self.idle)
            .rate(latencies.count(), begun.elapsed())
            .latencies("latency", &latencies);
        let each = target.cpu_us_each(cpu, latencies.count());
        Ok(report.with("serverCpuUsEach", each).with("rssMb", target.resident()))
    }
}
