//! **Owns** the accept loops. The bound sockets themselves are part of what outlives it.
//! **Hears** nothing; **tells** each accepted socket to a task of its own.
//! **On crash** no socket closes: open ones have their own tasks, and new ones wait in the kernel's queue
//! until the next incarnation accepts them.

use crabtree_actors::gateway::Wiring;
use crabtree_actors::tree::{Behavior, Ctx, Fault};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// Pause after a failed accept (out of file descriptors, for instance).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listener is started with.
#[derive(Clone)]
pub struct Doors {
    /// The bound sockets.
    pub doors: Arc<Vec<std::net::TcpListener>>,
    /// Who serves what comes in.
    pub wiring: Arc<Wiring>,
    /// Counts the tasks of open WebSockets.
    pub sockets: TaskTracker,
}

/// See the module.
pub struct Listener;

impl Behavior for Listener {
    type Msg = ();
    type Args = Doors;
    const KIND: &'static str = "listener";

    fn start(ctx: &mut Ctx<()>, Doors { doors, wiring, sockets }: Doors) -> Result<Self, Fault> {
        for door in doors.iter() {
            let door = door.try_clone().map_err(Fault::new)?;
            let door = TcpListener::from_std(door).map_err(Fault::new)?;
            ctx.detached(accept(door, wiring.clone(), sockets.clone()));
        }
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}

async fn accept(door: TcpListener, wiring: Arc<Wiring>, sockets: TaskTracker) {
    loop {
        match door.accept().await {
            Ok((stream, peer)) => {
                // Frames are flushed in batches; waiting for more bytes would only add delay.
                let _ = stream.set_nodelay(true);
                // Counted only once it is a WebSocket: an idle HTTP connection holds up no shutdown.
                tokio::spawn(crate::http::serve(stream, peer, wiring.clone(), sockets.clone()));
            }
            Err(e) => {
                tracing::warn!(target: "crabtree::listener", "accept failed: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
