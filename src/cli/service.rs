//! `crabtree service`: the gateway as a service of this machine. Files are written, and the service manager is asked to
//! take them up; where none runs it is said what to run instead.

mod machine;
mod status;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::machine::{Machine, Step};
use super::{Failure, Global, RunArgs, print_json, print_line, print_text};
use crate::config::{self, Environment};
use crate::owner;
use crate::service::{self, NAME, Platform, Scope, Unit};

/// Homes, where a system's service finds no program.
const HOMES: [&str; 2] = ["/home", "/root"];

/// What to do with the service.
#[derive(Subcommand)]
pub enum ServiceCommand {
    /// Write the service's file, enable the service and start it
    #[command(after_help = "Examples:\n  crabtree service install\n  crabtree service install --dry-run\n  \
        sudo crabtree service install --system\n  crabtree service install --print --platform launchd\n\n\
        Exit code 0 when the file is written; where no service manager runs it is said what to run once one does.")]
    Install(InstallArgs),
    /// Stop the service and remove its file; the gateway's state stays
    #[command(after_help = "Example:\n  crabtree service uninstall")]
    Uninstall(UninstallArgs),
    /// Show whether the service is installed, up to date and running
    #[command(
        after_help = "Example:\n  crabtree service status\n\nExit code 0 if it runs, 1 if it does not."
    )]
    Status(Which),
}

/// Which service.
#[derive(Args)]
pub struct Which {
    /// The machine's service instead of this user's; wants root
    #[arg(long)]
    system: bool,
    /// The service manager [default: this machine's]
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// Directory that will be / one day, as of an image: nothing is started
    #[arg(long, value_name = "DIR", requires = "system")]
    root: Option<PathBuf>,
}

/// Options of `install`.
#[derive(Args)]
pub struct InstallArgs {
    #[command(flatten)]
    which: Which,
    /// The program to start [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// As whom a system's service runs; made if it is not there
    #[arg(long, value_name = "NAME", default_value = NAME, requires = "system")]
    user: String,
    /// Directory that a system's service may write to beside its state, such as an agent's workspace; may be repeated
    #[arg(long, value_name = "DIR", requires = "system")]
    writable: Vec<PathBuf>,
    /// Print the file and do nothing
    #[arg(long, conflicts_with = "dry_run")]
    print: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Options of `uninstall`.
#[derive(Args)]
pub struct UninstallArgs {
    #[command(flatten)]
    which: Which,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, command: ServiceCommand) -> Result<ExitCode, Failure> {
    match command {
        ServiceCommand::Install(arguments) => install(global, &arguments).await,
        ServiceCommand::Uninstall(arguments) => uninstall(global, &arguments).await,
        ServiceCommand::Status(which) => status::run(global, &which.machine()?).await,
    }
}

impl Which {
    fn scope(&self) -> Scope {
        if self.system { Scope::System } else { Scope::User }
    }

    fn machine(&self) -> Result<Machine, Failure> {
        let platform = self.platform.unwrap_or_else(Platform::here);
        Machine::new(platform, self.scope(), self.root.clone(), &Environment::of_process())
    }
}

/// What was done, or would be.
#[derive(Default)]
struct Done {
    /// The file, and what became of it.
    file: PathBuf,
    changed: bool,
    steps: Vec<String>,
    next: Vec<String>,
}

impl Done {
    fn tell(&self, global: &Global, verb: &str, dry: bool) {
        if global.json {
            return print_json(&json!({
                "ok": true, "dryRun": dry, "file": self.file, "changed": self.changed,
                "steps": self.steps, "next": self.next,
            }));
        }
        let would = if dry { "would " } else { "" };
        if self.changed {
            print_line(&format!("{would}{verb} {}", self.file.display()));
        } else {
            print_line(&format!("{} is as it should be", self.file.display()));
        }
        self.steps.iter().for_each(|step| print_line(&format!("{would}run {step}")));
        self.next.iter().for_each(|next| print_line(&format!("next: {next}")));
    }
}

async fn install(global: &Global, arguments: &InstallArgs) -> Result<ExitCode, Failure> {
    let machine = arguments.which.machine()?;
    let unit = unit(global, arguments, &machine)?;
    let text = unit.text();
    if arguments.print {
        print_text(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let file = machine.file();
    let old = fs::read_to_string(&file).ok();
    let mut done = Done { changed: old.as_ref() != Some(&text), file, ..Done::default() };
    let mut steps = machine.before(&unit).await;
    if arguments.dry_run {
        steps.extend(machine.after(done.changed, true));
        done.steps = steps.iter().map(Step::shown).collect();
        done.next = machine.advice();
        done.tell(global, "write", true);
        return Ok(ExitCode::SUCCESS);
    }
    machine.may_write()?;
    if done.changed {
        write(&done.file, &text, old.is_some()).map_err(|error| {
            Failure::failed(format!("{} cannot be written: {error}", done.file.display()))
        })?;
    }
    if machine.runs().await {
        let was_active = machine.is_active().await;
        let holder = state_dir(global, &unit)?.and_then(|dir| owner::holder(&dir)).filter(|_| !was_active);
        steps.extend(machine.after(done.changed, holder.is_none()));
        for step in &steps {
            step.run().await?;
            done.steps.push(step.shown());
        }
        if let Some(holder) = holder {
            done.next.push(format!("stop the gateway that runs by hand (pid {})", holder.pid));
            done.next.push(machine.start());
        } else if was_active && done.changed {
            done.next.push(format!("{}: it still runs as it was started", machine.restart()));
        }
    } else {
        steps.extend(machine.after(done.changed, true));
        done.next.push(format!("{}: {}", machine.silence(), machine.then()));
        done.next.extend(steps.iter().map(Step::shown));
    }
    done.next.extend(machine.advice());
    done.tell(global, "wrote", false);
    Ok(ExitCode::SUCCESS)
}

async fn uninstall(global: &Global, arguments: &UninstallArgs) -> Result<ExitCode, Failure> {
    let machine = arguments.which.machine()?;
    let file = machine.file();
    let Ok(text) = fs::read_to_string(&file) else {
        return Err(Failure::failed(format!("{} is not there", file.display())).or_next(
            "`crabtree service status` and `crabtree service status --system` show what is installed",
        ));
    };
    if service::stamp_in(&text).is_none() {
        return Err(Failure::failed(format!("{} was not made by this program", file.display()))
            .or_next("remove it by hand, or install over it first: the old one is kept as .bak"));
    }
    let mut done = Done { file, changed: true, ..Done::default() };
    let (end, forget) = machine.leave();
    if !arguments.dry_run {
        machine.may_write()?;
    }
    if arguments.dry_run || machine.runs().await {
        for step in &end {
            if !arguments.dry_run {
                step.run().await?;
            }
            done.steps.push(step.shown());
        }
    } else {
        done.next.push(format!("{}: nothing was stopped", machine.silence()));
    }
    if arguments.dry_run {
        done.steps.extend(forget.iter().map(Step::shown));
        done.tell(global, "remove", true);
        return Ok(ExitCode::SUCCESS);
    }
    fs::remove_file(&done.file)
        .map_err(|error| Failure::failed(format!("{} cannot be removed: {error}", done.file.display())))?;
    if machine.runs().await {
        for step in &forget {
            step.run().await?;
            done.steps.push(step.shown());
        }
    }
    done.next.push("the gateway's state, and the user it ran as, stay".to_owned());
    done.tell(global, "removed", false);
    Ok(ExitCode::SUCCESS)
}

/// What is to be installed.
fn unit(global: &Global, arguments: &InstallArgs, machine: &Machine) -> Result<Unit, Failure> {
    let env = Environment::of_process();
    let is_system = machine.scope == Scope::System;
    let program = match &arguments.program {
        Some(program) => absolute(program)?,
        None => std::env::current_exe()
            .map_err(|error| Failure::failed(format!("where this program is cannot be told: {error}")))?,
    };
    if is_system && HOMES.iter().any(|home| program.starts_with(home)) {
        let text = format!("{} is in a home, of which a system's service sees nothing", program.display());
        return Err(Failure::failed(text).or_next(&format!(
            "sudo install -m 755 {} /usr/local/bin/ && sudo /usr/local/bin/crabtree service install --system",
            program.display()
        )));
    }
    let set = global.state_dir.as_deref().map(absolute).transpose()?;
    let state_dir = match set {
        Some(dir) => Some(dir),
        None if is_system => Some(service::system_state_dir(machine.platform)),
        None => env.get("CRABTREE_STATE_DIR").map(|dir| absolute(Path::new(dir))).transpose()?,
    };
    Ok(Unit {
        platform: machine.platform,
        scope: machine.scope,
        program,
        state_dir,
        config: global.config.as_deref().map(absolute).transpose()?,
        user: plain(&arguments.user)?.to_owned(),
        path: env.get("PATH").filter(|_| !is_system).map(plain).transpose()?.map(str::to_owned),
        writable: arguments.writable.iter().map(|dir| absolute(dir)).collect::<Result<_, _>>()?,
        home: machine.home.clone(),
    })
}

/// Where the gateway of this unit keeps its state; none in an image.
fn state_dir(global: &Global, unit: &Unit) -> Result<Option<PathBuf>, Failure> {
    match (&unit.state_dir, unit.scope) {
        (Some(dir), _) => Ok(Some(dir.clone())),
        (None, Scope::System) => Ok(None),
        (None, Scope::User) => {
            Ok(Some(global.sources(Environment::of_process(), &RunArgs::default())?.state_dir))
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    plain(&path.to_string_lossy())?;
    if path.to_str().is_none() {
        return Err(Failure::failed(format!("{} is no text that a unit file can say", path.display())));
    }
    std::path::absolute(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// What is written into a file of lines is one line.
fn plain(text: &str) -> Result<&str, Failure> {
    if text.chars().any(char::is_control) {
        return Err(Failure::failed(format!("{text:?} has control characters in it")));
    }
    Ok(text)
}

/// Puts the file there whole, or not at all; what was there before is kept as `.bak`.
fn write(file: &Path, text: &str, keep: bool) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    if keep {
        fs::copy(file, beside(".bak"))?;
    }
    let new = beside(".new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, PermissionsExt::from_mode(0o644))?;
    fs::rename(&new, file)
}

/// Whether a service is installed, for who asks in words of JSON.
fn installed(text: Option<&str>, machine: &Machine) -> Value {
    let stamp = text.and_then(service::stamp_in);
    let up_to_date = stamp == Some(&*service::stamp(machine.platform, machine.scope));
    json!({ "installed": text.is_some(), "file": machine.file(), "upToDate": up_to_date })
}

/// Where this user's programs keep their settings.
fn settings_dir(home: &Path, env: &Environment) -> PathBuf {
    env.get("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from)
}

/// The home of who runs this; a system's service needs none.
fn home(scope: Scope, env: &Environment) -> Result<PathBuf, Failure> {
    match (env.get("HOME"), scope) {
        (Some(home), _) => Ok(home.into()),
        (None, Scope::System) => Ok("/root".into()),
        (None, Scope::User) => {
            Err(config::ConfigError::new("there is no home directory (HOME is not set)").into())
        }
    }
}
