//! The gateway as a program embeds it: [`Gateway::start`] is the one way in, for `main`, tests and examples.
//!
//! | module | what |
//! |---|---|
//! | `listener` | the accept loop, as an actor of the tree |
//! | `certificate`, `line` | the gateway's own certificate; bytes, plain or inside of TLS |
//! | `http` | requests on the one port, and the upgrades among them |
//! | `routes`, `metrics`, `invoke`, `hooks`, `media`, `canvas` | the plain HTTP answers |
//! | `page`, `control_ui` | our own page, and the stock one |
//! | `ingress` | whom a request is from: a client, or whom a trusted proxy speaks for |
//! | `upgrade`, `bearer` | who may open a WebSocket; what a token in a request's head is worth |
//! | `socket` | WebSocket messages in, frames out |
//! | `driver` | the WebSocket of a channel's driver |
//! | `frame_gate` | the size limit of frames before authentication |
//! | `owner` | one gateway per state directory |
//! | `phases` | what a start and a stop go through, told |
//! | `signals`, `handover`, `exchange` | one program after another in the same process; a new one that may have to go back |
//! | `guard` | between the gateway and a child process, as a process of its own |
//! | `dial` | out to a gateway: our own clients' WebSockets |
//! | `node` | our own node host, which is no part of the gateway |
//! | `backup` | all of a state directory in one sealed file, and back |
//! | `service` | unit files, and what the machine's service manager is told |
//! | `import` | what another installation keeps, taken over |
//! | `config`, `logging`, `cli` | what the program adds: files, the log, the command line |

pub mod backup;
mod bearer;
mod body;
mod canvas;
mod certificate;
pub mod cli;
pub mod config;
mod control_ui;
mod dial;
mod driver;
pub mod exchange;
mod frame_gate;
pub mod guard;
pub mod handover;
mod hooks;
mod http;
pub mod import;
mod ingress;
mod invoke;
mod line;
mod listener;
pub mod logging;
mod media;
mod metrics;
pub mod node;
mod openai;
pub mod owner;
mod pace;
mod page;
mod phases;
mod prompt;
mod read_ahead;
mod routes;
pub mod service;
pub mod signals;
mod socket;
mod upgrade;
mod wire;

use anyhow::Context;
use certificate::Served;
use crabtree_actors::config::Reload;
use crabtree_actors::estate::{Boot, Brought, Estate, EstateArgs};
use crabtree_actors::event::{Audience, Event};
use crabtree_actors::gateway::{RootArgs, Wiring, plant};
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::process::Guard;
use crabtree_actors::reach::{self, Certificate};
use crabtree_actors::restart::Attendant;
use crabtree_actors::settings::{AuthSecret, Bind, Loaded, LoggingSettings, StoreSync, TailscaleMode};
use crabtree_actors::store::{Db, OpenDb, Sync};
use crabtree_actors::tree::{self, ChildSpec, Clock, Node, NodeState, Restart, Slot};
use crabtree_protocol::frame::Close;
use http::Open;
use ingress::Door;
use listener::{Doors, Listener, Tls};
use owner::Owner;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Exit code when the tree could not be kept up (EX_SOFTWARE): the service manager starts the process anew.
const EXIT_TREE_LOST: i32 = 70;
/// How long running turns may go on after a shutdown was asked for.
const DRAIN_BUDGET: Duration = Duration::from_secs(30);
/// How often is looked whether turns run, and how often in a row none does: one that is just beginning shows later.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
const CALM_LOOKS: u32 = 3;
/// How long the tree and then the sockets may take to end after that.
const STOP_BUDGET: Duration = Duration::from_secs(15);
/// How long clients may take to be told, before those that do not read are given up: everybody else waits for them.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long answers over plain HTTP may take to leave after that. Whoever connects meanwhile waits for as long.
const ANSWER_BUDGET: Duration = Duration::from_millis(300);
/// Connections that wait in the kernel until they are accepted: all clients at once, when a gateway hands over. The
/// kernel takes no more than its own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// What a gateway is started with.
pub struct Options {
    /// The configuration.
    pub loaded: Loaded,
    /// How it is read again, when its file changes or [`Gateway::reload`] asks for it.
    pub reload: Reload,
    /// What clients must present.
    pub token: AuthSecret,
    /// Key from which device tokens are derived: 32 secret bytes, the same at each start.
    pub device_key: [u8; 32],
    /// Where the last log lines are kept for `logs.tail`.
    pub log_ring: Arc<LogRing>,
    /// Addresses to listen on; the first one is [`Gateway::local_addr`].
    pub listen: Vec<SocketAddr>,
    /// Models and tools beside the gateway's own.
    pub brought: Brought,
    /// Who watches over child processes; without one there is nothing that starts any.
    pub guard: Guard,
    /// How it comes to be started.
    pub start: Start,
}

/// How a gateway comes to be started.
#[derive(Debug)]
pub struct Start {
    /// When that began.
    pub begun: Instant,
    /// Sockets that are bound already; those that listen where it is to listen are taken.
    pub inherited: Vec<TcpListener>,
    /// Only to see whether it starts: it takes no work, and begins none.
    pub trial: bool,
}

impl Default for Start {
    fn default() -> Self {
        Self { begun: Instant::now(), inherited: Vec::new(), trial: false }
    }
}

/// A running gateway.
pub struct Gateway {
    estate: Arc<Estate>,
    wiring: Arc<Wiring>,
    root: Arc<Node>,
    addr: SocketAddr,
    doors: Arc<Vec<(TcpListener, Door)>>,
    open: Open,
    _owner: Owner,
}

impl Gateway {
    /// Takes the state directory, binds the addresses, and plants the tree. It touches nothing that belongs
    /// to the whole process (signals, panic hook, log subscriber).
    ///
    /// # Errors
    /// [`owner::Owned`] if another gateway has the state directory; an address that cannot be bound, with the
    /// address and, where it can be told, its holder; [`config::ConfigError`] if secrets are missing and none may be, or
    /// if TLS is asked for and cannot be spoken.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Start { begun, inherited, trial } = options.start;
        let owner = Owner::take(&options.loaded.state_dir, &options.listen)?;
        let bound = Instant::now();
        let doors = bind_all(&options.listen, inherited)?;
        let addr = doors[0].local_addr()?;
        let open_db = open_store(&options.loaded);
        let (boot, loaded) = (boot(), options.loaded);
        let (tls, loaded) = seal(loaded, &boot, &doors).await?;
        let (doors, stand) = with_tailscale(doors, &loaded)?;
        let (doors, looked_up) = (Arc::new(doors), Instant::now());
        let args = EstateArgs {
            clock: Clock::system(),
            boot,
            loaded,
            auth: options.token,
            device_key: options.device_key,
            log_ring: options.log_ring,
            brought: options.brought,
            guard: options.guard,
        };
        let estate = tokio::task::spawn_blocking(|| Estate::new(args)).await?;
        if let Some(missing) = estate.secrets.report().strictly_missing() {
            return Err(config::ConfigError::new(missing).into());
        }
        warn_of_no_tailnet(&estate, &stand);
        let _ = estate.reach.doors.set(stand);
        estate.reach.certificate.send_replace(tls.as_ref().map(|tls| tls.certificate()));
        let noted = [("configuration", begun, bound), ("listening", bound, looked_up)];
        for (phase, since, until) in noted {
            phases::started(&estate, phase, until - since);
        }
        phases::started(&estate, "secrets", looked_up.elapsed());
        // Sessions, jobs and heartbeats rest as they do before an end.
        estate.draining.send_replace(trial);
        let wiring = Wiring::new(estate.clone());
        let open = Open::default();
        let served = Doors {
            doors: doors.clone(),
            wiring: wiring.clone(),
            ui: Arc::default(),
            open: open.clone(),
            tls,
        };
        let listener = ChildSpec::new::<Listener>("listener", Restart::Permanent, served, &Slot::default());
        let planted = Instant::now();
        let root = plant(RootArgs {
            wiring: wiring.clone(),
            open: open_db,
            reload: options.reload,
            listener: Some(listener),
        });
        tokio::spawn(phases::follow_start(estate.clone(), root.clone(), planted));
        Ok(Self { estate, wiring, root, addr, doors, open, _owner: owner })
    }

    /// The first address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same, as clients name it.
    pub fn url(&self) -> String {
        config::url(&self.estate.config.load().settings.gateway, self.addr)
    }

    /// The certificate that is served, if TLS is spoken.
    pub fn certificate(&self) -> Option<Certificate> {
        *self.estate.reach.certificate.borrow()
    }

    /// Where it keeps its state.
    pub fn state_dir(&self) -> PathBuf {
        self.estate.config.load().state_dir.clone()
    }

    /// What is to be logged, as the configuration in force says.
    pub fn logging(&self) -> LoggingSettings {
        self.estate.config.load().settings.logging.clone()
    }

    /// The root of the living tree.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Resolves when clients are served.
    pub async fn ready(&self) {
        self.estate.ready.complete().await;
    }

    /// From now on clients may ask for a restart, which is for the caller to make.
    pub fn attendant(&self) -> Attendant {
        Attendant::of(self.wiring.store.clone())
    }

    /// The restart that was asked for comes to nothing.
    pub fn give_up_restart(&self) {
        self.estate.restarts.give_up();
    }

    /// The sockets that clients know, to be passed on.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn doors(&self) -> std::io::Result<Vec<TcpListener>> {
        let front = self.doors.iter().filter(|(_, door)| *door == Door::Front);
        front.map(|(socket, _)| socket.try_clone()).collect()
    }

    /// Reads the configuration again; what depends on what changed is restarted.
    pub fn reload(&self) {
        let _ = self.wiring.config.send(crabtree_actors::config::ConfigMsg::Reload);
    }

    /// Resolves with the exit code when the tree has ended on its own.
    pub async fn exited(&self) -> i32 {
        let mut watch = self.root.watch();
        let ended =
            watch.wait_for(|(state, _)| !matches!(state, NodeState::Starting | NodeState::Running)).await;
        drop(ended);
        tree::fell(&self.root);
        EXIT_TREE_LOST
    }

    /// Ends in order: nothing new is accepted, running turns go on for up to 30 s, clients are told
    /// (`shutdown`, close 1012), the tree ends from its last branch to its first, the store last.
    pub async fn shutdown(&self, reason: &str) {
        self.stop(serde_json::json!({ "reason": reason })).await;
    }

    /// The same for a restart: clients are told when to expect the next one. Its sockets stay bound; when clients were
    /// told, ms since 1970.
    pub async fn give_way(&self, expected: Duration) -> i64 {
        let expected = expected.as_millis() as u64;
        self.stop(serde_json::json!({ "reason": "gateway restarting", "restartExpectedMs": expected })).await
    }

    async fn stop(&self, news: serde_json::Value) -> i64 {
        let estate = &self.estate;
        estate.draining.send_replace(true);
        let begun = Instant::now();
        let drained = async {
            let mut calm = 0;
            while calm < CALM_LOOKS {
                calm = if estate.ledgers.at_work() > 0 { 0 } else { calm + 1 };
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_BUDGET, drained).await;
        phases::stopped(estate, "drain", begun.elapsed());
        let name = crabtree_protocol::Event::Shutdown;
        estate.conns.publish(Event::new(name, Audience::Everyone, &news));
        let told_at = estate.clock.now_ms();
        // Their actors, which know them, end with the tree.
        let clients = estate.conns.all();
        let told = tokio::spawn(phases::follow_stop(estate.clone(), phases::ends(&self.root)));
        let _ = tokio::time::timeout(STOP_BUDGET, tree::shutdown(&self.root)).await;
        estate.acp.end();
        tree::fell(&self.root);
        self.open.sockets.close();
        if tokio::time::timeout(FAREWELL, self.open.sockets.wait()).await.is_err() {
            clients.iter().for_each(|conn| conn.outbox.cut(Close::restart()));
            self.open.cut.cancel();
            let _ = tokio::time::timeout(STOP_BUDGET, self.open.sockets.wait()).await;
        }
        self.open.closing.cancel();
        self.open.plain.close();
        let _ = tokio::time::timeout(ANSWER_BUDGET, self.open.plain.wait()).await;
        told.abort();
        told_at
    }
}

/// Binds the addresses, all on the port of the first one. IPv6 loopback beside it is a courtesy: a machine without
/// it is warned about, no more.
fn bind_all(listen: &[SocketAddr], mut inherited: Vec<TcpListener>) -> anyhow::Result<Vec<TcpListener>> {
    let (first, rest) = listen.split_first().context("no address to listen on")?;
    let mut doors = vec![bind(*first, &mut inherited)?];
    let port = doors[0].local_addr()?.port();
    for addr in rest {
        let addr = SocketAddr::new(addr.ip(), port);
        match bind(addr, &mut inherited) {
            Ok(door) => doors.push(door),
            Err(e) if addr.is_ipv6() && addr.ip().is_loopback() => {
                tracing::warn!(target: "crabtree::listener", "{e:#}; clients find the gateway on {first} only");
            }
            Err(e) => return Err(e),
        }
    }
    for addr in inherited.iter().filter_map(|door| door.local_addr().ok()) {
        tracing::info!(target: "crabtree::listener", "a socket on {addr} was passed on, where nothing is to listen: it is closed");
    }
    Ok(doors)
}

/// Gets TLS ready, if it is asked for. It reads files, and makes them if they are not there.
async fn seal(
    loaded: Loaded,
    boot: &Boot,
    doors: &[TcpListener],
) -> anyhow::Result<(Option<Arc<Tls>>, Loaded)> {
    if !loaded.settings.gateway.tls.enabled {
        return Ok((None, loaded));
    }
    let listen: Vec<_> = doors.iter().flat_map(TcpListener::local_addr).map(|address| address.ip()).collect();
    let host = boot.host.clone();
    let opened = tokio::task::spawn_blocking(move || (Served::open(&loaded, &host, &listen), loaded)).await?;
    let (served, loaded) = opened;
    Ok((served?.map(|served| Arc::new(Tls::new(served))), loaded))
}

/// The doors with the one for Tailscale, if it is to bring clients, and where they are.
fn with_tailscale(
    doors: Vec<TcpListener>,
    loaded: &Loaded,
) -> anyhow::Result<(Vec<(TcpListener, Door)>, reach::Doors)> {
    let mode = loaded.settings.gateway.tailscale.mode;
    let front = doors.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let mut doors: Vec<_> = doors.into_iter().map(|door| (door, Door::Front)).collect();
    let mut stand = reach::Doors { front, tailscale: None, funnel: mode == TailscaleMode::Funnel };
    if mode != TailscaleMode::Off {
        let door = bind((Ipv4Addr::LOCALHOST, 0).into(), &mut Vec::new())?;
        stand.tailscale = Some(door.local_addr()?);
        doors.push((door, Door::Tailscale));
    }
    Ok((doors, stand))
}

fn warn_of_no_tailnet(estate: &Estate, stand: &reach::Doors) {
    let bind = estate.config.load().settings.gateway.bind;
    if bind == Bind::Tailnet && stand.front.iter().all(|address| address.ip().is_loopback()) {
        tracing::warn!(target: "crabtree::listener", "gateway.bind is \"tailnet\", but this machine has no address of \
            Tailscale (100.64.0.0/10): only this machine is served; start the gateway again once `tailscale up` is done");
    }
}

/// A socket that listens there: one that was passed on, or a new one.
fn bind(addr: SocketAddr, inherited: &mut Vec<TcpListener>) -> anyhow::Result<TcpListener> {
    let fits = |door: &TcpListener| {
        door.local_addr()
            .is_ok_and(|at| at.ip() == addr.ip() && (addr.port() == 0 || at.port() == addr.port()))
    };
    let door = match inherited.iter().position(fits) {
        Some(at) => inherited.swap_remove(at),
        None => TcpListener::bind(addr).with_context(|| match owner::who_listens(addr) {
            Some(pid) => format!("cannot listen on {addr}, which process {pid} holds"),
            None => format!("cannot listen on {addr}"),
        })?,
    };
    door.set_nonblocking(true)?;
    // The standard library's queue is short.
    rustix::net::listen(&door, BACKLOG)?;
    Ok(door)
}

/// The sockets a gateway will listen on that is started anew with these addresses: those of `doors` that fit, and new
/// ones, so that what cannot be bound is known while the old one still serves.
///
/// # Errors
/// An address cannot be bound.
pub fn bound(listen: &[SocketAddr], doors: Vec<TcpListener>) -> anyhow::Result<Vec<TcpListener>> {
    bind_all(listen, doors)
}

fn open_store(loaded: &Loaded) -> OpenDb {
    let path = loaded.state_dir.join("store.sqlite");
    let sync = match loaded.settings.store.sync {
        StoreSync::Full => Sync::Full,
        StoreSync::Normal => Sync::Normal,
    };
    Arc::new(move || Db::open(&path, sync))
}

fn boot() -> Boot {
    let version = env!("CARGO_PKG_VERSION");
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = host.trim();
    Boot {
        version,
        build_id: format!("crabtree-{version}"),
        boot_id: uuid::Uuid::new_v4().to_string(),
        host: if host.is_empty() { "gateway".into() } else { host.into() },
    }
}
