use super::*;
use crate::settings::{IncludedFile, Origin, Settings};
use serde_json::json;

fn path(text: &str) -> Vec<Step> {
    let step = |part: &str| part.parse::<usize>().map_or_else(|_| part.into(), Step::from);
    text.split('.').filter(|part| !part.is_empty()).map(step).collect()
}

/// A configuration of these files in `/c`; the first is the main one.
fn made(files: &[(&str, Value)]) -> Loaded {
    let of = |(name, content): &(&str, Value)| IncludedFile {
        path: Path::new("/c").join(name),
        text: content.to_string(),
        content: content.clone(),
    };
    let origin = Origin {
        written: files[0].1.clone(),
        included: files[1..].iter().map(of).collect(),
        ..Origin::default()
    };
    Loaded {
        path: Path::new("/c").join(files[0].0),
        exists: true,
        text: String::new(),
        raw: json!({}),
        settings: Settings::default(),
        warnings: Vec::new(),
        hash: String::new(),
        state_dir: "/c".into(),
        auth: None,
        origin,
    }
}

fn example() -> Loaded {
    made(&[
        (
            "main",
            json!({
                "gateway": { "port": 1 },
                "agents": { "$include": "./agents" },
                "channels": { "$include": ["a", "b"] },
                "models": { "$include": "models", "mode": "merge" },
                "bindings": { "$include": "bindings" },
                "lost": { "$include": "missing" },
            }),
        ),
        ("agents", json!({ "defaults": { "$include": "defaults" }, "list": [{ "id": "x" }] })),
        ("defaults", json!({ "model": "m" })),
        ("a", json!({ "telegram": { "enabled": true }, "both": { "n": 1, "a": 1 } })),
        ("b", json!({ "discord": {}, "both": { "n": 2 } })),
        ("models", json!({ "providers": {} })),
        ("bindings", json!([1])),
    ])
}

fn found(at: &str, is_removal: bool) -> Result<String, String> {
    let loaded = example();
    let (file, path) = place(&loaded, &path(at), is_removal)?;
    Ok(format!("{} {}", file.display(), super::super::changes::dotted(&path)))
}

/// accepts: K6
#[test]
fn a_place_is_found_in_the_file_that_owns_it() {
    for (at, there) in [
        ("gateway.port", "/c/main gateway.port"),
        ("gateway.auth.token", "/c/main gateway.auth.token"),
        ("session.mainKey", "/c/main session.mainKey"),
        ("agents.list.0.name", "/c/agents list.0.name"),
        ("agents.list.1", "/c/agents list.1"),
        ("agents.entries.b", "/c/agents entries.b"),
        ("agents.defaults.model", "/c/defaults model"),
        ("agents.defaults.workspace", "/c/defaults workspace"),
        ("channels.telegram.enabled", "/c/a telegram.enabled"),
        ("channels.telegram.botToken", "/c/a telegram.botToken"),
        ("channels.discord.token", "/c/b discord.token"),
        ("channels.both.n", "/c/b both.n"),
        ("channels.both.a", "/c/a both.a"),
        ("models.mode", "/c/main models.mode"),
        ("models.providers.x", "/c/models providers.x"),
        ("bindings", "/c/bindings "),
        ("bindings.1", "/c/bindings 1"),
    ] {
        assert_eq!(found(at, false).as_deref(), Ok(there), "{at}");
    }
    assert_eq!(found("channels.both.a", true).as_deref(), Ok("/c/a both.a"));
    for at in ["agents", "agents.defaults", "channels", "channels.both", "models", "bindings", "lost.x"] {
        assert!(found(at, true).is_err(), "{at}: an include or half of a value would be lost");
    }
    for at in ["agents", "channels", "channels.slack", "channels.both", "models.other", "lost"] {
        assert!(found(at, false).is_err(), "{at}");
    }
    let why = found("channels.slack", false).unwrap_err();
    assert!(why.contains("channels is put together of /c/a and /c/b"), "{why}");
    assert!(found("lost.x", false).unwrap_err().contains("cannot be read"));
}

#[test]
fn changes_are_made_in_one_file_alone() {
    let loaded = example();
    let set = |at: &str| Change::Set(path(at), json!(1));
    let (file, made) =
        local(&loaded, &[set("agents.list.0.n"), Change::Remove(path("agents.list.0.id"))]).unwrap();
    let expected = vec![set("list.0.n"), Change::Remove(path("list.0.id"))];
    assert_eq!((file, made), ("/c/agents".into(), expected));
    let why = local(&loaded, &[set("agents.list.0.n"), set("gateway.port")]).unwrap_err();
    assert!(why.contains("/c/agents and /c/main"), "{why}");
    let across = Change::Move(path("agents.list"), path("gateway.list"));
    assert!(local(&loaded, &[across]).is_err());
}

#[test]
fn files_that_include_each_other_own_nothing() {
    let loaded = made(&[
        ("main", json!({ "a": { "$include": "x" } })),
        ("x", json!({ "$include": ["y", "y"] })),
        ("y", json!({ "$include": "x" })),
    ]);
    assert!(place(&loaded, &path("a.b"), false).unwrap_err().contains("cannot be read"));
}
