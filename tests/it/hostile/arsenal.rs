//! What attackers send first: recorded and proper `connect` frames that are damaged, broken on purpose or replayed.
//! They know the shared secret and have keys of their own; of the victim's device they have its token and what it once
//! sent, and not its key. Once in a while everything is as it should be, to show that the door is open.

use super::requests::{garbage, odd, request};
use crate::client::TOKEN;
use crate::flood::mutate::{Dice, bent, damaged, seeds, torn};
use crabtree_protocol::ConnectParams;
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// How clients introduce themselves: id, mode and role.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("cli", "cli", "operator"),
    ("gateway-client", "backend", "operator"),
    ("openclaw-tui", "ui", "operator"),
    ("openclaw-macos", "ui", "operator"),
    ("node-host", "node", "node"),
    ("test", "test", "operator"),
];
/// Past what a signature may be old.
const STALE_MS: u64 = 130_000;

/// Of the `nth` key of attackers.
pub fn seed_of(nth: u8) -> [u8; 32] {
    [nth + 100; 32]
}

/// The keys of attackers.
pub fn keys() -> Vec<DeviceKey> {
    (0..12).map(|nth| DeviceKey::from_seed(&seed_of(nth))).collect()
}

/// What a client is to sign.
pub struct Challenge {
    pub nonce: String,
    pub ts: u64,
}

impl Challenge {
    /// One of this moment.
    pub fn new(nonce: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { nonce: nonce.to_owned(), ts: now.as_millis() as u64 }
    }
}

/// Something to send.
pub enum Shot {
    Text(String),
    Binary(Vec<u8>),
    /// Bytes past the library that makes messages.
    Raw(Vec<u8>),
}

impl Shot {
    /// As the gateway reads it, if it is a message.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(bytes) => Some(String::from_utf8(bytes).unwrap_or_default()),
            Self::Raw(_) => None,
        }
    }
}

/// A command line's `connect`, signed with this key.
pub fn connect_of(key: &DeviceKey, auth: Value, challenge: &Challenge) -> Value {
    let mut frame = framed(CLIENTS[0], json!(["operator.read"]), auth);
    sign(&mut frame["params"], key, challenge);
    frame
}

fn framed((id, mode, role): (&str, &str, &str), scopes: Value, auth: Value) -> Value {
    let client = json!({ "id": id, "mode": mode, "version": "1", "platform": "linux" });
    let params = json!({
        "minProtocol": 4, "maxProtocol": 4, "client": client, "caps": [], "role": role, "scopes": scopes, "auth": auth,
    });
    json!({ "type": "req", "id": "c1", "method": "connect", "params": params })
}

/// Puts a proof into parameters that are otherwise whole.
pub fn sign(params: &mut Value, key: &DeviceKey, challenge: &Challenge) {
    params["device"] = Value::Null;
    let mut typed: ConnectParams = serde_json::from_value(params.clone()).unwrap();
    key.sign_device(&mut typed, &challenge.nonce, challenge.ts);
    params["device"] = json!(typed.device);
}

/// Clients that are refused for what they are.
fn misfit(dice: &mut Dice, params: &mut Value) {
    let (min, max) = [(1, 3), (5, 5), (3, 3), (5, 4), (1, 9)][dice.roll(5)];
    match dice.roll(5) {
        0 | 1 => (params["minProtocol"], params["maxProtocol"]) = (json!(min), json!(max)),
        2 => params["client"]["id"] = json!("openclaw-control-ui"),
        3 => params["client"]["id"] = json!("openclaw-browser-copilot"),
        _ => params["role"] = json!("administrator"),
    }
}

/// See the module.
pub struct Arsenal {
    recorded: Vec<String>,
    keys: Vec<DeviceKey>,
    captured: Value,
    stolen: String,
    own: String,
}

impl Arsenal {
    /// With what is known of the victim, and the token of the first of the attackers' own devices.
    pub fn new(captured: Value, stolen: &str, own: &str) -> Self {
        let (stolen, own) = (stolen.to_owned(), own.to_owned());
        Self { recorded: seeds(), keys: keys(), captured, stolen, own }
    }

    /// A first message.
    pub fn first(&self, dice: &mut Dice, challenge: &Challenge) -> Shot {
        let text = match dice.roll(24) {
            0..5 => lossy(damaged(dice, &self.recorded, &[])),
            5..12 => self.broken(dice, challenge).to_string(),
            12..15 => {
                let (seed, other) = (self.proper(dice, challenge), self.captured.to_string());
                lossy(torn(dice, &seed.to_string(), &other, &[]))
            }
            15..17 => {
                let mut frame = self.proper(dice, challenge);
                bent(dice, &mut frame);
                frame.to_string()
            }
            17..19 => self.replayed(dice, challenge).to_string(),
            19 => {
                let connect = self.proper(dice, challenge);
                odd(dice, &connect)
            }
            20 => return garbage(dice),
            21 => request(dice).to_string(),
            22 => lossy((0..dice.roll(300)).map(|_| dice.roll(256) as u8).collect()),
            _ => self.proper(dice, challenge).to_string(),
        };
        if dice.roll(8) == 0 { Shot::Binary(text.into_bytes()) } else { Shot::Text(text) }
    }

    /// What follows a first message.
    pub fn next(&self, dice: &mut Dice, challenge: &Challenge) -> Shot {
        match dice.roll(8) {
            0 => self.first(dice, challenge),
            1 => Shot::Text(lossy(damaged(dice, &self.recorded, &[]))),
            2 => {
                let (seed, other) = (request(dice).to_string(), request(dice).to_string());
                Shot::Binary(torn(dice, &seed, &other, &[]))
            }
            3 => {
                let mut frame = request(dice);
                bent(dice, &mut frame);
                Shot::Text(frame.to_string())
            }
            _ => Shot::Text(request(dice).to_string()),
        }
    }

    /// A device that nobody has seen before, in somebody else's page.
    pub fn stranger(&self, dice: &mut Dice, challenge: &Challenge) -> Shot {
        let seed: [u8; 32] = std::array::from_fn(|_| dice.roll(256) as u8);
        let auth = json!({ "token": TOKEN });
        Shot::Text(connect_of(&DeviceKey::from_seed(&seed), auth, challenge).to_string())
    }

    fn proper(&self, dice: &mut Dice, challenge: &Challenge) -> Value {
        let client = CLIENTS[dice.roll(CLIENTS.len())];
        let scopes =
            if client.2 == "node" || dice.roll(2) == 0 { json!([]) } else { json!(["operator.read"]) };
        let mut frame = framed(client, scopes, json!({ "token": TOKEN }));
        sign(&mut frame["params"], &self.keys[dice.roll(self.keys.len())], challenge);
        frame
    }

    /// A proper frame with one thing that is not as it should be.
    fn broken(&self, dice: &mut Dice, challenge: &Challenge) -> Value {
        let mut frame = self.proper(dice, challenge);
        let mut key = &self.keys[dice.roll(self.keys.len())];
        match dice.roll(12) {
            0..8 => {
                self.unproved(dice, challenge, &mut frame["params"]);
                return frame;
            }
            8 => misfit(dice, &mut frame["params"]),
            9 => {
                let scopes = json!(["operator.read", "operator.admin"]);
                (frame, key) =
                    (framed(CLIENTS[0], scopes, json!({ "deviceToken": self.own })), &self.keys[0]);
            }
            _ => frame["params"]["auth"] = self.wrong(dice),
        }
        // What is signed is right, whatever it is worth.
        sign(&mut frame["params"], key, challenge);
        if dice.roll(6) == 0 {
            frame["params"].as_object_mut().unwrap().shift_remove("device");
            frame["params"]["auth"] = self.wrong(dice);
        }
        frame
    }

    fn unproved(&self, dice: &mut Dice, challenge: &Challenge, params: &mut Value) {
        let (mine, other) = (&self.keys[dice.roll(6)], &self.keys[6 + dice.roll(6)]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let shifted = |ts| Challenge { nonce: challenge.nonce.clone(), ts };
        sign(params, mine, challenge);
        match dice.roll(20) {
            0 => {
                let mut signature = text(&params["device"]["signature"]).into_bytes();
                let at = dice.roll(signature.len() - 1);
                signature[at] = if signature[at] == b'A' { b'B' } else { b'A' };
                params["device"]["signature"] = json!(lossy(signature));
            }
            1 => {
                let own = params["device"].clone();
                sign(params, other, challenge);
                let signature = params["device"]["signature"].clone();
                params["device"] = own;
                params["device"]["signature"] = signature;
            }
            2 => params["device"]["signature"] = json!("A".repeat(86)),
            3 => params["device"]["signature"] = json!(""),
            4 => params["device"]["signedAt"] = json!(challenge.ts + 1),
            5 => sign(params, mine, &shifted(challenge.ts - STALE_MS)),
            6 => sign(params, mine, &shifted(challenge.ts + STALE_MS)),
            7 => sign(params, mine, &Challenge { nonce: "another".into(), ts: challenge.ts }),
            8 => params["device"]["nonce"] = json!([" ", "", "another"][dice.roll(3)]),
            9 => drop(params["device"].as_object_mut().unwrap().shift_remove("nonce")),
            10 => params["scopes"] = json!(["operator.admin"]),
            11 => params["role"] = json!(if params["role"] == "node" { "operator" } else { "node" }),
            12 => {
                params["client"]["id"] = json!(if params["client"]["id"] == "cli" { "test" } else { "cli" })
            }
            13 => {
                params["client"]["mode"] = json!(if params["client"]["mode"] == "cli" { "ui" } else { "cli" })
            }
            14 => params["client"]["platform"] = json!("beos"),
            15 => params["client"]["deviceFamily"] = json!("Mac"),
            16 => params["device"]["id"] = json!(other.device_id().as_str()),
            17 => params["device"]["publicKey"] = json!(other.public_key()),
            18 => {
                let signed = format!("v1|{}|{}|{}", mine.device_id(), challenge.ts, challenge.nonce);
                params["device"]["signature"] = json!(mine.sign(&signed));
            }
            _ => params["auth"]["deviceToken"] = json!("unsigned while there is a token"),
        }
    }

    /// Credentials that are none, or somebody else's.
    fn wrong(&self, dice: &mut Dice) -> Value {
        let near = [
            format!("{TOKEN} "),
            format!(" {TOKEN}"),
            TOKEN.to_uppercase(),
            TOKEN[..dice.roll(TOKEN.len())].to_owned(),
            format!("{TOKEN}\0"),
            format!("{TOKEN}{TOKEN}"),
            "x".repeat(dice.roll(4_000)),
            self.stolen.clone(),
        ];
        let secret = &near[dice.roll(near.len())];
        let kind = ["token", "password", "deviceToken", "bootstrapToken"][dice.roll(4)];
        match dice.roll(4) {
            0 => json!({}),
            1 => json!({ "token": secret, "deviceToken": self.stolen }),
            _ => json!({ kind: secret }),
        }
    }

    /// What the victim once sent, and what can be made of it without its key.
    fn replayed(&self, dice: &mut Dice, challenge: &Challenge) -> Value {
        let mut frame = self.captured.clone();
        let (params, other) = (&mut frame["params"], &self.keys[dice.roll(self.keys.len())]);
        match dice.roll(7) {
            0 => {}
            1 => params["device"]["nonce"] = json!(challenge.nonce),
            2 => {
                params["device"]["nonce"] = json!(challenge.nonce);
                params["device"]["signedAt"] = json!(challenge.ts);
            }
            3 => params["scopes"] = json!(["operator.admin"]),
            4 => drop(params.as_object_mut().unwrap().shift_remove("device")),
            5 => sign(params, other, challenge),
            _ => {
                let id = params["device"]["id"].clone();
                sign(params, other, challenge);
                params["device"]["id"] = id;
            }
        }
        frame
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
