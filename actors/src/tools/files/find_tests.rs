use super::super::tests::{error, text, used};
use super::*;
use std::fs;

#[tokio::test]
async fn a_directory_is_listed_by_name_with_marks() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(text(dir.path(), "ls", json!({})).await, "[The directory is empty.]");
    fs::create_dir(dir.path().join("b")).unwrap();
    fs::write(dir.path().join(".hidden"), "").unwrap();
    fs::write(dir.path().join("c"), "").unwrap();
    std::os::unix::fs::symlink("c", dir.path().join("a")).unwrap();
    let list = used(dir.path(), "ls", json!({})).await;
    assert_eq!(list.as_text(), ".hidden\na@\nb/\nc");
    assert_eq!(list.details, json!({ "path": ".", "count": 4, "truncated": false }));
    let list = used(dir.path(), "ls", json!({ "limit": 2 })).await;
    assert_eq!(list.as_text(), ".hidden\na@\n\n[The first 2 of 4 names. Raise limit, or use `find`.]");
    assert_eq!(list.details["truncated"], true);
    assert_eq!(
        error(dir.path(), "ls", json!({ "path": "c" })).await,
        "c is no directory: `read` shows files."
    );
    assert!(error(dir.path(), "ls", json!({ "path": "d" })).await.starts_with("There is no d."));
}

#[tokio::test]
async fn a_search_stops_at_its_limit_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5 {
        fs::write(dir.path().join(format!("{n}.md")), "").unwrap();
    }
    let found = text(dir.path(), "find", json!({ "pattern": "*.md", "limit": 5 })).await;
    assert_eq!(found.lines().count(), 5, "{found}");
    let found = text(dir.path(), "find", json!({ "pattern": "*.md", "limit": 3 })).await;
    assert!(found.starts_with("0.md\n1.md\n2.md\n\n[There is more than these 3 paths."), "{found}");
    assert!(error(dir.path(), "find", json!({ "pattern": "a[" })).await.starts_with("a[ is no glob"));
}

#[test]
fn a_list_is_no_longer_than_a_result() {
    let mut list = List::new(MAX_LIMIT);
    while list.add(&"x".repeat(200)) {}
    assert!(list.full && list.text.len() <= MAX_TEXT && list.count > 200);
}
