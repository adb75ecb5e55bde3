//! What agents can do beside talking. A tool is described by its [`Definition`] and found in the [`Registry`], which
//! lets a call through these gates in this order: there is such a tool, the session may use it, the arguments fit its
//! schema, a person agrees if need be; then it runs, for as long as it may, and its result is cut to what a model is
//! given.

mod canvas;
mod cron;
pub mod exec;
pub mod files;
mod html;
pub mod invoke;
mod message;
mod nodes;
mod offered;
mod plain;
mod policy;
mod registry;
mod result;
mod sessions;
mod ssrf;
#[cfg(test)]
pub(crate) mod testing;
pub mod web_fetch;

pub use offered::offered;
pub use plain::plain;
pub use policy::{Askers, Policy, profiles_of};
pub use registry::{Gate, MAX_RESULT, Refused, Registry, run};
pub use result::ToolResult;

use crate::approvals::ApprovalsMsg;
use crate::cron::CronMsg;
use crate::nodes::NodesMsg;
use crate::process::Guard;
use crate::sessions::SessionsMsg;
use crate::settings::Settings;
use crate::skills::SkillRead;
use crate::store::Store;
use crate::tree::Slot;
use crabtree_protocol::{RunId, SessionKey};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the tools of a gateway are made from.
pub struct Makings<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// Who watches over processes; without it there is no `exec`.
    pub guard: &'a Guard,
    /// Where what an agent says in another session goes.
    pub sessions: &'a Slot<SessionsMsg>,
    /// Who asks people.
    pub approvals: &'a Slot<ApprovalsMsg>,
    /// Who has nodes do something.
    pub nodes: &'a Slot<NodesMsg>,
    /// Who keeps jobs with a schedule.
    pub cron: &'a Slot<CronMsg>,
}

/// The tools that every gateway has.
pub fn built_in(makings: &Makings<'_>) -> Registry {
    let (guard, approvals) = (makings.guard.clone(), makings.approvals.clone());
    let exec = makings
        .guard
        .is_there()
        .then(|| exec::tool(&makings.settings.tools.exec, guard, approvals, makings.nodes.clone()));
    let skills: Arc<dyn Tool> = Arc::new(SkillRead::default());
    let web = web_fetch::tool(&makings.settings.tools.web.fetch);
    let all = sessions::tools(makings.sessions).into_iter().chain(files::tools());
    let nodes = nodes::tool(makings.nodes.clone());
    let host = &makings.settings.plugins.entries.canvas.config.host;
    let canvas = host.enabled.then(|| canvas::tool(makings.nodes.clone()));
    let cron = cron::tool(makings.cron.clone());
    Registry::new(all.chain([skills, nodes, cron, message::tool()]).chain(canvas).chain(exec).chain(web))
}

/// What a session must be allowed for its agent to use a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Reads files of the workspace.
    #[serde(rename = "fs.read")]
    FsRead,
    /// Changes them.
    #[serde(rename = "fs.write")]
    FsWrite,
    /// Runs commands on this machine.
    #[serde(rename = "exec")]
    Exec,
    /// Reads pages of the web.
    #[serde(rename = "web")]
    Web,
    /// Reads what was said in other sessions.
    #[serde(rename = "sessions.read")]
    SessionsRead,
    /// Says something in them.
    #[serde(rename = "sessions.send")]
    SessionsSend,
    /// Sends messages to people.
    #[serde(rename = "message")]
    Message,
    /// Makes appointments with itself.
    #[serde(rename = "cron")]
    Cron,
    /// Uses other devices.
    #[serde(rename = "nodes")]
    Nodes,
    /// Uses MCP servers.
    #[serde(rename = "mcp")]
    Mcp,
}

/// What a call does to the world: whether one that was cut off by a crash is made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effects {
    /// Nothing.
    None,
    /// Something that is the same when it is done twice.
    Repeatable,
    /// Something that must not be done twice: the agent hears that it is not known whether it was done.
    #[default]
    External,
}

/// Where a tool is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// It does nothing outside this process.
    None,
    /// It reaches the files of the agent's workspace and no others.
    Workspace,
    /// It is a process of its own, ended with all it started at the latest when the gateway ends.
    Process,
}

/// What is known of a tool before it is called.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What models call it: `[a-zA-Z0-9_-]{1,64}`.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
    /// The group it is listed in: `fs`, `runtime`, `web` …
    pub group: String,
    /// What the session must be allowed, all of it.
    pub permissions: Vec<Permission>,
    /// How long a call may take.
    pub timeout: Duration,
    /// Where it is kept.
    pub sandbox: Sandbox,
    /// What it does to the world.
    pub effects: Effects,
}

/// For whom a tool works.
#[derive(Clone)]
pub struct Place {
    /// The agent.
    pub agent_id: String,
    /// The session.
    pub session: SessionKey,
    /// The run.
    pub run_id: RunId,
    /// The agent's directory; it may not exist yet.
    pub workspace: PathBuf,
    /// The store, and through it the Estate.
    pub store: Store,
}

/// Tells what a call has come to so far: the whole of it, each time.
pub type Progress = Arc<dyn Fn(ToolResult) + Send + Sync>;

/// A call of a tool whose arguments fit its schema.
#[derive(Clone)]
pub struct Call {
    /// Its id, unique in the session.
    pub id: String,
    /// The arguments, an object.
    pub args: Value,
    /// For whom.
    pub place: Arc<Place>,
    /// Who hears how it goes.
    pub progress: Progress,
}

/// Something an agent can use. Dropping the future of a call ends it and whatever it started.
pub trait Tool: Send + Sync {
    /// What is known of it.
    fn definition(&self) -> &Definition;
    /// Whether it may be done, beside all that its definition says: asked when the arguments are known to fit, and
    /// answered when people have decided, if it is left to them; the reason, if not.
    fn permit(&self, _call: &Call) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Does it.
    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult>;
}
