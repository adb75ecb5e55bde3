use super::super::unpack::tests::written as archive_of;
use super::super::{Cost, Scope, create};
use super::*;
use crate::owner::Owned;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

const CHEAP: Cost = Cost { memory: 64, passes: 1 };

fn words() -> Secret {
    Secret::new("open sesame")
}

/// Every file below, with its content and whether it may be run.
fn contents(dir: &Path) -> BTreeMap<String, (String, u32)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else if entry.file_name() != LOCK_FILE {
                let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                found.insert(name, (fs::read_to_string(entry.path()).unwrap(), mode));
            }
        }
    }
    found
}

fn put(path: &Path, content: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

struct World {
    dir: tempfile::TempDir,
    state: PathBuf,
    archive: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, archive) = (dir.path().join("state"), dir.path().join("b.tar"));
        put(&state.join("gateway.token"), "token", 0o600);
        put(&state.join("workspace/run.sh"), "#!/bin/sh", 0o755);
        put(&state.join(format!("workspace/{}/deep", "n".repeat(120))), "deep", 0o644);
        put(&state.join("gateway.lock"), "", 0o600);
        put(&state.join("logs/today"), "line", 0o600);
        std::os::unix::fs::symlink("/etc/passwd", state.join("workspace/link")).unwrap();
        create(&Scope::of(&state), None, &archive, &words(), CHEAP).unwrap();
        Self { dir, state, archive }
    }

    fn restore(&self, state: &Path, force: bool, dry_run: bool) -> anyhow::Result<Restored> {
        let (passphrase, limits) = (words(), Limits::USUAL);
        restore(&Wish {
            archive: &self.archive,
            passphrase: &passphrase,
            state_dir: state,
            force,
            dry_run,
            limits,
        })
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn a_new_place_has_what_the_old_one_had_for_its_owner_only() {
    let world = World::new();
    let to = world.dir.path().join("elsewhere/new");
    let done = world.restore(&to, false, false).unwrap();
    assert_eq!(done.aside, None);
    let mut expected = contents(&world.state);
    expected.remove("logs/today");
    expected.remove("workspace/link");
    expected.values_mut().for_each(|(_, mode)| *mode &= 0o700);
    assert_eq!(contents(&to), expected);
    assert_eq!(fs::metadata(to.join("workspace")).unwrap().permissions().mode() & 0o777, 0o700);
    let why: Vec<_> = done.list.left_out.iter().map(|left| left.why.as_str()).collect();
    assert_eq!(why, ["says which process has the directory", "the log", "a link"]);
    let now = |dir: &Path| fs::metadata(dir.join("gateway.token")).unwrap().modified().unwrap();
    let apart = now(&to).duration_since(now(&world.state)).unwrap_or_else(|early| early.duration());
    assert!(apart.as_secs() <= 1, "{apart:?}");
}

#[test]
fn what_is_there_is_moved_aside_when_it_is_said_so_and_never_deleted() {
    let world = World::new();
    put(&world.state.join("gateway.token"), "newer", 0o600);
    let before = contents(&world.state);
    let refused = world.restore(&world.state, false, false).unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    world.restore(&world.state, true, true).unwrap();
    assert_eq!(
        (contents(&world.state), world.names()),
        (before.clone(), vec!["b.tar".into(), "state".into()])
    );
    // What a restore left that was killed is in the way of nobody.
    put(&world.dir.path().join("state.restoring/half/file"), "x", 0o600);
    let done = world.restore(&world.state, true, false).unwrap();
    assert_eq!(contents(&world.state)["gateway.token"].0, "token");
    assert_eq!(contents(&done.aside.unwrap()), before);
    assert_eq!(world.names().len(), 3, "{:?}", world.names());
}

#[test]
fn an_empty_directory_and_a_link_to_one_are_filled() {
    let world = World::new();
    let (empty, link) = (world.dir.path().join("empty"), world.dir.path().join("link"));
    fs::create_dir(&empty).unwrap();
    std::os::unix::fs::symlink(&empty, &link).unwrap();
    let done = world.restore(&link, false, false).unwrap();
    assert_eq!(done.aside, None);
    assert!(link.is_symlink() && contents(&empty).contains_key("gateway.token"));
}

#[test]
fn a_directory_that_a_gateway_has_is_left_alone() {
    let world = World::new();
    let held = Owner::take(&world.state, &[]).unwrap();
    let before = contents(&world.state);
    assert!(world.restore(&world.state, true, false).unwrap_err().is::<Owned>());
    assert_eq!(contents(&world.state), before);
    drop(held);
    // So is one that another restore fills.
    let half = world.dir.path().join("state.restoring");
    fs::create_dir(&half).unwrap();
    let _other = Owner::take(&half, &[]).unwrap();
    assert!(world.restore(&world.state, true, false).unwrap_err().is::<Owned>());
    assert_eq!(contents(&world.state), before);
}

#[test]
fn a_backup_of_a_newer_program_is_refused_by_name() {
    let world = World::new();
    archive_of(&world.archive, &words(), SCHEMA_VERSION + 1, b"");
    let refused = world.restore(&world.state, true, false).unwrap_err().to_string();
    let known = format!("has version {}, and this program knows {SCHEMA_VERSION}", SCHEMA_VERSION + 1);
    assert!(refused.contains("newer crabtree") && refused.contains(&known), "{refused}");
}

#[test]
fn a_file_system_that_cannot_exchange_has_both_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (state, aside) = (dir.path().join("state"), dir.path().join("state.before-restore-1"));
    put(&state.join("x"), "old", 0o600);
    put(&aside.join("x"), "new", 0o600);
    stepwise(&aside, &state).unwrap();
    let read = |dir: &Path| fs::read_to_string(dir.join("x")).unwrap();
    assert_eq!((read(&state), read(&aside)), ("new".into(), "old".into()));
}
