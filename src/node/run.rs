//! `system.run`: a command of this machine, without a shell in between, under a guard of its own.

use super::Host;
use super::duty::Trouble;
use super::plan::{self, Stale};
use super::policy::{Denial, InForce, Start};
use crabtree_actors::process::{Child, Command, Exit, SpawnError, Streams};
use crabtree_actors::tools::exec::output::Output;
use crabtree_protocol::params::approvals::SystemRunPlan;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How long a command may run, whatever it is given.
const MAX_RUN: Duration = Duration::from_secs(3_600);
/// How long output may still come when the command has ended: something that escaped its guard may hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// The longest command, bytes of all its words: systems take not much more.
const MAX_COMMAND: usize = 128 << 10;
/// Characters of the end of an output that are told with the event.
const TOLD: usize = 20_000;
/// The exit code of a command whose time was up, as recorded.
const TIMED_OUT: i32 = 124;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub argv: Vec<String>,
    pub raw: Option<String>,
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub agent_id: Option<String>,
    pub session_key: Option<String>,
    limit: Option<Duration>,
    run_id: String,
    agreed: bool,
    always: bool,
    plan: Option<Box<SystemRunPlan>>,
    quiet: bool,
}

/// The same as it is sent; what else is said is not for nodes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(default)]
    command: Value,
    raw_command: Option<String>,
    cwd: Option<String>,
    env: Option<BTreeMap<String, String>>,
    timeout_ms: Option<f64>,
    agent_id: Option<String>,
    session_key: Option<String>,
    run_id: Option<String>,
    approved: Option<bool>,
    approval_decision: Option<String>,
    system_run_plan: Option<Value>,
    suppress_notify_on_exit: Option<bool>,
}

impl Asked {
    /// # Errors
    /// It makes no sense.
    pub fn read(params: &Value) -> Result<Self, Trouble> {
        let sent = Sent::deserialize(params);
        let sent = sent.map_err(|error| Trouble::invalid(format!("INVALID_REQUEST: {error}")))?;
        let argv: Vec<String> = serde_json::from_value(sent.command).unwrap_or_default();
        if argv.first().is_none_or(|word| word.trim().is_empty()) {
            return Err(Trouble::invalid("command required"));
        }
        if argv.iter().map(String::len).sum::<usize>() > MAX_COMMAND
            || argv.iter().any(|word| word.contains('\0'))
        {
            return Err(Trouble::invalid(format!(
                "a command has at most {MAX_COMMAND} bytes, and no NUL among them"
            )));
        }
        let env = sent.env.unwrap_or_default();
        if let Some(name) = env.keys().find(|name| !is_name(name)) {
            return Err(Trouble::invalid(format!(
                "SYSTEM_RUN_DENIED: environment override rejected ({name:?})"
            )));
        }
        let plan = sent.system_run_plan.map(serde_json::from_value).transpose();
        let said =
            |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let decision = sent.approval_decision.as_deref();
        Ok(Self {
            argv,
            raw: sent.raw_command,
            cwd: said(sent.cwd),
            env,
            agent_id: said(sent.agent_id),
            session_key: said(sent.session_key),
            limit: sent
                .timeout_ms
                .filter(|ms| *ms > 0.0)
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            run_id: said(sent.run_id).unwrap_or_else(|| Uuid::new_v4().to_string()),
            agreed: sent.approved == Some(true) || matches!(decision, Some("allow-once" | "allow-always")),
            always: decision == Some("allow-always"),
            plan: plan.map_err(|_| Trouble::invalid("systemRunPlan invalid"))?.map(Box::new),
            quiet: sent.suppress_notify_on_exit == Some(true),
        })
    }

    /// What an event of it begins with.
    fn facts(&self) -> Value {
        json!({
            "sessionKey": self.session_key.as_deref().unwrap_or("node"),
            "runId": self.run_id,
            "host": "node",
            "command": plan::text(&self.argv),
            "suppressNotifyOnExit": self.quiet,
        })
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

type Told = Option<(&'static str, Value)>;

/// Carries it out. Dropped, the command and whatever it started are ended.
pub(super) async fn run(host: &Arc<Host>, params: Value) -> (Told, Result<Value, Trouble>) {
    let asked = match Asked::read(&params) {
        Ok(asked) => Arc::new(asked),
        Err(trouble) => return (None, Err(trouble)),
    };
    let (judge, what) = (host.clone(), asked.clone());
    let judged = tokio::task::spawn_blocking(move || judged(&judge, &what)).await;
    let judged = judged.unwrap_or_else(|error| Err(Stale::Changed(Denial::unapproved(&error.to_string()))));
    let start = match judged {
        Ok(start) => start,
        Err(Stale::Nonsense(why)) => return (None, Err(Trouble::invalid(why))),
        Err(Stale::Changed(denial)) => {
            let mut facts = asked.facts();
            facts["reason"] = denial.reason.into();
            let trouble = Trouble::new("SYSTEM_RUN_DENIED", denial.message);
            return (Some(("exec.denied", facts)), Err(trouble));
        }
    };
    let ran = match command(&asked, start).spawn(&host.guard).await {
        Ok(child) => Running::of(child).finish(asked.limit.unwrap_or(MAX_RUN).min(MAX_RUN)).await,
        Err(error) => Ran { error: Some(not_started(&error)), ..Ran::default() },
    };
    (Some(("exec.finished", ran.facts(asked.facts()))), Ok(ran.payload()))
}

/// How it is started, if it may be.
fn judged(host: &Host, asked: &Asked) -> Result<Start, Stale> {
    let in_force = InForce::read(host, asked.agent_id.as_deref()).map_err(Stale::Changed)?;
    let start = plan::start(asked).map_err(Stale::Changed)?;
    match (asked.agreed, &asked.plan) {
        (true, Some(plan)) => plan::holds(plan, asked, &start, &in_force)?,
        (true, None) => return Err(Stale::Nonsense("explicit approval requires matching systemRunPlan")),
        (false, _) => {}
    }
    in_force.judge(&start, asked.agreed).map_err(Stale::Changed)?;
    if asked.always {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        in_force.remember(host, &start, &plan::text(&asked.argv), now).map_err(Stale::Changed)?;
    }
    Ok(start)
}

/// The very program that was judged.
fn command(asked: &Asked, start: Start) -> Command {
    let program = start.program.map_or_else(|| start.argv[0].clone().into(), |path| path.into_os_string());
    let command = Command::new(program).args(&start.argv[1..]).dir(start.cwd).streams(Streams::Piped);
    asked.env.iter().fold(command, |command, (name, value)| command.env(name, value))
}

fn not_started(error: &SpawnError) -> String {
    let why = match error {
        SpawnError::Program(_, error) if error.kind() == ErrorKind::NotFound => "ENOENT".into(),
        SpawnError::Program(_, error) if error.kind() == ErrorKind::PermissionDenied => "EACCES".into(),
        error => error.to_string(),
    };
    format!("Command failed during launch or output capture ({why})")
}

/// What came of a command.
#[derive(Debug, Default)]
struct Ran {
    exit: Option<i32>,
    timed_out: bool,
    stdout: String,
    stderr: String,
    error: Option<String>,
}

impl Ran {
    fn success(&self) -> bool {
        self.exit == Some(0) && !self.timed_out && self.error.is_none()
    }

    fn payload(&self) -> Value {
        let mut payload = json!({});
        if let Some(code) = self.exit {
            payload["exitCode"] = code.into();
        }
        payload["timedOut"] = self.timed_out.into();
        payload["success"] = self.success().into();
        payload["stdout"] = self.stdout.as_str().into();
        payload["stderr"] = self.stderr.as_str().into();
        payload["error"] = json!(self.error);
        payload
    }

    fn facts(&self, mut facts: Value) -> Value {
        if let Some(code) = self.exit {
            facts["exitCode"] = code.into();
        }
        facts["timedOut"] = self.timed_out.into();
        facts["success"] = self.success().into();
        let parts = [Some(&self.stdout), Some(&self.stderr), self.error.as_ref()];
        let parts: Vec<&str> =
            parts.into_iter().flatten().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let output = parts.join("\n");
        let output = output.trim();
        let skipped = output.chars().count().saturating_sub(TOLD);
        facts["output"] = output.chars().skip(skipped).collect::<String>().into();
        facts
    }
}

/// A command at work. Dropping it ends the command.
struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
}

impl Running {
    fn of(mut child: Child) -> Self {
        // There is nothing for it to read.
        child.stdin = None;
        Self { child, stdout: Output::default(), stderr: Output::default() }
    }

    async fn finish(mut self, limit: Duration) -> Ran {
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let exit = {
            let collect = async {
                tokio::join!(collect(&mut out, &mut self.stdout), collect(&mut err, &mut self.stderr));
                std::future::pending::<()>().await;
            };
            tokio::select! {
                exit = self.child.wait() => Some(exit),
                () = collect => None,
                () = sleep(limit) => None,
            }
        };
        let exit = match exit {
            Some(exit) => Some(exit),
            None => {
                self.child.kill().await;
                None
            }
        };
        let rest = async {
            tokio::join!(collect(&mut out, &mut self.stdout), collect(&mut err, &mut self.stderr));
        };
        let _ = timeout(LAST_OUTPUT, rest).await;
        let (code, error) = match exit {
            None => (Some(TIMED_OUT), None),
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(number)) => {
                let name = Exit::Signal(number).signal_name().unwrap_or_default();
                (None, Some(format!("the command was ended by {name}")))
            }
            Some(Exit::Lost) => (None, Some("the command was lost: its guard was killed".into())),
        };
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        Ran { exit: code, timed_out: exit.is_none(), stdout, stderr, error }
    }
}

/// Reads a pipe to its end. May be dropped and called again.
async fn collect(pipe: &mut Option<Receiver>, output: &mut Output) {
    let mut piece = Vec::with_capacity(16 << 10);
    while let Some(open) = pipe {
        match open.read_buf(&mut piece).await {
            Ok(1..) => output.push(&piece),
            _ => *pipe = None,
        }
        piece.clear();
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
