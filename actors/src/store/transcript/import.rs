//! Transcripts that were written elsewhere. Their rows come in order, so many in a commit; after a kill they come again
//! from the first, and those that stand there already change nothing.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{count, create, index, insert};
use crate::store::db::{Db, StoreError};
use crate::store::rows::NewMessage;

/// Which transcript rows are for; its session need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// Canonical session key.
    pub key: String,
    /// Its session id.
    pub session_id: String,
    /// Its lifecycle revision.
    pub revision: String,
}

impl Shelf {
    fn find(&self, conn: &Connection) -> Result<Option<i64>, StoreError> {
        let mut statement = conn.prepare_cached(
            "SELECT id FROM transcripts WHERE session_key = ?1 AND session_id = ?2 AND revision = ?3",
        )?;
        Ok(statement.query_row([&self.key, &self.session_id, &self.revision], |row| row.get(0)).optional()?)
    }
}

/// Adds rows to a transcript, in one commit: how many were not there. A message that stands in another transcript
/// keeps its row and gets a place here.
///
/// # Errors
/// Nothing of it is stored.
pub fn import_rows(db: &Db, shelf: &Shelf, rows: &[NewMessage]) -> Result<u64, StoreError> {
    db.write(|conn| {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let transcript = match shelf.find(&tx)? {
            Some(id) => id,
            None => create(&tx, &shelf.key, &shelf.session_id, &shelf.revision)?,
        };
        let mut fresh = 0;
        for row in rows {
            fresh += u64::from(place(&tx, transcript, row)?);
        }
        tx.commit()?;
        Ok(fresh)
    })
}

/// Lists a transcript among the branches of another one of its session.
///
/// # Errors
/// `NotFound` unless both are there.
pub fn import_branch(db: &Db, branch: &Shelf, of: &Shelf) -> Result<(), StoreError> {
    db.write(|conn| {
        let (Some(branch), Some(of)) = (branch.find(conn)?, of.find(conn)?) else {
            return Err(StoreError::NotFound);
        };
        conn.execute(
            "UPDATE transcripts SET family = (SELECT family FROM transcripts WHERE id = ?2) WHERE id = ?1",
            [branch, of],
        )?;
        Ok(())
    })
}

fn place(conn: &Connection, transcript: i64, row: &NewMessage) -> Result<bool, StoreError> {
    let known: Option<i64> = conn
        .prepare_cached("SELECT pos FROM messages WHERE id = ?1")?
        .query_row([&row.id], |row| row.get(0))
        .optional()?;
    let stands = |pos: i64| {
        let mut statement =
            conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM places WHERE pos = ?1 AND transcript = ?2)")?;
        statement.query_row([pos, transcript], |row| row.get::<_, bool>(0))
    };
    if known.map(stands).transpose()? == Some(true) {
        return Ok(false);
    }
    let (visible, raw_seq) = count(conn, transcript, row)?;
    let pos = match known {
        Some(pos) => pos,
        None => {
            let pos = insert(conn, row)?;
            index(conn, pos, row)?;
            pos
        }
    };
    conn.prepare_cached("INSERT INTO places (transcript, raw_seq, seq, pos) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![transcript, raw_seq, (!row.hidden).then_some(visible), pos])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SessionUpdate, WriteOp, branches, history_after, session};
    use serde_json::json;

    fn shelf(key: &str, id: &str) -> Shelf {
        Shelf { key: key.into(), session_id: id.into(), revision: String::new() }
    }

    fn said(id: &str, key: &str) -> NewMessage {
        NewMessage {
            id: id.into(),
            session_key: key.into(),
            session_id: String::new(),
            parent: None,
            kind: "user".into(),
            idempotency_key: None,
            run_id: None,
            hidden: false,
            message: json!({ "role": "user", "content": id }),
            created_at: 5,
        }
    }

    #[test]
    fn rows_that_come_again_change_nothing_and_the_rest_follows_them() {
        let db = Db::memory().unwrap();
        let (key, to) = ("agent:main:main", shelf("agent:main:main", "s"));
        assert_eq!(import_rows(&db, &to, &[said("a", key), said("b", key)]).unwrap(), 2);
        assert_eq!(import_rows(&db, &to, &[said("a", key), said("b", key), said("c", key)]).unwrap(), 1);
        let update = SessionUpdate { at: 1, session_id_if_new: Some("s".into()), ..SessionUpdate::default() };
        db.apply_batch(&[WriteOp::UpdateSession { key: key.into(), update }], &|_| {}).unwrap();
        let rows = db.read(|c| history_after(c, key, 0, 10)).unwrap();
        let ids: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.seq)).collect();
        assert_eq!(ids, [("a", Some(1)), ("b", Some(2)), ("c", Some(3))]);
        assert_eq!(db.read(|c| session(c, key)).unwrap().unwrap().title.as_deref(), Some("a"));
    }

    #[test]
    fn a_branch_shares_its_messages_and_is_listed() {
        let db = Db::memory().unwrap();
        let key = "agent:main:main";
        let (main, branch) = (shelf(key, "s"), shelf(key, "t"));
        import_rows(&db, &main, &[said("a", key), said("b", key)]).unwrap();
        assert_eq!(import_rows(&db, &branch, &[said("a", key), said("x", key)]).unwrap(), 2);
        assert_eq!(import_branch(&db, &branch, &shelf(key, "none")), Err(StoreError::NotFound));
        import_branch(&db, &branch, &main).unwrap();
        let update = SessionUpdate { at: 1, session_id_if_new: Some("s".into()), ..SessionUpdate::default() };
        db.apply_batch(&[WriteOp::UpdateSession { key: key.into(), update }], &|_| {}).unwrap();
        let all = db.read(|c| branches(c, key)).unwrap();
        let leaves: Vec<_> = all.iter().map(|b| (b.leaf_id.as_str(), b.active, b.message_count)).collect();
        assert_eq!(leaves, [("b", true, 2), ("x", false, 2)]);
    }
}
