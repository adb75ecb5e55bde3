//! The ledger of acts: rows in a chain of hashes, each over the one before it. What a commit does itself (runs, calls
//! of tools, decisions) is written down in that very commit; what was noted elsewhere comes with the next one.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::db::StoreError;
use super::devices::{meta, put_meta};
use super::rows::{Act, ActRow, AuditBatch, AuditKeep, PersonRow, WriteOp, WriteReply};

mod follow;

/// The ledger, and people.
pub(super) const V10: &str = "
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_run ON audit (body ->> '$.runId') WHERE body ->> '$.runId' IS NOT NULL;
CREATE TABLE people (
    id TEXT PRIMARY KEY,
    login TEXT UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO people VALUES ('gateway-owner', NULL, CAST(unixepoch('subsec') * 1000 AS INTEGER));
";

/// Where the chain begins: behind the last row that was dropped.
const ANCHOR: &str = "audit.anchor";
/// Where it ends; what is missing there is missed.
const HEAD: &str = "audit.head";
/// Rows that one commit drops.
const DROPPED: u32 = 500;

/// A place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    sequence: i64,
    hash: [u8; 32],
}

impl Place {
    const BEGINNING: Place = Place { sequence: 0, hash: [0; 32] };

    fn parse(text: &str) -> Option<Self> {
        let (sequence, hash) = text.split_once(':')?;
        Some(Self {
            sequence: sequence.parse().ok()?,
            hash: *blake3::Hash::from_hex(hash.trim()).ok()?.as_bytes(),
        })
    }

    fn text(self) -> String {
        format!("{}:{}", self.sequence, blake3::Hash::from_bytes(self.hash).to_hex())
    }

    fn stored(conn: &Connection, key: &str) -> Result<Self, StoreError> {
        Ok(meta(conn, key)?.and_then(|text| Self::parse(&text)).unwrap_or(Self::BEGINNING))
    }

    /// The next one.
    fn then(self, at: i64, body: &str) -> Self {
        let sequence = self.sequence + 1;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hash).update(&sequence.to_le_bytes()).update(&at.to_le_bytes());
        Self { sequence, hash: *hasher.update(body.as_bytes()).finalize().as_bytes() }
    }
}

/// Adds what was noted, and what the operations before this one in the same commit have done; drops what is too old or
/// too much.
pub(super) fn write<'a>(
    conn: &Connection,
    batch: &AuditBatch,
    done: impl Iterator<Item = (&'a WriteOp, &'a Result<WriteReply, StoreError>)>,
) -> Result<WriteReply, StoreError> {
    let mut acts = batch.acts.clone();
    for (op, reply) in done {
        if let Ok(reply) = reply {
            let mut told = Vec::new();
            follow::follow(conn, op, reply, batch.at, &mut told)?;
            for act in told {
                if !follow::is_told(conn, &act, &acts)? {
                    acts.push(act);
                }
            }
        }
    }
    let mut head = Place::stored(conn, HEAD)?;
    let mut insert =
        conn.prepare_cached("INSERT INTO audit (seq, at, body, hash) VALUES (?1, ?2, ?3, ?4)")?;
    for act in &acts {
        let body = serde_json::to_string(act).map_err(|e| StoreError::Sqlite(e.to_string()))?;
        head = head.then(act.at, &body);
        insert.execute(params![head.sequence, act.at, body, head.hash])?;
    }
    if !acts.is_empty() {
        put_meta(conn, HEAD, &head.text())?;
    }
    drop_old(conn, batch.keep, head)?;
    Ok(WriteReply::Count(acts.len() as u64))
}

/// Whether a commit of this operation has something to tell.
pub(super) fn tells(op: &WriteOp) -> bool {
    follow::tells(op)
}

fn drop_old(conn: &Connection, keep: AuditKeep, head: Place) -> Result<(), StoreError> {
    let anchor = Place::stored(conn, ANCHOR)?;
    let most = i64::try_from(keep.rows).unwrap_or(i64::MAX);
    let too_many = head.sequence.saturating_sub(most);
    let mut oldest = conn.prepare_cached("SELECT seq, at, hash FROM audit ORDER BY seq LIMIT ?1")?;
    let mut rows = oldest.query([DROPPED])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let place = Place { sequence: row.get(0)?, hash: row.get(2)? };
        if place.sequence > too_many && row.get::<_, i64>(1)? >= keep.since {
            break;
        }
        last = Some(place);
    }
    if let Some(last) = last.filter(|last| last.sequence > anchor.sequence) {
        conn.prepare_cached("DELETE FROM audit WHERE seq <= ?1")?.execute([last.sequence])?;
        put_meta(conn, ANCHOR, &last.text())?;
    }
    Ok(())
}

/// Which rows are asked for; what is `None` may be anything.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of these kinds.
    pub kinds: Option<Vec<String>>,
    /// That came to this.
    pub status: Option<String>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this session.
    pub session_key: Option<String>,
    /// Of this run.
    pub run_id: Option<String>,
    /// Of whoever has this id, client, user, or address.
    pub who: Option<String>,
    /// Whose action begins like this.
    pub action: Option<String>,
    /// Not before, ms.
    pub after: i64,
    /// Not after, ms.
    pub before: i64,
    /// Before this place.
    pub cursor: i64,
    /// At most so many.
    pub limit: u32,
}

/// The rows asked for, the newest first.
///
/// # Errors
/// What SQLite says.
pub fn acts(conn: &Connection, filter: &AuditFilter) -> Result<Vec<ActRow>, StoreError> {
    let kinds = filter.kinds.as_ref().map(|kinds| super::db::list(kinds));
    let mut query = conn.prepare_cached(
        "SELECT seq, at, body, hash FROM audit
         WHERE seq < ?1 AND at BETWEEN ?2 AND ?3
             AND (?4 IS NULL OR body ->> '$.kind' IN (SELECT value FROM json_each(?4)))
             AND (?5 IS NULL OR body ->> '$.status' = ?5)
             AND (?6 IS NULL OR body ->> '$.agentId' = ?6)
             AND (?7 IS NULL OR body ->> '$.sessionKey' = ?7)
             AND (?8 IS NULL OR body ->> '$.runId' = ?8)
             AND (?9 IS NULL OR ?9 IN (body ->> '$.actorId', body ->> '$.origin.client', body ->> '$.origin.user',
                 body ->> '$.origin.address', body ->> '$.agentId'))
             AND (?10 IS NULL OR substr(body ->> '$.action', 1, length(?10)) = ?10)
         ORDER BY seq DESC LIMIT ?11",
    )?;
    let rows = query.query_map(
        params![
            filter.cursor,
            filter.after,
            filter.before,
            kinds,
            filter.status,
            filter.agent_id,
            filter.session_key,
            filter.run_id,
            filter.who,
            filter.action,
            filter.limit
        ],
        read,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ActRow> {
    let body: String = row.get(2)?;
    // What was tampered with is shown as far as it can be read; `verify` names it.
    let mut act: Act = serde_json::from_str(&body).unwrap_or_default();
    act.at = row.get(1)?;
    Ok(ActRow { sequence: row.get(0)?, act, hash: row.get(3)? })
}

/// What reading the whole chain came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// How many rows were read.
    pub rows: u64,
    /// Where the chain begins.
    pub anchor: String,
    /// Where it ends.
    pub head: String,
    /// The first thing that is wrong.
    pub problem: Option<String>,
}

/// Reads the whole chain. `expected` is a head that was seen before: it must still stand there, unless it was dropped.
///
/// # Errors
/// What SQLite says.
pub fn verify_audit(conn: &Connection, expected: Option<&str>) -> Result<AuditVerdict, StoreError> {
    let (anchor, head) = (Place::stored(conn, ANCHOR)?, Place::stored(conn, HEAD)?);
    let told = |rows, problem| AuditVerdict { rows, anchor: anchor.text(), head: head.text(), problem };
    let expected = match expected.map(|text| Place::parse(text).ok_or(text)) {
        None => None,
        Some(Ok(place)) => Some(place),
        Some(Err(text)) => {
            return Ok(told(0, Some(format!("{text:?} is no SEQUENCE:HASH as it is printed here"))));
        }
    };
    let mut query = conn.prepare("SELECT seq, at, body, hash FROM audit ORDER BY seq")?;
    let mut rows = query.query([])?;
    let (mut place, mut count) = (anchor, 0);
    let mut found = expected.is_none_or(|wanted| wanted.sequence < anchor.sequence || wanted == anchor);
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let next = place.then(row.get(1)?, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
        if sequence != next.sequence {
            let missing = format!("row {} is missing: the next one is {sequence}", next.sequence);
            return Ok(told(count, Some(missing)));
        }
        if row.get::<_, [u8; 32]>(3)? != next.hash {
            let changed = format!("row {sequence}, or one before it, is not as it was written");
            return Ok(told(count, Some(changed)));
        }
        found |= expected == Some(next);
        (place, count) = (next, count + 1);
    }
    let problem = if place != head {
        Some(format!("the last row is {}, and not {}, which was written last", place.sequence, head.sequence))
    } else if !found {
        Some("the chain does not contain the head that was given: it was written anew since".to_owned())
    } else {
        None
    };
    Ok(told(count, problem))
}

pub(super) fn see_person(
    conn: &Connection,
    id: &str,
    login: &str,
    at: i64,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO people (id, login, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute(params![id, login, at])?;
    Ok(WriteReply::Done)
}

/// Everybody who was seen, in that order.
///
/// # Errors
/// What SQLite says.
pub fn people(conn: &Connection) -> Result<Vec<PersonRow>, StoreError> {
    let mut query =
        conn.prepare_cached("SELECT id, login, created_at FROM people ORDER BY created_at, id")?;
    let rows = query.query_map([], |row| {
        Ok(PersonRow { id: row.get(0)?, login: row.get(1)?, created_at: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The id of a session.
fn session_id(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let mut query = conn.prepare_cached("SELECT session_id FROM sessions WHERE key = ?1")?;
    Ok(query.query_row([key], |row| row.get(0)).optional()?)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
