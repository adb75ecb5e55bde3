//! The database copied while it is used: the copy is as the database was at one moment, whatever is written meanwhile.

use std::ffi::c_int;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::db::{Db, StoreError, Sync, reopen};
use super::offline::Offline;

/// Where copies are, in the state directory,
const FOLDER: &str = "backup.tmp";
/// and what is held there while one is made.
const LOCK: &str = "lock";
/// Pages that are copied at once: 1 MiB of them,
const PAGES: c_int = 256;
/// and the pause that follows, so that a slow disk has time for the writer.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes a copy in a folder of the state directory, for somebody who takes it away. One is made at a time (`None`: another
/// one is), and of those that nobody took away none but the last stays.
///
/// # Errors
/// Those of `make`; `Unavailable` if the folder cannot be used.
pub fn copy_beside(
    state_dir: &Path,
    make: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<Option<PathBuf>, StoreError> {
    let folder = state_dir.join(FOLDER);
    let failed = |e: io::Error| StoreError::Unavailable(format!("{}: {e}", folder.display()));
    let Some(_lock) = locked(&folder).map_err(failed)? else { return Ok(None) };
    forget(&folder).map_err(failed)?;
    let path = folder.join(format!("{}.sqlite", uuid::Uuid::new_v4().simple()));
    // What there is of one that failed is of no use to anybody.
    make(&path).inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(Some(path))
}

/// The lock, which goes with its handle, however the process ends; `None` while another one has it.
fn locked(folder: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "sqlite") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Db {
    /// Copies the database to `to`, which must not exist and is made for its owner only. Writes go on meanwhile; the
    /// write-ahead log is not cut back until it is done.
    ///
    /// # Errors
    /// `Unavailable` in memory, or if one of the files cannot be used; `Full`; `Damaged`.
    pub fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        let Some(path) = self.path() else {
            return Err(StoreError::Unavailable("it is in memory".into()));
        };
        copied(&reopen(path, Sync::Normal, true)?, to)
    }
}

impl Offline {
    /// Copies the database, with what a killed gateway has left beside it, to `to`, which must not exist.
    ///
    /// # Errors
    /// As [`Db::copy_to`].
    pub fn copy_to(&self, to: &Path) -> Result<(), StoreError> {
        copied(self.connection(), to)
    }
}

fn copied(from: &Connection, to: &Path) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::Unavailable(format!("{}: {e}", to.display()));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut into = Connection::open_with_flags(to, flags)?;
    // If it breaks off there is no copy: it needs no journal, and is flushed once, at the end.
    into.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    into.pragma_update(None, "synchronous", "OFF")?;
    // One transaction around all of it: without one, a write in between would have it begin anew.
    let moment = from.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Backup::new(&moment, &mut into)?.run_to_completion(PAGES, PAUSE, None)?;
    drop((moment, into));
    File::open(to).and_then(|file| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::rows::WriteOp;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn put(db: &Db, key: &str) {
        // Enough pages that a copy takes several steps.
        let op = WriteOp::PutMeta { key: key.into(), value: "x".repeat(100_000) };
        db.apply_batch(&[op], &|_| {}).unwrap().remove(0).unwrap();
    }

    #[test]
    fn a_copy_is_of_one_moment_while_writes_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("store.sqlite"), dir.path().join("copy.sqlite"));
        let db = Db::open(&path, Sync::Normal).unwrap();
        (0..40).for_each(|n| put(&db, &format!("before-{n}")));
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // The same in two rows, in one commit: a copy has it in both.
                    let value = format!("{:?}", std::time::Instant::now());
                    let pair = ["left", "right"]
                        .map(|side| WriteOp::PutMeta { key: side.into(), value: value.clone() });
                    db.apply_batch(&pair, &|_| {}).unwrap();
                    begun.store(true, Ordering::Relaxed);
                }
            });
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            db.copy_to(&to).unwrap();
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = Offline::open(&to).unwrap();
        copy.check_all().unwrap();
        let count = |pattern: &str| -> u32 {
            let query = "SELECT count(*) FROM meta WHERE key GLOB ?1";
            copy.connection().query_row(query, [pattern], |row| row.get(0)).unwrap()
        };
        assert_eq!(count("before-*"), 40);
        let sides = "SELECT count(DISTINCT value), count(*) FROM meta WHERE key IN ('left', 'right')";
        let sides = copy.connection().query_row(sides, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(sides, (1, 2));
        assert!(db.copy_to(&to).is_err(), "nothing is written over");
    }

    #[test]
    fn what_a_killed_gateway_left_beside_the_file_is_in_the_copy() {
        let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let db = Db::open(dir.path().join("store.sqlite"), Sync::Normal).unwrap();
        put(&db, "late");
        for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()) {
            std::fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
        }
        let to = dir.path().join("copy.sqlite");
        Offline::open(&killed.path().join("store.sqlite")).unwrap().copy_to(&to).unwrap();
        let copy = Offline::open(&to).unwrap();
        assert_eq!(copy.version().unwrap(), super::super::SCHEMA_VERSION);
        let query = "SELECT length(value) FROM meta WHERE key = 'late'";
        assert_eq!(copy.connection().query_row(query, [], |row| row.get::<_, u32>(0)).unwrap(), 100_000);
    }

    #[test]
    fn one_copy_is_made_at_a_time_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("store.sqlite"), Sync::Normal).unwrap();
        let copy = || copy_beside(dir.path(), |to| db.copy_to(to));
        let (first, second) = (copy().unwrap().unwrap(), copy().unwrap().unwrap());
        assert!(!first.exists() && second.exists());
        let held = locked(&dir.path().join(FOLDER)).unwrap().unwrap();
        assert_eq!(copy(), Ok(None));
        assert!(second.exists());
        drop(held);
        assert!(copy().unwrap().is_some());
        let memory = Db::memory().unwrap();
        assert!(copy_beside(dir.path(), |to| memory.copy_to(to)).is_err());
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 1, "only the lock");
    }
}
