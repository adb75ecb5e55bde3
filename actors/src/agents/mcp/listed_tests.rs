use super::super::testing::Fake;
use super::*;
use crate::agents::mcp::client::Client;

fn terms(filter: Value) -> Terms {
    Terms {
        server: "my server".into(),
        timeout: Duration::from_secs(7),
        is_process: true,
        filter: Filter::new("my server", &serde_json::from_value(filter).unwrap()).unwrap(),
    }
}

/// What becomes of tools listed like this.
async fn made(filter: Value, listed: Vec<Value>) -> Vec<Definition> {
    let line = Fake::with(&[]).reached(Client::default()).await.unwrap();
    let link = Arc::new(Link {
        server: "my server".into(),
        peer: line.service.peer().clone(),
        progresses: Default::default(),
        pid: None,
        calls: Default::default(),
    });
    let listed = listed.into_iter().map(|tool| serde_json::from_value(tool).unwrap()).collect();
    tools(&terms(filter), listed, &link).iter().map(|tool| tool.definition().clone()).collect()
}

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": {} })
}

fn names(made: &[Definition]) -> Vec<&str> {
    made.iter().map(|tool| tool.name.as_str()).collect()
}

#[tokio::test]
async fn a_tool_is_described_as_the_server_does() {
    let listed = json!({
        "name": "look.up", "title": "Look up", "description": "Looks things up.",
        "inputSchema": { "properties": { "q": { "type": "string" } }, "required": ["q"] },
        "annotations": { "readOnlyHint": true },
    });
    let made = made(json!({}), vec![listed, tool("bare")]).await;
    let [look, bare] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!((look.name.as_str(), look.label.as_str()), ("my-server__look-up", "Look up"));
    assert_eq!((look.description.as_str(), look.effects), ("Looks things up.", Effects::None));
    assert_eq!(
        look.parameters,
        json!({ "properties": { "q": { "type": "string" } }, "required": ["q"], "type": "object" })
    );
    assert_eq!((look.group.as_str(), look.timeout), ("mcp:my server", Duration::from_secs(7)));
    assert_eq!((look.permissions.as_slice(), look.sandbox), (&[Permission::Mcp][..], Sandbox::Process));
    assert_eq!((bare.label.as_str(), bare.effects), ("bare", Effects::External));
    assert_eq!(bare.description, "bare, a tool of the MCP server my server");
}

#[tokio::test]
async fn effects_are_those_hinted_at() {
    let hinted = |name: &str, hints: Value| json!({ "name": name, "inputSchema": {}, "annotations": hints });
    let made = made(
        json!({}),
        vec![
            hinted("a", json!({ "idempotentHint": true })),
            hinted("b", json!({ "readOnlyHint": false, "idempotentHint": false })),
        ],
    );
    let effects: Vec<_> = made.await.iter().map(|tool| tool.effects).collect();
    assert_eq!(effects, [Effects::Repeatable, Effects::External]);
}

#[tokio::test]
async fn names_fit_every_provider_and_only_the_first_of_two_is_used() {
    let long = "x".repeat(100);
    let listed = ["a b", "a-b", "A.B", "1st", "ü", "", &long, &format!("{long}y")].map(tool);
    let made = made(json!({}), listed.into()).await;
    let cut = format!("my-server__{}", "x".repeat(MAX_NAME - 11));
    assert_eq!(
        names(&made),
        ["my-server__a-b", "my-server__tool-1st", "my-server__tool--", "my-server__tool", cut.as_str()]
    );
    assert_eq!((prefix("4u"), prefix(&"s".repeat(50)).len()), ("mcp-4u".into(), MAX_SERVER));
}

#[tokio::test]
async fn only_tools_that_are_chosen_are_used() {
    let listed = || ["read_file", "read_dir", "write_file"].map(tool).into();
    let some = made(json!({ "include": ["read_*", "write_file"], "exclude": ["*_dir"] }), listed()).await;
    assert_eq!(names(&some), ["my-server__read_file", "my-server__write_file"]);
    let wrong = ToolFilter { include: vec!["[".into()], exclude: Vec::new() };
    let Err(why) = Filter::new("x", &wrong) else { panic!() };
    assert!(why.starts_with("mcp.servers.x.toolFilter.include: "), "{why}");
}

#[tokio::test]
async fn what_is_too_much_is_left_out() {
    let mut wordy = tool("wordy");
    wordy["description"] = "ä".repeat(MAX_DESCRIPTION).into();
    let mut deep = tool("deep");
    deep["inputSchema"]["description"] = "x".repeat(MAX_SCHEMA).into();
    let many = (0..MAX_TOOLS).map(|number| tool(&format!("t{number}")));
    let made = made(json!({}), [wordy, deep].into_iter().chain(many).collect()).await;
    assert_eq!(made.len(), MAX_TOOLS);
    assert_eq!(made[0].description.len(), MAX_DESCRIPTION);
    assert_eq!((made[1].name.as_str(), made.last().unwrap().label.as_str()), ("my-server__t0", "t126"));
}
