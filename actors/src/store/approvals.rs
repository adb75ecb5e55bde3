//! Approvals and questions: those that wait, and the last of those that are over.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{ApprovalRow, WriteReply};
use super::transcript;

/// How many of those that are over are kept.
const KEPT: u32 = 1_000;
/// For how long.
const KEPT_MS: i64 = 30 * super::usage::DAY_MS;

/// Where one that is over stands among them: when it was over, ms, and its number.
pub type Place = (i64, i64);

const COLUMNS: &str =
    "kind, id, nonce, request, requester, created_at, expires_at, outcome, resolved_at, seq";

pub(super) fn open(conn: &Connection, row: &ApprovalRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO approvals (kind, id, nonce, request, requester, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, id) DO NOTHING",
    )?
    .execute(params![
        row.kind,
        row.id,
        row.nonce,
        row.request.to_string(),
        row.requester.as_ref().map(Value::to_string),
        row.created_at,
        row.expires_at
    ])?;
    stored(conn, &row.kind, &row.id)
}

pub(super) fn close(
    conn: &Connection,
    kind: &str,
    id: &str,
    outcome: &Value,
    at: i64,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE approvals SET outcome = ?3, resolved_at = ?4 WHERE kind = ?1 AND id = ?2 AND resolved_at IS NULL",
    )?
    .execute(params![kind, id, outcome.to_string(), at])?;
    conn.prepare_cached(
        // Whatever the clock says, this one stays for now: its end is about to be told.
        "DELETE FROM approvals WHERE (kind, id) <> (?3, ?4) AND (resolved_at < ?1 OR seq IN (SELECT seq FROM approvals
             WHERE resolved_at IS NOT NULL ORDER BY resolved_at DESC, seq DESC LIMIT -1 OFFSET ?2))",
    )?
    .execute(params![at - KEPT_MS, KEPT, kind, id])?;
    stored(conn, kind, id)
}

fn stored(conn: &Connection, kind: &str, id: &str) -> Result<WriteReply, StoreError> {
    approval(conn, kind, id)?.map(WriteReply::Approval).ok_or(StoreError::NotFound)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ApprovalRow> {
    let optional = |at: usize| match row.get_ref(at)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => transcript::json(row, at).map(Some),
    };
    Ok(ApprovalRow {
        kind: row.get(0)?,
        id: row.get(1)?,
        nonce: row.get(2)?,
        request: transcript::json(row, 3)?,
        requester: optional(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        outcome: optional(7)?,
        resolved_at: row.get(8)?,
    })
}

/// One of them.
///
/// # Errors
/// What SQLite says.
pub fn approval(conn: &Connection, kind: &str, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM approvals WHERE kind = ?1 AND id = ?2");
    Ok(conn.prepare_cached(&query)?.query_row([kind, id], read).optional()?)
}

/// Those that wait, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn pending_approvals(conn: &Connection) -> Result<Vec<ApprovalRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM approvals WHERE resolved_at IS NULL ORDER BY seq");
    Ok(conn.prepare_cached(&query)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// Those that were over at `since` or later, in that order.
///
/// # Errors
/// What SQLite says.
pub fn approvals_resolved_since(conn: &Connection, since: i64) -> Result<Vec<ApprovalRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM approvals WHERE resolved_at >= ?1 ORDER BY resolved_at, seq");
    Ok(conn.prepare_cached(&query)?.query_map([since], read)?.collect::<Result<_, _>>()?)
}

/// At most `limit` of those of these kinds that are over, the latest first; those that come after a place, if one is
/// named.
///
/// # Errors
/// What SQLite says.
pub fn approval_history(
    conn: &Connection,
    kinds: &[&str],
    after: Option<Place>,
    limit: u32,
) -> Result<Vec<(Place, ApprovalRow)>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM approvals
         WHERE resolved_at IS NOT NULL AND kind IN (SELECT value FROM json_each(?1))
             AND (?2 IS NULL OR (resolved_at, seq) < (?2, ?3))
         ORDER BY resolved_at DESC, seq DESC LIMIT ?4"
    );
    let (at, seq) = after.unzip();
    let mut statement = conn.prepare_cached(&query)?;
    let placed = |row: &Row<'_>| Ok(((row.get(8)?, row.get(9)?), read(row)?));
    let rows = statement.query_map(params![serde_json::json!(kinds).to_string(), at, seq, limit], placed)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::db::Db;
    use super::super::rows::WriteOp;
    use super::*;
    use serde_json::json;

    fn row(id: &str, at: i64) -> ApprovalRow {
        let (kind, request) = ("exec".into(), json!({ "command": "ls" }));
        let (nonce, expires_at) = (format!("{id}@{at}"), at + 1000);
        ApprovalRow {
            kind,
            id: id.into(),
            nonce,
            request,
            created_at: at,
            expires_at,
            ..ApprovalRow::default()
        }
    }

    fn write(db: &Db, op: WriteOp) -> ApprovalRow {
        let mut rows = (0..2).map(|_| {
            match db.apply_batch(std::slice::from_ref(&op), &|_| {}).unwrap().remove(0).unwrap() {
                WriteReply::Approval(row) => row,
                other => panic!("{other:?}"),
            }
        });
        let first = rows.next().unwrap();
        assert_eq!(rows.next().as_ref(), Some(&first), "the second time changes nothing");
        first
    }

    fn close(db: &Db, id: &str, word: &str, at: i64) -> ApprovalRow {
        let outcome = json!({ "decision": word });
        write(db, WriteOp::CloseApproval { kind: "exec".into(), id: id.into(), outcome, at })
    }

    #[test]
    fn the_first_request_and_the_first_decision_stay() {
        let db = Db::memory().unwrap();
        let first = row("a", 1);
        assert_eq!(write(&db, WriteOp::OpenApproval(first.clone())), first);
        assert_eq!(write(&db, WriteOp::OpenApproval(row("a", 2))), first);
        assert_eq!(db.read(pending_approvals).unwrap(), std::slice::from_ref(&first));
        let closed = close(&db, "a", "deny", 5);
        assert_eq!((&closed.outcome, closed.resolved_at), (&Some(json!({ "decision": "deny" })), Some(5)));
        assert_eq!(close(&db, "a", "allow-once", 6), closed);
        assert_eq!(db.read(pending_approvals).unwrap(), []);
        assert_eq!(db.read(|c| approval(c, "exec", "a")).unwrap(), Some(closed.clone()));
        assert_eq!(db.read(|c| approval(c, "plugin", "a")).unwrap(), None);
        assert_eq!(db.read(|c| approvals_resolved_since(c, 5)).unwrap(), [closed]);
        assert_eq!(db.read(|c| approvals_resolved_since(c, 6)).unwrap(), []);
        let nobody =
            WriteOp::CloseApproval { kind: "exec".into(), id: "b".into(), outcome: json!({}), at: 1 };
        assert_eq!(db.apply_batch(&[nobody], &|_| {}).unwrap(), [Err(StoreError::NotFound)]);
    }

    #[test]
    fn history_is_read_by_pages_and_cut() {
        let db = Db::memory().unwrap();
        let open: Vec<_> = (0..1_003).map(|n| WriteOp::OpenApproval(row(&format!("a{n}"), 0))).collect();
        db.apply_batch(&open, &|_| {}).unwrap();
        for n in 0..3 {
            close(&db, &format!("a{n}"), "deny", 10 + n / 2);
        }
        let page = |after, limit| {
            let rows = db.read(|c| approval_history(c, &["exec", "plugin"], after, limit)).unwrap();
            let last = rows.last().map(|(place, _)| *place);
            (rows.into_iter().map(|(_, row)| row.id).collect::<Vec<_>>(), last)
        };
        let (ids, last) = page(None, 2);
        assert_eq!(ids, ["a2", "a1"]);
        assert_eq!(page(last, 2).0, ["a0"]);
        assert_eq!(db.read(|c| approval_history(c, &["plugin"], None, 9)).unwrap(), []);
        // Only so many are kept …
        for n in 3..1_003 {
            close(&db, &format!("a{n}"), "deny", 20);
        }
        assert_eq!(page(None, 5_000).0.len(), KEPT as usize);
        assert_eq!(db.read(|c| approval(c, "exec", "a0")).unwrap(), None);
        // … and what is over now is among them, whatever the clock says …
        write(&db, WriteOp::OpenApproval(row("early", 0)));
        assert_eq!(close(&db, "early", "deny", 1).resolved_at, Some(1));
        // … and only for so long.
        write(&db, WriteOp::OpenApproval(row("late", 0)));
        close(&db, "late", "deny", 21 + KEPT_MS);
        assert_eq!(page(None, 5_000).0, ["late"]);
    }
}
