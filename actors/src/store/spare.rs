//! Copies of the database for a program that is about to take over, and the way back.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::{Connection, OpenFlags};

use super::db::StoreError;
use super::offline::Offline;
use super::schema::{private_file, suffixed};

/// Copies a database while a gateway works with it. It is read as one of the gateway's own readers reads it: SQLite
/// keeps the two apart, nothing is written, and the copy is of one moment.
///
/// # Errors
/// What SQLite says, or the disk.
pub fn copy_online(from: &Path, to: &Path) -> Result<(), StoreError> {
    private_file(to).map_err(|e| StoreError::Unavailable(format!("{}: {e}", to.display())))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(from, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.backup("main", to, None)?;
    Ok(())
}

/// The version of the tables of a database that nobody has open; 0 without one.
///
/// # Errors
/// What SQLite says.
pub fn schema_of(path: &Path) -> Result<u32, StoreError> {
    if path.exists() { Offline::open(path)?.version() } else { Ok(0) }
}

/// Puts the copy back that was kept before a database left this version, and the database aside. Nothing is done to one
/// that is of this version, or older. Returns where the database is now.
///
/// # Errors
/// There is no such copy, or the disk does not let it be moved.
pub fn step_back(path: &Path, version: u32) -> Result<Option<PathBuf>, StoreError> {
    let found = schema_of(path)?;
    if found <= version {
        return Ok(None);
    }
    let kept = suffixed(path, &format!(".before-v{}", version + 1));
    let failed = |e: io::Error| {
        StoreError::Unavailable(format!("the copy {} cannot be put back: {e}", kept.display()))
    };
    fs::metadata(&kept).map_err(failed)?;
    let aside = suffixed(path, &format!(".after-v{found}"));
    for tail in ["-wal", "-shm", ""] {
        match fs::rename(suffixed(path, tail), suffixed(&aside, tail)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    fs::rename(&kept, path).map_err(failed)?;
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::super::db::{Db, Sync};
    use super::super::rows::WriteOp;
    use super::super::schema::SCHEMA_VERSION;
    use super::*;

    fn meta(path: &Path) -> Option<String> {
        let db = Db::open(path, Sync::Normal).unwrap();
        db.read(|c| Ok(c.query_row("SELECT value FROM meta WHERE key = 'k'", [], |row| row.get(0)).ok()))
            .unwrap()
    }

    fn put(db: &Db, value: &str) {
        let op = WriteOp::PutMeta { key: "k".into(), value: value.into() };
        db.apply_batch(&[op], &|_| {}).unwrap().remove(0).unwrap();
    }

    #[test]
    fn a_database_is_copied_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("store.sqlite"), folder.path().join("copy.sqlite"));
        let db = Db::open(&path, Sync::Normal).unwrap();
        put(&db, "before");
        copy_online(&path, &copy).unwrap();
        put(&db, "after");
        drop(db);
        assert_eq!((meta(&copy).as_deref(), meta(&path).as_deref()), (Some("before"), Some("after")));
    }

    #[test]
    fn a_database_goes_back_to_the_copy_that_was_kept_before_it_was_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let db = Db::open(&path, Sync::Normal).unwrap();
        put(&db, "old");
        drop(db);
        let newest = SCHEMA_VERSION;
        assert_eq!(step_back(&path, newest).unwrap(), None, "it is of this version");
        // What a newer program does: keep a copy, migrate, write.
        copy_online(&path, &suffixed(&path, &format!(".before-v{}", newest + 1))).unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(&format!("PRAGMA user_version = {}; UPDATE meta SET value = 'new'", newest + 2))
            .unwrap();
        drop(conn);
        assert!(Db::open(&path, Sync::Normal).is_err(), "it is too new for this program");
        let aside = step_back(&path, newest).unwrap().unwrap();
        assert_eq!((meta(&path).as_deref(), aside.exists()), (Some("old"), true));
    }

    #[test]
    fn without_a_copy_the_database_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        drop(Db::open(&path, Sync::Normal).unwrap());
        assert!(step_back(&path, SCHEMA_VERSION - 1).is_err());
        assert!(path.exists());
    }
}
