//! Transcripts: one row a message, the full-text index beside it, history and search.
//!
//! A transcript is one (session key, session id, lifecycle revision); its counters stand in its own row, so that
//! a position, a total and a page cost the same in a long session as in a short one. Rows are never deleted.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::db::StoreError;
use super::rows::{MessageRow, NewMessage};

/// Longest preview and snippet, characters.
const EXCERPT: usize = 160;
/// Rows looked at for a preview: answers that are only tool calls have no text.
const PREVIEW_ROWS: u32 = 20;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT m.id, t.session_key, t.session_id, m.parent, m.kind, m.idempotency_key, m.run_id, m.message, ",
            "m.created_at, m.seq, m.raw_seq FROM messages m JOIN transcripts t ON t.id = m.transcript ",
            $tail
        )
    };
}

/// Adds a row, or returns the one that stands there already (`false`).
pub(super) fn append(conn: &Connection, new: &NewMessage) -> Result<(MessageRow, bool), StoreError> {
    if let Some(row) = by_id(conn, &new.id)? {
        return Ok((row, false));
    }
    let (transcript, session_id) = transcript_for(conn, new)?;
    if let Some(row) = by_key(conn, transcript, new.idempotency_key.as_deref())? {
        return Ok((row, false));
    }
    let (visible, raw_seq): (i64, i64) = conn
        .prepare_cached(
            "UPDATE transcripts SET total = total + 1, visible = visible + ?2 WHERE id = ?1 RETURNING visible, total",
        )?
        .query_row(params![transcript, !new.hidden], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let seq = (!new.hidden).then_some(visible);
    let pos = conn
        .prepare_cached(
            "INSERT INTO messages (id, transcript, raw_seq, seq, parent, kind, idempotency_key, run_id, message,
                 created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .insert(params![
            new.id,
            transcript,
            raw_seq,
            seq,
            new.parent,
            new.kind,
            new.idempotency_key,
            new.run_id,
            new.message.to_string(),
            new.created_at
        ])?;
    index(conn, pos, new)?;
    let new = new.clone();
    let row = MessageRow {
        id: new.id,
        session_key: new.session_key,
        session_id,
        parent: new.parent,
        kind: new.kind,
        idempotency_key: new.idempotency_key,
        run_id: new.run_id,
        hidden: new.hidden,
        message: new.message,
        created_at: new.created_at,
        seq,
        raw_seq,
    };
    Ok((row, true))
}

/// The row that [`append`] would find standing there.
pub(super) fn find(conn: &Connection, new: &NewMessage) -> Result<Option<MessageRow>, StoreError> {
    if let Some(row) = by_id(conn, &new.id)? {
        return Ok(Some(row));
    }
    let (transcript, _) = transcript_for(conn, new)?;
    by_key(conn, transcript, new.idempotency_key.as_deref())
}

/// Puts what people search for into the index: the text of visible rows, tool output excepted.
fn index(conn: &Connection, pos: i64, new: &NewMessage) -> Result<(), StoreError> {
    let text = text_of(&new.message);
    if !new.hidden && new.kind != "toolResult" && !text.is_empty() {
        conn.prepare_cached("INSERT INTO message_texts (rowid, text) VALUES (?1, ?2)")?
            .execute(params![pos, text])?;
    }
    Ok(())
}

/// Number and session id of the transcript a message belongs to, made on first use.
fn transcript_for(conn: &Connection, new: &NewMessage) -> Result<(i64, String), StoreError> {
    let (current, revision): (String, String) = conn
        .prepare_cached("SELECT session_id, revision FROM sessions WHERE key = ?1")?
        .query_row([&new.session_key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let is_current = new.session_id.is_empty() || new.session_id == current;
    let session_id = if is_current { current } else { new.session_id.clone() };
    let known: Option<i64> = conn
        .prepare_cached(
            "SELECT id FROM transcripts WHERE session_key = ?1 AND session_id = ?2 AND (?3 IS NULL OR revision = ?3)
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![new.session_key, session_id, is_current.then_some(&revision)], |row| row.get(0))
        .optional()?;
    let id = match known {
        Some(id) => id,
        None => conn
            .prepare_cached(
                "INSERT INTO transcripts (session_key, session_id, revision) VALUES (?1, ?2, ?3)",
            )?
            .insert(params![new.session_key, session_id, if is_current { revision.as_str() } else { "" }])?,
    };
    Ok((id, session_id))
}

fn by_id(conn: &Connection, id: &str) -> Result<Option<MessageRow>, StoreError> {
    Ok(conn.prepare_cached(select!("WHERE m.id = ?1"))?.query_row([id], message_row).optional()?)
}

fn by_key(conn: &Connection, transcript: i64, key: Option<&str>) -> Result<Option<MessageRow>, StoreError> {
    let Some(key) = key else { return Ok(None) };
    let mut statement = conn.prepare_cached(select!("WHERE m.transcript = ?1 AND m.idempotency_key = ?2"))?;
    Ok(statement.query_row(params![transcript, key], message_row).optional()?)
}

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
    let Some((session_id, transcript, total)) = current(conn, key)? else {
        return Ok(HistoryResult::default());
    };
    let mut statement =
        conn.prepare_cached(select!("WHERE m.transcript = ?1 AND m.seq <= ?2 ORDER BY m.seq DESC LIMIT ?3"))?;
    let mut rows: Vec<MessageRow> = statement
        .query_map(params![transcript, total - i64::from(page.offset), page.limit], message_row)?
        .collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(HistoryResult { session_id: Some(session_id), rows, total })
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
    let Some((_, transcript, _)) = current(conn, key)? else {
        return Ok(Vec::new());
    };
    let mut statement =
        conn.prepare_cached(select!("WHERE m.transcript = ?1 AND m.seq > ?2 ORDER BY m.seq LIMIT ?3"))?;
    Ok(statement.query_map(params![transcript, seq, limit], message_row)?.collect::<Result<_, _>>()?)
}

/// Session id, number and visible total of the current transcript.
fn current(conn: &Connection, key: &str) -> Result<Option<(String, Option<i64>, i64)>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT s.session_id, t.id, coalesce(t.visible, 0) FROM sessions s LEFT JOIN transcripts t
             ON t.session_key = s.key AND t.session_id = s.session_id AND t.revision = s.revision WHERE s.key = ?1",
    )?;
    Ok(statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?)
}

/// One row by id, of whichever session; the caller compares `session_key`.
///
/// # Errors
/// What SQLite says.
pub fn message(conn: &Connection, id: &str) -> Result<Option<MessageRow>, StoreError> {
    by_id(conn, id)
}

/// Everything a run wrote, hidden rows too, in the order written.
///
/// # Errors
/// What SQLite says.
pub fn messages_by_run(conn: &Connection, run_id: &str) -> Result<Vec<MessageRow>, StoreError> {
    let mut statement = conn.prepare_cached(select!("WHERE m.run_id = ?1 ORDER BY m.pos"))?;
    Ok(statement.query_map([run_id], message_row)?.collect::<Result<_, _>>()?)
}

/// The start (160 characters) of the last thing said by either side; `None` if nothing with text was said in the
/// latest 20 rows.
///
/// # Errors
/// What SQLite says.
pub fn last_message_preview(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let page = HistoryPage { limit: PREVIEW_ROWS, offset: 0 };
    let spoken = history(conn, key, page)?
        .rows
        .into_iter()
        .rev()
        .filter(|r| r.kind == "user" || r.kind == "assistant");
    Ok(spoken.map(|row| excerpt(&text_of(&row.message), "")).find(|text| !text.is_empty()))
}

/// The start (160 characters) of the first thing a person said; `None` if nothing with text was said in the
/// first 20 rows.
///
/// # Errors
/// What SQLite says.
pub fn first_message_preview(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let said = history_after(conn, key, 0, PREVIEW_ROWS)?.into_iter().filter(|r| r.kind == "user");
    Ok(said.map(|row| excerpt(&text_of(&row.message), "")).find(|text| !text.is_empty()))
}

/// A message that matches a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchHit {
    /// Its session.
    pub session_key: String,
    /// Its session's id.
    pub session_id: String,
    /// Its row id.
    pub message_id: String,
    /// Its kind.
    pub role: String,
    /// When it was said, ms.
    pub timestamp: i64,
    /// Its text around the first match, at most 160 characters.
    pub snippet: String,
    /// Relevance, higher is better.
    pub score: f64,
}

/// Messages in current transcripts that contain every word of `query` (a word also matches where it begins a
/// longer one), best first. Operators of the index's own language have no meaning here.
///
/// # Errors
/// What SQLite says.
pub fn search(conn: &Connection, query: &str, limit: u32) -> Result<Vec<SearchHit>, StoreError> {
    let words: Vec<&str> =
        query.split_whitespace().filter(|w| w.chars().any(char::is_alphanumeric)).collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let quoted = |word: &&str| format!("\"{}\"*", word.replace(['"', '\0'], " "));
    let wanted = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    let mut statement = conn.prepare_cached(
        "SELECT t.session_key, t.session_id, m.id, m.kind, m.created_at, m.message, -bm25(message_texts)
         FROM message_texts JOIN messages m ON m.pos = message_texts.rowid JOIN transcripts t ON t.id = m.transcript
         JOIN sessions s ON s.key = t.session_key AND s.session_id = t.session_id AND s.revision = t.revision
         WHERE message_texts MATCH ?1 ORDER BY bm25(message_texts), m.pos DESC LIMIT ?2",
    )?;
    let hit = |row: &Row<'_>| {
        Ok(SearchHit {
            session_key: row.get(0)?,
            session_id: row.get(1)?,
            message_id: row.get(2)?,
            role: row.get(3)?,
            timestamp: row.get(4)?,
            snippet: excerpt(&text_of(&json(row, 5)?), words[0]),
            score: row.get(6)?,
        })
    };
    Ok(statement.query_map(params![wanted, limit], hit)?.collect::<Result<_, _>>()?)
}

/// The text of a row in OpenClaw's shape: `content` itself, or its text blocks one below the other.
pub fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter(|b| b["type"] == "text").filter_map(|b| b["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// One line of at most [`EXCERPT`] characters of `text`, from a little before `word` if it occurs.
fn excerpt(text: &str, word: &str) -> String {
    let lower = |c: char| c.to_lowercase().next().unwrap_or(c);
    let text: Vec<char> = text.trim().chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let word: Vec<char> = word.chars().filter(|c| c.is_alphanumeric()).map(lower).collect();
    let matches = |window: &[char]| window.iter().map(|c| lower(*c)).eq(word.iter().copied());
    let at = if word.is_empty() { None } else { text.windows(word.len()).position(matches) };
    let from = at.unwrap_or(0).saturating_sub(EXCERPT / 4);
    let (before, after) =
        (if from > 0 { "…" } else { "" }, if text.len() > from + EXCERPT { "…" } else { "" });
    let room = EXCERPT - before.chars().count() - after.chars().count();
    format!("{before}{}{after}", text.iter().skip(from).take(room).collect::<String>())
}

fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let seq: Option<i64> = row.get(9)?;
    Ok(MessageRow {
        id: row.get(0)?,
        session_key: row.get(1)?,
        session_id: row.get(2)?,
        parent: row.get(3)?,
        kind: row.get(4)?,
        idempotency_key: row.get(5)?,
        run_id: row.get(6)?,
        hidden: seq.is_none(),
        message: json(row, 7)?,
        created_at: row.get(8)?,
        seq,
        raw_seq: row.get(10)?,
    })
}

/// A JSON column.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
