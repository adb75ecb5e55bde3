use super::*;
use std::fs;
use std::os::unix::fs::symlink;

/// A directory that is given, and one beside it that is not.
struct Machine {
    dir: tempfile::TempDir,
    roots: Roots,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let given = dir.path().join("given");
        fs::create_dir_all(given.join("sub")).unwrap();
        fs::create_dir(dir.path().join("beside")).unwrap();
        fs::write(dir.path().join("beside/secret"), "secret").unwrap();
        fs::write(given.join("a.txt"), "hello").unwrap();
        let roots = Roots::open(&[given]).unwrap();
        Self { dir, roots }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn asked(&self, name: &str) -> Value {
        json!({ "path": self.path(name), "followSymlinks": true, "contentBase64": "eA==", "overwrite": true,
            "createParents": true })
    }
}

fn code(done: Result<Value, Trouble>) -> &'static str {
    done.map_or_else(|trouble| trouble.code, |done| panic!("{done}"))
}

#[test]
fn a_file_is_read_written_and_looked_at() {
    let machine = Machine::new();
    let asked = machine.asked("given/a.txt");
    let found = fetch(&machine.roots, &asked).unwrap();
    assert_eq!((&found["base64"], &found["size"]), (&json!("aGVsbG8="), &json!(5)));
    assert_eq!(found["sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!((&found["mimeType"], &found["path"]), (&json!("text/plain"), &asked["path"]));
    let seen = stat(&machine.roots, &asked).unwrap();
    assert_eq!((&seen["type"], &seen["size"]), (&json!("file"), &json!(5)));
    assert_eq!(seen["binding"], found["binding"]);

    let written = write(&machine.roots, &asked).unwrap();
    assert_eq!((&written["overwritten"], &written["size"]), (&json!(true), &json!(1)));
    assert_eq!(fs::read_to_string(machine.path("given/a.txt")).unwrap(), "x");
    let stale = json!({ "path": asked["path"], "expectedBinding": found["binding"] });
    assert_eq!(code(fetch(&machine.roots, &stale)), "CANONICAL_PATH_CHANGED", "it is another file by now");
    let new = machine.asked("given/deep/er/b.txt");
    assert_eq!(write(&machine.roots, &new).unwrap()["overwritten"], false);
    assert_eq!(fs::read_to_string(machine.path("given/deep/er/b.txt")).unwrap(), "x");
}

/// Fails with plain paths instead of `cap-std`.
#[test]
fn nothing_leads_out() {
    let machine = Machine::new();
    let given = machine.path("given");
    symlink(machine.path("beside"), given.join("out")).unwrap();
    symlink("../beside", given.join("out2")).unwrap();
    symlink("../beside/secret", given.join("file")).unwrap();
    fs::hard_link(machine.path("beside/secret"), given.join("hard")).unwrap();
    for name in [
        "given/../beside/secret",
        "given/sub/../../beside/secret",
        "given/out/secret",
        "given/out2/secret",
        "given/file",
        "given/out/../../beside/secret",
        "beside/secret",
        "given-too",
    ] {
        let asked = machine.asked(name);
        assert_eq!(code(fetch(&machine.roots, &asked)), "PERMISSION_DENIED", "{name}");
        assert_eq!(code(stat(&machine.roots, &asked)), "PERMISSION_DENIED", "{name}");
        let done = write(&machine.roots, &asked);
        assert!(done.is_err(), "{name}: {done:?}");
    }
    assert_eq!(code(fetch(&machine.roots, &machine.asked("given/hard"))), "HARDLINK_TARGET_DENIED");
    assert_eq!(code(write(&machine.roots, &machine.asked("given/hard"))), "HARDLINK_TARGET_DENIED");
    for name in ["given/out/new", "given/../new", "given/out2/new"] {
        assert!(write(&machine.roots, &machine.asked(name)).is_err(), "{name}");
    }
    for name in ["given/..", "given/out", "given/out2", "beside", "given/sub/../.."] {
        assert_eq!(code(list(&machine.roots, &machine.asked(name))), "PERMISSION_DENIED", "{name}");
        let listed = list_dirs(&machine.roots, &machine.asked(name));
        assert!(listed.is_err(), "{name}: {listed:?}");
    }
    assert_eq!(fs::read_to_string(machine.path("beside/secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(machine.path("beside")).unwrap().count(), 1, "nothing was put there");
    let none = Roots::open(&[]).unwrap();
    assert_eq!(code(stat(&none, &machine.asked("given/a.txt"))), "PERMISSION_DENIED");
}

#[test]
fn links_inside_are_followed_when_that_is_wished_for() {
    let machine = Machine::new();
    symlink("../a.txt", machine.path("given/sub/link")).unwrap();
    symlink("sub", machine.path("given/other")).unwrap();
    let asked = machine.asked("given/sub/link");
    let found = fetch(&machine.roots, &asked).unwrap();
    assert_eq!(found["path"], json!(machine.path("given/a.txt")));
    let strict = json!({ "path": asked["path"] });
    assert_eq!(code(fetch(&machine.roots, &strict)), "SYMLINK_REDIRECT");
    assert_eq!(code(write(&machine.roots, &asked)), "SYMLINK_TARGET_DENIED");
    let strict = json!({ "path": machine.path("given/other/n"), "contentBase64": "eA==" });
    assert_eq!(code(write(&machine.roots, &strict)), "SYMLINK_REDIRECT");
}

#[test]
fn what_is_no_ordinary_file_is_not_touched() {
    let machine = Machine::new();
    let fifo = machine.path("given/fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let asked = machine.asked("given/fifo");
    assert_eq!(code(fetch(&machine.roots, &asked)), "UNSUPPORTED_FILE_TYPE");
    assert_eq!(code(write(&machine.roots, &asked)), "UNSUPPORTED_FILE_TYPE");
    assert_eq!(code(fetch(&machine.roots, &machine.asked("given/sub"))), "IS_DIRECTORY");
    assert_eq!(code(fetch(&machine.roots, &machine.asked("given/nope"))), "NOT_FOUND");
    assert_eq!(code(fetch(&machine.roots, &json!({ "path": "a.txt" }))), "INVALID_PATH");
    assert_eq!(code(fetch(&machine.roots, &json!({}))), "INVALID_PATH");
    assert_eq!(code(list(&machine.roots, &machine.asked("given/a.txt"))), "IS_FILE");
}

#[test]
fn a_write_says_what_it_wants() {
    let machine = Machine::new();
    let with = |name: &str, value: Value| {
        let mut asked = machine.asked("given/a.txt");
        asked[name] = value;
        write(&machine.roots, &asked)
    };
    assert_eq!(code(with("overwrite", json!(false))), "EXISTS_NO_OVERWRITE");
    assert_eq!(code(with("expectedSha256", json!("00"))), "INTEGRITY_FAILURE");
    assert_eq!(code(with("contentBase64", json!("%"))), "INVALID_BASE64");
    let large = "A".repeat((MAX_BYTES as usize + 3).div_ceil(3) * 4 + 4);
    assert_eq!(code(with("contentBase64", json!(large))), "FILE_TOO_LARGE");
    assert_eq!(code(with("expectedCanonicalPath", json!("/elsewhere"))), "CANONICAL_PATH_CHANGED");
    let orphan = json!({ "path": machine.path("given/no/where"), "contentBase64": "eA==" });
    assert_eq!(code(write(&machine.roots, &orphan)), "PARENT_NOT_FOUND");
    assert_eq!(fs::read_to_string(machine.path("given/a.txt")).unwrap(), "hello");
    let small = json!({ "path": machine.path("given/a.txt"), "maxBytes": 4 });
    assert_eq!(code(fetch(&machine.roots, &small)), "FILE_TOO_LARGE");
}

#[test]
fn directories_are_listed_by_pages_and_for_choosing() {
    let machine = Machine::new();
    fs::create_dir(machine.path("given/.hidden")).unwrap();
    symlink("sub", machine.path("given/link")).unwrap();
    let mut asked = machine.asked("given");
    asked["maxEntries"] = json!(3);
    let names = |listed: &Value| -> Vec<String> {
        let names = listed["entries"].as_array().unwrap().iter();
        names.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = list(&machine.roots, &asked).unwrap();
    assert_eq!(names(&first), [".hidden", "a.txt", "link"]);
    assert_eq!((&first["truncated"], &first["nextPageToken"]), (&json!(true), &json!("3")));
    asked["pageToken"] = first["nextPageToken"].clone();
    let rest = list(&machine.roots, &asked).unwrap();
    assert_eq!((names(&rest), &rest["truncated"]), (vec!["sub".into()], &json!(false)));

    let top = list_dirs(&machine.roots, &json!({})).unwrap();
    assert_eq!(names(&top), ["link", "sub", ".hidden"]);
    assert_eq!((&top["home"], top.get("parent")), (&json!(machine.path("given")), None));
    let below = list_dirs(&machine.roots, &machine.asked("given/sub")).unwrap();
    assert_eq!(below["parent"], json!(machine.path("given")));
}
