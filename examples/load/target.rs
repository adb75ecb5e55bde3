//! What is measured: a gateway of our own, the real one, a bare server, or one that runs already.

use crate::measured::{self, Gateway, TOKEN, Ws, connect_request, hello};
use crate::model::{Model, NAME, Script};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::http::Uri;

/// Ticks a second of the times in /proc; the same on every Linux of today.
const CLOCK_TICKS: u64 = 100;
/// How long a gateway gets to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Runs at the same time, for gateways that ask.
const MAX_CONCURRENT: usize = 1_000;

#[derive(Args, Clone)]
pub struct Which {
    /// The Crabtree binary to start and measure
    #[arg(long, global = true, default_value = "target/release/crabtree")]
    pub server: PathBuf,
    /// Start and measure the real gateway instead, from the folder that tests/stock/install filled
    #[arg(long, global = true, value_name = "DIR")]
    pub openclaw: Option<PathBuf>,
    /// Start and measure a server that does nothing but speak WebSocket, for comparison
    #[arg(long, global = true)]
    pub bare: bool,
    /// Measure the gateway that runs at this address instead
    #[arg(long, global = true, value_name = "ws://HOST:PORT")]
    pub url: Option<String>,
    /// Its token
    #[arg(long, global = true, default_value = TOKEN)]
    pub token: String,
    /// Its process on this machine, so that its memory can be told
    #[arg(long, global = true)]
    pub pid: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Crabtree,
    OpenClaw,
    Bare,
    Running,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Crabtree => "crabtree",
            Self::OpenClaw => "openclaw",
            Self::Bare => "bare",
            Self::Running => "running",
        }
    }
}

impl Which {
    pub fn kind(&self) -> Result<Kind> {
        match (&self.openclaw, self.bare, &self.url) {
            (None, false, None) => Ok(Kind::Crabtree),
            (Some(_), false, None) => Ok(Kind::OpenClaw),
            (None, true, None) => Ok(Kind::Bare),
            (None, false, Some(_)) => Ok(Kind::Running),
            _ => bail!("--openclaw, --bare and --url are three things to measure: give one of them"),
        }
    }

    /// Fails unless it is one of these.
    pub fn only(&self, kinds: &[Kind]) -> Result<()> {
        let kind = self.kind()?;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        ensure!(
            kinds.contains(&kind),
            "this can be measured of {}, not of {}",
            names.join(", "),
            kind.name()
        );
        Ok(())
    }

    /// How it is started there.
    fn command(&self, state: &Path, port: &str) -> Result<Command> {
        Ok(match self.kind()? {
            Kind::Crabtree => measured::run(&self.server, state, port),
            Kind::OpenClaw => {
                let dir = self.openclaw.as_deref().context("no folder")?;
                let mut command = Command::new(dir.join("node/node_modules/node/bin/node"));
                command.arg(dir.join("oc/node_modules/openclaw/openclaw.mjs"));
                command.args(["gateway", "run", "--port", port]);
                command.env("HOME", state).env("OPENCLAW_STATE_DIR", state).stderr(Stdio::null());
                command
            }
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare", port]);
                command
            }
            Kind::Running => bail!("it runs already; what is to be started is measured without --url"),
        })
    }
}

/// What is different from one measurement to the next.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    /// The model to start and to think with.
    pub model: Option<Script>,
    /// Whether actors may be made to crash.
    pub chaos: bool,
}

/// A gateway that is measured. What was started for it ends with this value.
pub struct Target {
    pub addr: SocketAddr,
    pub connect: Utf8Bytes,
    pub token: String,
    pub model: Option<Model>,
    pub gateway: Option<Gateway>,
    which: Which,
    state: TempDir,
}

impl Target {
    pub async fn of(which: &Which, setup: Setup) -> Result<Self> {
        let (kind, state) = (which.kind()?, tempfile::tempdir()?);
        let (token, model) = match (kind, setup.model) {
            // Who runs it has given it a model.
            (Kind::Running, _) => (which.token.as_str(), None),
            (_, Some(script)) => (TOKEN, Some(Model::start(script, 0).await?)),
            (_, None) => (TOKEN, None),
        };
        let mut target = Self {
            addr: ([127, 0, 0, 1], 0).into(),
            connect: connect_request(token),
            token: token.to_owned(),
            model,
            gateway: None,
            which: which.clone(),
            state,
        };
        if let Some(url) = &which.url {
            target.addr = resolve(url).await?;
            return Ok(target);
        }
        let config = target.config(setup.chaos);
        std::fs::write(target.state.path().join("openclaw.json"), config.to_string())?;
        let gateway = Gateway::start(|port| which.command(target.state.path(), port)).await?;
        target.addr = gateway.addr;
        target.gateway = Some(gateway);
        Ok(target)
    }

    fn config(&self, chaos: bool) -> Value {
        let workspace = self.state.path().join("workspace");
        let mut config = json!({
            "gateway": { "mode": "local", "bind": "loopback", "auth": { "mode": "token", "token": TOKEN } },
            "agents": { "defaults": { "maxConcurrent": MAX_CONCURRENT, "workspace": workspace } },
        });
        if let Some(model) = &self.model {
            config["models"] = model.config();
            config["agents"]["defaults"]["model"] = json!({ "primary": NAME });
        }
        if chaos {
            config["gateway"]["chaos"] = json!({ "enabled": true });
        }
        config
    }

    /// The same for measurements that do not start one.
    pub fn running(&self) -> Which {
        Which {
            openclaw: None,
            bare: false,
            url: Some(format!("ws://{}", self.addr)),
            token: self.token.clone(),
            pid: self.pid(),
            ..self.which.clone()
        }
    }

    /// Ends the gateway in order.
    pub async fn stop(&mut self) -> Result<()> {
        let mut gateway = self.gateway.take().context("what runs already is not ended")?;
        let pid = i32::try_from(gateway.process.id()).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        let told = Instant::now();
        while gateway.process.try_wait()?.is_none() {
            ensure!(told.elapsed() < STOP_TIMEOUT, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts it again on what it left, at the same address.
    pub async fn start_again(&mut self) -> Result<()> {
        let command = self.which.command(self.state.path(), &self.addr.port().to_string())?;
        self.gateway = Some(Gateway::start_at(self.addr, command).await?);
        Ok(())
    }

    /// A connection that has been let in.
    pub async fn client(&self) -> Result<Ws> {
        hello(self.addr, &self.connect).await
    }

    pub async fn clients(&self, count: usize) -> Result<Vec<Ws>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(self.client().await?);
        }
        Ok(clients)
    }

    pub fn pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(|gateway| gateway.process.id()).or(self.which.pid)
    }

    /// Resident memory in MB, with that of child processes.
    pub fn resident(&self) -> Option<f64> {
        measured::memory(self.pid()?, "VmRSS").ok().map(measured::round)
    }

    /// What `work` comes to, and the most memory meanwhile.
    pub async fn peak_while<T>(&self, work: impl Future<Output = T>) -> (T, Option<f64>) {
        let (mut work, mut peak) = (std::pin::pin!(work), None::<f64>);
        loop {
            peak = self.resident().map(|now| peak.map_or(now, |peak| peak.max(now)));
            if let Ok(came) = tokio::time::timeout(LOOK, &mut work).await {
                return (came, peak);
            }
        }
    }

    /// Processor time that the process has used, in microseconds.
    pub fn cpu_us(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        let used = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Some(used.sum::<Result<u64, _>>().ok()? * 1_000_000 / CLOCK_TICKS)
    }

    /// How much of it each of `count` took since then.
    pub fn cpu_us_each(&self, then: Option<u64>, count: u64) -> Option<f64> {
        Some(measured::round(self.cpu_us()?.saturating_sub(then?) as f64 / count.max(1) as f64))
    }
}

async fn resolve(url: &str) -> Result<SocketAddr> {
    let uri: Uri = url.parse().with_context(|| format!("no address: {url}"))?;
    ensure!(uri.scheme_str() == Some("ws"), "ws://HOST:PORT is measured, not {url}");
    let host = uri.host().context("the address has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let mut found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?;
    found.next().with_context(|| format!("{host} has no address"))
}
