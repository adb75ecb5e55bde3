//! The gateway: how it is started, told to end, and looked at from outside.

use crate::link::Link;
use crate::measured;
use crate::plan::How;
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// What a message may take on the disk at the most, and what must be free besides.
const BYTES_A_MESSAGE: u64 = 16 << 10;
const FREE_BESIDES: u64 = 1 << 30;
/// An end in order takes no longer.
const END: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);
/// A session without work leaves memory after so many seconds, as it would after minutes in a year that takes a year.
const PASSIVATE_AFTER: u64 = 5;
/// Ticks a second of the times in /proc; the same on every Linux of today.
const CLOCK_TICKS: f64 = 100.0;
/// What the gateway prints.
const LOG: &str = "soak.log";

pub struct Server {
    binary: PathBuf,
    state: PathBuf,
    addr: SocketAddr,
    child: Child,
    boot: Value,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an empty state directory ready for so many messages, of which so many are under way at a time.
pub fn prepare(state: &Path, messages: u64, lanes: usize) -> Result<()> {
    fs::create_dir_all(state)?;
    let is_empty = fs::read_dir(state)?.next().is_none();
    ensure!(is_empty, "{} is not empty: a soak begins with an empty state directory", state.display());
    let disk = rustix::fs::statvfs(state)?;
    let (free, need) = (disk.f_bavail * disk.f_frsize, messages * BYTES_A_MESSAGE + FREE_BESIDES);
    let (free_gb, need_gb) = (free as f64 / 1e9, need as f64 / 1e9);
    ensure!(
        free >= need,
        "{} has {free_gb:.1} GB free, and {messages} messages may take {need_gb:.1} GB: name another place with \
         --state, or ask for less with --scale",
        state.display()
    );
    let config = json!({
        "gateway": { "chaos": { "enabled": true } },
        "agents": { "defaults": { "maxConcurrent": lanes.min(1_000) } },
        "session": { "passivateAfterSeconds": PASSIVATE_AFTER },
        "messages": { "queue": { "debounceMs": 0 } },
        "plugins": { "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } },
    });
    Ok(fs::write(state.join("openclaw.json"), config.to_string())?)
}

/// A port that nobody has.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    /// Starts it, and waits until it lets somebody in.
    pub async fn start(binary: &Path, state: &Path, world: &Arc<World>) -> Result<Self> {
        let child = launch(binary, state, world.addr)?;
        world.pid.store(child.id(), SeqCst);
        let (binary, state) = (binary.to_owned(), state.to_owned());
        let mut this = Self { binary, state, addr: world.addr, child, boot: Value::Null };
        this.boot = this.booted(world).await?;
        Ok(this)
    }

    /// Starts it anew; returns how long nobody was served. The signal is sent with clients at work.
    pub async fn restart(&mut self, world: &Arc<World>, how: How) -> Result<Duration> {
        world.era.fetch_add(1, SeqCst);
        let begun = Instant::now();
        match how {
            How::InPlace => self.signal(Signal::USR2)?,
            How::InOrder => {
                self.signal(Signal::TERM)?;
                let status = self.ended().await?;
                ensure!(status.success(), "told to end, the gateway ended with {status}");
            }
            How::Killed => {
                self.signal(Signal::KILL)?;
                self.ended().await?;
            }
        }
        if how != How::InPlace {
            self.child = launch(&self.binary, &self.state, self.addr)?;
            world.pid.store(self.child.id(), SeqCst);
        }
        let before = std::mem::take(&mut self.boot);
        while self.boot.is_null() || self.boot == before {
            self.boot = self.booted(world).await?;
        }
        world.era.fetch_add(1, SeqCst);
        Ok(begun.elapsed())
    }

    /// The identity of the program that lets somebody in.
    async fn booted(&mut self, world: &Arc<World>) -> Result<Value> {
        let link = loop {
            tokio::select! {
                link = Link::open(world) => break link.context("the gateway is not back")?,
                () = tokio::time::sleep(LOOK * 50) => {
                    if let Some(status) = self.child.try_wait()? {
                        bail!("the gateway has ended with {status}");
                    }
                }
            }
        };
        Ok(link.hello["payload"]["server"]["bootId"].clone())
    }

    /// Ends it in order.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "told to end, the gateway ended with {status}");
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the gateway has ended with {status}");
        }
        let pid = Pid::from_raw(self.child.id().try_into()?).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(begun.elapsed() < END, "told to end, the gateway has not after {} s", END.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn launch(binary: &Path, state: &Path, addr: SocketAddr) -> Result<Child> {
    let log = File::options().create(true).append(true).open(state.join(LOG))?;
    let mut command = measured::run(binary, state, &addr.port().to_string());
    command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", binary.display()))
}

/// What the kernel says of a process.
pub struct Look {
    pub resident: u64,
    pub anonymous: u64,
    pub files: u64,
    pub threads: u64,
    /// Milliseconds of all processors since it was started.
    pub cpu: f64,
}

impl Look {
    pub fn at(pid: u32) -> Result<Self> {
        let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let (rollup, status, stat) = (of("smaps_rollup")?, of("status")?, of("stat")?);
        let number = |text: &str, name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            word.with_context(|| format!("/proc/{pid} does not tell {name}"))
        };
        let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: f64 = times.filter_map(|word| word.parse::<f64>().ok()).sum();
        Ok(Self {
            resident: number(&rollup, "Rss")? * 1024,
            anonymous: number(&rollup, "Anonymous")? * 1024,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: number(&status, "Threads")?,
            cpu: ticks * 1e3 / CLOCK_TICKS,
        })
    }
}

/// Bytes of the database and of what is not in it yet.
pub fn store_bytes(state: &Path) -> u64 {
    let of = |name: &str| fs::metadata(state.join(name)).map_or(0, |about| about.len());
    of("store.sqlite") + of("store.sqlite-wal")
}
