//! Agents of others as models: what they are told, what becomes of their answers, and what of them stays.

mod fixture;

use crate::client::{Client, Intro};
use crate::gateway::{Embedded, Process};
use crabtree_actors::agents::acp::{Peers, Permission, Permit, Verdict};
use crabtree_actors::agents::{Chunk, Prompt, Said};
use crabtree_actors::process::Guard;
use crabtree_actors::settings::Thinking;
use fixture::Fixture;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

async fn say(client: &mut Client, session: &str, text: &str) -> Value {
    let run = uuid::Uuid::new_v4().to_string();
    let said = json!({ "sessionKey": session, "message": text, "idempotencyKey": run });
    client.call("chat.send", said).await;
    client.chat_end(&run).await
}

/// The text of the answer to it.
async fn answer(client: &mut Client, session: &str, text: &str) -> String {
    let end = say(client, session, text).await;
    assert_eq!(end["state"], "final", "{end}");
    end["message"]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

async fn error(client: &mut Client, text: &str) -> String {
    let end = say(client, "main", text).await;
    assert_eq!(end["state"], "error", "{end}");
    end["errorMessage"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_has_a_process_that_remembers_it() {
    let agent = Fixture::new();
    let gateway = Embedded::with(agent.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(answer(&mut client, "main", "say one").await, "one");
    let deltas = client.events.iter().filter(|event| event["payload"]["state"] == "delta").count();
    let thoughts = client.events.iter().find(|event| event["payload"]["stream"] == "thinking");
    assert!(deltas > 0 && thoughts.is_some_and(|event| event["payload"]["data"]["text"] == "hm"));
    assert_eq!(answer(&mut client, "main", "say two").await, "two");
    let told = agent.told();
    assert_eq!(told.len(), 2);
    assert!(told[0].text.contains("`main`") && told[0].text.ends_with("[What you are asked now]\nsay one"));
    assert_eq!((&*told[1].text, told[1].pid, &told[1].session), ("say two", told[0].pid, &told[0].session));

    // Another session, another process.
    assert_eq!(answer(&mut client, "other", "say three").await, "three");
    assert_ne!(agent.told()[2].pid, told[0].pid);
    assert_eq!(agent.pids().len(), 2);
    let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
    assert_eq!((&rows[1]["provider"], &rows[1]["model"]), (&json!("acp"), &json!("fix")));
    assert_eq!((&rows[1]["usage"]["input"], &rows[1]["usage"]["output"]), (&json!(70), &json!(7)));

    // What begins anew is not what it remembers.
    client.call("sessions.reset", json!({ "key": "main" })).await;
    assert_eq!(answer(&mut client, "main", "say four").await, "four");
    let told = agent.told();
    assert!(
        told[3].pid == told[0].pid && told[3].session != told[0].session && told[3].text.contains("[Who")
    );

    gateway.gateway.shutdown("over").await;
    drop(gateway);
    agent.gone().await;
}

#[tokio::test]
async fn a_process_that_has_ended_is_replaced_and_finds_its_session_again() {
    let agent = Fixture::new();
    let gateway = Embedded::with(agent.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(answer(&mut client, "main", "say one and leave").await, "one and leave");
    agent.gone().await;
    assert_eq!(answer(&mut client, "main", "say two").await, "two");
    let told = agent.told();
    assert_eq!((&*told[1].text, &told[1].session), ("say two", &told[0].session), "loaded");
    assert_ne!(told[1].pid, told[0].pid);
}

#[tokio::test]
async fn a_crash_fails_one_attempt_and_the_next_is_told_all() {
    let agent = Fixture::new();
    let gateway = Embedded::with(agent.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(answer(&mut client, "main", "say one").await, "one");
    assert_eq!(answer(&mut client, "main", "crash once").await, "crash once");
    let retrying = client.events.iter().find(|event| event["payload"]["data"]["phase"] == "retrying");
    assert_eq!(retrying.expect("it is told")["payload"]["data"]["reason"], "server_error");
    let told = agent.told();
    assert_eq!(told.len(), 3);
    assert!(told[2].pid != told[1].pid && told[2].session != told[1].session);
    let whole = "[What was said before]\nThey: say one\n\nYou: one\n\n[What you are asked now]\ncrash once";
    assert!(told[2].text.ends_with(whole), "{}", told[2].text);
}

#[tokio::test]
async fn what_is_cancelled_ends_and_the_process_goes_on() {
    let agent = Fixture::new();
    let gateway = Embedded::with(agent.settings()).await;
    let mut client = Client::admin(gateway.addr).await;
    let said = json!({ "sessionKey": "main", "message": "hang", "idempotencyKey": "r1" });
    client.call("chat.send", said).await;
    client.event(|event| event["payload"]["state"] == "delta").await;
    client.call("chat.abort", json!({ "sessionKey": "main", "runId": "r1" })).await;
    assert_eq!(client.chat_end("r1").await["state"], "aborted");
    assert_eq!(answer(&mut client, "main", "say again").await, "again");
    let told = agent.told();
    assert_eq!((told[1].text.contains("hang"), told[1].pid), (false, told[0].pid), "{}", told[1].text);
    assert_eq!(agent.cancelled(), 1);
}

#[tokio::test]
async fn people_are_asked_what_it_may_do() {
    let agent = Fixture::new();
    let gateway = Embedded::with(agent.settings()).await;
    let intro = Intro { caps: vec!["plugin-approvals"], ..Intro::default() };
    let mut client = Client::connect(gateway.addr, &intro).await.unwrap();
    for (decision, expected) in [("deny", "no, thank you"), ("allow-once", "with pleasure")] {
        client.events.clear();
        let said = json!({ "sessionKey": "main", "message": "may I", "idempotencyKey": decision });
        client.call("chat.send", said).await;
        let asked = client.event(|e| e["event"] == "plugin.approval.requested").await["payload"].clone();
        assert_eq!(asked["request"]["sessionKey"], "agent:main:main", "{asked}");
        let params = json!({ "id": asked["id"], "decision": decision });
        client.call("plugin.approval.resolve", params).await;
        let end = client.chat_end(decision).await;
        assert_eq!(end["message"]["content"][0]["text"], expected, "{end}");
    }
}

/// Pieces of an answer that belongs to no session, with somebody who decides.
fn pieces(
    agent: &Fixture,
    text: &str,
    permit: impl Fn(Permission) -> BoxFuture<'static, Verdict> + Send + Sync + 'static,
) -> BoxStream<'static, Chunk> {
    let permit: Permit = Arc::new(permit);
    let peers = Peers::new(Guard::at(env!("CARGO_BIN_EXE_crabtree")));
    let settings = serde_json::from_value(agent.settings()["acp"].clone()).unwrap();
    let prompt = Prompt {
        instructions: None,
        conversation: vec![Said::user(text)],
        tools: vec![],
        thinking: Thinking::Off,
    };
    peers.models(&settings, &permit)[0].answer(prompt)
}

#[tokio::test]
async fn what_somebody_permits_is_done() {
    let agent = Fixture::new();
    let (tell, mut asked) = unbounded_channel();
    let answer = pieces(&agent, "may I", move |permission| {
        tell.send(permission).unwrap();
        Box::pin(async { Verdict::Once })
    });
    let answer: Vec<Chunk> = answer.collect().await;
    assert_eq!(answer[0], Chunk::Text("with pleasure".into()));
    let asked = asked.recv().await.unwrap();
    assert_eq!(
        (&*asked.agent, &*asked.title, asked.session, asked.may_always),
        ("fix", "Do it", None, false)
    );
    // What belongs to no session is not kept.
    agent.gone().await;
}

#[tokio::test]
async fn nobody_is_asked_any_more_when_the_answer_is_not_wanted() {
    let agent = Fixture::new();
    let (tell, mut asked) = unbounded_channel();
    let mut answer = pieces(&agent, "may I", move |_| {
        let tell = tell.clone();
        Box::pin(async move {
            let _dropped = Dropped(tell.clone());
            tell.send("asked").unwrap();
            std::future::pending().await
        })
    });
    let waits = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            asked = asked.recv() => asked,
            chunk = answer.next() => panic!("it waits: {chunk:?}"),
        }
    });
    assert_eq!(waits.await.expect("in time"), Some("asked"));
    drop(answer);
    assert_eq!(asked.recv().await, Some("dropped"));
    agent.gone().await;
}

/// Says so when it is dropped.
struct Dropped(UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn what_keeps_an_agent_from_answering_is_told_with_what_to_do() {
    let agent = Fixture::new();
    let mut settings = agent.settings();
    let agents = &mut settings["acp"]["agents"];
    agents["stranger"] = agents["fix"].clone();
    agents["stranger"]["env"]["FIXTURE_STRANGER"] = json!("1");
    agents["gone"] = json!({ "command": "/nowhere/agent" });
    let flood = "head -c 17000000 /dev/zero | tr '\\0' x; sleep 1000";
    agents["endless"] = json!({ "command": "sh", "args": ["-c", flood] });
    agents["broken"] = json!({ "command": "sh", "args": ["-c", "echo no such option >&2; exit 2"] });
    let gateway = Embedded::with(settings).await;
    let mut client = Client::admin(gateway.addr).await;
    let wanted = [
        ("acp/stranger", ["Fixture 9 (acp/stranger) is not logged in", "Who are you? Log in"]),
        ("acp/gone", ["/nowhere/agent cannot be started", "acp.agents.gone"]),
        ("acp/endless", ["does not keep to the protocol", "max line length"]),
        ("acp/broken", ["sh ended at once, saying: no such option", "acp.agents.broken"]),
    ];
    for (model, parts) in wanted {
        client.call("sessions.patch", json!({ "key": "main", "model": model })).await;
        let error = error(&mut client, "hello").await;
        assert!(parts.iter().all(|part| error.contains(part)), "{model}: {error}");
    }
    client.call("sessions.patch", json!({ "key": "main", "model": "acp/fix" })).await;
    assert!(error(&mut client, "fail").await.contains("Fixture 9 (acp/fix) could not answer"));
    assert_eq!(answer(&mut client, "main", "say yes").await, "yes");
}

#[tokio::test]
async fn no_process_outlives_a_gateway_that_is_killed() {
    let agent = Fixture::new();
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), agent.settings().to_string()).unwrap();
    let gateway = Process::start(state.path()).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(answer(&mut client, "main", "say one").await, "one");
    assert_eq!(agent.pids().len(), 1);
    gateway.kill();
    agent.gone().await;
}
