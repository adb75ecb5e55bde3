//! What is compared of a frame: a label, the run, values that matter, and the keys of the payload. It is the twin of
//! tests/data/chat/distill.py, which says what is left out.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

const IGNORED: [&str; 6] =
    ["tick", "health", "heartbeat", "presence", "connect.challenge", "system.actors.changed"];
/// Of these only the first is kept of each model call.
const PIECES: [&str; 7] = [
    "agent assistant",
    "agent thinking",
    "chat delta",
    "agent item tool update",
    "agent tool update",
    "agent command_output delta",
    "session.tool update",
];
/// What makes an object a session row.
const ROW: [&str; 4] = ["key", "sessionId", "kind", "agentRuntime"];
/// Members of answers that are compared by value, beside those that are true or false.
const VALUES: [&str; 10] = [
    "status",
    "stopReason",
    "summary",
    "reason",
    "timeoutPhase",
    "key",
    "sessionKey",
    "agentId",
    "runId",
    "abortedRunId",
];

/// A frame, as it is compared.
#[derive(Clone, Debug)]
pub struct Line {
    pub client: String,
    /// The number of the request, if it is an answer.
    pub answer_to: Option<u64>,
    pub label: String,
    pub session: Option<String>,
    pub run: Option<String>,
    pub values: Value,
    pub keys: BTreeSet<String>,
    /// Keys of the session rows in it.
    pub rows: BTreeSet<BTreeSet<String>>,
}

/// Makes lines of frames as they come.
#[derive(Default)]
pub struct Frames {
    /// Run ids and what they are called.
    pub runs: HashMap<String, String>,
    fresh: usize,
    seen: HashMap<(String, Option<String>, Option<String>), BTreeSet<String>>,
}

impl Frames {
    /// A run's name; the gateway's own runs are named when they are first heard of.
    fn run(&mut self, id: &Value) -> Option<String> {
        let id = id.as_str()?;
        if !self.runs.contains_key(id) {
            if Uuid::try_parse(id).is_err() {
                return Some(id.to_owned());
            }
            self.fresh += 1;
            self.runs.insert(id.to_owned(), format!("F{}", self.fresh));
        }
        self.runs.get(id).cloned()
    }

    /// With ids replaced: those of runs by their names, others by `*`.
    pub fn symbolic(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(c) = rest.chars().next() {
            match rest.get(..36).filter(|id| id.as_bytes()[8] == b'-' && Uuid::try_parse(id).is_ok()) {
                Some(id) => {
                    out.push_str(self.runs.get(id).map_or("*", String::as_str));
                    rest = &rest[36..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    /// An event; none if it is not compared.
    pub fn event(&mut self, client: &str, frame: &Value) -> Option<Line> {
        let (name, payload) = (frame["event"].as_str()?, &frame["payload"]);
        if IGNORED.contains(&name) {
            return None;
        }
        let session = payload["sessionKey"].as_str().map(|key| self.symbolic(key));
        let mut run = self.run(&payload["runId"]);
        let label = label(name, payload);
        if name == "session.message" && run.is_none() {
            let key = payload["message"]["idempotencyKey"].as_str().unwrap_or_default();
            run = key.split(':').next().and_then(|id| self.runs.get(id)).cloned();
        }
        let place = payload["sessionKey"].as_str().map(str::to_owned);
        if self.repeats((client.to_owned(), place, run.clone()), &label) {
            return None;
        }
        let values = Value::Null;
        Some(Line {
            client: client.to_owned(),
            answer_to: None,
            label,
            session,
            run,
            values,
            ..shape(payload)
        })
    }

    /// Whether an event of this kind has been kept already.
    fn repeats(&mut self, of: (String, Option<String>, Option<String>), label: &str) -> bool {
        let seen = self.seen.entry(of).or_default();
        if label.starts_with("agent lifecycle model") && !label.ends_with("none") {
            seen.retain(|label| !PIECES.contains(&&**label));
        }
        let once = PIECES.contains(&label) || label.starts_with("sessions.changed");
        once && !seen.insert(label.to_owned())
    }

    /// The answer to a request.
    pub fn answer(&mut self, client: &str, number: u64, method: &str, asked: &Value, frame: &Value) -> Line {
        let nothing = json!({});
        let payload = frame.get("payload").filter(|p| p.is_object()).unwrap_or(&nothing);
        let error = &frame["error"];
        let of = [&asked["idempotencyKey"], &asked["runId"], &payload["runId"]];
        let last =
            payload["runIds"].as_array().and_then(|ids| ids.last()).unwrap_or(&payload["abortedRunId"]);
        let of = of.into_iter().chain([last]).find(|id| id.is_string()).unwrap_or(&Value::Null);
        let run = self.run(of);
        let said = if frame["ok"] == true { "ok" } else { error["code"].as_str().unwrap_or("?") };
        let label = format!("res {method} {}", payload["status"].as_str().unwrap_or(said));
        let mut values = self.values(payload.as_object().expect("it is an object"));
        values.insert("ok".into(), frame["ok"].clone());
        if error.is_object() {
            let told = ["code", "message", "details"].into_iter().filter_map(|k| Some((k, error.get(k)?)));
            let told = json!(told.collect::<BTreeMap<_, _>>()).to_string();
            values.insert("error".into(), serde_json::from_str(&self.symbolic(&told)).unwrap());
        }
        let values = Value::Object(values);
        let answer_to = Some(number);
        Line { client: client.to_owned(), answer_to, label, session: None, run, values, ..shape(payload) }
    }

    fn values(&mut self, payload: &Map<String, Value>) -> Map<String, Value> {
        let mut out = Map::new();
        for (key, value) in payload {
            let told = match key.as_str() {
                "runId" | "abortedRunId" => json!(self.run(value)),
                "runIds" if value.is_array() => {
                    value.as_array().unwrap().iter().map(|id| json!(self.run(id))).collect()
                }
                "messages" if value.is_array() => value.as_array().unwrap().iter().map(said).collect(),
                "pendingInputs" if value.is_object() => {
                    let items = value["items"].as_array().unwrap();
                    let item = |i: &Value| {
                        let run = self.run(&i["runId"]).unwrap_or_default();
                        json!(format!("{} {run}", i["state"].as_str().unwrap_or("?")))
                    };
                    items.iter().map(item).collect()
                }
                "inFlightRun" if value.is_object() => json!(self.run(&value["runId"])),
                "terminalReply" if value.is_object() => value["disposition"].clone(),
                _ if value.is_boolean() => value.clone(),
                key if VALUES.contains(&key) => match value.as_str() {
                    Some(text) => json!(self.symbolic(text)),
                    None => value.clone(),
                },
                _ => continue,
            };
            out.insert(key.clone(), told);
        }
        out
    }
}

/// An event in a few words.
fn label(name: &str, payload: &Value) -> String {
    let mut words = vec![name.to_owned()];
    let mut add = |value: &Value, otherwise: &str| match value.as_str() {
        Some(text) if !text.is_empty() => words.push(text.to_owned()),
        _ if !otherwise.is_empty() => words.push(otherwise.to_owned()),
        _ => {}
    };
    let flag = |is: bool, word: &str| if is { json!(word) } else { Value::Null };
    match name {
        "chat" => {
            add(&payload["state"], "None");
            add(&payload["phase"], "");
            add(&payload["stopReason"], "");
            add(&flag(payload["replace"] == true, "replace"), "");
            add(&flag(payload["seq"] == 1 && payload["state"] != "status", "seq1"), "");
        }
        "agent" => {
            let data = &payload["data"];
            add(&payload["stream"], "None");
            add(&data["kind"], "");
            add(&data["phase"], "");
            add(&flag(data["phase"] == "model" && data["provider"].is_null(), "none"), "");
            let is_end = matches!(data["phase"].as_str(), Some("finishing" | "end" | "error"));
            if payload["stream"] == "lifecycle" && is_end {
                add(&data["stopReason"], "");
                add(&flag(data["aborted"] == true, "aborted"), "");
            }
        }
        "session.tool" => add(&payload["data"]["phase"], ""),
        "session.message" => add(&json!(said(&payload["message"])), ""),
        "sessions.changed" if payload["reason"].is_string() => add(&payload["reason"], ""),
        "sessions.changed" => {
            add(&json!("phase"), "");
            add(&payload["phase"], "None");
        }
        _ => {}
    }
    words.join(" ")
}

/// Who says what, by its first word.
fn said(message: &Value) -> String {
    let content = match &message["content"] {
        Value::Array(parts) => parts.first().map_or(&Value::Null, |p| p.get("text").unwrap_or(&p["type"])),
        other => other,
    };
    let word = content.as_str().unwrap_or_default().split_whitespace().next().unwrap_or_default();
    let word: String = word.chars().take(16).collect();
    format!("{} {word}", message["role"].as_str().unwrap_or("None"))
}

fn shape(payload: &Value) -> Line {
    let (mut keys, mut found) = (BTreeSet::new(), vec![]);
    paths(payload, "", &mut keys);
    rows(payload, &mut found);
    let rows = found.into_iter().map(|row| {
        let mut keys = BTreeSet::new();
        paths(row, "", &mut keys);
        keys
    });
    Line {
        client: String::new(),
        answer_to: None,
        label: String::new(),
        session: None,
        run: None,
        values: Value::Null,
        keys,
        rows: rows.collect(),
    }
}

fn is_row(value: &Value) -> bool {
    ROW.iter().all(|key| value.get(key).is_some())
}

fn paths(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                if !is_row(inner) {
                    paths(inner, &path, out);
                }
                out.insert(path);
            }
        }
        Value::Array(items) => {
            for inner in items {
                if is_row(inner) {
                    out.insert(format!("{at}[]row"));
                } else {
                    paths(inner, &format!("{at}[]"), out);
                }
            }
        }
        _ => {}
    }
}

fn rows<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) if !is_row(value) => map.values().for_each(|inner| rows(inner, out)),
        Value::Object(_) => out.push(value),
        Value::Array(items) => items.iter().for_each(|inner| rows(inner, out)),
        _ => {}
    }
}
