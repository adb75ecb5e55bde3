//! One command that the gateway gives: who does it, and what is answered.

use super::roots::Trouble as FileTrouble;
use super::{Host, files, plan, policy, run};
use crabtree_actors::tools::exec::command::{Lookup, find};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::approvals::policy::{PolicyFile, PolicyShown};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Said by a node that will be able to soon: the gateway asks again, a few times, as recorded.
pub(super) const NOT_READY: &str = "NODE_NOT_READY";
/// What a command is called that makes no sense.
const INVALID: &str = "INVALID_REQUEST";
/// Programs that may be looked for at once.
const MAX_BINS: usize = 256;

/// A command.
pub(super) struct Duty {
    pub id: String,
    pub command: String,
    params: Option<String>,
}

/// What became of it.
pub(super) struct Report {
    pub id: String,
    pub command: String,
    /// What is told of it beside.
    pub event: Option<(&'static str, Value)>,
    pub outcome: Result<Value, Trouble>,
    pub took: Duration,
}

/// Why it was not done.
#[derive(Debug, PartialEq)]
pub(super) struct Trouble {
    pub code: &'static str,
    pub message: String,
}

impl Trouble {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(INVALID, message)
    }
}

impl Duty {
    /// The command of a `node.invoke.request`.
    pub fn read(payload: &Value) -> Option<Self> {
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        Some(Self { id: text("id")?, command: text("command")?, params: text("paramsJSON") })
    }
}

impl Report {
    /// It was not begun: too much is under way.
    pub fn busy(duty: Duty) -> Self {
        let trouble = Trouble::new(NOT_READY, "this node carries out as many commands as it can; try again");
        let Duty { id, command, .. } = duty;
        Self { id, command, event: None, outcome: Err(trouble), took: Duration::ZERO }
    }
}

/// Does it. Dropped, it is given up: a process is ended, and what is being read or written on the disk has no effect
/// beyond itself.
pub(super) async fn carry_out(host: &Arc<Host>, duty: Duty) -> Report {
    let Duty { id, command, params } = duty;
    let start = Instant::now();
    let (event, outcome) = match params.as_deref().map_or(Ok(Value::Object(Map::new())), serde_json::from_str)
    {
        Err(_) => (None, Err(Trouble::invalid("INVALID_REQUEST: paramsJSON malformed JSON"))),
        Ok(params) if command == "system.run" => run::run(host, params).await,
        Ok(params) => {
            let (host, command) = (host.clone(), command.clone());
            let done = tokio::task::spawn_blocking(move || on_disk(&host, &command, &params)).await;
            (
                None,
                done.unwrap_or_else(|_| Err(Trouble::new("UNAVAILABLE", "the command failed in the node"))),
            )
        }
    };
    Report { id, command, event, outcome, took: start.elapsed() }
}

/// What is done with the disk alone.
fn on_disk(host: &Host, command: &str, params: &Value) -> Result<Value, Trouble> {
    if !host.commands().contains(&command) {
        return Err(Trouble::new("UNAVAILABLE", "command not supported"));
    }
    let file = |done: Result<Value, FileTrouble>| Ok(done.unwrap_or_else(FileTrouble::payload));
    match command {
        "system.which" => which(params),
        "system.run.prepare" => plan::prepare(host, params),
        "system.execApprovals.get" => Ok(shown(host.approvals.show().map_err(refused)?)),
        "system.execApprovals.set" => set(host, params),
        "fs.listDir" => {
            files::list_dirs(&host.roots, params).map_err(|trouble| Trouble::invalid(trouble.message))
        }
        "dir.list" => file(files::list(&host.roots, params)),
        "file.stat" => file(files::stat(&host.roots, params)),
        "file.fetch" => file(files::fetch(&host.roots, params)),
        "file.write" => file(files::write(&host.roots, params)),
        _ => Err(Trouble::new("UNAVAILABLE", "command not supported")),
    }
}

/// Where programs are; those that are not found are left out.
fn which(params: &Value) -> Result<Value, Trouble> {
    let bins = params["bins"].as_array().ok_or_else(|| Trouble::invalid("INVALID_REQUEST: bins required"))?;
    if bins.len() > MAX_BINS {
        return Err(Trouble::invalid(format!("INVALID_REQUEST: at most {MAX_BINS} bins")));
    }
    let path = policy::path();
    let lookup = Lookup { dir: Path::new("/"), path: &path, home: None };
    let names = bins.iter().filter_map(Value::as_str).map(str::trim);
    let mut found = Map::new();
    for name in names.filter(|name| !name.is_empty() && !name.contains(['/', '\0'])) {
        if let Some(at) = find(name, &lookup) {
            found.insert(name.to_owned(), at.to_string_lossy().into());
        }
    }
    Ok(json!({ "bins": found }))
}

/// What a new document is, and which one it replaces.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    file: PolicyFile,
    base_hash: Option<String>,
}

fn set(host: &Host, params: &Value) -> Result<Value, Trouble> {
    let change = Change::deserialize(params);
    let change =
        change.map_err(|error| Trouble::invalid(format!("INVALID_REQUEST: exec approvals: {error}")))?;
    let replaced = host.approvals.replace(change.file, change.base_hash.as_deref());
    replaced.map(shown).map_err(refused)
}

/// As recorded, without what is in force where the document says nothing.
fn shown(document: PolicyShown) -> Value {
    let PolicyShown { path, exists, file, hash, .. } = document;
    json!({ "path": path, "exists": exists, "file": file, "hash": hash })
}

fn refused(refusal: Refusal) -> Trouble {
    Trouble::invalid(format!("INVALID_REQUEST: {}", refusal.message))
}
