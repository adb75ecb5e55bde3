//! `POST /v1/chat/completions`

use super::conversation::{Conversation, Message};
use super::follow::{Follower, Step, ended};
use super::sse::{self, Gone, Sender};
use super::target::{Names, ROOT, Said, Target};
use super::{Wrong, no_tools, parsed, words};
use crate::routes::json;
use crabtree_actors::agents::Usage;
use crabtree_actors::gateway::Wiring;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::sync::Arc;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

const NAMES: Names = Names { answer: "chatcmpl", session: "openai", client: "openai-http" };
/// Sequences that may end an answer (as recorded).
const MAX_STOPS: usize = 4;
/// What may be asked of a number.
const RANGES: [(&str, RangeInclusive<f64>, &str); 4] = [
    ("temperature", 0.0..=2.0, "0 and 2"),
    ("top_p", 0.0..=1.0, "0 and 1"),
    ("frequency_penalty", -2.0..=2.0, "-2 and 2"),
    ("presence_penalty", -2.0..=2.0, "-2 and 2"),
];

/// What is read of a request. How a model is to choose its words is checked and left to the agent.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    messages: Vec<Message>,
    model: Option<String>,
    user: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    rest: Value,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Answers it.
pub async fn answer(body: &[u8], headers: &HeaderMap, wiring: &Arc<Wiring>) -> Result<Response, Wrong> {
    let body: Body = parsed(body)?;
    check(&body.rest)?;
    let estate = &wiring.store.estate;
    let model = body.model.unwrap_or_else(|| ROOT.to_owned());
    let said = Said { model: &model, user: body.user.as_deref(), after: None };
    let target = Target::of(said, headers, &NAMES, &estate.catalog.load())?;
    let asked = Conversation::of(&body.messages, target.is_fresh)?;
    let head = Head {
        id: target.run_id.to_string(),
        created: estate.clock.now_ms() / 1000,
        model,
        usage: body.stream_options.is_some_and(|options| options.include_usage),
    };
    let answering = target.ask(asked, wiring)?;
    if body.stream == Some(true) {
        let (sender, response) = sse::stream();
        // A client that has gone is told nothing more.
        tokio::spawn(async move {
            let _ = tell(head, Follower::of(answering), &sender).await;
        });
        return Ok(response);
    }
    let outcome = ended(answering).await?;
    let message = json!({ "role": "assistant", "content": words(&outcome)? });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    Ok(json(
        StatusCode::OK,
        &json!({
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [choice],
            "usage": used(&outcome.usage),
        }),
    ))
}

/// What all parts of an answer have in common.
struct Head {
    id: String,
    created: i64,
    model: String,
    usage: bool,
}

impl Head {
    fn chunk(&self, delta: &Value, reason: Option<&str>) -> Value {
        self.with(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]))
    }

    fn with(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

async fn tell(head: Head, mut follower: Follower, sender: &Sender) -> Result<(), Gone> {
    sender.data(&head.chunk(&json!({ "role": "assistant" }), None)).await?;
    loop {
        match follower.next(sender).await.ok_or(Gone)? {
            Step::More(text) => sender.data(&head.chunk(&json!({ "content": text }), None)).await?,
            Step::Ended(rest, outcome) => {
                if !rest.is_empty() {
                    sender.data(&head.chunk(&json!({ "content": rest }), None)).await?;
                }
                sender.data(&head.chunk(&json!({}), Some("stop"))).await?;
                if head.usage {
                    let mut last = head.with(json!([]));
                    last["usage"] = used(&outcome.usage);
                    sender.data(&last).await?;
                }
                break;
            }
            Step::Failed(wrong) => {
                sender.data(&wrong.body()).await?;
                break;
            }
        }
    }
    sender.done().await
}

fn used(usage: &Usage) -> Value {
    let read = usage.input + usage.cache_read + usage.cache_write;
    json!({ "prompt_tokens": read, "completion_tokens": usage.output, "total_tokens": read + usage.output })
}

/// Refuses what OpenAI would, and what an agent cannot heed.
fn check(body: &Value) -> Result<(), Wrong> {
    for (name, range, words) in RANGES {
        let value = &body[name];
        if !value.is_null() && !value.as_f64().is_some_and(|value| range.contains(&value)) {
            return Err(Wrong::request(format!("`{name}` must be between {words}.")));
        }
    }
    for name in ["max_completion_tokens", "max_tokens"] {
        if !body[name].is_null() && body[name].as_u64().is_none_or(|most| most == 0) {
            return Err(Wrong::request(format!("`{name}` must be a positive integer.")));
        }
    }
    if !body["seed"].is_null() && !body["seed"].is_i64() {
        return Err(Wrong::request("`seed` must be an integer."));
    }
    let is_stop = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let stops = match &body["stop"] {
        Value::Null => true,
        Value::Array(all) => all.len() <= MAX_STOPS && all.iter().all(is_stop),
        one => is_stop(one),
    };
    if !stops {
        return Err(Wrong::request(format!(
            "`stop` must be a string or an array of up to {MAX_STOPS} strings."
        )));
    }
    no_tools(body, &["tools", "functions"])
}
