//! The tables, and how an older file becomes a current one: numbered, forward only, one transaction a step, a
//! copy of the file kept before the first step taken on a file that already holds something.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::db::{StoreError, Sync, private_file};

/// One step: the version it leads to is its position in [`MIGRATIONS`], from 1.
pub(super) type Migration = &'static str;

/// Every step ever shipped; only ever appended to.
pub(super) const MIGRATIONS: &[Migration] = &[V1, V2];

/// How long a connection waits for a lock. Only a reader meeting a checkpoint ever waits: there is one writer.
const BUSY_TIMEOUT_MS: u32 = 5_000;
/// Page cache of one connection; three connections keep the store within a few MiB.
const CACHE_KIB: i64 = 512;
/// The write-ahead log is cut back to this after a checkpoint, bytes.
const WAL_LIMIT: i64 = 8 << 20;
/// Statements kept prepared per connection: more than this folder has.
const STATEMENTS: usize = 64;

const V1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE inputs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    session_key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    digest TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'settled', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    external_effects INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    started_at INTEGER,
    settled_at INTEGER,
    UNIQUE (source, source_id),
    CHECK ((state IN ('settled', 'dead')) = (settled_at IS NOT NULL)),
    CHECK ((outcome IS NULL) = (settled_at IS NULL))
) STRICT;
CREATE INDEX inputs_backlog ON inputs (session_key, seq) WHERE settled_at IS NULL;
CREATE INDEX inputs_run ON inputs (run_id);
CREATE INDEX inputs_dead ON inputs (seq) WHERE state = 'dead';

CREATE TABLE sessions (
    key TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    revision TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    status TEXT,
    label TEXT,
    last_run_id TEXT,
    started_at INTEGER,
    ended_at INTEGER,
    last_interaction_at INTEGER,
    entry TEXT NOT NULL,
    pinned INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_order ON sessions (pinned DESC, updated_at DESC, key);
CREATE INDEX sessions_updated ON sessions (updated_at);

CREATE TABLE transcripts (
    id INTEGER PRIMARY KEY,
    session_key TEXT NOT NULL,
    session_id TEXT NOT NULL,
    revision TEXT NOT NULL,
    visible INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session_key, session_id, revision)
) STRICT;

CREATE TABLE messages (
    pos INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    transcript INTEGER NOT NULL REFERENCES transcripts (id),
    raw_seq INTEGER NOT NULL,
    seq INTEGER,
    parent TEXT,
    kind TEXT NOT NULL,
    idempotency_key TEXT,
    run_id TEXT,
    message TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (transcript, raw_seq)
) STRICT;
CREATE UNIQUE INDEX messages_visible ON messages (transcript, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX messages_key ON messages (transcript, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX messages_run ON messages (run_id) WHERE run_id IS NOT NULL;
CREATE VIRTUAL TABLE message_texts USING fts5 (
    text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

CREATE TABLE devices (
    device_id TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    display_name TEXT,
    platform TEXT,
    device_family TEXT,
    client_id TEXT,
    client_mode TEXT,
    roles TEXT NOT NULL,
    scopes TEXT NOT NULL,
    approved_via TEXT,
    created_at INTEGER NOT NULL,
    approved_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    last_seen_reason TEXT,
    remote_ip TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
    device_id TEXT NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    scopes TEXT NOT NULL,
    rotation INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    rotated_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (device_id, role)
) STRICT, WITHOUT ROWID;
";

/// Several inputs may be answered by one turn, and a backlog has an order of its own.
const V2: &str = "
ALTER TABLE inputs ADD COLUMN turn TEXT;
ALTER TABLE inputs ADD COLUMN priority INTEGER NOT NULL DEFAULT 1;
UPDATE inputs SET turn = run_id WHERE attempts > 0;
CREATE INDEX inputs_turn ON inputs (turn) WHERE turn IS NOT NULL;
";

/// Sets what holds for one connection and is not stored in the file.
pub(super) fn configure(conn: &Connection, sync: Sync) -> Result<(), StoreError> {
    conn.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS.into()))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
    let word = match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", word)?;
    // macOS only: there, a plain fsync does not reach the medium.
    conn.pragma_update(None, "fullfsync", sync == Sync::Full)?;
    Ok(())
}

/// The version of an open file: 0 for a new one.
pub(super) fn version(conn: &Connection) -> Result<u32, StoreError> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// The version of an open file and the newest of `steps`, or `NewerSchema`.
pub(super) fn refuse_newer(conn: &Connection, steps: &[Migration]) -> Result<(u32, u32), StoreError> {
    let (found, known) = (version(conn)?, u32::try_from(steps.len()).unwrap_or(u32::MAX));
    if found > known { Err(StoreError::NewerSchema { found, known }) } else { Ok((found, known)) }
}

/// Brings a file to the newest of `steps`; `path` is where the copy goes (`None`: keep none).
///
/// # Errors
/// `NewerSchema` if the file is ahead of `steps`; anything SQLite says, in which case the file stands at the
/// last step that succeeded.
pub(super) fn migrate(
    conn: &mut Connection,
    path: Option<&Path>,
    steps: &[Migration],
) -> Result<(), StoreError> {
    let (found, known) = refuse_newer(conn, steps)?;
    if let Some(path) = path
        && found < known
        && !is_empty(conn)?
    {
        keep_copy(conn, path, found + 1)?;
    }
    for (number, step) in (1u32..).zip(steps).skip(found as usize) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", number)?;
        tx.commit()?;
        tracing::info!(version = number, "store schema migrated");
    }
    Ok(())
}

fn is_empty(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?)
}

/// Copies the open database to `<path>.before-v<version>`, whole or not at all.
fn keep_copy(conn: &Connection, path: &Path, version: u32) -> Result<(), StoreError> {
    let kept = suffixed(path, &format!(".before-v{version}"));
    let part = suffixed(&kept, ".part");
    let failed =
        |e: std::io::Error| StoreError::Unavailable(format!("cannot keep a copy before migrating: {e}"));
    match fs::remove_file(&part) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    private_file(&part).map_err(failed)?;
    conn.backup("main", &part, None)?;
    fs::rename(&part, &kept).map_err(failed)
}

/// `path` with `suffix` appended to its file name.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::super::db::{Db, Sync, tests::scratch};
    use super::*;

    #[test]
    fn an_older_file_is_copied_and_migrated() {
        let path = scratch("older");
        private_file(&path).unwrap();
        let old = Connection::open(&path).unwrap();
        old.execute_batch("CREATE TABLE early (x TEXT); INSERT INTO early VALUES ('kept')").unwrap();
        drop(old);

        let db = Db::open(&path, Sync::Full).unwrap();
        assert_eq!(db.damage(), None);
        assert_eq!(db.read(version).unwrap() as usize, MIGRATIONS.len());
        let kept = suffixed(&path, ".before-v1");
        assert!(kept.exists() && !suffixed(&kept, ".part").exists());
        let copy = Connection::open(&kept).unwrap();
        assert_eq!(version(&copy).unwrap(), 0);
        let word: String = copy.query_row("SELECT x FROM early", [], |r| r.get(0)).unwrap();
        assert_eq!(word, "kept");
        assert!(copy.prepare("SELECT * FROM inputs").is_err());
    }

    #[test]
    fn steps_run_once_each_and_a_failing_one_leaves_the_last_good() {
        let path = scratch("steps");
        private_file(&path).unwrap();
        let mut conn = Connection::open(&path).unwrap();
        migrate(&mut conn, Some(&path), &["CREATE TABLE a (x)"]).unwrap();
        assert!(!suffixed(&path, ".before-v1").exists(), "nothing to keep of an empty file");
        let steps: &[Migration] =
            &["CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE c (x); SELECT nonsense"];
        assert!(migrate(&mut conn, Some(&path), steps).is_err());
        assert!(suffixed(&path, ".before-v2").exists());
        assert_eq!(version(&conn).unwrap(), 2);
        assert!(conn.prepare("SELECT * FROM b").is_ok() && conn.prepare("SELECT * FROM c").is_err());
        migrate(&mut conn, Some(&path), &steps[..2]).unwrap();
    }

    #[test]
    fn a_newer_file_is_refused_by_name_and_left_alone() {
        let path = scratch("newer");
        drop(Db::open(&path, Sync::Full).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Db::open(&path, Sync::Full).err().unwrap();
        assert_eq!(error, StoreError::NewerSchema { found: 99, known: MIGRATIONS.len() as u32 });
        let said = error.to_string();
        assert!(said.contains("99") && said.contains(&MIGRATIONS.len().to_string()), "{said}");
        assert!(path.exists());
    }
}
