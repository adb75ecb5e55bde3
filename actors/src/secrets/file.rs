//! Secrets in files: files that only the gateway's user can read.

use crate::settings::{FileMode, FileProvider, Secret, expanded};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// How large a file may be unless told (as recorded).
const MAX_BYTES: u64 = 1024 * 1024;
/// How large it may be told to be (as recorded).
const MOST_BYTES: u64 = 20 * 1024 * 1024;
/// The id of the one secret in a file that has no others.
const WHOLE: &str = "value";

/// What these ids stand for in a file; the error is about all of them.
pub(super) fn values(
    provider: &FileProvider,
    ids: &[String],
) -> Result<BTreeMap<String, Result<Secret, String>>, String> {
    let path = expanded(&provider.path);
    let most = provider.max_bytes.unwrap_or(MAX_BYTES).min(MOST_BYTES);
    let text = content(&path, most).map_err(|why| format!("{} {why}", path.display()))?;
    let answers =
        |of: &dyn Fn(&str) -> Result<Secret, String>| ids.iter().map(|id| (id.clone(), of(id))).collect();
    if provider.mode == FileMode::SingleValue {
        return Ok(answers(&|id| match id {
            WHOLE => filled(text.strip_suffix('\n').map_or(&*text, |line| line.trim_end_matches('\r'))),
            _ => Err(format!("the id of the one secret in {} is \"{WHOLE}\"", path.display())),
        }));
    }
    // What is wrong with the text would quote it.
    let mut document: Value = serde_json::from_str(&text).map_err(|_| {
        format!("{} is no JSON; for a file with one secret set mode to \"singleValue\"", path.display())
    })?;
    let found = answers(&|id| match document.pointer(id).filter(|_| id.starts_with('/')) {
        Some(Value::String(value)) => filled(value),
        Some(_) => Err(format!("what {id} points to in {} is no text", path.display())),
        None => {
            Err(format!("{} has nothing at {id}; ids are JSON pointers such as /openai/key", path.display()))
        }
    });
    wipe(&mut document);
    Ok(found)
}

fn filled(value: &str) -> Result<Secret, String> {
    if value.trim().is_empty() { Err("the secret is empty".into()) } else { Ok(Secret::new(value)) }
}

/// Overwrites all texts of a document.
pub(super) fn wipe(document: &mut Value) {
    match document {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

/// The text of a private file.
fn content(path: &Path, most: u64) -> Result<Zeroizing<String>, String> {
    if !path.is_absolute() {
        return Err("is no absolute path".into());
    }
    // Opening does not wait for the writer of a pipe, and follows no link.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::LOOP => "is a link; name the file itself".to_owned(),
        error => format!("cannot be read: {}", std::io::Error::from(error)),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|error| format!("cannot be read: {error}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is no regular file".into());
    }
    if stat.st_nlink > 1 {
        return Err("has more than one name (hard links); copy it into a new file".into());
    }
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user && stat.st_uid != 0 {
        return Err("belongs to another user; it has to be the gateway's own".into());
    }
    if stat.st_mode & 0o077 != 0 {
        let mode = stat.st_mode & 0o777;
        return Err(format!("is open to others (mode {mode:03o}); close it with chmod 600"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::from(file).take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("is larger than {most} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "is no UTF-8 text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn asked(path: &Path, mode: FileMode, id: &str) -> Result<String, String> {
        let path = path.display().to_string();
        let provider = FileProvider { path, mode, timeout_ms: None, max_bytes: Some(64) };
        let one = |mut all: BTreeMap<String, Result<Secret, String>>| all.remove(id).unwrap();
        values(&provider, &[id.to_owned()]).and_then(one).map(|secret| secret.expose().to_owned())
    }

    fn private(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_file_has_one_secret_or_a_document_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let one = private(dir.path(), "one", "s3cret \r\n");
        assert_eq!(asked(&one, FileMode::SingleValue, "value"), Ok("s3cret ".into()));
        assert!(asked(&one, FileMode::SingleValue, "/x").unwrap_err().contains("\"value\""));
        let why = asked(&one, FileMode::Json, "/x").unwrap_err();
        assert!(why.contains("singleValue") && !why.contains("s3cret"), "{why}");
        let many = private(dir.path(), "many", r#"{"a": {"b/c": "s3cret", "n": 1, "e": " "}}"#);
        assert_eq!(asked(&many, FileMode::Json, "/a/b~1c"), Ok("s3cret".into()));
        for (id, why) in
            [("/a/n", "no text"), ("/a/x", "nothing at"), ("a", "JSON pointers"), ("/a/e", "empty")]
        {
            assert!(asked(&many, FileMode::Json, id).unwrap_err().contains(why), "{id}");
        }
    }

    #[test]
    fn a_file_that_is_not_private_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| asked(&dir.path().join(name), FileMode::SingleValue, "value");
        let path = private(dir.path(), "open", "x");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(read("open").unwrap_err().contains("open to others"));
        }
        private(dir.path(), "real", "x");
        assert_eq!(read("real"), Ok("x".into()));
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        assert!(read("link").unwrap_err().contains("is a link"));
        fs::hard_link(dir.path().join("real"), dir.path().join("twin")).unwrap();
        assert!(read("real").unwrap_err().contains("hard links"));
        private(dir.path(), "large", &"x".repeat(65));
        assert!(read("large").unwrap_err().contains("larger than 64 bytes"));
        fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(read("dir").unwrap_err().contains("no regular file"));
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, Mode::from(0o600), 0)
            .unwrap();
        assert!(read("pipe").unwrap_err().contains("no regular file"), "and nobody waits for its writer");
        assert!(read("gone").unwrap_err().contains("cannot be read"));
        assert!(asked(Path::new("relative"), FileMode::Json, "/a").unwrap_err().contains("no absolute path"));
    }
}
