//! The Estate: what is made before the tree and outlives every actor in it.
//!
//! Actors publish their snapshots here and read those of others; the table of live connections, the
//! outcomes somebody waits for and the place a running turn has reached are here, so that a reborn actor
//! goes on where its predecessor stopped.

use crate::agents::{Catalog, Model, Roster, acp};
use crate::approvals::ExecApprovalsFile;
use crate::audit::Book;
use crate::auth_limiter::AuthLimiter;
use crate::canvas::Canvas;
use crate::channels::contract::Channel;
use crate::channels::driver::{Doors, LinkKey};
use crate::channels::{self, People, Roster as ChannelRoster};
use crate::config::Kept;
use crate::conns::{Conn, Conns, Grant};
use crate::health::HealthSnapshot;
use crate::hooks;
use crate::kill_points::KillPoints;
use crate::lanes::Lanes;
use crate::log_ring::LogRing;
use crate::media::Inbox;
use crate::meters::Meters;
use crate::nodes;
use crate::pairing::Pending;
use crate::preauth::PreAuth;
use crate::presence::PresenceSnapshot;
use crate::process::Guard;
use crate::reach::Reach;
use crate::restart::Restarts;
use crate::secrets::{Ask, Secrets};
use crate::sessions::{Ledgers, Listed, SessionMsg, Waiters};
use crate::settings::{AuthSecret, Loaded};
use crate::skills::Skills;
use crate::stability::Recorder;
use crate::store::Db;
use crate::suspension::{Phase, Suspension};
use crate::tailscale::{Program, Routes, Whois};
use crate::terminals;
use crate::tools::invoke::Invocations;
use crate::tools::{Registry, Tool};
use crate::tree::{Clock, Node, Slot};
use arc_swap::{ArcSwap, ArcSwapOption};
use crabtree_protocol::SessionKey;
use crabtree_protocol::frame::{Close, StateVersion};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};

/// What is true for the whole life of the process.
#[derive(Clone, Debug)]
pub struct Boot {
    /// `server.version`: our own.
    pub version: &'static str,
    /// `server.buildId`.
    pub build_id: String,
    /// `server.bootId`.
    pub boot_id: String,
    /// The machine's name, as presence shows it.
    pub host: String,
}

/// What must be ready before a client is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The database is open.
    Store = 1,
    /// The configuration is published.
    Config = 2,
    /// The paired devices are known.
    Devices = 4,
}

/// Which parts have been ready once.
pub struct Ready(watch::Sender<u8>);

impl Default for Ready {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Ready {
    const ALL: u8 = Part::Store as u8 | Part::Config as u8 | Part::Devices as u8;

    /// Notes that a part is ready.
    pub fn done(&self, part: Part) {
        self.0.send_if_modified(|parts| {
            let before = *parts;
            *parts |= part as u8;
            *parts != before
        });
    }

    /// Whether clients can be served.
    pub fn is_complete(&self) -> bool {
        *self.0.borrow() == Self::ALL
    }

    /// Resolves when clients can be served.
    pub async fn complete(&self) {
        // The sender is `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|parts| *parts == Self::ALL).await;
    }

    /// Resolves when this part is ready.
    pub async fn wait(&self, part: Part) {
        let _ = self.0.subscribe().wait_for(|parts| parts & part as u8 != 0).await;
    }

    /// Names of the parts that are missing.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = *self.0.borrow();
        [(Part::Store, "store"), (Part::Config, "config"), (Part::Devices, "devices")]
            .into_iter()
            .filter_map(|(part, name)| (parts & part as u8 == 0).then_some(name))
            .collect()
    }
}

/// See the module.
pub struct Estate {
    /// Time.
    pub clock: Clock,
    /// Identity of this process.
    pub boot: Boot,
    /// The live connections.
    pub conns: Conns,
    /// Those of them that are nodes'.
    pub nodes: nodes::Links,
    /// The devices that ask to be paired, as their requests were told.
    pub pairings: Mutex<Pending>,
    /// Sockets that have not authenticated.
    pub preauth: PreAuth,
    /// Failures to authenticate.
    pub auth_limiter: AuthLimiter,
    /// Who did what, as far as it is not written yet.
    pub audit: Arc<Book>,
    /// The configuration in force.
    pub config: ArcSwap<Loaded>,
    /// How the secrets it needs are, and the store of secrets.
    pub secrets: Secrets,
    /// Who is there.
    pub presence: ArcSwap<PresenceSnapshot>,
    /// How everything is.
    pub health: ArcSwap<HealthSnapshot>,
    /// The agents and their models.
    pub catalog: ArcSwap<Catalog>,
    /// What the embedding program has brought.
    pub brought: Brought,
    /// Who knows whose a Tailscale address is.
    pub whois: Arc<dyn Whois>,
    /// Who makes Tailscale bring clients.
    pub routes: Arc<dyn Routes>,
    /// How the gateway is reached.
    pub reach: Reach,
    /// Who watches over child processes.
    pub guard: Guard,
    /// The processes of other agents that think for ours.
    pub acp: Arc<acp::Peers>,
    /// What agents can use.
    pub tools: ArcSwap<Registry>,
    /// The MCP servers and what they offer.
    pub mcp: Roster,
    /// The channels and their accounts.
    pub channels: ChannelRoster,
    /// Who is there on channels.
    pub people: People,
    /// Permits for runs that webhooks ask for.
    pub hook_runs: Arc<Semaphore>,
    /// Tools that clients have called.
    pub invocations: Invocations,
    /// The skills of the agents.
    pub skills: Arc<Skills>,
    /// Which commands may run without asking.
    pub exec_approvals: ExecApprovalsFile,
    /// When the last request that people were asked was over, of which they were told, ms.
    pub approvals_told: AtomicI64,
    /// The files that came with messages.
    pub inbox: Inbox,
    /// The pages that agents make.
    pub canvas: Canvas,
    /// The terminals of operators.
    pub terminals: terminals::Table,
    /// The database, once it is open.
    pub db: ArcSwapOption<Db>,
    /// What is ready.
    pub ready: Ready,
    /// Who waits for which run's outcome.
    pub waiters: Waiters,
    /// How far the running turns have been told.
    pub ledgers: Ledgers,
    /// What clients were told of the sessions last.
    pub listed: Listed,
    /// Held while a file of an agent's workspace is compared and written.
    pub workspace_files: Mutex<()>,
    /// Held while the groups of sessions are read, changed and written.
    pub session_groups: tokio::sync::Mutex<()>,
    sessions: Mutex<BTreeMap<SessionKey, Slot<SessionMsg>>>,
    /// Permits for agent runs.
    pub lanes: Lanes,
    /// The last lines of the log.
    pub log_ring: Arc<LogRing>,
    /// Armed by fault injection.
    pub kill_points: KillPoints,
    auth: ArcSwap<AuthSecret>,
    /// Key from which device tokens are derived.
    pub device_key: [u8; 32],
    /// What is counted.
    pub meters: Meters,
    /// What has happened lately, for diagnosis.
    pub stability: Recorder,
    /// The tree, once it is planted.
    pub root: OnceLock<Arc<Node>>,
    /// Set when a shutdown has begun: nothing new is accepted.
    pub draining: watch::Sender<bool>,
    /// Whether the gateway holds still for its host.
    pub suspension: Suspension,
    /// A restart that was asked for.
    pub restarts: Restarts,
}

/// What an embedding program adds to what the gateway has itself.
#[derive(Clone, Default)]
pub struct Brought {
    /// Models, to be named in the configuration as `provider/model`.
    pub models: Vec<Arc<dyn Model>>,
    /// Tools of all agents.
    pub tools: Vec<Arc<dyn Tool>>,
    /// Channels, to be configured as `channels.<name>`.
    pub channels: Vec<Arc<dyn Channel>>,
    /// Who knows whose a Tailscale address is; by default the `tailscale` program of this machine.
    pub whois: Option<Arc<dyn Whois>>,
    /// Who makes Tailscale bring clients; by default that program.
    pub routes: Option<Arc<dyn Routes>>,
}

/// What the Estate is made from.
pub struct EstateArgs {
    /// Time.
    pub clock: Clock,
    /// Identity of this process.
    pub boot: Boot,
    /// The configuration as first loaded.
    pub loaded: Loaded,
    /// What clients must present.
    pub auth: AuthSecret,
    /// Key from which device tokens are derived.
    pub device_key: [u8; 32],
    /// The last lines of the log.
    pub log_ring: Arc<LogRing>,
    /// What the embedding program brings.
    pub brought: Brought,
    /// Who watches over child processes.
    pub guard: Guard,
}

impl Estate {
    /// Makes it, with the secrets of its configuration looked up, for which it may block.
    pub fn new(mut args: EstateArgs) -> Arc<Self> {
        let secrets = Secrets::new(&args.loaded.state_dir, args.guard.clone(), &args.device_key);
        secrets.keep(Kept::of(&args.loaded));
        secrets.publish(secrets.prepare(&mut args.loaded, Ask::Anew));
        Arc::new(Self {
            secrets,
            presence: ArcSwap::from_pointee(PresenceSnapshot::first(&args.boot, args.clock.now_ms())),
            health: ArcSwap::from_pointee(HealthSnapshot::first(args.clock.now_ms())),
            catalog: ArcSwap::from_pointee(Catalog::new(&args.loaded.settings, &args.brought.models)),
            channels: ChannelRoster::new(
                channels::table(&args.brought.channels),
                channels::Makings {
                    guard: args.guard.clone(),
                    state_dir: args.loaded.state_dir.clone(),
                    doors: Doors::new(link_key(&args.device_key)),
                },
            ),
            people: People::default(),
            whois: (args.brought.whois.clone()).unwrap_or_else(|| Arc::new(Program::new(args.guard.clone()))),
            routes: (args.brought.routes.clone())
                .unwrap_or_else(|| Arc::new(Program::new(args.guard.clone()))),
            reach: Reach::default(),
            brought: args.brought,
            acp: acp::Peers::new(args.guard.clone()),
            guard: args.guard,
            skills: Arc::default(),
            exec_approvals: ExecApprovalsFile::open(&args.loaded.state_dir),
            inbox: Inbox::open(&args.loaded.state_dir),
            canvas: Canvas::open(&args.loaded.state_dir),
            approvals_told: AtomicI64::new(args.clock.now_ms()),
            audit: Book::new(args.clock.clone()),
            clock: args.clock,
            boot: args.boot,
            conns: Conns::default(),
            nodes: nodes::Links::default(),
            pairings: Mutex::default(),
            preauth: PreAuth::default(),
            auth_limiter: AuthLimiter::default(),
            lanes: Lanes::new(args.loaded.settings.agents.defaults.lanes()),
            config: ArcSwap::from_pointee(args.loaded),
            tools: ArcSwap::default(),
            mcp: Roster::default(),
            hook_runs: Arc::new(Semaphore::new(hooks::MAX_OPEN)),
            invocations: Invocations::default(),
            terminals: terminals::Table::default(),
            db: ArcSwapOption::empty(),
            ready: Ready::default(),
            waiters: Waiters::default(),
            ledgers: Ledgers::default(),
            listed: Listed::default(),
            workspace_files: Mutex::default(),
            session_groups: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            log_ring: args.log_ring,
            kill_points: KillPoints::default(),
            auth: ArcSwap::from_pointee(args.auth),
            device_key: args.device_key,
            meters: Meters::default(),
            stability: Recorder::default(),
            root: OnceLock::new(),
            draining: watch::Sender::new(false),
            suspension: Suspension::default(),
            restarts: Restarts::default(),
        })
    }

    /// What clients must present. The same until it is changed, so that one can see whether it was.
    pub fn auth(&self) -> Arc<AuthSecret> {
        self.auth.load_full()
    }

    /// From now on clients must present this, unless the doors that are there are too open for it. Who came in with what
    /// they presented before has to come again.
    pub fn change_auth(&self, auth: AuthSecret) {
        if *self.auth() == auth {
            return;
        }
        if let Err(why) = self.reach.allows(&auth) {
            tracing::error!(target: "crabtree::config", "{why}");
            return;
        }
        self.auth.store(Arc::new(auth));
        let rests = |conn: &&Arc<Conn>| conn.grant().is_some_and(Grant::rests_on_secret);
        self.conns.all().iter().filter(rests).for_each(|conn| conn.outbox.close(Close::auth_changed()));
    }

    /// The address of a session, whether it lives at the moment or not.
    pub fn session_slot(&self, key: &SessionKey) -> Slot<SessionMsg> {
        self.sessions.lock().entry(key.clone()).or_default().clone()
    }

    /// The sessions that live at the moment, or did not long ago.
    pub(crate) fn sessions_in_memory(&self) -> Vec<SessionKey> {
        self.sessions.lock().keys().cloned().collect()
    }

    /// A session has left memory.
    pub(crate) fn forget_session(&self, key: &SessionKey) {
        self.sessions.lock().remove(key);
    }

    /// The versions of presence and health, as hello-ok and those two events carry them.
    pub fn state_version(&self) -> StateVersion {
        StateVersion { presence: self.presence.load().version, health: self.health.load().version }
    }

    /// Waits until one more turn may run.
    pub async fn lane(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let _waits = self.meters.lanes_waiting.enter();
        self.lanes.take().await
    }

    /// Whether work is taken, and begun by itself.
    pub fn admits(&self) -> bool {
        !self.is_draining() && self.suspension.phase() == Phase::Accepting
    }

    /// Whether a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// The key of sealed links of drivers: one secret to keep is enough.
fn link_key(device_key: &[u8; 32]) -> LinkKey {
    LinkKey::new(blake3::derive_key("crabtree 2026-11 driver links", device_key))
}
