//! Nodes that come in with a setup code.

use super::event;
use super::fake::{Fake, Kind, invocation};
use crate::client::Client;
use crate::gateway::Embedded;
use serde_json::{Value, json};

/// The `auth` that a setup code for this kind of device holds.
async fn code(admin: &mut Client, profile: &str) -> Value {
    use base64::Engine;
    let wanted =
        json!({ "publicUrl": "wss://home.example", "bootstrapProfile": profile, "includeQr": false });
    let code = admin.call("device.pair.setupCode", wanted).await;
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(code["setupCode"].as_str().unwrap()).unwrap();
    let told: Value = serde_json::from_slice(&bytes).unwrap();
    json!({ "bootstrapToken": told["bootstrapToken"] })
}

/// The recording `setup_profiles`, where the whole surface is approved; here what does no harm.
/// accepts: E10
#[tokio::test]
async fn a_setup_code_approves_at_once_what_does_no_harm_and_never_commands() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let kind = Kind::linux("location.get system.notify system.run system.which computer.act camera.snap");
    let auth = code(&mut admin, "node").await;
    let mut node = Fake::connect_with(gateway.addr, &kind, auth).await;
    assert_eq!(node.client.hello["auth"]["method"], "bootstrap-token");
    let resolved = event(&mut admin, "node.pair.resolved", &node.id).await;
    assert_eq!(resolved["decision"], "approved");
    assert_eq!(node.told("node.pair.resolved").await, resolved);
    let asks = event(&mut admin, "node.pair.requested", &node.id).await;
    let all = json!(["location.get", "system.notify", "system.run", "system.which", "computer.act"]);
    assert_eq!(asks["commands"], all, "a person is asked for the rest");
    assert!(asks.get("silent").is_none());
    let shown = admin.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!(shown["commands"], json!(["location.get", "system.notify"]));
    assert_eq!((&shown["caps"], &shown["approvalState"]), (&json!(["system"]), &json!("pending-reapproval")));
    let run = json!({ "command": ["true"] });
    let refused = admin.refused("node.invoke", invocation(&node, "system.run", run)).await;
    assert_eq!(refused["details"]["reason"], "command not declared by node");
    let done = node.serve(&mut admin, "location.get", json!({ "ok": true })).await;
    assert_eq!(done["ok"], true);
    // What a person rejected is not approved by coming again.
    let token = node.client.hello["auth"]["deviceToken"].clone();
    admin.call("node.pair.reject", json!({ "requestId": asks["requestId"] })).await;
    let mut again = Fake::connect_with(gateway.addr, &kind, json!({ "deviceToken": token })).await;
    again.settled().await;
    let shown = admin.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!(shown["commands"], json!(["location.get", "system.notify"]));
}

#[tokio::test]
async fn a_phone_with_a_setup_code_is_approved_and_nobody_is_asked() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let kind = Kind {
        caps: "camera",
        commands: "camera.list location.get camera.snap",
        permissions: json!({ "cameraAccess": true }),
        ..Kind::of("openclaw-ios", "iOS 18.4.0", "iPhone", "phone")
    };
    let auth = code(&mut admin, "limited").await;
    let node = Fake::connect_with(gateway.addr, &kind, auth).await;
    event(&mut admin, "node.pair.resolved", &node.id).await;
    let shown = admin.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!((&shown["approvalState"], &shown["caps"]), (&json!("approved"), &json!(["camera"])));
    assert_eq!(shown["commands"], json!(["camera.list", "location.get"]));
    assert_eq!(shown["permissions"], json!({ "cameraAccess": true }));
    assert_eq!(admin.call("node.pair.list", json!({})).await["pending"], json!([]));
}

/// Without a code nothing is approved, as before.
#[tokio::test]
async fn a_node_that_knows_the_shared_secret_waits_for_a_person() {
    let gateway = Embedded::start().await;
    let mut admin = Client::admin(gateway.addr).await;
    let mut node = Fake::connect(gateway.addr, &Kind::linux("location.get")).await;
    node.settled().await;
    let shown = admin.call("node.describe", json!({ "nodeId": node.id })).await;
    assert_eq!((&shown["approvalState"], &shown["commands"]), (&json!("pending-approval"), &json!([])));
}
