use super::*;
use crate::settings::{ChannelsSettings, Origin, Settings};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn loaded(raw: Value, dir: &Path) -> Loaded {
    Loaded {
        path: dir.join("openclaw.json"),
        exists: true,
        text: raw.to_string(),
        settings: serde_json::from_value::<Settings>(raw.clone()).unwrap(),
        origin: Origin { written: raw.clone(), used: raw.clone(), ..Origin::default() },
        raw,
        warnings: vec![],
        hash: String::new(),
        state_dir: dir.to_owned(),
        auth: None,
    }
}

fn secrets(dir: &Path) -> Secrets {
    Secrets::new(dir, Guard::none(), &[1; 32])
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn opened(settings: &ChannelsSettings, channel: &str) -> Value {
    let (_, own) = settings.accounts(channel).remove(0);
    settings.with_secrets(&own, "channels", &|_| None).unwrap()
}

#[test]
fn nothing_that_is_published_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = Keyring::made(dir.path()).unwrap().recipient().unwrap().seal("s3cret-5").unwrap();
    private(&dir.path().join("s"), r#"{"a": "s3cret-6"}"#);
    let raw = json!({
        "gateway": { "auth": { "token": "s3cret-1" } },
        "models": { "providers": { "x": { "apiKey": "s3cret-2", "baseUrl": "http://x" } } },
        "mcp": { "servers": { "m": { "command": "c", "env": { "A": "s3cret-3", "B": "x ${HOME}" } } } },
        "channels": { "telegram": {
            "botToken": "s3cret-4", "webhookSecret": sealed, "name": "plain",
            "accounts": { "a": { "other": { "source": "file", "provider": "f", "id": "/a" } } },
        } },
        "secrets": { "providers": { "f": { "source": "file", "path": dir.path().join("s") } } },
    });
    let mut loaded = loaded(raw, dir.path());
    let report = secrets(dir.path()).prepare(&mut loaded, Ask::Anew);
    let published = json!([loaded.raw, loaded.text, loaded.settings, loaded.warnings]).to_string();
    assert!(!published.contains("s3cret"), "{published}");
    let seen = opened(&loaded.settings.channels, "telegram");
    assert_eq!(
        (&seen["botToken"], &seen["webhookSecret"], &seen["other"], &seen["name"]),
        (&json!("s3cret-4"), &json!("s3cret-5"), &json!("s3cret-6"), &json!("plain"),)
    );
    let key = loaded.settings.models.providers["x"].api_key.as_ref().unwrap();
    assert!(key.resolve("k", &|_| None).is_ok_and(|key| key.expose() == "s3cret-2"));
    let target = loaded.settings.mcp.servers["m"].target("m", &|_| Some("home".into())).unwrap();
    let crate::settings::McpTarget::Process { env, .. } = target else { panic!("a process") };
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("A", "s3cret-3"), ("B", "x home")]);
    assert!(matches!(loaded.auth, Some(AuthSecret::Token(ref token)) if token.expose() == "s3cret-1"));
    let shown = json!(report.rows.iter().map(Row::shown).collect::<Vec<_>>()).to_string();
    assert!(!shown.contains("s3cret") && report.wanting().next().is_none(), "{shown}");
    assert_eq!(
        crate::settings::redacted(&json!(loaded.settings))["channels"]["telegram"]["accounts"]["a"]["other"],
        json!({ "source": "file", "provider": "f", "id": "/a" }),
        "who looks sees where it is kept"
    );
}

#[test]
fn whoever_works_with_a_value_that_changed_is_seen_to_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s");
    let raw = json!({
        "models": { "providers": { "x": { "apiKey": { "source": "file", "provider": "f", "id": "/x" } } } },
        "channels": { "one": { "token": { "source": "file", "provider": "f", "id": "/a" } }, "two": { "token": "t" } },
        "secrets": { "providers": { "f": { "source": "file", "path": file } } },
    });
    let secrets = secrets(dir.path());
    let look = |text: &str| {
        private(&file, text);
        let mut loaded = loaded(raw.clone(), dir.path());
        secrets.prepare(&mut loaded, Ask::Anew);
        loaded.settings
    };
    let first = look(r#"{"x": "1", "a": "1"}"#);
    let same = look(r#"{"x": "1",   "a": "1"}"#);
    assert!(first == same);
    let other = look(r#"{"x": "1", "a": "2"}"#);
    assert_eq!(first.section_hash("models"), other.section_hash("models"));
    assert_ne!(first.section_hash("channels"), other.section_hash("channels"));
    assert_ne!(first.channels.accounts("one"), other.channels.accounts("one"));
    assert_eq!(first.channels.accounts("two"), other.channels.accounts("two"));
}

/// accepts: C5
#[test]
fn who_is_without_a_secret_is_named_and_what_is_switched_off_needs_none() {
    let dir = tempfile::tempdir().unwrap();
    let lost = || json!({ "source": "file", "provider": "f", "id": "/x" });
    let raw = |strict: bool| {
        json!({
            "gateway": { "auth": { "mode": "token", "password": lost() } },
            "channels": {
                "telegram": { "accounts": { "a": { "botToken": lost() }, "b": { "enabled": false, "botToken": lost() } } },
                "off": { "enabled": false, "token": lost() },
            },
            "mcp": { "servers": { "m": { "enabled": false, "env": { "A": lost() } } } },
            "models": { "providers": { "x": { "apiKey": "${CRABTREE_TEST_NO_SUCH_VARIABLE}" } } },
            "secrets": { "strict": strict, "providers": { "f": { "source": "file", "path": "/nowhere/s" } } },
        })
    };
    let mut here = loaded(raw(false), dir.path());
    let report = secrets(dir.path()).prepare(&mut here, Ask::Anew);
    let wanting: Vec<_> = report.wanting().map(|row| (row.spot.owner(), row.spot.key())).collect();
    assert_eq!(
        wanting,
        [
            ("provider x".to_owned(), "models.providers.x.apiKey".to_owned()),
            ("channel telegram/a".to_owned(), "channels.telegram.accounts.a.botToken".to_owned()),
        ]
    );
    let (_, own) = here.settings.channels.accounts("telegram").remove(0);
    let error = here.settings.channels.with_secrets(&own, "channels.telegram", &|_| None).unwrap_err();
    assert!(error.to_string().contains("channels.telegram.botToken has no value"), "{error}");
    assert_eq!(report.strictly_missing(), None);
    let report = secrets(dir.path()).prepare(&mut loaded(raw(true), dir.path()), Ask::Anew);
    assert!(report.strictly_missing().is_some_and(|why| why.contains("models.providers.x.apiKey")));
}

/// accepts: C5
#[test]
fn what_clients_have_to_present_is_asked_for_wherever_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = Keyring::made(dir.path()).unwrap().recipient().unwrap().seal("s3cret").unwrap();
    let token = |token: Value| {
        let loaded = loaded(json!({ "gateway": { "auth": { "token": token } } }), dir.path());
        auth(&loaded, &Guard::none(), &|_| None)
    };
    assert!(token(json!(sealed)) == Ok(Some(AuthSecret::Token(Secret::new("s3cret")))));
    let why = token(json!({ "source": "store", "id": "GATEWAY" })).err().unwrap().to_string();
    assert!(why.starts_with("gateway.auth.token has no value: the store has no GATEWAY"), "{why}");
}
