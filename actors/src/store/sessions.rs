//! Session records: one row a session key, changed by partial updates.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::db::StoreError;
use super::rows::{SessionRecord, SessionUpdate};
use super::transcript;

/// The agent of a key that names none.
const DEFAULT_AGENT: &str = "main";

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT key, session_id, revision, agent_id, created_at, updated_at, status, label, last_run_id, ",
            "started_at, ended_at, last_interaction_at, entry FROM sessions ",
            $tail
        )
    };
}

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
        Some(record) => (record.clone(), Some(record)),
        None => (created(key, update, session_id), None),
    };
    change(&mut record, update);
    if before.as_ref() != Some(&record) {
        put(conn, &record)?;
    }
    Ok(record)
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

fn put(conn: &Connection, record: &SessionRecord) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO sessions (key, session_id, revision, agent_id, created_at, updated_at, status, label,
             last_run_id, started_at, ended_at, last_interaction_at, entry, pinned)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
        record.entry.get("pinnedAt").is_some()
    ])?;
    Ok(())
}

/// One session.
///
/// # Errors
/// What SQLite says.
pub fn session(conn: &Connection, key: &str) -> Result<Option<SessionRecord>, StoreError> {
    Ok(conn.prepare_cached(select!("WHERE key = ?1"))?.query_row([key], session_record).optional()?)
}

/// Which sessions to list; they come pinned first (`entry.pinnedAt`), then the latest updated first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// At most this many.
    pub limit: u32,
    /// Leave out this many of the first.
    pub offset: u32,
    /// Only this agent's.
    pub agent_id: Option<String>,
    /// Only those with this in their key or label (case of ASCII letters ignored).
    pub search: Option<String>,
    /// Only those updated after this, ms.
    pub updated_after: Option<i64>,
}

impl Default for ListFilter {
    /// The first hundred of all.
    fn default() -> Self {
        Self { limit: 100, offset: 0, agent_id: None, search: None, updated_after: None }
    }
}

/// A page of the sessions, and how many match on all pages.
///
/// # Errors
/// What SQLite says.
pub fn list_sessions(
    conn: &Connection,
    filter: &ListFilter,
) -> Result<(Vec<SessionRecord>, i64), StoreError> {
    const TOTAL: &str = "SELECT count(*) FROM sessions WHERE (?1 IS NULL OR agent_id = ?1)
        AND (?2 IS NULL OR key LIKE ?2 ESCAPE '\\' OR label LIKE ?2 ESCAPE '\\') AND (?3 IS NULL OR updated_at > ?3)";
    const PAGE: &str = select!(
        "WHERE (?1 IS NULL OR agent_id = ?1)
         AND (?2 IS NULL OR key LIKE ?2 ESCAPE '\\' OR label LIKE ?2 ESCAPE '\\') AND (?3 IS NULL OR updated_at > ?3)
         ORDER BY pinned DESC, updated_at DESC, key LIMIT ?4 OFFSET ?5"
    );
    let like = filter
        .search
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(|s| format!("%{}%", s.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")));
    let (agent, after) = (&filter.agent_id, filter.updated_after);
    let total = conn.prepare_cached(TOTAL)?.query_row(params![agent, like, after], |row| row.get(0))?;
    let rows = conn
        .prepare_cached(PAGE)?
        .query_map(params![agent, like, after, filter.limit, filter.offset], session_record)?
        .collect::<Result<_, _>>()?;
    Ok((rows, total))
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
    })
}

#[cfg(test)]
mod tests {
    use super::super::db::Db;
    use super::super::rows::{WriteOp, WriteReply};
    use super::*;
    use serde_json::json;

    fn update(db: &Db, key: &str, update: SessionUpdate) -> SessionRecord {
        let op = WriteOp::UpdateSession { key: key.into(), update };
        let mut replies = db.apply_batch(&[op], &|_| {}).unwrap();
        let WriteReply::Session(record) = replies.remove(0).unwrap() else { panic!() };
        record
    }

    #[test]
    fn an_update_creates_merges_clears_and_repeats() {
        let db = Db::memory().unwrap();
        let first = SessionUpdate {
            at: 5,
            session_id_if_new: Some("s1".into()),
            label: Some(Some("Shop".into())),
            last_interaction_at: Some(5),
            entry: Some(json!({ "model": { "provider": "a", "id": "b" }, "category": "x" })),
            ..SessionUpdate::default()
        };
        let record = update(&db, "agent:ops:shop", first.clone());
        assert_eq!(
            (record.agent_id.as_str(), record.session_id.as_str(), record.created_at),
            ("ops", "s1", 5)
        );
        assert_eq!(update(&db, "agent:ops:shop", first), record);
        let second = SessionUpdate {
            at: 3,
            session_id_if_new: Some("s2".into()),
            label: Some(None),
            status: Some(Some("running".into())),
            last_interaction_at: Some(2),
            entry: Some(json!({ "model": { "id": null }, "category": null, "n": 1 })),
            ..SessionUpdate::default()
        };
        let record = update(&db, "agent:ops:shop", second);
        assert_eq!(record.entry, json!({ "model": { "provider": "a" }, "n": 1 }));
        assert_eq!((record.session_id.as_str(), record.label.as_deref()), ("s1", None));
        assert_eq!((record.created_at, record.updated_at, record.last_interaction_at), (5, 5, Some(5)));
        assert_eq!(db.read(|c| session(c, "agent:ops:shop")).unwrap(), Some(record));
    }

    #[test]
    fn an_entry_patch_that_is_no_object_is_refused() {
        let db = Db::memory().unwrap();
        let update = SessionUpdate { entry: Some(json!([1])), ..SessionUpdate::default() };
        let op = WriteOp::UpdateSession { key: "k".into(), update };
        let replies = db.apply_batch(&[op], &|_| {}).unwrap();
        assert!(matches!(replies[0], Err(StoreError::Conflict { .. })));
        assert_eq!(db.read(|c| session(c, "k")).unwrap(), None);
    }

    #[test]
    fn lists_pinned_first_then_latest_with_filters_and_pages() {
        let db = Db::memory().unwrap();
        for (at, key, label) in
            [(1, "agent:main:a", "50% off"), (2, "agent:main:b", "Beta_x"), (3, "agent:ops:c", "gamma")]
        {
            let label = Some(Some(label.to_owned()));
            update(&db, key, SessionUpdate { at, label, ..SessionUpdate::default() });
        }
        let pin = SessionUpdate { entry: Some(json!({ "pinnedAt": 9 })), ..SessionUpdate::default() };
        update(&db, "agent:main:a", pin);
        let list = |filter: ListFilter| {
            let (rows, total) = db.read(|c| list_sessions(c, &filter)).unwrap();
            (rows.into_iter().map(|r| r.key.chars().last().unwrap()).collect::<String>(), total)
        };
        let all = ListFilter::default();
        assert_eq!(list(all.clone()), ("acb".into(), 3));
        assert_eq!(list(ListFilter { limit: 1, offset: 1, ..all.clone() }), ("c".into(), 3));
        assert_eq!(list(ListFilter { agent_id: Some("main".into()), ..all.clone() }), ("ab".into(), 2));
        assert_eq!(list(ListFilter { updated_after: Some(2), ..all.clone() }), ("c".into(), 1));
        assert_eq!(list(ListFilter { search: Some("BETA_".into()), ..all.clone() }), ("b".into(), 1));
        assert_eq!(list(ListFilter { search: Some("%".into()), ..all.clone() }), ("a".into(), 1));
        assert_eq!(list(ListFilter { search: Some("ops".into()), ..all }), ("c".into(), 1));
    }
}
