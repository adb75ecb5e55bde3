//! A distilled recording, as tests/data/chat/distill.py wrote it.

use super::frames::Line;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who made what the recording found; nothing of it is compared.
pub const BEFORE: &str = "0";

/// What happened, in order.
pub enum Step {
    /// A client asked.
    Ask { client: String, number: u64, method: String, params: Value },
    /// A client was told.
    Told(Line),
    /// The process was sent a signal.
    Signal(String),
}

/// What a client listens to from the start.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Hears {
    /// Whether to all sessions.
    All(bool),
    /// The messages of a session.
    One(String),
}

pub struct Recording {
    pub name: String,
    pub clients: BTreeMap<String, Hears>,
    pub steps: Vec<Step>,
    /// Keys of the sessions that are told of.
    pub sessions: Vec<String>,
}

/// They only look: they are asked when the recorded answer came, since that is what it tells of.
const LOOKS: [&str; 3] = ["chat.history", "sessions.list", "sessions.describe"];

impl Recording {
    pub fn load(name: &str) -> Self {
        let path = format!("{}/tests/data/chat/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let head = lines.next().unwrap();
        let shapes = shapes(head["shapes"].as_array().unwrap());
        let sessions: Vec<String> = serde_json::from_value(head["sessions"].clone()).unwrap();
        let clients = serde_json::from_value(head["clients"].clone()).unwrap();
        let mut steps = vec![];
        let mut looks = HashMap::new();
        for step in lines.map(|line| step(&line, &shapes, &sessions)) {
            match &step {
                Step::Ask { number, method, .. } if LOOKS.contains(&method.as_str()) => {
                    looks.insert(*number, step);
                    continue;
                }
                Step::Told(Line { answer_to: Some(number), .. }) => steps.extend(looks.remove(number)),
                _ => {}
            }
            steps.push(step);
        }
        Self { name: name.to_owned(), clients, steps, sessions }
    }

    /// The clients that were there before the process was sent a signal.
    pub fn clients_before_signal(&self) -> Vec<&str> {
        let before = self.steps.iter().take_while(|step| !matches!(step, Step::Signal(_)));
        let names: BTreeSet<&str> = before
            .filter_map(|step| match step {
                Step::Ask { client, .. } => Some(client.as_str()),
                Step::Told(line) => Some(line.client.as_str()),
                Step::Signal(_) => None,
            })
            .chain(self.clients.keys().filter(|_| !self.is_interrupted()).map(String::as_str))
            .collect();
        names.into_iter().collect()
    }

    /// Whether a client was told of the tools of its runs.
    pub fn hears_tools(&self, name: &str) -> bool {
        let told = |step: &Step| matches!(step, Step::Told(line) if line.client == name && line.label.starts_with("agent tool "));
        self.steps.iter().any(told)
    }

    /// Whether the process was sent a signal.
    pub fn is_interrupted(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Signal(_)))
    }

    /// What clients were told.
    pub fn told(&self) -> Vec<Line> {
        let told = |step: &Step| match step {
            Step::Told(line) => Some(line.clone()).filter(|line| line.client != BEFORE),
            _ => None,
        };
        self.steps.iter().filter_map(told).collect()
    }
}

fn shapes(texts: &[Value]) -> Vec<BTreeSet<String>> {
    let mut shapes: Vec<BTreeSet<String>> = vec![];
    for text in texts {
        let mut shape = BTreeSet::new();
        for word in text.as_str().unwrap().split_whitespace() {
            if let Some(other) = word.strip_prefix('=') {
                shape = shapes[other.parse::<usize>().unwrap()].clone();
            } else if let Some(path) = word.strip_prefix('-') {
                shape.remove(path);
            } else {
                shape.insert(word.trim_start_matches('+').to_owned());
            }
        }
        shapes.push(shape);
    }
    shapes
}

fn step(line: &Value, shapes: &[BTreeSet<String>], sessions: &[String]) -> Step {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    if let Some(signal) = text("sig") {
        return Step::Signal(signal);
    }
    let client = text("c").unwrap();
    if let Some(method) = text("do") {
        return Step::Ask { client, number: line["n"].as_u64().unwrap(), method, params: line["p"].clone() };
    }
    let shape = |n: &Value| shapes[n.as_u64().unwrap() as usize].clone();
    Step::Told(Line {
        client,
        answer_to: line["re"].as_u64(),
        label: text("ev").or(text("l")).unwrap(),
        session: line["s"].as_u64().map(|n| sessions[n as usize].clone()),
        run: text("run"),
        values: line["v"].clone(),
        keys: shape(&line["k"]),
        rows: line["rows"].as_array().into_iter().flatten().map(shape).collect(),
    })
}
