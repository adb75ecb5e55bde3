//! Terminals: shells of operators on this machine, each an actor with a guarded process on a terminal of its own.
//!
//! **Owns** their being: one child a terminal; the table of those that live is in the Estate.
//! **Hears** that one shall be opened, and that the configuration changed; **tells** the terminals to look at it.
//! **On crash** no terminal notices: they are adopted again. One that was being opened is answered `UNAVAILABLE`.

mod life;
mod scrollback;
mod table;
mod terminal;

pub use scrollback::{SCROLLBACK, Scrollback};
pub use table::{Facts, MAX_DETACHED, MAX_TERMINALS, Table};
pub use terminal::TerminalMsg;

use crate::estate::Estate;
use crate::process::Size;
use crate::responder::Responder;
use crate::tree::*;
use crabtree_protocol::Refusal;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use terminal::{Terminal, TerminalArgs};

/// What the parent of all terminals hears.
pub enum TerminalsMsg {
    /// Open one like this, of this size; who asks is told when its program runs.
    Open(Arc<Facts>, Size, Responder),
    /// The configuration changed.
    Review,
}

/// See the module.
pub struct Terminals {
    estate: Arc<Estate>,
}

impl Behavior for Terminals {
    type Msg = TerminalsMsg;
    type Args = Arc<Estate>;
    const KIND: &'static str = "terminals";

    fn start(ctx: &mut Ctx<TerminalsMsg>, estate: Arc<Estate>) -> Result<Self, Fault> {
        estate.terminals.keep(|id| ctx.node().child(id).is_some());
        // What was said while nobody was there to hear it.
        estate.terminals.look();
        Ok(Self { estate })
    }

    fn handle(&mut self, ctx: &mut Ctx<TerminalsMsg>, msg: TerminalsMsg) -> Result<(), Fault> {
        match msg {
            TerminalsMsg::Open(facts, size, responder) => self.open(ctx, facts, size, responder)?,
            TerminalsMsg::Review => self.estate.terminals.look(),
        }
        Ok(())
    }

    fn child_exited(
        &mut self,
        ctx: &mut Ctx<TerminalsMsg>,
        child: &Arc<Node>,
        _: &Exit,
        _: NodeState,
    ) -> Result<(), Fault> {
        // One that never came up has not done so itself.
        self.estate.terminals.leave(child.name());
        self.publish(ctx);
        Ok(())
    }
}

impl Terminals {
    fn open(
        &self,
        ctx: &mut Ctx<TerminalsMsg>,
        facts: Arc<Facts>,
        size: Size,
        responder: Responder,
    ) -> Result<(), Fault> {
        let slot = Slot::default();
        if !self.estate.terminals.enter(&facts, &slot) {
            let text = format!("terminal session limit reached ({MAX_TERMINALS})");
            responder.refuse(Refusal::invalid_request(text));
            return Ok(());
        }
        let args = TerminalArgs {
            estate: self.estate.clone(),
            facts: facts.clone(),
            size,
            viewer: *responder.conn_id(),
            opening: Arc::new(Mutex::new(Some(responder))),
        };
        let spec = ChildSpec::new::<Terminal>(&*facts.id, Restart::Temporary, args, &slot).quiet();
        ctx.spawn(spec).map_err(Fault::new)?;
        self.publish(ctx);
        Ok(())
    }

    fn publish(&self, ctx: &Ctx<TerminalsMsg>) {
        ctx.publish_info(json!({ "open": self.estate.terminals.count() }));
    }
}
