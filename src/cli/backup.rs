//! `crabtree backup`: all of a state directory in one sealed file, a look at whether that is good, and the way back.

use std::fs;
use std::io::{IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chrono::Utc;
use clap::{Args, Subcommand};
use crabtree_actors::settings::Secret;
use crabtree_actors::store::{Offline, SCHEMA_VERSION, copy_beside};
use crabtree_protocol::Scope as Right;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::prompt::asked;
use super::{Failure, Global, RunArgs, print_json, print_line, printable};
use crate::backup::{self, Broken, Cost, Limits, List, Made, Manifest, Restored, STORE, Scope, Wish};
use crate::config::{self, Environment};
use crate::owner::{Owned, Owner};

/// The variable that has the passphrase.
const VARIABLE: &str = "CRABTREE_BACKUP_PASSPHRASE";
/// Fewer characters are no passphrase.
const SHORTEST: usize = 8;
/// The longest one, bytes.
const LONGEST: u64 = 4096;
/// How long a gateway may take to copy its database.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// Lines at most about what is not in a backup.
const SHOWN: usize = 20;

/// What to do with backups.
#[derive(Subcommand)]
pub enum BackupCommand {
    /// Write everything that cannot be made anew into one sealed file, whether the gateway runs or not
    #[command(after_help = "Examples:\n  crabtree backup create /mnt/usb\n  \
        crabtree backup create --passphrase-file ~/.backup-passphrase /srv/backups    in a job of the system\n\n\
        Without the passphrase nobody opens it, not even you: keep it somewhere else. Not in it: the log, deleted \
        agents, older copies of the database, workspaces outside of the state directory, links.")]
    Create {
        /// The file, or the folder it is written to [default: here]
        #[arg(value_name = "FILE|DIR", default_value = ".")]
        to: PathBuf,
        /// Leave out files that came with messages
        #[arg(long)]
        no_media: bool,
        /// Leave out the workspaces of agents
        #[arg(long)]
        no_workspaces: bool,
        /// The passphrase
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Read a backup whole, its database too, and say whether it is good
    #[command(after_help = "Example:\n  crabtree backup verify crabtree-backup-20261121T031500Z.tar\n\n\
        Exit codes: 0 good, 1 damaged, 77 another passphrase.")]
    Verify {
        /// The backup
        file: PathBuf,
        /// The passphrase
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Put a backup in the place of the state directory, while no gateway runs there
    #[command(
        after_help = "Examples:\n  crabtree backup restore --dry-run crabtree-backup-20261121T031500Z.tar\n  \
        crabtree --state-dir /srv/crabtree backup restore crabtree-backup-20261121T031500Z.tar\n\n\
        A state directory with something in it is moved aside with --force, never deleted. Two gateways with the same\n\
        state would answer the same people: let the old one stay off."
    )]
    Restore {
        /// The backup
        file: PathBuf,
        /// Only look whether it could be done
        #[arg(long)]
        dry_run: bool,
        /// Move what is in the state directory aside
        #[arg(long)]
        force: bool,
        /// The passphrase
        #[command(flatten)]
        passphrase: Passphrase,
    },
}

/// Where the passphrase comes from.
#[derive(Args)]
pub struct Passphrase {
    /// File with the passphrase [default: CRABTREE_BACKUP_PASSPHRASE, or it is asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, command: BackupCommand) -> Result<ExitCode, Failure> {
    match command {
        BackupCommand::Create { to, no_media, no_workspaces, passphrase } => {
            let scope = scope(global)?;
            let scope = if no_media { scope.without_media() } else { scope };
            let scope = if no_workspaces { scope.without_workspaces() } else { scope };
            let path = target(&to, &scope.state_dir)?;
            create(global, scope, path, passphrase.read(true)?).await
        }
        BackupCommand::Verify { file, passphrase } => {
            let passphrase = passphrase.read(false)?;
            let scratch = std::env::temp_dir();
            let read = {
                let file = file.clone();
                off_thread(move || backup::verify(&file, &passphrase, Limits::USUAL, &scratch)).await?
            };
            let (manifest, list) = read.map_err(broken)?;
            verified(global, &file, &manifest, &list);
            Ok(ExitCode::SUCCESS)
        }
        BackupCommand::Restore { file, dry_run, force, passphrase } => {
            let state_dir = config::state_dir(global.state_dir.as_deref(), &Environment::of_process())?;
            let passphrase = passphrase.read(false)?;
            let done = {
                let (archive, state_dir) = (file.clone(), state_dir.clone());
                off_thread(move || {
                    let (archive, state_dir, limits) = (&*archive, &*state_dir, Limits::USUAL);
                    backup::restore(&Wish {
                        archive,
                        passphrase: &passphrase,
                        state_dir,
                        force,
                        dry_run,
                        limits,
                    })
                })
                .await?
            };
            restored(global, &state_dir, dry_run, &done.map_err(unrestored)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::failed(format!("it broke off: {error}")))
}

impl Passphrase {
    /// Reads it; a new one is asked for twice.
    fn read(&self, new: bool) -> Result<Secret, Failure> {
        let passphrase = match (&self.passphrase_file, Environment::of_process().get(VARIABLE)) {
            (Some(path), _) => from_file(path)?,
            (None, Some(value)) => Secret::new(value),
            (None, None) if stdin().is_terminal() => {
                let first = asked("Passphrase: ")?;
                if new && asked("The same again: ")?.expose() != first.expose() {
                    return Err(Failure::failed("the two are not the same"));
                }
                first
            }
            (None, None) => {
                let next = format!("give --passphrase-file FILE, or set {VARIABLE}");
                return Err(Failure::config("a backup is sealed with a passphrase").or_next(&next));
            }
        };
        if new && passphrase.expose().chars().count() < SHORTEST {
            let why = format!(
                "a passphrase has at least {SHORTEST} characters: whoever has the backup may try for ever"
            );
            return Err(Failure::config(why));
        }
        Ok(passphrase)
    }
}

fn from_file(path: &Path) -> Result<Secret, Failure> {
    let unread =
        |why: &dyn std::fmt::Display| Failure::config(format!("{} cannot be read: {why}", path.display()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    let file = fs::File::open(path).map_err(|error| unread(&error))?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| unread(&error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(unread(&format!("a passphrase has {LONGEST} bytes at most")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unread(&"it is no UTF-8 text"))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// What goes into a backup of this gateway.
fn scope(global: &Global) -> Result<Scope, Failure> {
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    if !sources.state_dir.is_dir() {
        let why = format!("there is nothing in {}", sources.state_dir.display());
        return Err(Failure::config(why).or_next("name another state directory with --state-dir"));
    }
    // A link to it is followed, links in it are not.
    let canonical = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let sources = config::Sources { state_dir: canonical(&sources.state_dir), ..sources };
    Ok(match config::load_to_start(&sources) {
        Ok(mut loaded) => {
            loaded.path = canonical(&loaded.path);
            Scope::with(&loaded)
        }
        // Broken, it is worth keeping all the same, where it is in the directory.
        Err(error) if sources.file.is_none() => {
            eprintln!("crabtree: {}", printable(&error.to_string()));
            Scope::of(&sources.state_dir)
        }
        Err(error) => return Err(error.into()),
    })
}

/// Where the backup goes.
fn target(to: &Path, state_dir: &Path) -> Result<PathBuf, Failure> {
    let name = || format!("crabtree-backup-{}.tar", Utc::now().format("%Y%m%dT%H%M%SZ"));
    let path = if to.is_dir() { to.join(name()) } else { to.to_owned() };
    let unusable = |why: &dyn std::fmt::Display| Failure::config(format!("{}: {why}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(|error| unusable(&error))?;
    if folder.starts_with(state_dir) {
        let why = "it would lie in the state directory, and be in every later backup";
        return Err(unusable(&why).or_next("write it somewhere else, best to another disk"));
    }
    if path.exists() {
        return Err(unusable(&"it is there already").or_next("name another file"));
    }
    let name = path.file_name().ok_or_else(|| unusable(&"it is no name of a file"))?;
    Ok(folder.join(name))
}

async fn create(
    global: &Global,
    scope: Scope,
    path: PathBuf,
    passphrase: Secret,
) -> Result<ExitCode, Failure> {
    let state_dir = scope.state_dir.clone();
    // Held to the end: no gateway starts on what is being copied.
    let (owner, copy) = match Owner::take(&state_dir, &[]) {
        Ok(owner) => {
            let state_dir = state_dir.clone();
            (Some(owner), off_thread(move || copy_at_rest(&state_dir)).await??)
        }
        Err(error) if error.is::<Owned>() => (None, Some(copy_of_running(global, &state_dir).await?)),
        Err(error) => return Err(Failure::failed(format!("{error:#}"))),
    };
    let made = {
        let copy = copy.clone();
        off_thread(move || backup::create(&scope, copy.as_deref(), &path, &passphrase, Cost::SECURE)).await
    };
    // Whatever came of it, nobody needs the copy any more.
    let _ = copy.map(fs::remove_file);
    let running = owner.is_none();
    drop(owner);
    created(global, &made?.map_err(broken)?, running);
    Ok(ExitCode::SUCCESS)
}

/// A copy of the database while no gateway has it.
fn copy_at_rest(state_dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let path = state_dir.join(STORE);
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error| {
        Failure::failed(format!("{} cannot be copied: {error}", path.display()))
            .or_next("look what `crabtree doctor` says of it")
    };
    let copy = Offline::open(&path).and_then(|store| copy_beside(state_dir, |to| store.copy_to(to)));
    copy.map_err(failed)?.map(Some).ok_or_else(|| Failure::failed("another backup is being made"))
}

/// A copy that the running gateway makes of its database.
async fn copy_of_running(global: &Global, state_dir: &Path) -> Result<PathBuf, Failure> {
    let mut client = global.connect(&[Right::Admin]).await?;
    client.timeout = global.timeout_ms.map_or(COPY_LIMIT, Duration::from_millis);
    let copy = client.request("system.backup", json!({})).await?;
    let path = PathBuf::from(copy["path"].as_str().unwrap_or_default());
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    match folder.is_some_and(|folder| folder.starts_with(state_dir)) && path.is_file() {
        true => Ok(path),
        false => Err(Failure::failed("the gateway that answers has another state directory")
            .or_next("run this on its machine, with its --state-dir")),
    }
}

fn broken(error: Broken) -> Failure {
    match error {
        Broken::Passphrase => {
            Failure::unauthorised(error.to_string()).or_next("give the one it was sealed with")
        }
        Broken::Damaged(_) | Broken::Refused(_) => Failure::failed(error.to_string())
            .or_next("use another backup, and look after the disk of this one"),
        Broken::Newer { .. } => {
            Failure::config(error.to_string()).or_next("use that version, or a newer one")
        }
        Broken::File(..) => Failure::failed(error.to_string()),
    }
}

fn unrestored(error: anyhow::Error) -> Failure {
    if error.is::<Owned>() {
        return Failure::config(error.to_string()).or_next("stop it first");
    }
    match error.downcast::<Broken>() {
        Ok(error) => broken(error),
        Err(error) => Failure::config(format!("{error:#}"))
            .or_next("give --force to move it aside, or another directory with --state-dir"),
    }
}

fn told(manifest: &Manifest, list: &List) -> Value {
    json!({
        "format": manifest.format, "program": manifest.program, "schemaVersion": manifest.schema_version,
        "madeAt": manifest.made_at, "files": list.files.len(),
        "contentBytes": list.files.iter().map(|file| file.size).sum::<u64>(), "leftOut": list.left_out,
    })
}

fn merged(mut into: Value, more: Value) -> Value {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
    into
}

fn created(global: &Global, made: &Made, running: bool) {
    let Made { path, bytes, manifest, list } = made;
    if global.json {
        let head = json!({ "ok": true, "path": path, "bytes": bytes, "running": running });
        return print_json(&merged(head, told(manifest, list)));
    }
    print_line(&printable(&format!("{}: {} files, {} KiB", path.display(), list.files.len(), bytes >> 10)));
    missing(list);
    print_line(
        "Without the passphrase nobody opens it: keep that elsewhere. Now and then: crabtree backup verify",
    );
}

fn missing(list: &List) {
    if !list.left_out.is_empty() {
        print_line("Not in it:");
    }
    for left in list.left_out.iter().take(SHOWN) {
        print_line(&printable(&format!("  {}: {}", left.path, left.why)));
    }
    if let Some(more) = list.left_out.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        print_line(&format!("  and {more} more; all of them with --json"));
    }
}

fn verified(global: &Global, file: &Path, manifest: &Manifest, list: &List) {
    let restorable = manifest.schema_version <= SCHEMA_VERSION;
    if global.json {
        return print_json(&merged(json!({ "ok": true, "restorable": restorable }), told(manifest, list)));
    }
    let Manifest { made_at, program, .. } = manifest;
    let files = list.files.len();
    print_line(&printable(&format!(
        "{}: whole, {files} files, made {made_at} by crabtree {program}",
        file.display()
    )));
    if !restorable {
        print_line("This program is too old to restore it.");
    }
    missing(list);
}

fn restored(global: &Global, state_dir: &Path, dry_run: bool, done: &Restored) {
    let Restored { manifest, list, aside, config } = done;
    if global.json {
        let head =
            json!({ "ok": true, "dryRun": dry_run, "stateDir": state_dir, "aside": aside, "config": config });
        return print_json(&merged(head, told(manifest, list)));
    }
    let files = list.files.len();
    let how = if dry_run { "could be restored" } else { "restored" };
    print_line(&printable(&format!("{}: {how}, {files} files of {}", state_dir.display(), manifest.made_at)));
    if let Some(aside) = aside {
        print_line(&printable(&format!("What was there is in {}", aside.display())));
    }
    if let (Some(config), Some(was)) = (config, &list.config) {
        let text = format!(
            "The configuration stood at {was}: put it there again, or start with --config {}",
            config.display()
        );
        print_line(&printable(&text));
    }
    if !dry_run {
        print_line("Next: crabtree run. Where it was before, let the gateway stay off.");
    }
}
