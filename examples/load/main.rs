//! The load generator: measures a gateway from outside, over loopback, and prints one line of JSON for each measurement.
//! It starts what it measures in a fresh state directory and ends it afterwards: Crabtree (`--server`), the real gateway
//! (`--openclaw`), a server that only speaks WebSocket (`--bare`), or nothing, where a gateway runs already (`--url`).
//!
//!     cargo build --release --bin crabtree --example load
//!     target/release/examples/load start --runs 11          # process to first accepted connect
//!     target/release/examples/load idle                     # memory at rest, and of each idle connection
//!     target/release/examples/load worn                     # memory after a minute of load
//!     target/release/examples/load handshakes
//!     target/release/examples/load rpc health               # closed loop: 4 connections, 8 outstanding on each
//!     target/release/examples/load rpc health --rate 5000   # open loop: latency counts from when a call was due
//!     target/release/examples/load rpc sessions.list --rows 100
//!     target/release/examples/load turn --tokens 1 --token-ms 0
//!     target/release/examples/load turn --sessions 8        # a model of 20 tokens, 20 ms each; --rate: open loop
//!     target/release/examples/load fanout                   # small events to 200 clients
//!     target/release/examples/load streams                  # 1,000 turns at once, 20 watchers
//!     target/release/examples/load storm                    # 2,000 clients come back after a restart
//!     target/release/examples/load slow                     # clients that stop reading
//!     target/release/examples/load crash                    # parts of the tree crash (Crabtree)
//!     target/release/examples/load handover                 # a restart in place (Crabtree)
//!     target/release/examples/load --seconds 1 all          # a short form of each; fails if an answer is wrong
//!
//! Before the measurement: `--openclaw target/stock` (after `tests/stock/install node oc`), `--bare`, or
//! `--url ws://127.0.0.1:18789 --token …`. A gateway that runs already thinks with its own model; `load model` is one
//! that it can be given. `examples/beside-openclaw` runs all this for both gateways and prints a table.
//!
//! Everything a request needs is encoded beforehand and an answer is only looked at where it says what it is, so that the
//! figures are the server's rather than the client's.

mod bare;
mod compare;
mod crash;
mod fanout;
mod latency;
mod lives;
#[path = "../measured/mod.rs"]
mod measured;
mod model;
mod node;
mod rpc;
mod slow;
mod storm;
mod talk;
mod target;
mod turns;
mod worn;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use latency::Report;
use model::Script;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::time::Duration;
use target::{Kind, Which};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(about = "Measures a gateway", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    which: Which,
    /// How long each rate is measured
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds after which a measurement has failed
    #[arg(long, global = true, default_value_t = 900)]
    deadline: u64,
    /// The pair of runs that it belongs to, for `compare`
    #[arg(long, global = true, value_name = "N")]
    pair: Option<u64>,
    /// Threads of the client
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From the start of the process to the first accepted connect
    Start(lives::Start),
    /// Resident memory with nothing to do, and for each idle connection
    Idle(lives::Idle),
    /// Resident memory after some load, at rest again
    Worn(worn::Worn),
    /// Connect, challenge, connect, hello, close
    Handshakes(lives::Handshakes),
    /// Calls of a method, in a closed or an open loop
    Rpc(rpc::Rpc),
    /// Chat turns against a model that takes a known time, in a closed or an open loop
    Turn(turns::Turns),
    /// Small events to many clients
    Fanout(fanout::Fanout),
    /// Many turns that stream at the same time while others watch
    Streams(turns::Streams),
    /// Many clients that come back at once after a restart
    Storm(storm::Storm),
    /// Clients that stop reading while others watch
    Slow(slow::Slow),
    /// Parts of the tree that crash, and serve again (Crabtree)
    Crash(crash::Crash),
    /// A restart in place, from `shutdown` to the first client that is let in again, and to the last (Crabtree)
    Handover(storm::Handover),
    /// A short form of each, one after the other; fails if an answer is wrong
    All,
    /// Be the model that turns are measured with, for a gateway that runs already
    Model {
        #[command(flatten)]
        script: Script,
        /// Where it listens
        #[arg(long, default_value_t = 18790)]
        port: u16,
    },
    /// The machine, and the versions of what is measured
    Facts,
    /// Print a table of the lines of many runs
    Compare(compare::Compare),
    /// Be the server for comparison
    #[command(hide = true)]
    Bare { port: u16 },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    open_files()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads).enable_all().build()?;
    runtime.block_on(async {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // What was started ends with the future that holds it.
        tokio::select! {
            done = run(&cli) => done,
            _ = term.recv() => bail!("stopped"),
            _ = int.recv() => bail!("stopped"),
        }
    })
}

/// As many open files as may be, for this process and for what it starts: thousands of clients want them.
fn open_files() -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits })?)
}

async fn run(cli: &Cli) -> Result<()> {
    match &cli.what {
        What::Model { script, port } => {
            let model = model::Model::start(*script, *port).await?;
            let config = serde_json::json!({ "models": model.config(),
                "agents": { "defaults": { "model": { "primary": model::NAME } } } });
            eprintln!("openclaw.json of a gateway that is to think with it:\n{config:#}");
            std::future::pending().await
        }
        What::Bare { port } => bare::serve(*port).await,
        What::Compare(compare) => compare.print(),
        What::Facts => {
            println!("{}", compare::facts(&cli.which)?);
            Ok(())
        }
        What::All => {
            for what in all(cli.which.kind()?) {
                print(cli, &what).await?;
            }
            Ok(())
        }
        what => print(cli, what).await,
    }
}

async fn print(cli: &Cli, what: &What) -> Result<()> {
    let limit = Duration::from_secs(cli.deadline);
    let report =
        tokio::time::timeout(limit, measure(cli, what)).await.context("no end before --deadline")??;
    let mut line = report.with("target", cli.which.kind()?.name()).with("pair", cli.pair).json();
    if let Value::Object(line) = &mut line {
        line.retain(|_, figure| !figure.is_null());
    }
    println!("{line}");
    Ok(())
}

async fn measure(cli: &Cli, what: &What) -> Result<Report> {
    let (which, seconds) = (&cli.which, cli.seconds);
    match what {
        What::Start(it) => it.measure(which).await,
        What::Idle(it) => it.measure(which).await,
        What::Worn(it) => it.measure(which).await,
        What::Handshakes(it) => it.measure(which, seconds).await,
        What::Rpc(it) => it.measure(which, seconds).await,
        What::Turn(it) => it.measure(which, seconds).await,
        What::Fanout(it) => it.measure(which, seconds).await,
        What::Streams(it) => it.measure(which).await,
        What::Storm(it) => it.measure(which).await,
        What::Slow(it) => it.measure(which, seconds).await,
        What::Crash(it) => it.measure(which).await,
        What::Handover(it) => it.measure(which).await,
        What::All | What::Model { .. } | What::Facts | What::Compare(_) | What::Bare { .. } => {
            bail!("this is no measurement")
        }
    }
}

/// A short form of each measurement that can be made of such a gateway.
fn all(kind: Kind) -> Vec<What> {
    let rpc = |method, rate, rows| What::Rpc(rpc::Rpc::of(method, rate, rows));
    let script = Script { tokens: 5, token_ms: 10 };
    let every = [Kind::Crabtree, Kind::OpenClaw, Kind::Bare, Kind::Running];
    let gateways = [Kind::Crabtree, Kind::OpenClaw, Kind::Running];
    let started = [Kind::Crabtree, Kind::OpenClaw];
    let measures: [(&[Kind], What); 15] = [
        (&started, What::Start(lives::Start { runs: 1 })),
        (&started, What::Idle(lives::Idle { connections: 50 })),
        (&started, What::Worn(worn::Worn { load: 5 })),
        (&every, What::Handshakes(lives::Handshakes { workers: 16, idle: 0 })),
        (&every, rpc("health", None, None)),
        (&every, rpc("health", Some(200.0), None)),
        (&gateways, rpc("sessions.list", None, Some(10))),
        (&gateways, What::Turn(turns::Turns { script, sessions: 4, turns: 20, rate: None })),
        (&gateways, What::Turn(turns::Turns { script, sessions: 1, turns: 20, rate: Some(5.0) })),
        (&every, What::Fanout(fanout::Fanout { watchers: 20 })),
        (&gateways, What::Streams(turns::Streams { script, turns: 40, watchers: 5, count_failed: false })),
        (&started, What::Storm(storm::Storm { clients: 200, addresses: 8 })),
        (&gateways, What::Slow(slow::Slow { fast: 4, slow: 2, words: 30 })),
        (&[Kind::Crabtree], What::Crash(crash::Crash { rounds: 1 })),
        (&[Kind::Crabtree], What::Handover(storm::Handover { clients: 20, runs: 1 })),
    ];
    measures.into_iter().filter(|(kinds, _)| kinds.contains(&kind)).map(|(_, what)| what).collect()
}
