//! Alerts of a whole gateway, at a platform on the other side of a socket.

use crate::client::Client;
use crate::fakes::platform::Platform;
use crate::gateway::{Embedded, http};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// accepts: A8
#[tokio::test]
async fn who_is_named_hears_of_an_actor_that_was_given_up_and_every_view_shows_it() {
    let platform = Platform::start();
    let gateway = Embedded::with(json!({
        "channels": { "loopback": platform.section(json!({})) },
        "alerts": { "channel": "loopback", "to": "ann" },
        "gateway": { "chaos": { "enabled": true } },
    }))
    .await;
    let mut client = Client::admin(gateway.addr).await;
    let (path, mut blows) = ("gateway/presence", 0);
    loop {
        let tree = client.call("system.actors", json!({ "path": path })).await;
        match tree["root"]["state"].as_str().unwrap() {
            "parked" => break,
            "running" if blows <= 6 => {
                blows += 1;
                client.call("system.chaos", json!({ "path": path, "fault": "panic" })).await;
                client.event(|e| e["event"] == "system.actors.changed" && e["payload"]["path"] == path).await;
            }
            _ => drop(client.event(|e| e["event"] == "system.actors.changed").await),
        }
    }
    let told = platform.answers_in("ann", 1).await;
    assert!(
        told[0].contains("`gateway/presence` is parked") && told[0].contains("injected panic"),
        "{told:?}"
    );
    client.event(|e| e["event"] == "health" && e["payload"]["ok"] == json!(false)).await;
    let health = client.call("health", json!({})).await;
    assert_eq!((&health["ok"], &health["actors"]["parked"]), (&json!(false), &json!([path])));
    let status = client.call("status", json!({})).await;
    assert_eq!(status["actors"]["parked"], json!([path]));
    let recorded = client.call("diagnostics.stability", json!({ "type": "actor.parked" })).await;
    assert_eq!((&recorded["count"], &recorded["events"][0]["path"]), (&json!(1), &json!(path)));
    let sent = client.call("diagnostics.stability", json!({ "type": "alert.sent" })).await;
    assert_eq!(sent["summary"], json!({ "byType": { "alert.sent": 1 } }));
    for line in [
        "crabtree_alerts_total{event=\"parked\"} 1",
        "crabtree_actor_parkings_total{kind=\"presence\"} 1",
        "crabtree_actors{kind=\"presence\",state=\"parked\"} 1",
        "crabtree_healthy 0",
        // Counted when it is written that the platform has it.
        "crabtree_deliveries_total{channel=\"loopback\",account=\"default\",outcome=\"sent\"} 1",
    ] {
        let shown = async {
            while !http(gateway.addr, "GET", "/metrics").await.unwrap().1.lines().any(|other| other == line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), shown).await.is_ok(), "{line}");
    }
}
