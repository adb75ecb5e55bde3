use super::*;
use crate::skills::fitness::tests::loaded;
use serde_json::json;
use std::process::Command;
use tempfile::TempDir;

struct Machine {
    state: TempDir,
    elsewhere: TempDir,
    skills: Arc<Skills>,
}

impl Machine {
    fn new() -> Self {
        Self { state: TempDir::new().unwrap(), elsewhere: TempDir::new().unwrap(), skills: Arc::default() }
    }

    /// A folder somewhere with a skill of this name.
    fn folder(&self, folder: &str, name: &str, body: &str) -> PathBuf {
        let dir = self.elsewhere.path().join(folder);
        fs::create_dir_all(dir.join("scripts")).unwrap();
        fs::write(dir.join(FILE), format!("---\nname: {name}\ndescription: x\n---\n{body}")).unwrap();
        fs::write(dir.join("scripts/run.sh"), "true").unwrap();
        dir
    }

    async fn install(&self, origin: Origin, force: bool) -> Result<Installed, String> {
        let loaded = Arc::new(loaded(json!({}), self.state.path()));
        let order = Order { origin, force, limit: Duration::from_secs(30) };
        let done = self.skills.install(loaded, order).await;
        assert!(!self.place(STAGING).exists(), "nothing is left behind");
        done
    }

    async fn path(&self, path: &Path) -> Result<Installed, String> {
        self.install(Origin::Path(path.to_owned()), false).await
    }

    fn place(&self, name: &str) -> PathBuf {
        self.state.path().join("skills").join(name)
    }

    fn installed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state.path().join("skills")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_folder_is_installed_under_its_name_and_not_twice() {
    let machine = Machine::new();
    let first = machine.folder("first", "notes", "one");
    let done = machine.path(&first).await.unwrap();
    assert_eq!(done, Installed { name: "notes".into(), dir: machine.place("notes"), why_not: None });
    assert!(machine.place("notes/scripts/run.sh").is_file());

    let second = machine.folder("second", "notes", "two");
    let why = machine.path(&second).await.unwrap_err();
    assert!(why.contains("installed already; use force"), "{why}");
    let body = || fs::read_to_string(machine.place("notes").join(FILE)).unwrap();
    assert!(body().ends_with("one"));
    machine.install(Origin::Path(second), true).await.unwrap();
    assert!(body().ends_with("two"));
    assert_eq!(machine.installed(), ["notes"]);

    fs::rename(machine.place("notes"), machine.place("by-hand")).unwrap();
    let why = machine.install(Origin::Path(first), true).await.unwrap_err();
    assert!(why.contains("by-hand holds a skill called notes already"), "{why}");
}

#[tokio::test]
async fn what_does_not_pass_is_not_installed() {
    let machine = Machine::new();
    let link = machine.folder("link", "link", "");
    std::os::unix::fs::symlink("/etc/passwd", link.join("passwords")).unwrap();
    let nameless = machine.folder("nameless", "../up", "");
    let binary = machine.folder("binary", "binary", "");
    let mut bytes = fs::read(binary.join(FILE)).unwrap();
    bytes.push(0xff);
    fs::write(binary.join(FILE), bytes).unwrap();
    let file = machine.elsewhere.path().join("file");
    fs::write(&file, "text").unwrap();
    let empty = machine.elsewhere.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let several = machine.elsewhere.path().to_owned();
    let refused = [
        (link, "passwords is a link"),
        (nameless, "must be 1 to 64 of a-z"),
        (binary, "SKILL.md is no text"),
        (file, "neither a folder nor a .zip"),
        (empty, "there is no SKILL.md in it"),
        (several, "several skills (binary, link, nameless)"),
        (PathBuf::from("relative"), "is no absolute path"),
        (PathBuf::from("/no/such/thing"), "/no/such/thing: No such file"),
        (PathBuf::from("/dev/null"), "neither a folder nor an archive"),
    ];
    for (path, expected) in refused {
        let why = machine.path(&path).await.unwrap_err();
        assert!(why.contains(expected), "{}: {why}", path.display());
        assert_eq!(machine.installed(), [""; 0], "{}", path.display());
    }
}

#[tokio::test]
async fn a_skill_that_needs_something_is_installed_and_says_so() {
    let machine = Machine::new();
    let dir = machine.folder("dir", "needy", "");
    let needs = r#"metadata: {"openclaw": {"requires": {"bins": ["no-such-program"]}}}"#;
    fs::write(dir.join(FILE), format!("---\nname: needy\ndescription: x\n{needs}\n---\n")).unwrap();
    let done = machine.path(&dir).await.unwrap();
    assert_eq!(done.why_not.unwrap(), "it needs these programs: no-such-program");
}

#[tokio::test]
async fn an_archive_may_have_a_folder_around_the_skill() {
    let machine = Machine::new();
    machine.folder("tree/notes-main", "notes", "packed");
    let archive = machine.elsewhere.path().join("notes.tar.gz");
    let gz = flate2::write::GzEncoder::new(fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    tar.append_dir_all(".", machine.elsewhere.path().join("tree")).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    assert_eq!(machine.path(&archive).await.unwrap().name, "notes");
    assert!(machine.place("notes/scripts/run.sh").is_file());
}

fn git(dir: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"];
    let done = Command::new("git").current_dir(dir).args(identity).args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn a_repository_is_cloned_and_nothing_in_it_is_run() {
    let machine = Machine::new();
    let dir = machine.folder("repo", "notes", "from git");
    fs::write(dir.join(".gitattributes"), "* filter=evil\n").unwrap();
    git(&dir, &["init", "--quiet"]);
    git(&dir, &["add", "."]);
    git(&dir, &["commit", "--quiet", "-m", "x"]);
    let ran = machine.elsewhere.path().join("ran");
    // Neither is taken over by a clone; the marks show it, should that ever change.
    fs::write(dir.join(".git/hooks/post-checkout"), format!("#!/bin/sh\ntouch {}", ran.display())).unwrap();
    git(&dir, &["config", "filter.evil.smudge", &format!("touch {}; cat", ran.display())]);
    let done = machine.install(Origin::Git(dir.to_str().unwrap().into()), false).await.unwrap();
    assert_eq!(done.name, "notes");
    assert!(fs::read_to_string(machine.place("notes").join(FILE)).unwrap().ends_with("from git"));
    assert!(!machine.place("notes/.git").exists() && !ran.exists());

    std::os::unix::fs::symlink("/etc", dir.join("etc")).unwrap();
    git(&dir, &["add", "etc"]);
    git(&dir, &["commit", "--quiet", "-m", "y"]);
    let why = machine.install(Origin::Git(dir.to_str().unwrap().into()), true).await.unwrap_err();
    assert!(why.contains("etc is a link"), "{why}");
    let why = machine.install(Origin::Git("http://127.0.0.1:1/x".into()), true).await.unwrap_err();
    assert!(why.contains("https only"), "{why}");
    assert_eq!(machine.installed(), ["notes"]);
}

#[tokio::test]
async fn installs_do_not_meet_and_one_that_was_cut_off_is_undone() {
    let machine = Machine::new();
    let dir = machine.folder("dir", "notes", "new");
    let first = machine.skills.installing.clone().try_lock_owned().unwrap();
    let loaded = Arc::new(loaded(json!({}), machine.state.path()));
    let order = || Order { origin: Origin::Path(dir.clone()), force: true, limit: Duration::from_secs(9) };
    let why = machine.skills.install(loaded.clone(), order()).await.unwrap_err();
    assert!(why.contains("another skill is being installed"), "{why}");
    drop(first);
    // As a gateway leaves it that is killed between the two steps of a replacement.
    let replaced = machine.place(STAGING).join(REPLACED).join("old");
    fs::create_dir_all(&replaced).unwrap();
    fs::write(replaced.join(FILE), "x").unwrap();
    machine.skills.install(loaded, order()).await.unwrap();
    assert_eq!(machine.installed(), ["notes", "old"]);
}
