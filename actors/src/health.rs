//! **Owns** the published health, and the watch over stuck actors.
//! **Hears** its own timers; **tells** everybody the event `health`, and a parent that its child is stuck.
//! **On crash** nothing is lost: the next look at the tree makes it anew. Its own hanging is watched by the
//! root.

use crate::alerts;
use crate::channels::{self, Condition};
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::secrets::{Report, Row};
use crate::settings::{Issue, Settings};
use crate::store::{self, Counts, Store};
use crate::tree::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How often the tree is looked over.
const WATCH: Duration = Duration::from_secs(1);
/// How often health is told to everybody (as recorded), in looks.
const LOOKS_PER_EVENT: u32 = 60;
/// How often the inputs are counted, in looks.
const LOOKS_PER_COUNT: u32 = 5;
/// A stuck actor is named at its bound and killed at this multiple of it.
const KILL_AT: u32 = 2;
/// Rows of the outbox's counts: so many accounts and states.
const MAX_OUTBOX_ROWS: u32 = 300;
/// Nodes named in one health payload.
const MAX_NAMED: usize = 20;

/// The published state.
#[derive(Debug)]
pub struct HealthSnapshot {
    /// Grows with each change.
    pub version: u64,
    /// The payload of method, event and hello-ok, encoded once.
    pub json: Box<RawValue>,
    /// Whether everything runs.
    pub ok: bool,
}

impl HealthSnapshot {
    /// Before the first look.
    pub fn first(now_ms: i64) -> Self {
        let json = to_raw_value(&json!({ "ok": true, "ts": now_ms, "durationMs": 0 }))
            .expect("health is plain data");
        Self { version: 1, json, ok: true }
    }
}

/// What the store counts: inputs and sessions, and the messages that are not out yet, by channel, account and state.
pub type Counted = (Counts, Vec<(String, String, String, u64)>);

/// What health hears.
pub enum HealthMsg {
    /// Look the tree over.
    Look,
    /// What the store counts.
    Counted(Option<Counted>),
    /// It is time for the event, and this is what the store counts.
    Due(Option<Counted>),
}

/// See the module.
pub struct Health {
    estate: Arc<Estate>,
    store: Store,
    counts: Counts,
    outbox: Vec<(String, String, String, u64)>,
    findings: Findings,
    channels: Vec<Condition>,
    secrets: Arc<Report>,
    issues: Vec<Issue>,
    reach: Option<Value>,
    looks: u32,
    _timer: Timer,
}

impl Behavior for Health {
    type Msg = HealthMsg;
    type Args = Store;
    const KIND: &'static str = "health";

    fn start(ctx: &mut Ctx<HealthMsg>, store: Store) -> Result<Self, Fault> {
        let timer = ctx.after(Duration::ZERO, HealthMsg::Look);
        Ok(Self {
            estate: store.estate.clone(),
            store,
            counts: Counts::default(),
            outbox: Vec::new(),
            findings: Findings::default(),
            channels: Vec::new(),
            secrets: Arc::default(),
            issues: Vec::new(),
            reach: None,
            looks: 0,
            _timer: timer,
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<HealthMsg>, msg: HealthMsg) -> Result<(), Fault> {
        match msg {
            HealthMsg::Look => self.look(ctx),
            HealthMsg::Counted(counted) => self.counted(counted),
            HealthMsg::Due(counted) => {
                self.counted(counted);
                self.publish(ctx.now_ms());
            }
        }
        Ok(())
    }
}

impl Health {
    fn look(&mut self, ctx: &mut Ctx<HealthMsg>) {
        self._timer = ctx.after(WATCH, HealthMsg::Look);
        let Some(root) = self.estate.root.get() else { return };
        let findings = find(root);
        for (node, busy_ms) in &findings.stuck {
            if *busy_ms >= u64::from(KILL_AT) * node.busy_bound().as_millis() as u64 {
                node.report_stuck(node.generation(), *busy_ms);
            }
        }
        let loaded = self.estate.config.load_full();
        let accounts = channels::configured(&loaded.settings.channels, None);
        let channels: Vec<_> = accounts.iter().map(|name| channels::condition(&self.estate, name)).collect();
        let secrets = self.estate.secrets.report();
        let is_broken_elsewhere = loaded.issues() != self.issues;
        let reach = self.estate.reach.told();
        let news = findings.differ(&self.findings)
            || words(&channels) != words(&self.channels)
            || secrets != self.secrets
            || reach != self.reach
            || is_broken_elsewhere;
        if is_broken_elsewhere {
            self.issues = loaded.issues().to_vec();
        }
        (self.findings, self.channels, self.secrets, self.reach) = (findings, channels, secrets, reach);
        self.looks += 1;
        let due = self.looks % LOOKS_PER_EVENT == 1;
        if due || self.looks % LOOKS_PER_COUNT == 1 {
            let store = self.store.clone();
            let count = |c: &store::Connection| Ok((store::counts(c)?, store::outbox(c, MAX_OUTBOX_ROWS)?));
            let counted = async move { store.read(count).await.ok() };
            ctx.task(counted, if due { HealthMsg::Due } else { HealthMsg::Counted });
        }
        // The first look is told before anything is counted: the clients that a start serves are told how things are.
        if self.looks == 1 || news && !due {
            self.publish(ctx.now_ms());
        }
        self.publish_info(ctx);
    }

    /// Where it could not be counted it stays as it was.
    fn counted(&mut self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            (self.counts, self.outbox) = counted;
        }
    }

    /// What the metrics and `system.actors` show.
    fn publish_info(&self, ctx: &Ctx<HealthMsg>) {
        let (parked, stuck) = self.findings.names();
        let Counts { queued, running, dead, .. } = self.counts;
        ctx.publish_info(json!({
            "actors": self.findings.total,
            "parked": parked,
            "stuck": stuck,
            "inputs": { "queued": queued, "running": running, "dead": dead },
            "sessions": self.counts.sessions,
            "outbox": self.outbox,
        }));
    }

    /// Publishes the snapshot, and the event with it: when something changed, and each minute.
    fn publish(&self, now: i64) {
        let last = self.estate.health.load();
        let mut payload = payload(&self.estate.config.load().settings, &self.findings, self.counts, now);
        payload["config"] = json!({ "valid": self.issues.is_empty(), "issues": self.issues });
        for (name, shown) in channels::summary(&self.estate, &self.channels) {
            payload[name] = shown;
        }
        payload["secrets"] = wanting(&self.secrets);
        if let Some(reach) = &self.reach {
            payload["reach"] = reach.clone();
        }
        let json = to_raw_value(&payload).expect("health is plain data");
        let next = HealthSnapshot { version: last.version + 1, ok: self.findings.is_ok(), json };
        let next = Arc::new(next);
        self.estate.health.store(next.clone());
        let name = crabtree_protocol::Event::Health;
        let version = self.estate.state_version();
        let event = Event::versioned(name, Audience::Everyone, next.json.get().as_bytes(), version);
        self.estate.conns.publish(event.droppable());
    }
}

/// The secrets that are not to be had, and who does without; why is for administrators only.
fn wanting(report: &Report) -> Value {
    let row =
        |row: &Row| json!({ "owner": row.spot.owner(), "path": row.spot.key(), "state": row.state.name() });
    json!({ "wanting": report.wanting().take(MAX_NAMED).map(row).collect::<Vec<_>>() })
}

/// How the accounts of channels are, in a word each.
fn words(channels: &[Condition]) -> Vec<(&str, &str, &'static str)> {
    channels.iter().map(|one| (&*one.name.channel, &*one.name.account, one.health)).collect()
}

/// Who is at one message for too long, and for how many milliseconds.
type Stuck = Vec<(Arc<Node>, u64)>;

/// What a look over the tree found.
#[derive(Default)]
struct Findings {
    total: usize,
    stuck: Stuck,
    parked: Vec<Arc<Node>>,
    /// What is wrong with the disk.
    store: Option<String>,
}

impl Findings {
    fn is_ok(&self) -> bool {
        self.stuck.is_empty() && self.parked.is_empty() && self.store.is_none()
    }

    fn differ(&self, other: &Self) -> bool {
        self.names() != other.names() || self.store != other.store
    }

    /// Paths of the parked and the stuck.
    fn names(&self) -> (Vec<String>, Vec<String>) {
        let parked = self.parked.iter().map(|n| n.path().to_string()).take(MAX_NAMED).collect();
        (parked, self.stuck.iter().map(|(n, _)| n.path().to_string()).take(MAX_NAMED).collect())
    }
}

fn find(root: &Arc<Node>) -> Findings {
    let store = store_trouble(root).map(|(what, _)| what);
    let mut findings = Findings { store, ..Findings::default() };
    let mut rest = vec![root.clone()];
    while let Some(node) = rest.pop() {
        findings.total += 1;
        match node.state().0 {
            NodeState::Parked => findings.parked.push(node.clone()),
            NodeState::Running => {
                let bound = node.busy_bound().as_millis() as u64;
                if let Some(busy) = node.gauge().busy_ms().filter(|busy| *busy >= bound) {
                    findings.stuck.push((node.clone(), busy));
                }
            }
            _ => {}
        }
        rest.extend(node.children());
    }
    findings
}

/// How often an agent looks after things on its own.
fn heartbeat(settings: &Settings, id: &str) -> Value {
    let own = settings.heartbeat(id).filter(|_| settings.cron.enabled);
    let every = own.as_ref().and_then(|own| own.every_ms());
    let word = own.and_then(|own| own.every).unwrap_or_else(|| "30m".into());
    json!({ "enabled": every.is_some(), "every": word, "everyMs": every.unwrap_or(0) })
}

/// Who is parked, and who is at one message for too long, for how many milliseconds.
pub(crate) fn ailing(root: &Arc<Node>) -> (Vec<Arc<Node>>, Stuck) {
    let Findings { parked, stuck, .. } = find(root);
    (parked, stuck)
}

/// What is wrong with the disk, and since when (ms).
pub(crate) fn store_trouble(root: &Node) -> Option<(String, i64)> {
    alerts::says(&*root.child("store")?.info()?)
}

fn payload(settings: &Settings, findings: &Findings, counts: Counts, now: i64) -> Value {
    let (parked, stuck) = findings.names();
    let sessions = json!({ "path": "store.sqlite", "count": counts.sessions, "recent": [] });
    let agents: Vec<Value> = settings
        .agent_ids()
        .iter()
        .map(|id| {
            json!({
                "agentId": id,
                "isDefault": *id == settings.default_agent_id(),
                "heartbeat": heartbeat(settings, id),
                "sessions": sessions,
            })
        })
        .collect();
    json!({
        "ok": findings.is_ok(),
        "ts": now,
        "durationMs": 0,
        "plugins": { "loaded": [], "errors": [], "unavailable": [] },
        "configReload": { "hotReloadStatus": "active" },
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 1800,
        "defaultAgentId": settings.default_agent_id(),
        "agents": agents,
        "sessions": sessions,
        "actors": { "total": findings.total, "parked": parked, "stuck": stuck },
        "inputs": { "queued": counts.queued, "dead": counts.dead },
        "store": { "trouble": findings.store },
    })
}
