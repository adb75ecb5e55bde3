//! The configuration changes while the gateway runs.

mod broken;
mod includes;
mod older;
mod storm;
mod writes;

use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub async fn restarts(client: &mut Client) -> Vec<(String, u64)> {
    let tree = client.call("system.actors", json!({ "depth": 1 })).await;
    let children = tree["root"]["children"].as_array().unwrap().iter();
    let row = |c: &Value| (c["name"].as_str().unwrap().to_owned(), c["restarts"].as_u64().unwrap());
    children.map(row).filter(|(_, restarts)| *restarts > 0).collect()
}

/// accepts: K6
#[tokio::test]
async fn a_change_of_the_file_restarts_just_the_child_that_depends_on_it() {
    let gateway = Embedded::with(json!({ "agents": { "list": [{ "id": "main", "name": "One" }] } })).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "One");
    let file = gateway.state.path().join("openclaw.json");

    std::fs::write(&file, "{ broken").unwrap();
    gateway.gateway.reload();
    std::fs::write(&file, r#"{ agents: { list: [{ id: "main", name: "Two" }] }, unheardOf: 1 }"#).unwrap();
    gateway.gateway.reload();
    client.event(|e| e["event"] == "config.changed").await;
    let back = |e: &Value| e["payload"]["path"] == "gateway/agents" && e["payload"]["state"] == "running";
    client.event(back).await;
    assert_eq!(client.call("agent.identity.get", json!({})).await["name"], "Two");
    assert_eq!(restarts(&mut client).await, [("agents".to_owned(), 1)]);
    let config = client.call("config.get", json!({})).await;
    assert!(config["warnings"].to_string().contains("unheardOf"), "{config}");
    assert_eq!(config["sourceConfig"]["agents"]["entries"], json!({ "main": { "name": "Two" } }));
    assert_eq!(config["config"]["agents"]["entries"]["main"]["name"], "Two");
}

/// accepts: K6
#[tokio::test]
async fn a_provider_that_is_added_is_there_at_once() {
    let gateway = Embedded::start().await;
    let mut client = Client::admin(gateway.addr).await;
    let provider = json!({ "baseUrl": "http://127.0.0.1:1", "models": [{ "id": "m" }] });
    let config = json!({ "models": { "providers": { "home": provider } }, "gateway": { "chaos": { "enabled": true } } });
    std::fs::write(gateway.state.path().join("openclaw.json"), config.to_string()).unwrap();
    gateway.gateway.reload();
    client.event(|e| e["payload"]["path"] == "gateway/agents" && e["payload"]["state"] == "running").await;
    let models = client.call("models.list", json!({})).await["models"].clone();
    assert!(models.as_array().unwrap().iter().any(|model| model["provider"] == "home"), "{models}");
    let config = client.call("config.get", json!({})).await;
    assert_eq!(config["resolved"]["agents"]["entries"], json!({ "main": {} }), "there is always one");
    assert_eq!(restarts(&mut client).await, [("agents".to_owned(), 1)]);
}

/// Models that the embedding program brings are there after the catalog was made anew, too.
/// accepts: K6
#[tokio::test]
async fn brought_models_survive_a_change_of_the_configuration() {
    let config = |primary: &str| json!({ "agents": { "defaults": { "model": primary } } });
    let gateway = Embedded::with_models(config("mock/mock-1"), crate::mock_model::models()).await;
    let mut client = Client::admin(gateway.addr).await;
    let mut answered_by = Vec::new();
    for (run, primary) in [("one", "mock/mock-2"), ("two", "crabtree/offline"), ("three", "mock/mock-1")] {
        let turn = json!({ "sessionKey": "main", "message": "MOCK{n=1}", "idempotencyKey": run });
        client.call("chat.send", turn).await;
        let model =
            client.event(|e| e["payload"]["runId"] == run && e["payload"]["data"]["model"].is_string());
        answered_by.push(model.await["payload"]["data"]["model"].clone());
        client.chat_end(run).await;
        client.events.clear();
        std::fs::write(gateway.state.path().join("openclaw.json"), config(primary).to_string()).unwrap();
        gateway.gateway.reload();
        let back = |e: &Value| e["payload"]["path"] == "gateway/agents" && e["payload"]["state"] == "running";
        client.event(back).await;
    }
    assert_eq!(answered_by, ["mock-1", "mock-2", "offline"]);
    let models = client.call("models.list", json!({})).await;
    let names: Vec<_> = models["models"].as_array().unwrap().iter().map(|m| m["provider"].clone()).collect();
    assert_eq!(names, ["crabtree", "mock", "mock", "mock401", "mock500", "mockhang"]);
}

/// So many turns run as the configuration says, also when it changes while others wait.
#[tokio::test]
async fn as_many_turns_run_at_the_same_time_as_is_said() {
    let config = |most: u32| json!({ "agents": { "defaults": { "maxConcurrent": most } } });
    let gateway = Embedded::with(config(1)).await;
    let mut client = Client::admin(gateway.addr).await;
    for run in ["one", "two"] {
        let turn = json!({ "sessionKey": run, "message": "word ".repeat(2_000), "idempotencyKey": run });
        client.call("chat.send", turn).await;
    }
    for (most, active, queued) in [(1, 1, 1), (2, 2, 0)] {
        std::fs::write(gateway.state.path().join("openclaw.json"), config(most).to_string()).unwrap();
        gateway.gateway.reload();
        let (expected, deadline) = (json!([most, active, queued]), Instant::now() + Duration::from_secs(20));
        loop {
            let lane = client.call("diagnostics.lanes", json!({})).await["lanes"][0].clone();
            if json!([lane["maxConcurrent"], lane["activeCount"], lane["queuedCount"]]) == expected {
                break;
            }
            assert!(Instant::now() < deadline, "not {expected}: {lane}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
