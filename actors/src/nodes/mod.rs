//! **Owns** the nodes: what of each is approved, what each asks for, and which call belongs to which result.
//! **Hears** of nodes that come and go and what they tell, of people who approve and rename, and of commands for
//! nodes; **tells** nodes what to do, operators what changed, agents what nodes offer, and the store every approval
//! before it is answered.
//! **On crash** no approval is lost: it reads the store again, and finds the connected nodes in the Estate; their sockets
//! do not notice. Who waits for a node's result is answered retryable `UNAVAILABLE`; the result, when it comes, is
//! ignored.
//!
//! A node goes through two gates: its device is paired (see `devices`), and then a person approves what it offers. When
//! it offers more, it asks again, and what was approved goes on to count.

pub mod actions;
mod arriving;
mod calling;
mod deciding;
pub mod gate;
pub mod invoke;
mod links;
mod node;
pub mod offers;
pub mod policy;
pub mod surface;
mod telling;
pub mod work;

pub use calling::{Invocation, answer};
pub use links::Links;
pub use offers::{Offer, Offers};
pub use surface::Request;

use crate::agents::AgentsMsg;
use crate::broadcast::BroadcastMsg;
use crate::conns::Conn;
use crate::devices::DevicesMsg;
use crate::estate::Estate;
use crate::event::{Audience, Event};
use crate::responder::Responder;
use crate::scheduler::SchedulerMsg;
use crate::store::{self, Store, StoreError, Written};
use crate::tree::*;
use calling::Asker;
use crabtree_protocol::frame::event_head;
use crabtree_protocol::params::nodes::{
    EventParams, NodeRow, NodeSkill, NodeTool, Pairings, ResultParams, Triggers,
};
use crabtree_protocol::value::List;
use crabtree_protocol::{ConnId, Event as Name, Refusal, Scope};
use deciding::Then;
use invoke::{Call, Calls};
use links::Link;
use node::Node;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Where the words that wake are kept.
const TRIGGERS: &str = "voicewake.triggers";

/// What the nodes actor hears.
pub enum NodesMsg {
    /// The store's nodes, and the words that wake.
    Loaded(Result<(Vec<store::NodeRow>, Option<String>), StoreError>),
    /// A node's connection had its hello.
    Arrived(ConnId),
    /// Its row, as it is in the store now.
    Known(ConnId, Result<Option<store::NodeRow>, StoreError>),
    /// A node's connection has ended.
    Left(Arc<Conn>),
    /// What is in the store of a node whose connection has ended.
    Checked(String, Result<Option<store::NodeRow>, StoreError>),
    /// All nodes as they are shown.
    Rows(Reply<Vec<NodeRow>>),
    /// What nodes ask for, and who is approved.
    Pairings(Reply<Pairings>),
    /// What a node has told is old enough to be stored.
    Save(String),
    /// A person lets a node do what it asks for.
    Approve(String, Responder),
    /// A person does not.
    Reject(String, Responder),
    /// A person gives a node a name.
    Rename(String, String, Responder),
    /// A person takes a device its role as a node.
    Remove(String, Responder),
    /// It has lost it, or had none.
    Removed(String, Dismissal, Responder),
    /// A node's row is in the store, and this follows.
    Stored(String, Vec<Then>, Box<Written>),
    /// A node is to do something.
    Invoke(Box<Invocation>),
    /// Whether people have agreed to it is known now.
    Cleared(Box<Invocation>, Box<Result<Value, Refusal>>),
    /// A node that was not ready is asked again.
    Again(Box<Call<Asker>>),
    /// The time of a call is up.
    TimedOut(String),
    /// Nobody waits for a call any more.
    Abandoned(u64),
    /// A node sends a result.
    Result(Box<ResultParams>, Responder),
    /// A node tells how a call goes.
    Progress(String, Responder),
    /// Something happened at a node.
    Event(Box<EventParams>, Responder),
    /// The tools a node offers.
    Tools(Vec<NodeTool>, Responder),
    /// The skills a node offers.
    Skills(List<NodeSkill, 0, 64>, Responder),
    /// The configuration may say something else of what nodes offer.
    Review,
    /// A node has told what it can run.
    Inventory(Responder),
    /// The words that wake.
    Triggers(Reply<Vec<String>>),
    /// They are different from now on.
    SetTriggers(Vec<String>, Responder),
    /// They are in the store.
    TriggersSet(Vec<String>, Box<Written>, Responder),
}

/// What became of a device's role as a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissal {
    /// It has lost it.
    Done,
    /// There is no such device, or it is no node.
    Unknown,
    /// It is an operator too: only administrators may.
    NeedsAdmin,
    /// It could not be stored.
    Failed,
}

/// Brings what was said at a node into a session (its key, the main one by default).
pub type Speak = Arc<dyn Fn(Option<&str>, String) + Send + Sync>;

/// What it is started with.
#[derive(Clone)]
pub struct NodesArgs {
    /// The store, and through it the Estate.
    pub store: Store,
    /// Who knows the devices.
    pub devices: Slot<DevicesMsg>,
    /// Who hears events.
    pub broadcast: Slot<BroadcastMsg>,
    /// Who gives agents the tools of nodes.
    pub agents: Slot<AgentsMsg>,
    /// Who tells the agent later what happened at a node.
    pub scheduler: Slot<SchedulerMsg>,
    /// Where what people say at a node goes.
    pub speak: Speak,
}

/// A node, and what of it is on its way to the store.
struct Kept {
    node: Node,
    writing: bool,
    unsaved: bool,
    /// Figures that came are stored then, unless they are with something else before.
    figures: Option<Timer>,
    thens: Vec<Then>,
}

impl Kept {
    fn new(row: store::NodeRow) -> Self {
        Self { node: row.into(), writing: false, unsaved: false, figures: None, thens: Vec::new() }
    }
}

/// See the module.
pub struct Nodes {
    estate: Arc<Estate>,
    args: NodesArgs,
    nodes: BTreeMap<String, Kept>,
    /// Connections whose node's row is being read, and what was heard of them meanwhile.
    arriving: BTreeMap<ConnId, (String, Vec<NodesMsg>)>,
    calls: Calls<Asker>,
    /// Runs that nodes were asked for and have not told the end of: node and run.
    runs: VecDeque<(String, String)>,
    asked: u64,
    triggers: Vec<String>,
    loaded: bool,
    early: Vec<NodesMsg>,
}

impl Behavior for Nodes {
    type Msg = NodesMsg;
    type Args = NodesArgs;
    const KIND: &'static str = "nodes";

    fn start(ctx: &mut Ctx<NodesMsg>, args: NodesArgs) -> Result<Self, Fault> {
        let reader = args.store.clone();
        let rows = async move { reader.read(|c| Ok((store::nodes(c)?, store::meta(c, TRIGGERS)?))).await };
        ctx.task(rows, NodesMsg::Loaded);
        Ok(Self {
            estate: args.store.estate.clone(),
            args,
            nodes: BTreeMap::new(),
            arriving: BTreeMap::new(),
            calls: Calls::default(),
            runs: VecDeque::new(),
            asked: 0,
            triggers: Vec::new(),
            loaded: false,
            early: Vec::new(),
        })
    }

    fn handle(&mut self, ctx: &mut Ctx<NodesMsg>, msg: NodesMsg) -> Result<(), Fault> {
        match msg {
            NodesMsg::Loaded(rows) => self.loaded(ctx, rows.map_err(Fault::new)?)?,
            early if !self.loaded => self.early.push(early),
            NodesMsg::Arrived(id) => self.arrived(ctx, id),
            NodesMsg::Known(id, row) => self.known(ctx, id, row)?,
            NodesMsg::Left(conn) => self.left(ctx, &conn),
            NodesMsg::Checked(id, row) => self.checked(&id, row),
            NodesMsg::Rows(reply) => reply.send(self.rows()),
            NodesMsg::Pairings(reply) => reply.send(self.pairings()),
            NodesMsg::Approve(id, responder) => self.approve(ctx, &id, responder),
            NodesMsg::Reject(id, responder) => self.reject(ctx, &id, responder),
            NodesMsg::Rename(id, name, responder) => self.rename(ctx, &id, name, responder),
            NodesMsg::Remove(id, responder) => self.remove(ctx, id, responder),
            NodesMsg::Removed(id, dismissal, responder) => self.removed(ctx, &id, dismissal, responder),
            NodesMsg::Stored(id, thens, written) => self.stored(ctx, &id, thens, *written),
            NodesMsg::Save(id) => self.save(ctx, &id, None),
            NodesMsg::Invoke(invocation) => self.invoke(ctx, invocation),
            NodesMsg::Cleared(invocation, params) => self.cleared(ctx, *invocation, *params),
            NodesMsg::Again(call) => self.dispatch(ctx, *call),
            NodesMsg::TimedOut(id) => self.timed_out(&id),
            NodesMsg::Abandoned(number) => self.abandoned(number),
            NodesMsg::Review => self.offer_all(),
            told => self.told(ctx, told),
        }
        ctx.publish_info(json!({
            "nodes": self.nodes.len(), "connected": self.estate.nodes.all().len(), "calls": self.calls.len(),
        }));
        Ok(())
    }
}

impl Nodes {
    fn loaded(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        (rows, triggers): (Vec<store::NodeRow>, Option<String>),
    ) -> Result<(), Fault> {
        self.nodes = rows.into_iter().map(|row| (row.node_id.clone(), Kept::new(row))).collect();
        self.nodes.keys().for_each(|node_id| self.note_canvas(node_id));
        let known = triggers.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        self.triggers = telling::triggers(known);
        self.loaded = true;
        // Those that came before, or while nobody was here.
        for link in self.estate.nodes.all() {
            self.arrived(ctx, *link.conn.id());
        }
        // Those that went while nobody was here.
        self.offer_all();
        for msg in std::mem::take(&mut self.early) {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// What only nodes send. Whoever comes in haste waits until its row is read.
    fn told(&mut self, ctx: &mut Ctx<NodesMsg>, msg: NodesMsg) {
        let from = match &msg {
            NodesMsg::Result(_, responder)
            | NodesMsg::Progress(_, responder)
            | NodesMsg::Event(_, responder)
            | NodesMsg::Tools(_, responder)
            | NodesMsg::Skills(_, responder)
            | NodesMsg::Inventory(responder) => Some(*responder.conn_id()),
            _ => None,
        };
        if let Some((_, waiting)) = from.and_then(|from| self.arriving.get_mut(&from)) {
            return waiting.push(msg);
        }
        match msg {
            NodesMsg::Result(params, responder) => self.result(ctx, *params, responder),
            NodesMsg::Progress(id, responder) => self.progress(&id, responder),
            NodesMsg::Event(params, responder) => self.event(ctx, *params, responder),
            NodesMsg::Tools(tools, responder) => self.tools(tools, responder),
            NodesMsg::Skills(skills, responder) => self.skills(skills, responder),
            NodesMsg::Inventory(responder) => self.inventory(responder),
            NodesMsg::Triggers(reply) => reply.send(self.triggers.clone()),
            NodesMsg::SetTriggers(triggers, responder) => self.set_triggers(ctx, triggers, responder),
            NodesMsg::TriggersSet(triggers, written, responder) => {
                self.triggers_set(triggers, *written, responder);
            }
            _ => {}
        }
    }

    fn rows(&self) -> Vec<NodeRow> {
        let config = self.estate.config.load();
        let row = |kept: &Kept| {
            let link = self.link(&kept.node.id);
            kept.node.row(link.as_deref(), &config.settings.gateway.nodes.commands)
        };
        node::listed(self.nodes.values().map(row).collect())
    }

    fn pairings(&self) -> Pairings {
        let nodes = || self.nodes.values().map(|kept| &kept.node);
        let mut pending: Vec<_> = nodes().filter_map(Node::pair_request).collect();
        pending.sort_by_key(|request| std::cmp::Reverse(request.ts));
        let mut paired: Vec<_> = nodes().filter_map(Node::paired).collect();
        paired.sort_by_key(|node| std::cmp::Reverse(node.approved_at_ms));
        Pairings { pending, paired }
    }

    /// The connection by which a node is reached, if it is known what it is.
    fn link(&self, node_id: &str) -> Option<Arc<Link>> {
        let link = self.estate.nodes.to(node_id)?;
        (!self.arriving.contains_key(link.conn.id())).then_some(link)
    }

    /// The node on the other end of a connection, and that connection.
    fn sender(&mut self, conn: &Conn) -> Option<(&mut Kept, Arc<Link>)> {
        let link = self.estate.nodes.of(conn.id())?;
        Some((self.nodes.get_mut(&link.node_id)?, link))
    }

    /// Tells operators.
    fn publish(&self, name: Name, scope: Scope, payload: &impl Serialize) {
        let event = Event::new(name, Audience::Scope(scope), payload);
        let passing = matches!(name, Name::NodeHostStats | Name::NodePresence);
        self.estate.conns.publish(if passing { event.droppable() } else { event });
    }
}

/// Tells a node something, by itself and without a number, as recorded.
fn push(conn: &Conn, name: Name, payload: &impl Serialize) {
    if let Ok(payload) = serde_json::to_vec(payload) {
        conn.outbox.frame(event_head(name.name(), &payload, None).encode(None));
    }
}

/// What nodes are told when they come.
fn greet(link: &Link, triggers: &[String]) {
    if link.greet() {
        push(&link.conn, Name::VoicewakeChanged, &Triggers { triggers: triggers.to_vec() });
        push(&link.conn, Name::VoicewakeRoutingChanged, &routing());
    }
}

/// Where what follows the words that wake goes.
pub fn routing() -> Value {
    let config =
        json!({ "version": 1, "defaultTarget": { "mode": "current" }, "routes": [], "updatedAtMs": 0 });
    json!({ "config": config })
}
