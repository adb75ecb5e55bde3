use super::*;
use std::fs;
use tempfile::TempDir;

fn parse(_: &Path, text: &str) -> Result<Value, String> {
    json5::from_str(text).map_err(|e| e.to_string())
}

/// A directory with these files; the first is the main one.
fn files(all: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in all {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn of(dir: &TempDir, main: &str) -> Composed {
    let main = dir.path().join(main);
    let written = parse(&main, &fs::read_to_string(&main).unwrap()).unwrap();
    composed(&main, &written, None, &parse)
}

fn problem(all: &[(&str, &str)]) -> String {
    let dir = files(all);
    let made = of(&dir, all[0].0);
    assert_eq!(made.problems.len(), 1, "{:?}", made.problems);
    let (at, why) = &made.problems[0];
    format!("{}: {why}", at.join("."))
}

/// accepts: K6
#[test]
fn files_are_merged_in_their_order_and_keys_beside_them_win() {
    let dir = files(&[
        (
            "main.json5",
            "{ agents: { $include: './agents.json5' }, gateway: { port: 1 },
               broadcast: { $include: ['clients/a.json', 'clients/b.json'], own: ['x'], both: { n: 3 } } }",
        ),
        ("agents.json5", "// mine\n{ list: [{ $include: 'one.json' }] }"),
        ("one.json", r#"{ "id": "main" }"#),
        ("clients/a.json", r#"{ "l": [1], "both": { "n": 1, "a": true }, "s": 1 }"#),
        (
            "clients/b.json",
            r#"{ "l": [2], "both": { "n": 2 }, "s": 2, "deep": { "$include": "../one.json" } }"#,
        ),
    ]);
    let made = of(&dir, "main.json5");
    assert_eq!(made.problems, []);
    let expected = json!({
        "agents": { "list": [{ "id": "main" }] },
        "gateway": { "port": 1 },
        "broadcast": {
            "l": [1, 2], "both": { "n": 3, "a": true }, "s": 2, "deep": { "id": "main" }, "own": ["x"],
        },
    });
    assert_eq!(made.content, expected);
    assert_eq!((made.included.len(), made.watched.len(), made.sites.len()), (4, 4, 4));
    let site = made.sites.iter().find(|site| site.at == ["broadcast"]).unwrap();
    assert!(site.is_list && site.has_siblings && !site.in_list && site.targets.len() == 2);
    assert!(made.sites.iter().any(|site| site.in_list && site.at == ["agents", "list", "0"]));
}

#[test]
fn what_cannot_be_included_is_left_out_and_named_and_watched() {
    let all = [("m", "{ a: { $include: 'x' }, b: 1 }"), ("x", "{ broken")];
    let dir = files(&all);
    let made = of(&dir, "m");
    assert_eq!((made.content, made.watched.len(), made.included.len()), (json!({ "b": 1 }), 1, 0));
    assert_eq!(made.problems[0].0, ["a"]);
    assert!(problem(&[("m", "{ a: { $include: 'none' } }")]).contains("cannot be read"));
    assert!(problem(&[("m", "{ a: { $include: 7 } }")]).starts_with("a: $include: the path"));
    assert!(problem(&[("m", "{ a: { $include: 'l', b: 1 } }"), ("l", "[1]")]).contains("holds an object"));
    let list = of(&files(&[("m", "{ a: { $include: 'l' } }"), ("l", "[1]")]), "m");
    assert_eq!(list.content, json!({ "a": [1] }));
}

#[test]
fn circles_and_depths_end() {
    let circle = [("m", "{ a: { $include: 'x' } }"), ("x", "{ b: { $include: 'x' } }")];
    assert!(problem(&circle).starts_with("a.b: $include \"x\": the files include each other: "));
    assert!(problem(&[("m", "{ a: { $include: 'm' } }")]).contains("include each other"));
    let link = |n: usize| (format!("f{n}"), format!("{{ n: {{ $include: 'f{}' }} }}", n + 1));
    let mut chain: Vec<_> = (0..=DEEPEST).map(link).collect();
    chain[DEEPEST].1 = "{}".into();
    let as_text = |all: &[(String, String)]| -> TempDir {
        files(&all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>())
    };
    assert_eq!(of(&as_text(&chain), "f0").problems, []);
    chain[DEEPEST].1 = link(DEEPEST).1;
    chain.push((format!("f{}", DEEPEST + 1), "{}".into()));
    assert!(of(&as_text(&chain), "f0").problems[0].1.contains("10 deep"));
    let many = format!("{{ a: {{ $include: [{}] }} }}", "'x',".repeat(MAX_INCLUDES + 1));
    assert!(problem(&[("m", &many), ("x", "{}")]).contains("more than 256 files"));
}

/// accepts: K6
#[test]
fn nothing_outside_of_the_directory_is_read() {
    let dir = files(&[
        ("in/m", "{}"),
        ("out.json", "{ secret: 1 }"),
        ("in/sub/x", "{ $include: '../y' }"),
        ("in/y", "{}"),
    ]);
    let main = dir.path().join("in/m");
    let outside = dir.path().join("out.json");
    let said = |include: &str| {
        let written = json!({ "a": { "$include": include } });
        let made = composed(&main, &written, None, &parse);
        made.problems.first().map(|(_, why)| why.clone()).unwrap_or_default()
    };
    assert_eq!(said("sub/x"), "", "what stays inside is read, however it is written");
    assert_eq!(said(dir.path().join("in/sub/../y").to_str().unwrap()), "");
    for path in ["../out.json", outside.to_str().unwrap(), "sub/../../out.json", "/etc/passwd"] {
        assert!(said(path).contains("it is outside of"), "{path}: {}", said(path));
    }
    std::os::unix::fs::symlink(&outside, dir.path().join("in/link")).unwrap();
    assert!(said("link").contains("a link leads to a file outside"), "{}", said("link"));
    std::os::unix::fs::symlink(dir.path().join("in/y"), dir.path().join("in/inner")).unwrap();
    assert_eq!(said("inner"), "", "a link that stays inside is followed");
    fs::hard_link(&outside, dir.path().join("in/hard")).unwrap();
    assert!(said("hard").contains("with one name"), "{}", said("hard"));
    fs::write(dir.path().join("in/large"), vec![b' '; MAX_FILE as usize + 1]).unwrap();
    assert!(said("large").contains("at most 2097152 bytes"));
    assert!(said("sub").contains("a plain file"));
    assert!(said(&"x".repeat(MAX_PATH)).contains("fewer than 4096"));
    assert!(said("a\0b").contains("no NUL"));
}

#[test]
fn a_draft_stands_in_the_place_of_a_file() {
    let dir = files(&[("m", "{ a: { $include: 'x' } }"), ("x", "{ n: 1 }")]);
    let main = dir.path().join("m");
    let written = json!({ "a": { "$include": "x" } });
    let draft = Draft { path: &dir.path().join("x"), text: "{ n: 2 }" };
    assert_eq!(composed(&main, &written, Some(draft), &parse).content, json!({ "a": { "n": 2 } }));
    assert!(includes(&written) && !includes(&json!({ "a": [1] })));
    assert_eq!(directives(&written), [(vec!["a".to_owned()], json!("x"))]);
}
