//! Turns: what is told of them, in which order, and to whom. Below it: which keys are taken, how runs end, and
//! what waits.

mod ends;
mod keys;
mod queue;
mod resets;
mod silence;

use crate::client::{Client, Intro, is_chat_end};
use crate::gateway::Embedded;
use crabtree_protocol::params::events::{AgentEvent, ChatEvent};
use crabtree_protocol::schema::outbound;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A message whose answer takes 20 ms a word, and 20 words more.
fn words(count: usize) -> String {
    (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
}

fn message(key: &str, text: &str, run: &str) -> Value {
    json!({ "sessionKey": key, "message": text, "idempotencyKey": run })
}

/// Submits with `chat.send`; returns when it is durable.
async fn say(client: &mut Client, key: &str, text: &str, run: &str) {
    let ack = client.call("chat.send", message(key, text, run)).await;
    assert_eq!(ack, json!({ "runId": run, "status": "started" }));
}

/// Until the run has told something.
async fn streams(client: &mut Client, run: &str) {
    client.event(|e| e["payload"]["runId"] == run && e["payload"]["state"] == "delta").await;
}

/// Until a subscriber of all sessions has heard the last of a run.
async fn settled(client: &mut Client, run: &str) {
    client.event(|e| is_last_of(e, run)).await;
}

fn is_last_of(event: &Value, run: &str) -> bool {
    let payload = &event["payload"];
    event["event"] == "sessions.changed"
        && payload["runId"] == run
        && matches!(payload["phase"].as_str(), Some("end" | "error"))
}

fn text_of(message: &Value) -> &str {
    message["content"].as_str().or(message["content"][0]["text"].as_str()).unwrap()
}

async fn history(client: &mut Client, key: &str) -> Vec<Value> {
    let page = client.call("chat.history", json!({ "sessionKey": key })).await;
    page["messages"].as_array().unwrap().clone()
}

/// A frame in a few words; none for events that are not about turns.
fn label(frame: &Value) -> Option<String> {
    let payload = &frame["payload"];
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let with_phase = |head: String, phase: &Value| match phase.as_str() {
        Some(phase) => format!("{head} {phase}"),
        None => head,
    };
    Some(match (frame["type"].as_str()?, frame["event"].as_str()) {
        ("res", _) => "res".to_owned(),
        (_, Some("chat")) => with_phase(format!("chat {}", word(&payload["state"])), &payload["phase"]),
        (_, Some("agent")) => {
            with_phase(format!("agent {}", word(&payload["stream"])), &payload["data"]["phase"])
        }
        (_, Some("session.message")) => format!("session.message {}", word(&payload["message"]["role"])),
        (_, Some("sessions.changed")) => match payload["reason"].as_str() {
            Some(reason) => format!("sessions.changed {reason}"),
            None => format!("sessions.changed phase {}", word(&payload["phase"])),
        },
        _ => return None,
    })
}

const TEXT: [&str; 2] = ["agent assistant", "chat delta"];

/// The labels, with any number of told pieces of text as one.
fn story(frames: &[Value]) -> Vec<String> {
    let mut story: Vec<String> = vec![];
    for label in frames.iter().filter_map(label) {
        story.push(label);
        if let [.., a, b, c, d] = story.as_slice()
            && [&**a, &**b] == TEXT
            && [&**c, &**d] == TEXT
        {
            story.truncate(story.len() - 2);
        }
    }
    story
}

/// accepts: G1, G6, G8, I13
#[tokio::test]
async fn a_turn_is_told_in_the_recorded_order() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    client.call("sessions.messages.subscribe", json!({ "key": "main" })).await;
    client.send("chat.send", message("main", "hello", "k1")).await;
    let frames = client.frames_until(|f| is_last_of(f, "k1")).await;
    assert_eq!(
        story(&frames),
        [
            "res",
            "sessions.changed send",
            "sessions.changed participants",
            "chat status preparing_workspace",
            "agent run_status preparing_workspace",
            "chat status preparing_context",
            "agent run_status preparing_context",
            "session.message user",
            "agent lifecycle start",
            "chat status starting_model",
            "agent run_status starting_model",
            "sessions.changed agent.run.started",
            "sessions.changed phase start",
            "agent lifecycle model",
            "sessions.changed phase model",
            "agent assistant",
            "chat delta",
            "agent usage",
            "session.message assistant",
            "agent lifecycle finishing",
            "agent lifecycle model",
            "agent lifecycle end",
            "chat final",
            "sessions.changed agent.input.settled",
            "sessions.changed phase model",
            "sessions.changed phase end",
        ]
    );
    // Every payload has the declared shape, and a run counts its own steps upwards.
    let shapes = [("chat", outbound::<ChatEvent>()), ("agent", outbound::<AgentEvent>())];
    let mut last = 0;
    for (name, schema) in &shapes {
        let validator = jsonschema::validator_for(schema).unwrap();
        for event in frames.iter().filter(|f| f["event"] == *name) {
            assert_eq!(validator.iter_errors(&event["payload"]).next().map(|e| e.to_string()), None);
            assert_eq!(event["payload"]["sessionKey"], "agent:main:main");
        }
    }
    for payload in frames.iter().map(|f| &f["payload"]).filter(|p| p["seq"].is_u64() && p["runId"] == "k1") {
        let seq = payload["seq"].as_u64().unwrap();
        assert!(seq >= last, "{payload}");
        last = seq;
    }
    // The rows that come with the events agree with what a reader finds.
    let rows: Vec<&Value> =
        frames.iter().filter(|f| f["event"] == "session.message").map(|f| &f["payload"]["message"]).collect();
    assert_eq!(json!(rows), json!(history(&mut client, "main").await));
    let states: Vec<_> = frames
        .iter()
        .filter(|f| f["event"] == "sessions.changed")
        .map(|f| (f["payload"]["status"].as_str().unwrap(), f["payload"]["hasActiveRun"] == true))
        .collect();
    assert_eq!(states[0], ("running", true));
    assert_eq!(states.last(), Some(&("done", false)));
}

/// Runs of the method `agent` are told the same, but for the phases of preparation.
/// accepts: C4
#[tokio::test]
async fn an_agent_run_has_no_status_frames() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let id = client.send("agent", json!({ "message": "hello", "idempotencyKey": "a1" })).await;
    let ack = client.response(&id).await["payload"].clone();
    assert_eq!((&ack["status"], ack.get("sessionKey")), (&json!("accepted"), None), "{ack}");
    let frames = client.frames_until(|f| f["id"] == id.as_str()).await;
    let told: Vec<Value> = client.events.iter().chain(&frames).cloned().collect();
    assert_eq!(
        story(&told),
        [
            "agent lifecycle start",
            "agent lifecycle model",
            "agent assistant",
            "chat delta",
            "agent usage",
            "agent lifecycle finishing",
            "agent lifecycle model",
            "agent lifecycle end",
            "chat final",
            "res",
        ]
    );
    let event = told.iter().find(|f| f["event"] == "agent").unwrap();
    assert_eq!(event["payload"]["sessionKey"], "agent:main:explicit:a1");
    assert_eq!(event["payload"].get("isHeartbeat"), None);
    let end = &frames.last().unwrap()["payload"];
    assert_eq!(end["result"]["meta"]["agentMeta"]["sessionFile"], "agent:main:explicit:a1");
}

/// accepts: G7, G8
#[tokio::test]
async fn text_is_told_in_pieces_no_faster_than_every_75_ms() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", &words(60), "k1").await;
    let end = client.chat_end("k1").await;
    let deltas: Vec<&Value> = client
        .events
        .iter()
        .filter(|e| e["event"] == "chat" && e["payload"]["state"] == "delta")
        .map(|e| &e["payload"])
        .collect();
    let at = |payload: &Value| payload["message"]["timestamp"].as_u64().unwrap();
    let times: Vec<u64> = deltas.iter().map(|d| at(d)).collect();
    // The last piece is told with the end, whenever that comes.
    let gaps: Vec<u64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[..gaps.len() - 1].iter().all(|gap| *gap >= 75), "{gaps:?}");
    let most = (at(&end) - times[0]).div_ceil(75) as usize + 2;
    assert!((8..=most).contains(&deltas.len()), "{} deltas, at most {most}", deltas.len());

    let told: String = deltas.iter().map(|d| d["deltaText"].as_str().unwrap()).collect();
    let text = text_of(&end["message"]);
    assert_eq!(told, text);
    assert!(text.ends_with(&words(60)), "{text}");
    let mut so_far = String::new();
    for delta in deltas {
        so_far.push_str(delta["deltaText"].as_str().unwrap());
        assert_eq!(text_of(&delta["message"]), so_far);
        assert_eq!(so_far.trim_end(), so_far, "white space waits for its word");
    }
    let agent: String = client
        .events
        .iter()
        .filter(|e| e["payload"]["stream"] == "assistant")
        .map(|e| e["payload"]["data"]["delta"].as_str().unwrap())
        .collect();
    assert_eq!(agent, text);
}

/// accepts: A10, D9, G7
#[tokio::test]
async fn everybody_hears_what_is_for_them() {
    let gateway = Embedded::start().await;
    let addr = gateway.addr;
    let scoped = || Intro { caps: vec!["session-scoped-events"], ..Intro::default() };
    let node = Intro {
        id: "node-host",
        mode: "node",
        role: "node",
        scopes: vec![],
        device: Some([5; 32]),
        ..scoped()
    };
    let (turn, row, change) = (["agent", "chat"], "session.message", "sessions.changed");
    let all = [&turn[..], &[row, change]].concat();
    let mut hearers: Vec<(&str, Client, Vec<&str>, Vec<&str>)> = vec![
        ("all", Client::admin(addr).await, vec!["all"], all),
        ("none", Client::admin(addr).await, vec![], turn.to_vec()),
        ("messages", Client::admin(addr).await, vec!["main"], [&turn[..], &[row]].concat()),
        ("other messages", Client::admin(addr).await, vec!["other"], turn.to_vec()),
        ("messages no more", Client::admin(addr).await, vec!["main", "-main"], turn.to_vec()),
        ("a reader", Client::scoped(addr, &["operator.read"]).await, vec![], turn.to_vec()),
        ("a writer", Client::scoped(addr, &["operator.write"]).await, vec![], turn.to_vec()),
        ("approvals only", Client::scoped(addr, &["operator.approvals"]).await, vec![], vec![]),
        ("nobody", Client::scoped(addr, &[]).await, vec![], vec![]),
        ("a node", Client::connect(addr, &node).await.unwrap(), vec![], vec![]),
        ("scoped", Client::connect(addr, &scoped()).await.unwrap(), vec![], vec![]),
        ("scoped, all", Client::connect(addr, &scoped()).await.unwrap(), vec!["all"], vec![row, change]),
        (
            "scoped, messages",
            Client::connect(addr, &scoped()).await.unwrap(),
            vec!["main"],
            [&turn[..], &[row]].concat(),
        ),
    ];
    for (_, client, topics, _) in &mut hearers {
        for topic in topics {
            let (method, params, answer) = match topic.strip_prefix('-') {
                _ if *topic == "all" => ("sessions.subscribe", json!({}), json!({ "subscribed": true })),
                None => {
                    let key = format!("agent:main:{topic}");
                    let answer = json!({ "subscribed": true, "key": key });
                    ("sessions.messages.subscribe", json!({ "key": topic }), answer)
                }
                Some(key) => {
                    let answer = json!({ "subscribed": false, "key": format!("agent:main:{key}") });
                    ("sessions.messages.unsubscribe", json!({ "key": key }), answer)
                }
            };
            assert_eq!(client.call(method, params).await, answer);
        }
    }
    say(&mut hearers[0].1, "main", "hello", "k1").await;
    settled(&mut hearers[0].1, "k1").await;
    for (who, client, _, kinds) in &mut hearers {
        if kinds.contains(&change) {
            settled(client, "k1").await;
        }
        // What was published before is in front of this answer.
        client.call("health", json!({})).await;
        let heard: BTreeSet<&str> = client.events.iter().filter_map(|e| e["event"].as_str()).collect();
        let about: BTreeSet<&str> =
            heard.iter().copied().filter(|e| [&turn[..], &[row, change]].concat().contains(e)).collect();
        assert_eq!(about, kinds.iter().copied().collect(), "{who}");
        let ends = client.events.iter().filter(|e| is_chat_end(e, "k1")).count();
        assert_eq!(ends, usize::from(kinds.contains(&"chat")), "{who}");
        let rows = client.events.iter().filter(|e| e["event"] == row).count();
        assert_eq!(rows, if kinds.contains(&row) { 2 } else { 0 }, "{who}");
    }
    gateway.gateway.shutdown("gateway stopping").await;
    for (who, client, _, _) in &mut hearers {
        client.until_closed().await;
        assert_eq!(client.events.last().unwrap()["event"], "shutdown", "{who}");
        if matches!(*who, "nobody" | "a node") {
            // A node is told of the words that wake it when it comes (as recorded).
            let open = ["health", "tick", "shutdown", "voicewake.changed", "voicewake.routing.changed"];
            assert!(client.events.iter().all(|e| open.contains(&e["event"].as_str().unwrap())), "{who}");
        }
    }
}

/// accepts: I9
#[tokio::test]
async fn a_reply_with_code_in_it_is_told_in_blocks() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    say(&mut client, "main", "see\n```rust\nfn main() {}\n```\nand that is all", "k1").await;
    let end = client.event(|e| e["payload"]["data"]["phase"] == "end").await;
    let reply = &end["payload"]["data"]["terminalReply"];
    let blocks = reply["blocks"].as_array().unwrap();
    let seen: Vec<_> = blocks.iter().map(|b| (b["block_type"].as_str().unwrap(), &b["block_id"])).collect();
    assert_eq!(seen, [("text", &json!("k1:1")), ("code", &json!("k1:2")), ("text", &json!("k1:3"))]);
    assert_eq!(
        (&blocks[1]["content"], &blocks[1]["metadata"]),
        (&json!("fn main() {}\n"), &json!({ "language": "rust" }))
    );
    assert!(reply["text"].as_str().unwrap().contains("```rust\n"));
    say(&mut client, "main", "plain words", "k2").await;
    let plain =
        client.event(|e| e["payload"]["runId"] == "k2" && e["payload"]["data"]["phase"] == "end").await;
    assert_eq!(plain["payload"]["data"]["terminalReply"].get("blocks"), None);
}
