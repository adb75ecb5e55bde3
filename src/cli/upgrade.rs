//! `crabtree upgrade FILE`: another program in place of this one, tried on a copy of the state first; the gateway that runs
//! hands over to it, and gets its place back if it does not serve.

mod rehearsal;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Start, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use tokio::time::sleep;

use super::{Failure, Global, RunArgs, print_json, print_line};
use crate::config::Environment;
use crate::exchange::{self, Exchange, State};
use crate::owner::{self, Holder};

/// Exit code when neither program serves.
const NOBODY_SERVES: u8 = 70;
/// How often is looked how far it is.
const LOOK: Duration = Duration::from_millis(50);
/// What the gateway that runs takes at the most to make way: running turns have 30 s, the tree and its sockets as long.
const MAKE_WAY: Duration = Duration::from_secs(70);
/// How much longer than the new program itself, which goes back by itself if it can, is waited for it.
const GRACE: Duration = Duration::from_secs(5);
/// How long a service manager is waited for that starts a gateway again.
const SERVICE: Duration = Duration::from_secs(10);
/// How long a gateway that was started again has to say that it serves.
const RETURN: Duration = Duration::from_secs(40);

/// Options of `upgrade`.
#[derive(Args)]
pub struct UpgradeArgs {
    /// The new program
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How long it has to serve, once the other has made way
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    within: u64,
}

/// What has come of it.
enum Outcome {
    /// The new program serves, after so many milliseconds without any.
    Upgraded(Option<i64>),
    /// The one before it serves again.
    Back(String),
    /// Nobody does.
    Nobody(String),
}

pub(super) async fn run(global: &Global, arguments: &UpgradeArgs) -> Result<ExitCode, Failure> {
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    let state_dir = sources.state_dir.clone();
    let holder = owner::holder(&state_dir);
    let program = match &holder {
        Some(holder) if holder.started.program.is_absolute() => holder.started.program.clone(),
        Some(_) => {
            return Err(Failure::failed("the gateway that runs does not say which program it is")
                .or_next("stop it, replace its program by hand, and start it again"));
        }
        None => std::env::current_exe().map_err(|error| Failure::failed(error.to_string()))?,
    };
    if Exchange::pending(&state_dir).is_some() && holder.is_some() {
        return Err(Failure::failed("another upgrade is under way").or_next(
            "wait until it is over, or remove upgrade.json from the state directory if nobody makes it",
        ));
    }
    let staged = Staged::of(&arguments.file, &program)?;
    let version = rehearsal::version(&staged.0).await?;
    let environment = holder.as_ref().map_or_else(Vec::new, |holder| environment(holder.pid));
    let tried = rehearsal::rehearse(&staged.0, &sources, holder.is_some(), &environment).await?;
    let (old, tell) = (env!("CARGO_PKG_VERSION"), |words: String| {
        if !global.json {
            print_line(&words);
        }
    });
    tell(format!("{version} starts on a copy of this state in {} ms", tried.ready_ms));
    let outcome = match &holder {
        None => {
            exchange::replace(&program, &staged.0).map_err(unchanged)?;
            None
        }
        Some(holder) => {
            let within = Duration::from_secs(arguments.within);
            Exchange::of(program.clone(), tried.schema_before, within)
                .write(&state_dir)
                .map_err(unchanged)?;
            Some(
                Exchanging { state_dir: &state_dir, holder, environment, within }
                    .run(&program, &staged)
                    .await?,
            )
        }
    };
    let (code, told) = match outcome {
        None => (0, json!({ "ok": true, "running": false })),
        Some(Outcome::Upgraded(gap_ms)) => (0, json!({ "ok": true, "running": true, "gapMs": gap_ms })),
        Some(Outcome::Back(why)) => {
            return Err(Failure::failed(format!(
                "the new program did not serve: {why}; the one before it serves again"
            ))
            .or_next("`crabtree logs` shows what it said; nothing else is to be done"));
        }
        Some(Outcome::Nobody(why)) => {
            return Err(Failure::with_exit(NOBODY_SERVES, format!("no gateway serves: {why}")).or_next(
                "start it by hand with `crabtree run`; the program and the database are those from before",
            ));
        }
    };
    if global.json {
        let mut told = told;
        (told["version"], told["program"]) = (json!(version), json!(program));
        (told["previous"], told["from"]) = (json!(exchange::previous(&program)), json!(old));
        print_json(&told);
    } else {
        let kept = exchange::previous(&program);
        print_line(&format!(
            "{} is {version} now; the one before it is kept as {}",
            program.display(),
            kept.display()
        ));
        match told["gapMs"].as_i64() {
            Some(gap) => print_line(&format!("the gateway handed over; nobody was served for {gap} ms")),
            None if told["running"] == true => print_line("the gateway handed over"),
            None => print_line("no gateway runs here; the next start takes the new program"),
        }
    }
    Ok(ExitCode::from(code))
}

/// The new program, in the folder of the one it replaces: from there it can take its place at once. It goes with this.
struct Staged(PathBuf);

impl Staged {
    fn of(file: &Path, program: &Path) -> Result<Self, Failure> {
        let about = fs::metadata(file)
            .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", file.display())))?;
        if !about.is_file() {
            return Err(Failure::failed(format!("{} is no file", file.display())));
        }
        let mut name = program.as_os_str().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let staged = Self(name.into());
        let copy = || {
            fs::copy(file, &staged.0)?;
            fs::set_permissions(&staged.0, fs::Permissions::from_mode(0o755))
        };
        copy().map_err(|error: std::io::Error| {
            Failure::failed(format!("{} cannot be written: {error}", staged.0.display()))
                .or_next("run this as the user who may replace the program, for instance with sudo")
        })?;
        Ok(staged)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn unchanged(error: anyhow::Error) -> Failure {
    Failure::failed(format!("nothing was changed: {error:#}"))
}

/// A gateway that runs, and is to hand over.
struct Exchanging<'a> {
    state_dir: &'a Path,
    holder: &'a Holder,
    environment: Vec<(OsString, OsString)>,
    within: Duration,
}

impl Exchanging<'_> {
    /// Has it hand over, and watches what comes of it.
    async fn run(&self, program: &Path, staged: &Staged) -> Result<Outcome, Failure> {
        let pid = i32::try_from(self.holder.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed("the gateway's process is not known"))?;
        if let Err(error) = exchange::replace(program, &staged.0) {
            Exchange::forget(self.state_dir);
            return Err(unchanged(error));
        }
        let outcome = match kill_process(pid, Signal::USR2) {
            Ok(()) => self.watched(pid).await,
            Err(error) => {
                let back = exchange::go_back(self.state_dir, "the gateway could not be told");
                back.map_err(|error| Failure::failed(format!("{error:#}")))?;
                let why = format!("the gateway (pid {}) cannot be told: {error}", self.holder.pid);
                return Err(Failure::failed(why).or_next("run this as the user of the gateway, or as root"));
            }
        };
        Exchange::forget(self.state_dir);
        Ok(outcome)
    }

    async fn watched(&self, pid: Pid) -> Outcome {
        let mut deadline = Instant::now() + MAKE_WAY;
        let mut made_way = false;
        let why = loop {
            let Some(exchange) = Exchange::read(self.state_dir) else {
                return Outcome::Nobody("upgrade.json was taken away".into());
            };
            let why = exchange.why.unwrap_or_default();
            match exchange.state {
                State::Ready => return Outcome::Upgraded(exchange.gap_ms),
                State::Back => return self.returned(why, RETURN).await,
                State::Returned => return Outcome::Back(why),
                State::Handed if !made_way => {
                    (made_way, deadline) = (true, Instant::now() + self.within + GRACE);
                }
                _ if !is_alive(pid) => break "its process has ended",
                _ if Instant::now() < deadline => sleep(LOOK).await,
                State::Pending | State::Handed => {
                    // What hangs so long serves nobody, and has not heard the signal.
                    let _ = kill_process(pid, Signal::KILL);
                    while is_alive(pid) && Instant::now() < deadline + GRACE {
                        sleep(LOOK).await;
                    }
                    break "it did not serve in time";
                }
            }
        };
        if let Err(error) = exchange::go_back(self.state_dir, why) {
            return Outcome::Nobody(format!("{why}, and there is no way back: {error:#}"));
        }
        // A service manager starts it again by itself; otherwise it is started as it was.
        let wait = if self.holder.started.by_service { SERVICE } else { Duration::ZERO };
        if let Outcome::Back(why) = self.returned(why.to_owned(), wait).await {
            return Outcome::Back(why);
        }
        if let Err(error) = self.again() {
            return Outcome::Nobody(format!("{why}, and the one before it cannot be started: {error}"));
        }
        self.returned(why.to_owned(), RETURN).await
    }

    /// Waits until the program before serves again.
    async fn returned(&self, why: String, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        loop {
            match Exchange::read(self.state_dir).map(|exchange| exchange.state) {
                Some(State::Returned) => return Outcome::Back(why),
                _ if Instant::now() > deadline => {
                    return Outcome::Nobody(format!("{why}, and the one before it has not come back"));
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Starts the gateway as it was started, apart from this command.
    fn again(&self) -> std::io::Result<()> {
        let started = &self.holder.started;
        let mut command = Start::new(&started.program);
        command.args(&started.arguments).current_dir(&started.folder).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(drop)
    }
}

/// The environment of the gateway's process, as far as it can be seen: what a service manager gives it, others do not
/// have.
fn environment(pid: u32) -> Vec<(OsString, OsString)> {
    const ITS_OWN: [&str; 4] = ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "GATEWAY_HANDED_OVER"];
    let all = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variable = |text: &[u8]| {
        let at = text.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (text.get(..at)?, text.get(at + 1..)?);
        let is_its_own = ITS_OWN.iter().any(|own| name.starts_with(own.as_bytes()));
        (!is_its_own).then(|| (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
    };
    all.split(|byte| *byte == 0).filter_map(variable).collect()
}

/// A process that has ended and waits for its parent is not.
fn is_alive(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_dead =
        state.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')));
    test_kill_process(pid).is_ok() && !is_dead
}
