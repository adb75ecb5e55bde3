//! What the measuring examples share: a gateway of their own, and a client that costs little.

use anyhow::{Context, Result, bail, ensure};
use crabtree_protocol::client::encode_request;
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// The token of the gateway that is started.
pub const TOKEN: &str = "a-token-for-measurements-only";
/// How long the gateway is left alone before its memory is read.
pub const IDLE: Duration = Duration::from_secs(5);
/// A gateway that has not let anybody in after this long has failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// No answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// The shortest pause between two attempts to connect to a gateway that starts. It grows with the time that has
/// passed, by this part of it: the figure stays exact enough, and a slow start is not hindered.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);
const ATTEMPT_PART: u32 = 100;

pub type Ws = WebSocketStream<TcpStream>;

/// Opens a socket and goes through the handshake.
pub async fn hello(addr: SocketAddr, connect: &Utf8Bytes) -> Result<Ws> {
    Ok(greeted(addr, connect).await?.0)
}

/// The same, with what the gateway says of itself and of the connection.
pub async fn greeted(addr: SocketAddr, connect: &Utf8Bytes) -> Result<(Ws, Utf8Bytes)> {
    greet(TcpStream::connect(addr).await?, addr, connect).await
}

/// Goes through the handshake on a socket that is open.
pub async fn greet(stream: TcpStream, addr: SocketAddr, connect: &Utf8Bytes) -> Result<(Ws, Utf8Bytes)> {
    let (mut ws, _) = challenged(stream, addr).await?;
    let hello = introduce(&mut ws, connect).await?;
    Ok((ws, hello))
}

/// Begins the handshake; the challenge comes with it.
pub async fn challenged(stream: TcpStream, addr: SocketAddr) -> Result<(Ws, Utf8Bytes)> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(32 * 1024);
    let url = format!("ws://{addr}/");
    let (mut ws, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    let challenge = frame(&mut ws).await?;
    ensure!(challenge.contains("connect.challenge"), "not a challenge: {}", challenge.as_str());
    Ok((ws, challenge))
}

/// Ends the handshake; what the gateway says of itself and of the connection.
pub async fn introduce(ws: &mut Ws, connect: &Utf8Bytes) -> Result<Utf8Bytes> {
    ws.send(Message::Text(connect.clone())).await?;
    let hello = frame(ws).await?;
    ensure!(hello.starts_with(r#"{"type":"res","id":"c","ok":true"#), "refused: {}", hello.as_str());
    Ok(hello)
}

/// The next frame.
pub async fn frame(ws: &mut Ws) -> Result<Utf8Bytes> {
    loop {
        match ws.next().await.context("the socket has ended")?? {
            Message::Text(text) => return Ok(text),
            Message::Close(close) => bail!("closed: {close:?}"),
            _ => {}
        }
    }
}

/// The request every connection begins with: as an operator who may do everything, since some measurements do. A
/// gateway that shares its token with a program on its own machine asks for no device.
pub fn connect_request(token: &str) -> Utf8Bytes {
    let params = json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": { "id": "gateway-client", "mode": "backend", "version": "0", "platform": "linux" },
        "caps": [],
        "role": "operator",
        "scopes": ["operator.read", "operator.write", "operator.admin"],
        "auth": { "token": token },
    });
    encode_request("c", "connect", Some(params.to_string().as_bytes())).try_into().expect("JSON is UTF-8")
}

/// A started gateway; it ends with this value, and what it has started does, too.
pub struct Gateway {
    pub process: Child,
    pub addr: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let children = family(self.process.id()).split_off(1);
        let _ = self.process.kill();
        let _ = self.process.wait();
        for child in children {
            let child = i32::try_from(child).ok().and_then(Pid::from_raw);
            let _ = child.map(|child| kill_process(child, Signal::KILL));
        }
    }
}

impl Gateway {
    /// Starts what `command` makes for a free port, and returns when it has let a client in.
    pub async fn start(command: impl FnOnce(&str) -> Result<Command>) -> Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(addr, command(&addr.port().to_string())?).await
    }

    /// Starts `command`, which listens at `addr`, and returns when it has let a client in.
    pub async fn start_at(addr: SocketAddr, mut command: Command) -> Result<Self> {
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut gateway = Self { process, addr };
        let (connect, begun) = (connect_request(TOKEN), Instant::now());
        loop {
            let refused = match tokio::time::timeout(PATIENCE, hello(addr, &connect)).await? {
                Ok(_) => return Ok(gateway),
                Err(refused) => refused,
            };
            if let Some(status) = gateway.process.try_wait()? {
                bail!("the gateway ended with {status}");
            }
            ensure!(begun.elapsed() < START_TIMEOUT, "the gateway lets nobody in: {refused}");
            tokio::time::sleep(ATTEMPT_PAUSE.max(begun.elapsed() / ATTEMPT_PART)).await;
        }
    }

    /// A figure of /proc/PID/status, in MB, of the gateway and what it has started.
    pub fn memory(&self, name: &str) -> Result<f64> {
        memory(self.process.id(), name)
    }
}

/// A figure of /proc/PID/status, in MB, of a process and what it has started.
pub fn memory(pid: u32, name: &str) -> Result<f64> {
    let of = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    };
    let own = of(pid).context("an unexpected /proc/PID/status")?;
    // A child may end meanwhile.
    let children = family(pid).into_iter().skip(1).filter_map(of);
    Ok((own + children.sum::<f64>()) * 1024.0 / 1e6)
}

/// A process, and after it all that it has started, and they have.
fn family(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        Some((pid, after_name.split_whitespace().nth(1)?.parse::<u32>().ok()?))
    };
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(parent).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&of) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| pid));
        next += 1;
    }
    family
}

/// How a gateway is started that keeps its state there.
pub fn run(binary: &std::path::Path, state: &std::path::Path, port: &str) -> Command {
    let mut command = Command::new(binary);
    command.env("OPENCLAW_GATEWAY_TOKEN", TOKEN).arg("--state-dir").arg(state);
    command.args(["run", "--bind", "loopback", "--log-level", "warn", "--port", port]);
    command
}

/// To one decimal.
pub fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
