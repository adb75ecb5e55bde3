//! One thing after the other: what clients do, and what is done to actors.

use super::errand::COMMAND;
use super::link::{Link, key_of};
use super::plan::{Act, Blow, Disk, Target};
use super::wire::Topic;
use super::world::World;
use crabtree_actors::tree::{Chaos, Node, NodeState, Order};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub async fn act(&mut self, act: Act) {
        match act {
            Act::Say { client, run } => self.say(client, run, true),
            Act::Differently { client, run } => self.say(client, run, false),
            Act::Abort { client, session, run } => {
                let (key, run) = (self.key(session).to_string(), run.map(|r| self.plan.said[r].id.clone()));
                let mut params = json!({ "sessionKey": key });
                if let Some(run) = &run {
                    params["runId"] = json!(run);
                }
                self.ask(client, Topic::Abort(key, run), "chat.abort", &params);
            }
            Act::StopWord { client, session } => {
                let key = self.key(session).to_string();
                let id = format!("stop-{}", self.seen.len());
                let params = json!({ "sessionKey": key, "message": "/stop", "idempotencyKey": id });
                self.ask(client, Topic::Abort(key, None), "chat.send", &params);
            }
            Act::Wait { client, run, ms } => {
                let run = run.map_or("nobody-said-this", |run| &self.plan.said[run].id);
                let params = json!({ "runId": run, "timeoutMs": ms });
                self.ask(client, Topic::Other, "agent.wait", &params);
            }
            Act::History { client, session } => {
                let params = json!({ "sessionKey": format!("s{session}") });
                self.ask(client, Topic::Other, "chat.history", &params);
            }
            Act::Health { client } => self.ask(client, Topic::Other, "health", &json!({})),
            Act::Invoke { client, command } => {
                let (n, command) = (command, &self.plan.commands[command]);
                let mut params = json!({
                    "nodeId": key_of(command.node).device_id().as_str(), "command": COMMAND,
                    "params": { "n": n, "deed": command.deed }, "idempotencyKey": format!("command-{n}"),
                });
                if let Some(ms) = command.timeout_ms {
                    params["timeoutMs"] = json!(ms);
                }
                self.ask(client, Topic::Invoke(n), "node.invoke", &params);
            }
            Act::HangUp { client } => {
                if let Some(link) = self.link(client) {
                    link.hang_up();
                }
            }
            Act::Connect { client } => {
                if self.link(client).is_none_or(|link| !link.is_open()) {
                    self.connect(client);
                }
            }
            Act::Fault(target, blow) => self.strike(target, blow),
            Act::Disk(disk) => self.disk_is(disk),
            Act::Reboot { in_order } => self.reboot(in_order).await,
        }
    }

    fn ask(&self, client: usize, topic: Topic, method: &str, params: &Value) {
        if let Some(link) = self.link(client).filter(|link| link.is_ready()) {
            link.ask(topic, method, params);
        }
    }

    pub fn say(&self, client: usize, run: usize, same: bool) {
        let said = &self.plan.said[run];
        let text = if same { said.text.clone() } else { format!("{} but differently", said.text) };
        let mut params = json!({ "message": text, "idempotencyKey": said.id });
        if let Some(session) = said.session {
            params["sessionKey"] = json!(self.key(session));
        }
        let method = if said.agent {
            if let Some(model) = said.model {
                params["model"] = json!(model);
            }
            "agent"
        } else {
            if let Some(ms) = said.timeout_ms {
                params["timeoutMs"] = json!(ms);
            }
            if let Some(mode) = said.mode {
                params["queueMode"] = json!(mode);
            }
            "chat.send"
        };
        self.ask(client, Topic::Say { run, agent: said.agent, same }, method, &params);
    }

    fn node(&self, target: Target) -> Option<Arc<Node>> {
        let session = |s: usize| self.root.child("sessions")?.child(self.key(s).as_str());
        match target {
            Target::Static(name) => self.root.child(name),
            Target::Session(s) => session(s),
            Target::RunOf(s) => session(s)?.children().into_iter().next(),
            Target::Link(client) => self.root.child("connections")?.child(&self.link(client)?.id.to_string()),
        }
    }

    fn strike(&mut self, target: Target, blow: Blow) {
        let Some(node) = self.node(target) else { return };
        if let (Target::Link(client), Some(link)) = (target, self.links.last()) {
            *self.link(client).unwrap_or(link).doomed.lock() = true;
        }
        match blow {
            Blow::Panic => node.inject(Chaos::Panic),
            Blow::Kill => node.kill(),
            Blow::Hang | Blow::HangRestart => node.inject(Chaos::Hang),
            Blow::Slow(ms) => {
                self.slowed.insert(target);
                node.inject(Chaos::Slow(Duration::from_millis(ms)))
            }
            Blow::Restart => node.command(Order::Restart),
            Blow::Park => node.command(Order::Park),
            Blow::Resume => {
                if let Target::Session(session) = target {
                    self.check_parked(session, &node);
                }
                node.state().0 == NodeState::Parked && node.command(Order::Restart)
            }
        };
    }

    /// From now on SQLite itself says what such a disk would make it say.
    fn disk_is(&mut self, disk: Disk) {
        self.disk_troubles += usize::from(!matches!(disk, Disk::Well));
        // Fewer pages than there are is what there are.
        let pages: u32 = if matches!(disk, Disk::Full) { 1 } else { u32::MAX - 1 };
        let db = self.estate().db.load_full().expect("the database is open");
        let told = db.write(|conn| {
            conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
            Ok(conn.pragma_update(None, "query_only", matches!(disk, Disk::ReadOnly))?)
        });
        told.unwrap();
    }

    /// Nobody stays slow.
    pub fn hurry(&mut self) {
        self.links.iter().for_each(|link| link.hurry());
        for target in std::mem::take(&mut self.slowed) {
            self.strike(target, Blow::Restart);
        }
    }

    /// Nobody waits for what a parked session was asked to do.
    fn check_parked(&mut self, session: usize, node: &Node) {
        let (state, since) = node.state();
        if state != NodeState::Parked || self.estate().clock.now_ms() - since < 100 {
            return;
        }
        self.parked += 1;
        let slow = |link: &Link| self.plan.clients[link.client].slow.is_some();
        for link in self.links.iter().filter(|link| link.is_open() && !slow(link)) {
            for request in link.wire.lock().requests.values().filter(|r| !r.is_done() && r.is_accepted()) {
                if let Topic::Say { run, .. } = request.topic
                    && self.plan.said[run].session == Some(session)
                {
                    self.problems.push(format!("{} waits for r{run} of a parked session", link.name));
                }
            }
        }
    }
}
