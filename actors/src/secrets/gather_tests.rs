use super::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn reference(json: Value) -> SecretRef {
    serde_json::from_value(json).unwrap()
}

fn settings(json: Value) -> SecretsSettings {
    serde_json::from_value(json).unwrap()
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn text(found: &Found) -> Result<&str, &str> {
    found.value.as_ref().map(Secret::expose).map_err(String::as_str)
}

#[test]
fn a_reference_means_a_place_as_openclaw_has_it() {
    let settings = settings(json!({
        "providers": {
            "f": { "source": "file", "path": "/f" },
            "default": { "source": "env", "allowlist": ["YES"] },
            "team": { "source": "store" },
        },
        "defaults": { "file": "f" },
    }));
    let place = |json| {
        let reference = complete(&reference(json), &settings);
        place(&reference, &settings).map(|place| source_of(&place).name())
    };
    assert_eq!(place(json!({ "source": "file", "id": "/a" })), Ok("file"), "the default of its source");
    assert_eq!(place(json!({ "source": "file", "provider": "f", "id": "/a" })), Ok("file"));
    assert_eq!(place(json!({ "source": "store", "id": "A" })), Ok("store"), "built in");
    assert_eq!(place(json!({ "source": "store", "provider": "team", "id": "A" })), Ok("store"));
    assert_eq!(place(json!({ "source": "env", "id": "YES" })), Ok("env"));
    let why = |json| place(json).unwrap_err();
    assert!(why(json!({ "source": "env", "id": "NO" })).contains("allowlist does not name NO"));
    assert!(
        why(json!({ "source": "env", "provider": "other", "id": "YES" }))
            .contains("no secrets.providers.other")
    );
    assert!(why(json!({ "source": "exec", "provider": "f", "id": "a" })).contains("source \"exec\""));
    assert!(why(json!({ "source": "exec", "id": "a" })).contains("no secrets.providers.default"));
}

#[test]
fn ids_for_programs_lead_nowhere_else() {
    for good in ["a", "providers/openai/apiKey#value", "op://x".trim_start_matches("op"), "A.b_c:d-e"] {
        assert_eq!(is_exec_id(good), !good.starts_with(':'), "{good}");
    }
    for bad in ["", "a/../b", "./a", "-rf", "a b", "a;b", "$(x)", &"x".repeat(257)] {
        assert!(!is_exec_id(bad), "{bad}");
    }
}

/// accepts: C5
#[test]
fn what_was_found_before_holds_while_its_place_does_not_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let of = |path: &Path| {
        settings(json!({ "providers": { "f": { "source": "file", "path": path, "mode": "singleValue" } } }))
    };
    let want = Want::Reference(reference(json!({ "source": "file", "provider": "f", "id": "value" })));
    let look = |settings: &SecretsSettings, before: &BTreeMap<Want, Found>| {
        let asking = Asking { state_dir: dir.path(), guard: &Guard::none(), settings };
        gather(&asking, [want.clone()], before, |_| false)
    };
    let first = look(&of(&path), &BTreeMap::new());
    assert!(text(&first[&want]).unwrap_err().contains("cannot be read"));
    private(&path, "one\n");
    let second = look(&of(&path), &first);
    assert_eq!((text(&second[&want]), &second[&want].stale), (Ok("one"), &None));
    fs::remove_file(&path).unwrap();
    let third = look(&of(&path), &second);
    assert!(text(&third[&want]) == Ok("one") && third[&want].stale.is_some());
    let moved = look(&of(&dir.path().join("elsewhere")), &third);
    assert!(text(&moved[&want]).is_err(), "what another place said does not count");
    private(&path, "two");
    assert_eq!(text(&look(&of(&path), &third)[&want]), Ok("two"));
}

#[test]
fn a_place_is_not_asked_again_if_its_answer_is_taken_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    private(&path, "one");
    let settings =
        settings(json!({ "providers": { "f": { "source": "file", "path": path, "mode": "singleValue" } } }));
    let want = Want::Reference(reference(json!({ "source": "file", "provider": "f", "id": "value" })));
    let asking = Asking { state_dir: dir.path(), guard: &Guard::none(), settings: &settings };
    let first = gather(&asking, [want.clone()], &BTreeMap::new(), |_| false);
    private(&path, "two");
    assert_eq!(text(&gather(&asking, [want.clone()], &first, |_| true)[&want]), Ok("one"));
    assert_eq!(text(&gather(&asking, [want.clone()], &first, |_| false)[&want]), Ok("two"));
}

#[test]
fn one_place_that_fails_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    private(&dir.path().join("s"), r#"{"a": "one"}"#);
    let settings = settings(json!({ "providers": {
        "f": { "source": "file", "path": dir.path().join("s") },
        "gone": { "source": "file", "path": dir.path().join("gone") },
    } }));
    let sealed = Keyring::made(dir.path()).unwrap().recipient().unwrap().seal("three").unwrap();
    let wants = [
        Want::Reference(reference(json!({ "source": "file", "provider": "f", "id": "/a" }))),
        Want::Reference(reference(json!({ "source": "file", "provider": "f", "id": "/b" }))),
        Want::Reference(reference(json!({ "source": "file", "provider": "gone", "id": "/a" }))),
        Want::Sealed(sealed),
        Want::Sealed("sealed:AQ".into()),
    ];
    let asking = Asking { state_dir: dir.path(), guard: &Guard::none(), settings: &settings };
    let found = gather(&asking, wants.clone(), &BTreeMap::new(), |_| false);
    let ok: Vec<bool> = wants.iter().map(|want| found[want].value.is_ok()).collect();
    assert_eq!(ok, [true, false, false, true, false]);
}
