//! What is sent beside a `connect`: requests that come too early or ask for too much, JSON at its edges, and what is no
//! message of a WebSocket at all.

use super::arsenal::Shot;
use crate::flood::mutate::Dice;
use serde_json::{Value, json};

/// What an attacker asks for, before it is let in or with less than that needs.
const METHODS: [&str; 24] = [
    "health",
    "config.get",
    "config.set",
    "sessions.list",
    "sessions.delete",
    "chat.send",
    "chat.history",
    "agent",
    "device.pair.list",
    "device.pair.approve",
    "device.pair.setupCode",
    "device.token.rotate",
    "device.scopes.requestUpgrade",
    "node.invoke",
    "node.pair.approve",
    "exec.approval.resolve",
    "exec.approvals.set",
    "system.actors.restart",
    "system.chaos",
    "logs.tail",
    "tools.invoke",
    "connect",
    "no.such.method",
    "",
];

/// What the method of a client without any scope may be.
pub const OPEN: [&str; 3] = ["health", "device.scopes.requestUpgrade", "device.scopes.waitUpgrade"];

pub fn request(dice: &mut Dice) -> Value {
    let params = match dice.roll(5) {
        0 => json!({}),
        1 => json!({ "sessionKey": "main", "message": "let me in", "idempotencyKey": "k" }),
        2 => json!({ "scopes": ["operator.admin"] }),
        3 => json!({ "path": "gateway/devices", "fault": "panic" }),
        _ => json!({ "requestId": "x", "deviceId": "x", "role": "operator", "decision": "approve" }),
    };
    let method = METHODS[dice.roll(METHODS.len())];
    json!({ "type": "req", "id": format!("r{}", dice.roll(1_000)), "method": method, "params": params })
}

/// A `connect` at the edges of JSON.
pub fn odd(dice: &mut Dice, connect: &Value) -> String {
    let text = connect.to_string();
    let deep = 1 << dice.roll(16);
    let inserted = |what: &str| text.replacen("\"minProtocol\"", &format!("{what},\"minProtocol\""), 1);
    match dice.roll(18) {
        0 => inserted(&format!("\"zzz\":{}", "[".repeat(deep))),
        1 => inserted(&format!("\"zzz\":{}1{}", "[".repeat(deep.min(8_000)), "]".repeat(deep.min(8_000)))),
        2 => format!("{}{}", "{\"a\":".repeat(deep.min(12_000)), text),
        // Said twice: the first or the last is not the one that is meant.
        3 => inserted("\"auth\":{\"token\":\"wrong\"}"),
        4 => inserted("\"scopes\":[\"operator.admin\"]"),
        5 => inserted("\"role\":\"node\""),
        6 => text.replacen("\"device\":{", "\"device\":{\"id\":\"0\",", 1),
        7 => text.replacen("\"auth\":{", "\"auth\":{\"token\":\"wrong\",", 1),
        8 => format!("{},\"method\":\"health\"}}", &text[..text.len() - 1]),
        9 => text.replace("auth", "\\u0061uth").replace("token", "t\\u006fken"),
        10 => text.replace("operator", "ope\u{200b}rator\u{202e}"),
        11 => format!("\u{feff}{text}"),
        12 => format!("{text}{}", ["\0", "}", " {}", "\n", "//", "\u{85}"][dice.roll(6)]),
        13 => text
            .replace(":4", [":4.0", ":4e0", ":1e400", ":-0", ":04", ":99999999999999999999"][dice.roll(6)]),
        14 => text.replacen("\"scopes\":[", &format!("\"scopes\":[{}", "\"s\",".repeat(dice.roll(6_000))), 1),
        15 => text.replacen("\"id\":\"", &format!("\"id\":\"{}", "i".repeat(dice.roll(20_000))), 1),
        16 => inserted(&format!("\"userAgent\":\"{}\"", "\\ud83d".repeat(1 + dice.roll(1_000)))),
        _ => inserted(&format!("\"userAgent\":\"{}\"", "x".repeat(60_000 + dice.roll(60_000)))),
    }
}

/// Bytes that no WebSocket should carry, or that mean something else than a message.
pub fn garbage(dice: &mut Dice) -> Shot {
    let mask = [7, 7, 7, 7];
    let masked = |head: u8, payload: &[u8]| {
        let mut bytes = vec![head, 0x80 | payload.len() as u8];
        bytes.extend(mask);
        bytes.extend(payload.iter().map(|byte| byte ^ 7));
        bytes
    };
    Shot::Raw(match dice.roll(14) {
        0 => [&[0x81, 2], &b"{}"[..]].concat(),
        1 => masked(0x83 + dice.roll(5) as u8, b"{}"),
        2 => masked(0x8b + dice.roll(5) as u8, b""),
        3 => masked(0x81 | 0x10 << dice.roll(3), b"{}"),
        4 => masked(0x09, b"ping in pieces"),
        5 => masked(0x80, b"goes on without a beginning"),
        6 => [masked(0x01, b"{\"type\""), masked(0x01, b":\"req\"}")].concat(),
        7 => masked(0x88, b"\x03"),
        8 => masked(0x88, &[0x03, [0xe8, 0xec, 0xff, 0x00][dice.roll(4)], 0xff, 0xfe]),
        9 => masked(0x81, b"\"\xff\xfe\xc0\x80\""),
        10 => [&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &mask[..]].concat(),
        11 => [&[0x89, 0xfe, 0x01, 0x00], &mask[..], &[0; 256]].concat(),
        12 => (0..dice.roll(100)).flat_map(|_| masked(0x89, b"p")).collect(),
        _ => (0..1 + dice.roll(200)).map(|_| dice.roll(256) as u8).collect(),
    })
}
