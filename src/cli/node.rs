//! `crabtree node`: this machine as a node of a gateway.

use std::{path::PathBuf, process::ExitCode};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand, ValueEnum};
use crabtree_actors::{
    process::Guard,
    settings::{AuthSecret, ExecSecurity},
};
use crabtree_protocol::{Scope, connect::ConnectAuth};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, Global, print_json, print_line, printable, target::Place};
use crate::{
    config::{self, Environment},
    node::{Ended, Keep, Node, Options, stored_gateway},
};

/// What stands before a setup code in a link.
const LINK: &str = "oc-pair://";

/// What to do with this machine as a node.
#[derive(Subcommand)]
pub enum NodeCommand {
    /// Be a node: connect to a gateway and carry out what it asks for, within what is allowed here
    #[command(after_help = "Examples:\n  \
        crabtree node run --code CODE --root ~/shared      CODE: crabtree devices invite --access node\n  \
        crabtree node run --url ws://192.168.1.5:18789 --token TOKEN --name attic\n\n\
        What lets it in the first time is used once: then the gateway gives the node a token of its own, kept in node/\n\
        of the state directory. On the gateway's machine a person approves what it offers, and before that the\n\
        device, unless that had a setup code or is on the same machine; the node says how, and goes on by itself.\n\n\
        Commands: with --exec allowlist, the default, a command runs if node/exec-approvals.json has its program, or\n\
        if a person agreed to just that command. With `full` any command runs, with `deny` none. Whatever the gateway\n\
        says, it is never more than this. What a command starts ends with it, and all of it with the node.\n\n\
        Files: only those in a --root are read and written; no path and no link leads out of it. The gateway has to\n\
        allow it, too: gateway.nodes.commands.allow: [\"file.fetch\", \"file.stat\", \"file.write\", \"dir.list\"].\n\n\
        It comes back by itself when the gateway does. It ends with exit code 77 when the gateway does not want it.")]
    Run(RunArgs),
    /// Say whether the gateway knows this machine's node; exit code 1 if it is not at work
    #[command(after_help = "Example:\n  crabtree node status --json | jq .connected")]
    Status,
    /// On the gateway's machine: let a node do what it offers
    #[command(after_help = "Example:\n  crabtree node approve 6102bdd8\n\n\
        The beginning of an id is enough. Without one it is told who asks, and for what. A node that offers more later\n\
        asks again, and what it had goes on.")]
    Approve {
        /// The request, or the beginning of its id
        request: Option<String>,
    },
}

/// Options of `node run`.
#[derive(Args)]
pub struct RunArgs {
    /// A setup code, or a link with one: it says where the gateway is, and lets the node in
    #[arg(long, conflicts_with_all = ["url", "bootstrap_token"])]
    pub code: Option<String>,
    /// The token of a setup code
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub bootstrap_token: Option<String>,
    /// What people call it [default: the name of this machine]
    #[arg(long)]
    pub name: Option<String>,
    /// A directory whose files may be read and written; may be said more than once
    #[arg(long = "root", value_name = "DIR")]
    pub roots: Vec<PathBuf>,
    /// Which commands may run at most
    #[arg(long, value_enum, default_value_t = Exec::Allowlist)]
    pub exec: Exec,
}

/// Which commands may run at most.
#[derive(Clone, Copy, ValueEnum)]
pub enum Exec {
    /// None
    Deny,
    /// Those on the list, and those a person agrees to
    Allowlist,
    /// All
    Full,
}

impl From<Exec> for ExecSecurity {
    fn from(exec: Exec) -> Self {
        match exec {
            Exec::Deny => Self::Deny,
            Exec::Allowlist => Self::Allowlist,
            Exec::Full => Self::Full,
        }
    }
}

pub(super) async fn run(global: &Global, command: NodeCommand) -> Result<ExitCode, Failure> {
    match command {
        NodeCommand::Run(args) => host(global, args).await,
        NodeCommand::Status => status(global).await,
        NodeCommand::Approve { request } => approve(global, request.as_deref()).await,
    }
}

/// Where the gateway is, and what lets a node in that it does not know.
fn way_in(global: &Global, args: &RunArgs, env: &Environment) -> Result<(Place, ConnectAuth), Failure> {
    let bootstrap =
        |token: &str| ConnectAuth { bootstrap_token: Some(token.into()), ..ConnectAuth::default() };
    if let Some(code) = &args.code {
        let code = SetupCode::read(code)?;
        let told = code.tls_fingerprint.as_deref().map(str::parse).transpose();
        let told = told.map_err(|error| Failure::config(format!("the setup code is damaged: {error}")))?;
        let place = Place { url: code.url, pin: global.tls_fingerprint.or(told), here: false };
        return Ok((place, bootstrap(&code.bootstrap_token)));
    }
    let (loaded, _) = global.loaded()?;
    let place = global.place(&loaded)?;
    if let Some(token) = &args.bootstrap_token {
        return Ok((place, bootstrap(token)));
    }
    // A secret from this machine's files goes to this machine only.
    let secret = match (&global.token, &global.password) {
        (Some(token), _) => return Ok((place, token_auth(token))),
        (None, Some(password)) => return Ok((place, password_auth(password))),
        (None, None) if place.here => config::client_secret(&loaded, env)?,
        (None, None) => {
            return Ok((place, env.get("OPENCLAW_GATEWAY_TOKEN").map(token_auth).unwrap_or_default()));
        }
    };
    let auth = match secret {
        Some(AuthSecret::Token(token)) => token_auth(token.expose()),
        Some(AuthSecret::Password(password) | AuthSecret::TrustedProxy(Some(password))) => {
            password_auth(password.expose())
        }
        Some(AuthSecret::TrustedProxy(None) | AuthSecret::None) | None => ConnectAuth::default(),
    };
    Ok((place, auth))
}

fn token_auth(token: &str) -> ConnectAuth {
    ConnectAuth { token: Some(token.to_owned()), ..ConnectAuth::default() }
}

fn password_auth(password: &str) -> ConnectAuth {
    ConnectAuth { password: Some(password.to_owned()), ..ConnectAuth::default() }
}

/// What is in a setup code.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetupCode {
    url: String,
    bootstrap_token: String,
    tls_fingerprint: Option<String>,
}

impl SetupCode {
    fn read(code: &str) -> Result<Self, Failure> {
        let code = code.trim().trim_start_matches(LINK).trim_end_matches('=');
        let read = URL_SAFE_NO_PAD.decode(code).ok().and_then(|text| serde_json::from_slice(&text).ok());
        read.ok_or_else(|| {
            Failure::config("this is no setup code")
                .or_next("make one on the gateway's machine: crabtree devices invite --access node")
        })
    }
}

async fn host(global: &Global, args: RunArgs) -> Result<ExitCode, Failure> {
    let env = Environment::of_process();
    let (Place { url, pin, .. }, auth) = way_in(global, &args, &env)?;
    let state_dir = config::state_dir(global.state_dir.as_deref(), &env)?;
    let (keep, warnings) = Keep::open(&state_dir).map_err(|error| Failure::config(error.to_string()))?;
    for warning in warnings {
        eprintln!("crabtree: {}", printable(&warning));
    }
    let options = Options {
        url: url.clone(),
        pin,
        auth,
        name: args.name.unwrap_or_else(machine),
        roots: args.roots,
        security: args.exec.into(),
        guard: Guard::this_program(),
    };
    let node = Node::new(keep, options).map_err(|error| Failure::config(error.to_string()))?;
    let stop = CancellationToken::new();
    let no_signals = |error: std::io::Error| Failure::failed(format!("no signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let tell = |told: crate::node::Told| match global.json {
        true => print_line(&told.json().to_string()),
        false => print_line(&printable(&told.to_string())),
    };
    let life = node.run(&tell, &stop);
    tokio::pin!(life);
    let ended = loop {
        tokio::select! {
            ended = &mut life => break ended,
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
    };
    match ended {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Removed { reason } => Err(removed(&url, &reason)),
        Ended::Refused(error) => Err(refused(&error)),
    }
}

/// The name of this machine.
fn machine() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".into() } else { name.into() }
}

fn removed(url: &str, reason: &str) -> Failure {
    let message = format!("the gateway at {url} let this node go: {reason}");
    Failure::refused(&json!({"code": "NOT_PAIRED", "message": message})).but_next(
        "to let it in again: crabtree devices invite --access node on the gateway's machine, and --code CODE here",
    )
}

/// What the gateway said, and what to do about it.
fn refused(error: &Value) -> Failure {
    let failure = Failure::refused(error);
    match error["details"]["code"].as_str().unwrap_or_default() {
        "AUTH_BOOTSTRAP_TOKEN_INVALID" => failure.but_next(
            "a setup code is good once and for ten minutes: make another with crabtree devices invite --access node",
        ),
        "AUTH_TOKEN_MISSING" | "AUTH_DEVICE_TOKEN_MISMATCH" | "AUTH_SCOPE_MISMATCH" => failure.but_next(
            "give --code (crabtree devices invite --access node, on the gateway's machine) or --token",
        ),
        _ => failure,
    }
}

async fn status(global: &Global) -> Result<ExitCode, Failure> {
    let state_dir = config::state_dir(global.state_dir.as_deref(), &Environment::of_process())?;
    let (id, gateway) = stored_gateway(&state_dir)?.ok_or_else(|| {
        Failure::config(format!("there has been no node in {} yet", state_dir.display()))
            .or_next("start one with `crabtree node run --code CODE`")
    })?;
    // Where it was last, unless another gateway is named.
    let asked = Global {
        url: global.url.clone().or(gateway),
        token: global.token.clone(),
        password: global.password.clone(),
        tls_fingerprint: global.tls_fingerprint,
        state_dir: global.state_dir.clone(),
        config: global.config.clone(),
        ..Global { json: global.json, timeout_ms: global.timeout_ms, ..Global::default() }
    };
    let mut client = asked.connect(&[Scope::Read, Scope::Pairing]).await?;
    let nodes = client.request("node.list", json!({})).await?;
    let devices = client.request("device.pair.list", json!({})).await?;
    let report = report(&id, &nodes, &devices);
    if global.json {
        print_json(&report);
    } else {
        print_line(&shown(&report));
    }
    let works = report["connected"] == true && report["approved"] == true;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn approve(global: &Global, said: Option<&str>) -> Result<ExitCode, Failure> {
    // To let a node run commands is to run commands.
    let mut client = global.connect(&[Scope::Admin]).await?;
    let known = client.request("node.pair.list", json!({})).await?;
    let pending = known["pending"].as_array().map_or(&[][..], Vec::as_slice);
    let (answer, told) = match said {
        None => (json!(pending), asking(pending)),
        Some(said) => {
            let params = json!({"requestId": meant(pending, said)?["requestId"]});
            let done = client.request("node.pair.approve", params).await?;
            let told = format!("{} may do: {}", name(&done["node"]), words(&done["node"]["commands"]));
            (done, told)
        }
    };
    if global.json {
        print_json(&answer);
    } else {
        print_line(&printable(&told));
    }
    Ok(ExitCode::SUCCESS)
}

fn meant<'a>(pending: &'a [Value], said: &str) -> Result<&'a Value, Failure> {
    let begins =
        |row: &&Value| !said.is_empty() && row["requestId"].as_str().is_some_and(|id| id.starts_with(said));
    let found: Vec<&Value> = pending.iter().filter(begins).collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Failure::failed(format!("no node asks with an id like {said:?}"))
            .or_next("`crabtree node approve` shows who asks")),
        _ => Err(Failure::failed(format!("{} ids begin with {said:?}", found.len()))
            .or_next("write more of the id")),
    }
}

fn asking(pending: &[Value]) -> String {
    let row = |row: &Value| {
        let id = row["requestId"].as_str().unwrap_or("?");
        format!("{id}  {}  offers {}", name(row), words(&row["commands"]))
    };
    if pending.is_empty() {
        "no node asks".into()
    } else {
        pending.iter().map(row).collect::<Vec<_>>().join("\n")
    }
}

/// What people call a node.
fn name(row: &Value) -> &str {
    row["displayName"].as_str().or(row["nodeId"].as_str()).unwrap_or("?")
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// How the gateway sees the node with this id.
fn report(id: &str, nodes: &Value, devices: &Value) -> Value {
    let of =
        |list: &Value, key: &str| list.as_array().into_iter().flatten().find(|row| row[key] == id).cloned();
    let node = of(&nodes["nodes"], "nodeId");
    let mut report = json!({
        "nodeId": id,
        "paired": node.as_ref().is_some_and(|node| node["paired"] == true),
        "connected": node.as_ref().is_some_and(|node| node["connected"] == true),
        "approved": node.as_ref().is_some_and(|node| node["approvalState"] == "approved"),
    });
    if let Some(node) = &node {
        report["displayName"] = node["displayName"].clone();
        report["commands"] = node["commands"].clone();
        if let Some(request) = node["pendingRequestId"].as_str() {
            report["next"] = format!("crabtree node approve {request}").into();
        }
    } else if let Some(request) = of(&devices["pending"], "deviceId") {
        let request = request["requestId"].as_str().unwrap_or_default();
        report["next"] = format!("crabtree devices approve {request}").into();
    } else {
        report["next"] =
            "crabtree node run --code CODE, with a code of crabtree devices invite --access node".into();
    }
    report
}

fn shown(report: &Value) -> String {
    let yes = |name: &str| report[name] == true;
    let state = match () {
        () if !yes("paired") => "the gateway does not know it",
        () if !yes("connected") => "not connected",
        () if !yes("approved") => "connected, but not approved for all it offers",
        () => "connected and approved",
    };
    let mut lines =
        vec![format!("node      {}", report["nodeId"].as_str().unwrap_or("?")), format!("state     {state}")];
    if let Some(name) = report["displayName"].as_str() {
        lines.insert(0, format!("name      {name}"));
    }
    let commands = words(&report["commands"]);
    if !commands.is_empty() {
        lines.push(format!("commands  {commands}"));
    }
    if let Some(next) = report["next"].as_str() {
        lines.push(format!("next      {next}"));
    }
    printable(&lines.join("\n"))
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
