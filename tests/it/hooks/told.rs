//! Who hears of what came of a run.

use super::{gateway, post};
use crate::client::Client;
use crate::fakes::platform::Platform;
use serde_json::{Value, json};

fn channels(platform: &Platform) -> Value {
    let section = platform.section(json!({ "allowFrom": ["ann"] }));
    json!({ "channels": { "loopback": section } })
}

#[tokio::test]
async fn what_came_of_it_goes_to_a_chat() {
    let platform = Platform::start();
    let mappings = json!([{ "match": { "path": "last" }, "messageTemplate": "MOCK{text={{a}}}" }]);
    let gateway = gateway(json!({ "mappings": mappings }), channels(&platform)).await;
    let ask = |text: &str| json!({ "message": format!("MOCK{{{text}}}"), "channel": "loopback", "to": "ann", "waitForCompletion": true });
    let (status, answer) = post(gateway.addr, "/hooks/agent", ask("n=2")).await;
    let sent = json!({ "status": "ok", "replyDisposition": "visible", "delivered": true, "deliveryAttempted": true });
    assert_eq!((status, &answer["completion"]), (200, &sent));
    assert_eq!(platform.answers_in("ann", 1).await, ["tok0 tok1"]);
    let (_, silent) = post(gateway.addr, "/hooks/agent", ask("text=NO_REPLY")).await;
    let kept = json!({ "status": "ok", "replyDisposition": "silent", "delivered": false, "deliveryAttempted": false,
        "deliverySuppressionReason": "silent" });
    assert_eq!(silent["completion"], kept);
    let (_, failed) = post(gateway.addr, "/hooks/agent", ask("err=400")).await;
    assert_eq!(failed["completion"]["status"], "error", "{failed}");
    assert!(platform.answers_in("ann", 2).await[1].starts_with("⚠️"), "people hear that it failed");

    platform.says("1", "ann", "hello MOCK{n=1}");
    platform.answers_in("ann", 3).await;
    assert_eq!(post(gateway.addr, "/hooks/last", json!({ "a": "mapped" })).await.0, 200);
    assert_eq!(platform.answers_in("ann", 4).await[3], "mapped", "where the main session was spoken to last");
    let (status, answer) = post(
        gateway.addr,
        "/hooks/agent",
        json!({ "message": "x", "channel": "loopback", "to": "ann", "accountId": "no" }),
    )
    .await;
    assert_eq!((status, &answer["error"]), (400, &json!("channel loopback has no such account")));
}

#[tokio::test]
async fn without_a_chat_the_main_session_hears_of_it_and_tells_its_owner() {
    let platform = Platform::start();
    let heartbeat = json!({ "every": "0m", "target": "loopback", "to": "ann" });
    let mut more = channels(&platform);
    more["agents"] = json!({ "defaults": { "model": "mock/mock-1", "heartbeat": heartbeat } });
    let gateway = gateway(json!({}), more).await;
    let mut client = Client::admin(gateway.addr).await;
    let body = json!({ "message": "MOCK{n=2}", "name": "Build" });
    assert_eq!(post(gateway.addr, "/hooks/agent", body).await.0, 200);
    assert_eq!(platform.answers_in("ann", 1).await.len(), 1, "though there are no heartbeats otherwise");
    let asked = crate::channels::rows(&mut client, "main").await.remove(0).1;
    assert!(asked.contains("System event: Webhook Build came to this: tok0 tok1"), "{asked}");
    let quiet =
        json!({ "message": "MOCK{n=1}", "name": "Quiet", "deliver": false, "waitForCompletion": true });
    assert_eq!(post(gateway.addr, "/hooks/agent", quiet).await.0, 200);
    let loud = json!({ "message": "MOCK{err=400}", "name": "Broken", "deliver": false });
    assert_eq!(post(gateway.addr, "/hooks/agent", loud).await.0, 200);
    platform.answers_in("ann", 2).await;
    let rows = crate::channels::rows(&mut client, "main").await;
    let text: String = rows.iter().map(|(_, text)| text.as_str()).collect();
    assert!(text.contains("Webhook Broken failed: ") && !text.contains("Quiet"), "{text}");
}
