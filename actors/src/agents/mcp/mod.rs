//! An MCP server, and how it is looked after.
//!
//! **Owns** the connection to one server, and the process if it is one of ours.
//! **Hears** what the connection has come to; **tells** the roster in the Estate which tools there are, and `agents`
//! that they have changed.
//! **On crash** of the server, whose end is the actor's fault, or of the actor, its tools go and its process is ended;
//! the next incarnation connects anew. Calls that were under way fail, and say so.

mod client;
mod dial;
mod listed;
mod roster;
#[cfg(test)]
mod testing;
mod tool;

pub use roster::Roster;
pub(crate) use tool::mcp_result;

use super::AgentsMsg;
use crate::estate::Estate;
use crate::process::Child;
use crate::settings::{McpServerSettings, McpSettings};
use crate::tools::{Registry, Tool};
use crate::tree::*;
use client::Client;
use dial::{Dial, Line, dial, how_it_ended};
use listed::{Filter, Terms, prefix, tools};
use rmcp::model::{ClientRequest, PaginatedRequestParams, PingRequest, Tool as Listed};
use rmcp::service::{Peer, PeerRequestOptions, RoleClient, ServiceError};
use roster::Offer;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tool::Link;

/// How often a server with nothing to do is asked whether it is still there: often enough that one that hangs is back
/// before a person has given up, seldom enough to let a machine sleep.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to end by itself once its input has ended.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long stopping may take: the farewell, and the graces of the process's guard.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long changes of a list of tools are gathered: some servers tell of every single one.
const GATHER: Duration = Duration::from_millis(250);
/// Pages of a list of tools; a server that always has another one is wrong.
const MAX_PAGES: usize = 32;

/// A program that ends at once does so again: each try costs a second of processor time on a small machine.
const PROCESS_BACKOFF: Duration = Duration::from_secs(1);
/// A server elsewhere may be away for hours and comes back by itself: with this its ends never come so fast that it is
/// parked.
const HTTP_BACKOFF: Duration = Duration::from_secs(8);

/// What the actor of a server hears.
pub enum McpMsg {
    /// Which tools it has, and which process it is if it is one of ours.
    Listed(Vec<Arc<dyn Tool>>, Option<u32>),
    /// The connection has ended, or was not made: why.
    Ended(String),
}

/// What it is started with.
#[derive(Clone)]
struct McpArgs {
    name: Arc<str>,
    entry: McpServerSettings,
    dial: Dial,
    estate: Arc<Estate>,
    agents: Slot<AgentsMsg>,
}

/// See the module.
struct McpServer {
    offer: Offer,
    stop: CancellationToken,
}

impl Behavior for McpServer {
    type Msg = McpMsg;
    type Args = McpArgs;
    const KIND: &'static str = "mcp";

    fn start(ctx: &mut Ctx<McpMsg>, args: McpArgs) -> Result<Self, Fault> {
        let entry = &args.entry;
        let terms = Terms {
            server: args.name.clone(),
            timeout: Duration::from_millis(entry.request_timeout_ms),
            is_process: entry.is_process(),
            filter: Filter::new(&args.name, &entry.tool_filter).map_err(Fault::new)?,
        };
        let stop = CancellationToken::new();
        let connection = Connection {
            terms,
            limit: Duration::from_millis(entry.connection_timeout_ms),
            dial: args.dial.clone(),
            actor: ctx.me().clone(),
            stop: stop.clone(),
        };
        ctx.publish_info(json!({ "connected": false, "tools": 0 }));
        ctx.task(connection.last(), McpMsg::Ended);
        Ok(Self { offer: Offer::new(args.name, args.estate, args.agents), stop })
    }

    fn handle(&mut self, ctx: &mut Ctx<McpMsg>, msg: McpMsg) -> Result<(), Fault> {
        match msg {
            McpMsg::Listed(tools, pid) => {
                ctx.publish_info(json!({ "connected": true, "tools": tools.len(), "pid": pid }));
                self.offer.set(Registry::new(tools));
            }
            McpMsg::Ended(_) if self.stop.is_cancelled() => ctx.stop(),
            McpMsg::Ended(why) => return Err(Fault::new(why)),
        }
        Ok(())
    }

    /// The process gets the time to end in order.
    fn stopping(&mut self, _: &mut Ctx<McpMsg>) -> Stopping {
        self.stop.cancel();
        Stopping::Later
    }
}

/// One connection, from its making to its end.
struct Connection {
    terms: Terms,
    limit: Duration,
    dial: Dial,
    actor: Addr<McpMsg>,
    stop: CancellationToken,
}

impl Connection {
    /// Makes it, and stays until it ends; says why it did.
    async fn last(self) -> String {
        let client = Client::default();
        let stop = self.stop.clone();
        let made = timeout(self.limit, self.open(&client));
        let opened = tokio::select! {
            () = stop.cancelled() => return "it is not wanted any more".into(),
            made = made => made,
        };
        let (line, link) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => return why,
            Err(_) => return format!("it was not ready within {} s", self.limit.as_secs_f32()),
        };
        self.stay(&client, line, link).await
    }

    async fn open(&self, client: &Client) -> Result<(Line, Arc<Link>), String> {
        let line = (self.dial)(client.clone()).await?;
        let link = Arc::new(Link {
            server: self.terms.server.clone(),
            peer: line.service.peer().clone(),
            progresses: client.progresses.clone(),
            pid: line.process.as_ref().map(Child::pid),
            calls: Default::default(),
        });
        self.list(&link).await?;
        Ok((line, link))
    }

    async fn list(&self, link: &Arc<Link>) -> Result<(), String> {
        let listed =
            listed(&link.peer).await.map_err(|e| format!("it did not list its tools: {}", plain(&e)))?;
        // If the actor is gone so is, in a moment, this task.
        let _ = self.actor.send(McpMsg::Listed(tools(&self.terms, listed, link), link.pid));
        Ok(())
    }

    async fn stay(&self, client: &Client, line: Line, link: Arc<Link>) -> String {
        let Line { service, mut process } = line;
        let close = service.cancellation_token();
        let ended = service.waiting();
        tokio::pin!(ended);
        let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                () = self.stop.cancelled() => break "it is not wanted any more".to_owned(),
                _ = &mut ended => {
                    break match &mut process {
                        Some(process) => format!("the connection ended; {}", how_it_ended(process).await),
                        None => "the connection ended".into(),
                    };
                }
                () = client.changed.notified() => {
                    sleep(GATHER).await;
                    let again = timeout(self.limit, self.list(&link)).await;
                    if let Err(why) = again.unwrap_or_else(|_| Err("it did not list its tools again".into())) {
                        break why;
                    }
                }
                _ = ping.tick() => {
                    // One that does one thing at a time answers when it is done.
                    if link.is_idle() && !is_there(&link.peer).await {
                        break format!("it did not answer a ping within {} s", PING_LIMIT.as_secs());
                    }
                }
            }
        };
        close.cancel();
        if let Some(process) = &mut process
            && timeout(FAREWELL, process.wait()).await.is_err()
        {
            process.kill().await;
        }
        why
    }
}

/// All tools of a server, or more than are used.
async fn listed(peer: &Peer<RoleClient>) -> Result<Vec<Listed>, ServiceError> {
    let (mut tools, mut cursor) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let page = peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor))).await?;
        tools.extend(page.tools);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(tools)
}

/// Whether a server answers at all; that it does not know the question is an answer.
async fn is_there(peer: &Peer<RoleClient>) -> bool {
    let ping = ClientRequest::PingRequest(PingRequest::default());
    let asked = async {
        peer.send_request_with_option(ping, PeerRequestOptions::with_timeout(PING_LIMIT))
            .await?
            .await_response()
            .await
    };
    matches!(asked.await, Ok(_) | Err(ServiceError::McpError(_)))
}

fn plain(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(said) => said.message.to_string(),
        _ => "the connection ended".into(),
    }
}

/// The name of a server's actor.
fn actor_name(server: &str) -> String {
    format!("mcp:{server}")
}

/// The servers that are used; of two whose tools would be called the same only the first.
fn wanted(settings: &McpSettings) -> BTreeMap<&str, &McpServerSettings> {
    let mut prefixes = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for (name, entry) in settings.servers.iter().filter(|(_, entry)| entry.enabled) {
        let first = *prefixes.entry(prefix(name).to_ascii_lowercase()).or_insert(name);
        if first == name {
            wanted.insert(name.as_str(), entry);
        } else {
            tracing::warn!(target: "crabtree::mcp",
                "mcp.servers.{name} is not used: its tools would be called like those of {first}; rename one of them");
        }
    }
    wanted
}

/// Ends the servers that are not wanted any more or not like this, and starts those that are missing. The others do
/// not notice.
pub(super) fn attend(ctx: &mut Ctx<AgentsMsg>, estate: &Arc<Estate>, agents: &Slot<AgentsMsg>) {
    let config = estate.config.load();
    let wanted = wanted(&config.settings.mcp);
    for child in ctx.node().children() {
        let Some(server) = child.name().strip_prefix("mcp:") else { continue };
        if !wanted.get(server).is_some_and(|entry| estate.mcp.runs_with(server, entry)) {
            // What is still ending is attended to again when it has ended.
            ctx.stop_child(child.name());
        }
    }
    for (name, entry) in &wanted {
        if ctx.node().child(&actor_name(name)).is_none() {
            start(ctx, name, entry, estate, agents);
        }
    }
    estate.mcp.keep(|name| wanted.contains_key(name));
}

fn start(
    ctx: &mut Ctx<AgentsMsg>,
    name: &str,
    entry: &McpServerSettings,
    estate: &Arc<Estate>,
    agents: &Slot<AgentsMsg>,
) {
    estate.mcp.put(name, entry.clone());
    let shared: Arc<str> = name.into();
    let args = McpArgs {
        name: shared.clone(),
        entry: entry.clone(),
        dial: dial(shared, entry.clone(), estate.guard.clone()),
        estate: estate.clone(),
        agents: agents.clone(),
    };
    spawn(ctx, args);
}

fn backoff(entry: &McpServerSettings) -> Backoff {
    let base = if entry.is_process() { PROCESS_BACKOFF } else { HTTP_BACKOFF };
    Backoff { base, ..Backoff::default() }
}

fn spawn(ctx: &mut Ctx<AgentsMsg>, args: McpArgs) {
    let name = actor_name(&args.name);
    let backoff = backoff(&args.entry);
    let spec = ChildSpec::new::<McpServer>(name, Restart::Transient, args, &Slot::default())
        .backoff(backoff)
        .shutdown(SHUTDOWN);
    // Nobody else starts children of this name.
    let _ = ctx.spawn(spec);
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
