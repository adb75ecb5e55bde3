//! Who may come in, as `handshake.md` says it and with nothing of the gateway's but its keys: the text that a device
//! signs is put together here once more. Ed25519 signs the same text the same way each time, so a signature holds if
//! it is the one that the key makes.

use super::VICTIM;
use super::arsenal::keys;
use crate::client::TOKEN;
use crabtree_protocol::DeviceId;
use crabtree_protocol::proof::DeviceKey;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds a signature may be old or early, and the length of a slow test besides.
const SKEW_MS: u64 = 125_000;

pub struct Doorman {
    keys: Vec<DeviceKey>,
    /// Devices and their tokens.
    tokens: Vec<(DeviceId, String)>,
}

impl Doorman {
    /// With the tokens of the victim's device, and of the attackers' first one.
    pub fn new(stolen: &str, own: &str) -> Self {
        let (victim, mine) = (DeviceKey::from_seed(&VICTIM), keys());
        let tokens = vec![(victim.device_id(), stolen.to_owned()), (mine[0].device_id(), own.to_owned())];
        Self { keys: mine.into_iter().chain([victim]).collect(), tokens }
    }

    /// Whether this first message entitles to come in.
    pub fn admits(&self, text: &str, nonce: &str) -> bool {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return false };
        let (params, auth) = (&frame["params"], &frame["params"]["auth"]);
        if frame["type"] != "req" || frame["method"] != "connect" {
            return false;
        }
        if params["device"].is_null() {
            return knows(auth);
        }
        let own = |key: &DeviceKey| {
            let shown = |token: &String| auth["token"] == *token || auth["deviceToken"] == *token;
            self.tokens.iter().any(|(id, token)| *id == key.device_id() && shown(token))
        };
        self.prover(params, nonce).is_some_and(|key| knows(auth) || own(key))
    }

    /// Whether the sender of a `connect` knows the shared secret, and whether its device's proof holds.
    pub fn opinion(&self, text: &str, nonce: &str) -> (bool, bool) {
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        (knows(&frame["params"]["auth"]), self.prover(&frame["params"], nonce).is_some())
    }

    fn prover(&self, params: &Value, nonce: &str) -> Option<&DeviceKey> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (device, client, auth) = (&params["device"], &params["client"], &params["auth"]);
        let (id, public_key) = (text(&device["id"]), plain(&text(&device["publicKey"])));
        let key = self.keys.iter().find(|key| key.public_key() == public_key)?;
        let at = device["signedAt"].as_u64().or(device["signedAt"].as_f64().map(|at| at as u64))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        if key.device_id().as_str() != id
            || now.abs_diff(at) > SKEW_MS
            || text(&device["nonce"]).trim() != nonce
        {
            return None;
        }
        let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(text).collect();
        let token = [&auth["token"], &auth["deviceToken"], &auth["bootstrapToken"]];
        let token = token.into_iter().find(|token| !token.is_null()).map(text).unwrap_or_default();
        let common = format!(
            "{id}|{}|{}|{}|{}|{at}|{token}|{nonce}",
            text(&client["id"]),
            text(&client["mode"]),
            params["role"].as_str().unwrap_or("operator"),
            scopes.join(","),
        );
        let lower = |value: &Value| text(value).trim().to_ascii_lowercase();
        let (platform, family) = (lower(&client["platform"]), lower(&client["deviceFamily"]));
        let signature = plain(&text(&device["signature"]));
        let holds = |signed: String| key.sign(&signed) == signature;
        (holds(format!("v3|{common}|{platform}|{family}")) || holds(format!("v2|{common}"))).then_some(key)
    }
}

fn knows(auth: &Value) -> bool {
    auth["token"] == TOKEN || auth["password"] == TOKEN
}

/// Base64 of either kind in the form of keys and signatures here.
fn plain(text: &str) -> String {
    text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
}
