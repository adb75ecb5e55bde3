//! The whole tree in one thread and simulated time, and the hand that carries a plan out.

use super::link::{Link, Manner};
use super::plan::{Plan, STATIC, Target};
use super::trace::Trace;
use super::wire::Topic;
use crate::planting::{estate_args, planted};
use crabtree_actors::estate::{Estate, Part};
use crabtree_actors::gateway::Wiring;
use crabtree_actors::sessions::MAX_WAITING;
use crabtree_actors::store::{self, InputRow, InputState};
use crabtree_actors::tree::{self, Clock, Node, NodeState, Order};
use crabtree_protocol::SessionKey;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How often rows and versions are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// The longest until everything has come to rest after the last step of a plan.
const REST: Duration = Duration::from_secs(240);
/// Times a client sends something again that was not available.
const MAX_RESENDS: u32 = 8;

pub struct World {
    pub plan: Plan,
    pub wiring: Arc<Wiring>,
    pub root: Arc<Node>,
    pub trace: Arc<Mutex<Trace>>,
    /// Every connection there ever was; the last of a client is the one it uses.
    pub links: Vec<Arc<Link>>,
    pub problems: Vec<String>,
    /// How often each thing was said again.
    resends: BTreeMap<usize, u32>,
    /// Requests that have been sent again, or are known to need no more.
    pub seen: BTreeSet<String>,
    /// Sessions that were found parked, and processes that ended at once.
    pub parked: usize,
    pub reboots: usize,
    pub disk_troubles: usize,
    /// Connections to processes that have ended.
    pub of_before: usize,
    /// Who was made slow: a restart may have been lost with who should have done it.
    pub slowed: BTreeSet<Target>,
    presence: u64,
    started: Instant,
}

fn estate(clock: Clock, passivate_after: u64) -> Arc<Estate> {
    let settings = json!({
        "session": { "passivateAfterSeconds": passivate_after },
        "plugins": { "entries": { "ollama": { "config": { "discovery": { "enabled": false } } } } },
    });
    Estate::new(estate_args(clock, settings))
}

/// Lets `n` other steps of tasks pass, within the same moment.
async fn spin(n: u32) {
    for _ in 0..n {
        let mut passed = false;
        poll_fn(|cx| {
            if passed {
                return Poll::Ready(());
            }
            passed = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl World {
    pub async fn start(plan: Plan) -> Self {
        let wiring = Wiring::new(estate(Clock::simulated(1_800_000_000_000), plan.passivate_after));
        let root = planted(&wiring);
        wiring.store.estate.ready.complete().await;
        sleep(Duration::from_millis(10)).await;
        let clients = plan.clients.len();
        let mut world = Self {
            plan,
            wiring,
            root,
            trace: Arc::default(),
            links: Vec::new(),
            problems: Vec::new(),
            resends: BTreeMap::new(),
            seen: BTreeSet::new(),
            parked: 0,
            reboots: 0,
            disk_troubles: 0,
            of_before: 0,
            slowed: BTreeSet::new(),
            presence: 0,
            started: Instant::now(),
        };
        (0..clients).for_each(|client| world.connect(client));
        sleep(Duration::from_millis(100)).await;
        if !world.links.iter().all(|link| link.is_ready()) {
            world.problems.push("not everybody was let in at the start".into());
        }
        world.approve_nodes().await;
        world.started = Instant::now();
        world
    }

    /// The process ends, at once or in order, and another one opens the same database.
    pub async fn reboot(&mut self, in_order: bool) {
        self.reboots += 1;
        self.of_before = self.links.len();
        if in_order {
            self.shut_down().await;
        }
        self.links.iter().for_each(|link| link.hang_up());
        tree::fell(&self.root);
        let db = self.estate().db.load_full();
        sleep(Duration::from_millis(1)).await;
        self.wiring = Wiring::new(estate(self.estate().clock.clone(), self.plan.passivate_after));
        self.estate().db.store(db);
        self.estate().ready.done(Part::Store);
        self.presence = 0;
        self.root = planted(&self.wiring);
    }

    pub fn estate(&self) -> &Arc<Estate> {
        &self.wiring.store.estate
    }

    pub fn key(&self, session: usize) -> SessionKey {
        SessionKey::canonical(&format!("s{session}"), "main").unwrap()
    }

    /// The session of something said.
    pub fn key_of(&self, run: usize) -> SessionKey {
        let said = &self.plan.said[run];
        said.session.map_or_else(|| SessionKey::explicit("main", &said.id), |session| self.key(session))
    }

    pub fn query<T>(&self, f: impl FnOnce(&store::Connection) -> Result<T, store::StoreError>) -> T {
        self.estate().db.load_full().unwrap().read(f).unwrap()
    }

    /// The row of something said, if it was ever accepted.
    pub fn row(&self, run: usize) -> Option<InputRow> {
        self.query(|c| store::input_by_source(c, "rpc", &self.plan.said[run].id))
    }

    pub fn connect(&mut self, client: usize) {
        let persona = &self.plan.clients[client];
        let manner = Manner {
            slow: persona.slow,
            device: persona.device,
            node: persona.node,
            subscribes: persona.subscribes,
            from_start: self.links.len() < self.plan.clients.len(),
        };
        self.links.push(Link::open(&self.wiring, &self.trace, (client, self.links.len()), manner));
    }

    pub fn link(&self, client: usize) -> Option<&Arc<Link>> {
        self.links.iter().rfind(|link| link.client == client)
    }

    /// Carries the plan out.
    pub async fn run(&mut self) {
        for at in 0..self.plan.steps.len() {
            let (at_ms, spins) = (self.plan.steps[at].at_ms, self.plan.steps[at].spins);
            self.pass_until(self.started + Duration::from_millis(at_ms)).await;
            spin(spins).await;
            let act = self.plan.steps[at].act.clone();
            let note = format!("{act:?}");
            self.trace.lock().note(self.estate().clock.now_ms(), "sim", &note);
            self.act(act).await;
        }
    }

    /// Lets time pass, and looks at what must hold at any time.
    pub async fn pass_until(&mut self, at: Instant) {
        while Instant::now() < at {
            sleep_until(at.min(Instant::now() + LOOK)).await;
            self.look();
        }
    }

    fn look(&mut self) {
        let presence = self.estate().presence.load().version;
        if presence < self.presence {
            self.problems.push(format!("presence went back from {} to {presence}", self.presence));
        }
        self.presence = presence;
        for session in 0..self.plan.sessions {
            let key = self.key(session);
            let rows = self.query(|c| store::backlog(c, key.as_str()));
            if rows.len() > MAX_WAITING + 1 {
                self.once(format!("{key}: a backlog of {}", rows.len()));
            }
            let running = rows.iter().filter(|r| r.state == InputState::Running);
            let turns: BTreeSet<_> = running.filter_map(|r| r.turn.clone()).collect();
            if turns.len() > 1 {
                self.once(format!("{key}: several turns are running: {turns:?}"));
            }
        }
        self.send_again();
    }

    /// Notes a problem that is seen again at each look.
    fn once(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Clients send again what was not available, or not answered before their connection ended.
    fn send_again(&mut self) {
        let mut again = Vec::new();
        for link in &self.links {
            let wire = link.wire.lock();
            for (id, request) in &wire.requests {
                let Topic::Say { run, same: true, .. } = request.topic else { continue };
                let lost = request.answers.is_empty() && wire.closed.is_some();
                if (lost || request.is_unavailable()) && self.seen.insert(id.clone()) {
                    again.push((link.client, run));
                }
            }
        }
        for (client, run) in again {
            let count = self.resends.entry(run).or_default();
            *count += 1;
            if *count <= MAX_RESENDS {
                let client = self.link(client).filter(|link| link.is_ready()).map_or(0, |link| link.client);
                self.say(client, run, true);
            }
        }
    }

    /// Lets everything come to rest, and resumes what is parked. Returns what does not.
    pub async fn rest(&mut self) -> Vec<String> {
        let end = Instant::now() + REST;
        loop {
            self.pass_until(Instant::now() + Duration::from_millis(500)).await;
            self.resume();
            let unrest = self.unrest();
            if unrest.is_empty() || Instant::now() > end {
                return unrest;
            }
        }
    }

    /// Why it is not quiet yet.
    fn unrest(&self) -> Vec<String> {
        let mut why: Vec<String> = STATIC
            .iter()
            .filter_map(|name| self.root.child(name).filter(|n| n.state().0 != NodeState::Running))
            .map(|node| format!("{} is {}", node.path(), node.state().0.as_str()))
            .collect();
        busy(&self.root, &mut why);
        for run in 0..self.plan.said.len() {
            why.extend(
                self.row(run)
                    .filter(|r| !r.state.is_final())
                    .map(|r| format!("{} is {} after {} attempts", r.run_id, r.state.as_str(), r.attempts)),
            );
        }
        if self.estate().ledgers.count() > 0 {
            why.push(format!("turns in the ledger: {:?}", self.estate().ledgers.active()));
        }
        if self.open_commands() > 0 {
            why.push(format!("{} commands wait for nodes", self.open_commands()));
        }
        for link in self.links.iter().filter(|link| link.is_open()) {
            let wire = link.wire.lock();
            let open = wire.requests.iter().filter(|(_, request)| !request.is_done());
            why.extend(open.map(|(id, request)| format!("{id} is not answered: {:?}", request.topic)));
        }
        why
    }

    fn resume(&mut self) {
        let Some(sessions) = self.root.child("sessions") else { return };
        for node in sessions.children().iter().filter(|n| n.state().0 == NodeState::Parked) {
            if node.last_exit().is_none() {
                self.problems.push(format!("{} is parked without a cause", node.path()));
            }
            node.command(Order::Restart);
        }
    }
}

/// Names who is in the middle of a message, which at rest is only who hangs.
fn busy(node: &Arc<Node>, found: &mut Vec<String>) {
    if let Some(ms) = node.gauge().busy_ms().filter(|_| node.state().0 == NodeState::Running) {
        found.push(format!("{} is busy for {ms} ms", node.path()));
    }
    node.children().iter().for_each(|child| busy(child, found));
}
