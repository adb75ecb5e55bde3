//! The client's side of a recorded case: what a line of `handshake.jsonl` says is sent, made for this run.

use super::Outcome;
use crate::client::TOKEN;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use crabtree_protocol::proof::{Claim, DeviceKey, decode_public_key};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The DER bytes before a raw Ed25519 key in a PEM public key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The device with this label.
pub fn device(label: &str) -> DeviceKey {
    DeviceKey::from_seed(blake3::hash(label.as_bytes()).as_bytes())
}

/// A text of a certain size.
pub fn filled(fill: &Value) -> String {
    if let Some(size) = fill["size"].as_u64() {
        return fill["text"].as_str().unwrap().repeat(size as usize);
    }
    if let Some(size) = fill["oversize"].as_u64() {
        return "x".repeat(size as usize);
    }
    let connect = |filler: &str| {
        let client = json!({ "id": "cli", "version": "1", "platform": "linux", "mode": "cli" });
        let params = json!({
            "minProtocol": 4, "maxProtocol": 4, "client": client, "role": "operator", "scopes": [],
            "auth": { "token": TOKEN }, "userAgent": filler,
        });
        json!({ "type": "req", "id": "c1", "method": "connect", "params": params }).to_string()
    };
    let size = fill["connect"].as_u64().unwrap() as usize;
    connect(&"x".repeat(size - connect("").len()))
}

/// Puts a device's proof where the case has its description: `key` labels the device; everything else is what is
/// not as it should be.
pub fn signed(params: &mut Value, challenge: &Value) {
    let spec = params["device"].take();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = device(&text(&spec["key"]));
    let id = spec["id"].as_str().filter(|id| *id != "hash").map_or(key.device_id().to_string(), Into::into);
    let public_key = match spec["publicKey"].as_str() {
        Some("pem") => pem(&key),
        Some(other) => other.to_owned(),
        None => key.public_key(),
    };
    let nonce = text(&challenge["nonce"]);
    let nonce = if spec["nonce"] == "other" { "deadbeef".to_owned() } else { nonce };
    let at = challenge["ts"].as_i64().unwrap() + spec["signedAt"].as_i64().unwrap_or_default();
    let auth = &params["auth"];
    let token = [&auth["token"], &auth["deviceToken"], &auth["bootstrapToken"]]
        .into_iter()
        .find(|token| !token.is_null())
        .map(text)
        .unwrap_or_default();
    let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(text).collect();
    let (scopes, client, how) = (scopes.join(","), &params["client"], text(&spec["signature"]));
    let platform = text(&client["platform"]);
    let claim = Claim {
        device_id: &id,
        client_id: client["id"].as_str().unwrap(),
        client_mode: client["mode"].as_str().unwrap(),
        role: params["role"].as_str().unwrap_or("operator"),
        scopes: &scopes,
        signed_at: at as u64,
        token: if how == "no-token" { "" } else { &token },
        nonce: &nonce,
        platform: Some(if how == "other-platform" { "beos" } else { &platform }),
        device_family: client["deviceFamily"].as_str(),
    };
    let signature = key.sign(&if how == "v2" { claim.v2() } else { claim.v3() });
    let signature = match how.strip_prefix('=') {
        Some(literal) => literal.to_owned(),
        None if how == "hex" => {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(&signature).unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        None => signature,
    };
    let sent = if spec["nonce"] == "padded" { format!(" {nonce} ") } else { nonce.clone() };
    let mut proof = json!({ "id": id, "publicKey": public_key, "signedAt": at, "nonce": sent });
    if how != "none" {
        proof["signature"] = signature.into();
    }
    if spec["signedAt"] == "string" {
        proof["signedAt"] = at.to_string().into();
    }
    for (name, value) in spec["extra"].as_object().into_iter().flatten() {
        proof[name] = value.clone();
    }
    params["device"] = proof;
}

fn pem(key: &DeviceKey) -> String {
    let raw = decode_public_key(&key.public_key()).unwrap();
    let body = BASE64_STANDARD.encode([SPKI.as_slice(), &raw].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

/// An upgrade that is refused: status, body and headers.
pub async fn refused_upgrade(
    mut stream: TcpStream,
    headers: &[(String, String)],
    expected: &Value,
) -> Outcome {
    let mut head = String::from(
        "GET / HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It is the last answer on its connection.
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let mut right =
        head.split(' ').nth(1) == Some(&expected["status"].to_string()) && expected["body"] == body;
    for (name, value) in expected["headers"].as_object().unwrap() {
        right &= head.contains(&format!("{name}: {}", value.as_str().unwrap()));
    }
    if right { Ok(()) } else { Err(("upgrade".to_owned(), answer)) }
}
