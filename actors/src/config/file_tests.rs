use super::*;
use crate::settings::{Origin, Settings};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

/// A file whose content counts when it is plain JSON without a member `bad`.
fn file(path: &Path) -> ConfigFile {
    let path = path.to_owned();
    ConfigFile::new(Arc::new(move |ask| {
        let text = match ask.draft {
            Some(draft) => Some(draft.text.to_owned()),
            None => content(&path).map_err(|e| Invalid::new(e.to_string()))?,
        };
        let raw: Value = match &text {
            Some(text) if path.extension().is_some_and(|e| e == "json") => {
                serde_json::from_str(text).map_err(|e| Invalid::new(e.to_string()))?
            }
            _ => json!({}),
        };
        if raw.get("bad").is_some() {
            let problem = "not a setting".to_owned();
            return Err(Invalid { key: "bad".into(), text: format!("bad: {problem}"), problem });
        }
        Ok(Loaded {
            path: path.clone(),
            exists: text.is_some(),
            text: text.unwrap_or_default(),
            origin: Origin { written: raw.clone(), ..Origin::default() },
            raw,
            settings: Settings::default(),
            warnings: Vec::new(),
            hash: String::new(),
            state_dir: path.clone(),
            auth: None,
        })
    }))
}

fn setting(key: &'static str) -> Plan {
    let change = Change::Set(vec![key.into()], json!(1));
    let answer = Box::new(|_: &Loaded| json!("written"));
    Box::new(move |_| Ok(Edit { writing: Writing::Changes(vec![change]), answer }))
}

fn said(file: &ConfigFile, plan: Plan) -> String {
    file.rewrite(plan, None).err().expect("it is refused").message
}

#[test]
fn a_missing_file_is_made_for_its_owner_alone_and_readings_are_numbered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    let file = file(&path);
    let Rewritten { reading: after, answer, .. } = file.rewrite(setting("a"), None).unwrap();
    assert_eq!((after.loaded.raw, answer), (json!({"a": 1}), json!("written")));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(file.read(None).ok().unwrap().number > after.number);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn what_is_refused_leaves_the_file_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, key, why) in [
        ("c.toml", "# mine\n[gateway]\n", "a", "TOML, which is only read"),
        ("c.yaml", "# mine\n", "a", "YAML, which is only read"),
        ("c.json", "{ \"a\": 2 }", "bad", "invalid config: bad: not a setting"),
        ("c.json", "{ \"a\": 2, \"a\": 3 }", "a", "cannot be edited in place"),
        ("c.json", "{ \"a\": ", "a", "was not changed"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let said = said(&file(&path), setting(key));
        assert!(said.contains(why), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
        fs::remove_file(&path).unwrap();
    }
    let path = dir.path().join("new.json");
    assert!(said(&file(&path), setting("bad")).contains("bad: not a setting"));
    assert!(!path.exists(), "a file that was not there is not there again");
}

#[test]
fn what_somebody_else_writes_meanwhile_is_not_lost_and_links_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (path, real) = (dir.path().join("c.json"), dir.path().join("real.json"));
    fs::write(&real, "{}").unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let config = file(&path);
    config.rewrite(setting("a"), None).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(&real).unwrap()).unwrap(), json!({"a": 1}));
    let refusal = replace(&real, Some("{}"), "{ \"b\": 1 }", true).unwrap_err();
    assert_eq!((refusal.retryable, refusal.message.contains("at the same time")), (Some(true), true));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "the link, the file and its last state");
}

#[test]
fn the_last_states_of_the_file_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    let config = file(&path);
    for n in 0..=7 {
        let answer = Box::new(|_: &Loaded| json!(null));
        let plan: Plan =
            Box::new(move |_| Ok(Edit { writing: Writing::Text(format!("{{\"a\": {n}}}")), answer }));
        config.rewrite(plan, None).unwrap();
    }
    let kept = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let all = ["c.json", "c.json.bak", "c.json.bak.1", "c.json.bak.4"].map(kept);
    assert_eq!(all, ["{\"a\": 7}", "{\"a\": 6}", "{\"a\": 5}", "{\"a\": 2}"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + BACKUPS);
}
