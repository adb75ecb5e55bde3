//! Everybody comes back at the same time: after a restart of the process, from many addresses; and after a restart in
//! place, which keeps the door open.

use crate::latency::{Latencies, Report, fine};
use crate::measured::{Ws, frame, greet, hello};
use crate::target::{Kind, Setup, Target, Which};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Pause of a client that was not let in, with as much again by its number, so that they do not march in step.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections made at the same time before the storm.
const COMING: usize = 64;
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Clone)]
pub struct Storm {
    /// Clients that come back
    #[arg(long, default_value_t = 2_000)]
    pub clients: usize,
    /// Addresses of this machine, 127.0.0.1 and on, that they come from
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub addresses: u8,
}

/// One of them.
#[derive(Clone)]
struct Client {
    number: usize,
    from: Ipv4Addr,
    to: SocketAddr,
    connect: Utf8Bytes,
}

impl Client {
    async fn attempt(&self) -> Result<Ws> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        Ok(greet(socket.connect(self.to).await?, self.to, &self.connect).await?.0)
    }

    /// Comes in, however often it is sent away; how often that was.
    async fn come(&self) -> (Ws, u64) {
        let mut refused = 0;
        loop {
            if let Ok(Ok(ws)) = tokio::time::timeout(PATIENCE, self.attempt()).await {
                return (ws, refused);
            }
            refused += 1;
            tokio::time::sleep(PAUSE + PAUSE * (self.number % 16) as u32 / 16).await;
        }
    }

    /// Stays until it is sent away, and comes back as soon as it may.
    async fn live(self, ws: Ws, mut may: watch::Receiver<bool>) -> Result<(Ws, Duration, u64)> {
        let mut ws = ws;
        while let Some(Ok(_)) = ws.next().await {}
        drop(ws);
        may.wait_for(|may| *may).await?;
        let begun = Instant::now();
        let (ws, refused) = self.come().await;
        Ok((ws, begun.elapsed(), refused))
    }
}

impl Storm {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree, Kind::OpenClaw])?;
        let mut target = Target::of(which, Setup::default()).await?;
        let (may, waiting) = watch::channel(false);
        let mut clients = (0..self.clients).map(|number| Client {
            number,
            from: Ipv4Addr::new(127, 0, 0, 1 + (number % usize::from(self.addresses)) as u8),
            to: target.addr,
            connect: target.connect.clone(),
        });
        let (mut coming, mut living) = (JoinSet::new(), JoinSet::new());
        loop {
            while coming.len() < COMING {
                let Some(client) = clients.next() else { break };
                coming.spawn(async move { (client.clone(), client.come().await.0) });
            }
            let Some(came) = coming.join_next().await else { break };
            let (client, ws) = came?;
            living.spawn(client.live(ws, waiting.clone()));
        }
        drop(waiting);
        let begun = Instant::now();
        target.stop().await?;
        let stopped = begun.elapsed();
        target.start_again().await?;
        let down = begun.elapsed();
        let storm = Instant::now();
        may.send(true)?;
        let (mut back, mut latencies, mut refused) = (Vec::new(), Latencies::new(), 0);
        while let Some(one) = living.join_next().await {
            let (ws, latency, refusals) = one??;
            latencies.record(latency);
            refused += refusals;
            back.push(ws);
        }
        let all = storm.elapsed();
        ensure!(back.len() == self.clients, "{} of {} came back", back.len(), self.clients);
        // They are not only in: the gateway serves.
        let mut last = back.pop().context("nobody")?;
        crate::rpc::call(&mut last, "health", &serde_json::json!({})).await?;
        Ok(Report::new("storm")
            .with("clients", self.clients)
            .with("addresses", self.addresses)
            .with("allInMs", fine(all.as_secs_f64() * 1e3))
            .latencies("in", &latencies)
            .with("refused", refused)
            .with("stoppedMs", fine(stopped.as_secs_f64() * 1e3))
            .with("downMs", fine(down.as_secs_f64() * 1e3))
            .with("rssMb", target.resident()))
    }
}

#[derive(Args, Clone)]
pub struct Handover {
    /// Clients that are connected, and come back
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Restarts of which the median is told
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// A client that was told to go, and is back.
struct Returned {
    ws: Ws,
    told_at: Instant,
    back_at: Instant,
    refused: usize,
}

impl Handover {
    pub async fn measure(&self, which: &Which) -> Result<Report> {
        which.only(&[Kind::Crabtree])?;
        let target = Target::of(which, Setup::default()).await?;
        let pid =
            target.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no process")?;
        let mut sockets = target.clients(self.clients).await?;
        let (mut first, mut last, mut refused) = (Latencies::new(), Latencies::new(), 0);
        for _ in 0..self.runs {
            let mut returns = JoinSet::new();
            for ws in sockets.drain(..) {
                returns.spawn(come_back(ws, target.addr, target.connect.clone()));
            }
            kill_process(pid, Signal::USR2)?;
            let (mut told, mut back) = (Vec::new(), Vec::new());
            while let Some(returned) = returns.join_next().await {
                let returned = returned??;
                refused += returned.refused;
                sockets.push(returned.ws);
                told.push(returned.told_at);
                back.push(returned.back_at);
            }
            let told = *told.iter().min().context("no clients")?;
            back.sort_unstable();
            first.record(*back.first().context("no clients")? - told);
            last.record(*back.last().context("no clients")? - told);
        }
        Ok(Report::new("handover")
            .with("clients", self.clients)
            .with("runs", self.runs)
            .with("firstMs", first.at(0.5))
            .with("lastMs", last.at(0.5))
            .with("refused", refused))
    }
}

async fn come_back(mut ws: Ws, addr: SocketAddr, connect: Utf8Bytes) -> Result<Returned> {
    while !frame(&mut ws).await?.contains(r#""event":"shutdown""#) {}
    let told_at = Instant::now();
    while frame(&mut ws).await.is_ok() {}
    drop(ws);
    let mut refused = 0;
    loop {
        match hello(addr, &connect).await {
            Ok(ws) => return Ok(Returned { ws, told_at, back_at: Instant::now(), refused }),
            Err(error) => {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                refused += usize::from(kind == Some(std::io::ErrorKind::ConnectionRefused));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
