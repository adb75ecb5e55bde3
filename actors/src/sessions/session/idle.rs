//! Leaving memory: a session that has had nothing to do for a while ends, and is started again when it is
//! spoken to. Its parent holds back what comes meanwhile, so that nothing is lost between the two.

use super::{Session, SessionMsg};
use crate::sessions::SessionsMsg;
use crate::tree::{Ctx, Node};
use std::time::Duration;

/// Sessions in memory from which on one that comes to rest does not wait there for long: about 15 KB each.
pub const MANY_LIVE: usize = 200;

/// How long it waits then: a client that makes a session, changes it and speaks to it finds it there.
const REST_AMONG_MANY: Duration = Duration::from_millis(250);

impl Session {
    /// Whether everything it knows is in the store, and nobody waits for it.
    fn is_quiescent(&self) -> bool {
        self.loaded
            && self.is_idle()
            && self.accepting.is_none()
            && self.arrivals.is_empty()
            && self.backlog.is_empty()
            && self.aborts.is_empty()
    }

    /// Starts the clock when it comes to rest, and stops it when it is wanted.
    pub(super) fn watch_idleness(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if !self.is_quiescent() {
            self.idle = None;
        } else if self.idle.is_none() {
            let configured = self.estate().config.load().settings.session.passivate_after_seconds.get();
            let wait = Duration::from_secs(configured);
            let live = ctx.node().parent().as_deref().map_or(0, Node::child_count);
            let wait = if live > MANY_LIVE { wait.min(REST_AMONG_MANY) } else { wait };
            self.idle = Some(ctx.after(wait, SessionMsg::Idle));
        }
    }

    pub(super) fn ask_to_retire(&mut self) {
        self.idle = None;
        if self.is_quiescent() {
            // A parent that is down is asked again.
            let _ = self.args.parent.send(SessionsMsg::Idle(self.args.key.clone()));
        }
    }

    pub(super) fn retire(&mut self, ctx: &mut Ctx<SessionMsg>) {
        if self.is_quiescent() {
            ctx.stop();
        } else {
            let _ = self.args.parent.send(SessionsMsg::Stays(self.args.key.clone()));
        }
    }
}
