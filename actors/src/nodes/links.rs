//! The nodes that are connected, what they have told over their connections, and what waits for them. Part of the
//! Estate: a reborn `nodes` actor finds the nodes here, whose sockets did not notice.

use super::actions::Actions;
use super::offers::Offers;
use super::work::Work;
use crate::conns::{Conn, Grant};
use crabtree_protocol::params::nodes::{NodeSkill, NodeTool};
use crabtree_protocol::{ConnId, Role};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// When somebody was active at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// When that was, ms.
    pub at: i64,
    /// When the node told so, ms.
    pub told_at: i64,
}

/// What a node has told over its connection.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The tools it offers, whatever of them counts.
    pub tools: Vec<NodeTool>,
    /// The skills it offers.
    pub skills: Vec<NodeSkill>,
    /// Whether it has told what it can run.
    pub inventory: bool,
    /// When somebody was active there.
    pub activity: Option<Activity>,
}

/// A node's connection.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub conn: Arc<Conn>,
    /// The node.
    pub node_id: String,
    /// Since when, ms.
    pub connected_at: i64,
    /// Which of a node's connections came later.
    number: u64,
    /// Whether it has been told what nodes are told when they come.
    greeted: AtomicBool,
    told: Mutex<Told>,
}

impl Link {
    /// What was granted to it.
    pub fn grant(&self) -> &Grant {
        self.conn.grant().expect("only admitted connections have links")
    }

    /// What it has told.
    pub fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// It tells something.
    pub fn tell<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.told.lock())
    }

    /// True the first time.
    pub fn greet(&self) -> bool {
        !self.greeted.swap(true, AcqRel)
    }
}

/// See the module.
#[derive(Default)]
pub struct Links {
    live: Mutex<Live>,
    /// Nodes of which a person approved that they show the canvas.
    shows_canvas: Mutex<BTreeSet<String>>,
    /// What waits for nodes.
    pub work: Mutex<Work>,
    /// What phones do when they are in the foreground again.
    pub actions: Mutex<Actions>,
    /// What nodes offer agents.
    pub offers: Offers,
}

#[derive(Default)]
struct Live {
    links: BTreeMap<ConnId, Arc<Link>>,
    opened: u64,
}

impl Links {
    /// A connection had its hello; whether it is a node's.
    pub fn join(&self, conn: &Arc<Conn>, now: i64) -> bool {
        let device =
            conn.grant().filter(|grant| grant.role == Role::Node).and_then(|grant| grant.device.clone());
        let Some(device) = device else { return false };
        let mut live = self.live.lock();
        live.opened += 1;
        let link = Link {
            conn: conn.clone(),
            node_id: device.to_string(),
            connected_at: now,
            number: live.opened,
            greeted: AtomicBool::new(false),
            told: Mutex::default(),
        };
        live.links.insert(*conn.id(), Arc::new(link));
        true
    }

    /// A connection has ended; its link, if it was a node's.
    pub fn leave(&self, id: &ConnId) -> Option<Arc<Link>> {
        self.live.lock().links.remove(id)
    }

    /// That of a connection.
    pub fn of(&self, id: &ConnId) -> Option<Arc<Link>> {
        self.live.lock().links.get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.live.lock().links.values().cloned().collect()
    }

    /// Whether a person approved that a node shows the canvas.
    pub fn shows_canvas(&self, node_id: &str) -> bool {
        self.shows_canvas.lock().contains(node_id)
    }

    /// From now on it is so, or not.
    pub(super) fn note_canvas(&self, node_id: &str, shows: bool) {
        let mut known = self.shows_canvas.lock();
        if shows {
            known.insert(node_id.to_owned());
        } else {
            known.remove(node_id);
        }
    }

    /// That by which a node is reached: its latest.
    pub fn to(&self, node_id: &str) -> Option<Arc<Link>> {
        let live = self.live.lock();
        let open =
            live.links.values().filter(|link| link.node_id == node_id && !link.conn.outbox.is_closing());
        open.max_by_key(|link| link.number).cloned()
    }
}
