//! One connection of a node, from its challenge to its end.

use super::duty::{self, Duty, Report};
use super::retry::Backoff;
use super::wire::{Heard, Wire};
use super::{CONNECT_LIMIT, Host, Keep, Told, hello};
use crabtree_actors::host;
use crabtree_actors::tls::Fingerprint;
use crabtree_protocol::client::HelloView;
use crabtree_protocol::connect::ConnectAuth;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Commands that are carried out at the same time; the gateway is asked to try the next one again.
const MAX_AT_ONCE: usize = 8;
/// How often it is told how the machine is.
const STATS_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at whether the gateway still talks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The shortest and the longest time between two ticks of a gateway that we believe.
const TICKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The node was stopped.
    Stopped,
    /// The gateway did not let it in.
    Refused(Value),
    /// The gateway closed the socket.
    Closed { code: u16, reason: String },
    /// It was lost, or never came to be.
    Lost(String),
}

/// What a connection is made with.
pub(super) struct Attendance<'a> {
    pub keep: &'a Keep,
    pub host: &'a Arc<Host>,
    pub url: &'a str,
    pub pin: Option<Fingerprint>,
    pub tell: &'a dyn Fn(Told),
    pub stop: &'a CancellationToken,
}

impl Attendance<'_> {
    /// Connects and works until the connection ends.
    pub async fn attend(&self, auth: ConnectAuth, backoff: &mut Backoff) -> End {
        let connected = tokio::select! {
            connected = timeout(CONNECT_LIMIT, self.connect(auth)) => connected,
            () = self.stop.cancelled() => return End::Stopped,
        };
        let connected = connected.unwrap_or_else(|_| Err(End::Lost("the gateway does not answer".into())));
        let (wire, hello) = match connected {
            Ok(connected) => connected,
            Err(end) => return end,
        };
        backoff.reset();
        if let Some(Err(why)) = hello.auth.device_token.map(|token| self.keep.keep_token(self.url, &token)) {
            return End::Lost(format!("the token of this node cannot be kept: {why}"));
        }
        let node_id = self.keep.key().device_id().to_string();
        (self.tell)(Told::Connected { node_id: node_id.clone() });
        let tick = Duration::from_millis(hello.policy.tick_interval_ms).clamp(TICKS[0], TICKS[1]);
        let (to_session, reports) = mpsc::channel(MAX_AT_ONCE);
        let session = Session {
            wire,
            node_id,
            host: self.host.clone(),
            tell: self.tell,
            at_work: BTreeMap::new(),
            to_session,
            asked: None,
            approved: false,
            waits: None,
        };
        session.work(reports, tick * 2, self.stop).await.unwrap_or_else(|end| end)
    }

    async fn connect(&self, auth: ConnectAuth) -> Result<(Wire, HelloView), End> {
        let mut wire = Wire::open(self.url, self.pin).await.map_err(End::Lost)?;
        let challenge = loop {
            match wire.next().await {
                Heard::Event { name, payload } if name == "connect.challenge" => break payload,
                Heard::Closed { code, reason } => return Err(End::Closed { code, reason }),
                Heard::Lost(why) => return Err(End::Lost(why)),
                _ => {}
            }
        };
        let params = hello::introduction(self.keep, self.host, auth, &challenge);
        let params = params.and_then(|params| serde_json::to_value(params).ok());
        let params = params.ok_or_else(|| End::Lost("the gateway's challenge makes no sense".into()))?;
        let asked = wire.send("connect", &params).await.map_err(End::Lost)?;
        loop {
            match wire.next().await {
                Heard::Answer { id, result } if id == asked => {
                    let hello = result.map_err(End::Refused)?;
                    return Ok((wire, serde_json::from_value(hello).unwrap_or_default()));
                }
                Heard::Closed { code, reason } => return Err(End::Closed { code, reason }),
                Heard::Lost(why) => return Err(End::Lost(why)),
                _ => {}
            }
        }
    }
}

/// A connection that the gateway has accepted.
struct Session<'a> {
    wire: Wire,
    node_id: String,
    host: Arc<Host>,
    tell: &'a dyn Fn(Told),
    /// What is being carried out, by the id of the call; dropped, it is ended.
    at_work: BTreeMap<String, (String, DropGuard)>,
    to_session: mpsc::Sender<Report>,
    /// The request by which it is learnt whether anybody has approved what is offered.
    asked: Option<String>,
    approved: bool,
    /// What was told last of waiting, so that it is told once.
    waits: Option<Told>,
}

impl Session<'_> {
    /// Until the connection ends. What is under way then is ended with it.
    async fn work(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        silence: Duration,
        stop: &CancellationToken,
    ) -> Result<End, End> {
        self.introduce().await?;
        let (mut every_minute, mut looks) = (interval(STATS_EVERY), interval(LOOK_EVERY));
        every_minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_heard = Instant::now();
        loop {
            tokio::select! {
                heard = self.wire.next() => {
                    last_heard = Instant::now();
                    self.hear(heard).await?;
                }
                Some(report) = reports.recv() => self.report(report).await?,
                _ = every_minute.tick() => self.look_after().await?,
                _ = looks.tick() => if last_heard.elapsed() > silence {
                    return Err(End::Lost("the gateway has fallen silent".into()));
                },
                () = stop.cancelled() => {
                    self.wire.close().await;
                    return Ok(End::Stopped);
                }
            }
        }
    }

    async fn send(&mut self, method: &str, params: &Value) -> Result<String, End> {
        self.wire.send(method, params).await.map_err(End::Lost)
    }

    /// What a node host says first; skills and tools of its own it has none.
    async fn introduce(&mut self) -> Result<(), End> {
        self.send("node.skills.update", &json!({"skills": []})).await?;
        self.send("node.pluginTools.update", &json!({"tools": []})).await?;
        Ok(())
    }

    /// Tells how the machine is; while nobody has approved what is offered, that is asked first.
    async fn look_after(&mut self) -> Result<(), End> {
        if !self.approved {
            return self.ask_approval().await;
        }
        let read = tokio::task::spawn_blocking(host::read).await;
        match read.ok().flatten() {
            Some(stats) => self.event("node.host.stats", &stats).await,
            None => Ok(()),
        }
    }

    /// It runs no sessions of others; that it says so tells it whether it may work.
    async fn ask_approval(&mut self) -> Result<(), End> {
        let params = json!({"protocolFeatures": [], "workerHost": {"enabled": false}});
        self.asked = Some(self.send("node.runnerInventory.update", &params).await?);
        Ok(())
    }

    async fn event(&mut self, name: &str, facts: &Value) -> Result<(), End> {
        let params = json!({"event": name, "payloadJSON": facts.to_string()});
        self.send("node.event", &params).await.map(|_| ())
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Closed { code, reason } => Err(End::Closed { code, reason }),
            Heard::Lost(why) => Err(End::Lost(why)),
            Heard::Answer { id, result } if self.asked.as_ref() == Some(&id) => {
                self.asked = None;
                match result {
                    Ok(_) => self.now_approved().await,
                    Err(error) => {
                        let request_id = error["message"].as_str().and_then(named_request);
                        let waits = Some(Told::SurfaceWaits { request_id });
                        if self.waits != waits {
                            waits.clone().into_iter().for_each(self.tell);
                            self.waits = waits;
                        }
                        Ok(())
                    }
                }
            }
            Heard::Answer { .. } => Ok(()),
            Heard::Event { name, payload } => match name.as_str() {
                "node.pair.resolved" if payload["nodeId"] == *self.node_id => self.ask_approval().await,
                "node.invoke.request" => self.begin(&payload).await,
                "node.invoke.cancel" => {
                    self.cancel(&payload);
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    async fn now_approved(&mut self) -> Result<(), End> {
        if !std::mem::replace(&mut self.approved, true) {
            (self.tell)(Told::Approved);
            return self.look_after().await;
        }
        Ok(())
    }

    async fn begin(&mut self, payload: &Value) -> Result<(), End> {
        let Some(duty) = Duty::read(payload) else { return Ok(()) };
        if self.at_work.len() >= MAX_AT_ONCE {
            return self.report(Report::busy(duty)).await;
        }
        let over = CancellationToken::new();
        let (host, to_session, cut) = (self.host.clone(), self.to_session.clone(), over.clone());
        self.at_work.insert(duty.id.clone(), (duty.command.clone(), over.drop_guard()));
        tokio::spawn(async move {
            tokio::select! {
                report = duty::carry_out(&host, duty) => {
                    // A session that has ended has nobody to tell.
                    let _ = to_session.send(report).await;
                }
                () = cut.cancelled() => {}
            }
        });
        Ok(())
    }

    /// The gateway waits no more: as recorded, nothing is answered.
    fn cancel(&mut self, payload: &Value) {
        let ended = payload["invokeId"].as_str().and_then(|id| self.at_work.remove(id));
        if let Some((command, _ended_when_dropped)) = ended {
            (self.tell)(Told::Cancelled { command });
        }
    }

    async fn report(&mut self, report: Report) -> Result<(), End> {
        let Report { id, command, event, outcome, took } = report;
        // One that was cancelled in the meantime is not told.
        let known = self.at_work.remove(&id).is_some();
        if !known && !matches!(&outcome, Err(trouble) if trouble.code == duty::NOT_READY) {
            return Ok(());
        }
        // As recorded, what happened is told before what came of it.
        if let Some((name, facts)) = event {
            self.event(name, &facts).await?;
        }
        let mut params = json!({"id": id, "nodeId": self.node_id, "ok": outcome.is_ok()});
        let error = match outcome {
            Ok(payload) => {
                params["payloadJSON"] = payload.to_string().into();
                None
            }
            Err(trouble) => {
                params["error"] = json!({"code": trouble.code, "message": trouble.message});
                Some(trouble.message)
            }
        };
        self.send("node.invoke.result", &params).await?;
        (self.tell)(Told::Done { command, error, took });
        Ok(())
    }
}

/// The request that the gateway names in its words: "… run `openclaw nodes approve ID` …".
fn named_request(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("nodes approve ")?;
    let id: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    Some(id).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crabtree_protocol::Refusal;

    #[test]
    fn the_request_is_found_in_the_gateways_words() {
        let id = "01ac5dc3-6f3b-47b4-962e-8365cb2a304b";
        let said = Refusal::node_awaits_approval(Some(id)).message;
        assert_eq!(named_request(&said).as_deref(), Some(id));
        assert_eq!(named_request(&Refusal::node_awaits_approval(None).message), None);
    }
}
