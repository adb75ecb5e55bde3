use super::super::client::Client;
use super::super::testing::Fake;
use super::*;
use crate::tools::testing::call;
use crate::tools::{Effects, Permission, Sandbox, run};
use parking_lot::Mutex;
use rmcp::service::RunningService;
use std::path::Path;
use std::time::Duration;

/// A tool of this name, and what keeps the connection alive.
async fn tool(fake: &Arc<Fake>, name: &str) -> (McpTool, RunningService<RoleClient, Client>) {
    let client = Client::default();
    let line = fake.clone().reached(client.clone()).await.unwrap();
    let link = Link {
        server: "fake".into(),
        peer: line.service.peer().clone(),
        progresses: client.progresses,
        pid: None,
        calls: AtomicUsize::new(0),
    };
    let definition = Definition {
        name: name.into(),
        label: name.into(),
        description: String::new(),
        parameters: json!({ "type": "object" }),
        group: "mcp:fake".into(),
        permissions: vec![Permission::Mcp],
        timeout: Duration::from_secs(5),
        sandbox: Sandbox::None,
        effects: Effects::External,
    };
    (McpTool::new(definition, name.into(), Arc::new(link)), line.service)
}

fn asked(args: Value) -> Call {
    call(Path::new("/nowhere"), args)
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_the_server_and_its_words_come_back() {
    let fake = Fake::with(&[]);
    for (name, words, is_error) in [
        ("echo", r#"{"a":1}"#, false),
        ("fail", "it is broken", true),
        ("refuse", "The MCP server fake refused: no such thing", true),
    ] {
        let (tool, _service) = tool(&fake, name).await;
        let result = run(&tool, asked(json!({ "a": 1 }))).await;
        assert_eq!((result.as_text().as_str(), result.is_error), (words, is_error), "{name}");
        assert!(tool.link.is_idle());
    }
}

#[tokio::test(start_paused = true)]
async fn how_a_call_goes_is_told() {
    let (tool, _service) = tool(&Fake::with(&[]), "slow").await;
    let told = Arc::<Mutex<Vec<String>>>::default();
    let heard = told.clone();
    let progress: Progress = Arc::new(move |so_far| heard.lock().push(so_far.as_text()));
    let result = run(&tool, Call { progress, ..asked(json!({})) }).await;
    assert_eq!(
        (result.as_text().as_str(), told.lock().as_slice()),
        ("there", &["half way", "2 of 2"].map(String::from)[..])
    );
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_that_nobody_waits_any_more() {
    let fake = Fake::with(&[]);
    let (tool, _service) = tool(&fake, "hang").await;
    let late = run(&tool, asked(json!({}))).await;
    assert!(late.is_error && late.as_text().contains("took longer than 5 s"), "{late:?}");
    assert!(tool.link.is_idle());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let told = fake.told.lock().pop().unwrap();
    assert_eq!(told["method"], "notifications/cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_in_the_middle_of_a_call_is_said_to_have_ended() {
    let fake = Fake::with(&[]);
    let (tool, _service) = tool(&fake, "hang").await;
    let ending = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.hang_up.notify_one();
    };
    let (result, ()) = tokio::join!(run(&tool, asked(json!({}))), ending);
    assert!(result.is_error && result.as_text().contains("has ended or cannot be reached"), "{result:?}");
    let again = run(&tool, asked(json!({}))).await;
    assert!(again.as_text().contains("has ended or cannot be reached"), "{again:?}");
}

#[test]
fn what_a_model_cannot_read_is_named() {
    let result = read(
        serde_json::from_value(json!({
            "content": [
                { "type": "text", "text": "words" },
                { "type": "image", "data": "AAAA", "mimeType": "image/png" },
                { "type": "audio", "data": "AAAAAAAA", "mimeType": "audio/wav" },
                { "type": "resource", "resource": { "uri": "file:///a", "text": "inside" } },
                { "type": "resource", "resource": { "uri": "file:///b", "mimeType": "a/b", "blob": "AAAA" } },
                { "type": "resource_link", "uri": "file:///c", "name": "c", "description": "a file" },
            ],
            "structuredContent": { "n": 1 },
        }))
        .unwrap(),
    );
    let texts = [
        "words",
        "[a recording, audio/wav, 6 bytes: not shown]",
        "file:///a:\ninside",
        "[file:///b, a/b, 3 bytes: not shown]",
        "c: file:///c (a file)",
    ];
    assert_eq!(result.as_text(), texts.join("\n"));
    assert_eq!(result.content[1], json!({ "type": "image", "data": "AAAA", "mimeType": "image/png" }));
    assert_eq!(result.details, json!({ "n": 1 }));
}

#[test]
fn a_result_of_structure_alone_is_text_as_well_and_too_much_of_it_is_only_that() {
    let structured =
        |value: Value| read(serde_json::from_value(json!({ "structuredContent": value })).unwrap());
    let small = structured(json!({ "n": 1 }));
    assert_eq!((small.as_text().as_str(), &small.details), (r#"{"n":1}"#, &json!({ "n": 1 })));
    let large = structured(json!("x".repeat(MAX_STRUCTURED)));
    assert_eq!((large.as_text().len(), &large.details), (MAX_STRUCTURED + 2, &Value::Null));
}
