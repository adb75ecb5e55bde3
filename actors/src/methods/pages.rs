//! What pages of stock clients need of methods that a later version makes whole: paired devices, tokens by
//! day, a session's messages. True as far as they go, and not advertised.

use super::{Call, empty, store_refusal};
use crate::connection::ConnectionMsg;
use crate::estate::Estate;
use crate::sessions::message_row;
use crate::store::{self, DayUsage, DeviceRow, HistoryPage, TokenRow};
use crate::tree::Ctx;
use crabtree_protocol::params::chat::DEFAULT_HISTORY_LIMIT;
use crabtree_protocol::params::core::{DEFAULT_USAGE_DAYS, NoParams, UsageCostParams};
use crabtree_protocol::params::sessions::GetParams;
use crabtree_protocol::{ErrorCode, Refusal};
use serde_json::{Value, json};
use std::collections::HashSet;

pub(super) fn session_messages(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<GetParams>() else { return };
    let key = match call.key_of(&params.key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let page =
        HistoryPage { limit: params.limit.map_or(DEFAULT_HISTORY_LIMIT, |l| l.get()) as u32, offset: 0 };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let history = store.read(move |c| store::history(c, key.as_str(), page)).await;
        responder.settle(
            history.map_err(|e| store_refusal(&e)).map(
                |history| json!({ "messages": history.rows.iter().map(message_row).collect::<Vec<_>>() }),
            ),
        );
    });
}

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

pub(super) fn usage_cost(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<UsageCostParams>() else { return };
    let days = params.days.map_or(DEFAULT_USAGE_DAYS, |days| days.get()) as i64;
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let now = store.estate.clock.now_ms();
        let first = now / store::DAY_MS - days + 1;
        let used = store.read(move |c| store::usage_by_day(c, first)).await;
        responder.settle(used.map_err(|e| store_refusal(&e)).map(|used| cost_page(&used, first, days, now)));
    });
}

fn cost_page(used: &[DayUsage], first: i64, days: i64, now: i64) -> Value {
    let daily = (first..first + days).map(|day| {
        let of_day = used.iter().find(|usage| usage.day == day).copied().unwrap_or_default();
        let mut row = totals(of_day.input, of_day.output);
        row["date"] = json!(&empty::iso(day * store::DAY_MS)[..10]);
        row
    });
    let sum = |of: fn(&DayUsage) -> u64| used.iter().map(of).sum();
    json!({
        "updatedAt": now,
        "days": days,
        "daily": daily.collect::<Vec<_>>(),
        "totals": totals(sum(|usage| usage.input), sum(|usage| usage.output)),
    })
}

/// The model here costs nothing.
fn totals(input: u64, output: u64) -> Value {
    json!({
        "input": input, "output": output, "cacheRead": 0, "cacheWrite": 0, "totalTokens": input + output,
        "totalCost": 0, "inputCost": 0, "outputCost": 0, "cacheReadCost": 0, "cacheWriteCost": 0,
        "missingCostEntries": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_a_row_and_the_totals_are_their_sum() {
        let used = [DayUsage { day: 1, input: 3, output: 4 }, DayUsage { day: 2, input: 10, output: 20 }];
        let page = cost_page(&used, 0, 3, 2 * store::DAY_MS + 5);
        let rows = page["daily"].as_array().unwrap();
        let brief: Vec<_> =
            rows.iter().map(|row| (row["date"].as_str().unwrap(), &row["totalTokens"])).collect();
        assert_eq!(brief, [("1970-01-01", &json!(0)), ("1970-01-02", &json!(7)), ("1970-01-03", &json!(30))]);
        assert_eq!((&page["totals"]["input"], &page["totals"]["totalTokens"]), (&json!(13), &json!(37)));
    }
}
