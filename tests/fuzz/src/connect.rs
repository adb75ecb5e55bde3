//! The parameters of `connect`: what is accepted is kept as it is written and within its limits, what is refused is
//! refused in the recorded words.

use crate::mutate::seeds;
use crate::{Target, same};
use crabtree_protocol::frame::encode_refusal;
use crabtree_protocol::proof::{normalized, verify_device};
use crabtree_protocol::{ClientId, ClientMode, ConnectParams};
use serde_json::Value;
use serde_json::value::RawValue;

/// See the module.
pub const TARGET: Target = Target {
    name: "connect",
    read,
    steps: 3,
    seeds: all_seeds,
    words: &[
        "\"node\"",
        "\"scopes\":[\"operator.admin\"]",
        "\"client\":{",
        "\"auth\":{\"token\":",
        "\"device\":{",
        "\"minProtocol\":3",
        "4.0",
        "\"role\":\"worker\"",
        "\"modelCatalog\":{}",
    ],
    inputs: 150_000,
};

fn all_seeds() -> Vec<String> {
    let frames = seeds().into_iter().filter_map(|frame| serde_json::from_str::<Value>(&frame).ok());
    frames.filter(|frame| frame["method"] == "connect").map(|frame| frame["params"].to_string()).collect()
}

/// No JSON, refused, accepted.
fn read(input: &[u8]) -> usize {
    let text = String::from_utf8_lossy(input);
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else { return 0 };
    let frame = format!(r#"{{"type":"req","id":"1","method":"connect","params":{text}}}"#);
    let worker = ConnectParams::claims_worker(&frame);
    match ConnectParams::parse(Some(raw)) {
        Err(refusal) => {
            let answer = refusal.refusal.unwrap();
            assert!(answer.message.starts_with("invalid connect params: "), "{answer}");
            assert_eq!((refusal.close.code, refusal.close.reason.len() <= 120), (1008, true));
            let answer = serde_json::from_slice::<Value>(&encode_refusal("\"1\"", &answer)).unwrap();
            assert_eq!(answer["error"]["code"], "INVALID_REQUEST");
            1
        }
        Ok(params) => {
            assert_eq!(worker, params.is_worker());
            let original: Value = serde_json::from_str(&text).unwrap();
            let written = serde_json::to_value(&params).unwrap();
            keeps(&original, &written);
            within_limits(&written);
            let again = serde_json::value::to_raw_value(&written).unwrap();
            let again = ConnectParams::parse(Some(&again)).unwrap();
            assert_eq!(serde_json::to_value(&again).unwrap(), written);
            decided(&params);
            2
        }
    }
}

/// Whether everything that was written is there; of the catalog that is asked for, what is known.
fn keeps(original: &Value, written: &Value) {
    let (mut original, written) = (original.clone(), written.clone());
    if let (Some(catalog), Some(kept)) = (original.get_mut("modelCatalog"), written.get("modelCatalog")) {
        assert!(kept.as_object().unwrap().iter().all(|(key, value)| catalog.get(key) == Some(value)));
        *catalog = kept.clone();
    }
    assert!(same(&original, &written), "{original} became {written}");
}

/// Whether names are there, and no longer than is said.
fn within_limits(params: &Value) {
    let client = &params["client"];
    assert!(ClientId::from_name(client["id"].as_str().unwrap()).is_some());
    assert!(ClientMode::from_name(client["mode"].as_str().unwrap()).is_some());
    let most = |name: &str| match name {
        "buildId" => 96,
        "timeZone" => 64,
        _ => usize::MAX,
    };
    for (name, value) in client.as_object().unwrap() {
        let length = value.as_str().unwrap().chars().count();
        assert!((1..=most(name)).contains(&length), "{name}: {value}");
    }
    for name in ["minProtocol", "maxProtocol"] {
        assert!(params[name].as_u64().unwrap() >= 1);
    }
    let lists = ["caps", "commands", "scopes"].into_iter().filter_map(|name| params[name].as_array());
    assert!(lists.flatten().all(|item| item.as_str().is_some_and(|item| !item.is_empty())));
}

/// What is decided of them without knowing anybody. Nothing here is signed.
fn decided(params: &ConnectParams) {
    assert!(!params.is_worker() || params.check().is_err());
    if let Ok(role) = params.check() {
        assert_eq!(role.name(), params.claimed_role());
    }
    let platform = normalized(&params.client.platform);
    assert_eq!(normalized(&platform), platform);
    let _ = (params.copilot_lacks_caps(), params.requested_scopes(), params.signed_token());
    let proof = params.device.as_ref();
    assert!(proof.is_none_or(|proof| verify_device(proof, params, "another nonce", 1).is_err()));
}
