use super::*;
use crate::settings::ToolsSettings;
use crate::tools::Policy;
use crate::tools::testing::{call, outcome};
use crate::tools::{MAX_RESULT, Registry};
use std::path::Path;

/// The outcome of a call that has passed the gates.
pub(super) async fn used(workspace: &Path, name: &str, args: Value) -> ToolResult {
    let registry = Registry::new(tools());
    let may = Policy::new(&ToolsSettings::default());
    let tool = registry.check(name, &args, &may).unwrap();
    outcome(tool.as_ref(), workspace, args).await
}

/// Its text, which is no error.
pub(super) async fn text(workspace: &Path, name: &str, args: Value) -> String {
    let result = used(workspace, name, args).await;
    assert!(!result.is_error, "{}", result.as_text());
    result.as_text()
}

/// Its text, which is one.
pub(super) async fn error(workspace: &Path, name: &str, args: Value) -> String {
    let result = used(workspace, name, args).await;
    assert!(result.is_error, "{}", result.as_text());
    result.as_text()
}

#[test]
fn every_schema_is_one_and_knows_its_arguments() {
    let registry = Registry::new(tools());
    let may = Policy::new(&ToolsSettings::default());
    assert_eq!(registry.tools().count(), 8);
    for tool in registry.tools() {
        let definition = tool.definition();
        let refusal = registry.check(&definition.name, &json!({ "nonsense": 1 }), &may).err().unwrap();
        assert!(refusal.why.contains("nonsense"), "{}", refusal.why);
        assert!(definition.name.len() <= 64 && !definition.description.is_empty());
    }
    const { assert!(MAX_TEXT < MAX_RESULT) }
}

#[tokio::test]
async fn a_workspace_that_does_not_exist_is_made_by_writing_only() {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("agents/main");
    assert_eq!(text(&workspace, "ls", json!({})).await, NOTHING_YET);
    assert_eq!(text(&workspace, "find", json!({ "pattern": "*" })).await, NOTHING_YET);
    assert_eq!(text(&workspace, "grep", json!({ "pattern": "x" })).await, NOTHING_YET);
    assert_eq!(error(&workspace, "read", json!({ "path": "a" })).await, NOTHING_YET);
    assert!(text(&workspace, "memory_search", json!({ "query": "word" })).await.starts_with("Nothing"));
    assert!(!home.path().join("agents").exists());
    text(&workspace, "write", json!({ "path": "notes/a.md", "content": "hello" })).await;
    assert_eq!(text(&workspace, "read", json!({ "path": "notes/a.md" })).await, "hello");
}

/// A call whose future is dropped ends its work, which gives its seat back.
#[tokio::test]
async fn work_ends_soon_after_nobody_waits_for_it() {
    fn until_cut(job: &Job) -> Outcome {
        let mut endless = Watched(io::repeat(b'x'), &job.cut);
        let (mut piece, begin) = ([0; 1024], std::time::Instant::now());
        while begin.elapsed() < Duration::from_secs(20) {
            endless.read_exact(&mut piece).map_err(|e| e.to_string())?;
        }
        Err("nobody ended it".into())
    }
    let seats = Arc::new(Semaphore::new(1));
    let definition = define("endless", "Endless", "", json!({}), &[]);
    let tool = FileTool { definition, work: until_cut, seats: seats.clone() };
    let working = tokio::spawn(tool.call(call(Path::new("/nowhere"), json!({}))));
    while seats.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    working.abort();
    let seat = tokio::time::timeout(Duration::from_secs(10), seats.acquire()).await;
    assert!(seat.is_ok(), "the work goes on");
}

#[tokio::test]
async fn a_tool_that_panics_says_nothing_of_what_it_read() {
    fn panics(_: &Job) -> Outcome {
        panic!("the secret")
    }
    let definition = define("panics", "Panics", "", json!({}), &[]);
    let tool = FileTool { definition, work: panics, seats: Arc::new(Semaphore::new(1)) };
    let result = outcome(&tool, Path::new("/nowhere"), json!({})).await;
    assert!(result.is_error && !result.as_text().contains("secret"), "{}", result.as_text());
}
