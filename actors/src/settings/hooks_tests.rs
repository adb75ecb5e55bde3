use super::*;
use serde_json::json;

fn read(hooks: serde_json::Value) -> Result<HooksSettings, String> {
    serde_json::from_value(hooks).map_err(|e| e.to_string())
}

fn wrong(mut hooks: serde_json::Value) -> String {
    hooks["enabled"] = json!(true);
    hooks["token"] = json!("a-long-secret");
    read(hooks).err().expect("it is refused")
}

#[test]
fn without_a_token_there_are_no_hooks() {
    let text = read(json!({ "enabled": true })).err().unwrap();
    assert!(text.contains("hooks.enabled needs hooks.token"), "{text}");
    assert!(read(json!({ "enabled": true, "token": " " })).is_err());
    assert!(read(json!({ "token": "t" })).unwrap().secret().is_none(), "they are off unless they are on");
    let on = read(json!({ "enabled": true, "token": "a-long-secret" })).unwrap();
    assert_eq!(on.secret().unwrap().expose(), "a-long-secret");
}

#[test]
fn a_path_has_one_slash_before_it_and_is_never_all_there_is() {
    let path = |path: &str| read(json!({ "path": path })).map(|it| it.path.as_str().to_owned());
    assert_eq!(path("in/").unwrap(), "/in");
    assert!(path("/").unwrap_err().contains("hooks.path"));
    let hooks = HooksPath::default();
    assert_eq!(
        ["/hooks", "/hooks/", "/hooks/a/b/", "/hooksy", "/"].map(|path| hooks.below(path)),
        [Some(""), Some(""), Some("a/b"), None, None]
    );
}

#[test]
fn keys_that_could_not_be_used_are_refused_before_anybody_does() {
    let templated = json!({ "mappings": [{ "match": { "path": "a" }, "sessionKey": "hook:{{id}}" }] });
    assert!(wrong(templated).contains("hooks.mappings[0]: a sessionKey with templates"));
    assert!(wrong(json!({ "presets": ["gmail"] })).contains("needs hooks.allowedSessionKeyPrefixes"));
    assert!(wrong(json!({ "allowedSessionKeyPrefixes": ["mail:"] })).contains("begin with hook:"));
    assert!(wrong(json!({ "defaultSessionKey": "cron:x" })).contains("the gateway's own"));
    assert!(wrong(json!({ "mappings": [{ "sessionMode": "persistent" }] })).contains("persistent"));
    assert!(wrong(json!({ "mappings": [{ "forEach": "a.b" }] })).contains("forEach"));
    let hidden = json!({ "enabled": true, "token": "a-long-secret", "presets": ["gmail"],
        "mappings": [{ "match": { "path": "/gmail/" }, "sessionKey": "hook:mail" }] });
    assert_eq!(read(hidden).unwrap().all_mappings().len(), 2, "an earlier mapping stands before the preset");
}

#[test]
fn mail_may_be_larger_than_anything_else() {
    let settings =
        read(json!({ "presets": ["gmail"], "gmail": { "maxBytes": 20000, "model": "m/1" } })).unwrap();
    assert_eq!(settings.max_body("wake"), 256 * 1024);
    assert_eq!(settings.max_body("gmail"), 100 * (3 * 20_000 + 8192));
    assert_eq!(settings.all_mappings()[0].model.as_deref(), Some("m/1"));
    assert_eq!(read(json!({ "maxBodyBytes": 5 })).unwrap().max_body("x"), 5);
}

#[test]
fn what_is_not_run_here_is_named() {
    let settings = read(json!({
        "enabled": true, "token": "a-long-secret", "presets": ["imap"], "gmail": { "account": "a@b" },
        "mappings": [{ "id": "gh", "transform": { "module": "gh.js" } }],
    }));
    let warnings = settings.unwrap().warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("hooks.mappings[0] (gh): transform is JavaScript"));
}
