use serde_json::Value;

use super::*;

const NONCE: &str = "11111111-2222-4333-8444-555555555555";
const NOW: u64 = 1_795_138_467_000;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap()
}

fn key() -> DeviceKey {
    let seed: Vec<u8> = (0..32).collect();
    DeviceKey::from_seed(&seed.try_into().unwrap())
}

fn params() -> ConnectParams {
    serde_json::from_value(serde_json::json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": { "id": "cli", "version": "1", "platform": " MacOS ", "deviceFamily": "Mac", "mode": "cli" },
        "role": "operator", "scopes": ["operator.write", "operator.read"],
        "auth": { "token": "testtoken" },
    }))
    .unwrap()
}

/// Proves a device, changes something, and verifies.
fn verdict(change: impl FnOnce(&mut ConnectParams)) -> Result<VerifiedDevice, String> {
    let mut params = params();
    key().sign_device(&mut params, NONCE, NOW);
    change(&mut params);
    let device = params.device.clone().unwrap();
    verify_device(&device, &params, NONCE, NOW).map_err(|refused| refused.close.reason)
}

fn device(params: &mut ConnectParams) -> &mut DeviceProof {
    params.device.as_mut().unwrap()
}

fn text(text: impl Into<String>) -> Text {
    Text::new(text).unwrap()
}

#[test]
fn every_vector_holds() {
    let vectors = vectors();
    let list = vectors["vectors"].as_array().unwrap();
    assert_eq!(list.len(), 28);
    for vector in list {
        let input = &vector["input"];
        let string = |name: &str| input[name].as_str();
        let scopes: Vec<&str> =
            input["scopes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let claim = Claim {
            device_id: string("deviceId").unwrap(),
            client_id: string("clientId").unwrap(),
            client_mode: string("clientMode").unwrap(),
            role: string("role").unwrap(),
            scopes: &scopes.join(","),
            signed_at: input["signedAt"].as_u64().unwrap(),
            token: string("token").unwrap_or_default(),
            nonce: string("nonce").unwrap(),
            platform: string("platform"),
            device_family: string("deviceFamily"),
        };
        let payload = if vector["version"] == "v2" { claim.v2() } else { claim.v3() };
        let name = &vector["name"];
        assert_eq!(payload, vector["payload"].as_str().unwrap(), "{name}");
        assert_eq!(key().sign(&payload), vector["signature"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn the_public_key_is_read_in_every_form() {
    let vectors = vectors();
    let raw = decode_public_key(vectors["key"]["publicKeyBase64Url"].as_str().unwrap()).unwrap();
    assert_eq!(device_id(&raw).as_str(), vectors["key"]["deviceId"].as_str().unwrap());
    assert_eq!(decode_public_key(vectors["key"]["publicKeySpkiPem"].as_str().unwrap()), Some(raw));
    assert_eq!(decode_public_key(&BASE64.encode(raw)), Some(raw));
    assert_eq!(decode_public_key("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), Some(raw));
    for bad in ["", "short", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(decode_public_key(bad), None);
    }
}

#[test]
fn a_proof_is_accepted_in_both_versions() {
    let verified = verdict(|_| {}).unwrap();
    assert_eq!(verified.id, key().device_id());
    assert_eq!(verified.public_key, "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg");
    let v2 = verdict(|params| {
        let scopes = params.requested_scopes().as_list().join(",");
        let signature = key().sign(&claim(params.device.as_ref().unwrap(), params, &scopes).v2());
        device(params).signature = text(signature);
    });
    assert!(v2.is_ok());
    let standard = verdict(|params| {
        let bytes = BASE64URL.decode(device(params).signature.as_str()).unwrap();
        device(params).signature = text(base64::prelude::BASE64_STANDARD.encode(bytes));
    });
    assert!(standard.is_ok());
    assert!(verdict(|params| device(params).nonce = text(format!(" {NONCE} "))).is_ok());
    assert!(verdict(|params| params.client.platform = text("macos")).is_ok());
}

#[test]
fn checks_fail_in_the_recorded_order() {
    let spoil = |params: &mut ConnectParams| device(params).signature = text("AAAA");
    let mismatch = Err("device identity mismatch".to_owned());
    assert_eq!(verdict(|params| device(params).public_key = text("garbage")), mismatch);
    assert_eq!(
        verdict(|params| device(params).id = text(key().device_id().to_string().to_uppercase())),
        mismatch
    );
    for (signed_at, late) in
        [(NOW - 110_000, false), (NOW + 120_000, false), (NOW - 121_000, true), (NOW + 125_000, true)]
    {
        let verdict = verdict(|params| device(params).signed_at = Int::new(signed_at).unwrap());
        let expected = if late { "device signature expired" } else { "device signature invalid" };
        assert_eq!(verdict, Err(expected.to_owned()));
    }
    let blank = verdict(|params| {
        device(params).nonce = text("  ");
        spoil(params);
    });
    assert_eq!(blank, Err("device nonce required".to_owned()));
    let other = verdict(|params| {
        device(params).nonce = text("other");
        spoil(params);
    });
    assert_eq!(other, Err("device nonce mismatch".to_owned()));
    let invalid = Err("device signature invalid".to_owned());
    assert_eq!(verdict(spoil), invalid);
    let hex = verdict(|params| {
        let bytes = BASE64URL.decode(device(params).signature.as_str()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        device(params).signature = text(hex);
    });
    assert_eq!(hex, invalid);
    assert_eq!(verdict(|params| params.client.platform = text("linux")), invalid);
    assert_eq!(verdict(|params| params.auth = None), invalid);
    assert_eq!(verdict(|params| params.scopes = None), invalid);
}

#[test]
fn trimming_is_javascript_s() {
    assert_eq!(js_trim("\u{feff} x\u{a0}\u{2028}"), "x");
    assert_eq!(js_trim("\u{85}x\u{85}"), "\u{85}x\u{85}");
    assert_eq!(normalized("  MacOS 15.1 É "), "macos 15.1 É");
}
