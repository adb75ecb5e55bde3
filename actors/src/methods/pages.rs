//! What pages of stock clients need of methods that a later version makes whole: paired devices, and who is
//! asking. True as far as they go, and not advertised.

use super::{Call, store_refusal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::store::{self, DeviceRow, TokenRow};
use crate::tree::Ctx;
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::{ErrorCode, Refusal};
use serde_json::{Value, json};
use std::collections::HashSet;

pub(super) fn devices(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let known = store.read(|c| Ok((store::devices(c)?, store::tokens(c)?))).await;
        let connected = connected(&store.estate);
        responder.settle(known.map_err(|e| store_refusal(&e)).map(|(devices, tokens)| {
            let row = |device: &DeviceRow| device_row(device, &tokens, &connected);
            json!({ "pending": [], "paired": devices.iter().map(row).collect::<Vec<_>>() })
        }));
    });
}

/// Ids of the devices that are connected.
fn connected(estate: &Estate) -> HashSet<String> {
    let device = |conn: std::sync::Arc<crate::conns::Conn>| Some(conn.grant()?.device.as_ref()?.to_string());
    estate.conns.all().into_iter().filter_map(device).collect()
}

fn device_row(device: &DeviceRow, tokens: &[TokenRow], connected: &HashSet<String>) -> Value {
    let theirs = tokens.iter().filter(|t| t.device_id == device.device_id && t.revoked_at.is_none());
    let mut row = json!({
        "deviceId": device.device_id,
        "publicKey": device.public_key,
        "role": device.roles.first(),
        "roles": device.roles,
        "scopes": device.scopes,
        "createdAtMs": device.created_at,
        "approvedAtMs": device.approved_at,
        "connected": connected.contains(&device.device_id),
        "tokens": theirs.map(token_row).collect::<Vec<_>>(),
    });
    let known = [
        ("displayName", json!(device.display_name)),
        ("platform", json!(device.platform)),
        ("deviceFamily", json!(device.device_family)),
        ("clientId", json!(device.client_id)),
        ("clientMode", json!(device.client_mode)),
        ("approvedVia", json!(device.approved_via)),
        ("lastSeenAtMs", json!(device.last_seen_at)),
        ("lastSeenReason", json!(device.last_seen_reason)),
    ];
    for (name, value) in known.into_iter().filter(|(_, value)| !value.is_null()) {
        row[name] = value;
    }
    row
}

fn token_row(token: &TokenRow) -> Value {
    let mut row = json!({ "role": token.role, "scopes": token.scopes, "createdAtMs": token.created_at });
    for (name, at) in [("rotatedAtMs", token.rotated_at), ("lastUsedAtMs", token.last_used_at)] {
        if let Some(at) = at {
            row[name] = json!(at);
        }
    }
    row
}

/// There are no profiles.
pub(super) fn users_self(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let words = format!("{} requires an authenticated user", call.method);
    call.responder.refuse(Refusal::new(ErrorCode::Forbidden, words));
}
