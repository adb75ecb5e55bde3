//! The end of a session's transcripts.

use rusqlite::{Connection, params};

use super::StoreError;

/// Deletes the transcripts of a session, and the messages that are in no other session's.
pub(in crate::store) fn delete(conn: &Connection, key: &str) -> Result<(), StoreError> {
    let alone: Vec<i64> = conn
        .prepare_cached(
            "SELECT DISTINCT p.pos FROM transcripts t JOIN places p ON p.transcript = t.id
             WHERE t.session_key = ?1 AND NOT EXISTS (SELECT 1 FROM places o JOIN transcripts ot ON ot.id = o.transcript
                 WHERE o.pos = p.pos AND ot.session_key <> ?1)",
        )?
        .query_map([key], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    conn.prepare_cached(
        "DELETE FROM places WHERE transcript IN (SELECT id FROM transcripts WHERE session_key = ?1)",
    )?
    .execute([key])?;
    conn.prepare_cached("DELETE FROM transcripts WHERE session_key = ?1")?.execute([key])?;
    let mut text = conn.prepare_cached("DELETE FROM message_texts WHERE rowid = ?1")?;
    let mut message = conn.prepare_cached("DELETE FROM messages WHERE pos = ?1")?;
    for pos in alone {
        text.execute(params![pos])?;
        message.execute(params![pos])?;
    }
    Ok(())
}
