//! The load generator: measures a gateway from outside, over loopback, and prints one line of JSON and one for
//! people. It starts the binary it measures in a fresh state directory and ends it afterwards.
//!
//!     cargo run --release --example load -- health --server target/release/crabtree
//!
//! Everything a request needs is encoded beforehand and an answer is only looked at where it says what it is,
//! so that the figures are the server's rather than the client's.

mod measured;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use crabtree_protocol::client::encode_request;
use futures_util::{FutureExt, SinkExt, StreamExt};
use measured::{Gateway, IDLE, TOKEN, Ws, connect_request, frame, hello, round};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Ticks a second of the times in /proc; the same on every Linux of today.
const CLOCK_TICKS: u64 = 100;

/// Bytes of the payloads that the server for comparison answers with.
const BARE_HELLO: usize = 2_000;
const BARE_HEALTH: usize = 700;

#[derive(Parser)]
#[command(about = "Measures a gateway")]
struct Cli {
    /// The binary to start and measure
    #[arg(long, global = true, default_value = "target/release/crabtree")]
    server: PathBuf,
    /// Measure the gateway that runs at this address instead
    #[arg(long, global = true)]
    address: Option<SocketAddr>,
    /// Its token
    #[arg(long, global = true, default_value = TOKEN)]
    token: String,
    /// Measure a server that does nothing but speak WebSocket, for comparison
    #[arg(long, global = true)]
    bare: bool,
    /// How long to measure
    #[arg(long, global = true, default_value_t = 10)]
    seconds: u64,
    /// Threads of the client
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From the start of the process to the first accepted connect, with an empty state directory
    Start {
        #[arg(long, default_value_t = 11)]
        runs: usize,
    },
    /// Resident memory five seconds after the start
    Rss,
    /// Connect, challenge, connect, hello, close
    Handshakes {
        #[arg(long, default_value_t = 16)]
        workers: usize,
        /// Connections that are open meanwhile and do nothing
        #[arg(long, default_value_t = 0)]
        idle: usize,
    },
    /// The method `health`, pipelined
    Health {
        #[arg(long, default_value_t = 8)]
        connections: usize,
        /// Requests each has in flight
        #[arg(long, default_value_t = 32)]
        in_flight: u64,
    },
    /// Events of streaming turns, as many watchers hear them
    Fanout {
        #[arg(long, default_value_t = 200)]
        watchers: usize,
        #[arg(long, default_value_t = 16)]
        sessions: usize,
    },
    /// A restart in place, from `shutdown` to the first client that is let in again, and to the last
    Handover {
        #[arg(long, default_value_t = 200)]
        clients: usize,
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Be that server
    #[command(hide = true)]
    Bare { port: u16 },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cli.threads).enable_all().build()?;
    let (line, words) = runtime.block_on(async {
        match cli.what {
            What::Start { runs } => start(&cli, runs).await,
            What::Rss => rss(&cli).await,
            What::Handshakes { workers, idle } => handshakes(&cli, workers, idle).await,
            What::Health { connections, in_flight } => health(&cli, connections, in_flight).await,
            What::Fanout { watchers, sessions } => fanout(&cli, watchers, sessions).await,
            What::Handover { clients, runs } => handover(&cli, clients, runs).await,
            What::Bare { port } => bare(port).await,
        }
    })?;
    eprintln!("{words}");
    println!("{line}");
    Ok(())
}

// ---- what is measured ----

async fn start(cli: &Cli, runs: usize) -> Result<(Value, String)> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        let _gateway = Started::of(cli).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (times.first(), times.last()) else { bail!("no runs") };
    let median = times[times.len() / 2];
    let line = json!({ "measure": "start", "runs": runs, "minMs": round(*min), "medianMs": round(median),
        "maxMs": round(*max) });
    Ok((
        line,
        format!("start: {median:.0} ms to the first accepted connect ({min:.0} to {max:.0} in {runs} runs)"),
    ))
}

async fn handover(cli: &Cli, clients: usize, runs: usize) -> Result<(Value, String)> {
    let Started { gateway, _state } = Started::of(cli).await?;
    let stat = gateway.proc("stat")?;
    let pid = stat.split(' ').next().context("an unexpected /proc/PID/stat")?;
    let connect = connect_request(TOKEN);
    let mut sockets = Vec::with_capacity(clients);
    for _ in 0..clients {
        sockets.push(hello(gateway.addr, &connect).await?);
    }
    let (mut first, mut last, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..runs {
        let mut returns = JoinSet::new();
        for socket in sockets.drain(..) {
            returns.spawn(come_back(socket, gateway.addr, connect.clone()));
        }
        ensure!(Command::new("kill").args(["-USR2", pid]).status()?.success(), "the gateway cannot be told");
        let (mut told, mut back) = (Vec::new(), Vec::new());
        while let Some(returned) = returns.join_next().await {
            let Returned { socket, told_at, back_at, refused: more } = returned??;
            refused += more;
            sockets.push(socket);
            told.push(told_at);
            back.push(back_at);
        }
        let (Some(told), Some(one), Some(all)) = (told.iter().min(), back.iter().min(), back.iter().max())
        else {
            bail!("no clients");
        };
        first.push((*one - *told).as_secs_f64() * 1e3);
        last.push((*all - *told).as_secs_f64() * 1e3);
    }
    let middle = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().context("no runs")
    };
    let (first, last) = (middle(&mut first)?, middle(&mut last)?);
    let line = json!({ "measure": "handover", "clients": clients, "runs": runs, "firstMs": round(first),
        "lastMs": round(last), "refused": refused });
    let words = format!(
        "handover: {first:.0} ms from `shutdown` to the first client that is let in again, {last:.0} ms to the last of \
         {clients} (medians of {runs}); {refused} connects refused"
    );
    Ok((line, words))
}

/// A client that was told to go, and is back.
struct Returned {
    socket: Ws,
    told_at: Instant,
    back_at: Instant,
    refused: usize,
}

async fn come_back(mut socket: Ws, addr: SocketAddr, connect: Utf8Bytes) -> Result<Returned> {
    while !frame(&mut socket).await?.contains(r#""event":"shutdown""#) {}
    let told_at = Instant::now();
    while frame(&mut socket).await.is_ok() {}
    drop(socket);
    let mut refused = 0;
    loop {
        match hello(addr, &connect).await {
            Ok(socket) => return Ok(Returned { socket, told_at, back_at: Instant::now(), refused }),
            Err(error) => {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                refused += usize::from(kind == Some(std::io::ErrorKind::ConnectionRefused));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn rss(cli: &Cli) -> Result<(Value, String)> {
    let Started { gateway, _state } = Started::of(cli).await?;
    tokio::time::sleep(IDLE).await;
    let (all, own) = (gateway.memory("VmRSS")?, gateway.memory("RssAnon")?);
    let line = json!({ "measure": "rss", "idleMb": round(all), "anonymousMb": round(own) });
    Ok((line, format!("idle: {all:.1} MB resident, {own:.1} MB of it anonymous")))
}

async fn handshakes(cli: &Cli, workers: usize, idle: usize) -> Result<(Value, String)> {
    let target = Target::of(cli).await?;
    let mut others = Vec::with_capacity(idle);
    for _ in 0..idle {
        others.push(hello(target.addr, &target.connect).await?);
    }
    let meter = Meter::start(&target);
    let ends = Instant::now() + Duration::from_secs(cli.seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (addr, connect) = (target.addr, target.connect.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while Instant::now() < ends {
                let mut ws = hello(addr, &connect).await?;
                ws.close(None).await?;
                while let Some(Ok(_)) = ws.next().await {}
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    meter.report("handshakes", sum(tasks).await?, json!({ "workers": workers, "idle": idle }))
}

async fn health(cli: &Cli, connections: usize, in_flight: u64) -> Result<(Value, String)> {
    let target = Target::of(cli).await?;
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        sockets.push(hello(target.addr, &target.connect).await?);
    }
    let meter = Meter::start(&target);
    let ends = Instant::now() + Duration::from_secs(cli.seconds);
    let mut tasks = JoinSet::new();
    for ws in sockets {
        tasks.spawn(pipeline(ws, ends, in_flight));
    }
    meter.report("health", sum(tasks).await?, json!({ "connections": connections, "inFlight": in_flight }))
}

/// Keeps `in_flight` calls going until `ends`; counts the answers.
async fn pipeline(mut ws: Ws, ends: Instant, in_flight: u64) -> Result<u64> {
    let (mut sent, mut answered) = (0_u64, 0_u64);
    loop {
        if Instant::now() < ends {
            while sent - answered < in_flight {
                sent += 1;
                let frame = format!(r#"{{"type":"req","id":"{sent}","method":"health"}}"#);
                ws.feed(Message::text(frame)).await?;
            }
            ws.flush().await?;
        } else if sent == answered {
            return Ok(answered);
        }
        let mut next = Some(frame(&mut ws).await?);
        while let Some(text) = next {
            if is_response(&text) {
                answered += 1;
                let expected = format!(r#"{{"type":"res","id":"{answered}","ok":true"#);
                ensure!(text.starts_with(&expected), "answer {answered} is {}", text.as_str());
            }
            next = frame(&mut ws).now_or_never().transpose()?;
        }
    }
}

async fn fanout(cli: &Cli, watchers: usize, sessions: usize) -> Result<(Value, String)> {
    let target = Target::of(cli).await?;
    let heard = Arc::new(AtomicU64::new(0));
    let mut listening = JoinSet::new();
    for _ in 0..watchers {
        let mut ws = hello(target.addr, &target.connect).await?;
        let heard = heard.clone();
        listening.spawn(async move {
            while let Some(Ok(message)) = ws.next().await {
                if message.to_text().is_ok_and(is_turn_event) {
                    heard.fetch_add(1, Relaxed);
                }
            }
        });
    }
    let meter = Meter::start(&target);
    let ends = Instant::now() + Duration::from_secs(cli.seconds);
    let mut talking = JoinSet::new();
    for session in 0..sessions {
        let ws = hello(target.addr, &target.connect).await?;
        talking.spawn(turns(ws, session, ends));
    }
    let turns = sum(talking).await?;
    listening.abort_all();
    meter.report("fanout", heard.load(Relaxed), json!({ "watchers": watchers, "turns": turns }))
}

/// One turn after the other in a session of its own, until `ends`; counts them.
async fn turns(mut ws: Ws, session: usize, ends: Instant) -> Result<u64> {
    let words = "and so on ".repeat(50);
    for turn in 1.. {
        let key = format!("load-{session}-{turn}");
        let params =
            json!({ "sessionKey": format!("load-{session}"), "message": words, "idempotencyKey": key });
        let request = encode_request("t", "chat.send", Some(params.to_string().as_bytes()));
        ws.send(Message::Text(Utf8Bytes::try_from(request)?)).await?;
        loop {
            let text = frame(&mut ws).await?;
            ensure!(!text.starts_with(r#"{"type":"res","id":"t","ok":false"#), "{}", text.as_str());
            if is_turn_event(&text) && text.contains(&key) && text.contains(r#""state":"final""#) {
                break;
            }
        }
        if Instant::now() >= ends {
            return Ok(turn);
        }
    }
    Ok(0)
}

async fn sum(mut tasks: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(count) = tasks.join_next().await {
        sum += count??;
    }
    Ok(sum)
}

fn is_response(text: &str) -> bool {
    text.starts_with(r#"{"type":"res""#)
}

fn is_turn_event(text: &str) -> bool {
    [r#"{"type":"event","event":"chat""#, r#"{"type":"event","event":"agent""#]
        .iter()
        .any(|head| text.starts_with(head))
}

// ---- the server ----

/// What is measured: a gateway of our own, or a running one.
struct Target {
    addr: SocketAddr,
    connect: Utf8Bytes,
    gateway: Option<Started>,
}

impl Target {
    async fn of(cli: &Cli) -> Result<Self> {
        let connect = connect_request(&cli.token);
        if let Some(addr) = cli.address {
            return Ok(Self { addr, connect, gateway: None });
        }
        let started = Started::of(cli).await?;
        Ok(Self { addr: started.gateway.addr, connect: connect_request(TOKEN), gateway: Some(started) })
    }
}

/// A started gateway or server for comparison; its state goes with this value.
struct Started {
    gateway: Gateway,
    _state: TempDir,
}

impl Started {
    async fn of(cli: &Cli) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let own = std::env::current_exe()?;
        let gateway = Gateway::start(|port| {
            if cli.bare {
                let mut command = Command::new(own);
                command.args(["bare", port]);
                command
            } else {
                measured::run(&cli.server, state.path(), port)
            }
        });
        Ok(Self { gateway: gateway.await?, _state: state })
    }

    /// Processor time it has used, in milliseconds.
    fn cpu_ms(&self) -> Result<u64> {
        let stat = self.gateway.proc("stat")?;
        let (_, after_name) = stat.rsplit_once(')').context("an unexpected /proc/PID/stat")?;
        let used = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(used.sum::<Result<u64, _>>()? * 1000 / CLOCK_TICKS)
    }
}

/// The server for comparison: it lets everybody in, and answers whatever is asked with as many bytes as a
/// gateway does.
async fn bare(port: u16) -> Result<(Value, String)> {
    let door = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = door.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
            let mut ws = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
            // It ends with the socket; what is flushed is the answer to a close.
            let _ = echo(&mut ws).await;
            ws.flush().await
        });
    }
}

async fn echo(ws: &mut Ws) -> Result<()> {
    let challenge = r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"","ts":0}}"#;
    ws.send(Message::text(challenge)).await?;
    let (hello, health) = ("h".repeat(BARE_HELLO), "h".repeat(BARE_HEALTH));
    loop {
        let mut next = Some(frame(ws).await?);
        while let Some(text) = next {
            let id = text.split('"').nth(7).unwrap_or_default();
            let payload = if id == "c" { &hello } else { &health };
            let answer = format!(r#"{{"type":"res","id":"{id}","ok":true,"payload":"{payload}"}}"#);
            ws.feed(Message::text(answer)).await?;
            next = frame(ws).now_or_never().transpose()?;
        }
        ws.flush().await?;
    }
}

/// Time and processor time of a measurement.
struct Meter<'a> {
    target: &'a Target,
    begun: Instant,
    cpu_ms: u64,
}

impl<'a> Meter<'a> {
    fn start(target: &'a Target) -> Self {
        Self { target, begun: Instant::now(), cpu_ms: cpu_ms(target) }
    }

    fn report(&self, measure: &str, count: u64, more: Value) -> Result<(Value, String)> {
        let (seconds, used) = (self.begun.elapsed().as_secs_f64(), cpu_ms(self.target) - self.cpu_ms);
        ensure!(count > 0, "nothing was counted");
        let rate = (count as f64 / seconds).round();
        let mut line = Map::from_iter([
            ("measure".to_owned(), json!(measure)),
            ("perSecond".to_owned(), json!(rate as u64)),
            ("count".to_owned(), json!(count)),
            ("seconds".to_owned(), json!(round(seconds))),
        ]);
        let mut words = format!("{measure}: {rate} a second");
        if let Some(started) = &self.target.gateway {
            let each = used as f64 * 1e3 / count as f64;
            let (cpu, rss) = (round(each), round(started.gateway.memory("VmRSS")?));
            line.extend([("serverCpuUs".to_owned(), json!(cpu)), ("serverRssMb".to_owned(), json!(rss))]);
            words += &format!(", {each:.1} us of the server's processor time each, {rss} MB resident");
        }
        if let Value::Object(more) = more {
            line.extend(more);
        }
        Ok((Value::Object(line), words))
    }
}

fn cpu_ms(target: &Target) -> u64 {
    target.gateway.as_ref().and_then(|started| started.cpu_ms().ok()).unwrap_or(0)
}
