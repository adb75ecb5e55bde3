//! The database of a gateway that does not run, looked at without changing a byte of it or beside it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::audit::{AuditVerdict, verify_audit};
use super::db::StoreError;
use super::{check, schema};

/// A database that is only looked at. While a gateway has it, it must not be opened.
pub struct Offline(Connection);

impl Offline {
    /// Opens the file, which must exist.
    ///
    /// # Errors
    /// It cannot be read, or what a killed gateway has left beside it cannot.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let log = schema::suffixed(path, "-wal").metadata().is_ok_and(|log| log.len() > 0);
        // Without a log the file is all there is, and nobody writes: no lock and no index file is needed. What is in a
        // log is read beside it, over an index in memory.
        let how = if log { "mode=ro&readonly_shm=1" } else { "mode=ro&immutable=1" };
        let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(format!("file:{name}?{how}"), flags)?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Self(conn))
    }

    /// The version of its tables.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn version(&self) -> Result<u32, StoreError> {
        schema::schema_version(&self.0)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `Damaged`, or what SQLite says.
    pub fn check(&self) -> Result<(), StoreError> {
        check::whole(&self.0)
    }

    /// Reads all of it, the indexes too, each against its table: what a copy has to stand that is to be relied upon.
    ///
    /// # Errors
    /// `Damaged`, or what SQLite says.
    pub fn check_all(&self) -> Result<(), StoreError> {
        let verdict: String = self.0.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged) }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    /// Reads the ledger of acts; `None` in a database from before there was one.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn verify_audit(&self, head: Option<&str>) -> Result<Option<AuditVerdict>, StoreError> {
        if self.version()? < 10 { Ok(None) } else { verify_audit(&self.0, head).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::db::{Db, Sync};
    use super::super::rows::WriteOp;
    use super::*;
    use std::collections::BTreeMap;

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
    }

    fn looked_at(path: &Path) -> u32 {
        let db = Offline::open(path).unwrap();
        db.check().unwrap();
        assert_eq!(db.verify_audit(None).unwrap().unwrap().problem, None);
        db.version().unwrap()
    }

    #[test]
    fn looking_changes_nothing_whether_the_gateway_ended_or_was_killed() {
        let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("a #?%.sqlite");
        let db = Db::open(&path, Sync::Normal).unwrap();
        let put = WriteOp::PutMeta { key: "k".into(), value: "v".into() };
        db.apply_batch(&[put], &|_| {}).unwrap().remove(0).unwrap();
        // What a killed process leaves: the file, its log and the index of that.
        for (name, content) in files(dir.path()) {
            std::fs::write(killed.path().join(name), content).unwrap();
        }
        drop(db);
        for dir in [dir.path(), killed.path()] {
            let before = files(dir);
            assert_eq!(looked_at(&dir.join("a #?%.sqlite")), schema::SCHEMA_VERSION);
            assert!(files(dir) == before, "{:?}", files(dir).keys());
        }
    }

    #[test]
    fn what_is_no_database_is_damaged_and_what_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Offline::open(&dir.path().join("none")).is_err());
        let path = dir.path().join("bad");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(Offline::open(&path).err(), Some(StoreError::Damaged));
        assert_eq!(files(dir.path()).len(), 1);
    }
}
