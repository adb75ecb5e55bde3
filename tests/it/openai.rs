//! `/v1`: what programs that know OpenAI's API are answered, over real sockets.

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crate::mock_model;
use crabtree_actors::agents::Prompt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CHAT: &str = "POST /v1/chat/completions";
const RESPONSES: &str = "POST /v1/responses";

async fn gateway() -> Embedded {
    let endpoints = json!({ "chatCompletions": { "enabled": true }, "responses": { "enabled": true } });
    let config = json!({
        "gateway": { "http": { "endpoints": endpoints } },
        "agents": { "defaults": { "model": "mock/mock-1" }, "list": [{ "id": "main", "default": true }, { "id": "ops" }] },
    });
    Embedded::with_models(config, mock_model::models()).await
}

/// A request on a socket of its own.
async fn open(addr: SocketAddr, what: &str, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{what} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\ncontent-length: {}\r\n{head}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(request.as_bytes()).await;
    stream
}

/// Status, head in small letters, and body.
pub async fn raw(addr: SocketAddr, what: &str, head: &str, body: &str) -> (u16, String, String) {
    let mut answer = Vec::new();
    let mut stream = open(addr, what, head, body).await;
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[(size + 2).min(rest.len())..];
        if size == 0 {
            break;
        }
    }
    whole
}

async fn ask(addr: SocketAddr, what: &str, head: &str, body: Value) -> (u16, Value) {
    let head = format!("Authorization: Bearer {TOKEN}\r\n{head}");
    let (status, _, body) = raw(addr, what, &head, &body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| json!(body)))
}

fn said(text: &str) -> Value {
    json!({ "model": "openclaw", "messages": [{ "role": "user", "content": text }] })
}

fn wrong(message: &str) -> Value {
    json!({ "error": { "message": message, "type": "invalid_request_error" } })
}

/// The data of each event.
fn events(body: &str) -> Vec<Value> {
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

/// accepts: J2
#[tokio::test]
async fn models_are_agents_and_what_is_not_enabled_is_not_there() {
    let gateway = gateway().await;
    let (status, list) = ask(gateway.addr, "GET /v1/models", "", json!(null)).await;
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!((status, ids), (200, vec!["openclaw", "openclaw/default", "openclaw/main", "openclaw/ops"]));
    let one = json!({ "id": "openclaw/default", "object": "model", "created": 0, "owned_by": "openclaw", "permission": [] });
    assert_eq!(ask(gateway.addr, "GET /v1/models/openclaw%2Fdefault", "", json!(null)).await, (200, one));
    assert_eq!(
        ask(gateway.addr, "GET /v1/models/gpt", "", json!(null)).await,
        (400, wrong("Invalid model id."))
    );
    assert_eq!(ask(gateway.addr, "GET /v1/models/openclaw%2Fnobody", "", json!(null)).await.0, 404);
    assert_eq!(ask(gateway.addr, "POST /v1/models", "", json!({})).await.0, 405);
    assert_eq!(ask(gateway.addr, "GET /v1/nope", "", json!(null)).await, (404, json!("Not Found")));
    let off = Embedded::start().await;
    for what in [CHAT, RESPONSES, "GET /v1/models", "POST /v1/embeddings"] {
        assert_eq!(ask(off.addr, what, "", said("hi")).await, (404, json!("Not Found")), "{what}");
    }
}

/// accepts: J2
#[tokio::test]
async fn what_cannot_be_answered_is_refused_in_the_recorded_words() {
    let gateway = gateway().await;
    for (head, body, status, answer) in [
        ("", json!({}), 400, wrong("Missing user message in `messages`.")),
        (
            "",
            json!({ "messages": [{ "role": "system", "content": "x" }] }),
            400,
            wrong("Missing user message in `messages`."),
        ),
        (
            "",
            json!({ "model": "gpt-9", "messages": said("x")["messages"] }),
            400,
            wrong("Invalid `model`. Use `openclaw` or `openclaw/<agentId>`."),
        ),
        (
            "",
            json!({ "model": "openclaw/nope", "messages": said("x")["messages"] }),
            400,
            wrong("Unknown agent 'nope'."),
        ),
        (
            "",
            json!({ "temperature": 3, "messages": said("x")["messages"] }),
            400,
            wrong("`temperature` must be between 0 and 2."),
        ),
        (
            "",
            json!({ "max_tokens": 0, "messages": said("x")["messages"] }),
            400,
            wrong("`max_tokens` must be a positive integer."),
        ),
        (
            "x-openclaw-session-key: cron:x\r\n",
            said("x"),
            400,
            wrong("`x-openclaw-session-key` cannot use reserved internal session namespaces."),
        ),
        (
            "x-openclaw-model: nope/none\r\n",
            said("x"),
            404,
            wrong("Unknown model: nope/none. `models.list` tells which there are."),
        ),
    ] {
        assert_eq!(ask(gateway.addr, CHAT, head, body.clone()).await, (status, answer), "{head}{body}");
    }
    let mut tools = said("x");
    tools["tools"] = json!([{ "type": "function", "function": { "name": "get_weather" } }]);
    let (status, refused) = ask(gateway.addr, CHAT, "", tools.clone()).await;
    assert_eq!(status, 400);
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("the agent runs its own tools"),
        "{refused}"
    );
    tools["tool_choice"] = json!("none");
    assert_eq!(ask(gateway.addr, CHAT, "", tools).await.0, 200);
    let unauthorized = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
    for head in ["", "Authorization: Bearer no\r\n"] {
        let (status, _, body) = raw(gateway.addr, CHAT, head, &said("x").to_string()).await;
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (401, unauthorized.clone()));
    }
    let responses = [
        (json!({}), wrong("model: Invalid input: expected string, received undefined")),
        (
            json!({ "model": "openclaw", "input": "x", "previous_response_id": "resp_x" }),
            wrong("Previous response with id 'resp_x' not found."),
        ),
    ];
    for (body, answer) in responses {
        assert_eq!(ask(gateway.addr, RESPONSES, "", body).await, (400, answer));
    }
}

/// accepts: J2
#[tokio::test]
async fn a_completion_is_a_turn_that_operators_see() {
    let gateway = gateway().await;
    let mut client = Client::admin(gateway.addr).await;
    let (status, answer) = ask(gateway.addr, CHAT, "", said("MOCK{n=3}")).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl_"), "{id}");
    let expected = json!({
        "id": id, "object": "chat.completion", "created": answer["created"], "model": "openclaw",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "tok0 tok1 tok2" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103 },
    });
    assert_eq!(answer, expected);
    let ended = client
        .event(|told| {
            told["event"] == "agent"
                && told["payload"]["runId"] == id
                && told["payload"]["data"]["phase"] == "end"
        })
        .await;
    let key = format!("agent:main:openai:{}", id.strip_prefix("chatcmpl_").unwrap());
    assert_eq!(ended["payload"]["sessionKey"], json!(key));
}

/// accepts: J2
#[tokio::test]
async fn a_stream_says_the_same_in_pieces() {
    let gateway = gateway().await;
    let mut body = said("MOCK{n=4;d=60}");
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let head = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, head, body) = raw(gateway.addr, CHAT, &head, &body.to_string()).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/event-stream; charset=utf-8"), "{head}");
    let events = events(&body);
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant" }));
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "tok0 tok1 tok2 tok3");
    assert!(chunks.len() > 4, "in pieces: {body}");
    let [.., end, usage] = chunks else { panic!("{chunks:?}") };
    assert_eq!(end["choices"][0], json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(104)));
}

/// accepts: J2
#[tokio::test]
async fn a_turn_that_fails_is_an_error_and_is_not_asked_for_again() {
    let gateway = gateway().await;
    let head = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, answered, body) = raw(gateway.addr, CHAT, &head, &said("MOCK{err=400}").to_string()).await;
    assert_eq!(status, 500, "{body}");
    assert!(
        answered.contains("x-should-retry: false") && body.contains("\"api_error\""),
        "{answered}\n{body}"
    );
    let mut body = said("MOCK{err=400}");
    body["stream"] = json!(true);
    let (_, _, body) = raw(gateway.addr, CHAT, &head, &body.to_string()).await;
    let told = events(&body);
    assert_eq!(
        (&told[told.len() - 2]["error"]["type"], &told[told.len() - 1]),
        (&json!("api_error"), &json!("[DONE]"))
    );
    let failed = json!({ "model": "openclaw", "input": "MOCK{err=400}", "stream": true });
    let (_, _, body) = raw(gateway.addr, RESPONSES, &head, &failed.to_string()).await;
    let told = events(&body);
    assert_eq!(told[told.len() - 2]["type"], "response.failed", "{body}");
}

#[tokio::test]
async fn who_goes_away_stops_the_run() {
    let gateway = gateway().await;
    let mut client = Client::admin(gateway.addr).await;
    let head = format!("Authorization: Bearer {TOKEN}\r\n");
    for stream in [true, false] {
        client.events.clear();
        let mut body = said("MOCK{n=2000;d=20}");
        body["stream"] = json!(stream);
        let socket = open(gateway.addr, CHAT, &head, &body.to_string()).await;
        let begun = client.event(|told| told["payload"]["state"] == "delta").await;
        drop(socket);
        let ended = client.event(|told| told["payload"]["state"] == "aborted").await;
        assert_eq!(ended["payload"]["runId"], begun["payload"]["runId"], "stream: {stream}");
    }
}

#[tokio::test]
async fn the_same_idempotency_key_is_answered_once() {
    let gateway = gateway().await;
    let key = "Idempotency-Key: once\r\n";
    let (first, again) = (
        ask(gateway.addr, CHAT, key, said("hello")).await,
        ask(gateway.addr, CHAT, key, said("hello")).await,
    );
    assert_eq!((first.0, &first.1["id"]), (200, &again.1["id"]));
    assert_eq!(first.1["choices"], again.1["choices"]);
    let mut client = Client::admin(gateway.addr).await;
    let listed = client.call("sessions.list", json!({})).await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
}

/// accepts: J2
#[tokio::test]
async fn sessions_go_on_by_user_by_header_and_by_the_last_response() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let endpoints = json!({ "chatCompletions": { "enabled": true }, "responses": { "enabled": true } });
    let config = json!({
        "gateway": { "http": { "endpoints": endpoints } }, "agents": { "defaults": { "model": "test/ear" } },
    });
    let gateway = Embedded::with_models(config, vec![Arc::new(mock_model::Ear(heard.clone()))]).await;
    let last = || {
        let prompts = heard.lock();
        let prompt: &Prompt = prompts.last().unwrap();
        (
            prompt.conversation.iter().map(|said| said.text().to_owned()).collect::<Vec<_>>(),
            prompt.instructions.clone().unwrap().besides,
        )
    };
    let long = json!({ "model": "openclaw", "messages": [
        { "role": "system", "content": "Speak like a crab." },
        { "role": "user", "content": "one" }, { "role": "assistant", "content": "heard" }, { "role": "user", "content": "two" },
    ] });
    ask(gateway.addr, CHAT, "", long.clone()).await;
    let (said_then, told) = last();
    assert_eq!(
        said_then,
        [
            "[Said before in this conversation, for context]\nUser: one\nYou: heard\n[The message for you]\ntwo"
        ]
    );
    assert_eq!(told.as_deref(), Some("Speak like a crab."));
    let mut ada = said("one");
    ada["user"] = json!("ada");
    ask(gateway.addr, CHAT, "", ada).await;
    let mut ada = long;
    ada["user"] = json!("ada");
    ask(gateway.addr, CHAT, "", ada).await;
    assert_eq!(last().0, ["one", "heard", "two"], "what it knows is not told again");
    ask(gateway.addr, CHAT, "x-openclaw-session-key: agent:main:openai-user:ada\r\n", said("three")).await;
    assert_eq!(last().0, ["one", "heard", "two", "heard", "three"]);
    assert_eq!(last().1, None, "instructions are for one turn");
    let (_, first) = ask(gateway.addr, RESPONSES, "", json!({ "model": "openclaw", "input": "uno" })).await;
    let next = json!({ "model": "openclaw", "input": "due", "previous_response_id": first["id"] });
    let (status, answer) = ask(gateway.addr, RESPONSES, "", next).await;
    assert_eq!((status, last().0), (200, vec!["uno".into(), "heard".into(), "due".into()]));
    assert_eq!(answer["output"][0]["content"], json!([{ "type": "output_text", "text": "heard" }]));
    assert_eq!(
        (&answer["status"], &answer["output"][0]["phase"]),
        (&json!("completed"), &json!("final_answer"))
    );
}

/// accepts: J2
#[tokio::test]
async fn a_response_streams_its_events_in_the_recorded_order() {
    let gateway = gateway().await;
    let head = format!("Authorization: Bearer {TOKEN}\r\n");
    let body = json!({ "model": "openclaw", "input": "MOCK{n=3;d=60}", "stream": true }).to_string();
    let (_, _, body) = raw(gateway.addr, RESPONSES, &head, &body).await;
    let told = events(&body);
    let mut kinds: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert!(kinds.iter().filter(|kind| **kind == "response.output_text.delta").count() > 1, "{kinds:?}");
    kinds.dedup();
    let recorded = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, recorded);
    let named: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let all: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(named, all);
    let numbers: Vec<u64> = told.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert!(numbers.iter().zip(0..).all(|(number, wanted)| *number == wanted), "{numbers:?}");
    assert_eq!(told.last().unwrap(), "[DONE]");
    let text: String = told.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "tok0 tok1 tok2");
    assert_eq!(told[told.len() - 2]["response"]["usage"]["total_tokens"], 103);
}
