use super::super::tests::text;
use super::*;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn seen(dir: &Path, start: &str, cut: &CancellationToken) -> Vec<String> {
    let workspace = Workspace::open(dir).unwrap().unwrap();
    let walk = Walk::new(&workspace, Path::new(start), cut).unwrap();
    walk.map(|found| format!("{}{}", found.path.display(), found.kind.mark())).collect()
}

#[test]
fn what_gitignore_names_is_left_out_from_where_it_stands() {
    let dir = tree(&[
        (".gitignore", "target/\n*.log\n/top\n"),
        (".git/config", ""),
        ("target/out", ""),
        ("sub/.gitignore", "!keep.log\nlocal\n"),
        ("sub/keep.log", ""),
        ("sub/drop.log", ""),
        ("sub/local", ""),
        ("sub/top", ""),
        ("local", ""),
        ("top", ""),
    ]);
    let all = [".gitignore", "local", "sub/", "sub/.gitignore", "sub/keep.log", "sub/top"];
    assert_eq!(seen(dir.path(), ".", &CancellationToken::new()), all);
    assert_eq!(seen(dir.path(), "sub/../sub", &CancellationToken::new()), all[3..]);
}

#[test]
fn links_are_told_and_not_followed() {
    let dir = tree(&[("sub/file", "")]);
    symlink(".", dir.path().join("sub/loop")).unwrap();
    symlink("/etc", dir.path().join("out")).unwrap();
    assert_eq!(seen(dir.path(), ".", &CancellationToken::new()), ["out@", "sub/", "sub/file", "sub/loop@"]);
}

#[test]
fn a_walk_ends_when_nobody_waits_for_it() {
    let dir = tree(&[("a", ""), ("b", "")]);
    let (workspace, cut) = (Workspace::open(dir.path()).unwrap().unwrap(), CancellationToken::new());
    let mut walk = Walk::new(&workspace, Path::new("."), &cut).unwrap();
    assert!(walk.next().is_some());
    cut.cancel();
    assert!(walk.next().is_none());
}

#[test]
fn a_walk_through_too_many_files_is_cut_short() {
    let dir = tree(&[("a/1", ""), ("a/2", ""), ("a/3", ""), ("b/4", "")]);
    let (workspace, cut) = (Workspace::open(dir.path()).unwrap().unwrap(), CancellationToken::new());
    let mut walk = Walk::new(&workspace, Path::new("."), &cut).unwrap();
    walk.left = 2;
    assert_eq!(walk.by_ref().count(), 4, "a, two files of it, b");
    assert!(walk.cut_short());
}

#[tokio::test]
async fn a_glob_fits_names_or_paths() {
    let dir = tree(&[("a.md", ""), ("sub/b.md", ""), ("sub/deep/c.md", ""), ("sub/d.txt", "")]);
    for (args, paths) in [
        (json!({ "pattern": "*.md" }), "a.md\nsub/b.md\nsub/deep/c.md"),
        (json!({ "pattern": "sub/*.md" }), "sub/b.md"),
        (json!({ "pattern": "**/*.md", "path": "sub" }), "sub/b.md\nsub/deep/c.md"),
        (json!({ "pattern": "deep/*", "path": "sub" }), "sub/deep/c.md"),
        (json!({ "pattern": "deep" }), "sub/deep/"),
        (json!({ "pattern": "*.rs" }), "[Nothing fits the pattern.]"),
    ] {
        assert_eq!(text(dir.path(), "find", args).await, paths);
    }
}
