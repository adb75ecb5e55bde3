//! The configuration changes while the gateway runs.

use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};

async fn restarts(client: &mut Client) -> Vec<(String, u64)> {
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
}
