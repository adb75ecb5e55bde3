//! Whether the file is sound. Reading all of it takes as long as it is big, so at opening only the beginning of
//! every table is read, and the rest later, beside the work. A file in which damage showed is marked: it is read
//! whole when it is opened next, and moved aside if it is damaged.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::db::StoreError;
use super::schema::{private_file, suffixed};

/// Appended to the file's name: the mark that damage showed in it.
const MARK: &str = ".suspect";

/// Whether damage showed in the file when it was used last.
pub(super) fn is_suspect(path: &Path) -> bool {
    suffixed(path, MARK).exists()
}

/// Marks the file, or takes the mark off. It is a help only: that it fails changes nothing now.
pub(super) fn mark(path: &Path, suspect: bool) {
    let mark = suffixed(path, MARK);
    let done = if suspect { private_file(&mark) } else { fs::remove_file(&mark) };
    match done {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %mark.display(), "the mark of a damaged database: {e}");
        }
        _ => {}
    }
}

/// Reads the schema and the beginning of every table; `Damaged` if it is not what it should be.
pub(super) fn glance(conn: &Connection) -> Result<(), StoreError> {
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let table = name.replace('"', "\"\"");
        conn.prepare(&format!("SELECT * FROM \"{table}\" NOT INDEXED LIMIT 1"))?.exists([])?;
    }
    Ok(())
}

/// Reads the whole file; `Damaged` if it is not what it should be.
pub(super) fn whole(conn: &Connection) -> Result<(), StoreError> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged) }
}
