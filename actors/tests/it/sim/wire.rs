//! One connection as its client sees it: what was asked and answered, and what the events say.

use serde_json::Value;
use std::collections::BTreeMap;

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    Other,
    /// `chat.send` or `agent`: number of what is said, and whether with its own text.
    Say {
        run: usize,
        agent: bool,
        same: bool,
    },
    /// The session's key, and the run's id.
    Abort(String, Option<String>),
    /// `node.invoke`: number of the command.
    Invoke(usize),
}

/// What nodes are told alone, without a number.
const TO_NODES: [&str; 5] = [
    "node.invoke.request",
    "node.invoke.cancel",
    "node.pair.resolved",
    "voicewake.changed",
    "voicewake.routing.changed",
];

#[derive(Debug)]
pub struct Request {
    pub topic: Topic,
    /// Its place among the requests of its connection.
    pub number: usize,
    /// What had been seen by everybody when it was sent, and when it was (first) answered.
    pub sent: usize,
    pub acked: usize,
    /// Frames of its connection when it was (first) answered.
    pub answered: u64,
    pub answers: Vec<Value>,
}

impl Request {
    /// Its first answer says that the input is durable by this very request.
    pub fn is_accepted(&self) -> bool {
        self.status().is_some_and(|s| s == "started" || s == "accepted")
    }

    /// `payload.status` of the first answer.
    pub fn status(&self) -> Option<&str> {
        self.answers.first()?["payload"]["status"].as_str()
    }

    /// Whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        match &self.topic {
            Topic::Say { agent: true, .. } if self.status() == Some("accepted") => self.answers.len() > 1,
            _ => !self.answers.is_empty(),
        }
    }

    pub fn is_unavailable(&self) -> bool {
        self.is_refused_for("restarting")
    }

    pub fn is_refused_for(&self, reason: &str) -> bool {
        self.answers.first().is_some_and(|a| a["error"]["details"]["reason"] == reason)
    }
}

/// The terminal `chat` event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub state: String,
    pub text: Option<String>,
}

#[derive(Default)]
pub struct Wire {
    pub frames: u64,
    pub ready: bool,
    pub requests: BTreeMap<String, Request>,
    pub ends: BTreeMap<String, Vec<End>>,
    /// How often each submission was told to be delivered, to a running turn or to the queue.
    pub delivered: BTreeMap<String, u32>,
    /// Frame numbers of the starts of each run.
    pub starts: BTreeMap<String, Vec<u64>>,
    pub closed: Option<(u16, String)>,
    /// `seq` numbers that never came.
    pub gaps: u64,
    pub problems: Vec<String>,
    /// How often each transcript row was told, by its id.
    pub messages: BTreeMap<String, u32>,
    /// How often this node has begun each command.
    pub begun: BTreeMap<u64, u32>,
    node: bool,
    /// Whether pieces of text are put together, too.
    thorough: bool,
    texts: BTreeMap<String, String>,
    seq: u64,
    versions: (u64, u64),
    active: BTreeMap<String, String>,
}

impl Wire {
    pub fn new(thorough: bool, node: bool) -> Self {
        Self { thorough, node, ..Self::default() }
    }

    pub fn asked(&mut self, id: String, topic: Topic, sent: usize) {
        let number = self.requests.len();
        let request = Request { topic, number, sent, acked: 0, answered: 0, answers: Vec::new() };
        self.requests.insert(id, request);
    }

    /// Reads a frame, the `seen`th of all; returns the parsed one if it is an answer, the challenge or for this node alone.
    pub fn read(&mut self, text: &str, seen: usize) -> Option<Value> {
        self.frames += 1;
        let Some(rest) = text.strip_prefix("{\"type\":\"event\",\"event\":\"") else {
            let frame: Value = serde_json::from_str(text).unwrap();
            self.answer(&frame, seen);
            return Some(frame);
        };
        let name = rest.split('"').next().unwrap_or_default();
        if name == "connect.challenge" || (self.node && TO_NODES.contains(&name)) {
            return serde_json::from_str(text).ok();
        }
        self.count(text, name);
        match name {
            "chat" if !text.contains("\"state\":\"delta\"") && !text.contains("\"state\":\"status\"") => {
                self.chat(&serde_json::from_str(text).unwrap());
            }
            "chat" if self.thorough && text.contains("\"state\":\"delta\"") => {
                self.delta(&serde_json::from_str(text).unwrap());
            }
            "session.message" => {
                let event: Value = serde_json::from_str(text).unwrap();
                let id = event["payload"]["messageId"].as_str().unwrap_or_default().to_owned();
                *self.messages.entry(id).or_default() += 1;
            }
            "agent" if text.contains("\"stream\":\"lifecycle\"") => {
                self.lifecycle(&serde_json::from_str(text).unwrap());
            }
            "system.actors.changed" => self.actor_changed(&serde_json::from_str(text).unwrap()),
            _ => {}
        }
        None
    }

    fn problem(&mut self, what: String) {
        self.problems.push(what);
    }

    fn answer(&mut self, frame: &Value, seen: usize) {
        let id = frame["id"].as_str().unwrap_or_default();
        let frames = self.frames;
        if id == "connect" {
            if frame["ok"] == true {
                let versions = &frame["payload"]["snapshot"]["stateVersion"];
                self.version((versions["presence"].as_u64(), versions["health"].as_u64()), "hello");
            }
            return;
        }
        match self.requests.get_mut(id) {
            Some(request) if request.is_done() => {
                let all = format!("{:?} and {frame}", request.answers);
                self.problem(format!("{id} was answered once too often: {all}"));
            }
            Some(request) => {
                if request.answers.is_empty() {
                    (request.answered, request.acked) = (frames, seen);
                }
                request.answers.push(frame.clone());
            }
            None => self.problem(format!("an answer nobody asked for: {frame}")),
        }
    }

    fn count(&mut self, text: &str, name: &str) {
        let Some(seq) = number_after(text, ",\"seq\":") else {
            return self.problem(format!("{name} has no seq"));
        };
        if seq <= self.seq {
            self.problem(format!("seq {seq} of {name} after {}", self.seq));
        }
        self.gaps += seq.saturating_sub(self.seq + 1);
        self.seq = seq;
        if matches!(name, "presence" | "health") {
            let tail = &text[text.rfind("\"stateVersion\"").unwrap_or(0)..];
            self.version((number_after(tail, "\"presence\":"), number_after(tail, "\"health\":")), name);
        }
    }

    fn version(&mut self, (presence, health): (Option<u64>, Option<u64>), name: &str) {
        let (Some(presence), Some(health)) = (presence, health) else {
            return self.problem(format!("{name} carries no versions"));
        };
        if presence < self.versions.0 || health < self.versions.1 {
            let last = self.versions;
            self.problem(format!("versions went back in {name}: {last:?} to {:?}", (presence, health)));
        }
        self.versions = (presence.max(self.versions.0), health.max(self.versions.1));
    }

    fn chat(&mut self, event: &Value) {
        let payload = &event["payload"];
        let run = payload["runId"].as_str().unwrap_or_default().to_owned();
        let text = payload["message"]["content"][0]["text"].as_str().map(str::to_owned);
        let state = payload["state"].as_str().unwrap_or_default().to_owned();
        if state == "final" && payload["seq"] == 1 && payload.get("message").is_none() {
            *self.delivered.entry(run).or_default() += 1;
            return;
        }
        let ends = self.ends.entry(run.clone()).or_default();
        ends.push(End { state, text });
        if ends.len() > 1 {
            let ends = format!("{ends:?}");
            self.problem(format!("{run} has ended more than once: {ends}"));
        }
    }

    /// The pieces make up the text that is told with the last of them.
    fn delta(&mut self, event: &Value) {
        let payload = &event["payload"];
        let run = payload["runId"].as_str().unwrap_or_default().to_owned();
        if self.gaps > 0 {
            return;
        }
        let text = self.texts.entry(run.clone()).or_default();
        if payload["replace"] == true {
            text.clear();
        }
        text.push_str(payload["deltaText"].as_str().unwrap_or_default());
        let told = payload["message"]["content"][0]["text"].as_str().unwrap_or_default();
        if text != told {
            let problem = format!("{run}: the pieces make {text:?}, told was {told:?}");
            self.problem(problem);
        }
    }

    fn lifecycle(&mut self, event: &Value) {
        let (payload, data) = (&event["payload"], &event["payload"]["data"]);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (run, session) = (text(&payload["runId"]), text(&payload["sessionKey"]));
        match data["phase"].as_str() {
            Some("start") => {
                self.starts.entry(run.clone()).or_default().push(self.frames);
                if self.ends.contains_key(&run) {
                    self.problem(format!("{run} started after its end"));
                }
                let other = self.active.insert(session.clone(), run.clone()).filter(|other| *other != run);
                if let Some(other) = other {
                    self.problem(format!("{run} started in {session} while {other} was active"));
                }
            }
            Some("end" | "error") if self.active.get(&session) == Some(&run) => {
                self.active.remove(&session);
            }
            _ => {}
        }
    }

    /// Nobody ends in a way that was not injected.
    fn actor_changed(&mut self, event: &Value) {
        let (payload, exit) = (&event["payload"], &event["payload"]["lastExit"]);
        let injected = exit["reason"] == "injected panic";
        if exit["kind"] == "error" || (exit["kind"] == "panic" && !injected) {
            self.problem(format!("{} ended by itself: {exit}", payload["path"]));
        }
    }
}

/// The number that follows the last `mark`.
fn number_after(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.rfind(mark)? + mark.len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
