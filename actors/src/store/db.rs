//! The database file: one writer, two readers, batches, damage. Blocking; callers put it into
//! `spawn_blocking`, or call it in place when [`Db::is_memory`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rows::{WriteOp, WriteReply};
use super::schema::private_file;
use super::{
    approvals, audit, channels, check, cron, devices, drafts, inputs, nodes, schema, sessions, transcript,
};
use crate::kill_points::KillPoint;

/// Connections that only read. Two: a long read (search) leaves one for the short ones.
const READERS: usize = 2;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The disk: a commit survives the loss of power.
    Full,
    /// The kernel: a commit survives `kill -9`, but the last ones may be lost with the power (SD cards).
    Normal,
}

/// Why the store did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space left: writes fail, reads go on.
    #[error("the disk is full")]
    Full,
    /// The operation contradicts what is stored; sending it again will not help.
    #[error("conflict: {what}")]
    Conflict {
        /// What contradicts what.
        what: String,
    },
    /// The row the operation is about does not exist.
    #[error("not found")]
    NotFound,
    /// Locked, an I/O error, a file that cannot be opened: may work again later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Anything else SQLite says: a defect of ours.
    #[error("database error: {0}")]
    Sqlite(String),
    /// The file is damaged; the next [`Db::open`] moves it aside.
    #[error("the database file is damaged")]
    Damaged,
    /// The file was written by a newer version of the gateway.
    #[error("the database has schema version {found}, this gateway knows versions up to {known}")]
    NewerSchema {
        /// The file's version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
}

impl StoreError {
    /// Whether the same operation may succeed later without anyone changing it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Unavailable(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error() else {
            return match error {
                rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
                other => Self::Sqlite(other.to_string()),
            };
        };
        match (code.code, code.extended_code) {
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) => Self::Full,
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Self::Damaged,
            (_, ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => Self::NotFound,
            (ErrorCode::ConstraintViolation, _) => Self::Conflict { what: error.to_string() },
            (
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed,
                _,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Sqlite(error.to_string()),
        }
    }
}

/// The store's database. Share it as `Arc<Db>`; it must not be used from within its own closures.
pub struct Db {
    /// `None`: in memory.
    path: Option<PathBuf>,
    sync: Sync,
    /// The one writer. Locked for as long as it is used; empty after a panic, then the next use opens it again.
    writer: Mutex<Option<Connection>>,
    readers: [Mutex<Option<Connection>>; READERS],
    turn: AtomicUsize,
    /// Times somebody has written.
    writes: AtomicU64,
    /// One permit a reader: see [`Db::reader_free`].
    free: Arc<Semaphore>,
    damage: OnceLock<String>,
}

impl Db {
    /// Opens `path` (created 0600, its directory 0700 if missing), looks it over, migrates it. A damaged file is
    /// moved to `<path>.damaged-<unix ms>` with its `-wal` and `-shm` and a fresh one opened: see [`Db::damage`].
    /// The whole file is read only if damage showed in it before; otherwise that is left to [`Db::check`].
    ///
    /// # Errors
    /// `NewerSchema`; `Unavailable` or `Full` if the file cannot be opened, checked, moved or migrated.
    pub fn open(path: impl AsRef<Path>, sync: Sync) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let (conn, damage) = match open_checked(path, sync) {
            Ok(conn) => (conn, None),
            Err(StoreError::Damaged) => {
                let aside = move_aside(path).map_err(|e| StoreError::Unavailable(e.to_string()))?;
                tracing::error!(file = %path.display(), moved_to = %aside.display(), "damaged database moved aside");
                let report = format!("{} was damaged and moved to {}", path.display(), aside.display());
                (open_checked(path, sync)?, Some(report))
            }
            Err(other) => return Err(other),
        };
        check::mark(path, false);
        Ok(Self::with(Some(path.to_owned()), sync, conn, damage))
    }

    /// A database in memory, gone with this value: one connection for everything, for simulations.
    ///
    /// # Errors
    /// What SQLite says, which would be out of memory.
    pub fn memory() -> Result<Self, StoreError> {
        let mut conn = Connection::open_in_memory()?;
        schema::configure(&conn, Sync::Normal)?;
        schema::migrate(&mut conn, None, schema::MIGRATIONS)?;
        Ok(Self::with(None, Sync::Normal, conn, None))
    }

    fn with(path: Option<PathBuf>, sync: Sync, conn: Connection, damage: Option<String>) -> Self {
        let (writer, readers) = (Mutex::new(Some(conn)), std::array::from_fn(|_| Mutex::new(None)));
        let damage = damage.map_or_else(OnceLock::new, OnceLock::from);
        let free = Arc::new(Semaphore::new(READERS));
        Self {
            path,
            sync,
            writer,
            readers,
            turn: AtomicUsize::new(0),
            writes: AtomicU64::new(0),
            free,
            damage,
        }
    }

    /// Waits, first come, first served, until a reader is free, so that no threads gather where only so many can
    /// read. To be kept while it is used.
    pub async fn reader_free(&self) -> OwnedSemaphorePermit {
        self.free.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Whether it is in memory, where every call is short and needs no thread of its own.
    pub fn is_memory(&self) -> bool {
        self.path.is_none()
    }

    /// The file; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What was found damaged, on opening or since, for people to read.
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Reads the whole file, on a connection of its own; in memory nothing. What it finds is [`Db::damage`].
    ///
    /// # Errors
    /// `Damaged`: the next [`Db::open`] moves the file aside; `Unavailable` if it cannot be read.
    pub fn check(&self) -> Result<(), StoreError> {
        let Some(path) = &self.path else { return Ok(()) };
        let result = reopen(path, self.sync, true).and_then(|conn| check::whole(&conn));
        self.note_damage(result.as_ref().err());
        result
    }

    fn note_damage(&self, error: Option<&StoreError>) {
        if let (Some(StoreError::Damaged), Some(path)) = (error, &self.path) {
            let report =
                format!("{} is damaged; it is moved aside when the gateway starts next", path.display());
            self.damage.get_or_init(|| report);
            check::mark(path, true);
        }
    }

    /// Runs `f` with the writer, alone. A panic in `f` rolls back what it did not commit.
    ///
    /// # Errors
    /// Those of `f`; `Unavailable` if the writer must be opened again and cannot.
    pub fn write<R>(
        &self,
        f: impl FnOnce(&mut Connection) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut slot = self.writer.lock();
        let _counted = Counted(&self.writes);
        let Some(path) = &self.path else {
            return in_memory(&mut slot, f);
        };
        let mut conn = match slot.take() {
            Some(conn) => conn,
            None => reopen(path, self.sync, false)?,
        };
        let result = f(&mut conn);
        self.note_damage(result.as_ref().err());
        if is_clean(&conn) {
            *slot = Some(conn);
        }
        result
    }

    /// How many times somebody has written. What was read after this is told holds for as long as this stays the same.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Runs `f` with a connection that cannot write; waits if all are in use.
    ///
    /// # Errors
    /// Those of `f`; `Unavailable` if a connection must be opened and cannot.
    pub fn read<R>(&self, f: impl FnOnce(&Connection) -> Result<R, StoreError>) -> Result<R, StoreError> {
        let Some(path) = &self.path else {
            return in_memory(&mut self.writer.lock(), |conn| f(conn));
        };
        let mut slot = match self.readers.iter().find_map(Mutex::try_lock) {
            Some(slot) => slot,
            None => self.readers[self.turn.fetch_add(1, Ordering::Relaxed) % READERS].lock(),
        };
        let conn = match slot.take() {
            Some(conn) => conn,
            None => reopen(path, self.sync, true)?,
        };
        let result = f(&conn);
        self.note_damage(result.as_ref().err());
        if is_clean(&conn) {
            *slot = Some(conn);
        }
        result
    }

    /// Gives back the pages that connections not in use keep in memory: the system has them, too.
    pub fn trim(&self) {
        for connection in self.readers.iter().chain([&self.writer]) {
            if let Some(slot) = connection.try_lock()
                && let Some(conn) = &*slot
                && let Err(e) = conn.execute_batch("PRAGMA shrink_memory")
            {
                tracing::warn!(target: "crabtree::store", "no memory was given back: {e}");
            }
        }
    }

    /// Applies `ops` in order and commits once. An operation that fails undoes itself only; the answers stand
    /// in the order of `ops` and are true once this returns. `kill` is called at each
    /// of the store's kill points.
    ///
    /// # Errors
    /// The batch could not be committed: nothing of it is stored, send it again.
    pub fn apply_batch(
        &self,
        ops: &[WriteOp],
        kill: &dyn Fn(KillPoint),
    ) -> Result<Vec<Result<WriteReply, StoreError>>, StoreError> {
        self.write(|conn| {
            kill(KillPoint::StoreBeforeBegin);
            let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut replies = Vec::with_capacity(ops.len());
            for op in ops {
                let savepoint = tx.savepoint()?;
                let reply = match op {
                    WriteOp::Audit(batch) => audit::write(&savepoint, batch, ops.iter().zip(&replies)),
                    op => apply(&savepoint, op),
                };
                match &reply {
                    Ok(_) => savepoint.commit()?,
                    // A full disk may have taken the whole transaction back with it.
                    Err(error) if savepoint.is_autocommit() => return Err(error.clone()),
                    // Rolls back to before the operation.
                    Err(error) => {
                        self.note_damage(Some(error));
                        savepoint.finish()?;
                    }
                }
                replies.push(reply);
            }
            kill(KillPoint::StoreAfterOps);
            tx.commit()?;
            kill(KillPoint::StoreAfterCommit);
            Ok(replies)
        })
    }
}

fn apply(conn: &Connection, op: &WriteOp) -> Result<WriteReply, StoreError> {
    match op {
        WriteOp::Fence => Ok(WriteReply::Done),
        WriteOp::AcceptInput { input, begin, user_message, session } => {
            inputs::accept(conn, input, *begin, user_message.as_ref(), session)
        }
        WriteOp::Begin { turn, inputs, messages, at } => inputs::begin(conn, turn, inputs, messages, *at),
        WriteOp::BeginCall { turn, call_id, .. } => inputs::begin_call(conn, turn, call_id),
        WriteOp::Settle {
            turn,
            inputs,
            released,
            state,
            outcome,
            messages,
            deliveries,
            events,
            session,
            at,
        } => inputs::settle(
            conn,
            &inputs::Outcome {
                turn,
                inputs,
                released,
                state: *state,
                outcome,
                messages,
                deliveries,
                events,
                at: *at,
            },
            session,
        ),
        WriteOp::AppendMessage(message) => {
            transcript::append(conn, message).map(|(row, fresh)| WriteReply::Appended(row, fresh))
        }
        WriteOp::All(ops) => {
            ops.iter().map(|op| apply(conn, op)).collect::<Result<_, _>>().map(WriteReply::All)
        }
        WriteOp::CopyTranscript { from_key, to_key, session_id, revision, range, branch, at } => {
            let (branch, at) = (*branch, *at);
            let what = transcript::Copy { from_key, to_key, session_id, revision, range, branch, at };
            transcript::copy(conn, &what)
        }
        WriteOp::DeleteSession { key, keep_transcripts } => sessions::delete(conn, key, *keep_transcripts),
        WriteOp::MoveCategory { from, to } => sessions::move_category(conn, from, to.as_deref()),
        WriteOp::UpdateSession { key, update } => {
            sessions::upsert(conn, key, update, None).map(WriteReply::Session)
        }
        WriteOp::PutDevice(row) => devices::put_device(conn, row),
        WriteOp::SeeDevice { device_id, role, at, reason } => {
            devices::see(conn, device_id, role, *at, reason.as_deref())
        }
        WriteOp::PutToken(row) => devices::put_token(conn, row),
        WriteOp::RemoveDevice { device_id } => devices::remove(conn, device_id),
        WriteOp::PutNode(row) => nodes::put(conn, row),
        WriteOp::RemoveNode { node_id } => nodes::remove(conn, node_id),
        WriteOp::UseApproval { kind, id, by } => nodes::use_approval(conn, kind, id, by),
        WriteOp::PutSetup(row) => devices::put_setup(conn, row),
        WriteOp::RemoveSetup { setup_id } => devices::remove_setup(conn, setup_id),
        WriteOp::OpenApproval(row) => approvals::open(conn, row),
        WriteOp::CloseApproval { kind, id, outcome, at } => approvals::close(conn, kind, id, outcome, *at),
        WriteOp::Deliver(rows) => channels::queue(conn, rows),
        WriteOp::Delivery(row) => channels::moved(conn, row),
        WriteOp::BeginDraft(row) => drafts::begin(conn, row),
        WriteOp::ShowDraft { id, platform_id } => drafts::show(conn, id, platform_id),
        WriteOp::RemoveDraft { id } => drafts::remove(conn, id),
        WriteOp::ReportUncertain { ids, with } => channels::report(conn, ids, with),
        WriteOp::PutCheckpoint { channel, account, place } => {
            channels::put_checkpoint(conn, channel, account, place)
        }
        WriteOp::PutContact(row) => channels::put_contact(conn, row),
        WriteOp::RemoveContact { channel, account, id } => {
            channels::remove_contact(conn, channel, account, id)
        }
        WriteOp::Overhear { row, most } => channels::overhear(conn, row, *most),
        WriteOp::Cron(op) => cron::apply(conn, op),
        WriteOp::Audit(batch) => audit::write(conn, batch, std::iter::empty()),
        WriteOp::SeePerson { id, login, at } => audit::see_person(conn, id, login, *at),
        WriteOp::PutMeta { key, value } => devices::put_meta(conn, key, value),
    }
}

/// Strings as one value of a statement, for `json_each`.
pub(super) fn list(strings: &[String]) -> String {
    serde_json::json!(strings).to_string()
}

/// In memory the connection is the data: it stays where it is, whatever happens.
/// Counts when it is dropped, also by a panic: that may have come after the commit.
struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

fn in_memory<R>(
    slot: &mut Option<Connection>,
    f: impl FnOnce(&mut Connection) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let conn = slot.as_mut().expect("the memory connection never leaves its slot");
    is_clean(conn);
    f(conn)
}

/// Whether the connection is outside any transaction, after taking back one that was left open.
fn is_clean(conn: &Connection) -> bool {
    conn.is_autocommit() || conn.execute_batch("ROLLBACK").is_ok()
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Every connection is behind a lock of ours: SQLite needs none of its own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// A further connection to a file that [`Db::open`] has checked.
pub(super) fn reopen(path: &Path, sync: Sync, read_only: bool) -> Result<Connection, StoreError> {
    let conn = connect(path)?;
    schema::configure(&conn, sync)?;
    conn.pragma_update(None, "query_only", read_only)?;
    Ok(conn)
}

/// Opens, looks over and migrates; `Damaged` if the file is not a sound database.
fn open_checked(path: &Path, sync: Sync) -> Result<Connection, StoreError> {
    private_file(path).map_err(|e| StoreError::Unavailable(format!("{}: {e}", path.display())))?;
    let mut conn = connect(path)?;
    // Until it is known to be sound, closing it must leave it and its log as they are.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::configure(&conn, sync)?;
    schema::refuse_newer(&conn, schema::MIGRATIONS)?;
    if check::is_suspect(path) {
        check::whole(&conn)?;
    } else {
        check::glance(&conn)?;
    }
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    schema::migrate(&mut conn, Some(path), schema::MIGRATIONS)?;
    Ok(conn)
}

fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let aside = schema::suffixed(path, &format!(".damaged-{now}"));
    fs::rename(path, &aside)?;
    for tail in ["-wal", "-shm"] {
        match fs::rename(schema::suffixed(path, tail), schema::suffixed(&aside, tail)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
#[path = "db_tests.rs"]
pub(super) mod tests;
