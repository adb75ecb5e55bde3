//! Inputs: dedupe, idempotency, backlog and resume in one table. The row is the truth about what was asked.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{InputRow, InputState, MessageRow, NewInput, NewMessage, SessionUpdate, WriteReply};
use super::{sessions, transcript};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT seq, id, source, source_id, session_key, run_id, kind, text, digest, body, created_at, ",
            "state, attempts, external_effects, outcome, started_at, settled_at FROM inputs ",
            $tail
        )
    };
}

/// The one outcome of an input.
pub(super) struct Outcome<'a> {
    pub input_id: &'a str,
    pub state: InputState,
    pub outcome: &'a Value,
    pub messages: &'a [NewMessage],
    pub at: i64,
}

pub(super) fn accept(
    conn: &Connection,
    input: &NewInput,
    begin: bool,
    user_message: Option<&NewMessage>,
    session: &SessionUpdate,
) -> Result<WriteReply, StoreError> {
    if let Some(row) = input_by_source(conn, &input.source, &input.source_id)? {
        // A key that was used in another session has no message in this one.
        let here = user_message.filter(|_| row.session_key == input.session_key);
        let message = find_message(conn, here)?;
        return Ok(WriteReply::Accepted { row, fresh: false, message });
    }
    let row = insert(conn, input, begin)?;
    let update =
        SessionUpdate { at: if session.at == 0 { input.created_at } else { session.at }, ..session.clone() };
    sessions::upsert(conn, &input.session_key, &update, user_message.map(|m| m.session_id.as_str()))?;
    let message = append_message(conn, user_message)?;
    Ok(WriteReply::Accepted { row, fresh: true, message })
}

fn insert(conn: &Connection, input: &NewInput, begin: bool) -> Result<InputRow, StoreError> {
    let (state, attempts) = if begin { (InputState::Running, 1) } else { (InputState::Queued, 0) };
    let started_at = begin.then_some(input.created_at);
    let mut statement = conn.prepare_cached(
        "INSERT INTO inputs (id, source, source_id, session_key, run_id, kind, text, digest, body, created_at,
             state, attempts, started_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let i = input.clone();
    let seq = statement.insert(params![
        i.id,
        i.source,
        i.source_id,
        i.session_key,
        i.run_id,
        i.kind,
        i.text,
        i.digest,
        i.body.to_string(),
        i.created_at,
        state.as_str(),
        attempts,
        started_at
    ])?;
    Ok(InputRow {
        seq,
        id: i.id,
        source: i.source,
        source_id: i.source_id,
        session_key: i.session_key,
        run_id: i.run_id,
        kind: i.kind,
        text: i.text,
        digest: i.digest,
        body: i.body,
        created_at: i.created_at,
        state,
        attempts,
        external_effects: false,
        outcome: None,
        started_at,
        settled_at: None,
    })
}

pub(super) fn begin(
    conn: &Connection,
    input_id: &str,
    attempt: u32,
    user_message: Option<&NewMessage>,
    at: i64,
) -> Result<WriteReply, StoreError> {
    let fresh = conn
        .prepare_cached(
            "UPDATE inputs SET state = 'running', attempts = ?2, started_at = coalesce(started_at, ?3)
             WHERE id = ?1 AND attempts < ?2 AND settled_at IS NULL",
        )?
        .execute(params![input_id, attempt, at])?
        > 0;
    let row = input_by_id(conn, input_id)?.ok_or(StoreError::NotFound)?;
    let message = if fresh {
        let update = SessionUpdate { at, ..SessionUpdate::default() };
        sessions::upsert(conn, &row.session_key, &update, user_message.map(|m| m.session_id.as_str()))?;
        append_message(conn, user_message)?
    } else {
        find_message(conn, user_message)?
    };
    Ok(WriteReply::Began { row, message })
}

pub(super) fn mark_external(conn: &Connection, input_id: &str) -> Result<WriteReply, StoreError> {
    let found =
        conn.prepare_cached("UPDATE inputs SET external_effects = 1 WHERE id = ?1")?.execute([input_id])?;
    if found == 0 { Err(StoreError::NotFound) } else { Ok(WriteReply::Done) }
}

pub(super) fn settle(
    conn: &Connection,
    what: &Outcome<'_>,
    session: &Option<SessionUpdate>,
) -> Result<WriteReply, StoreError> {
    if !what.state.is_final() {
        return Err(StoreError::Conflict { what: format!("{} is not a final state", what.state.as_str()) });
    }
    let fresh = conn
        .prepare_cached(
            "UPDATE inputs SET state = ?2, outcome = ?3, settled_at = ?4 WHERE id = ?1 AND settled_at IS NULL",
        )?
        .execute(params![what.input_id, what.state.as_str(), what.outcome.to_string(), what.at])?
        > 0;
    let row = input_by_id(conn, what.input_id)?.ok_or(StoreError::NotFound)?;
    let mut messages = Vec::with_capacity(what.messages.len());
    if fresh && (session.is_some() || !what.messages.is_empty()) {
        let update = session.clone().unwrap_or(SessionUpdate { at: what.at, ..SessionUpdate::default() });
        let first = what.messages.first().map(|m| m.session_id.as_str());
        sessions::upsert(conn, &row.session_key, &update, first)?;
    }
    for message in what.messages {
        let stored =
            if fresh { append_message(conn, Some(message))? } else { find_message(conn, Some(message))? };
        messages.extend(stored);
    }
    Ok(WriteReply::Settled { row, fresh, messages })
}

fn append_message(conn: &Connection, message: Option<&NewMessage>) -> Result<Option<MessageRow>, StoreError> {
    message.map(|m| transcript::append(conn, m).map(|(row, _)| row)).transpose()
}

fn find_message(conn: &Connection, message: Option<&NewMessage>) -> Result<Option<MessageRow>, StoreError> {
    Ok(message.map(|m| transcript::find(conn, m)).transpose()?.flatten())
}

/// The queued and running inputs of a session, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn backlog(conn: &Connection, key: &str) -> Result<Vec<InputRow>, StoreError> {
    let mut statement =
        conn.prepare_cached(select!("WHERE session_key = ?1 AND settled_at IS NULL ORDER BY seq"))?;
    Ok(statement.query_map([key], input_row)?.collect::<Result<_, _>>()?)
}

/// The sessions that have a backlog.
///
/// # Errors
/// What SQLite says.
pub fn keys_with_backlog(conn: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT session_key FROM inputs WHERE settled_at IS NULL ORDER BY session_key",
    )?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// The input a run answers; the latest, should sources have chosen the same run id.
///
/// # Errors
/// What SQLite says.
pub fn input_by_run(conn: &Connection, run_id: &str) -> Result<Option<InputRow>, StoreError> {
    one(conn, select!("WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1"), [run_id])
}

/// The input submitted under an idempotency key.
///
/// # Errors
/// What SQLite says.
pub fn input_by_source(
    conn: &Connection,
    source: &str,
    source_id: &str,
) -> Result<Option<InputRow>, StoreError> {
    one(conn, select!("WHERE source = ?1 AND source_id = ?2"), [source, source_id])
}

/// The input with this row id.
///
/// # Errors
/// What SQLite says.
pub fn input_by_id(conn: &Connection, id: &str) -> Result<Option<InputRow>, StoreError> {
    one(conn, select!("WHERE id = ?1"), [id])
}

fn one(conn: &Connection, sql: &str, params: impl Params) -> Result<Option<InputRow>, StoreError> {
    Ok(conn.prepare_cached(sql)?.query_row(params, input_row).optional()?)
}

/// Figures for health and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions stored.
    pub sessions: i64,
    /// Inputs without an attempt.
    pub queued: i64,
    /// Inputs with an attempt and no outcome.
    pub running: i64,
    /// Inputs given up.
    pub dead: i64,
}

/// Counts what operators look at.
///
/// # Errors
/// What SQLite says.
pub fn counts(conn: &Connection) -> Result<Counts, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT (SELECT count(*) FROM sessions),
                (SELECT count(*) FROM inputs WHERE settled_at IS NULL AND state = 'queued'),
                (SELECT count(*) FROM inputs WHERE settled_at IS NULL AND state = 'running'),
                (SELECT count(*) FROM inputs WHERE state = 'dead')",
    )?;
    let counts = |row: &Row<'_>| {
        Ok(Counts { sessions: row.get(0)?, queued: row.get(1)?, running: row.get(2)?, dead: row.get(3)? })
    };
    Ok(statement.query_row([], counts)?)
}

fn input_row(row: &Row<'_>) -> rusqlite::Result<InputRow> {
    let state: String = row.get(11)?;
    let state = InputState::parse(&state)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(11, "state".into(), rusqlite::types::Type::Text))?;
    Ok(InputRow {
        seq: row.get(0)?,
        id: row.get(1)?,
        source: row.get(2)?,
        source_id: row.get(3)?,
        session_key: row.get(4)?,
        run_id: row.get(5)?,
        kind: row.get(6)?,
        text: row.get(7)?,
        digest: row.get(8)?,
        body: transcript::json(row, 9)?,
        created_at: row.get(10)?,
        state,
        attempts: row.get(12)?,
        external_effects: row.get(13)?,
        outcome: row.get::<_, Option<String>>(14)?.map(|_| transcript::json(row, 14)).transpose()?,
        started_at: row.get(15)?,
        settled_at: row.get(16)?,
    })
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
