//! Tokens that are somebody else's, worn out or made for less, and people who would approve what they may not. What the
//! recordings show (`devicetoken_flow`, `setup_code`, `self_rotate` …) is replayed elsewhere.

use super::arsenal::sign;
use super::proofs::{taken, told, verdict};
use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::net::SocketAddr;

const MISMATCH: &str = "AUTH_DEVICE_TOKEN_MISMATCH";
const NODE: (&str, &str, &str) = ("node-host", "node", "node");
const CLI: (&str, &str, &str) = ("cli", "cli", "operator");

fn params((id, mode, role): (&str, &str, &str), scopes: &[&str], auth: Value) -> Value {
    let client = json!({ "id": id, "mode": mode, "version": "1", "platform": "linux" });
    json!({
        "minProtocol": 4, "maxProtocol": 4, "client": client, "caps": [], "role": role, "scopes": scopes, "auth": auth,
    })
}

/// What a device with this key is told.
async fn tries(addr: SocketAddr, key: u8, params: Value) -> String {
    let key = DeviceKey::from_seed(&[key; 32]);
    told(addr, |challenge| {
        let mut params = params;
        sign(&mut params, &key, challenge);
        params
    })
    .await
}

/// The token such a device is given.
async fn token(addr: SocketAddr, key: u8, mut params: Value) -> (Client, String) {
    let (mut client, challenge) = Client::open(addr).await;
    sign(&mut params, &DeviceKey::from_seed(&[key; 32]), &taken(&challenge));
    let hello = client.call("connect", params).await;
    let token = hello["auth"]["deviceToken"].as_str().unwrap().to_owned();
    (client, token)
}

fn shared() -> Value {
    json!({ "token": TOKEN })
}

fn with(token: &str) -> Value {
    json!({ "deviceToken": token })
}

/// accepts: E3
#[tokio::test]
async fn a_token_is_good_for_its_own_device_in_its_own_role_and_no_more() {
    let gateway = Embedded::start().await;
    let (addr, mut admin) = (gateway.addr, Client::admin(gateway.addr).await);
    let read: &[&str] = &["operator.read"];
    // One device in two roles, and another one.
    let (_node, as_node) = token(addr, 1, params(NODE, &[], shared())).await;
    let on_node = params(("node-host", "node", "operator"), read, shared());
    let (_operator, as_operator) = token(addr, 1, on_node).await;
    let (_other, others) = token(addr, 2, params(CLI, read, shared())).await;
    assert_ne!(as_node, as_operator);
    let own = |auth: Value| params(("node-host", "node", "operator"), read, auth);
    assert_eq!(tries(addr, 1, own(with(&as_operator))).await, "ok");
    assert_eq!(tries(addr, 1, params(NODE, &[], with(&as_node))).await, "ok");
    for (key, params) in [
        (1, own(with(&others))),
        (1, own(with(&as_node))),
        (1, params(NODE, &[], with(&as_operator))),
        (2, params(CLI, read, with(&as_operator))),
        (2, params(NODE, &[], with(&others))),
        (3, params(CLI, read, with(&others))),
        (1, own(with(&as_operator[1..]))),
        (1, own(with(&format!("{as_operator}=")))),
        (1, own(with(&format!("{as_operator} ")))),
        (1, own(with(&as_operator.to_lowercase()))),
        (1, own(with(TOKEN))),
    ] {
        assert_eq!(tries(addr, key, params.clone()).await, MISMATCH, "{key} {params}");
    }
    assert_eq!(tries(addr, 1, own(json!({ "password": as_operator }))).await, "AUTH_TOKEN_MISMATCH");
    let code = json!({ "bootstrapToken": as_operator });
    assert_eq!(tries(addr, 1, own(code)).await, "AUTH_BOOTSTRAP_TOKEN_INVALID");
    let wider =
        params(("node-host", "node", "operator"), &["operator.read", "operator.admin"], with(&as_operator));
    assert_eq!(tries(addr, 1, wider).await, "AUTH_SCOPE_MISMATCH");
    // Nobody was asked to let anybody in, and nothing is worth more than before.
    assert_eq!(admin.call("device.pair.list", json!({})).await["pending"], json!([]));
}

/// accepts: E3
#[tokio::test]
async fn a_token_that_was_rotated_or_revoked_is_dead() {
    let gateway = Embedded::start().await;
    let (addr, mut admin) = (gateway.addr, Client::admin(gateway.addr).await);
    let id = DeviceKey::from_seed(&[4; 32]).device_id().to_string();
    let read = |auth: Value| params(CLI, &["operator.read"], auth);
    let (mut live, first) = token(addr, 4, read(shared())).await;
    let role = json!({ "deviceId": id, "role": "operator" });
    let rotated = admin.call("device.token.rotate", role.clone()).await;
    assert_eq!((&rotated["tokenDelivery"], rotated.get("token")), (&json!("withheld-cross-device"), None));
    assert_eq!(live.until_closed().await, Some((4001, "device removed".into())));
    assert_eq!(tries(addr, 4, read(with(&first))).await, MISMATCH);
    let (_live, second) = token(addr, 4, read(shared())).await;
    assert_ne!(first, second);
    admin.call("device.token.revoke", role).await;
    for dead in [&first, &second] {
        assert_eq!(tries(addr, 4, read(with(dead))).await, MISMATCH);
    }
    let (_live, third) = token(addr, 4, read(shared())).await;
    for dead in [&first, &second] {
        assert_eq!(tries(addr, 4, read(with(dead))).await, MISMATCH);
    }
    assert_eq!(tries(addr, 4, read(with(&third))).await, "ok");
}

/// accepts: E4, E8
#[tokio::test]
async fn a_setup_code_is_good_for_one_device_once_and_for_what_it_is_made_for() {
    let gateway = Embedded::start().await;
    let (addr, mut admin) = (gateway.addr, Client::admin(gateway.addr).await);
    let code = async |admin: &mut Client, profile: &str| {
        let wish =
            json!({ "publicUrl": "wss://home.example", "includeQr": false, "bootstrapProfile": profile });
        let made = admin.call("device.pair.setupCode", wish).await;
        use base64::Engine;
        let text = made["setupCode"].as_str().unwrap();
        let told = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        json!({ "bootstrapToken": told["bootstrapToken"] })
    };
    let invalid = "AUTH_BOOTSTRAP_TOKEN_INVALID";
    // For a node: no operator comes in with it, and the first device that shows it keeps it.
    let node = code(&mut admin, "node").await;
    assert_eq!(tries(addr, 5, params(CLI, &["operator.read"], node.clone())).await, invalid);
    assert_eq!(tries(addr, 5, params(NODE, &["operator.admin"], node.clone())).await, invalid);
    assert_eq!(tries(addr, 5, params(NODE, &[], node.clone())).await, "ok");
    for key in [5, 6] {
        assert_eq!(tries(addr, key, params(NODE, &[], node.clone())).await, invalid, "{key}");
    }
    // A limited one makes no administrator, today or later.
    let limited = code(&mut admin, "limited").await;
    let phone = |role: &str, scopes: &[&str], auth: Value| {
        let mut params =
            params(("openclaw-ios", if role == "node" { "node" } else { "ui" }, role), scopes, auth);
        params["client"]["platform"] = json!("iOS 18.4");
        params["client"]["deviceFamily"] = json!("iPhone");
        params
    };
    assert_eq!(tries(addr, 7, phone("operator", &["operator.admin"], limited.clone())).await, invalid);
    let (mut client, challenge) = Client::open(addr).await;
    let mut first = phone("node", &[], limited.clone());
    sign(&mut first, &DeviceKey::from_seed(&[7; 32]), &taken(&challenge));
    let hello = client.call("connect", first).await;
    let operator = hello["auth"]["deviceTokens"][0]["deviceToken"].as_str().unwrap().to_owned();
    assert_eq!(tries(addr, 8, phone("node", &[], limited)).await, invalid);
    let asks = |scopes: &[&str]| phone("operator", scopes, with(&operator));
    assert_eq!(tries(addr, 7, asks(&["operator.admin"])).await, "AUTH_SCOPE_MISMATCH");
    assert_eq!(tries(addr, 7, asks(&["operator.pairing"])).await, "AUTH_SCOPE_MISMATCH");
    assert_eq!(tries(addr, 7, asks(&["operator.read"])).await, "ok");
}

/// accepts: E4, E8
#[tokio::test]
async fn nobody_approves_more_than_it_has() {
    let config = json!({ "gateway": { "nodes": { "pairing": { "autoApproveLocal": false } } } });
    let gateway = Embedded::with(config).await;
    let (addr, mut admin) = (gateway.addr, Client::admin(gateway.addr).await);
    let request = async |key: u8, params: Value| {
        let (mut client, challenge) = Client::open(addr).await;
        let mut params = params;
        sign(&mut params, &DeviceKey::from_seed(&[key; 32]), &taken(&challenge));
        let answer = client.response_to("connect", params).await;
        assert_eq!(verdict(&answer), "PAIRING_REQUIRED", "{answer}");
        json!({ "requestId": answer["error"]["details"]["requestId"] })
    };
    let greedy = request(9, params(CLI, &["operator.admin"], shared())).await;
    let as_node = request(10, params(NODE, &[], shared())).await;
    let own = request(11, params(CLI, &["operator.pairing"], shared())).await;
    let mut pairer = Client::scoped(addr, &["operator.pairing"]).await;
    assert_eq!(
        pairer.refused("device.pair.approve", greedy.clone()).await["message"],
        "missing scope: operator.admin"
    );
    let denied = "device pairing approval denied";
    assert_eq!(pairer.refused("device.pair.approve", as_node).await["message"], denied);
    pairer.call("device.pair.approve", own).await;
    // By its own token it sees to itself alone, and cannot make more of itself.
    let (_, own) = token(addr, 11, params(CLI, &["operator.pairing"], shared())).await;
    let (mut device, _) = token(addr, 11, params(CLI, &["operator.pairing"], with(&own))).await;
    assert_eq!(device.refused("device.pair.approve", greedy).await["message"], denied);
    let wish = json!({ "scopes": ["operator.pairing", "operator.admin"] });
    let more = device.call("device.scopes.requestUpgrade", wish).await;
    let refused = device.refused("device.pair.approve", json!({ "requestId": more["requestId"] })).await;
    assert_eq!(refused["message"], "missing scope: operator.admin");
    // An administrator can; what was connected before stays what it was.
    admin.call("device.pair.approve", json!({ "requestId": more["requestId"] })).await;
    assert_eq!(device.refused("system.actors.restart", json!({})).await["code"], "FORBIDDEN");
    assert_eq!(tries(addr, 11, params(CLI, &["operator.admin"], with(&own))).await, MISMATCH);
}

/// Somebody who knows the shared secret and is not on this machine: what was approved is not widened in silence.
/// accepts: E4
#[tokio::test]
async fn an_approved_device_cannot_make_more_of_itself_from_elsewhere() {
    let gateway = Embedded::with(json!({ "gateway": { "trustedProxies": ["127.0.0.1"] } })).await;
    let mut admin = Client::admin(gateway.addr).await;
    let ask = async |wish: Value| {
        let headers = [("x-forwarded-for", "203.0.113.9")];
        let (mut client, challenge) = super::guesses::through(gateway.addr, None, &headers).await.unwrap();
        let mut wish = wish;
        sign(&mut wish, &DeviceKey::from_seed(&[12; 32]), &taken(&challenge));
        client.response_to("connect", wish).await
    };
    let read = || params(CLI, &["operator.read"], shared());
    let asked = ask(read()).await;
    let request = json!({ "requestId": asked["error"]["details"]["requestId"] });
    admin.call("device.pair.approve", request).await;
    assert_eq!(verdict(&ask(read()).await), "ok");
    let mut moved = read();
    moved["client"]["platform"] = json!("windows");
    for (wish, reason) in [
        (params(CLI, &["operator.read", "operator.admin"], shared()), "scope-upgrade"),
        (params(NODE, &[], shared()), "role-upgrade"),
        (moved, "metadata-upgrade"),
    ] {
        let answer = ask(wish).await;
        assert_eq!(answer["error"]["details"]["reason"], reason, "{answer}");
    }
    let list = admin.call("device.pair.list", json!({})).await;
    assert_eq!(list["paired"][0]["scopes"], json!(["operator.read"]));
    assert_eq!(
        (&list["paired"][0]["platform"], &list["paired"][0]["roles"]),
        (&json!("linux"), &json!(["operator"]))
    );
    assert_eq!(list["pending"].as_array().unwrap().len(), 1, "one request a device");
}
