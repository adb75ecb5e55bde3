//! Whatever dies, nobody notices: fifty clients watch turns while every part of the tree is restarted and
//! then made to panic.

use crate::client::{Client, Intro, is_chat_end};
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::{broadcast, mpsc};

const WATCHERS: usize = 50;
/// Enough words for a turn of two seconds: each blow falls while it streams.
const WORDS: usize = 80;

/// What the test tells its watchers.
#[derive(Clone, Debug)]
enum Cue {
    /// Ask something.
    Ask,
    /// Read until this run has ended, and say so.
    Await(String),
    /// Hand everything over.
    Done,
}

struct Watcher {
    client: Client,
    asked: Vec<String>,
}

impl Watcher {
    async fn watch(mut self, mut cues: broadcast::Receiver<Cue>, told: mpsc::Sender<()>) -> Self {
        loop {
            match cues.recv().await.unwrap() {
                Cue::Ask => {
                    let params = json!({ "sessionKey": "main", "limit": 1 });
                    let id = self.client.send("chat.history", params).await;
                    self.asked.push(id);
                }
                Cue::Await(run_id) => {
                    self.client.event(|e| is_chat_end(e, &run_id)).await;
                    told.send(()).await.unwrap();
                }
                Cue::Done => {
                    self.client.call("health", json!({})).await;
                    return self;
                }
            }
        }
    }

    /// One answer per request, events without a gap, and the ends of the runs it saw.
    fn testify(self) -> BTreeMap<String, Vec<Value>> {
        let mut answers: Vec<_> = self.client.responses.iter().map(|r| r["id"].as_str().unwrap()).collect();
        answers.sort_unstable();
        let mut asked: Vec<_> = self.asked.iter().map(String::as_str).collect();
        asked.sort_unstable();
        assert_eq!(answers, asked, "one answer per request");
        assert_eq!(self.client.closed, None);
        let seqs = self.client.seqs();
        assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "a gap: {seqs:?}");
        let mut ends: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in &self.client.events {
            let payload = &event["payload"];
            let run_id = payload["runId"].as_str().unwrap_or_default();
            if is_chat_end(event, run_id) {
                ends.entry(run_id.to_owned()).or_default().push(payload.clone());
            }
        }
        ends
    }
}

async fn node(admin: &mut Client, path: &str) -> Value {
    admin.call("system.actors", json!({ "path": path, "depth": 1 })).await["root"].clone()
}

/// The path itself, or the one actor below it.
async fn target(admin: &mut Client, path: &str) -> String {
    match path.strip_suffix("/*") {
        None => path.to_owned(),
        Some(parent) => {
            let parent = node(admin, parent).await;
            parent["children"][0]["path"].as_str().unwrap_or_else(|| panic!("no child: {parent}")).to_owned()
        }
    }
}

/// Restarts the actor, then makes it panic, and waits until it is back.
async fn strike(admin: &mut Client, path: &str) {
    let before = node(admin, path).await["restarts"].as_u64().unwrap();
    let restarted = admin.call("system.actors.restart", json!({ "path": path })).await;
    assert_eq!(
        (&restarted["state"], &restarted["restarts"]),
        (&json!("running"), &json!(before + 1)),
        "{path}"
    );
    let since = admin.events.len();
    admin.call("system.chaos", json!({ "path": path, "fault": "panic" })).await;
    let down = |e: &Value| {
        let payload = &e["payload"];
        payload["path"] == path && payload["lastExit"]["kind"] == "panic"
    };
    while !admin.events[since..].iter().any(down) {
        admin.read_one().await;
    }
}

/// accepts: A10, A17, C4, G11, I7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_is_restarted_and_crashed_under_fifty_watchers() {
    let gateway = Embedded::start().await;
    let (cue, _) = broadcast::channel(64);
    let (told, mut heard) = mpsc::channel(WATCHERS);
    let reader = Intro { scopes: vec!["operator.read"], ..Intro::default() };
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let client = Client::connect(gateway.addr, &reader).await.unwrap();
        let watcher = Watcher { client, asked: Vec::new() };
        watchers.push(tokio::spawn(watcher.watch(cue.subscribe(), told.clone())));
    }
    let mut admin = Client::admin(gateway.addr).await;
    let tree = admin.call("system.actors", json!({ "depth": 1 })).await;
    let mut paths: Vec<String> = tree["root"]["children"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| child["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(paths.len(), 18, "{paths:?}");
    paths.push("gateway/sessions/agent:main:main".into());
    paths.push("gateway/sessions/agent:main:main/*".into());

    let mut runs = Vec::new();
    for (n, path) in paths.iter().enumerate() {
        let run_id = format!("run-{n}");
        let message = format!("{n} {}", "word ".repeat(WORDS));
        let params = json!({ "sessionKey": "main", "message": message, "idempotencyKey": run_id });
        assert_eq!(admin.call("chat.send", params).await["status"], "started", "{path}");
        cue.send(Cue::Ask).unwrap();
        let delta = |e: &Value| e["payload"]["runId"] == *run_id && e["payload"]["state"] == "delta";
        admin.event(delta).await;
        let path = target(&mut admin, path).await;
        strike(&mut admin, &path).await;
        assert!(!admin.events.iter().any(|e| is_chat_end(e, &run_id)), "{path}: the turn was over too early");
        cue.send(Cue::Ask).unwrap();
        let end = admin.chat_end(&run_id).await;
        assert_eq!(end["state"], "final", "{path}: {end}");
        let text = end["message"]["content"][0]["text"].as_str().unwrap();
        assert!(text.trim_end().ends_with(message.trim_end()), "{path}: {text}");
        cue.send(Cue::Await(run_id.clone())).unwrap();
        for _ in 0..WATCHERS {
            heard.recv().await.unwrap();
        }
        runs.push(run_id);
    }

    for path in &paths[..12] {
        let node = node(&mut admin, path).await;
        assert_eq!(node["state"], "running", "{node}");
        assert_eq!((node["restarts"].as_u64(), node["lastExit"]["kind"].as_str()), (Some(2), Some("panic")));
        assert_eq!(node["lastExit"]["reason"], "injected panic");
    }
    cue.send(Cue::Done).unwrap();
    let mut first: Option<BTreeMap<String, Vec<Value>>> = None;
    for watcher in watchers {
        let ends = watcher.await.unwrap().testify();
        assert_eq!(ends.len(), runs.len());
        assert!(ends.values().all(|ends| ends.len() == 1), "one end for each run: {ends:?}");
        assert_eq!(*first.get_or_insert_with(|| ends.clone()), ends, "all see the same outcomes");
    }
    let history = admin.call("chat.history", json!({ "sessionKey": "main", "limit": 100 })).await;
    assert_eq!(history["totalMessages"], 2 * runs.len());
    // The gateway still lets people in.
    Client::admin(gateway.addr).await.call("health", json!({})).await;
}

/// The store cannot be done without: when it cannot be kept up, the process asks for a new life.
#[tokio::test]
async fn a_store_that_keeps_crashing_ends_the_process_with_70() {
    let state = tempfile::tempdir().unwrap();
    let mut gateway = Process::start(state.path()).await;
    let mut admin = Client::admin(gateway.addr).await;
    let panic = json!({ "path": "gateway/store", "fault": "panic" });
    // Past five restarts in a minute; a blow that meets nobody is struck again.
    for _ in 0..2_000 {
        let id = admin.send("system.chaos", panic.clone()).await;
        while !admin.responses.iter().any(|r| r["id"] == *id) {
            match admin.frame().await {
                Some(frame) => admin.responses.push(frame),
                None => {
                    assert_eq!(gateway.ended().code(), Some(70));
                    return;
                }
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the process is still there");
}
