use super::*;
use crate::settings::{HookSessionMode, HookWake};

fn mapping(json: Value) -> HookMapping {
    serde_json::from_value(json).unwrap()
}

fn scene(path: &str, payload: Value) -> Scene {
    Scene { payload, path: path.into(), ..Scene::default() }
}

fn made(mapping: &HookMapping, payload: Value) -> Result<Vec<Action>, Wrong> {
    let channels = serde_json::from_value(json!({ "telegram": {} })).unwrap();
    actions(mapping, &scene("x", payload), &channels)
}

fn run(action: Action) -> Run {
    match action {
        Action::Run(run) => *run,
        Action::Wake(wake) => panic!("{wake:?}"),
    }
}

#[test]
fn the_first_mapping_that_matches_by_path_and_source_is_taken() {
    let mappings = [
        mapping(json!({ "id": "a", "match": { "path": "/gh/", "source": "ci" } })),
        mapping(json!({ "id": "b", "match": { "path": "gh" } })),
        mapping(json!({ "id": "c", "match": { "source": "any" } })),
    ];
    let found = |path: &str, source: Value| {
        let found = find(&mappings, &scene(path, json!({ "source": source })));
        found.and_then(|mapping| mapping.id.clone())
    };
    assert_eq!(found("gh", json!("ci")).as_deref(), Some("a"));
    assert_eq!(found("gh", json!("other")).as_deref(), Some("b"));
    assert_eq!(found("else", json!("any")).as_deref(), Some("c"));
    assert_eq!((found("else", json!(5)), found("gh/deep", json!("ci"))), (None, None));
}

#[test]
fn a_mapping_makes_a_run_of_its_templates() {
    let it = mapping(json!({
        "name": "GitHub {{repo}}", "messageTemplate": " {{action}}: {{title}}\n", "sessionKey": "hook:gh:{{id}}",
        "sessionMode": "persistent", "channel": "telegram", "to": "{{chat}}", "agentId": "ops", "model": "m/1",
        "thinking": "low", "timeoutSeconds": 30, "wakeMode": "next-heartbeat",
    }));
    let payload = json!({ "repo": "crab", "action": "opened", "title": "It leaks", "id": 7, "chat": 42 });
    let run = run(made(&it, payload).unwrap().remove(0));
    assert_eq!((run.message.as_str(), run.name.as_str()), ("opened: It leaks", "GitHub crab"));
    assert_eq!(run.session, Some(Named { key: "hook:gh:7".into(), fixed: false }));
    assert_eq!((run.session_mode, run.wake), (HookSessionMode::Persistent, HookWake::NextHeartbeat));
    let chat = Chat { channel: Some("telegram".into()), to: Some("42".into()), account: None };
    assert_eq!((run.deliver, run.agent), (Deliver::Chat(chat), Agent::Mapped("ops".into())));
    assert_eq!((run.timeout_seconds, run.trusted), (Some(30), false));
}

#[test]
fn a_wake_is_the_text_of_its_template() {
    let it =
        mapping(json!({ "action": "wake", "textTemplate": "Door: {{state}}", "wakeMode": "next-heartbeat" }));
    let wake = Wake { text: "Door: open".into(), mode: HookWake::NextHeartbeat, ..Wake::default() };
    assert_eq!(made(&it, json!({ "state": "open" })).unwrap(), [Action::Wake(wake)]);
}

#[test]
fn what_comes_to_nothing_is_refused() {
    let error = |it: Value| made(&mapping(it), json!({})).unwrap_err().error;
    assert!(error(json!({})).starts_with("message required"));
    assert!(error(json!({ "action": "wake", "textTemplate": "{{gone}}" })).starts_with("text required"));
    assert!(error(json!({ "messageTemplate": "x", "sessionKey": "{{gone}}" })).contains("sessionKey"));
    assert_eq!(error(json!({ "messageTemplate": "x", "channel": "nope" })), "channel must be last|telegram");
}

#[test]
fn a_transform_is_refused_by_name() {
    let it = mapping(json!({ "id": "gh", "messageTemplate": "x", "transform": { "module": "gh.js" } }));
    let wrong = made(&it, json!({})).unwrap_err();
    assert_eq!(wrong.status, 500);
    assert!(wrong.error.starts_with("hook mapping failed: gh has a transform"), "{}", wrong.error);
}

#[test]
fn each_item_of_a_list_sees_a_list_of_itself() {
    let it = mapping(
        json!({ "forEach": "messages", "messageTemplate": "{{box}}: {{messages[0].id}}{{messages[1].id}}" }),
    );
    let said = |payload: Value| -> Vec<String> {
        made(&it, payload).unwrap().into_iter().map(|action| run(action).message).collect()
    };
    assert_eq!(said(json!({ "box": "in", "messages": [{ "id": 1 }, { "id": 2 }] })), ["in: 1", "in: 2"]);
    assert_eq!(said(json!({ "messages": [] })).len() + said(json!({ "messages": 5 })).len(), 0);
    let many: Vec<Value> = (0..MAX_ITEMS + 5).map(|id| json!({ "id": id })).collect();
    assert_eq!(said(json!({ "box": "b", "messages": many })).len(), MAX_ITEMS);
}
