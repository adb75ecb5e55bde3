//! Methods of things this gateway does not have yet: their empty state, see `crabtree_protocol::empty`.

use super::Call;
use crate::estate::Estate;
use chrono::{DateTime, SecondsFormat};
use crabtree_protocol::Empty;
use crabtree_protocol::empty::EmptyParams;
use serde_json::{Map, Value, json};

/// Rows of a page when the client names no number.
const DEFAULT_PAGE: u64 = 200;

pub(super) fn answer(empty: Empty, call: Call<'_>) {
    let Some((params, call)) = call.parse::<EmptyParams>() else { return };
    let params = params.unwrap_or_default();
    let estate = call.estate();
    call.responder.ok(&empty.answer(|name| value(name, &params, estate)));
}

/// What a name in an answer stands for.
fn value(name: &str, params: &Map<String, Value>, estate: &Estate) -> Value {
    let number = |name: &str, least: u64| params.get(name).and_then(Value::as_u64).filter(|n| *n >= least);
    let path = |name: &str| json!(estate.config.load().state_dir.join(name));
    match name {
        "limit" => json!(number("limit", 1).unwrap_or(DEFAULT_PAGE)),
        "offset" => json!(number("offset", 0).unwrap_or(0)),
        "sessionKey" => params.get(name).filter(|key| key.is_string()).cloned().unwrap_or_default(),
        "agentId" => match params.get(name) {
            Some(Value::String(id)) => json!(id),
            _ => json!(estate.catalog.load().default_agent().id),
        },
        "bootId" => json!(estate.boot.boot_id),
        "workspace" => path(name),
        _ => Value::Null,
    }
}

/// A time as clients read it in text.
pub(super) fn iso(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
