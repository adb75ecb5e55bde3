//! Gateways under test: embedded ones, and real processes that can be killed.

use crate::client::TOKEN;
use crate::leaks;
use crate::mock_model;
use crabtree::{Gateway, Options};
use crabtree_actors::agents::Model;
use crabtree_actors::estate::Brought;
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_actors::store::{Db, Sync, WriteOp};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Has a gateway find no models of an Ollama on this machine.
const NO_DISCOVERY: [(&str, &str); 1] =
    [("CRABTREE_PLUGINS__ENTRIES__OLLAMA__CONFIG__DISCOVERY__ENABLED", "false")];

/// A gateway in this process, on a free port, with a state directory of its own.
pub struct Embedded {
    pub gateway: Gateway,
    pub addr: SocketAddr,
    pub state: TempDir,
    /// What `logs.tail` reads.
    pub log: Arc<LogRing>,
    _watch: leaks::Watch,
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
        Self::with_text(&config.to_string(), auth).await
    }

    /// The same, written like this.
    pub async fn with_text(config: &str, auth: AuthSecret) -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("openclaw.json"), config).unwrap();
        Self::on(state, auth).await
    }

    /// On a store these operations have been written to.
    pub async fn stored(ops: &[WriteOp]) -> Self {
        Self::stored_with(json!({}), ops).await
    }

    /// The same, with this content of its configuration file.
    pub async fn stored_with(config: Value, ops: &[WriteOp]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let db = Db::open(state.path().join("store.sqlite"), Sync::Normal).unwrap();
        for result in db.apply_batch(ops, &|_| {}).unwrap() {
            result.unwrap();
        }
        drop(db);
        std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
        Self::on(state, AuthSecret::Token(Secret::new(TOKEN))).await
    }

    /// Stopped, and started again on what it left, asking for this secret.
    pub async fn restarted(self, auth: AuthSecret) -> Self {
        let Self { gateway, state, .. } = self;
        gateway.shutdown("gateway restarting").await;
        drop(gateway);
        Self::on(state, auth).await
    }

    /// With this content of its configuration file, and these models beside its own.
    pub async fn with_models(config: Value, models: Vec<Arc<dyn Model>>) -> Self {
        Self::with_brought(config, Brought { models, ..Brought::default() }).await
    }

    /// With this content of its configuration file, and these models and tools beside its own.
    pub async fn with_brought(config: Value, brought: Brought) -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
        Self::open(state, AuthSecret::Token(Secret::new(TOKEN)), brought).await
    }

    async fn on(state: TempDir, auth: AuthSecret) -> Self {
        Self::open(state, auth, Brought::default()).await
    }

    async fn open(state: TempDir, auth: AuthSecret, brought: Brought) -> Self {
        let log = Arc::new(LogRing::default());
        let written = std::fs::read_to_string(state.path().join("openclaw.json")).unwrap_or_default();
        let sources = crabtree::config::Sources {
            state_dir: state.path().to_owned(),
            file: None,
            // What runs on the machine is found only by who asks for it.
            env: NO_DISCOVERY.into_iter().filter(|_| !written.contains("discovery")).collect(),
            flags: json!({}),
        };
        let watch = leaks::Watch::begin();
        let gateway = started(sources, auth, log.clone(), brought, 0).await;
        let addr = gateway.local_addr();
        leaks::forget(addr);
        leaks::register(addr, [TOKEN.to_owned()]);
        leaks::register_config(addr, &written);
        Self { gateway, addr, state, log, _watch: watch }
    }
}

async fn started(
    sources: crabtree::config::Sources,
    token: AuthSecret,
    log_ring: Arc<LogRing>,
    brought: Brought,
    port: u16,
) -> Gateway {
    let gateway = Gateway::start(Options {
        loaded: crabtree::config::load(&sources).unwrap(),
        reload: sources.reader(),
        token,
        device_key: [7; 32],
        log_ring,
        listen: vec![([127, 0, 0, 1], port).into()],
        brought,
        guard: Guard::at(env!("CARGO_BIN_EXE_crabtree")),
        start: Default::default(),
    })
    .await
    .unwrap();
    gateway.ready().await;
    gateway
}

/// A gateway in a process of its own, which can be killed and started again on the same state.
pub struct Process {
    child: Child,
    pub addr: SocketAddr,
    /// What it prints.
    log: tempfile::NamedTempFile,
}

impl Process {
    /// Starts it and waits until it serves.
    pub async fn start(state: &Path) -> Self {
        Self::until_ready(|| Self::spawn(state)).await
    }

    /// The same with the models of [`mock_model`], which the program does not have: this one serves, as
    /// [`a_process_with_mock_models`].
    pub async fn with_mock_models(state: &Path) -> Self {
        Self::until_ready(|| {
            let mut program = Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", "gateway::a_process_with_mock_models", "--ignored"]);
            Self::launch(program, state)
        })
        .await
    }

    /// The same with these variables in its environment.
    pub async fn with_env(state: &Path, env: &[(&str, &str)]) -> Self {
        Self::until_ready(|| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
            program.arg("run").envs(env.iter().copied());
            Self::launch(program, state)
        })
        .await
    }

    /// The same where SIGINT and SIGHUP are ignored, as they are in the background of a shell and under nohup.
    pub async fn in_the_background(state: &Path) -> Self {
        Self::until_ready(|| {
            let mut program = Command::new("sh");
            program.args(["-c", r#"trap "" INT HUP; exec "$0" "$@""#, env!("CARGO_BIN_EXE_crabtree"), "run"]);
            Self::launch(program, state)
        })
        .await
    }

    /// Starts this file, which is a gateway's program, and waits until it serves.
    pub async fn of_program(file: &Path, state: &Path) -> Self {
        Self::until_ready(|| {
            let mut program = Command::new(file);
            program.arg("run");
            Self::launch(program, state)
        })
        .await
    }

    /// Starts it, and does not wait.
    pub fn spawn(state: &Path) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        program.arg("run");
        Self::launch(program, state)
    }

    async fn until_ready(launch: impl Fn() -> Self) -> Self {
        let mut this = launch();
        let deadline = Instant::now() + Duration::from_secs(20);
        while http_status(this.addr, "/ready").await != Some(200) {
            assert!(Instant::now() < deadline, "the gateway did not become ready");
            // Somebody else may have taken the port in the meantime.
            if this.child.try_wait().unwrap().is_some() {
                this = launch();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        this
    }

    /// Starts it where another was.
    pub async fn restart(state: &Path, addr: SocketAddr) -> Self {
        Self::until_ready(|| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
            program.arg("run");
            Self::launch_on(program, state, addr.port())
        })
        .await
    }

    fn launch(program: Command, state: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::launch_on(program, state, port)
    }

    fn launch_on(mut program: Command, state: &Path, port: u16) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        // Both streams write at the same place of it.
        let printed = log.reopen().unwrap();
        let child = program
            .env("CRABTREE_STATE_DIR", state)
            .envs(NO_DISCOVERY)
            .env("CRABTREE_GATEWAY__PORT", port.to_string())
            .env("CRABTREE_GATEWAY__CHAOS__ENABLED", "true")
            .env("OPENCLAW_GATEWAY_TOKEN", TOKEN)
            .stdout(printed.try_clone().unwrap())
            .stderr(printed)
            .spawn()
            .unwrap();
        let addr = ([127, 0, 0, 1], port).into();
        let written = std::fs::read_to_string(state.join("openclaw.json")).unwrap_or_default();
        leaks::forget(addr);
        leaks::register(addr, [TOKEN.to_owned()]);
        leaks::register_config(addr, &written);
        Self { child, addr, log }
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

    /// Whether it ends by itself within this time.
    pub async fn died_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
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
        if !std::thread::panicking() {
            leaks::check_log(self.addr, self.log.path());
        }
    }
}

/// No test: a gateway for others, see [`Process::with_mock_models`]. It ends in order on SIGTERM.
#[tokio::test]
#[ignore = "started by other tests, as a process of its own"]
async fn a_process_with_mock_models() {
    let Some(state) = std::env::var_os("CRABTREE_STATE_DIR") else { return };
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let sources = crabtree::config::Sources {
        state_dir: state.into(),
        file: None,
        env: crabtree::config::Environment::of_process(),
        flags: json!({}),
    };
    let port = std::env::var("CRABTREE_GATEWAY__PORT").unwrap().parse().unwrap();
    let token = AuthSecret::Token(Secret::new(TOKEN));
    let gateway = started(
        sources,
        token,
        Arc::default(),
        Brought { models: mock_model::models(), ..Brought::default() },
        port,
    )
    .await;
    terminate.recv().await;
    gateway.shutdown("gateway stopping").await;
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
    leaks::check(addr.port(), &answer);
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
