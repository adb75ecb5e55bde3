use super::super::tests::{error, text, used};
use super::*;
use std::fs;

fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("memory")).unwrap();
    fs::write(
        dir.path().join("MEMORY.md"),
        "# People\nAnna likes tea.\n\n# Places\nThe cabin is in Norway.\n",
    )
    .unwrap();
    fs::write(dir.path().join("memory/2026-01-02.md"), "Talked about tea, tea and more tea with Bert.\n")
        .unwrap();
    fs::write(dir.path().join("memory/notes.txt"), "tea, but no memory").unwrap();
    fs::write(dir.path().join("other.md"), "tea, but no memory").unwrap();
    dir
}

#[tokio::test]
async fn the_best_place_comes_first_and_only_memory_is_searched() {
    let dir = place();
    let found = used(dir.path(), "memory_search", json!({ "query": "What does ANNA like? Tea?" })).await;
    let results = found.details["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{}", found.as_text());
    assert_eq!(
        (&results[0]["path"], &results[0]["startLine"], &results[0]["endLine"]),
        (&json!("MEMORY.md"), &json!(1), &json!(3))
    );
    assert!(found.as_text().contains("# People\nAnna likes tea."), "{}", found.as_text());
    assert!(!found.as_text().contains("no memory"));
    let found = used(dir.path(), "memory_search", json!({ "query": "tea", "maxResults": 1 })).await;
    assert_eq!(found.details["results"][0]["path"], "memory/2026-01-02.md");
    assert_eq!(found.details["results"].as_array().unwrap().len(), 1);
    let nothing = text(dir.path(), "memory_search", json!({ "query": "submarine" })).await;
    assert_eq!(nothing, "Nothing is remembered with these words.");
    error(dir.path(), "memory_search", json!({ "query": "?!" })).await;
}

#[tokio::test]
async fn memory_is_read_by_lines_and_nothing_else_is() {
    let dir = place();
    let lines = text(dir.path(), "memory_get", json!({ "path": "MEMORY.md", "from": 4, "lines": 1 })).await;
    assert_eq!(lines, "# Places\n\n[Lines 4-4 of 5. Go on with from=5.]");
    for path in ["other.md", "memory/notes.txt", "memory/../other.md", "memory/a/b.md", "memory"] {
        assert!(
            error(dir.path(), "memory_get", json!({ "path": path })).await.contains("no memory"),
            "{path}"
        );
    }
    let missing = error(dir.path(), "memory_get", json!({ "path": "memory/2026-01-03.md" })).await;
    assert!(missing.starts_with("There is no memory/2026-01-03.md"), "{missing}");
}

#[test]
fn a_long_text_is_cut_at_blank_lines() {
    let text: String = (1..=40).map(|n| if n % 10 == 0 { "\n".into() } else { format!("{n}\n") }).collect();
    let file = Remembered { path: "memory/a.md".into(), text };
    let pieces: Vec<_> = file.pieces().iter().map(|piece| (piece.first, piece.last())).collect();
    assert_eq!(pieces, [(1, 10), (11, 20), (21, 30), (31, 40)]);
    let file = Remembered { path: "memory/a.md".into(), text: "x\n".repeat(30) };
    let pieces: Vec<_> = file.pieces().iter().map(|piece| (piece.first, piece.last())).collect();
    assert_eq!(pieces, [(1, 24), (25, 30)]);
}
