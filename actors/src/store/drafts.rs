//! Drafts: answers that people see while they are written. A draft is the row of the first message of its answer before
//! there is a text, and counts as being sent. It is `live` (the member `draft` of its `extra`) until the commit that ends
//! its turn makes it `final`, if that message takes its place, or lets it `end`.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::channels;
use super::db::StoreError;
use super::rows::{DeliveryRow, WriteReply};

/// Enters a draft, unless its turn has ended or it is there already; how many that are.
pub(super) fn begin(conn: &Connection, row: &DeliveryRow) -> Result<WriteReply, StoreError> {
    let is_open: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM inputs WHERE turn = ?1 AND settled_at IS NULL)")?
        .query_row([&row.run_id], |found| found.get(0))?;
    let entered = if is_open { channels::insert(conn, row)? } else { 0 };
    Ok(WriteReply::Count(entered as u64))
}

/// The platform calls it this.
pub(super) fn show(conn: &Connection, id: &str, platform_id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE deliveries INDEXED BY deliveries_open SET platform_id = ?2
         WHERE (id = ?1 OR extra ->> 'draftId' = ?1 AND extra ->> 'draft' IS NOT NULL)
             AND platform_id IS NULL AND state IN ('queued', 'sending')",
    )?
    .execute([id, platform_id])?;
    Ok(WriteReply::Done)
}

/// It is not on the platform. What is to be sent all the same stays.
pub(super) fn remove(conn: &Connection, id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "DELETE FROM deliveries
         WHERE id = ?1 AND state IN ('queued', 'sending') AND extra ->> 'draft' IN ('live', 'end')",
    )?
    .execute([id])?;
    Ok(WriteReply::Done)
}

/// Lets a message take the place of its draft (`draftId`), under its own name; whether there is nothing more to do
/// about it.
pub(super) fn take_over(conn: &Connection, row: &DeliveryRow) -> Result<bool, StoreError> {
    let Some(draft) = row.extra.get("draftId").and_then(Value::as_str) else { return Ok(false) };
    let ends = row.extra.get("draft").is_some();
    let taken = conn
        .prepare_cached(
            "UPDATE OR IGNORE deliveries SET id = ?7, text = ?2, extra = json_set(?3, '$.draft', ?4), state = 'queued',
                 created_at = ?5, updated_at = ?6
             WHERE id = ?1 AND state = 'sending' AND extra ->> 'draft' = 'live'",
        )?
        .execute(params![
            draft,
            row.text,
            row.extra.to_string(),
            if ends { "end" } else { "final" },
            row.created_at,
            row.updated_at,
            row.id
        ])?;
    Ok(ends || taken > 0)
}

/// The turn has ended: no draft of it is live.
pub(super) fn end(conn: &Connection, turn: &str) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE deliveries INDEXED BY deliveries_open
         SET text = '', extra = json_set(extra, '$.draft', 'end'), state = 'queued'
         WHERE run_id = ?1 AND state IN ('queued', 'sending') AND extra ->> 'draft' = 'live'",
    )?
    .execute([turn])?;
    Ok(())
}

#[cfg(test)]
#[path = "drafts_tests.rs"]
mod tests;
