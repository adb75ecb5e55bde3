//! The figures of `/metrics`, in Prometheus text, and those of `/health?view=summary`.
//!
//! Written by hand: most figures are read from a snapshot at the moment of asking, while the crates that are kept well
//! (`prometheus-client`, `prometheus`) hold registries of their own, and bring an encoder for another format or a
//! derive macro with them. What there is to get wrong is in `exposition`, and tested; CI holds all of it against
//! `promtool check metrics`. What is counted is counted in `crabtree_actors::meters`.

mod exposition;
mod process;

pub use process::resident_bytes;

use crabtree_actors::channels::{self, Condition};
use crabtree_actors::estate::Estate;
use crabtree_actors::meters::Labelled;
use crabtree_actors::tree::{Node, NodeState};
use crabtree_protocol::Role;
use exposition::Exposition;
use process::Process;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Accounts of channels that have labels of their own.
const MAX_ACCOUNTS: usize = 100;

/// What a walk over the tree found. Whatever an actor has not published yet counts as nothing.
#[derive(Debug, Default)]
pub struct Figures {
    /// Session actors.
    pub sessions: usize,
    /// Inputs that wait for their turn.
    pub queued: u64,
    running: u64,
    dead: u64,
    stored: u64,
    writes_waiting: u64,
    approvals: u64,
    paired: u64,
    outbox: Vec<([String; 3], u64)>,
    actors: BTreeMap<(&'static str, &'static str), usize>,
    kinds: BTreeMap<&'static str, Kind>,
}

/// The worst of a kind of actor.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    depth: usize,
    busy_ms: u64,
    oldest_ms: u64,
}

impl Figures {
    /// Of the living tree.
    pub fn of(estate: &Estate) -> Self {
        let mut figures = Self::default();
        let mut rest: Vec<Arc<Node>> = estate.root.get().cloned().into_iter().collect();
        while let Some(node) = rest.pop() {
            figures.add(&node);
            rest.extend(node.children());
        }
        figures
    }

    fn add(&mut self, node: &Node) {
        let state = node.state().0;
        *self.actors.entry((node.kind(), state.as_str())).or_default() += 1;
        let (gauge, kind) = (node.gauge(), self.kinds.entry(node.kind()).or_default());
        kind.depth = kind.depth.max(gauge.depth());
        kind.busy_ms = kind.busy_ms.max(gauge.busy_ms().unwrap_or(0));
        kind.oldest_ms = kind.oldest_ms.max(gauge.oldest_ms().unwrap_or(0));
        let info = node.info();
        let at = |pointer: &str| info.as_deref().and_then(|info| info.pointer(pointer));
        let figure = |pointer: &str| at(pointer).and_then(Value::as_u64).unwrap_or(0);
        match node.kind() {
            "session" if state == NodeState::Running => self.sessions += 1,
            "store" => self.writes_waiting = figure("/queued"),
            "approvals" => self.approvals = figure("/pending"),
            "nodes" => self.paired = figure("/nodes"),
            "health" => {
                self.queued = figure("/inputs/queued");
                self.running = figure("/inputs/running");
                self.dead = figure("/inputs/dead");
                self.stored = figure("/sessions");
                let outbox = at("/outbox").and_then(Value::as_array);
                self.outbox = outbox.into_iter().flatten().filter_map(waiting).collect();
            }
            _ => {}
        }
    }
}

/// Channel, account and state of messages that are not out yet, and how many.
fn waiting(row: &Value) -> Option<([String; 3], u64)> {
    let word = |at: usize| row.get(at).and_then(Value::as_str).map(str::to_owned);
    Some(([word(0)?, word(1)?, word(2)?], row.get(3)?.as_u64()?))
}

/// Everything, in Prometheus text.
pub fn render(estate: &Estate) -> String {
    let figures = Figures::of(estate);
    let mut out = Exposition::default();
    actors(&mut out, estate, &figures);
    clients(&mut out, estate);
    work(&mut out, estate, &figures);
    models_and_tools(&mut out, estate);
    channel_accounts(&mut out, estate, &figures);
    store(&mut out, estate, &figures);
    process_and_log(&mut out, estate);
    out.text
}

fn by_name<const N: usize, K: Ord + Clone>(
    of: &Labelled<K, u64>,
    labels: impl Fn(K) -> [String; N],
) -> Vec<([String; N], u64)> {
    of.read().into_iter().map(|(label, count)| (labels(label), count)).collect()
}

fn actors(out: &mut Exposition, estate: &Estate, figures: &Figures) {
    let meters = &estate.meters;
    let states = figures.actors.iter().map(|((kind, state), n)| ([(*kind).into(), (*state).into()], *n));
    out.gauges(("crabtree_actors", ["kind", "state"]), "Actors by kind and state.", states);
    let restarts = by_name(&meters.restarts, |kind| [kind.to_owned()]);
    out.counters(("crabtree_actor_restarts", ["kind"]), "Actors that were brought back.", restarts);
    let parkings = by_name(&meters.parkings, |kind| [kind.to_owned()]);
    out.counters(("crabtree_actor_parkings", ["kind"]), "Actors that were parked.", parkings);
    let worst = |figure: fn(&Kind) -> f64| {
        figures.kinds.iter().map(move |(kind, worst)| ([(*kind).to_owned()], figure(worst)))
    };
    let (kind, seconds) = (["kind"], |ms: u64| ms as f64 / 1000.0);
    let depths = worst(|kind| kind.depth as f64);
    out.gauges(("crabtree_mailbox_depth_max", kind), "Messages in the fullest mailbox of a kind.", depths);
    let oldest = figures.kinds.iter().map(|(kind, worst)| ([(*kind).to_owned()], seconds(worst.oldest_ms)));
    let name = "crabtree_mailbox_oldest_seconds_max";
    out.gauges((name, kind), "Age of the oldest message that waits for an actor of a kind.", oldest);
    let busy = figures.kinds.iter().map(|(kind, worst)| ([(*kind).to_owned()], seconds(worst.busy_ms)));
    let name = "crabtree_actor_busy_seconds_max";
    out.gauges((name, kind), "How long the busiest actor of a kind has been at its message.", busy);
    let healthy = u8::from(estate.health.load().ok);
    out.gauge("crabtree_healthy", "1 while no actor is stuck or parked and the disk takes writes.", healthy);
    let alerts = by_name(&meters.alerts, |what| [what.to_owned()]);
    out.counters(("crabtree_alerts", ["event"]), "Alerts that were handed to a channel.", alerts);
}

fn clients(out: &mut Exposition, estate: &Estate) {
    let (conns, meters) = (&estate.conns, &estate.meters);
    out.gauge("crabtree_connections", "Open connections.", conns.count());
    let mut roles = BTreeMap::from([("operator", 0_u64), ("node", 0), ("none", 0)]);
    for conn in conns.all() {
        let role = match conn.grant().map(|grant| grant.role) {
            Some(Role::Operator) => "operator",
            Some(Role::Node) => "node",
            None => "none",
        };
        *roles.entry(role).or_default() += 1;
    }
    let roles = roles.into_iter().map(|(role, count)| ([role.to_owned()], count));
    out.gauges(("crabtree_clients", ["role"]), "Connections by role; none before they are let in.", roles);
    out.counter("crabtree_connections_accepted", "Sockets that were opened.", conns.accepted.read());
    let refused = by_name(&meters.refused, |reason| [reason]);
    out.counters(("crabtree_connections_refused", ["reason"]), "Clients that were not let in.", refused);
    let closed = by_name(&meters.closed, |code| match code {
        Some(code) => ["gateway".into(), code.to_string()],
        None => ["client".into(), "none".into()],
    });
    let name = "crabtree_connections_closed";
    out.counters((name, ["by", "code"]), "Sockets that have ended, with the code of our close.", closed);
    let (dropped, slow) = conns.overflown();
    out.counter("crabtree_slow_consumers", "Clients that were given up for reading too slowly.", slow);
    out.gauge("crabtree_buffered_bytes", "Bytes waiting for all clients.", conns.buffered());
    out.counter("crabtree_events_published", "Events that were published.", conns.published.read());
    out.counter("crabtree_events_dropped", "Events that a client's full buffer did not take.", dropped);
    let (answers, times) = conns.asked().read();
    let answers = answers.map(|(outcome, count)| ([outcome.to_owned()], count));
    let name = "crabtree_rpc_requests";
    out.counters((name, ["outcome"]), "Requests of clients, by how they were answered.", answers);
    let help = "From when a request is taken up until its answer is ready to be sent.";
    out.histogram("crabtree_rpc_duration_seconds", help, &times);
}

fn work(out: &mut Exposition, estate: &Estate, figures: &Figures) {
    let meters = &estate.meters;
    out.gauge("crabtree_sessions_live", "Sessions in memory.", figures.sessions);
    out.gauge("crabtree_sessions_stored", "Sessions in the store.", figures.stored);
    let inputs = [("queued", figures.queued), ("running", figures.running), ("dead", figures.dead)];
    let inputs = inputs.map(|(state, count)| ([state.to_owned()], count));
    let help = "Accepted inputs that are not settled, and those given up.";
    out.gauges(("crabtree_inputs", ["state"]), help, inputs);
    out.gauge("crabtree_active_runs", "Running turns.", estate.ledgers.count());
    out.gauge("crabtree_lanes", "Turns that may ask a model at the same time.", estate.lanes.most());
    out.gauge("crabtree_lanes_taken", "Turns that do.", estate.lanes.taken());
    out.gauge("crabtree_lanes_waiting", "Turns that wait for that.", meters.lanes_waiting.read());
    let runs = by_name(&meters.runs, |outcome| [outcome.to_owned()]);
    out.counters(("crabtree_runs", ["outcome"]), "Turns that have ended.", runs);
    let help = "From the acceptance of an input until its turn begins.";
    out.histogram("crabtree_run_queue_seconds", help, &meters.waits.read());
    out.histogram("crabtree_run_duration_seconds", "How long turns take.", &meters.run_times.read());
    out.gauge("crabtree_approvals_waiting", "Requests that wait for a person.", figures.approvals);
    out.gauge("crabtree_nodes_known", "Nodes that are paired or ask to be.", figures.paired);
    out.gauge("crabtree_nodes_connected", "Nodes that are connected.", estate.nodes.all().len());
}

fn models_and_tools(out: &mut Exposition, estate: &Estate) {
    let used = estate.meters.models.read();
    let kinds = used.iter().flat_map(|((provider, model), used)| {
        let kinds = [
            ("input", used.input),
            ("output", used.output),
            ("cache_read", used.cache_read),
            ("cache_write", used.cache_write),
        ];
        kinds.map(|(kind, tokens)| ([provider.clone(), model.clone(), kind.to_owned()], tokens))
    });
    let labels = ["provider", "model", "kind"];
    out.counters(("crabtree_model_tokens", labels), "Tokens of turns that have ended.", kinds);
    out.family("crabtree_model_cost_dollars_total", "counter", "What is known of their cost, in US dollars.");
    let costs = used
        .iter()
        .map(|((provider, model), used)| ([provider.clone(), model.clone()], f64::from(used.cost().total())));
    out.samples(["provider", "model"], costs);
    let tools = by_name(&estate.meters.tools, |(tool, outcome)| [tool, outcome.to_owned()]);
    out.counters(("crabtree_tool_calls", ["tool", "outcome"]), "Calls of tools by models.", tools);
}

fn channel_accounts(out: &mut Exposition, estate: &Estate, figures: &Figures) {
    let accounts = channels::configured(&estate.config.load().settings.channels, None);
    let conditions: Vec<Condition> =
        accounts.iter().take(MAX_ACCOUNTS).map(|name| channels::condition(estate, name)).collect();
    let labels = ["channel", "account"];
    let connected = conditions
        .iter()
        .map(|one| ([one.name.channel.clone(), one.name.account.clone()], u8::from(one.connected)));
    out.gauges(("crabtree_channel_connected", labels), "1 while the platform knows the account.", connected);
    let states = conditions
        .iter()
        .map(|one| ([one.name.channel.clone(), one.name.account.clone(), one.health.to_owned()], 1));
    let name = "crabtree_channel_state";
    out.gauges((name, ["channel", "account", "state"]), "1 for the state an account is in.", states);
    let received = by_name(&estate.meters.received, |(channel, account)| [channel, account]);
    out.counters(("crabtree_channel_messages_received", labels), "Messages that came in.", received);
    let delivered =
        by_name(&estate.meters.delivered, |(channel, account, how)| [channel, account, how.to_owned()]);
    let labels = ["channel", "account", "outcome"];
    let help = "Messages out that were sent, failed, or may have been sent (uncertain).";
    out.counters(("crabtree_deliveries", labels), help, delivered);
    let help = "Messages that are not out yet, or in doubt and not reported.";
    let outbox = figures.outbox.iter().cloned();
    out.gauges(("crabtree_outbox_messages", ["channel", "account", "state"]), help, outbox);
}

fn store(out: &mut Exposition, estate: &Estate, figures: &Figures) {
    let meters = &estate.meters;
    let commits = meters.commits.read();
    out.counter("crabtree_store_batches", "Commits of the store.", commits.count);
    out.counter("crabtree_store_writes", "Writes in those commits.", meters.writes.read());
    let failed = meters.failed_commits.read();
    out.counter("crabtree_store_failed_batches", "Commits that the disk did not take.", failed);
    out.histogram("crabtree_store_batch_duration_seconds", "How long commits take.", &commits);
    out.gauge("crabtree_store_queue_depth", "Writes that wait for the next commit.", figures.writes_waiting);
    let db = estate.db.load();
    let Some(path) = db.as_ref().and_then(|db| db.path()) else { return };
    let size = |suffix: &str| {
        let file = format!("{}{suffix}", path.display());
        std::fs::metadata(Path::new(&file)).map_or(0, |file| file.len())
    };
    out.gauge("crabtree_store_file_bytes", "Size of the database file.", size(""));
    // It does not shrink: it is written from its start again after each checkpoint.
    out.gauge("crabtree_store_wal_bytes", "Size of its write-ahead log.", size("-wal"));
}

fn process_and_log(out: &mut Exposition, estate: &Estate) {
    let [error, warn, info, debug, trace] = estate.log_ring.counted();
    let levels = [("error", error), ("warn", warn), ("info", info), ("debug", debug), ("trace", trace)];
    let levels = levels.map(|(level, count)| ([level.to_owned()], count));
    out.counters(("crabtree_log_lines", ["level"]), "Lines of the log.", levels);
    let lost = estate.log_ring.lost.read();
    out.counter("crabtree_log_lines_lost", "Lines that the log's file did not take in time.", lost);
    out.gauge("crabtree_uptime_seconds", "Age of the gateway.", estate.clock.uptime().as_secs_f64());
    if let Some(process) = Process::read() {
        out.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
        out.gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes);
        out.counter("process_cpu_seconds", "Time of processors, user and system.", process.cpu_seconds);
        out.gauge("process_start_time_seconds", "When it was started, since 1970.", process.start_seconds);
        out.gauge("process_open_fds", "Open file descriptors.", process.open_fds);
        if let Some(most) = process.max_fds {
            out.gauge("process_max_fds", "How many there may be.", most);
        }
        out.gauge("process_threads", "Threads.", process.threads);
    }
    out.family("crabtree_build_info", "gauge", "The version, as a label.");
    let boot = &estate.boot;
    out.sample(&[("version", boot.version), ("build", &boot.build_id)], 1);
}
