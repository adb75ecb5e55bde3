//! What is kept of a file before its schema is changed: a copy beside it, and of older copies the newest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::db::StoreError;
use super::schema::{private_file, suffixed};

/// Copies that stay; older ones go when one is added.
const KEPT: usize = 3;
/// What a copy has after the file's name, before the version that came next.
const BEFORE: &str = ".before-v";

/// Copies the open database to `<path>.before-v<version>`, whole or not at all.
pub(super) fn keep_copy(conn: &Connection, path: &Path, version: u32) -> Result<(), StoreError> {
    let kept = suffixed(path, &format!("{BEFORE}{version}"));
    let part = suffixed(&kept, ".part");
    let failed = |e: io::Error| StoreError::Unavailable(format!("cannot keep a copy before migrating: {e}"));
    match fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    private_file(&part).map_err(failed)?;
    conn.backup("main", &part, None)?;
    fs::rename(&part, &kept).map_err(failed)?;
    // What is there too long does no harm.
    if let Err(e) = forget_oldest(path) {
        tracing::warn!(target: "crabtree::store", "older copies of the database stay: {e}");
    }
    Ok(())
}

fn forget_oldest(path: &Path) -> io::Result<()> {
    let Some((folder, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut copies: Vec<(u32, PathBuf)> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| {
            let found = entry.file_name();
            let version = found.to_str()?.strip_prefix(name)?.strip_prefix(BEFORE)?;
            Some((version.parse().ok()?, entry.path()))
        })
        .collect();
    copies.sort_unstable_by(|a, b| b.cmp(a));
    copies.iter().skip(KEPT).try_for_each(|(_, copy)| fs::remove_file(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_newest_copies_stay_and_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        // Of the same name, but none of ours.
        fs::write(suffixed(&path, ".before-vacation"), "mine").unwrap();
        for version in [2, 9, 10, 11, 12] {
            keep_copy(&conn, &path, version).unwrap();
            let kept = suffixed(&path, &format!(".before-v{version}"));
            assert_eq!(fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".before-"))
            .collect();
        names.sort_unstable();
        let expected = ["10", "11", "12", "acation"].map(|end| format!("store.sqlite.before-v{end}"));
        assert_eq!(names, expected);
    }
}
