//! The transcripts of a session: its branches to choose from, and all of them to keep before they go.

use rusqlite::{Connection, Row, params};

use super::{MessageRow, StoreError, message_row};

/// One way the conversation of a session went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its session id: with `revision`, what makes it current.
    pub session_id: String,
    /// Its lifecycle revision.
    pub revision: String,
    /// Its last visible message.
    pub leaf_id: String,
    /// The start of the last thing said in it, at most 160 characters; may be empty.
    pub headline: String,
    /// Its visible messages.
    pub message_count: i64,
    /// When its last message was written, ms.
    pub updated_at: i64,
    /// Whether it is the current one.
    pub active: bool,
}

/// The branches of a session since its last reset, the current one first, then the latest first. Without those
/// that are empty, and of several that end in the same message only the first.
///
/// # Errors
/// What SQLite says.
pub fn branches(conn: &Connection, key: &str) -> Result<Vec<Branch>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT t.session_id, t.revision, m.id, coalesce(t.last_said, ''), t.visible, t.updated_at, t.id = c.id
         FROM sessions s JOIN transcripts c
             ON c.session_key = s.key AND c.session_id = s.session_id AND c.revision = s.revision
         JOIN transcripts t ON t.session_key = s.key AND t.family = c.family AND (t.listed OR t.id = c.id)
         JOIN places p ON p.transcript = t.id AND p.seq = t.visible JOIN messages m ON m.pos = p.pos
         WHERE s.key = ?1 ORDER BY t.id = c.id DESC, t.updated_at DESC, t.id DESC",
    )?;
    let branch = |row: &Row<'_>| {
        Ok(Branch {
            session_id: row.get(0)?,
            revision: row.get(1)?,
            leaf_id: row.get(2)?,
            headline: row.get(3)?,
            message_count: row.get(4)?,
            updated_at: row.get(5)?,
            active: row.get(6)?,
        })
    };
    let mut seen = std::collections::HashSet::new();
    let all = statement.query_map([key], branch)?;
    Ok(all
        .filter(|b| b.as_ref().map_or(true, |b| seen.insert(b.leaf_id.clone())))
        .collect::<Result<_, _>>()?)
}

/// The branch of a session that ends in this message.
///
/// # Errors
/// What SQLite says.
pub fn branch_of(conn: &Connection, key: &str, leaf_id: &str) -> Result<Option<Branch>, StoreError> {
    Ok(branches(conn, key)?.into_iter().find(|branch| branch.leaf_id == leaf_id))
}

/// One transcript of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptInfo {
    /// Its number, for [`transcript_rows`].
    pub id: i64,
    /// Its session id.
    pub session_id: String,
    /// Its lifecycle revision.
    pub revision: String,
    /// All its rows, hidden ones too.
    pub total: i64,
    /// Its visible rows.
    pub visible: i64,
    /// When its last message was written, ms.
    pub updated_at: i64,
}

/// Every transcript of a session there ever was, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn transcripts_of(conn: &Connection, key: &str) -> Result<Vec<TranscriptInfo>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, session_id, revision, total, visible, updated_at FROM transcripts WHERE session_key = ?1 ORDER BY id",
    )?;
    let info = |row: &Row<'_>| {
        Ok(TranscriptInfo {
            id: row.get(0)?,
            session_id: row.get(1)?,
            revision: row.get(2)?,
            total: row.get(3)?,
            visible: row.get(4)?,
            updated_at: row.get(5)?,
        })
    };
    Ok(statement.query_map([key], info)?.collect::<Result<_, _>>()?)
}

/// The rows of a transcript past `raw_seq`, hidden ones too, in order, at most `limit`.
///
/// # Errors
/// What SQLite says.
pub fn transcript_rows(
    conn: &Connection,
    transcript: i64,
    raw_seq: i64,
    limit: u32,
) -> Result<Vec<MessageRow>, StoreError> {
    let mut statement = conn
        .prepare_cached(select!("WHERE p.transcript = ?1 AND p.raw_seq > ?2 ORDER BY p.raw_seq LIMIT ?3"))?;
    Ok(statement.query_map(params![transcript, raw_seq, limit], message_row)?.collect::<Result<_, _>>()?)
}
