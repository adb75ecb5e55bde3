//! Models of providers: each way to speak to one, what becomes of its failures, and who never hears the key.

mod calls;
mod costs;
mod found;
mod probes;
pub mod server;

use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};
use server::{Dialect, Provider, Reply};

/// Enough that a test would notice it anywhere.
pub const KEY: &str = "sk-never-shown-0123456789";

/// A gateway with these settings has an agent that thinks with the model `m` of this provider.
pub fn settings(provider: &Provider) -> Value {
    json!({
        "models": { "providers": { "mock": {
            "baseUrl": provider.base_url(),
            "apiKey": KEY,
            "api": provider.dialect.name(),
            "timeoutSeconds": 1,
            "models": [{ "id": "m", "name": "Mock", "contextWindow": 5000, "maxTokens": 99, "reasoning": false }],
        } } },
        "agents": { "defaults": { "model": "mock/m" } },
    })
}

async fn gateway(provider: &Provider) -> (Embedded, Client) {
    let gateway = Embedded::with(settings(provider)).await;
    let mut client = Client::admin(gateway.addr).await;
    client.call("sessions.subscribe", json!({})).await;
    (gateway, client)
}

async fn say(client: &mut Client, text: &str, run: &str) -> Value {
    let said = json!({ "sessionKey": "main", "message": text, "idempotencyKey": run });
    client.call("chat.send", said).await;
    client.chat_end(run).await
}

fn text_of(message: &Value) -> &str {
    message["content"][0]["text"].as_str().unwrap_or_default()
}

/// The steps of asking again, as clients hear of them.
fn retries(client: &Client) -> Vec<Value> {
    let told = client.events.iter().map(|e| &e["payload"]);
    let retrying = told.filter(|p| p["stream"] == "run_status" && p["data"]["phase"] == "retrying");
    retrying.map(|p| p["data"].clone()).collect()
}

/// accepts: I10
#[tokio::test]
async fn every_dialect_streams_an_answer_and_tells_what_it_cost() {
    for dialect in Dialect::ALL {
        let provider = Provider::start(dialect, |_| Reply::text(&["Hel", "lo ", "there"])).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let end = say(&mut client, "first", "k1").await;
        assert_eq!(
            (&end["state"], text_of(&end["message"])),
            (&json!("final"), "Hello there"),
            "{dialect:?}"
        );
        say(&mut client, "second", "k2").await;
        let asked = provider.asked();
        assert_eq!(asked.len(), 2, "{dialect:?}");
        assert_eq!(asked[1].path, dialect.path(), "{dialect:?}");
        let key = (dialect != Dialect::Ollama).then_some(KEY);
        assert_eq!(asked[1].key.as_deref(), key, "{dialect:?}");
        let body = asked[1].body.to_string();
        let places = ["first", "Hello there", "second"].map(|said| body.find(said));
        assert!(places.is_sorted() && places[0].is_some(), "{dialect:?}: {body}");
        assert!(body.contains("99"), "the most it may write: {body}");
        let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
        let usage = &rows[3]["usage"];
        assert_eq!((&usage["input"], &usage["output"]), (&json!(7), &json!(3)), "{dialect:?}: {usage}");
        assert_eq!((&rows[3]["provider"], &rows[3]["model"]), (&json!("mock"), &json!("m")));
    }
}

#[tokio::test]
async fn its_models_are_listed_as_they_are_configured() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["x"])).await;
    let (_gateway, mut client) = gateway(&provider).await;
    let models = client.call("models.list", json!({})).await["models"].clone();
    let model = models.as_array().unwrap().iter().find(|model| model["id"] == "m").unwrap().clone();
    let defaults = client.call("sessions.list", json!({})).await["defaults"].clone();
    assert_eq!((&defaults["model"], &defaults["contextTokens"]), (&json!("m"), &json!(5000)));
    let made = client.call("sessions.create", json!({ "key": "one" })).await;
    let row = client.call("sessions.describe", json!({ "key": made["key"] })).await["session"].clone();
    assert_eq!(row["contextTokens"], 5000);
    for (name, value) in [
        ("provider", json!("mock")),
        ("name", json!("Mock")),
        ("contextWindow", json!(5000)),
        ("tags", json!(["default"])),
        ("local", json!(true)),
    ] {
        assert_eq!(model[name], value, "{name}");
    }
}

#[tokio::test]
async fn the_files_of_the_workspace_are_told_before_the_conversation() {
    for (dialect, place) in [(Dialect::Completions, "/messages/0/content"), (Dialect::Anthropic, "/system")] {
        let provider = Provider::start(dialect, |_| Reply::text(&["x"])).await;
        let (gateway, mut client) = gateway(&provider).await;
        let workspace = gateway.state.path().join("workspace");
        std::fs::create_dir_all(&workspace).unwrap();
        std::fs::write(workspace.join("SOUL.md"), "You love crabs.").unwrap();
        say(&mut client, "hello", "k1").await;
        std::fs::write(workspace.join("SOUL.md"), "You love trees.").unwrap();
        say(&mut client, "hello", "k2").await;
        for (asked, told) in provider.asked().iter().zip(["You love crabs.", "You love trees."]) {
            let system = asked.body.pointer(place).unwrap().to_string();
            assert!(system.contains(told) && system.contains("agent:main:main"), "{dialect:?}: {system}");
        }
    }
}

/// As recorded: a stream of its own, kept in the transcript, no part of the answer, and not read again by the model.
#[tokio::test]
async fn what_a_model_thinks_is_streamed_apart_from_its_answer() {
    for dialect in [Dialect::Completions, Dialect::Ollama] {
        let answers = |_| Reply::text(&["An ", "answer"]).after(&["I must ", "think "]);
        let provider = Provider::start(dialect, answers).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let end = say(&mut client, "hello", "k1").await;
        assert_eq!(
            end["message"]["content"],
            json!([{ "type": "text", "text": "An answer" }]),
            "{dialect:?}"
        );
        let thoughts = client.events.iter().map(|e| &e["payload"]).filter(|p| p["stream"] == "thinking");
        let thoughts: Vec<&Value> = thoughts.map(|p| &p["data"]).collect();
        assert_eq!(thoughts.last().unwrap()["text"], "I must think", "{dialect:?}");
        let deltas: String = thoughts.iter().map(|data| data["delta"].as_str().unwrap()).collect();
        assert_eq!(deltas, "I must think", "{dialect:?}");
        let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
        let kept = json!([
            { "type": "thinking", "thinking": "I must think " }, { "type": "text", "text": "An answer" },
        ]);
        assert_eq!(rows[1]["content"], kept, "{dialect:?}");
        say(&mut client, "again", "k2").await;
        let asked = provider.asked()[1].body.to_string();
        assert!(asked.contains("An answer") && !asked.contains("I must think"), "{asked}");
    }
}

/// What each dialect calls it; models that do not think are not told, and the nearest of what is not known is taken.
#[tokio::test]
async fn how_hard_a_model_is_to_think_is_told_in_its_dialect() {
    for (dialect, place, [medium, high, off]) in [
        (Dialect::Completions, "/reasoning_effort", [json!("medium"), json!("high"), Value::Null]),
        (Dialect::Responses, "/reasoning/effort", [json!("medium"), json!("high"), Value::Null]),
        (Dialect::Anthropic, "/thinking/type", [json!("enabled"), json!("enabled"), Value::Null]),
        (Dialect::Ollama, "/think", [json!("medium"), json!("high"), json!(false)]),
    ] {
        let provider = Provider::start(dialect, |_| Reply::text(&["x"])).await;
        let mut thinks = settings(&provider);
        let models = thinks.pointer_mut("/models/providers/mock/models").unwrap().as_array_mut().unwrap();
        let plain = json!({ "id": "plain", "contextWindow": 5000 });
        (models[0]["reasoning"], models[0]["maxTokens"]) = (json!(true), json!(64_000));
        models.push(plain);
        let gateway = Embedded::with(thinks).await;
        let mut client = Client::admin(gateway.addr).await;
        say(&mut client, "by itself", "k1").await;
        let mut hard =
            json!({ "sessionKey": "main", "message": "hard", "idempotencyKey": "k2", "thinking": "xhigh" });
        client.call("chat.send", hard.clone()).await;
        client.chat_end("k2").await;
        client.call("sessions.patch", json!({ "key": "main", "thinkingLevel": "off" })).await;
        say(&mut client, "not at all", "k3").await;
        client.call("sessions.patch", json!({ "key": "main", "model": "mock/plain" })).await;
        hard["idempotencyKey"] = json!("k4");
        client.call("chat.send", hard.clone()).await;
        client.chat_end("k4").await;
        let told: Vec<Value> = provider
            .asked()
            .iter()
            .map(|asked| asked.body.pointer(place).cloned().unwrap_or_default())
            .collect();
        assert_eq!(told, [medium, high, off, Value::Null], "{dialect:?}");
        hard["thinking"] = json!("very");
        let error = client.refused("chat.send", hard).await;
        assert_eq!(
            error["message"],
            "there is no thinking level \"very\"; use off, minimal, low, medium or high"
        );
    }
}

#[tokio::test]
async fn levels_are_told_of_models_that_think_and_defaults_come_from_the_configuration() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["x"])).await;
    let mut thinks = settings(&provider);
    thinks["models"]["providers"]["mock"]["models"][0]["reasoning"] = json!(true);
    thinks["agents"]["defaults"]["thinkingDefault"] = json!("low");
    thinks["agents"]["list"] = json!([{ "id": "main" }, { "id": "deep", "thinkingDefault": "high" }]);
    let gateway = Embedded::with(thinks).await;
    let mut client = Client::admin(gateway.addr).await;
    let options = json!(["off", "minimal", "low", "medium", "high"]);
    let agents = client.call("agents.list", json!({})).await["agents"].clone();
    let defaults =
        [&agents[0]["thinkingDefault"], &agents[1]["thinkingDefault"], &agents[0]["thinkingOptions"]];
    assert_eq!(defaults, [&json!("low"), &json!("high"), &options]);
    let models = client.call("models.list", json!({})).await["models"].clone();
    let of = |id: &str| models.as_array().unwrap().iter().find(|model| model["id"] == id).unwrap().clone();
    assert_eq!(
        (&of("m")["thinkingDefault"], &of("m")["thinkingLevels"][4]["id"]),
        (&json!("low"), &json!("high"))
    );
    assert_eq!(of("offline")["thinkingLevels"], json!([{ "id": "off", "label": "off" }]));
    let patched = client.call("sessions.patch", json!({ "key": "main", "thinkingLevel": "HIGH" })).await;
    assert_eq!(patched["entry"]["thinkingLevel"], "high");
    let error = client.refused("sessions.patch", json!({ "key": "main", "thinkingLevel": "xhigh" })).await;
    let says = "thinkingLevel \"xhigh\" is not supported for mock/m (use off, minimal, low, medium, high)";
    assert_eq!(error["message"], says);
    let row = client.call("sessions.describe", json!({ "key": "main" })).await["session"].clone();
    assert_eq!(
        (&row["thinkingLevel"], &row["thinkingDefault"], &row["thinkingOptions"]),
        (&json!("high"), &json!("low"), &options)
    );
    say(&mut client, "hello", "k1").await;
    assert_eq!(provider.asked()[0].body["reasoning_effort"], "high");
    say(&mut client, "/think default", "k2").await;
    let end = say(&mut client, "/think", "k3").await;
    assert_eq!(
        text_of(&end["message"]),
        "Current thinking level: low.\nOptions: default, off, minimal, low, medium, high."
    );
    let history = client.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert_eq!(history["thinkingLevel"], "low");
}

/// Each failure that may pass: the first answer is spoilt, and the second is not.
#[tokio::test]
async fn what_a_passing_failure_spoils_is_asked_again_and_the_text_taken_back() {
    type Case = (&'static str, fn() -> Reply, &'static str, bool);
    let cases: [Case; 5] = [
        ("error 500", || Reply::status(500, r#"{"error":{"message":"oops"}}"#), "server_error", false),
        ("error 429", || Reply::status(429, r#"{"error":{"message":"slow down"}}"#), "rate_limit", false),
        ("cut", || Reply::text(&["half an ", "ans"]).cut(), "timeout", true),
        ("silence", || Reply::text(&["half an ", "ans"]).hang(), "timeout", true),
        ("no JSON", || Reply::text(&["half an ", "ans"]).garbage(), "server_error", true),
    ];
    for (what, spoilt, reason, told) in cases {
        let answers = move |number| if number == 0 { spoilt() } else { Reply::text(&["whole"]) };
        let provider = Provider::start(Dialect::Completions, answers).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let end = say(&mut client, "hello", "k1").await;
        assert_eq!((&end["state"], text_of(&end["message"])), (&json!("final"), "whole"), "{what}");
        let retries = retries(&client);
        assert_eq!(retries.len(), 1, "{what}: {retries:?}");
        let delay = retries[0]["delayMs"].as_u64().unwrap();
        assert!((1_000..=1_500).contains(&delay), "{what}: {delay}");
        let expected = json!({
            "phase": "retrying",
            "message": format!("Provider temporarily unavailable. Retrying in {}s (1/8).", delay.div_ceil(1_000)),
            "retryAttempt": 1, "maxRetries": 8, "delayMs": delay, "attempt": 2, "maxAttempts": 9, "reason": reason,
        });
        assert_eq!(retries[0], expected, "{what}");
        let replaced = client.events.iter().any(|e| e["event"] == "chat" && e["payload"]["replace"] == true);
        assert_eq!(replaced, told, "{what}: text that was told is taken back, and only then");
        let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 2, "{what}: nothing of what failed stays");
        assert_eq!(text_of(&rows[1]), "whole", "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer_in_any_dialect() {
    for dialect in Dialect::ALL {
        let answers = |number| {
            if number == 0 { Reply::text(&["half an ", "ans"]).cut() } else { Reply::text(&["whole"]) }
        };
        let provider = Provider::start(dialect, answers).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let end = say(&mut client, "hello", "k1").await;
        assert_eq!((&end["state"], text_of(&end["message"])), (&json!("final"), "whole"), "{dialect:?}");
        assert_eq!(provider.asked().len(), 2, "{dialect:?}");
    }
}

/// accepts: I10
#[tokio::test]
async fn what_does_not_pass_ends_the_run_at_once_in_words_that_help() {
    let cases = [
        (401, "authentication failed, HTTP 401"),
        (400, "HTTP 400): the words of the provider"),
        (404, "HTTP 404): the words of the provider"),
    ];
    for (status, words) in cases {
        let body = r#"{"error":{"message":"the words of the provider"}}"#;
        let provider = Provider::start(Dialect::Completions, move |_| Reply::status(status, body)).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let end = say(&mut client, "hello", "k1").await;
        assert_eq!(end["state"], "error", "{status}");
        let why = end["errorMessage"].as_str().unwrap();
        assert!(why.contains(words) && why.contains("mock/"), "{status}: which model, and why: {why}");
        let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
        assert_eq!(text_of(&rows[1]).matches('⚠').count(), 1, "{}", rows[1]);
        assert_eq!((provider.asked().len(), retries(&client)), (1, vec![]), "{status}");
    }
}

/// accepts: I10
#[tokio::test]
async fn a_key_that_is_not_accepted_is_left_alone_by_all_sessions() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::status(401, "{}")).await;
    let (_gateway, mut client) = gateway(&provider).await;
    say(&mut client, "hello", "k1").await;
    let said = json!({ "sessionKey": "other", "message": "hello", "idempotencyKey": "k2" });
    client.call("chat.send", said).await;
    let end = client.chat_end("k2").await;
    let why = end["errorMessage"].as_str().unwrap();
    assert!(why.contains("Check models.providers.mock.apiKey"), "{why}");
    assert_eq!(provider.asked().len(), 1);
}

#[tokio::test]
async fn another_model_takes_the_place_of_one_that_fails() {
    let broken = Provider::start(Dialect::Completions, |_| Reply::status(401, "{}")).await;
    let other = Provider::start(Dialect::Anthropic, |_| Reply::text(&["I am", " here"])).await;
    let of = |provider: &Provider| {
        json!({
            "baseUrl": provider.base_url(), "apiKey": KEY, "api": provider.dialect.name(), "models": [{ "id": "m" }],
        })
    };
    let settings = json!({
        "models": { "providers": { "first": of(&broken), "second": of(&other) } },
        "agents": { "defaults": { "model": { "primary": "first/m", "fallbacks": ["second/m"] } } },
    });
    let gateway = Embedded::with(settings).await;
    let mut client = Client::admin(gateway.addr).await;
    let end = say(&mut client, "hello", "k1").await;
    assert_eq!((&end["state"], text_of(&end["message"])), (&json!("final"), "I am here"));
    let steps: Vec<&Value> = client
        .events
        .iter()
        .map(|event| &event["payload"]["data"])
        .filter(|data| data["phase"] == "fallback_step")
        .collect();
    let expected = json!({
        "phase": "fallback_step", "fallbackStepType": "fallback_step", "fallbackStepFromModel": "first/m",
        "fallbackStepToModel": "second/m", "fallbackStepFromFailureReason": "auth", "fallbackStepChainPosition": 1,
        "fallbackStepFinalOutcome": "next_fallback",
    });
    assert_eq!(steps, [&expected]);
    let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
    assert_eq!((&rows[1]["provider"], &rows[1]["model"]), (&json!("second"), &json!("m")));
    // Who chooses a model gets that one, or hears why not.
    let chosen = json!({ "key": "chosen", "model": "first/m" });
    client.call("sessions.create", chosen).await;
    let said = json!({ "sessionKey": "chosen", "message": "hello", "idempotencyKey": "k2" });
    client.call("chat.send", said).await;
    assert_eq!(client.chat_end("k2").await["state"], "error");
}

#[tokio::test]
async fn an_abort_ends_the_call_and_the_wait_for_the_next() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::status(500, "{}")).await;
    let (_gateway, mut client) = gateway(&provider).await;
    let said = json!({ "sessionKey": "main", "message": "hello", "idempotencyKey": "k1" });
    client.call("chat.send", said).await;
    client.event(|e| e["payload"]["data"]["phase"] == "retrying").await;
    client.call("chat.abort", json!({ "sessionKey": "main" })).await;
    assert_eq!(client.chat_end("k1").await["state"], "aborted");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(provider.asked().len(), 1, "it is not asked again");
}

/// The key is in the request, and nowhere else.
#[tokio::test]
async fn the_key_is_never_shown() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::status(401, "{}")).await;
    let (gateway, mut client) = gateway(&provider).await;
    say(&mut client, "hello", "k1").await;
    assert_eq!(provider.asked()[0].key.as_deref(), Some(KEY));
    let mut told = vec![json!(client.events)];
    for method in ["config.get", "models.list", "sessions.list", "status", "logs.tail", "system.actors"] {
        told.push(client.call(method, json!({})).await);
    }
    for told in told {
        assert!(!told.to_string().contains(KEY), "{told}");
    }
    drop(gateway);
}

#[tokio::test]
async fn a_provider_that_cannot_be_used_is_left_out_and_the_gateway_starts() {
    let settings = json!({ "models": { "providers": {
        "aws": { "baseUrl": "http://127.0.0.1:1", "api": "bedrock-converse-stream", "models": [{ "id": "x" }] },
        "unset": { "apiKey": "${CRABTREE_TEST_NOT_SET}", "baseUrl": "http://127.0.0.1:1", "models": [{ "id": "x" }] },
    } } });
    let gateway = Embedded::with(settings).await;
    let mut client = Client::admin(gateway.addr).await;
    let models = client.call("models.list", json!({})).await["models"].clone();
    assert_eq!(models.as_array().unwrap().len(), 1, "{models}");
    assert_eq!(say(&mut client, "hello", "k1").await["state"], "final");
}
