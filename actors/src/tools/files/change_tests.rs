use super::super::tests::{error, text, used};
use super::*;
use std::fs;

#[tokio::test]
async fn a_file_is_made_with_its_directories_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let args = json!({ "path": "a/b/c.md", "content": "one" });
    let made = used(dir.path(), "write", args.clone()).await;
    assert_eq!(made.as_text(), "Made a/b/c.md (3 bytes).");
    assert_eq!(made.details, json!({ "path": "a/b/c.md", "bytes": 3, "created": true }));
    assert_eq!(text(dir.path(), "write", args).await, "Replaced a/b/c.md (3 bytes).");
    assert_eq!(fs::read_to_string(dir.path().join("a/b/c.md")).unwrap(), "one");
    for path in ["a/b", "a/b/", "a/b/c.md/d", ".", ".."] {
        error(dir.path(), "write", json!({ "path": path, "content": "x" })).await;
    }
    let large = "x".repeat(MAX_FILE + 1);
    assert!(error(dir.path(), "write", json!({ "path": "l", "content": large })).await.contains("at most"));
    assert!(!dir.path().join("l").exists());
}

#[tokio::test]
async fn an_edit_changes_one_place_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "\u{feff}one\r\ntwo\r\nthree\nfour\n").unwrap();
    let edited =
        used(dir.path(), "edit", json!({ "path": "f", "oldText": "two\nthree\nfour", "newText": "2" })).await;
    assert!(edited.is_error, "the place has two kinds of line ends: {}", edited.as_text());
    let edited =
        used(dir.path(), "edit", json!({ "path": "f", "oldText": "one\ntwo", "newText": "1\n1½\n2" })).await;
    assert_eq!(edited.as_text(), "Changed f at line 1.");
    assert_eq!(fs::read_to_string(&file).unwrap(), "\u{feff}1\r\n1½\r\n2\r\nthree\nfour\n");
    assert_eq!(edited.details["firstChangedLine"], 1);
    text(dir.path(), "edit", json!({ "path": "f", "oldText": "three\nfour", "newText": "3\n4" })).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "\u{feff}1\r\n1½\r\n2\r\n3\n4\n");
}

#[tokio::test]
async fn an_edit_that_fits_no_place_or_several_changes_nothing_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "a\n  b\nc\na\n").unwrap();
    for (old, why) in [
        ("b\nc", "Changed f at line 2."),
        ("a", "found 2 times (at lines 1, 4)"),
        ("x", "oldText is not found. Read the file and copy the text exactly."),
        ("\tb\n c", "From line 2 on there is a text that differs from it in white space only."),
        ("", "use `write`"),
    ] {
        fs::write(&file, "a\n  b\nc\na\n").unwrap();
        let args = json!({ "path": "f", "oldText": old, "newText": "new" });
        let told = used(dir.path(), "edit", args).await;
        assert!(told.as_text().contains(why), "{}", told.as_text());
        assert_eq!(fs::read_to_string(&file).unwrap() == "a\n  b\nc\na\n", told.is_error, "{old:?}");
    }
    fs::write(&file, b"caf\xe9").unwrap();
    let args = json!({ "path": "f", "oldText": "caf", "newText": "x" });
    assert!(error(dir.path(), "edit", args).await.contains("not UTF-8"));
    assert_eq!(fs::read(&file).unwrap(), b"caf\xe9");
}

#[test]
fn overlapping_places_are_counted_and_many_only_up_to_a_bound() {
    assert_eq!(places("aaa", "aa"), [0, 1]);
    assert_eq!(places("äää", "ä").len(), 3);
    assert_eq!(places(&"x".repeat(1_000), "x").len(), MAX_PLACES);
}

/// Two edits of one file at a time: none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_at_the_same_time_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let registry = crate::tools::Registry::new(super::super::tools());
    let content: String = (0..8).map(|n| format!("<{n}>\n")).collect();
    fs::write(dir.path().join("f"), content).unwrap();
    let call = crate::tools::testing::call(dir.path(), json!({}));
    let edits = (0..8).map(|n| {
        let args = json!({ "path": "f", "oldText": format!("<{n}>"), "newText": format!("done {n}") });
        let edit = registry.tool("edit").unwrap().call(crate::tools::Call { args, ..call.clone() });
        tokio::spawn(edit)
    });
    for edit in edits.collect::<Vec<_>>() {
        assert!(!edit.await.unwrap().is_error);
    }
    let content = fs::read_to_string(dir.path().join("f")).unwrap();
    assert!((0..8).all(|n| content.contains(&format!("done {n}\n"))), "{content}");
}
