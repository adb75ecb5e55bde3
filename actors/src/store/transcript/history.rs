//! Reading what was said: pages of a session's current transcript, and single messages.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::{Current, MessageRow, StoreError, current, message_row};

/// Which part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// At most this many rows.
    pub limit: u32,
    /// Leave out this many of the newest.
    pub offset: u32,
}

/// A part of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryResult {
    /// The session's current id; `None` for an unknown session.
    pub session_id: Option<String>,
    /// Visible rows, oldest first.
    pub rows: Vec<MessageRow>,
    /// Visible rows in the whole transcript.
    pub total: i64,
}

/// A page of the current transcript of a session; empty for an unknown session.
///
/// # Errors
/// What SQLite says.
pub fn history(conn: &Connection, key: &str, page: HistoryPage) -> Result<HistoryResult, StoreError> {
    let Some(Current { session_id, transcript, visible }) = current(conn, key)? else {
        return Ok(HistoryResult::default());
    };
    let mut statement =
        conn.prepare_cached(select!("WHERE p.transcript = ?1 AND p.seq <= ?2 ORDER BY p.seq DESC LIMIT ?3"))?;
    let mut rows: Vec<MessageRow> = statement
        .query_map(params![transcript, visible - i64::from(page.offset), page.limit], message_row)?
        .collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(HistoryResult { session_id: Some(session_id), rows, total: visible })
}

/// The visible rows of the current transcript past position `seq`, oldest first, at most `limit`.
///
/// # Errors
/// What SQLite says.
pub fn history_after(
    conn: &Connection,
    key: &str,
    seq: i64,
    limit: u32,
) -> Result<Vec<MessageRow>, StoreError> {
    let Some(Current { transcript, .. }) = current(conn, key)? else {
        return Ok(Vec::new());
    };
    let mut statement =
        conn.prepare_cached(select!("WHERE p.transcript = ?1 AND p.seq > ?2 ORDER BY p.seq LIMIT ?3"))?;
    Ok(statement.query_map(params![transcript, seq, limit], message_row)?.collect::<Result<_, _>>()?)
}

/// The page of `limit` rows with this message in the middle, or as near to it as the ends allow; `None` if the
/// current transcript has no such visible message.
///
/// # Errors
/// What SQLite says.
pub fn history_around(
    conn: &Connection,
    key: &str,
    message_id: &str,
    limit: u32,
) -> Result<Option<HistoryResult>, StoreError> {
    let (Some(now), Some(seq)) = (current(conn, key)?, message(conn, key, message_id)?.and_then(|m| m.seq))
    else {
        return Ok(None);
    };
    let last = (seq + i64::from(limit / 2)).max(i64::from(limit)).min(now.visible);
    let offset = u32::try_from(now.visible - last).unwrap_or(u32::MAX);
    history(conn, key, HistoryPage { limit, offset }).map(Some)
}

/// A message of the current transcript of a session, by id.
///
/// # Errors
/// What SQLite says.
pub fn message(conn: &Connection, key: &str, id: &str) -> Result<Option<MessageRow>, StoreError> {
    let Some(Current { transcript, .. }) = current(conn, key)? else { return Ok(None) };
    let mut statement = conn.prepare_cached(select!("WHERE m.id = ?1 AND p.transcript = ?2"))?;
    Ok(statement.query_row(params![id, transcript], message_row).optional()?)
}

/// Everything a run wrote, hidden rows too, in the order and where it was first written.
///
/// # Errors
/// What SQLite says.
pub fn messages_by_run(conn: &Connection, run_id: &str) -> Result<Vec<MessageRow>, StoreError> {
    let mut statement = conn.prepare_cached(select!(
        "WHERE m.run_id = ?1 AND p.transcript = (SELECT min(transcript) FROM places WHERE pos = m.pos) ORDER BY m.pos"
    ))?;
    Ok(statement.query_map([run_id], message_row)?.collect::<Result<_, _>>()?)
}

/// Whether some transcript has this row.
///
/// # Errors
/// What SQLite says.
pub fn message_stands(conn: &Connection, id: &str) -> Result<bool, StoreError> {
    let mut statement = conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM messages WHERE id = ?1)")?;
    Ok(statement.query_row([id], |row| row.get(0))?)
}

/// What the rows of a session say of files that came with them: `__openclaw` with its `media`.
///
/// # Errors
/// What SQLite says.
pub fn media_of(conn: &Connection, key: &str) -> Result<Vec<Value>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT m.message -> '$.__openclaw' FROM transcripts t JOIN places p ON p.transcript = t.id
         JOIN messages m USING (pos)
         WHERE t.session_key = ?1 AND m.kind = 'user' AND m.message -> '$.__openclaw.media' IS NOT NULL",
    )?;
    let found = statement.query_map([key], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.iter().filter_map(|meta| serde_json::from_str(meta).ok()).collect())
}
