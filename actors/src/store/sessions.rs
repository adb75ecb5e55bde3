//! Session records: one row a session key, changed by partial updates, found by key, id and label.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::db::StoreError;
use super::rows::{SessionRecord, SessionUpdate, WriteReply};
use super::transcript;

/// The agent of a key that names none.
const DEFAULT_AGENT: &str = "main";

/// Sessions `s` with what their current transcripts `t` show.
macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT s.key, s.session_id, s.revision, s.agent_id, s.created_at, s.updated_at, s.status, s.label, ",
            "s.last_run_id, s.started_at, s.ended_at, s.last_interaction_at, s.entry, t.title, t.last_said ",
            "FROM sessions s LEFT JOIN transcripts t ",
            "ON t.session_key = s.key AND t.session_id = s.session_id AND t.revision = s.revision ",
            $tail
        )
    };
}

mod list;

pub(super) use list::Wanted;
pub use list::{Archived, ListFilter, SortBy, group_counts, list_sessions};

/// Applies an update, creating the record on first use (then with the session id of the update, else
/// `session_id`, else a new one).
pub(super) fn upsert(
    conn: &Connection,
    key: &str,
    update: &SessionUpdate,
    session_id: Option<&str>,
) -> Result<SessionRecord, StoreError> {
    if update.entry.as_ref().is_some_and(|patch| !patch.is_object()) {
        return Err(StoreError::Conflict { what: "an entry patch must be an object".into() });
    }
    let (mut record, before) = match session(conn, key)? {
        Some(record) => {
            // Which transcript is current may change here.
            let record = SessionRecord { title: None, last_said: None, ..record };
            (record.clone(), Some(record))
        }
        None => (created(key, update, session_id), None),
    };
    change(&mut record, update);
    if let Some(Some(label)) = &update.label
        && sessions_by_label(conn, label, Some(&record.agent_id))?.iter().any(|other| other.key != key)
    {
        return Err(StoreError::Conflict { what: format!("label already in use: {label}") });
    }
    if before.as_ref() != Some(&record) {
        put(conn, &record)?;
    }
    Ok(record)
}

/// The record after an update, made by it if there is none.
pub fn updated(record: Option<SessionRecord>, key: &str, update: &SessionUpdate) -> SessionRecord {
    let mut record = record.unwrap_or_else(|| created(key, update, None));
    change(&mut record, update);
    record
}

fn created(key: &str, update: &SessionUpdate, session_id: Option<&str>) -> SessionRecord {
    let id = update.session_id_if_new.as_deref().or(session_id).filter(|id| !id.is_empty());
    let agent = key.strip_prefix("agent:").and_then(|rest| rest.split(':').next()).filter(|a| !a.is_empty());
    SessionRecord {
        key: key.to_owned(),
        session_id: id.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
        revision: String::new(),
        agent_id: agent.unwrap_or(DEFAULT_AGENT).to_owned(),
        created_at: update.at,
        updated_at: update.at,
        status: None,
        label: None,
        last_run_id: None,
        started_at: None,
        ended_at: None,
        last_interaction_at: None,
        entry: Value::Object(Map::new()),
        title: None,
        last_said: None,
    }
}

fn change(record: &mut SessionRecord, update: &SessionUpdate) {
    fn set<T: Clone>(field: &mut T, value: &Option<T>) {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    set(&mut record.session_id, &update.session_id);
    set(&mut record.revision, &update.revision);
    set(&mut record.agent_id, &update.agent_id);
    set(&mut record.status, &update.status);
    set(&mut record.label, &update.label);
    set(&mut record.last_run_id, &update.last_run_id);
    set(&mut record.started_at, &update.started_at);
    set(&mut record.ended_at, &update.ended_at);
    record.updated_at = record.updated_at.max(update.at);
    record.last_interaction_at = record.last_interaction_at.max(update.last_interaction_at);
    if let Some(patch) = &update.entry {
        merge(&mut record.entry, patch);
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.shift_remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Stores a record; what lists ask of its entry stands in columns beside it.
fn put(conn: &Connection, record: &SessionRecord) -> Result<(), StoreError> {
    let has = |member: &str| record.entry.get(member).is_some();
    let text = |member: &str| record.entry.get(member).and_then(Value::as_str);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO sessions (key, session_id, revision, agent_id, created_at, updated_at, status, label,
             last_run_id, started_at, ended_at, last_interaction_at, entry, pinned, archived, category, spawned_by,
             display_name)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?
    .execute(params![
        record.key,
        record.session_id,
        record.revision,
        record.agent_id,
        record.created_at,
        record.updated_at,
        record.status,
        record.label,
        record.last_run_id,
        record.started_at,
        record.ended_at,
        record.last_interaction_at,
        record.entry.to_string(),
        has("pinnedAt"),
        has("archivedAt"),
        text("category"),
        text("spawnedBy").or(text("parentSessionKey")),
        text("displayName")
    ])?;
    Ok(())
}

/// One session.
///
/// # Errors
/// What SQLite says.
pub fn session(conn: &Connection, key: &str) -> Result<Option<SessionRecord>, StoreError> {
    Ok(conn.prepare_cached(select!("WHERE s.key = ?1"))?.query_row([key], session_record).optional()?)
}

/// The session with this id; the latest updated, should several have it.
///
/// # Errors
/// What SQLite says.
pub fn session_by_id(conn: &Connection, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
    let mut statement =
        conn.prepare_cached(select!("WHERE s.session_id = ?1 ORDER BY s.updated_at DESC LIMIT 1"))?;
    Ok(statement.query_row([session_id], session_record).optional()?)
}

/// The sessions with this label, of one agent or of all, the latest updated first. An agent has at most one.
///
/// # Errors
/// What SQLite says.
pub fn sessions_by_label(
    conn: &Connection,
    label: &str,
    agent: Option<&str>,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut statement = conn.prepare_cached(select!(
        "WHERE s.label = ?1 AND (?2 IS NULL OR s.agent_id = ?2) ORDER BY s.updated_at DESC"
    ))?;
    Ok(statement.query_map([Some(label), agent], session_record)?.collect::<Result<_, _>>()?)
}

/// At most `limit` sessions whose key goes on like this after a colon, the latest updated first.
///
/// # Errors
/// What SQLite says.
pub fn sessions_by_key_part(
    conn: &Connection,
    part: &str,
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut statement = conn.prepare_cached(select!(
        "WHERE s.key LIKE '%:' || ?1 || '%' ORDER BY s.updated_at DESC, s.key LIMIT ?2"
    ))?;
    Ok(statement.query_map(params![part, limit], session_record)?.collect::<Result<_, _>>()?)
}

pub(super) fn delete(conn: &Connection, key: &str, keep_transcripts: bool) -> Result<WriteReply, StoreError> {
    if !keep_transcripts {
        transcript::delete(conn, key)?;
    }
    let gone = conn.prepare_cached("DELETE FROM sessions WHERE key = ?1")?.execute([key])?;
    Ok(WriteReply::Deleted(gone > 0))
}

pub(super) fn move_category(
    conn: &Connection,
    from: &str,
    to: Option<&str>,
) -> Result<WriteReply, StoreError> {
    let sql = match to {
        Some(_) => {
            "UPDATE sessions SET category = ?2, entry = json_set(entry, '$.category', ?2)
             WHERE category = ?1 AND category <> ?2"
        }
        None => {
            "UPDATE sessions SET category = ?2, entry = json_remove(entry, '$.category') WHERE category = ?1"
        }
    };
    let moved = conn.prepare_cached(sql)?.execute(params![from, to])?;
    Ok(WriteReply::Count(moved as u64))
}

fn session_record(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        key: row.get(0)?,
        session_id: row.get(1)?,
        revision: row.get(2)?,
        agent_id: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        status: row.get(6)?,
        label: row.get(7)?,
        last_run_id: row.get(8)?,
        started_at: row.get(9)?,
        ended_at: row.get(10)?,
        last_interaction_at: row.get(11)?,
        entry: transcript::json(row, 12)?,
        title: row.get(13)?,
        last_said: row.get(14)?,
    })
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
