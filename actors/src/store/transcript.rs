//! Transcripts: what was said, where it stands, and the full-text index beside it.
//!
//! A transcript is one (session key, session id, lifecycle revision); its counters and excerpts stand in its own
//! row, so that a position, a total and a page cost the same in a long session as in a short one. A message is one
//! row with one id, however many transcripts contain it; each has its own place for it.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::db::StoreError;
use super::rows::{MessageRow, NewMessage};

/// Longest excerpt and snippet, characters.
const EXCERPT: usize = 160;

/// Messages where they stand: `p` the place, `m` the message, `t` the transcript.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT m.id, t.session_key, t.session_id, m.parent, m.kind, m.idempotency_key, m.run_id, m.message, ",
            "m.created_at, p.seq, p.raw_seq FROM places p JOIN messages m ON m.pos = p.pos ",
            "JOIN transcripts t ON t.id = p.transcript ",
            $tail
        )
    };
}

mod branches;
mod copy;
mod delete;
mod history;
mod import;
mod search;

pub use branches::{Branch, TranscriptInfo, branch_of, branches, transcript_rows, transcripts_of};
pub(super) use copy::{Copy, copy};
pub(super) use delete::delete;
pub use history::{
    HistoryPage, HistoryResult, history, history_after, history_around, media_of, message, message_stands,
    messages_by_run,
};
pub use import::{Shelf, import_branch, import_rows};
pub use search::{SearchFilter, SearchHit, search};

/// Adds a row, or returns the one that stands there already (`false`).
pub(super) fn append(conn: &Connection, new: &NewMessage) -> Result<(MessageRow, bool), StoreError> {
    if let Some(row) = find(conn, new)? {
        return Ok((row, false));
    }
    let Target { session_id, revision, transcript } = target(conn, new)?.ok_or(StoreError::NotFound)?;
    let transcript = match transcript {
        Some(id) => id,
        None => create(conn, &new.session_key, &session_id, &revision)?,
    };
    let (visible, raw_seq) = count(conn, transcript, new)?;
    let seq = (!new.hidden).then_some(visible);
    let pos = insert(conn, new)?;
    conn.prepare_cached("INSERT INTO places (transcript, raw_seq, seq, pos) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![transcript, raw_seq, seq, pos])?;
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

/// Counts a row that comes to a transcript and keeps what lists show of it → visible and all rows.
fn count(conn: &Connection, transcript: i64, new: &NewMessage) -> Result<(i64, i64), StoreError> {
    let said = if new.hidden { None } else { said(&new.kind, &new.message) };
    let title = said.as_ref().filter(|_| is_title(&new.kind, &new.message));
    let mut statement = conn.prepare_cached(
        "UPDATE transcripts SET total = total + 1, visible = visible + ?2, updated_at = max(updated_at, ?3),
             title = coalesce(title, ?4), last_said = coalesce(?5, last_said)
         WHERE id = ?1 RETURNING visible, total",
    )?;
    let counted = params![transcript, !new.hidden, new.created_at, title, said];
    Ok(statement.query_row(counted, |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn insert(conn: &Connection, new: &NewMessage) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO messages (id, parent, kind, idempotency_key, run_id, message, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    Ok(statement.insert(params![
        new.id,
        new.parent,
        new.kind,
        new.idempotency_key,
        new.run_id,
        new.message.to_string(),
        new.created_at
    ])?)
}

/// Puts what people search for into the index: the visible text of both sides.
fn index(conn: &Connection, pos: i64, new: &NewMessage) -> Result<(), StoreError> {
    let text = text_of(&new.message);
    if !new.hidden && is_spoken(&new.kind) && !text.is_empty() {
        conn.prepare_cached("INSERT INTO message_texts (rowid, text) VALUES (?1, ?2)")?
            .execute(params![pos, text])?;
    }
    Ok(())
}

/// The row that [`append`] would find standing there.
pub(super) fn find(conn: &Connection, new: &NewMessage) -> Result<Option<MessageRow>, StoreError> {
    let transcript = target(conn, new)?.and_then(|target| target.transcript);
    let by_id = conn
        .prepare_cached(select!("WHERE m.id = ?1 ORDER BY p.transcript IS ?2 DESC, p.transcript LIMIT 1"))?
        .query_row(params![new.id, transcript], message_row)
        .optional()?;
    if by_id.is_some() {
        return Ok(by_id);
    }
    let mut by_key = conn.prepare_cached(select!("WHERE m.idempotency_key = ?1 AND +p.transcript = ?2"))?;
    Ok(by_key.query_row(params![new.idempotency_key, transcript], message_row).optional()?)
}

/// Where a message belongs.
struct Target {
    session_id: String,
    revision: String,
    /// Its number, if it exists.
    transcript: Option<i64>,
}

/// `None` for an unknown session.
fn target(conn: &Connection, new: &NewMessage) -> Result<Option<Target>, StoreError> {
    let current: Option<(String, String)> = conn
        .prepare_cached("SELECT session_id, revision FROM sessions WHERE key = ?1")?
        .query_row([&new.session_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((current, revision)) = current else { return Ok(None) };
    let is_current = new.session_id.is_empty() || new.session_id == current;
    let session_id = if is_current { current } else { new.session_id.clone() };
    let transcript = conn
        .prepare_cached(
            "SELECT id FROM transcripts WHERE session_key = ?1 AND session_id = ?2 AND (?3 IS NULL OR revision = ?3)
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![new.session_key, session_id, is_current.then_some(&revision)], |row| row.get(0))
        .optional()?;
    let revision = if is_current { revision } else { String::new() };
    Ok(Some(Target { session_id, revision, transcript }))
}

/// An empty transcript, the first of a new family.
fn create(conn: &Connection, key: &str, session_id: &str, revision: &str) -> Result<i64, StoreError> {
    let id = conn
        .prepare_cached("INSERT INTO transcripts (session_key, session_id, revision) VALUES (?1, ?2, ?3)")?
        .insert([key, session_id, revision])?;
    conn.prepare_cached("UPDATE transcripts SET family = id WHERE id = ?1")?.execute([id])?;
    Ok(id)
}

/// The current transcript of a session.
struct Current {
    session_id: String,
    /// Its number; `None` while nothing was written to it.
    transcript: Option<i64>,
    /// Visible rows.
    visible: i64,
}

fn current(conn: &Connection, key: &str) -> Result<Option<Current>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT s.session_id, t.id, coalesce(t.visible, 0) FROM sessions s LEFT JOIN transcripts t
             ON t.session_key = s.key AND t.session_id = s.session_id AND t.revision = s.revision WHERE s.key = ?1",
    )?;
    let current = |row: &Row<'_>| {
        Ok(Current { session_id: row.get(0)?, transcript: row.get(1)?, visible: row.get(2)? })
    };
    Ok(statement.query_row([key], current).optional()?)
}

/// Whether rows of this kind are what a person or the agent says.
fn is_spoken(kind: &str) -> bool {
    matches!(kind, "user" | "assistant")
}

/// The start of what a row says, if it says anything.
fn said(kind: &str, message: &Value) -> Option<String> {
    is_spoken(kind).then(|| excerpt(&text_of(message), "")).filter(|text| !text.is_empty())
}

/// Whether what a row says may name its transcript.
fn is_title(kind: &str, message: &Value) -> bool {
    kind == "user" && message["excludeFromContext"] != true
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

#[cfg(test)]
#[path = "copies_tests.rs"]
mod copies_tests;
