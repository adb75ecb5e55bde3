//! Inputs: dedupe, idempotency, backlog and resume in one table. The row is the truth about what was asked.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde_json::Value;
use std::collections::BTreeSet;

use super::cron::EventRow;
use super::db::{StoreError, list};
use super::rows::{
    DeliveryRow, InputRow, InputState, MessageRow, NewInput, NewMessage, SessionUpdate, WriteReply,
};
use super::{channels, cron, drafts, sessions, transcript};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT seq, id, source, source_id, session_key, run_id, kind, text, digest, body, created_at, ",
            "state, attempts, outcome, started_at, settled_at, turn, priority FROM inputs ",
            $tail
        )
    };
}

/// The one outcome of an input.
pub(super) struct Outcome<'a> {
    pub turn: &'a str,
    pub inputs: &'a [String],
    pub released: &'a [String],
    pub state: InputState,
    pub outcome: &'a Value,
    pub messages: &'a [NewMessage],
    pub deliveries: &'a [DeliveryRow],
    pub events: &'a [EventRow],
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
        let message = here.map(|m| transcript::find(conn, m)).transpose()?.flatten();
        return Ok(WriteReply::Accepted { row, fresh: false, message });
    }
    let row = insert(conn, input, begin)?;
    channels::forget_overheard(conn, &input.body)?;
    let update =
        SessionUpdate { at: if session.at == 0 { input.created_at } else { session.at }, ..session.clone() };
    sessions::upsert(conn, &input.session_key, &update, user_message.map(|m| m.session_id.as_str()))?;
    let message = user_message.map(|m| append_message(conn, m)).transpose()?;
    Ok(WriteReply::Accepted { row, fresh: true, message })
}

fn insert(conn: &Connection, input: &NewInput, begin: bool) -> Result<InputRow, StoreError> {
    let (state, attempts) = if begin { (InputState::Running, 1) } else { (InputState::Queued, 0) };
    let started_at = begin.then_some(input.created_at);
    let mut statement = conn.prepare_cached(
        "INSERT INTO inputs (id, source, source_id, session_key, run_id, kind, text, digest, body, created_at,
             state, attempts, started_at, turn, priority)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    let turn = begin.then(|| input.run_id.clone());
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
        started_at,
        turn,
        i.priority
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
        priority: i.priority,
        turn,
        state,
        attempts,
        outcome: None,
        started_at,
        settled_at: None,
    })
}

pub(super) fn begin(
    conn: &Connection,
    turn: &str,
    inputs: &[(String, u32)],
    messages: &[NewMessage],
    at: i64,
) -> Result<WriteReply, StoreError> {
    let answers = transcript::messages_by_run(conn, turn)?;
    let mut rows = Vec::with_capacity(inputs.len());
    for (input_id, attempt) in inputs {
        conn.prepare_cached(
            "UPDATE inputs SET state = 'running', attempts = ?2, started_at = coalesce(started_at, ?3), turn = ?4
             WHERE id = ?1 AND attempts < ?2 AND settled_at IS NULL",
        )?
        .execute(params![input_id, attempt, at, turn])?;
        rows.push(input_by_id(conn, input_id)?.ok_or(StoreError::NotFound)?);
    }
    if let Some(row) = rows.first() {
        let update = SessionUpdate { at, ..SessionUpdate::default() };
        let first = messages.first().map(|m| m.session_id.as_str());
        sessions::upsert(conn, &row.session_key, &update, first)?;
    }
    // What is over is not asked again.
    let over = !rows.is_empty() && rows.iter().all(|row| row.state.is_final());
    let messages = if over { &[] } else { messages };
    Ok(WriteReply::Began {
        rows,
        messages: messages.iter().map(|m| append_message(conn, m)).collect::<Result<_, _>>()?,
        answers: answers.into_iter().filter(|row| row.kind != "user").collect(),
    })
}

pub(super) fn begin_call(conn: &Connection, turn: &str, call_id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("INSERT OR IGNORE INTO begun_calls (turn, call_id) VALUES (?1, ?2)")?
        .execute([turn, call_id])?;
    Ok(WriteReply::Done)
}

/// The calls of tools with outside effects that a turn has begun.
///
/// # Errors
/// What SQLite says.
pub fn begun_calls(conn: &Connection, turn: &str) -> Result<BTreeSet<String>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT call_id FROM begun_calls WHERE turn = ?1")?;
    Ok(statement.query_map([turn], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

pub(super) fn settle(
    conn: &Connection,
    what: &Outcome<'_>,
    session: &Option<SessionUpdate>,
) -> Result<WriteReply, StoreError> {
    if !what.state.is_final() {
        return Err(StoreError::Conflict { what: format!("{} is not a final state", what.state.as_str()) });
    }
    let (mut rows, mut fresh) = (Vec::with_capacity(what.inputs.len()), false);
    for input_id in what.inputs {
        fresh |= conn
            .prepare_cached(
                "UPDATE inputs SET state = ?2, outcome = ?3, settled_at = ?4, turn = ?5
                 WHERE id = ?1 AND settled_at IS NULL",
            )?
            .execute(params![input_id, what.state.as_str(), what.outcome.to_string(), what.at, what.turn])?
            > 0;
        rows.push(input_by_id(conn, input_id)?.ok_or(StoreError::NotFound)?);
    }
    for input_id in what.released {
        conn.prepare_cached(
            "UPDATE inputs SET state = 'queued', turn = NULL, 
                 body = json_set(body, '$.detached', json('true'), '$.asked', json('true'))
             WHERE id = ?1 AND settled_at IS NULL",
        )?
        .execute([input_id])?;
    }
    conn.prepare_cached("DELETE FROM begun_calls WHERE turn = ?1")?.execute([what.turn])?;
    let key = rows.first().map_or("", |row| row.session_key.as_str());
    if fresh && (session.is_some() || !what.messages.is_empty()) {
        let update = session.clone().unwrap_or(SessionUpdate { at: what.at, ..SessionUpdate::default() });
        let first = what.messages.first().map(|m| m.session_id.as_str());
        sessions::upsert(conn, key, &update, first)?;
    }
    let mut messages = Vec::with_capacity(what.messages.len());
    for message in what.messages {
        let stored =
            if fresh { Some(append_message(conn, message)?) } else { transcript::find(conn, message)? };
        messages.extend(stored);
    }
    if fresh {
        channels::queue(conn, what.deliveries)?;
        what.events.iter().try_for_each(|event| cron::tell(conn, event).map(drop))?;
        drafts::end(conn, what.turn)?;
    }
    Ok(WriteReply::Settled { rows, messages })
}

fn append_message(conn: &Connection, message: &NewMessage) -> Result<MessageRow, StoreError> {
    transcript::append(conn, message).map(|(row, _)| row)
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
    match one(conn, select!("WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1"), [run_id])? {
        Some(row) => Ok(Some(row)),
        None => one(conn, select!("WHERE turn = ?1 ORDER BY seq LIMIT 1"), [run_id]),
    }
}

/// The inputs that the turn of a run answers, oldest first.
///
/// # Errors
/// What SQLite says.
pub fn inputs_of_turn(conn: &Connection, turn: &str) -> Result<Vec<InputRow>, StoreError> {
    let mut statement = conn.prepare_cached(select!("WHERE turn = ?1 ORDER BY seq"))?;
    Ok(statement.query_map([turn], input_row)?.collect::<Result<_, _>>()?)
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

/// When the first input came that this database knows, ms.
///
/// # Errors
/// What SQLite says.
pub fn first_input_at(conn: &Connection) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT created_at FROM inputs ORDER BY seq LIMIT 1")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?)
}

/// What became of something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its run.
    pub run_id: String,
    /// The row of the current transcript it became or became a part of; `None` while it waits.
    pub message_id: Option<String>,
}

/// What became of inputs of a session, by their runs; nothing of those that are unknown, or over without a row.
///
/// # Errors
/// What SQLite says.
pub fn receipts(conn: &Connection, key: &str, run_ids: &[String]) -> Result<Vec<Receipt>, StoreError> {
    let mut statement = conn.prepare_cached(
        "WITH here (id) AS (SELECT t.id FROM sessions s JOIN transcripts t
             ON t.session_key = s.key AND t.session_id = s.session_id AND t.revision = s.revision WHERE s.key = ?1)
         SELECT i.run_id, i.settled_at IS NULL, coalesce(
             (SELECT m.id FROM messages m JOIN places p ON p.pos = m.pos JOIN here ON here.id = p.transcript
              WHERE m.idempotency_key = i.run_id || ':user'),
             (SELECT m.id FROM messages m JOIN places p ON p.pos = m.pos JOIN here ON here.id = p.transcript
              WHERE m.run_id = i.turn AND m.kind = 'user' ORDER BY m.pos LIMIT 1))
         FROM inputs i WHERE i.run_id IN (SELECT value FROM json_each(?2)) AND i.session_key = ?1
         ORDER BY i.run_id, i.seq DESC",
    )?;
    let receipt = |row: &Row<'_>| {
        Ok((row.get::<_, bool>(1)?, Receipt { run_id: row.get(0)?, message_id: row.get(2)? }))
    };
    let found = statement.query_map(params![key, list(run_ids)], receipt)?;
    let mut found = found.collect::<Result<Vec<_>, _>>()?;
    // The latest, should sources have chosen the same run id.
    found.dedup_by(|(_, later), (_, first)| later.run_id == first.run_id);
    let told = |(waits, receipt): (bool, Receipt)| (waits || receipt.message_id.is_some()).then_some(receipt);
    Ok(found.into_iter().filter_map(told).collect())
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
        outcome: row.get::<_, Option<String>>(13)?.map(|_| transcript::json(row, 13)).transpose()?,
        started_at: row.get(14)?,
        settled_at: row.get(15)?,
        turn: row.get(16)?,
        priority: row.get(17)?,
    })
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
