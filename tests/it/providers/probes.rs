//! Providers that are asked whether they answer, and what they are asked with.

use super::server::{Dialect, Provider, Reply};
use super::{KEY, gateway, settings};
use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};

async fn probe(client: &mut Client, params: Value) -> Value {
    let probe = client.call("models.probe", params).await;
    assert!(!probe.to_string().contains(KEY), "{probe}");
    probe
}

#[tokio::test]
async fn a_provider_that_answers_is_ok_and_asked_no_more_than_a_word() {
    // What follows the first words is not waited for.
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["OK"]).hang()).await;
    let (_gateway, mut client) = gateway(&provider).await;
    let probe = probe(&mut client, json!({ "provider": "mock", "agentId": "main" })).await;
    assert_eq!((&probe["provider"], &probe["status"]), (&json!("mock"), &json!("ok")), "{probe}");
    assert!(probe["latencyMs"].is_u64() && probe.get("error").is_none(), "{probe}");
    assert_eq!(
        (&probe["results"][0]["label"], probe["results"].as_array().unwrap().len()),
        (&json!("mock/m"), 1)
    );
    assert_eq!(provider.asked().len(), 1);
    assert!(provider.asked()[0].body.get("tools").is_none());
}

#[tokio::test]
async fn each_failure_has_its_status() {
    type Case = (fn() -> Reply, &'static str);
    let cases: [Case; 7] = [
        (|| Reply::status(401, "{}"), "auth"),
        (|| Reply::status(402, "{}"), "billing"),
        (|| Reply::status(429, "{}"), "rate_limit"),
        (|| Reply::status(429, r#"{"error":{"code":"insufficient_quota"}}"#), "billing"),
        (|| Reply::status(404, "{}"), "format"),
        (|| Reply::status(500, "{}"), "unknown"),
        (|| Reply::text(&[]).hang(), "timeout"),
    ];
    for (reply, expected) in cases {
        let provider = Provider::start(Dialect::Completions, move |_| reply()).await;
        let (_gateway, mut client) = gateway(&provider).await;
        let probe = probe(&mut client, json!({ "provider": "mock", "timeoutMs": 300 })).await;
        assert_eq!((&probe["status"], &probe["results"][0]["status"]), (&json!(expected), &json!(expected)));
        assert!(!probe["error"].as_str().unwrap().is_empty(), "{probe}");
        assert_eq!(provider.asked().len(), 1, "{expected}: it is asked once");
    }
}

#[tokio::test]
async fn who_has_no_model_cannot_be_asked() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["OK"])).await;
    let (_gateway, mut client) = gateway(&provider).await;
    let nobody = probe(&mut client, json!({ "provider": "nobody" })).await;
    assert_eq!((&nobody["status"], &nobody["results"]), (&json!("no_model"), &json!([])));
    let account = probe(&mut client, json!({ "provider": "mock", "profileId": "mock:work" })).await;
    assert!(account["error"].as_str().unwrap().contains("profileId"), "{account}");
    client.refused("models.probe", json!({ "provider": "mock", "agentId": "nobody" })).await;
    client.refused("models.probe", json!({ "provider": "" })).await;
    assert!(provider.asked().is_empty());
}

#[tokio::test]
async fn what_providers_are_asked_with_is_told_but_never_the_key() {
    let provider = Provider::start(Dialect::Completions, |_| Reply::text(&["x"])).await;
    let mut settings = settings(&provider);
    let more = json!({
        "anthropic": { "models": [{ "id": "x" }] },
        "home": { "baseUrl": "http://127.0.0.1:1/v1", "models": [{ "id": "x" }] },
        "path": { "baseUrl": "http://127.0.0.1:1/v1", "apiKey": "${PATH}", "models": [{ "id": "x" }] },
        "unset": { "baseUrl": "http://127.0.0.1:1/v1", "apiKey": "${CRABTREE_TEST_NOT_SET}" },
    });
    settings["models"]["providers"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let gateway = Embedded::with(settings).await;
    let mut client = Client::scoped(gateway.addr, &["operator.read"]).await;
    let status = client.call("models.authStatus", json!({ "agentId": "main" })).await;
    assert!(!status.to_string().contains(KEY));
    let rows = status["providers"].as_array().unwrap();
    let brief: Vec<_> =
        rows.iter().map(|row| (row["provider"].as_str().unwrap(), row["status"].as_str().unwrap())).collect();
    let expected = [
        ("anthropic", "missing"),
        ("home", "static"),
        ("mock", "static"),
        ("path", "static"),
        ("unset", "missing"),
    ];
    assert_eq!(brief, expected);
    let recorded = json!({
        "provider": "mock", "authProvider": "mock", "displayName": "mock", "status": "static", "profiles": [],
        "apiKey": { "source": "config" },
    });
    assert_eq!(rows[2], recorded);
    assert_eq!(rows[3]["apiKey"], json!({ "source": "env", "envVar": "PATH" }));
    let capability = &status["providerCapabilities"][0];
    let recorded = json!({ "provider": "anthropic", "apiKeySupported": true, "quickApiKeySetup": false });
    assert_eq!(capability, &recorded);
    client.refused("models.probe", json!({ "provider": "mock" })).await;
}
