//! The document on a disk.

use super::*;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tempfile::{TempDir, tempdir};

/// The document with this content.
pub(in crate::approvals) fn document(file: Value) -> ExecApprovals {
    ExecApprovals::parse(Some(file.to_string().as_bytes()))
}

fn holds(dir: &TempDir, content: &str) -> ExecApprovalsFile {
    fs::write(dir.path().join(FILE_NAME), content).unwrap();
    ExecApprovalsFile::open(dir.path())
}

fn content(dir: &TempDir) -> Value {
    serde_json::from_slice(&fs::read(dir.path().join(FILE_NAME)).unwrap()).unwrap()
}

fn file(content: Value) -> PolicyFile {
    serde_json::from_value(content).unwrap()
}

#[test]
fn without_a_document_everything_is_at_its_default() {
    let dir = tempdir().unwrap();
    let shown = json!(ExecApprovalsFile::open(dir.path()).show().unwrap());
    let defaults =
        json!({ "security": "full", "ask": "off", "askFallback": "deny", "autoAllowSkills": false });
    assert_eq!((&shown["exists"], &shown["resolvedDefaults"]), (&json!(false), &defaults));
    assert_eq!(shown["file"], json!({ "version": 1, "defaults": {}, "agents": {} }));
    assert_eq!(shown["hash"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn only_what_was_seen_is_replaced_and_secrets_stay() {
    let dir = tempdir().unwrap();
    let kept = holds(
        &dir,
        r#"{ "version": 1, "socket": { "path": "/run/x.sock", "token": "hidden" }, "agents": { "main": { "security": "full" } } }"#,
    );
    let before = kept.show().unwrap();
    assert!(!json!(before).to_string().contains("hidden"));
    let next = json!({ "version": 1, "defaults": { "security": "allowlist" }, "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/uname" }] } } });
    let refused = |base: Option<&str>| kept.replace(file(next.clone()), base).unwrap_err();
    assert_eq!(refused(None), Refusal::policy_hash_required());
    assert_eq!(refused(Some("bad")), Refusal::policy_changed());
    let after = kept.replace(file(next.clone()), Some(&before.hash)).unwrap();
    assert_eq!(refused(Some(&before.hash)), Refusal::policy_changed());
    let stored = content(&dir);
    assert_eq!(stored["socket"], json!({ "path": "/run/x.sock", "token": "hidden" }));
    assert_eq!(after.file.socket.as_ref().and_then(|s| s.token.as_ref()), None);
    let entry = &stored["agents"]["main"]["allowlist"][0];
    assert_eq!((&entry["pattern"], entry["id"].as_str().unwrap().len()), (&json!("/usr/bin/uname"), 36));
    assert_eq!(kept.load().hash, after.hash);
    let mode = fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_document_that_cannot_be_used_is_left_alone() {
    for content in [
        "{ not json",
        r#"{ "version": 2 }"#,
        r#"{ "version": 1, "defaults": { "security": "alowlist" } }"#,
        r#"{ "version": 1, "agents": { "a": { "ask": "never" } } }"#,
    ] {
        let dir = tempdir().unwrap();
        let kept = holds(&dir, content);
        assert!(kept.load().damage.is_some(), "{content}");
        assert!(kept.show().unwrap_err().message.contains(FILE_NAME));
        assert!(kept.replace(file(json!({ "version": 1 })), None).is_err());
        assert!(kept.remember(Remembered { pattern: "/bin/ls".into(), ..Remembered::default() }, 1).is_err());
        assert_eq!(fs::read_to_string(dir.path().join(FILE_NAME)).unwrap(), content);
    }
    let dir = tempdir().unwrap();
    let kept = holds(&dir, r#"{ "version": 1 }"#);
    let wrong = json!({ "version": 1, "agents": { "main": { "askFallback": "maybe" } } });
    let refusal = kept.replace(file(wrong), Some(&kept.load().hash)).unwrap_err();
    assert_eq!(
        refusal.message,
        "exec approvals: agents.main.askFallback is \"maybe\", and not one of deny, allowlist, full"
    );
    let large = format!("{{ \"version\": 1, \"agents\": {{ \"{}\": {{}} }} }}", "a".repeat(MAX_BYTES));
    assert!(holds(&dir, &large).load().damage.as_ref().unwrap().contains("larger"));
    let refusal = holds(&dir, r#"{ "version": 1 }"#)
        .replace(file(serde_json::from_str(&large).unwrap()), Some(&kept.load().hash));
    assert!(refusal.unwrap_err().message.contains("more than"));
}

#[test]
fn what_may_always_run_is_remembered_once() {
    let dir = tempdir().unwrap();
    let kept = holds(
        &dir,
        r#"{ "version": 1, "agents": { "main": { "allowlist": [{ "pattern": "git" }] }, "*": { "allowlist": [{ "pattern": "ls" }] } } }"#,
    );
    let what = |command: &str| Remembered {
        agent_id: "main".into(),
        pattern: "/usr/bin/uname".into(),
        arg_pattern: Some("^-s$".into()),
        command: Some(command.into()),
        resolved_path: Some("/usr/bin/uname".into()),
    };
    kept.remember(what("uname -s"), 5).unwrap();
    kept.remember(what("uname  -s"), 6).unwrap();
    let list = content(&dir)["agents"]["main"]["allowlist"].clone();
    let mut entry = list[1].clone();
    assert!(entry.as_object_mut().unwrap().remove("id").is_some());
    assert_eq!(
        entry,
        json!({ "pattern": "/usr/bin/uname", "source": "allow-always", "argPattern": "^-s$", "lastUsedAt": 6, "lastUsedCommand": "uname  -s", "lastResolvedPath": "/usr/bin/uname" })
    );
    assert_eq!(list.as_array().unwrap().len(), 2);
    let document = kept.load();
    let patterns = |agent| document.allowlist(agent).map(|entry| entry.pattern.as_str()).collect::<Vec<_>>();
    assert_eq!(patterns("main"), ["git", "/usr/bin/uname", "ls"]);
    assert_eq!(patterns("other"), ["ls"]);
    for everything in ["*", " ", "**/*", "/*"] {
        let what = Remembered { pattern: everything.into(), ..what("x") };
        assert!(kept.remember(what, 7).is_err(), "{everything}");
    }
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let mut list: Vec<AllowlistEntry> = serde_json::from_value(json!([{ "pattern": "by hand" }])).unwrap();
    for n in 0..=MAX_GENERATED {
        let what = Remembered { pattern: format!("/bin/p{n}"), ..Remembered::default() };
        note(&mut list, what, n as i64).unwrap();
    }
    assert_eq!(list.len(), MAX_GENERATED + 1);
    assert_eq!((list[0].pattern.as_str(), list[1].pattern.as_str()), ("by hand", "/bin/p1"));
}
