//! A node: what it makes of the commands it is given, and what must hold of each in the end: it is answered once, and
//! was not carried out twice.

use super::wire::{Request, Topic};
use super::world::World;
use crabtree_actors::nodes::NodesMsg;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The command that nodes here offer.
pub const COMMAND: &str = "system.which";
/// What a node says that has not begun, and of one that tried in vain.
const NOT_READY: &str = "NODE_NOT_READY";
const BROKEN: &str = "BROKEN";
/// Times that a node is asked.
const MAX_TRIES: u32 = 5;

/// What a node makes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Carries it out, and tells so after this many milliseconds.
    Done(u64),
    /// Says so many times that it is not ready, and then carries it out.
    Late(u32),
    /// Tries in vain.
    Failed,
    /// Begins, and never says anything.
    Silent,
    /// Begins, and is gone.
    Gone,
}

/// What follows for a node from a command.
pub enum Next {
    /// It has begun, and tells something later.
    Begun,
    /// It has not begun, and says so.
    Waits,
    /// It has begun, and hangs up.
    HangsUp,
}

/// The errands of one connection of a node.
#[derive(Default)]
pub struct Errands {
    asked: BTreeMap<u64, u32>,
    /// Results that are to be sent: when, and with which id.
    due: Vec<(Instant, String, Value)>,
}

impl Errands {
    /// A command has come: which one, and what follows.
    pub fn take(&mut self, request: &Value) -> (u64, Next) {
        let params: Value = serde_json::from_str(request["paramsJSON"].as_str().unwrap()).unwrap();
        let (n, id) = (params["n"].as_u64().unwrap(), request["id"].as_str().unwrap().to_owned());
        let deed: Deed = serde_json::from_value(params["deed"].clone()).unwrap();
        let asked = self.asked.entry(n).or_default();
        *asked += 1;
        let failed = |code: &str| json!({ "ok": false, "error": { "code": code, "message": "no" } });
        let (ms, result, next) = match deed {
            Deed::Late(times) if *asked <= times => (0, failed(NOT_READY), Next::Waits),
            Deed::Late(_) => (0, json!({ "ok": true, "payload": { "n": n } }), Next::Begun),
            Deed::Done(ms) => (ms, json!({ "ok": true, "payload": { "n": n } }), Next::Begun),
            Deed::Failed => (50, failed(BROKEN), Next::Begun),
            Deed::Silent => return (n, Next::Begun),
            Deed::Gone => return (n, Next::HangsUp),
        };
        self.due.push((Instant::now() + Duration::from_millis(ms), id, result));
        (n, next)
    }

    /// A command need not be carried on with.
    pub fn cancel(&mut self, id: &str) {
        self.due.retain(|(_, due, _)| due != id);
    }

    /// When the next result is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(at, ..)| *at).min()
    }

    /// Parameters of the results that are due.
    pub fn results(&mut self, node_id: &str) -> Vec<Value> {
        let now = Instant::now();
        let (due, rest) = std::mem::take(&mut self.due).into_iter().partition(|(at, ..)| *at <= now);
        self.due = rest;
        let params = |(_, id, mut result): (Instant, String, Value)| {
            (result["id"], result["nodeId"]) = (json!(id), json!(node_id));
            result
        };
        due.into_iter().map(params).collect()
    }
}

impl World {
    /// A person lets every node do what it offers.
    pub async fn approve_nodes(&mut self) {
        let pairings = self.wiring.nodes.ask(NodesMsg::Pairings).await;
        let nodes = self.plan.clients.iter().filter(|client| client.node).count();
        if pairings.pending.len() != nodes {
            self.problems.push(format!("{} of {nodes} nodes ask to be approved", pairings.pending.len()));
        }
        for request in pairings.pending {
            let params = json!({ "requestId": request.request_id });
            self.links[0].ask(Topic::Other, "node.pair.approve", &params);
        }
        sleep(Duration::from_millis(50)).await;
    }

    /// Commands that are still waited for.
    pub fn open_commands(&self) -> u64 {
        let info = self.root.child("nodes").and_then(|node| node.info());
        info.as_deref().and_then(|info| info["calls"].as_u64()).unwrap_or_default()
    }

    /// How often each command was begun, over all connections of its node.
    pub fn begun(&self) -> BTreeMap<u64, u32> {
        let mut begun = BTreeMap::new();
        for link in &self.links {
            link.wire.lock().begun.iter().for_each(|(n, times)| *begun.entry(*n).or_default() += times);
        }
        begun
    }

    pub fn check_errands(&mut self) {
        let begun = self.begun();
        let mut found: Vec<String> = begun
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(n, times)| format!("command {n} was begun {times} times"))
            .collect();
        for link in &self.links {
            for request in link.wire.lock().requests.values() {
                let Topic::Invoke(n) = request.topic else { continue };
                let times = begun.get(&(n as u64)).copied().unwrap_or_default();
                if let Some(what) = misfit(request, n, self.plan.commands[n].deed, times) {
                    found.push(format!("{}: command {n}, begun {times} times: {what}", link.name));
                }
            }
        }
        self.problems.extend(found);
    }
}

/// What does not fit together of an answer and what was done.
fn misfit(request: &Request, n: usize, deed: Deed, times: u32) -> Option<String> {
    let answer = request.answers.first()?;
    let details = &answer["error"]["details"];
    let code = [&details["nodeError"]["code"], &details["code"], &details["reason"]];
    let code = code.into_iter().find_map(Value::as_str);
    let fits = match code {
        _ if answer["ok"] == true => times == 1 && answer["payload"]["payload"]["n"] == n,
        Some(BROKEN) => times == 1 && deed == Deed::Failed,
        Some(NOT_READY) => times == 0 && matches!(deed, Deed::Late(_)),
        Some("NOT_CONNECTED" | "PAIRING_CHANGED") => times == 0,
        Some("TIMEOUT" | "DISCONNECTED") => {
            times <= 1 && (details["nodeCommandDispatched"] == true || times == 0)
        }
        // Whoever knew of it is gone: it may have been done or not.
        Some("restarting") => answer["error"]["retryable"] == true,
        _ => false,
    };
    let tried = !matches!(deed, Deed::Late(times) if times >= MAX_TRIES) || answer["ok"] != true;
    (!(fits && tried)).then(|| answer.to_string())
}
