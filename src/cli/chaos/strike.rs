//! One fault: it is injected, and the actor is watched until it is as it was.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::actors::{Actor, Tree};
use super::line::Line;
use super::plan::Fault;
use super::report::Blow;
use crate::cli::Failure;

/// An actor that ended runs again within this time, and one that hangs was replaced.
pub(super) const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// How much longer each message of a slow actor takes, and for how long.
const SLOW: (u64, Duration) = (50, Duration::from_millis(500));
/// For how long an actor computes, in milliseconds: less than what health takes for stuck.
const SPIN_MS: u64 = 300;

/// An actor, and a request that only it answers, given a session of the plan's own.
type Probe = (&'static str, &'static str, fn(&str) -> Value);

const PROBES: &[Probe] = &[
    ("gateway/store", "sessions.patch", |key| json!({ "key": key, "label": key })),
    ("gateway/broadcast", "sessions.subscribe", |_| json!({})),
    ("gateway/devices", "device.pair.list", |_| json!({})),
    ("gateway/nodes", "node.list", |_| json!({})),
    ("gateway/sessions", "chat.abort", |key| json!({ "sessionKey": key, "runId": "none" })),
    ("gateway/cron", "cron.list", |_| json!({ "limit": 1 })),
    ("gateway/scheduler", "last-heartbeat", |_| json!({})),
];

/// Why there is no more to be done.
pub(super) enum Halt {
    /// It is as it must not be: whom it is about, what was expected, what was seen.
    Violated(String, &'static str, String),
    /// The gateway does not answer any more.
    Lost(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Lost(failure)
    }
}

/// Who strikes: over a socket that is checked like the others.
pub(super) struct Striker {
    pub line: Line,
    pub begun: Instant,
    /// A session that probes may write to.
    pub probe: String,
    /// Who is slow, until told otherwise.
    slowed: Option<String>,
}

impl Striker {
    pub fn new(line: Line) -> Self {
        Self { line, begun: Instant::now(), probe: String::new(), slowed: None }
    }

    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.line.ask(method, params, |_| {}).await
    }

    /// The whole tree; sessions and connections as many as there may be.
    pub async fn tree(&mut self) -> Result<Tree, Failure> {
        Ok(Tree::of(&self.ask("system.actors", json!({ "limit": 1_000 })).await?))
    }

    /// The actor at a path, if there is one.
    pub async fn actor(&mut self, path: &str) -> Result<Option<Actor>, Failure> {
        match self.ask("system.actors", json!({ "path": path, "depth": 0 })).await {
            Ok(found) => Ok(Some(Actor::of(&found["root"]))),
            Err(failure) if failure.is_unreachable() || self.line.tally.lost => Err(failure),
            Err(_) => Ok(None),
        }
    }

    /// Strikes the actor at a path. None if nobody is there any more.
    pub async fn strike(&mut self, path: &str, fault: Fault) -> Result<Option<Blow>, Halt> {
        let Some(before) = self.actor(path).await? else { return Ok(None) };
        let (at, struck) = (self.begun.elapsed(), Instant::now());
        let ms = match fault {
            Fault::Slow => Some(SLOW.0),
            Fault::Spin => Some(SPIN_MS),
            _ => None,
        };
        if fault == Fault::Slow {
            self.slowed = Some(path.to_owned());
        }
        if let Err(failure) = self.inject(path, fault, ms).await {
            // What runs may have come to its end in between.
            return if self.actor(path).await?.is_none() { Ok(None) } else { Err(failure.into()) };
        }
        let path = path.to_owned();
        let mut blow = Blow { path, fault, at, restarts: 0, down: None, served: None, hung: None };
        if fault.is_fatal() {
            self.recovers(&before, struck, &mut blow).await?;
        } else {
            self.goes_on(&before, &blow).await?;
        }
        Ok(Some(blow))
    }

    async fn inject(&mut self, path: &str, fault: Fault, ms: Option<u64>) -> Result<Value, Failure> {
        let mut params = json!({ "path": path, "fault": fault.name() });
        if let Some(ms) = ms {
            params["ms"] = json!(ms);
        }
        self.ask("system.chaos", params).await
    }

    /// It ends, and is brought back; of those that are not it is enough that they end.
    async fn recovers(&mut self, before: &Actor, struck: Instant, blow: &mut Blow) -> Result<(), Halt> {
        let after = loop {
            match self.actor(&blow.path).await? {
                None if before.left.is_none() => return Ok(()),
                Some(actor) if before.left.is_none() && !actor.runs() => return Ok(()),
                Some(actor) if actor.restarts > before.restarts && actor.runs() => break actor,
                seen if seen.as_ref().is_some_and(Actor::is_parked) || struck.elapsed() > RECOVERY_LIMIT => {
                    let state = seen.map_or_else(|| "gone".into(), |actor| actor.state);
                    let seen = format!("it is {state} {} ms after the fault", struck.elapsed().as_millis());
                    return Err(Halt::Violated(blow.path.clone(), "an actor that ends is restarted", seen));
                }
                _ => sleep(LOOK).await,
            }
        };
        blow.restarts = after.restarts - before.restarts;
        if let Some(exit) = &after.exit {
            let down = after.since_ms.saturating_sub(exit.at_ms);
            blow.down = Some((Duration::from_millis(down), Duration::from_millis(exit.backoff_ms)));
        }
        if blow.fault == Fault::Hang {
            blow.hung = Some(struck.elapsed());
        } else if self.is_answered(&blow.path).await? {
            blow.served = Some(struck.elapsed());
        }
        Ok(())
    }

    /// Asks the actor something; false if there is nothing that only it answers.
    async fn is_answered(&mut self, path: &str) -> Result<bool, Failure> {
        let own = path == format!("gateway/sessions/{}", self.probe);
        let asked = if own { "gateway/sessions" } else { path };
        let Some((_, method, params)) = PROBES.iter().find(|(of, ..)| *of == asked) else { return Ok(false) };
        let params = params(&self.probe);
        self.ask(method, params).await.map(|_| true)
    }

    /// It is slow or busy for a while, and nothing else comes of it.
    async fn goes_on(&mut self, before: &Actor, blow: &Blow) -> Result<(), Halt> {
        if blow.fault == Fault::Slow {
            sleep(SLOW.1).await;
            self.release().await?;
        }
        let deadline = Instant::now() + RECOVERY_LIMIT;
        loop {
            let Some(actor) = self.actor(&blow.path).await? else { return Ok(()) };
            if actor.restarts != before.restarts {
                let why = actor.exit.map(|exit| exit.reason).unwrap_or_default();
                let seen = format!("it was restarted: {why}");
                return Err(Halt::Violated(
                    blow.path.clone(),
                    "who is slow for a moment is left alone",
                    seen,
                ));
            }
            if actor.waiting == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seen = format!("{} messages wait for it", actor.waiting);
                return Err(Halt::Violated(blow.path.clone(), "who was slow catches up", seen));
            }
            sleep(LOOK * 10).await;
        }
    }

    /// Nobody is slow any more.
    pub async fn release(&mut self) -> Result<(), Failure> {
        if let Some(path) = self.slowed.take() {
            match self.inject(&path, Fault::Slow, Some(0)).await {
                Err(failure) if self.line.tally.lost => return Err(failure),
                // Who has ended meanwhile is not slow any more.
                _ => {}
            }
        }
        Ok(())
    }
}
