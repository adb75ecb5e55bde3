use super::*;
use crate::settings::Settings;

fn hooks(json: serde_json::Value) -> HooksSettings {
    serde_json::from_value(json).unwrap()
}

fn catalog() -> Catalog {
    let settings: Settings =
        serde_json::from_value(json!({ "agents": { "entries": { "main": {}, "ops": {} } } })).unwrap();
    Catalog::new(&settings, &[])
}

fn request(key: &str) -> Named {
    Named { key: key.into(), fixed: false }
}

#[test]
fn only_agents_that_are_allowed_are_reached_also_by_default() {
    let agent =
        |hooks: &HooksSettings, meant: Agent| agent(hooks, &catalog(), &meant).map_err(|wrong| wrong.error);
    let all = hooks(json!({}));
    assert_eq!(agent(&all, Agent::Default), Ok("main".into()));
    assert_eq!(agent(&all, Agent::Asked("nope".into())), Err(r#"unknown agentId "nope""#.into()));
    assert_eq!(agent(&all, Agent::Mapped("nope".into())), Ok("main".into()));
    let ops = hooks(json!({ "allowedAgentIds": ["ops"] }));
    assert!(agent(&ops, Agent::Default).is_err() && agent(&ops, Agent::Asked("ops".into())).is_ok());
    assert!(agent(&hooks(json!({ "allowedAgentIds": [] })), Agent::Default).is_err());
    assert!(agent(&hooks(json!({ "allowedAgentIds": ["*"] })), Agent::Default).is_ok());
}

/// accepts: D10
#[test]
fn a_request_names_only_sessions_that_it_may() {
    let key =
        |hooks: &HooksSettings, named: Named| session(hooks, "main", &named).map(|key| key.to_string()).ok();
    let closed = hooks(json!({}));
    assert_eq!(key(&closed, request("hook:a")), None);
    assert_eq!(
        key(&closed, Named { key: "hook:a".into(), fixed: true }).as_deref(),
        Some("agent:main:hook:a")
    );
    let open = hooks(json!({ "allowRequestSessionKey": true, "allowedSessionKeyPrefixes": ["Hook:", " "] }));
    assert_eq!(key(&open, request("HOOK:a")).as_deref(), Some("agent:main:HOOK:a"));
    assert_eq!(
        key(&open, request("agent:ops:hook:a")).as_deref(),
        Some("agent:main:hook:a"),
        "of its own agent"
    );
    for refused in ["main", "agent:ops:main", "hook:run:1", "agent:x:agent:y:hook:a", "cron:x"] {
        assert_eq!(key(&open, request(refused)), None, "{refused}");
    }
    let anything = hooks(json!({ "allowRequestSessionKey": true }));
    for refused in ["subagent:a", "agent:main:cron:a", "acp:x", "agent:x:agent:y:z"] {
        assert_eq!(key(&anything, request(refused)), None, "{refused}");
    }
}

#[test]
fn a_run_has_a_session_of_its_own_unless_it_is_to_go_on_in_one() {
    let id = RunId::from("r1");
    let of = |hooks: &HooksSettings, session: Option<Named>, mode| {
        let run = Run { session, session_mode: mode, ..Run::default() };
        place(hooks, "main", &run, &id).map(|key| key.to_string()).ok()
    };
    use HookSessionMode::{Isolated, Persistent};
    let open = hooks(json!({ "allowRequestSessionKey": true }));
    assert_eq!(of(&open, None, Isolated).as_deref(), Some("agent:main:hook:run:r1"));
    assert_eq!(of(&open, Some(request("hook:a")), Isolated).as_deref(), Some("agent:main:hook:run:r1"));
    assert_eq!(of(&open, Some(request("cron:a")), Isolated), None, "it is refused even where it is not used");
    assert_eq!((of(&open, Some(request("hook:a")), Persistent), of(&open, None, Persistent)), (None, None));
    let safe = hooks(json!({ "allowRequestSessionKey": true, "allowedSessionKeyPrefixes": ["hook:"] }));
    assert_eq!(of(&safe, Some(request("hook:a")), Persistent).as_deref(), Some("agent:main:hook:a"));
    let fixed = hooks(json!({ "defaultSessionKey": "hook:in" }));
    assert_eq!(of(&fixed, None, Persistent).as_deref(), Some("agent:main:hook:in"));
}

#[test]
fn the_same_key_is_the_same_run_only_where_the_same_is_asked() {
    let run = |key: Option<&str>, message: &str| Run {
        message: message.into(),
        key: key.map(str::to_owned),
        ..Run::default()
    };
    let (token, other) = (Secret::new("one-token"), Secret::new("another-token"));
    let first = run_id(&token, "agent", "main", &run(Some("k"), "hi"));
    assert_eq!(first, run_id(&token, "agent", "main", &run(Some("k"), "hi")));
    for else_ in [
        run_id(&token, "agent", "main", &run(Some("l"), "hi")),
        run_id(&token, "agent", "main", &run(Some("k"), "ho")),
        run_id(&token, "agent", "ops", &run(Some("k"), "hi")),
        run_id(&token, "gh", "main", &run(Some("k"), "hi")),
        run_id(&other, "agent", "main", &run(Some("k"), "hi")),
    ] {
        assert_ne!(first, else_);
    }
    assert_ne!(
        run_id(&token, "agent", "main", &run(None, "hi")),
        run_id(&token, "agent", "main", &run(None, "hi"))
    );
}
