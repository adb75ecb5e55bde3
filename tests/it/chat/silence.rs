//! An answer of `NO_REPLY`: whom it is told to, and who is asked once more.

use super::{Client, Embedded, history, message};
use crabtree_actors::agents::{Chunk, Model, Prompt, Said, Usage};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// A model that gives these answers, one after the other, and the last one ever after.
struct Script {
    answers: &'static [&'static [&'static str]],
    asked: Arc<Mutex<Vec<String>>>,
}

impl Model for Script {
    fn provider(&self) -> &str {
        "test"
    }

    fn id(&self) -> &str {
        "script"
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let mut asked = self.asked.lock();
        let answer = self.answers[asked.len().min(self.answers.len() - 1)];
        asked.push(prompt.conversation.last().map_or("", Said::text).to_owned());
        let pieces = answer.iter().map(|piece| Chunk::Text((*piece).into()));
        stream::iter(pieces.chain([Chunk::End(Usage::default())])).boxed()
    }
}

async fn scripted(
    answers: &'static [&'static [&'static str]],
) -> (Embedded, Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let config = json!({ "agents": { "defaults": { "model": "test/script" } } });
    let model = Script { answers, asked: asked.clone() };
    let gateway = Embedded::with_models(config, vec![Arc::new(model)]).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    (gateway, client, asked)
}

async fn say(client: &mut Client, run: &str) -> Value {
    client.call("chat.send", message("main", "anything new?", run)).await;
    client.chat_end(run).await
}

/// Everything of the run that was told.
fn told(client: &Client) -> String {
    client.events.iter().map(Value::to_string).collect()
}

#[tokio::test]
async fn who_is_answered_with_silence_is_answered_again_and_never_sees_the_word() {
    let (_gateway, mut client, asked) = scripted(&[&["NO_", "REPLY"], &["All ", "quiet."]]).await;
    let end = say(&mut client, "k1").await;
    assert_eq!(end["message"]["content"][0]["text"], "All quiet.");
    assert!(!told(&client).contains("NO_"), "{}", told(&client));
    assert!(asked.lock()[1].starts_with("[System] Your last turn did not produce"));
    let silent = client.event(|e| e["payload"]["phase"] == "message").await;
    assert_eq!(silent["payload"]["messageSeq"], 2);
    let rows = history(&mut client, "main").await;
    let seqs: Vec<&Value> = rows.iter().map(|row| &row["__openclaw"]["seq"]).collect();
    assert_eq!(seqs, [&json!(1), &json!(3)], "the silent row keeps its place and is not shown");
    // The note is for that turn alone.
    say(&mut client, "k2").await;
    assert_eq!(asked.lock()[2], "anything new?");
}

#[tokio::test]
async fn nobody_is_asked_a_third_time_and_the_end_has_no_message() {
    let (_gateway, mut client, asked) = scripted(&[&["NO_REPLY"]]).await;
    let end = say(&mut client, "k1").await;
    assert_eq!((&end["state"], end.get("message")), (&json!("final"), None));
    assert_eq!(asked.lock().len(), 2);
    assert!(!told(&client).contains("NO_REPLY"), "{}", told(&client));
    let waited = client.call("agent.wait", json!({ "runId": "k1" })).await;
    assert_eq!(waited["terminalReply"], json!({ "disposition": "empty" }));
}

#[tokio::test]
async fn what_only_begins_like_the_word_is_told_and_the_word_behind_an_answer_is_not() {
    let (_gateway, mut client, asked) = scripted(&[&["NO"], &["Sure ", "thing. ", "NO_", "REPLY"]]).await;
    assert_eq!(say(&mut client, "k1").await["message"]["content"][0]["text"], "NO");
    assert_eq!(say(&mut client, "k2").await["message"]["content"][0]["text"], "Sure thing.");
    assert_eq!(asked.lock().len(), 2);
    let rows = history(&mut client, "main").await;
    assert_eq!(rows[3]["content"][0]["text"], "Sure thing.");
    assert!(!told(&client).contains("NO_"), "{}", told(&client));
}

#[tokio::test]
async fn a_wake_and_a_group_may_be_answered_with_silence() {
    let (_gateway, mut client, asked) = scripted(&[&["NO_REPLY"]]).await;
    client.call("wake", json!({ "mode": "now", "text": "the door" })).await;
    client.event(|e| e["event"] == "chat" && e["payload"]["state"] == "final").await;
    assert_eq!(asked.lock().len(), 1);
    client.call("chat.send", message("agent:main:telegram:group:7", "hello all", "k1")).await;
    client.chat_end("k1").await;
    assert_eq!(asked.lock().len(), 2);
}
