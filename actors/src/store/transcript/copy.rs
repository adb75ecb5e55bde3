//! Copies of transcripts, for forks, rewinds and compactions: new places, the same messages.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::{create, current, is_title, json, message, said};
use crate::store::db::StoreError;
use crate::store::rows::{CopyRange, WriteReply};

/// See [`crate::store::WriteOp::CopyTranscript`].
pub(in crate::store) struct Copy<'a> {
    pub from_key: &'a str,
    pub to_key: &'a str,
    pub session_id: &'a str,
    pub revision: &'a str,
    pub range: &'a CopyRange,
    pub branch: bool,
    pub at: i64,
}

pub(in crate::store) fn copy(conn: &Connection, what: &Copy<'_>) -> Result<WriteReply, StoreError> {
    let standing: Option<Option<i64>> = conn
        .prepare_cached(
            "SELECT copied FROM transcripts WHERE session_key = ?1 AND session_id = ?2 AND revision = ?3",
        )?
        .query_row([what.to_key, what.session_id, what.revision], |row| row.get(0))
        .optional()?;
    if let Some(copied) = standing {
        let taken = || StoreError::Conflict { what: "a transcript stands where the copy was to go".into() };
        return copied.map(copied_rows).ok_or_else(taken);
    }
    let source = current(conn, what.from_key)?.ok_or(StoreError::NotFound)?;
    let (first, end) = bounds(conn, what, source.transcript, source.visible)?;
    let made = create(conn, what.to_key, what.session_id, what.revision)?;
    conn.prepare_cached(
        "INSERT INTO places (transcript, raw_seq, seq, pos)
         SELECT ?1, raw_seq - ?3 + 1, CASE WHEN seq > 0 THEN count(seq) OVER (ORDER BY raw_seq) END, pos
         FROM places WHERE transcript = ?2 AND raw_seq >= ?3 AND raw_seq < ?4",
    )?
    .execute(params![made, source.transcript, first, end])?;
    if let Some(source) = source.transcript.filter(|_| what.from_key == what.to_key) {
        join_family(conn, made, source, what.branch)?;
    }
    summarize(conn, made, what.at).map(copied_rows)
}

fn copied_rows(visible: i64) -> WriteReply {
    WriteReply::Copied(visible.unsigned_abs())
}

/// The rows to copy, as a half-open range of `raw_seq`.
fn bounds(
    conn: &Connection,
    what: &Copy<'_>,
    source: Option<i64>,
    visible: i64,
) -> Result<(i64, i64), StoreError> {
    let place = |id: &str| match message(conn, what.from_key, id)? {
        Some(row) => Ok(row.raw_seq),
        None => Err(StoreError::NotFound),
    };
    match what.range {
        CopyRange::Before(id) => Ok((1, place(id)?)),
        CopyRange::From(id) => Ok((place(id)?, i64::MAX)),
        CopyRange::Last(0) => Ok((1, 1)),
        CopyRange::Last(n) if i64::from(*n) >= visible => Ok((1, i64::MAX)),
        CopyRange::Last(n) => {
            let first = conn
                .prepare_cached("SELECT raw_seq FROM places WHERE transcript = ?1 AND seq = ?2")?
                .query_row(params![source, visible - i64::from(*n) + 1], |row| row.get(0))?;
            Ok((first, i64::MAX))
        }
    }
}

/// Lists a copy with the other branches of `source`, or in its place.
fn join_family(conn: &Connection, made: i64, source: i64, beside: bool) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE transcripts SET family = (SELECT family FROM transcripts WHERE id = ?2) WHERE id = ?1",
    )?
    .execute([made, source])?;
    conn.prepare_cached("UPDATE transcripts SET listed = ?2 WHERE id = ?1")?
        .execute(params![source, beside])?;
    Ok(())
}

/// Fills in the row of a copy from its places → its visible rows.
fn summarize(conn: &Connection, made: i64, at: i64) -> Result<i64, StoreError> {
    let mut spoken = conn.prepare_cached(
        "SELECT m.kind, m.message FROM places p JOIN messages m ON m.pos = p.pos
         WHERE p.transcript = ?1 AND p.seq > 0 AND m.kind = 'user' ORDER BY p.seq",
    )?;
    let title = first(spoken.query_map([made], kind_and_message)?, |kind, message| {
        said(kind, message).filter(|_| is_title(kind, message))
    })?;
    let mut spoken = conn.prepare_cached(
        "SELECT m.kind, m.message FROM places p JOIN messages m ON m.pos = p.pos
         WHERE p.transcript = ?1 AND p.seq > 0 AND m.kind IN ('user', 'assistant') ORDER BY p.seq DESC",
    )?;
    let last_said = first(spoken.query_map([made], kind_and_message)?, said)?;
    let mut statement = conn.prepare_cached(
        "UPDATE transcripts SET (total, visible, copied, updated_at) =
             (SELECT count(*), count(p.seq), count(p.seq), coalesce(max(m.created_at), ?2)
              FROM places p JOIN messages m ON m.pos = p.pos WHERE p.transcript = ?1),
             title = ?3, last_said = ?4 WHERE id = ?1 RETURNING copied",
    )?;
    Ok(statement.query_row(params![made, at, title, last_said], |row| row.get(0))?)
}

fn kind_and_message(row: &Row<'_>) -> rusqlite::Result<(String, Value)> {
    Ok((row.get(0)?, json(row, 1)?))
}

/// The first excerpt to be had; rows after it are not read.
fn first(
    rows: impl Iterator<Item = rusqlite::Result<(String, Value)>>,
    excerpt: impl Fn(&str, &Value) -> Option<String>,
) -> Result<Option<String>, StoreError> {
    for row in rows {
        let (kind, message) = row?;
        if let Some(text) = excerpt(&kind, &message) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
