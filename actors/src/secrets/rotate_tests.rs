use super::*;
use crate::config::Ask;
use crate::settings::{Invalid, Origin, Settings};
use std::fs;
use std::sync::Arc;

/// A gateway's directory with this text as its configuration.
fn here(text: &str) -> (tempfile::TempDir, ConfigFile) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openclaw.json");
    fs::write(&path, text).unwrap();
    let state_dir = dir.path().to_owned();
    let read = move |ask: Ask<'_>| {
        let text =
            ask.draft.map_or_else(|| fs::read_to_string(&path).unwrap(), |draft| draft.text.to_owned());
        let raw: Value = json5::from_str(&text).map_err(|error| Invalid::new(error.to_string()))?;
        Ok(Loaded {
            path: path.clone(),
            exists: true,
            text,
            settings: serde_json::from_value::<Settings>(raw.clone()).unwrap(),
            origin: Origin { written: raw.clone(), used: raw.clone(), ..Origin::default() },
            raw,
            warnings: vec![],
            hash: String::new(),
            state_dir: state_dir.clone(),
            auth: None,
        })
    };
    (dir, ConfigFile::new(Arc::new(read)))
}

fn text(dir: &tempfile::TempDir) -> String {
    fs::read_to_string(dir.path().join("openclaw.json")).unwrap()
}

fn document(dir: &tempfile::TempDir) -> Value {
    json5::from_str(&text(dir)).unwrap()
}

fn opened(dir: &tempfile::TempDir, value: &Value) -> String {
    let keys = Keyring::open(dir.path()).unwrap();
    keys.open_sealed(value.as_str().unwrap()).unwrap().expose().to_owned()
}

const WRITTEN: &str = "// mine\n{\n  gateway: { auth: { token: 'plain-1' } }, // the door\n  models: { providers: { x: { apiKey: '${KEY}', models: [] } } },\n  channels: { telegram: { botToken: 'plain-2', name: 'bot', accounts: { a: { botToken: 'plain-3' } } } },\n  tts: { apiKey: 'nobody reads it' },\n}\n";

#[test]
fn secrets_in_plain_text_are_sealed_and_comments_stay() {
    let (dir, file) = here(WRITTEN);
    let recipient = || Keyring::made(dir.path()).unwrap().recipient().unwrap();
    let keys = ["gateway.auth.token", "channels.telegram.accounts.a.botToken", "channels.telegram.botToken"];
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    let all = sorted(keys.map(str::to_owned).to_vec());
    assert_eq!(seal_config(&file, recipient(), true).map(sorted), Ok(all.clone()));
    assert_eq!(text(&dir), WRITTEN, "a dry run changes nothing");
    assert_eq!(seal_config(&file, recipient(), false).map(sorted), Ok(all));
    let after = text(&dir);
    for kept in ["// mine\n", "// the door", "apiKey: '${KEY}'", "name: 'bot'", "nobody reads it"] {
        assert!(after.contains(kept), "{kept}: {after}");
    }
    assert!(!after.contains("plain-"), "{after}");
    let document = document(&dir);
    assert_eq!(opened(&dir, &document["gateway"]["auth"]["token"]), "plain-1");
    assert_eq!(opened(&dir, &document["channels"]["telegram"]["accounts"]["a"]["botToken"]), "plain-3");
    let beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "no copy of the plain text is kept: {beside:?}");
    assert_eq!(seal_config(&file, recipient(), false), Ok(vec![]), "there is nothing left to do");
}

#[test]
fn another_key_seals_everything_anew_and_the_old_one_opens_nothing_more() {
    let (dir, file) = here(WRITTEN);
    let old = Keyring::made(dir.path()).unwrap();
    seal_config(&file, old.recipient().unwrap(), false).unwrap();
    let (before, token) = (text(&dir), document(&dir)["gateway"]["auth"]["token"].clone());
    fs::write(dir.path().join(LAST_GOOD), &before).unwrap();
    let done = rotate(dir.path(), &file).unwrap();
    assert_eq!(done, Rotated { config: 3, store: 0, left: vec![], retired: true });
    assert_eq!(opened(&dir, &document(&dir)["gateway"]["auth"]["token"]), "plain-1");
    let keys = Keyring::open(dir.path()).unwrap();
    assert!(keys.len() == 1 && keys.open_sealed(token.as_str().unwrap()).is_err());
    let after = text(&dir);
    assert!(after.starts_with("// mine\n") && after.contains("// the door") && after != before);
    let kept = fs::read_to_string(dir.path().join(LAST_GOOD)).unwrap();
    let kept: Value = json5::from_str(&kept).unwrap();
    assert_eq!(opened(&dir, &kept["channels"]["telegram"]["botToken"]), "plain-2");
}

#[test]
fn a_value_that_does_not_open_stops_it_before_anything_is_changed() {
    let (dir, file) = here("{ channels: { x: { token: 'sealed:AAAA' } } }");
    let before = Keyring::made(dir.path()).unwrap().recipient().unwrap().text();
    let why = rotate(dir.path(), &file).unwrap_err().message;
    assert!(why.contains("channels.x.token"), "{why}");
    let keys = Keyring::open(dir.path()).unwrap();
    assert!(keys.len() == 1 && keys.recipient().unwrap().text() == before);
}
