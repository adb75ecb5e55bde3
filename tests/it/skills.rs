//! Skills from outside: installed, listed, checked, and told to nodes.

use crate::client::{Client, Intro, TOKEN};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// Writes a skill into a directory.
fn skill(dir: &Path, name: &str, more: &str) -> PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("---\nname: {name}\ndescription: about {name}\n{more}\n---\nDo it.\n");
    std::fs::write(folder.join("SKILL.md"), text).unwrap();
    folder
}

fn row<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["skills"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

/// accepts: G2
#[tokio::test]
async fn a_skill_is_installed_listed_and_switched_off() {
    let elsewhere = TempDir::new().unwrap();
    let needs = r#"metadata: {"openclaw": {"emoji": "📝", "primaryEnv": "NOTES_KEY", "requires": {"bins": ["no-such-notes"], "env": ["NOTES_KEY"]}, "install": [{"kind": "brew", "formula": "notes", "bins": ["notes"]}]}}"#;
    let source = skill(elsewhere.path(), "notes", needs);
    let gateway = Embedded::with(json!({
        "skills": { "entries": { "notes": { "apiKey": "secret-key" }, "off": { "enabled": false } } },
    }))
    .await;
    skill(&gateway.state.path().join("workspace/skills"), "off", "");
    let mut client = Client::admin(gateway.addr).await;
    let done = client.call("skills.install", json!({ "source": "path", "path": source })).await;
    let dir = gateway.state.path().join("skills/notes");
    assert_eq!(
        (&done["ok"], &done["slug"], &done["targetDir"]),
        (&json!(true), &json!("notes"), &json!(dir))
    );
    assert!(done["message"].as_str().unwrap().contains("these programs: no-such-notes"), "{done}");

    let mut reader = Client::scoped(gateway.addr, &["operator.read"]).await;
    let status = reader.call("skills.status", json!({})).await;
    assert_eq!(status["managedSkillsDir"], json!(gateway.state.path().join("skills")));
    assert_eq!((&status["agentId"], &status["broken"]), (&json!("main"), &json!([])));
    let notes = row(&status, "notes");
    assert_eq!((&notes["source"], &notes["eligible"]), (&json!("openclaw-managed"), &json!(false)));
    assert_eq!((&notes["emoji"], &notes["primaryEnv"]), (&json!("📝"), &json!("NOTES_KEY")));
    let missing = json!({ "bins": ["no-such-notes"], "anyBins": [], "env": [], "config": [], "os": [] });
    assert_eq!(notes["missing"], missing, "the key is in the configuration");
    let brew = json!([{ "id": "brew", "kind": "brew", "label": "brew install notes", "bins": ["notes"] }]);
    assert_eq!(notes["install"], brew);
    let off = row(&status, "off");
    assert_eq!((&off["disabled"], &off["modelVisible"]), (&json!(true), &json!(false)));
    assert!(!status.to_string().contains("secret-key"));

    let error = reader.refused("skills.install", json!({ "source": "path", "path": source })).await;
    assert_eq!(error["details"]["missingScope"], "operator.admin");
    let error = reader.refused("skills.status", json!({ "agentId": "ghost" })).await;
    assert_eq!(error["message"], "unknown agent id \"ghost\"");
    let of_session = reader.call("skills.status", json!({ "sessionKey": "agent:main:x" })).await;
    assert_eq!(of_session["agentId"], "main");
}

/// accepts: G2
#[tokio::test]
async fn what_is_refused_is_refused_as_recorded() {
    let gateway = Embedded::start().await;
    let elsewhere = TempDir::new().unwrap();
    let needs = r#"metadata: {"openclaw": {"install": [{"id": "i", "kind": "node", "package": "x"}]}}"#;
    skill(&gateway.state.path().join("skills"), "here", needs);
    let bad = skill(elsewhere.path(), "bad", "");
    std::os::unix::fs::symlink("/etc/hostname", bad.join("link")).unwrap();
    let mut client = Client::admin(gateway.addr).await;
    let refused = [
        (json!({ "name": "x", "installId": "y" }), "Skill not found: x"),
        (json!({ "name": "here", "installId": "y" }), "Installer not found: y"),
        (json!({ "name": "here", "installId": "i" }), "do it on its machine: npm install -g x"),
        (json!({ "source": "clawhub", "slug": "@a/b" }), "neither from ClawHub nor from uploads"),
        (
            json!({ "source": "upload", "slug": "b", "uploadId": "u" }),
            "neither from ClawHub nor from uploads",
        ),
        (json!({ "source": "path", "path": "relative" }), "relative is no absolute path"),
        (json!({ "source": "path", "path": bad }), "link is a link or a special file"),
        (json!({ "source": "git", "url": "http://127.0.0.1:1/x" }), "over https only"),
    ];
    for (params, expected) in refused {
        let answer = client.response_to("skills.install", params.clone()).await;
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{params}: {answer}");
        assert_eq!(answer["error"]["code"], "UNAVAILABLE");
        let payload = json!({ "ok": false, "message": message, "stdout": "", "stderr": "", "code": null });
        assert_eq!(answer["payload"], payload);
    }
    let error = client.refused("skills.install", json!({ "source": "npm" })).await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    assert!(!gateway.state.path().join("skills/bad").exists());
}

/// accepts: G2
#[tokio::test]
async fn nodes_hear_which_programs_skills_ask_for() {
    let gateway = Embedded::start().await;
    let needs = r#"metadata: {"openclaw": {"requires": {"bins": ["jq"], "anyBins": ["a", "b"]}, "install": [{"kind": "brew", "bins": ["c", "a"]}]}}"#;
    skill(&gateway.state.path().join("skills"), "words", needs);
    let node = Intro { id: "node-host", mode: "node", role: "node", scopes: vec![], ..Intro::default() };
    let mut node = Client::connect(gateway.addr, &Intro { device: Some([9; 32]), ..node }).await.unwrap();
    assert_eq!(node.call("skills.bins", json!({})).await, json!({ "bins": ["a", "b", "c", "jq"] }));
    let error = node.refused("skills.status", json!({})).await;
    assert_eq!(error["message"], "unauthorized role: node");
    let mut operator = Client::admin(gateway.addr).await;
    let error = operator.refused("skills.bins", json!({})).await;
    assert_eq!(error["message"], "unauthorized role: operator");
}

/// The command line, talking to this gateway.
async fn crabtree(gateway: &Embedded, args: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .arg("skills")
        .args(args)
        .args(["--url", &format!("ws://{}", gateway.addr), "--token", TOKEN])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

/// accepts: G2
#[tokio::test]
async fn the_command_line_installs_lists_and_checks() {
    let gateway = Embedded::start().await;
    let elsewhere = TempDir::new().unwrap();
    let source = skill(elsewhere.path(), "notes", "");
    let source = source.to_str().unwrap();
    let (code, text) = crabtree(&gateway, &["list"]).await;
    assert!(code == Some(0) && text.contains("crabtree skills install"), "{text}");
    assert_eq!(crabtree(&gateway, &["install", source]).await, (Some(0), "Installed notes\n".into()));
    let (code, text) = crabtree(&gateway, &["install", source]).await;
    assert!(code == Some(1) && text.contains("use force to replace it") && text.contains("next: "), "{text}");
    let (code, text) = crabtree(&gateway, &["install", source, "--force", "--json"]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&text).unwrap()["slug"]), (Some(0), &json!("notes")));
    let (_, text) = crabtree(&gateway, &["list"]).await;
    assert!(text.contains("notes  ready  managed  about notes"), "{text}");
    assert_eq!(crabtree(&gateway, &["check"]).await, (Some(0), "ready      1\n".into()));
    std::fs::create_dir(gateway.state.path().join("skills/empty")).unwrap();
    let (code, text) = crabtree(&gateway, &["check", "--json"]).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"], &report["ready"]), (Some(1), &json!(false), &json!(["notes"])));
    assert_eq!(report["broken"][0]["reason"], "it has no SKILL.md");
}
