use super::*;
use std::io::Write;
use std::os::unix::fs::symlink;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn unpack(&self, archive: &[u8]) -> Result<(), String> {
        fs::write(self.dir.path().join("archive"), archive).unwrap();
        let to = self.to();
        let _ = fs::remove_dir_all(&to);
        unpack(&self.dir.path().join("archive"), &to)
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("deep/to")
    }

    /// All that is below the place, but for the archive.
    fn files(&self) -> Vec<String> {
        let mut found = vec![];
        let mut waiting = vec![self.dir.path().to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(self.dir.path()).unwrap().display().to_string());
                }
            }
        }
        found.retain(|name| name != "archive");
        found.sort();
        found
    }
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(vec![]));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A header whose name is written as it is: the library's own way refuses bad ones.
fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o6755);
    header.set_cksum();
    header
}

fn tar_gz(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut builder = tar::Builder::new(gz);
    for (name, kind, content) in entries {
        builder.append(&header(name, *kind, content.len() as u64), *content).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn archives_are_unpacked() {
    let place = Place::new();
    let files =
        tar_gz(&[("a/", tar::EntryType::Directory, b""), ("a/SKILL.md", FILE, b"x"), ("./b", FILE, b"y")]);
    for archive in [zip(&[("a/SKILL.md", b"x"), ("./b", b"y")]), files] {
        place.unpack(&archive).unwrap();
        assert_eq!(place.files(), ["deep/to/a/SKILL.md", "deep/to/b"]);
        assert_eq!(fs::read_to_string(place.to().join("a/SKILL.md")).unwrap(), "x");
        let mode = fs::metadata(place.to().join("b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "for its owner only, and no more than executable");
    }
    assert!(place.unpack(b"plain text").unwrap_err().contains("neither a folder nor a .zip"));
    assert!(place.unpack(b"PK\x03\x04 broken").unwrap_err().contains("cannot be read"));
    assert!(place.unpack(b"\x1f\x8b broken").unwrap_err().contains("cannot be read"));
}

#[test]
fn nothing_is_written_outside() {
    let place = Place::new();
    for name in ["../evil", "a/../../evil", "/tmp/evil-of-a-test", "a/..", "..\\evil"] {
        for archive in [zip(&[("ok", b"x"), (name, b"x")]), tar_gz(&[("ok", FILE, b"x"), (name, FILE, b"x")])]
        {
            let why = place.unpack(&archive).unwrap_err();
            assert!(why.contains("leads out of its folder"), "{name}: {why}");
            assert_eq!(place.files(), ["deep/to/ok"], "{name}");
        }
    }
    assert!(!Path::new("/tmp/evil-of-a-test").exists());
}

#[test]
fn links_and_special_files_are_refused() {
    let place = Place::new();
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo, tar::EntryType::Char] {
        let why = place.unpack(&tar_gz(&[("l", kind, b"")])).unwrap_err();
        assert!(why.contains("is a link or a special file"), "{kind:?}: {why}");
    }
    let mut writer = zip::ZipWriter::new(io::Cursor::new(vec![]));
    writer.add_symlink("l", "/etc", SimpleFileOptions::default()).unwrap();
    let why = place.unpack(&writer.finish().unwrap().into_inner()).unwrap_err();
    assert!(why.contains("is a link or a special file"), "{why}");

    let from = TempDir::new().unwrap();
    fs::write(from.path().join("f"), "x").unwrap();
    symlink("f", from.path().join("l")).unwrap();
    let why = copy(from.path(), &place.dir.path().join("copied")).unwrap_err();
    assert!(why.contains("l is a link or a special file"), "{why}");
}

#[test]
fn there_is_not_too_much_of_anything() {
    let place = Place::new();
    let many: Vec<String> = (0..MAX_ENTRIES + 1).map(|n| format!("f{n}")).collect();
    let files: Vec<_> = many.iter().map(|name| (name.as_str(), FILE, b"".as_slice())).collect();
    assert!(place.unpack(&tar_gz(&files)).unwrap_err().contains("more than 2000 files"));
    let deep = "d/".repeat(MAX_DEPTH + 1);
    assert!(place.unpack(&zip(&[(&deep, b"")])).unwrap_err().contains("nested deeper"));
    let twice = tar_gz(&[("f", FILE, b"x"), ("f", FILE, b"y")]);
    assert!(place.unpack(&twice).unwrap_err().contains("exists"), "nothing is written over");
    let below = tar_gz(&[("f", FILE, b"x"), ("f/g", FILE, b"y")]);
    assert!(place.unpack(&below).is_err());

    let zeros = vec![0; MAX_BYTES as usize / 2 + 1];
    let bomb = tar_gz(&[("a", FILE, &zeros), ("b", FILE, &zeros)]);
    assert!(bomb.len() < 1_000_000);
    assert!(place.unpack(&bomb).unwrap_err().contains("more than 67108864 bytes"));
    let bomb = zip(&[("a", &zeros), ("b", &zeros)]);
    assert!(place.unpack(&bomb).unwrap_err().contains("more than 67108864 bytes"));
    let large = File::create(place.dir.path().join("archive")).unwrap();
    large.set_len(MAX_ARCHIVE + 1).unwrap();
    assert!(
        unpack(&place.dir.path().join("archive"), &place.to()).unwrap_err().contains("archive is larger")
    );
}

#[test]
fn a_folder_is_copied_without_its_repository() {
    let (from, place) = (TempDir::new().unwrap(), Place::new());
    for name in ["SKILL.md", "scripts/run.sh", ".git/config", "scripts/.git/config"] {
        fs::create_dir_all(from.path().join(name).parent().unwrap()).unwrap();
        fs::write(from.path().join(name), name).unwrap();
    }
    let script = from.path().join("scripts/run.sh");
    fs::set_permissions(script, fs::Permissions::from_mode(0o4755)).unwrap();
    copy(from.path(), &place.to()).unwrap();
    assert_eq!(place.files(), ["deep/to/SKILL.md", "deep/to/scripts/run.sh"]);
    let mode = |name: &str| fs::metadata(place.to().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("SKILL.md"), mode("scripts/run.sh"), mode("scripts")), (0o600, 0o700, 0o700));
}
