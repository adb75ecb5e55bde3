use super::*;
use crate::scope::Scopes;
use serde_json::json;
use serde_json::value::RawValue;

fn verdict(name: &str, role: Role, scopes: &[Scope]) -> Result<Method, String> {
    authorize(name, role, &Scopes::of(scopes), None).map_err(|refusal| refusal.message)
}

#[test]
fn names_are_unique_and_found() {
    for method in Method::ALL {
        assert_eq!(Method::from_name(method.name()), Some(*method));
    }
    assert_eq!(Method::from_name("no.such.method"), None);
}

#[test]
fn authorization_precedes_existence() {
    let operator = Role::Operator;
    assert_eq!(
        verdict("no.such.method", operator, &[Scope::Admin]),
        Err("unknown method: no.such.method".into())
    );
    for scopes in [&[][..], &[Scope::Read], &[Scope::Write]] {
        assert_eq!(verdict("no.such.method", operator, scopes), Err("missing scope: operator.admin".into()));
    }
    assert_eq!(verdict("chat.send", operator, &[Scope::Read]), Err("missing scope: operator.write".into()));
    assert_eq!(verdict("cron.add", operator, &[Scope::Read]), Err("missing scope: operator.admin".into()));
    assert_eq!(
        verdict("exec.approval.resolve", operator, &[Scope::Read]),
        Err("missing scope: operator.approvals".into())
    );
    assert_eq!(verdict("node.event", operator, &[Scope::Admin]), Err("unauthorized role: operator".into()));
    assert_eq!(verdict("node.event", Role::Node, &[]), Ok(Method::NodeEvent));
    assert_eq!(verdict("sessions.list", operator, &[]), Err("missing scope: operator.read".into()));
    assert_eq!(verdict("chat.history", operator, &[Scope::Write]), Ok(Method::ChatHistory));
    assert_eq!(verdict("agent", operator, &[Scope::Write]), Ok(Method::Agent));
}

#[test]
fn nodes_are_told_nothing_but_their_role() {
    for name in ["chat.send", "config.get", "no.such"] {
        assert_eq!(verdict(name, Role::Node, &[Scope::Admin]), Err("unauthorized role: node".into()));
    }
    assert_eq!(verdict("health", Role::Node, &[]), Ok(Method::Health));
    assert_eq!(verdict("health", Role::Operator, &[]), Ok(Method::Health));
}

#[test]
fn connect_is_refused_after_the_handshake() {
    for role in [Role::Operator, Role::Node] {
        assert_eq!(verdict("connect", role, &[]), Err("connect is only valid as the first request".into()));
    }
}

/// Methods that are answered, or will be, without being named.
const HIDDEN: &str = "connect sessions.steer device.pair.setupCode device.pair.setupStatus";

#[test]
fn only_real_methods_are_advertised() {
    let names: Vec<_> = Method::advertised_names(false).collect();
    assert!(!names.contains(&"connect") && !names.contains(&"system.chaos"));
    assert!(Method::advertised_names(true).any(|name| name == "system.chaos"));
    let hidden = Method::ALL.iter().filter(|method| !method.advertised_with(true));
    let hidden: Vec<_> = hidden.map(|method| method.name()).collect();
    let few: Vec<_> = HIDDEN.split_whitespace().collect();
    assert_eq!(hidden, few);
    assert_eq!(names.len(), Method::ALL.len() - hidden.len() - 1);
}

fn verdict_of(name: &str, params: Value, scopes: &[Scope]) -> Result<Method, String> {
    let params = RawValue::from_string(params.to_string()).unwrap();
    authorize(name, Role::Operator, &Scopes::of(scopes), Some(&params)).map_err(|refusal| refusal.message)
}

#[test]
fn changing_a_session_takes_the_scope_its_parameters_ask_for() {
    let more = [
        ("sessions.create", json!({ "execNode": "n" })),
        ("sessions.create", json!({ "toolOverrides": {} })),
        ("sessions.create", json!({ "incognito": true })),
        ("sessions.create", json!({ "permissionMode": "full" })),
        ("sessions.patch", json!({ "key": "k", "permissionMode": "full" })),
        ("sessions.patch", json!({ "key": "k", "sendPolicy": "deny" })),
        ("sessions.patch", json!({ "key": "k", "expectedToolOverrides": null })),
        ("sessions.patchMany", json!({ "targets": [], "patch": { "execHost": "x" } })),
        ("sessions.delete", json!({ "key": "k" })),
        ("sessions.delete", json!({ "key": "k", "archivedOnly": true, "emitLifecycleHooks": true })),
        ("sessions.delete", json!([])),
    ];
    for (name, params) in more {
        let admin = verdict_of(name, params.clone(), &[Scope::Admin]);
        assert_eq!(admin, Ok(Method::from_name(name).unwrap()), "{params}");
        for scope in [Scope::Read, Scope::Write] {
            let refused = Err("missing scope: operator.admin".to_owned());
            assert_eq!(verdict_of(name, params.clone(), &[scope]), refused, "{name} {params}");
        }
    }
    let less = [
        ("sessions.create", json!({ "message": "hi", "permissionMode": "guarded" })),
        ("sessions.create", json!(5)),
        (
            "sessions.patch",
            json!({ "key": "k", "agentId": "a", "expectedMarkedUnreadAt": null, "unread": false }),
        ),
        ("sessions.patchMany", json!({ "targets": [], "patch": { "pinned": true } })),
        ("sessions.delete", json!({ "key": "k", "expectedSessionId": "s", "archivedOnly": true })),
    ];
    for (name, params) in less {
        let writer = verdict_of(name, params.clone(), &[Scope::Write]);
        assert_eq!(writer, Ok(Method::from_name(name).unwrap()), "{params}");
        let refused = Err("missing scope: operator.write".to_owned());
        assert_eq!(verdict_of(name, params, &[Scope::Read]), refused, "{name}");
    }
}
