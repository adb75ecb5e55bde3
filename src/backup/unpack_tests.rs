//! Archives that nobody here would write.

use super::super::{Cost, Scope, Seal, create};
use super::*;
use crate::backup::seal::Sealing;
use flate2::{Compression, write::GzEncoder};
use tar::Builder;

const CHEAP: Cost = Cost { memory: 64, passes: 1 };
const WORDS: &str = "open sesame";

/// An entry of a content, as somebody might write it.
struct Entry {
    name: String,
    kind: EntryType,
    content: Vec<u8>,
}

fn file(name: &str, content: &[u8]) -> Entry {
    Entry { name: name.into(), kind: EntryType::Regular, content: content.into() }
}

/// A list that names all of these.
fn list(entries: &[Entry]) -> Entry {
    let item = |entry: &Entry| Item {
        path: entry.name.clone(),
        size: entry.content.len() as u64,
        blake3: blake3::hash(&entry.content).to_hex().to_string(),
    };
    let list = List { files: entries.iter().map(item).collect(), ..List::default() };
    file(LIST, &serde_json::to_vec(&list).unwrap())
}

/// The content with its list.
fn content(entries: Vec<Entry>) -> Vec<u8> {
    let last = list(&entries);
    packed(entries.into_iter().chain([last]))
}

fn packed(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for Entry { name, kind, content } in entries {
        let mut header = header(content.len() as u64, false, 0);
        header.set_entry_type(kind);
        // Written by hand: the library would not write most of these names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn read(bytes: &[u8], limits: Limits) -> Result<List, String> {
    files(bytes, limits, &mut |_, _| Ok(None)).map_err(|broken| broken.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    let told = read(bytes, Limits::USUAL).unwrap_err();
    assert!(told.contains(why), "{told}");
}

#[test]
fn what_a_backup_has_is_read() {
    let long = format!("state/{}/x", "n".repeat(200));
    let mut entries = vec![file("state/a", b"one"), file("config/b/c", b""), file("state/store.sqlite", b"")];
    let named =
        Entry { name: "././@LongLink".into(), kind: EntryType::GNULongName, content: long.clone().into() };
    let list = list(&[
        file("state/a", b"one"),
        file("config/b/c", b""),
        file("state/store.sqlite", b""),
        file(&long, b"two"),
    ]);
    entries.extend([named, file("cut short", b"two"), list]);
    assert_eq!(read(&packed(entries), Limits::USUAL).unwrap().files[3].path, long);
}

#[test]
fn no_name_leads_out_of_the_folder_or_to_a_file_of_the_gateways_own() {
    for name in [
        "../a",
        "state/../a",
        "state/../../etc/passwd",
        "/etc/passwd",
        "state//a",
        "state/./a",
        "state/a/",
        "a",
        "state",
        "config",
        "other/a",
        "state/a\nb",
        "state/gateway.lock",
        "state/store.sqlite-wal",
        "state/store.sqlite/x",
        "state/backup.tmp/x",
        "",
    ] {
        refused(&content(vec![file(name, b"x")]), "is no name of a file");
    }
    let deep = format!("state/{}x", "d/".repeat(40));
    read(&content(vec![file(&deep, b"x")]), Limits::USUAL).unwrap();
    let deeper = format!("state/{}x", "d/".repeat(MAX_DEPTH + 1));
    assert!(inside(&deeper).is_err() && inside(&format!("state/{}", "x".repeat(MAX_PATH))).is_err());
}

#[test]
fn nothing_but_ordinary_files_is_taken() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Char,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongLink,
    ] {
        refused(&content(vec![Entry { kind, ..file("state/a", b"") }]), "is not an ordinary file");
    }
    let long = Entry { kind: EntryType::GNULongName, ..file("x", &vec![b'x'; MAX_PATH + 2]) };
    refused(&packed([long]), "is not an ordinary file");
}

#[test]
fn there_is_an_end_to_how_much_it_holds() {
    let three = || content(vec![file("state/a", b"12"), file("state/b", b"34"), file("state/c", b"56")]);
    let all = Limits { files: 3, bytes: 6 };
    read(&three(), all).unwrap();
    for limits in [Limits { files: 2, ..all }, Limits { bytes: 5, ..all }] {
        assert!(read(&three(), limits).unwrap_err().contains("holds more than"));
    }
    // What comes after its end is not read for ever, and not left unsaid.
    let whole = content(vec![]);
    refused(&[whole.clone(), packed([])].concat(), "something after its files");
    let mut tar = Vec::new();
    GzDecoder::new(whole.as_slice()).read_to_end(&mut tar).unwrap();
    tar.resize(tar.len() + MAX_REST as usize, 0);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&tar).unwrap();
    refused(&packed.finish().unwrap(), "something after its files");
}

#[test]
fn the_list_names_what_there_is_and_nothing_else() {
    let (a, b) = (|| file("state/a", b"one"), || file("state/b", b"two"));
    refused(&packed([a(), b()]), "it has no list");
    refused(&packed([a(), list(&[a(), b()])]), "names other files");
    refused(&packed([a(), b(), list(&[a()])]), "names other files");
    refused(&packed([a(), list(&[file("state/a", b"two")])]), "names other files");
    refused(&packed([list(&[]), a()]), "something after its list");
    refused(&packed([a(), a(), list(&[a(), a()])]), "there twice");
}

fn backup(dir: &Path) -> PathBuf {
    let state = dir.join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("gateway.token"), "t0ken").unwrap();
    fs::write(state.join("notes"), "x".repeat(1000)).unwrap();
    let path = dir.join("b.tar");
    create(&Scope::of(&state), None, &path, &Secret::new(WORDS), CHEAP).unwrap();
    path
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_so_is_a_lost_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = backup(dir.path());
    let verified = |bytes: &[u8]| {
        let other = dir.path().join("other.tar");
        fs::write(&other, bytes).unwrap();
        verify(&other, &Secret::new(WORDS), Limits::USUAL, dir.path())
    };
    let whole = fs::read(&path).unwrap();
    verified(&whole).unwrap();
    for place in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        match verified(&bytes) {
            Err(Broken::Damaged(_) | Broken::Passphrase | Broken::Newer { .. }) => {}
            other => panic!("byte {place}: {other:?}"),
        }
    }
    for length in (0..whole.len()).step_by(97) {
        assert!(matches!(verified(&whole[..length]), Err(Broken::Damaged(_))), "{length} bytes");
    }
    assert!(verified(&[&whole[..], b"\0"].concat()).is_err());
    let leftovers = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("crabtree-verify"));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn another_passphrase_is_told_from_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = backup(dir.path());
    let told = verify(&path, &Secret::new("close sesame"), Limits::USUAL, dir.path());
    assert!(matches!(told, Err(Broken::Passphrase)));
    let bytes = fs::read(&path).unwrap();
    for secret in ["t0ken", "gateway.token", "xxxxxxxx"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is sealed");
    }
}

/// An archive with this head and content.
pub(in crate::backup) fn written(path: &Path, passphrase: &Secret, version: u32, content: &[u8]) {
    let (seal, root) = Seal::new(passphrase, CHEAP).unwrap();
    let head = serde_json::to_vec_pretty(&Manifest::new(version, seal)).unwrap();
    let mut sealing = Sealing::new(Vec::new(), &root, &head);
    sealing.write_all(content).unwrap();
    let sealed = sealing.finish().unwrap();
    let mut outer = Builder::new(File::create(path).unwrap());
    for (name, bytes) in [(MANIFEST, &head), (CONTENT, &sealed)] {
        outer.append_data(&mut header(bytes.len() as u64, false, 1), name, bytes.as_slice()).unwrap();
    }
    outer.into_inner().unwrap();
}

#[test]
fn a_hostile_archive_leaves_nothing_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (path, passphrase) = (dir.path().join("evil.tar"), Secret::new(WORDS));
    let state = dir.path().join("outer").join("state");
    fs::create_dir(dir.path().join("outer")).unwrap();
    for entry in [
        file("state/../../evil", b"x"),
        Entry { kind: EntryType::Symlink, ..file("state/link", b"") },
        file("state/gateway.lock", b"{}"),
    ] {
        written(&path, &passphrase, 0, &content(vec![file("state/good", b"x"), entry]));
        let wish = super::super::Wish {
            archive: &path,
            passphrase: &passphrase,
            state_dir: &state,
            force: true,
            dry_run: false,
            limits: Limits::USUAL,
        };
        let told = super::super::restore(&wish).unwrap_err();
        assert!(matches!(told.downcast_ref(), Some(Broken::Refused(_))), "{told}");
        assert_eq!(fs::read_dir(dir.path().join("outer")).unwrap().count(), 0);
    }
    assert!(!dir.path().join("evil").exists());
}
