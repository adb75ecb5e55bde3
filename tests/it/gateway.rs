//! Gateways under test: embedded ones, and real processes that can be killed.

use crate::client::TOKEN;
use crabtree::{Gateway, Options};
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::settings::{AuthSecret, Secret};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A gateway in this process, on a free port, with a state directory of its own.
pub struct Embedded {
    pub gateway: Gateway,
    pub addr: SocketAddr,
    pub state: TempDir,
    /// What `logs.tail` reads.
    pub log: Arc<LogRing>,
}

impl Embedded {
    pub async fn start() -> Self {
        Self::with(json!({ "gateway": { "chaos": { "enabled": true } } })).await
    }

    /// With this content of its configuration file.
    pub async fn with(config: Value) -> Self {
        Self::with_auth(config, AuthSecret::Token(Secret::new(TOKEN))).await
    }

    /// The same, asking for this secret.
    pub async fn with_auth(config: Value, auth: AuthSecret) -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
        Self::on(state, auth).await
    }

    /// Stopped, and started again on what it left, asking for this secret.
    pub async fn restarted(self, auth: AuthSecret) -> Self {
        let Self { gateway, state, .. } = self;
        gateway.shutdown("gateway restarting").await;
        drop(gateway);
        Self::on(state, auth).await
    }

    async fn on(state: TempDir, auth: AuthSecret) -> Self {
        let sources = crabtree::config::Sources {
            state_dir: state.path().to_owned(),
            file: None,
            env: [("UNUSED", "")].into_iter().collect(),
            flags: json!({}),
        };
        let loaded = crabtree::config::load(&sources).unwrap();
        let log = Arc::new(LogRing::default());
        let gateway = Gateway::start(Options {
            loaded,
            reload: Arc::new(move || Ok(crabtree::config::load(&sources)?)),
            token: auth,
            device_key: [7; 32],
            log_ring: log.clone(),
            listen: vec![([127, 0, 0, 1], 0).into()],
        })
        .await
        .unwrap();
        gateway.ready().await;
        let addr = gateway.local_addr();
        Self { gateway, addr, state, log }
    }
}

/// A gateway in a process of its own, which can be killed and started again on the same state.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
}

impl Process {
    /// Starts it and waits until it serves.
    pub async fn start(state: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_crabtree"))
            .arg("run")
            .env("CRABTREE_STATE_DIR", state)
            .env("CRABTREE_GATEWAY__PORT", port.to_string())
            .env("CRABTREE_GATEWAY__CHAOS__ENABLED", "true")
            .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { child, addr: ([127, 0, 0, 1], port).into() };
        let deadline = Instant::now() + Duration::from_secs(20);
        while http_status(this.addr, "/ready").await != Some(200) {
            assert!(Instant::now() < deadline, "the gateway did not become ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        this
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its own end.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of a plain GET; `None` if nobody answers.
pub async fn http_status(addr: SocketAddr, path: &str) -> Option<u16> {
    http(addr, "GET", path).await.map(|(status, _)| status)
}

/// Status and body of a plain request.
pub async fn http(addr: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
