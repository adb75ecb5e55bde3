use super::*;
use std::fs;

fn provider(command: &Path) -> ExecProvider {
    ExecProvider { command: command.display().to_string(), ..Default::default() }
}

fn shown(answers: Result<Answers, String>) -> Vec<Result<String, String>> {
    let text = |secret: Secret| secret.expose().to_owned();
    answers.unwrap().into_values().map(|answer| answer.map(text)).collect()
}

#[test]
fn answers_are_read_and_what_goes_wrong_never_quotes_them() {
    let ids = ["a".to_owned(), "b".to_owned(), "c".to_owned(), "d".to_owned()];
    let said = br#"{"protocolVersion": 1, "values": {"a": "s3cret", "c": 5},
        "errors": {"b": {"code": "NOT_FOUND", "message": "hunter2"}}}"#;
    let answers = shown(read(said, &ids, true));
    assert_eq!(answers[0], Ok("s3cret".into()));
    assert_eq!(answers[1], Err("it knows no b".into()));
    assert!(answers[2].as_ref().is_err_and(|why| why.contains("no text")));
    assert!(answers[3].as_ref().is_err_and(|why| why.contains("did not say anything about d")));
    for (said, why) in [
        (&br#"{"protocolVersion": 2, "values": {"a": "hunter2"}}"#[..], "version"),
        (b"hunter2", "did not answer in the JSON"),
        (b"\xff", "UTF-8"),
    ] {
        let told = read(said, &ids, true).err().unwrap();
        assert!(told.contains(why) && !told.contains("hunter2"), "{told}");
    }
    let plain = shown(read(b" s3cret\n", &ids[..1], false));
    assert_eq!(plain, [Ok("s3cret".into())]);
    assert!(read(b"s3cret", &ids[..2], false).is_err(), "of which of them would it be?");
}

#[test]
fn a_program_that_others_could_replace_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let inner = dir.path().join("bin");
    fs::create_dir(&inner).unwrap();
    let program = inner.join("vault");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let verdict = |path: &Path| trusted(path, &[]).map(drop);
    assert_eq!(verdict(&program), Err("is no program".into()));
    mode(&program, 0o755);
    assert_eq!(verdict(&program), Ok(()));
    for open in [0o775, 0o757] {
        mode(&program, open);
        assert!(verdict(&program).unwrap_err().contains("others may write"));
    }
    mode(&program, 0o755);
    mode(&inner, 0o777);
    let why = verdict(&program).unwrap_err();
    assert!(why.contains("others may write") && why.contains("bin"), "{why}");
    mode(&inner, 0o1777);
    assert_eq!(verdict(&program), Ok(()), "with the sticky bit nobody else can replace it");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    assert!(verdict(&link).unwrap_err().contains("is a link"));
    assert!(verdict(Path::new("vault")).unwrap_err().contains("no absolute path"));
    assert!(verdict(&inner).unwrap_err().contains("no program"));
    let elsewhere = [dir.path().join("other").display().to_string()];
    assert!(trusted(&program, &elsewhere).unwrap_err().contains("trustedDirs"));
    assert!(trusted(&program, &[inner.display().to_string()]).is_ok());
}

#[test]
fn without_a_guard_and_for_plugins_nothing_is_run() {
    let ask =
        |provider: &ExecProvider| values("v", provider, &["a".to_owned()], &Guard::none()).err().unwrap();
    let why = ask(&provider(Path::new("/bin/sh").canonicalize().unwrap().as_path()));
    assert!(why.starts_with("secrets.providers.v was not asked"), "{why}");
    let plugin = ExecProvider { plugin_integration: Some(json!({})), ..Default::default() };
    assert!(ask(&plugin).contains("plugins, which are not run here"));
}
