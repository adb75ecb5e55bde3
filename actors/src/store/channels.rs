//! What channels need to have kept: messages on their way out, places to go on at, people, and what was overheard.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{ContactRow, DeliveryRow, DeliveryState, OverheardRow, WriteReply};
use super::{drafts, transcript};

/// How long messages that were sent, or will never be, are kept, ms.
const KEPT_MS: i64 = 30 * super::usage::DAY_MS;
/// People of an account who wait to be let in; the oldest are forgotten.
pub const MAX_WAITING_CONTACTS: u32 = 50;
/// How long they may wait, ms.
pub const CONTACT_WAITING_MS: i64 = 60 * 60 * 1000;

const DELIVERY: &str = "id, channel, account, address, session_key, run_id, text, extra, state, attempts, \
                        platform_id, error, created_at, updated_at";
const CONTACT: &str = "channel, account, id, code, meta, created_at, last_seen_at, approved_at";

/// Enters messages that are not there yet.
pub(super) fn queue(conn: &Connection, rows: &[DeliveryRow]) -> Result<WriteReply, StoreError> {
    for row in rows {
        if !drafts::take_over(conn, row)? {
            insert(conn, row)?;
        }
    }
    if let Some(row) = rows.first() {
        conn.prepare_cached(
            "DELETE FROM deliveries WHERE updated_at < ?1 AND state NOT IN ('queued', 'sending')",
        )?
        .execute([row.created_at - KEPT_MS])?;
    }
    Ok(WriteReply::Done)
}

/// Enters a message unless it is there already; how many that are.
pub(super) fn insert(conn: &Connection, row: &DeliveryRow) -> Result<usize, StoreError> {
    let entered = conn
        .prepare_cached(
            "INSERT INTO deliveries (id, channel, account, address, session_key, run_id, text, extra, state,
                 attempts, platform_id, error, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            row.id,
            row.channel,
            row.account,
            row.address.to_string(),
            row.session_key,
            row.run_id,
            row.text,
            row.extra.to_string(),
            row.state.as_str(),
            row.attempts,
            row.platform_id,
            row.error,
            row.created_at,
            row.updated_at
        ])?;
    Ok(entered)
}

/// Moves a message on; what is final stays as it is.
pub(super) fn moved(conn: &Connection, row: &DeliveryRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE deliveries SET state = ?2, attempts = ?3, platform_id = ?4, error = ?5, updated_at = ?6, extra = ?7
         WHERE id = ?1 AND state IN ('queued', 'sending')",
    )?
    .execute(params![
        row.id,
        row.state.as_str(),
        row.attempts,
        row.platform_id,
        row.error,
        row.updated_at,
        row.extra.to_string()
    ])?;
    Ok(WriteReply::Done)
}

/// Notes that people were told of messages nobody knows the fate of, and tells them: in one commit.
pub(super) fn report(
    conn: &Connection,
    ids: &[String],
    with: &DeliveryRow,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("UPDATE deliveries SET reported = 1 WHERE id IN (SELECT value FROM json_each(?1))")?
        .execute([super::db::list(ids)])?;
    queue(conn, std::slice::from_ref(with))
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    let state: String = row.get(8)?;
    Ok(DeliveryRow {
        id: row.get(0)?,
        channel: row.get(1)?,
        account: row.get(2)?,
        address: transcript::json(row, 3)?,
        session_key: row.get(4)?,
        run_id: row.get(5)?,
        text: row.get(6)?,
        extra: transcript::json(row, 7)?,
        // The table takes no other word.
        state: DeliveryState::parse(&state).unwrap_or(DeliveryState::Failed),
        attempts: row.get(9)?,
        platform_id: row.get(10)?,
        error: row.get(11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
    })
}

/// The messages of an account that are not sent yet, in their order, at most `of_chat` of each chat and `limit` in all;
/// drafts of turns that go on are none.
///
/// # Errors
/// What SQLite says.
pub fn open_deliveries(
    conn: &Connection,
    channel: &str,
    account: &str,
    (of_chat, limit): (u32, u32),
) -> Result<Vec<DeliveryRow>, StoreError> {
    let query = format!(
        "SELECT {DELIVERY} FROM deliveries WHERE seq IN (
             SELECT seq FROM (
                 SELECT seq, row_number() OVER (PARTITION BY address ORDER BY seq) AS nth FROM deliveries
                 WHERE channel = ?1 AND account = ?2 AND state IN ('queued', 'sending')
                     AND coalesce(extra ->> 'draft', '') <> 'live')
             WHERE nth <= ?3 ORDER BY seq LIMIT ?4)
         ORDER BY seq"
    );
    let mut statement = conn.prepare_cached(&query)?;
    Ok(statement.query_map(params![channel, account, of_chat, limit], delivery)?.collect::<Result<_, _>>()?)
}

/// One message.
///
/// # Errors
/// What SQLite says.
pub fn delivery_by_id(conn: &Connection, id: &str) -> Result<Option<DeliveryRow>, StoreError> {
    let query = format!("SELECT {DELIVERY} FROM deliveries WHERE id = ?1");
    Ok(conn.prepare_cached(&query)?.query_row([id], delivery).optional()?)
}

/// The messages whose ids begin like this.
///
/// # Errors
/// What SQLite says.
pub fn deliveries_like(conn: &Connection, prefix: &str) -> Result<Vec<DeliveryRow>, StoreError> {
    let query = format!(
        "SELECT {DELIVERY} FROM deliveries WHERE id >= ?1 AND id < ?1 || char(0x10FFFF) ORDER BY seq"
    );
    Ok(conn.prepare_cached(&query)?.query_map([prefix], delivery)?.collect::<Result<_, _>>()?)
}

/// The message that the platform calls this, if an account has sent it.
///
/// # Errors
/// What SQLite says.
pub fn delivery_by_platform_id(
    conn: &Connection,
    (channel, account): (&str, &str),
    platform_id: &str,
) -> Result<Option<DeliveryRow>, StoreError> {
    let query = format!(
        "SELECT {DELIVERY} FROM deliveries WHERE channel = ?1 AND account = ?2 AND platform_id = ?3
         ORDER BY seq DESC LIMIT 1"
    );
    Ok(conn.prepare_cached(&query)?.query_row([channel, account, platform_id], delivery).optional()?)
}

/// The messages to a chat of which nobody knows whether they were sent, and nobody was told that.
///
/// # Errors
/// What SQLite says.
pub fn unreported(
    conn: &Connection,
    channel: &str,
    account: &str,
    address: &Value,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let query = format!(
        "SELECT {DELIVERY} FROM deliveries WHERE channel = ?1 AND account = ?2 AND address = ?3
             AND state = 'uncertain' AND reported = 0 ORDER BY seq"
    );
    let mut statement = conn.prepare_cached(&query)?;
    let rows = statement.query_map(params![channel, account, address.to_string()], delivery)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many messages of an account stand where.
///
/// # Errors
/// What SQLite says.
pub fn delivery_counts(
    conn: &Connection,
    channel: &str,
    account: &str,
) -> Result<Vec<(String, i64)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT state, count(*) FROM deliveries WHERE channel = ?1 AND account = ?2 GROUP BY state ORDER BY state",
    )?;
    Ok(statement
        .query_map([channel, account], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?)
}

/// How many messages are on their way out or in doubt, by channel, account and state; at most `limit` rows.
///
/// # Errors
/// What SQLite says.
pub fn outbox(conn: &Connection, limit: u32) -> Result<Vec<(String, String, String, u64)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT channel, account, state, count(*) FROM deliveries WHERE state IN ('queued', 'sending')
         GROUP BY channel, account, state
         UNION ALL
         SELECT channel, account, state, count(*) FROM deliveries WHERE state = 'uncertain' AND reported = 0
         GROUP BY channel, account, state LIMIT ?1",
    )?;
    let count =
        |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?.max(0) as u64));
    Ok(statement.query_map([limit], count)?.collect::<Result<_, _>>()?)
}

pub(super) fn put_checkpoint(
    conn: &Connection,
    channel: &str,
    account: &str,
    place: &str,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO checkpoints (channel, account, place) VALUES (?1, ?2, ?3)
         ON CONFLICT (channel, account) DO UPDATE SET place = excluded.place",
    )?
    .execute([channel, account, place])?;
    Ok(WriteReply::Done)
}

/// Where an account goes on.
///
/// # Errors
/// What SQLite says.
pub fn checkpoint(conn: &Connection, channel: &str, account: &str) -> Result<Option<String>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT place FROM checkpoints WHERE channel = ?1 AND account = ?2")?;
    Ok(statement.query_row([channel, account], |row| row.get(0)).optional()?)
}

/// Enters or replaces somebody; the oldest of too many who wait are forgotten, and those who waited too long.
pub(super) fn put_contact(conn: &Connection, row: &ContactRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO contacts (channel, account, id, code, meta, created_at, last_seen_at, approved_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (channel, account, id) DO UPDATE SET code = excluded.code, meta = excluded.meta,
             created_at = excluded.created_at, last_seen_at = excluded.last_seen_at,
             approved_at = excluded.approved_at",
    )?
    .execute(params![
        row.channel,
        row.account,
        row.id,
        row.code,
        row.meta.to_string(),
        row.created_at,
        row.last_seen_at,
        row.approved_at
    ])?;
    conn.prepare_cached(
        "DELETE FROM contacts WHERE channel = ?1 AND account = ?2 AND approved_at IS NULL AND (created_at < ?3
             OR id IN (SELECT id FROM contacts WHERE channel = ?1 AND account = ?2 AND approved_at IS NULL
                 ORDER BY created_at DESC LIMIT -1 OFFSET ?4))",
    )?
    .execute(params![row.channel, row.account, row.last_seen_at - CONTACT_WAITING_MS, MAX_WAITING_CONTACTS])?;
    Ok(WriteReply::Done)
}

pub(super) fn remove_contact(
    conn: &Connection,
    channel: &str,
    account: &str,
    id: &str,
) -> Result<WriteReply, StoreError> {
    let gone = conn
        .prepare_cached("DELETE FROM contacts WHERE channel = ?1 AND account = ?2 AND id = ?3")?
        .execute([channel, account, id])?;
    Ok(WriteReply::Count(gone as u64))
}

fn read_contact(row: &Row<'_>) -> rusqlite::Result<ContactRow> {
    Ok(ContactRow {
        channel: row.get(0)?,
        account: row.get(1)?,
        id: row.get(2)?,
        code: row.get(3)?,
        meta: transcript::json(row, 4)?,
        created_at: row.get(5)?,
        last_seen_at: row.get(6)?,
        approved_at: row.get(7)?,
    })
}

/// Somebody who wrote.
///
/// # Errors
/// What SQLite says.
pub fn contact(
    conn: &Connection,
    channel: &str,
    account: &str,
    id: &str,
) -> Result<Option<ContactRow>, StoreError> {
    let query = format!("SELECT {CONTACT} FROM contacts WHERE channel = ?1 AND account = ?2 AND id = ?3");
    Ok(conn.prepare_cached(&query)?.query_row([channel, account, id], read_contact).optional()?)
}

/// Everybody who wrote on a channel and was not known before: those who wait, and those who were let in.
///
/// # Errors
/// What SQLite says.
pub fn contacts(conn: &Connection, channel: &str) -> Result<Vec<ContactRow>, StoreError> {
    let query = format!("SELECT {CONTACT} FROM contacts WHERE channel = ?1 ORDER BY created_at, id");
    Ok(conn.prepare_cached(&query)?.query_map([channel], read_contact)?.collect::<Result<_, _>>()?)
}

/// Keeps what was overheard in a session, the last `most` of it.
pub(super) fn overhear(conn: &Connection, row: &OverheardRow, most: u32) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO overheard (session_key, source, source_id, sender, text, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (source, source_id, session_key) DO NOTHING",
    )?
    .execute(params![row.session_key, row.source, row.source_id, row.from, row.text, row.at])?;
    conn.prepare_cached(
        "DELETE FROM overheard WHERE session_key = ?1 AND seq NOT IN
             (SELECT seq FROM overheard WHERE session_key = ?1 ORDER BY seq DESC LIMIT ?2)",
    )?
    .execute(params![row.session_key, most])?;
    Ok(WriteReply::Done)
}

/// What was overheard in a session since the agent was last spoken to, in order; and its numbers.
///
/// # Errors
/// What SQLite says.
pub fn overheard(conn: &Connection, key: &str) -> Result<Vec<(i64, OverheardRow)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, session_key, source, source_id, sender, text, at FROM overheard WHERE session_key = ?1
         ORDER BY seq",
    )?;
    let read = |row: &Row<'_>| {
        let heard = OverheardRow {
            session_key: row.get(1)?,
            source: row.get(2)?,
            source_id: row.get(3)?,
            from: row.get(4)?,
            text: row.get(5)?,
            at: row.get(6)?,
        };
        Ok((row.get(0)?, heard))
    };
    Ok(statement.query_map([key], read)?.collect::<Result<_, _>>()?)
}

/// What was told with an input (`overheard`, a member of its body) is not told again.
pub(super) fn forget_overheard(conn: &Connection, body: &Value) -> Result<(), StoreError> {
    if let Some(told) = body.get("overheard") {
        conn.prepare_cached("DELETE FROM overheard WHERE seq IN (SELECT value FROM json_each(?1))")?
            .execute([told.to_string()])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
