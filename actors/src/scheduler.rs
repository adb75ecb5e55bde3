//! **Owns** the timers of the gateway itself: the global tick, the heartbeat, and what is to be told to the
//! agent with the next one.
//! **Hears** wakes and system events; **tells** everybody `tick` and `heartbeat`, and the main session what
//! woke it.
//! **On crash** system events that were waiting for a heartbeat are lost; the timers start anew.

use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::tree::*;
use crabtree_protocol::Event as Name;
use crabtree_protocol::frame::TICK_INTERVAL_MS;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(30 * 60);
/// System events that may wait for the next heartbeat; the oldest makes room.
const MAX_WAITING: usize = 20;

/// What the scheduler hears.
pub enum SchedulerMsg {
    /// Time for a tick.
    Tick,
    /// Time for a heartbeat.
    Heartbeat,
    /// Tell the agent with the next heartbeat.
    Later(String),
    /// What waits for the next heartbeat.
    Waiting(Reply<Vec<String>>),
    /// The last heartbeat, if there was one.
    Last(Reply<Option<Value>>),
}

/// What it is started with.
#[derive(Clone)]
pub struct SchedulerArgs {
    /// The Estate.
    pub estate: Arc<Estate>,
    /// Runs a system event in the main session: text, and when.
    pub wake: Arc<dyn Fn(String, i64) + Send + Sync>,
}

/// See the module.
pub struct Scheduler {
    args: SchedulerArgs,
    waiting: VecDeque<String>,
    last: Option<Value>,
    _tick: Timer,
    _heartbeat: Timer,
}

impl Behavior for Scheduler {
    type Msg = SchedulerMsg;
    type Args = SchedulerArgs;
    const KIND: &'static str = "scheduler";

    fn start(ctx: &mut Ctx<SchedulerMsg>, args: SchedulerArgs) -> Result<Self, Fault> {
        let tick = ctx.after(Duration::from_millis(TICK_INTERVAL_MS), SchedulerMsg::Tick);
        let heartbeat = ctx.after(HEARTBEAT, SchedulerMsg::Heartbeat);
        Ok(Self { args, waiting: VecDeque::new(), last: None, _tick: tick, _heartbeat: heartbeat })
    }

    fn handle(&mut self, ctx: &mut Ctx<SchedulerMsg>, msg: SchedulerMsg) -> Result<(), Fault> {
        match msg {
            SchedulerMsg::Tick => self.tick(ctx),
            SchedulerMsg::Heartbeat => self.heartbeat(ctx),
            SchedulerMsg::Later(text) => {
                if self.waiting.len() == MAX_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(text);
            }
            SchedulerMsg::Waiting(reply) => reply.send(self.waiting.iter().cloned().collect()),
            SchedulerMsg::Last(reply) => reply.send(self.last.clone()),
        }
        Ok(())
    }
}

impl Scheduler {
    fn tick(&mut self, ctx: &mut Ctx<SchedulerMsg>) {
        self._tick = ctx.after(Duration::from_millis(TICK_INTERVAL_MS), SchedulerMsg::Tick);
        let payload = json!({ "ts": ctx.now_ms() });
        self.args.estate.conns.publish(Event::new(Name::Tick, Audience::Everyone, &payload));
    }

    /// Without anything to tell, the agent is not woken.
    fn heartbeat(&mut self, ctx: &mut Ctx<SchedulerMsg>) {
        self._heartbeat = ctx.after(HEARTBEAT, SchedulerMsg::Heartbeat);
        let now = ctx.now_ms();
        let beat = if self.waiting.is_empty() {
            json!({ "ts": now, "status": "skipped", "reason": "nothing to tell" })
        } else {
            let text = self.waiting.drain(..).collect::<Vec<_>>().join("\n");
            (self.args.wake)(text, now);
            json!({ "ts": now, "status": "ok" })
        };
        self.args.estate.conns.publish(Event::new(Name::Heartbeat, Audience::Everyone, &beat));
        self.last = Some(beat);
    }
}
