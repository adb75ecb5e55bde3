//! What a node's plan, policy and list mean, and what is shown of its results.

use super::*;

fn prepared(policy: Value, coverage: Value) -> Prepared {
    let plan = json!({ "argv": ["/bin/sh", "-lc", "ls"], "commandText": "ls" });
    serde_json::from_value(json!({ "plan": plan, "execPolicy": policy, "allowAlwaysCoverage": coverage }))
        .unwrap()
}

fn policy(security: ExecSecurity, ask: ExecAsk) -> Policy {
    Policy { security, ask, fallback: ExecSecurity::Deny }
}

#[test]
fn of_two_policies_the_stricter_word_counts() {
    use ExecAsk::{Always, Off, OnMiss};
    use ExecSecurity::{Allowlist, Deny, Full};
    let both = |of_node: Value, security, ask| {
        let both = prepared(of_node, json!(null)).policy(policy(security, ask));
        (both.security, both.ask)
    };
    let node = json!({ "security": "allowlist", "ask": "on-miss" });
    assert_eq!(both(node.clone(), Full, Off), (Allowlist, OnMiss));
    assert_eq!(both(node, Deny, Always), (Deny, Always));
    assert_eq!(both(json!(null), Full, Off), (Full, Off));
    assert_eq!(both(json!({ "security": "new", "ask": "word" }), Full, Off), (Deny, Always));
    assert_eq!(both(json!({}), Full, OnMiss), (Full, OnMiss));
}

#[test]
fn the_list_of_the_node_must_have_all_that_runs() {
    let (ls, rm) = (json!({ "pattern": "/usr/bin/ls", "argPattern": "a" }), json!({ "pattern": "/bin/rm" }));
    let listed = |patterns: Value, complete: bool, allowlist: Value, section: &str| {
        let prepared = prepared(json!(null), json!({ "complete": complete, "patterns": patterns }));
        let rules = json!({ "file": { "agents": { section: { "allowlist": allowlist } } } });
        prepared.is_listed(&rules, "main")
    };
    for entry in [
        json!({ "pattern": "/usr/bin/ls" }),
        ls.clone(),
        json!({ "pattern": "/usr/bin/*" }),
        json!({ "pattern": "**" }),
    ] {
        assert!(listed(json!([ls]), true, json!([entry]), "main"), "{entry}");
    }
    assert!(listed(json!([ls]), true, json!([ls]), "*"));
    assert!(!listed(json!([ls]), true, json!([ls]), "other"));
    assert!(!listed(json!([ls, rm]), true, json!([ls]), "main"), "one is missing");
    assert!(!listed(json!([ls]), false, json!([ls]), "main"), "nobody knows what else runs");
    assert!(!listed(json!([]), true, json!([ls]), "main"));
    for entry in [
        json!({ "pattern": "ls" }),
        json!({ "pattern": "/usr/*" }),
        json!({ "pattern": "/usr/bin/ls", "argPattern": "b" }),
    ] {
        assert!(!listed(json!([ls]), true, json!([entry]), "main"), "{entry}");
    }
}

#[test]
fn the_end_of_a_command_is_told_as_it_was() {
    let of = |payload: Value| shown("n", &payload, Duration::from_millis(5), json!("/w"));
    let done = of(
        json!({ "exitCode": 0, "timedOut": false, "success": true, "stdout": "Linux\n", "stderr": "", "error": null }),
    );
    assert_eq!((done.as_text().as_str(), done.is_error), ("Node: n\nLinux", false));
    let details = json!({
        "status": "completed", "exitCode": 0, "durationMs": 5, "aggregated": "Linux", "nodeId": "n", "cwd": "/w",
    });
    assert_eq!(done.details, details);
    let failed = of(
        json!({ "exitCode": 3, "timedOut": false, "success": false, "stdout": "out\n", "stderr": "err\n" }),
    );
    assert_eq!(failed.as_text(), "Node: n\nout\nerr\n(Command exited with code 3)");
    assert!(!failed.is_error, "that is for the model to judge");
    let missing = of(json!({ "success": false, "timedOut": false, "error": "Command failed (ENOENT)" }));
    assert!(missing.is_error && missing.as_text().ends_with("Command failed (ENOENT)"));
    let late = of(json!({ "exitCode": 124, "timedOut": true, "success": false }));
    assert!(late.is_error && late.as_text().contains("timed out") && late.details["timedOut"] == true);
    assert!(of(json!({})).as_text().contains("not known what became of the command"));
    assert_eq!(of(json!({ "success": true, "exitCode": 0 })).as_text(), "Node: n\n(no output)");
}
