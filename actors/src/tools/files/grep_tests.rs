use super::super::tests::{error, text, used};
use super::*;
use std::fs;
use std::path::PathBuf;

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("a.md"), "one\ntwo\nThree (3)\nfour\n").unwrap();
    fs::write(dir.path().join("sub/b.txt"), "nothing\r\ntwo more\r\n").unwrap();
    fs::write(dir.path().join("sub/binary"), b"two\0two").unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

#[tokio::test]
async fn lines_are_found_with_their_files_and_numbers() {
    let (_dir, at) = place();
    for (args, found) in [
        (json!({ "pattern": "two" }), "a.md:2: two\nsub/b.txt:2: two more"),
        (json!({ "pattern": "^two$" }), "a.md:2: two"),
        (json!({ "pattern": "more$" }), "sub/b.txt:2: two more"),
        (json!({ "pattern": "two", "path": "sub" }), "sub/b.txt:2: two more"),
        (json!({ "pattern": "two", "path": "a.md" }), "a.md:2: two"),
        (json!({ "pattern": "two", "glob": "*.md" }), "a.md:2: two"),
        (json!({ "pattern": "two", "glob": "!*.md" }), "sub/b.txt:2: two more"),
        (json!({ "pattern": "two", "glob": "sub/*.txt" }), "sub/b.txt:2: two more"),
        (json!({ "pattern": "three", "ignoreCase": true }), "a.md:3: Three (3)"),
        (json!({ "pattern": "three" }), "[No line fits the pattern.]"),
        (json!({ "pattern": "(3)", "literal": true }), "a.md:3: Three (3)"),
        (
            json!({ "pattern": "two", "glob": "*.md", "context": 1 }),
            "a.md-1- one\na.md:2: two\na.md-3- Three (3)",
        ),
    ] {
        assert_eq!(text(&at, "grep", args.clone()).await, found, "{args}");
    }
    assert!(error(&at, "grep", json!({ "pattern": "(" })).await.contains("set literal"));
    assert!(
        error(&at, "grep", json!({ "pattern": "x{1000}{1000}{1000}" }))
            .await
            .contains("no regular expression")
    );
}

#[tokio::test]
async fn a_search_stops_at_its_limits() {
    let (_dir, at) = place();
    fs::write(at.join("many"), "hit\n".repeat(300)).unwrap();
    let found = used(&at, "grep", json!({ "pattern": "hit" })).await;
    assert!(
        found
            .as_text()
            .ends_with("many:100: hit\n\n[Stopped after 100 matches. Narrow the search, or raise limit.]")
    );
    assert_eq!(found.details, json!({ "path": ".", "count": 100, "truncated": true }));
    fs::write(at.join("many"), format!("hit {}\n", "ü".repeat(5_000)).repeat(300)).unwrap();
    let found = text(&at, "grep", json!({ "pattern": "hit", "limit": 1000 })).await;
    assert!(found.len() <= MAX_TEXT + 100 && found.contains("ü […]\n"), "{}", found.len());
    fs::write(at.join("many"), format!("hit\n{}\n", "x".repeat(MAX_HEAP + 1))).unwrap();
    let found = text(&at, "grep", json!({ "pattern": "xy" })).await;
    assert_eq!(found, "[No line fits the pattern.]\n[1 files could not be searched.]");
}
