//! A conversation that outgrows its model: summed up near the end of the model's context, and cut where it would not
//! fit.

use crate::client::Client;
use crate::gateway::Embedded;
use crabtree_actors::agents::{Chunk, Model, Prompt, Usage};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// A model with little room, which remembers what it was asked and says how full it is.
struct Small {
    asked: Arc<Mutex<Vec<Vec<String>>>>,
    window: u64,
    used: u64,
}

impl Model for Small {
    fn provider(&self) -> &str {
        "test"
    }

    fn id(&self) -> &str {
        "small"
    }

    fn context_window(&self) -> u64 {
        self.window
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let said: Vec<String> = prompt.conversation.iter().map(|said| said.text().to_owned()).collect();
        let is_summary = said.last().is_some_and(|last| last.contains("Sum up the conversation"));
        self.asked.lock().push(said);
        let text = if is_summary { "the gist of it" } else { "answer" };
        let end = Chunk::End(Usage { input: self.used, output: 1, ..Usage::default() });
        stream::iter([Chunk::Text(text.into()), end]).boxed()
    }
}

async fn gateway(window: u64, used: u64) -> (Embedded, Client, Arc<Mutex<Vec<Vec<String>>>>) {
    let asked = Arc::<Mutex<Vec<Vec<String>>>>::default();
    let model: Arc<dyn Model> = Arc::new(Small { asked: asked.clone(), window, used });
    let settings = json!({ "agents": { "defaults": { "model": "test/small" } } });
    let gateway = Embedded::with_models(settings, vec![model]).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    (gateway, client, asked)
}

async fn say(client: &mut Client, text: &str, run: &str) -> Value {
    let said = json!({ "sessionKey": "main", "message": text, "idempotencyKey": run });
    client.call("chat.send", said).await;
    client.chat_end(run).await
}

#[tokio::test]
async fn a_session_near_the_end_of_its_context_is_summed_up_without_being_asked() {
    let (_gateway, mut client, asked) = gateway(1_000, 900).await;
    for turn in 1..=3 {
        say(&mut client, &format!("question {turn}"), &format!("k{turn}")).await;
    }
    let done = |e: &Value| e["event"] == "session.operation" && e["payload"]["phase"] == "end";
    assert_eq!(client.event(done).await["payload"]["completed"], true);
    say(&mut client, "and now", "k4").await;
    let last = asked.lock().iter().rfind(|said| said.last().unwrap() == "and now").unwrap().clone();
    assert!(last[0].contains("the gist of it"), "{last:?}");
    assert!(!last.contains(&"question 1".to_owned()) && last.contains(&"question 3".to_owned()), "{last:?}");
    let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 8, "the transcript keeps it all");
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_and_what_is_asked_never_is() {
    let (_gateway, mut client, asked) = gateway(100, 10).await;
    say(&mut client, &"long ago ".repeat(40), "k1").await;
    say(&mut client, "short", "k2").await;
    assert_eq!(asked.lock().last().unwrap(), &["short"]);
    let long = "endless ".repeat(200);
    say(&mut client, &long, "k3").await;
    assert_eq!(asked.lock().last().unwrap(), &[long]);
}
