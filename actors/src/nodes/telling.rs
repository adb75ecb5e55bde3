//! What nodes tell: what happens there, how their machines are, what they offer.

use super::links::{Activity, Told};
use super::{Nodes, NodesMsg, TRIGGERS, push};
use crate::broadcast::Topic;
use crate::methods::store_refusal;
use crate::responder::Responder;
use crate::scheduler::SchedulerMsg;
use crate::store::{WriteOp, Written};
use crate::tree::*;
use crabtree_protocol::params::nodes::{EventParams, EventTaken, HostStats, Named, Triggers};
use crabtree_protocol::{Event as Name, Refusal, Scope, SessionKey};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The longest somebody was idle that is believed, seconds.
const MAX_IDLE_S: i64 = 2_592_000;
/// Characters of what a person says at a node; more is not brought to the agent.
const MAX_SPOKEN: usize = 20_000;
/// Characters of what the agent is told of an event.
const MAX_TOLD: usize = 400;
/// The words that wake: how many, and characters of each.
const MAX_TRIGGERS: usize = 32;
const MAX_TRIGGER: usize = 64;
/// Those of whoever has set none.
const DEFAULT_TRIGGERS: [&str; 3] = ["openclaw", "claude", "computer"];

/// How long figures of a machine wait to be stored, and are lost with the process: a node tells them again when it is back,
/// then each minute, or as often as it likes.
const FIGURES_STORED: Duration = Duration::from_secs(10);

/// What an event came to.
enum Came {
    /// It was taken.
    Taken,
    /// Something came of it.
    Handled(&'static str),
    /// Nothing did.
    Not(&'static str),
}

/// Payload of `node.presence`.
pub(super) fn presence(node_id: &str, activity: Option<Activity>) -> Value {
    json!({
        "nodeId": node_id,
        "lastActiveAtMs": activity.map(|activity| activity.at),
        "presenceUpdatedAtMs": activity.map(|activity| activity.told_at),
    })
}

/// The words that wake as they are kept: trimmed, none empty, not too many; the usual ones if none are left.
pub(super) fn triggers(words: Vec<String>) -> Vec<String> {
    let cut = |word: &String| -> String { word.trim().chars().take(MAX_TRIGGER).collect() };
    let kept: Vec<String> =
        words.iter().map(cut).filter(|word| !word.is_empty()).take(MAX_TRIGGERS).collect();
    if kept.is_empty() { DEFAULT_TRIGGERS.map(str::to_owned).to_vec() } else { kept }
}

fn facts(params: &EventParams) -> Option<Map<String, Value>> {
    let value = match (&params.payload_json, &params.payload) {
        (Some(text), _) => serde_json::from_str(text).ok()?,
        (None, Some(value)) => value.clone(),
        (None, None) => return None,
    };
    match value {
        Value::Object(facts) => Some(facts),
        _ => None,
    }
}

fn text<'a>(facts: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    facts.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// In one line, and not too long.
fn brief(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_TOLD).collect()
}

impl Nodes {
    pub(super) fn event(&mut self, ctx: &mut Ctx<NodesMsg>, params: EventParams, responder: Responder) {
        let approved = self.sender(responder.conn()).filter(|(kept, _)| kept.node.approved.is_some());
        let Some((_, link)) = approved else { return responder.refuse(Refusal::node_pairing_changed()) };
        let (node_id, facts) = (link.node_id.clone(), facts(&params));
        let facts = facts.as_ref();
        let came = match params.event.as_str() {
            "node.host.stats" => self.host_stats(ctx, &node_id, facts),
            "node.presence.alive" => self.alive(ctx, &node_id, facts),
            "node.presence.activity" => self.activity(ctx, responder.conn(), facts),
            "voice.transcript" => self.spoken(facts),
            "chat.subscribe" => self.subscribe(responder.conn(), facts, Topic::Messages),
            "chat.unsubscribe" => self.subscribe(responder.conn(), facts, Topic::NotMessages),
            "notifications.changed" => self.notification(&node_id, facts),
            "exec.started" => self.run_told(&node_id, facts, None),
            "exec.finished" => self.run_told(&node_id, facts, Some("Exec finished")),
            "exec.denied" => self.run_told(&node_id, facts, Some("Exec denied")),
            _ => Came::Not("unsupported_event"),
        };
        let told = |handled, reason: &str| EventTaken {
            ok: true,
            event: Some(params.event.to_string()),
            handled: Some(handled),
            reason: Some(reason.to_owned()),
        };
        responder.ok(&match came {
            Came::Taken => EventTaken { ok: true, event: None, handled: None, reason: None },
            Came::Handled(reason) => told(true, reason),
            Came::Not(reason) => told(false, reason),
        });
    }

    fn host_stats(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        node_id: &str,
        facts: Option<&Map<String, Value>>,
    ) -> Came {
        let stats: Option<HostStats> =
            facts.and_then(|facts| serde_json::from_value(Value::Object(facts.clone())).ok());
        let Some(mut stats) = stats.filter(HostStats::is_sound) else { return Came::Not("invalid_payload") };
        stats.updated_at_ms = ctx.now_ms();
        let news = json!({ "nodeId": node_id, "hostStats": stats });
        if let Some(kept) = self.nodes.get_mut(node_id) {
            kept.node.host_stats = Some(stats);
            let later = || ctx.after(FIGURES_STORED, NodesMsg::Save(node_id.to_owned()));
            kept.figures.get_or_insert_with(later);
        }
        self.publish(Name::NodeHostStats, Scope::Read, &news);
        Came::Handled("updated")
    }

    fn alive(&mut self, ctx: &mut Ctx<NodesMsg>, node_id: &str, facts: Option<&Map<String, Value>>) -> Came {
        const KNOWN: [&str; 6] =
            ["background", "silent_push", "bg_app_refresh", "significant_location", "manual", "connect"];
        let Some(facts) = facts else { return Came::Not("invalid_payload") };
        let trigger = text(facts, "trigger").filter(|trigger| KNOWN.contains(trigger)).unwrap_or(KNOWN[0]);
        if let Some(kept) = self.nodes.get_mut(node_id) {
            kept.node.seen = Some((ctx.now_ms(), trigger.to_owned()));
        }
        self.save(ctx, node_id, None);
        Came::Handled("persisted")
    }

    /// Only a Mac tells where its person is: of its own window, or of everything if the person there allows it.
    fn activity(
        &mut self,
        ctx: &Ctx<NodesMsg>,
        conn: &crate::conns::Conn,
        facts: Option<&Map<String, Value>>,
    ) -> Came {
        let (config, now) = (self.estate.config.load_full(), ctx.now_ms());
        let Some((kept, link)) = self.sender(conn) else { return Came::Not("stale_connection") };
        let Some(facts) = facts else { return Came::Not("invalid_payload") };
        let surface = kept.node.effective(&link, &config.settings.gateway.nodes.commands);
        let accessible = surface.permissions.is_some_and(|map| map.get("accessibility") == Some(&true));
        if text(facts, "action") == Some("clear") {
            let cleared = link.tell(|told| told.activity.take().is_some());
            if cleared {
                self.publish(Name::NodePresence, Scope::Read, &presence(&link.node_id, None));
            }
            return Came::Handled(if cleared { "cleared" } else { "already_clear" });
        }
        let idle = facts.get("idleSeconds").and_then(Value::as_i64);
        let Some(idle) = idle.filter(|idle| (0..=MAX_IDLE_S).contains(idle)) else {
            return Came::Not("invalid_payload");
        };
        if !kept.node.is_mac() || !(accessible || text(facts, "source") == Some("app")) {
            return Came::Not("permission_required");
        }
        let at = now - idle * 1_000;
        let activity = link.tell(|told: &mut Told| {
            let at = told.activity.map_or(at, |before| before.at.max(at));
            *told.activity.insert(Activity { at, told_at: now })
        });
        self.publish(Name::NodePresence, Scope::Read, &presence(&link.node_id, Some(activity)));
        Came::Handled("updated")
    }

    fn spoken(&self, facts: Option<&Map<String, Value>>) -> Came {
        if let Some(said) = facts.and_then(|facts| text(facts, "text"))
            && said.chars().count() <= MAX_SPOKEN
        {
            (self.args.speak)(facts.and_then(|facts| text(facts, "sessionKey")), said.to_owned());
        }
        Came::Taken
    }

    /// The node hears the turns of a session, or not any more.
    fn subscribe(
        &self,
        conn: &Arc<crate::conns::Conn>,
        facts: Option<&Map<String, Value>>,
        topic: fn(SessionKey) -> Topic,
    ) -> Came {
        let agent = self.estate.catalog.load().default_agent().id.clone();
        let key =
            facts.and_then(|facts| text(facts, "sessionKey")).map(|key| SessionKey::canonical(key, &agent));
        if let Some(Ok(key)) = key {
            let done = Reply::new(|_| {});
            let _ = self.args.broadcast.send(crate::broadcast::BroadcastMsg::Subscribe(
                conn.clone(),
                topic(key),
                done,
            ));
        }
        Came::Taken
    }

    fn notification(&self, node_id: &str, facts: Option<&Map<String, Value>>) -> Came {
        let Some(facts) = facts else { return Came::Taken };
        let (change, key) = (text(facts, "change"), text(facts, "key"));
        if let (Some(change @ ("posted" | "removed")), Some(key)) = (change, key) {
            let from = text(facts, "packageName").map(|name| format!(" package={name}")).unwrap_or_default();
            let parts: Vec<_> = ["title", "text"].iter().filter_map(|name| text(facts, name)).collect();
            let said = if change == "posted" && !parts.is_empty() {
                format!(": {}", parts.join(" - "))
            } else {
                String::new()
            };
            self.later(format!("Notification {change} (node={node_id} key={key}{from}){said}"));
        }
        Came::Taken
    }

    /// Only of a run that this gateway asked for; its end is told once.
    fn run_told(&mut self, node_id: &str, facts: Option<&Map<String, Value>>, over: Option<&str>) -> Came {
        let Some(facts) = facts else { return Came::Taken };
        let run_id = text(facts, "runId").unwrap_or_default();
        let Some(at) = self.runs.iter().position(|(node, run)| node == node_id && run == run_id) else {
            return Came::Not("unmatched_exec_event");
        };
        if let Some(what) = over {
            self.runs.remove(at);
            if facts.get("suppressNotifyOnExit") != Some(&Value::Bool(true)) {
                let fact = |name: &str| facts.get(name).filter(|value| !value.is_null());
                let code = fact("exitCode").map(|code| format!(" code={code}")).unwrap_or_default();
                let why = text(facts, "reason").or(text(facts, "output")).unwrap_or_default();
                let command = text(facts, "command").unwrap_or_default();
                self.later(format!("{what} (node={node_id} id={run_id}{code}) {command}: {why}"));
            }
        }
        Came::Taken
    }

    /// The agent hears of it with its next heartbeat.
    fn later(&self, text: String) {
        let _ = self.args.scheduler.send(SchedulerMsg::Later(None, brief(&text), None));
    }

    pub(super) fn inventory(&mut self, responder: Responder) {
        let Some((kept, link)) = self.sender(responder.conn()) else {
            return responder.refuse(Refusal::unknown_node());
        };
        let (approved, node_id) = (kept.node.approved.is_some(), link.node_id.clone());
        let request = kept.node.request.as_ref().map(|request| request.request_id.clone());
        let fresh = link.tell(|told| !std::mem::replace(&mut told.inventory, true));
        if approved || fresh {
            self.publish(Name::NodeRunnerInventoryChanged, Scope::Read, &json!({ "nodeId": node_id }));
        }
        if approved {
            responder.ok(&Named { node_id });
        } else {
            responder.refuse(Refusal::node_awaits_approval(request.as_deref()));
        }
    }

    pub(super) fn set_triggers(&mut self, ctx: &mut Ctx<NodesMsg>, words: Vec<String>, responder: Responder) {
        let kept = triggers(words);
        let op = WriteOp::PutMeta { key: TRIGGERS.into(), value: json!(kept).to_string() };
        let store = self.args.store.clone();
        ctx.task(async move { store.write(op).await }, move |written| {
            NodesMsg::TriggersSet(kept, Box::new(written), responder)
        });
    }

    pub(super) fn triggers_set(&mut self, triggers: Vec<String>, written: Written, responder: Responder) {
        if let Err(e) = written {
            return responder.refuse(store_refusal(&e));
        }
        self.triggers.clone_from(&triggers);
        let news = Triggers { triggers };
        self.publish(Name::VoicewakeChanged, Scope::Read, &news);
        for link in self.estate.nodes.all() {
            push(&link.conn, Name::VoicewakeChanged, &news);
        }
        responder.ok(&news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_wake_are_trimmed_cut_and_never_none() {
        let of = |words: &[&str]| triggers(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(of(&[" hey claw ", "", "  "]), ["hey claw"]);
        assert_eq!(of(&[" "]), DEFAULT_TRIGGERS);
        assert_eq!(of(&[&"ü".repeat(100)]), ["ü".repeat(64)]);
        assert_eq!(of(&["x"; 100]).len(), MAX_TRIGGERS);
    }

    #[test]
    fn what_happened_is_read_from_either_form() {
        let params = |value: Value| serde_json::from_value::<EventParams>(value).unwrap();
        let both = [
            json!({ "event": "x", "payload": { "a": 1 } }),
            json!({ "event": "x", "payloadJSON": "{\"a\":1}" }),
        ];
        for value in both {
            assert_eq!(facts(&params(value)).unwrap()["a"], 1);
        }
        for value in [
            json!({ "event": "x" }),
            json!({ "event": "x", "payloadJSON": "[" }),
            json!({ "event": "x", "payload": 1 }),
        ] {
            assert_eq!(facts(&params(value)), None);
        }
        assert_eq!(brief(" a\n b ").as_str(), "a b");
        assert_eq!(brief(&"x".repeat(1_000)).len(), MAX_TOLD);
    }
}
