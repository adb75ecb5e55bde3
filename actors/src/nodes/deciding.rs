//! What people decide about nodes, and what follows when it is in the store.

use super::surface::{Request, Surface};
use super::{Dismissal, Kept, Nodes, NodesMsg, push};
use crate::devices::DevicesMsg;
use crate::methods::store_refusal;
use crate::responder::Responder;
use crate::store::{WriteOp, Written};
use crate::tree::*;
use crabtree_protocol::frame::Close;
use crabtree_protocol::params::nodes::{Approved, Named, Rejected, Renamed};
use crabtree_protocol::{Event as Name, Refusal, Role, Scope};
use serde_json::{Value, json};

/// What follows when a node's row is in the store; what was before, for when it cannot be stored.
pub enum Then {
    /// A node asks for this, in place of what it asked before.
    Requested {
        /// Names the request.
        id: String,
        /// The one before.
        before: Option<Request>,
    },
    /// It asks for this no more.
    Withdrawn(Request),
    /// A person agreed.
    Approved {
        /// To what.
        request: Request,
        /// What was approved before, and when.
        before: (Option<Surface>, Option<(i64, i64)>),
        /// Who it was; nobody, if it came with a setup code.
        responder: Option<Responder>,
    },
    /// A person did not.
    Rejected(Request, Responder),
    /// A person gave it a name; the one before.
    Renamed(Option<String>, Responder),
}

fn resolved(request_id: &str, node_id: &str, decision: &str, now: i64) -> Value {
    json!({ "requestId": request_id, "nodeId": node_id, "decision": decision, "ts": now })
}

impl Nodes {
    /// Stores a node as it is, one write after the other; `then` follows.
    pub(super) fn save(&mut self, ctx: &mut Ctx<NodesMsg>, node_id: &str, then: Option<Then>) {
        let Some(kept) = self.nodes.get_mut(node_id) else { return };
        kept.thens.extend(then);
        kept.figures = None;
        kept.unsaved = true;
        if kept.writing {
            return;
        }
        (kept.writing, kept.unsaved) = (true, false);
        let (thens, op) = (std::mem::take(&mut kept.thens), WriteOp::PutNode(kept.node.stored()));
        let (store, id) = (self.args.store.clone(), node_id.to_owned());
        ctx.task(async move { store.write(op).await }, move |written| {
            NodesMsg::Stored(id, thens, Box::new(written))
        });
    }

    pub(super) fn stored(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        node_id: &str,
        thens: Vec<Then>,
        written: Written,
    ) {
        if let Err(e) = &written {
            tracing::warn!(target: "crabtree::nodes", node = %node_id, "a node was not stored: {e}");
        }
        for then in thens {
            match (self.nodes.get_mut(node_id), &written) {
                (Some(kept), Err(e)) => undo(kept, then, store_refusal(e)),
                (Some(_), Ok(_)) => self.follow(node_id, then, ctx.now_ms()),
                (None, _) => refuse(then, Refusal::unknown_node()),
            }
        }
        self.offer(node_id);
        if let Some(kept) = self.nodes.get_mut(node_id) {
            kept.writing = false;
            if kept.unsaved {
                self.save(ctx, node_id, None);
            }
        }
    }

    fn follow(&mut self, node_id: &str, then: Then, now: i64) {
        let Some(kept) = self.nodes.get(node_id) else { return };
        match then {
            Then::Requested { id, before } => {
                if let Some(before) = before {
                    self.tell_resolved(&before.request_id, node_id, "rejected", now);
                }
                if let Some(request) = kept.node.pair_request().filter(|request| request.request_id == id) {
                    self.publish(Name::NodePairRequested, Scope::Pairing, &request);
                }
            }
            Then::Withdrawn(request) => self.tell_resolved(&request.request_id, node_id, "rejected", now),
            Then::Approved { request, responder, .. } => {
                self.note_canvas(node_id);
                if self.estate.nodes.to(node_id).is_some_and(|link| link.told().inventory) {
                    self.publish(
                        Name::NodeRunnerInventoryChanged,
                        Scope::Read,
                        &json!({ "nodeId": node_id }),
                    );
                }
                self.tell_resolved(&request.request_id, node_id, "approved", now);
                let Some(responder) = responder else { return };
                match kept.node.paired() {
                    Some(node) => responder.ok(&Approved { request_id: request.request_id, node }),
                    None => responder.refuse(Refusal::unknown_request_id()),
                }
            }
            Then::Rejected(request, responder) => {
                self.tell_resolved(&request.request_id, node_id, "rejected", now);
                responder.ok(&Rejected { request_id: request.request_id, node_id: node_id.to_owned() });
            }
            Then::Renamed(_, responder) => {
                let display_name = kept.node.name.clone().unwrap_or_default();
                responder.ok(&Renamed { node_id: node_id.to_owned(), display_name });
            }
        }
    }

    /// Operators hear it, and so does the node.
    fn tell_resolved(&self, request_id: &str, node_id: &str, decision: &str, now: i64) {
        let news = resolved(request_id, node_id, decision, now);
        for link in self.estate.nodes.all().iter().filter(|link| link.node_id == node_id) {
            push(&link.conn, Name::NodePairResolved, &news);
        }
        self.publish(Name::NodePairResolved, Scope::Pairing, &news);
    }

    fn asking(&mut self, request_id: &str) -> Option<&mut Kept> {
        let asks = |kept: &&mut Kept| {
            kept.node.request.as_ref().is_some_and(|request| request.request_id == request_id)
        };
        self.nodes.values_mut().find(asks)
    }

    pub(super) fn approve(&mut self, ctx: &mut Ctx<NodesMsg>, request_id: &str, responder: Responder) {
        let Some(kept) = self.asking(request_id) else {
            return responder.refuse(Refusal::unknown_request_id());
        };
        let Some(request) = kept.node.request.clone() else { return };
        let scopes = request.surface.approve_scopes();
        let may = |scope: &&Scope| responder.conn().grant().is_some_and(|grant| grant.may(**scope));
        if let Some(missing) = scopes.iter().find(|scope| !may(scope)) {
            return responder.refuse(Refusal::missing_scope_of(*missing, &scopes));
        }
        let (node, now) = (&mut kept.node, ctx.now_ms());
        let before = (node.approved.replace(request.surface.clone()), node.approvals);
        node.approvals = Some((node.approvals.map_or(now, |(first, _)| first), now));
        node.request = None;
        let id = node.id.clone();
        self.save(ctx, &id, Some(Then::Approved { request, before, responder: Some(responder) }));
    }

    pub(super) fn reject(&mut self, ctx: &mut Ctx<NodesMsg>, request_id: &str, responder: Responder) {
        let Some(kept) = self.asking(request_id) else {
            return responder.refuse(Refusal::unknown_request_id());
        };
        let Some(request) = kept.node.request.take() else { return };
        let id = kept.node.id.clone();
        self.save(ctx, &id, Some(Then::Rejected(request, responder)));
    }

    pub(super) fn rename(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        node_id: &str,
        name: String,
        responder: Responder,
    ) {
        let Some(kept) = self.nodes.get_mut(node_id) else {
            return responder.refuse(Refusal::unknown_node());
        };
        let before = kept.node.name.replace(name);
        self.save(ctx, node_id, Some(Then::Renamed(before, responder)));
    }

    pub(super) fn remove(&mut self, ctx: &mut Ctx<NodesMsg>, node_id: String, responder: Responder) {
        if !self.nodes.contains_key(&node_id) {
            return responder.refuse(Refusal::unknown_node());
        }
        let admin = responder.conn().grant().is_some_and(|grant| grant.may(Scope::Admin));
        let (devices, id) = (self.args.devices.clone(), node_id.clone());
        let ask = async move {
            devices
                .ask(|reply| DevicesMsg::Dismiss { device_id: id.clone(), role: Role::Node, admin, reply })
                .await
        };
        ctx.task(ask, move |dismissal| NodesMsg::Removed(node_id, dismissal, responder));
    }

    pub(super) fn removed(
        &mut self,
        ctx: &mut Ctx<NodesMsg>,
        node_id: &str,
        dismissal: Dismissal,
        responder: Responder,
    ) {
        match dismissal {
            Dismissal::NeedsAdmin => {
                let both = [Scope::Pairing, Scope::Admin];
                return responder.refuse(Refusal::missing_scope_of(Scope::Admin, &both));
            }
            Dismissal::Failed => {
                return responder
                    .refuse(Refusal::failed("the device was not removed; try again").with_retry(1000));
            }
            Dismissal::Unknown => {
                self.forget(node_id);
                return responder.refuse(Refusal::unknown_node());
            }
            Dismissal::Done => self.forget(node_id),
        }
        let links = self.estate.nodes.all();
        let news = resolved("", node_id, "removed", ctx.now_ms());
        self.publish(Name::NodePairResolved, Scope::Pairing, &news);
        responder.ok(&Named { node_id: node_id.to_owned() });
        for link in links.iter().filter(|link| link.node_id == node_id) {
            link.conn.outbox.close(Close::device_removed());
        }
    }
}

/// The store did not take it: as before.
fn undo(kept: &mut Kept, then: Then, refusal: Refusal) {
    match then {
        Then::Requested { .. } | Then::Withdrawn(_) => {}
        Then::Approved { request, before: (approved, approvals), responder } => {
            (kept.node.approved, kept.node.approvals) = (approved, approvals);
            kept.node.request.get_or_insert(request);
            if let Some(responder) = responder {
                responder.refuse(refusal);
            }
        }
        Then::Rejected(request, responder) => {
            kept.node.request.get_or_insert(request);
            responder.refuse(refusal);
        }
        Then::Renamed(before, responder) => {
            kept.node.name = before;
            responder.refuse(refusal);
        }
    }
}

fn refuse(then: Then, refusal: Refusal) {
    match then {
        Then::Requested { .. } | Then::Withdrawn(_) | Then::Approved { responder: None, .. } => {}
        Then::Approved { responder: Some(responder), .. }
        | Then::Rejected(_, responder)
        | Then::Renamed(_, responder) => responder.refuse(refusal),
    }
}
