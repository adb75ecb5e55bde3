//! What the measuring examples share: a gateway of their own, and a client that costs little.

use anyhow::{Context, Result, bail, ensure};
use crabtree_protocol::client::encode_request;
use futures_util::{SinkExt, StreamExt};
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
/// Pause between two attempts to connect to a gateway that starts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

pub type Ws = WebSocketStream<TcpStream>;

/// Opens a socket and goes through the handshake.
pub async fn hello(addr: SocketAddr, connect: &Utf8Bytes) -> Result<Ws> {
    Ok(greeted(addr, connect).await?.0)
}

/// The same, with what the gateway says of itself and of the connection.
pub async fn greeted(addr: SocketAddr, connect: &Utf8Bytes) -> Result<(Ws, Utf8Bytes)> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(32 * 1024);
    let url = format!("ws://{addr}/");
    let (mut ws, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    let challenge = frame(&mut ws).await?;
    ensure!(challenge.contains("connect.challenge"), "not a challenge: {}", challenge.as_str());
    ws.send(Message::Text(connect.clone())).await?;
    let hello = frame(&mut ws).await?;
    ensure!(hello.starts_with(r#"{"type":"res","id":"c","ok":true"#), "refused: {}", hello.as_str());
    Ok((ws, hello))
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

/// The request every connection begins with.
pub fn connect_request(token: &str) -> Utf8Bytes {
    let params = json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": { "id": "gateway-client", "mode": "backend", "version": "0", "platform": "linux" },
        "caps": [],
        "role": "operator",
        "scopes": ["operator.read", "operator.write"],
        "auth": { "token": token },
    });
    encode_request("c", "connect", Some(params.to_string().as_bytes())).try_into().expect("JSON is UTF-8")
}

/// A started gateway; it ends with this value.
pub struct Gateway {
    process: Child,
    pub addr: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gateway {
    /// Starts what `command` makes for a free port, and returns when it has let a client in.
    pub async fn start(command: impl FnOnce(&str) -> Command) -> Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(&addr.port().to_string());
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
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }

    /// A file of /proc/PID.
    pub fn proc(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.process.id()))?)
    }

    /// A figure of /proc/PID/status, in MB.
    pub fn memory(&self, name: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        Ok(kib.context("an unexpected /proc/PID/status")? * 1024.0 / 1e6)
    }
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
