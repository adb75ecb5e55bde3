//! The tables, and how an older file becomes a current one: numbered, forward only, one transaction a step, a
//! copy of the file kept before the first step taken on a file that already holds something.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::before;
use super::db::{StoreError, Sync};

/// One step: the version it leads to is its position in [`MIGRATIONS`], from 1.
pub(super) type Migration = &'static str;

/// Every step ever shipped; only ever appended to.
pub(super) const MIGRATIONS: &[Migration] = &[V1, V2, V3, V4, V5, V6, V7, V8, V9, super::audit::V10, V11];

/// The newest version that this program knows.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// How long a connection waits for a lock. Only a reader meeting a checkpoint ever waits: there is one writer.
const BUSY_TIMEOUT_MS: u32 = 5_000;
/// Page cache of one connection, of three; given back when nobody reads.
const CACHE_KIB: i64 = 512;
/// The write-ahead log is cut back to this after a checkpoint, bytes.
const WAL_LIMIT: i64 = 8 << 20;
/// Statements kept prepared per connection: more than this folder has.
const STATEMENTS: usize = 100;

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

/// A message keeps its row in every transcript that contains it; transcripts belong together in families and
/// keep what lists show of them; sessions are found by what their entries say, and usage by outcomes.
const V3: &str = "
ALTER TABLE messages RENAME TO placed;
CREATE TABLE messages (
    pos INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    parent TEXT,
    kind TEXT NOT NULL,
    idempotency_key TEXT,
    run_id TEXT,
    message TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO messages SELECT pos, id, parent, kind, idempotency_key, run_id, message, created_at FROM placed;
CREATE TABLE places (
    transcript INTEGER NOT NULL REFERENCES transcripts (id),
    raw_seq INTEGER NOT NULL,
    seq INTEGER,
    pos INTEGER NOT NULL REFERENCES messages (pos),
    PRIMARY KEY (transcript, raw_seq)
) STRICT, WITHOUT ROWID;
INSERT INTO places SELECT transcript, raw_seq, seq, pos FROM placed ORDER BY transcript, raw_seq;
DROP TABLE placed;
CREATE INDEX messages_key ON messages (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX messages_run ON messages (run_id) WHERE run_id IS NOT NULL;
CREATE UNIQUE INDEX places_visible ON places (transcript, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX places_of ON places (pos, transcript);

ALTER TABLE transcripts ADD COLUMN family INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transcripts ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE transcripts ADD COLUMN copied INTEGER;
ALTER TABLE transcripts ADD COLUMN title TEXT;
ALTER TABLE transcripts ADD COLUMN last_said TEXT;
ALTER TABLE transcripts ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;
CREATE TEMP VIEW said AS
    SELECT transcript, seq, kind, message, trim(replace(replace(replace(CASE json_type(message, '$.content')
            WHEN 'text' THEN message ->> '$.content'
            WHEN 'array' THEN (SELECT group_concat(block.value ->> '$.text', ' ')
                FROM json_each(messages.message, '$.content') AS block
                WHERE CASE block.type WHEN 'object' THEN block.value ->> '$.type' END = 'text')
        END, char(9), ' '), char(10), ' '), char(13), ' ')) AS text
    FROM places JOIN messages USING (pos) WHERE seq > 0 AND kind IN ('user', 'assistant');
UPDATE transcripts SET family = id,
    title = (SELECT text FROM said WHERE transcript = id AND kind = 'user' AND text <> ''
        AND message ->> '$.excludeFromContext' IS NOT 1 ORDER BY seq LIMIT 1),
    last_said = (SELECT text FROM said WHERE transcript = id AND text <> '' ORDER BY seq DESC LIMIT 1),
    updated_at = coalesce(
        (SELECT max(created_at) FROM places JOIN messages USING (pos) WHERE transcript = transcripts.id), 0);
DROP VIEW said;
UPDATE transcripts SET title = substr(title, 1, 159) || '…' WHERE length(title) > 160;
UPDATE transcripts SET last_said = substr(last_said, 1, 159) || '…' WHERE length(last_said) > 160;

ALTER TABLE sessions ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN category TEXT;
ALTER TABLE sessions ADD COLUMN spawned_by TEXT;
ALTER TABLE sessions ADD COLUMN display_name TEXT;
UPDATE sessions SET archived = entry ->> '$.archivedAt' IS NOT NULL, category = entry ->> '$.category',
    spawned_by = coalesce(entry ->> '$.spawnedBy', entry ->> '$.parentSessionKey'), display_name = entry ->> '$.displayName';
ALTER TABLE sessions ADD COLUMN activity INTEGER AS (max(updated_at, coalesce(last_interaction_at, 0)));
DROP INDEX sessions_order;
DROP INDEX sessions_updated;
CREATE INDEX sessions_order ON sessions
    (archived, pinned DESC, updated_at DESC, key, agent_id, spawned_by, last_interaction_at);
CREATE INDEX sessions_interaction ON sessions
    (archived, pinned DESC, last_interaction_at DESC, key, agent_id, spawned_by, updated_at);
CREATE INDEX sessions_activity ON sessions
    (archived, pinned DESC, activity DESC, key, agent_id, spawned_by, updated_at, last_interaction_at);
CREATE INDEX sessions_id ON sessions (session_id);
CREATE INDEX sessions_label ON sessions (label, agent_id) WHERE label IS NOT NULL;
CREATE INDEX sessions_category ON sessions (category) WHERE category IS NOT NULL;
CREATE INDEX sessions_spawned ON sessions (spawned_by) WHERE spawned_by IS NOT NULL;

CREATE INDEX inputs_usage ON inputs (
    settled_at, session_key, started_at, outcome ->> '$.provider', outcome ->> '$.model', outcome ->> '$.status',
    outcome ->> '$.usage.input', outcome ->> '$.usage.output'
) WHERE settled_at IS NOT NULL;
CREATE INDEX inputs_settled ON inputs (session_key, settled_at) WHERE settled_at IS NOT NULL;
";

/// Calls of tools with effects outside are known one by one.
const V4: &str = "
CREATE TABLE begun_calls (
    turn TEXT NOT NULL, call_id TEXT NOT NULL, PRIMARY KEY (turn, call_id)
) STRICT, WITHOUT ROWID;
ALTER TABLE inputs DROP COLUMN external_effects;
";

/// What people are asked, and what they said.
const V5: &str = "
CREATE TABLE approvals (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('exec', 'plugin', 'question')),
    id TEXT NOT NULL,
    nonce TEXT NOT NULL,
    request TEXT NOT NULL,
    requester TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    outcome TEXT,
    resolved_at INTEGER,
    UNIQUE (kind, id),
    CHECK ((outcome IS NULL) = (resolved_at IS NULL))
) STRICT;
CREATE INDEX approvals_pending ON approvals (seq) WHERE resolved_at IS NULL;
CREATE INDEX approvals_over ON approvals (resolved_at, seq) WHERE resolved_at IS NOT NULL;
";

/// Usage has costs, and the tokens of caches.
const V6: &str = "
DROP INDEX inputs_usage;
CREATE INDEX inputs_usage ON inputs (
    settled_at, session_key, started_at, outcome ->> '$.provider', outcome ->> '$.model', outcome ->> '$.status',
    outcome -> '$.usage'
) WHERE settled_at IS NOT NULL;
";

/// Channels: messages on their way out, where each account goes on, who wrote, and what was overheard in groups.
const V7: &str = "
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    session_key TEXT,
    run_id TEXT,
    text TEXT NOT NULL,
    extra TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'uncertain', 'failed')),
    attempts INTEGER NOT NULL,
    platform_id TEXT,
    error TEXT,
    reported INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_open ON deliveries (channel, account, seq) WHERE state IN ('queued', 'sending');
CREATE INDEX deliveries_uncertain ON deliveries (channel, account, address)
    WHERE state = 'uncertain' AND reported = 0;
CREATE INDEX deliveries_over ON deliveries (updated_at) WHERE state NOT IN ('queued', 'sending');
CREATE TABLE checkpoints (
    channel TEXT NOT NULL, account TEXT NOT NULL, place TEXT NOT NULL, PRIMARY KEY (channel, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE contacts (
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    code TEXT,
    meta TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    approved_at INTEGER,
    PRIMARY KEY (channel, account, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE overheard (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    session_key TEXT NOT NULL,
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (source, source_id, session_key)
) STRICT;
CREATE INDEX overheard_by_session ON overheard (session_key, seq);
";

/// Nodes; and an approval that is good for one time is used by one.
const V8: &str = "
CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    display_name TEXT,
    described TEXT NOT NULL,
    approved TEXT,
    request TEXT,
    host_stats TEXT,
    created_at INTEGER,
    approved_at INTEGER,
    last_connected_at INTEGER,
    last_seen_at INTEGER,
    last_seen_reason TEXT
) STRICT, WITHOUT ROWID;
ALTER TABLE approvals ADD COLUMN used_by TEXT;
";

/// People name devices, and setup codes pair them.
const V9: &str = "
ALTER TABLE devices ADD COLUMN label TEXT;

CREATE TABLE setups (
    setup_id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    access TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    device_id TEXT,
    device_name TEXT,
    completed_at INTEGER
) STRICT;
";

/// Jobs with a schedule, a record of each of their instants, and what waits to be told to an agent.
const V11: &str = "
CREATE TABLE cron_jobs (
    id TEXT PRIMARY KEY,
    declaration_key TEXT UNIQUE,
    job TEXT NOT NULL,
    planned_to INTEGER NOT NULL,
    scratch TEXT,
    scratch_revision INTEGER NOT NULL DEFAULT 0,
    scratch_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE cron_runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL,
    instant INTEGER NOT NULL,
    manual INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('due', 'running', 'run', 'missed', 'skipped')),
    start_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    status TEXT,
    delivery_status TEXT,
    job TEXT NOT NULL,
    entry TEXT NOT NULL,
    UNIQUE (job_id, instant, manual),
    CHECK ((state IN ('due', 'running')) = (ended_at IS NULL))
) STRICT;
CREATE INDEX cron_runs_open ON cron_runs (seq) WHERE ended_at IS NULL;
CREATE INDEX cron_runs_over ON cron_runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE system_events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    session_key TEXT NOT NULL,
    text TEXT NOT NULL,
    at INTEGER NOT NULL,
    run_id TEXT
) STRICT;
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
///
/// # Errors
/// What SQLite says.
pub fn schema_version(conn: &Connection) -> Result<u32, StoreError> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// The version of an open file and the newest of `steps`, or `NewerSchema`.
pub(super) fn refuse_newer(conn: &Connection, steps: &[Migration]) -> Result<(u32, u32), StoreError> {
    let (found, known) = (schema_version(conn)?, u32::try_from(steps.len()).unwrap_or(u32::MAX));
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
        before::keep_copy(conn, path, found + 1)?;
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

/// `path` with `suffix` appended to its file name.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes sure that the file exists and that only its owner can read it (what SQLite puts beside it follows).
pub(super) fn private_file(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    #[cfg(unix)]
    {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        folder.create(parent)?;
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(file);
    Ok(())
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
