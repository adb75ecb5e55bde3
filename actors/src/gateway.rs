//! **Owns** the tree: its table is `table`, one screen.
//! **Hears** that the configuration changed; **tells** the children whose arguments changed to start anew.
//! **On crash** the process exits with 70 and leaves the restart to the service manager. It holds no domain
//! state, so there is little that could make it crash.

use crate::agents::{Agents, AgentsArgs, AgentsMsg};
use crate::alerts::Alerts;
use crate::approvals::{Approvals, ApprovalsMsg};
use crate::broadcast::{Broadcast, BroadcastMsg};
use crate::canvas::{CanvasHost, CanvasMsg};
use crate::channels::{Channels, ChannelsMsg};
use crate::config::{Config, ConfigArgs, ConfigFile, ConfigMsg, Reload};
use crate::connections::{Connections, ConnectionsMsg};
use crate::cron::{Cron, CronArgs, CronMsg};
use crate::devices::{Devices, DevicesMsg};
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::health::{Health, HealthMsg};
use crate::mdns::{Beacon, BeaconArgs};
use crate::nodes::{Nodes, NodesArgs, NodesMsg};
use crate::presence::{Presence, PresenceMsg};
use crate::scheduler::{Scheduler, SchedulerArgs, SchedulerMsg};
use crate::sessions::{Sessions, SessionsArgs, SessionsMsg};
use crate::store::{OpenDb, Store, StoreActor, StoreArgs, StoreMsg};
use crate::tailscale::{Route, RouteArgs};
use crate::terminals::{Terminals, TerminalsMsg};
use crate::tree::*;
use crabtree_protocol::Scope;
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often the root looks whether `health`, which watches everybody else, is stuck itself.
const WATCH_HEALTH: Duration = Duration::from_secs(2);

/// The addresses of all static actors. Passing (a part of) it is the wiring; there are no globals.
pub struct Wiring {
    /// The store, for writing and reading; through it the Estate.
    pub store: Store,
    /// The configuration.
    pub config: Slot<ConfigMsg>,
    /// The roster of listeners.
    pub broadcast: Slot<BroadcastMsg>,
    /// Who is there.
    pub presence: Slot<PresenceMsg>,
    /// Paired devices.
    pub devices: Slot<DevicesMsg>,
    /// Nodes, and what they are asked to do.
    pub nodes: Slot<NodesMsg>,
    /// What people are asked.
    pub approvals: Slot<ApprovalsMsg>,
    /// Agents and models.
    pub agents: Slot<AgentsMsg>,
    /// The sessions' parent.
    pub sessions: Slot<SessionsMsg>,
    /// The parent of the channels' accounts.
    pub channels: Slot<ChannelsMsg>,
    /// The watch over the pages that agents make.
    pub canvas: Slot<CanvasMsg>,
    /// The parent of the terminals.
    pub terminals: Slot<TerminalsMsg>,
    /// Jobs with a schedule.
    pub cron: Slot<CronMsg>,
    /// The gateway's own timers.
    pub scheduler: Slot<SchedulerMsg>,
    /// The watch.
    pub health: Slot<HealthMsg>,
    /// The connections' parent.
    pub connections: Slot<ConnectionsMsg>,
    /// The root.
    pub root: Slot<RootMsg>,
    /// `features` of hello-ok, encoded once.
    pub features: Box<RawValue>,
}

impl Wiring {
    /// Addresses that nobody has filled yet.
    pub fn new(estate: Arc<Estate>) -> Arc<Self> {
        let chaos = estate.config.load().settings.gateway.chaos.enabled;
        let slot: Slot<StoreMsg> = Slot::default();
        Arc::new(Self {
            store: Store { slot, estate },
            config: Slot::default(),
            broadcast: Slot::default(),
            presence: Slot::default(),
            devices: Slot::default(),
            nodes: Slot::default(),
            approvals: Slot::default(),
            agents: Slot::default(),
            sessions: Slot::default(),
            channels: Slot::default(),
            canvas: Slot::default(),
            terminals: Slot::default(),
            cron: Slot::default(),
            scheduler: Slot::default(),
            health: Slot::default(),
            connections: Slot::default(),
            root: Slot::default(),
            features: crabtree_protocol::hello::encode_features(chaos),
        })
    }
}

/// What the tree is planted with.
#[derive(Clone)]
pub struct RootArgs {
    /// The addresses.
    pub wiring: Arc<Wiring>,
    /// How the database is opened.
    pub open: OpenDb,
    /// How the configuration is read anew.
    pub reload: Reload,
    /// The accept loop; simulations have none.
    pub listener: Option<ChildSpec>,
}

/// A row of the table: the child, and the sections of the configuration it is started from.
type Row = (ChildSpec, &'static [&'static str]);

/// The sections of the configuration that a child is started from.
pub fn depends_on(child: &str) -> &'static [&'static str] {
    match child {
        "agents" => &["acp", "agents", "mcp", "models", "plugins", "session", "tools"],
        "channels" => &["channels"],
        _ => &[],
    }
}

/// The tree, in start order. Everybody is restarted alone (one-for-one), at once the first time, then after
/// 100 ms doubling to 30 s; past 5 restarts in 60 s a child is parked. Shutdown runs it backwards.
fn table(args: &RootArgs) -> Vec<Row> {
    use Restart::Permanent;
    let w = &args.wiring;
    let estate = &w.store.estate;
    let secs = Duration::from_secs;
    let store = StoreArgs { estate: estate.clone(), open: args.open.clone() };
    let agents = AgentsArgs {
        estate: estate.clone(),
        sessions: w.sessions.clone(),
        approvals: w.approvals.clone(),
        nodes: w.nodes.clone(),
        cron: w.cron.clone(),
        slot: w.agents.clone(),
    };
    let nodes = NodesArgs {
        store: w.store.clone(),
        devices: w.devices.clone(),
        broadcast: w.broadcast.clone(),
        agents: w.agents.clone(),
        scheduler: w.scheduler.clone(),
        speak: crate::methods::speaker(w.clone()),
    };
    let compact = crate::methods::compactor(w.clone());
    let sessions = SessionsArgs { store: w.store.clone(), slot: w.sessions.clone(), compact };
    let file = ConfigFile::new(args.reload.clone());
    let config = ConfigArgs { estate: estate.clone(), file, root: w.root.clone() };
    let forget = crate::methods::forgetter(w.clone());
    let cron = CronArgs { store: w.store.clone(), sessions: w.sessions.clone(), forget };
    let scheduler = SchedulerArgs { store: w.store.clone(), sessions: w.sessions.clone() };
    let mut rows: Vec<Row> = vec![
        (
            ChildSpec::new::<StoreActor>("store", Permanent, store, &w.store.slot)
                .escalate()
                .shutdown(secs(10)),
            &[],
        ),
        (ChildSpec::new::<Config>("config", Permanent, config, &w.config), &[]),
        (ChildSpec::new::<Broadcast>("broadcast", Permanent, estate.clone(), &w.broadcast), &[]),
        (ChildSpec::new::<Presence>("presence", Permanent, estate.clone(), &w.presence), &[]),
        (ChildSpec::new::<Devices>("devices", Permanent, w.store.clone(), &w.devices), &[]),
        (ChildSpec::new::<Nodes>("nodes", Permanent, nodes, &w.nodes), &[]),
        (ChildSpec::new::<Approvals>("approvals", Permanent, w.store.clone(), &w.approvals), &[]),
        (
            ChildSpec::new::<Agents>("agents", Permanent, agents, &w.agents).shutdown(secs(7)),
            depends_on("agents"),
        ),
        (ChildSpec::new::<Sessions>("sessions", Permanent, sessions, &w.sessions).shutdown(secs(5)), &[]),
        (
            ChildSpec::new::<Channels>("channels", Permanent, w.clone(), &w.channels).shutdown(secs(5)),
            depends_on("channels"),
        ),
        (ChildSpec::new::<CanvasHost>("canvas", Permanent, estate.clone(), &w.canvas), &[]),
        (ChildSpec::new::<Terminals>("terminals", Permanent, estate.clone(), &w.terminals), &[]),
        (ChildSpec::new::<Cron>("cron", Permanent, cron, &w.cron), &[]),
        (ChildSpec::new::<Scheduler>("scheduler", Permanent, scheduler, &w.scheduler), &[]),
        (ChildSpec::new::<Health>("health", Permanent, w.store.clone(), &w.health), &[]),
        (ChildSpec::new::<Alerts>("alerts", Permanent, w.store.clone(), &Slot::default()), &[]),
        (ChildSpec::new::<Connections>("connections", Permanent, w.clone(), &w.connections), &[]),
    ];
    rows.extend(args.listener.clone().map(|listener| (listener, &[][..])));
    // There only where they are wanted, as the settings are at the start.
    let gateway = &estate.config.load().settings.gateway;
    rows.extend(gateway.tailscale.mode.command().map(|command| {
        let route = RouteArgs { estate: estate.clone(), routes: estate.routes.clone(), command };
        (ChildSpec::new::<Route>("tailscale", Permanent, route, &Slot::default()), &[][..])
    }));
    rows.extend(BeaconArgs::of(estate).map(|beacon| {
        (ChildSpec::new::<Beacon>("mdns", Permanent, beacon, &Slot::default()).shutdown(secs(2)), &[][..])
    }));
    rows
}

/// What the root hears.
pub enum RootMsg {
    /// The configuration is different now.
    ConfigChanged {
        /// Which sections.
        changed: Vec<&'static str>,
        /// Dropped when the children that depend on them have started anew.
        done: Option<oneshot::Sender<()>>,
    },
    /// Look whether `health` is stuck.
    WatchHealth,
}

/// See the module.
pub struct Root {
    sections: Vec<(Arc<str>, &'static [&'static str])>,
    nodes: Slot<NodesMsg>,
    terminals: Slot<TerminalsMsg>,
    _watch: Timer,
}

impl Behavior for Root {
    type Msg = RootMsg;
    type Args = RootArgs;
    const KIND: &'static str = "gateway";
    const SHUTDOWN: ShutdownOrder = ShutdownOrder::Reverse;

    fn start(ctx: &mut Ctx<RootMsg>, args: RootArgs) -> Result<Self, Fault> {
        // Before its children: they look for it as soon as they are there.
        let _ = args.wiring.store.estate.root.set(ctx.node().clone());
        let mut sections = Vec::new();
        for (spec, depends) in table(&args) {
            let child = ctx.spawn(spec).map_err(Fault::new)?;
            sections.push((child.name().clone(), depends));
        }
        let watch = ctx.after(WATCH_HEALTH, RootMsg::WatchHealth);
        let (nodes, terminals) = (args.wiring.nodes.clone(), args.wiring.terminals.clone());
        Ok(Self { sections, nodes, terminals, _watch: watch })
    }

    fn handle(&mut self, ctx: &mut Ctx<RootMsg>, msg: RootMsg) -> Result<(), Fault> {
        match msg {
            RootMsg::ConfigChanged { changed, done } => self.renew(ctx, &changed, done),
            RootMsg::WatchHealth => {
                self._watch = ctx.after(WATCH_HEALTH, RootMsg::WatchHealth);
                if let Some(health) = ctx.node().child("health")
                    && let Some(busy) = health.gauge().busy_ms()
                    && busy >= health.busy_bound().as_millis() as u64
                {
                    health.report_stuck(health.generation(), busy);
                }
            }
        }
        Ok(())
    }
}

impl Root {
    /// Starts the children anew that depend on a changed section.
    fn renew(&self, ctx: &mut Ctx<RootMsg>, changed: &[&str], done: Option<oneshot::Sender<()>>) {
        if changed.contains(&"gateway") {
            let _ = self.nodes.send(NodesMsg::Review);
            let _ = self.terminals.send(TerminalsMsg::Review);
        }
        let mut renewed = Vec::new();
        for (name, depends) in &self.sections {
            if depends.iter().any(|section| changed.contains(section)) {
                renewed.extend(ctx.node().child(name).map(|child| (child.generation(), child.watch())));
                ctx.restart_child(name);
            }
        }
        ctx.detached(async move {
            for (before, mut watch) in renewed {
                let up = |(state, generation): &(NodeState, u64)| {
                    *generation > before && *state == NodeState::Running
                };
                // A child whose node is gone will not come back.
                let _ = watch.wait_for(up).await;
            }
            drop(done);
        });
    }
}

/// Plants the tree; it is found in the Estate as soon as its root runs.
pub fn plant(args: RootArgs) -> Arc<Node> {
    let estate = args.wiring.store.estate.clone();
    let slot = args.wiring.root.clone();
    let spec = ChildSpec::new::<Root>("gateway", Restart::Temporary, args, &slot);
    grow(spec, estate.clock.clone(), observer(&estate))
}

/// The one place that logs lifecycle, and tells it to operators.
fn observer(estate: &Arc<Estate>) -> Observer {
    let estate = Arc::downgrade(estate);
    Arc::new(move |change: &Lifecycle| {
        let (path, state) = (&*change.path, change.state.as_str());
        let reason = change.last_exit.as_ref().map_or("", |e| e.reason.as_str());
        match &change.last_exit {
            Some(exit) if !change.ordered && change.state != NodeState::Running => {
                tracing::warn!(target: "crabtree::tree", path, state, restarts = change.restarts,
                    exit = exit.kind.as_str(), reason, "actor down");
            }
            _ => tracing::debug!(target: "crabtree::tree", path, state, restarts = change.restarts, "actor"),
        }
        let Some(estate) = estate.upgrade() else { return };
        if change.state == NodeState::Running && change.restarts > 0 {
            estate.meters.restarts.count(change.kind);
        }
        if change.state == NodeState::Parked {
            estate.meters.parkings.count(change.kind);
        }
        estate.stability.lifecycle(change, estate.clock.now_ms());
        if estate.is_draining() {
            // After `shutdown` clients hear nothing more.
            return;
        }
        let mut news = json!({
            "path": path, "state": state, "restarts": change.restarts, "ts": estate.clock.now_ms(),
        });
        if let Some(exit) = &change.last_exit {
            news["lastExit"] = exit.shown();
        }
        let audience = Audience::Scope(Scope::Read);
        let name = crabtree_protocol::Event::SystemActorsChanged;
        estate.conns.publish(Event::new(name, audience, &news).droppable());
    })
}
