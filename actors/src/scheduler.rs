//! **Owns** the timers of the gateway itself: the global tick, and the heartbeats of agents.
//! **Hears** what is to be told to an agent with its next heartbeat; **tells** everybody `tick` and `heartbeat`, and
//! main sessions what they are asked.
//! **On crash** the timers start anew. What waits to be told is in the store, and a heartbeat that had begun goes on
//! under the same run; whether there are heartbeats is in the store as well.

mod beat;

pub use beat::{Heard, heard};

use crate::event::{Audience, Event};
use crate::hooks;
use crate::sessions::SessionsMsg;
use crate::store::{self, CronOp, EventRow, Store, StoreError, WriteOp};
use crate::suspension;
use crate::tree::*;
use beat::{Beat, Begins, Pulse};
use crabtree_protocol::frame::TICK_INTERVAL_MS;
use crabtree_protocol::{Event as Name, Refusal, SessionKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// How often it is looked whose heartbeat is due.
const LOOK: Duration = Duration::from_secs(1);
/// Where it is kept whether there are heartbeats, and how the last one was.
const SWITCH: &str = "heartbeats";
const LAST: &str = "heartbeat.last";

/// Whether there are heartbeats, the last one, and what waits, as the store has them.
type Known = (Option<String>, Option<String>, Vec<EventRow>);

/// What the scheduler hears.
pub enum SchedulerMsg {
    /// Time for a tick.
    Tick,
    /// Time to look whose heartbeat is due.
    Look,
    /// What the store knows.
    Loaded(Result<Known, StoreError>),
    /// Tell an agent with its next heartbeat; the one that answers when nobody is named, if none is.
    Later(Option<String>, String, Option<Reply<Result<(), Refusal>>>),
    /// An agent has its heartbeat now: something waits for it that is urgent.
    Now(String),
    /// What waits for the next heartbeat.
    Waiting(Reply<Vec<String>>),
    /// The last heartbeat, if there was one.
    Last(Reply<Option<Value>>),
    /// Whether there are heartbeats, from now on.
    Switch(bool, Reply<Result<(), Refusal>>),
    /// A heartbeat of an agent is over.
    Beaten(String, Box<Beat>),
}

/// What it is started with.
#[derive(Clone)]
pub struct SchedulerArgs {
    /// The store, and through it the Estate.
    pub store: Store,
    /// Where agents are asked.
    pub sessions: Slot<SessionsMsg>,
}

/// See the module.
pub struct Scheduler {
    args: SchedulerArgs,
    loaded: bool,
    early: VecDeque<SchedulerMsg>,
    enabled: bool,
    last: Option<Value>,
    /// When each agent's next heartbeat is due, and how far apart they are, ms.
    due: BTreeMap<String, (i64, i64)>,
    /// Agents whose heartbeat goes on.
    beating: BTreeSet<String>,
    /// Those of them that have another one at once.
    again: BTreeSet<String>,
    _tick: Timer,
    _look: Timer,
}

impl Behavior for Scheduler {
    type Msg = SchedulerMsg;
    type Args = SchedulerArgs;
    const KIND: &'static str = "scheduler";

    fn start(ctx: &mut Ctx<SchedulerMsg>, args: SchedulerArgs) -> Result<Self, Fault> {
        let tick = ctx.after(Duration::from_millis(TICK_INTERVAL_MS), SchedulerMsg::Tick);
        let look = ctx.after(LOOK, SchedulerMsg::Look);
        let reader = args.store.clone();
        let known = async move {
            let read = |c: &_| Ok((store::meta(c, SWITCH)?, store::meta(c, LAST)?, store::system_events(c)?));
            reader.read(read).await
        };
        ctx.task(known, SchedulerMsg::Loaded);
        Ok(Self {
            args,
            loaded: false,
            early: VecDeque::new(),
            enabled: true,
            last: None,
            due: BTreeMap::new(),
            beating: BTreeSet::new(),
            again: BTreeSet::new(),
            _tick: tick,
            _look: look,
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<SchedulerMsg>, msg: SchedulerMsg) -> Result<(), Fault> {
        match msg {
            SchedulerMsg::Tick => self.tick(ctx),
            SchedulerMsg::Loaded(known) => self.loaded(ctx, known.map_err(Fault::new)?)?,
            SchedulerMsg::Look => self.look(ctx),
            early if !self.loaded => self.early.push_back(early),
            SchedulerMsg::Later(agent, text, done) => self.later(ctx, agent, text, done),
            SchedulerMsg::Now(agent) => self.now(ctx, &agent),
            SchedulerMsg::Waiting(reply) => self.waiting(ctx, reply),
            SchedulerMsg::Last(reply) => reply.send(self.last.clone()),
            SchedulerMsg::Switch(on, reply) => self.switch(ctx, on, reply),
            SchedulerMsg::Beaten(agent, beat) => self.beaten(ctx, &agent, *beat),
        }
        Ok(())
    }
}

impl Scheduler {
    fn tick(&mut self, ctx: &mut Ctx<SchedulerMsg>) {
        self._tick = ctx.after(Duration::from_millis(TICK_INTERVAL_MS), SchedulerMsg::Tick);
        let payload = json!({ "ts": ctx.now_ms() });
        self.args.store.estate.conns.publish(Event::new(Name::Tick, Audience::Everyone, &payload));
    }

    fn loaded(&mut self, ctx: &mut Ctx<SchedulerMsg>, (switch, last, events): Known) -> Result<(), Fault> {
        self.loaded = true;
        self.enabled = switch.as_deref() != Some("off");
        self.last = last.and_then(|last| serde_json::from_str(&last).ok());
        // A heartbeat that was cut off is one that has events.
        let (begun, waiting): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.run_id.is_some());
        let begun: BTreeSet<(String, String)> =
            begun.into_iter().filter_map(|event| Some((event.session_key, event.run_id?))).collect();
        for (key, run_id) in begun {
            if let Ok(key) = SessionKey::canonical(&key, "main") {
                self.beat(ctx, key.agent_id(), Begins::Again(run_id));
            }
        }
        for event in waiting.into_iter().filter(hooks::is_urgent) {
            if let Ok(key) = SessionKey::canonical(&event.session_key, "main") {
                self.now(ctx, key.agent_id());
            }
        }
        while let Some(msg) = self.early.pop_front() {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// Whose heartbeat is due has it, unless something is against it.
    fn look(&mut self, ctx: &mut Ctx<SchedulerMsg>) {
        self._look = ctx.after(LOOK, SchedulerMsg::Look);
        suspension::look(&self.args.store.estate);
        if !self.loaded || !self.args.store.estate.admits() {
            return;
        }
        let now = ctx.now_ms();
        let config = self.args.store.estate.config.load_full();
        let settings = &config.settings;
        let agents: BTreeMap<String, i64> = settings
            .agent_ids()
            .into_iter()
            .filter(|_| settings.cron.enabled)
            .filter_map(|id| Some((id.to_owned(), settings.heartbeat(id)?.every_ms()?)))
            .collect();
        self.due.retain(|id, (_, every)| agents.get(id) == Some(&*every));
        for (agent, every) in agents {
            let (due, _) = *self.due.entry(agent.clone()).or_insert((now + every, every));
            // A clock that was set back does not put it off by more than its time.
            if due > now && due <= now + every {
                continue;
            }
            self.due.insert(agent.clone(), (now + every, every));
            let active = settings.heartbeat(&agent).is_some_and(|own| own.is_active(now));
            let against = if !self.enabled {
                Some("disabled")
            } else if !active {
                Some("quiet-hours")
            } else {
                self.beating.contains(&agent).then_some("requests-in-flight")
            };
            match against {
                Some(reason) => self
                    .tell(ctx, json!({ "ts": now, "status": "skipped", "reason": reason, "durationMs": 0 })),
                None => self.beat(ctx, &agent, Begins::Due),
            }
        }
    }

    /// It is asked for; one that goes on has begun without what is urgent.
    fn now(&mut self, ctx: &mut Ctx<SchedulerMsg>, agent: &str) {
        if self.beating.contains(agent) {
            self.again.insert(agent.to_owned());
        } else if !self.args.store.estate.is_draining() {
            self.beat(ctx, agent, Begins::Asked);
        }
    }

    fn beat(&mut self, ctx: &mut Ctx<SchedulerMsg>, agent: &str, begins: Begins) {
        let pulse = Pulse {
            store: self.args.store.clone(),
            sessions: self.args.sessions.clone(),
            agent: agent.to_owned(),
            run_id: match &begins {
                Begins::Again(run_id) => run_id.clone(),
                Begins::Due | Begins::Asked => format!("heartbeat:{agent}:{}", ctx.now_ms()),
            },
            begins,
        };
        self.beating.insert(agent.to_owned());
        let agent = agent.to_owned();
        ctx.task(pulse.beat(), move |beat| SchedulerMsg::Beaten(agent, Box::new(beat)));
    }

    fn beaten(&mut self, ctx: &mut Ctx<SchedulerMsg>, agent: &str, beat: Beat) {
        self.beating.remove(agent);
        let told = beat.told(ctx.now_ms());
        self.tell(ctx, told);
        if self.again.remove(agent) {
            self.now(ctx, agent);
        }
    }

    fn tell(&mut self, ctx: &mut Ctx<SchedulerMsg>, beat: Value) {
        self.args.store.estate.conns.publish(Event::new(Name::Heartbeat, Audience::Everyone, &beat));
        let (store, value) = (self.args.store.clone(), beat.to_string());
        ctx.detached(async move {
            let _ = store.write(WriteOp::PutMeta { key: LAST.into(), value }).await;
        });
        self.last = Some(beat);
    }

    fn later(
        &mut self,
        ctx: &mut Ctx<SchedulerMsg>,
        agent: Option<String>,
        text: String,
        done: Option<Reply<Result<(), Refusal>>>,
    ) {
        let store = self.args.store.clone();
        let catalog = store.estate.catalog.load();
        let agent = agent.unwrap_or_else(|| catalog.default_agent().id.clone());
        if catalog.agent(&agent).is_none() {
            return done.into_iter().for_each(|done| done.send(Err(Refusal::agent_gone(&agent))));
        }
        let key = match SessionKey::canonical(&catalog.main_key, &agent) {
            Ok(key) => key,
            Err(refusal) => return done.into_iter().for_each(|done| done.send(Err(refusal.clone()))),
        };
        let row = EventRow {
            id: Uuid::now_v7().to_string(),
            session_key: key.to_string(),
            text,
            at: ctx.now_ms(),
            run_id: None,
        };
        drop(catalog);
        ctx.detached(async move {
            let written = store.write(WriteOp::Cron(CronOp::Tell(row))).await;
            if let Some(done) = done {
                done.send(
                    written.map(drop).map_err(|e| Refusal::failed(format!("the event was not stored: {e}"))),
                );
            }
        });
    }

    fn waiting(&self, ctx: &mut Ctx<SchedulerMsg>, reply: Reply<Vec<String>>) {
        let store = self.args.store.clone();
        ctx.detached(async move {
            let rows = store.read(store::system_events).await.unwrap_or_default();
            reply.send(rows.into_iter().map(|row| row.text).collect());
        });
    }

    fn switch(&mut self, ctx: &mut Ctx<SchedulerMsg>, on: bool, reply: Reply<Result<(), Refusal>>) {
        self.enabled = on;
        let (store, value) = (self.args.store.clone(), if on { "on" } else { "off" }.to_owned());
        ctx.detached(async move {
            let written = store.write(WriteOp::PutMeta { key: SWITCH.into(), value }).await;
            reply.send(written.map(drop).map_err(|e| Refusal::failed(format!("it was not stored: {e}"))));
        });
    }
}
