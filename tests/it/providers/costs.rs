//! What answers cost, where that is told, and how much a run may cost.

use super::server::{Dialect, Provider, Reply};
use super::{gateway, retries, say, settings};
use crate::client::Client;
use crate::gateway::{Embedded, Process};
use serde_json::{Value, json};

/// Seven tokens are read and three written: 13 millionths of a dollar.
fn priced(provider: &Provider) -> Value {
    let mut settings = settings(provider);
    settings["models"]["providers"]["mock"]["models"][0]["cost"] = json!({ "input": 1, "output": 2 });
    settings
}

#[tokio::test]
async fn a_run_is_priced_wherever_its_tokens_are_told() {
    let call = |number| match number {
        0 => Reply::text(&["looking"]).calling(&[("sessions_list", json!({}))]),
        _ => Reply::text(&["done"]),
    };
    let provider = Provider::start(Dialect::Anthropic, call).await;
    let gateway = Embedded::with(priced(&provider)).await;
    let mut client = Client::admin(gateway.addr).await;
    let asked = json!({ "message": "hello", "sessionKey": "main", "idempotencyKey": "k1" });
    let id = client.send("agent", asked).await;
    client.response(&id).await;
    let end = client.response(&id).await;
    let meta = &end["payload"]["result"]["meta"]["agentMeta"];
    assert_eq!(meta["usage"]["cost"], json!({ "total": 0.000026 }), "{end}");
    assert_eq!((&meta["usage"]["input"], &meta["contextTokens"]), (&json!(14), &json!(5000)));
    let rows = client.call("chat.history", json!({ "sessionKey": "main" })).await["messages"].clone();
    let answer = rows.as_array().unwrap().last().unwrap()["usage"].clone();
    let cost =
        json!({ "input": 0.000007, "output": 0.000006, "cacheRead": 0, "cacheWrite": 0, "total": 0.000013 });
    assert_eq!(answer["cost"], cost, "of one call");
    let row = client.call("sessions.describe", json!({ "key": "main" })).await["session"].clone();
    assert_eq!((&row["estimatedCostUsd"], &row["inputTokens"]), (&json!(0.000026), &json!(14)), "{row}");
    assert_eq!(row["totalTokens"], 7, "what the last call was shown");
    for method in ["usage.cost", "sessions.usage"] {
        let totals = client.call(method, json!({})).await["totals"].clone();
        assert_eq!(totals["totalCost"], json!(0.000026), "{method}");
        assert_eq!((&totals["inputCost"], &totals["missingCostEntries"]), (&json!(0.000014), &json!(0)));
    }
}

/// Guard: without the limit the model would be asked once more.
#[tokio::test]
async fn a_run_that_costs_too_much_does_not_ask_again() {
    let call = |_| Reply::text(&["more"]).calling(&[("sessions_list", json!({}))]);
    let provider = Provider::start(Dialect::Completions, call).await;
    let mut settings = priced(&provider);
    settings["agents"]["defaults"]["maxCostUsd"] = json!(0.00002);
    let gateway = Embedded::with(settings).await;
    let mut client = Client::admin(gateway.addr).await;
    let end = say(&mut client, "hello", "k1").await;
    let why = end["errorMessage"].as_str().unwrap();
    assert!(why.contains("$0.000026") && why.contains("$0.00002 ") && why.contains("maxCostUsd"), "{why}");
    assert_eq!(provider.asked().len(), 2, "one call was within the limit");
}

#[tokio::test]
async fn a_model_that_takes_no_tools_is_offered_none() {
    for (compat, offered) in [(json!({}), true), (json!({ "supportsTools": false }), false)] {
        let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["x"])).await;
        let mut settings = settings(&provider);
        settings["models"]["providers"]["mock"]["models"][0]["compat"] = compat;
        let gateway = Embedded::with(settings).await;
        let mut client = Client::admin(gateway.addr).await;
        say(&mut client, "hello", "k1").await;
        assert_eq!(provider.asked()[0].body.get("tools").is_some(), offered);
        let models = client.call("models.list", json!({})).await["models"].clone();
        let model = models.as_array().unwrap().iter().find(|model| model["id"] == "m").unwrap();
        assert_eq!(model.get("supportsTools"), (!offered).then_some(&json!(false)));
    }
}

#[tokio::test]
async fn a_provider_says_how_long_it_wants_to_be_left_alone() {
    for (header, value, expected) in [("retry-after", "2", 2_000), ("retry-after-ms", "1700", 1_700)] {
        let answers = move |number| match number {
            0 => Reply::status(429, r#"{"error":{"message":"slow down"}}"#).with_header(header, value),
            _ => Reply::text(&["whole"]),
        };
        let provider = Provider::start(Dialect::Completions, answers).await;
        let (_gateway, mut client) = gateway(&provider).await;
        assert_eq!(say(&mut client, "hello", "k1").await["state"], "final");
        assert_eq!(retries(&client)[0]["delayMs"], expected, "{header}");
    }
}

/// Guard: the proxy of the environment does not exist; what listens on this machine is reached all the same.
#[tokio::test]
async fn models_on_this_machine_are_not_asked_through_a_proxy() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["reached"])).await;
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("openclaw.json"), settings(&provider).to_string()).unwrap();
    let proxy =
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, "http://127.0.0.1:1"));
    let none = ["NO_PROXY", "no_proxy"].map(|name| (name, ""));
    let env: Vec<_> = proxy.into_iter().chain(none).collect();
    let process = Process::with_env(state.path(), &env).await;
    let mut client = Client::admin(process.addr).await;
    assert_eq!(say(&mut client, "hello", "k1").await["state"], "final");
    assert_eq!(provider.asked().len(), 1);
}
