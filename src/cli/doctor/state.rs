//! The state directory: whose it is, who else may read it, and how much room is left. What is deeper in it is kept from
//! others by the directory itself.

use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Finding, Name, Scene, blocking};

/// With less room than this the next days are in danger.
const LITTLE: u64 = 1 << 30;
/// With less than this the next hour is: the database, its log and a copy of it before a migration.
const NONE: u64 = 100 << 20;
/// Entries of the directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Something in the directory that others may read, and how it should be.
struct Open {
    path: PathBuf,
    mode: u32,
    wanted: u32,
}

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let dir = scene.state_dir.clone();
    blocking(move || look(name, &dir)).await.unwrap_or_default()
}

fn look(name: Name, dir: &Path) -> Vec<Finding> {
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let seen = format!("{} is not there", dir.display());
            return vec![name.warn(seen, "start the gateway once, or `crabtree doctor --fix` makes it")];
        }
        Err(e) => {
            return vec![name.problem(format!("{}: {e}", dir.display()), "make it readable for this user")];
        }
    };
    if !found.is_dir() {
        let next = "move it away, or choose another with --state-dir";
        return vec![name.problem(format!("{} is no directory", dir.display()), next)];
    }
    let mut told = Vec::new();
    if let Some(owner) = stranger(&found) {
        let seen = format!("{} belongs to user {owner}, and not to this one", dir.display());
        told.push(
            name.problem(
                seen,
                "run this as the gateway's user, or give the directory to this one (chown -R)",
            ),
        );
    } else if found.permissions().mode() & 0o700 != 0o700 {
        let seen = format!("{} cannot be written", dir.display());
        told.push(name.problem(seen, "chmod 700, or `crabtree doctor --fix`"));
    }
    for open in open(dir, &found) {
        let seen = format!("{} is open to others (mode {:03o})", open.path.display(), open.mode);
        told.push(name.problem(seen, &format!("chmod {:03o}, or `crabtree doctor --fix`", open.wanted)));
    }
    if told.is_empty() {
        told.push(name.ok(format!("{} is this user's alone", dir.display())));
    }
    told
}

/// The owner, if it is somebody else.
fn stranger(found: &Metadata) -> Option<u32> {
    Some(found.uid()).filter(|owner| *owner != rustix::process::geteuid().as_raw())
}

/// What others may read: the directory, and what stands right in it.
fn open(dir: &Path, found: &Metadata) -> Vec<Open> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(MAX_ENTRIES);
    let within = entries.filter_map(|entry| Some((entry.path(), fs::symlink_metadata(entry.path()).ok()?)));
    let mut all: Vec<Open> = [(dir.to_owned(), found.clone())]
        .into_iter()
        .chain(within)
        .filter(|(_, found)| found.is_dir() || found.is_file())
        .filter(|(_, found)| found.permissions().mode() & 0o077 != 0)
        .map(|(path, found)| {
            let mode = found.permissions().mode() & 0o7777;
            Open { path, mode, wanted: mode & 0o700 | if found.is_dir() { 0o700 } else { 0o600 } }
        })
        .collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Makes what is missing, and takes the rights of others away. What it did.
pub(super) fn mend(scene: &Scene) -> Vec<String> {
    let (dir, mut done) = (&scene.state_dir, Vec::new());
    if !dir.exists() {
        match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            Ok(()) => done.push(format!("{} was made", dir.display())),
            Err(_) => return done,
        }
    }
    let Ok(found) = fs::metadata(dir) else { return done };
    if !found.is_dir() || stranger(&found).is_some() {
        return done;
    }
    if found.permissions().mode() & 0o700 != 0o700 && set_mode(dir, 0o700) {
        done.push(format!("{} can be written", dir.display()));
    }
    for open in open(dir, &found) {
        if set_mode(&open.path, open.wanted) {
            done.push(format!("{}: mode {:03o} is {:03o} now", open.path.display(), open.mode, open.wanted));
        }
    }
    done
}

fn set_mode(path: &Path, mode: u32) -> bool {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).is_ok()
}

pub(super) async fn disk(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let dir = scene.state_dir.clone();
    blocking(move || room(name, &dir)).await.unwrap_or_default()
}

fn room(name: Name, dir: &Path) -> Vec<Finding> {
    // What is not there yet will be made on the disk of what is.
    let place = dir.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(place) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(e) => return vec![name.warn(format!("{}: {e}", place.display()), "look with df")],
    };
    let seen = format!("{} MiB are free where {} is", free >> 20, dir.display());
    vec![match free {
        0..NONE => name.problem(seen, "make room: messages are refused when the disk is full"),
        NONE..LITTLE => name.warn(seen, "make room soon"),
        _ => name.ok(seen),
    }]
}
