//! **Owns** the roster of who is there: the gateway itself, clients, nodes, and who has left lately.
//! **Hears** of hellos and departures; **tells** the Estate a versioned snapshot, and operators the event
//! `presence`.
//! **On crash** nothing is lost: it starts from the last snapshot, corrected by the table of live
//! connections. The version is part of the snapshot and never goes back.

use crate::conns::{Conn, Grant};
use crate::estate::{Boot, Estate};
use crate::event::{Audience, Event};
use crate::tree::*;
use crabtree_protocol::{ClientMode, ConnId, Role, Scope};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Entries kept; the one that left first makes room.
const MAX_ENTRIES: usize = 200;
/// How long somebody who left is still shown (as recorded: 5 minutes), in milliseconds.
const GONE_TTL_MS: i64 = 300_000;

/// One entry, in the recorded shape.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(skip)]
    key: String,
    #[serde(skip)]
    online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    version: String,
    platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_family: Option<String>,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online_since: Option<i64>,
    reason: String,
    ts: i64,
    text: String,
}

/// The published state.
#[derive(Debug)]
pub struct PresenceSnapshot {
    /// Grows with each change.
    pub version: u64,
    /// The entries as a JSON array.
    pub json: Box<RawValue>,
    entries: Vec<Entry>,
}

impl PresenceSnapshot {
    /// The gateway alone.
    pub fn first(boot: &Boot, now_ms: i64) -> Self {
        let entry = Entry {
            key: String::new(),
            online: true,
            client_id: None,
            host: boot.host.clone(),
            ip: None,
            version: boot.version.into(),
            platform: std::env::consts::OS.into(),
            device_family: None,
            mode: "gateway".into(),
            device_id: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            instance_id: Some(boot.boot_id.clone()),
            online_since: None,
            reason: "self".into(),
            ts: now_ms,
            text: format!("Gateway: {} · app {} · mode gateway · reason self", boot.host, boot.version),
        };
        Self::of(1, vec![entry])
    }

    fn of(version: u64, entries: Vec<Entry>) -> Self {
        let json = to_raw_value(&entries).expect("presence entries are plain data");
        Self { version, json, entries }
    }

    /// How many entries are online, the gateway included.
    pub fn online(&self) -> usize {
        self.entries.iter().filter(|e| e.online).count()
    }
}

/// What presence hears.
pub enum PresenceMsg {
    /// A tracked connection had its hello.
    Arrived(ConnId),
    /// A tracked connection has ended.
    Left(ConnId),
    /// Time to forget who left long ago.
    Sweep,
}

/// See the module.
pub struct Presence {
    estate: Arc<Estate>,
    _sweep: Timer,
}

impl Behavior for Presence {
    type Msg = PresenceMsg;
    type Args = Arc<Estate>;
    const KIND: &'static str = "presence";

    fn start(ctx: &mut Ctx<PresenceMsg>, estate: Arc<Estate>) -> Result<Self, Fault> {
        let this = Self { estate, _sweep: sweep_later(ctx) };
        this.reconcile(ctx.now_ms());
        Ok(this)
    }

    fn handle(&mut self, ctx: &mut Ctx<PresenceMsg>, msg: PresenceMsg) -> Result<(), Fault> {
        let now = ctx.now_ms();
        match msg {
            PresenceMsg::Arrived(_) | PresenceMsg::Left(_) => self.reconcile(now),
            PresenceMsg::Sweep => {
                self._sweep = sweep_later(ctx);
                self.reconcile(now);
            }
        }
        let snapshot = self.estate.presence.load();
        ctx.publish_info(json!({ "version": snapshot.version, "online": snapshot.online() }));
        Ok(())
    }
}

fn sweep_later(ctx: &mut Ctx<PresenceMsg>) -> Timer {
    ctx.after(Duration::from_secs(60), PresenceMsg::Sweep)
}

impl Presence {
    /// Makes the entries anew from the live connections and the last snapshot; publishes what changed.
    fn reconcile(&self, now: i64) {
        let last = self.estate.presence.load_full();
        let live: HashMap<String, Arc<Conn>> = self
            .estate
            .conns
            .all()
            .into_iter()
            .filter(|c| !c.outbox.is_closing() && c.grant().is_some_and(is_tracked))
            .map(|c| (c.id().to_string(), c))
            .collect();
        let Some(entries) = reconciled(&last.entries, &live, now) else { return };
        let next = PresenceSnapshot::of(last.version + 1, entries);
        let payload = [b"{\"presence\":".as_slice(), next.json.get().as_bytes(), b"}"].concat();
        self.estate.presence.store(Arc::new(next));
        let audience = Audience::Scope(Scope::Read);
        let version = self.estate.state_version();
        let name = crabtree_protocol::Event::Presence;
        self.estate.conns.publish(Event::versioned(name, audience, &payload, version).droppable());
    }
}

/// The entries after a change, or `None` if nothing did.
fn reconciled(last: &[Entry], live: &HashMap<String, Arc<Conn>>, now: i64) -> Option<Vec<Entry>> {
    let mut changed = false;
    let mut entries: Vec<Entry> = Vec::with_capacity(last.len() + 1);
    for entry in last {
        let mut entry = entry.clone();
        if entry.online && !entry.key.is_empty() && !live.contains_key(&entry.key) {
            (entry.online, entry.reason, entry.ts) = (false, "disconnect".into(), now);
            changed = true;
        }
        if !entry.online && now - entry.ts > GONE_TTL_MS {
            changed = true;
            continue;
        }
        entries.push(entry);
    }
    let mut newcomers: Vec<_> = live.iter().filter(|(id, _)| !last.iter().any(|e| e.key == **id)).collect();
    newcomers.sort_by_key(|(id, _)| id.as_str());
    for (id, conn) in newcomers {
        let Some(grant) = conn.grant() else { continue };
        let entry = entry_of(id, conn, grant, now);
        // Somebody who comes back takes the place of who left.
        entries.retain(|e| e.online || e.identity() != entry.identity());
        entries.push(entry);
        changed = true;
    }
    while entries.len() > MAX_ENTRIES {
        let gone = entries.iter().position(|e| !e.online)?;
        entries.remove(gone);
    }
    changed.then_some(entries)
}

impl Entry {
    fn identity(&self) -> (Option<&str>, Option<&str>, &str, &str) {
        (self.device_id.as_deref(), self.instance_id.as_deref(), &self.host, &self.mode)
    }
}

/// Command lines, backends and probes come and go too fast to be shown (as recorded).
pub fn is_tracked(grant: &Grant) -> bool {
    !matches!(grant.params.client.mode, ClientMode::Cli | ClientMode::Backend | ClientMode::Probe)
}

fn entry_of(id: &str, conn: &Conn, grant: &Grant, now: i64) -> Entry {
    let client = &grant.params.client;
    let host = client.display_name.as_ref().map_or_else(|| client.id.name().to_owned(), ToString::to_string);
    let mode = client.mode.name().to_owned();
    let device = grant.device.as_ref().map(ToString::to_string);
    let node = grant.role == Role::Node;
    Entry {
        key: id.to_owned(),
        online: true,
        client_id: Some(client.id.name().to_owned()),
        text: format!("Node: {host} · mode {mode}"),
        host,
        ip: (!conn.peer.is_loopback()).then(|| conn.peer.ip.to_string()),
        version: client.version.to_string(),
        platform: client.platform.to_string(),
        device_family: client.device_family.as_ref().map(ToString::to_string),
        mode,
        roles: vec![if node { "node" } else { "operator" }.into()],
        scopes: grant.scopes.as_list().to_vec(),
        instance_id: match &device {
            Some(device) if node => Some(device.clone()),
            _ => client.instance_id.as_ref().map(ToString::to_string),
        },
        device_id: device,
        online_since: Some(now),
        reason: "connect".into(),
        ts: now,
    }
}
