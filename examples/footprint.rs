//! How much memory a gateway needs: clients that all hear everything, and turns, under a limit that the kernel holds
//! it to. Prints a line of JSON and one for people, and fails if the gateway did not live through it.
//!
//!     cargo run --release --example footprint -- --server target/release/crabtree
//!
//! The limit is that of a control group, as of a container or of `MemoryMax=`. What it counts at its peak is mostly
//! pages of files, which the kernel takes back; what the gateway has of its own is told beside it. Where no group may
//! be made, the peak of what is resident is held against the limit instead.

#[path = "measured/limit.rs"]
mod limit;
mod measured;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use crabtree_protocol::client::encode_request;
use futures_util::SinkExt;
use limit::Limit;
use measured::{Gateway, IDLE, TOKEN, Ws, connect_request, frame, hello, round};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A gateway that has not answered everything after this long does not serve.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Parser)]
#[command(about = "Measures the memory a gateway needs")]
struct Cli {
    /// The binary to start and measure
    #[arg(long, default_value = "target/release/crabtree")]
    server: PathBuf,
    /// What it may use, in MiB
    #[arg(long, default_value_t = 64)]
    limit: u64,
    /// Clients, each of which hears the turns of all
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Turns of all of them together
    #[arg(long, default_value_t = 1_000)]
    turns: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let limit = Limit::of(cli.limit << 20);
    let state = tempfile::tempdir()?;
    let gateway = Gateway::start(|port| {
        let command = measured::run(&cli.server, state.path(), port);
        Ok(match &limit {
            Some(limit) => limit.around(&command),
            None => command,
        })
    })
    .await?;
    let connect = connect_request(TOKEN);
    let mut clients = Vec::with_capacity(cli.clients);
    for _ in 0..cli.clients {
        clients.push(hello(gateway.addr, &connect).await?);
    }
    let begun = Instant::now();
    let (heard, mut talking) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    let share = |client: usize| cli.turns / cli.clients + usize::from(client < cli.turns % cli.clients);
    for (client, ws) in clients.into_iter().enumerate() {
        talking.spawn(turns(ws, client, share(client), heard.clone()));
    }
    let (mut own, mut silent) = (0.0_f64, Vec::new());
    loop {
        own = own.max(gateway.memory("RssAnon")?);
        match tokio::time::timeout(LOOK, talking.join_next()).await {
            Ok(None) => break,
            // They stay connected until the last has had its turns.
            Ok(Some(ws)) => silent.push(ws??),
            Err(_) => ensure!(begun.elapsed() < PATIENCE, "not everything was answered"),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(silent);
    tokio::time::sleep(IDLE).await;
    let (resident, after) = (gateway.memory("VmHWM")?, gateway.memory("RssAnon")?);
    let peak = limit.as_ref().and_then(Limit::peak).map(|bytes| round(bytes as f64 / 1e6));
    let kills = limit.as_ref().and_then(Limit::kills);
    let held = if limit.is_some() { "a control group" } else { "the peak of what is resident" };
    eprintln!(
        "{} clients, {} turns in {seconds:.0} s, {} frames heard; held to {} MiB by {held}: at its peak {own:.1} MB of its \
         own ({after:.1} MB {} s later), {resident:.1} MB resident{}",
        cli.clients,
        cli.turns,
        heard.load(Relaxed),
        cli.limit,
        IDLE.as_secs(),
        peak.map_or_else(String::new, |peak| format!(", {peak} MB with pages of files")),
    );
    println!(
        "{}",
        json!({ "measure": "footprint", "clients": cli.clients, "turns": cli.turns, "seconds": round(seconds),
            "limitMiB": cli.limit, "held": held, "ownPeakMb": round(own), "ownAfterMb": round(after),
            "residentPeakMb": round(resident), "groupPeakMb": peak, "kills": kills })
    );
    if limit.is_none() && resident * 1e6 > (cli.limit << 20) as f64 {
        bail!("{resident:.1} MB were resident");
    }
    ensure!(kills.unwrap_or(0) == 0, "something was killed for want of memory");
    Ok(())
}

/// One turn after the other in a session of its own.
async fn turns(mut ws: Ws, client: usize, turns: usize, heard: Arc<AtomicU64>) -> Result<Ws> {
    for turn in 0..turns {
        let key = format!("footprint-{client}-{turn}.");
        let params =
            json!({ "sessionKey": format!("footprint-{client}"), "message": "hello", "idempotencyKey": key });
        let request = encode_request("t", "chat.send", Some(params.to_string().as_bytes()));
        ws.send(Message::Text(Utf8Bytes::try_from(request)?)).await?;
        loop {
            let text = frame(&mut ws).await?;
            heard.fetch_add(1, Relaxed);
            ensure!(!text.starts_with(r#"{"type":"res","id":"t","ok":false"#), "{}", text.as_str());
            if text.contains(&key) && text.contains(r#""state":"final""#) {
                break;
            }
        }
    }
    Ok(ws)
}
