//! The agent's loop: what a model calls, who may call it, what becomes of it, and what clients and the model hear.

mod clients;
mod exec;

use crate::client::{Client, Intro};
use crate::gateway::Embedded;
use crate::providers::server::{Dialect, Provider, Reply};
use crate::providers::settings;
use crabtree_actors::estate::Brought;
use crabtree_actors::tools::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult, plain};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// A tool of the test's own; it takes a `text`.
fn tool<W>(name: &str, act: impl Fn(Call) -> W + Send + Sync + 'static) -> Arc<dyn Tool>
where
    W: Future<Output = ToolResult> + Send + 'static,
{
    let parameters = json!({
        "type": "object", "properties": { "text": { "type": "string" } }, "additionalProperties": false,
    });
    let definition = Definition {
        name: name.into(),
        label: name.to_uppercase(),
        description: format!("{name} of a test"),
        parameters,
        group: "tests".into(),
        permissions: vec![Permission::Web],
        timeout: Duration::from_millis(if name == "late" { 100 } else { 20_000 }),
        sandbox: Sandbox::None,
        effects: Effects::External,
    };
    plain(definition, act)
}

fn echo() -> Arc<dyn Tool> {
    tool("echo", async |call: Call| {
        ToolResult::text(format!("echoed {}", call.args["text"].as_str().unwrap()))
    })
}

/// Counts whoever is in it.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Never ends of its own.
fn hang(inside: &Arc<AtomicUsize>) -> Arc<dyn Tool> {
    let inside = inside.clone();
    tool("hang", move |_| {
        inside.fetch_add(1, SeqCst);
        let inside = Inside(inside.clone());
        async move {
            let _inside = inside;
            std::future::pending().await
        }
    })
}

async fn gateway(provider: &Provider, tools: Vec<Arc<dyn Tool>>) -> (Embedded, Client) {
    gateway_with(settings(provider), tools).await
}

async fn gateway_with(settings: Value, tools: Vec<Arc<dyn Tool>>) -> (Embedded, Client) {
    let gateway = Embedded::with_brought(settings, Brought { tools, ..Brought::default() }).await;
    let intro = Intro { caps: vec!["tool-events"], ..Intro::default() };
    let client = Client::connect(gateway.addr, &intro).await.unwrap();
    (gateway, client)
}

async fn say(client: &mut Client, text: &str, run: &str) -> Value {
    let said = json!({ "sessionKey": "main", "message": text, "idempotencyKey": run });
    client.call("chat.send", said).await;
    client.chat_end(run).await
}

async fn rows(client: &mut Client) -> Vec<Value> {
    let page = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    page["messages"].as_array().unwrap().clone()
}

fn text_of(message: &Value) -> &str {
    message["content"][0]["text"].as_str().unwrap_or_default()
}

/// Answers with calls first, and with words when it is asked again.
fn calls_once(calls: &[(&'static str, Value)]) -> impl Fn(usize) -> Reply + Send + Sync + 'static + use<> {
    let calls = calls.to_vec();
    move |number| match number {
        0 => Reply::text(&["Let me see."]).calling(&calls),
        _ => Reply::text(&["All ", "done"]),
    }
}

/// accepts: I10, I12
#[tokio::test]
async fn in_every_dialect_tools_are_offered_and_called_side_by_side_and_their_results_read() {
    for dialect in Dialect::ALL {
        let calls = [("echo", json!({ "text": "one" })), ("echo", json!({ "text": "two" }))];
        let provider = Provider::start(dialect, calls_once(&calls)).await;
        let (_gateway, mut client) = gateway(&provider, vec![echo()]).await;
        let end = say(&mut client, "go", "k1").await;
        assert_eq!(
            (&end["state"], text_of(&end["message"])),
            (&json!("final"), "Let me see.\n\nAll done"),
            "{dialect:?}: {end}"
        );
        let asked = provider.asked();
        assert_eq!(asked.len(), 2, "{dialect:?}");
        let (first, second) = (asked[0].body.to_string(), asked[1].body.to_string());
        assert!(first.contains("echo of a test") && first.contains("session_status"), "{dialect:?}: {first}");
        let places = ["Let me see.", "\"one\"", "echoed one", "echoed two"]
            .map(|said| second.find(said).or(second.find(&said.replace('"', "\\\""))));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{dialect:?}: {places:?} {second}");
        let kinds: Vec<Value> = rows(&mut client).await.iter().map(|row| row["role"].clone()).collect();
        assert_eq!(kinds, ["user", "assistant", "toolResult", "toolResult", "assistant"], "{dialect:?}");
    }
}

/// accepts: I11, I12
#[tokio::test]
async fn a_call_that_may_not_be_made_is_a_result_that_says_why() {
    let calls = [
        ("nothing", json!({})),
        ("echo", json!({ "text": 5 })),
        ("echo", json!({ "text": "x", "more": 1 })),
        ("hang", json!({})),
    ];
    let provider = Provider::start(Dialect::Completions, calls_once(&calls)).await;
    let inside = Arc::default();
    let mut settings = settings(&provider);
    settings["tools"] = json!({ "deny": ["hang"] });
    let (_gateway, mut client) = gateway_with(settings, vec![echo(), hang(&inside)]).await;
    assert_eq!(say(&mut client, "go", "k1").await["state"], "final");
    assert!(
        !provider.asked()[0].body.to_string().contains("hang of a test"),
        "what is denied is not offered"
    );
    let rows = rows(&mut client).await;
    let mut said: Vec<(&str, bool)> = rows
        .iter()
        .filter(|row| row["role"] == "toolResult")
        .map(|row| (text_of(row), row["isError"] == true))
        .collect();
    said.sort_unstable();
    let [extra, typed, denied, unknown] = &said[..] else { panic!("{said:?}") };
    assert!(said.iter().all(|(_, is_error)| *is_error), "{said:?}");
    assert!(extra.0.contains("Invalid arguments for echo") && extra.0.contains("more"), "{extra:?}");
    assert!(typed.0.contains("at /text"), "{typed:?}");
    assert_eq!((denied.0, unknown.0), ("Tool not allowed in this session: hang", "Tool not found: nothing"));
}

/// accepts: I11
#[tokio::test]
async fn what_is_late_or_crashes_or_says_too_much_ends_nothing_but_itself() {
    let calls =
        [("late", json!({})), ("crash", json!({})), ("much", json!({})), ("echo", json!({ "text": "x" }))];
    let provider = Provider::start(Dialect::Completions, calls_once(&calls)).await;
    let late = tool("late", async |_| std::future::pending().await);
    let crash = tool("crash", async |call: Call| panic!("no {}", call.id));
    let much = tool("much", async |_| ToolResult::text("m".repeat(1_000_000)));
    let (_gateway, mut client) = gateway(&provider, vec![echo(), late, crash, much]).await;
    assert_eq!(text_of(&say(&mut client, "go", "k1").await["message"]), "Let me see.\n\nAll done");
    let rows = rows(&mut client).await;
    let result = |name: &str| rows.iter().find(|row| row["toolName"] == name).unwrap();
    assert!(text_of(result("late")).contains("took longer"), "{}", result("late"));
    assert!(text_of(result("crash")).contains("crashed"), "{}", result("crash"));
    let much = text_of(result("much"));
    assert!(much.len() < 70_000 && much.contains("bytes left out"), "{}", much.len());
    assert_eq!(result("echo")["isError"], false);
}

#[tokio::test]
async fn what_is_said_while_tools_run_is_read_with_their_results() {
    let calls = [("pause", json!({}))];
    let provider = Provider::start(Dialect::Completions, calls_once(&calls)).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    let pause = tool("pause", move |_| {
        let opened = opened.clone();
        async move {
            opened.notified().await;
            ToolResult::text("paused")
        }
    });
    let (_gateway, mut client) = gateway(&provider, vec![pause]).await;
    let said = json!({ "sessionKey": "main", "message": "go", "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["stream"] == "tool" && e["payload"]["data"]["phase"] == "start").await;
    let said =
        json!({ "sessionKey": "main", "message": "and this", "idempotencyKey": "k2", "queueMode": "steer" });
    client.call("chat.send", said).await;
    gate.notify_one();
    assert_eq!(client.chat_end("k1").await["state"], "final");
    let second = provider.asked()[1].body["messages"].clone();
    let last: Vec<&Value> = second.as_array().unwrap().iter().rev().take(2).collect();
    assert_eq!((&last[1]["role"], &last[0]["role"]), (&json!("tool"), &json!("user")), "{second}");
    assert!(last[0].to_string().contains("and this"));
}

/// accepts: A12
#[tokio::test]
async fn an_abort_ends_the_tools_of_a_run() {
    let provider = Provider::start(Dialect::Completions, calls_once(&[("hang", json!({}))])).await;
    let inside = Arc::<AtomicUsize>::default();
    let (_gateway, mut client) = gateway(&provider, vec![hang(&inside)]).await;
    let said = json!({ "sessionKey": "main", "message": "go", "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["stream"] == "tool" && e["payload"]["data"]["phase"] == "start").await;
    client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    assert_eq!(client.chat_end("k1").await["state"], "aborted");
    for _ in 0..200 {
        if inside.load(SeqCst) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(inside.load(SeqCst), 0, "the tool was dropped");
    // The next turn has a conversation that providers take: every call has a result.
    assert_eq!(say(&mut client, "again", "k2").await["state"], "final");
    let asked = provider.asked()[1].body.to_string();
    assert!(asked.contains("no result: the turn was ended"), "{asked}");
}

#[tokio::test]
async fn a_model_that_does_nothing_but_call_tools_is_stopped() {
    let always = |_| Reply::text(&[]).calling(&[("echo", json!({ "text": "x" }))]);
    let provider = Provider::start(Dialect::Completions, always).await;
    let mut settings = settings(&provider);
    settings["agents"]["defaults"]["maxRounds"] = json!(3);
    let (_gateway, mut client) = gateway_with(settings, vec![echo()]).await;
    let end = say(&mut client, "go", "k1").await;
    let why = end["errorMessage"].as_str().unwrap();
    assert!(why.contains("agents.defaults.maxRounds"), "{why}");
    assert_eq!(provider.asked().len(), 3);
}

/// Some providers call each time under the same id.
#[tokio::test]
async fn two_answers_that_call_under_the_same_id_have_called_twice() {
    let answers = |number| match number {
        0 => Reply::text(&[]).calling(&[("echo", json!({ "text": "one" }))]),
        1 => Reply::text(&[]).calling(&[("echo", json!({ "text": "two" }))]),
        _ => Reply::text(&["done"]),
    };
    let provider = Provider::start(Dialect::Completions, answers).await;
    let (_gateway, mut client) = gateway(&provider, vec![echo()]).await;
    assert_eq!(text_of(&say(&mut client, "go", "k1").await["message"]), "done");
    let rows = rows(&mut client).await;
    let results: Vec<&Value> = rows.iter().filter(|row| row["role"] == "toolResult").collect();
    assert_eq!(results.iter().map(|row| text_of(row)).collect::<Vec<_>>(), ["echoed one", "echoed two"]);
    assert_ne!(results[0]["toolCallId"], results[1]["toolCallId"], "and each has a name of its own");
}

/// As recorded in `tool_exec`: item, tool, item; the row of the call before, and no event for that of the result.
#[tokio::test]
async fn clients_follow_a_tool_from_its_call_to_its_result() {
    let provider =
        Provider::start(Dialect::Completions, calls_once(&[("echo", json!({ "text": "x" }))])).await;
    let (gateway, mut client) = gateway(&provider, vec![echo()]).await;
    let mut watcher = Client::admin(gateway.addr).await;
    watcher.call("sessions.subscribe", json!({})).await;
    say(&mut client, "go", "k1").await;
    watcher.chat_end("k1").await;
    let of = |events: &[Value]| -> Vec<String> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tools = events.iter().filter(|e| {
            e["event"] == "session.tool" || ["item", "tool"].contains(&&*word(&e["payload"]["stream"]))
        });
        let named = |e: &Value| {
            let (event, data) = (word(&e["event"]), &e["payload"]["data"]);
            format!(
                "{event} {} {} {}",
                word(&e["payload"]["stream"]),
                word(&data["kind"]),
                word(&data["phase"])
            )
        };
        tools.map(|e| named(e).replace("  ", " ")).collect()
    };
    let preamble = ["agent item preamble update", "agent item preamble end"];
    assert_eq!(
        of(&client.events),
        [
            &preamble[..],
            &["agent item tool start", "agent tool start", "agent tool result", "agent item tool end"]
        ]
        .concat()
    );
    assert_eq!(
        of(&watcher.events),
        [
            &preamble[..],
            &[
                "agent item tool start",
                "session.tool tool start",
                "session.tool tool result",
                "agent item tool end"
            ]
        ]
        .concat()
    );
    let told: Vec<&Value> = watcher
        .events
        .iter()
        .filter(|e| e["event"] == "session.message")
        .map(|e| &e["payload"]["message"]["role"])
        .collect();
    assert_eq!(told, ["user", "assistant", "assistant"]);
    let start = client.events.iter().find(|e| e["payload"]["stream"] == "tool").unwrap();
    assert_eq!(start["payload"]["data"]["args"], json!({ "text": "x" }));
    assert_eq!(start["payload"]["session"]["key"], "agent:main:main");
    let end = client.events.iter().rfind(|e| e["payload"]["data"]["phase"] == "end").unwrap();
    assert_eq!(end["payload"]["data"]["terminalReceipt"]["successfulToolNames"], json!(["echo"]));
}
