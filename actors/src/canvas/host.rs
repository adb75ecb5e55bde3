//! **Owns** nothing but its timer: who watches is in the Estate.
//! **Hears** that somebody begins to watch the canvas; **tells** all who watch the print of its files when it is
//! another one.
//! **On crash** nobody's page notices: the next incarnation finds who watches and looks again.
//!
//! It looks at names, times and sizes every so often, and only while somebody watches: a directory of few files costs
//! next to nothing to read, and no watch of the system is as good on every file system.

use crate::estate::Estate;
use crate::tree::*;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(400);

/// What the host of the canvas hears.
pub enum CanvasMsg {
    /// Somebody watches, and wants to know how it is now.
    Watch,
    /// Time to look.
    Look,
    /// The print of the files.
    Seen(Option<String>),
}

/// See the module.
pub struct CanvasHost {
    estate: Arc<Estate>,
    looking: bool,
    /// Somebody has not been told anything yet.
    asked: bool,
    _timer: Option<Timer>,
}

impl Behavior for CanvasHost {
    type Msg = CanvasMsg;
    type Args = Arc<Estate>;
    const KIND: &'static str = "canvas";

    fn start(ctx: &mut Ctx<CanvasMsg>, estate: Arc<Estate>) -> Result<Self, Fault> {
        let mut host = Self { estate, looking: false, asked: true, _timer: None };
        if host.estate.canvas.has_watchers() {
            host.look(ctx);
        }
        Ok(host)
    }

    fn handle(&mut self, ctx: &mut Ctx<CanvasMsg>, msg: CanvasMsg) -> Result<(), Fault> {
        match msg {
            CanvasMsg::Watch => {
                self.asked = true;
                self.look(ctx);
            }
            CanvasMsg::Look => self.look(ctx),
            CanvasMsg::Seen(print) => self.seen(ctx, print),
        }
        Ok(())
    }
}

impl CanvasHost {
    fn look(&mut self, ctx: &mut Ctx<CanvasMsg>) {
        self._timer = None;
        if !std::mem::replace(&mut self.looking, true) {
            let canvas = self.estate.canvas.clone();
            ctx.task(async move { canvas.work(|folder| folder.print()).await }, CanvasMsg::Seen);
        }
    }

    fn seen(&mut self, ctx: &mut Ctx<CanvasMsg>, print: Option<String>) {
        self.looking = false;
        let canvas = &self.estate.canvas;
        if let Some(print) = print
            && (std::mem::take(&mut self.asked) || *canvas.print.borrow() != print)
        {
            canvas.print.send_replace(print);
        }
        let watchers = canvas.print.receiver_count();
        if canvas.has_watchers() {
            self._timer = Some(ctx.after(PAUSE, CanvasMsg::Look));
        }
        ctx.publish_info(json!({ "watchers": watchers }));
    }
}
