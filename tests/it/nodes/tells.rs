//! What nodes tell, and what waits for them.

use super::fake::{Fake, Kind};
use super::{approve, event, mac, recorded};
use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::time::Duration;

/// Between two looks at what is written a moment after it was answered, and how long it may take.
const LOOK: Duration = Duration::from_millis(20);
const WRITTEN: Duration = Duration::from_secs(10);

async fn told(node: &mut Fake, name: &str, facts: Value) -> Value {
    node.client.call("node.event", json!({ "event": name, "payloadJSON": facts.to_string() })).await
}

fn handled(event: &str, handled: bool, reason: &str) -> Value {
    json!({ "ok": true, "event": event, "handled": handled, "reason": reason })
}

/// The recordings `n2` and `nodehost`.
#[tokio::test]
async fn events_of_nodes_are_answered_as_recorded() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    let refused = node.client.refused("node.event", json!({ "event": "node.host.stats" })).await;
    assert_eq!(
        (&refused["retryable"], &refused["details"]["code"]),
        (&json!(true), &json!("PAIRING_CHANGED"))
    );
    approve(&mut operator, &node).await;
    let stats =
        json!({ "cpuCount": 2, "loadAverage": [1.0, 2.0, 3.0], "memoryTotalBytes": 9, "memoryFreeBytes": 1 });
    let answer = told(&mut node, "node.host.stats", stats.clone()).await;
    assert_eq!(answer, handled("node.host.stats", true, "updated"));
    let news = event(&mut operator, "node.hostStats", &node.id).await;
    assert_eq!(
        (&news["hostStats"]["cpuCount"], &news["hostStats"]["loadAverage"]),
        (&json!(2), &stats["loadAverage"])
    );
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!(shown["hostStats"], news["hostStats"]);
    let unsound = json!({ "cpuCount": 2, "memoryTotalBytes": 1, "memoryFreeBytes": 2 });
    assert_eq!(told(&mut node, "node.host.stats", unsound).await["reason"], "invalid_payload");

    let alive = json!({ "trigger": "manual", "sentAtMs": 1 });
    assert_eq!(
        told(&mut node, "node.presence.alive", alive).await,
        handled("node.presence.alive", true, "persisted")
    );
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!(shown["lastSeenReason"], "manual");
    let idle = json!({ "idleSeconds": 3 });
    let answer = told(&mut node, "node.presence.activity", idle).await;
    assert_eq!(answer, handled("node.presence.activity", false, "permission_required"));
    let answer =
        told(&mut node, "node.presence.activity", json!({ "idleSeconds": 3, "source": "app" })).await;
    assert_eq!(answer, handled("node.presence.activity", true, "updated"));
    let news = event(&mut operator, "node.presence", &node.id).await;
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!((&shown["active"], &shown["lastActiveAtMs"]), (&json!(true), &news["lastActiveAtMs"]));

    for (name, facts) in [
        ("voice.transcript", json!({})),
        ("chat.subscribe", json!({ "sessionKey": "agent:main:main" })),
        ("chat.unsubscribe", json!({ "sessionKey": "agent:main:main" })),
        (
            "notifications.changed",
            json!({ "change": "posted", "key": "k1", "packageName": "p", "title": "t" }),
        ),
    ] {
        assert_eq!(told(&mut node, name, facts).await, json!({ "ok": true }), "{name}");
    }
    let run = json!({ "sessionKey": "agent:main:main", "runId": "r1", "command": "ls", "exitCode": 0 });
    for name in ["exec.started", "exec.finished", "exec.denied"] {
        assert_eq!(told(&mut node, name, run.clone()).await, handled(name, false, "unmatched_exec_event"));
    }
    assert_eq!(
        told(&mut node, "bogus.event", json!({})).await,
        handled("bogus.event", false, "unsupported_event")
    );
    let expected = json!([format!("Notification posted (node={} key=k1 package=p): t", node.id)]);
    let waits = async {
        while operator.call("status", json!({})).await["queuedSystemEvents"] != expected {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(WRITTEN, waits).await.expect("it waits for the agent");
}

/// accepts: F6
#[tokio::test]
async fn what_people_say_at_a_node_reaches_the_agent_and_the_node_hears_the_answer() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    told(&mut node, "chat.subscribe", json!({ "sessionKey": "main" })).await;
    told(&mut node, "voice.transcript", json!({ "text": "hello from voice", "sessionKey": "main" })).await;
    let end = |e: &Value| e["event"] == "chat" && e["payload"]["state"] == "final";
    let heard = node.client.event(end).await;
    assert_eq!(heard["payload"]["sessionKey"], "agent:main:main");
    let history = operator.call("chat.history", json!({ "sessionKey": "main" })).await;
    assert!(history["messages"][0].to_string().contains("hello from voice"), "{history}");
    // Nothing else comes to it: no presence, and no other session.
    told(&mut node, "chat.unsubscribe", json!({ "sessionKey": "main" })).await;
    assert!(
        node.client
            .events
            .iter()
            .all(|e| !["presence", "config.changed"].contains(&e["event"].as_str().unwrap()))
    );
}

/// The recording `nodehost`: what the stock host tells after its hello.
#[tokio::test]
async fn what_a_node_offers_counts_as_far_as_it_is_approved() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    let inventory =
        json!({ "protocolFeatures": ["node-worker-supervisor-v6"], "workerHost": { "enabled": false } });
    let refused = node.client.refused("node.runnerInventory.update", inventory.clone()).await;
    let request = operator.call("node.pair.list", json!({})).await["pending"][0]["requestId"].clone();
    let words = format!(
        "node capability surface is awaiting operator approval; run `openclaw nodes approve {}` (see `openclaw nodes \
         pending`), then this node retries automatically",
        request.as_str().unwrap()
    );
    assert_eq!(refused, json!({ "code": "UNAVAILABLE", "message": words }));
    let named = json!({ "nodeId": node.id });
    event(&mut operator, "node.runnerInventory.changed", &node.id).await;
    let tools = json!({ "tools": [
        { "pluginId": "p1", "name": "my_tool", "description": "d", "parameters": {}, "command": "camera.list" },
        { "pluginId": "p1", "name": "bad_tool", "description": "d", "command": "nope.cmd" },
    ] });
    let answer = node.client.call("node.pluginTools.update", tools.clone()).await;
    assert_eq!(answer, json!({ "nodeId": node.id, "tools": [] }), "nothing is approved yet");
    approve(&mut operator, &node).await;
    assert_eq!(node.client.call("node.runnerInventory.update", inventory).await, named);
    let answer = node.client.call("node.pluginTools.update", tools.clone()).await;
    assert_eq!(answer, json!({ "nodeId": node.id, "tools": [tools["tools"][0]] }));
    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!(shown["nodePluginTools"], answer["tools"]);
    let skill = json!({ "name": "nskill", "description": "a node skill", "content": "---\nname: nskill\n---\nhello" });
    let answer = node.client.call("node.skills.update", json!({ "skills": [skill] })).await;
    assert_eq!(answer, json!({ "nodeId": node.id, "skills": [skill] }));
    let wrong = node.client.refused("node.runnerInventory.update", json!({ "protocolFeatures": 1 })).await;
    assert_eq!(wrong["message"], "invalid node runner inventory");
}

/// As OpenClaw's own gateway words it.
#[tokio::test]
async fn what_a_phone_cannot_do_in_the_background_waits_until_it_looks() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let phone =
        Kind { commands: "camera.list camera.snap", ..Kind::of("openclaw-ios", "ios", "iPhone", "phone") };
    let mut node = Fake::connect(gateway.addr, &phone).await;
    node.settled().await;
    approve(&mut operator, &node).await;
    let background =
        json!({ "code": "NODE_BACKGROUND_UNAVAILABLE", "message": "command requires foreground" });
    for _ in 0..2 {
        let failed =
            node.serve(&mut operator, "camera.list", json!({ "ok": false, "error": background })).await;
        let (error, details) = (&failed["error"], &failed["error"]["details"]);
        assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
        assert_eq!(error["message"], "node command queued until iOS returns to foreground");
        assert_eq!(
            (&details["code"], &details["nodeError"]),
            (&json!("QUEUED_UNTIL_FOREGROUND"), &background)
        );
    }
    let pulled = node.client.call("node.pending.pull", json!({})).await;
    let actions = pulled["actions"].as_array().unwrap().clone();
    assert_eq!((actions.len(), &actions[0]["command"]), (1, &json!("camera.list")), "one key is one action");
    assert_eq!(actions[0]["paramsJSON"], "{}");
    let acked = node.client.call("node.pending.ack", json!({ "ids": [actions[0]["id"]] })).await;
    assert_eq!((&acked["remainingCount"], &acked["ackedIds"]), (&json!(0), &json!([actions[0]["id"]])));
    assert_eq!(node.client.call("node.pending.pull", json!({})).await["actions"], json!([]));
}

#[tokio::test]
async fn work_waits_for_a_node_until_it_looks() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    node.settled().await;
    let work =
        json!({ "nodeId": node.id, "type": "location.request", "priority": "high", "expiresInMs": 60000 });
    let queued = operator.call("node.pending.enqueue", work).await;
    assert_eq!((&queued["revision"], &queued["wakeTriggered"]), (&json!(1), &json!(false)));
    let drained = node.client.call("node.pending.drain", json!({ "maxItems": 5 })).await;
    assert_eq!(drained["items"][0], queued["queued"]);
    assert_eq!(drained["items"][1]["id"], "baseline-status");
    let empty = json!({ "nodeId": node.id, "actions": [] });
    assert_eq!(node.client.call("node.pending.pull", json!({})).await, empty);
    let id = queued["queued"]["id"].clone();
    let acked = node.client.call("node.pending.ack", json!({ "ids": [id] })).await;
    assert_eq!(acked, json!({ "nodeId": node.id, "ackedIds": [id], "remainingCount": 0 }));
    let unknown = json!({ "nodeId": "nope", "type": "status.request" });
    assert_eq!(operator.refused("node.pending.enqueue", unknown).await["message"], "unknown nodeId");
    for method in ["node.pending.drain", "node.pending.pull", "node.event"] {
        let refused = operator.refused(method, json!({})).await;
        assert_eq!(refused["message"], "unauthorized role: operator");
    }
}

/// The recording `ops`.
#[tokio::test]
async fn the_words_that_wake_are_everybodys_and_places_are_listed() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &Kind::linux("system.which desktop.stream")).await;
    node.settled().await;
    node.told("voicewake.changed").await;
    let set = operator.call("voicewake.set", json!({ "triggers": [" hey claw ", ""] })).await;
    assert_eq!(set, json!({ "triggers": ["hey claw"] }));
    assert_eq!(node.told("voicewake.changed").await, set);
    let news = operator.event(|e| e["event"] == "voicewake.changed").await;
    assert!(news["payload"] == set && news["seq"].is_u64());
    assert_eq!(operator.call("voicewake.get", json!({})).await, set);
    let refused = operator.refused("voicewake.set", json!({})).await;
    assert_eq!(refused["message"], "voicewake.set requires triggers: string[]");
    approve(&mut operator, &node).await;
    let places = operator.call("environments.list", json!({})).await["environments"].clone();
    assert_eq!((&places[0]["id"], &places[0]["status"]), (&json!("gateway"), &json!("available")));
    let at_node = &places[1];
    assert_eq!((&at_node["id"], &at_node["label"]), (&json!(format!("node:{}", node.id)), &json!("box")));
    assert_eq!(at_node["capabilities"], json!(["desktop.stream", "system", "system.which"]));
    assert_eq!((&at_node["desktop"], &at_node["sessionHost"]), (&json!(true), &json!(false)));
    assert_eq!(at_node["invocableCommands"], json!(["desktop.stream", "system.which"]));
    let one = operator.call("environments.status", json!({ "environmentId": at_node["id"] })).await;
    assert_eq!(one, *at_node);
    // It is kept.
    let token = crabtree_actors::settings::AuthSecret::Token(crabtree_actors::settings::Secret::new(
        crate::client::TOKEN,
    ));
    let gateway = gateway.restarted(token).await;
    let mut node = Fake::connect(gateway.addr, &Kind::linux("system.which")).await;
    assert_eq!(node.told("voicewake.changed").await, set);
}
