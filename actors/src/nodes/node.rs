//! A node: who it is, what of it is approved, what it asks for, and how it is shown. Pure.

use super::links::Link;
use super::offers::carried;
use super::policy::{Barrier, Platform, Policy, shows_canvas};
use super::surface::{Change, Request, Standing, Surface, change};
use crate::pairing::described;
use crate::settings::NodeCommandSettings;
use crate::store;
use crabtree_protocol::params::nodes::{HostStats, NodeRow, PairNode, PairRequest, PairedNode};
use crabtree_protocol::{ConnectParams, Refusal, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How who comes in with a setup code is let in (`auth.method`).
const BY_SETUP_CODE: &str = "bootstrap-token";

/// Who a node says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Described {
    client_id: Option<String>,
    client_mode: Option<String>,
    display_name: Option<String>,
    platform: Option<String>,
    version: Option<String>,
    device_family: Option<String>,
    remote_ip: Option<String>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its device.
    pub id: String,
    /// Tells this pairing of its device from another one.
    pub paired_at: i64,
    device_approved_at: i64,
    device_silent: bool,
    /// What people call it, if they gave it a name.
    pub name: Option<String>,
    described: Described,
    /// What is approved.
    pub approved: Option<Surface>,
    /// What it asks for.
    pub request: Option<Request>,
    /// How its machine was.
    pub host_stats: Option<HostStats>,
    /// When something was approved first and last, ms.
    pub approvals: Option<(i64, i64)>,
    last_connected_at: Option<i64>,
    /// When and why it was seen last, ms.
    pub seen: Option<(i64, String)>,
}

/// A part of a row, if it can still be read.
fn part<T: serde::de::DeserializeOwned>(value: Option<Value>) -> Option<T> {
    value.and_then(|value| serde_json::from_value(value).ok())
}

impl From<store::NodeRow> for Node {
    fn from(row: store::NodeRow) -> Self {
        Self {
            id: row.node_id,
            paired_at: row.paired_at,
            device_approved_at: row.device_approved_at,
            device_silent: row.device_silent,
            name: row.display_name,
            described: part(Some(row.described)).unwrap_or_default(),
            approved: part(row.approved),
            request: part(row.request),
            host_stats: part(row.host_stats),
            approvals: row.created_at.zip(row.approved_at),
            last_connected_at: row.last_connected_at,
            seen: row.last_seen_at.zip(row.last_seen_reason),
        }
    }
}

impl Node {
    /// As it is stored.
    pub fn stored(&self) -> store::NodeRow {
        let (created_at, approved_at) = self.approvals.unzip();
        let (last_seen_at, last_seen_reason) = self.seen.clone().unzip();
        store::NodeRow {
            node_id: self.id.clone(),
            paired_at: self.paired_at,
            device_approved_at: self.device_approved_at,
            device_silent: self.device_silent,
            display_name: self.name.clone(),
            described: json!(self.described),
            approved: self.approved.as_ref().map(|surface| json!(surface)),
            request: self.request.as_ref().map(|request| json!(request)),
            host_stats: self.host_stats.as_ref().map(|stats| json!(stats)),
            created_at,
            approved_at,
            last_connected_at: self.last_connected_at,
            last_seen_at,
            last_seen_reason,
        }
    }

    fn policy<'a>(&self, commands: &'a NodeCommandSettings) -> Policy<'a> {
        let platform = Platform::of(self.platform(), self.described.device_family.as_deref());
        Policy { platform, commands }
    }

    /// What it declares on a connection.
    fn declared(&self, params: &ConnectParams, commands: &NodeCommandSettings) -> Surface {
        Surface::declared(params, &self.policy(commands))
    }

    /// It connected: who it is now, what was approved with that, and what it asks for.
    pub fn arrived(
        &mut self,
        link: &Link,
        commands: &NodeCommandSettings,
        now: i64,
    ) -> (Option<Request>, Change) {
        let (params, peer) = (&link.grant().params, &link.conn.peer);
        let row = described(params, &self.id);
        self.described = Described {
            client_id: row.client_id,
            client_mode: row.client_mode,
            display_name: row.display_name,
            platform: row.platform,
            version: Some(params.client.version.to_string()),
            device_family: row.device_family,
            remote_ip: (!peer.is_loopback()).then(|| peer.ip.to_string()),
        };
        self.last_connected_at = Some(link.connected_at);
        self.seen = Some((link.connected_at, "connect".into()));
        let declared = self.declared(params, commands);
        let approved = self.set_up(link, &declared, commands, now);
        let change =
            change(&declared, self.approved.as_ref(), self.request.as_ref(), self.device_silent, now);
        match &change {
            Change::None => {}
            Change::Withdrawn => self.request = None,
            Change::Asks(request) => self.request = Some(request.clone()),
        }
        (approved, change)
    }

    /// A node that comes in with a setup code, and of which nothing was ever decided, is approved at once as far as that
    /// does no harm ([`Surface::harmless`]): an administrator made the code for it. OpenClaw approves all that it
    /// declares, `system.run` among it; here the rest is asked of a person, since the code says who comes, and not what
    /// it may do.
    fn set_up(
        &mut self,
        link: &Link,
        declared: &Surface,
        commands: &NodeCommandSettings,
        now: i64,
    ) -> Option<Request> {
        let by_code = link.grant().method == BY_SETUP_CODE;
        if !by_code || self.approved.is_some() || self.approvals.is_some() || self.request.is_some() {
            return None;
        }
        let surface = declared.harmless(&self.policy(commands));
        let request = Request::new(surface, true, now);
        self.approved = Some(request.surface.clone());
        self.approvals = Some((now, now));
        Some(request)
    }

    /// What counts of what it declares.
    pub fn effective(&self, link: &Link, commands: &NodeCommandSettings) -> Surface {
        let declared = self.declared(&link.grant().params, commands);
        self.approved.as_ref().map(|approved| declared.within(approved)).unwrap_or_default()
    }

    /// Whether it may be asked to carry out a command.
    ///
    /// # Errors
    /// Why not, as recorded.
    pub fn allows(&self, command: &str, link: &Link, commands: &NodeCommandSettings) -> Result<(), Refusal> {
        let platform = self.described.platform.as_deref().unwrap_or("unknown");
        let barrier = match self.policy(commands).admits(command) {
            Err(barrier) => barrier,
            Ok(()) if self.effective(link, commands).commands.iter().any(|known| known == command) => {
                return Ok(());
            }
            Ok(()) => Barrier::NotDeclared,
        };
        let why = match barrier {
            Barrier::Denied => format!("\"{command}\" is blocked by gateway.nodes.commands.deny"),
            Barrier::OptIn => format!("\"{command}\" requires explicit gateway.nodes.commands.allow opt-in"),
            Barrier::NotListed => {
                format!("\"{command}\" is not in the allowlist for platform \"{platform}\"")
            }
            Barrier::NotDeclared => format!("the node (platform: {platform}) does not support \"{command}\""),
        };
        Err(Refusal::node_command_not_allowed(command, &why, barrier != Barrier::NotDeclared))
    }

    /// Whether a person approved that it shows the canvas.
    pub fn shows_canvas(&self) -> bool {
        self.approved.as_ref().is_some_and(|approved| approved.commands.iter().any(|name| shows_canvas(name)))
    }

    /// Whether it is a Mac, which can tell where its person is.
    pub fn is_mac(&self) -> bool {
        Platform::of(self.platform(), None) == Platform::Macos
    }

    /// What it says it runs on.
    pub fn platform(&self) -> &str {
        self.described.platform.as_deref().unwrap_or_default()
    }

    /// What people see as its name.
    pub fn shown_name(&self) -> Option<&String> {
        self.name.as_ref().or(self.described.display_name.as_ref())
    }

    fn pair_node(&self, surface: &Surface) -> PairNode {
        let said = &self.described;
        PairNode {
            node_id: self.id.clone(),
            client_id: said.client_id.clone(),
            client_mode: said.client_mode.clone(),
            display_name: self.shown_name().cloned(),
            platform: said.platform.clone(),
            version: said.version.clone(),
            device_family: said.device_family.clone(),
            caps: surface.caps.clone(),
            commands: surface.commands.clone(),
        }
    }

    /// What it asks for, as it is shown.
    pub fn pair_request(&self) -> Option<PairRequest> {
        let request = self.request.as_ref()?;
        Some(PairRequest {
            request_id: request.request_id.clone(),
            node: self.pair_node(&request.surface),
            required_approve_scopes: request.surface.approve_scopes().iter().map(Scope::to_string).collect(),
            permissions: request.surface.permissions.clone(),
            silent: request.silent.then_some(true),
            ts: request.ts,
        })
    }

    /// What is approved, as it is shown.
    pub fn paired(&self) -> Option<PairedNode> {
        let (approved, (created_at_ms, approved_at_ms)) = self.approved.as_ref().zip(self.approvals)?;
        let (last_seen_at_ms, last_seen_reason) = self.seen.clone().unzip();
        Some(PairedNode {
            node: self.pair_node(approved),
            permissions: approved.permissions.clone(),
            created_at_ms,
            approved_at_ms,
            last_connected_at_ms: self.last_connected_at,
            last_host_stats: self.host_stats.clone(),
            last_seen_at_ms,
            last_seen_reason,
        })
    }

    /// The whole of it, as it is shown; `link` if it is connected.
    pub fn row(&self, link: Option<&Link>, commands: &NodeCommandSettings) -> NodeRow {
        let said = &self.described;
        let mut surface = match link {
            Some(link) => self.effective(link, commands),
            None => self.approved.clone().unwrap_or_default(),
        };
        surface.commands.sort();
        let told = link.map(Link::told);
        let node_plugin_tools = told.as_ref().map(|told| carried(&told.tools, &surface.commands));
        let activity = told.as_ref().and_then(|told| told.activity);
        let asked = self.request.as_ref().map(|request| &request.surface);
        let (last_seen_at_ms, last_seen_reason) = self.seen.clone().unzip();
        NodeRow {
            node_id: self.id.clone(),
            display_name: self.shown_name().cloned(),
            platform: said.platform.clone(),
            version: said.version.clone(),
            client_id: said.client_id.clone(),
            client_mode: said.client_mode.clone(),
            device_family: said.device_family.clone(),
            remote_ip: said.remote_ip.clone(),
            caps: surface.caps,
            commands: surface.commands,
            session_host: false,
            host_stats: self.host_stats.clone(),
            node_plugin_tools,
            permissions: surface.permissions,
            path_env: link.and_then(|link| link.grant().params.path_env.clone()),
            approval_state: Standing::of(self.approved.as_ref(), self.request.as_ref()).name().to_owned(),
            pending_request_id: self.request.as_ref().map(|request| request.request_id.clone()),
            pending_declared_caps: asked.map(|surface| surface.caps.clone()),
            pending_declared_commands: asked.map(|surface| surface.commands.clone()),
            pending_declared_permissions: asked.and_then(|surface| surface.permissions.clone()),
            connected_at_ms: link.map(|link| link.connected_at),
            last_connected_at_ms: link.map(|link| link.connected_at),
            last_seen_at_ms,
            last_seen_reason,
            active: None,
            last_active_at_ms: activity.map(|activity| activity.at),
            presence_updated_at_ms: activity.map(|activity| activity.told_at),
            approved_at_ms: Some(self.approvals.map_or(self.device_approved_at, |(_, last)| last)),
            paired: true,
            connected: link.is_some(),
        }
    }
}

/// Nodes as lists show them: who is connected first, then by name; and whose person was active last of all.
pub fn listed(mut rows: Vec<NodeRow>) -> Vec<NodeRow> {
    rows.sort_by_cached_key(|row| {
        (!row.connected, row.display_name.clone().unwrap_or_default(), row.node_id.clone())
    });
    let latest = |row: &NodeRow| row.last_active_at_ms.zip(row.presence_updated_at_ms);
    if let Some(last) = rows.iter().filter_map(latest).max()
        && let Some(row) = rows.iter_mut().find(|row| latest(row) == Some(last))
    {
        row.active = Some(true);
    }
    rows
}
