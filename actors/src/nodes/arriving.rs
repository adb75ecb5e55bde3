//! Nodes that come and go.

use super::surface::Change;
use super::{Kept, Nodes, NodesMsg, Then, greet, telling};
use crate::conns::Conn;
use crate::store::{self, StoreError};
use crate::tree::*;
use crabtree_protocol::ConnId;
use std::time::Duration;

/// Pause before a node's row is read again that could not be.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Nodes {
    /// Its row is read again: its device may have been removed and paired anew since.
    pub(super) fn arrived(&mut self, ctx: &mut Ctx<NodesMsg>, id: ConnId) {
        let link = self.estate.nodes.of(&id).filter(|_| !self.arriving.contains_key(&id));
        let Some(link) = link else { return };
        greet(&link, &self.triggers);
        self.arriving.insert(id, (link.node_id.clone(), Vec::new()));
        self.read(ctx, id, link.node_id.clone(), Duration::ZERO);
    }

    fn read(&self, ctx: &mut Ctx<NodesMsg>, id: ConnId, node_id: String, wait: Duration) {
        let reader = self.args.store.clone();
        let read = async move {
            tokio::time::sleep(wait).await;
            reader.read(move |c| store::node(c, &node_id)).await
        };
        ctx.task(read, move |row| NodesMsg::Known(id, row));
    }

    pub(super) fn known(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        id: ConnId,
        row: Result<Option<store::NodeRow>, StoreError>,
    ) -> Result<(), Fault> {
        let row = match (row, self.arriving.get(&id)) {
            (Ok(row), _) => row,
            (Err(_), None) => return Ok(()),
            (Err(e), Some((node_id, _))) => {
                // Until it is known what of it is approved, it waits.
                tracing::warn!(target: "crabtree::nodes", node = %node_id, "a node's row was not read: {e}");
                self.read(ctx, id, node_id.clone(), READ_AGAIN);
                return Ok(());
            }
        };
        let Some((node_id, waiting)) = self.arriving.remove(&id) else { return Ok(()) };
        self.settle_identity(&node_id, row);
        let latest = self.estate.nodes.to(&node_id).filter(|link| *link.conn.id() == id);
        if let (Some(link), Some(kept)) = (latest, self.nodes.get_mut(&node_id)) {
            let config = self.estate.config.load();
            let (before, was) =
                (kept.node.request.clone(), (kept.node.approved.clone(), kept.node.approvals));
            let (approved, change) =
                kept.node.arrived(&link, &config.settings.gateway.nodes.commands, ctx.now_ms());
            let then = match change {
                Change::None => None,
                Change::Withdrawn => before.map(Then::Withdrawn),
                Change::Asks(request) => Some(Then::Requested { id: request.request_id, before }),
            };
            kept.thens.extend(approved.map(|request| Then::Approved {
                request,
                before: was,
                responder: None,
            }));
            self.save(ctx, &node_id, then);
        }
        self.offer(&node_id);
        for msg in waiting {
            self.handle(ctx, msg)?;
        }
        Ok(())
    }

    /// What is remembered of a node is of the pairing that is in the store, or forgotten.
    fn settle_identity(&mut self, node_id: &str, row: Option<store::NodeRow>) {
        let same = |kept: &Kept| row.as_ref().is_some_and(|row| row.paired_at == kept.node.paired_at);
        if self.nodes.get(node_id).is_some_and(same) {
            return;
        }
        self.forget(node_id);
        if let Some(row) = row {
            self.nodes.insert(node_id.to_owned(), Kept::new(row));
            self.note_canvas(node_id);
        }
    }

    /// For its next hello.
    pub(super) fn note_canvas(&self, node_id: &str) {
        let shows = self.nodes.get(node_id).is_some_and(|kept| kept.node.shows_canvas());
        self.estate.nodes.note_canvas(node_id, shows);
    }

    pub(super) fn forget(&mut self, node_id: &str) {
        self.nodes.remove(node_id);
        self.note_canvas(node_id);
        self.estate.nodes.work.lock().forget(node_id);
        self.estate.nodes.actions.lock().forget(node_id);
        self.offer(node_id);
        self.runs.retain(|(node, _)| node != node_id);
    }

    /// Its calls end at once, and what it told of its person counts no more.
    pub(super) fn left(&mut self, ctx: &mut Ctx<NodesMsg>, conn: &Conn) {
        self.arriving.remove(conn.id());
        for call in self.calls.left(*conn.id()) {
            self.disconnected(call);
        }
        let Some(device) = conn.grant().and_then(|grant| grant.device.as_ref()) else { return };
        let node_id = device.to_string();
        self.offer(&node_id);
        if self.estate.nodes.to(&node_id).is_none() {
            self.publish(
                crabtree_protocol::Event::NodePresence,
                crabtree_protocol::Scope::Read,
                &telling::presence(&node_id, None),
            );
        }
        let (reader, id) = (self.args.store.clone(), node_id.clone());
        let read = async move { reader.read(move |c| store::node(c, &id)).await };
        ctx.task(read, move |row| NodesMsg::Checked(node_id, row));
    }

    pub(super) fn checked(&mut self, node_id: &str, row: Result<Option<store::NodeRow>, StoreError>) {
        // If it cannot be read now, it is read when the node comes back.
        let Ok(row) = row else { return };
        let paired_at = self.nodes.get(node_id).map(|kept| kept.node.paired_at);
        if paired_at.is_some() && row.map(|row| row.paired_at) != paired_at {
            self.forget(node_id);
        }
    }
}
