//! The gateway as a program embeds it: [`Gateway::start`] is the one way in, for `main`, tests and examples.
//!
//! | module | what |
//! |---|---|
//! | `listener` | the accept loop, as an actor of the tree |
//! | `http` | requests on the one port, and the upgrades among them |
//! | `routes`, `metrics`, `invoke`, `media`, `canvas`, `page` | the plain HTTP answers; the last is our own page |
//! | `ingress` | whom a request is from: a client, or whom a trusted proxy speaks for |
//! | `upgrade`, `bearer` | who may open a WebSocket; what a token in a request's head is worth |
//! | `socket` | WebSocket messages in, frames out |
//! | `driver` | the WebSocket of a channel's driver |
//! | `frame_gate` | the size limit of frames before authentication |
//! | `owner` | one gateway per state directory |
//! | `guard` | between the gateway and a child process, as a process of its own |
//! | `node` | our own node host, which is no part of the gateway |
//! | `config`, `logging`, `cli` | what the program adds: files, the log, the command line |

mod bearer;
mod canvas;
pub mod cli;
pub mod config;
mod driver;
mod frame_gate;
pub mod guard;
mod http;
mod ingress;
mod invoke;
mod listener;
pub mod logging;
mod media;
mod metrics;
pub mod node;
pub mod owner;
mod page;
mod routes;
mod socket;
mod upgrade;

use anyhow::Context;
use crabtree_actors::config::Reload;
use crabtree_actors::estate::{Boot, Brought, Estate, EstateArgs};
use crabtree_actors::event::{Audience, Event};
use crabtree_actors::gateway::{RootArgs, Wiring, plant};
use crabtree_actors::log_ring::LogRing;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::{AuthSecret, Loaded, StoreSync};
use crabtree_actors::store::{Db, OpenDb, Sync};
use crabtree_actors::tree::{self, ChildSpec, Clock, Node, NodeState, Restart, Slot};
use listener::{Doors, Listener};
use owner::Owner;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Exit code when the tree could not be kept up (EX_SOFTWARE): the service manager starts the process anew.
const EXIT_TREE_LOST: i32 = 70;
/// How long running turns may go on after a shutdown was asked for.
const DRAIN_BUDGET: Duration = Duration::from_secs(30);
/// How long the tree and then the sockets may take to end after that.
const STOP_BUDGET: Duration = Duration::from_secs(15);

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
}

/// A running gateway.
pub struct Gateway {
    estate: Arc<Estate>,
    wiring: Arc<Wiring>,
    root: Arc<Node>,
    addr: SocketAddr,
    sockets: TaskTracker,
    _owner: Owner,
}

impl Gateway {
    /// Takes the state directory, binds the addresses, and plants the tree. It touches nothing that belongs
    /// to the whole process (signals, panic hook, log subscriber).
    ///
    /// # Errors
    /// [`owner::Owned`] if another gateway has the state directory; an address that cannot be bound, with the
    /// address and, where it can be told, its holder.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let owner = Owner::take(&options.loaded.state_dir, &options.listen)?;
        let doors = bind_all(&options.listen)?;
        let addr = doors[0].local_addr()?;
        let open = open_store(&options.loaded);
        let estate = Estate::new(EstateArgs {
            clock: Clock::system(),
            boot: boot(),
            loaded: options.loaded,
            auth: options.token,
            device_key: options.device_key,
            log_ring: options.log_ring,
            brought: options.brought,
            guard: options.guard,
        });
        let wiring = Wiring::new(estate.clone());
        let sockets = TaskTracker::new();
        let doors = Doors { doors: Arc::new(doors), wiring: wiring.clone(), sockets: sockets.clone() };
        let listener = ChildSpec::new::<Listener>("listener", Restart::Permanent, doors, &Slot::default());
        let root = plant(RootArgs {
            wiring: wiring.clone(),
            open,
            reload: options.reload,
            listener: Some(listener),
        });
        Ok(Self { estate, wiring, root, addr, sockets, _owner: owner })
    }

    /// The first address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The root of the living tree.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Resolves when clients are served.
    pub async fn ready(&self) {
        self.estate.ready.complete().await;
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
        self.estate.draining.send_replace(true);
        let drained = async {
            while self.estate.ledgers.count() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_BUDGET, drained).await;
        let news = serde_json::json!({ "reason": reason });
        let name = crabtree_protocol::Event::Shutdown;
        self.estate.conns.publish(Event::new(name, Audience::Everyone, &news));
        let _ = tokio::time::timeout(STOP_BUDGET, tree::shutdown(&self.root)).await;
        self.estate.acp.end();
        tree::fell(&self.root);
        self.sockets.close();
        let _ = tokio::time::timeout(STOP_BUDGET, self.sockets.wait()).await;
    }
}

/// Binds the addresses, all on the port of the first one. IPv6 loopback beside it is a courtesy: a machine without
/// it is warned about, no more.
fn bind_all(listen: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let (first, rest) = listen.split_first().context("no address to listen on")?;
    let mut doors = vec![bind(*first)?];
    let port = doors[0].local_addr()?.port();
    for addr in rest {
        let addr = SocketAddr::new(addr.ip(), port);
        match bind(addr) {
            Ok(door) => doors.push(door),
            Err(e) if addr.ip().is_loopback() => {
                tracing::warn!(target: "crabtree::listener", "{e:#}; clients find the gateway on {first} only");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(doors)
}

fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    let door = TcpListener::bind(addr).with_context(|| match owner::who_listens(addr) {
        Some(pid) => format!("cannot listen on {addr}, which process {pid} holds"),
        None => format!("cannot listen on {addr}"),
    })?;
    door.set_nonblocking(true)?;
    Ok(door)
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
