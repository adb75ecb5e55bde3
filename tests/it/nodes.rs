//! Nodes from outside: fake nodes of several platforms on real sockets, and the operators who approve and use them.

mod agents;
mod calls;
pub mod fake;
mod life;
mod runs;
mod setup;
mod tells;

use crate::client::Client;
use crate::gateway::Embedded;
use fake::{Fake, Kind};
use serde_json::{Value, json};

/// What the nodes of the recording `n2` declare.
const DECLARED: &str = "camera.list camera.snap camera.clip location.get canvas.present canvas.navigate system.run \
    system.which system.notify device.info notifications.list contacts.search screen.record screen.snapshot \
    computer.act talk.ptt.start browser.proxy foo.bar";

fn recorded() -> Value {
    let commands = json!({ "allow": ["camera.snap"], "deny": ["camera.clip"] });
    json!({ "gateway": { "nodes": { "commands": commands }, "chaos": { "enabled": true } } })
}

/// The Mac of the recording `n2`.
fn mac() -> Kind {
    Kind {
        caps: "camera canvas system",
        commands: "camera.snap camera.clip camera.list canvas.present canvas.hide canvas.navigate canvas.eval \
            system.notify system.run device.info location.get talk.ptt.start",
        permissions: json!({ "cameraAccess": true, "screenRecording": false }),
        ..Kind::of("openclaw-macos", "macos", "Mac", "fakemac")
    }
}

/// Approves what a node asks for.
pub async fn approve(operator: &mut Client, node: &Fake) {
    let pending = operator.call("node.pair.list", json!({})).await;
    let request = pending["pending"].as_array().unwrap().iter().find(|request| request["nodeId"] == node.id);
    let id = request.expect("a request")["requestId"].clone();
    operator.call("node.pair.approve", json!({ "requestId": id })).await;
}

async fn event(operator: &mut Client, name: &str, node: &str) -> Value {
    operator.event(|e| e["event"] == name && e["payload"]["nodeId"] == node).await["payload"].clone()
}

/// The recording `n2`.
/// accepts: E9, E10, F1, F4
#[tokio::test]
async fn every_platform_keeps_the_recorded_commands() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let phone =
        "camera.list camera.snap location.get system.notify device.info contacts.search talk.ptt.start";
    let linux = "camera.list camera.snap location.get system.run system.which system.notify screen.snapshot \
        computer.act talk.ptt.start browser.proxy";
    let (pairing, write, admin) = ("operator.pairing", "operator.write", "operator.admin");
    for (kind, kept, scope) in [
        (Kind::of("openclaw-ios", "ios", "iPhone", "fakeios"), phone.to_owned(), write),
        (
            Kind::of("openclaw-android", "android", "Android", "fakeandroid"),
            phone.replace("contacts", "notifications.list contacts"),
            write,
        ),
        (Kind::of("node-host", "linux", "Linux", "fakelinux"), linux.to_owned(), admin),
        (
            Kind::of("node-host", "windows", "Windows", "fakewin"),
            linux.replace("notify", "notify device.info"),
            admin,
        ),
        (
            Kind::of("node-host", "plan9", "x", "fakeunk"),
            "camera.list camera.snap location.get system.notify talk.ptt.start".to_owned(),
            write,
        ),
    ] {
        let name = kind.name;
        let kind = Kind { caps: "camera canvas", commands: DECLARED, ..kind };
        let mut node = Fake::connect(gateway.addr, &kind).await;
        let request = event(&mut operator, "node.pair.requested", &node.id).await;
        let commands: Vec<&str> = kept.split_whitespace().collect();
        assert_eq!(request["commands"], json!(commands), "{name}");
        assert_eq!(request["requiredApproveScopes"], json!([pairing, scope]), "{name}");
        assert_eq!((&request["caps"], &request["silent"]), (&json!(["camera", "canvas"]), &json!(true)));
        let listed = operator.call("node.pair.list", json!({})).await;
        assert_eq!(listed, json!({ "pending": [request], "paired": [] }), "{name}");
        let id = request["requestId"].clone();
        let rejected = operator.call("node.pair.reject", json!({ "requestId": id })).await;
        assert_eq!(rejected, json!({ "requestId": id, "nodeId": node.id }));
        let resolved = event(&mut operator, "node.pair.resolved", &node.id).await;
        assert_eq!(resolved["decision"], "rejected");
        let removed = operator.call("node.pair.remove", json!({ "nodeId": node.id })).await;
        assert_eq!(removed, json!({ "nodeId": node.id }));
        assert_eq!(node.client.until_closed().await, Some((4001, "device removed".into())), "{name}");
    }
    assert_eq!(operator.call("node.list", json!({})).await["nodes"], json!([]));
}

/// The recordings `n1` and `n2`, and what a node is told when it comes.
/// accepts: E9, E10, F1
#[tokio::test]
async fn a_node_is_approved_in_two_steps_and_works_at_once() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &mac()).await;
    assert_eq!(node.client.hello["auth"]["role"], "node");
    assert_eq!(node.client.hello["snapshot"]["presence"], json!([]));
    let words = node.told("voicewake.changed").await;
    assert_eq!(words, json!({ "triggers": ["openclaw", "claude", "computer"] }));
    let config =
        json!({ "version": 1, "defaultTarget": { "mode": "current" }, "routes": [], "updatedAtMs": 0 });
    assert_eq!(node.told("voicewake.routing.changed").await, json!({ "config": config }));

    let request = event(&mut operator, "node.pair.requested", &node.id).await;
    let (id, scopes) = (request["requestId"].clone(), request["requiredApproveScopes"].clone());
    assert_eq!(scopes, json!(["operator.pairing", "operator.admin"]));
    let listed = operator.call("node.list", json!({})).await["nodes"][0].clone();
    assert_eq!((&listed["caps"], &listed["commands"]), (&json!([]), &json!([])));
    assert_eq!((&listed["approvalState"], &listed["pendingRequestId"]), (&json!("pending-approval"), &id));
    assert_eq!(listed["pendingDeclaredCommands"], request["commands"]);
    assert_eq!((&listed["paired"], &listed["connected"]), (&json!(true), &json!(true)));
    let refused = operator.refused("node.invoke", fake::invocation(&node, "camera.list", json!({}))).await;
    let changed = json!({
        "code": "UNAVAILABLE", "message": "node pairing changed while invocation was active", "retryable": true,
        "details": { "code": "PAIRING_CHANGED" },
    });
    assert_eq!(refused, changed);

    // Who may pair may not let it run commands.
    let mut pairer = Client::scoped(gateway.addr, &["operator.pairing"]).await;
    let refused = pairer.refused("node.pair.approve", json!({ "requestId": id })).await;
    assert_eq!(refused["message"], "missing scope: operator.admin");
    assert_eq!(refused["details"]["requiredScopes"], scopes);

    let approved = operator.call("node.pair.approve", json!({ "requestId": id })).await;
    assert_eq!((&approved["requestId"], &approved["node"]["commands"]), (&id, &request["commands"]));
    assert_eq!(approved["node"]["createdAtMs"], approved["node"]["approvedAtMs"]);
    let resolved = event(&mut operator, "node.pair.resolved", &node.id).await;
    assert_eq!((&resolved["requestId"], &resolved["decision"]), (&id, &json!("approved")));
    assert_eq!(node.told("node.pair.resolved").await, resolved);
    let again = operator.refused("node.pair.approve", json!({ "requestId": id })).await;
    assert_eq!(again, json!({ "code": "INVALID_REQUEST", "message": "unknown requestId" }));

    let shown = operator.call("node.describe", json!({ "nodeId": node.id })).await;
    let sorted = "camera.list camera.snap canvas.hide canvas.navigate canvas.present device.info location.get \
        system.notify system.run talk.ptt.start";
    assert_eq!(shown["commands"], json!(sorted.split_whitespace().collect::<Vec<_>>()));
    assert_eq!(shown["permissions"], json!({ "cameraAccess": true, "screenRecording": false }));
    assert_eq!((&shown["approvalState"], &shown["pathEnv"]), (&json!("approved"), &json!("/usr/bin")));
    assert!(shown["ts"].is_i64() && shown.get("pendingRequestId").is_none());
    let unknown = operator.refused("node.describe", json!({ "nodeId": "nope" })).await;
    assert_eq!(unknown, json!({ "code": "INVALID_REQUEST", "message": "unknown nodeId" }));
    let presence = operator.call("system-presence", json!({})).await;
    let row = presence.as_array().unwrap().iter().find(|row| row["mode"] == "node").unwrap();
    assert_eq!((&row["instanceId"], &row["roles"]), (&json!(node.id), &json!(["node"])));
}

/// The end of the recording `n2`: the same Mac with another command.
#[tokio::test]
async fn a_node_that_offers_more_asks_again_and_keeps_what_it_had() {
    let gateway = Embedded::with(recorded()).await;
    let mut operator = Client::admin(gateway.addr).await;
    let first = Fake::connect(gateway.addr, &mac()).await;
    event(&mut operator, "node.pair.requested", &first.id).await;
    approve(&mut operator, &first).await;
    // The older socket stays, and the newer one counts.
    let more = Kind { commands: "camera.list screen.snapshot screen.record", ..mac() };
    let mut second = Fake::connect(gateway.addr, &more).await;
    operator.events.clear();
    let request = event(&mut operator, "node.pair.requested", &second.id).await;
    assert_eq!(request["commands"], json!(["camera.list", "screen.snapshot"]));
    assert_eq!(request["requiredApproveScopes"], json!(["operator.pairing", "operator.write"]));
    assert!(request.get("silent").is_none());
    let shown = operator.call("node.describe", json!({ "nodeId": first.id })).await;
    assert_eq!(shown["commands"], json!(["camera.list"]));
    assert_eq!(shown["approvalState"], "pending-reapproval");
    assert_eq!(shown["pendingDeclaredCommands"], request["commands"]);
    let refused = fake::refused_by(&mut operator, &second, "screen.snapshot").await;
    assert_eq!(refused["details"]["reason"], "command not declared by node");
    let done = second.serve(&mut operator, "camera.list", json!({ "ok": true, "payload": 1 })).await;
    assert_eq!(done["payload"]["payload"], 1);

    // The same again is the same request, over a restart too; with less there is none.
    let request_id = request["requestId"].clone();
    drop((first, second));
    let token = crabtree_actors::settings::AuthSecret::Token(crabtree_actors::settings::Secret::new(
        crate::client::TOKEN,
    ));
    let gateway = gateway.restarted(token).await;
    let mut operator = Client::admin(gateway.addr).await;
    let offline = operator.call("node.list", json!({})).await["nodes"][0].clone();
    assert_eq!((&offline["connected"], &offline["pendingRequestId"]), (&json!(false), &request_id));
    let mut third = Fake::connect(gateway.addr, &more).await;
    third.settled().await;
    let pending = operator.call("node.pair.list", json!({})).await["pending"].clone();
    assert_eq!((pending.as_array().unwrap().len(), &pending[0]["requestId"]), (1, &request_id));
    let mut fourth = Fake::connect(gateway.addr, &Kind { commands: "camera.list", ..mac() }).await;
    fourth.settled().await;
    assert_eq!(operator.call("node.pair.list", json!({})).await["pending"], json!([]));
    let resolved = event(&mut operator, "node.pair.resolved", &third.id).await;
    assert_eq!((&resolved["requestId"], &resolved["decision"]), (&request_id, &json!("rejected")));
}
