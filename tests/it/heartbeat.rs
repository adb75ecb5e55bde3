//! Heartbeats: what an agent is asked on its own, who hears of it, and what waits for it.

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::Embedded;
use crate::mock_model::models;
use serde_json::{Value, json};

/// A gateway with a heartbeat every second; what stands in `HEARTBEAT.md`; and who hears of it on the platform.
async fn gateway(file: Option<&str>, more: Value) -> (Embedded, Platform) {
    let platform = Platform::start();
    let mut heartbeat = json!({ "every": "1s", "target": "loopback", "to": "ann" });
    heartbeat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let workspace = tempfile::tempdir().unwrap().keep();
    if let Some(file) = file {
        std::fs::write(workspace.join("HEARTBEAT.md"), file).unwrap();
    }
    let config = json!({
        "agents": { "defaults": { "model": "mock/mock-1", "workspace": workspace, "heartbeat": heartbeat } },
        "channels": { "loopback": platform.section(json!({ "allowFrom": ["ann"] })) },
    });
    (Embedded::with_models(config, models()).await, platform)
}

/// The event `heartbeat` with this status.
async fn beat(client: &mut Client, status: &str) -> Value {
    client.event(|e| e["event"] == "heartbeat" && e["payload"]["status"] == status).await["payload"].clone()
}

/// accepts: G6, K13
#[tokio::test]
async fn what_needs_attention_goes_to_people() {
    let (gateway, platform) = gateway(Some("- MOCK{n=2}"), json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let sent = beat(&mut client, "sent").await;
    assert_eq!(sent["preview"], "tok0 tok1");
    assert_eq!(platform.answers_in("ann", 1).await[0], "tok0 tok1");
    let asked = crate::channels::rows(&mut client, "main").await.remove(0).1;
    assert!(
        asked.starts_with("This is a heartbeat") && asked.ends_with("HEARTBEAT.md:\n- MOCK{n=2}"),
        "{asked}"
    );
    let last = client.call("last-heartbeat", json!({})).await;
    assert_eq!(last["status"], "sent");
}

#[tokio::test]
async fn that_all_is_well_is_told_to_nobody() {
    let (gateway, platform) = gateway(Some("- MOCK{text=HEARTBEAT_OK}"), json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    beat(&mut client, "ok-token").await;
    beat(&mut client, "ok-token").await;
    assert_eq!(platform.answers_in("ann", 0).await, [""; 0]);
}

#[tokio::test]
async fn without_a_file_no_model_is_asked_but_what_waits_is_told() {
    let (gateway, platform) = gateway(None, json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(beat(&mut client, "skipped").await["reason"], "empty-heartbeat-file");
    client.call("system-event", json!({ "text": "the door is open MOCK{n=1}" })).await;
    beat(&mut client, "sent").await;
    assert_eq!(platform.answers_in("ann", 1).await, ["tok0"]);
    assert_eq!(client.call("status", json!({})).await["queuedSystemEvents"], json!([]));
    let asked = crate::channels::rows(&mut client, "main").await.remove(0).1;
    assert!(asked.contains("System event: the door is open"), "{asked}");
}

#[tokio::test]
async fn outside_active_hours_and_turned_off_there_are_none() {
    let hours = json!({ "activeHours": { "start": "08:00", "end": "08:00", "timezone": "UTC" } });
    let (gateway, _platform) = gateway(Some("- MOCK{n=1}"), hours).await;
    let mut client = Client::admin(gateway.addr).await;
    assert_eq!(beat(&mut client, "skipped").await["reason"], "quiet-hours");
    let wrong = client.refused("set-heartbeats", json!({})).await;
    assert_eq!(wrong["message"], "invalid set-heartbeats params: enabled (boolean) required");
    let off = client.call("set-heartbeats", json!({ "enabled": false })).await;
    assert_eq!(off, json!({ "ok": true, "enabled": false }));
    client.event(|e| e["event"] == "heartbeat" && e["payload"]["reason"] == "disabled").await;
    // It stays so for the next one of its kind.
    client.call("system.actors.restart", json!({ "path": "gateway/scheduler" })).await;
    client.events.clear();
    client.event(|e| e["event"] == "heartbeat" && e["payload"]["reason"] == "disabled").await;
}

#[tokio::test]
async fn a_job_that_tells_the_agent_with_its_next_heartbeat_waits_for_it() {
    let (gateway, platform) = gateway(None, json!({})).await;
    let mut client = Client::admin(gateway.addr).await;
    let job = json!({
        "name": "later", "schedule": { "kind": "every", "everyMs": 3_600_000 }, "sessionTarget": "main",
        "wakeMode": "next-heartbeat", "payload": { "kind": "systemEvent", "text": "look MOCK{n=3}" },
    });
    let id = client.call("cron.add", job).await["id"].clone();
    client.call("cron.run", json!({ "id": id })).await;
    beat(&mut client, "sent").await;
    assert_eq!(platform.answers_in("ann", 1).await, ["tok0 tok1 tok2"]);
}
