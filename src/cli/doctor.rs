//! `crabtree doctor`: looks for what is wrong, whether the gateway runs or not. Nothing is changed without `--fix`, and
//! no secret is shown. All checks run side by side, each within [`LIMIT`].
//!
//! A check is a row of [`CHECKS`]: a name and a function from the [`Scene`] to what was found.

mod channels;
mod clock;
mod config;
mod features;
mod gateway;
mod programs;
mod secrets;
mod service;
mod state;
mod store;

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crabtree_actors::settings::Loaded;
use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, Target};
use super::{Failure, Global, RunArgs, print_json, print_line, printable};
use crate::config::{self as files, ConfigError, Environment, Sources};
use crate::owner::{self, Holder};

/// A check that takes longer hangs, which is a problem of its own.
const LIMIT: Duration = Duration::from_secs(15);
/// How long the gateway has for an answer, so that a check that waits for it can still say so.
const ANSWER: Duration = Duration::from_secs(10);

/// Options of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Mend what is safe to mend: modes of files, missing directories
    #[arg(long)]
    fix: bool,
    /// Ask the providers of models, too, whether they answer
    #[arg(long)]
    probe: bool,
    /// Print for each feature how to verify it, and how to take it back; nothing is checked
    #[arg(long)]
    features: bool,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Warn,
    Problem,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Problem => "problem",
        }
    }
}

/// What a check has found.
#[derive(Clone, Debug)]
struct Finding {
    /// The check; several findings may have the same.
    name: &'static str,
    status: Status,
    seen: String,
    /// What to do.
    next: Option<String>,
}

/// Makes the findings of one check.
#[derive(Clone, Copy)]
struct Name(&'static str);

impl Name {
    fn finding(self, status: Status, seen: impl Into<String>, next: Option<&str>) -> Finding {
        Finding { name: self.0, status, seen: seen.into(), next: next.map(str::to_owned) }
    }

    fn ok(self, seen: impl Into<String>) -> Finding {
        self.finding(Status::Ok, seen, None)
    }

    fn warn(self, seen: impl Into<String>, next: &str) -> Finding {
        self.finding(Status::Warn, seen, Some(next))
    }

    fn problem(self, seen: impl Into<String>, next: &str) -> Finding {
        self.finding(Status::Problem, seen, Some(next))
    }
}

type Found = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// A name, and what looks.
type Check = (&'static str, fn(Name, Arc<Scene>) -> Found);

/// The checks, in the order in which they are told.
const CHECKS: &[Check] = &[
    ("config", |name, scene| Box::pin(config::check(name, scene))),
    ("secrets", |name, scene| Box::pin(secrets::check(name, scene))),
    ("state", |name, scene| Box::pin(state::check(name, scene))),
    ("disk", |name, scene| Box::pin(state::disk(name, scene))),
    ("store", |name, scene| Box::pin(store::check(name, scene))),
    ("audit", |name, scene| Box::pin(store::ledger(name, scene))),
    ("port", |name, scene| Box::pin(gateway::port(name, scene))),
    ("gateway", |name, scene| Box::pin(gateway::check(name, scene))),
    ("channels", |name, scene| Box::pin(channels::check(name, scene))),
    ("models", |name, scene| Box::pin(programs::models(name, scene))),
    ("programs", |name, scene| Box::pin(programs::check(name, scene))),
    ("clock", |name, scene| Box::pin(clock::check(name, scene))),
    ("service", |name, scene| Box::pin(service::check(name, scene))),
];

/// What the checks look at.
struct Scene {
    state_dir: PathBuf,
    sources: Sources,
    /// The configuration as it stands in the file.
    loaded: Result<Loaded, ConfigError>,
    /// The gateway that has the state directory now.
    holder: Option<Holder>,
    /// Where it is asked.
    target: Result<Target, Failure>,
    probe: bool,
}

impl Scene {
    fn env(&self) -> &Environment {
        &self.sources.env
    }

    fn is_up(&self) -> bool {
        self.holder.is_some()
    }

    /// Asks the gateway; the error is words for people.
    async fn ask(&self, scope: Scope, method: &str, params: Value) -> Result<Value, String> {
        let mut client = self.connect(scope).await?;
        client.request(method, params).await.map_err(|failure| failure.told())
    }

    async fn connect(&self, scope: Scope) -> Result<Client, String> {
        let target = self.target.as_ref().map_err(Failure::told)?;
        Client::connect(target, &[scope], &[]).await.map_err(|failure| failure.told())
    }
}

pub(super) async fn run(global: &Global, arguments: DoctorArgs) -> Result<ExitCode, Failure> {
    if arguments.features {
        features::print(global.json);
        return Ok(ExitCode::SUCCESS);
    }
    let scene = Arc::new(scene(global, arguments.probe)?);
    let mended = if arguments.fix { state::mend(&scene) } else { Vec::new() };
    let found = all(scene.clone(), !global.json).await;
    let problems = found.iter().filter(|finding| finding.status == Status::Problem).count();
    if global.json {
        print_json(&json!({
            "ok": problems == 0,
            "version": env!("CARGO_PKG_VERSION"),
            "stateDir": scene.state_dir,
            "gatewayRuns": scene.is_up(),
            "checks": found.iter().map(as_json).collect::<Vec<_>>(),
            "mended": mended,
        }));
    } else {
        tell(&found, &mended, problems);
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scene(global: &Global, probe: bool) -> Result<Scene, Failure> {
    let sources = global.sources(Environment::of_process(), &RunArgs::default())?;
    let target = global.target().map(|target| Target { timeout: target.timeout.min(ANSWER), ..target });
    Ok(Scene {
        state_dir: sources.state_dir.clone(),
        loaded: files::load(&sources),
        holder: owner::holder(&sources.state_dir),
        target,
        sources,
        probe,
    })
}

/// Runs all checks side by side; what each found, in the order of the table.
async fn all(scene: Arc<Scene>, progress: bool) -> Vec<Finding> {
    let progress = progress && std::io::stderr().is_terminal();
    let mut running = JoinSet::new();
    for (at, (name, check)) in CHECKS.iter().enumerate() {
        running.spawn(bounded(at, name, check(Name(name), scene.clone())));
    }
    let mut found: Vec<Vec<Finding>> = vec![Vec::new(); CHECKS.len()];
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        // A check that panics is told by `bounded`.
        if let Ok((at, findings)) = ended {
            found[at] = findings;
        }
        done += 1;
        if progress {
            eprint!("\r{done} of {} checks ", CHECKS.len());
            let _ = std::io::stderr().flush();
        }
    }
    if progress {
        eprint!("\r                        \r");
    }
    for ((name, _), findings) in CHECKS.iter().zip(&mut found) {
        if findings.is_empty() {
            findings
                .push(Name(name).problem("the check itself failed", "report this as a fault of crabtree"));
        }
    }
    found.into_iter().flatten().collect()
}

/// A check, cut off when it takes too long. It runs as a task of its own: one that blocks its thread is left behind.
async fn bounded(at: usize, name: &'static str, check: Found) -> (usize, Vec<Finding>) {
    let task = tokio::spawn(check);
    let abort = task.abort_handle();
    match timeout(LIMIT, task).await {
        Ok(found) => (at, found.unwrap_or_default()),
        Err(_) => {
            abort.abort();
            let seen = format!("nothing was seen within {} s: something hangs", LIMIT.as_secs());
            (at, vec![Name(name).problem(seen, "look at the disk and at the network; try again")])
        }
    }
}

/// Runs what blocks on a thread of its own, which nobody waits for once its check was cut off.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn as_json(finding: &Finding) -> Value {
    let mut told = json!({
        "name": finding.name, "status": finding.status.name(), "seen": finding.seen,
    });
    if let Some(next) = &finding.next {
        told["next"] = json!(next);
    }
    told
}

fn tell(found: &[Finding], mended: &[String], problems: usize) {
    for what in mended {
        print_line(&printable(&format!("mended   {what}")));
    }
    let mut last = "";
    for finding in found {
        let name = if finding.name == last { "" } else { finding.name };
        last = finding.name;
        let seen = printable(&finding.seen).replace('\n', "\n                    ");
        print_line(&format!("{name:<10} {:<8} {seen}", finding.status.name()));
        if let Some(next) = &finding.next {
            print_line(&format!("                    → {}", printable(next)));
        }
    }
    let warnings = found.iter().filter(|finding| finding.status == Status::Warn).count();
    let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    print_line(&format!("\n{}, {}.", count(problems, "problem"), count(warnings, "warning")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_or_panics_is_a_problem() {
        let (at, found) = bounded(3, "disk", Box::pin(std::future::pending())).await;
        assert_eq!((at, found[0].status, found[0].name), (3, Status::Problem, "disk"));
        assert!(found[0].seen.contains("something hangs"), "{}", found[0].seen);
        let (_, found) = bounded(0, "disk", Box::pin(async { panic!("of a test") })).await;
        assert!(found.is_empty(), "which `all` tells as a problem");
    }
}
