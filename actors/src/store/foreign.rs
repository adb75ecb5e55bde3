//! Databases of another program, read and never written, not even beside: no lock, no `-shm`, no checkpoint.
//!
//! One without a log is read in its place, as a file that nobody changes. One with a log is read from a
//! copy in a folder of our own, since to read a log is to write beside it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value};

use super::db::StoreError;
use super::schema::suffixed;

/// Longest entry of a transcript that is unpacked, bytes: OpenClaw writes none beyond 4 MiB.
const MAX_UNPACKED: u64 = 8 << 20;

/// What stands beside a database that is not whole without it.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// A database of another program.
pub struct Foreign {
    conn: Connection,
    copy: Option<PathBuf>,
}

/// An entry of a transcript, or why it cannot be read.
pub type Entry<'a> = Result<&'a str, String>;

impl Foreign {
    /// Opens the database at `path`; copies go to `private`, a folder for its owner only.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be read or copied; what SQLite says of a file that is no database.
    pub fn open(path: &Path, private: &Path) -> Result<Self, StoreError> {
        let failed =
            |e: io::Error| StoreError::Unavailable(format!("{} cannot be read: {e}", path.display()));
        let logged =
            LOGS.iter().any(|log| fs::metadata(suffixed(path, log)).is_ok_and(|found| found.len() > 0));
        let copy = match logged {
            true => Some(copied(path, private).map_err(failed)?),
            false => None,
        };
        let conn = match &copy {
            Some(copy) => Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
            None => Connection::open_with_flags(
                immutable(path),
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
            )?,
        };
        conn.pragma_update(None, "query_only", true)?;
        Ok(Self { conn, copy })
    }

    /// Every row of a table as an object, one after the other; none if there is no such table. Values that are not
    /// text, numbers or null are left out.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn each(&self, table: &str, each: &mut dyn FnMut(Map<String, Value>)) -> Result<(), StoreError> {
        if !self.has(table)? {
            return Ok(());
        }
        let mut statement =
            self.conn.prepare(&format!("SELECT * FROM \"{}\"", table.replace('"', "\"\"")))?;
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(object(&columns, row)?);
        }
        Ok(())
    }

    /// The entries of a transcript in their order, with their numbers.
    ///
    /// # Errors
    /// What SQLite says, and the first of `each`.
    pub fn entries<E: From<StoreError>>(
        &self,
        session_id: &str,
        each: &mut dyn FnMut(u64, Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.has("transcript_events")? {
            return Ok(());
        }
        let sql = StoreError::from;
        // Packed entries came with a later version of the table.
        let packed = self.conn.prepare("SELECT event_zstd FROM transcript_events LIMIT 0").is_ok();
        let column = if packed { "event_zstd" } else { "NULL" };
        let query = format!(
            "SELECT seq, event_json, {column} FROM transcript_events WHERE session_id = ?1 ORDER BY seq"
        );
        let mut statement = self.conn.prepare(&query).map_err(sql)?;
        let mut rows = statement.query([session_id]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let number = row.get::<_, i64>(0).map_err(sql)?.unsigned_abs();
            match (row.get_ref(1).map_err(sql)?, row.get_ref(2).map_err(sql)?) {
                (ValueRef::Text(text), _) => {
                    each(number, std::str::from_utf8(text).map_err(|_| "it is no text".to_owned()))?;
                }
                (_, ValueRef::Blob(packed)) => match unpacked(packed) {
                    Ok(text) => each(number, Ok(&text))?,
                    Err(why) => each(number, Err(why))?,
                },
                _ => each(number, Err("it is empty".to_owned()))?,
            }
        }
        Ok(())
    }

    fn has(&self, table: &str) -> Result<bool, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
        )?;
        Ok(statement.query_row([table], |row| row.get(0))?)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        for copy in self.copy.iter() {
            for part in ["", "-wal", "-shm", "-journal"] {
                // The folder goes with all that is left in it.
                let _ = fs::remove_file(suffixed(copy, part));
            }
        }
    }
}

/// Copies a database with its logs, under a name that says nothing.
///
/// # Errors
/// Those of the files.
pub fn copied(path: &Path, private: &Path) -> io::Result<PathBuf> {
    let copy = private.join(format!("{}.sqlite", uuid::Uuid::new_v4()));
    fs::copy(path, &copy)?;
    for log in LOGS {
        match fs::copy(suffixed(path, log), suffixed(&copy, log)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(copy)
}

/// The address under which SQLite takes a file as one that nobody changes.
fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

fn object(columns: &[String], row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    let mut object = Map::new();
    for (at, name) in columns.iter().enumerate() {
        let value = match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
            ValueRef::Blob(_) => continue,
        };
        object.insert(name.clone(), value);
    }
    Ok(object)
}

fn unpacked(packed: &[u8]) -> Result<String, String> {
    let failed = |e: &dyn std::fmt::Display| format!("it cannot be unpacked: {e}");
    let stream = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| failed(&e))?;
    let mut text = String::new();
    let read = stream.take(MAX_UNPACKED + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if read as u64 > MAX_UNPACKED {
        return Err(format!("it is longer than {} MiB", MAX_UNPACKED >> 20));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    type Listing = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

    fn listing(dir: &Path) -> Listing {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files
            .map(|path| {
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                (path.clone(), (fs::read(&path).unwrap(), modified))
            })
            .collect()
    }

    fn made(path: &Path) -> Connection {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE things (name TEXT, size INTEGER, raw BLOB);
             INSERT INTO things VALUES ('a', 1, x'00'), ('b', NULL, NULL);
             CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, event_zstd BLOB);",
        )
        .unwrap();
        let packed = ruzstd::encoding::compress_to_vec(
            br#"{"n":2}"#.as_slice(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let rows =
            [(1, Some(r#"{"n":1}"#), None), (2, None, Some(packed)), (3, None, Some(b"junk".to_vec()))];
        for (seq, text, packed) in rows {
            conn.execute("INSERT INTO transcript_events VALUES ('s', ?1, ?2, ?3)", (seq, text, packed))
                .unwrap();
        }
        conn
    }

    type Read = (Vec<Value>, Vec<(u64, Result<String, String>)>);

    fn read(path: &Path) -> Read {
        let private = tempfile::tempdir().unwrap();
        let foreign = Foreign::open(path, private.path()).unwrap();
        let (mut rows, mut entries) = (Vec::new(), Vec::new());
        foreign.each("things", &mut |row| rows.push(row.into())).unwrap();
        foreign.each("no such table", &mut |_| panic!("it has no rows")).unwrap();
        let mut keep = |n: u64, entry: Entry<'_>| {
            entries.push((n, entry.map(str::to_owned)));
            Ok(())
        };
        foreign.entries::<StoreError>("s", &mut keep).unwrap();
        drop(foreign);
        assert_eq!(fs::read_dir(private.path()).unwrap().count(), 0, "no copy is left");
        (rows, entries)
    }

    #[test]
    fn a_database_and_its_log_are_read_and_nothing_is_written_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        // A name that an address has to spell otherwise.
        let path = dir.path().join("a b?#%.sqlite");
        let writer = made(&path);
        let before = listing(dir.path());
        assert!(before.keys().any(|name| name.to_string_lossy().ends_with("-wal")), "it has a log");
        let (rows, entries) = read(&path);
        assert_eq!(rows[0], serde_json::json!({ "name": "a", "size": 1 }));
        assert_eq!(rows.len(), 2);
        assert_eq!(entries[..2], [(1, Ok(r#"{"n":1}"#.into())), (2, Ok(r#"{"n":2}"#.into()))]);
        assert!(entries[2].1.is_err(), "what cannot be unpacked is said to be so");
        assert_eq!(listing(dir.path()), before);
        drop(writer);
        let before = listing(dir.path());
        assert_eq!(before.len(), 1, "its log has gone");
        assert_eq!(read(&path).0.len(), 2);
        assert_eq!(listing(dir.path()), before);
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.sqlite"), "this is no database, though it is long enough to be one")
            .unwrap();
        let opened = Foreign::open(&dir.path().join("x.sqlite"), dir.path());
        assert!(opened.and_then(|foreign| foreign.each("things", &mut |_| {})).is_err());
    }
}
