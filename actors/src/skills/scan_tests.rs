use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// Writes a skill into a directory.
fn skill(root: &Path, folder: &str, name: &str, description: &str) -> PathBuf {
    let dir = root.join(folder);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(FILE), format!("---\nname: {name}\ndescription: {description}\n---\nDo it.\n"))
        .unwrap();
    dir
}

fn root(source: Source, dir: &Path) -> Root {
    Root { source, dir: dir.to_owned(), within: None }
}

fn scan(dir: &TempDir) -> Found {
    Readings::default().scan(&[root(Source::Managed, dir.path())])
}

/// Why, by the name of the folder.
fn reasons(found: &Found) -> HashMap<String, String> {
    let name = |broken: &Broken| broken.dir.file_name().unwrap().to_string_lossy().into_owned();
    found.broken.iter().map(|broken| (name(broken), broken.reason.clone())).collect()
}

#[test]
fn the_workspace_wins_over_what_is_managed() {
    let (own, managed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    skill(own.path(), "notes", "notes", "mine");
    skill(managed.path(), "notes", "notes", "theirs");
    skill(managed.path(), "alarm", "alarm", "rings");
    let roots = [root(Source::Workspace, own.path()), root(Source::Managed, managed.path())];
    let found = Readings::default().scan(&roots);
    let row = |s: &Skill| (s.manifest.name.clone(), s.manifest.description.clone(), s.source);
    assert_eq!(
        found.skills.iter().map(row).collect::<Vec<_>>(),
        [
            ("alarm".into(), "rings".into(), Source::Managed),
            ("notes".into(), "mine".into(), Source::Workspace)
        ]
    );
    assert!(found.broken.is_empty(), "{:?}", found.broken);
    assert!(Readings::default().scan(&[root(Source::Extra, Path::new("/nowhere/at/all"))]).broken.is_empty());
}

#[test]
fn what_is_broken_is_told_and_stops_nothing() {
    let dir = TempDir::new().unwrap();
    skill(dir.path(), "good", "good", "works");
    skill(dir.path(), "twin", "good", "again");
    skill(dir.path(), "loud", "LOUD", "shouts");
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::create_dir(dir.path().join(".hidden")).unwrap();
    fs::write(dir.path().join("a-file"), "x").unwrap();
    let big = skill(dir.path(), "big", "big", "much");
    fs::write(big.join(FILE), vec![b' '; MAX_FILE as usize + 1]).unwrap();
    fs::create_dir_all(dir.path().join("folder").join(FILE)).unwrap();
    let found = scan(&dir);
    assert_eq!(found.skills.len(), 1);
    let reasons = reasons(&found);
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert!(reasons["empty"].contains("has no SKILL.md"));
    assert!(reasons["twin"].contains("called good"));
    assert!(reasons["loud"].contains("a-z"));
    assert!(reasons["big"].contains("larger than 262144"));
    assert!(reasons["folder"].contains("is no file"));
}

#[test]
fn links_are_followed_inside_only() {
    let (outside, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let secret = skill(outside.path(), "secret", "secret", "elsewhere");
    symlink(&secret, dir.path().join("out")).unwrap();
    skill(dir.path(), "real", "real", "here");
    fs::create_dir(dir.path().join("file-out")).unwrap();
    symlink(secret.join(FILE), dir.path().join("file-out").join(FILE)).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    fs::rename(dir.path().join("real"), dir.path().join("store/real")).unwrap();
    symlink("store/real", dir.path().join("real")).unwrap();
    let found = scan(&dir);
    let names: Vec<_> = found.skills.iter().map(|s| s.manifest.name.as_str()).collect();
    assert_eq!(names, ["real"]);
    let reasons = reasons(&found);
    assert!(reasons["out"].contains("leads elsewhere") && reasons["file-out"].contains("leads elsewhere"));
    assert!(reasons.contains_key("dangling"), "{reasons:?}");

    let workspace = TempDir::new().unwrap();
    symlink(outside.path(), workspace.path().join("skills")).unwrap();
    let within = Some(workspace.path().to_owned());
    let linked = Root { source: Source::Workspace, dir: workspace.path().join("skills"), within };
    let found = Readings::default().scan(&[linked]);
    assert!(found.skills.is_empty() && found.broken[0].reason.contains("out of the workspace"));
}

#[test]
fn a_directory_is_read_to_its_limit() {
    let dir = TempDir::new().unwrap();
    for n in 0..MAX_FOLDERS + 3 {
        skill(dir.path(), &format!("s{n:04}"), &format!("s{n}"), "x");
    }
    let found = scan(&dir);
    assert_eq!(found.skills.len(), MAX_FOLDERS);
    assert_eq!(found.broken.len(), 1);
    assert!(found.broken[0].reason.contains("3 are left out"), "{:?}", found.broken);
}

#[test]
fn a_file_is_read_again_when_it_has_changed() {
    let dir = TempDir::new().unwrap();
    let file = skill(dir.path(), "notes", "notes", "one").join(FILE);
    let readings = Readings::default();
    let roots = [root(Source::Managed, dir.path())];
    let description = || readings.scan(&roots).skills[0].manifest.description.clone();
    assert_eq!(description(), "one");
    assert!(readings.0.lock().is_empty(), "too young to be kept");
    let age = |seconds| {
        let at = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    };
    age(100);
    assert_eq!(description(), "one");
    assert_eq!(readings.0.lock().len(), 1);
    let manifest = readings.scan(&roots).skills[0].manifest.clone();
    assert!(Arc::ptr_eq(&manifest, &readings.scan(&roots).skills[0].manifest), "it is not read twice");
    skill(dir.path(), "notes", "notes", "two");
    age(50);
    assert_eq!(description(), "two");
}
