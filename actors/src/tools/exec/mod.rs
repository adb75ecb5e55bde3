//! `exec`: runs a shell command in the agent's workspace, or at a node.

pub mod command;
mod consent;
mod outcome;
pub mod output;
mod remote;
mod sandbox;
mod venue;

use super::{Call, Definition, Effects, Permission, Sandbox, Tool, ToolResult};
use crate::approvals::ApprovalsMsg;
use crate::nodes::{NodesMsg, Offer};
use crate::process::{Child, Command, Guard, Streams};
use crate::settings::{ExecHost, ExecSandbox, ExecSecurity, ExecSettings, Settings};
use crate::tree::Slot;
use command::{Lookup, Verdict};
use futures_util::future::BoxFuture;
use outcome::{End, Outcome};
use output::Output;
use remote::Remote;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use venue::{Venue, venue};

/// The tool's name.
pub const NAME: &str = "exec";
/// How long a command may be asked to run at most.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// What a call needs beyond that to end the command and collect what it wrote.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// The longest command, characters: systems take 128 KiB as one argument.
const MAX_COMMAND: usize = 30_000;
/// How often it is told what a command has written.
const PACE: Duration = Duration::from_millis(500);
/// How long output may still come when the command has ended: something that escaped its guard may hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How much is read at once.
const READ: usize = 16 * 1024;

const DESCRIPTION: &str = "Run a shell command on the gateway's machine and return what it writes, stdout and stderr \
    together. It starts in the workspace, has no terminal and nothing to read, and whatever it leaves running in the \
    background ends with it. With host `node` it runs on another device, which `nodes` lists, in that device's shell.";

/// The tool.
pub fn tool(
    settings: &ExecSettings,
    guard: Guard,
    approvals: Slot<ApprovalsMsg>,
    nodes: Slot<NodesMsg>,
) -> Arc<dyn Tool> {
    let timeout = Duration::from_secs(settings.timeout_seconds).min(MAX_TIMEOUT);
    let remote = Remote { settings: settings.clone(), approvals: approvals.clone(), nodes };
    let (definition, settings) = (definition(timeout), settings.clone());
    Arc::new(Exec { definition, timeout, settings, guard, approvals, remote })
}

fn definition(timeout: Duration) -> Definition {
    let properties = json!({
        "command": {
            "type": "string", "minLength": 1, "maxLength": MAX_COMMAND, "description": "The shell command.",
        },
        "workdir": {
            "type": "string",
            "description": "The directory to start in: absolute, or relative to the workspace. Default: the workspace.",
        },
        "env": {
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": { "type": "string" },
            "description": "Further environment variables.",
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_TIMEOUT.as_secs(),
            "description": format!("Seconds until the command is killed. Default: {}.", timeout.as_secs()),
        },
        "host": {
            "enum": ["auto", "sandbox", "gateway", "node"],
            "description": "Where it runs. Default: as it is configured, usually the gateway's machine.",
        },
        "node": {
            "type": "string", "minLength": 1,
            "description": "With host node: its id or its name. Default: the only one that can run commands.",
        },
    });
    Definition {
        name: NAME.into(),
        label: "Exec".into(),
        description: DESCRIPTION.into(),
        parameters: json!({
            "type": "object", "properties": properties, "required": ["command"], "additionalProperties": false,
        }),
        group: "runtime".into(),
        permissions: vec![Permission::Exec],
        timeout: MAX_TIMEOUT + AFTERWARDS,
        sandbox: Sandbox::Process,
        effects: Effects::External,
    }
}

/// What an allowlist says to a call with these arguments. Variables of the call's own could turn any program into
/// another one: with them nothing is certain.
pub fn verdict(args: &Value, workspace: &Path, allowlist: &[command::Rule]) -> Verdict {
    let Ok(args) = serde_json::from_value::<Args>(args.clone()) else { return Verdict::Opaque };
    if !args.env.is_empty() {
        return Verdict::Opaque;
    }
    let (path, home) = (path(), std::env::home_dir());
    let lookup = Lookup { dir: &args.dir(workspace), path: &path, home: home.as_deref() };
    command::verdict(&args.command, allowlist, &lookup)
}

/// The offers of those nodes where commands of this agent can run.
pub fn reachable(mut offers: Vec<Offer>, settings: &Settings, agent_id: &str) -> Vec<Offer> {
    let exec = &settings.tools.exec;
    if exec.security == ExecSecurity::Deny || venue(ExecHost::Node, exec).is_err() {
        return Vec::new();
    }
    if let Some(bound) = venue::bound(settings, agent_id) {
        let is_meant = |offer: &Offer| {
            offer.node_id.starts_with(bound)
                || offer.name.eq_ignore_ascii_case(bound)
                || offer.remote_ip.as_deref() == Some(bound)
        };
        offers.retain(is_meant);
    }
    offers
}

fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The user's shell if it understands what models write, else the system's.
fn shell() -> PathBuf {
    let usual = |shell: &PathBuf| {
        let name = shell.file_name().and_then(|name| name.to_str());
        shell.is_absolute() && matches!(name, Some("bash" | "zsh" | "sh"))
    };
    std::env::var_os("SHELL").map(PathBuf::from).filter(usual).unwrap_or_else(|| "/bin/sh".into())
}

#[derive(Deserialize)]
struct Args {
    command: String,
    workdir: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout: Option<f64>,
    #[serde(default)]
    host: ExecHost,
    node: Option<String>,
}

impl Args {
    fn dir(&self, workspace: &Path) -> PathBuf {
        let named = self.workdir.as_deref().unwrap_or_default();
        match (named.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => workspace.join(named).components().collect(),
        }
    }
}

struct Exec {
    definition: Definition,
    timeout: Duration,
    settings: ExecSettings,
    guard: Guard,
    /// Who asks people.
    approvals: Slot<ApprovalsMsg>,
    remote: Remote,
}

impl Exec {
    /// Where a call runs. Who names a node wants it to run there.
    fn venue(&self, call: &Call) -> Result<Venue, String> {
        let args = serde_json::from_value::<Args>(call.args.clone()).ok();
        let (asked, node) = args.map_or((ExecHost::Auto, None), |args| (args.host, args.node));
        let names_node = asked == ExecHost::Auto && node.is_some();
        venue(if names_node { ExecHost::Node } else { asked }, &self.settings)
    }
}

impl Tool for Exec {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn permit(&self, call: &Call) -> BoxFuture<'static, Result<(), String>> {
        match self.venue(call) {
            Ok(Venue::Here) => {
                Box::pin(consent::consent(call.clone(), self.settings.clone(), self.approvals.clone()))
            }
            Ok(Venue::Node) => Box::pin(self.remote.clone().consent(call.clone())),
            Err(why) => Box::pin(std::future::ready(Err(why))),
        }
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        match self.venue(&call) {
            Ok(Venue::Here) => {}
            Ok(Venue::Node) => return Box::pin(self.remote.clone().run(call, self.timeout)),
            Err(why) => return Box::pin(std::future::ready(ToolResult::error(why))),
        }
        let (sandbox, guard, usual) = (self.settings.sandbox, self.guard.clone(), self.timeout);
        Box::pin(async move {
            let args: Args = match serde_json::from_value(call.args.clone()) {
                Ok(args) => args,
                Err(error) => return ToolResult::error(format!("Invalid arguments for exec: {error}")),
            };
            let limit = args.timeout.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
            let limit = limit.unwrap_or(usual).min(MAX_TIMEOUT);
            let dir = args.dir(&call.place.workspace);
            let place = call.place.clone();
            let prepare = move || {
                let hidden = place.store.estate.config.load().state_dir.clone();
                prepared(&args, sandbox, &place.workspace, &hidden)
            };
            let command = match tokio::task::spawn_blocking(prepare).await {
                Ok(Ok(command)) => command,
                Ok(Err(why)) => return ToolResult::error(why),
                Err(error) => return ToolResult::error(format!("The command was not started: {error}")),
            };
            let estate = &call.place.store.estate;
            let variables = estate.skills.variables(estate.config.load_full(), &call.place.agent_id).await;
            let command = variables
                .into_iter()
                .fold(command, |command, (name, value)| command.env(name, value.expose()));
            match command.spawn(&guard).await {
                Ok(child) => Running::new(&call, child, dir).finish(limit).await,
                Err(error) => ToolResult::error(format!("The command was not started: {error}")),
            }
        })
    }
}

/// The process of a call; an error for the model if it cannot be. The workspace exists afterwards.
fn prepared(args: &Args, sandbox: ExecSandbox, workspace: &Path, hidden: &Path) -> Result<Command, String> {
    std::fs::create_dir_all(workspace).map_err(|e| format!("The workspace cannot be made: {e}"))?;
    let dir = args.dir(workspace);
    let real_dir = dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(|| {
        format!("There is no directory {}: give another workdir, or none for the workspace", dir.display())
    })?;
    let (shell, line) = (shell(), ["-c".into(), args.command.clone()]);
    let command = match sandbox {
        ExecSandbox::Off => Command::new(shell).args(line),
        ExecSandbox::Bwrap => {
            let lookup = Lookup { dir: workspace, path: &path(), home: None };
            let bwrap = command::find(sandbox::BWRAP, &lookup).ok_or(
                "Commands are set to run in bubblewrap, but there is no bwrap in PATH. Somebody has to install \
                 bubblewrap or to set tools.exec.sandbox to off; until then do without exec",
            )?;
            let real = workspace.canonicalize().map_err(|e| format!("The workspace cannot be read: {e}"))?;
            let hidden = hidden.canonicalize().ok();
            let cell = sandbox::Cell { workspace: &real, dir: &real_dir, hidden: hidden.as_deref() };
            Command::new(bwrap).args(sandbox::arguments(cell)).args([shell]).args(line)
        }
    };
    let add = |command: Command, (name, value): (&String, &String)| command.env(name, value);
    Ok(args.env.iter().fold(command, add).dir(dir).streams(Streams::Merged))
}

/// A command at work. Dropping it ends the command.
struct Running<'a> {
    call: &'a Call,
    child: Child,
    dir: PathBuf,
    output: Output,
    started_at: i64,
    start: Instant,
}

impl<'a> Running<'a> {
    fn new(call: &'a Call, child: Child, dir: PathBuf) -> Self {
        let started_at = call.place.store.estate.clock.now_ms();
        Self { call, child, dir, output: Output::default(), started_at, start: Instant::now() }
    }

    async fn finish(mut self, limit: Duration) -> ToolResult {
        let mut pipe = self.child.stdout.take();
        let mut piece = Vec::with_capacity(READ);
        let (mut pace, mut fresh) = (interval(PACE), false);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = sleep(limit);
        tokio::pin!(deadline);
        let exit = loop {
            tokio::select! {
                read = read(&mut pipe, &mut piece), if pipe.is_some() => {
                    fresh |= read > 0;
                    self.output.push(&piece);
                    piece.clear();
                }
                exit = self.child.wait() => break Some(exit),
                _ = pace.tick(), if fresh => {
                    fresh = false;
                    self.tell();
                }
                () = &mut deadline => break None,
            }
        };
        let end = match exit {
            Some(exit) => End::Exited(exit),
            None => {
                self.child.kill().await;
                End::TimedOut(limit)
            }
        };
        let rest = async {
            while read(&mut pipe, &mut piece).await > 0 {
                self.output.push(&piece);
                piece.clear();
            }
        };
        let _ = timeout(LAST_OUTPUT, rest).await;
        let (text, cwd) = (self.output.text(), self.dir.display().to_string());
        Outcome { end, text, took: self.start.elapsed(), cwd }.result()
    }

    fn tell(&self) {
        let tail = self.output.tail();
        let details = json!({
            "status": "running",
            "pid": self.child.pid(),
            "startedAt": self.started_at,
            "cwd": self.dir.display().to_string(),
            "tail": tail,
        });
        (self.call.progress)(ToolResult::text(tail).with_details(details));
    }
}

/// Reads more of a pipe. At its end it is closed, and nothing comes.
async fn read(pipe: &mut Option<tokio::net::unix::pipe::Receiver>, piece: &mut Vec<u8>) -> usize {
    let Some(open) = pipe else { return 0 };
    let more = open.read_buf(piece).await.unwrap_or(0);
    if more == 0 {
        *pipe = None;
    }
    more
}
