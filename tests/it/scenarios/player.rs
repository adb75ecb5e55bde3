//! Does what the recorded clients did, each request when what came before it in the recording has come.

use super::frames::{Frames, Line};
use super::host::Host;
use super::recording::{BEFORE, Hears, Recording, Step};
use crate::client::{Client, Intro};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// How long something recorded may be in coming.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long nothing may come for a scenario to be over, once everything recorded has come.
const QUIET: Duration = Duration::from_millis(250);
/// Answers that take 30 s and 8 s in the recording, and how they are shortened; those that
/// are cut off or looked at before their first word, which takes longer here.
const PACE: [(&str, &str); 5] = [
    ("MOCK{n=300;d=100}", "MOCK{n=100;d=30}"),
    ("MOCK{n=80;d=100}", "MOCK{n=60;d=30}"),
    ("second MOCK{n=5;d=10}", "second MOCK{n=5;d=200}"),
    ("third MOCK{n=5;d=10}", "third MOCK{n=5;d=200}"),
    ("/context", "/context MOCK{n=1;d=200}"),
];

/// Requests that wait for more than what came before them in the recording, since how far a turn is that they stop
/// or look at would be chance: scenario and number, and what of which run, how often.
const MORE: [(&str, u64, &str, &str, usize); 8] = [
    ("cut", 4, "agent run_status retrying", "A", 3),
    ("err500", 2, "agent run_status retrying", "A", 3),
    ("err500_agent", 4, "agent run_status retrying", "A", 2),
    ("queue_interrupt", 4, "agent lifecycle model", "B", 1),
    ("queue_interrupt", 5, "agent lifecycle model", "C", 1),
    ("slash", 18, "agent lifecycle model", "P", 1),
    ("sess_reset_delete", 12, "chat delta", "A", 1),
    ("sess_reset_delete", 14, "chat delta", "B", 1),
];

/// What a scenario gave: every line, and why it went no further, if it did not.
pub struct Played {
    pub told: Vec<Line>,
    pub stuck: Option<String>,
}

/// Lines that a request waits for: whatever tells of progress of a run.
fn is_milestone(line: &Line) -> bool {
    let of_run =
        ["chat final", "chat aborted", "chat error", "chat delta", "agent lifecycle", "session.message"];
    line.answer_to.is_some() || of_run.iter().any(|label| line.label.starts_with(label))
}

pub struct Player<'a> {
    host: &'a mut Host,
    recording: &'a Recording,
    clients: BTreeMap<String, Client>,
    frames: Frames,
    told: Vec<Line>,
    /// Ids of requests, and what they are: number, method, params.
    asked: HashMap<(String, String), (u64, String, Value)>,
    payloads: HashMap<u64, Value>,
    /// How often a recorded line comes here.
    coming: HashMap<Same<'a>, usize>,
}

impl<'a> Player<'a> {
    /// `lost` is how many lines like a recorded one are known not to come. An answer always comes.
    pub fn new(host: &'a mut Host, recording: &'a Recording, lost: &dyn Fn(&Line) -> usize) -> Self {
        let mut coming: HashMap<_, usize> = HashMap::new();
        let lines = || {
            recording
                .steps
                .iter()
                .filter_map(|step| if let Step::Told(line) = step { Some(line) } else { None })
        };
        lines().for_each(|line| *coming.entry(same(line)).or_default() += 1);
        for line in lines().filter(|line| line.answer_to.is_none()).collect::<Vec<_>>() {
            let all = lines().filter(|other| same(other) == same(line)).count();
            coming.insert(same(line), all.saturating_sub(lost(line)));
        }
        let (clients, asked, payloads) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { host, recording, clients, frames: Frames::default(), told: vec![], asked, payloads, coming }
    }

    pub async fn play(mut self) -> Played {
        let recording = self.recording;
        let mut due: Vec<&Line> = vec![];
        let mut stuck = None;
        for name in recording.clients_before_signal() {
            self.connect(name).await;
        }
        for step in &recording.steps {
            match step {
                Step::Told(line) => due.push(line),
                Step::Signal(name) => {
                    stuck = self.before(name, &due).await;
                    if stuck.is_none() {
                        self.host.signal(name).await;
                    }
                }
                Step::Ask { client, number, method, params } => {
                    stuck = self.before(&format!("#{number} {method}"), &due).await;
                    if stuck.is_none() {
                        self.more(*number).await;
                        self.ask(client, *number, method, params).await;
                    }
                }
            }
            if stuck.is_some() {
                break;
            }
        }
        if stuck.is_none() {
            stuck = self.wait(&due, usize::MAX).await.err().map(|missing| format!("at the end: {missing}"));
        }
        self.read_for(Instant::now() + QUIET, QUIET).await;
        self.told.retain(|line| line.client != BEFORE);
        Played { told: self.told, stuck }
    }

    async fn connect(&mut self, name: &str) {
        let mut client = Client::connect(self.host.addr(), &self.intro(name)).await.unwrap();
        match &self.recording.clients[name] {
            Hears::All(true) => drop(client.call("sessions.subscribe", json!({})).await),
            Hears::All(false) => {}
            Hears::One(key) => drop(client.call("sessions.messages.subscribe", json!({ "key": key })).await),
        }
        client.events.clear();
        self.clients.insert(name.to_owned(), client);
    }

    /// Waits until what was cut off has been made good: how far it is when the next client comes is chance.
    async fn settle(&self) {
        let mut client = Client::connect(self.host.addr(), &Intro::default()).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 2 {
            assert!(Instant::now() < deadline, "work goes on after a restart");
            let mut busy = false;
            for key in &self.recording.sessions {
                let past = client.call("chat.history", json!({ "sessionKey": key, "limit": 1 })).await;
                busy |= past["pendingInputs"]["total"] != 0
                    || past["inFlightRun"].is_object()
                    || past["sessionInfo"]["hasActiveRun"] == true;
            }
            quiet = if busy { 0 } else { quiet + 1 };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for what came before a step.
    async fn before(&mut self, what: &str, due: &[&Line]) -> Option<String> {
        let waited: Vec<&Line> = due.iter().copied().filter(|line| is_milestone(line)).collect();
        self.wait(&waited, 1).await.err().map(|missing| format!("before {what}: {missing}"))
    }

    /// Waits for what a request stops or looks at, see [`MORE`].
    async fn more(&mut self, number: u64) {
        let deadline = Instant::now() + PATIENCE;
        for (_, _, label, run, times) in
            MORE.iter().filter(|(name, n, ..)| *name == self.recording.name && *n == number)
        {
            let told = |line: &Line| line.label == *label && line.run.as_deref() == Some(run);
            while self.told.iter().filter(|line| told(line)).count() < *times
                && self.read_for(deadline, Duration::MAX).await
            {}
        }
    }

    async fn ask(&mut self, client: &str, number: u64, method: &str, params: &Value) {
        let params = self.params(params);
        if !self.clients.contains_key(client) {
            // It was recorded after a signal.
            while self.read_for(Instant::now() + PATIENCE, Duration::MAX).await {}
            self.host.restart().await;
            self.settle().await;
            self.connect(client).await;
        }
        let id = self.clients.get_mut(client).unwrap().send(method, params.clone()).await;
        self.asked.insert((client.to_owned(), id), (number, method.to_owned(), params));
    }

    /// Reads until all of these have come, as often as they are here and come, `at_most` times each.
    async fn wait(&mut self, due: &[&Line], at_most: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut left: HashMap<_, usize> = HashMap::new();
            for line in due {
                let n = left.entry(same(line)).or_default();
                *n = (*n + 1).min(at_most).min(self.coming[&same(line)]);
            }
            for line in &self.told {
                left.entry(same(line)).and_modify(|n| *n = n.saturating_sub(1));
            }
            let Some((missing, _)) = left.into_iter().find(|(_, n)| *n > 0) else { return Ok(()) };
            let what = match missing {
                (client, .., Some(number)) => format!("{client} got no answer to #{number}"),
                (client, _, run, label, None) => {
                    format!("{client} never got {label:?} of run {}", run.unwrap_or("-"))
                }
            };
            if !self.read_for(deadline, Duration::MAX).await {
                return Err(what);
            }
        }
    }

    /// Reads a frame of any client, or many for as long as none is `quiet` in coming; whether one came.
    async fn read_for(&mut self, deadline: Instant, quiet: Duration) -> bool {
        let mut came = false;
        let mut until = deadline;
        loop {
            let Some((name, frame)) = self.next(until).await else { return came };
            let Some(frame) = frame else {
                self.clients.remove(&name);
                continue;
            };
            came = true;
            self.take(&name, &frame);
            if quiet == Duration::MAX {
                return true;
            }
            until = Instant::now() + quiet;
        }
    }

    /// A client's next frame, or its end.
    async fn next(&mut self, until: Instant) -> Option<(String, Option<Value>)> {
        if self.clients.is_empty() {
            return None;
        }
        let reads = self
            .clients
            .iter_mut()
            .map(|(name, client)| Box::pin(async move { (name.clone(), client.next_frame().await) }));
        timeout_at(until, futures_util::future::select_all(reads)).await.ok().map(|(read, _, _)| read)
    }

    fn take(&mut self, client: &str, frame: &Value) {
        if frame["type"] == "event" {
            self.told.extend(self.frames.event(client, frame));
            return;
        }
        let id = frame["id"].as_str().unwrap_or_default().to_owned();
        let Some((number, method, params)) = self.asked.get(&(client.to_owned(), id)) else { return };
        self.payloads.insert(*number, frame["payload"].clone());
        let line = self.frames.answer(client, *number, method, params, frame);
        self.told.push(line);
    }

    /// Recorded params, with run ids of this time and what earlier answers held.
    fn params(&mut self, recorded: &Value) -> Value {
        match recorded {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), self.params(v))).collect(),
            Value::Array(items) => items.iter().map(|item| self.params(item)).collect(),
            Value::String(text) => self.rendered(text).into(),
            other => other.clone(),
        }
    }

    fn rendered(&mut self, text: &str) -> String {
        let text = text.replace("<home>", &self.host.home().display().to_string());
        let text = &PACE.iter().fold(text, |text, (recorded, here)| text.replace(recorded, here));
        let Some((before, rest)) = text.split_once('<') else { return text.clone() };
        let Some((name, after)) = rest.split_once('>') else { return text.clone() };
        if let Some((number, pointer)) = name.split_once('/')
            && let Ok(number) = number.parse::<u64>()
        {
            let found = self.payloads.get(&number).and_then(|p| p.pointer(&format!("/{pointer}")));
            return found.and_then(Value::as_str).unwrap_or("nothing").to_owned();
        }
        let known = self.frames.runs.iter().find(|(_, called)| *called == name).map(|(id, _)| id.clone());
        let id = known.unwrap_or_else(|| {
            let id = Uuid::new_v4().to_string();
            self.frames.runs.insert(id.clone(), name.to_owned());
            id
        });
        format!("{before}{id}{after}")
    }

    /// Who the recorded clients were, by their names and by what they heard.
    fn intro(&self, name: &str) -> Intro {
        let mut intro = Intro::default();
        match name {
            "R" | "J_read" | "K_read_sesssub" => intro.scopes = vec!["operator.read"],
            "N" | "L_noscope" => intro.scopes = vec![],
            _ if name.contains("_scoped_") => intro.caps.push("session-scoped-events"),
            _ => {}
        }
        if name.ends_with("tool") || name.ends_with("toolcap") || self.recording.hears_tools(name) {
            intro.caps.push("tool-events");
        }
        intro
    }
}

/// What makes two lines the same line. An answer is one whatever it says.
type Same<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a str, Option<u64>);

fn same(line: &Line) -> Same<'_> {
    match line.answer_to {
        Some(_) => (&line.client, None, None, "an answer", line.answer_to),
        None => {
            let session = line.session.as_deref().filter(|_| line.run.is_none());
            (&line.client, session, line.run.as_deref(), &line.label, None)
        }
    }
}
