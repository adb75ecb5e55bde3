//! Paired devices with their tokens, and nodes with what is approved of them. Pure.

use crabtree_actors::store::{DeviceRow, NodeRow, TokenRow};
use crabtree_protocol::Role;
use serde_json::{Map, Value, json};

/// A device of the other gateway.
#[derive(Debug, PartialEq)]
pub struct Device {
    /// As it is paired.
    pub row: DeviceRow,
    /// Its tokens.
    pub tokens: Vec<(TokenRow, Token)>,
    /// What is approved of it as a node.
    pub node: Option<NodeRow>,
}

/// A token that is not shown.
#[derive(PartialEq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A device out of a row of `device_pairing_paired`, or an entry of `devices/paired.json`; its tokens are of the
/// rotation `now`.
///
/// # Errors
/// Why it is none.
pub fn device(found: &Map<String, Value>, now: i64) -> Result<Device, String> {
    let found = Found(found);
    let device_id = found.text("device_id", "deviceId").ok_or("it has no id")?;
    let public_key = found.text("public_key", "publicKey").ok_or("it has no public key")?;
    let mut roles = found.list("roles_json", "roles");
    roles.extend(found.text("role", "role").filter(|role| !roles.contains(role)));
    roles.retain(|role| Role::from_name(role).is_some());
    if roles.is_empty() {
        return Err("it has no role that is known here".into());
    }
    let mut scopes = found.list("approved_scopes_json", "approvedScopes");
    if scopes.is_empty() {
        scopes = found.list("scopes_json", "scopes");
    }
    let created_at = found.number("created_at_ms", "createdAtMs").unwrap_or(now);
    let row = DeviceRow {
        public_key,
        display_name: found.text("display_name", "displayName"),
        label: found.text("operator_label", "operatorLabel"),
        platform: found.text("platform", "platform"),
        device_family: found.text("device_family", "deviceFamily"),
        client_id: found.text("client_id", "clientId"),
        client_mode: found.text("client_mode", "clientMode"),
        scopes,
        approved_via: found.text("approved_via", "approvedVia"),
        created_at,
        approved_at: found.number("approved_at_ms", "approvedAtMs").unwrap_or(created_at),
        last_seen_at: found.number("last_seen_at_ms", "lastSeenAtMs"),
        last_seen_reason: found.text("last_seen_reason", "lastSeenReason"),
        remote_ip: found.text("remote_ip", "remoteIp"),
        roles,
        device_id,
    };
    let tokens = found.value("tokens_json", "tokens");
    let tokens = tokens.as_ref().and_then(Value::as_object).into_iter().flatten();
    let tokens = tokens.filter_map(|(role, token)| self::token(&row, role, token, now)).collect();
    let surface = found.value("node_surface_json", "nodeSurface");
    let node = surface.filter(Value::is_object).filter(|_| row.roles.iter().any(|role| role == "node"));
    let node = node.map(|surface| self::node(&row, &surface));
    Ok(Device { row, tokens, node })
}

fn token(device: &DeviceRow, role: &str, found: &Value, now: i64) -> Option<(TokenRow, Token)> {
    let token = found["token"].as_str().filter(|token| !token.is_empty())?;
    // One for a role that was not approved gave no access there either.
    let role = device.roles.iter().find(|approved| *approved == role)?;
    let row = TokenRow {
        device_id: device.device_id.clone(),
        role: role.clone(),
        scopes: texts(&found["scopes"]),
        rotation: now,
        created_at: found["createdAtMs"].as_i64().unwrap_or(device.approved_at),
        rotated_at: found["rotatedAtMs"].as_i64(),
        last_used_at: found["lastUsedAtMs"].as_i64(),
        revoked_at: found["revokedAtMs"].as_i64(),
    };
    Some((row, Token(token.to_owned())))
}

fn node(device: &DeviceRow, surface: &Value) -> NodeRow {
    let mut approved = json!({ "caps": texts(&surface["caps"]), "commands": texts(&surface["commands"]) });
    if let Some(permissions) = surface["permissions"].as_object() {
        approved["permissions"] = json!(permissions);
    }
    let text = |name: &str| surface[name].as_str().map(str::to_owned);
    let approved_at = surface["approvedAtMs"].as_i64().unwrap_or(device.approved_at);
    NodeRow {
        node_id: device.device_id.clone(),
        paired_at: device.created_at,
        // What a person named it goes before what it calls itself.
        display_name: text("displayName").filter(|name| Some(name) != device.display_name.as_ref()),
        described: json!({
            "displayName": device.display_name,
            "platform": device.platform,
            "deviceFamily": device.device_family,
            "clientId": device.client_id,
            "clientMode": device.client_mode,
            "version": text("version"),
        }),
        approved: Some(approved),
        created_at: Some(surface["createdAtMs"].as_i64().unwrap_or(approved_at)),
        approved_at: Some(approved_at),
        last_connected_at: surface["lastConnectedAtMs"].as_i64(),
        last_seen_at: device.last_seen_at,
        last_seen_reason: device.last_seen_reason.clone(),
        ..NodeRow::default()
    }
}

/// A row of the database, or an entry of a file of older versions: the same under other names.
struct Found<'a>(&'a Map<String, Value>);

impl Found<'_> {
    fn get(&self, column: &str, member: &str) -> Option<&Value> {
        self.0.get(column).or_else(|| self.0.get(member)).filter(|value| !value.is_null())
    }

    fn text(&self, column: &str, member: &str) -> Option<String> {
        Some(self.get(column, member)?.as_str()?.to_owned()).filter(|text| !text.is_empty())
    }

    fn number(&self, column: &str, member: &str) -> Option<i64> {
        self.get(column, member)?.as_i64()
    }

    /// A column holds JSON as text.
    fn value(&self, column: &str, member: &str) -> Option<Value> {
        match self.0.get(column) {
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            _ => self.0.get(member).cloned(),
        }
    }

    fn list(&self, column: &str, member: &str) -> Vec<String> {
        self.value(column, member).as_ref().map(texts).unwrap_or_default()
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_row_and_an_entry_of_a_file_are_the_same_device() {
        let row = object(json!({
            "device_id": "d", "public_key": "k", "display_name": "stock-node", "platform": "linux",
            "client_id": "node-host", "client_mode": "node", "role": "node", "roles_json": "[\"node\"]",
            "scopes_json": "[]", "approved_scopes_json": "[]", "remote_ip": null, "created_at_ms": 5, "approved_at_ms": 6,
            "tokens_json": "{\"node\":{\"token\":\"t\",\"role\":\"node\",\"scopes\":[],\"createdAtMs\":7},\
                \"operator\":{\"token\":\"stray\"}}",
            "node_surface_json": "{\"displayName\":\"attic\",\"caps\":[\"system\"],\"commands\":[\"system.run\"],\
                \"createdAtMs\":8,\"approvedAtMs\":9}",
        }));
        let entry = object(json!({
            "deviceId": "d", "publicKey": "k", "displayName": "stock-node", "platform": "linux",
            "clientId": "node-host", "clientMode": "node", "roles": ["node"], "createdAtMs": 5, "approvedAtMs": 6,
            "tokens": { "node": { "token": "t", "scopes": [], "createdAtMs": 7 }, "operator": { "token": "stray" } },
            "nodeSurface": {
                "displayName": "attic", "caps": ["system"], "commands": ["system.run"], "createdAtMs": 8, "approvedAtMs": 9,
            },
        }));
        let device = super::device(&row, 100).unwrap();
        assert_eq!(device, super::device(&entry, 100).unwrap());
        assert_eq!((device.tokens.len(), device.tokens[0].0.rotation), (1, 100), "the stray one is left out");
        let node = device.node.unwrap();
        assert_eq!((node.paired_at, node.display_name.as_deref()), (5, Some("attic")));
        assert_eq!(node.approved.unwrap()["commands"], json!(["system.run"]));
        assert_eq!(format!("{:?}", device.tokens[0].1), "Token");
    }

    #[test]
    fn what_is_no_device_says_why() {
        let why = |value: Value| super::device(&object(value), 1).unwrap_err();
        assert_eq!(why(json!({})), "it has no id");
        assert_eq!(why(json!({ "deviceId": "d" })), "it has no public key");
        assert!(why(json!({ "deviceId": "d", "publicKey": "k", "roles": ["worker"] })).contains("no role"));
    }
}
