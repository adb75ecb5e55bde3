use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn folder() -> (tempfile::TempDir, Folder) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("secret.txt"), "secret").unwrap();
    let folder = Folder::at(home.path().join("canvas"));
    (home, folder)
}

fn content(folder: &Folder, path: &str) -> Option<String> {
    match folder.look(path) {
        Found::File { content, .. } => Some(String::from_utf8(content).unwrap()),
        _ => None,
    }
}

#[test]
fn no_path_and_no_link_leads_out() {
    let (home, folder) = folder();
    folder.write("index.html", "<p>hi").unwrap();
    let canvas = home.path().join("canvas");
    symlink(home.path().join("secret.txt"), canvas.join("link.txt")).unwrap();
    symlink("../secret.txt", canvas.join("near.txt")).unwrap();
    symlink(home.path(), canvas.join("door")).unwrap();
    fs::hard_link(home.path().join("secret.txt"), canvas.join("twin.txt")).unwrap();
    for path in [
        "link.txt",
        "near.txt",
        "door/secret.txt",
        "twin.txt",
        "../secret.txt",
        "door/../secret.txt",
        "/../secret.txt",
        "x/../../secret.txt",
    ] {
        assert_eq!(folder.look(path), Found::Nothing, "{path}");
        assert!(folder.read(path).is_err(), "{path}");
    }
    for path in ["door/new.txt", "../new.txt", "link.txt", "a/../../new.txt"] {
        assert!(folder.write(path, "x").is_err(), "{path}");
    }
    assert!(folder.remove("door/secret.txt").is_err());
    assert_eq!(fs::read_to_string(home.path().join("secret.txt")).unwrap(), "secret");
    assert!(!home.path().join("new.txt").exists());
    // What a link of the directory itself leads to stays inside.
    symlink("index.html", canvas.join("also.html")).unwrap();
    assert_eq!(content(&folder, "also.html").as_deref(), Some("<p>hi"));
}

#[test]
fn names_that_begin_with_a_dot_are_neither_served_nor_written() {
    let (home, folder) = folder();
    folder.write("a.txt", "a").unwrap();
    fs::create_dir(home.path().join("canvas/.git")).unwrap();
    fs::write(home.path().join("canvas/.git/config"), "x").unwrap();
    assert_eq!(folder.look(".git/config"), Found::Nothing);
    assert!(folder.write(".hidden", "x").unwrap_err().contains("begins with a dot"));
    assert_eq!(folder.list().unwrap(), "a.txt (1 bytes)");
}

#[test]
fn a_directory_shows_its_index() {
    let (_home, folder) = folder();
    assert!(matches!(folder.look("/"), Found::Empty { .. }), "before there is anything");
    assert_eq!(folder.look("x"), Found::Nothing);
    folder.write("sub/index.html", "inner").unwrap();
    folder.write("sub/style.css", "p{}").unwrap();
    assert!(matches!(folder.look(""), Found::Empty { .. }));
    assert_eq!(folder.look("sub"), Found::Directory);
    assert_eq!(content(&folder, "sub/").as_deref(), Some("inner"));
    assert!(matches!(folder.look("sub/"), Found::File { print: Some(_), .. }));
    assert!(matches!(folder.look("sub/style.css"), Found::File { print: None, .. }));
    folder.write("index.html", "outer").unwrap();
    assert_eq!(content(&folder, "/").as_deref(), Some("outer"));
}

#[test]
fn every_change_changes_the_print() {
    let (home, folder) = folder();
    let mut prints = vec![folder.print()];
    let mut next = || {
        let print = folder.print();
        assert!(!prints.contains(&print), "{prints:?}");
        prints.push(print);
        assert_eq!(prints.last(), Some(&folder.print()), "the same without a change");
    };
    folder.write("a/index.html", "one").unwrap();
    next();
    folder.write("a/index.html", "two").unwrap();
    next();
    folder.write("b.css", "p{}").unwrap();
    next();
    fs::rename(home.path().join("canvas/b.css"), home.path().join("canvas/c.css")).unwrap();
    next();
    folder.remove("a/index.html").unwrap();
    next();
}

#[test]
fn there_is_an_end_to_sizes_and_numbers() {
    let (home, folder) = folder();
    assert!(folder.write("a.txt", &"x".repeat(MAX_TEXT + 1)).unwrap_err().contains("at once"));
    let canvas = home.path().join("canvas");
    fs::create_dir_all(&canvas).unwrap();
    let sparse =
        |name: &str, bytes: u64| fs::File::create(canvas.join(name)).unwrap().set_len(bytes).unwrap();
    sparse("large.bin", MAX_FILE as u64 + 1);
    assert_eq!(folder.look("large.bin"), Found::TooLarge);
    sparse("large.bin", MAX_TOTAL);
    assert!(folder.write("a.txt", "x").unwrap_err().contains("delete some"));
    folder.remove("large.bin").unwrap();
    for number in 0..MAX_FILES {
        fs::write(canvas.join(format!("{number}.txt")), "").unwrap();
    }
    assert!(folder.write("a.txt", "x").unwrap_err().contains("as many as there may be"));
    folder.write("1.txt", "what is there may change").unwrap();
    let deep = "d/".repeat(MAX_DEPTH);
    assert!(folder.write(&format!("{deep}x"), "").unwrap_err().contains("at most"));
}
