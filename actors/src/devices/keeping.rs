//! What follows a decision: it is stored first; then its caller is answered, operators are told, connections are closed,
//! and the Estate knows who still asks.

use super::book::Change;
use super::upgrades::Upgrades;
use super::{Devices, DevicesMsg};
use crate::conns::Conn;
use crate::event::Event;
use crate::pairing::PendingRequest;
use crate::responder::Responder;
use crate::store::{StoreError, WriteOp};
use crate::tree::*;
use crabtree_protocol::frame::Close;
use crabtree_protocol::{Refusal, Role};
use serde::Serialize;
use std::sync::Arc;

/// Answers, knowing whether the change is stored.
pub(super) type Answer = Box<dyn FnOnce(bool) + Send>;

/// What follows a change once it is stored.
pub(super) struct Sequel {
    news: Vec<Event>,
    answer: Answer,
    cut: Vec<Arc<Conn>>,
    asked: Vec<PendingRequest>,
    decided: Vec<(String, bool)>,
}

impl Devices {
    /// Answers when what was decided is stored.
    pub(super) fn settle(
        &mut self,
        ctx: &mut Ctx<DevicesMsg>,
        responder: Responder,
        answer: Result<impl Serialize + Send + 'static, Refusal>,
    ) {
        let answer = move |stored: bool| match stored {
            true => responder.settle(answer),
            false => responder.refuse(Refusal::not_stored()),
        };
        self.keep(ctx, Box::new(answer));
    }

    /// Stores what was decided; what follows from it waits for that.
    pub(super) fn keep(&mut self, ctx: &mut Ctx<DevicesMsg>, answer: Answer) {
        let mut change = std::mem::take(&mut self.book.change);
        let durable = change.is_durable();
        let meant = |conn: &Arc<Conn>| {
            conn.proven().is_some_and(|(id, role)| {
                change.cut.iter().any(|(device, of)| device == id.as_str() && of.is_none_or(|of| of == *role))
            })
        };
        let all = if change.cut.is_empty() { Vec::new() } else { self.estate.conns.all() };
        let cut = all.into_iter().filter(meant).collect();
        let (news, decided) = (std::mem::take(&mut change.news), std::mem::take(&mut change.decided));
        let asked = std::mem::take(&mut change.asked);
        let sequel = Sequel { news, answer, cut, asked, decided };
        if !durable {
            return self.follow(ctx, sequel, true);
        }
        for (id, forgotten) in change.devices {
            *self.unsaved.devices.entry(id).or_default() |= forgotten;
        }
        self.unsaved.setups.extend(change.setups);
        self.unsaved.nodes.extend(change.nodes);
        self.sequels.push(sequel);
        self.write(ctx);
    }

    /// Writes what has gathered, in one piece; what gathers meanwhile is written after it.
    fn write(&mut self, ctx: &mut Ctx<DevicesMsg>) {
        if self.writing.is_some() || self.sequels.is_empty() {
            return;
        }
        let unsaved = std::mem::take(&mut self.unsaved);
        let devices = unsaved.devices.iter().flat_map(|(id, forgotten)| self.book.rows(id, *forgotten));
        let setups = unsaved.setups.iter().map(|id| self.book.setups.row(id));
        let nodes = unsaved.nodes.into_iter().map(|node_id| WriteOp::RemoveNode { node_id });
        let ops = devices.chain(setups).chain(nodes).collect();
        self.writing = Some(std::mem::take(&mut self.sequels));
        let store = self.store.clone();
        let work = async move { store.write(WriteOp::All(ops)).await.map(drop) };
        ctx.task(work, DevicesMsg::Written);
    }

    pub(super) fn written(&mut self, ctx: &mut Ctx<DevicesMsg>, written: &Result<(), StoreError>) {
        let mut sequels = self.writing.take().unwrap_or_default();
        if let Err(e) = written {
            tracing::error!(target: "crabtree::devices", "a pairing was not stored: {e}");
            // What was decided meanwhile rests on what is not stored.
            sequels.append(&mut self.sequels);
            self.unsaved = Change::default();
            self.loaded = false;
            self.load(ctx);
        }
        for sequel in sequels {
            self.follow(ctx, sequel, written.is_ok());
        }
        self.write(ctx);
    }

    fn follow(&mut self, ctx: &mut Ctx<DevicesMsg>, sequel: Sequel, stored: bool) {
        if stored {
            // Before anybody hears of it: what was told outlives this actor.
            let mut told = self.estate.pairings.lock();
            sequel.decided.iter().for_each(|(id, _)| told.end(id));
            sequel.asked.into_iter().for_each(|request| told.take_over(request, ctx.now_ms()));
            drop(told);
            sequel.news.into_iter().for_each(|event| self.estate.conns.publish(event));
        }
        (sequel.answer)(stored);
        if stored {
            sequel.cut.iter().for_each(|conn| conn.outbox.close(Close::device_removed()));
            for (id, approved) in sequel.decided {
                let timer = ctx.after(Upgrades::spans().1, DevicesMsg::UpgradeOver(id.clone()));
                self.upgrades.decided(&self.book, &id, approved, timer);
            }
        }
    }

    /// Takes over who asks from the Estate, but for those whose approval was stored and not told any more. Who had asked
    /// for more scopes can wait for the decision again.
    pub(super) fn remember(&mut self, ctx: &mut Ctx<DevicesMsg>) {
        let mut told = self.estate.pairings.lock();
        told.retain(|request| {
            let device = self.book.devices.get(&request.ask.device.device_id);
            !device.is_some_and(|device| request.is_granted(device))
        });
        self.book.pending = told.clone();
        drop(told);
        for request in self.book.pending.all(ctx.now_ms()) {
            if request.ask.is_repair && request.roles == [Role::Operator] {
                let (id, device_id) = (&request.request_id, &request.ask.device.device_id);
                let timer = ctx.after(Upgrades::spans().0, DevicesMsg::UpgradeOver(id.clone()));
                self.upgrades.restore(id, device_id, request.scopes.clone(), timer);
            }
        }
    }
}
