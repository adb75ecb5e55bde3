//! Proofs of devices that are replayed, changed, taken apart or made the way they once were. What the recordings show
//! (`fail_dev_*` and `ok_dev_*`) is replayed elsewhere.

use super::VICTIM;
use super::arsenal::{Challenge, connect_of, sign};
use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What `connect` comes to with what is made of the challenge: `ok`, or the code or the words of the refusal.
pub async fn told(addr: SocketAddr, make: impl FnOnce(&Challenge) -> Value) -> String {
    let (mut client, challenge) = Client::open(addr).await;
    let answer = client.response_to("connect", make(&taken(&challenge))).await;
    verdict(&answer)
}

/// The same of an answer.
pub fn verdict(answer: &Value) -> String {
    let error = &answer["error"];
    let text = error["details"]["code"].as_str().or(error["message"].as_str());
    text.unwrap_or(if answer["ok"] == true { "ok" } else { "nothing" }).to_owned()
}

pub fn taken(challenge: &Value) -> Challenge {
    let nonce = challenge["nonce"].as_str().unwrap().to_owned();
    Challenge { nonce, ts: challenge["ts"].as_u64().unwrap() }
}

fn victim() -> DeviceKey {
    DeviceKey::from_seed(&VICTIM)
}

fn connect(auth: Value, challenge: &Challenge) -> Value {
    connect_of(&victim(), auth, challenge)["params"].clone()
}

fn shared() -> Value {
    json!({ "token": TOKEN })
}

/// accepts: B6
#[tokio::test]
async fn a_captured_connect_opens_no_second_socket() {
    let gateway = Embedded::start().await;
    let (mut first, challenge) = Client::open(gateway.addr).await;
    let captured = connect(shared(), &taken(&challenge));
    // Whoever reads along may be quicker.
    assert_eq!(told(gateway.addr, |_| captured.clone()).await, "DEVICE_AUTH_NONCE_MISMATCH");
    assert_eq!(first.response_to("connect", captured.clone()).await["ok"], true);
    assert_eq!(told(gateway.addr, |_| captured.clone()).await, "DEVICE_AUTH_NONCE_MISMATCH");
    let twice = first.refused("connect", captured.clone()).await;
    assert_eq!(twice["message"], "connect is only valid as the first request");
    let renewed = |challenge: &Challenge| {
        let mut params = captured.clone();
        params["device"]["nonce"] = json!(challenge.nonce);
        params
    };
    assert_eq!(told(gateway.addr, renewed).await, "DEVICE_AUTH_SIGNATURE_INVALID");
    assert!(first.call("health", json!({})).await.is_object());
    let secret = crabtree_actors::settings::Secret::new(TOKEN);
    let gateway = gateway.restarted(crabtree_actors::settings::AuthSecret::Token(secret)).await;
    assert_eq!(told(gateway.addr, |_| captured.clone()).await, "DEVICE_AUTH_NONCE_MISMATCH");
}

/// accepts: B6
#[tokio::test]
async fn nothing_that_was_signed_can_be_changed() {
    let gateway = Embedded::start().await;
    let other = DeviceKey::from_seed(&[78; 32]);
    let (id, key) = (other.device_id().to_string(), other.public_key());
    let (invalid, strange) = ("DEVICE_AUTH_SIGNATURE_INVALID", "DEVICE_AUTH_DEVICE_ID_MISMATCH");
    let both = json!([id, key]);
    for (pointer, value, expected) in [
        ("/client/id", json!("test"), invalid),
        ("/client/mode", json!("ui"), invalid),
        ("/client/platform", json!("beos"), invalid),
        ("/client/deviceFamily", json!("Mac"), invalid),
        ("/role", json!("node"), invalid),
        ("/scopes", json!(["operator.admin"]), invalid),
        ("/scopes", json!(["operator.read", "operator.write"]), invalid),
        ("/scopes", json!([]), invalid),
        ("/auth", json!({}), invalid),
        ("/auth", json!({ "password": TOKEN }), invalid),
        ("/auth", json!({ "token": "", "deviceToken": TOKEN }), invalid),
        ("/device/signedAt", json!(1), "DEVICE_AUTH_SIGNATURE_EXPIRED"),
        ("/device/nonce", json!("another"), "DEVICE_AUTH_NONCE_MISMATCH"),
        ("/device/nonce", json!(" \u{feff}"), "DEVICE_AUTH_NONCE_REQUIRED"),
        ("/device/signature", json!("AA"), invalid),
        ("/device/signature", json!("A".repeat(86)), invalid),
        ("/device/id", json!(id), strange),
        ("/device/publicKey", json!(key), strange),
        ("/device/publicKey", json!("AA"), strange),
        // Whoever puts its own key in has not signed with it.
        ("/device", both, invalid),
        // Case and outer space of these never counted, and the password never was signed.
        ("/client/platform", json!(" LINUX "), "ok"),
        ("/auth/password", json!("wrong"), "ok"),
        ("/client/version", json!("2"), "ok"),
    ] {
        let make = |challenge: &Challenge| {
            let mut params = connect(shared(), challenge);
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            match value.as_array().filter(|_| name == "device") {
                Some(own) => {
                    (params["device"]["id"], params["device"]["publicKey"]) =
                        (own[0].clone(), own[1].clone());
                }
                None => params.pointer_mut(parent).unwrap()[name] = value.clone(),
            }
            params
        };
        assert_eq!(told(gateway.addr, make).await, expected, "{pointer} {value}");
    }
    // A moment is signed, too.
    let later = |challenge: &Challenge| {
        let mut params = connect(shared(), challenge);
        params["device"]["signedAt"] = json!(challenge.ts + 1);
        params
    };
    assert_eq!(told(gateway.addr, later).await, invalid);
}

/// accepts: B6
#[tokio::test]
async fn a_proof_is_whole_or_none() {
    let gateway = Embedded::start().await;
    for part in ["id", "publicKey", "signature", "signedAt", "nonce"] {
        let told = told(gateway.addr, |challenge| {
            let mut params = connect(shared(), challenge);
            params["device"].as_object_mut().unwrap().shift_remove(part);
            params
        })
        .await;
        assert!(told.starts_with("invalid connect params: at /device: must have required"), "{part}: {told}");
    }
    // Who has to prove a device cannot leave it out.
    for (id, mode, role, expected) in [
        ("openclaw-control-ui", "webchat", "operator", "CONTROL_UI_ORIGIN_NOT_ALLOWED"),
        ("openclaw-tui", "ui", "operator", "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"),
        ("node-host", "node", "node", "DEVICE_IDENTITY_REQUIRED"),
    ] {
        let told = told(gateway.addr, |challenge| {
            let mut params = connect(shared(), challenge);
            params["client"]["id"] = json!(id);
            params["client"]["mode"] = json!(mode);
            (params["role"], params["scopes"]) = (json!(role), json!([]));
            params.as_object_mut().unwrap().shift_remove("device");
            params
        })
        .await;
        assert_eq!(told, expected, "{id}");
    }
}

/// The texts that a device may sign: version 3, and version 2, which says less. What version 2 leaves out is pinned all
/// the same.
/// accepts: B6, E4
#[tokio::test]
async fn an_older_proof_or_protocol_opens_nothing_that_a_newer_one_would_not() {
    let gateway = Embedded::start().await;
    let signed = |version: &'static str, platform: &'static str| {
        move |challenge: &Challenge| {
            let mut params = connect(shared(), challenge);
            params["client"]["platform"] = json!(platform);
            sign(&mut params, &victim(), challenge);
            let id = victim().device_id();
            let rest = format!("cli|cli|operator|operator.read|{}|{TOKEN}|{}", challenge.ts, challenge.nonce);
            let text = match version {
                "v1" => format!("v1|{id}|cli|cli|operator|operator.read|{}|{TOKEN}", challenge.ts),
                "" => format!("{id}|{rest}"),
                "v3" => format!("v3|{id}|{rest}"),
                version => format!("{version}|{id}|{rest}"),
            };
            params["device"]["signature"] = json!(victim().sign(&text));
            params
        }
    };
    assert_eq!(told(gateway.addr, signed("v2", "linux")).await, "ok");
    for version in ["v1", "", "v3", "v4", "V2", "v2 "] {
        assert_eq!(
            told(gateway.addr, signed(version, "linux")).await,
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "{version}"
        );
    }
    // Version 2 says nothing of the platform; but the device is known as one of Linux.
    assert_eq!(told(gateway.addr, signed("v2", "windows")).await, "PAIRING_REQUIRED");
    let range = |min: u64, max: u64, device: bool| {
        move |challenge: &Challenge| {
            let mut params = connect(shared(), challenge);
            (params["minProtocol"], params["maxProtocol"]) = (json!(min), json!(max));
            if device {
                params["device"]["signature"] = json!("A".repeat(86));
            }
            params
        }
    };
    assert_eq!(told(gateway.addr, range(1, 4, false)).await, "ok");
    assert_eq!(told(gateway.addr, range(1, 4, true)).await, "DEVICE_AUTH_SIGNATURE_INVALID");
    for (min, max) in [(1, 3), (3, 3), (5, 5), (5, 4)] {
        assert_eq!(told(gateway.addr, range(min, max, false)).await, "PROTOCOL_MISMATCH");
    }
}
