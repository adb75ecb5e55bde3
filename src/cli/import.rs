//! `crabtree import`: takes over what another gateway keeps, while neither of them runs.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use crabtree_actors::store::{Db, StoreError, Sync, copied};
use serde_json::json;

use super::{Failure, Global, RunArgs, print_json, print_line, printable, table};
use crate::config::{self, Environment};
use crate::import::{Done, Found, Home, Plan, Private, Source, Step, move_all};
use crate::owner::{Owned, Owner};

/// How often it is said how far an import is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Messages after which it is said at once.
const TELL_AFTER: u64 = 5_000;

/// What to take over.
#[derive(Subcommand)]
pub enum ImportCommand {
    /// Take over an installation of OpenClaw, which stays as it is
    #[command(
        after_help = "Examples:\n  crabtree import openclaw --dry-run\n  crabtree import openclaw /srv/openclaw\n\n\
        Configuration, devices and their tokens, approved nodes, people who were let in, jobs, and sessions with their\n\
        transcripts. Neither gateway may run meanwhile. What is here already stays; a second run brings what is new,\n\
        and completes one that was interrupted. Exit codes: 0 done, 1 a part could not be read or written, 78 a gateway\n\
        runs, or there is nothing to import."
    )]
    Openclaw {
        /// Its state directory [default: OPENCLAW_STATE_DIR or ~/.openclaw]
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        /// Put its configuration in the place of the one that is here, which is kept as openclaw.json.bak
        #[arg(long)]
        replace_config: bool,
    },
}

pub(super) async fn run(global: &Global, command: ImportCommand) -> Result<ExitCode, Failure> {
    let ImportCommand::Openclaw { dir, dry_run, replace_config } = command;
    let env = Environment::of_process();
    let sources = global.sources(env.clone(), &RunArgs::default())?;
    let from = from(dir, &env)?;
    let job = Job {
        json: global.json,
        dry_run,
        from,
        config: sources.file.clone().unwrap_or_else(|| sources.state_dir.join("openclaw.json")),
        state_dir: sources.state_dir,
        replace_config,
        env,
    };
    tokio::task::spawn_blocking(move || job.carry_out())
        .await
        .unwrap_or_else(|error| Err(Failure::failed(format!("the import broke off: {error}"))))
}

/// The installation that is meant.
fn from(dir: Option<PathBuf>, env: &Environment) -> Result<PathBuf, Failure> {
    let dir = dir.or_else(|| env.get("OPENCLAW_STATE_DIR").map(PathBuf::from));
    let dir = dir.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".openclaw")));
    let dir = dir.ok_or_else(|| Failure::config("there is no home directory; name the installation's"))?;
    std::path::absolute(&dir).map_err(|error| Failure::config(format!("{}: {error}", dir.display())))
}

struct Job {
    json: bool,
    dry_run: bool,
    from: PathBuf,
    config: PathBuf,
    state_dir: PathBuf,
    replace_config: bool,
    env: Environment,
}

impl Job {
    fn carry_out(self) -> Result<ExitCode, Failure> {
        if std::path::absolute(&self.state_dir).is_ok_and(|own| own.starts_with(&self.from)) {
            let message = "the state directory lies in the installation that is to be imported";
            return Err(Failure::config(message).or_next("choose another one with --state-dir"));
        }
        match self.dry_run {
            true => self.show(),
            false => self.import(),
        }
    }

    /// Only looks. Nothing is made, neither there nor here.
    fn show(&self) -> Result<ExitCode, Failure> {
        let source =
            self.source(std::env::temp_dir().join(format!("crabtree-import-{}", uuid::Uuid::new_v4())))?;
        let now = now_ms();
        let found = Found::of(&source, now).map_err(|error| unreadable(&error))?;
        let db = self.snapshot(&source).map_err(stored)?;
        let plan = found.plan(&db, &self.home([0; 32], now)).map_err(|error| unreadable(&error))?;
        if self.json {
            print_json(&json!({ "ok": true, "dryRun": true, "source": self.from, "items": plan.items }));
        } else {
            self.print(&plan);
            print_line("\nNothing was changed. To do it: the same without --dry-run");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn import(&self) -> Result<ExitCode, Failure> {
        // First of all: where there is nothing, nothing is made.
        if !self.from.is_dir() {
            return Err(nothing(&self.from));
        }
        config::prepare_state_dir(&self.state_dir)?;
        let _owner = Owner::take(&self.state_dir, &[]).map_err(|error| {
            let next = "stop it, and start it again when the import is done";
            match error.is::<Owned>() {
                true => Failure::config(error.to_string()).or_next(next),
                false => Failure::failed(format!("{error:#}")),
            }
        })?;
        let source = self.source(self.state_dir.join("import.tmp"))?;
        if let Some(pid) = source.running() {
            let message = format!("the gateway of {} runs (pid {pid})", self.from.display());
            let next = "stop it first (`openclaw gateway stop`), so that nothing is missed";
            return Err(Failure::config(message).or_next(next));
        }
        let (key, _) = config::device_key(&self.state_dir)?;
        let db = Db::open(self.state_dir.join("store.sqlite"), Sync::Full).map_err(stored)?;
        if let Some(damage) = db.damage() {
            eprintln!("crabtree: {damage}");
        }
        let now = now_ms();
        let home = self.home(key, now);
        let found = Found::of(&source, now).map_err(|error| unreadable(&error))?;
        let plan = found.plan(&db, &home).map_err(|error| unreadable(&error))?;
        if !self.json {
            self.print(&plan);
        }
        let mut told = Told::new();
        let done = move_all(&found, &source, &db, &home, &mut |step| told.hear(step));
        let done = done.map_err(|error| {
            Failure::failed(format!("the import broke off: {error:#}"))
                .or_next("run it again: it goes on where it was")
        })?;
        self.close(&plan, &done);
        Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn source(&self, private: PathBuf) -> Result<Source, Failure> {
        if !self.from.is_dir() {
            return Err(nothing(&self.from));
        }
        let private = Private::new(private)
            .map_err(|error| Failure::failed(format!("no folder for copies can be made: {error}")))?;
        Source::open(&self.from, private).map_err(|error| {
            if error.downcast_ref::<StoreError>().is_some() {
                unreadable(&error)
            } else {
                nothing(&self.from)
            }
        })
    }

    /// What is here, as it is now: a gateway of ours may run.
    fn snapshot(&self, source: &Source) -> Result<Db, StoreError> {
        let path = self.state_dir.join("store.sqlite");
        if !path.exists() {
            return Db::memory();
        }
        let copy = copied(&path, source.private());
        Db::open(copy.map_err(|e| StoreError::Unavailable(e.to_string()))?, Sync::Normal)
    }

    fn home(&self, key: [u8; 32], now: i64) -> Home {
        Home {
            state_dir: self.state_dir.clone(),
            config: self.config.clone(),
            env: self.env.clone(),
            replace_config: self.replace_config,
            key,
            now,
        }
    }

    fn print(&self, plan: &Plan) {
        print_line(&format!("{} into {}\n", self.from.display(), self.state_dir.display()));
        table::lines(&plan.table()).iter().for_each(|line| print_line(line));
        let reasons = plan.reasons();
        if !reasons.is_empty() {
            print_line("");
        }
        reasons.iter().for_each(|line| print_line(&printable(line)));
    }

    fn close(&self, plan: &Plan, done: &Done) {
        let moved = &done.moved;
        if self.json {
            let came: serde_json::Map<_, _> =
                done.came.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
            print_json(&json!({
                "ok": done.failed.is_empty(), "dryRun": false, "source": self.from, "items": plan.items,
                "imported": came, "messages": moved.messages, "brokenEntries": moved.broken,
                "broken": moved.named, "branchesLeftOut": moved.branches_left_out, "failed": done.failed,
            }));
            return;
        }
        let came: Vec<String> = done
            .came
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{} {count}", kind.name()))
            .collect();
        let came = if came.is_empty() { "nothing that was not here".to_owned() } else { came.join(", ") };
        print_line(&format!("\nImported: {came}; {} messages", moved.messages));
        if moved.branches_left_out > 0 {
            print_line(&format!("{} branches of conversations were left out", moved.branches_left_out));
        }
        if moved.broken > 0 {
            print_line(&format!("{} entries could not be read and were left out:", moved.broken));
            moved.named.iter().for_each(|line| print_line(&format!("  {}", printable(line))));
        }
        done.failed.iter().for_each(|line| print_line(&format!("Failed: {}", printable(line))));
        print_line(
            "\nNext: crabtree run, then crabtree status and crabtree devices list.\n\
             The old gateway stays off (openclaw gateway uninstall): two would answer the same people.",
        );
    }
}

/// Says how far it is, on standard error, now and then.
struct Told {
    at: Instant,
    messages: u64,
}

impl Told {
    fn new() -> Self {
        Self { at: Instant::now(), messages: 0 }
    }

    fn hear(&mut self, step: &Step) {
        let due = self.at.elapsed() >= TELL_EVERY || step.messages >= self.messages + TELL_AFTER;
        if !due {
            return;
        }
        (self.at, self.messages) = (Instant::now(), step.messages);
        let line = format!("{} of {} sessions, {} messages", step.sessions, step.of, step.messages);
        let mut out = stderr().lock();
        // Whoever watched may have gone; the work goes on.
        let _ = match out.is_terminal() {
            true => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
            false => writeln!(out, "{line}"),
        };
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut out = stderr().lock();
        if self.messages > 0 && out.is_terminal() {
            let _ = writeln!(out);
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn nothing(dir: &Path) -> Failure {
    Failure::config(format!("there is no installation of OpenClaw in {}", dir.display()))
        .or_next("name its state directory: crabtree import openclaw DIR")
}

fn unreadable(error: &anyhow::Error) -> Failure {
    Failure::failed(format!("the installation cannot be read: {error:#}"))
        .or_next("mend or move away what cannot be read, and run it again")
}

fn stored(error: StoreError) -> Failure {
    Failure::failed(format!("the store cannot be opened: {error}"))
}
