//! `POST /v1/responses`

use super::conversation::{Conversation, Message};
use super::follow::{Follower, Step, ended};
use super::sse::{self, Gone, Sender};
use super::target::{Names, Said, Target};
use super::{Wrong, no_tools, parsed, words};
use crate::routes::json;
use crabtree_actors::agents::Usage;
use crabtree_actors::gateway::Wiring;
use crabtree_actors::store;
use crabtree_protocol::SessionKey;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

const NAMES: Names = Names { answer: "resp", session: "openresponses", client: "openresponses-http" };

/// What is read of a request; what else it says is left to the agent.
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    #[serde(default)]
    input: Value,
    instructions: Option<String>,
    user: Option<String>,
    stream: Option<bool>,
    previous_response_id: Option<String>,
    #[serde(flatten)]
    rest: Value,
}

/// Answers it.
pub async fn answer(body: &[u8], headers: &HeaderMap, wiring: &Arc<Wiring>) -> Result<Response, Wrong> {
    let body: Body = parsed(body)?;
    let Some(model) = body.model.filter(|model| !model.is_empty()) else {
        return Err(Wrong::request("model: Invalid input: expected string, received undefined"));
    };
    no_tools(&body.rest, &["tools"])?;
    let estate = &wiring.store.estate;
    let after = match body.previous_response_id {
        Some(id) => Some(session_of(wiring, id).await?),
        None => None,
    };
    let said = Said { model: &model, user: body.user.as_deref(), after };
    let target = Target::of(said, headers, &NAMES, &estate.catalog.load())?;
    let messages = messages(body.input, body.instructions)?;
    let asked = Conversation::of(&messages, target.is_fresh)?;
    let head = Head {
        id: target.run_id.to_string(),
        item: format!("msg_{}", Uuid::new_v4()),
        created: estate.clock.now_ms() / 1000,
        model,
    };
    let answering = target.ask(asked, wiring)?;
    if body.stream == Some(true) {
        let (sender, response) = sse::stream();
        // A client that has gone is told nothing more.
        tokio::spawn(async move {
            let _ = tell(head, Follower::of(answering), sender).await;
        });
        return Ok(response);
    }
    let outcome = ended(answering).await?;
    let item = head.message("completed", Some(words(&outcome)?));
    Ok(json(StatusCode::OK, &head.response("completed", json!([item]), &outcome.usage)))
}

/// The session of an earlier answer, which is the name of a run.
async fn session_of(wiring: &Wiring, id: String) -> Result<SessionKey, Wrong> {
    let unknown = || Wrong::request(format!("Previous response with id '{id}' not found."));
    let run = id.clone();
    let row = wiring.store.read(move |c| store::input_by_run(c, &run)).await;
    let row = row.map_err(|e| Wrong::failed(e.to_string()))?.ok_or_else(unknown)?;
    let agent = wiring.store.estate.catalog.load().default_agent().id.clone();
    Ok(SessionKey::canonical(&row.session_key, &agent)?)
}

/// `input` as messages.
fn messages(input: Value, instructions: Option<String>) -> Result<Vec<Message>, Wrong> {
    let said = match input {
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        Value::Array(items) => items,
        _ => return Err(Wrong::request("input: Invalid input: expected string or array")),
    };
    let system = instructions.map(|text| json!({ "role": "system", "content": text }));
    let mut messages = Vec::new();
    for item in system.into_iter().chain(said) {
        match item["type"].as_str() {
            None | Some("message") => {
                messages.push(serde_json::from_value(item).map_err(|e| Wrong::request(e.to_string()))?)
            }
            Some("reasoning" | "item_reference") => {}
            Some(kind) => {
                return Err(Wrong::request(format!(
                    "Items of type `{kind}` are not taken: the agent runs its own tools."
                )));
            }
        }
    }
    Ok(messages)
}

/// What all parts of an answer have in common.
struct Head {
    id: String,
    item: String,
    created: i64,
    model: String,
}

impl Head {
    fn response(&self, status: &str, output: Value, usage: &Usage) -> Value {
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "output": output,
            "usage": used(usage),
        })
    }

    fn message(&self, status: &str, text: Option<&str>) -> Value {
        let content: Vec<Value> =
            text.into_iter().map(|text| json!({ "type": "output_text", "text": text })).collect();
        let mut message = json!({
            "type": "message", "id": self.item, "role": "assistant", "content": content, "status": status,
        });
        if status == "completed" {
            message["phase"] = json!("final_answer");
        }
        message
    }
}

/// Events in their order, numbered.
struct Events {
    sender: Sender,
    number: u64,
}

impl Events {
    async fn tell(&mut self, kind: &str, rest: Value) -> Result<(), Gone> {
        let mut event = json!({ "type": kind, "sequence_number": self.number });
        if let (Some(event), Value::Object(rest)) = (event.as_object_mut(), rest) {
            event.extend(rest);
        }
        self.number += 1;
        self.sender.typed(&event).await
    }
}

async fn tell(head: Head, mut follower: Follower, sender: Sender) -> Result<(), Gone> {
    let mut events = Events { sender, number: 0 };
    let begun = head.response("in_progress", json!([]), &Usage::default());
    for kind in ["response.created", "response.in_progress"] {
        events.tell(kind, json!({ "response": begun })).await?;
    }
    let added = json!({ "output_index": 0, "item": head.message("in_progress", None) });
    events.tell("response.output_item.added", added).await?;
    let part = |name: &str, value: Value| {
        let mut part = json!({ "item_id": head.item, "output_index": 0, "content_index": 0 });
        part[name] = value;
        part
    };
    let empty = json!({ "type": "output_text", "text": "" });
    events.tell("response.content_part.added", part("part", empty)).await?;
    loop {
        match follower.next(&events.sender).await.ok_or(Gone)? {
            Step::More(text) => events.tell("response.output_text.delta", part("delta", json!(text))).await?,
            Step::Ended(rest, outcome) => {
                if !rest.is_empty() {
                    events.tell("response.output_text.delta", part("delta", json!(rest))).await?;
                }
                let text = outcome.text.trim_end();
                events.tell("response.output_text.done", part("text", json!(text))).await?;
                let whole = json!({ "type": "output_text", "text": text });
                events.tell("response.content_part.done", part("part", whole)).await?;
                let item = head.message("completed", Some(text));
                let done = json!({ "output_index": 0, "item": item });
                events.tell("response.output_item.done", done).await?;
                let response = head.response("completed", json!([item]), &outcome.usage);
                events.tell("response.completed", json!({ "response": response })).await?;
                break;
            }
            Step::Failed(wrong) => {
                let mut response = head.response("failed", json!([]), &Usage::default());
                response["error"] = json!({ "code": wrong.kind, "message": wrong.message });
                events.tell("response.failed", json!({ "response": response })).await?;
                break;
            }
        }
    }
    events.sender.done().await
}

fn used(usage: &Usage) -> Value {
    let read = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "input_tokens": read,
        "input_tokens_details": { "cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": read + usage.output,
    })
}
